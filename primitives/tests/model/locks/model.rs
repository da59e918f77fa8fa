//! The model: which actions a world allows.
//!
//! What must stay true: actions come in the same order for equal worlds, because paths are kept as numbers of actions; a
//! world in which something was broken goes no further.

use std::sync::{Mutex, MutexGuard, PoisonError};

use konductor_api::annotations::JOB_PLAN;
use konductor_api::participation::{Kind, Part, PrimitiveRef, PrimitiveSet};
use stateright::{Model, Property};

use super::cache::{Cache, JOB};
use super::kind::Rule;
use super::world::{Ghost, Job, Lock, Node, PODS, Place, Pod, Status, Stored, Waiter, World};
use crate::invariants::{Invariant, properties};
use crate::mutants::Mutant;
use crate::objects::Fixed;

/// Where the Job controller writes the index of a pod.
const INDEX: &str = "batch.kubernetes.io/job-completion-index";

/// How much may go wrong on one path.
#[expect(clippy::struct_excessive_bools, reason = "independent switches, not the states of a machine")]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Faults of all kinds together.
    pub(crate) faults: u8,
    /// Earlier versions of objects that the second operator's cache keeps.
    pub(crate) memories: u8,
    /// Containers may fail of their own accord.
    pub(crate) failures: bool,
    /// The first two pods are those of a Job, which takes part in their place.
    pub(crate) job: bool,
    /// Of those, the pods that run a failed container again.
    pub(crate) restarts: [bool; PODS],
    /// Pods that take part at all.
    pub(crate) pods: usize,
    /// Of those, the first ones, to which something may happen.
    pub(crate) faulty: usize,
    /// Of those, the last ones, that wait already when the story begins.
    pub(crate) early: usize,
    /// Both operators may have decided and not written. If not, one that has may forget it, and decide anew.
    pub(crate) rivals: bool,
    /// A machine may come back with a clock that is behind, which is more than the waiter's two guards stand.
    pub(crate) clocks: bool,
    /// The second operator's cache may still show that a machine is off.
    pub(crate) stale_attestations: bool,
    /// Somebody may vouch for a machine that is off.
    pub(crate) attestations: bool,
    /// Pods that wait at our scheduling gate: the first ones.
    pub(crate) gated: usize,
    /// The first pod never finds a node.
    pub(crate) nowhere: bool,
    /// The Job is suspended by us, and has no pod yet.
    pub(crate) held: bool,
}

impl Bounds {
    /// In a few words.
    pub(crate) fn words(&self) -> String {
        let Self { pods, faults, memories, .. } = self;
        let job = match (self.job, self.held) {
            (false, _) => "",
            (true, false) => ", and a Job",
            (true, true) => ", and a Job that is suspended",
        };
        let gated = if self.gated > 0 {
            format!(", at a gate: {}{}", self.gated, if self.nowhere { " without a node ever" } else { "" })
        } else {
            String::new()
        };
        format!("pods: {pods}{gated}{job}; faults: {faults}; stale versions: {memories}")
    }
}

/// What goes when a sandbox is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// Nothing else.
    Sandbox,
    /// The records of dead containers.
    Records,
    /// The volume with the waiter's mark.
    Mark,
    /// The node's clock is stepped back.
    Clock,
}

/// Which versions somebody sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    Fresh,
    OldPod(usize),
    OldPods,
    Unseen(usize),
    OldLock,
    OldJob,
    UnseenJob,
}

/// One step of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    // Operators.
    Decide(usize, View),
    Commit(usize),
    Abandon(usize),
    Tell(View, usize),
    Ungate(View, usize),
    Lift(usize),
    // A scheduler.
    Place(usize),
    FindNoRoom(usize),
    // A kubelet and its pod.
    StartWaiter(usize),
    Pass(usize, u8),
    Heed(usize),
    Start(usize),
    End(usize, bool),
    Stop(usize),
    Finish(usize),
    Report(usize),
    // What goes wrong.
    Lose(usize, Loss),
    Cut(usize),
    Mend(usize),
    PowerOff(usize),
    Attest(usize),
    Reboot(usize),
    RebootBehind(usize),
    Delete(usize),
    ForceDelete(usize),
    Collect(usize),
    RemoveGate(usize),
    // What a cache keeps.
    RememberPod(usize),
    RememberLock,
    RememberJob,
    // The primitive.
    ChangeSpec,
    Recreate,
    // The Job and its controller.
    LetGo(View),
    First,
    Retry,
    Complete,
    Fail,
    MakeJob,
    Suspend,
    Resume,
    Unsuspend,
    DeleteJob,
}

/// See the module.
pub(crate) struct Locks<R: Rule> {
    pub(crate) rule: R,
    pub(crate) mutant: Mutant,
    pub(crate) bounds: Bounds,
    pub(crate) fixed: [Fixed; PODS],
    cache: Mutex<Cache<R>>,
}

impl<R: Rule> Locks<R> {
    pub(crate) fn new(rule: R, mutant: Mutant, bounds: Bounds) -> Self {
        let fixed = [0, 1, 2].map(|pod| fixed(&rule, &bounds, pod));
        let cache = Mutex::new(Cache::new(rule.clone(), mutant, fixed.clone()));
        Self { rule, mutant, bounds, fixed, cache }
    }

