//! Rotation: from one CA to the next, with an overlap in which both are trusted.
//!
//! Three steps, each one compare-and-swap of the Secret by whichever replica comes first: **announce** (the next CA stands in
//! the bundle behind the current one, and is published), **switch** (the two change places; leaves are issued by the new one
//! from then on), **prune** (the old one leaves the bundle). Between two steps lies an overlap, in which every replica has
//! read the Secret and every API server the bundle. What must stay true: a CA signs nothing before it has been trusted for an
//! overlap, and is trusted for an overlap after it has signed its last leaf; so at no moment is there a leaf in use that is
//! not trusted.
//!
//! May touch: the Secret of the CA.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, PostParams};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use crate::authority::{Authority, AuthorityError, CALL_TIMEOUT, CERTIFICATE_KEY, PRIVATE_KEY_KEY};
use crate::publish::LiveBundles;

/// Key of the Secret that holds the private key of the CA that comes next: of the second certificate.
pub const NEXT_PRIVATE_KEY_KEY: &str = "next.key";
/// On the Secret, by an administrator, with any value: rotate now.
pub const ROTATE: &str = "konductor.io/rotate-ca";
/// On the Secret: when its last step was made.
pub const STEPPED_AT: &str = "konductor.io/rotation-stepped-at";

/// The CA that counts now; replaced while it is in use.
pub type Current = Arc<ArcSwap<Authority>>;

/// What is to be done with the Secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The next CA is to be announced.
    Announce,
    /// It is to take the place of the current one.
    Switch,
    /// The old one is to go.
    Prune,
}

/// Where a Secret stands in a rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stand {
    /// Certificates in the bundle.
    pub certificates: usize,
    /// Is there a key of the next one?
    pub announced: bool,
    /// Does an administrator ask for a rotation?
    pub asked: bool,
    /// When the last step was made.
    pub stepped_at: Option<Timestamp>,
    /// When the current CA ends.
    pub not_after: Timestamp,
}

/// What comes next. `published`: is the whole bundle what the API server trusts?
pub fn next(stand: &Stand, overlap: SignedDuration, published: bool, now: Timestamp) -> Option<Step> {
    let rested = stand.stepped_at.is_none_or(|at| at.duration_until(now) >= overlap);
    match (stand.announced, stand.certificates) {
        (true, _) => (published && rested).then_some(Step::Switch),
        (false, 2..) => rested.then_some(Step::Prune),
        // A fifth of its life before its end there is time for everything to go wrong first.
        (false, _) => {
            let near = stand.not_after - Authority::LIFE / 5 <= now;
            (stand.asked || near).then_some(Step::Announce)
        }
    }
}

impl Stand {
    /// Reads it off a Secret and the authority that was read from it.
    pub fn of(secret: &Secret, authority: &Authority) -> Self {
        let annotation = |key: &str| secret.metadata.annotations.as_ref().and_then(|all| all.get(key));
        Self {
            certificates: authority.bundle().len(),
            announced: secret.data.as_ref().is_some_and(|data| data.contains_key(NEXT_PRIVATE_KEY_KEY)),
            asked: annotation(ROTATE).is_some(),
            stepped_at: annotation(STEPPED_AT).and_then(|text| text.parse().ok()),
            not_after: authority.not_after(),
        }
    }
}

