//! Publishing against an API server that keeps one configuration and one Secret in memory.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy.toml permits it in tests, but not in their helpers"
)]

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use konductor_certs::{Authority, Current, LiveBundles, PublishError, Publisher};
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::watch;

/// What the API server has, and what was asked of it.
#[derive(Default)]
struct Server {
    configuration: Option<Value>,
    secret: Option<Value>,
    /// Answer the first read of the Secret with "not found", as a replica that is a moment late sees it.
    secret_hidden_once: bool,
    applied: Vec<Value>,
}

fn now() -> Timestamp {
    "2030-06-01T12:00:00Z".parse().unwrap()
}

fn configuration(names: &[&str]) -> Value {
    let webhooks: Vec<_> = names
        .iter()
        .map(|name| {
            json!({"name": name, "admissionReviewVersions": ["v1"], "sideEffects": "None", "failurePolicy": "Fail",
                   "clientConfig": {"service": {"namespace": "konductor-system", "name": "konductor-webhook"}}})
        })
        .collect();
    json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
           "metadata": {"name": "konductor", "uid": "11111111-1111-1111-1111-111111111111"}, "webhooks": webhooks})
}

fn failure(code: u16, reason: &str) -> (u16, Value) {
    (
        code,
        json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code,
                  "message": reason}),
    )
}

impl Server {
    fn answer(&mut self, method: &Method, path: &str, query: &str, body: &[u8]) -> (u16, Value) {
        let is_secret = path.contains("/secrets");
        match (method, is_secret) {
            (&Method::GET, true) if std::mem::take(&mut self.secret_hidden_once) => failure(404, "NotFound"),
            (&Method::GET, _) => {
                let object = if is_secret { &self.secret } else { &self.configuration };
                object.clone().map_or_else(|| failure(404, "NotFound"), |object| (200, object))
            }
            (&Method::POST, true) if self.secret.is_some() => failure(409, "AlreadyExists"),
            (&Method::POST, true) => {
                let created: Value = serde_json::from_slice(body).unwrap();
                self.secret = Some(created.clone());
                (201, created)
            }
            (&Method::PATCH, false) => {
                assert!(
                    query.contains("fieldManager=konductor-ca") && query.contains("force=true"),
                    "{query}"
                );
                let applied: Value = serde_json::from_slice(body).unwrap();
                let live = self.configuration.as_mut().unwrap();
                assert_eq!(applied["metadata"]["uid"], live["metadata"]["uid"]);
                for entry in applied["webhooks"].as_array().unwrap() {
                    let webhooks = live["webhooks"].as_array_mut().unwrap();
                    let target =
                        webhooks.iter_mut().find(|webhook| webhook["name"] == entry["name"]).unwrap();
                    target["clientConfig"]["caBundle"] = entry["clientConfig"]["caBundle"].clone();
                }
                self.applied.push(applied);
                (200, self.configuration.clone().unwrap())
            }
            other => panic!("unexpected call {other:?} {path}"),
        }
    }
}

fn client(server: &Arc<Mutex<Server>>) -> kube::Client {
    let server = Arc::clone(server);
    let service = tower::service_fn(move |request: Request<Body>| {
        let server = Arc::clone(&server);
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let (path, query) = (parts.uri.path(), parts.uri.query().unwrap_or_default());
            let (code, answer) = server.lock().unwrap().answer(&parts.method, path, query, &body);
            let response = Response::builder().status(code).body(Body::from(answer.to_string().into_bytes()));
            Ok::<_, Infallible>(response.unwrap())
        }
    });
    kube::Client::new(service, "default")
}

async fn authority(server: &Arc<Mutex<Server>>) -> Arc<Authority> {
    let loaded = Authority::load_or_create(client(server), "konductor-system", "konductor-ca", now()).await;
    Arc::new(loaded.unwrap())
}

