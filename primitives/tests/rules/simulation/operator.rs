//! An operator: what it has seen, and what it is about to write. It decides by the shipped functions only.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use konductor_api::annotations::GRANT;
use konductor_api::gate::{Gate, GatePhase, GateStatus};
use konductor_api::ledger::ParticipantKind;
use konductor_api::members::MemberKey;
use konductor_api::mutex::{Mutex, MutexStatus};
use konductor_api::options::Options;
use konductor_api::participation::{Kind, PodPlan, PrimitiveRef};
use konductor_primitives::committed::Committed;
use konductor_primitives::evidence::WaiterRun;
use konductor_primitives::facts::PodFacts;
use konductor_primitives::hold::told_now;
use konductor_primitives::queue::QueueKey;
use konductor_primitives::snapshot::{Participant, Snapshot};
use konductor_primitives::step::Step;
use konductor_primitives::verdict::{Telling, Who, telling, withdrawn};
use konductor_primitives::{gate, mutex};
use konductor_waiter::grant::Grant;

use super::super::support::{at, jobs_seen, name_of_gate, name_of_mutex, uid};
use super::Flaw;
use super::truth::Broken;
use super::world::{PREP, Stored, View, World};

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Operator {
    /// Its caches: each object as it was at some time.
    pub(super) seen: View,
    /// Does it read other ledgers from the API server before it says go?
    reads_others: bool,
    pub(super) commit: Option<Commit>,
    pub(super) patches: Vec<Patch>,
}

/// A ledger that is decided on and not written.
#[derive(Clone, Debug)]
pub(super) struct Commit {
    what: Decision,
    participants: Vec<Participant>,
}

#[derive(Clone, Debug)]
enum Decision {
    Gate(Box<Gate>, GateStatus),
    Mutex(Box<Mutex>, MutexStatus),
}

/// A verdict that is decided on and not written.
#[derive(Clone, Debug)]
pub(super) struct Patch {
    pod: String,
    version: String,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    Grant(Grant),
    LiftGate,
}

/// What one reconcile got from the API server itself.
#[derive(Default)]
struct Known {
    pods: BTreeMap<String, Rc<Stored>>,
    absent: BTreeSet<String>,
}

impl Operator {
    pub(super) fn new(world: &World, reads_others: bool) -> Self {
        Self { seen: world.api.clone(), reads_others, commit: None, patches: Vec::new() }
    }

    /// It starts anew, with what the API server has now.
    pub(super) fn restart(&mut self, world: &World) {
        *self = Self::new(world, self.reads_others);
    }

    fn facts(&self, stored: &Stored, world: &World) -> PodFacts {
        let alive = match stored.object().spec.as_ref().and_then(|spec| spec.node_name.as_deref()) {
            Some("node-a") => self.seen.alive[0],
            Some(_) => self.seen.alive[1],
            None => false,
        };
        let facts = stored.facts(alive);
        match world.flaw {
            Flaw::TakesDeletionForDeath if facts.deleting => {
                let over = stored.sketch.clone().waiter_passed(0, 0).ended("main", "x", 1, 1, 1);
                let more = stored.object().spec.as_ref().is_some_and(|spec| spec.containers.len() > 1);
                let over = if more { over.ended("web", "y", 1, 1, 1) } else { over };
                PodFacts::of(over.over("Failed").object(), alive)
            }
            Flaw::GrantsWithoutAWaiter if facts.waiter == WaiterRun::None => {
                PodFacts::of(stored.sketch.clone().waiter_running(world.second()).object(), true)
            }
            _ => facts.clone(),
        }
    }

    // ------------------------------------------------------------------------------------------- snapshot

