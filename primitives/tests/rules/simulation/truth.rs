//! The truth: what really happens on the two nodes, and whether it breaks a rule.

use std::collections::BTreeSet;

use konductor_api::annotations::GRANT;
use konductor_api::mutex::MutexStatus;
use konductor_waiter::grant::Verdict;

use super::kubelet::{Move, Outcome};
use super::world::World;

/// A rule that was broken, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Broken {
    pub(super) invariant: &'static str,
    pub(super) detail: String,
}

pub(super) type Checked = Result<(), Broken>;

pub(super) fn broken(invariant: &'static str, detail: impl Into<String>) -> Checked {
    Err(Broken { invariant, detail: detail.into() })
}

impl World {
    // ---------------------------------------------------------------------------------------------- kubelets

    /// What the kubelet has not heard yet.
    pub(super) fn has_news(&self, name: &str) -> bool {
        let kubelet = &self.kubelets[name];
        let heard = self.news(name);
        self.connected[kubelet.node] && heard != (kubelet.file.clone(), kubelet.must_end)
    }

    fn news(&self, name: &str) -> (String, bool) {
        let kubelet = &self.kubelets[name];
        let Some(sketch) = self.api.pods.get(name) else { return (kubelet.file.clone(), true) };
        let file = sketch.object().metadata.annotations.as_ref().and_then(|all| all.get(GRANT)).cloned();
        let ends = sketch.is_deleting() || self.is_final(name);
        (file.unwrap_or_default(), kubelet.must_end || ends)
    }

    pub(super) fn hear(&mut self, name: &str) {
        let (file, must_end) = self.news(name);
        let kubelet = self.kubelets.get_mut(name).unwrap();
        (kubelet.file, kubelet.must_end) = (file, must_end);
    }

    pub(super) fn can_publish(&self, name: &str) -> bool {
        let kubelet = &self.kubelets[name];
        kubelet.unpublished && self.connected[kubelet.node] && self.api.pods.contains_key(name)
    }

    pub(super) fn publish(&mut self, name: &str) {
        let final_already = self.is_final(name);
        let kubelet = self.kubelets.get_mut(name).unwrap();
        kubelet.unpublished = false;
        let sketch = kubelet.report(self.api.pods[name].sketch.clone(), final_already);
        self.store(name, sketch);
    }

    pub(super) fn make(&mut self, name: &str, step: Move) -> Checked {
        let clock = self.clock(self.kubelets[name].node);
        let flaw = self.flaw;
        match self.kubelets.get_mut(name).unwrap().make(step, clock, flaw) {
            Outcome::Nothing => Ok(()),
            Outcome::Passed(run) => {
                let last = self.passes.insert(name.to_owned(), run).unwrap_or(0);
                if run <= last {
                    return broken("GrantSingleUse", format!("{name} passes on {run} after {last}"));
                }
                Ok(())
            }
            Outcome::Starts => self.check_start(name),
        }
    }

    // ----------------------------------------------------------------------------------------------- checks

    pub(super) fn check_mutex(&mut self, name: &str, before: &MutexStatus, after: &MutexStatus) -> Checked {
        if after.ledger.holders.len() > 1 {
            return broken("LedgerExclusion", format!("{name} has {} holders", after.ledger.holders.len()));
        }
        for old in &before.ledger.holders {
            let stays =
                after.ledger.holders.iter().any(|holder| holder.uid == old.uid && holder.token == old.token);
            if stays {
                continue;
            }
            let same = after.ledger.holders.iter().any(|holder| holder.uid == old.uid);
            let recorded = after.ledger.history.iter().any(|release| release.token == old.token);
            if same && !recorded {
                return broken("GrantIdempotent", format!("{} gets another token", old.display()));
            }
            if !recorded {
                return broken("ReleaseNeedsEvidence", format!("{} vanishes from {name}", old.display()));
            }
            for told in &old.pods {
                if self.kubelets[&told.name].is_critical() {
                    return broken("ReleaseNeedsEvidence", format!("{} still runs", told.name));
                }
                let Some(sketch) = self.api.pods.get(&told.name) else { continue };
                let facts = sketch.facts(true);
                let go = facts.grant.as_ref().is_some_and(|grant| grant.verdict == Verdict::Go);
                if go && !facts.deleting && facts.terminal.is_none() {
                    return broken("WithdrawBeforeRelease", format!("{} could still read go", told.name));
                }
            }
        }
        for fresh in &after.ledger.holders {
            let known =
                before.ledger.holders.iter().any(|old| old.uid == fresh.uid && old.token == fresh.token);
            let token: u64 = fresh.token.parse().unwrap();
            let highest = self.highest_token.entry(name.to_owned()).or_default();
            if !known && token <= *highest {
                return broken("TokenMonotone", format!("{token} after {highest}"));
            }
            *highest = token.max(*highest);
        }
        Ok(())
    }

