//! Publishing the CA: `caBundle` of every entry of one webhook configuration.
//!
//! May touch: that one field, by forced server-side apply under a field manager of its own; everything else in
//! the configuration belongs to whoever installed it. What must stay true: the configuration is never created
//! here, and a bundle is only written while it is the one in the Secret, so two replicas with different CAs
//! cannot fight: the one with the older CA ends instead and comes back with the newer.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::WebhookClientConfig;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use crate::authority::{Authority, CALL_TIMEOUT};
use crate::configuration::Configuration;
use crate::leaf::Leaf;
use crate::rotation::Current;

/// Field manager of our one field.
pub const FIELD_MANAGER: &str = "konductor-ca";
/// How often the configuration is looked at even if the watch is silent.
const PERIOD: Duration = Duration::from_secs(30);
/// How often while it is not there yet, and after a failure: the chart creates it shortly after our pod.
const PERIOD_WHILE_MISSING: Duration = Duration::from_secs(1);

/// What the API server trusts right now: the `caBundle` of each entry, in the configuration's order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LiveBundles(Vec<Vec<u8>>);

/// Keeps one configuration's `caBundle` what the authority says.
#[derive(Clone)]
pub struct Publisher<K> {
    configurations: Api<K>,
    configuration: String,
    /// What is published; `None` if somebody else does, and it is only looked at.
    source: Option<Source>,
}

/// The CA, and the Secret that it comes from.
#[derive(Clone)]
struct Source {
    secrets: Api<Secret>,
    secret: String,
    namespace: String,
    current: Current,
}

/// Why the bundle is not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// Nothing to publish into yet.
    #[error("{kind} {name} is not there yet; {without_it}")]
    NotThereYet {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
        /// What that means.
        without_it: &'static str,
    },
    /// Our CA is not the one in the Secret any more.
    #[error(
        "Secret {namespace}/{secret} does not hold the CA this process was started with; it ends, to come back with the \
         CA that counts"
    )]
    Superseded {
        /// Namespace of the Secret.
        namespace: String,
        /// Name of the Secret.
        secret: String,
    },
    /// The API server refused, or could not be asked.
    #[error("{object} could not be {verb}: {source}; it will be tried again")]
    Api {
        /// The object.
        object: String,
        /// `read` or `patched`.
        verb: &'static str,
        /// What the client said.
        source: Box<kube::Error>,
    },
    /// The API server did not answer in time.
    #[error("{object} could not be {verb}: no answer from the API server in 10 s; it will be tried again")]
    Timeout {
        /// The object.
        object: String,
        /// `read` or `patched`.
        verb: &'static str,
    },
}

// ------------------------------------------------------------------------------------------------ publishing

impl<K: Configuration> Publisher<K> {
    /// Publishes this authority's bundle into the configuration of that name. `namespace` and `secret` say where
    /// the authority came from.
    pub fn new(
        client: &kube::Client,
        configuration: &str,
        namespace: &str,
        secret: &str,
        current: Current,
    ) -> Self {
        let source = Source {
            secrets: Api::namespaced(client.clone(), namespace),
            secret: secret.to_owned(),
            namespace: namespace.to_owned(),
            current,
        };
        Self { source: Some(source), ..Self::of_others(client, configuration) }
    }

    /// Looks at what somebody else publishes into the configuration of that name.
    pub fn of_others(client: &kube::Client, configuration: &str) -> Self {
        Self {
            configurations: Api::all(client.clone()),
            configuration: configuration.to_owned(),
            source: None,
        }
    }

    /// Makes the configuration right, once. Writes nothing if it is right already.
    pub async fn publish(&self) -> Result<LiveBundles, PublishError> {
        let object = || format!("{} {}", K::kind(&()), self.configuration);
        let live = call(object(), "read", self.configurations.get_opt(&self.configuration))
            .await?
            .ok_or_else(|| PublishError::NotThereYet {
                kind: K::kind(&()).into_owned(),
                name: self.configuration.clone(),
                without_it: K::WITHOUT_IT,
            })?;
        let Some(source) = &self.source else { return Ok(LiveBundles::of(&live)) };
        if LiveBundles::of(&live).all_are(source.current.load().bundle_pem()) {
            return Ok(LiveBundles::of(&live));
        }
        let authority = source.as_the_secret_has_it().await?;
        if LiveBundles::of(&live).all_are(authority.bundle_pem()) {
            return Ok(LiveBundles::of(&live));
        }
        let body = apply_body(&self.configuration, &live, authority.bundle_pem());
        let patched = call(
            object(),
            "patched",
            self.configurations.patch(
                &self.configuration,
                &PatchParams::apply(FIELD_MANAGER).force(),
                &Patch::Apply(&body),
            ),
        )
        .await?;
        tracing::info!(kind = %K::kind(&()), configuration = %self.configuration, "published the CA bundle");
        Ok(LiveBundles::of(&patched))
    }

