//! Gate: closed until each of its conditions has been met, then open for good.
//!
//! A condition looks at the *conditions* of a Job, never at its counts (a Job of ten completions is not met by the
//! first). What is met stays met and remembers by which object (`LatchFinal`, `GateSound`). What can never be met any more
//! fails the gate at once, for everybody who waits; a new object of that name, or a changed spec, sets it back to
//! waiting for those who come later. Waiting for a gate holds nothing.
//!
//! Prior art: the one-way latch of Java's `CountDownLatch`; failing fast on a dependency as in Argo's DAGs.

use konductor_api::conditions::{self, Claimed, OPEN, READY, STALLED, reason};
use konductor_api::gate::{
    ConditionOutcome, Gate, GateCondition, GateConditionStatus, GatePhase, GateStatus, JobState,
};
use konductor_api::ledger::QUEUE_SHOWN;

use crate::snapshot::{JobFacts, Participant, Snapshot, to_the_second};
use crate::step::Step;

/// As long as the field may be.
const MESSAGE_CHARACTERS: usize = 512;

/// What follows from the snapshot.
pub fn step(snapshot: &Snapshot<Gate>) -> Step<GateStatus> {
    let mut status = snapshot.primitive.status.clone().unwrap_or_default();
    status.condition_statuses = snapshot
        .primitive
        .spec
        .conditions
        .iter()
        .map(|condition| {
            let known = status.condition_statuses.iter().find(|known| is_about(known, condition));
            judge(condition, known, snapshot)
        })
        .collect();
    let outcome = |wanted| status.condition_statuses.iter().filter(move |known| known.outcome == wanted);
    let met = outcome(ConditionOutcome::Met).count();
    let phase = if outcome(ConditionOutcome::Impossible).next().is_some() {
        GatePhase::Failed
    } else if met > 0 && met == status.condition_statuses.len() {
        GatePhase::Open
    } else {
        GatePhase::Waiting
    };
    status.met = Some(format!("{met}/{}", status.condition_statuses.len()));
    status.phase = Some(phase);
    status.opened_at = match phase {
        GatePhase::Open => status.opened_at.clone().or(Some(to_the_second(snapshot.now))),
        GatePhase::Waiting | GatePhase::Failed => None,
    };
    let mut queue: Vec<_> = snapshot
        .participants
        .iter()
        .filter(|participant| phase == GatePhase::Waiting && participant.waits() && !participant.was_told())
        .collect();
    queue.sort_by(|left, right| left.key.cmp(&right.key));
    status.waiting = i64::try_from(queue.len()).unwrap_or(i64::MAX);
    status.queue = queue.iter().take(QUEUE_SHOWN).map(|participant| participant.shown()).collect();
    describe(&mut status, phase, snapshot);
    let order = queue.iter().map(|participant| participant.uid.clone()).collect();
    Step { status, lookups: Vec::new(), withdrawals: Vec::new(), order, wake_at: None }
}

fn is_about(known: &GateConditionStatus, condition: &GateCondition) -> bool {
    (known.type_, known.name.as_str(), known.state)
        == (condition.type_, condition.name.as_str(), condition.state)
}

fn judge(
    condition: &GateCondition,
    known: Option<&GateConditionStatus>,
    snapshot: &Snapshot<Gate>,
) -> GateConditionStatus {
    let job = snapshot.objects.get(&condition.name);
    if let Some(known) = known {
        let final_for_now = match known.outcome {
            ConditionOutcome::Met => true,
            // Bound to the object that made it so.
            ConditionOutcome::Impossible => job.is_none_or(|job| known.uid.as_ref() == Some(&job.uid)),
            ConditionOutcome::Missing => false,
        };
        if final_for_now {
            return known.clone();
        }
    }
    let (outcome, mut message) = outcome_of(condition, job);
    if let Some((end, _)) = message.char_indices().nth(MESSAGE_CHARACTERS) {
        message.truncate(end);
    }
    let settled = outcome != ConditionOutcome::Missing;
    GateConditionStatus {
        type_: condition.type_,
        name: condition.name.clone(),
        state: condition.state,
        outcome,
        uid: job.filter(|_| settled).map(|job| job.uid.clone()),
        at: settled.then_some(to_the_second(snapshot.now)),
        message,
    }
}

fn outcome_of(condition: &GateCondition, job: Option<&JobFacts>) -> (ConditionOutcome, String) {
    let name = &condition.name;
    let Some(job) = job else {
        return (ConditionOutcome::Missing, format!("Job {name} does not exist (yet)"));
    };
    let ended = |how: &str| format!("Job {name} {how}");
    match (condition.state, job.complete, &job.failed) {
        (JobState::Complete, true, _) => (ConditionOutcome::Met, ended("is complete")),
        (JobState::Failed, _, Some(_)) => (ConditionOutcome::Met, ended("has failed")),
        (JobState::Complete, _, Some(why)) => {
            (ConditionOutcome::Impossible, format!("Job {name} has failed and will never be complete: {why}"))
        }
        (JobState::Failed, true, _) => {
            (ConditionOutcome::Impossible, ended("is complete and will never be failed"))
        }
        (JobState::Complete, false, None) => (ConditionOutcome::Missing, ended("is not complete yet")),
        (JobState::Failed, false, None) => (ConditionOutcome::Missing, ended("has not failed yet")),
    }
}

fn describe(status: &mut GateStatus, phase: GatePhase, snapshot: &Snapshot<Gate>) {
    let generation = snapshot.primitive.metadata.generation;
    status.observed_generation = generation;
    let messages = |outcome| {
        status
            .condition_statuses
            .iter()
            .filter(|known| known.outcome == outcome)
            .map(|known| known.message.clone())
            .collect::<Vec<_>>()
            .join("; ")
    };
    let open = match phase {
        GatePhase::Open => (true, reason::CONDITIONS_MET, "all conditions are met".to_owned()),
        GatePhase::Waiting if status.condition_statuses.is_empty() => {
            (false, reason::CONDITIONS_MISSING, "it has no conditions that could be met".to_owned())
        }
        GatePhase::Waiting => (false, reason::CONDITIONS_MISSING, messages(ConditionOutcome::Missing)),
        GatePhase::Failed => (false, reason::CONDITION_IMPOSSIBLE, messages(ConditionOutcome::Impossible)),
    };
    let ready = (true, reason::ACCEPTED, "the spec is served".to_owned());
    let stalled = if phase == GatePhase::Failed {
        let message = "the gate can never open as it stands: delete the failed Job and create it again, or change the \
                       conditions; then create the Jobs that waited again";
        (true, reason::CONDITION_IMPOSSIBLE, message.to_owned())
    } else {
        (false, reason::NOTHING_TO_DO, "nobody needs to act".to_owned())
    };
    for (type_, (value, reason, message)) in [(READY, ready), (OPEN, open), (STALLED, stalled)] {
        let message = message.chars().take(8 * 1024).collect();
        let claimed = Claimed { type_, status: value, reason, message };
        conditions::set(&mut status.conditions, claimed, generation, to_the_second(snapshot.now).0);
    }
}

impl Participant {
    /// Was any of its pods let through?
    fn was_told(&self) -> bool {
        self.pods.iter().any(crate::snapshot::PodFacts::has_passed)
    }
}

/// Do two statuses differ in nothing but how the queue looks? Such a change is worth a write now and then only.
pub fn differ_in_queue_only(left: &GateStatus, right: &GateStatus) -> bool {
    let without_queue = |status: &GateStatus| GateStatus { waiting: 0, queue: Vec::new(), ..status.clone() };
    without_queue(left) == without_queue(right)
}
