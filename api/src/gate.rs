//! Gate: closed until its conditions are met, then open for good.
//!
//! Types only; the rules are in `konductor-primitives`.
#![allow(clippy::duplicated_attributes, reason = "one printcolumn is like the next")]
#![allow(unreachable_pub, reason = "the schema derive repeats the struct where nobody can reach it")]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration::GoDuration;
use crate::ledger::{Common, has};

/// What a Gate should be.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "konductor.io",
    version = "v1",
    kind = "Gate",
    plural = "gates",
    shortname = "kgt",
    category = "konductor",
    namespaced,
    status = "GateStatus",
    derive = "PartialEq",
    doc = "Waits for other work: Jobs and Pods annotated with konductor.io/gate: NAME start when the conditions of the Gate have been met, and fail at once when they can never be met any more.",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Met", type_ = "string", json_path = ".status.met"),
    printcolumn(name = "Waiting", type_ = "integer", json_path = ".status.waiting"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Open\")].message",
        priority = "1"
    ),
    printcolumn(
        name = "Since",
        type_ = "date",
        json_path = ".status.conditions[?(@.type==\"Open\")].lastTransitionTime",
        priority = "1"
    )
)]
#[x_kube(validation = Rule::new(
    "(has(self.logic) && self.logic == 'Any') || !has(self.conditions) || !self.conditions.exists(x, x.type == 'Job' && has(x.state) && x.state == 'Failed' && self.conditions.exists(y, y.type == 'Job' && (!has(y.state) || y.state == 'Complete') && has(x.name) && has(y.name) && x.name == y.name && has(x.__namespace__) == has(y.__namespace__) && (!has(x.__namespace__) || x.__namespace__ == y.__namespace__)))"
).message("a Job cannot both complete and fail; keep one of the two states, or set logic: Any"))]
#[serde(rename_all = "camelCase")]
pub struct GateSpec {
    /// What must have come true. Without any the gate is opened by hand: it is closed until override says Open.
    #[serde(default)]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new("self.all(x, self.exists_one(y, x == y))")
        .message("the same condition stands in the list twice; remove one of the two"))]
    pub conditions: Vec<GateCondition>,
    /// All: every condition must be met. Any: one is enough.
    #[serde(default)]
    pub logic: GateLogic,
    /// true: what was met once stays met, whatever becomes of the object later, and an open gate stays open. false: the
    /// gate follows its conditions and may close again for those who have not passed yet.
    #[serde(default = "yes")]
    #[schemars(default = "yes")]
    pub latch: bool,
    /// How long the gate may stay closed, counted from the first one who waits for it, e.g. 2h. Then it fails, with
    /// everybody who waits. Left out: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) > duration('0s')")
        .message("timeout must be longer than 0s, e.g. 2h; leave it out to wait without a limit"))]
    pub timeout: Option<GoDuration>,
    /// Open: open whatever the conditions say. Closed: closed for all who come, whatever the conditions say; nobody who
    /// has passed is called back. Left out: the conditions decide.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#override: Option<GateOverride>,
}

/// As the API server fills it in.
impl Default for GateSpec {
    fn default() -> Self {
        Self { conditions: Vec::new(), logic: GateLogic::All, latch: true, timeout: None, r#override: None }
    }
}

const fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape that serde asks for")]
const fn is_false(value: &bool) -> bool {
    !*value
}

/// How conditions are taken together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum GateLogic {
    /// Every one must be met.
    #[default]
    All,
    /// One is enough.
    Any,
}

/// Open: open whatever the conditions say. Closed: closed for all who come, whatever the conditions say; nobody who has
/// passed is called back. Left out: the conditions decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum GateOverride {
    /// Open for all.
    Open,
    /// Closed for all who come.
    Closed,
}

/// One thing that must come true.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("self.type == 'Time' || (has(self.name) && size(self.name) > 0)")
    .message("name is missing: the object that is looked at, or for Manual what has to be approved"))]
