//! The plan: what an object should become, or everything that is wrong with it.
//!
//! Pure; what is outside of the object (the clock, which primitives exist) is handed in. What must stay true: a
//! refusal names field, reason and an example for every problem; what only Konductor writes is refused in anybody
//! else's object; and the rule is the same for a pod and for the template it comes from, so that a person meets the
//! refusal and not a controller.

use std::collections::BTreeMap;

use konductor_api::annotations::{
    self, CONTAINERS, FINALIZER, INJECT, JOB_PLAN, ON_BUSY, ON_TIMEOUT, SIDECAR, SUSPENDED,
};
use konductor_api::grammar::{self, Parsed, Problem};
use konductor_api::job_plan::JobPlan;
use konductor_api::options::{Hold, OnBusy, OnTimeout, Sidecar};
use konductor_api::participation::{Kind, PodPlan, Role};
use serde_json::Value;

use crate::containers::{self, Injection, Paths};
use crate::hold::{Gate, Suspension};
use crate::names::Around;
use crate::object::{at, list, text};
use crate::{hold, object, section, sidecar, stamp};

/// What the object should become.
#[derive(Clone, Debug, PartialEq)]
pub enum Becomes {
    /// It does not take part.
    Unchanged,
    /// Its owner said no.
    OptedOut,
    /// A pod that waits.
    Pod {
        /// What its spec lacks.
        injection: Injection,
        /// What it gets to wait where it should.
        gate: Gate,
        /// Its queue stamp.
        queued: String,
    },
    /// A Job that takes part once, for all its pods.
    Job {
        /// What its pods must know.
        marker: String,
        /// Is it suspended until it is its turn?
        suspension: Suspension,
        /// Its queue stamp.
        queued: String,
    },
    /// A Job whose pods take part, each by itself.
    JobOfParticipants,
}

/// A plan for one object.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// What it should become.
    pub becomes: Becomes,
    /// In what it takes part, the Job's part and the pods' part.
    pub participation: PodPlan,
}

/// One set of annotations: what they say, what they are, and where they stand.
struct Annotated {
    map: BTreeMap<String, String>,
    parsed: Parsed,
    path: String,
}

const TEMPLATE: [&str; 2] = ["spec", "template"];

// ------------------------------------------------------------------------------------------------------- pods

/// What a pod should become.
pub fn pod(pod: &Value, around: &Around<'_>) -> Result<Plan, Vec<Problem>> {
    let settings = around.settings;
    // A copy, by the kubelet, of what is already running.
    if at(pod, &["metadata", "annotations", "kubernetes.io/config.mirror"]).is_some() {
        return Ok(Plan { becomes: Becomes::Unchanged, participation: PodPlan::default() });
    }
    let mut problems: Vec<_> = finalizers(pod, &[]).into_iter().collect();
    let annotated = Annotated::read(pod, &[], &mut problems);
    let job = job_part(pod, &annotated, &mut problems);
    let participation = PodPlan::new(job, annotated.parsed.clone());
    if participation.is_empty() && problems.is_empty() {
        let becomes = if annotated.parsed.opted_out { Becomes::OptedOut } else { Becomes::Unchanged };
        return Ok(Plan { becomes, participation });
    }
    problems.extend(conflicts(&participation, &annotated));
    problems.extend(for_jobs_only(&annotated));
    problems.extend(hold::refused(&annotated.parsed.options, false, settings, &annotated.path));
    if annotated.map.contains_key(SUSPENDED) {
        problems.push(annotated.reserved(SUSPENDED));
    }
    let spec = at(pod, &["spec"]).unwrap_or(&Value::Null);
    let paths = Paths { spec: "spec", annotations: &annotated.path };
    problems.extend(no_sidecar(&annotated, spec, &participation, around, paths));
    let injection = collect(containers::inject(spec, &participation, around, paths), &mut problems);
    if !problems.is_empty() {
        return Err(problems);
    }
    let queued = stamp::stamp(annotated.map.get(annotations::QUEUED).map(String::as_str), around.now);
    Ok(Plan {
        becomes: Becomes::Pod { injection, gate: hold::gate(spec, &participation, settings), queued },
        participation,
    })
}

