//! HTTP: admission over TLS, health and metrics beside it.
//!
//! May touch: two sockets. What must stay true: an admission is answered with 200 and a review whatever came in; after
//! being asked to stop, readiness fails at once while admission goes on for a while, so that no call is lost before
//! everybody has noticed.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use axum_server::Handle;
use axum_server::accept::NoDelayAcceptor;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use jiff::Timestamp;
use konductor_certs::{LiveBundles, Serving, trusted};
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tower_http::timeout::TimeoutLayer;

use crate::admit::{Admission, admit};
use crate::names::Names;
use crate::review::Malformed;
use crate::telemetry::{METRICS_CONTENT_TYPE, Metrics};
use crate::waiter::Settings;

/// How long the last answers may take then.
const LAST_ANSWERS: Duration = Duration::from_secs(5);
/// What the API server accepts, and a little more could not come from it.
const MAX_BODY: usize = 3 * 1024 * 1024;
/// The API server waits for 30 s at most.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// What an admission needs.
pub struct Admissions {
    /// Of the injected containers. What sidecars must know changes while we run.
    pub settings: Arc<ArcSwap<Settings>>,
    /// What exists.
    pub names: Arc<dyn Names>,
    /// Counts them.
    pub metrics: Arc<Metrics>,
    /// The wall clock.
    pub clock: fn() -> Timestamp,
}

/// What health is judged by.
pub struct Health {
    /// Fed by the admissions.
    pub metrics: Arc<Metrics>,
    /// Cancelled once we were asked to stop.
    pub stopping: CancellationToken,
    /// What the API server trusts right now.
    pub live: watch::Receiver<LiveBundles>,
    /// The same where templates are checked; nothing if they are not.
    pub live_for_checks: watch::Receiver<LiveBundles>,
    /// What we serve with, once there is something.
    pub serving: watch::Receiver<Option<Arc<Serving>>>,
    /// Are the names known, or has it been long enough?
    pub names_settled: watch::Receiver<bool>,
    /// The wall clock.
    pub clock: fn() -> Timestamp,
}

// -------------------------------------------------------------------------------------------------- admission

/// The routes of the TLS port.
pub fn admission_router(admissions: Arc<Admissions>) -> Router {
    Router::new()
        .route("/mutate", post(review))
        .route("/validate", post(review))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, REQUEST_TIMEOUT))
        .with_state(admissions)
}

async fn review(
    State(admissions): State<Arc<Admissions>>,
    body: Result<Bytes, BytesRejection>,
) -> Json<Value> {
    let started = Instant::now();
    let admission = match body {
        Ok(body) => admit(&body, &admissions.settings.load(), &*admissions.names, (admissions.clock)()),
        Err(rejection) => {
            let problem = format!("the body cannot be read: {}", rejection.body_text());
            Admission::malformed(Malformed { uid: String::new(), problem })
        }
    };
    let answer = admission.answer.to_review();
    admissions.metrics.record(&admission, started.elapsed());
    Json(answer)
}

/// Serves admission until asked to stop, and for `drain` beyond: endpoints and connections need that long to go
/// elsewhere.
pub async fn serve_admission(
    listener: TcpListener,
    serving: &Arc<Serving>,
    admissions: Arc<Admissions>,
    stopping: CancellationToken,
    drain: Duration,
) -> anyhow::Result<()> {
    let config = RustlsConfig::from_config(serving.server_config()?);
    // Head and body of an answer are two writes: without this the second waits for the acknowledgement of the first.
    let acceptor = RustlsAcceptor::new(config).acceptor(NoDelayAcceptor::new());
    let handle = Handle::new();
    let server = axum_server::from_tcp(listener)?
        .acceptor(acceptor)
        .first_request_timeout(REQUEST_TIMEOUT)
        .handle(handle.clone())
        .serve(admission_router(admissions).into_make_service());
    let drained = async {
        stopping.cancelled().await;
        tracing::info!(seconds = drain.as_secs(), "asked to stop: no longer ready, still answering");
        tokio::time::sleep(drain).await;
        handle.graceful_shutdown(Some(LAST_ANSWERS));
        std::future::pending::<()>().await;
    };
    tokio::select! {
        ended = server => Ok(ended?),
        () = drained => Ok(()),
    }
}

// ----------------------------------------------------------------------------------------------------- health

/// The routes of the health port.
pub fn health_router(health: Arc<Health>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, REQUEST_TIMEOUT))
        .with_state(health)
}

/// Serves health for ever: while draining, somebody must be told "not ready".
pub async fn serve_health(listener: TcpListener, health: Arc<Health>) -> anyhow::Result<()> {
    axum_server::from_tcp(listener)?.serve(health_router(health).into_make_service()).await?;
    Ok(())
}

async fn ready(State(health): State<Arc<Health>>) -> Response {
    match health.not_ready() {
        None => "ok".into_response(),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason).into_response(),
    }
}

async fn metrics(State(health): State<Arc<Health>>) -> Response {
    if let Some(serving) = health.serving.borrow().as_ref() {
        health.metrics.set_certificate_expiry(serving.leaf().not_after());
    }
    match health.metrics.text() {
        Ok(text) => ([(header::CONTENT_TYPE, METRICS_CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

impl Health {
    fn not_ready(&self) -> Option<&'static str> {
        if self.stopping.is_cancelled() {
            return Some("asked to stop");
        }
        let serving = self.serving.borrow().clone();
        let Some(serving) = serving else { return Some("there is no certificate yet") };
        let (leaf, now, checks) = (serving.leaf(), (self.clock)(), self.live_for_checks.borrow());
        if !trusted(&leaf, &self.live.borrow(), now) || !checks.is_empty() && !trusted(&leaf, &checks, now) {
            return Some("the API server does not trust our certificate yet");
        }
        (!*self.names_settled.borrow()).then_some("gates and mutexes have not been listed yet")
    }
}

/// Binds; where a machine has no IPv6, "any address" means that of IPv4.
pub fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let bound = TcpListener::bind(address).or_else(|error| {
        if address.is_ipv6() && address.ip().is_unspecified() {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).map_err(|_| error)
        } else {
            Err(error)
        }
    });
    bound.map_err(|error| anyhow::anyhow!("cannot listen on {address}: {error}"))
}
