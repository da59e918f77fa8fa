//! Gate: closed until its conditions have been met, then open for good.
//!
//! A condition of a Job looks at its *conditions*, never at its counts (a Job of ten completions is not met by the
//! first). What is met stays met and remembers by which object (`LatchFinal`, `GateSound`), unless the gate is told not to
//! latch. What can never be met any more fails the gate at once, for everybody who waits; a new object of that name, or a
//! changed spec, sets it back to waiting for those who come later. `override` goes before the conditions, and their
//! latches are kept under it. `timeout` counts from the first who waits. Waiting for a gate holds nothing.
//!
//! Prior art: the one-way latch of Java's `CountDownLatch`; failing fast on a dependency as in Argo's DAGs.

use jiff::Timestamp;
use konductor_api::conditions::{OPEN, reason};
use konductor_api::gate::{
    ConditionOutcome, Gate, GateCondition, GateConditionStatus, GateConditionType, GateLogic, GateOverride,
    GatePhase, GateSpec, GateState, GateStatus,
};
use konductor_api::ledger::ParticipantKind;

use crate::clock;
use crate::describe::{Says, describe};
use crate::entrance::{Asker, Entrance};
use crate::facts::{JobFacts, to_the_second};
use crate::invariants::Violation;
use crate::looked::{Looked, ObjectFacts, PrimitiveFacts, Target};
use crate::snapshot::{Snapshot, order};
use crate::step::Step;

/// As long as the field may be.
const MESSAGE_CHARACTERS: usize = 512;

/// What follows from the snapshot.
pub fn step(snapshot: &Snapshot<Gate>) -> Step<GateStatus> {
    let gate = &snapshot.primitive;
    let spec = &gate.spec;
    let mut status = gate.status.clone().unwrap_or_default();
    let changed = status.common.observed_generation != gate.metadata.generation;
    if changed {
        status.timed_out_at = None;
        status.first_waiter_at = None;
    }
    let mut wake_at = None;
    status.condition_statuses = spec
        .conditions
        .iter()
        .map(|condition| {
            let about = condition.about();
            let known = status.condition_statuses.iter().find(|known| known.about == about);
            let (judged, until) = judge(condition, about, known, snapshot);
            wake_at = earlier(wake_at, until);
            judged
        })
        .collect();
    let by_conditions = phase_of(spec, &status);
    let mut line = snapshot.line(|who| by_conditions == GatePhase::Waiting && who.waits() && !who.was_told());
    let phase = in_time(&mut status, by_conditions, !line.is_empty(), spec, snapshot.now, &mut wake_at);
    if phase != GatePhase::Waiting {
        line.clear();
    }
    let met = status.condition_statuses.iter().filter(|known| known.met).count();
    status.met = Some(format!("{met}/{}", status.condition_statuses.len()));
    status.opened_at = match phase {
        GatePhase::Open => status.opened_at.clone().or(Some(to_the_second(snapshot.now))),
        GatePhase::Waiting | GatePhase::Failed => None,
    };
    status.phase = Some(phase);
    let says = says(&status, phase, snapshot);
    describe(&mut status.common, &gate.metadata, &line, says, snapshot.now);
    Step {
        status,
        lookups: Vec::new(),
        withdrawals: Vec::new(),
        expiries: Vec::new(),
        order: order(&line),
        wake_at,
    }
}

fn phase_of(spec: &GateSpec, status: &GateStatus) -> GatePhase {
    let all = &status.condition_statuses;
    let met = all.iter().filter(|known| known.met).count();
    let impossible = all.iter().filter(|known| known.outcome == ConditionOutcome::Impossible).count();
    match (spec.r#override, spec.logic) {
        (Some(GateOverride::Open), _) => GatePhase::Open,
        (None, GateLogic::All) if impossible > 0 => GatePhase::Failed,
        (None, GateLogic::All) if met > 0 && met == all.len() => GatePhase::Open,
        (None, GateLogic::Any) if met > 0 => GatePhase::Open,
        (None, GateLogic::Any) if impossible > 0 && impossible == all.len() => GatePhase::Failed,
        (Some(GateOverride::Closed) | None, _) => GatePhase::Waiting,
    }
}

/// The phase, once the timeout has been looked at. It counts while somebody waits.
fn in_time(
    status: &mut GateStatus,
    phase: GatePhase,
    somebody_waits: bool,
    spec: &GateSpec,
    now: Timestamp,
    wake_at: &mut Option<Timestamp>,
) -> GatePhase {
    // Who closes it by hand has decided how long.
    if phase != GatePhase::Waiting || spec.r#override.is_some() {
        status.first_waiter_at = None;
        status.timed_out_at = None;
        return phase;
    }
    if status.timed_out_at.is_some() {
        return GatePhase::Failed;
    }
    if !somebody_waits {
        status.first_waiter_at = None;
        return phase;
    }
    let first = status.first_waiter_at.get_or_insert_with(|| to_the_second(now)).0;
    let deadline = spec.timeout.and_then(|timeout| timeout.after(first));
    if deadline.is_some_and(|deadline| deadline <= now) {
        status.timed_out_at = Some(to_the_second(now));
        return GatePhase::Failed;
    }
    *wake_at = earlier(*wake_at, deadline);
    phase
}

fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    one.into_iter().chain(other).min()
}

// -------------------------------------------------------------------------------------------------- conditions

/// What one look came to.
struct Judgement {
    outcome: ConditionOutcome,
    message: String,
}

fn met(message: String) -> Judgement {
    Judgement { outcome: ConditionOutcome::Met, message }
}

fn missing(message: String) -> Judgement {
    Judgement { outcome: ConditionOutcome::Missing, message }
}

fn impossible(message: String) -> Judgement {
    Judgement { outcome: ConditionOutcome::Impossible, message }
}

/// One condition, and when it may look otherwise although no object changes.
fn judge(
    condition: &GateCondition,
    about: String,
    known: Option<&GateConditionStatus>,
    snapshot: &Snapshot<Gate>,
) -> (GateConditionStatus, Option<Timestamp>) {
    let looked = Target::of(condition).and_then(|target| snapshot.objects.get(&target));
    let uid = looked.and_then(Looked::object).map(|(uid, _)| uid);
    if let (Some(known), Some(Looked::Unseen)) = (known, looked) {
        return (known.clone(), None);
    }
    if let Some(known) = known {
        let settled = match known.outcome {
            ConditionOutcome::Met => snapshot.primitive.spec.latch,
            // Bound to the object that made it so, where that cannot come back: a primitive can.
            ConditionOutcome::Impossible => {
                let is_final = matches!(condition.type_, GateConditionType::Job | GateConditionType::Pod);
                is_final && known.uid.is_some() && (uid.is_none() || known.uid.as_deref() == uid)
            }
            ConditionOutcome::Missing => false,
        };
        if settled {
            return (known.clone(), None);
        }
    }
    let (judgement, until) = match condition.type_ {
        GateConditionType::Time => match clock::look(condition, snapshot.now) {
            Ok(clock) if clock.is_time => (met(clock.message), clock.until),
            Ok(clock) => (missing(clock.message), clock.until),
            Err(message) => (impossible(message), None),
        },
        GateConditionType::Manual if condition.approved => {
            (met(format!("{} is approved", condition.name)), None)
        }
        GateConditionType::Manual => {
            (missing(format!("{} is not approved: set approved: true", condition.name)), None)
        }
        _ => (look_at_object(condition, looked, snapshot), None),
    };
    let Judgement { outcome, mut message } = judgement;
    if let Some((end, _)) = message.char_indices().nth(MESSAGE_CHARACTERS) {
        message.truncate(end);
    }
    let settled = outcome != ConditionOutcome::Missing;
    let same = known.filter(|known| known.outcome == outcome && known.uid.as_deref() == uid);
    let status = GateConditionStatus {
        type_: condition.type_,
        name: condition.name.clone(),
        about,
        met: outcome == ConditionOutcome::Met,
        outcome,
        uid: uid.filter(|_| settled).map(str::to_owned),
        at: match same {
            Some(known) => known.at.clone(),
            None => settled.then_some(to_the_second(snapshot.now)),
        },
        message,
    };
    (status, until)
}

fn look_at_object(
    condition: &GateCondition,
    looked: Option<&Looked>,
    snapshot: &Snapshot<Gate>,
) -> Judgement {
    let Some(target) = Target::of(condition) else {
        return missing("there is nothing to look at".to_owned());
    };
    let name = target.display();
    let metadata = &snapshot.primitive.metadata;
    if condition.type_ == GateConditionType::Gate
        && condition.namespace.is_none()
        && metadata.name.as_deref() == Some(&condition.name)
    {
        return impossible(format!("{name} is this gate itself"));
    }
    let gate_created = metadata.creation_timestamp.as_ref().map(|time| time.0);
    let is_old = |created: Option<Timestamp>| condition.newer && created < gate_created;
    match looked {
        None => missing(format!("{name} does not exist (yet)")),
        Some(Looked::Unseen) => missing(format!("{name} has not been looked at yet")),
        Some(Looked::Refused(why)) => missing(format!("{name}: {why}")),
        Some(Looked::Ring(why)) => impossible(format!("{name} {why}")),
        Some(looked) if looked.object().is_some_and(|(_, created)| is_old(created)) => {
            missing(format!("{name} is older than the gate, and a newer one is asked for"))
        }
        Some(Looked::Job(job)) => look_at_job(condition, job, &name),
        Some(Looked::Primitive(primitive)) => look_at_primitive(condition, primitive, &name),
        Some(Looked::Object(object)) => look_at_other(condition, object, &name),
    }
}

