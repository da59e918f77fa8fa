//! Two operators: one that always sees what is stored, and one whose cache may show what was.
//!
//! Each decides by the shipped functions only, and its work is split where the real one's is: decide (with quorum reads and
//! withdrawals), commit by compare-and-swap, tell by a conditional patch, lift finalizers. An operator that crashes between
//! two of them is one that does not go on. What must stay true: what is judged here is judged by what is stored and by what
//! runs, never by what the operator thinks.

use super::cache::{Say, Seen};
use super::kind::Rule;
use super::model::{Locks, View};
use super::world::{Decision, Lock, PODS, Told, Word, World};
use crate::mutants::Mutant;
use crate::objects::index;

/// Reads and withdrawals in one go.
const ROUNDS: usize = 8;

impl<R: Rule> Locks<R> {
    /// What somebody who looks so has before it.
    fn seen(&self, world: &World, view: View) -> Seen {
        let mut seen = Seen {
            lock: world.lock,
            pods: world.pods.map(|pod| pod.sight()),
            job: self.has_job().then_some(world.job),
            fresh: [false; PODS],
            absent: [false; PODS],
            job_absent: false,
            job_looked: false,
        };
        match view {
            View::Fresh => {}
            View::OldPod(pod) => seen.pods[pod] = world.old_pods[pod],
            View::OldPods => {
                for pod in 0..PODS {
                    seen.pods[pod] = world.old_pods[pod].or(seen.pods[pod]);
                }
            }
            View::Unseen(pod) => seen.pods[pod] = None,
            View::OldLock => seen.lock = world.old_lock.unwrap_or(seen.lock),
            View::OldJob => seen.job = world.old_job,
            View::UnseenJob => seen.job = None,
        }
        if seen.job.is_none_or(|job| job.gone) {
            seen.job = None;
            if self.rule.keys().is_some() {
                return seen;
            }
            // Nobody who takes part has those pods.
            for pod in (0..PODS).filter(|pod| self.fixed[*pod].job.is_some()) {
                seen.pods[pod] = None;
            }
        }
        seen
    }

    /// Decides, after reading what the cache misses and withdrawing what has to be withdrawn.
    pub(super) fn decide(&self, world: &mut World, operator: usize, view: View) {
        let mut seen = self.seen(world, view);
        // A cache that has shown what was catches up; one that never did would raise run numbers for ever.
        match view {
            View::OldPod(pod) => world.old_pods[pod] = None,
            View::OldPods => world.old_pods = [None; PODS],
            View::OldJob => world.old_job = None,
            _ => {}
        }
        for _ in 0..ROUNDS {
            let answer = self.cache().step(&seen);
            if answer.broken.is_some() {
                world.broken = answer.broken;
                return;
            }
            if !answer.pods_to_look_for.is_empty() || answer.job_to_look_for {
                for pod in answer.pods_to_look_for {
                    self.look(world, &mut seen, pod);
                }
                if answer.job_to_look_for {
                    seen.job = Some(world.job).filter(|job| self.has_job() && !job.gone);
                    (seen.job_absent, seen.job_looked) = (seen.job.is_none(), true);
                }
                continue;
            }
            if !answer.withdrawals.is_empty() {
                for (pod, untold) in answer.withdrawals {
                    self.withdraw(world, &mut seen, pod, untold);
                }
                continue;
            }
            let stale = seen.lock != world.lock && self.mutant != Mutant::DropsCompareAndSwap;
            if answer.status != seen.lock.status && !stale {
                world.decisions[operator] = Some(Decision { base: seen.lock, status: answer.status });
            }
            return;
        }
    }

    /// A quorum read.
    fn look(&self, world: &World, seen: &mut Seen, pod: usize) {
        seen.pods[pod] = world.pods[pod].sight().filter(|_| self.mutant != Mutant::AbsenceFromCache);
        seen.absent[pod] = seen.pods[pod].is_none();
        seen.fresh[pod] = seen.pods[pod].is_some();
    }

    /// On the condition that it is what was looked at; if not, it is read again. What is known of the node stays.
    fn withdraw(&self, world: &mut World, seen: &mut Seen, pod: usize, untold: Told) {
        let Some((mut stored, node)) = seen.pods[pod] else { return };
        let same = world.pods[pod].stored == Some(stored);
        if same || self.mutant == Mutant::SkipsWithdrawal {
            let told = stored.told.filter(|told| told.run >= untold.run).unwrap_or(untold);
            stored.told = Some(Told { word: Word::Released, ..told });
            seen.pods[pod] = Some((stored, node));
            if self.mutant != Mutant::SkipsWithdrawal {
                world.pods[pod].stored = Some(stored);
            }
        } else {
            seen.pods[pod] = world.pods[pod].stored.map(|fresh| (fresh, node));
            seen.absent[pod] = seen.pods[pod].is_none();
        }
    }

    /// A compare-and-swap: what was decided on another version is not written.
    pub(super) fn commit(&self, world: &mut World, operator: usize) {
        let Some(decision) = world.decisions[operator].take() else { return };
        if decision.base != world.lock && self.mutant != Mutant::DropsCompareAndSwap {
            return;
        }
        self.judge_commit(world, decision.status);
        let (before, after) = {
            let cache = self.cache();
            (cache.status(world.lock.status).clone(), cache.status(decision.status).clone())
        };
        if let Some(broken) = self.rule.commits(world, &before, &after) {
            world.broken = Some(broken);
        }
        let nothing_was_done = |pod: usize| !world.pods[pod].worked;
        if self.rule.recorded(&before, &after).is_some_and(nothing_was_done) {
            world.broken = Some("OnceNoPhantomDone");
        }
        self.replace(world, Lock { status: decision.status, ..world.lock });
    }

