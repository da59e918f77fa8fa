//! Silence: for how long nothing was heard of whoever may be lost by it, as far as this process has seen.
//!
//! Of a claim that is its renewals; of a pod those of its sidecar and the lease of its node. On a clock of its own: monotonic,
//! and standing still while the API server cannot be asked, because nobody can renew then. It ticks only when two reads in a row
//! came back, so it is late by up to a period and never early. It begins anew for everybody when the process does: whoever
//! takes over from a dead operator knows nothing of what that one saw. What must stay true: it says less than the truth, never
//! more; from a watch that is stuck nothing is concluded (who is lost is read from the API server itself first).

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::SignedDuration;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use konductor_api::claim::{Claim, ClaimPhase};
use konductor_primitives::facts::PodFacts;
use konductor_primitives::record::PodRecord;
use konductor_primitives::silence::Renewal;
use kube::{Api, Client};
use tokio::time::Instant;

use crate::caches::Caches;
use crate::client::call;
use crate::index::ObjectKey;

/// How often the API server is asked, while there is somebody who may be lost.
const PERIOD: Duration = Duration::from_millis(500);
/// Two reads further apart than that do not say that it could be read in between.
const TOGETHER: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Default)]
pub(crate) struct Silence(Mutex<State>);

#[derive(Default)]
struct State {
    /// For how long the API server could be read, all in all.
    clock: Duration,
    last_read: Option<Instant>,
    /// By UID.
    claims: HashMap<String, Heard<Option<MicroTime>>>,
    /// By UID.
    pods: HashMap<String, Heard<Option<Renewal>>>,
    /// By name: the lease of a node as it was seen last, and when that was.
    nodes: HashMap<String, (Option<MicroTime>, Duration)>,
}

/// The last sign of life of somebody.
struct Heard<S> {
    key: ObjectKey,
    sign: S,
    at: Duration,
}

/// Whom the API server is asked about, to see whether it answers.
enum Probe {
    Claim(ObjectKey),
    Pod(ObjectKey),
}

impl<S: PartialEq> Heard<S> {
    /// Another sign than the last is a new one, whatever it says.
    fn hear(&mut self, sign: S, clock: Duration) {
        if self.sign != sign {
            (self.sign, self.at) = (sign, clock);
        }
    }
}

impl Silence {
    /// For how long that claim has been silent. One that was not granted is not counted, and forgotten.
    pub(crate) fn of(&self, claim: &Claim) -> SignedDuration {
        let uid = claim.metadata.uid.as_deref().unwrap_or_default();
        let granted = claim.status.as_ref().and_then(|status| status.phase) == Some(ClaimPhase::Granted);
        let mut state = self.state();
        if !granted {
            state.claims.remove(uid);
            return SignedDuration::ZERO;
        }
        let (clock, now, sign) = (state.clock, state.now(), &claim.spec.renew_time);
        let heard = state.claims.entry(uid.to_owned()).or_insert_with(|| Heard {
            key: ObjectKey::of(&claim.metadata),
            sign: sign.clone(),
            at: now,
        });
        heard.hear(sign.clone(), now);
        since(clock, heard.at)
    }

    /// For how long nothing was heard of that pod, which may be lost. One that has ended is not counted, and forgotten.
    pub(crate) fn of_pod(&self, pod: &PodFacts) -> SignedDuration {
        let mut state = self.state();
        if pod.terminal.is_some() {
            state.pods.remove(&pod.uid);
            return SignedDuration::ZERO;
        }
        let (clock, now) = (state.clock, state.now());
        let heard = state.pods.entry(pod.uid.clone()).or_insert_with(|| Heard {
            key: ObjectKey::of(&pod.object().metadata),
            sign: pod.renewal,
            at: now,
        });
        heard.hear(pod.renewal, now);
        let at = heard.at;
        let node = pod.node.as_ref().and_then(|node| state.nodes.get(node)).map(|(_, at)| *at);
        since(clock, node.map_or(at, |node| node.max(at)))
    }