fn look_at_job(condition: &GateCondition, job: &JobFacts, name: &str) -> Judgement {
    let says = |how: &str| format!("{name} {how}");
    match (condition.wanted(), job.complete, &job.failed) {
        (Some(GateState::Complete), true, _) => met(says("is complete")),
        (Some(GateState::Complete), _, Some(why)) => {
            impossible(says(&format!("has failed and will never be complete: {why}")))
        }
        (Some(GateState::Complete), ..) => missing(says("is not complete yet")),
        (Some(GateState::Failed), _, Some(_)) => met(says("has failed")),
        (Some(GateState::Failed), true, _) => impossible(says("is complete and will never be failed")),
        (Some(GateState::Failed), ..) => missing(says("has not failed yet")),
        _ if job.active => met(says("is active")),
        (_, complete, failed) if complete || failed.is_some() => {
            impossible(says("has ended and will never be active"))
        }
        _ => missing(says("is not active yet")),
    }
}

fn look_at_primitive(condition: &GateCondition, primitive: &PrimitiveFacts, name: &str) -> Judgement {
    if condition.type_ == GateConditionType::Semaphore {
        let wanted = condition.value.unwrap_or(1);
        let free = primitive.free.max(0);
        let message = format!("{name} has {free} free permits of the {wanted} that are wanted");
        return if free >= wanted { met(message) } else { missing(message) };
    }
    match (condition.wanted(), &primitive.hopeless) {
        (Some(wanted), _) if wanted == primitive.state => met(format!("{name} is {wanted:?}")),
        (Some(wanted), Some(why)) => impossible(format!("{name} {why} and will never be {wanted:?}")),
        (wanted, _) => {
            let wanted = wanted.map(|wanted| format!("{wanted:?}")).unwrap_or_default();
            missing(format!("{name} is not {wanted} yet"))
        }
    }
}

fn look_at_other(condition: &GateCondition, object: &ObjectFacts, name: &str) -> Judgement {
    let has = |type_: &str, status: &str| object.conditions.get(type_).map(String::as_str) == Some(status);
    let phase = object.phase.as_deref();
    match (condition.type_, condition.wanted()) {
        (GateConditionType::Pod, Some(wanted)) => {
            let reached = match wanted {
                GateState::Ready => has("Ready", "True"),
                GateState::Succeeded => phase == Some("Succeeded"),
                _ => phase == Some("Failed"),
            };
            let ended = matches!(phase, Some("Succeeded" | "Failed"));
            if reached {
                met(format!("{name} is {wanted:?}"))
            } else if ended {
                impossible(format!("{name} is {} and will never be {wanted:?}", phase.unwrap_or_default()))
            } else {
                missing(format!("{name} is not {wanted:?} yet"))
            }
        }
        (GateConditionType::Deployment | GateConditionType::StatefulSet, _) => match &object.unfinished {
            None => met(format!("{name} is rolled out")),
            Some(what) => missing(format!("{name} is not rolled out: {what}")),
        },
        (_, wanted) => {
            let type_ = condition.condition_type.as_deref().unwrap_or_default();
            let status = if wanted == Some(GateState::False) { "False" } else { "True" };
            if has(type_, status) {
                met(format!("{name} has {type_}={status}"))
            } else {
                let found = object.conditions.get(type_).map_or("no such condition", String::as_str);
                missing(format!("{name} has not {type_}={status} yet, but {found}"))
            }
        }
    }
}

// ------------------------------------------------------------------------------------------------------- words

fn says(status: &GateStatus, phase: GatePhase, snapshot: &Snapshot<Gate>) -> Says {
    let spec = &snapshot.primitive.spec;
    let messages = |outcome| {
        let found = status.condition_statuses.iter().filter(|known| known.outcome == outcome);
        found.map(|known| known.message.clone()).collect::<Vec<_>>().join("; ")
    };
    let (value, reason, message) = match (phase, spec.r#override) {
        (GatePhase::Open, Some(_)) => (true, reason::OVERRIDDEN, "override says Open".to_owned()),
        (GatePhase::Open, None) if spec.logic == GateLogic::Any => {
            (true, reason::CONDITIONS_MET, messages(ConditionOutcome::Met))
        }
        (GatePhase::Open, None) => (true, reason::CONDITIONS_MET, "all conditions are met".to_owned()),
        (GatePhase::Failed, _) if status.timed_out_at.is_some() => {
            let timeout = spec.timeout.map(|timeout| timeout.to_string()).unwrap_or_default();
            let missing = messages(ConditionOutcome::Missing);
            (
                false,
                reason::TIMED_OUT,
                format!("still closed {timeout} after the first came to wait: {missing}"),
            )
        }
        (GatePhase::Failed, _) => {
            (false, reason::CONDITION_IMPOSSIBLE, messages(ConditionOutcome::Impossible))
        }
        (GatePhase::Waiting, Some(_)) => (false, reason::OVERRIDDEN, "override says Closed".to_owned()),
        (GatePhase::Waiting, None) if status.condition_statuses.is_empty() => {
            (false, reason::CONDITIONS_MISSING, "it is opened by hand: set override: Open".to_owned())
        }
        (GatePhase::Waiting, None) => {
            (false, reason::CONDITIONS_MISSING, messages(ConditionOutcome::Missing))
        }
    };
    Says { domain: OPEN, value, reason, message, note: None, stalled: stalled(status, phase, snapshot) }
}

