//! Facts: what matters of a pod and of a Job, read off one version of it.
//!
//! Pure. What must stay true: what is said here was so in that version; what is not understood is told apart from what is
//! not there.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use konductor_api::annotations::{self, FINALIZER};
use konductor_api::grammar;
use konductor_api::job_plan::JobPlan;
use konductor_api::ledger::{Evidence, ToldPod};
use konductor_api::members::MemberKey;
use konductor_api::options::Options;
use konductor_waiter::grant::{Grant, Verdict};

use crate::evidence::{self, End, WaiterRun};
use crate::gated::{self, Gated};
use crate::record::{COMPLETION_INDEX, PodRecord};
use crate::silence::Renewal;

/// What matters of a pod.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not the states of a machine")]
#[derive(Clone, Debug, PartialEq)]
pub struct PodFacts {
    /// Name.
    pub name: String,
    /// Identity.
    pub uid: String,
    /// Its deletion was asked for.
    pub deleting: bool,
    /// The node it is bound to.
    pub node: Option<String>,
    /// What is known of that node.
    pub node_state: NodeState,
    /// Our init container.
    pub waiter: WaiterRun,
    /// See [`evidence::critical_ids`].
    pub critical_ids: Vec<String>,
    /// What keeps it from taking a node.
    pub gated: Gated,
    /// Is our scheduling gate all that holds it? So it is where our waiter cannot run: on Windows.
    pub by_gate_alone: bool,
    /// Since when the scheduler finds no node for it, as far as it says.
    pub(crate) unschedulable: Option<Timestamp>,
    /// What it was told last.
    pub grant: Option<Grant>,
    /// Does it carry our finalizer?
    pub finalizer: bool,
    /// The last renewal of its hold by its sidecar.
    pub renewal: Option<Renewal>,
    /// For how long whoever looks has heard nothing of it, neither a renewal nor its node, on a clock of its own that stands
    /// still while the API server cannot be read. Zero where nobody counts.
    pub silent_for: SignedDuration,
    /// Completion index under an Indexed Job.
    pub index: Option<String>,
    /// Can all that it says about taking part be read and followed by this version? If not, nobody here may let it
    /// through: what is not understood would count as nothing to wait for.
    pub understood: bool,
    /// P0 or P1, which need no grant to refer to.
    pub terminal: Option<End>,
    /// For P2. Shared: there may be thousands, and a step looks at few of them that closely.
    pod: Arc<PodRecord>,
}

/// What is known of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeState {
    /// It is Ready, and its kubelet was heard from lately.
    Alive,
    /// It is not, which proves nothing.
    Silent,
    /// It is not Ready, and an administrator says by a taint that it is off (A1).
    OutOfService,
    /// Its object is gone, and was gone a quarantine ago, says the API server (A2).
    Gone,
}

/// What matters of a Job.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not the states of a machine")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobFacts {
    /// Identity.
    pub uid: String,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// When it was started; a Job that was suspended starts anew.
    pub started: Option<Timestamp>,
    /// Do pods of it run or start?
    pub active: bool,
    /// Condition `Complete`.
    pub complete: bool,
    /// Condition `Failed`, with its message.
    pub failed: Option<String>,
    /// `FailureTarget` or `SuccessCriteriaMet`: the Job is about to end.
    pub ending: bool,
    /// `spec.suspend`, and by whom.
    pub suspended: Suspended,
    /// Its deletion was asked for.
    pub deleting: bool,
    /// How many distinct successes complete it.
    pub needs: Needs,
}

/// Is a Job suspended? The field says so without saying by whom; our annotation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suspended {
    /// It runs, or may.
    No,
    /// Until it is its turn: it waits, and has no pods.
    ByUs,
    /// By its owner or a queue: it does not want to run, and so does not wait.
    ByOthers,
}

/// When a Job has what it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// So many pods that succeeded.
    Pods(usize),
    /// So many indexes of which a pod succeeded.
    Indexes(usize),
    /// It cannot be told from its pods: wait for the condition.
    Unknown,
}

/// The start of the run of a waiter that is none.
pub const NO_WAITER: Timestamp = Timestamp::UNIX_EPOCH;

/// A moment as the API server keeps it, to the second: what is finer would differ from what comes back.
pub(crate) fn to_the_second(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}

// ---------------------------------------------------------------------------------------------------- reading

impl PodFacts {
    /// Reads them off a pod. `node_state` is what the caller knows of the pod's node.
    pub fn of(pod: &Pod, node_state: impl Into<NodeState>) -> Self {
        Self::shared(&Arc::new(PodRecord::from(pod.clone())), node_state)
    }