/// The part that the Job takes, from the marker that we left in its template.
fn job_part(pod: &Value, annotated: &Annotated, problems: &mut Vec<Problem>) -> JobPlan {
    let Some(marker) = annotated.map.get(JOB_PLAN) else { return JobPlan::default() };
    if !controlled_by_job(pod) {
        problems.push(annotated.reserved(JOB_PLAN));
        return JobPlan::default();
    }
    match marker.parse::<JobPlan>() {
        Ok(plan) if !plan.set.is_empty() => plan,
        _ => {
            problems.push(Problem {
                path: format!("{}[{JOB_PLAN}]", annotated.path),
                reason: "this version of Konductor cannot read it: it was written by a later one, or by hand"
                    .to_owned(),
                example: "delete the Job and create it again from a manifest without this annotation"
                    .to_owned(),
            });
            JobPlan::default()
        }
    }
}

fn controlled_by_job(pod: &Value) -> bool {
    list(pod, &["metadata", "ownerReferences"]).iter().any(|owner| {
        text(owner, &["kind"]) == Some("Job")
            && text(owner, &["apiVersion"]) == Some("batch/v1")
            && at(owner, &["controller"]) == Some(&Value::Bool(true))
    })
}

// ------------------------------------------------------------------------------------------------------- jobs

/// What a Job should become.
pub fn job(job: &Value, around: &Around<'_>) -> Result<Plan, Vec<Problem>> {
    let settings = around.settings;
    let mut problems: Vec<_> = finalizers(job, &[]).into_iter().chain(finalizers(job, &TEMPLATE)).collect();
    let own = Annotated::read(job, &[], &mut problems);
    let pods = Annotated::read(job, &TEMPLATE, &mut problems);
    let asked = own.parsed.options.hold;
    let found = pods.map.get(JOB_PLAN);
    let suspension = hold::suspension(job, &own.parsed.options, found.is_some());
    let plan_for = |hold| JobPlan {
        set: own.parsed.set.clone(),
        section: own.parsed.section.clone(),
        hold,
        sidecar: own.parsed.options.sidecar,
    };
    let usual = plan_for(hold::of_pods(asked, &suspension, settings));
    // Where they wait instead was decided on when the marker was written; who resumes the Job may look otherwise now.
    let decided = [plan_for(Hold::SchedulingGate), plan_for(Hold::InitContainer)]
        .into_iter()
        .find(|plan| asked == Hold::Suspend && found.is_some_and(|found| *found == plan.to_string()));
    let plan = decided.unwrap_or(usual);
    let marker = plan.to_string();
    let participation = PodPlan::new(plan, pods.parsed.clone());
    if own.map.contains_key(JOB_PLAN) {
        problems.push(own.reserved(JOB_PLAN));
    }
    if found.is_some_and(|found| participation.job.is_empty() || *found != marker) {
        problems.push(pods.reserved(JOB_PLAN));
    }
    if own.map.contains_key(SUSPENDED) && suspension != Suspension::There {
        problems.push(own.reserved(SUSPENDED));
    }
    if pods.map.contains_key(SUSPENDED) {
        problems.push(pods.reserved(SUSPENDED));
    }
    problems.extend(opted_out_in_part(&own, &pods));
    problems.extend(opted_out_in_part(&pods, &own));
    if participation.is_empty() && problems.is_empty() {
        let out = own.parsed.opted_out || pods.parsed.opted_out;
        let becomes = if out { Becomes::OptedOut } else { Becomes::Unchanged };
        return Ok(Plan { becomes, participation });
    }
    problems.extend(conflicts(&participation, &pods));
    problems.extend(for_jobs_only(&pods));
    for (annotated, of_a_job) in [(&own, true), (&pods, false)] {
        problems.extend(hold::refused(&annotated.parsed.options, of_a_job, settings, &annotated.path));
    }
    // What the pods would be refused for is told here, where a person sees it.
    let spec = at(job, &["spec", "template", "spec"]).unwrap_or(&Value::Null);
    let annotations = if participation.pod.is_empty() { &own.path } else { &pods.path };
    let paths = Paths { spec: "spec.template.spec", annotations };
    for annotated in [&own, &pods] {
        problems.extend(no_sidecar(annotated, spec, &participation, around, paths));
    }
    collect(containers::inject(spec, &participation, around, paths), &mut problems);
    if !problems.is_empty() {
        return Err(problems);
    }
    let becomes = if participation.job.is_empty() {
        Becomes::JobOfParticipants
    } else {
        let found = own.map.get(annotations::QUEUED).map(String::as_str);
        Becomes::Job { marker, suspension, queued: stamp::stamp(found, around.now) }
    };
    Ok(Plan { becomes, participation })
}

