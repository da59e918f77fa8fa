//! The `AdmissionReview`: what the API server asks, and what it is told.
//!
//! Pure, on raw JSON. What must stay true: there is an answer for every input, with the uid of the question wherever
//! one can be found, and the object inside is passed on as it came.

use std::collections::BTreeMap;

use json_patch::Patch;
use k8s_openapi::ByteString;
use konductor_api::grammar::Problem;
use serde_json::{Value, json};

use crate::claim::Requester;

const API_VERSION: &str = "admission.k8s.io/v1";
/// Problems that are told in full.
const MAX_PROBLEMS: usize = 8;
/// Characters of one refusal: it ends up in terminals and Events.
const MAX_MESSAGE: usize = 3000;

/// What the request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Resource {
    /// Pods of the core group.
    Pods,
    /// Jobs of batch/v1.
    Jobs,
    /// Deployments of apps/v1; from here on they are looked at and never changed.
    Deployments,
    /// `StatefulSet`s of apps/v1.
    StatefulSets,
    /// `DaemonSet`s of apps/v1.
    DaemonSets,
    /// `ReplicaSet`s of apps/v1.
    ReplicaSets,
    /// `CronJob`s of batch/v1.
    CronJobs,
    /// Claims of our own group.
    Claims,
    /// Something that we were not made for.
    Other,
}

/// A question.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Its identity, to be given back.
    pub uid: String,
    /// What it is about; what we were not made for is [`Resource::Other`].
    pub resource: Resource,
    /// Is something stored already, that the object is to replace?
    pub update: bool,
    /// The namespace: an object may not have one in it yet.
    pub namespace: String,
    /// The object's name, or its generateName with a `*`.
    pub name: String,
    /// Will nothing be stored?
    pub dry_run: bool,
    /// Who asks.
    pub requester: Requester,
    /// The object, as it came.
    pub object: Value,
    /// What it is to replace.
    pub old: Option<Value>,
}

/// A question that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// Its identity, if it could be found.
    pub uid: String,
    /// What is wrong with it.
    pub problem: String,
}

/// What we decided.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// The object takes part now.
    Injected(Patch),
    /// There was nothing to do.
    Unchanged,
    /// Its owner said no.
    OptedOut,
    /// It cannot be accepted.
    Refused(Vec<Problem>),
    /// We could not read the question.
    Malformed(String),
}

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The identity of the question.
    pub uid: String,
    /// What we decided.
    pub verdict: Verdict,
    /// For the person who asked.
    pub warnings: Vec<String>,
    /// In what the object takes part, for the audit log.
    pub plan: String,
}

// --------------------------------------------------------------------------------------------------- question

impl Resource {
    /// As in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pods => "pods",
            Self::Jobs => "jobs",
            Self::Deployments => "deployments",
            Self::StatefulSets => "statefulsets",
            Self::DaemonSets => "daemonsets",
            Self::ReplicaSets => "replicasets",
            Self::CronJobs => "cronjobs",
            Self::Claims => "claims",
            Self::Other => "other",
        }
    }
}

impl Request {
    /// Reads a review.
    pub fn parse(body: &[u8]) -> Result<Self, Malformed> {
        let malformed =
            |uid: &str, problem: &str| Malformed { uid: uid.to_owned(), problem: problem.to_owned() };
        let mut review: Value = serde_json::from_slice(body)
            .map_err(|error| malformed("", &format!("the body is no JSON: {error}")))?;
        let uid = review.pointer("/request/uid").and_then(Value::as_str).unwrap_or_default().to_owned();
        let is = |field: &str, value: &str| review.get(field).and_then(Value::as_str) == Some(value);
        if !is("kind", "AdmissionReview") || !is("apiVersion", API_VERSION) {
            return Err(malformed(&uid, "the body is no AdmissionReview of admission.k8s.io/v1"));
        }
        if uid.is_empty() {
            return Err(malformed("", "the review has no request.uid"));
        }
        let text = |path: &str| review.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let update = text("/request/operation") == "UPDATE";
        let resource = match (text("/request/resource/group"), text("/request/resource/resource")) {
            _ if !(update || text("/request/operation") == "CREATE") => Resource::Other,
            _ if !text("/request/subResource").is_empty() => Resource::Other,
            ("", "pods") if !update => Resource::Pods,
            _ if text("/request/resource/version") != "v1" => Resource::Other,
            ("konductor.io", "claims") if !update => Resource::Claims,
            ("batch", "jobs") => Resource::Jobs,
            ("batch", "cronjobs") => Resource::CronJobs,
            ("apps", "deployments") => Resource::Deployments,
            ("apps", "statefulsets") => Resource::StatefulSets,
            ("apps", "daemonsets") => Resource::DaemonSets,
            ("apps", "replicasets") => Resource::ReplicaSets,
            _ => Resource::Other,
        };
        let namespace = text("/request/namespace").to_owned();
        let name =
            match (text("/request/object/metadata/name"), text("/request/object/metadata/generateName")) {
                ("", "") => text("/request/name").to_owned(),
                ("", prefix) => format!("{prefix}*"),
                (name, _) => name.to_owned(),
            };
        let dry_run = review.pointer("/request/dryRun").and_then(Value::as_bool).unwrap_or_default();
        let requester = review.pointer("/request/userInfo").map(Requester::of).unwrap_or_default();
        let object = review.pointer_mut("/request/object").map(Value::take).unwrap_or_default();
        if resource != Resource::Other && !object.is_object() {
            return Err(malformed(&uid, "request.object is missing"));
        }
        let old = review.pointer_mut("/request/oldObject").map(Value::take).filter(Value::is_object);
        Ok(Self { uid, resource, update, namespace, name, dry_run, requester, object, old })
    }
}