    /// The same without a copy of the pod.
    pub fn shared(pod: &Arc<PodRecord>, node_state: impl Into<NodeState>) -> Self {
        let text = |key: &str| pod.metadata.annotations.as_ref().and_then(|map| map.get(key));
        Self {
            name: pod.metadata.name.clone().unwrap_or_default(),
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            deleting: pod.metadata.deletion_timestamp.is_some(),
            node: pod.node.clone(),
            node_state: node_state.into(),
            waiter: evidence::waiter_run(pod),
            critical_ids: evidence::critical_ids(pod),
            gated: pod.gated,
            by_gate_alone: gated::is_held_by_gate_alone(pod),
            unschedulable: pod.unschedulable_since(),
            grant: text(annotations::GRANT).and_then(|text| text.parse().ok()),
            finalizer: pod.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER),
            renewal: text(annotations::RENEWED).and_then(|text| text.parse().ok()),
            silent_for: SignedDuration::ZERO,
            index: text(COMPLETION_INDEX).cloned(),
            understood: is_understood(pod),
            terminal: evidence::end(pod, None),
            pod: Arc::clone(pod),
        }
    }

    /// The same, of which nothing was heard for so long.
    #[must_use]
    pub fn silent_for(self, silent_for: SignedDuration) -> Self {
        Self { silent_for, ..self }
    }

    /// Is its end proven, for the run that `told` admitted? What is more than terminal is so only of a run that has passed;
    /// of a thousand that have not, none needs a look at its pod.
    pub fn end(&self, told: Option<&ToldPod>) -> Option<End> {
        let passed = |told: &&ToldPod| matches!(self.waiter, WaiterRun::Passed { started_at, .. } if started_at == told.waiter_started_at.0);
        self.terminal.or_else(|| told.filter(passed).and_then(|told| evidence::end(&self.pod, Some(told))))
    }

    /// Does somebody vouch for its end, because its machine is off? The machine may come back: a waiter then finds its verdict
    /// withdrawn; where there is none, only a pod that is being deleted is started by nobody.
    pub fn attested(&self) -> Option<Evidence> {
        self.node.as_ref()?;
        if self.by_gate_alone && !self.deleting {
            return None;
        }
        match self.node_state {
            NodeState::OutOfService => Some(Evidence::A1),
            NodeState::Gone => Some(Evidence::A2),
            NodeState::Alive | NodeState::Silent => None,
        }
    }

    /// Is nothing of it left that could run, by whatever evidence?
    pub fn is_dead(&self) -> bool {
        self.terminal.is_some() || self.attested().is_some()
    }

    /// What a retry of this pod would come under: its index under an Indexed Job, its ordinal under a `StatefulSet`, else
    /// only its UID.
    pub fn member(&self) -> MemberKey {
        let owner =
            self.pod.metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
        let ordinal = |text: Option<&str>| text.and_then(|text| text.parse().ok());
        let indexed = owner.and_then(|owner| match (owner.kind.as_str(), owner.api_version.as_str()) {
            ("Job", "batch/v1") => Some((format!("job/{}", owner.name), ordinal(self.index.as_deref())?)),
            ("StatefulSet", "apps/v1") => {
                let own = self.name.strip_prefix(&owner.name)?.strip_prefix('-');
                Some((format!("statefulset/{}", owner.name), ordinal(own)?))
            }
            _ => None,
        });
        match indexed {
            Some((owner, index)) => MemberKey::Index(owner, index),
            None => MemberKey::Pod { name: self.name.clone(), uid: self.uid.clone() },
        }
    }

    /// The start of the waiter run that could be told something right now: it waits, on a node that is alive, nobody
    /// has asked for its deletion, and it is understood. A run that was told to skip will pass on that at any moment, and
    /// do nothing: what it were told later would stand for work that nobody does. Who has no waiter is told
    /// at its gate, as a run that started at [`NO_WAITER`], and goes on when the gate is lifted.
    pub fn can_be_told(&self) -> Option<Timestamp> {
        if self.by_gate_alone {
            return self.waits_at_our_gate().then_some(NO_WAITER);
        }
        match self.waiter {
            WaiterRun::Running(started_at)
                if self.node_state == NodeState::Alive
                    && !self.deleting
                    && self.understood
                    && self.terminal.is_none()
                    && !self.skips(started_at) =>
            {
                Some(started_at)
            }
            _ => None,
        }
    }

    /// Was that run of its waiter told to skip?
    fn skips(&self, started_at: Timestamp) -> bool {
        self.grant.as_ref().is_some_and(|grant| {
            grant.waiter_started_at == started_at.as_second() && matches!(grant.verdict, Verdict::Skip { .. })
        })
    }

    /// Does nothing but our scheduling gate keep it from taking a node? Then it may take what it waits for, and cannot be
    /// told so before its waiter runs.
    pub fn waits_at_our_gate(&self) -> bool {
        self.gated == Gated::ByUs
            && self.node.is_none()
            && !self.deleting
            && self.understood
            && self.terminal.is_none()
    }

    /// Was it let through, and is it over or on its way?
    pub const fn has_passed(&self) -> bool {
        if self.by_gate_alone { !self.gated.by_us() } else { matches!(self.waiter, WaiterRun::Passed { .. }) }
    }

    /// The highest run that it was ever told.
    pub fn last_run(&self) -> u64 {
        self.grant.as_ref().map_or(0, |grant| grant.run)
    }

    /// The object version these facts were read off.
    pub fn object(&self) -> &PodRecord {
        &self.pod
    }
}

