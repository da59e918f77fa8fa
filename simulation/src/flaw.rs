//! Flaws: bugs that are planted on purpose, to see that the checks find them.
//!
//! The operator stays what it is: a flaw lies to it, or does something else than what it asked for, so that together they are
//! an operator with that bug; or it is one of the waiter, which the simulation plays. What must stay true: without a flaw
//! nothing here is called.

use std::time::Duration;

use konductor_api::annotations::{FINALIZER, GRANT};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::server::{Answer, Ask, Verb};
use crate::store::{Actor, Resource};

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Ledgers are written over whatever version is there.
    OverwritesLedgers,
    /// Pods are patched in whatever version is there.
    PatchesAnyVersion,
    /// The grant comes without the finalizer.
    GrantsWithoutFinalizer,
    /// Verdicts are not taken back before a hold ends.
    SkipsWithdrawal,
    /// Pods are told although the ledger was not written.
    TellsBeforeItCommits,
    /// What is not in a cache is taken to be gone.
    TakesItsCacheForTheTruth,
    /// A pod that is being deleted is taken for dead.
    TakesDeletionForDeath,
    /// A phase of Failed is believed whoever wrote it.
    BelievesAnyPhase,
    /// The end of any earlier run counts as that of this one.
    ForgetsWhatRanBefore,
    /// A node that is silent is taken to be off.
    TakesSilenceForDeath,
    /// A node that is gone is believed so at once.
    SkipsTheQuarantine,
    /// The finalizer is lifted without a look at ledgers.
    LiftsAtOnce,
    /// The waiter does not remember which grant it used.
    WaiterForgetsWhatItUsed,
    /// A semaphore has one more permit than it has.
    MiscountsPermits,
    /// Readers do not stand in the way of writers.
    OverlooksReaders,
    /// Tokens do not rise.
    RepeatsTokens,
    /// Renewals of claims are not seen.
    OverlooksRenewals,
    /// A failure counts as a success.
    TakesFailureForSuccess,
    /// A Job that is about to be complete counts as complete.
    TakesIntentForTheEnd,
    /// A barrier counts one more than came.
    CountsOneMore,
    /// Finalizers are never lifted.
    NeverLifts,
}

/// All of them.
pub const FLAWS: [Flaw; 21] = [
    Flaw::OverwritesLedgers,
    Flaw::PatchesAnyVersion,
    Flaw::GrantsWithoutFinalizer,
    Flaw::SkipsWithdrawal,
    Flaw::TellsBeforeItCommits,
    Flaw::TakesItsCacheForTheTruth,
    Flaw::TakesDeletionForDeath,
    Flaw::BelievesAnyPhase,
    Flaw::ForgetsWhatRanBefore,
    Flaw::TakesSilenceForDeath,
    Flaw::SkipsTheQuarantine,
    Flaw::LiftsAtOnce,
    Flaw::WaiterForgetsWhatItUsed,
    Flaw::MiscountsPermits,
    Flaw::OverlooksReaders,
    Flaw::RepeatsTokens,
    Flaw::OverlooksRenewals,
    Flaw::TakesFailureForSuccess,
    Flaw::TakesIntentForTheEnd,
    Flaw::CountsOneMore,
    Flaw::NeverLifts,
];

fn is_over(pod: &Value) -> bool {
    matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
}

/// As if its kubelet had said its last word.
fn is_dead(pod: &mut Value) {
    for list in ["initContainerStatuses", "containerStatuses"] {
        for status in pod["status"][list].as_array_mut().into_iter().flatten() {
            if status["state"]["terminated"].is_null() {
                status["state"] = json!({"terminated": {"exitCode": 137, "reason": "Error"}});
            }
        }
    }
    pod["status"]["phase"] = json!("Failed");
    let conditions = json!([{"type": "ContainersReady", "status": "False", "reason": "PodFailed"}]);
    pod["status"]["conditions"] = conditions;
}

impl Flaw {
    /// Does the waiter forget?
    pub(crate) fn forgets(self) -> bool {
        self == Self::WaiterForgetsWhatItUsed
    }

