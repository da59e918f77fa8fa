//! The snapshot: all that a step may know.
//!
//! Types, and what can be asked of them. What must stay true: a snapshot holds facts about object versions that existed;
//! that something does *not* exist is in it only if the API server itself said so.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use konductor_api::ledger::{ParticipantKind, ToldPod};
use konductor_api::members::MemberKey;
use konductor_api::options::{OnTimeout, Options};
use konductor_api::participation::Role;

use crate::claim::ClaimFacts;
use crate::facts::{JobFacts, Needs, PodFacts, Suspended};
use crate::looked::{Looked, Target};
use crate::queue::QueueKey;

/// What one step is decided on.
#[derive(Clone, Debug)]
pub struct Snapshot<P> {
    /// The primitive, in the version that the write will replace.
    pub primitive: P,
    /// Everybody who names it.
    pub participants: Vec<Participant>,
    /// Gates only: what its conditions name, as far as it is known.
    pub objects: BTreeMap<Target, Looked>,
    /// Jobs that lookups found, by name, whether they take part or not.
    pub owners: BTreeMap<String, JobFacts>,
    /// Pods that lookups found although nobody who takes part has them: their Job is gone, they live on.
    pub strays: Vec<PodFacts>,
    /// UIDs of pods that were read from the API server itself, with their nodes, after the primitive was read.
    pub fresh: BTreeSet<String>,
    /// Names of Jobs that are gone, or are others by now, while pods that were told on their behalf live on, said the API server.
    pub outlived: BTreeSet<String>,
    /// What the API server itself said is gone, see [`crate::step::Lookup::key`].
    pub absent: BTreeSet<String>,
    /// The time.
    pub now: Timestamp,
}

/// A Job, a Pod or a Claim that names the primitive.
#[derive(Clone, Debug)]
pub struct Participant {
    /// Which of them.
    pub kind: ParticipantKind,
    /// Name.
    pub name: String,
    /// Identity.
    pub uid: String,
    /// Place in every queue.
    pub key: QueueKey,
    /// As what it takes part.
    pub role: Role,
    /// What a retry of it would come under, too.
    pub member: MemberKey,
    /// How it waits.
    pub options: Options,
    /// Has it all that it takes before this primitive?
    pub reached: bool,
    /// The Job, if it is one.
    pub job: Option<JobFacts>,
    /// If it is the Pod of a Job: that Job. Until it is over a failed attempt may be tried again.
    pub of_job: Option<OfJob>,
    /// The Claim, if it is one.
    pub claim: Option<ClaimFacts>,
    /// The Pod itself, or the pods of the Job; of a Claim the pod that it was made in.
    pub pods: Vec<PodFacts>,
}

/// Somebody in line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting<'a> {
    /// Place among the snapshot's participants.
    pub(crate) at: usize,
    /// Who is there.
    pub(crate) who: &'a Participant,
}

/// The Job that a pod belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfJob {
    /// Name.
    pub name: String,
    /// Identity.
    pub uid: String,
    /// Is it over? `None` if it has not been seen.
    pub over: Option<bool>,
}

// --------------------------------------------------------------------------------------------------- asking