/// One of the two says "inject nothing" while the other takes part.
fn opted_out_in_part(one: &Annotated, other: &Annotated) -> Option<Problem> {
    let entry = other.parsed.set.entries().first().filter(|_| one.parsed.opted_out)?;
    Some(one.opted_out_beside(&format!("{}[{}]", other.path, entry.annotation())))
}

// ------------------------------------------------------------------------------------------------ both of them

impl Annotated {
    /// Reads the annotations in the metadata at that path; what is wrong with them goes to `problems`.
    fn read(object: &Value, owner: &[&str], problems: &mut Vec<Problem>) -> Self {
        let path = [owner, &["metadata", "annotations"]].concat().join(".");
        let map = object::annotations(object, owner).unwrap_or_else(|problem| {
            problems.push(problem);
            BTreeMap::new()
        });
        let parsed = collect(grammar::parse(&map, &path), problems);
        let annotated = Self { map, parsed, path };
        let forged: Vec<_> = annotated.map.keys().filter(|key| annotations::is_operators(key)).collect();
        problems.extend(forged.into_iter().map(|key| annotated.reserved(key)));
        annotated
    }

    fn reserved(&self, key: &str) -> Problem {
        Problem {
            path: format!("{}[{key}]", self.path),
            reason: "only Konductor writes this annotation".to_owned(),
            example: "remove it from the manifest, e.g. where the manifest is a copy of a live object"
                .to_owned(),
        }
    }

    fn opted_out_beside(&self, what: &str) -> Problem {
        Problem {
            path: format!("{}[{INJECT}]", self.path),
            reason: format!("\"false\" stands beside {what}: the pods would start without waiting"),
            example: format!("remove one of the two, e.g. {INJECT}"),
        }
    }
}

/// What would let two workloads wait for each other, or a pod for its own Job.
fn conflicts(participation: &PodPlan, pods: &Annotated) -> Vec<Problem> {
    let mut problems = Vec::new();
    if pods.parsed.opted_out && !participation.job.is_empty() && pods.map.contains_key(JOB_PLAN) {
        problems.push(pods.opted_out_beside(&format!("{}[{JOB_PLAN}]", pods.path)));
    }
    problems.extend(two_sections(participation, pods));
    problems.extend(two_sidecars(participation, pods));
    for part in participation.pod.entries() {
        let (primitive, annotation) = (&part.primitive, part.annotation());
        let on_job = participation.job.entries().iter().find(|other| other.primitive == *primitive);
        let earlier = participation
            .job
            .entries()
            .iter()
            .rfind(|earlier| earlier.role.waits() && part.role.waits() && earlier.primitive > *primitive);
        let reason = if let Some(on_job) = on_job {
            let consequence = match on_job.role {
                Role::Hold | Role::Write | Role::Read | Role::Take(_) => {
                    "and its pods would wait for their own Job for ever"
                }
                Role::Join => "which is a member itself, for all its pods",
                Role::Meet | Role::Arrive => "which arrives itself, for all its pods",
                Role::Await => "which waits for it on behalf of all its pods",
            };
            format!("{primitive} stands on the Job already, {consequence}")
        } else if let Some(earlier) = earlier {
            format!(
                "the Job takes {} before its pods take {primitive}, but in the order that all workloads share ({}, \
                 then by name) {primitive} comes first; two workloads could wait for each other for ever",
                earlier.primitive,
                order()
            )
        } else {
            continue;
        };
        problems.push(Problem {
            path: format!("{}[{annotation}]", pods.path),
            reason,
            example: format!("{annotation}: {} on the Job, and not on its pod template", part.value()),
        });
    }
    problems
}

