//! The certificate of the sessions endpoint: by Konductor's CA, or by somebody else.
//!
//! May touch: the Secret of the CA, to read it; or a folder. What must stay true: nothing is written; the webhook alone makes a
//! CA and rotates it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use konductor_certs::{Authority, Current, Files, Serving};
use kube::{Api, Client};

use crate::client::call;

/// How often the Secret is read: well within the overlap of two CAs.
const PERIOD: Duration = Duration::from_secs(15);
/// While there is none yet: the webhook makes it when it starts.
const PERIOD_WHILE_MISSING: Duration = Duration::from_secs(1);
/// Of a serving certificate.
const LIFE: SignedDuration = SignedDuration::from_hours(24 * 30);
/// What cert-manager puts beside a certificate.
const CA_FILE: &str = "ca.crt";

/// Who issues.
#[derive(Clone, Debug)]
pub(crate) enum Issuer {
    /// Our CA, in that Secret.
    Own { namespace: String, secret: String },
    /// Somebody who puts files there.
    Others(PathBuf),
}

/// What is served with, and what is trusted.
pub(crate) struct Trust {
    pub(crate) serving: Arc<Serving>,
    source: Source,
}

enum Source {
    Own(Box<Own>),
    Others(PathBuf),
}

/// Our CA, and the Secret that it is in.
struct Own {
    current: Current,
    secrets: Api<Secret>,
    namespace: String,
    secret: String,
}

impl Trust {
    /// Waits until there is something to serve with.
    pub(crate) async fn start(issuer: &Issuer, client: &Client, names: Vec<String>) -> anyhow::Result<Self> {
        match issuer {
            Issuer::Own { namespace, secret } => {
                let secrets = Api::namespaced(client.clone(), namespace);
                let current = first(&secrets, namespace, secret).await;
                let current: Current = Arc::new(ArcSwap::from_pointee(current));
                let serving = Serving::start(Arc::clone(&current), names, LIFE, Timestamp::now())?;
                let own = Own { current, secrets, namespace: namespace.clone(), secret: secret.clone() };
                Ok(Self { serving, source: Source::Own(Box::new(own)) })
            }
            Issuer::Others(directory) => {
                let serving = Serving::from_files(Files::new(directory, names), Timestamp::now())?;
                Ok(Self { serving, source: Source::Others(directory.clone()) })
            }
        }
    }

    /// What sidecars should trust from here on, as PEM; nothing where that is not known.
    pub(crate) fn bundle(&self) -> String {
        match &self.source {
            Source::Own(own) => own.current.load().bundle_pem().to_owned(),
            Source::Others(directory) => {
                std::fs::read_to_string(Path::new(directory).join(CA_FILE)).unwrap_or_default()
            }
        }
    }

    /// Follows the CA for ever.
    pub(crate) async fn keep(&self) -> anyhow::Error {
        loop {
            tokio::time::sleep(PERIOD).await;
            let Source::Own(own) = &self.source else { continue };
            let Own { current, secrets, namespace, secret } = &**own;
            match read(secrets, namespace, secret).await {
                Ok(Some(authority)) if authority.bundle_pem() != current.load().bundle_pem() => {
                    tracing::info!(not_after = %authority.not_after(), "took up the CA as the Secret has it");
                    current.store(Arc::new(authority));
                    if let Err(error) = self.serving.renew_if_due(Timestamp::now()) {
                        tracing::error!("no new certificate: {error}");
                    }
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(secret, "the CA cannot be read: {error:#}"),
            }
        }
    }
}

/// The CA, as soon as the webhook has made one.
async fn first(secrets: &Api<Secret>, namespace: &str, secret: &str) -> Authority {
    let mut told = String::new();
    loop {
        match read(secrets, namespace, secret).await {
            Ok(Some(authority)) => return authority,
            Ok(None) => {}
            Err(error) => {
                let text = format!("{error:#}");
                if told != text {
                    tracing::warn!(
                        secret,
                        "the CA cannot be read, and sessions are not served until it can: {text}"
                    );
                    told = text;
                }
            }
        }
        tokio::time::sleep(PERIOD_WHILE_MISSING).await;
    }
}

async fn read(secrets: &Api<Secret>, namespace: &str, secret: &str) -> anyhow::Result<Option<Authority>> {
    let found = call(secrets.get_opt(secret)).await.context("the API server was asked")?;
    let read = |found: Secret| Authority::from_secret(&found, namespace, secret, Timestamp::now());
    Ok(found.map(read).transpose()?)
}
