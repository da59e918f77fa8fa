//! Invariants: what no write may break, checked on every new status before it is written.
//!
//! Pure. The names are those of the design, the same in tests, in metrics and in the docs. A violation refuses the
//! write: a bug then delays somebody, it does not let two in.

use std::collections::BTreeSet;

use konductor_api::gate::{ConditionOutcome, GatePhase, GateSpec, GateStatus};
use konductor_api::ledger::{Holder, ParticipantKind, Release};
use konductor_api::mutex::MutexStatus;

/// A rule that a new status would break.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Name of the rule.
    pub invariant: &'static str,
    /// What is wrong.
    pub detail: String,
}

/// What a mutex's status may become.
pub fn mutex(before: &MutexStatus, after: &MutexStatus) -> Result<(), Violation> {
    if after.holders.len() > 1 {
        return violation("LedgerExclusion", format!("{} holders", after.holders.len()));
    }
    grants(&before.holders, &after.holders, before.last_token.as_deref())?;
    releases(&before.holders, &after.holders, &after.history)?;
    let highest = after.holders.iter().map(|holder| number(&holder.token)).max().unwrap_or(0);
    if number(after.last_token.as_deref().unwrap_or("0")) < highest.max(last(before.last_token.as_deref())) {
        return violation("TokenMonotone", format!("lastToken would fall to {:?}", after.last_token));
    }
    Ok(())
}

/// What a gate's status may become.
pub fn gate(spec: &GateSpec, before: &GateStatus, after: &GateStatus) -> Result<(), Violation> {
    for known in before.condition_statuses.iter().filter(|known| known.outcome == ConditionOutcome::Met) {
        let asked = spec.conditions.iter().any(|condition| {
            (condition.type_, &condition.name, condition.state) == (known.type_, &known.name, known.state)
        });
        if asked && !after.condition_statuses.contains(known) {
            return violation("LatchFinal", format!("{} {:?} was met", known.name, known.state));
        }
    }
    let sound = !spec.conditions.is_empty()
        && after.condition_statuses.len() == spec.conditions.len()
        && after
            .condition_statuses
            .iter()
            .all(|known| known.outcome == ConditionOutcome::Met && known.uid.is_some());
    if after.phase == Some(GatePhase::Open) && !sound {
        return violation("GateSound", "open without every condition met by an object".to_owned());
    }
    Ok(())
}

/// `TokenMonotone`, `GrantIdempotent`, `LedgerBeforeGo`.
fn grants(before: &[Holder], after: &[Holder], last_token: Option<&str>) -> Result<(), Violation> {
    let mut uids = BTreeSet::new();
    for holder in after {
        if !uids.insert(&holder.uid) {
            return violation("GrantIdempotent", format!("{} would hold twice", holder.display()));
        }
        let known = before.iter().find(|known| known.uid == holder.uid && known.token == holder.token);
        match known {
            Some(known) => {
                if known.granted_at != holder.granted_at {
                    return violation(
                        "GrantIdempotent",
                        format!("{} would be granted anew", holder.display()),
                    );
                }
                let forgotten = known.pods.iter().find(|told| holder.told(&told.uid).is_none());
                if let Some(told) = forgotten.filter(|_| holder.kind == ParticipantKind::Pod) {
                    return violation("LedgerBeforeGo", format!("{} would be forgotten", told.name));
                }
                for pod in &holder.pods {
                    if known.told(&pod.uid).is_some_and(|told| told.run > pod.run) {
                        return violation("GrantSingleUse", format!("the run of {} would fall", pod.name));
                    }
                }
            }
            None if number(&holder.token) <= last(last_token) => {
                return violation("TokenMonotone", format!("token {} is not new", holder.token));
            }
            None => {}
        }
    }
    Ok(())
}

/// `ReleaseNeedsEvidence`: whoever leaves is found in the history.
fn releases(before: &[Holder], after: &[Holder], history: &[Release]) -> Result<(), Violation> {
    for gone in before {
        let stays = after.iter().any(|holder| holder.token == gone.token && holder.uid == gone.uid);
        let told = history.iter().any(|release| release.token == gone.token && release.uid == gone.uid);
        if !stays && !told {
            return violation("ReleaseNeedsEvidence", format!("{} would vanish", gone.display()));
        }
    }
    Ok(())
}

fn last(token: Option<&str>) -> u64 {
    token.map_or(0, number)
}

/// What is no number is the highest of all: nothing may follow it.
fn number(token: &str) -> u64 {
    token.parse().unwrap_or(u64::MAX)
}

fn violation(invariant: &'static str, detail: String) -> Result<(), Violation> {
    Err(Violation { invariant, detail })
}

impl std::fmt::Display for Violation {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}: {}", self.invariant, self.detail)
    }
}
