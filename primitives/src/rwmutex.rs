//! `RWMutex`: many readers, or one writer.
//!
//! Enter, by policy:
//!
//! | policy | readers | writers |
//! |---|---|---|
//! | `Fair` | in the order of the queue, those that follow each other together; a waiting writer stops those behind it | in the order of the queue, when nobody holds |
//! | `PhaseFair` | as `Fair`; and all that wait when a writer leaves | as `Fair` |
//! | `PreferReaders` | whenever no writer holds | when nobody holds and no reader waits |
//! | `PreferWriters` | when no writer holds or waits | in the order of the queue, when nobody holds |
//!
//! Leave: by evidence only, each for itself; if there is a `ttl`, by silence, too ([`crate::silence`]).
//! Invariants: `LedgerExclusion` (no writer beside anybody), `TokenMonotone`, `ReleaseNeedsEvidence`.
//!
//! Source of the task-fair and phase-fair orders: Brandenburg and Anderson, "Spin-based reader-writer synchronization for
//! multiprocessor real-time systems", Real-Time Systems 46 (2010).

use konductor_api::conditions::{HELD, reason};
use konductor_api::ledger::{Holder, Mode, holders};
use konductor_api::participation::Role;
use konductor_api::rwmutex::{RWMutex, RWMutexPhase, RWMutexPolicy, RWMutexStatus};

use crate::describe::{Says, ttl_note};
use crate::entrance::{Asker, Entrance, held};
use crate::invariants::{self, Violation};
use crate::snapshot::{Participant, Snapshot};
use crate::step::Step;
use crate::turn::{May, Turn, named};

/// What follows from the snapshot.
pub fn step(snapshot: &Snapshot<RWMutex>) -> Step<RWMutexStatus> {
    let lock = &snapshot.primitive;
    let mut turn = Turn::begin(snapshot, &lock.metadata, lock.status.as_ref(), lock.spec.ttl);
    match lock.spec.policy {
        RWMutexPolicy::Fair => turn.admit(fair),
        RWMutexPolicy::PhaseFair => {
            if turn.ended.iter().any(|(holder, _)| writes(holder)) {
                turn.admit(readers);
            }
            turn.admit(fair);
        }
        RWMutexPolicy::PreferReaders => {
            turn.admit(readers);
            turn.admit(fair);
        }
        RWMutexPolicy::PreferWriters => {
            turn.admit(
                |holders, next| if next.role == Role::Write { fair(holders, next) } else { May::PassOver },
            );
            let writer_waits = turn.line().any(|waiting| waiting.role == Role::Write && waiting.can_start());
            if !writer_waits {
                turn.admit(readers);
            }
        }
    }
    turn.finish(|status| {
        let holders = &status.ledger.holders;
        let writer = holders.iter().find(|holder| writes(holder));
        status.readers =
            i64::try_from(holders.iter().filter(|holder| !writes(holder)).count()).unwrap_or(i64::MAX);
        status.write_holder = writer.map(Holder::display);
        let (phase, reason, message) = match (writer, status.readers) {
            (Some(writer), _) => {
                (RWMutexPhase::WriteLocked, reason::LOCKED, format!("held to write by {}", writer.display()))
            }
            (None, 0) => (RWMutexPhase::Unlocked, reason::UNLOCKED, "nobody holds it".to_owned()),
            (None, _) => {
                (RWMutexPhase::ReadLocked, reason::LOCKED, format!("held to read by {}", named(holders)))
            }
        };
        status.phase = Some(phase);
        Says {
            domain: HELD,
            value: phase != RWMutexPhase::Unlocked,
            reason,
            message,
            note: ttl_note(lock.spec.ttl),
            stalled: None,
        }
    })
}

/// Whoever comes next in the queue: a reader beside readers, a writer alone.
fn fair(holders: &[Holder], next: &Participant) -> May {
    let fits = if next.role == Role::Write { holders.is_empty() } else { !holders.iter().any(writes) };
    if fits { May::Enter } else { May::Stop }
}

/// Readers only, past the writers among them.
fn readers(holders: &[Holder], next: &Participant) -> May {
    match next.role {
        Role::Write => May::PassOver,
        _ => fair(holders, next),
    }
}

fn writes(holder: &Holder) -> bool {
    holder.mode != Some(Mode::Read)
}

/// Where somebody stands who names it.
pub fn entrance(lock: &RWMutex, asker: &Asker<'_>) -> Entrance {
    let holders = holders(lock.status.as_ref());
    let busy = if asker.role == Role::Write { !holders.is_empty() } else { holders.iter().any(writes) };
    held(holders, asker, busy)
}

/// What its status may become.
pub fn check(lock: &RWMutex, after: &RWMutexStatus) -> Result<(), Violation> {
    let before = lock.status.clone().unwrap_or_default();
    let holders = &after.ledger.holders;
    if holders.len() > 1 && holders.iter().any(writes) {
        return Err(Violation {
            invariant: "LedgerExclusion",
            detail: format!("a writer beside others: {}", named(holders)),
        });
    }
    invariants::ledger(&before.ledger, &after.ledger)
}
