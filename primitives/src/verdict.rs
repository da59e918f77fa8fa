//! The verdict: what a pod, or a Job, is told, from what was committed.
//!
//! Pure, and idempotent: the same committed objects and the same pod give the same verdict, and nothing once the pod
//! carries it. What must stay true: `go` only when every entry of the pod's plan is satisfied by an object that the
//! API server returned (`SetOrder`), and only to the run of the waiter that the ledger names (`NoUnguardedStart`,
//! `LedgerBeforeGo`); a verdict that is final for a run is never changed except to `released`.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use konductor_api::conditions::reason;
use konductor_api::grammar;
use konductor_api::members::MemberKey;
use konductor_api::options::{OnBusy, OnTimeout, Options};
use konductor_api::participation::{PodPlan, PrimitiveRef, PrimitiveSet, Role};
use konductor_waiter::grant::{BUSY, Grant, NEVER, TIMED_OUT, Verdict};

use crate::committed::{Committed, entrance};
use crate::entrance::{Asker, Entrance};
use crate::facts::{JobFacts, PodFacts, Suspended};
use crate::queue::QueueKey;
use crate::step::Withdrawal;

const ALL_ITS_OWN: &str = "everything it waits for is open or its own";

/// Somebody who takes part, whatever in.
#[derive(Clone, Debug)]
pub struct Who {
    /// Identity.
    pub uid: String,
    /// What a retry would come under.
    pub member: MemberKey,
    /// Since when it waits.
    pub since: Timestamp,
    /// When its time is up.
    pub deadline: Option<Timestamp>,
    /// How it waits.
    pub options: Options,
}

/// What follows for one pod.
#[derive(Clone, Debug, PartialEq)]
pub enum Telling {
    /// Nothing: it knows already, or it cannot be told now.
    Nothing,
    /// It waits for that entry; a sentence for people.
    Wait(Wait),
    /// It may start: go, or skip if what it would do once has been done.
    Go {
        /// The verdict.
        grant: Grant,
        /// Place in the plan, and the token of what is held there.
        tokens: Vec<(usize, String)>,
    },
    /// It may never start.
    Deny {
        /// The verdict.
        grant: Grant,
    },
    /// It has waited long enough at our scheduling gate. Once its waiter runs it is told what there is to tell.
    Lift {
        /// A sentence: why.
        message: String,
    },
}

/// Why a pod waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// For what.
    pub primitive: PrimitiveRef,
    /// One of [`reason`].
    pub reason: &'static str,
    /// A sentence: for what, in which place, who holds it.
    pub message: String,
}

/// What follows for a Job that takes part itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobTelling {
    /// Nothing.
    Nothing,
    /// It is suspended by us, and waits for that entry; who waits otherwise has pods that say so.
    Wait(Wait),
    /// It is suspended by us, and has waited long enough. Its pods are told what there is to tell, each when it runs.
    Resume {
        /// A sentence: why.
        message: String,
    },
    /// It is to fail.
    Fail {
        /// One of [`reason`].
        reason: &'static str,
        /// A sentence.
        message: String,
    },
    /// It is to be completed without having run.
    Skip {
        /// A sentence.
        message: String,
    },
}

/// What becomes of somebody before a closed entrance.
enum Patience {
    Waits,
    GoesOn,
    Fails { code: u8, reason: &'static str, message: String },
    Skips { message: String },
}

// -------------------------------------------------------------------------------------------------- entrances

/// Has it what it wants there, so that it may turn to what comes next?
pub fn has_reached(
    committed: Committed<'_>,
    primitive: &PrimitiveRef,
    role: Role,
    who: &Who,
    now: Timestamp,
) -> bool {
    match entrance(committed, &who.asks(primitive, role, now)) {
        Entrance::Through | Entrance::Held { .. } => true,
        Entrance::Closed { message, busy, .. } if role.waits() => {
            matches!(who.patience(busy, &message, now), Patience::GoesOn)
        }
        _ => false,
    }
}

impl Who {
    /// A Job.
    pub fn job(job: &Job) -> Self {
        let options = job
            .metadata
            .annotations
            .as_ref()
            .and_then(|all| grammar::parse(all, "").ok())
            .map(|parsed| parsed.options)
            .unwrap_or_default();
        Self {
            uid: job.metadata.uid.clone().unwrap_or_default(),
            member: MemberKey::Job(job.metadata.name.clone().unwrap_or_default()),
            since: QueueKey::of(&job.metadata, 0).since(),
            deadline: JobFacts::of(job).deadline(&options, QueueKey::of(&job.metadata, 0).since()),
            options,
        }
    }

    /// A Job of which no more is known: its time is never up.
    pub fn unseen_job(name: &str, uid: &str) -> Self {
        Self {
            uid: uid.to_owned(),
            member: MemberKey::Job(name.to_owned()),
            since: Timestamp::MAX,
            deadline: None,
            options: Options::default(),
        }
    }