    /// Is that pod in the list of that holder right now?
    pub(super) fn lists(&self, mutex: &str, taker: &str, pod_uid: &str) -> bool {
        let mut holders = self.api.mutexes[mutex].status.iter().flat_map(|status| &status.ledger.holders);
        holders.any(|holder| holder.uid == taker && holder.told(pod_uid).is_some())
    }

    fn check_start(&self, name: &str) -> Checked {
        for (mutex, taker) in &self.takers[name] {
            if !self.lists(mutex, taker, &self.kubelets[name].uid) {
                return broken("NoUnguardedStart", format!("{name} starts without {mutex}"));
            }
        }
        if self.behind_gate.contains(name) && !self.gate_was_open {
            return broken("NoUnguardedStart", format!("{name} starts before its gate is open"));
        }
        self.check_exclusion()
    }

    /// By what runs on the nodes, not by any ledger.
    fn check_exclusion(&self) -> Checked {
        for mutex in self.api.mutexes.keys() {
            let running: BTreeSet<_> = self
                .kubelets
                .values()
                .filter(|kubelet| kubelet.is_critical())
                .flat_map(|kubelet| &self.takers[&kubelet.pod])
                .filter(|(name, _)| name == mutex)
                .map(|(_, taker)| taker)
                .collect();
            if running.len() > 1 {
                return broken("MutualExclusion", format!("{running:?} run at once under {mutex}"));
            }
        }
        Ok(())
    }

    // -------------------------------------------------------------------------------------------- the end

    /// Who has not got through although nothing goes wrong any more.
    pub(super) fn left_waiting(&self) -> Vec<String> {
        let pods = self.kubelets.values().filter(|kubelet| kubelet.bound && kubelet.terminal.is_none());
        let jobs = self.api.jobs.values().filter(|job| !job.is_over());
        let unplaced = self.api.pods.iter().filter(|(name, sketch)| {
            !self.kubelets[*name].bound && !sketch.is_deleting() && *name != "nowhere"
        });
        let pods = pods.map(|kubelet| kubelet.pod.clone());
        pods.chain(jobs.map(|job| job.name.clone())).chain(unplaced.map(|(name, _)| name.clone())).collect()
    }

    /// Pods that a deleted Job let go of and that do not run.
    pub(super) fn left_behind(&self) -> Vec<String> {
        let left = self.api.pods.iter().filter(|(name, sketch)| {
            !sketch.facts(true).understood && !sketch.is_deleting() && !self.kubelets[*name].is_critical()
        });
        left.map(|(name, _)| name.clone()).collect()
    }

    /// Does the ledger still name somebody? Who finds no node keeps what nobody else wants.
    pub(super) fn held(&self) -> Vec<String> {
        let holders =
            self.api.mutexes.values().flat_map(|mutex| mutex.status.iter().flat_map(|s| &s.ledger.holders));
        holders
            .filter(|holder| holder.name != "nowhere")
            .map(konductor_api::ledger::Holder::display)
            .collect()
    }
}