#[x_kube(validation = Rule::new("self.type != 'Job' || !has(self.state) || self.state in ['Complete', 'Failed', 'Active']")
    .message("a Job is Complete, Failed or Active; Complete is meant where state is left out"))]
#[x_kube(validation = Rule::new("self.type != 'Pod' || (has(self.state) && self.state in ['Ready', 'Succeeded', 'Failed'])")
    .message("say which state of the Pod is meant: Ready, Succeeded or Failed"))]
#[x_kube(validation = Rule::new("!(self.type in ['Deployment', 'StatefulSet']) || !has(self.state) || self.state == 'Ready'")
    .message("a Deployment or StatefulSet is Ready, which means rolled out; leave state out or write Ready"))]
#[x_kube(validation = Rule::new("!(self.type in ['Barrier', 'Gate']) || !has(self.state) || self.state in ['Open', 'Closed']")
    .message("a Barrier or Gate is Open or Closed; Open is meant where state is left out"))]
#[x_kube(validation = Rule::new("self.type != 'Lease' || (has(self.state) && self.state in ['Acquired', 'Available'])")
    .message("say which state of the Lease is meant: Acquired or Available"))]
#[x_kube(validation = Rule::new("!(self.type in ['Mutex', 'RWMutex']) || (has(self.state) && self.state in ['Locked', 'Unlocked'])")
    .message("say which state of the lock is meant: Locked or Unlocked"))]
#[x_kube(validation = Rule::new("self.type != 'Once' || (has(self.state) && self.state in ['Done', 'Pending'])")
    .message("say which state of the Once is meant: Done or Pending"))]
#[x_kube(validation = Rule::new("self.type != 'WaitGroup' || (has(self.state) && self.state in ['Zero', 'NonZero'])")
    .message("say which state of the WaitGroup is meant: Zero or NonZero"))]
#[x_kube(validation = Rule::new("self.type != 'Semaphore' || (has(self.value) && (!has(self.state) || self.state == 'Available'))")
    .message("say how many permits of the Semaphore must be free, e.g. value: 1, and leave state out"))]
#[x_kube(validation = Rule::new("self.type == 'Semaphore' || !has(self.value)")
    .message("value is how many permits of a Semaphore must be free; other types take state"))]
#[x_kube(validation = Rule::new("self.type != 'Object' || (has(self.apiVersion) && has(self.kind) && has(self.conditionType))")
    .message("an Object is given by apiVersion, kind and name, and its condition by conditionType, e.g. apiVersion: cert-manager.io/v1, kind: Certificate, conditionType: Ready"))]
#[x_kube(validation = Rule::new("self.type != 'Object' || !has(self.apiVersion) || !(self.apiVersion.startsWith('konductor.io/') || (self.apiVersion == 'batch/v1' && has(self.kind) && self.kind == 'Job'))")
    .message("Jobs and our own primitives have types of their own: write e.g. type: Job, or type: Mutex, instead of Object"))]
#[x_kube(validation = Rule::new("self.type == 'Object' || (!has(self.apiVersion) && !has(self.kind) && !has(self.conditionType))")
    .message("apiVersion, kind and conditionType belong to type: Object; other types know theirs"))]
#[x_kube(validation = Rule::new("self.type != 'Object' || !has(self.state) || self.state in ['True', 'False']")
    .message("the condition of an Object is True or False; True is meant where state is left out"))]
#[x_kube(validation = Rule::new("self.type == 'Time' ? (has(self.notBefore) || has(self.window)) : (!has(self.notBefore) && !has(self.window))")
    .message("type: Time takes notBefore, or window, or both; other types take neither"))]
#[x_kube(validation = Rule::new("!(self.type in ['Time', 'Manual']) || !has(self.state)")
    .message("Time and Manual have no state; Manual is met by approved: true"))]
