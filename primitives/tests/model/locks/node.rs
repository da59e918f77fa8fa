//! What happens on the nodes, and what users, Jobs and collectors do to objects.
//!
//! A kubelet starts, stops and reports; it loses sandboxes, records and volumes; it may show its waiter any `go` that was
//! ever written, however old. What must stay true: nothing here looks at a ledger, except to judge what was done.

use konductor_api::participation::Role;

use super::kind::Rule;
use super::model::{Action, Locks, Loss};
use super::world::{Main, Node, PODS, Place, Pod, RUNS, Stored, Told, Waiter, Word, World};

impl<R: Rule> Locks<R> {
    /// What the kubelet of that pod, and the pod itself, may do next without anything going wrong.
    pub(super) fn moves(&self, world: &World, index: usize, actions: &mut Vec<Action>) {
        let pod = &world.pods[index];
        if pod.unborn {
            return;
        }
        if let Some(stored) = pod.stored {
            if !pod.off && pod.node == Node::Alive && stored.status != pod.status {
                actions.push(Action::Report(index));
            }
            if stored.finalizer {
                actions.push(Action::Lift(index));
            }
        }
        if pod.off {
            actions.push(Action::Reboot(index));
            if self.bounds.clocks && pod.status.back == 0 && pod.status.run > 0 {
                actions.push(Action::RebootBehind(index));
            }
            return;
        }
        if pod.node == Node::Silent {
            actions.push(Action::Mend(index));
        }
        if pod.status.over.is_some() {
            return;
        }
        let status = pod.status;
        match status.waiter {
            Waiter::Due if status.run < RUNS && !pod.must_end() && pod.is_at(Place::Placed) => {
                actions.push(Action::StartWaiter(index));
            }
            Waiter::Running => {
                let said = (1..).zip(&pod.gos[1..]).filter(|(_, start)| **start != 0);
                actions.extend(said.map(|(run, _)| Action::Pass(index, run)));
                if pod.stored.and_then(|stored| stored.told).is_some_and(|told| told.word == Word::Deny) {
                    actions.push(Action::Heed(index));
                }
            }
            Waiter::Passed => {
                let fresh = status.main == Main::None || status.under != status.run;
                let again = status.main == Main::Failed && self.restarts(index);
                if status.main != Main::Running && (fresh || again) && status.id < RUNS {
                    actions.push(Action::Start(index));
                }
            }
            _ => {}
        }
        if status.main == Main::Running {
            actions.push(Action::End(index, true));
            if self.bounds.failures && status.id < RUNS {
                actions.push(Action::End(index, false));
            }
        }
        self.schedule(world, index, actions);
        let busy = status.main == Main::Running || status.waiter == Waiter::Running;
        if pod.must_end() && busy {
            actions.push(Action::Stop(index));
        }
        let ran = status.waiter == Waiter::Passed && status.under == status.run;
        let finished = match status.main {
            Main::Succeeded => ran,
            Main::Failed => ran && (!self.restarts(index) || status.id == RUNS),
            _ => false,
        };
        if !busy && (pod.must_end() || finished || status.waiter == Waiter::Failed) {
            actions.push(Action::Finish(index));
        }
    }

    /// What a scheduler does: it binds no pod that is being deleted.
    fn schedule(&self, world: &World, index: usize, actions: &mut Vec<Action>) {
        let pod = &world.pods[index];
        if pod.must_end() || pod.node != Node::Alive {
            return;
        }
        let never = self.bounds.nowhere && index == 0;
        if !never && (pod.is_at(Place::Nowhere) || pod.is_at(Place::Unschedulable)) {
            actions.push(Action::Place(index));
        }
        if pod.is_at(Place::Nowhere) {
            actions.push(Action::FindNoRoom(index));
        }
    }

