//! Condition types and their reasons, on primitives and on pods.
//!
//! Pure. The reasons are part of the API: people and tools branch on them. What must stay true: a condition's
//! `lastTransitionTime` changes when its status changes and never otherwise.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// This generation of the spec was accepted. Never about whether a gate is open or a lock free, so that installers
/// that wait for `Ready` pass at once.
pub const READY: &str = "Ready";
/// A gate or barrier lets through.
pub const OPEN: &str = "Open";
/// A lock or lease is held.
pub const HELD: &str = "Held";
/// A semaphore has permits to give.
pub const AVAILABLE: &str = "Available";
/// A once was executed; all members of a wait group are through.
pub const DONE: &str = "Done";
/// A person must act; the message says what can be done.
pub const STALLED: &str = "Stalled";
/// On pods: has everything the pod waits for been granted?
pub const GRANTED: &str = "konductor.io/Granted";
/// On Claims: has it what it asks for?
pub const CLAIM_GRANTED: &str = "Granted";
/// On Jobs: Kubernetes' own request to fail a Job.
pub const FAILURE_TARGET: &str = "FailureTarget";
/// On Jobs: Kubernetes' own request to complete a Job.
pub const SUCCESS_CRITERIA_MET: &str = "SuccessCriteriaMet";

/// Reasons.
pub mod reason {
    /// `Ready`: the spec was read and is served.
    pub const ACCEPTED: &str = "Accepted";
    /// `Open`: every condition was met.
    pub const CONDITIONS_MET: &str = "ConditionsMet";
    /// `Open=False`: conditions are missing.
    pub const CONDITIONS_MISSING: &str = "ConditionsMissing";
    /// `Open=False`: a condition can never be met any more.
    pub const CONDITION_IMPOSSIBLE: &str = "ConditionImpossible";
    /// `Open=False`: it stayed closed for longer than its timeout.
    pub const TIMED_OUT: &str = "TimedOut";
    /// `Open`: a person decided.
    pub const OVERRIDDEN: &str = "Overridden";
    /// `Open=True`: as many have arrived as are needed.
    pub const ALL_ARRIVED: &str = "AllArrived";
    /// `Open=False`: more have to arrive.
    pub const ARRIVALS_MISSING: &str = "ArrivalsMissing";
    /// `Available=True`: permits are free.
    pub const PERMITS_FREE: &str = "PermitsFree";
    /// `Available=False`: none is free.
    pub const NO_PERMITS: &str = "NoPermits";
    /// `Available=False`: more are held than there are.
    pub const OVER_COMMITTED: &str = "OverCommitted";
    /// `Done=True`: somebody has succeeded.
    pub const EXECUTED: &str = "Executed";
    /// `Done=False`: nobody has succeeded yet.
    pub const NOT_EXECUTED: &str = "NotExecuted";
    /// `Done=False`: somebody runs.
    pub const RUNNING: &str = "Running";
    /// `Done=False`: as many have failed as may.
    pub const ATTEMPTS_EXHAUSTED: &str = "AttemptsExhausted";
    /// `Done=True`: all members are through.
    pub const MEMBERS_DONE: &str = "MembersDone";
    /// `Done=False`: members are missing, or not through yet.
    pub const MEMBERS_OPEN: &str = "MembersOpen";
    /// `Held=True`.
    pub const LOCKED: &str = "Locked";
    /// `Held=False`.
    pub const UNLOCKED: &str = "Unlocked";
    /// `Stalled=True`: a holder cannot be proven dead.
    pub const HOLDER_SUSPECT: &str = "HolderSuspect";
    /// `Stalled=True`: no token can be given out.
    pub const NO_TOKEN: &str = "NoToken";
    /// `Stalled=True`: the ledger has as many entries as fit into an object.
    pub const LEDGER_FULL: &str = "LedgerFull";
    /// `Stalled=True`: it waits for itself, or for something that it may not look at.
    pub const BAD_REFERENCE: &str = "BadReference";
    /// `Stalled=False`.
    pub const NOTHING_TO_DO: &str = "NothingToDo";
    /// On pods, `Granted=False`: in a queue, or before a closed gate.
    pub const WAITING: &str = "Waiting";
    /// On pods, `Granted=False`: what the pod names does not exist (yet).
    pub const MISSING_PRIMITIVE: &str = "MissingPrimitive";
    /// On pods, `Granted=False`: it will never be granted.
    pub const DENIED: &str = "Denied";
    /// On pods, `Granted=True`.
    pub const GRANTED: &str = "Granted";
    /// On Claims, `Granted=False`: it would have had to wait.
    pub const BUSY: &str = "Busy";
    /// On Claims, `Granted=False`: it was not renewed in time.
    pub const NOT_RENEWED: &str = "NotRenewed";
    /// On Claims, `Granted=False`: somebody with the right to do so broke the hold.
    pub const BROKEN: &str = "Broken";
    /// On Claims, `Granted=False`: the hold has ended, with its pod or otherwise.
    pub const LOST: &str = "Lost";
    /// On Claims, `Granted=False`: it was given back.
    pub const RELEASED: &str = "Released";
    /// The pod starts, and what it would do once was done already.
    pub const SKIPPED: &str = "Skipped";
    /// On Jobs, `FailureTarget=True`: what the Job waits for can never come true.
    pub const JOB_DENIED: &str = "KonductorDenied";
    /// On Jobs, `FailureTarget=True`: the Job has waited for as long as it may.
    pub const JOB_TIMED_OUT: &str = "KonductorTimedOut";
    /// On Jobs, `FailureTarget=True`: the Job would have had to wait.
    pub const JOB_BUSY: &str = "KonductorBusy";
    /// On Jobs, `SuccessCriteriaMet=True`: the Job is complete without having run.
    pub const JOB_SKIPPED: &str = "KonductorSkipped";
}