/// A later version may know annotations and markers that this one does not. A marker without its Job (which was deleted
/// and left the pod behind) names what nobody takes any more. A pod has one critical section, whoever takes part.
fn is_understood(pod: &PodRecord) -> bool {
    let Some(all) = &pod.metadata.annotations else { return true };
    let of_job = pod.metadata.owner_references.iter().flatten().any(|owner| {
        owner.controller == Some(true) && owner.kind == "Job" && owner.api_version == "batch/v1"
    });
    let Ok(own) = grammar::parse(all, "") else { return false };
    let Some(marker) = all.get(annotations::JOB_PLAN) else { return true };
    let agrees = |job: JobPlan| own.set.is_empty() || own.section == job.section;
    of_job && marker.parse::<JobPlan>().is_ok_and(agrees)
}

impl From<bool> for NodeState {
    fn from(alive: bool) -> Self {
        if alive { Self::Alive } else { Self::Silent }
    }
}

impl JobFacts {
    /// Reads them off a Job.
    pub fn of(job: &Job) -> Self {
        let condition = |type_: &str| {
            job.status
                .iter()
                .flat_map(|status| status.conditions.iter().flatten())
                .find(|condition| condition.type_ == type_ && condition.status == "True")
        };
        Self {
            uid: job.metadata.uid.clone().unwrap_or_default(),
            created: job.metadata.creation_timestamp.as_ref().map(|time| time.0),
            started: job.status.as_ref().and_then(|status| status.start_time.as_ref()).map(|time| time.0),
            active: job.status.as_ref().and_then(|status| status.active).unwrap_or(0) > 0,
            complete: condition("Complete").is_some(),
            failed: condition("Failed").map(|condition| condition.message.clone().unwrap_or_default()),
            ending: condition("FailureTarget").or_else(|| condition("SuccessCriteriaMet")).is_some(),
            suspended: Suspended::of(job),
            deleting: job.metadata.deletion_timestamp.is_some(),
            needs: needs(job),
        }
    }

    /// When its time is up: it waits from its queue stamp on, but not while others keep it suspended.
    pub fn deadline(&self, options: &Options, since: Timestamp) -> Option<Timestamp> {
        if self.suspended == Suspended::ByOthers {
            return None;
        }
        options.deadline(self.started.map_or(since, |started| started.max(since)))
    }

    /// Complete or Failed.
    pub const fn is_over(&self) -> bool {
        self.complete || self.failed.is_some()
    }
}

impl Suspended {
    /// Reads it off a Job.
    fn of(job: &Job) -> Self {
        let ours =
            job.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(annotations::SUSPENDED));
        match job.spec.as_ref().and_then(|spec| spec.suspend) {
            Some(true) if ours => Self::ByUs,
            Some(true) => Self::ByOthers,
            _ => Self::No,
        }
    }
}

fn needs(job: &Job) -> Needs {
    let Some(spec) = &job.spec else { return Needs::Unknown };
    // A success policy may end it earlier or otherwise; without completions any success does, and the others finish.
    let Some(completions) = spec.completions.filter(|_| spec.success_policy.is_none()) else {
        return Needs::Unknown;
    };
    match usize::try_from(completions) {
        // A Job of zero completions has nothing to prove; its condition comes at once.
        Err(_) | Ok(0) => Needs::Unknown,
        Ok(completions) if spec.completion_mode.as_deref() == Some("Indexed") => Needs::Indexes(completions),
        Ok(completions) => Needs::Pods(completions),
    }
}
