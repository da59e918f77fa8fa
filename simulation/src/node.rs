//! A machine and its kubelet: which pods it has, what it hears of the API server, and what it reports.
//!
//! What must stay true: a kubelet that starts knows nothing before it has heard from the API server; one that is cut off
//! goes on with what it heard last.

use std::time::Duration;

use jiff::SignedDuration;
use konductor_api::annotations::{GRANT, HOLD_CONTAINER, WAITER_CONTAINER};
use konductor_api::participation::PodPlan;
use serde_json::{Value, json};

use crate::check;
use crate::cluster::Cluster;
use crate::kubelet::{Body, Container, Habits, Outcome, Policy, Taken};
use crate::random::Random;
use crate::report::{self, Clock};
use crate::store::{Actor, Key, Resource};

/// How a workload behaves: least and most seconds, failures in a thousand runs.
pub(crate) const HABITS: &str = "simulation/habits";
const RENEWAL: Duration = Duration::from_secs(10);
/// Between SIGTERM and SIGKILL, in seconds.
const GRACE: (u64, u64) = (2, 15);

/// See the module.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not the states of a machine")]
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    pub(crate) name: String,
    /// It has power.
    pub(crate) on: bool,
    /// Its kubelet runs.
    pub(crate) kubelet: bool,
    /// It reaches the API server.
    pub(crate) connected: bool,
    /// How far its clock is off.
    pub(crate) skew: SignedDuration,
    /// Its kubelet has heard which pods it has.
    synced: bool,
    renewed: Option<Duration>,
}

impl Machine {
    pub(crate) fn new(number: usize, skew: SignedDuration) -> Self {
        Self {
            name: format!("node-{number}"),
            on: true,
            kubelet: true,
            connected: true,
            skew,
            synced: false,
            renewed: None,
        }
    }

    /// Does its kubelet reach the API server?
    pub(crate) const fn reports(&self) -> bool {
        self.on && self.kubelet && self.connected
    }
}

impl Cluster {
    /// One look of a machine at its pods.
    pub(crate) fn beat(&mut self, node: usize, random: &mut Random, forgets: bool) {
        let machine = self.machines[node].clone();
        if !machine.on {
            return;
        }
        let now = self.age();
        if machine.reports() {
            self.register(node, now);
            self.hear(node, now, random);
        }
        let clock = Clock {
            epoch: self.now() - SignedDuration::try_from(now).unwrap_or_default(),
            skew: machine.skew,
        };
        let uids: Vec<_> =
            self.bodies.values().filter(|body| body.node == node).map(|body| body.uid.clone()).collect();
        let tends = machine.kubelet && self.machines[node].synced;
        for uid in uids {
            let Some(body) = self.bodies.get_mut(&uid) else { continue };
            body.live(now);
            let mut outcome = body.look(now, forgets);
            if outcome.is_none() && tends {
                outcome = body.tend(now, clock.at(now).as_second(), random);
            }
            match outcome {
                Some(Outcome::Passed(run)) => check::passes(self, &uid, run),
                Some(Outcome::Starts) => check::starts(self, &uid),
                None => {}
            }
            if machine.reports() && tends && random.chance(800) {
                self.publish(&uid, clock);
            }
        }
    }

    /// The Node object and its lease.
    fn register(&mut self, node: usize, now: Duration) {
        let machine = &mut self.machines[node];
        if machine.renewed.is_some_and(|at| now.saturating_sub(at) < RENEWAL) {
            return;
        }
        machine.renewed = Some(now);
        let (name, skew) = (machine.name.clone(), machine.skew);
        let renewed = json!(format!("{:.6}", self.now() + skew));
        let lease = Key::new(Resource::NodeLease, &name);
        if !self.change(&lease, |lease| lease["spec"]["renewTime"] = renewed.clone()) {
            let _ =
                self.create(Actor::World, &lease, json!({"metadata": {}, "spec": {"renewTime": renewed}}));
        }
        let key = Key::new(Resource::Node, &name);
        let ready = json!([{"type": "Ready", "status": "True"}]);
        if !self.change(&key, |object| object["status"]["conditions"] = ready.clone()) {
            let _ = self.create(
                Actor::World,
                &key,
                json!({"metadata": {}, "spec": {}, "status": {"conditions": ready}}),
            );
        }
    }

    fn hear(&mut self, node: usize, now: Duration, random: &mut Random) {
        let name = &self.machines[node].name;
        let mine: Vec<_> = self
            .store
            .list(Resource::Pod)
            .filter(|(_, version)| version.value["spec"]["nodeName"] == name.as_str())
            .map(|(_, version)| std::sync::Arc::clone(version))
            .collect();
        let synced = self.machines[node].synced;
        let mut seen = Vec::new();
        for pod in mine {
            let pod = &pod.value;
            let uid = pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
            seen.push(uid.clone());
            if synced && random.chance(200) {
                continue;
            }
            let ends = !pod["metadata"]["deletionTimestamp"].is_null()
                || matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
            let body = self.bodies.entry(uid).or_insert_with(|| body_of(pod, node));
            let file = pod["metadata"]["annotations"][GRANT].as_str().unwrap_or_default();
            if body.file != file {
                file.clone_into(&mut body.file);
            }
            if ends && body.must_end.is_none() {
                body.must_end = Some(now + random.millis(GRACE.0 * 1000, GRACE.1 * 1000));
            }
        }
        for body in self.bodies.values_mut().filter(|body| body.node == node && !seen.contains(&body.uid)) {
            body.must_end.get_or_insert(now + Duration::from_secs(GRACE.0));
        }
        self.machines[node].synced = true;
    }

