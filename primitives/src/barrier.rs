//! Barrier: all of them, then all at once.
//!
//! Arrive: by waiting here (`barrier`), or by having succeeded (`barrier-arrive`). Arrivals are keyed by what stays the
//! same over retries, so a retry replaces and never adds. Trip: in the write in which as many distinct keys have arrived
//! as are needed; it is never taken back. Enter: after the trip, everybody, latecomers too.
//!
//! `cyclic`: the trip opens the next generation. Whoever opened an earlier one and has not succeeded yet belongs to it:
//! its retry is let through and counts for nothing. Everybody else counts for the generation that is filling; a success
//! counts once, which is remembered by its UID while its object can be seen.
//!
//! Before the trip an arrival by waiting leaves the count when its pod is proven dead, if it is `Live` or comes under no
//! key that lasts. `timeout` counts from the first arrival; then the generation has failed for all who wait and come.
//! Waiting here holds nothing. Invariants: `BarrierTripOnce`, `DistinctArrivals`, `NoEarlyPass`, `GenerationIsolation`.
//!
//! Prior art: trip and broken as in Java's `CyclicBarrier`; to arrive without waiting, as in its `Phaser`.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use konductor_api::barrier::{ArrivalPolicy, Barrier, BarrierPhase, BarrierSpec, BarrierStatus};
use konductor_api::conditions::{OPEN, reason};
use konductor_api::ledger::ParticipantKind;
use konductor_api::members::{MemberKey, Members};
use konductor_api::participation::Role;

use crate::describe::{Says, describe};
use crate::entrance::{Asker, Entrance};
use crate::facts::{PodFacts, to_the_second};
use crate::invariants::Violation;
use crate::snapshot::{Participant, Snapshot, order};
use crate::step::{Lookup, Step};

/// What follows from the snapshot.
pub fn step(snapshot: &Snapshot<Barrier>) -> Step<BarrierStatus> {
    let barrier = &snapshot.primitive;
    let mut status = barrier.status.clone().unwrap_or_default();
    let mut lookups = Vec::new();
    status.generation = status.generation.max(1);
    if status.phase == Some(BarrierPhase::Failed)
        && status.common.observed_generation != barrier.metadata.generation
    {
        start_anew(&mut status);
    }
    let over = matches!(status.phase, Some(BarrierPhase::Open | BarrierPhase::Failed));
    if !over {
        forget_those_through(&mut status, snapshot);
        leave(&mut status, snapshot, &mut lookups);
        arrive(&mut status, snapshot);
    }
    let deadline = deadline(&status, &barrier.spec);
    let phase = match status.phase {
        Some(settled @ (BarrierPhase::Open | BarrierPhase::Failed)) => settled,
        // Who arrives with the last second has arrived.
        _ if status.arrived >= needed(&barrier.spec) => trip(&mut status, snapshot),
        _ if deadline.is_some_and(|deadline| deadline <= snapshot.now) => BarrierPhase::Failed,
        _ => BarrierPhase::Waiting,
    };
    status.phase = Some(phase);
    status.arrived_of = Some(format!("{}/{}", status.arrived, needed(&barrier.spec)));
    let line = snapshot
        .line(|who| phase == BarrierPhase::Waiting && who.role.waits() && who.waits() && !who.was_told());
    let says = says(phase, &status, snapshot);
    describe(&mut status.common, &barrier.metadata, &line, says, snapshot.now);
    Step {
        status,
        lookups,
        withdrawals: Vec::new(),
        expiries: Vec::new(),
        order: order(&line),
        wake_at: deadline.filter(|_| phase == BarrierPhase::Waiting),
    }
}

// ---------------------------------------------------------------------------------------------------- arrivals

fn needed(spec: &BarrierSpec) -> i64 {
    spec.quorum.unwrap_or(spec.expected)
}

fn arrive(status: &mut BarrierStatus, snapshot: &Snapshot<Barrier>) {
    for who in &snapshot.participants {
        let into = match who.role {
            Role::Meet if who.can_start() => &mut status.arrivals,
            Role::Arrive if has_succeeded(who) && !status.passed.contains(&itself(who)) => {
                &mut status.succeeded
            }
            _ => continue,
        };
        if !status.passed.contains(&who.member) {
            into.insert(who.member.clone());
        }
    }
    let both = status.arrivals.iter().filter(|key| status.succeeded.contains(key)).count();
    let distinct = status.arrivals.len() + status.succeeded.len() - both;
    status.arrived = i64::try_from(distinct).unwrap_or(i64::MAX);
    if distinct == 0 {
        status.first_arrival_at = None;
    } else if status.first_arrival_at.is_none() {
        status.first_arrival_at = Some(to_the_second(snapshot.now));
    }
}

fn has_succeeded(who: &Participant) -> bool {
    match &who.job {
        Some(job) => job.complete || who.has_its_successes(|_| None),
        None => who.pods.iter().any(|pod| pod.end(None).is_some_and(|end| end.success)),
    }
}

