//! Mutex: one holder at a time, in the order of the queue.
//!
//! Enter: the head of the queue when the ledger is empty. Leave: by evidence only ([`crate::hold`]); if there is a `ttl`,
//! by silence, too ([`crate::silence`]). Invariants: `LedgerExclusion`, `TokenMonotone`, `ReleaseNeedsEvidence`, `PriorityRespected`.
//!
//! Prior art: tickets in creation order with a fencing revision, as in etcd's `concurrency` package; release on the
//! observed end of the holder, as the session locks of `PostgreSQL` have it.

use konductor_api::ledger::{Holder, holders};
use konductor_api::mutex::{Mutex, MutexPhase, MutexStatus};

use crate::describe::alone;
use crate::entrance::{Asker, Entrance, held};
use crate::invariants::{self, Violation};
use crate::snapshot::Snapshot;
use crate::step::Step;
use crate::turn::{May, Turn};

/// What follows from the snapshot.
pub fn step(snapshot: &Snapshot<Mutex>) -> Step<MutexStatus> {
    let mutex = &snapshot.primitive;
    let mut turn = Turn::begin(snapshot, &mutex.metadata, mutex.status.as_ref(), mutex.spec.ttl);
    turn.admit(|holders, _| if holders.is_empty() { May::Enter } else { May::Stop });
    turn.finish(|status| {
        let holder = status.ledger.holders.first();
        status.phase = Some(if holder.is_some() { MutexPhase::Locked } else { MutexPhase::Unlocked });
        status.holder = holder.map(Holder::display);
        alone(holder, mutex.spec.ttl)
    })
}

/// Where somebody stands who names it.
pub fn entrance(mutex: &Mutex, asker: &Asker<'_>) -> Entrance {
    let holders = holders(mutex.status.as_ref());
    held(holders, asker, !holders.is_empty())
}

/// What its status may become.
pub fn check(mutex: &Mutex, after: &MutexStatus) -> Result<(), Violation> {
    let before = mutex.status.clone().unwrap_or_default();
    invariants::alone(&after.ledger)?;
    invariants::ledger(&before.ledger, &after.ledger)
}