    /// The primitive is another version from now on: whoever decided on an earlier one will find that out.
    pub(super) fn replace(&self, world: &mut World, lock: Lock) {
        world.lock = lock;
        for decision in &mut world.decisions {
            if self.mutant != Mutant::DropsCompareAndSwap {
                *decision = decision.filter(|decision| decision.base == lock);
            }
        }
    }

    fn judge_commit(&self, world: &mut World, after: u32) {
        let cache = self.cache();
        let before = R::holders(cache.status(world.lock.status));
        let after = R::holders(cache.status(after));
        for old in before {
            let same = after.iter().find(|new| new.uid == old.uid);
            if same.is_some_and(|new| new.token == old.token) {
                continue;
            }
            for told in &old.pods {
                let pod = &world.pods[index(&told.uid)];
                if pod.runs() {
                    world.broken = Some("ReleaseNeedsEvidence");
                    return;
                }
                if pod.could_read_go() {
                    world.broken = Some("WithdrawBeforeRelease");
                    return;
                }
            }
        }
        for new in after {
            if before.iter().any(|old| old.uid == new.uid && old.token == new.token) {
                continue;
            }
            let token: u64 = new.token.parse().unwrap();
            if token <= world.highest {
                world.broken = Some("TokenMonotone");
            }
            world.highest = world.highest.max(token);
        }
        let mut uids: Vec<_> = after.iter().map(|holder| &holder.uid).collect();
        uids.sort();
        if uids.windows(2).any(|pair| pair[0] == pair[1]) {
            world.broken = Some("GrantIdempotent");
        }
    }

    // ------------------------------------------------------------------------------------------------ telling

    /// What that operator would tell that pod, and what it has seen of it.
    pub(super) fn tellable(&self, world: &World, view: View, pod: usize) -> Option<(Lock, Told)> {
        let lock = match view {
            View::OldLock => world.old_lock?,
            _ => world.lock,
        };
        let lock = match (self.mutant, world.decisions[0]) {
            (Mutant::TellsUncommitted, Some(decision)) => Lock { status: decision.status, ..lock },
            _ => lock,
        };
        let sight = match view {
            View::OldPod(_) => world.old_pods[pod]?,
            _ => world.pods[pod].sight()?,
        };
        let Say::Tell(told) = self.cache().says(lock, pod, sight) else { return None };
        let same = world.pods[pod].stored == Some(sight.0);
        (same || self.mutant == Mutant::DropsPrecondition).then_some((lock, told))
    }

    /// Would that operator take our gate off that pod?
    pub(super) fn ungates(&self, world: &World, view: View, pod: usize) -> bool {
        let lock = if view == View::OldLock { world.old_lock } else { Some(world.lock) };
        let (Some(lock), Some(sight)) = (lock, world.pods[pod].sight()) else { return false };
        self.cache().says(lock, pod, sight) == Say::Ungate
    }

    /// Would that operator let the Job go on, that we suspended?
    pub(super) fn lets_go(&self, world: &World, view: View) -> bool {
        let lock = if view == View::OldLock { world.old_lock } else { Some(world.lock) };
        world.job.held && lock.is_some_and(|lock| self.cache().resumes(lock))
    }

    /// One patch: finalizer and grant.
    pub(super) fn tell(&self, world: &mut World, view: View, pod: usize) {
        let Some((lock, told)) = self.tellable(world, view, pod) else { return };
        let listed = match self.rule.keys() {
            None => self.cache().lists(world.lock, pod),
            Some(_) => self.rule.may_go(self.cache().status(lock.status), lock.spec, pod, world.ghost),
        };
        let needs_the_end = self.rule.roles()[pod].needs_the_end();
        let pod = &mut world.pods[pod];
        let Some(stored) = &mut pod.stored else { return };
        if matches!(told.word, Word::Go | Word::Skip) {
            // No finalizer is taken by what is being deleted.
            if stored.deleting && !stored.finalizer && needs_the_end {
                return;
            }
            stored.finalizer |= needs_the_end && self.mutant != Mutant::NoFinalizer;
            pod.gos[usize::from(told.run)] = told.start;
            pod.skips |= u8::from(told.word == Word::Skip) << told.run;
        }
        stored.told = Some(told);
        if told.word == Word::Go && !listed && pod.could_read_go() {
            let early = if self.rule.keys().is_none() { "LedgerBeforeGo" } else { "NoEarlyPass" };
            world.broken = Some(early);
        }
    }

    /// Is there an entry for it, or something of its end that is not written down yet?
    pub(super) fn needs(&self, world: &World, pod: usize) -> bool {
        let cache = self.cache();
        cache.lists(world.lock, pod) || self.rule.needs(cache.status(world.lock.status), pod)
    }

    /// The finalizer goes when the end is proven and the ledger, read after the pod, has no entry.
    pub(super) fn lift(&self, world: &mut World, pod: usize) {
        let Some(sight) = world.pods[pod].sight() else { return };
        let dead = self.cache().facts(pod, sight).is_dead();
        let needed = self.needs(world, pod) || !dead;
        if needed && self.mutant != Mutant::LiftsFinalizerEarly {
            return;
        }
        let pod = &mut world.pods[pod];
        if let Some(stored) = &mut pod.stored {
            stored.finalizer = false;
        }
        pod.settle();
    }
}
