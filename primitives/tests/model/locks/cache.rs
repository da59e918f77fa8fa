//! The shipped functions, asked once for each distinct question.
//!
//! A world has far more states than there are snapshots in it: what a step, a verdict or a waiter answers is remembered.
//! What must stay true: the key is all that the answer depends on. Of a status only what a later step may look at is
//! kept: queue, conditions, history and doubts are for people, and are dropped once `check` has seen them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use k8s_openapi::api::batch::v1::{JobCondition, JobSpec, JobStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use konductor_api::annotations::SUSPENDED;
use konductor_api::ledger::{Holder, ParticipantKind, Status as _};
use konductor_api::members::MemberKey;
use konductor_api::options::Options;
use konductor_api::participation::{Part, PodPlan, PrimitiveRef};
use konductor_primitives::facts::{JobFacts, NodeState, PodFacts, Suspended};
use konductor_primitives::hold::told_now;
use konductor_primitives::queue::QueueKey;
use konductor_primitives::snapshot::{OfJob, Participant, Snapshot};
use konductor_primitives::step::Step;
use konductor_primitives::verdict::{JobTelling, Telling, Who, telling, telling_job};
use konductor_waiter::judge::{Myself, Standing, judge};

use super::kind::Rule;
use super::reserved::is_reservation;
use super::world::{Job, Lock, Main, Node, PODS, Sight, Status, Told, Word};
use crate::invariants::{Invariant, named};
use crate::mutants::Mutant;
use crate::objects::{self, Fixed, at, index, name, uid};

/// The Job has this number.
pub(crate) const JOB: usize = 9;

/// What an operator has before it when it decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Seen {
    pub(crate) lock: Lock,
    pub(crate) pods: [Option<Sight>; PODS],
    pub(crate) job: Option<Job>,
    /// What the API server said is gone.
    pub(crate) fresh: [bool; PODS],
    pub(crate) absent: [bool; PODS],
    pub(crate) job_absent: bool,
    /// The Job was asked for.
    pub(crate) job_looked: bool,
}

/// What a step says, in small values.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u32,
    pub(crate) pods_to_look_for: Vec<usize>,
    pub(crate) job_to_look_for: bool,
    /// Which pods, and what to write on them where they were told nothing.
    pub(crate) withdrawals: Vec<(usize, Told)>,
    pub(crate) broken: Option<Invariant>,
}

/// What follows for a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Say {
    Nothing,
    Tell(Told),
    /// Our scheduling gate is taken off.
    Ungate,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Cache<R: Rule> {
    rule: R,
    pub(super) mutant: Mutant,
    pub(crate) fixed: [Fixed; PODS],
    statuses: Vec<R::Status>,
    ids: HashMap<String, u32>,
    facts: HashMap<(usize, Sight), Arc<PodFacts>>,
    steps: HashMap<Seen, Answer>,
    tellings: HashMap<(Lock, usize, Sight), Say>,
    judged: HashMap<(Told, u16, u8), bool>,
}

impl<R: Rule> Cache<R> {
    pub(crate) fn new(rule: R, mutant: Mutant, fixed: [Fixed; PODS]) -> Self {
        let mut cache = Self {
            rule,
            mutant,
            fixed,
            statuses: Vec::new(),
            ids: HashMap::new(),
            facts: HashMap::new(),
            steps: HashMap::new(),
            tellings: HashMap::new(),
            judged: HashMap::new(),
        };
        cache.intern(R::Status::default());
        cache
    }

    /// Number 0 is the one that no operator has written yet.
    pub(crate) fn status(&self, id: u32) -> &R::Status {
        &self.statuses[id as usize]
    }

    fn intern(&mut self, mut status: R::Status) -> u32 {
        let common = status.common_mut();
        (common.waiting, common.queue, common.conditions) = (0, Vec::new(), Vec::new());
        if let Some(ledger) = R::ledger_mut(&mut status) {
            ledger.history.clear();
            // That thirty seconds have gone by is always assumed.
            for holder in &mut ledger.holders {
                (holder.suspect, holder.granted_at) = (None, objects::time(0));
            }
        }
        let text = serde_json::to_string(&status).unwrap();
        let next = u32::try_from(self.statuses.len()).unwrap();
        *self.ids.entry(text).or_insert_with(|| {
            self.statuses.push(status);
            next
        })
    }