fn current(authority: &Arc<Authority>) -> Current {
    Arc::new(ArcSwap::new(Arc::clone(authority)))
}

fn publisher(
    server: &Arc<Mutex<Server>>,
    authority: &Arc<Authority>,
) -> Publisher<MutatingWebhookConfiguration> {
    Publisher::new(&client(server), "konductor", "konductor-system", "konductor-ca", current(authority))
}

#[tokio::test]
async fn replicas_that_start_together_end_up_with_one_ca() {
    let server = Arc::new(Mutex::new(Server::default()));
    let first = authority(&server).await;
    // The second one saw no Secret, made a CA of its own, and lost the race to create it.
    server.lock().unwrap().secret_hidden_once = true;
    let second = authority(&server).await;
    assert_eq!(first.bundle_pem(), second.bundle_pem());
    assert_eq!(server.lock().unwrap().secret.as_ref().unwrap()["type"], "Opaque");
}

#[tokio::test]
async fn the_bundle_goes_into_every_entry_once_and_nothing_else_is_applied() {
    let server = Arc::new(Mutex::new(Server::default()));
    server.lock().unwrap().configuration = Some(configuration(&["pods.konductor.io", "jobs.konductor.io"]));
    let authority = authority(&server).await;
    let publisher = publisher(&server, &authority);
    let live = publisher.publish().await.unwrap();
    let leaf = authority
        .issue(&["konductor-webhook.konductor-system.svc".to_owned()], SignedDuration::from_hours(720), now())
        .unwrap();
    assert!(konductor_certs::trusted(&leaf, &live, now()));
    publisher.publish().await.unwrap();

    let server = server.lock().unwrap();
    assert_eq!(server.applied.len(), 1, "the second time nothing was to be done");
    let entries = server.applied[0]["webhooks"].as_array().unwrap();
    assert_eq!(entries.len(), 2);
    for entry in entries {
        let keys: Vec<_> = entry.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["clientConfig", "name"]);
        assert_eq!(entry["clientConfig"].as_object().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn a_missing_configuration_is_not_created() {
    let server = Arc::new(Mutex::new(Server::default()));
    let authority = authority(&server).await;
    let error = publisher(&server, &authority).publish().await.unwrap_err();
    assert!(error.to_string().contains("MutatingWebhookConfiguration konductor is not there yet"), "{error}");
    assert!(server.lock().unwrap().applied.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_bundle_that_somebody_wiped_is_published_again() {
    let server = Arc::new(Mutex::new(Server::default()));
    server.lock().unwrap().configuration = Some(configuration(&["pods.konductor.io"]));
    let authority = authority(&server).await;
    let (tell, mut live) = watch::channel(LiveBundles::default());
    let keeping = tokio::spawn(publisher(&server, &authority).keep_published(tell));
    live.changed().await.unwrap();
    let published = live.borrow().clone();
    server.lock().unwrap().configuration = Some(configuration(&["pods.konductor.io"]));
    let again = async {
        while server.lock().unwrap().applied.len() < 2 {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(120), again).await.expect("published again");
    assert_eq!(*live.borrow(), published);
    keeping.abort();
}

#[tokio::test(start_paused = true)]
async fn a_replica_whose_ca_is_not_the_one_in_the_secret_ends_instead_of_fighting() {
    let server = Arc::new(Mutex::new(Server::default()));
    server.lock().unwrap().configuration = Some(configuration(&["pods.konductor.io"]));
    let old = authority(&server).await;
    server.lock().unwrap().secret = None;
    let new = authority(&server).await;
    publisher(&server, &new).publish().await.unwrap();

    let (tell, _live) = watch::channel(LiveBundles::default());
    let ended = publisher(&server, &old).keep_published(tell).await.unwrap_err();
    assert!(matches!(ended, PublishError::Superseded { .. }), "{ended}");
    assert_eq!(server.lock().unwrap().applied.len(), 1, "the old CA was never published");
}
