//! The world: an API server with compare-and-swap, and who writes to it besides the operators and the kubelets.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;
use std::rc::Rc;

use konductor_api::annotations::{GATE, GRANT, JOB_PLAN, MUTEX, SCHEDULING_GATE};
use konductor_api::gate::{Gate, GatePhase, GateState, GateStatus};
use konductor_api::job_plan::JobPlan;
use konductor_api::mutex::{Mutex, MutexStatus};
use konductor_api::options::Hold;
use konductor_api::participation::{Kind, PodPlan, PrimitiveSet};
use konductor_primitives::facts::PodFacts;
use konductor_primitives::queue::QueueKey;
use konductor_waiter::grant::{Grant, Verdict};

use super::super::support::{JobSketch, PodSketch, gate, job, mutex, pod, uid};
use super::Flaw;
use super::kubelet::Kubelet;
use super::truth::{Broken, Checked, broken};

/// A Job as its controller keeps it.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not the states of a machine")]
#[derive(Clone, Debug)]
pub(super) struct SimJob {
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) plan: PrimitiveSet,
    created: i64,
    completions: usize,
    parallelism: usize,
    restarts_failures: bool,
    gated: bool,
    pub(super) suspended: bool,
    pub(super) complete: bool,
    pub(super) failed: bool,
    succeeded: BTreeSet<String>,
    failures: BTreeSet<String>,
    made: usize,
}

impl SimJob {
    pub(super) fn is_over(&self) -> bool {
        self.complete || self.failed
    }

    pub(super) fn sketch(&self) -> JobSketch {
        let mut sketch = job(&self.name).completions(Some(i32::try_from(self.completions).unwrap()));
        if self.uid != uid(&self.name) {
            sketch = sketch.made_again();
        }
        if self.suspended {
            sketch = sketch.suspended();
        }
        if self.complete {
            sketch = sketch.complete();
        }
        if self.failed {
            sketch = sketch.failed();
        }
        sketch
    }

    pub(super) fn key(&self) -> QueueKey {
        QueueKey::new(0, super::super::support::at(self.created), None, &self.uid)
    }
}

/// One version of a pod. What is read off it is read once.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) sketch: PodSketch,
    pub(super) plan: PodPlan,
    pub(super) job_uid: Option<String>,
    facts: [OnceCell<PodFacts>; 2],
}

impl Stored {
    pub(super) fn new(sketch: PodSketch) -> Rc<Self> {
        let metadata = &sketch.object().metadata;
        let job_uid = metadata.owner_references.iter().flatten().next().map(|owner| uid(&owner.name));
        let plan = PodPlan::of(metadata.annotations.as_ref().unwrap(), job_uid.is_some());
        Rc::new(Self { sketch, plan, job_uid, facts: [OnceCell::new(), OnceCell::new()] })
    }

    pub(super) fn facts(&self, node_alive: bool) -> &PodFacts {
        self.facts[usize::from(node_alive)].get_or_init(|| PodFacts::of(self.sketch.object(), node_alive))
    }
}

impl Deref for Stored {
    type Target = PodSketch;

    fn deref(&self) -> &PodSketch {
        &self.sketch
    }
}

/// What an API server stores, or what somebody has seen of it.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) pods: BTreeMap<String, Rc<Stored>>,
    pub(super) jobs: BTreeMap<String, SimJob>,
    pub(super) gate: Gate,
    pub(super) mutexes: BTreeMap<String, Mutex>,
    pub(super) alive: [bool; 2],
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) api: View,
    pub(super) kubelets: BTreeMap<String, Kubelet>,
    pub(super) connected: [bool; 2],
    pub(super) flaw: Flaw,
    revision: u64,
    milliseconds: i64,
    offset: [i64; 2],
    /// Who takes part: by pod, in which mutex, as whom. It stays true when a Job lets go of its pods.
    pub(super) takers: BTreeMap<String, Vec<(String, String)>>,
    pub(super) behind_gate: BTreeSet<String>,
    /// (mutex, pod UID, start of the waiter) of every entry that was ever committed.
    ever_listed: BTreeSet<(String, String, i64)>,
    pub(super) highest_token: BTreeMap<String, u64>,
    pub(super) gate_was_open: bool,
    completed: BTreeSet<String>,
    pub(super) passes: BTreeMap<String, u64>,
    pub(super) has_gates: bool,
}

/// Everything that is fixed about one story.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scenario {
    pub(super) completions: usize,
    pub(super) parallelism: usize,
    /// Who waits at our scheduling gate: of the three pods, and of the pods of the two Jobs, a bit each.
    pub(super) gates: u8,
}

const OUR_GATE: [&str; 1] = [SCHEDULING_GATE];

pub(super) const PREP: &str = "prep";