#[x_kube(validation = Rule::new("self.type == 'Manual' || !has(self.approved) || !self.approved")
    .message("approved: true belongs to type: Manual"))]
#[x_kube(validation = Rule::new("!(self.type in ['Time', 'Manual']) || (!has(self.__namespace__) && (!has(self.newer) || !self.newer))")
    .message("Time and Manual look at no object: leave namespace and newer out"))]
#[serde(rename_all = "camelCase")]
pub struct GateCondition {
    /// What is looked at: an object (Job, Pod, Deployment, StatefulSet, or any Object by apiVersion and kind), another
    /// primitive (Barrier, Gate, Lease, Mutex, Once, RWMutex, Semaphore, WaitGroup), the clock (Time), or a person (Manual).
    #[serde(rename = "type")]
    pub type_: GateConditionType,
    /// Name of the object. It need not exist yet. For Manual: what has to be approved. For Time: may be left out.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 253), regex(pattern = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$"))]
    pub name: String,
    /// Namespace of the object, if it is not the Gate's own. That namespace must agree: it carries the annotation
    /// konductor.io/allow-gates-from with the name of the Gate's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub namespace: Option<String>,
    /// The state it must reach. Job: Complete (left out: this), Failed, Active. Pod: Ready, Succeeded, Failed. Deployment,
    /// StatefulSet: Ready. Barrier, Gate: Open (left out: this), Closed. Lease: Acquired, Available. Mutex, RWMutex:
    /// Locked, Unlocked. Once: Done, Pending. WaitGroup: Zero, NonZero. Object: True (left out: this), False. Complete and
    /// Failed of a Job are its conditions, so all its completions are through; if it ends the other way, this can never
    /// be met any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<GateState>,
    /// Of a Semaphore: how many permits must be free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub value: Option<i64>,
    /// Counts only an object that was created after the Gate, e.g. not last week's Job of that name.
    #[serde(default, skip_serializing_if = "is_false")]
    pub newer: bool,
    /// Of an Object: its apiVersion, e.g. cert-manager.io/v1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 317),
        regex(pattern = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[a-z0-9]+$")
    )]
    pub api_version: Option<String>,
    /// Of an Object: its kind, e.g. Certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[A-Za-z][A-Za-z0-9]*$"))]
    pub kind: Option<String>,
    /// Of an Object: the type of the condition in its status, e.g. Ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 316))]
    pub condition_type: Option<String>,
    /// Of Time: not met before this moment, e.g. 2030-06-01T22:00:00Z.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Time>,
    /// Of Time: met only between these times of day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<TimeWindow>,
    /// Of Manual: has it been approved?
    #[serde(default, skip_serializing_if = "is_false")]
    pub approved: bool,
}

/// A part of the day, on some days of the week.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("self.from != self.to")
    .message("from and to are the same time; leave the window out for the whole day"))]
#[serde(rename_all = "camelCase")]
pub struct TimeWindow {
    /// Its begin, as 22:00.
    #[schemars(length(max = 5), regex(pattern = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"))]
    pub from: String,
    /// Its end, as 06:00; if that is not later than from, it is the next day's.
    #[schemars(length(max = 5), regex(pattern = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"))]
    pub to: String,
    /// The days on which it begins. Left out: every day.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 7))]
    pub days: Vec<Weekday>,
    /// The time zone, as Europe/Berlin. Left out: UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z][A-Za-z0-9_+/-]*$"))]
    pub time_zone: Option<String>,
}

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Weekday {
    /// Monday.
    Mon,
    /// Tuesday.
    Tue,
    /// Wednesday.
    Wed,
    /// Thursday.
    Thu,
    /// Friday.
    Fri,
    /// Saturday.
    Sat,
    /// Sunday.
    Sun,
}

