//! The router by single requests, and the whole server over TLS.

#![allow(
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    reason = "clippy.toml permits unwrap in tests, but not in their helpers; a case reads best with its values inline"
)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use konductor_certs::{Authority, LiveBundles, Serving};
use konductor_webhook::serve::{Admissions, Health, admission_router, bind, health_router, serve_admission};
use konductor_webhook::telemetry::Metrics;
use rstest::rstest;
use serde_json::{Value, json};
use support::{Unknown, review, settings};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

const DNS_NAME: &str = "konductor-webhook.konductor-system.svc";

fn admissions() -> Arc<Admissions> {
    let metrics = Arc::new(Metrics::default());
    Arc::new(Admissions {
        settings: Arc::new(ArcSwap::from_pointee(settings())),
        names: Arc::new(Unknown),
        metrics,
        clock: Timestamp::now,
    })
}

async fn posted(router: Router, body: impl Into<Body>) -> (StatusCode, Value) {
    let request = Request::post("/mutate?timeout=5s").header("content-type", "application/json");
    let response = router.oneshot(request.body(body.into()).unwrap()).await.unwrap();
    let status = response.status();
    let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap())
}

async fn got(router: Router, path: &str) -> (StatusCode, String) {
    let response = router.oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
    let status = response.status();
    let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

fn annotated_pod() -> Value {
    json!({"metadata": {"name": "p", "annotations": {"konductor.io/mutex": "a"}},
           "spec": {"containers": [{"name": "main"}]}})
}

// -------------------------------------------------------------------------------------------------- admission

#[tokio::test]
async fn a_review_is_answered_with_a_patch_under_its_uid() {
    let (status, answer) =
        posted(admission_router(admissions()), review("pods", &annotated_pod()).to_string()).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(answer["kind"], "AdmissionReview");
    let response = &answer["response"];
    assert_eq!(response["uid"], "0df28fbd-5f5f-11e8-bc74-36e6bb280816");
    assert_eq!((&response["allowed"], &response["patchType"]), (&json!(true), &json!("JSONPatch")));
    let patch: k8s_openapi::ByteString = serde_json::from_value(response["patch"].clone()).unwrap();
    let patch: json_patch::Patch = serde_json::from_slice(&patch.0).unwrap();
    assert!(patch.len() > 5);
    assert_eq!(response["auditAnnotations"], json!({"decision": "injected", "plan": "mutex/a"}));
}

#[rstest]
#[case::nothing("")]
#[case::no_json("{")]
#[case::no_review("{}")]
#[case::a_list("[]")]
#[case::another_version(
    r#"{"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1beta1", "request": {"uid": "u"}}"#
)]
#[case::no_request(r#"{"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1"}"#)]
#[tokio::test]
async fn what_cannot_be_read_is_refused_with_a_review(#[case] body: &'static str) {
    let (status, answer) = posted(admission_router(admissions()), body).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!((&answer["kind"], &answer["response"]["allowed"]), (&json!("AdmissionReview"), &json!(false)));
    assert_eq!(answer["response"]["status"]["code"], 400);
    assert!(answer["response"]["status"]["message"].as_str().unwrap().len() > 10);
}

#[tokio::test]
async fn a_pod_without_an_object_keeps_its_uid() {
    let (_, answer) = posted(admission_router(admissions()), review("pods", &Value::Null).to_string()).await;
    assert_eq!(answer["response"]["uid"], "0df28fbd-5f5f-11e8-bc74-36e6bb280816");
    assert_eq!(answer["response"]["status"]["message"], "request.object is missing");
}

#[tokio::test]
async fn a_huge_body_is_refused_with_a_review() {
    let (status, answer) = posted(admission_router(admissions()), vec![b' '; 3 * 1024 * 1024 + 1]).await;
    assert_eq!((status, &answer["response"]["allowed"]), (StatusCode::OK, &json!(false)));
    let message = answer["response"]["status"]["message"].as_str().unwrap();
    assert!(message.starts_with("the body cannot be read: "), "{message}");
    // One that fits is looked at.
    let (_, answer) = posted(admission_router(admissions()), vec![b' '; 3 * 1024 * 1024]).await;
    assert!(answer["response"]["status"]["message"].as_str().unwrap().starts_with("the body is no JSON"));
}

#[tokio::test]
async fn another_kind_passes_with_a_warning() {
    let (_, answer) =
        posted(admission_router(admissions()), review("services", &json!({})).to_string()).await;
    let response = &answer["response"];
    assert_eq!((&response["allowed"], &response["patch"]), (&json!(true), &Value::Null));
    assert!(response["warnings"][0].as_str().unwrap().contains("was not made for this"), "{response}");
}

// ----------------------------------------------------------------------------------------------------- health

struct Parts {
    health: Arc<Health>,
    live: watch::Sender<LiveBundles>,
    serving: watch::Sender<Option<Arc<Serving>>>,
    settled: watch::Sender<bool>,
}

fn parts(metrics: Arc<Metrics>) -> Parts {
    let (live, live_receiver) = watch::channel(LiveBundles::default());
    let (serving, serving_receiver) = watch::channel(None);
    let (settled, names_settled) = watch::channel(false);
    let health = Arc::new(Health {
        metrics,
        stopping: CancellationToken::new(),
        live: live_receiver,
        live_for_checks: watch::channel(LiveBundles::default()).1,
        serving: serving_receiver,
        names_settled,
        clock: Timestamp::now,
    });
    Parts { health, live, serving, settled }
}

