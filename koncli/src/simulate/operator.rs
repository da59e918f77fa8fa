//! The operator of the simulation: steps and verdicts, in the order of the real one.
//!
//! Pure. What must stay true: step, withdraw, step again, then tell each Job and pod what follows from all the ledgers.

use std::collections::{BTreeMap, BTreeSet};

use konductor_api::ledger::ParticipantKind;
use konductor_api::members::MemberKey;
use konductor_api::participation::{Kind, PodPlan, PrimitiveRef, PrimitiveSet, Role};
use konductor_primitives::committed::Committed;
use konductor_primitives::facts::{JobFacts, PodFacts, Suspended};
use konductor_primitives::looked::{Looked, PrimitiveFacts, Target};
use konductor_primitives::queue::QueueKey;
use konductor_primitives::snapshot::{OfJob, Participant};
use konductor_primitives::verdict::{JobTelling, Telling, Who, has_reached, telling, telling_job};

use super::objects::{Object, Seen};
use super::pods::{BEAT, SimPod, Stage};
use super::world::{Happens, World};

/// Steps that settle in no more rounds than that; more are a bug of ours.
const ROUNDS: usize = 200;

impl World<'_> {
    /// Steps and verdicts until nothing changes.
    pub(super) fn settle(&mut self) -> Result<(), String> {
        for _ in 0..ROUNDS {
            let names: Vec<_> = self.primitives.keys().cloned().collect();
            let mut changed = false;
            for name in names {
                changed |= self.step(&name)?;
            }
            changed |= self.tell_jobs();
            changed |= self.tell_pods();
            if !changed {
                return Ok(());
            }
        }
        Err("it does not settle; please report this scenario".to_owned())
    }

    fn step(&mut self, name: &PrimitiveRef) -> Result<bool, String> {
        let (mut absent, mut fresh) = (BTreeSet::new(), BTreeSet::new());
        for _ in 0..ROUNDS {
            let seen = Seen {
                participants: self.participants(name),
                objects: self.looked(name),
                absent: absent.clone(),
                fresh: fresh.clone(),
                now: self.now,
            };
            let Some(object) = self.primitives.get_mut(name) else { return Ok(false) };
            let stepped = object.step(seen)?;
            if !stepped.lookups.is_empty() {
                for lookup in stepped.lookups {
                    let there = self.pods.iter().any(|pod| pod.name == lookup.name)
                        || self.jobs.iter().any(|job| job.name == lookup.name);
                    if there {
                        fresh.insert(lookup.uid.clone())
                    } else {
                        absent.insert(lookup.key())
                    };
                }
                continue;
            }
            if !stepped.withdrawals.is_empty() {
                for withdrawal in stepped.withdrawals {
                    let pod = self.pods.iter_mut().find(|pod| pod.name == withdrawal.pod);
                    if let Some((pod, facts)) = pod.and_then(|pod| pod.facts().map(|facts| (pod, facts))) {
                        pod.tell(
                            &konductor_primitives::verdict::withdrawn(&facts, &withdrawal).to_string(),
                            false,
                        );
                    }
                }
                continue;
            }
            if let Some(at) = stepped.wake_at.filter(|at| *at > self.now) {
                self.due.insert((at, Happens::Wakes));
            }
            self.lines.insert(name.clone(), stepped.line);
            let Some((before, after)) = stepped.change else { return Ok(false) };
            self.story.changed(self.now, &name.to_string(), &before, &after);
            return Ok(true);
        }
        Err(format!("{name} does not settle; please report this scenario"))
    }

    fn looked(&self, name: &PrimitiveRef) -> BTreeMap<Target, Looked> {
        let targets = self.primitives.get(name).map(Object::targets).unwrap_or_default();
        let see = |target: &Target| {
            if target.is_ours() {
                let kind = Kind::ALL.into_iter().find(|kind| kind.api_kind() == target.kind)?;
                let other = self.primitives.get(&PrimitiveRef { kind, name: target.name.clone() })?;
                return PrimitiveFacts::of(other.committed()).map(Looked::Primitive);
            }
            let job = self.jobs.iter().find(|job| target.kind == "Job" && job.name == target.name)?;
            Some(Looked::Job(JobFacts::of(&job.read()?)))
        };
        targets.into_iter().filter_map(|target| see(&target).map(|looked| (target, looked))).collect()
    }

    fn committed(&self, name: &PrimitiveRef) -> Committed<'_> {
        self.primitives.get(name).map_or(Committed::Missing, Object::committed)
    }

    fn has_all(&self, before: &[(PrimitiveRef, Role)], who: &Who) -> bool {
        before.iter().all(|(name, role)| has_reached(self.committed(name), name, *role, who, self.now))
    }

    fn participants(&self, name: &PrimitiveRef) -> Vec<Participant> {
        let priority = self.primitives.get(name).map_or(0, |object| object.defaults().priority);
        let mut all = Vec::new();
        for (at, job) in self.jobs.iter().enumerate() {
            let Some(read) = job.read() else { continue };
            let set = set_of(read.metadata.annotations.as_ref());
            let Some(role) = set.role(name) else { continue };
            let who = Who::job(&read);
            all.push(Participant {
                kind: ParticipantKind::Job,
                name: job.name.clone(),
                uid: job.uid.clone(),
                key: QueueKey::of(&read.metadata, who.options.priority.unwrap_or(priority)),
                role,
                reached: self.has_all(
                    &earlier(set.entries().iter().map(|part| (part.primitive.clone(), part.role)), name),
                    &who,
                ),
                member: MemberKey::Job(job.name.clone()),
                options: who.options,
                job: Some(JobFacts::of(&read)),
                claim: None,
                of_job: None,
                pods: self.pods.iter().filter(|pod| pod.job == Some(at)).filter_map(SimPod::facts).collect(),
            });
        }
        for pod in &self.pods {
            let Some(facts) = pod.facts() else { continue };
            let plan = plan_of(&facts, pod.job.is_some());
            let Some(role) = plan.pod.role(name) else { continue };
            let who = Who::pod(&facts, &plan);
            let job = pod.job.and_then(|job| self.jobs.get(job));
            let of_job = job.and_then(|job| Some(Who::job(&job.read()?)));
            let by_job: Vec<_> =
                plan.job.entries().iter().map(|part| (part.primitive.clone(), part.role)).collect();
            let after_job = of_job.as_ref().is_none_or(|who| self.has_all(&by_job, who));
            let before =
                earlier(plan.pod.entries().iter().map(|part| (part.primitive.clone(), part.role)), name);
            all.push(Participant {
                kind: ParticipantKind::Pod,
                name: pod.name.clone(),
                uid: facts.uid.clone(),
                key: QueueKey::of(&facts.object().metadata, who.options.priority.unwrap_or(priority)),
                role,
                reached: after_job && self.has_all(&before, &who),
                member: who.member,
                options: who.options,
                job: None,
                claim: None,
                of_job: job.map(|job| OfJob {
                    name: job.name.clone(),
                    uid: job.uid.clone(),
                    over: Some(job.over),
                }),
                pods: vec![facts],
            });
        }
        all
    }

    fn place(&self, name: &PrimitiveRef, uid: &str) -> Option<(usize, usize)> {
        let line = self.lines.get(name)?;
        Some((line.iter().position(|other| other == uid)? + 1, line.len()))
    }

    /// Jobs that fail, or are skipped, without having run.
    fn tell_jobs(&mut self) -> bool {
        let mut told = Vec::new();
        for (at, job) in self.jobs.iter().enumerate().filter(|(_, job)| !job.over) {
            let Some(read) = job.read() else { continue };
            let pods: Vec<_> =
                self.pods.iter().filter(|pod| pod.job == Some(at)).filter_map(SimPod::facts).collect();
            let set = set_of(read.metadata.annotations.as_ref());
            let who = Who::job(&read);
            if let Some(deadline) = who.deadline.filter(|deadline| *deadline > self.now) {
                self.due.insert((deadline, Happens::Wakes));
            }
            let place = |name: &PrimitiveRef, uid: &str| self.place(name, uid);
            match telling_job(&who, Suspended::No, &set, &pods, |name| self.committed(name), place, self.now)
            {
                JobTelling::Fail { message, .. } => told.push((at, "Failed", message)),
                JobTelling::Skip { message } => told.push((at, "Complete", message)),
                JobTelling::Nothing | JobTelling::Wait(_) | JobTelling::Resume { .. } => {}
            }
        }
        for (at, type_, message) in &told {
            let Some(job) = self.jobs.get_mut(*at) else { continue };
            job.end(type_, message);
            let who = format!("job/{}", job.name);
            for pod in self.pods.iter_mut().filter(|pod| pod.job == Some(*at) && !pod.is_over()) {
                pod.turn(Stage::Refused);
            }
            let what = if *type_ == "Failed" {
                "fails without having run"
            } else {
                "is complete without having run"
            };
            self.story.say(self.now, &who, &format!("{what}: {message}"));
        }
        !told.is_empty()
    }

    fn tell_pods(&mut self) -> bool {
        let mut told = Vec::new();
        for (at, pod) in self.pods.iter().enumerate().filter(|(_, pod)| matches!(pod.stage, Stage::Waits(_)))
        {
            let Some(facts) = pod.facts() else { continue };
            let plan = plan_of(&facts, pod.job.is_some());
            let job = pod.job.and_then(|job| self.jobs.get(job)?.read()).map(|job| Who::job(&job));
            let own = Who::pod(&facts, &plan);
            if let Some(deadline) = own.deadline.filter(|deadline| *deadline > self.now) {
                self.due.insert((deadline, Happens::Wakes));
            }
            let place = |name: &PrimitiveRef, uid: &str| self.place(name, uid);
            match telling(&facts, &plan, job.as_ref(), |name| self.committed(name), place, self.now) {
                Telling::Go { grant, .. } => told.push((at, grant, plan.needs_the_end(), None)),
                Telling::Deny { grant } => told.push((at, grant.clone(), false, Some(grant.to_string()))),
                Telling::Nothing | Telling::Wait(_) | Telling::Lift { .. } => {}
            }
        }
        for (at, grant, holds, denied) in &told {
            let Some(pod) = self.pods.get_mut(*at) else { continue };
            pod.tell(&grant.to_string(), *holds);
            if let Some(why) = denied {
                pod.turn(Stage::Refused);
                let why = why.splitn(6, ' ').last().unwrap_or_default().to_owned();
                self.tell_of_pod(*at, &format!("is told no: {why}"));
                self.after_pod(*at);
            } else {
                self.later(BEAT, Happens::GoesOn(*at));
            }
        }
        !told.is_empty()
    }
}

fn earlier(
    all: impl Iterator<Item = (PrimitiveRef, Role)>,
    name: &PrimitiveRef,
) -> Vec<(PrimitiveRef, Role)> {
    all.take_while(|(other, _)| other != name).collect()
}

fn set_of(annotations: Option<&BTreeMap<String, String>>) -> PrimitiveSet {
    annotations.map(PrimitiveSet::of).unwrap_or_default()
}

fn plan_of(facts: &PodFacts, of_job: bool) -> PodPlan {
    facts.object().metadata.annotations.as_ref().map(|all| PodPlan::of(all, of_job)).unwrap_or_default()
}
