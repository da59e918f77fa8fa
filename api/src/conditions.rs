//! Condition types and their reasons, on primitives and on pods.
//!
//! Pure. The reasons are part of the API: people and tools branch on them. What must stay true: a condition's
//! `lastTransitionTime` changes when its status changes and never otherwise.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// This generation of the spec was accepted. Never about whether a gate is open or a lock free, so that installers
/// that wait for `Ready` pass at once.
pub const READY: &str = "Ready";
/// A gate lets through.
pub const OPEN: &str = "Open";
/// A mutex is held.
pub const HELD: &str = "Held";
/// A person must act; the message says what can be done.
pub const STALLED: &str = "Stalled";
/// On pods: has everything the pod waits for been granted?
pub const GRANTED: &str = "konductor.io/Granted";
/// On Jobs: Kubernetes' own request to fail a Job.
pub const FAILURE_TARGET: &str = "FailureTarget";

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
    /// `Held=True`.
    pub const LOCKED: &str = "Locked";
    /// `Held=False`.
    pub const UNLOCKED: &str = "Unlocked";
    /// `Stalled=True`: a holder cannot be proven dead.
    pub const HOLDER_SUSPECT: &str = "HolderSuspect";
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
    /// On Jobs, `FailureTarget=True`: the gate that the Job waits for can never open.
    pub const GATE_FAILED: &str = "KonductorGateFailed";
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
