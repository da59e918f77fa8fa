//! Semaphore: the permits that are held at one time are never more than there are.
//!
//! Enter: the head of the queue while its permits fit, several in one write; a head that does not fit stops those behind
//! it, so that who asks for many is not starved by those who ask for one. Who asks for more than there are at all is
//! refused at once, and stands in nobody's way. Fewer permits put nobody out: nobody enters until enough have ended.
//! Leave: by evidence only; if there is a `ttl`, by silence, too ([`crate::silence`]).
//! Invariants: `SemaphoreBound`, `TokenMonotone`, `ReleaseNeedsEvidence`, `PriorityRespected`.
//!
//! Prior art: Java's fair `Semaphore`, but with permits that somebody owns; strict order as in Kueue's `StrictFIFO`.

use konductor_api::conditions::{AVAILABLE, reason};
use konductor_api::ledger::{Holder, holders};
use konductor_api::participation::Role;
use konductor_api::semaphore::{Semaphore, SemaphorePhase, SemaphoreStatus};

use crate::describe::{Says, ttl_note};
use crate::entrance::{Asker, Entrance, held};
use crate::invariants::{self, Violation};
use crate::snapshot::Snapshot;
use crate::step::Step;
use crate::turn::{May, Turn};

/// What follows from the snapshot.
pub fn step(snapshot: &Snapshot<Semaphore>) -> Step<SemaphoreStatus> {
    let semaphore = &snapshot.primitive;
    let permits = semaphore.spec.permits;
    let mut turn = Turn::begin(snapshot, &semaphore.metadata, semaphore.status.as_ref(), semaphore.spec.ttl);
    let mut free = permits - in_use(turn.holders());
    turn.admit(|_, next| {
        let wanted = wanted(next.role);
        if wanted > permits {
            return May::PassOver;
        }
        if wanted > free {
            return May::Stop;
        }
        free -= wanted;
        May::Enter
    });
    turn.finish(|status| {
        let in_use = in_use(&status.ledger.holders);
        status.in_use = in_use;
        status.available = (permits - in_use).max(0);
        status.used = Some(format!("{in_use}/{permits}"));
        let (phase, reason, message) = match permits - in_use {
            1.. => (
                SemaphorePhase::Ready,
                reason::PERMITS_FREE,
                format!("{} of {permits} permits are free", permits - in_use),
            ),
            0 => (SemaphorePhase::Full, reason::NO_PERMITS, format!("all {permits} permits are held")),
            _ => (
                SemaphorePhase::OverCommitted,
                reason::OVER_COMMITTED,
                format!(
                    "{in_use} permits are held and there are {permits}: nobody enters until enough holders have ended"
                ),
            ),
        };
        status.phase = Some(phase);
        Says {
            domain: AVAILABLE,
            value: phase == SemaphorePhase::Ready,
            reason,
            message,
            note: ttl_note(semaphore.spec.ttl),
            stalled: None,
        }
    })
}

/// Where somebody stands who names it.
pub fn entrance(semaphore: &Semaphore, asker: &Asker<'_>) -> Entrance {
    let holders = holders(semaphore.status.as_ref());
    let (wanted, permits) = (wanted(asker.role), semaphore.spec.permits);
    let holds = holders.iter().any(|holder| holder.uid == asker.uid);
    if wanted > permits && !holds {
        return Entrance::Never {
            message: format!(
                "it asks for {wanted} permits of {}, and there are {permits}: ask for fewer, or raise spec.permits",
                asker.primitive
            ),
        };
    }
    held(holders, asker, in_use(holders) + wanted > permits)
}

/// What its status may become.
pub fn check(semaphore: &Semaphore, after: &SemaphoreStatus) -> Result<(), Violation> {
    let before = semaphore.status.clone().unwrap_or_default();
    let enters = after.ledger.holders.iter().any(|holder| {
        !before.ledger.holders.iter().any(|known| known.uid == holder.uid && known.token == holder.token)
    });
    let sum = in_use(&after.ledger.holders);
    if enters && sum > semaphore.spec.permits {
        return Err(Violation {
            invariant: "SemaphoreBound",
            detail: format!("{sum} of {} permits", semaphore.spec.permits),
        });
    }
    invariants::ledger(&before.ledger, &after.ledger)
}

fn wanted(role: Role) -> i64 {
    match role {
        Role::Take(permits) => i64::from(permits),
        _ => 1,
    }
}

fn in_use(holders: &[Holder]) -> i64 {
    holders.iter().map(|holder| holder.permits.unwrap_or(1)).sum()
}
