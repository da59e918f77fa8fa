//! Lease: a singleton, or the leader of those who stand by.
//!
//! Enter: the head of the queue when the ledger is empty; `priority` is that of waiters who have none of their own.
//! Leave: by evidence only, so a dead leader is replaced at once; if there is a `ttl`, by silence, too ([`crate::silence`]). The rules are
//! those of [`crate::mutex`]; what differs is what it is for, and so its words.
//! Invariants: `LedgerExclusion`, `TokenMonotone`, `ReleaseNeedsEvidence`, `PriorityRespected`.
//!
//! Prior art: leader election on `coordination.k8s.io` Leases, which gives way by time and disclaims fencing; here one
//! gives way by proof, and a token goes with it.

use konductor_api::lease::{Lease, LeasePhase, LeaseStatus};
use konductor_api::ledger::{Holder, holders};

use crate::describe::alone;
use crate::entrance::{Asker, Entrance, held};
use crate::invariants::{self, Violation};
use crate::snapshot::Snapshot;
use crate::step::Step;
use crate::turn::{May, Turn};

/// What follows from the snapshot.
pub fn step(snapshot: &Snapshot<Lease>) -> Step<LeaseStatus> {
    let lease = &snapshot.primitive;
    let mut turn = Turn::begin(snapshot, &lease.metadata, lease.status.as_ref(), lease.spec.ttl);
    turn.admit(|holders, _| if holders.is_empty() { May::Enter } else { May::Stop });
    turn.finish(|status| {
        let holder = status.ledger.holders.first();
        status.phase = Some(if holder.is_some() { LeasePhase::Held } else { LeasePhase::Available });
        status.holder = holder.map(Holder::display);
        alone(holder, lease.spec.ttl)
    })
}

/// Where somebody stands who names it.
pub fn entrance(lease: &Lease, asker: &Asker<'_>) -> Entrance {
    let holders = holders(lease.status.as_ref());
    held(holders, asker, !holders.is_empty())
}

/// What its status may become.
pub fn check(lease: &Lease, after: &LeaseStatus) -> Result<(), Violation> {
    let before = lease.status.clone().unwrap_or_default();
    invariants::alone(&after.ledger)?;
    invariants::ledger(&before.ledger, &after.ledger)
}
