//! Health and metrics over HTTP.
//!
//! Serves what others know; knows nothing itself. Ready means: every cache has shown what is there.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::net::TcpListener;

use crate::telemetry::Telemetry;

/// `/healthz` and `/readyz`.
pub(crate) fn probes(ready: Arc<AtomicBool>) -> Router {
    let readiness = move || {
        let ready = ready.load(Ordering::Relaxed);
        async move {
            if ready {
                (StatusCode::OK, "ok")
            } else {
                (StatusCode::SERVICE_UNAVAILABLE, "caches are not synced")
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