impl World {
    pub(super) fn new(scenario: Scenario, flaw: Flaw) -> Self {
        let named = |name: &str| {
            let mut mutex = mutex(Vec::new());
            mutex.metadata.name = Some(name.to_owned());
            mutex.status = None;
            (name.to_owned(), mutex)
        };
        let mut world = Self {
            api: View {
                pods: BTreeMap::new(),
                jobs: BTreeMap::new(),
                gate: gate(&[(PREP, GateState::Complete)]),
                mutexes: [named("a"), named("b")].into(),
                alive: [true; 2],
            },
            kubelets: BTreeMap::new(),
            connected: [true; 2],
            flaw,
            revision: 100,
            milliseconds: 0,
            offset: [0, 7],
            takers: BTreeMap::new(),
            behind_gate: BTreeSet::new(),
            ever_listed: BTreeSet::new(),
            highest_token: BTreeMap::new(),
            gate_was_open: false,
            completed: BTreeSet::new(),
            passes: BTreeMap::new(),
            has_gates: scenario.gates != 0,
        };
        let gated = |bit: u8, sketch: PodSketch| {
            if scenario.gates >> bit & 1 == 1 { sketch.gates(&OUR_GATE) } else { sketch }
        };
        // First in the queue, and never anywhere: it must block nobody.
        let nowhere = gated(0, pod("nowhere").without_node().annotation(MUTEX, "a"));
        world.add_pod(nowhere, 1, false, None, 0);
        world.add_pod(gated(1, pod("one").annotation(MUTEX, "a")), 1, false, None, 1);
        let both = pod("both").policy("OnFailure").with_container("web").annotation(MUTEX, "a,b");
        world.add_pod(gated(2, both.annotation(GATE, "ready")), 2, true, None, 2);
        world.add_job("once", "v1 mutex=a", scenario.completions, scenario.parallelism, false);
        world.add_job("retry", "v1 mutex=b", 1, 1, true);
        world.add_job(PREP, "v1", 1, 1, false);
        for (bit, job) in [(3, "once"), (4, "retry")] {
            world.api.jobs.get_mut(job).unwrap().gated = scenario.gates >> bit & 1 == 1;
        }
        world
    }

    pub(super) fn second(&self) -> i64 {
        self.milliseconds / 1000
    }

    pub(super) fn pass_time(&mut self, milliseconds: i64) {
        self.milliseconds += milliseconds;
    }

    pub(super) fn clock(&self, node: usize) -> i64 {
        self.second() + self.offset[node]
    }

    pub(super) fn step_clock_back(&mut self, node: usize) {
        self.offset[node] -= 30;
    }

    fn next_revision(&mut self) -> u64 {
        self.revision += 1;
        self.revision
    }

    // ------------------------------------------------------------------------------------------------ pods

    fn add_pod(
        &mut self,
        sketch: PodSketch,
        containers: usize,
        restarts_failures: bool,
        by_job: Option<&SimJob>,
        node: usize,
    ) {
        let object = sketch.object();
        let name = object.metadata.name.clone().unwrap();
        let pod_uid = object.metadata.uid.clone().unwrap();
        let plan = PodPlan::of(object.metadata.annotations.as_ref().unwrap(), true);
        let taken = plan.entries().filter(|entry| entry.primitive.kind == Kind::Mutex).map(|entry| {
            let taker = if entry.by_job { by_job.unwrap().uid.clone() } else { pod_uid.clone() };
            (entry.primitive.name.clone(), taker)
        });
        self.takers.insert(name.clone(), taken.collect());
        if plan.entries().any(|entry| entry.primitive.kind == Kind::Gate) {
            self.behind_gate.insert(name.clone());
        }
        self.kubelets
            .insert(name.clone(), Kubelet::new(&name, pod_uid, node % 2, containers, restarts_failures));
        let (revision, second) = (self.next_revision(), self.second());
        let sketch = sketch.without_node().created(second).version(revision);
        self.api.pods.insert(name, Stored::new(sketch));
    }

    /// Writes a pod. A pod that is being deleted, bound to no kubelet that still has to speak and held by no finalizer
    /// goes.
    pub(super) fn store(&mut self, name: &str, sketch: PodSketch) {
        let revision = self.next_revision();
        let kubelet = &self.kubelets[name];
        let spoken = !kubelet.bound || (kubelet.terminal.is_some() && !kubelet.unpublished);
        if sketch.is_deleting() && spoken && !sketch.has_finalizer() {
            self.api.pods.remove(name);
        } else {
            self.api.pods.insert(name.to_owned(), Stored::new(sketch.version(revision)));
        }
    }