    pub(super) fn cache(&self) -> MutexGuard<'_, Cache<R>> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) const fn has_job(&self) -> bool {
        self.bounds.job
    }

    /// What goes on if nothing goes wrong any more.
    pub(super) fn benign(&self, world: &World, actions: &mut Vec<Action>) {
        let rival = self.bounds.rivals && world.decisions[0].is_some();
        for operator in [0, 1] {
            match world.decisions[operator] {
                Some(_) => actions.push(Action::Commit(operator)),
                None if operator == 0 && (self.bounds.rivals || world.decisions[1].is_none()) || rival => {
                    actions.push(Action::Decide(operator, View::Fresh));
                }
                None => {}
            }
        }
        for pod in 0..PODS {
            if self.tellable(world, View::Fresh, pod).is_some() {
                actions.push(Action::Tell(View::Fresh, pod));
            }
            if self.ungates(world, View::Fresh, pod) {
                actions.push(Action::Ungate(View::Fresh, pod));
            }
            self.moves(world, pod, actions);
        }
        if self.has_job() && !world.job.gone {
            if self.lets_go(world, View::Fresh) {
                actions.push(Action::LetGo(View::Fresh));
            }
            Self::controller(world, actions);
        }
    }

    /// What the second operator may do with what its cache still shows.
    fn stale(&self, world: &World, actions: &mut Vec<Action>) {
        if world.decisions[1].is_none() && (self.bounds.rivals || world.decisions[0].is_none()) {
            let listed = |pod: &usize| self.cache().names(world.lock, *pod);
            for pod in 0..PODS {
                if world.old_pods[pod].is_some_and(|old| Some(old) != world.pods[pod].sight()) {
                    actions.push(Action::Decide(1, View::OldPod(pod)));
                }
            }
            if world.old_pods.iter().flatten().count() > 1 {
                actions.push(Action::Decide(1, View::OldPods));
            }
            actions.extend((0..PODS).filter(listed).map(|pod| Action::Decide(1, View::Unseen(pod))));
            if world.old_lock.is_some_and(|old| old != world.lock) {
                actions.push(Action::Decide(1, View::OldLock));
            }
            if self.has_job() {
                actions.push(Action::Decide(1, View::UnseenJob));
                if world.old_job.is_some_and(|old| old != world.job) {
                    actions.push(Action::Decide(1, View::OldJob));
                }
            }
        }
        if world.old_lock.is_some() && self.lets_go(world, View::OldLock) {
            actions.push(Action::LetGo(View::OldLock));
        }
        for pod in 0..PODS {
            if world.old_lock.is_some() && self.tellable(world, View::OldLock, pod).is_some() {
                actions.push(Action::Tell(View::OldLock, pod));
            }
            if world.old_lock.is_some() && self.ungates(world, View::OldLock, pod) {
                actions.push(Action::Ungate(View::OldLock, pod));
            }
            if self.mutant == Mutant::DropsPrecondition
                && self.tellable(world, View::OldPod(pod), pod).is_some()
            {
                actions.push(Action::Tell(View::OldPod(pod), pod));
            }
        }
    }

    fn wrong(&self, world: &World, actions: &mut Vec<Action>) {
        if !self.bounds.rivals {
            let decided = |operator: &usize| world.decisions[*operator].is_some();
            actions.extend([0, 1].into_iter().filter(decided).map(Action::Abandon));
        }
        if world.memories > 0 {
            for pod in 0..self.bounds.faulty {
                let sight = world.pods[pod].sight();
                let attested = sight.is_some_and(|(_, node)| node == Node::OutOfService);
                if attested && !self.bounds.stale_attestations {
                    continue;
                }
                if sight.is_some() && world.old_pods[pod] != sight {
                    actions.push(Action::RememberPod(pod));
                }
            }
            if world.old_lock != Some(world.lock) {
                actions.push(Action::RememberLock);
            }
            if self.has_job() && world.old_job != Some(world.job) {
                actions.push(Action::RememberJob);
            }
        }
        // What a gate looks at ends one way or the other, and another of its name may come.
        if R::KIND == Kind::Gate {
            let job = world.job;
            if !job.gone && !job.complete && !job.failed {
                actions.extend([Action::Complete, Action::Fail]);
            }
            if job.gone && job.made == 0 {
                actions.push(Action::MakeJob);
            }
        }
        for pod in 0..self.bounds.faulty {
            self.consequences(world, pod, actions);
        }
        if world.faults == 0 {
            return;
        }
        for pod in 0..self.bounds.faulty {
            Self::faults(world, pod, actions);
        }
        if world.lock.spec + 1 < self.rule.specs() {
            actions.push(Action::ChangeSpec);
        }
        // While it is held it cannot be deleted.
        let held = !R::holders(self.cache().status(world.lock.status)).is_empty();
        if !held && world.lock.status != 0 && world.lock.incarnation == 0 && world.highest > 0 {
            actions.push(Action::Recreate);
        }
        if self.has_job() && !world.job.gone {
            actions.push(Action::DeleteJob);
            if world.job.held {
                actions.push(Action::Unsuspend);
            } else if R::KIND != Kind::Gate
                && !world.job.suspended
                && !world.job.complete
                && !world.job.failed
            {
                actions.push(Action::Suspend);
            }
        }
    }

    /// Who is finished and in no ledger makes no difference any more.
    fn forget(&self, world: &mut World) {
        for pod in 0..PODS {
            let own = self.rule.keys().is_none();
            if own && world.pods[pod].is_finished() && !self.cache().names(world.lock, pod) {
                world.pods[pod].forget();
            }
        }
    }
}