    fn participants(&self, primitive: &PrimitiveRef, known: &Known, world: &World) -> Vec<Participant> {
        let mut all: BTreeMap<&String, &Rc<Stored>> = self.seen.pods.iter().collect();
        all.extend(&known.pods);
        all.retain(|_, stored| !known.absent.contains(stored.object().metadata.uid.as_ref().unwrap()));
        let of_jobs = self
            .seen
            .jobs
            .values()
            .filter(|job| !known.absent.contains(&job.uid))
            .filter_map(|job| Some((job, job.plan.role(primitive)?)))
            .map(|(job, role)| Participant {
                kind: ParticipantKind::Job,
                name: job.name.clone(),
                uid: job.uid.clone(),
                key: job.key(),
                role,
                member: MemberKey::Job(job.name.clone()),
                options: Options::default(),
                reached: true,
                claim: None,
                job: Some(job.sketch().facts()),
                of_job: None,
                pods: all
                    .values()
                    .filter(|stored| stored.job_uid.as_ref() == Some(&job.uid))
                    .map(|stored| self.facts(stored, world))
                    .collect(),
            });
        let of_pods = all.values().filter_map(|stored| {
            let role = stored.plan.pod.role(primitive)?;
            let pod = self.facts(stored, world);
            let created = pod.object().metadata.creation_timestamp.as_ref().unwrap().0;
            Some(Participant {
                kind: ParticipantKind::Pod,
                name: pod.name.clone(),
                uid: pod.uid.clone(),
                key: QueueKey::new(0, created, None, &pod.uid),
                role,
                member: pod.member(),
                options: stored.plan.options,
                reached: self.reached(&stored.plan, &pod.uid, primitive),
                job: None,
                claim: None,
                of_job: None,
                pods: vec![pod],
            })
        });
        of_jobs.chain(of_pods).collect()
    }

    fn reached(&self, plan: &PodPlan, pod_uid: &str, primitive: &PrimitiveRef) -> bool {
        plan.entries().take_while(|entry| entry.primitive != primitive).all(|entry| {
            match entry.primitive.kind {
                Kind::Gate => {
                    self.seen.gate.status.as_ref().and_then(|status| status.phase) == Some(GatePhase::Open)
                }
                Kind::Mutex => self.seen.mutexes[&entry.primitive.name]
                    .status
                    .iter()
                    .flat_map(|status| &status.ledger.holders)
                    .any(|holder| holder.uid == pod_uid),
                other => panic!("nobody here takes part in a {other:?}"),
            }
        })
    }

    fn snapshot<P>(
        &self,
        primitive: P,
        participants: Vec<Participant>,
        known: &Known,
        world: &World,
    ) -> Snapshot<P> {
        Snapshot {
            primitive,
            participants,
            objects: BTreeMap::new(),
            owners: BTreeMap::new(),
            strays: known.pods.values().map(|sketch| self.facts(sketch, world)).collect(),
            fresh: known.pods.values().map(|sketch| self.facts(sketch, world).uid).collect(),
            outlived: BTreeSet::new(),
            absent: known.absent.clone(),
            now: at(world.second()),
        }
    }

    // ------------------------------------------------------------------------------------------ reconcile

    pub(super) fn reconcile_gate(&mut self, world: &World) {
        let known = Known::default();
        let participants = self.participants(&name_of_gate("ready"), &known, world);
        let mut snapshot = self.snapshot(self.seen.gate.clone(), participants, &known, world);
        snapshot.objects = jobs_seen(&[(PREP, self.seen.jobs[PREP].sketch())]);
        let status = gate::step(&snapshot).status;
        let before = snapshot.primitive.status.clone().unwrap_or_default();
        gate::check(&snapshot.primitive, &status).unwrap();
        let unchanged = before == status;
        let what = Decision::Gate(Box::new(snapshot.primitive), status);
        self.decide(Commit { what, participants: snapshot.participants }, unchanged, world);
    }

    pub(super) fn reconcile_mutex(&mut self, name: &str, world: &mut World) -> Result<(), Broken> {
        let mut known = Known::default();
        for _ in 0..8 {
            let participants = self.participants(&name_of_mutex(name), &known, world);
            let mut snapshot = self.snapshot(self.seen.mutexes[name].clone(), participants, &known, world);
            let shown = snapshot.primitive.clone();
            falsify(&mut snapshot, world.flaw);
            let step = mutex::step(&snapshot);
            snapshot.primitive = shown;
            if !step.lookups.is_empty() {
                look(&step, &mut known, world);
                continue;
            }
            if !step.withdrawals.is_empty() {
                self.withdraw(&step, &mut known, world)?;
                continue;
            }
            let before = snapshot.primitive.status.clone().unwrap_or_default();
            let mut status = step.status;
            unlearn(&snapshot.primitive, &mut status, world.flaw);
            if world.flaw == Flaw::ForgetsWhatRanBefore {
                status
                    .ledger
                    .holders
                    .iter_mut()
                    .flat_map(|holder| &mut holder.pods)
                    .for_each(|told| told.ran_before.clear());
            }
            if let Err(violation) = mutex::check(&snapshot.primitive, &status) {
                return Err(Broken {
                    invariant: violation.invariant,
                    detail: format!("refused: {violation}"),
                });
            }
            let unchanged = before == status;
            let what = Decision::Mutex(Box::new(snapshot.primitive), status);
            self.decide(Commit { what, participants: snapshot.participants }, unchanged, world);
            return Ok(());
        }
        Err(Broken { invariant: "Progress", detail: format!("{name} does not settle") })
    }

