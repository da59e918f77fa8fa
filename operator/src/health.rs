//! Health and metrics over HTTP.
//!
//! Serves what others know; knows nothing itself. Ready means: every cache has shown what is there, and the webhook's
//! Service has answered once, so that what comes right behind `helm install --wait` is not refused.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::net::{TcpListener, TcpStream};

use crate::telemetry::Telemetry;

/// Between two knocks at the webhook's door, and how long one may take.
const KNOCK: Duration = Duration::from_millis(250);

/// What has to be so before this process counts as ready. None of it is taken back: an operator works on while the
/// webhook is down.
#[derive(Debug, Default)]
pub(crate) struct Ready {
    /// Every cache has shown what is there.
    pub(crate) synced: AtomicBool,
    /// The webhook's Service has endpoints that answer.
    pub(crate) webhook: AtomicBool,
}

impl Ready {
    /// What is missing, if anything.
    fn missing(&self) -> Option<&'static str> {
        if !self.synced.load(Ordering::Relaxed) {
            Some("caches are not synced")
        } else if !self.webhook.load(Ordering::Relaxed) {
            Some("the webhook's Service does not answer yet")
        } else {
            None
        }
    }
}

/// Knocks at the webhook's Service until it answers. The pods of a Deployment are ready a moment before the nodes know
/// the way to them; who creates an annotated object in that moment is refused.
pub(crate) async fn until_webhook_answers(ready: Arc<Ready>, address: Option<String>) {
    if let Some(address) = address {
        while !matches!(tokio::time::timeout(KNOCK, TcpStream::connect(&address)).await, Ok(Ok(_))) {
            tokio::time::sleep(KNOCK).await;
        }
        tracing::info!(address, "the webhook answers");
    }
    ready.webhook.store(true, Ordering::Relaxed);
}

/// `/healthz` and `/readyz`.
pub(crate) fn probes(ready: Arc<Ready>) -> Router {
    let readiness = move || {
        let missing = ready.missing();
        async move {
            match missing {
                None => (StatusCode::OK, "ok"),
                Some(missing) => (StatusCode::SERVICE_UNAVAILABLE, missing),
            }
        }
    };
    Router::new().route("/healthz", get(|| async { "ok" })).route("/readyz", get(readiness))
}

/// `/metrics`.
pub(crate) fn metrics(telemetry: Arc<Telemetry>) -> Router {
    Router::new().route("/metrics", get(move || async move { telemetry.text() }))
}

/// A socket to serve on: a port that is taken shows before anything else begins.
pub(crate) async fn bind(address: SocketAddr, what: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("{what} cannot be served on {address}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn not_ready_before_the_webhook_answers() {
        let ready = Arc::new(Ready::default());
        ready.synced.store(true, Ordering::Relaxed);
        let door = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = door.local_addr().unwrap();
        drop(door);
        let knocking = tokio::spawn(until_webhook_answers(Arc::clone(&ready), Some(address.to_string())));
        tokio::task::yield_now().await;
        assert!(ready.missing().is_some());
        let _door = TcpListener::bind(address).await.unwrap();
        knocking.await.unwrap();
        assert_eq!(ready.missing(), None);
    }
}
