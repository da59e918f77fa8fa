//! Once: run by one at a time until one has succeeded, and then by nobody.
//!
//! Enter: the head of the queue when nobody runs, nothing is recorded for the key, and fewer than `maxAttempts` have
//! failed. Leave: by evidence only. A success is recorded when it is *proven* (a Job complete, a pod whose critical
//! containers the kubelet saw exit with 0), in the write that ends the hold; whoever is gone otherwise counts as an
//! attempt, and whoever never started or was suspended counts as nothing. A new `key` is a new once, but who runs for
//! the old one ends first, and its success is not the new one's. A success older than `ttl` no longer counts when the
//! next one comes.
//! Invariants: `LedgerExclusion`, `OnceSingleSuccess`, `OnceNoPhantomDone`, `TokenMonotone`, `ReleaseNeedsEvidence`.
//!
//! Prior art: Go's `sync.Once`, for which a panic counts as done; here it does not.

use jiff::Timestamp;
use konductor_api::conditions::{DONE, reason};
use konductor_api::ledger::Holder;
use konductor_api::once::{Once, OncePhase, OnceStatus};

use crate::describe::Says;
use crate::entrance::{Asker, Entrance, held};
use crate::facts::to_the_second;
use crate::hold::{Ending, Outcome};
use crate::invariants::{self, Violation};
use crate::snapshot::Snapshot;
use crate::step::Step;
use crate::turn::{May, Turn};

/// What follows from the snapshot.
pub fn step(snapshot: &Snapshot<Once>) -> Step<OnceStatus> {
    let once = &snapshot.primitive;
    let mut turn = Turn::begin(snapshot, &once.metadata, once.status.as_ref(), None);
    let ended = std::mem::take(&mut turn.ended);
    record(&mut turn.status, &ended, snapshot.now);
    turn_to_key(&mut turn.status, once);
    if turn.line().next().is_some() && has_expired(&turn.status, once, snapshot.now) {
        forget(&mut turn.status);
    }
    let over = turn.status.executed || is_exhausted(&turn.status, once);
    turn.admit(|holders, _| if holders.is_empty() && !over { May::Enter } else { May::Stop });
    turn.finish(|status| {
        let runner = status.ledger.holders.first();
        let phase = match runner {
            _ if status.executed => OncePhase::Executed,
            Some(_) => OncePhase::Running,
            None if is_exhausted(status, once) => OncePhase::Failed,
            None => OncePhase::Pending,
        };
        status.phase = Some(phase);
        says(status, phase, once)
    })
}

/// What the holds that ended mean.
fn record(status: &mut OnceStatus, ended: &[(Holder, Ending)], now: Timestamp) {
    for (holder, ending) in ended {
        // Who ran for an earlier key has no part in this one.
        if status.running_key.take().is_some() {
            continue;
        }
        match ending.outcome {
            Outcome::Succeeded if !status.executed => {
                status.executed = true;
                status.executor = Some(holder.display());
                status.executed_at = Some(to_the_second(now));
            }
            Outcome::Succeeded | Outcome::GaveBack => {}
            Outcome::Failed => status.attempts += 1,
        }
    }
}

/// A new key is a new once. Who runs is remembered to run for the old one.
fn turn_to_key(status: &mut OnceStatus, once: &Once) {
    if status.key == once.spec.key {
        return;
    }
    if status.ledger.holders.is_empty() {
        status.running_key = None;
    } else if status.running_key.is_none() {
        status.running_key = Some(status.key.clone().unwrap_or_default());
    }
    // Back to the key that somebody runs for: it is the present one again.
    if status.running_key.as_ref() == Some(&once.spec.key.clone().unwrap_or_default()) {
        status.running_key = None;
    }
    status.key.clone_from(&once.spec.key);
    forget(status);
}

fn forget(status: &mut OnceStatus) {
    status.executed = false;
    status.executor = None;
    status.executed_at = None;
    status.attempts = 0;
}

fn has_expired(status: &OnceStatus, once: &Once, now: Timestamp) -> bool {
    let (Some(ttl), Some(at)) = (once.spec.ttl, status.executed_at.as_ref()) else { return false };
    status.executed && ttl.after(at.0).is_some_and(|over| over <= now)
}

fn is_exhausted(status: &OnceStatus, once: &Once) -> bool {
    !status.executed && once.spec.max_attempts.is_some_and(|max| status.attempts >= max)
}

fn says(status: &OnceStatus, phase: OncePhase, once: &Once) -> Says {
    let runner = status.ledger.holders.first().map(Holder::display).unwrap_or_default();
    let failed = match status.attempts {
        0 => String::new(),
        1 => "; one attempt has failed".to_owned(),
        attempts => format!("; {attempts} attempts have failed"),
    };
    let (reason, message) = match phase {
        OncePhase::Executed => {
            (reason::EXECUTED, format!("executed by {}", status.executor.as_deref().unwrap_or("somebody")))
        }
        OncePhase::Running => (reason::RUNNING, format!("{runner} runs{failed}")),
        OncePhase::Pending => (reason::NOT_EXECUTED, format!("nobody has succeeded yet{failed}")),
        OncePhase::Failed => (
            reason::ATTEMPTS_EXHAUSTED,
            format!("{} attempts have failed, and no more are allowed", status.attempts),
        ),
    };
    let stalled = (phase == OncePhase::Failed).then(|| {
        let message = "raise spec.maxAttempts, or set another spec.key, once what failed is mended; then create the \
                       Jobs that waited again";
        (reason::ATTEMPTS_EXHAUSTED, message.to_owned())
    });
    let note = once
        .spec
        .ttl
        .map(|ttl| format!("a success counts for {ttl}"))
        .filter(|_| phase == OncePhase::Executed);
    Says { domain: DONE, value: phase == OncePhase::Executed, reason, message, note, stalled }
}

/// Where somebody stands who names it.
pub fn entrance(once: &Once, asker: &Asker<'_>) -> Entrance {
    let Some(status) = &once.status else { return held(&[], asker, false) };
    let runs = status.ledger.holders.iter().any(|holder| holder.uid == asker.uid);
    if !runs && status.key == once.spec.key {
        if status.executed && !has_expired(status, once, asker.now) {
            let executor = status.executor.as_deref().unwrap_or("somebody");
            return Entrance::Done {
                message: format!("{} was executed by {executor} already", asker.primitive),
            };
        }
        if status.phase == Some(OncePhase::Failed) && is_exhausted(status, once) {
            let message = format!("{}: {} attempts have failed", asker.primitive, status.attempts);
            return Entrance::Never { message };
        }
    }
    held(&status.ledger.holders, asker, !status.ledger.holders.is_empty())
}

/// What its status may become.
pub fn check(once: &Once, after: &OnceStatus) -> Result<(), Violation> {
    let before = once.status.clone().unwrap_or_default();
    invariants::alone(&after.ledger)?;
    invariants::ledger(&before.ledger, &after.ledger)?;
    let same_key = before.key == after.key && before.executed;
    if same_key
        && after.executed
        && (before.executor != after.executor || before.executed_at != after.executed_at)
    {
        return Err(Violation {
            invariant: "OnceSingleSuccess",
            detail: format!("{:?} would be recorded over {:?}", after.executor, before.executor),
        });
    }
    let held_it = before.ledger.holders.iter().any(|holder| Some(holder.display()) == after.executor);
    if after.executed && !(same_key || held_it) {
        return Err(Violation {
            invariant: "OnceNoPhantomDone",
            detail: format!("{:?} would be recorded without having held it", after.executor),
        });
    }
    Ok(())
}