    /// A node's lease as it is now. The same again is no sign of life.
    pub(crate) fn hear_of_node(&self, lease: &Lease) {
        let Some(name) = lease.metadata.name.clone() else { return };
        let sign = lease.spec.as_ref().and_then(|spec| spec.renew_time.clone());
        let mut state = self.state();
        let now = state.now();
        let known = state.nodes.entry(name).or_insert_with(|| (sign.clone(), now));
        if known.0 != sign {
            *known = (sign, now);
        }
    }

    /// Lets the clock tick for ever, and forgets who is gone.
    pub(crate) async fn keep(&self, client: &Client, caches: &Caches) {
        let mut period = tokio::time::interval(PERIOD);
        period.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            period.tick().await;
            let Some(probe) = self.probe(caches) else {
                self.state().last_read = None;
                continue;
            };
            let began = Instant::now();
            self.read(began, probe.answers(client).await);
        }
    }

    /// Somebody who may be lost, if there is anybody. Who is gone is forgotten.
    fn probe(&self, caches: &Caches) -> Option<Probe> {
        let mut state = self.state();
        state.claims.retain(|uid, heard| {
            caches.claim(&heard.key).is_some_and(|claim| claim.metadata.uid.as_ref() == Some(uid))
        });
        state.pods.retain(|uid, heard| {
            caches.pod(&heard.key).is_some_and(|pod| pod.metadata.uid.as_ref() == Some(uid))
        });
        // Any of them will do, but the same one in every run of a simulation.
        let claim = state.claims.values().map(|heard| &heard.key).min().cloned().map(Probe::Claim);
        claim.or_else(|| state.pods.values().map(|heard| &heard.key).min().cloned().map(Probe::Pod))
    }

    /// A read that began then came back, or did not.
    fn read(&self, began: Instant, answered: bool) {
        let mut state = self.state();
        if !answered {
            state.last_read = None;
            return;
        }
        let between = state.last_read.and_then(|last| began.checked_duration_since(last));
        if let Some(between) = between.filter(|between| *between <= TOGETHER) {
            state.clock += between;
        }
        state.last_read = Some(began);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What the clock will show of this moment: the next read lets it tick for what has passed since the last one, and that much
    /// was before now.
    fn now(&self) -> Duration {
        self.clock + self.last_read.map(|last| last.elapsed().min(TOGETHER)).unwrap_or_default()
    }
}

impl Probe {
    async fn answers(&self, client: &Client) -> bool {
        match self {
            Self::Claim(key) => {
                let api: Api<Claim> = Api::namespaced(client.clone(), &key.namespace);
                call(api.get_metadata_opt(&key.name)).await.is_ok()
            }
            Self::Pod(key) => {
                let api: Api<PodRecord> = Api::namespaced(client.clone(), &key.namespace);
                call(api.get_metadata_opt(&key.name)).await.is_ok()
            }
        }
    }
}