    pub(super) fn bind(&mut self, name: &str) {
        let kubelet = self.kubelets.get_mut(name).unwrap();
        kubelet.bound = true;
        let node = ["node-a", "node-b"][kubelet.node];
        let sketch = self.api.pods[name].sketch.clone().on_node(node).placed();
        self.store(name, sketch);
    }

    /// The scheduler says so.
    pub(super) fn find_no_room(&mut self, name: &str) {
        let sketch = self.api.pods[name].sketch.clone();
        if !sketch.has_no_room() {
            self.store(name, sketch.condition("PodScheduled", "False", "Unschedulable"));
        }
    }

    /// By an operator, from the version that it looked at.
    pub(super) fn lift_gate(&mut self, name: &str, version: &str) {
        if self.api.pods.get(name).is_some_and(|stored| stored.revision() == Some(version)) {
            self.remove_gate(name);
        }
    }

    /// By whomever: it is no lock.
    pub(super) fn remove_gate(&mut self, name: &str) {
        let sketch = self.api.pods[name].sketch.clone().gates(&[]);
        self.store(name, sketch);
    }

    pub(super) fn delete(&mut self, name: &str) {
        let sketch = self.api.pods[name].sketch.clone().deleting();
        self.store(name, sketch);
    }

    /// With no grace at all: only a finalizer keeps the object.
    pub(super) fn force_delete(&mut self, name: &str) {
        let sketch = self.api.pods[name].sketch.clone().deleting();
        if sketch.has_finalizer() {
            self.store(name, sketch);
        } else {
            self.api.pods.remove(name);
        }
    }

    /// What the pod garbage collector does: it does not look.
    pub(super) fn garbage_collect(&mut self, name: &str) {
        let sketch = self.api.pods[name].sketch.clone().phase("Failed");
        self.store(name, sketch);
    }

    pub(super) fn is_final(&self, name: &str) -> bool {
        self.api.pods[name].has_phase(&["Failed", "Succeeded"])
    }

    /// Patches a grant onto the version that was looked at.
    pub(super) fn patch(&mut self, name: &str, version: &str, grant: &Grant) -> Checked {
        let Some(sketch) = self.api.pods.get(name).map(|stored| stored.sketch.clone()) else { return Ok(()) };
        let same = sketch.revision() == Some(version);
        if self.kubelets[name].uid != grant.pod_uid || !(same || self.flaw == Flaw::PatchesAnyVersion) {
            return Ok(());
        }
        if grant.verdict == Verdict::Go {
            if sketch.is_deleting() && !sketch.has_finalizer() {
                return Ok(());
            }
            for (mutex, taker) in &self.takers[name] {
                if !self.lists(mutex, taker, &grant.pod_uid) {
                    return broken("LedgerBeforeGo", format!("{name} is told and {mutex} is not its own"));
                }
                let entry = (mutex.clone(), grant.pod_uid.clone(), grant.waiter_started_at);
                if !self.ever_listed.contains(&entry) {
                    return broken("LedgerBeforeGo", format!("{name} is told for {mutex}: {grant}"));
                }
            }
            if self.behind_gate.contains(name) && !self.gate_was_open {
                return broken("NoEarlyPass", format!("{name} is told before its gate was open"));
            }
        }
        let finalizer =
            sketch.has_finalizer() || (grant.verdict == Verdict::Go && !self.takers[name].is_empty());
        let sketch = sketch.annotation(GRANT, &grant.to_string());
        self.store(name, if finalizer { sketch.with_finalizer() } else { sketch });
        Ok(())
    }

    pub(super) fn lift_finalizer(&mut self, name: &str, version: &str) {
        let Some(sketch) = self.api.pods.get(name).map(|stored| stored.sketch.clone()) else { return };
        if sketch.revision() == Some(version) {
            self.store(name, sketch.without_finalizer());
        }
    }

    // -------------------------------------------------------------------------------------------------- Jobs

    fn add_job(&mut self, name: &str, plan: &str, completions: usize, parallelism: usize, restarts: bool) {
        let again = self.completed.contains(&uid(name)) || self.api.jobs.contains_key(name);
        let fresh = SimJob {
            name: name.to_owned(),
            uid: if again { format!("{}-again", uid(name)) } else { uid(name) },
            plan: plan.parse().unwrap(),
            created: self.second(),
            completions,
            parallelism,
            restarts_failures: restarts,
            gated: false,
            suspended: false,
            complete: false,
            failed: false,
            succeeded: BTreeSet::new(),
            failures: BTreeSet::new(),
            made: 0,
        };
        self.api.jobs.insert(name.to_owned(), fresh);
    }

    /// The Job that the gate looks at ends, one way or the other.
    pub(super) fn finish_prep(&mut self, complete: bool) {
        let prep = self.api.jobs.get_mut(PREP).unwrap();
        (prep.complete, prep.failed) = (complete, !complete);
        if complete {
            self.completed.insert(prep.uid.clone());
        }
    }

