//! Mutex: one holder at a time, in the order of the queue.
//!
//! Enter: the head of the queue when the ledger is empty. Leave: by evidence only ([`crate::hold`]); `ttl` is accepted
//! and not acted on. Several changes that are legal together are one step: the old holder leaves and the next enters
//! in the same write. Invariants: `LedgerExclusion`, `TokenMonotone`, `ReleaseNeedsEvidence`, `PriorityRespected`.
//!
//! Prior art: tickets in creation order with a fencing revision, as in etcd's `concurrency` package; release on the
//! observed end of the holder, as the session locks of `PostgreSQL` have it.

use konductor_api::conditions::{self, Claimed, HELD, READY, STALLED, reason};
use konductor_api::ledger::{HISTORY_KEPT, Holder, QUEUE_SHOWN, Release, Waiter};
use konductor_api::mutex::{Mutex, MutexPhase, MutexStatus};

use crate::hold::{self, Fate};
use crate::snapshot::{Participant, Snapshot, to_the_second};
use crate::step::Step;
use crate::token;

/// What follows from the snapshot.
pub fn step(snapshot: &Snapshot<Mutex>) -> Step<MutexStatus> {
    let before = snapshot.primitive.status.clone().unwrap_or_default();
    let mut status = before.clone();
    let (mut lookups, mut withdrawals) = (Vec::new(), Vec::new());
    status.holders = before
        .holders
        .iter()
        .filter_map(|holder| match hold::judge(holder, snapshot, &mut lookups) {
            Fate::Stays(holder) => Some(holder),
            Fate::EndsAfter(needed) => {
                withdrawals.extend(needed);
                Some(holder.clone())
            }
            Fate::Ends(evidence) => {
                status.history.insert(0, release(holder, evidence, snapshot));
                status.history.truncate(HISTORY_KEPT);
                None
            }
        })
        .collect();
    let mut queue: Vec<_> = snapshot
        .participants
        .iter()
        .filter(|participant| participant.waits() && !holds(&before, participant))
        .collect();
    queue.sort_by(|left, right| left.key.cmp(&right.key));
    let trouble = if status.holders.is_empty() && !snapshot.is_being_deleted() {
        enter(&mut status, &mut queue, snapshot).err()
    } else {
        None
    };
    describe(&mut status, &queue, trouble, snapshot);
    let order = queue.iter().map(|participant| participant.uid.clone()).collect();
    Step { status, lookups, withdrawals, order, wake_at: None }
}

/// The first of the queue that could start now becomes the holder.
fn enter(
    status: &mut MutexStatus,
    queue: &mut Vec<&Participant>,
    snapshot: &Snapshot<Mutex>,
) -> Result<(), token::TokenError> {
    let Some(place) = queue.iter().position(|participant| participant.can_start()) else { return Ok(()) };
    let version = snapshot.primitive.metadata.resource_version.as_deref().unwrap_or_default();
    let token = token::next(status.last_token.as_deref(), version)?.to_string();
    let next = queue.remove(place);
    status.last_token = Some(token.clone());
    status.holders.push(Holder {
        kind: next.kind,
        name: next.name.clone(),
        uid: next.uid.clone(),
        token,
        granted_at: to_the_second(snapshot.now),
        pods: next.pods.iter().filter_map(hold::told_now).collect(),
        suspect: None,
    });
    Ok(())
}

fn release(
    holder: &Holder,
    evidence: konductor_api::ledger::Evidence,
    snapshot: &Snapshot<Mutex>,
) -> Release {
    Release {
        holder: holder.display(),
        uid: holder.uid.clone(),
        token: holder.token.clone(),
        evidence,
        at: to_the_second(snapshot.now),
    }
}

fn holds(status: &MutexStatus, participant: &Participant) -> bool {
    status.holders.iter().any(|holder| holder.uid == participant.uid)
}

/// Everything that people read: phase, names, queue, conditions.
fn describe(
    status: &mut MutexStatus,
    queue: &[&Participant],
    trouble: Option<token::TokenError>,
    snapshot: &Snapshot<Mutex>,
) {
    let generation = snapshot.primitive.metadata.generation;
    let holder = status.holders.first();
    status.observed_generation = generation;
    status.phase = Some(if holder.is_some() { MutexPhase::Locked } else { MutexPhase::Unlocked });
    status.holder = holder.map(Holder::display);
    status.waiting = i64::try_from(queue.len()).unwrap_or(i64::MAX);
    status.queue = queue.iter().take(QUEUE_SHOWN).map(|participant| participant.shown()).collect();
    let ready = match &snapshot.primitive.spec.ttl {
        None => "the spec is served".to_owned(),
        Some(ttl) => format!(
            "the spec is served; ttl {ttl} is accepted but not acted on in this version: a holder is released when \
             its end is proven"
        ),
    };
    let held = match holder {
        Some(holder) => (true, reason::LOCKED, format!("held by {}", holder.display())),
        None => (false, reason::UNLOCKED, "nobody holds it".to_owned()),
    };
    let stalled = trouble
        .map(|error| error.to_string())
        .or_else(|| holder.and_then(|holder| holder.suspect.clone()))
        .map_or((false, reason::NOTHING_TO_DO, "nobody needs to act".to_owned()), |message| {
            (true, reason::HOLDER_SUSPECT, message)
        });
    let ready = (true, reason::ACCEPTED, ready);
    for (type_, (value, reason, message)) in [(READY, ready), (HELD, held), (STALLED, stalled)] {
        let claimed = Claimed { type_, status: value, reason, message };
        conditions::set(&mut status.conditions, claimed, generation, to_the_second(snapshot.now).0);
    }
}

impl Snapshot<Mutex> {
    fn is_being_deleted(&self) -> bool {
        self.primitive.metadata.deletion_timestamp.is_some()
    }
}

impl Participant {
    /// As a queue shows it.
    pub(crate) fn shown(&self) -> Waiter {
        let not_yet = if self.can_start() {
            None
        } else if self.pods.is_empty() {
            Some("it has no pod yet".to_owned())
        } else {
            Some("none of its pods waits on a node that is alive".to_owned())
        };
        Waiter { kind: self.kind, name: self.name.clone(), since: to_the_second(self.key.since()), not_yet }
    }
}

/// Do two statuses differ in nothing but how the queue looks? Such a change is worth a write now and then only.
pub fn differ_in_queue_only(left: &MutexStatus, right: &MutexStatus) -> bool {
    let without_queue =
        |status: &MutexStatus| MutexStatus { waiting: 0, queue: Vec::new(), ..status.clone() };
    without_queue(left) == without_queue(right)
}