/// What a gate can look at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum GateConditionType {
    /// A Job of group batch.
    #[default]
    Job,
    /// A Pod.
    Pod,
    /// A Deployment of group apps.
    Deployment,
    /// A StatefulSet of group apps.
    StatefulSet,
    /// Any object with conditions in its status.
    Object,
    /// A Barrier of ours.
    Barrier,
    /// Another Gate.
    Gate,
    /// A Lease of ours.
    Lease,
    /// A Mutex of ours.
    Mutex,
    /// A Once of ours.
    Once,
    /// A RWMutex of ours.
    RWMutex,
    /// A Semaphore of ours.
    Semaphore,
    /// A WaitGroup of ours.
    WaitGroup,
    /// The clock.
    Time,
    /// A person.
    Manual,
}

/// The state it must reach. Job: Complete (left out: this), Failed, Active. Pod: Ready, Succeeded, Failed. Deployment,
/// StatefulSet: Ready. Barrier, Gate: Open (left out: this), Closed. Lease: Acquired, Available. Mutex, RWMutex: Locked,
/// Unlocked. Once: Done, Pending. WaitGroup: Zero, NonZero. Object: True (left out: this), False. Complete and Failed of a
/// Job are its conditions, so all its completions are through; if it ends the other way, this can never be met any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum GateState {
    /// Job: all its completions are through.
    Complete,
    /// Job, Pod: it has failed for good.
    Failed,
    /// Job: pods of it run.
    Active,
    /// Pod: its condition Ready. Deployment, StatefulSet: rolled out.
    Ready,
    /// Pod: it ended well.
    Succeeded,
    /// Barrier, Gate.
    Open,
    /// Barrier, Gate: not open.
    Closed,
    /// Lease: somebody holds it.
    Acquired,
    /// Lease: nobody holds it. Semaphore: permits are free.
    Available,
    /// Mutex, RWMutex: somebody holds it.
    Locked,
    /// Mutex, RWMutex: nobody holds it.
    Unlocked,
    /// Once: it was executed.
    Done,
    /// Once: it was not executed yet.
    Pending,
    /// WaitGroup: all its members are through, and there was one.
    Zero,
    /// WaitGroup: not all are through.
    NonZero,
    /// Object: the condition is True.
    True,
    /// Object: the condition is False.
    False,
}

/// How far a Gate has come. Written by Konductor's operator only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct GateStatus {
    /// Waiting, Open or Failed.
    pub phase: Option<GatePhase>,
    /// How many of how many conditions are met, as 2/3.
    #[schemars(length(max = 16))]
    pub met: Option<String>,
    /// Each condition of the spec, in its order: is it met, by which object, since when.
    #[schemars(length(max = 32))]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub condition_statuses: Vec<GateConditionStatus>,
    /// When the gate opened.
    pub opened_at: Option<Time>,
    /// When the first one began to wait for it; the timeout counts from here.
    pub first_waiter_at: Option<Time>,
    /// When it failed because its time was up.
    pub timed_out_at: Option<Time>,
    /// What every kind has.
    #[serde(flatten)]
    pub common: Common,
}

/// What is known of one condition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GateConditionStatus {
    /// As in the spec.
    #[serde(rename = "type")]
    pub type_: GateConditionType,
    /// As in the spec.
    #[serde(default)]
    #[schemars(length(max = 253))]
    pub name: String,
    /// The whole condition in short, as "Job etl Complete". What is said here is about exactly this.
    #[schemars(length(max = 1024))]
    pub about: String,
    /// Is it met?
    pub met: bool,
    /// Met: it came true. Missing: not yet. Impossible: it can never come true any more.
    pub outcome: ConditionOutcome,
    /// UID of the object that met it or made it impossible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub uid: Option<String>,
    /// When that was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Time>,
    /// A sentence.
    #[schemars(length(max = 512))]
    pub message: String,
}

/// Where a condition stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConditionOutcome {
    /// Not yet.
    Missing,
    /// It came true, and stays so.
    Met,
    /// It can never come true any more.
    Impossible,
}

