//! `WaitGroup`: when all of its members are through.
//!
//! Join: a member is added when it is first seen waiting to start, before it starts. Done: when its end is proven, whether
//! it succeeded or not; a failed attempt of what will be tried again under the same key is no end. The group is Done when
//! it had a member, and at least `expectAtLeast`, and all are through; that is latched. With `ttl` a new member opens a new
//! round when the group has been Done for that long. Waiting for it holds nothing.
//! Invariants: `WaitGroupNoEarlyDone`, `DoneIdempotent`.
//!
//! Prior art: Go's `sync.WaitGroup`, with members that have names, so that nobody is done twice.

use std::collections::BTreeMap;

use jiff::Timestamp;
use konductor_api::conditions::{DONE, reason};
use konductor_api::ledger::ParticipantKind;
use konductor_api::members::{MemberKey, Members};
use konductor_api::participation::Role;
use konductor_api::waitgroup::{WaitGroup, WaitGroupPhase, WaitGroupSpec, WaitGroupStatus};

use crate::describe::{Says, describe};
use crate::entrance::{Asker, Entrance};
use crate::facts::{PodFacts, to_the_second};
use crate::invariants::Violation;
use crate::snapshot::{Participant, Snapshot, order};
use crate::step::{Lookup, Step};

/// What follows from the snapshot.
pub fn step(snapshot: &Snapshot<WaitGroup>) -> Step<WaitGroupStatus> {
    let group = &snapshot.primitive;
    let mut status = group.status.clone().unwrap_or_default();
    let mut lookups = Vec::new();
    let members: BTreeMap<&MemberKey, Vec<&Participant>> = by_key(snapshot);
    let over = round_is_over(&status, &group.spec, snapshot.now);
    let newcomers: Vec<_> = members
        .iter()
        .filter(|(key, who)| (over || !is_known(&status, key)) && who.iter().any(|who| who.can_start()))
        .map(|(key, _)| (*key).clone())
        .collect();
    if !newcomers.is_empty() && over {
        (status.open, status.done, status.done_at) = (Members::default(), Members::default(), None);
        status.phase = None;
    }
    if status.phase != Some(WaitGroupPhase::Done) {
        for key in newcomers {
            status.open.insert(key);
        }
        settle(&mut status, &members, snapshot, &mut lookups);
    }
    let seen = status.open.len() + status.done.len();
    let phase = match status.phase {
        Some(WaitGroupPhase::Done) => WaitGroupPhase::Done,
        _ if status.open.is_empty() && seen >= at_least(&group.spec) => WaitGroupPhase::Done,
        _ => WaitGroupPhase::Waiting,
    };
    status.phase = Some(phase);
    status.counter = i64::try_from(status.open.len()).unwrap_or(i64::MAX);
    status.done_of = Some(format!("{}/{}", status.done.len(), seen.max(at_least_shown(&group.spec))));
    status.done_at = match phase {
        WaitGroupPhase::Done => status.done_at.clone().or(Some(to_the_second(snapshot.now))),
        WaitGroupPhase::Waiting => None,
    };
    let line = snapshot.line(|who| {
        phase == WaitGroupPhase::Waiting && who.role == Role::Await && who.waits() && !who.was_told()
    });
    let says = says(phase, &status, &group.spec, !line.is_empty());
    describe(&mut status.common, &group.metadata, &line, says, snapshot.now);
    Step {
        status,
        lookups,
        withdrawals: Vec::new(),
        expiries: Vec::new(),
        order: order(&line),
        wake_at: None,
    }
}

fn by_key(snapshot: &Snapshot<WaitGroup>) -> BTreeMap<&MemberKey, Vec<&Participant>> {
    let mut members: BTreeMap<&MemberKey, Vec<&Participant>> = BTreeMap::new();
    for who in snapshot.participants.iter().filter(|who| who.role == Role::Join) {
        members.entry(&who.member).or_default().push(who);
    }
    members
}

fn is_known(status: &WaitGroupStatus, key: &MemberKey) -> bool {
    status.open.contains(key) || status.done.contains(key)
}

fn round_is_over(status: &WaitGroupStatus, spec: &WaitGroupSpec, now: Timestamp) -> bool {
    let (Some(ttl), Some(at)) = (spec.ttl, status.done_at.as_ref()) else { return false };
    ttl.after(at.0).is_some_and(|over| over <= now)
}