    /// Somebody deletes it and creates it again.
    pub(super) fn make_prep_again(&mut self) {
        self.add_job(PREP, "v1", 1, 1, false);
    }

    pub(super) fn pods_of(&self, job: &str) -> Vec<String> {
        let of_job = |stored: &Stored| {
            stored.object().metadata.owner_references.iter().flatten().any(|owner| owner.name == job)
        };
        self.api.pods.iter().filter(|(_, stored)| of_job(stored)).map(|(name, _)| name.clone()).collect()
    }

    /// The Job controller does one round.
    pub(super) fn control(&mut self, name: &str) {
        let mut job = self.api.jobs[name].clone();
        if job.is_over() || job.plan.is_empty() {
            return;
        }
        let mut active = 0;
        for pod in self.pods_of(name) {
            let sketch = &self.api.pods[&pod];
            if sketch.has_phase(&["Succeeded"]) {
                job.succeeded.insert(pod);
            } else if sketch.has_phase(&["Failed"]) {
                job.failures.insert(pod);
            } else if !sketch.is_deleting() {
                if job.suspended {
                    self.delete(&pod);
                } else {
                    active += 1;
                }
            }
        }
        if job.succeeded.len() >= job.completions && active == 0 {
            job.complete = true;
        } else if job.failures.len() > 4 && active == 0 {
            job.failed = true;
        }
        let wanted = job.parallelism.min(job.completions.saturating_sub(job.succeeded.len()));
        if !job.is_over() && !job.suspended && active < wanted {
            // The replacement of a pod that still terminates comes at once.
            let pod_name = format!("{name}-{}", job.made);
            job.made += 1;
            let policy = if job.restarts_failures { "OnFailure" } else { "Never" };
            let hold = if job.gated { Hold::SchedulingGate } else { Hold::InitContainer };
            let plan = JobPlan { set: job.plan.clone(), hold, ..JobPlan::default() };
            let sketch = pod(&pod_name).policy(policy).of_job(name).annotation(JOB_PLAN, &plan.to_string());
            let sketch = if job.gated { sketch.gates(&OUR_GATE) } else { sketch };
            self.add_pod(sketch, 1, job.restarts_failures, Some(&job), job.made);
        }
        self.api.jobs.insert(name.to_owned(), job);
    }

    /// Its pods go with it, or are let go of.
    pub(super) fn delete_job(&mut self, name: &str, orphan: bool) {
        self.api.jobs.remove(name);
        for pod in self.pods_of(name) {
            if orphan {
                let sketch = self.api.pods[&pod].sketch.clone().orphaned();
                self.store(&pod, sketch);
            } else {
                self.delete(&pod);
            }
        }
    }

    // ---------------------------------------------------------------------------------------------- ledgers

    /// One compare-and-swap. `Ok(false)`: somebody else was faster.
    pub(super) fn swap_mutex(&mut self, base: &Mutex, status: &MutexStatus) -> Result<bool, Broken> {
        let name = base.metadata.name.clone().unwrap();
        let now = &self.api.mutexes[&name];
        if now.metadata.resource_version != base.metadata.resource_version
            && self.flaw != Flaw::OverwritesLedgers
        {
            return Ok(false);
        }
        let before = now.status.clone().unwrap_or_default();
        self.check_mutex(&name, &before, status)?;
        let revision = self.next_revision();
        let stored = self.api.mutexes.get_mut(&name).unwrap();
        stored.status = Some(status.clone());
        stored.metadata.resource_version = Some(revision.to_string());
        for holder in &status.ledger.holders {
            for told in &holder.pods {
                self.ever_listed.insert((
                    name.clone(),
                    told.uid.clone(),
                    told.waiter_started_at.0.as_second(),
                ));
            }
        }
        Ok(true)
    }

    pub(super) fn swap_gate(&mut self, base: &Gate, status: &GateStatus) -> Result<bool, Broken> {
        if self.api.gate.metadata.resource_version != base.metadata.resource_version {
            return Ok(false);
        }
        let met = status.condition_statuses.iter().filter_map(|known| known.uid.as_ref());
        if status.phase == Some(GatePhase::Open) && !met.clone().all(|uid| self.completed.contains(uid)) {
            return broken("GateSound", format!("open by {:?}", met.collect::<Vec<_>>())).map(|()| true);
        }
        if self.gate_was_open && status.phase != Some(GatePhase::Open) {
            return broken("LatchFinal", "an open gate closes").map(|()| true);
        }
        self.gate_was_open |= status.phase == Some(GatePhase::Open);
        let revision = self.next_revision();
        self.api.gate.status = Some(status.clone());
        self.api.gate.metadata.resource_version = Some(revision.to_string());
        Ok(true)
    }
}
