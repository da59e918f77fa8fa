//! The world: three pods, their kubelets, one primitive, two operators.
//!
//! Small values only: a state is cloned and hashed for every step that the checker takes. What must stay true: what the
//! API server stores ([`Stored`], [`Lock`]) and what is so on the node ([`Pod`]) are kept apart; operators see only the
//! first, invariants about what runs are judged by the second.

use crate::invariants::{Invariant, Verdict};

/// Pods in the world.
pub(crate) const PODS: usize = 3;
/// Runs of a waiter, and of a container, that a pod may come to.
pub(crate) const RUNS: u8 = 3;

/// The run of a waiter that is the latest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Waiter {
    /// It has to run (again).
    #[default]
    Due,
    Running,
    /// It let the pod through.
    Passed,
    /// It was denied, or stopped.
    Failed,
}

/// The critical container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Main {
    /// It has never run, or nobody remembers.
    #[default]
    None,
    Running,
    Succeeded,
    Failed,
    /// It is not there any more, and nobody saw its end.
    Lost,
}

/// What a kubelet knows of a pod, or once said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Status {
    /// Which run of the waiter.
    pub(crate) run: u8,
    pub(crate) waiter: Waiter,
    pub(crate) main: Main,
    /// Which run of the container.
    pub(crate) id: u8,
    /// Behind which run of the waiter that container started.
    pub(crate) under: u8,
    /// The run of the waiter before which the node's clock was stepped back; 0 if never.
    pub(crate) back: u8,
    /// The kubelet's last word: did it succeed?
    pub(crate) over: Option<bool>,
}

/// What a pod is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Word {
    Go,
    /// It may start, and what it would do once is not to be done.
    Skip,
    Deny,
    Released,
}

/// A grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Told {
    pub(crate) run: u8,
    /// Start of the waiter that is meant, in seconds.
    pub(crate) start: u16,
    pub(crate) word: Word,
}

/// A pod as the API server stores it. Equal means the same version: no pod ever comes back to what it was.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not the states of a machine")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Stored {
    pub(crate) deleting: bool,
    /// Deleted without grace: only a finalizer keeps it.
    pub(crate) forced: bool,
    pub(crate) finalizer: bool,
    /// Its garbage was collected: somebody who did not look called it Failed.
    pub(crate) collected: bool,
    pub(crate) place: Place,
    pub(crate) told: Option<Told>,
    pub(crate) status: Status,
}

/// Where a pod is. It never goes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    /// At our scheduling gate.
    Gated,
    /// Its gate is off, and it has no node yet.
    Nowhere,
    /// The same, and the scheduler says that it finds none.
    Unschedulable,
    /// On its node.
    #[default]
    Placed,
}

/// What is known of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Node {
    #[default]
    Alive,
    Silent,
    /// Somebody vouches that it is off.
    OutOfService,
}

/// A pod: what is stored, and what is so.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not the states of a machine")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Pod {
    /// Not yet made by its Job.
    pub(crate) unborn: bool,
    pub(crate) stored: Option<Stored>,
    pub(crate) node: Node,
    /// The machine is off: whatever ran there is dead.
    pub(crate) off: bool,
    pub(crate) status: Status,
    /// The highest grant that the waiter has marked as used.
    pub(crate) mark: u8,
    /// The waiter's volume was lost once.
    pub(crate) lost_mark: bool,
    /// Starts named by the `go`s and `skip`s that were ever written, by run: what a kubelet that reads the past can show.
    pub(crate) gos: [u16; 6],
    /// Which of them are `skip`s, one bit for each.
    pub(crate) skips: u8,
    /// Where it matters: main has run and succeeded.
    pub(crate) worked: bool,
    /// The highest grant on which its waiter ever let it through.
    pub(crate) passed: u8,
}

/// The Job of the first two pods, where there is one; before a gate: the Job that it looks at.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not the states of a machine")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Job {
    pub(crate) gone: bool,
    pub(crate) complete: bool,
    pub(crate) failed: bool,
    pub(crate) suspended: bool,
    /// Suspended by us, until it is its turn.
    pub(crate) held: bool,
    /// How often it was made again.
    pub(crate) made: u8,
}

