//! Serving: a rustls configuration whose certificate is replaced while connections come in.
//!
//! May touch: memory only. What must stay true: a handshake sees the old leaf or the new one, never none, and
//! renewal is decided by wall clock (a suspended machine stops the monotonic one).

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::{SignedDuration, Timestamp};
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::time::{MissedTickBehavior, interval};

use crate::authority::{Authority, AuthorityError};
use crate::files::{Files, FilesError};
use crate::leaf::Leaf;
use crate::rotation::Current;

/// How often the wall clock is asked whether a new leaf is due, at least.
const CHECK_PERIOD: Duration = Duration::from_secs(60);
/// The same as a part of a leaf's life, so that it is asked often enough in the third that is left.
const CHECKS_IN_A_LIFE: u32 = 12;

/// How often a folder is looked into: the kubelet writes a changed Secret within a minute or two.
const FILES_PERIOD: Duration = Duration::from_secs(5);

/// A leaf that is being served, and where the next one comes from.
pub struct Serving {
    leaf: ArcSwap<Leaf>,
    source: Source,
}

/// Where leaves come from.
enum Source {
    /// Our own CA.
    Authority {
        current: Current,
        /// The CA whose leaf it is.
        issuer: ArcSwap<Authority>,
        dns_names: Vec<String>,
        life: SignedDuration,
    },
    /// Somebody else's, by way of files.
    Files(Files),
}

/// Why there is nothing to serve with.
#[derive(Debug, thiserror::Error)]
pub enum ServingError {
    /// No leaf.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// No leaf that could be used.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// rustls refused the protocol versions.
    #[error("TLS cannot be configured: {0}")]
    Tls(#[from] rustls::Error),
}

/// rustls asks for a certificate here, once per handshake.
struct Resolver(Arc<Serving>);

// ------------------------------------------------------------------------------------------------------ leaf

impl Serving {
    /// Issues the first leaf for these DNS names; each lives for so long.
    pub fn start(
        current: Current,
        dns_names: Vec<String>,
        life: SignedDuration,
        now: Timestamp,
    ) -> Result<Arc<Self>, AuthorityError> {
        let authority = current.load_full();
        let leaf = ArcSwap::from_pointee(authority.issue(&dns_names, life, now)?);
        let issuer = ArcSwap::new(authority);
        Ok(Arc::new(Self { leaf, source: Source::Authority { current, issuer, dns_names, life } }))
    }

    /// Reads the first leaf from files.
    pub fn from_files(files: Files, now: Timestamp) -> Result<Arc<Self>, FilesError> {
        let leaf = ArcSwap::from_pointee(files.read(now)?);
        Ok(Arc::new(Self { leaf, source: Source::Files(files) }))
    }

    /// The leaf that the next handshake will see.
    pub fn leaf(&self) -> Arc<Leaf> {
        self.leaf.load_full()
    }

    /// Replaces the leaf if two thirds of its life are over, if another CA is the current one, or if another pair of files is
    /// there. Says whether it did.
    pub fn renew_if_due(&self, now: Timestamp) -> Result<bool, ServingError> {
        let leaf = match &self.source {
            Source::Authority { current, issuer, dns_names, life } => {
                let authority = current.load_full();
                let same_issuer = authority.bundle().first() == issuer.load().bundle().first();
                if same_issuer && now < self.leaf.load().renew_at() {
                    return Ok(false);
                }
                let leaf = authority.issue(dns_names, *life, now)?;
                issuer.store(authority);
                leaf
            }
            Source::Files(files) => {
                let leaf = files.read(now)?;
                if leaf.certified().cert == self.leaf.load().certified().cert {
                    return Ok(false);
                }
                leaf
            }
        };
        tracing::info!(not_after = %leaf.not_after(), "serving with a new certificate");
        self.leaf.store(Arc::new(leaf));
        Ok(true)
    }

    /// Replaces the leaf whenever it is due, by the wall clock given. A failure is logged and tried again: the
    /// leaf in use has a third of its life left. Never ends by itself.
    pub async fn keep_fresh(self: Arc<Self>, clock: impl Fn() -> Timestamp + Send) -> Infallible {
        let mut check = interval(match &self.source {
            Source::Authority { life, .. } => {
                let part = Duration::try_from(*life).unwrap_or(CHECK_PERIOD) / CHECKS_IN_A_LIFE;
                part.clamp(Duration::from_secs(1), CHECK_PERIOD)
            }
            Source::Files(_) => FILES_PERIOD,
        });
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            check.tick().await;
            if let Err(error) = self.renew_if_due(clock()) {
                tracing::error!(not_after = %self.leaf().not_after(), "no new certificate: {error}");
            }
        }
    }

    /// A TLS server configuration that always serves the current leaf: TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1.
    pub fn server_config(self: &Arc<Self>) -> Result<Arc<ServerConfig>, ServingError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Resolver(Arc::clone(self))));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

// -------------------------------------------------------------------------------------------------- resolver

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(self.0.leaf.load().certified()))
    }
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Resolver").field(&self.0.leaf.load()).finish()
    }
}