fn stalled(
    status: &GateStatus,
    phase: GatePhase,
    snapshot: &Snapshot<Gate>,
) -> Option<(&'static str, String)> {
    if phase == GatePhase::Failed {
        let reason =
            if status.timed_out_at.is_some() { reason::TIMED_OUT } else { reason::CONDITION_IMPOSSIBLE };
        let message = "the gate can never open as it stands: delete what failed and create it again, or change the \
                       gate; then create the Jobs that waited again";
        return Some((reason, message.to_owned()));
    }
    if phase == GatePhase::Open {
        return None;
    }
    let refused = snapshot.objects.iter().find_map(|(target, looked)| match looked {
        Looked::Refused(why) => Some(format!("{}: {why}", target.display())),
        _ => None,
    });
    refused.or_else(|| waits_for_itself(snapshot)).map(|message| (reason::BAD_REFERENCE, message))
}

/// A Job that waits for a gate that waits for the Job.
fn waits_for_itself(snapshot: &Snapshot<Gate>) -> Option<String> {
    let conditions = snapshot.primitive.spec.conditions.iter();
    let jobs = conditions
        .filter(|condition| condition.type_ == GateConditionType::Job && condition.namespace.is_none());
    jobs.into_iter().find_map(|condition| {
        let job = snapshot.participants.iter().find(|who| match &who.of_job {
            Some(job) => job.name == condition.name,
            None => who.kind == ParticipantKind::Job && who.name == condition.name,
        })?;
        Some(format!(
            "Job {} waits for this gate ({}), which waits for it: take the condition, or the annotation, away",
            condition.name,
            job.display()
        ))
    })
}

/// What the gate says about its spec as it is now: what it said about an earlier one lets nobody through, and denies
/// nobody.
pub(crate) fn phase(gate: &Gate) -> Option<GatePhase> {
    let status = gate.status.as_ref()?;
    status.phase.filter(|_| status.common.observed_generation == gate.metadata.generation)
}

/// Where somebody stands who names it.
pub fn entrance(gate: &Gate, asker: &Asker<'_>) -> Entrance {
    let primitive = asker.primitive;
    let conditions = gate.status.iter().flat_map(|status| &status.common.conditions);
    let said = conditions
        .into_iter()
        .find(|condition| condition.type_ == OPEN)
        .map_or("it has not been looked at yet", |condition| condition.message.as_str());
    match phase(gate) {
        Some(GatePhase::Open) => Entrance::Through,
        Some(GatePhase::Failed) => Entrance::Never { message: format!("{primitive} can never open: {said}") },
        Some(GatePhase::Waiting) | None => Entrance::Closed {
            reason: reason::WAITING,
            message: format!("waits for {primitive}: {said}"),
            busy: phase(gate).is_some(),
        },
    }
}

/// What its status may become.
pub fn check(gate: &Gate, after: &GateStatus) -> Result<(), Violation> {
    let spec = &gate.spec;
    let before = gate.status.clone().unwrap_or_default();
    let violation = |invariant, detail: String| Err(Violation { invariant, detail });
    for known in before.condition_statuses.iter().filter(|known| known.met && spec.latch) {
        let asked = spec.conditions.iter().any(|condition| condition.about() == known.about);
        if asked && !after.condition_statuses.contains(known) {
            return violation("LatchFinal", format!("{} was met", known.about));
        }
    }
    let by_an_object = |known: &&GateConditionStatus| {
        let needs_one = !matches!(known.type_, GateConditionType::Time | GateConditionType::Manual);
        known.met && (known.uid.is_some() || !needs_one)
    };
    let met = after.condition_statuses.iter().filter(by_an_object).count();
    let sound = match (spec.r#override, spec.logic) {
        (Some(GateOverride::Open), _) => true,
        (Some(GateOverride::Closed), _) => false,
        (None, GateLogic::Any) => met > 0,
        (None, GateLogic::All) => met > 0 && met == spec.conditions.len(),
    };
    if after.phase == Some(GatePhase::Open) && !sound {
        return violation("GateSound", "open without its conditions met by objects".to_owned());
    }
    Ok(())
}