/// Takes out of the count whoever waits no longer and would count again.
fn leave(status: &mut BarrierStatus, snapshot: &Snapshot<Barrier>, lookups: &mut Vec<Lookup>) {
    let live = snapshot.primitive.spec.arrivals == ArrivalPolicy::Live;
    let mut seen: BTreeMap<&MemberKey, Vec<&Participant>> = BTreeMap::new();
    for who in snapshot.participants.iter().filter(|who| who.role == Role::Meet) {
        seen.entry(&who.member).or_default().push(who);
    }
    status.arrivals.retain(|key| {
        if key.lasts() && !live {
            return true;
        }
        match (seen.get(key), key) {
            (Some(found), _) => found.iter().any(|who| !is_dead(who)),
            (None, MemberKey::Pod { name, uid } | MemberKey::Claim { name, uid }) => {
                let pod = matches!(key, MemberKey::Pod { .. });
                let kind = if pod { ParticipantKind::Pod } else { ParticipantKind::Claim };
                if !snapshot.absent.contains(uid) {
                    lookups.push(Lookup { kind, name: name.clone(), uid: uid.clone() });
                }
                !snapshot.absent.contains(uid)
            }
            (None, MemberKey::Job(name)) => {
                let lookup = Lookup { kind: ParticipantKind::Job, name: name.clone(), uid: String::new() };
                let gone = snapshot.absent.contains(&lookup.key());
                if !gone && !snapshot.owners.contains_key(name) {
                    lookups.push(lookup);
                }
                !gone
            }
            // A cache that has not seen it and one that has seen it go look alike, and no name can be asked for of which
            // the UID is not known: it counts until something under this key is seen to be dead.
            (None, _) => true,
        }
    });
}

fn is_dead(who: &Participant) -> bool {
    if let Some(claim) = &who.claim {
        return claim.has_ended(&who.pods);
    }
    match &who.job {
        Some(job) => job.is_over() || job.deleting && who.pods.iter().all(PodFacts::is_dead),
        None => who.pods.iter().all(PodFacts::is_dead),
    }
}

// ------------------------------------------------------------------------------------------------- generations

/// The generation that is filling is full.
fn trip(status: &mut BarrierStatus, snapshot: &Snapshot<Barrier>) -> BarrierPhase {
    status.opened_at = Some(to_the_second(snapshot.now));
    if !snapshot.primitive.spec.cyclic {
        return BarrierPhase::Open;
    }
    forget_those_gone(&mut status.passed, snapshot);
    // Who arrived by succeeding is through; its next arrival is another object's.
    let finished = std::mem::take(&mut status.succeeded);
    for key in std::mem::take(&mut status.arrivals).iter().filter(|key| !finished.contains(key)) {
        status.passed.insert(key.clone());
    }
    for who in snapshot.participants.iter().filter(|who| who.role == Role::Arrive && has_succeeded(who)) {
        status.passed.insert(itself(who));
    }
    status.generation += 1;
    status.arrived = 0;
    status.first_arrival_at = None;
    BarrierPhase::Waiting
}

/// Who opened an earlier generation by waiting and has succeeded since: the next one under its key may arrive for this
/// one. Once for each success, however long its object stays.
fn forget_those_through(status: &mut BarrierStatus, snapshot: &Snapshot<Barrier>) {
    let members = snapshot.participants.iter().filter(|who| who.role == Role::Meet && who.member.lasts());
    for who in members.filter(|who| has_succeeded(who)) {
        if !status.passed.contains(&itself(who)) && status.passed.remove(&who.member) {
            status.passed.insert(itself(who));
        }
    }
}

/// Of those who opened earlier generations only who is still on its way, or may come again, could be taken for somebody
/// new. A Job's pods come again while others of it can be seen; those of a `StatefulSet` always.
fn forget_those_gone(passed: &mut Members, snapshot: &Snapshot<Barrier>) {
    let all = || snapshot.participants.iter();
    let seen: BTreeSet<_> = all().flat_map(|who| [who.member.clone(), itself(who)]).collect();
    let owners: BTreeSet<_> = all().filter_map(|who| owner(&who.member)).collect();
    passed.retain(|key| {
        let comes_again =
            owner(key).is_some_and(|owner| owner.starts_with("statefulset/") || owners.contains(owner));
        comes_again || seen.contains(key)
    });
}

fn owner(key: &MemberKey) -> Option<&str> {
    match key {
        MemberKey::Index(owner, _) => Some(owner),
        MemberKey::Job(_) | MemberKey::Pod { .. } | MemberKey::Claim { .. } => None,
    }
}

/// This very object, and not who comes after it under the same key.
fn itself(who: &Participant) -> MemberKey {
    MemberKey::Pod { name: who.name.clone(), uid: who.uid.clone() }
}

fn start_anew(status: &mut BarrierStatus) {
    status.phase = None;
    status.arrivals = Members::default();
    status.succeeded = Members::default();
    status.arrived = 0;
    status.first_arrival_at = None;
    status.generation += 1;
}

fn deadline(status: &BarrierStatus, spec: &BarrierSpec) -> Option<Timestamp> {
    spec.timeout?.after(status.first_arrival_at.as_ref()?.0)
}

