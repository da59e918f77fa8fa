//! The world: who comes when, and what the Job controller and the kubelet do.
//!
//! Pure; time goes from one thing that happens to the next. What must stay true: nothing here decides who is let in.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use konductor_api::duration::GoDuration;
use konductor_api::participation::{Kind, PrimitiveRef};
use konductor_webhook::waiter::Settings;
use serde_json::{Value, json};

use super::objects::Object;
use super::pods::{BEAT, SimJob, SimPod, Stage};
use super::scenario::{Does, Scenario};
use super::story::Story;
use crate::inject::{Injected, inject};

/// Things that may happen: a Job that fails and is tried again for ever has no end.
const HAPPENINGS: usize = 20_000;
/// A day.
const LONGEST: SignedDuration = SignedDuration::from_hours(24);

/// Something that happens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Happens {
    /// Something is created, by its place in the scenario.
    Comes(usize),
    /// A pod's waiter starts.
    Starts(usize),
    /// A pod that was told goes on.
    GoesOn(usize),
    /// A pod's containers end.
    Ends(usize),
    /// A gate is opened by hand.
    Opens(String),
    /// Time alone changes something.
    Wakes,
}

pub(super) struct World<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) now: Timestamp,
    pub(super) primitives: BTreeMap<PrimitiveRef, Object>,
    pub(super) jobs: Vec<SimJob>,
    pub(super) pods: Vec<SimPod>,
    pub(super) due: BTreeSet<(Timestamp, Happens)>,
    pub(super) lines: BTreeMap<PrimitiveRef, Vec<String>>,
    pub(super) story: Story,
}

/// Tells the story of that scenario.
pub fn run(scenario: &Scenario) -> Result<String, String> {
    let start = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24 * 365);
    let mut world = World {
        scenario,
        now: start,
        primitives: BTreeMap::new(),
        jobs: Vec::new(),
        pods: Vec::new(),
        due: BTreeSet::new(),
        lines: BTreeMap::new(),
        story: Story::begin(start),
    };
    for (place, object) in scenario.objects.iter().enumerate() {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let ours = object["apiVersion"].as_str().is_some_and(|version| version.starts_with("konductor.io/"));
        let kind = Kind::ALL
            .into_iter()
            .find(|kind| object["kind"].as_str() == Some(kind.api_kind()))
            .filter(|_| ours);
        if let Some(kind) = kind {
            let mut object = object.clone();
            object["metadata"]["creationTimestamp"] = json!(start);
            // As the API server fills it in.
            if object["spec"].is_null() {
                object["spec"] = json!({});
            }
            let read = Object::read(kind, &object)
                .map_err(|error| format!("{}/{name}: {error}", kind.api_kind()))?;
            world.primitives.insert(PrimitiveRef { kind, name: name.to_owned() }, read);
        } else if matches!(object["kind"].as_str(), Some("Job" | "Pod")) {
            world.due.insert((after(start, world.does(name).at), Happens::Comes(place)));
        }
    }
    for (gate, at) in &scenario.says.open {
        world.due.insert((after(start, *at), Happens::Opens(gate.clone())));
    }
    let limit = scenario.says.until.and_then(|until| until.after(start)).unwrap_or(start + LONGEST);
    world.live(limit)?;
    world.rest();
    Ok(world.story.end())
}