    /// What may go wrong with that pod.
    pub(super) fn faults(world: &World, index: usize, actions: &mut Vec<Action>) {
        let pod = &world.pods[index];
        if pod.unborn || pod.is_finished() {
            return;
        }
        let begun = pod.status.run > 0
            && pod.status.run < RUNS
            && pod.status.id < RUNS
            && pod.status.waiter != Waiter::Due;
        if begun && pod.status.over.is_none() && !pod.off && !pod.must_end() {
            actions.push(Action::Lose(index, Loss::Sandbox));
            if pod.status.main != Main::None {
                actions.push(Action::Lose(index, Loss::Records));
            }
            // Each guard for itself: a lost mark is guarded against by the start, a clock that steps by the mark.
            if pod.mark > 0 && pod.status.back == 0 {
                actions.push(Action::Lose(index, Loss::Mark));
            }
            if pod.status.back == 0 && !pod.lost_mark && pod.mark > 0 {
                actions.push(Action::Lose(index, Loss::Clock));
            }
        }
        if pod.node == Node::Alive && pod.is_at(Place::Placed) && pod.status.over.is_none() {
            actions.push(Action::Cut(index));
            if pod.status.id < RUNS && pod.status.run < RUNS {
                actions.push(Action::PowerOff(index));
            }
        }
        let Some(stored) = pod.stored else { return };
        if !stored.deleting {
            actions.push(Action::Delete(index));
        }
        if stored.place == Place::Gated {
            actions.push(Action::RemoveGate(index));
        }
        if !stored.forced {
            actions.push(Action::ForceDelete(index));
        }
    }

    /// What others may do about what went wrong.
    pub(super) fn consequences(&self, world: &World, index: usize, actions: &mut Vec<Action>) {
        let pod = &world.pods[index];
        if pod.off && pod.node == Node::Silent && self.bounds.attestations {
            actions.push(Action::Attest(index));
        }
        let collectable =
            |stored: Stored| stored.deleting && !stored.collected && stored.status.over.is_none();
        if pod.node != Node::Alive && pod.stored.is_some_and(collectable) {
            actions.push(Action::Collect(index));
        }
    }

    fn restarts(&self, pod: usize) -> bool {
        self.fixed[pod].restarts
    }

    /// One of the moves or faults of one pod.
    pub(super) fn make(&self, world: &mut World, index: usize, action: Action) {
        let pod = &mut world.pods[index];
        match action {
            Action::StartWaiter(_) => {
                (pod.status.run, pod.status.waiter) = (pod.status.run + 1, Waiter::Running);
            }
            Action::Place(_) => pod.change(|stored| stored.place = Place::Placed),
            Action::FindNoRoom(_) => pod.change(|stored| stored.place = Place::Unschedulable),
            // A gate is no lock: whoever takes it off.
            Action::Ungate(..) | Action::RemoveGate(_) => pod.change(|stored| stored.place = Place::Nowhere),
            Action::Pass(_, run) => self.pass(world, index, run),
            Action::Heed(_) => pod.status.waiter = Waiter::Failed,
            Action::Start(_) => {
                pod.status.id += 1;
                (pod.status.main, pod.status.under) = (Main::Running, pod.status.run);
                self.judge_start(world, index);
            }
            Action::End(_, success) => {
                pod.status.main = if success { Main::Succeeded } else { Main::Failed };
                pod.worked |= success && self.rule.records_work();
            }
            Action::Stop(_) => {
                if pod.status.waiter == Waiter::Running {
                    pod.status.waiter = Waiter::Failed;
                }
                if pod.status.main == Main::Running {
                    pod.status.main = Main::Failed;
                }
            }
            Action::Finish(_) => {
                let passed = pod.status.waiter == Waiter::Passed && pod.status.under == pod.status.run;
                pod.status.over = Some(passed && pod.status.main == Main::Succeeded);
            }
            Action::Report(_) => {
                let status = pod.status;
                pod.change(|stored| stored.status = status);
                let key = self.rule.keys().map_or(0, |keys| 1 << keys[index]);
                if status.waiter == Waiter::Running && pod.stored.is_some_and(|stored| !stored.deleting) {
                    world.ghost.came |= key;
                }
                if status.over == Some(true) {
                    world.ghost.through |= key;
                }
            }
            Action::Lose(_, loss) => pod.lose(loss),
            Action::Cut(_) => pod.node = Node::Silent,
            Action::Mend(_) => pod.node = Node::Alive,
            Action::PowerOff(_) => (pod.node, pod.off) = (Node::Silent, true),
            Action::Attest(_) => pod.node = Node::OutOfService,
            Action::Reboot(_) | Action::RebootBehind(_) => {
                (pod.node, pod.off) = (Node::Alive, false);
                if pod.status.over.is_none() {
                    if pod.status.main == Main::Running {
                        pod.status.main = Main::Lost;
                    }
                    let behind = matches!(action, Action::RebootBehind(_));
                    pod.lose(if behind { Loss::Clock } else { Loss::Sandbox });
                }
            }
            Action::Delete(_) => pod.change(|stored| stored.deleting = true),
            Action::ForceDelete(_) => pod.change(|stored| (stored.deleting, stored.forced) = (true, true)),
            Action::Collect(_) => pod.change(|stored| (stored.collected, stored.forced) = (true, true)),
            _ => {}
        }
    }