fn since(clock: Duration, at: Duration) -> SignedDuration {
    SignedDuration::try_from(clock.saturating_sub(at)).unwrap_or(SignedDuration::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    fn claim(phase: &str, renewed: &str) -> Claim {
        serde_json::from_value(json!({
            "apiVersion": "konductor.io/v1", "kind": "Claim",
            "metadata": {"name": "c", "namespace": "ns", "uid": "u"},
            "spec": {"primitive": {"kind": "Mutex", "name": "db"}, "holder": "h", "renewTime": renewed},
            "status": {"phase": phase},
        }))
        .unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn what_passed_before_a_renewal_was_seen_does_not_count() {
        let silence = Silence::default();
        let granted = |renewed: &str| claim("Granted", renewed);
        silence.of(&granted("2030-01-01T00:00:00.000000Z"));
        silence.read(Instant::now(), true);
        tokio::time::advance(Duration::from_millis(1900)).await;
        let renewed = granted("2030-01-01T00:00:02.000000Z");
        silence.of(&renewed);
        tokio::time::advance(Duration::from_millis(100)).await;
        silence.read(Instant::now(), true);
        assert!(silence.of(&renewed) <= SignedDuration::from_millis(100));
        tokio::time::advance(Duration::from_secs(1)).await;
        silence.read(Instant::now(), true);
        assert_eq!(silence.of(&renewed), SignedDuration::from_millis(1100));
    }

    #[test]
    fn only_time_in_which_the_api_server_answered_counts() {
        let (silence, start) = (Silence::default(), Instant::now());
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let granted = claim("Granted", "2030-01-01T00:00:00.000000Z");
        let seconds = |claim: &Claim| silence.of(claim).as_secs();
        assert_eq!(seconds(&granted), 0, "it begins when it is first seen");
        for second in 0..=5 {
            silence.read(at(second), true);
        }
        assert_eq!(seconds(&granted), 5);
        silence.read(at(6), false);
        for second in 60..=62 {
            silence.read(at(second), true);
        }
        assert_eq!(seconds(&granted), 7, "nobody could renew in between");
        silence.read(at(70), true);
        assert_eq!(seconds(&granted), 7, "and who was not asked may not have answered");
        let renewed = claim("Granted", "2030-01-01T00:00:01.000000Z");
        assert_eq!(seconds(&renewed), 0);
        silence.read(at(71), true);
        assert_eq!(seconds(&renewed), 1);
        assert_eq!(seconds(&claim("Waiting", "2030-01-01T00:00:01.000000Z")), 0);
        assert_eq!(seconds(&renewed), 0, "it was forgotten");
    }

    fn pod(renewed: &str, phase: &str) -> PodFacts {
        let pod: PodRecord = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "ns", "uid": "u", "annotations": {"konductor.io/renewed": renewed}},
            "spec": {"nodeName": "n", "containers": [{"name": "main"}]},
            "status": {"phase": phase, "containerStatuses": [{"name": "main"}], "conditions": [{"type": "ContainersReady", "status": "False", "reason": "PodFailed"}]},
        }))
        .unwrap();
        PodFacts::shared(&Arc::new(pod), true)
    }

    fn lease(second: u8) -> Lease {
        serde_json::from_value(json!({
            "metadata": {"name": "n"}, "spec": {"renewTime": format!("2001-01-01T00:00:{second:02}.000000Z")},
        }))
        .unwrap()
    }

    #[test]
    fn a_pod_is_heard_of_by_its_sidecar_and_by_its_node() {
        // In time to come, so that none of it has passed before a read.
        let (silence, start) = (Silence::default(), Instant::now() + Duration::from_secs(3600));
        let tick = |second: u64| silence.read(start + Duration::from_secs(second), true);
        let seconds = |pod: &PodFacts| silence.of_pod(pod).as_secs();
        silence.hear_of_node(&lease(1));
        tick(0);
        assert_eq!(seconds(&pod("1 1 9s", "Running")), 0, "it begins when it is first seen");
        (1..=7).for_each(tick);
        silence.hear_of_node(&lease(1));
        assert_eq!(seconds(&pod("1 1 9s", "Running")), 7, "the same again is no sign of life");
        assert_eq!(seconds(&pod("1 2 9s", "Running")), 0);
        (8..=9).for_each(tick);
        assert_eq!(seconds(&pod("1 2 9s", "Running")), 2);
        silence.hear_of_node(&lease(2));
        assert_eq!(seconds(&pod("1 2 9s", "Running")), 0);
        tick(10);
        assert_eq!(seconds(&pod("1 2 9s", "Running")), 1);
        assert_eq!(seconds(&pod("1 2 9s", "Failed")), 0, "it has ended");
        assert_eq!(seconds(&pod("1 2 9s", "Running")), 0, "it was forgotten");
    }
}