    fn publish(&mut self, uid: &str, clock: Clock) {
        let Some(body) = self.bodies.get_mut(uid) else { return };
        let key = Key::new(Resource::Pod, &body.name);
        let same = |value: &Value| value["metadata"]["uid"] == uid;
        let Some(stored) = self.store.get(&key).filter(|stored| same(&stored.value)) else { return };
        let (terminal, deleting) =
            (body.terminal.is_some(), !stored.value["metadata"]["deletionTimestamp"].is_null());
        if body.unpublished {
            body.unpublished = false;
            let body = body.clone();
            self.change(&key, |pod| report::write(&body, clock, pod));
        }
        if terminal && deleting {
            let _ = self.delete(Actor::World, &key, 0);
        }
    }

    // ---------------------------------------------------------------------------------------------- what happens

    pub(crate) fn power_off(&mut self, node: usize) {
        let now = self.age();
        let machine = &mut self.machines[node];
        machine.on = false;
        machine.synced = false;
        for body in self.bodies.values_mut().filter(|body| body.node == node) {
            body.live(now);
            body.kill(now, false);
        }
    }

    pub(crate) fn power_on(&mut self, node: usize) {
        let machine = &mut self.machines[node];
        if machine.on {
            return;
        }
        machine.on = true;
        (machine.kubelet, machine.connected, machine.renewed) = (true, true, None);
        for body in self.bodies.values_mut().filter(|body| body.node == node) {
            body.begin_anew();
        }
    }

    /// Its kubelet starts again: it knows nothing but what runs.
    pub(crate) fn restart_kubelet(&mut self, node: usize) {
        let machine = &mut self.machines[node];
        (machine.kubelet, machine.synced, machine.renewed) = (true, false, None);
    }

    pub(crate) fn mend(&mut self, node: usize) {
        let machine = &mut self.machines[node];
        if !machine.connected {
            (machine.connected, machine.renewed) = (true, None);
        }
    }

    pub(crate) fn lose_sandbox(&mut self, uid: &str) {
        let now = self.age();
        if let Some(body) = self.bodies.get_mut(uid)
            && body.terminal.is_none()
            && body.must_end.is_none()
            && !body.waiter.is_empty()
        {
            body.live(now);
            body.kill(now, true);
            body.begin_anew();
        }
    }
}

fn body_of(pod: &Value, node: usize) -> Body {
    let text = |path: &str| pod.pointer(path).and_then(Value::as_str).unwrap_or_default();
    let policy = match text("/spec/restartPolicy") {
        "Never" => Policy::Never,
        "OnFailure" => Policy::OnFailure,
        _ => Policy::Always,
    };
    let numbers: Vec<u64> = pod["metadata"]["annotations"][HABITS]
        .as_str()
        .unwrap_or("1,5,0")
        .split(',')
        .filter_map(|number| number.parse().ok())
        .collect();
    let habits = Habits {
        seconds: (numbers.first().copied().unwrap_or(1), numbers.get(1).copied().unwrap_or(5)),
        failures: numbers.get(2).and_then(|number| usize::try_from(*number).ok()).unwrap_or(0),
    };
    let uid = text("/metadata/uid");
    let mut body = Body::new(text("/metadata/name"), uid, node, policy, habits);
    let plan = plan_of(pod);
    body.takes = takes(pod, &plan);
    let names = |list: &str| -> Vec<String> {
        let list = pod["spec"][list].as_array();
        list.into_iter()
            .flatten()
            .filter_map(|container| container["name"].as_str())
            .map(str::to_owned)
            .collect()
    };
    let mut inits = names("initContainers");
    body.sidecar = inits.iter().any(|name| name == HOLD_CONTAINER);
    inits.retain(|name| name != WAITER_CONTAINER && name != HOLD_CONTAINER);
    body.init = inits.first().map(|name| Container::new(name, true));
    let everything = plan.section.is_everything() && body.init.is_none();
    body.apps = names("containers")
        .iter()
        .map(|name| Container::new(name, everything || plan.section.names_it(name)))
        .collect();
    body
}

/// What a stored pod takes part in.
pub(crate) fn plan_of(pod: &Value) -> PodPlan {
    let annotations = serde_json::from_value(pod["metadata"]["annotations"].clone()).unwrap_or_default();
    PodPlan::of(&annotations, job_of(pod).is_some())
}

/// UID of the Job that controls it.
pub(crate) fn job_of(pod: &Value) -> Option<&str> {
    let owners = pod["metadata"]["ownerReferences"].as_array();
    owners.into_iter().flatten().find(|owner| owner["kind"] == "Job").and_then(|owner| owner["uid"].as_str())
}

/// The same, with whose behalf it is on.
pub(crate) fn takes(pod: &Value, plan: &PodPlan) -> Vec<Taken> {
    let uid = pod["metadata"]["uid"].as_str().unwrap_or_default();
    let by = |by_job: bool| if by_job { job_of(pod).unwrap_or_default() } else { uid }.to_owned();
    plan.entries()
        .map(|entry| Taken { primitive: entry.primitive.clone(), role: entry.role, by: by(entry.by_job) })
        .collect()
}
