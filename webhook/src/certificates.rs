//! Certificates: who issues the one that is served, and who publishes what of it is trusted.
//!
//! May touch: the Secret of our CA and the configurations, or a folder; through `konductor-certs`. What must stay true: with
//! certificates of others nothing is written anywhere.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use konductor_certs::{Authority, AuthorityError, Current, Files, LiveBundles, Publisher, Rotation, Serving};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::args::Args;
use crate::sessions::Trust;

/// How often the API server is asked again for the CA, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

/// What a certificate is made from.
pub(crate) struct Certificates<'a> {
    pub(crate) client: &'a kube::Client,
    pub(crate) args: &'a Args,
    pub(crate) clock: fn() -> Timestamp,
    pub(crate) live: watch::Receiver<LiveBundles>,
}

/// A certificate that is served, and who says what of it is trusted.
pub(crate) struct Certified {
    pub(crate) serving: Arc<Serving>,
    pub(crate) publisher: Publisher<MutatingWebhookConfiguration>,
    pub(crate) for_checks: Option<Publisher<ValidatingWebhookConfiguration>>,
    /// By what our Services are known.
    pub(crate) trust: Trust,
}

impl Certificates<'_> {
    /// Whoever issues it. What goes on in the background is one of the tasks.
    pub(crate) async fn start(self, tasks: &mut JoinSet<anyhow::Result<()>>) -> anyhow::Result<Certified> {
        match &self.args.tls_directory {
            Some(directory) => self.of_others(directory),
            None => self.our_own(tasks).await,
        }
    }

    /// Our CA issues, and is published by us.
    async fn our_own(self, tasks: &mut JoinSet<anyhow::Result<()>>) -> anyhow::Result<Certified> {
        let Self { client, args, clock, live } = self;
        let (namespace, secret) = (&args.namespace, args.ca_secret.clone().unwrap_or_default());
        let authority = load_authority(client, namespace, &secret).await?;
        let current: Current = Arc::new(ArcSwap::from_pointee(authority));
        let serving = Serving::start(Arc::clone(&current), args.dns_names(), args.leaf_life, clock())?;
        let publisher =
            Publisher::new(client, &args.webhook_configuration, namespace, &secret, Arc::clone(&current));
        let for_checks = args.validating_configuration.as_ref().map(|configuration| {
            Publisher::new(client, configuration, namespace, &secret, Arc::clone(&current))
        });
        let trust = Trust::Ours(Arc::clone(&current));
        let rotation = Rotation {
            secrets: kube::Api::namespaced(client.clone(), namespace),
            namespace: namespace.clone(),
            secret,
            current,
            overlap: args.ca_overlap,
            live,
        };
        tasks.spawn(async move { match rotation.keep(clock).await {} });
        Ok(Certified { serving, publisher, for_checks, trust })
    }

    /// Somebody else issues, and publishes.
    fn of_others(&self, directory: &Path) -> anyhow::Result<Certified> {
        let Self { client, args, clock, .. } = *self;
        let files = Files::new(directory, args.dns_names());
        let for_checks = args.validating_configuration.as_ref();
        Ok(Certified {
            serving: Serving::from_files(files, clock())?,
            publisher: Publisher::of_others(client, &args.webhook_configuration),
            for_checks: for_checks.map(|configuration| Publisher::of_others(client, configuration)),
            trust: Trust::Others(directory.to_owned()),
        })
    }
}

/// The CA. The API server may not be there yet, nor our permissions; a Secret that is wrong will not get better.
async fn load_authority(
    client: &kube::Client,
    namespace: &str,
    secret: &str,
) -> Result<Authority, AuthorityError> {
    let (mut pause, longest) = RETRY;
    let mut told = (String::new(), Instant::now());
    loop {
        let loaded = Authority::load_or_create(client.clone(), namespace, secret, Timestamp::now()).await;
        match loaded {
            Err(error @ (AuthorityError::Api { .. } | AuthorityError::Timeout { .. })) => {
                let text = error.to_string();
                if told.0 != text || told.1.elapsed() > Duration::from_secs(60) {
                    tracing::warn!("{text}");
                    told = (text, Instant::now());
                }
            }
            decided => return decided,
        }
        sleep(pause).await;
        pause = (pause * 2).min(longest);
    }
}
