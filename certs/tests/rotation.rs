//! From one CA to the next: at no moment is a leaf in use that is not trusted.

#![allow(clippy::unwrap_used, reason = "clippy.toml permits it in tests, but not in their helpers")]

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use konductor_certs::rotation::{ROTATE, Stand, Step, next};
use konductor_certs::{Authority, Current, LiveBundles, Rotation, Serving, trusted};
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::watch;

const OVERLAP: SignedDuration = SignedDuration::from_mins(10);
const LIFE: SignedDuration = SignedDuration::from_hours(720);

fn at(minutes: i64) -> Timestamp {
    let start: Timestamp = "2030-06-01T12:00:00Z".parse().unwrap();
    start + SignedDuration::from_mins(minutes)
}

// ------------------------------------------------------------------------------------------------ what comes next

fn stand(certificates: usize, announced: bool) -> Stand {
    let not_after = at(0) + Authority::LIFE;
    Stand { certificates, announced, asked: false, stepped_at: Some(at(0)), not_after }
}

#[test]
fn a_ca_is_followed_by_the_next_when_somebody_asks_or_its_end_is_near() {
    let alone = stand(1, false);
    let late = alone.not_after - Authority::LIFE / 5;
    assert_eq!(next(&alone, OVERLAP, true, at(0)), None);
    assert_eq!(next(&alone, OVERLAP, true, late), Some(Step::Announce));
    assert_eq!(next(&Stand { asked: true, ..alone }, OVERLAP, false, at(0)), Some(Step::Announce));
}

#[test]
fn it_signs_only_after_it_was_published_and_trusted_for_an_overlap() {
    let announced = stand(2, true);
    assert_eq!(next(&announced, OVERLAP, true, at(9)), None);
    assert_eq!(next(&announced, OVERLAP, false, at(10)), None);
    assert_eq!(next(&announced, OVERLAP, true, at(10)), Some(Step::Switch));
}

#[test]
fn the_old_one_is_trusted_for_an_overlap_longer() {
    assert_eq!(next(&stand(2, false), OVERLAP, true, at(9)), None);
    assert_eq!(next(&stand(2, false), OVERLAP, true, at(10)), Some(Step::Prune));
    let asked = Stand { asked: true, ..stand(2, false) };
    assert_eq!(next(&asked, OVERLAP, true, at(9)), None, "one after the other");
}

// -------------------------------------------------------------------------------------------- two replicas of it

/// An API server with one Secret; a replacement needs the version that it was made from.
#[derive(Default)]
struct Server {
    secret: Option<Value>,
    version: u64,
}

impl Server {
    fn answer(&mut self, method: &Method, body: &[u8]) -> (u16, Value) {
        let failure = |code: u16, reason: &str| {
            (
                code,
                json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code}),
            )
        };
        if *method == Method::GET {
            return self.secret.clone().map_or_else(|| failure(404, "NotFound"), |secret| (200, secret));
        }
        let mut sent: Value = serde_json::from_slice(body).unwrap();
        let known = self.secret.as_ref().map(|secret| secret["metadata"]["resourceVersion"].clone());
        if *method == Method::PUT && Some(&sent["metadata"]["resourceVersion"]) != known.as_ref() {
            return failure(409, "Conflict");
        }
        self.version += 1;
        sent["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.secret = Some(sent.clone());
        (200, sent)
    }
}

fn client(server: &Arc<Mutex<Server>>) -> kube::Client {
    let server = Arc::clone(server);
    let service = tower::service_fn(move |request: Request<Body>| {
        let server = Arc::clone(&server);
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let (code, answer) = server.lock().unwrap().answer(&parts.method, &body);
            let response = Response::builder().status(code).body(Body::from(answer.to_string().into_bytes()));
            Ok::<_, Infallible>(response.unwrap())
        }
    });
    kube::Client::new(service, "default")
}

/// What a configuration trusts in which each entry has that bundle.
fn trusts(bundle: &str) -> LiveBundles {
    let configuration: MutatingWebhookConfiguration = serde_json::from_value(json!({
        "metadata": {"name": "konductor"},
        "webhooks": [{"name": "pods.konductor.io", "admissionReviewVersions": ["v1"], "sideEffects": "None",
                      "clientConfig": {"caBundle": k8s_openapi::ByteString(bundle.as_bytes().to_vec())}}],
    }))
    .unwrap();
    LiveBundles::of(&configuration)
}

struct Replica {
    rotation: Rotation,
    serving: Arc<Serving>,
    current: Current,
    live: watch::Sender<LiveBundles>,
}

async fn replica(server: &Arc<Mutex<Server>>) -> Replica {
    let authority =
        Authority::load_or_create(client(server), "konductor-system", "konductor-ca", at(0)).await.unwrap();
    let (live, receiver) = watch::channel(trusts(authority.bundle_pem()));
    let current: Current = Arc::new(ArcSwap::from_pointee(authority));
    let serving = Serving::start(
        Arc::clone(&current),
        vec!["konductor-webhook.konductor-system.svc".to_owned()],
        LIFE,
        at(0),
    );
    let rotation = Rotation {
        secrets: kube::Api::namespaced(client(server), "konductor-system"),
        namespace: "konductor-system".to_owned(),
        secret: "konductor-ca".to_owned(),
        current: Arc::clone(&current),
        overlap: OVERLAP,
        live: receiver,
    };
    Replica { rotation, serving: serving.unwrap(), current, live }
}

#[tokio::test]
async fn two_replicas_go_from_one_ca_to_the_next_and_are_trusted_all_the_while() {
    let server = Arc::new(Mutex::new(Server::default()));
    let replicas = [replica(&server).await, replica(&server).await];
    let first = replicas[0].current.load().bundle()[0].clone();
    server.lock().unwrap().secret.as_mut().unwrap()["metadata"]["annotations"] = json!({ROTATE: "now"});
    let mut published = replicas[0].current.load().bundle_pem().to_owned();
    let mut sizes = Vec::new();
    // One of them looks every minute, the other every third; whoever comes first makes the step and publishes.
    for minute in 1..40 {
        for (number, replica) in replicas.iter().enumerate() {
            if number == 1 && minute % 3 != 0 {
                continue;
            }
            replica.rotation.once(at(minute)).await.unwrap();
            published = replica.current.load().bundle_pem().to_owned();
            for replica in &replicas {
                replica.live.send_replace(trusts(&published));
            }
            replica.serving.renew_if_due(at(minute)).unwrap();
            for (number, replica) in replicas.iter().enumerate() {
                let leaf = replica.serving.leaf();
                assert!(
                    trusted(&leaf, &trusts(&published), at(minute)),
                    "replica {number} in minute {minute}"
                );
            }
        }
        sizes.push(replicas[0].current.load().bundle().len());
    }
    sizes.dedup();
    assert_eq!(sizes, [1, 2, 1], "alone, overlapping, alone");
    let (one, other) = (replicas[0].current.load_full(), replicas[1].current.load_full());
    assert_eq!(one.bundle_pem(), other.bundle_pem());
    assert_ne!(one.bundle()[0], first);
    let secret = server.lock().unwrap().secret.clone().unwrap();
    assert_eq!(secret["data"].as_object().unwrap().len(), 2, "the key of the next one has become the key");
    assert_eq!(secret["metadata"]["annotations"][ROTATE], Value::Null);
    assert!(published == one.bundle_pem());
}