/// At least one: nothing is not everything.
fn at_least(spec: &WaitGroupSpec) -> usize {
    at_least_shown(spec).max(1)
}

fn at_least_shown(spec: &WaitGroupSpec) -> usize {
    spec.expect_at_least.and_then(|least| usize::try_from(least).ok()).unwrap_or(0)
}

// ----------------------------------------------------------------------------------------------------- members

/// What became of a member.
enum Fate {
    Open,
    Done,
    /// It never started: it leaves, and counts for nothing.
    Leaves,
}

fn settle(
    status: &mut WaitGroupStatus,
    members: &BTreeMap<&MemberKey, Vec<&Participant>>,
    snapshot: &Snapshot<WaitGroup>,
    lookups: &mut Vec<Lookup>,
) {
    let mut done = Vec::new();
    status.open.retain(|key| {
        let fate = match members.get(key) {
            Some(who) => fate(key, who, snapshot, lookups),
            None => unseen(key, snapshot, lookups),
        };
        if matches!(fate, Fate::Done) {
            done.push(key.clone());
        }
        matches!(fate, Fate::Open)
    });
    for key in done {
        status.done.insert(key);
    }
}

/// Of all who come under one key. A retry that waits or runs keeps the member open.
fn fate(
    key: &MemberKey,
    who: &[&Participant],
    snapshot: &Snapshot<WaitGroup>,
    lookups: &mut Vec<Lookup>,
) -> Fate {
    let has_ended = |who: &&Participant| match (&who.claim, &who.job) {
        (Some(claim), _) => claim.has_ended(&who.pods),
        (None, Some(job)) => job.is_over() && who.pods.iter().all(PodFacts::is_dead),
        (None, None) => who.pods.iter().all(PodFacts::is_dead),
    };
    if !who.iter().all(has_ended) {
        return Fate::Open;
    }
    let ran = |pod: &PodFacts| !pod.critical_ids.is_empty();
    let started = who
        .iter()
        .any(|who| who.job.is_some() || who.was_told() || who.claim.is_none() && who.pods.iter().any(ran));
    let succeeded =
        who.iter().flat_map(|who| &who.pods).any(|pod| pod.end(None).is_some_and(|end| end.success));
    if !started && !key.lasts() {
        return Fate::Leaves;
    }
    // A failed attempt, or one that never started: its Job may try again, under this key or another, and who comes under
    // this key is let through as the member that is known already.
    if !succeeded && !who.iter().all(|who| is_given_up(who, snapshot, lookups)) {
        return Fate::Open;
    }
    if started { Fate::Done } else { Fate::Leaves }
}

/// Will nobody try again what this pod failed at?
fn is_given_up(who: &Participant, snapshot: &Snapshot<WaitGroup>, lookups: &mut Vec<Lookup>) -> bool {
    let Some(job) = &who.of_job else { return true };
    if let Some(over) = job.over {
        return over;
    }
    let lookup = Lookup { kind: ParticipantKind::Job, name: job.name.clone(), uid: job.uid.clone() };
    let gone = snapshot.absent.contains(&lookup.key());
    if !gone {
        lookups.push(lookup);
    }
    gone
}

/// Nobody in sight comes under that key. A pod that was told carries our finalizer until it is counted, so one that is
/// gone never started; a Job that is gone has ended with the last of its pods.
fn unseen(key: &MemberKey, snapshot: &Snapshot<WaitGroup>, lookups: &mut Vec<Lookup>) -> Fate {
    let (kind, name, uid) = match key {
        MemberKey::Pod { name, uid } => (ParticipantKind::Pod, name.as_str(), uid.clone()),
        MemberKey::Claim { name, uid } => (ParticipantKind::Claim, name.as_str(), uid.clone()),
        MemberKey::Job(name) => (ParticipantKind::Job, name.as_str(), String::new()),
        MemberKey::Index(owner, _) => match owner.strip_prefix("job/") {
            Some(job) => (ParticipantKind::Job, job, String::new()),
            // The next pod of that ordinal will say.
            None => return Fate::Open,
        },
    };
    let lookup = Lookup { kind, name: name.to_owned(), uid };
    let gone = snapshot.absent.contains(&lookup.key());
    match (key, snapshot.owners.get(name)) {
        (MemberKey::Job(_) | MemberKey::Index(..), _) if snapshot.outlived.contains(name) => Fate::Open,
        (MemberKey::Pod { .. }, _) if gone => Fate::Leaves,
        // Another Job of that name, which is no member.
        (MemberKey::Job(_), Some(_)) => Fate::Done,
        (MemberKey::Index(..), Some(job)) if job.is_over() => Fate::Done,
        (MemberKey::Index(..), Some(_)) => Fate::Open,
        _ if gone => Fate::Done,
        _ => {
            lookups.push(lookup);
            Fate::Open
        }
    }
}