// ----------------------------------------------------------------------------------------------------- answer

impl Verdict {
    /// As in audit annotations, logs and metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Injected(_) => "injected",
            Self::Unchanged => "unchanged",
            Self::OptedOut => "opted-out",
            Self::Refused(_) => "refused",
            Self::Malformed(_) => "malformed",
        }
    }

    /// What the person who is refused reads; empty if nobody is.
    pub fn message(&self) -> String {
        match self {
            Self::Refused(problems) => message(problems),
            Self::Malformed(problem) => problem.clone(),
            Self::Injected(_) | Self::Unchanged | Self::OptedOut => String::new(),
        }
    }
}

impl Answer {
    /// The review that goes back.
    pub fn to_review(&self) -> Value {
        let mut audit = BTreeMap::from([("decision", self.verdict.as_str())]);
        if !self.plan.is_empty() {
            audit.insert("plan", &self.plan);
        }
        let mut response = json!({"uid": self.uid, "allowed": true, "auditAnnotations": audit});
        match &self.verdict {
            Verdict::Injected(patch) => {
                response["patchType"] = json!("JSONPatch");
                response["patch"] = json!(ByteString(json!(patch).to_string().into_bytes()));
            }
            Verdict::Unchanged | Verdict::OptedOut => {}
            Verdict::Refused(_) => self.refuse(&mut response, 403, "Forbidden"),
            Verdict::Malformed(_) => self.refuse(&mut response, 400, "BadRequest"),
        }
        if !self.warnings.is_empty() {
            response["warnings"] = json!(self.warnings);
        }
        json!({"apiVersion": API_VERSION, "kind": "AdmissionReview", "response": response})
    }

    fn refuse(&self, response: &mut Value, code: u16, reason: &str) {
        response["allowed"] = json!(false);
        response["status"] = json!(
            {"status": "Failure", "code": code, "reason": reason, "message": self.verdict.message()}
        );
    }
}

fn message(problems: &[Problem]) -> String {
    let told: Vec<_> = problems.iter().take(MAX_PROBLEMS).collect();
    let mut text = match told.as_slice() {
        [only] => only.to_string(),
        told => {
            let numbered =
                told.iter().enumerate().map(|(index, problem)| format!("({}) {problem}", index + 1));
            format!("{} problems: {}", problems.len(), numbered.collect::<Vec<_>>().join("; "))
        }
    };
    if problems.len() > told.len() {
        text.push_str("; and more");
    }
    match text.char_indices().nth(MAX_MESSAGE) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(path: &str) -> Problem {
        Problem { path: path.to_owned(), reason: "wrong".to_owned(), example: "right".to_owned() }
    }

    #[test]
    fn several_problems_are_all_told_within_bounds() {
        assert_eq!(message(&[problem("a")]), "a: wrong; example: right");
        assert_eq!(
            message(&[problem("a"), problem("b")]),
            "2 problems: (1) a: wrong; example: right; (2) b: wrong; example: right"
        );
        let many: Vec<_> = (0..50).map(|number| problem(&format!("p{number}"))).collect();
        let text = message(&many);
        assert!(
            text.starts_with("50 problems: (1) p0")
                && text.ends_with("(8) p7: wrong; example: right; and more")
        );
        assert_eq!(message(&[problem(&"ä".repeat(5000))]).chars().count(), MAX_MESSAGE + 1);
    }

    #[test]
    fn creations_of_pods_and_what_makes_pods_are_for_us() {
        let resource = |group: &str, resource: &str, operation: &str, sub: &str| {
            let review = json!({"kind": "AdmissionReview", "apiVersion": API_VERSION, "request": {
                "uid": "u", "operation": operation, "subResource": sub, "object": {},
                "resource": {"group": group, "version": "v1", "resource": resource}}});
            Request::parse(review.to_string().as_bytes()).unwrap().resource
        };
        assert_eq!(resource("", "pods", "CREATE", ""), Resource::Pods);
        assert_eq!(resource("batch", "jobs", "CREATE", ""), Resource::Jobs);
        assert_eq!(resource("", "pods", "UPDATE", ""), Resource::Other);
        assert_eq!(resource("", "pods", "CREATE", "binding"), Resource::Other);
        assert_eq!(resource("batch", "jobs", "UPDATE", ""), Resource::Jobs);
        assert_eq!(resource("batch", "jobs", "UPDATE", "status"), Resource::Other);
        assert_eq!(resource("apps", "deployments", "CREATE", ""), Resource::Deployments);
        assert_eq!(resource("apps", "statefulsets", "UPDATE", ""), Resource::StatefulSets);
        assert_eq!(resource("apps", "deployments", "UPDATE", "scale"), Resource::Other);
        assert_eq!(resource("apps", "deployments", "DELETE", ""), Resource::Other);
        assert_eq!(resource("batch", "cronjobs", "UPDATE", ""), Resource::CronJobs);
        assert_eq!(resource("extensions", "deployments", "CREATE", ""), Resource::Other);
        assert_eq!(resource("example.com", "pods", "CREATE", ""), Resource::Other);
    }
}