    /// A pod that takes part itself.
    pub fn pod(pod: &PodFacts, plan: &PodPlan) -> Self {
        let since = QueueKey::of(&pod.object().metadata, 0).since();
        Self {
            uid: pod.uid.clone(),
            member: pod.member(),
            since,
            deadline: plan.options.deadline(since),
            options: plan.options,
        }
    }

    pub(crate) fn asks<'a>(&'a self, primitive: &'a PrimitiveRef, role: Role, now: Timestamp) -> Asker<'a> {
        Asker {
            primitive,
            role,
            uid: &self.uid,
            member: &self.member,
            since: self.since,
            pod: None,
            place: None,
            now,
        }
    }

    /// Goes on waiting, or not.
    fn patience(&self, busy: bool, message: &str, now: Timestamp) -> Patience {
        let overdue = self.deadline.is_some_and(|deadline| deadline <= now);
        let timed_out = || {
            let timeout = self.options.timeout.map(|timeout| timeout.to_string()).unwrap_or_default();
            format!("{timeout} are over, and it still {message}")
        };
        match (overdue, self.options.on_timeout, busy, self.options.on_busy) {
            (true, OnTimeout::Proceed, ..) => Patience::GoesOn,
            (true, OnTimeout::Skip, ..) => Patience::Skips { message: timed_out() },
            (true, OnTimeout::Fail, ..) => {
                Patience::Fails { code: TIMED_OUT, reason: reason::JOB_TIMED_OUT, message: timed_out() }
            }
            (false, _, true, OnBusy::Skip) => Patience::Skips {
                message: format!("it would have to wait, and does not want to: it {message}"),
            },
            (false, _, true, OnBusy::Fail) => Patience::Fails {
                code: BUSY,
                reason: reason::JOB_BUSY,
                message: format!("it would have to wait, and does not want to: it {message}"),
            },
            _ => Patience::Waits,
        }
    }
}

// ------------------------------------------------------------------------------------------------------- pods

/// What to tell this pod. `job` is the Job that controls it; `committed` gives each primitive as it was committed;
/// `place` says which place in the queue of a primitive a participant's UID has, if that is known.
pub fn telling<'a>(
    pod: &PodFacts,
    plan: &PodPlan,
    job: Option<&Who>,
    committed: impl Fn(&PrimitiveRef) -> Committed<'a>,
    place: impl Fn(&PrimitiveRef, &str) -> Option<(usize, usize)>,
    now: Timestamp,
) -> Telling {
    let waiter_started_at = pod.can_be_told();
    if plan.is_empty() || waiter_started_at.is_none() && !pod.waits_at_our_gate() {
        return Telling::Nothing;
    }
    let of_this_run =
        |grant: &&Grant| Some(grant.waiter_started_at) == waiter_started_at.map(Timestamp::as_second);
    let known = pod.grant.as_ref().filter(of_this_run);
    // Nobody is told anything before its waiter runs: a pod at our gate takes a node, and is told there.
    let deny = |code, message| match waiter_started_at {
        Some(started_at) => Telling::Deny { grant: deny(pod, started_at, code, message) },
        None => Telling::Lift { message },
    };
    if known.is_some_and(|grant| matches!(grant.verdict, Verdict::Deny { .. })) {
        return Telling::Nothing;
    }
    let own = Who::pod(pod, plan);
    let (mut wait, mut verdict) = (None, Verdict::Go);
    let (mut tokens, mut highest_run) = (Vec::new(), None);
    for entry in plan.entries() {
        let who = match job {
            Some(job) if entry.by_job => job,
            // Whose Job is gone is told nothing on its behalf.
            None if entry.by_job => return Telling::Nothing,
            _ => &own,
        };
        let mut asker = who.asks(entry.primitive, entry.role, now);
        asker.pod = waiter_started_at.map(|started_at| (pod.uid.as_str(), started_at));
        asker.place = place(entry.primitive, &who.uid);
        let waits = match entrance(committed(entry.primitive), &asker) {
            Entrance::Through => None,
            Entrance::Held { run, token } => {
                tokens.push((entry.place, token));
                highest_run = highest_run.max(Some(run));
                None
            }
            // Whatever else it waits for: this one never comes. A Job is told through its own status.
            Entrance::Never { message } if !entry.by_job => {
                return deny(NEVER, message);
            }
            Entrance::Never { message } => Some((reason::DENIED, message)),
            // A pod starts all the same, and its wrapped containers end at once.
            Entrance::Done { message } if !entry.by_job => {
                verdict = Verdict::Skip { reason: message };
                None
            }
            Entrance::Next { message } | Entrance::Done { message } => Some((reason::WAITING, message)),
            // It becomes a member on its own; nobody is in its way.
            Entrance::Closed { reason, message, .. } if !entry.role.waits() => Some((reason, message)),
            Entrance::Closed { reason, message, busy } => match who.patience(busy, &message, now) {
                Patience::GoesOn => None,
                Patience::Fails { code, message, .. } if !entry.by_job => {
                    return deny(code, message);
                }
                Patience::Waits | Patience::Fails { .. } | Patience::Skips { .. } => Some((reason, message)),
            },
        };
        if let Some((reason, message)) = waits {
            wait.get_or_insert_with(|| Wait { primitive: entry.primitive.clone(), reason, message });
        }
    }
    if let Some(wait) = wait {
        return Telling::Wait(wait);
    }
    let Some(waiter_started_at) = waiter_started_at else {
        return Telling::Lift { message: ALL_ITS_OWN.to_owned() };
    };
    // Where nothing is held there is no ledger to count runs: the pod's own annotation does.
    let told_go = |grant: &&Grant| grant.verdict.opens() && highest_run.is_none_or(|run| run <= grant.run);
    if known.as_ref().is_some_and(told_go) {
        // It carries the finalizer now, so that it cannot vanish unseen.
        return if pod.by_gate_alone {
            Telling::Lift { message: ALL_ITS_OWN.to_owned() }
        } else {
            Telling::Nothing
        };
    }
    let run = highest_run.unwrap_or_else(|| pod.last_run().saturating_add(1));
    if run <= pod.last_run() {
        // The ledger is behind what the pod was told; the next step raises its number.
        return Telling::Nothing;
    }
    Telling::Go { grant: grant(pod, run, waiter_started_at.as_second(), verdict), tokens }
}