    /// Is there an entry for it; of that which is not held: was it ever open, or is it a member?
    fn is_guarded(&self, world: &World, pod: usize) -> bool {
        let Some(keys) = self.rule.keys() else { return self.cache().lists(world.lock, pod) };
        let joins = self.rule.roles()[pod] == Role::Join && world.ghost.added & 1 << keys[pod] != 0;
        world.ghost.opened || joins
    }

    fn pass(&self, world: &mut World, index: usize, run: u8) {
        let pod = &mut world.pods[index];
        let skips = pod.skips & 1 << run != 0;
        let says = if skips { Word::Skip } else { Word::Go };
        let told = Told { run, start: pod.gos[usize::from(run)], word: says };
        if !self.cache().passes(told, pod.status.start(), pod.mark) {
            return;
        }
        pod.status.waiter = Waiter::Passed;
        pod.mark = pod.mark.max(run);
        if run <= pod.passed {
            world.broken = Some("GrantSingleUse");
        }
        pod.passed = pod.passed.max(run);
        // Main is wrapped: it ends at once and has done nothing.
        if skips {
            pod.status.id += 1;
            (pod.status.main, pod.status.under) = (Main::Succeeded, pod.status.run);
        }
    }

    /// By what runs on the nodes.
    fn judge_start(&self, world: &mut World, index: usize) {
        let roles = self.rule.roles();
        let mut running: Vec<_> = (0..PODS).filter(|pod| world.pods[*pod].runs()).collect();
        // The pods of one Job run under one hold.
        running.dedup_by_key(|pod| self.fixed[*pod].job.unwrap_or(*pod));
        let running: Vec<_> = running.into_iter().map(|pod| roles[pod]).collect();
        world.broken = self.rule.together(&running, world.lock.spec);
        if world.broken.is_none() && !self.is_guarded(world, index) {
            world.broken = Some("NoUnguardedStart");
        }
    }
}

impl Pod {
    fn is_at(&self, place: Place) -> bool {
        self.stored.is_some_and(|stored| stored.place == place)
    }

    fn change(&mut self, change: impl FnOnce(&mut Stored)) {
        if let Some(stored) = &mut self.stored {
            change(stored);
        }
        self.settle();
    }

    /// The sandbox is lost, and perhaps more: what runs in it ends, and the init containers run again.
    fn lose(&mut self, loss: Loss) {
        if self.status.main == Main::Running {
            self.status.main = Main::Failed;
        }
        self.status.waiter = Waiter::Due;
        match loss {
            Loss::Sandbox => {}
            Loss::Records => self.status.main = Main::None,
            Loss::Mark => (self.mark, self.lost_mark) = (0, true),
            Loss::Clock => self.status.back = self.status.run + 1,
        }
    }
}