    /// Keeps the configuration right until it cannot: whenever it changes, and every 30 s in any case. Tells
    /// `live` what the API server trusts. Ends only with [`PublishError::Superseded`]; everything else is logged
    /// and tried again.
    pub async fn keep_published(self, live: watch::Sender<LiveBundles>) -> Result<Infallible, PublishError> {
        let changes =
            watcher::watch_object(self.configurations.clone(), &self.configuration).default_backoff();
        let mut changes = std::pin::pin!(changes);
        let mut watching = true;
        let mut period = interval(PERIOD);
        let mut soon = interval(PERIOD_WHILE_MISSING);
        soon.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = None;
        loop {
            let outcome = self.publish().await;
            let right = outcome.is_ok();
            let bundles = match outcome {
                Ok(bundles) => {
                    told = None;
                    bundles
                }
                Err(error @ PublishError::Superseded { .. }) => return Err(error),
                Err(error) => {
                    // Once per state of affairs, not once per second.
                    let text = error.to_string();
                    if told.as_ref() != Some(&text) {
                        tracing::warn!(configuration = %self.configuration, "{text}");
                        told = Some(text);
                    }
                    LiveBundles::default()
                }
            };
            live.send_if_modified(|known| std::mem::replace(known, bundles.clone()) != bundles);
            // Never faster than once a second, however fast somebody else writes.
            soon.tick().await;
            if !right {
                continue;
            }
            tokio::select! {
                _ = period.tick() => {}
                change = changes.next(), if watching => match change {
                    Some(Ok(_)) => {}
                    Some(Err(error)) => tracing::debug!(%error, "watch of the webhook configuration failed"),
                    None => watching = false,
                },
            }
        }
    }
}

impl Source {
    /// The CA that counts, which another replica may have gone on with. If the Secret is gone, or is none, this process
    /// ends, to come back with the CA that counts then.
    async fn as_the_secret_has_it(&self) -> Result<Arc<Authority>, PublishError> {
        let object = format!("Secret {}/{}", self.namespace, self.secret);
        let superseded =
            || PublishError::Superseded { namespace: self.namespace.clone(), secret: self.secret.clone() };
        let secret =
            call(object, "read", self.secrets.get_opt(&self.secret)).await?.ok_or_else(superseded)?;
        let authority = Authority::from_secret(&secret, &self.namespace, &self.secret, Timestamp::now())
            .map_err(|_| superseded())?;
        let current = self.current.load_full();
        if authority.bundle_pem() == current.bundle_pem() {
            return Ok(current);
        }
        // The same line of CAs: the next one, or one less. Another line is that of a Secret which was deleted.
        if !authority.shares_a_certificate_with(&current) {
            return Err(superseded());
        }
        let authority = Arc::new(authority);
        self.current.store(Arc::clone(&authority));
        Ok(authority)
    }
}

async fn call<T>(
    object: String,
    verb: &'static str,
    call: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, PublishError> {
    match tokio::time::timeout(CALL_TIMEOUT, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(source)) => Err(PublishError::Api { object, verb, source: Box::new(source) }),
        Err(_) => Err(PublishError::Timeout { object, verb }),
    }
}

/// The smallest thing that can be applied: names, and our field. The UID makes an apply to a configuration that
/// went away meanwhile a conflict instead of a creation.
fn apply_body<K: Configuration>(name: &str, live: &K, bundle_pem: &str) -> serde_json::Value {
    use serde_json::json;
    let bundle = k8s_openapi::ByteString(bundle_pem.as_bytes().to_vec());
    let webhooks: Vec<_> = live
        .entries()
        .into_iter()
        .map(|(name, _)| json!({"name": name, "clientConfig": {"caBundle": bundle}}))
        .collect();
    json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": {"name": name, "uid": live.meta().uid},
        "webhooks": webhooks,
    })
}

// ----------------------------------------------------------------------------------------------------- trust

impl LiveBundles {
    /// The bundles of a configuration as the API server has it.
    pub fn of(configuration: &impl Configuration) -> Self {
        let bundle = |config: &WebhookClientConfig| config.ca_bundle.clone().map(|bundle| bundle.0);
        Self(configuration.entries().iter().map(|(_, config)| bundle(config).unwrap_or_default()).collect())
    }

    /// Is nothing trusted, because there is no configuration?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Is that the bundle of each entry?
    pub fn all_are(&self, bundle_pem: &str) -> bool {
        self.0.iter().all(|bundle| bundle == bundle_pem.as_bytes())
    }
}

/// Would the API server accept this leaf, for every entry and every name, with what it trusts right now? The
/// test behind readiness. No entry at all is no trust.
pub fn trusted(leaf: &Leaf, live: &LiveBundles, now: Timestamp) -> bool {
    !live.0.is_empty() && live.0.iter().all(|bundle| trusted_by(leaf, bundle, now))
}

fn trusted_by(leaf: &Leaf, bundle_pem: &[u8], now: Timestamp) -> bool {
    let Ok(authorities) = CertificateDer::pem_slice_iter(bundle_pem).collect::<Result<Vec<_>, _>>() else {
        return false;
    };
    // A CA we cannot read (somebody else's, in an odd format) is no reason to distrust the others.
    let anchors: Vec<_> =
        authorities.iter().filter_map(|authority| webpki::anchor_from_trusted_cert(authority).ok()).collect();
    let Some(certificate) = leaf.certificate() else { return false };
    let Ok(certificate) = webpki::EndEntityCert::try_from(certificate) else { return false };
    let now = UnixTime::since_unix_epoch(Duration::from_secs(now.as_second().try_into().unwrap_or(0)));
    let chain = certificate.verify_for_usage(
        webpki::ALL_VERIFICATION_ALGS,
        &anchors,
        leaf.intermediates(),
        now,
        webpki::KeyUsage::server_auth(),
        None,
        None,
    );
    chain.is_ok()
        && leaf.dns_names().iter().all(|name| {
            ServerName::try_from(name.as_str())
                .is_ok_and(|name| certificate.verify_is_valid_for_subject_name(&name).is_ok())
        })
}