impl World<'_> {
    fn does(&self, name: &str) -> Does {
        self.scenario.says.workloads.get(name).copied().unwrap_or_default()
    }

    fn live(&mut self, limit: Timestamp) -> Result<(), String> {
        self.settle()?;
        for _ in 0..HAPPENINGS {
            let Some((at, _)) = self.due.first().cloned() else { return Ok(()) };
            if at > limit {
                return Ok(());
            }
            self.now = self.now.max(at);
            while let Some((_, happens)) = self.due.first().cloned().filter(|(due, _)| *due <= self.now) {
                self.due.pop_first();
                self.happen(happens);
            }
            self.settle()?;
        }
        Err(format!("more than {HAPPENINGS} things happen: say scenario.until"))
    }

    pub(super) fn later(&mut self, delay: SignedDuration, happens: Happens) {
        self.due.insert((self.now.saturating_add(delay).unwrap_or(Timestamp::MAX), happens));
    }

    fn happen(&mut self, happens: Happens) {
        match happens {
            Happens::Comes(place) => self.comes(place),
            // It may have been told no before.
            Happens::Starts(pod) if self.pods.get(pod).is_some_and(SimPod::is_over) => {}
            Happens::Starts(pod) => {
                let held = self.pods.get(pod).is_some_and(SimPod::is_held);
                let now = self.now;
                self.turn(pod, if held { Stage::Waits(now) } else { Stage::Runs(now, now) });
                if !held {
                    self.runs(pod);
                }
            }
            Happens::GoesOn(pod) => {
                if let Some(Stage::Waits(since)) = self.pods.get(pod).map(|pod| pod.stage) {
                    let now = self.now;
                    self.turn(pod, Stage::Runs(since, now));
                    self.runs(pod);
                }
            }
            Happens::Ends(pod) => {
                if let Some((Stage::Runs(waited, _), code)) =
                    self.pods.get(pod).map(|pod| (pod.stage, pod.does.exit))
                {
                    let now = self.now;
                    self.turn(pod, Stage::Ended(waited, now, code));
                    self.tell_of_pod(pod, if code == 0 { "succeeds" } else { "fails" });
                    self.after_pod(pod);
                }
            }
            Happens::Opens(gate) => {
                let name = PrimitiveRef { kind: Kind::Gate, name: gate };
                if let Some(object) = self.primitives.get_mut(&name) {
                    object.open();
                    self.story.say(self.now, &name.to_string(), "is opened by hand");
                }
            }
            Happens::Wakes => {}
        }
    }

    fn turn(&mut self, pod: usize, stage: Stage) {
        if let Some(pod) = self.pods.get_mut(pod) {
            pod.turn(stage);
        }
    }

    fn runs(&mut self, pod: usize) {
        self.tell_of_pod(pod, "starts");
        let runs = self
            .pods
            .get(pod)
            .map_or(SignedDuration::ZERO, |pod| SignedDuration::from_nanos(pod.does.runs.as_nanoseconds()));
        self.later(runs, Happens::Ends(pod));
    }

    pub(super) fn tell_of_pod(&mut self, pod: usize, what: &str) {
        let Some(pod) = self.pods.get(pod) else { return };
        let who = pod
            .job
            .and_then(|job| self.jobs.get(job))
            .map_or_else(|| format!("pod/{}", pod.name), |job| format!("job/{}", job.name));
        let of_many = pod
            .job
            .and_then(|job| self.jobs.get(job))
            .is_some_and(|job| job.made > 1 || job.completions() > 1);
        let which = if of_many { format!(" ({})", pod.name) } else { String::new() };
        self.story.say(self.now, &who, &format!("{what}{which}"));
    }

    fn comes(&mut self, place: usize) {
        let Some(object) = self.scenario.objects.get(place) else { return };
        let (kind, name) = (
            object["kind"].as_str().unwrap_or_default().to_owned(),
            object["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
        );
        let does = self.does(&name);
        let who = format!("{}/{name}", kind.to_lowercase());
        let mut admitted = match inject(object, &Settings::of_chart("konductor-waiter"), self.now) {
            Injected::Changed { object, .. } => object,
            Injected::Skipped(_) => object.clone(),
            Injected::Refused(problems) => {
                let why: Vec<_> =
                    problems.iter().map(|problem| format!("{}: {}", problem.path, problem.reason)).collect();
                self.story.say(self.now, &who, &format!("is refused: {}", why.join("; ")));
                return;
            }
        };
        admitted["metadata"]["creationTimestamp"] = json!(self.now);
        // In the order of the file, for those of one second.
        admitted["metadata"]["uid"] = json!(format!("{place:06}/{who}"));
        self.story.say(self.now, &who, "comes");
        if kind == "Pod" {
            self.add_pod(admitted, None, does);
            return;
        }
        admitted["spec"]["suspend"] = Value::Null;
        let uid = admitted["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
        self.jobs.push(SimJob { name, uid, object: admitted, does, made: 0, over: false });
        self.fill(self.jobs.len() - 1);
    }

    fn add_pod(&mut self, object: Value, job: Option<usize>, does: Does) {
        // The template was admitted with its Job; the pod is admitted itself.
        let admitted = match inject(&object, &Settings::of_chart("konductor-waiter"), self.now) {
            Injected::Changed { object: changed, .. } => changed,
            Injected::Skipped(_) | Injected::Refused(_) => object,
        };
        self.pods.push(SimPod::new(admitted, job, does));
        self.later(BEAT, Happens::Starts(self.pods.len() - 1));
    }

    /// The pods that a Job should have.
    fn fill(&mut self, job: usize) {
        let of_job = |pod: &&SimPod| pod.job == Some(job);
        let succeeded =
            self.pods.iter().filter(of_job).filter(|pod| matches!(pod.stage, Stage::Ended(.., 0))).count();
        let live = self.pods.iter().filter(of_job).filter(|pod| !pod.is_over()).count();
        let Some(this) = self.jobs.get_mut(job).filter(|this| !this.over) else { return };
        let wanted = this.parallelism().min(this.completions().saturating_sub(succeeded));
        let does = this.does;
        let fresh: Vec<_> = (live..wanted).map(|_| this.pod(self.now)).collect();
        for pod in fresh {
            self.add_pod(pod, Some(job), does);
        }
    }

    /// What a Job's controller makes of the end of a pod.
    pub(super) fn after_pod(&mut self, pod: usize) {
        let Some(job) = self.pods.get(pod).and_then(|pod| pod.job) else { return };
        let of_job = |pod: &&SimPod| pod.job == Some(job);
        let succeeded =
            self.pods.iter().filter(of_job).filter(|pod| matches!(pod.stage, Stage::Ended(.., 0))).count();
        let failed = self
            .pods
            .iter()
            .filter(of_job)
            .filter(|pod| matches!(pod.stage, Stage::Ended(..)) && !matches!(pod.stage, Stage::Ended(.., 0)))
            .count();
        let Some(this) = self.jobs.get_mut(job) else { return };
        let limit = this.object["spec"]["backoffLimit"]
            .as_u64()
            .and_then(|limit| usize::try_from(limit).ok())
            .unwrap_or(6);
        if succeeded >= this.completions() {
            this.end("Complete", "");
        } else if failed > limit {
            this.end("Failed", "Job has reached the specified backoff limit");
            let who = format!("job/{}", this.name);
            self.story.say(self.now, &who, "has failed for good");
        } else {
            self.fill(job);
        }
    }

    /// Who waits when the story ends.
    fn rest(&mut self) {
        let mut waits: Vec<String> = Vec::new();
        for pod in self.pods.iter().filter(|pod| matches!(pod.stage, Stage::Waits(_))) {
            let job = pod.job.and_then(|job| self.jobs.get(job));
            let who = job.map_or_else(|| format!("pod/{}", pod.name), |job| format!("job/{}", job.name));
            if !waits.contains(&who) {
                waits.push(who);
            }
        }
        for who in waits {
            self.story.say(self.now, &who, "still waits");
        }
    }
}

fn after(since: Timestamp, time: GoDuration) -> Timestamp {
    time.after(since).unwrap_or(Timestamp::MAX)
}