    fn decide(&mut self, commit: Commit, unchanged: bool, world: &World) {
        if unchanged || world.flaw == Flaw::TellsBeforeItCommits {
            self.notify(&commit, world);
        }
        self.commit = (!unchanged).then_some(commit);
    }

    /// Conditional on the version that was looked at; what comes back is known.
    fn withdraw(&self, step: &Step<MutexStatus>, known: &mut Known, world: &mut World) -> Result<(), Broken> {
        for withdrawal in &step.withdrawals {
            let looked_at = known.pods.get(&withdrawal.pod).or_else(|| self.seen.pods.get(&withdrawal.pod));
            let looked_at = Rc::clone(looked_at.unwrap());
            let grant = withdrawn(looked_at.facts(true), withdrawal);
            if world.flaw == Flaw::SkipsWithdrawal {
                let pretended = looked_at.sketch.clone().annotation(GRANT, &grant.to_string());
                known.pods.insert(withdrawal.pod.clone(), Stored::new(pretended));
                continue;
            }
            world.patch(&withdrawal.pod, looked_at.revision().unwrap(), &grant)?;
            note(&withdrawal.pod, &withdrawal.uid, known, world);
        }
        Ok(())
    }

    // --------------------------------------------------------------------------------------- commit and tell

    pub(super) fn write_commit(&mut self, world: &mut World) -> Result<(), Broken> {
        let Some(mut commit) = self.commit.take() else { return Ok(()) };
        let written = match &mut commit.what {
            Decision::Gate(base, status) => {
                let written = world.swap_gate(base, status)?;
                self.seen.gate = world.api.gate.clone();
                **base = world.api.gate.clone();
                written
            }
            Decision::Mutex(base, status) => {
                let written = world.swap_mutex(base, status)?;
                let name = base.metadata.name.clone().unwrap();
                **base = world.api.mutexes[&name].clone();
                self.seen.mutexes.insert(name, (**base).clone());
                written
            }
        };
        if written {
            self.notify(&commit, world);
        }
        Ok(())
    }

    fn notify(&mut self, commit: &Commit, world: &World) {
        for pod in commit.participants.iter().flat_map(|participant| &participant.pods) {
            let mut told = Self::telling(pod, &commit.what, &self.seen, world.flaw);
            if matches!(told, Telling::Go { .. } | Telling::Lift { .. }) && self.reads_others {
                told = Self::telling(pod, &commit.what, &world.api, world.flaw);
            }
            let what = match told {
                Telling::Nothing | Telling::Wait(_) => continue,
                Telling::Lift { .. } => What::LiftGate,
                Telling::Go { grant, .. } | Telling::Deny { grant } => What::Grant(grant),
            };
            self.patches.push(Patch { pod: pod.name.clone(), version: version(pod), what });
        }
    }

    fn telling(pod: &PodFacts, what: &Decision, others: &View, flaw: Flaw) -> Telling {
        let mut decided = None;
        if let (Flaw::TellsBeforeItCommits, Decision::Mutex(base, status)) = (flaw, what) {
            decided = Some(Mutex { status: Some(status.clone()), ..(**base).clone() });
        }
        if let (Flaw::TellsWhoeverReserved, Decision::Mutex(base, _)) = (flaw, what) {
            let mut base = (**base).clone();
            let holders = base.status.iter_mut().flat_map(|status| &mut status.ledger.holders);
            let reserved = holders.filter(|holder| holder.uid == pod.uid && holder.pods.is_empty());
            reserved.for_each(|holder| holder.pods = told_now(pod).into_iter().collect());
            decided = Some(base);
        }
        let committed = |primitive: &PrimitiveRef| match (primitive.kind, what) {
            (Kind::Gate, Decision::Gate(gate, _)) => Committed::Gate(gate),
            (Kind::Gate, Decision::Mutex(..)) => Committed::Gate(&others.gate),
            (Kind::Mutex, Decision::Mutex(mutex, _))
                if mutex.metadata.name.as_ref() == Some(&primitive.name) =>
            {
                Committed::Mutex(decided.as_ref().unwrap_or(mutex))
            }
            (Kind::Mutex, _) => Committed::Mutex(&others.mutexes[&primitive.name]),
            (other, _) => panic!("nobody here takes part in a {other:?}"),
        };
        let now = pod.object().metadata.creation_timestamp.as_ref().unwrap().0;
        telling(pod, &plan_of(pod), job_of(pod).as_ref(), committed, |_, _| None, now)
    }