    fn object(&self, lock: Lock) -> R::Object {
        let mut object = self.rule.object(lock.spec);
        let metadata = R::metadata(&mut object);
        metadata.uid = Some(format!("lock-{}", lock.incarnation));
        metadata.generation = match self.mutant {
            Mutant::IgnoresGeneration => self.status(lock.status).common().observed_generation,
            _ => Some(i64::from(lock.spec) + 1),
        };
        // Of one incarnation all versions have the same number: tokens have to rise all the same.
        metadata.resource_version = Some((u32::from(lock.incarnation) + 1).to_string());
        if lock.status != 0 {
            R::set_status(&mut object, self.status(lock.status).clone());
        }
        object
    }

    // ----------------------------------------------------------------------------------------------- facts

    pub(crate) fn facts(&mut self, pod: usize, sight: Sight) -> Arc<PodFacts> {
        if let Some(known) = self.facts.get(&(pod, sight)) {
            return Arc::clone(known);
        }
        let (mut stored, node) = sight;
        let ends = match self.mutant {
            Mutant::DeletionIsDeath => stored.deleting,
            Mutant::AnyPhaseIsDeath => stored.collected,
            Mutant::SilenceIsDeath => node == Node::Silent,
            _ => false,
        };
        if ends && stored.status.over.is_none() {
            stored.status = Status { over: Some(false), main: Main::Failed, ..stored.status };
        }
        if self.mutant == Mutant::SkippedEnters {
            stored.told = stored.told.filter(|told| told.word != Word::Skip);
        }
        let node = match node {
            Node::Alive => NodeState::Alive,
            Node::Silent => NodeState::Silent,
            Node::OutOfService => NodeState::OutOfService,
        };
        let facts = Arc::new(PodFacts::of(&objects::pod(pod, &self.fixed[pod], &stored), node));
        self.facts.insert((pod, sight), Arc::clone(&facts));
        facts
    }

    /// The participants that the snapshot shows, in the order of the queue.
    fn participants(&mut self, seen: &Seen) -> Vec<Participant> {
        let roles = self.rule.roles();
        let mut all = Vec::new();
        let mut seen = *seen;
        if self.mutant == Mutant::JobEndIsDeath && seen.job.is_some_and(|job| job.complete || job.failed) {
            for (stored, _) in seen.pods.iter_mut().flatten() {
                stored.status = Status { over: Some(false), main: Main::Failed, ..stored.status };
            }
        }
        let keys = self.rule.keys();
        if let Some(job) = seen.job.filter(|job| !job.gone && keys.is_none()) {
            let pods = (0..PODS).filter(|pod| self.fixed[*pod].job.is_some()).collect::<Vec<_>>();
            let pods = pods
                .into_iter()
                .filter_map(|pod| Some((*self.facts(pod, seen.pods[pod]?)).clone()))
                .collect();
            all.push(Participant {
                kind: ParticipantKind::Job,
                name: name(JOB),
                uid: uid(JOB),
                key: QueueKey::new(0, at(0), None, &uid(0)),
                role: roles[0],
                member: MemberKey::Job(name(JOB)),
                options: Options::default(),
                reached: true,
                job: Some(job_facts(job)),
                claim: None,
                of_job: None,
                pods,
            });
        }
        let own = |pod: &usize| self.fixed[*pod].job.is_none() || keys.is_some();
        for pod in (0..PODS).filter(own).collect::<Vec<_>>() {
            let Some(sight) = seen.pods[pod] else { continue };
            let place = i64::try_from(pod).unwrap();
            let place = if self.mutant == Mutant::LastFirst { 9 - place } else { place };
            all.push(Participant {
                kind: ParticipantKind::Pod,
                name: name(pod),
                uid: uid(pod),
                key: QueueKey::new(0, at(place), None, &uid(pod)),
                role: match self.mutant {
                    Mutant::CountsHolders => konductor_api::participation::Role::Take(1),
                    Mutant::WriterBesideReaders => konductor_api::participation::Role::Read,
                    _ => roles[pod],
                },
                member: match keys {
                    Some(keys) if self.fixed[pod].job.is_some() && self.mutant != Mutant::CountsPods => {
                        MemberKey::Index(format!("job/{}", name(JOB)), u32::from(keys[pod]))
                    }
                    _ => MemberKey::Pod { name: name(pod), uid: uid(pod) },
                },
                options: Options::default(),
                reached: true,
                job: None,
                claim: None,
                of_job: self.fixed[pod].job.map(|job| OfJob {
                    name: name(job),
                    uid: uid(job),
                    over: match self.mutant {
                        Mutant::FailureIsDone => Some(true),
                        _ => seen.job.map(|job| job.complete || job.failed),
                    },
                }),
                pods: vec![(*self.facts(pod, sight)).clone()],
            });
        }
        all
    }

    // ------------------------------------------------------------------------------------------------ step