// ------------------------------------------------------------------------------------------------------- words

fn says(phase: WaitGroupPhase, status: &WaitGroupStatus, spec: &WaitGroupSpec, awaited: bool) -> Says {
    let (done, open) = (status.done.len(), status.open.len());
    let (reason, message) = match phase {
        WaitGroupPhase::Done => (reason::MEMBERS_DONE, format!("all {done} members are through")),
        WaitGroupPhase::Waiting if done + open == 0 => {
            (reason::MEMBERS_OPEN, "it has had no member yet".to_owned())
        }
        WaitGroupPhase::Waiting if open == 0 => (
            reason::MEMBERS_OPEN,
            format!("{done} members are through, and at least {} are expected", at_least(spec)),
        ),
        WaitGroupPhase::Waiting => {
            let names: Vec<_> = status.open.iter().take(5).map(MemberKey::display).collect();
            let more = if open > names.len() { ", …" } else { "" };
            (
                reason::MEMBERS_OPEN,
                format!("{done} of {} members are through; not yet: {}{more}", done + open, names.join(", ")),
            )
        }
    };
    let note = (spec.expect_at_least.is_none() && awaited).then(|| {
        "without expectAtLeast it is Done as soon as the members seen so far are through: one that is created later \
         comes too late"
            .to_owned()
    });
    Says { domain: DONE, value: phase == WaitGroupPhase::Done, reason, message, note, stalled: None }
}

/// Where somebody stands who names it.
pub fn entrance(group: &WaitGroup, asker: &Asker<'_>) -> Entrance {
    let status = group.status.as_ref();
    let done = status.is_some_and(|status| status.phase == Some(WaitGroupPhase::Done));
    let through = match asker.role {
        // Who comes when the round is over is added to the next one before it starts.
        Role::Join => status.is_some_and(|status| {
            !round_is_over(status, &group.spec, asker.now) && (done || is_known(status, asker.member))
        }),
        _ => done,
    };
    if through {
        return Entrance::Through;
    }
    let said = status
        .and_then(|status| status.common.conditions.iter().find(|condition| condition.type_ == DONE))
        .map_or("it has had no member yet", |condition| condition.message.as_str());
    let (verb, busy) =
        if asker.role == Role::Join { ("is not a member yet of", false) } else { ("waits for", true) };
    Entrance::Closed { reason: reason::WAITING, message: format!("{verb} {}: {said}", asker.primitive), busy }
}

/// What its status may become.
pub fn check(group: &WaitGroup, after: &WaitGroupStatus) -> Result<(), Violation> {
    let before = group.status.clone().unwrap_or_default();
    let violation = |invariant, detail: String| Err(Violation { invariant, detail });
    if after.phase == Some(WaitGroupPhase::Done)
        && before.phase != Some(WaitGroupPhase::Done)
        && !(after.open.is_empty() && after.done.len() >= at_least(&group.spec))
    {
        let detail = format!("done with {} open and {} through", after.open.len(), after.done.len());
        return violation("WaitGroupNoEarlyDone", detail);
    }
    if let Some(key) = after.open.iter().find(|key| after.done.contains(key)) {
        return violation("DoneIdempotent", format!("{} would be both open and done", key.display()));
    }
    let new_round = before.phase == Some(WaitGroupPhase::Done) && after.phase != Some(WaitGroupPhase::Done);
    if let Some(key) = before.done.iter().find(|key| !new_round && !after.done.contains(key)) {
        return violation("DoneIdempotent", format!("{} was done", key.display()));
    }
    Ok(())
}