/// The order of a line, as a step answers it.
pub(crate) fn order(line: &[Waiting<'_>]) -> Vec<usize> {
    line.iter().map(|waiting| waiting.at).collect()
}

/// The next one first. The UID is part of the key, so no two are equal.
pub(crate) fn sort(line: &mut [Waiting<'_>]) {
    line.sort_unstable_by(|left, right| left.who.key.cmp(&right.who.key));
}

impl<P> Snapshot<P> {
    /// That participant, if the snapshot has it.
    pub fn participant(&self, uid: &str) -> Option<&Participant> {
        self.participants.iter().find(|participant| participant.uid == uid)
    }

    /// Of those of whom it is so: the line, the next one first.
    pub(crate) fn line<'a>(&'a self, mut so: impl FnMut(&'a Participant) -> bool) -> Vec<Waiting<'a>> {
        let all = self.participants.iter().enumerate().map(|(at, who)| Waiting { at, who });
        let mut line: Vec<_> = all.filter(|waiting| so(waiting.who)).collect();
        sort(&mut line);
        line
    }

    /// That pod, of whomever.
    pub fn pod(&self, uid: &str) -> Option<&PodFacts> {
        self.participants
            .iter()
            .find_map(|participant| participant.pod(uid))
            .or_else(|| self.strays.iter().find(|pod| pod.uid == uid))
    }
}

impl Participant {
    /// That pod, if the snapshot has it.
    pub fn pod(&self, uid: &str) -> Option<&PodFacts> {
        self.pods.iter().find(|pod| pod.uid == uid)
    }

    /// Is there nothing left that it could ever do here?
    pub fn is_over(&self) -> bool {
        match (&self.claim, &self.job) {
            (Some(claim), _) => claim.is_over(),
            (None, Some(job)) => {
                job.is_over() || job.deleting || job.ending || self.has_its_successes(|_| None)
            }
            (None, None) => self.pods.iter().all(|pod| pod.terminal.is_some() || pod.deleting),
        }
    }

    /// Would it take the primitive if it were free? It has all that comes before, and has not been let through.
    pub fn waits(&self) -> bool {
        if let Some(claim) = &self.claim {
            return self.reached && claim.waits();
        }
        let suspended = self.job.as_ref().is_some_and(|job| job.suspended == Suspended::ByOthers);
        // A Job between its last success and its condition has been through, too.
        let past = !self.pods.is_empty() && self.pods.iter().all(PodFacts::has_passed);
        self.reached && !self.is_over() && !suspended && !past
    }

    /// When its patience ends.
    pub fn deadline(&self) -> Option<Timestamp> {
        match &self.job {
            Some(job) => job.deadline(&self.options, self.key.since()),
            None => self.options.deadline(self.key.since()),
        }
    }

    /// Has its patience ended before it was told anything? Then it is told so, and takes nothing any more.
    pub fn gave_up(&self, now: Timestamp) -> bool {
        let told = |pod: &PodFacts| {
            pod.has_passed() || pod.grant.as_ref().is_some_and(|grant| grant.verdict.opens())
        };
        let was_told = match &self.claim {
            Some(claim) => claim.was_told(),
            None => self.pods.iter().any(told),
        };
        self.options.on_timeout != OnTimeout::Proceed
            && self.deadline().is_some_and(|deadline| deadline <= now)
            && !was_told
    }

    /// Was it let through, at least in part?
    pub fn was_told(&self) -> bool {
        if let Some(claim) = &self.claim {
            return claim.was_told();
        }
        self.pods.iter().any(PodFacts::has_passed)
    }

    /// As people say it: `job/name`, `pod/name` or `claim/name`.
    pub fn display(&self) -> String {
        format!("{}/{}", self.kind.lower(), self.name)
    }

    /// Could it start right now, or be let go to take nodes and start then?
    pub fn can_start(&self) -> bool {
        let could = |pod: &PodFacts| pod.can_be_told().is_some() || pod.waits_at_our_gate();
        if let Some(claim) = &self.claim {
            return self.waits() && claim.could_start(&self.pods);
        }
        self.waits() && (self.is_suspended_by_us() || self.pods.iter().any(could))
    }

    /// Does it wait without pods, until it is let go?
    pub fn is_suspended_by_us(&self) -> bool {
        self.job.as_ref().is_some_and(|job| job.suspended == Suspended::ByUs)
    }

    /// Have as many pods, or indexes, succeeded as the Job needs? `told` is the record of each pod's grant.
    pub fn has_its_successes<'a>(&self, told: impl Fn(&str) -> Option<&'a ToldPod>) -> bool {
        let Some(job) = &self.job else { return false };
        let succeeded: Vec<_> =
            self.pods.iter().filter(|pod| pod.end(told(&pod.uid)).is_some_and(|end| end.success)).collect();
        match job.needs {
            Needs::Unknown => false,
            Needs::Pods(needed) => succeeded.len() >= needed,
            Needs::Indexes(needed) => {
                succeeded.iter().filter_map(|pod| pod.index.as_ref()).collect::<BTreeSet<_>>().len() >= needed
            }
        }
    }
}