/// A condition's name, value and words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed<'a> {
    /// One of the constants above.
    pub type_: &'a str,
    /// True or False.
    pub status: bool,
    /// One of [`reason`].
    pub reason: &'a str,
    /// A sentence.
    pub message: String,
}

/// Sets a condition in a list that is kept in the order of first appearance.
pub fn set(conditions: &mut Vec<Condition>, claimed: Claimed<'_>, generation: Option<i64>, now: Timestamp) {
    let status = if claimed.status { "True" } else { "False" };
    let fresh = Condition {
        type_: claimed.type_.to_owned(),
        status: status.to_owned(),
        reason: claimed.reason.to_owned(),
        message: claimed.message,
        observed_generation: generation,
        last_transition_time: Time(now),
    };
    match conditions.iter_mut().find(|known| known.type_ == fresh.type_) {
        None => conditions.push(fresh),
        Some(known) => {
            let since = if known.status == fresh.status {
                known.last_transition_time.clone()
            } else {
                fresh.last_transition_time.clone()
            };
            *known = Condition { last_transition_time: since, ..fresh };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_time_moves_with_the_status_only() {
        let claimed = |status, message: &str| Claimed {
            type_: OPEN,
            status,
            reason: reason::CONDITIONS_MISSING,
            message: message.to_owned(),
        };
        let mut conditions = Vec::new();
        set(&mut conditions, claimed(false, "0/1"), Some(1), at(10));
        set(&mut conditions, claimed(false, "still 0/1"), Some(2), at(20));
        assert_eq!(conditions.len(), 1);
        assert_eq!(
            (conditions[0].last_transition_time.0, conditions[0].message.as_str()),
            (at(10), "still 0/1")
        );
        assert_eq!(conditions[0].observed_generation, Some(2));
        set(&mut conditions, claimed(true, "1/1"), Some(2), at(30));
        assert_eq!(conditions[0].last_transition_time.0, at(30));
    }
}