    pub(crate) fn step(&mut self, seen: &Seen) -> Answer {
        if let Some(known) = self.steps.get(seen) {
            return known.clone();
        }
        let answer = self.ask(seen);
        self.steps.insert(*seen, answer.clone());
        answer
    }

    fn ask(&mut self, seen: &Seen) -> Answer {
        let participants = self.participants(seen);
        let job_gone = seen.job.is_none_or(|job| job.gone);
        let own = self.rule.keys().is_some();
        let strays =
            (0..PODS).filter(|pod| job_gone && !own && self.fixed[*pod].job.is_some()).collect::<Vec<_>>();
        let strays =
            strays.into_iter().filter_map(|pod| Some((*self.facts(pod, seen.pods[pod]?)).clone())).collect();
        let mut absent: BTreeSet<_> = (0..PODS).filter(|pod| seen.absent[*pod]).map(uid).collect();
        if seen.job_absent {
            absent.extend([uid(JOB), format!("job/{}", name(JOB))]);
        }
        let object = self.object(seen.lock);
        let mut shown = object.clone();
        let before = self.status(seen.lock.status).clone();
        if self.mutant == Mutant::ForgetsToken {
            let mut forgetful = before.clone();
            R::ledger_mut(&mut forgetful).unwrap().last_token = None;
            R::set_status(&mut shown, forgetful);
        }
        if let Some(falsified) = self.falsified(seen, &before) {
            R::set_status(&mut shown, falsified);
        }
        let owners = seen.job.filter(|job| seen.job_looked && !job.gone);
        let owners = owners.map(|job| (name(JOB), job_facts(job))).into_iter().collect();
        let snapshot = Snapshot {
            primitive: shown,
            participants,
            objects: self.rule.objects(seen.job.filter(|job| !job.gone)),
            owners,
            strays,
            fresh: (0..PODS).filter(|pod| seen.fresh[*pod]).map(uid).collect(),
            outlived: BTreeSet::new(),
            absent,
            now: at(1000),
        };
        let mut step = R::step(&snapshot);
        self.rule.mutate(self.mutant, &before, &mut step.status);
        self.restore(&before, &mut step.status);
        let broken = self.judge_step(seen, &snapshot, &object, &before, &step);
        let of = |kind| {
            let of_kind = step.lookups.iter().filter(move |lookup| lookup.kind == kind);
            of_kind.map(|lookup| index(&lookup.name)).collect::<Vec<_>>()
        };
        Answer {
            pods_to_look_for: of(ParticipantKind::Pod),
            job_to_look_for: !of(ParticipantKind::Job).is_empty(),
            withdrawals: step.withdrawals.iter().map(objects::withdrawn).collect(),
            broken,
            status: self.intern(step.status),
        }
    }

    /// What can be said of a step without knowing what becomes of it.
    fn judge_step(
        &self,
        seen: &Seen,
        snapshot: &Snapshot<R::Object>,
        object: &R::Object,
        before: &R::Status,
        step: &Step<R::Status>,
    ) -> Option<Invariant> {
        if !step.lookups.is_empty() || !step.withdrawals.is_empty() {
            return None;
        }
        let holds = |status: &R::Status, uid: &str| R::holders(status).iter().any(|one| one.uid == uid);
        let left: Vec<Holder> = R::holders(before)
            .iter()
            .filter(|old| R::holders(&step.status).iter().all(|new| new.token != old.token))
            .cloned()
            .collect();
        let entered = |who: &&Participant| !holds(before, &who.uid) && holds(&step.status, &who.uid);
        let place = |who: &Participant| who.pods.first().map(|pod| index(&pod.uid));
        for late in snapshot.participants.iter().filter(entered) {
            let passed_over = snapshot.participants.iter().any(|first| {
                place(first) < place(late)
                    && first.can_start()
                    && !holds(before, &first.uid)
                    && !holds(&step.status, &first.uid)
                    && !self.rule.may_overtake(seen.lock.spec, first.role, late.role, &left)
            });
            if passed_over {
                return Some("PriorityRespected");
            }
        }
        let refused = R::check(object, &step.status).err();
        refused
            .map(|violation| named(violation.invariant))
            .or_else(|| self.rule.breaks(before, &step.status, seen.lock.spec))
    }

    // ------------------------------------------------------------------------------------- verdict and waiter