    /// What the operator sees of an object instead of it.
    pub(crate) fn view(self, _age: Duration, object: &Value) -> Option<Value> {
        let mut seen = object.clone();
        match (self, object["kind"].as_str()?) {
            (Self::TakesDeletionForDeath, "Pod") if !object["metadata"]["deletionTimestamp"].is_null() => {
                is_dead(&mut seen);
            }
            (Self::BelievesAnyPhase, "Pod") if is_over(object) => {
                let succeeded = object["status"]["phase"] == "Succeeded";
                is_dead(&mut seen);
                if succeeded {
                    return None;
                }
            }
            (Self::ForgetsWhatRanBefore, "Pod") => {
                let version = object["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
                for status in seen["status"]["containerStatuses"].as_array_mut().into_iter().flatten() {
                    if !status["state"]["terminated"].is_null() {
                        status["state"]["terminated"]["startedAt"] = json!("2100-01-01T00:00:00Z");
                        status["state"]["terminated"]["finishedAt"] = json!("2100-01-01T00:00:00Z");
                        status["state"]["terminated"]["containerID"] = json!(format!("sim://{version}"));
                        status["containerID"] = json!(format!("sim://{version}"));
                    }
                }
            }
            (Self::TakesSilenceForDeath, "Node") => {
                seen["spec"]["taints"] =
                    json!([{"key": "node.kubernetes.io/out-of-service", "effect": "NoExecute"}]);
            }
            (Self::MiscountsPermits, "Semaphore") => {
                seen["spec"]["permits"] = json!(object["spec"]["permits"].as_i64().unwrap_or(1) + 1);
            }
            (Self::OverlooksReaders, "RWMutex") => {
                for holder in seen["status"]["holders"].as_array_mut().into_iter().flatten() {
                    holder["mode"] = json!("Read");
                }
            }
            (Self::OverlooksRenewals, "Claim") => {
                seen["spec"]["renewTime"] = object["metadata"]["creationTimestamp"].clone();
            }
            (Self::TakesFailureForSuccess, "Pod") => {
                for status in seen["status"]["containerStatuses"].as_array_mut().into_iter().flatten() {
                    if !status["state"]["terminated"].is_null() {
                        status["state"]["terminated"]["exitCode"] = json!(0);
                    }
                }
                if object["status"]["phase"] == "Failed" {
                    seen["status"]["phase"] = json!("Succeeded");
                    for condition in seen["status"]["conditions"].as_array_mut().into_iter().flatten() {
                        if condition["reason"] == "PodFailed" {
                            condition["reason"] = json!("PodCompleted");
                        }
                    }
                }
            }
            (Self::TakesIntentForTheEnd, "Job") if object["status"]["active"].as_u64().unwrap_or(0) > 0 => {
                seen["status"]["conditions"] = json!([{"type": "Complete", "status": "True"}]);
            }
            _ => return None,
        }
        Some(seen)
    }

    /// What comes of a request.
    pub(crate) fn serve(self, cluster: &mut Cluster, actor: Actor, ask: &mut Ask) -> Answer {
        if let Verb::Patch { .. } = ask.verb {
            if let Some(answer) = self.instead(cluster, actor, ask) {
                return answer;
            }
        } else if let Some(answer) = self.reads(cluster, ask) {
            return answer;
        }
        let answer = cluster.serve(actor, ask);
        if answer.code >= 300 || ask.metadata_only {
            return answer;
        }
        let Ok(mut value) = serde_json::from_str::<Value>(&answer.text) else { return answer };
        let age = cluster.age();
        if let Some(items) = value["items"].as_array_mut() {
            let kind = ask.resource.map_or("", Resource::kind);
            for item in items {
                if item["kind"].is_null() {
                    item["kind"] = json!(kind);
                }
                if let Some(seen) = self.view(age, item) {
                    *item = seen;
                }
            }
        } else if let Some(seen) = self.view(age, &value) {
            value = seen;
        }
        Answer { code: answer.code, text: value.to_string() }
    }

    fn reads(self, cluster: &Cluster, ask: &Ask) -> Option<Answer> {
        let gone = || Answer::status(404, "NotFound", "not found");
        match (self, ask.verb, ask.resource?) {
            // As a cache that lags by some seconds has it.
            (Self::TakesItsCacheForTheTruth, Verb::Get, Resource::Pod | Resource::Job | Resource::Claim) => {
                let key = cluster
                    .store
                    .list(ask.resource?)
                    .find(|(key, _)| Some(&key.name) == ask.name.as_ref())?;
                let made: jiff::Timestamp =
                    key.1.value["metadata"]["creationTimestamp"].as_str()?.parse().ok()?;
                (cluster.now().duration_since(made).as_secs() < 20).then(gone)
            }
            (Self::SkipsTheQuarantine | Self::TakesSilenceForDeath, Verb::Get, Resource::Node) => {
                let node = cluster.store.value(Resource::Node, ask.name.as_deref()?)?;
                let ready = node["status"]["conditions"].to_string().contains("\"True\"");
                (self == Self::SkipsTheQuarantine && !ready).then(gone)
            }
            _ => None,
        }
    }

    /// What is done instead of a patch, or with it.
    fn instead(self, cluster: &mut Cluster, actor: Actor, ask: &mut Ask) -> Option<Answer> {
        let resource = ask.resource?;
        let key =
            cluster.store.list(resource).find(|(key, _)| Some(&key.name) == ask.name.as_ref())?.0.clone();
        let stored = cluster.store.get(&key)?.value.clone();
        let grant = ask.body["metadata"]["annotations"][GRANT].as_str().unwrap_or_default().to_owned();
        let goes = grant.ends_with(" go") || grant.contains(" skip ");
        // As if it had been done.
        let pretend = |body: &Value| {
            let mut value = stored.clone();
            crate::patch::strategic(&mut value, body);
            let version = stored["metadata"]["resourceVersion"].clone();
            value["metadata"]["resourceVersion"] = version;
            Some(Answer { code: 200, text: value.to_string() })
        };
        match (self, resource) {
            (Self::OverwritesLedgers, kind) if kind.is_primitive() => unconditional(ask),
            (Self::PatchesAnyVersion, Resource::Pod) => unconditional(ask),
            (Self::GrantsWithoutFinalizer, Resource::Pod) if goes => {
                remove(&mut ask.body["metadata"], "finalizers");
            }
            (Self::SkipsWithdrawal, Resource::Pod) if grant.ends_with(" released") => {
                return pretend(&ask.body);
            }
            (
                Self::TellsBeforeItCommits,
                Resource::Mutex | Resource::RWMutex | Resource::Once | Resource::Semaphore,
            ) if adds(&stored, &ask.body) => {
                let mut value = stored.clone();
                crate::patch::merge(&mut value, &ask.body);
                return Some(Answer { code: 200, text: value.to_string() });
            }
            (Self::LiftsAtOnce, Resource::Pod) if goes && is_old(&stored) => {
                let answer = cluster.serve(actor, ask);
                cluster.change(&key, |pod| remove(&mut pod["metadata"], "finalizers"));
                return Some(answer);
            }
            (Self::NeverLifts, Resource::Pod)
                if !ask.body["metadata"]["$deleteFromPrimitiveList/finalizers"].is_null() =>
            {
                return pretend(&json!({"metadata": {"$deleteFromPrimitiveList/finalizers": [FINALIZER]}}));
            }
            (Self::RepeatsTokens, kind) if kind.is_primitive() => {
                for holder in ask.body["status"]["holders"].as_array_mut().into_iter().flatten() {
                    holder["token"] = json!("65536000");
                }
            }
            (Self::CountsOneMore, Resource::Barrier) => {
                let arrived = ask.body["status"]["arrived"].as_i64().unwrap_or(0);
                if ask.body["status"]["phase"] == "Open" {
                    ask.body["status"]["arrived"] = json!(arrived + 1);
                }
            }
            _ => {}
        }
        None
    }
}

/// A pod that is told again.
fn is_old(pod: &Value) -> bool {
    pod["metadata"]["finalizers"].is_null()
}

fn adds(stored: &Value, body: &Value) -> bool {
    let count = |value: &Value| value["status"]["holders"].as_array().map_or(0, Vec::len);
    count(body) > count(stored)
}

fn unconditional(ask: &mut Ask) {
    remove(&mut ask.body["metadata"], "resourceVersion");
    remove(&mut ask.body["metadata"], "uid");
}

fn remove(value: &mut Value, field: &str) {
    if let Some(map) = value.as_object_mut() {
        map.remove(field);
    }
}