/// In one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum GatePhase {
    /// Conditions are missing.
    Waiting,
    /// It lets everybody through.
    Open,
    /// It can never open; who waits for it fails.
    Failed,
}

has!(common: GateStatus);

impl GateCondition {
    /// The state that is meant, also where it was left out.
    pub fn wanted(&self) -> Option<GateState> {
        self.state.or(match self.type_ {
            GateConditionType::Job => Some(GateState::Complete),
            GateConditionType::Deployment | GateConditionType::StatefulSet => Some(GateState::Ready),
            GateConditionType::Barrier | GateConditionType::Gate => Some(GateState::Open),
            GateConditionType::Object => Some(GateState::True),
            GateConditionType::Semaphore => Some(GateState::Available),
            _ => None,
        })
    }

    /// The kind of object that it looks at; `None` for the clock and for persons.
    pub fn looks_at(&self) -> Option<&str> {
        Some(match self.type_ {
            GateConditionType::Job => "Job",
            GateConditionType::Pod => "Pod",
            GateConditionType::Deployment => "Deployment",
            GateConditionType::StatefulSet => "StatefulSet",
            GateConditionType::Object => self.kind.as_deref().unwrap_or("Object"),
            GateConditionType::Barrier => "Barrier",
            GateConditionType::Gate => "Gate",
            GateConditionType::Lease => "Lease",
            GateConditionType::Mutex => "Mutex",
            GateConditionType::Once => "Once",
            GateConditionType::RWMutex => "RWMutex",
            GateConditionType::Semaphore => "Semaphore",
            GateConditionType::WaitGroup => "WaitGroup",
            GateConditionType::Time | GateConditionType::Manual => return None,
        })
    }

    /// The whole condition in short. Two conditions say the same only if they mean the same.
    pub fn about(&self) -> String {
        let mut words = vec![self.looks_at().map_or_else(|| format!("{:?}", self.type_), str::to_owned)];
        words.extend(
            self.namespace
                .as_ref()
                .map(|namespace| format!("{namespace}/{}", self.name))
                .or_else(|| Some(self.name.clone()).filter(|name| !name.is_empty())),
        );
        words.extend(self.api_version.as_ref().map(|version| format!("of {version}")));
        words.extend(self.condition_type.clone());
        words.extend(self.wanted().map(|state| format!("{state:?}")));
        words.extend(self.value.map(|value| value.to_string()));
        words.extend(self.newer.then(|| "newer".to_owned()));
        words.extend(self.not_before.as_ref().map(|at| format!("from {}", at.0)));
        words.extend(self.window.as_ref().map(|window| {
            let days: Vec<_> = window.days.iter().map(|day| format!(" {day:?}")).collect();
            let zone = window.time_zone.as_deref().unwrap_or("UTC");
            format!("{}-{} {zone}{}", window.from, window.to, days.concat())
        }));
        words.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_is_told_in_short() {
        let read = |text: &str| condition(text).about();
        assert_eq!(read(r#"{"type":"Job","name":"etl"}"#), "Job etl Complete");
        assert_eq!(read(r#"{"type":"Semaphore","name":"s","value":3}"#), "Semaphore s Available 3");
        assert_eq!(
            read(
                r#"{"type":"Object","apiVersion":"a.io/v1","kind":"Thing","name":"x","namespace":"n","conditionType":"Up","newer":true}"#
            ),
            "Thing n/x of a.io/v1 Up True newer"
        );
        assert_eq!(
            read(r#"{"type":"Time","window":{"from":"22:00","to":"06:00","days":["Sat"]}}"#),
            "Time 22:00-06:00 UTC Sat"
        );
        assert_eq!(read(r#"{"type":"Manual","name":"qa","approved":true}"#), "Manual qa");
    }

    fn condition(text: &str) -> GateCondition {
        serde_json::from_str(text).unwrap()
    }
}