    /// What follows for that pod from that ledger.
    pub(crate) fn says(&mut self, lock: Lock, pod: usize, sight: Sight) -> Say {
        if let Some(known) = self.tellings.get(&(lock, pod, sight)) {
            return *known;
        }
        let facts = self.facts(pod, sight);
        let annotations: BTreeMap<_, _> = self.fixed[pod]
            .annotations
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.clone()))
            .collect();
        let plan = PodPlan::of(&annotations, self.fixed[pod].job.is_some());
        let job = self.fixed[pod].job.map(|job| Who::unseen_job(&name(job), &uid(job)));
        let mut object = self.object(lock);
        if lock.status != 0 {
            let mut status = self.status(lock.status).clone();
            R::mutate_told(self.mutant, &mut status);
            if self.mutant == Mutant::TellsReserved && facts.last_run() == 0 {
                let holders = R::ledger_mut(&mut status).into_iter().flat_map(|ledger| &mut ledger.holders);
                let reserved = holders.filter(|holder| is_reservation(holder) && holder.uid == uid(pod));
                reserved.for_each(|holder| holder.pods = told_now(&facts).into_iter().collect());
            }
            R::set_status(&mut object, status);
        }
        let committed = |_: &PrimitiveRef| R::committed(&object);
        let says = match telling(&facts, &plan, job.as_ref(), committed, |_, _| None, at(1000)) {
            Telling::Nothing | Telling::Wait(_) => Say::Nothing,
            Telling::Lift { .. } => Say::Ungate,
            Telling::Go { grant, .. } | Telling::Deny { grant } => Say::Tell(objects::told(&grant)),
        };
        let says = match says {
            Say::Tell(told) if self.mutant == Mutant::TellsOnce && told.run != 1 => Say::Nothing,
            says => says,
        };
        self.tellings.insert((lock, pod, sight), says);
        says
    }

    /// Does the Job go on, that we suspended, from that ledger?
    pub(crate) fn resumes(&mut self, lock: Lock) -> bool {
        let mut object = self.object(lock);
        if lock.status != 0 {
            R::set_status(&mut object, self.status(lock.status).clone());
        }
        let committed = |_: &PrimitiveRef| R::committed(&object);
        let primitive = PrimitiveRef { kind: R::KIND, name: "x".to_owned() };
        let set = [Part { primitive, role: self.rule.roles()[0] }].into_iter().collect();
        let job = Who::unseen_job(&name(JOB), &uid(JOB));
        let told = telling_job(&job, Suspended::ByUs, &set, &[], committed, |_, _| None, at(1000));
        matches!(told, JobTelling::Resume { .. })
    }

    /// Does a waiter that started then, with that mark, pass on that grant?
    pub(crate) fn passes(&mut self, told: Told, started_at: u16, mark: u8) -> bool {
        let (started, mark) = match self.mutant {
            Mutant::WaiterForgets => (started_at, 0),
            Mutant::WaiterIgnoresStart => (told.start, mark),
            _ => (started_at, mark),
        };
        *self.judged.entry((told, started, mark)).or_insert_with(|| {
            let myself = Myself { pod_uid: uid(0), started_at: at(i64::from(started)).as_second() };
            let standing = judge(&objects::grant(0, told).to_string(), &myself, u64::from(mark));
            matches!(standing, Standing::Go(_) | Standing::Skip { .. })
        })
    }

    /// Does that ledger name that pod, told or not?
    pub(crate) fn names(&self, lock: Lock, pod: usize) -> bool {
        let reserved = |holder: &Holder| is_reservation(holder) && holder.uid == uid(pod);
        self.lists(lock, pod) || R::holders(self.status(lock.status)).iter().any(reserved)
    }

    /// Is that pod in that ledger, in the list of those that may be told?
    pub(crate) fn lists(&self, lock: Lock, pod: usize) -> bool {
        let holders = R::holders(self.status(lock.status));
        holders.iter().any(|holder| holder.told(&uid(pod)).is_some())
    }
}

pub(crate) fn job_facts(job: Job) -> JobFacts {
    let condition = |type_: &str| JobCondition {
        type_: type_.to_owned(),
        status: "True".to_owned(),
        ..JobCondition::default()
    };
    let conditions = [("Complete", job.complete), ("Failed", job.failed)];
    let conditions = conditions.into_iter().filter(|(_, is_so)| *is_so).map(|(type_, _)| condition(type_));
    JobFacts::of(&k8s_openapi::api::batch::v1::Job {
        metadata: ObjectMeta {
            uid: Some(if job.made == 0 { uid(JOB) } else { format!("{}-{}", uid(JOB), job.made) }),
            creation_timestamp: Some(objects::time(0)),
            annotations: job.held.then(|| [(SUSPENDED.to_owned(), String::new())].into()),
            ..ObjectMeta::default()
        },
        spec: Some(JobSpec {
            suspend: Some(job.suspended || job.held),
            completions: Some(1),
            ..JobSpec::default()
        }),
        status: Some(JobStatus { conditions: Some(conditions.collect()), ..JobStatus::default() }),
    })
}
