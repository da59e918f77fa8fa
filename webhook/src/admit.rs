//! The way through: bytes in, answer out.
//!
//! Pure; the clock and the names that exist are handed in. What must stay true: no input, however broken, is without
//! an answer, and what we cannot judge we do not let pass as if we had.

use jiff::Timestamp;
use json_patch::Patch;
use konductor_api::annotations::HOLD;
use konductor_api::grammar::Problem;
use konductor_api::options::Hold;

use crate::claim::Fill;
use crate::hold::{Gate, Suspension};
use crate::names::{Around, Names};
use crate::patch::{PatchError, claim, patch};
use crate::plan::{self, Becomes, Plan};
use crate::review::{Answer, Malformed, Request, Resource, Verdict};
use crate::template;
use crate::waiter::Settings;
use crate::warnings::warnings;

/// An answer, with what the log and the metrics say about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Admission {
    /// What goes back.
    pub answer: Answer,
    /// What it was about.
    pub resource: Resource,
    /// Where.
    pub namespace: String,
    /// Which object.
    pub name: String,
    /// Will nothing be stored?
    pub dry_run: bool,
}

/// Answers one review.
pub fn admit(body: &[u8], settings: &Settings, names: &dyn Names, now: Timestamp) -> Admission {
    let request = match Request::parse(body) {
        Ok(request) => request,
        Err(malformed) => return Admission::malformed(malformed),
    };
    let namespace = request.namespace.clone();
    let around = Around { settings, names, namespace: &namespace, now };
    let planned = match request.resource {
        Resource::Pods => plan::pod(&request.object, &around),
        Resource::Jobs if !request.update => plan::job(&request.object, &around),
        Resource::Claims => return request.filled_in(now),
        Resource::Other => return request.not_for_us(),
        _ => return request.checked(&around),
    };
    let (verdict, plan, warnings) = match planned {
        Ok(plan) => {
            let said = warnings(request.resource, &request.object, &plan, &around);
            (verdict(&request, &plan), told(&plan), said)
        }
        Err(problems) => (Verdict::Refused(problems), String::new(), Vec::new()),
    };
    request.answered(verdict, plan, warnings)
}

/// In what it takes part, and where it waits, for the audit log.
fn told(plan: &Plan) -> String {
    let hold = match &plan.becomes {
        Becomes::Pod { gate: Gate::Missing | Gate::There, .. } => Hold::SchedulingGate,
        Becomes::Pod { .. } => Hold::InitContainer,
        Becomes::Job { suspension: Suspension::Missing | Suspension::There, .. } => Hold::Suspend,
        _ => plan.participation.hold,
    };
    let place =
        if hold == Hold::InitContainer { String::new() } else { format!(" ({HOLD}: {})", hold.word()) };
    format!("{}{place}", plan.participation)
}

fn verdict(request: &Request, plan: &Plan) -> Verdict {
    if plan.becomes == Becomes::OptedOut {
        return Verdict::OptedOut;
    }
    changed(patch(&request.object, &plan.becomes), "kubectl explain pod.spec")
}

fn changed(patch: Result<Patch, PatchError>, example: &str) -> Verdict {
    match patch {
        Ok(patch) if patch.is_empty() => Verdict::Unchanged,
        Ok(patch) => Verdict::Injected(patch),
        Err(PatchError { path, expected }) => Verdict::Refused(vec![Problem {
            path,
            reason: format!("it must be {expected}"),
            example: example.to_owned(),
        }]),
    }
}

impl Request {
    fn answered(self, verdict: Verdict, plan: String, warnings: Vec<String>) -> Admission {
        Admission {
            answer: Answer { uid: self.uid, verdict, warnings, plan },
            resource: self.resource,
            namespace: self.namespace,
            name: self.name,
            dry_run: self.dry_run,
        }
    }

    /// What a claim says of who made it.
    fn filled_in(self, now: Timestamp) -> Admission {
        let fill = Fill::of(&self.object, &self.requester, now);
        let verdict = changed(claim(&self.object, &fill), "kubectl explain claim.spec");
        self.answered(verdict, String::new(), Vec::new())
    }

    /// Looked at, and never changed.
    fn checked(self, around: &Around<'_>) -> Admission {
        let found = template::check(self.resource, &self.object, self.old.as_ref(), around);
        let verdict =
            if found.problems.is_empty() { Verdict::Unchanged } else { Verdict::Refused(found.problems) };
        self.answered(verdict, found.plan, found.warnings)
    }

    /// Somebody sends us what our configuration does not: refusing it would break what never asked for us, and what
    /// did ask is guarded by the policies.
    fn not_for_us(self) -> Admission {
        let warning =
            "Konductor's webhook was not made for this; see its Mutating- and ValidatingWebhookConfiguration";
        self.answered(Verdict::Unchanged, String::new(), vec![warning.to_owned()])
    }
}

impl Admission {
    /// The answer to what cannot be read.
    pub fn malformed(malformed: Malformed) -> Self {
        let Malformed { uid, problem } = malformed;
        let verdict = Verdict::Malformed(problem);
        Self {
            answer: Answer { uid, verdict, warnings: Vec::new(), plan: String::new() },
            resource: Resource::Other,
            namespace: String::new(),
            name: String::new(),
            dry_run: false,
        }
    }
}