fn fixed<R: Rule>(rule: &R, bounds: &Bounds, pod: usize) -> Fixed {
    let primitive = PrimitiveRef { kind: R::KIND, name: "x".to_owned() };
    let part = Part { primitive, role: rule.roles()[pod] };
    let of_job = bounds.job && pod < 2 && R::KIND != Kind::Gate;
    let annotation = if of_job && rule.keys().is_none() {
        (JOB_PLAN, [part].into_iter().collect::<PrimitiveSet>().to_string())
    } else {
        (part.annotation(), part.value())
    };
    let index = rule.keys().filter(|_| of_job).map(|keys| (INDEX, keys[pod].to_string()));
    Fixed {
        annotations: [annotation].into_iter().chain(index).collect(),
        restarts: bounds.restarts[pod],
        job: of_job.then_some(JOB),
    }
}

impl<R: Rule> Model for Locks<R> {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let mut pods = [Pod { stored: Some(Stored::default()), ..Pod::default() }; PODS];
        let status = Status { run: 1, waiter: Waiter::Running, ..Status::default() };
        let waits = Pod { stored: Some(Stored { status, ..Stored::default() }), status, ..Pod::default() };
        pods[self.bounds.pods - self.bounds.early..].fill(waits);
        for stored in pods[..self.bounds.gated].iter_mut().filter_map(|pod| pod.stored.as_mut()) {
            stored.place = Place::Gated;
        }
        let unborn = Pod { unborn: true, ..Pod::default() };
        pods[self.bounds.pods..].fill(unborn);
        if self.fixed[1].job.is_some() {
            pods[1] = unborn;
        }
        if self.bounds.held {
            pods[0] = unborn;
        }
        let keys = self.rule.keys().unwrap_or_default();
        let came = (0..PODS).filter(|pod| pods[*pod].status.waiter == Waiter::Running);
        let came = came.fold(0, |came, pod| came | 1 << keys[pod]);
        let ghost = Ghost { came: if self.rule.keys().is_some() { came } else { 0 }, ..Ghost::default() };
        vec![World {
            pods,
            job: Job { held: self.bounds.held, ..Job::default() },
            lock: Lock { incarnation: 0, spec: 0, status: 0 },
            old_pods: [None; PODS],
            old_lock: None,
            old_job: None,
            decisions: [None; 2],
            faults: self.bounds.faults,
            memories: self.bounds.memories,
            highest: 0,
            ghost,
            broken: None,
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.broken.is_none() {
            self.benign(world, actions);
            self.stale(world, actions);
            self.wrong(world, actions);
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        match action {
            Action::Decide(operator, view) => self.decide(&mut next, operator, view),
            Action::Commit(operator) => self.commit(&mut next, operator),
            Action::Abandon(operator) => next.decisions[operator] = None,
            Action::Tell(view, pod) => self.tell(&mut next, view, pod),
            Action::Lift(pod) => self.lift(&mut next, pod),
            Action::StartWaiter(pod)
            | Action::Ungate(_, pod)
            | Action::Place(pod)
            | Action::FindNoRoom(pod)
            | Action::RemoveGate(pod)
            | Action::Pass(pod, _)
            | Action::Heed(pod)
            | Action::Start(pod)
            | Action::End(pod, _)
            | Action::Stop(pod)
            | Action::Finish(pod)
            | Action::Report(pod)
            | Action::Lose(pod, _)
            | Action::Cut(pod)
            | Action::Mend(pod)
            | Action::PowerOff(pod)
            | Action::Attest(pod)
            | Action::Reboot(pod)
            | Action::RebootBehind(pod)
            | Action::Delete(pod)
            | Action::ForceDelete(pod)
            | Action::Collect(pod) => self.make(&mut next, pod, action),
            _ => self.administer(&mut next, action),
        }
        match action {
            Action::RememberPod(_) | Action::RememberLock | Action::RememberJob => next.memories -= 1,
            Action::Lose(..)
            | Action::Cut(_)
            | Action::PowerOff(_)
            | Action::Delete(_)
            | Action::ForceDelete(_)
            | Action::RemoveGate(_)
            | Action::ChangeSpec
            | Action::Recreate
            | Action::Suspend
            | Action::Unsuspend
            | Action::DeleteJob => next.faults -= 1,
            _ => {}
        }
        self.forget(&mut next);
        (next != *world).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties(&self.invariants())
    }
}

impl<R: Rule> Locks<R> {
    pub(crate) fn invariants(&self) -> Vec<Invariant> {
        self.rule.invariants()
    }
}
