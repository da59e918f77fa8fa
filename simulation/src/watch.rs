//! A watch: what changes, as one operator hears of it.
//!
//! What must stay true: events of one watch come in the order of their revisions, none is left out unless the watch says
//! that it broke, and an object that leaves the selection is deleted as far as the watch is concerned.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Body;
use futures::channel::mpsc;
use http::Response;
use tokio::time::{Instant, sleep_until};
use tower::BoxError;

use crate::network::Network;
use crate::server::{Answer, Ask};
use crate::store::{Change, Resource, Version};
use crate::weather::Delivery;

/// A bookmark comes this often.
const BOOKMARK: Duration = Duration::from_secs(60);

type Events = mpsc::UnboundedSender<Result<String, BoxError>>;

/// Opens one; what comes is written into the body of the answer.
pub(crate) fn open(network: &Network, ask: Ask) -> Response<Body> {
    let wanted = ask.query.get("resourceVersion").and_then(|version| version.parse().ok()).unwrap_or(0);
    let Some(resource) = ask.resource else {
        return Response::new(Body::from("{}"));
    };
    let (sender, receiver) = mpsc::unbounded();
    let bell = {
        let mut cluster = network.cluster.lock();
        if wanted < cluster.store.compacted() {
            let _ = sender.unbounded_send(Ok(too_old()));
            return Response::new(Body::from_stream(receiver));
        }
        cluster.bell(resource)
    };
    let watch = Watch { network: network.clone(), ask, resource, at: wanted, sender };
    tokio::spawn(watch.follow(bell));
    Response::new(Body::from_stream(receiver))
}

fn too_old() -> String {
    let status = Answer::status(410, "Expired", "too old resource version");
    format!("{{\"type\":\"ERROR\",\"object\":{}}}\n", status.text)
}

struct Watch {
    network: Network,
    ask: Ask,
    resource: Resource,
    at: u64,
    sender: Events,
}

impl Watch {
    async fn follow(mut self, mut bell: tokio::sync::watch::Receiver<u64>) {
        let mut delivered = Instant::now();
        loop {
            let (changes, latest) = {
                let cluster = self.network.cluster.lock();
                let relevant = |change: &&Change| change.key.resource == self.resource;
                let changes: Vec<_> = cluster.store.since(self.at).iter().filter(relevant).cloned().collect();
                (changes, cluster.store.revision())
            };
            for change in changes {
                if let Some(line) = self.line(&change) {
                    let (delay, delivery) = {
                        let mut weather = self.network.sky.look();
                        (weather.event_delay(), weather.delivery())
                    };
                    delivered = delivered.max(Instant::now() + delay);
                    sleep_until(delivered).await;
                    self.network.sky.thaw().await;
                    if !self.deliver(line, delivery) {
                        return;
                    }
                }
                self.at = change.revision;
            }
            self.at = self.at.max(latest);
            if self.sender.is_closed() || !self.network.alive.load(Ordering::Relaxed) {
                return;
            }
            if tokio::time::timeout(BOOKMARK, bell.changed()).await.is_err() {
                let kind = self.resource.kind();
                let (version, revision) = (self.resource.api_version(), self.at);
                let line = format!(
                    r#"{{"type":"BOOKMARK","object":{{"kind":"{kind}","apiVersion":"{version}","metadata":{{"resourceVersion":"{revision}","creationTimestamp":null}}}}}}"#
                );
                let delivery = self.network.sky.look().delivery();
                if !self.deliver(line + "\n", delivery) {
                    return;
                }
            }
        }
    }

    /// Does the watch go on?
    fn deliver(&self, line: String, delivery: Delivery) -> bool {
        match delivery {
            Delivery::Ended => return false,
            Delivery::Broken => {
                let _ = self.sender.unbounded_send(Err("the connection was reset".into()));
                return false;
            }
            Delivery::Twice => {
                let _ = self.sender.unbounded_send(Ok(line.clone()));
            }
            Delivery::Once => {}
        }
        self.sender.unbounded_send(Ok(line)).is_ok()
    }

    fn line(&self, change: &Change) -> Option<String> {
        let selected = |version: &Option<Arc<Version>>| {
            version.as_ref().is_some_and(|version| self.ask.selects(&change.key, version))
        };
        let (kind, version) = match (selected(&change.before), selected(&change.after)) {
            (false, true) => ("ADDED", change.after.as_ref()?),
            (true, true) => ("MODIFIED", change.after.as_ref()?),
            (true, false) => ("DELETED", change.after.as_ref().or(change.before.as_ref())?),
            (false, false) => return None,
        };
        let text = match self
            .network
            .flaw
            .and_then(|flaw| flaw.view(self.network.cluster.lock().age(), &version.value))
        {
            Some(seen) => seen.to_string(),
            None => version.text.clone(),
        };
        Some(format!("{{\"type\":\"{kind}\",\"object\":{text}}}\n"))
    }
}