/// A pod has one critical section, whoever takes part.
fn two_sections(participation: &PodPlan, pods: &Annotated) -> Option<Problem> {
    let both = !participation.job.is_empty() && !participation.pod.is_empty();
    let section = Some(&participation.section).filter(|section| both && **section != pods.parsed.section)?;
    let said =
        if section.is_everything() { "it does not say so".to_owned() } else { format!("it says {section}") };
    Some(Problem {
        path: format!("{}[{CONTAINERS}]", pods.path),
        reason: format!(
            "the Job takes part too, and there {said}: the critical section of a pod is one and the same"
        ),
        example: format!("the same {CONTAINERS} on the Job and on its pod template"),
    })
}

/// A pod has one sidecar, or none, whoever asks for it.
fn two_sidecars(participation: &PodPlan, pods: &Annotated) -> Option<Problem> {
    let (said, own) = (participation.sidecar, pods.parsed.options.sidecar);
    (own != Sidecar::Auto && own != said).then(|| Problem {
        path: format!("{}[{SIDECAR}]", pods.path),
        reason: format!("the Job says {}, and its pods cannot have both", said.word()),
        example: format!("{SIDECAR}: {} here too, or only on the Job", said.word()),
    })
}

/// The sidecar that these annotations ask for, and that those pods cannot have.
fn no_sidecar(
    asks: &Annotated,
    spec: &Value,
    participation: &PodPlan,
    around: &Around<'_>,
    paths: Paths<'_>,
) -> Option<Problem> {
    // Names that are not there are a problem of their own.
    let section = section::find(spec, participation, paths).unwrap_or_default();
    sidecar::refused(asks.parsed.options.sidecar, spec, &section, around.settings, &asks.path)
}

/// Gates before wait groups before …
fn order() -> String {
    Kind::ALL.map(Kind::plural).join(" before ")
}

/// What can be done with a Job and not with a pod: it is completed without having run.
fn for_jobs_only(pods: &Annotated) -> Vec<Problem> {
    let options = pods.parsed.options;
    let skips = "a pod cannot be completed without having run; a Job can";
    let skip_on_timeout = options.on_timeout == OnTimeout::Skip;
    let skip_on_busy = options.on_busy == OnBusy::Skip;
    [
        skip_on_timeout.then(|| (ON_TIMEOUT, skips.to_owned(), format!("{ON_TIMEOUT}: fail"))),
        skip_on_busy.then(|| (ON_BUSY, skips.to_owned(), format!("{ON_BUSY}: fail"))),
    ]
    .into_iter()
    .flatten()
    .map(|(key, reason, example)| Problem { path: format!("{}[{key}]", pods.path), reason, example })
    .collect()
}

fn finalizers(object: &Value, owner: &[&str]) -> Option<Problem> {
    let path = [owner, &["metadata", "finalizers"]].concat();
    let index = list(object, &path).iter().position(|finalizer| finalizer == FINALIZER)?;
    Some(Problem {
        path: format!("{}[{index}]", path.join(".")),
        reason: format!("the finalizer {FINALIZER} is set by Konductor when it is the pod's turn"),
        example: "remove it from the manifest".to_owned(),
    })
}

fn collect<T: Default>(result: Result<T, Vec<Problem>>, problems: &mut Vec<Problem>) -> T {
    result.unwrap_or_else(|found| {
        problems.extend(found);
        T::default()
    })
}
