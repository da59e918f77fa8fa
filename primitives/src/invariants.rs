//! Invariants: what no write may break, checked on every new status before it is written.
//!
//! Pure. Here is what all ledgers have in common; what is peculiar to a kind is checked in its own file. The names are
//! those of the design, the same in tests, in metrics and in the docs. A violation refuses the write: a bug then delays
//! somebody, it does not let two in.

use std::collections::{BTreeMap, BTreeSet};

use konductor_api::ledger::{Holder, Ledger, ParticipantKind, Release};

/// A rule that a new status would break.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Name of the rule.
    pub invariant: &'static str,
    /// What is wrong.
    pub detail: String,
}

/// `LedgerExclusion`: at most one holds.
pub fn alone(after: &Ledger) -> Result<(), Violation> {
    if after.holders.len() > 1 {
        return violation("LedgerExclusion", format!("{} holders", after.holders.len()));
    }
    Ok(())
}

/// What any ledger may become.
pub fn ledger(before: &Ledger, after: &Ledger) -> Result<(), Violation> {
    grants(&before.holders, &after.holders, before.last_token.as_deref())?;
    releases(&before.holders, &after.holders, &after.history)?;
    let highest = after.holders.iter().map(|holder| number(&holder.token)).max().unwrap_or(0);
    if number(after.last_token.as_deref().unwrap_or("0")) < highest.max(last(before.last_token.as_deref())) {
        return violation("TokenMonotone", format!("lastToken would fall to {:?}", after.last_token));
    }
    Ok(())
}

/// `TokenMonotone`, `GrantIdempotent`, `LedgerBeforeGo`.
fn grants(before: &[Holder], after: &[Holder], last_token: Option<&str>) -> Result<(), Violation> {
    let known: BTreeMap<_, _> = before.iter().map(|known| ((&known.uid, &known.token), known)).collect();
    let mut uids = BTreeSet::new();
    for holder in after {
        if !uids.insert(&holder.uid) {
            return violation("GrantIdempotent", format!("{} would hold twice", holder.display()));
        }
        match known.get(&(&holder.uid, &holder.token)) {
            Some(known) => {
                if known.granted_at != holder.granted_at {
                    return violation(
                        "GrantIdempotent",
                        format!("{} would be granted anew", holder.display()),
                    );
                }
                if (known.mode, known.permits) != (holder.mode, holder.permits) {
                    return violation(
                        "GrantIdempotent",
                        format!("{} would hold otherwise", holder.display()),
                    );
                }
                if holder.reserved && !known.reserved {
                    return violation(
                        "LedgerBeforeGo",
                        format!("{} would count as told nothing", holder.name),
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
    let stays: BTreeSet<_> = after.iter().map(|holder| (&holder.token, &holder.uid)).collect();
    let told: BTreeSet<_> = history.iter().map(|release| (&release.token, &release.uid)).collect();
    for gone in before {
        let gone_by = (&gone.token, &gone.uid);
        if !stays.contains(&gone_by) && !told.contains(&gone_by) {
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