fn deny(pod: &PodFacts, waiter_started_at: Timestamp, code: u8, reason: String) -> Grant {
    let run = pod.last_run().saturating_add(1);
    grant(pod, run, waiter_started_at.as_second(), Verdict::Deny { code, reason })
}

fn grant(pod: &PodFacts, run: u64, waiter_started_at: i64, verdict: Verdict) -> Grant {
    Grant { pod_uid: pod.uid.clone(), run, waiter_started_at, verdict }
}

/// The grant that takes back what this pod was told, or was to be told.
pub fn withdrawn(pod: &PodFacts, withdrawal: &Withdrawal) -> Grant {
    match &pod.grant {
        Some(told) if told.run >= withdrawal.run => Grant { verdict: Verdict::Released, ..told.clone() },
        _ => grant(pod, withdrawal.run, withdrawal.waiter_started_at, Verdict::Released),
    }
}

// ------------------------------------------------------------------------------------------------------- Jobs

/// What to tell a Job that waits itself. Nothing any more once one of its pods was let through, and nothing while others
/// keep it suspended: it does not wait then. `place` as for [`telling`].
pub fn telling_job<'a>(
    job: &Who,
    suspended: Suspended,
    set: &PrimitiveSet,
    pods: &[PodFacts],
    committed: impl Fn(&PrimitiveRef) -> Committed<'a>,
    place: impl Fn(&PrimitiveRef, &str) -> Option<(usize, usize)>,
    now: Timestamp,
) -> JobTelling {
    let told =
        |pod: &PodFacts| pod.has_passed() || pod.grant.as_ref().is_some_and(|grant| grant.verdict.opens());
    if suspended == Suspended::ByOthers || pods.iter().any(told) {
        return JobTelling::Nothing;
    }
    let mut wait = None;
    for part in set.entries() {
        let mut asker = job.asks(&part.primitive, part.role, now);
        asker.place = place(&part.primitive, &job.uid);
        let (reason, message) = match entrance(committed(&part.primitive), &asker) {
            Entrance::Through | Entrance::Held { .. } | Entrance::Next { .. } => continue,
            Entrance::Closed { reason, message, .. } if !part.role.waits() => (reason, message),
            Entrance::Never { message } => return JobTelling::Fail { reason: reason::JOB_DENIED, message },
            Entrance::Done { message } => return JobTelling::Skip { message },
            Entrance::Closed { reason, message, busy } => match job.patience(busy, &message, now) {
                Patience::GoesOn => continue,
                Patience::Waits => (reason, message),
                Patience::Fails { reason, message, .. } => return JobTelling::Fail { reason, message },
                Patience::Skips { message } => return JobTelling::Skip { message },
            },
        };
        wait.get_or_insert_with(|| Wait { primitive: part.primitive.clone(), reason, message });
    }
    match (suspended, wait) {
        (Suspended::ByUs, Some(wait)) => JobTelling::Wait(wait),
        (Suspended::ByUs, None) => JobTelling::Resume { message: ALL_ITS_OWN.to_owned() },
        _ => JobTelling::Nothing,
    }
}