    pub(super) fn write_patch(&mut self, which: usize, world: &mut World) -> Result<(), Broken> {
        let patch = self.patches.swap_remove(which % self.patches.len());
        match &patch.what {
            What::Grant(grant) => world.patch(&patch.pod, &patch.version, grant),
            What::LiftGate => {
                world.lift_gate(&patch.pod, &patch.version);
                Ok(())
            }
        }
    }

    /// The end is proven and no ledger, read from the API server, has an entry: it lets go of the object.
    pub(super) fn lift(&self, name: &str, world: &mut World) {
        let Some(sketch) = self.seen.pods.get(name) else { return };
        let facts = sketch.facts(true);
        let holders =
            world.api.mutexes.values().flat_map(|m| m.status.iter().flat_map(|s| &s.ledger.holders));
        let listed =
            holders.into_iter().any(|holder| holder.uid == facts.uid || holder.told(&facts.uid).is_some());
        if facts.finalizer && facts.terminal.is_some() && !listed {
            world.lift_finalizer(name, sketch.revision().unwrap());
        }
    }
}

/// What an operator believes that takes back what it may not, or nothing.
fn falsify(snapshot: &mut Snapshot<Mutex>, flaw: Flaw) {
    let Snapshot { primitive, participants, now, .. } = snapshot;
    for holder in primitive.status.iter_mut().flat_map(|status| &mut status.ledger.holders) {
        let pod = participants.iter().find_map(|who| who.pod(&holder.uid));
        match flaw {
            Flaw::TakesBackWhatWasTold if pod.is_some_and(|pod| pod.node.is_none() && !pod.gated.by_us()) => {
                holder.pods.clear();
            }
            Flaw::NeverTakesBack if pod.is_some() => holder.granted_at = Time(*now),
            _ => {}
        }
    }
}

/// What stays is written down as it was: only what such an operator ends, or does not list, counts.
fn unlearn(shown: &Mutex, status: &mut MutexStatus, flaw: Flaw) {
    let known = shown.status.iter().flat_map(|status| &status.ledger.holders);
    for known in known {
        let stays = status.ledger.holders.iter_mut().find(|holder| holder.token == known.token);
        let Some(stays) = stays.filter(|holder| holder.kind == ParticipantKind::Pod) else { continue };
        match flaw {
            Flaw::TakesBackWhatWasTold if stays.pods.is_empty() => stays.pods.clone_from(&known.pods),
            Flaw::NeverTakesBack => stays.granted_at.clone_from(&known.granted_at),
            Flaw::TellsWhoeverReserved if known.pods.is_empty() => stays.pods.clear(),
            _ => {}
        }
    }
}

/// Quorum reads.
fn look(step: &Step<MutexStatus>, known: &mut Known, world: &World) {
    for lookup in &step.lookups {
        match lookup.kind {
            ParticipantKind::Pod => {
                if world.flaw == Flaw::TakesItsCacheForTheTruth {
                    known.absent.insert(lookup.uid.clone());
                } else {
                    note(&lookup.name, &lookup.uid, known, world);
                }
            }
            ParticipantKind::Claim => unreachable!("nobody claims anything here"),
            ParticipantKind::Job => {
                let found = world.api.jobs.get(&lookup.name).is_some_and(|job| job.uid == lookup.uid);
                if !found {
                    known.absent.insert(lookup.uid.clone());
                }
            }
        }
    }
}

fn note(name: &str, uid: &str, known: &mut Known, world: &World) {
    if let Some(sketch) = world.api.pods.get(name) {
        known.pods.insert(name.to_owned(), Rc::clone(sketch));
    } else {
        known.pods.remove(name);
        known.absent.insert(uid.to_owned());
    }
}

fn version(pod: &PodFacts) -> String {
    pod.object().metadata.resource_version.clone().unwrap()
}

fn job_of(pod: &PodFacts) -> Option<Who> {
    let owner = pod.object().metadata.owner_references.iter().flatten().next()?;
    Some(Who::unseen_job(&owner.name, &uid(&owner.name)))
}

fn plan_of(pod: &PodFacts) -> PodPlan {
    let controlled = job_of(pod).is_some();
    pod.object().metadata.annotations.as_ref().map(|all| PodPlan::of(all, controlled)).unwrap_or_default()
}