/// What the API server trusts if our configuration holds this authority's bundle.
fn bundles(authority: &Authority) -> LiveBundles {
    let bundle = k8s_openapi::ByteString(authority.bundle_pem().as_bytes().to_vec());
    let configuration: MutatingWebhookConfiguration = serde_json::from_value(json!({
        "metadata": {"name": "konductor"},
        "webhooks": [{"name": "pods.konductor.io", "admissionReviewVersions": ["v1"], "sideEffects": "None",
                      "clientConfig": {"caBundle": bundle}}],
    }))
    .unwrap();
    LiveBundles::of(&configuration)
}

fn served(authority: Authority, name: &str) -> Arc<Serving> {
    Serving::start(
        Arc::new(ArcSwap::from_pointee(authority)),
        vec![name.to_owned()],
        SignedDuration::from_hours(720),
        Timestamp::now(),
    )
    .unwrap()
}

#[tokio::test]
async fn ready_means_trusted_and_knowing_and_not_asked_to_stop() {
    let Parts { health, live, serving, settled } = parts(Arc::default());
    let ready = || got(health_router(Arc::clone(&health)), "/readyz");
    let unavailable = |text: &str| (StatusCode::SERVICE_UNAVAILABLE, text.to_owned());
    assert_eq!(ready().await, unavailable("there is no certificate yet"));
    let authority = Authority::ephemeral(Timestamp::now()).unwrap();
    let (ours, theirs) = (bundles(&authority), bundles(&Authority::ephemeral(Timestamp::now()).unwrap()));
    serving.send_replace(Some(served(authority, DNS_NAME)));
    assert_eq!(ready().await, unavailable("the API server does not trust our certificate yet"));
    live.send_replace(theirs);
    assert_eq!(ready().await, unavailable("the API server does not trust our certificate yet"));
    live.send_replace(ours);
    assert_eq!(ready().await, unavailable("gates and mutexes have not been listed yet"));
    settled.send_replace(true);
    assert_eq!(ready().await, (StatusCode::OK, "ok".to_owned()));
    health.stopping.cancel();
    assert_eq!(ready().await, unavailable("asked to stop"));
    assert_eq!(got(health_router(Arc::clone(&health)), "/healthz").await.0, StatusCode::OK);
}

#[tokio::test]
async fn metrics_count_by_resource_result_and_dry_run() {
    let admissions = admissions();
    let router = admission_router(Arc::clone(&admissions));
    posted(router.clone(), review("pods", &annotated_pod()).to_string()).await;
    let mut dry = review("pods", &annotated_pod());
    dry["request"]["dryRun"] = json!(true);
    posted(router.clone(), dry.to_string()).await;
    posted(router, "nonsense").await;
    let Parts { health, serving, .. } = parts(Arc::clone(&admissions.metrics));
    let authority = Authority::ephemeral(Timestamp::now()).unwrap();
    let serving_now = served(authority, DNS_NAME);
    serving.send_replace(Some(Arc::clone(&serving_now)));
    let (_, text) = got(health_router(health), "/metrics").await;
    let expiry = serving_now.leaf().not_after().as_second();
    for line in [
        r#"konductor_webhook_requests_total{resource="pods",result="injected",dry_run="false"} 1"#.to_owned(),
        r#"konductor_webhook_requests_total{resource="pods",result="injected",dry_run="true"} 1"#.to_owned(),
        r#"konductor_webhook_requests_total{resource="other",result="malformed",dry_run="false"} 1"#
            .to_owned(),
        "konductor_webhook_request_duration_seconds_count 3".to_owned(),
        format!("konductor_certificate_expiry_timestamp_seconds {expiry}"),
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
}

// ------------------------------------------------------------------------------------------------- the server

#[tokio::test]
async fn calls_over_tls_are_answered_until_the_drain_is_over() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = listener.local_addr().unwrap().port();
    let authority = Authority::ephemeral(Timestamp::now()).unwrap();
    let root = authority.bundle()[0].to_vec();
    let serving = served(authority, "localhost");
    let stopping = CancellationToken::new();
    let token = stopping.clone();
    let server = tokio::spawn(async move {
        serve_admission(listener, &serving, admissions(), token, Duration::from_millis(700)).await
    });

    // kube's client brings TLS, the check of names, and connections that it uses again: as the API server does.
    let mut config = kube::Config::new(format!("https://127.0.0.1:{port}").parse().unwrap());
    config.root_cert = Some(vec![root]);
    config.tls_server_name = Some("localhost".to_owned());
    let client = kube::Client::try_from(config).unwrap();
    let call = || {
        let body = review("pods", &annotated_pod()).to_string().into_bytes();
        client.request::<Value>(Request::post("/mutate?timeout=5s").body(body).unwrap())
    };
    assert_eq!(call().await.unwrap()["response"]["allowed"], true);
    stopping.cancel();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(call().await.unwrap()["response"]["allowed"], true, "asked to stop, and still answering");
    tokio::time::timeout(Duration::from_secs(10), server).await.unwrap().unwrap().unwrap();
    assert!(bind(format!("127.0.0.1:{port}").parse().unwrap()).is_ok(), "the port is free again");
}
