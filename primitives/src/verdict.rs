//! The verdict: what a pod, or a Job, is told, from what was committed.
//!
//! Pure, and idempotent: the same committed objects and the same pod give the same verdict, and nothing once the pod
//! carries it. What must stay true: `go` only when every entry of the pod's plan is satisfied by an object that the
//! API server returned (`SetOrder`), and only to the run of the waiter that the ledger names (`NoUnguardedStart`,
//! `LedgerBeforeGo`); a verdict that is final for a run is never changed except to `released`.

use jiff::Timestamp;
use konductor_api::conditions::{OPEN, reason};
use konductor_api::gate::{Gate, GatePhase};
use konductor_api::mutex::Mutex;
use konductor_api::participation::{Entry, PodPlan, PrimitiveRef};
use konductor_waiter::grant::{Grant, NEVER_OPENS, Verdict};

use crate::snapshot::PodFacts;

/// A primitive as the API server has it.
#[derive(Clone, Copy, Debug)]
pub enum Committed<'a> {
    /// There is none of that name.
    Missing,
    /// A gate.
    Gate(&'a Gate),
    /// A mutex.
    Mutex(&'a Mutex),
}

/// What follows for one pod.
#[derive(Clone, Debug, PartialEq)]
pub enum Telling {
    /// Nothing: it knows already, or it cannot be told now.
    Nothing,
    /// It waits for that entry; a sentence for people.
    Wait(Wait),
    /// It may start.
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

/// Where one entry of a plan stands.
enum Entrance {
    /// Through, holding nothing.
    Through,
    /// In the ledger, and this run of the waiter is the one that it names.
    Held { run: u64, token: String },
    /// Not yet.
    Closed { reason: &'static str, message: String },
    /// Never.
    Never { message: String },
}

// ------------------------------------------------------------------------------------------------------- pods

/// What to tell this pod. `job_uid` is the UID of the Job that controls it; `committed` gives each primitive as it was
/// committed; `place` says which place in the queue of a primitive a participant's UID has, if that is known.
pub fn telling<'a>(
    pod: &PodFacts,
    plan: &PodPlan,
    job_uid: Option<&str>,
    committed: impl Fn(&PrimitiveRef) -> Committed<'a>,
    place: impl Fn(&PrimitiveRef, &str) -> Option<(usize, usize)>,
) -> Telling {
    let Some(waiter_started_at) = pod.can_be_told().filter(|_| !plan.is_empty()) else {
        return Telling::Nothing;
    };
    let known = pod.grant.as_ref().filter(|grant| grant.waiter_started_at == waiter_started_at.as_second());
    if known.is_some_and(|grant| matches!(grant.verdict, Verdict::Deny { .. })) {
        return Telling::Nothing;
    }
    let mut wait = None;
    let (mut tokens, mut highest_run) = (Vec::new(), None);
    for entry in plan.entries() {
        let uid = if entry.by_job { job_uid.unwrap_or_default() } else { pod.uid.as_str() };
        match entrance(entry, uid, pod, waiter_started_at, &committed, &place) {
            // Whatever else it waits for: this one never comes. A Job is told through its own status.
            Entrance::Never { message } if !entry.by_job => {
                return Telling::Deny { grant: deny(pod, waiter_started_at, message) };
            }
            Entrance::Never { message } => {
                wait.get_or_insert((entry.primitive, reason::DENIED, message));
            }
            Entrance::Closed { reason, message } => {
                wait.get_or_insert((entry.primitive, reason, message));
            }
            Entrance::Held { run, token } => {
                tokens.push((entry.place, token));
                highest_run = highest_run.max(Some(run));
            }
            Entrance::Through => {}
        }
    }
    if let Some((primitive, reason, message)) = wait {
        return Telling::Wait(Wait { primitive: primitive.clone(), reason, message });
    }
    // Where nothing is held there is no ledger to count runs: the pod's own annotation does.
    let told_go =
        |grant: &&Grant| grant.verdict == Verdict::Go && highest_run.is_none_or(|run| run <= grant.run);
    if known.as_ref().is_some_and(told_go) {
        return Telling::Nothing;
    }
    let run = highest_run.unwrap_or_else(|| pod.last_run().saturating_add(1));
    if run <= pod.last_run() {
        // The ledger is behind what the pod was told; the next step raises its number.
        return Telling::Nothing;
    }
    Telling::Go { grant: grant(pod, run, waiter_started_at, Verdict::Go), tokens }
}

fn entrance<'a>(
    entry: Entry<'_>,
    participant_uid: &str,
    pod: &PodFacts,
    waiter_started_at: Timestamp,
    committed: &impl Fn(&PrimitiveRef) -> Committed<'a>,
    place: &impl Fn(&PrimitiveRef, &str) -> Option<(usize, usize)>,
) -> Entrance {
    let primitive = entry.primitive;
    match committed(primitive) {
        Committed::Missing => Entrance::Closed {
            reason: reason::MISSING_PRIMITIVE,
            message: format!(
                "waits for {primitive}, which does not exist (yet): create the {} of that name",
                primitive.kind.api_kind()
            ),
        },
        Committed::Gate(gate) => {
            let said = open_message(gate);
            match phase(gate) {
                Some(GatePhase::Open) => Entrance::Through,
                Some(GatePhase::Failed) => {
                    Entrance::Never { message: format!("{primitive} can never open: {said}") }
                }
                Some(GatePhase::Waiting) | None => Entrance::Closed {
                    reason: reason::WAITING,
                    message: format!("waits for {primitive}: {said}"),
                },
            }
        }
        Committed::Mutex(mutex) => {
            let holder = mutex.status.as_ref().and_then(|status| status.holders.first());
            let told = holder
                .filter(|holder| holder.uid == participant_uid)
                .and_then(|holder| Some((holder, holder.told(&pod.uid)?)))
                .filter(|(_, told)| told.waiter_started_at.0 == waiter_started_at);
            if let Some((holder, told)) = told {
                let run = u64::try_from(told.run).unwrap_or(0);
                return Entrance::Held { run, token: holder.token.clone() };
            }
            let place = place(primitive, participant_uid)
                .map_or_else(String::new, |(place, of)| format!("place {place} of {of}, "));
            let held = match holder {
                Some(holder) if holder.uid != participant_uid => {
                    format!("held by {} since {}", holder.display(), holder.granted_at.0)
                }
                Some(_) => "it is this one's turn".to_owned(),
                None => "nobody holds it".to_owned(),
            };
            Entrance::Closed {
                reason: reason::WAITING,
                message: format!("waits for {primitive}: {place}{held}"),
            }
        }
    }
}

/// What the gate says about its spec as it is now: what it said about an earlier one lets nobody through, and denies
/// nobody.
fn phase(gate: &Gate) -> Option<GatePhase> {
    let status = gate.status.as_ref()?;
    status.phase.filter(|_| status.observed_generation == gate.metadata.generation)
}

fn open_message(gate: &Gate) -> &str {
    let conditions = gate.status.iter().flat_map(|status| &status.conditions);
    conditions
        .into_iter()
        .find(|condition| condition.type_ == OPEN)
        .map_or("it has not been looked at yet", |condition| condition.message.as_str())
}

fn deny(pod: &PodFacts, waiter_started_at: Timestamp, reason: String) -> Grant {
    let run = pod.last_run().saturating_add(1);
    grant(pod, run, waiter_started_at, Verdict::Deny { code: NEVER_OPENS, reason })
}

fn grant(pod: &PodFacts, run: u64, waiter_started_at: Timestamp, verdict: Verdict) -> Grant {
    Grant { pod_uid: pod.uid.clone(), run, waiter_started_at: waiter_started_at.as_second(), verdict }
}

/// The grant that takes back what this pod was told; `None` if it was told nothing that could be taken back.
pub fn withdrawn(pod: &PodFacts) -> Option<Grant> {
    let told = pod.grant.as_ref()?;
    Some(Grant { verdict: Verdict::Released, ..told.clone() })
}

// ------------------------------------------------------------------------------------------------------- Jobs

/// The sentence with which a Job must fail because a gate of its own can never open; `None` where it need not: one of
/// its pods was let through before.
pub fn job_fails<'a>(
    job_plan: &PodPlan,
    pods: &[PodFacts],
    committed: impl Fn(&PrimitiveRef) -> Committed<'a>,
) -> Option<String> {
    if pods.iter().any(PodFacts::has_passed) {
        return None;
    }
    job_plan.entries().filter(|entry| entry.by_job).find_map(|entry| match committed(entry.primitive) {
        Committed::Gate(gate) if phase(gate) == Some(GatePhase::Failed) => {
            Some(format!("{} can never open: {}", entry.primitive, open_message(gate)))
        }
        _ => None,
    })
}