/// Makes a step: the Secret as it should be. `None` if it is not what the step begins with.
fn stepped(secret: &Secret, step: Step, now: Timestamp) -> Result<Option<Secret>, AuthorityError> {
    let mut secret = secret.clone();
    let data = secret.data.get_or_insert_default();
    let text = |data: &std::collections::BTreeMap<String, ByteString>, key: &str| {
        data.get(key).and_then(|bytes| String::from_utf8(bytes.0.clone()).ok())
    };
    let Some(bundle) = text(data, CERTIFICATE_KEY) else { return Ok(None) };
    let certificates = split(&bundle);
    let put = |data: &mut std::collections::BTreeMap<String, ByteString>, key: &str, text: String| {
        data.insert(key.to_owned(), ByteString(text.into_bytes()));
    };
    match (step, certificates.as_slice()) {
        (Step::Announce, [current]) => {
            let (certificate, key) = Authority::make_pems(now)?;
            put(data, CERTIFICATE_KEY, format!("{current}{certificate}"));
            put(data, NEXT_PRIVATE_KEY_KEY, key);
        }
        (Step::Switch, [current, next]) => {
            let Some(key) = data.remove(NEXT_PRIVATE_KEY_KEY) else { return Ok(None) };
            put(data, CERTIFICATE_KEY, format!("{next}{current}"));
            data.insert(PRIVATE_KEY_KEY.to_owned(), key);
        }
        (Step::Prune, [current, ..]) => put(data, CERTIFICATE_KEY, current.clone()),
        _ => return Ok(None),
    }
    let annotations = secret.metadata.annotations.get_or_insert_default();
    annotations.remove(ROTATE);
    annotations.insert(STEPPED_AT.to_owned(), now.to_string());
    Ok(Some(secret))
}

/// The certificates of a bundle, each as PEM.
fn split(bundle: &str) -> Vec<String> {
    const END: &str = "-----END CERTIFICATE-----\n";
    bundle.split_inclusive(END).filter(|part| part.contains(END.trim_end())).map(str::to_owned).collect()
}

// ------------------------------------------------------------------------------------------------ keeping up

/// Follows the Secret, and makes the steps that are due.
pub struct Rotation {
    /// The Secrets of our namespace.
    pub secrets: Api<Secret>,
    /// Namespace of the Secret.
    pub namespace: String,
    /// Name of the Secret.
    pub secret: String,
    /// What is replaced when the Secret changes.
    pub current: Current,
    /// Between two steps.
    pub overlap: SignedDuration,
    /// What the API server trusts.
    pub live: watch::Receiver<LiveBundles>,
}

impl Rotation {
    /// Never ends by itself. A failure is logged and tried again: there is time, see [`next`].
    pub async fn keep(self, clock: impl Fn() -> Timestamp + Send) -> Infallible {
        let part = Duration::try_from(self.overlap).unwrap_or_default() / 4;
        let mut check = interval(part.clamp(Duration::from_secs(1), Duration::from_secs(30)));
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            check.tick().await;
            if let Err(error) = self.once(clock()).await {
                tracing::warn!(secret = %self.secret, "the CA is not looked after: {error:#}");
            }
        }
    }

    /// One look, and the step that is due.
    pub async fn once(&self, now: Timestamp) -> anyhow::Result<()> {
        let read = tokio::time::timeout(CALL_TIMEOUT, self.secrets.get_opt(&self.secret)).await??;
        // Gone: whoever publishes finds that out and ends, to come back with a new one.
        let Some(secret) = read else { return Ok(()) };
        let authority = Authority::from_secret(&secret, &self.namespace, &self.secret, now)?;
        let stand = Stand::of(&secret, &authority);
        let published = self.live.borrow().all_are(authority.bundle_pem());
        if authority.bundle_pem() != self.current.load().bundle_pem() {
            tracing::info!(certificates = stand.certificates, not_after = %stand.not_after, "took up the CA as the Secret has it");
            self.current.store(Arc::new(authority));
        }
        let Some(step) = next(&stand, self.overlap, published, now) else { return Ok(()) };
        let Some(changed) = stepped(&secret, step, now)? else { return Ok(()) };
        let parameters = PostParams::default();
        let call = self.secrets.replace(&self.secret, &parameters, &changed);
        match tokio::time::timeout(CALL_TIMEOUT, call).await? {
            Ok(_) => tracing::info!(?step, "made a step of the CA's rotation"),
            // Another replica was faster; the next look shows its step.
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}