/// What really happened, of that which opens and is not held. Keys are bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Ghost {
    /// It was open, or done, in some committed status.
    pub(crate) opened: bool,
    /// Under which keys somebody was seen waiting since the last trip.
    pub(crate) came: u8,
    /// Which keys opened the last generation.
    pub(crate) tripped: u8,
    /// Which of those have succeeded since.
    pub(crate) through: u8,
    /// Which keys were ever added.
    pub(crate) added: u8,
    /// Which of the Jobs of that name were complete.
    pub(crate) complete: u8,
}

/// The primitive as it is stored. Equal means the same version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Lock {
    /// How often it was deleted and created again.
    pub(crate) incarnation: u8,
    /// How often its spec was changed.
    pub(crate) spec: u8,
    /// Which status; see the cache.
    pub(crate) status: u32,
}

/// A status that is decided on and not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Decision {
    pub(crate) base: Lock,
    pub(crate) status: u32,
}

/// A pod with its node, as somebody saw them.
pub(crate) type Sight = (Stored, Node);

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) pods: [Pod; PODS],
    pub(crate) job: Job,
    pub(crate) lock: Lock,
    /// Earlier versions that the second operator's cache may still show.
    pub(crate) old_pods: [Option<Sight>; PODS],
    pub(crate) old_lock: Option<Lock>,
    pub(crate) old_job: Option<Job>,
    pub(crate) decisions: [Option<Decision>; 2],
    /// How much may still go wrong.
    pub(crate) faults: u8,
    /// How many stale versions may still be kept.
    pub(crate) memories: u8,
    /// The highest token that was ever committed.
    pub(crate) highest: u64,
    pub(crate) ghost: Ghost,
    pub(crate) broken: Option<Invariant>,
}

impl Verdict for World {
    fn broken(&self) -> Option<Invariant> {
        self.broken
    }
}

/// When that run of a waiter started, in seconds of its node's clock. After a step back a run starts before the one
/// that it follows, within the minute that a waiter allows for.
pub(crate) const fn start(run: u8, back: u8) -> u16 {
    let usual = 100 * run as u16;
    if back == 0 || run < back { usual } else { usual - 150 }
}

impl Status {
    pub(crate) const fn start(self) -> u16 {
        start(self.run, self.back)
    }
}

impl Pod {
    /// Does its critical container run, whoever knows?
    pub(crate) fn runs(&self) -> bool {
        self.status.main == Main::Running && !self.off
    }

    /// As the API server and the node cache have it now.
    pub(crate) fn sight(&self) -> Option<Sight> {
        self.stored.map(|stored| (stored, self.node))
    }

    /// Is there a `go` that a run of its waiter could still pass on, or has? One that names a run which died with its
    /// machine opens nothing: an operator may write it between the look at a machine that is off and the release.
    pub(crate) fn could_read_go(&self) -> bool {
        let Some(stored) = self.stored.filter(|stored| !stored.deleting && stored.status.over.is_none())
        else {
            return false;
        };
        let lives =
            |told: &Told| !self.off && self.status.waiter != Waiter::Due && told.start == self.status.start();
        stored.told.is_some_and(|told| told.word == Word::Go && lives(&told))
    }

    /// May the kubelet have heard that it is to end?
    pub(crate) fn must_end(&self) -> bool {
        !self.unborn && self.stored.is_none_or(|stored| stored.deleting || stored.collected)
    }

    /// Is nothing left of it that anybody could learn, or that could run?
    pub(crate) fn is_finished(&self) -> bool {
        let idle = self.status.waiter != Waiter::Running && !self.runs();
        match self.stored {
            None => idle && !self.unborn,
            Some(stored) => stored.status.over.is_some() && !stored.finalizer,
        }
    }

    /// Finished pods are all alike, whatever they have been through: so there are fewer worlds.
    pub(crate) fn forget(&mut self) {
        if !self.is_finished() {
            return;
        }
        let over = self.stored.map_or(self.status.over, |stored| stored.status.over);
        let status =
            Status { run: 1, waiter: Waiter::Failed, over: over.or(Some(false)), ..Status::default() };
        let stored = self.stored.map(|_| Stored { status, ..Stored::default() });
        *self = Self { stored, status, ..Self::default() };
    }

    /// The object goes once nothing keeps it.
    pub(crate) fn settle(&mut self) {
        let Some(stored) = self.stored else { return };
        if stored.deleting && !stored.finalizer && (stored.forced || stored.status.over.is_some()) {
            self.stored = None;
        }
    }
}