// ------------------------------------------------------------------------------------------------------- words

fn says(phase: BarrierPhase, status: &BarrierStatus, snapshot: &Snapshot<Barrier>) -> Says {
    let spec = &snapshot.primitive.spec;
    let count = format!("{} of {} have arrived", status.arrived, needed(spec));
    let lost = || {
        let lost: Vec<_> = snapshot
            .participants
            .iter()
            .filter(|who| who.role != Role::Await && has_failed(who) && !has_arrived(status, &who.member))
            .map(|who| who.member.display())
            .take(5)
            .collect();
        if lost.is_empty() { String::new() } else { format!("; failed before arriving: {}", lost.join(", ")) }
    };
    let (value, reason, message) = match phase {
        BarrierPhase::Open => (true, reason::ALL_ARRIVED, count),
        BarrierPhase::Waiting => (false, reason::ARRIVALS_MISSING, format!("{count}{}", lost())),
        BarrierPhase::Failed => {
            let timeout = spec.timeout.map(|timeout| timeout.to_string()).unwrap_or_default();
            (false, reason::TIMED_OUT, format!("{count} within {timeout} of the first arrival"))
        }
    };
    let stalled = (phase == BarrierPhase::Failed).then(|| {
        let message = "whoever waited has failed: change spec.expected or spec.timeout, which starts a new generation, \
                       then create the Jobs again";
        (reason::TIMED_OUT, message.to_owned())
    });
    let note = spec.cyclic.then(|| format!("generation {} is filling", status.generation));
    Says { domain: OPEN, value, reason, message, note, stalled }
}

fn has_failed(who: &Participant) -> bool {
    who.job.as_ref().is_some_and(|job| job.failed.is_some())
}

fn has_arrived(status: &BarrierStatus, key: &MemberKey) -> bool {
    status.arrivals.contains(key) || status.succeeded.contains(key)
}

/// Where somebody stands who names it.
pub fn entrance(barrier: &Barrier, asker: &Asker<'_>) -> Entrance {
    if asker.role == Role::Arrive {
        return Entrance::Through;
    }
    let primitive = asker.primitive;
    let Some(status) = &barrier.status else {
        return closed(asker, "nobody has arrived yet");
    };
    let opened_since = || status.opened_at.as_ref().is_some_and(|at| at.0 >= to_the_second(asker.since).0);
    // What an earlier generation let through stays so, whatever becomes of the one that fills.
    let through = match (status.phase, asker.role) {
        (Some(BarrierPhase::Open), _) => true,
        (_, Role::Meet) => status.passed.contains(asker.member),
        // Of a cyclic barrier: some generation has opened since it came.
        _ => barrier.spec.cyclic && opened_since(),
    };
    if through {
        return Entrance::Through;
    }
    let count = format!("{} of {} have arrived", status.arrived, needed(&barrier.spec));
    let current = status.common.observed_generation == barrier.metadata.generation;
    if status.phase == Some(BarrierPhase::Failed) && current {
        return Entrance::Never { message: format!("{primitive} has failed: {count} in time") };
    }
    closed(asker, &count)
}

fn closed(asker: &Asker<'_>, count: &str) -> Entrance {
    Entrance::Closed {
        reason: reason::WAITING,
        message: format!("waits for {}: {count}", asker.primitive),
        // Who comes to meet others comes to wait.
        busy: asker.role != Role::Meet,
    }
}

/// Does it count as having arrived, or is it through?
pub(crate) fn counts(barrier: &Barrier, key: &MemberKey) -> bool {
    barrier.status.as_ref().is_some_and(|status| has_arrived(status, key))
}

/// What its status may become.
pub fn check(barrier: &Barrier, after: &BarrierStatus) -> Result<(), Violation> {
    let before = barrier.status.clone().unwrap_or_default();
    let violation = |invariant, detail: String| Err(Violation { invariant, detail });
    if before.phase == Some(BarrierPhase::Open)
        && (after.phase, &after.arrivals) != (before.phase, &before.arrivals)
    {
        return violation("BarrierTripOnce", "an open barrier would change".to_owned());
    }
    if after.generation < before.generation || after.generation > before.generation.max(1) + 2 {
        return violation(
            "BarrierTripOnce",
            format!("generation {} after {}", after.generation, before.generation),
        );
    }
    let distinct: BTreeSet<_> = after.arrivals.iter().chain(after.succeeded.iter()).collect();
    let trips = after.phase == Some(BarrierPhase::Open) && before.phase != Some(BarrierPhase::Open);
    if i64::try_from(distinct.len()).ok() != Some(after.arrived) {
        return violation(
            "DistinctArrivals",
            format!("{} keys and {} arrived", distinct.len(), after.arrived),
        );
    }
    if trips && after.arrived < needed(&barrier.spec) {
        return violation("NoEarlyPass", format!("open with {} of {}", after.arrived, needed(&barrier.spec)));
    }
    if let Some(key) = after.passed.iter().find(|key| after.arrivals.contains(key)) {
        return violation("GenerationIsolation", format!("{} would count in two generations", key.display()));
    }
    Ok(())
}
