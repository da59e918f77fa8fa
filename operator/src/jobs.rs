//! Jobs: one that takes part itself is failed, completed without having run, or lets go of, as committed ledgers say.
//!
//! Failed and completed through its status: that costs no retry and meets no pod failure policy. Let go of is one that we
//! suspended: the only write on `jobs` themselves, and so the only one that needs a right to patch them. What must stay
//! true: the field and our annotation change together, in the version of the Job that was looked at, so that a Job whose
//! owner suspends it later is not taken for one that waits for us. Its going on is no lock: each of its pods has a waiter,
//! which waits until the ledger lists that pod.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use konductor_api::annotations::SUSPENDED;
use konductor_api::conditions::{self, FAILURE_TARGET, GRANTED, SUCCESS_CRITERIA_MET};
use konductor_api::participation::PrimitiveRef;
use konductor_primitives::facts::Suspended;
use konductor_primitives::snapshot::Participant;
use konductor_primitives::verdict::{self, JobTelling, Wait, Who};
use kube::api::{Patch, PatchParams};
use kube::{Api, Resource};
use serde_json::{Value, json};

use crate::client::{CallError, call};
use crate::events::Happening;
use crate::index::{self, Key, ObjectKey};
use crate::notify::{Others, RETRY, Told, cached_others, committed_among, read};
use crate::reconcile::Context;
use crate::telemetry::Write;

/// Said of a Job that goes on, whatever becomes of its pods.
const LET_GO: &str = "it goes on, and its pods say what they wait for";

/// Said where the API server knows no way to complete a Job that has not run.
const CANNOT_SKIP: &str = "it is not needed, and this Kubernetes cannot complete a Job that has not run (1.31 and later \
                           can); delete it";

const STATUS: (Part, Write) = (Part::Status, Write::Job);
const CONDITION: (Part, Write) = (Part::Status, Write::Condition);

/// What a Job waits for, and which version of it.
pub(crate) type Waiting = (Arc<Job>, Wait);

/// Tells one Job, or says what it waits for.
pub(crate) async fn tell(
    context: &Context,
    namespace: &str,
    primitive: &PrimitiveRef,
    told: &Told<'_>,
    participant: &Participant,
) -> Result<Option<Waiting>, CallError> {
    let key = ObjectKey { namespace: namespace.to_owned(), name: participant.name.clone() };
    let Some(job) = context.caches.job(&key).filter(|_| !participant.is_over()) else { return Ok(None) };
    if job.metadata.uid.as_deref() != Some(&participant.uid) {
        return Ok(None);
    }
    let set = index::set_of(&job.metadata);
    let who = Who::job(&job);
    let suspended = participant.job.as_ref().map_or(Suspended::No, |facts| facts.suspended);
    let telling = |others: &Others| {
        let committed = |other: &PrimitiveRef| committed_among(primitive, told, others, other);
        let place = |other: &PrimitiveRef, uid: &str| told.line.place(uid).filter(|_| other == primitive);
        verdict::telling_job(&who, suspended, &set, &participant.pods, committed, place, context.clock.now())
    };
    match telling(&cached_others(context, namespace, primitive, set.primitives())) {
        JobTelling::Nothing => {
            if suspended == Suspended::No && granted_of(&job).is_some_and(|known| known.status == "False") {
                let body = granted(&job, true, conditions::reason::GRANTED, LET_GO, context.clock.now());
                patch(context, namespace, &job, CONDITION, &body).await?;
            }
            return Ok(None);
        }
        JobTelling::Wait(wait) => return Ok(Some((job, wait))),
        JobTelling::Resume { .. } | JobTelling::Fail { .. } | JobTelling::Skip { .. } => {}
    }
    // What is final is said only of what the API server itself says now.
    let written = match telling(&read(context, namespace, set.primitives()).await?) {
        JobTelling::Nothing => return Ok(None),
        JobTelling::Wait(wait) => return Ok(Some((job, wait))),
        JobTelling::Resume { message } => {
            let body = without_suspension(precondition(&job));
            let written = patch(context, namespace, &job, (Part::Spec, Write::Job), &body).await?;
            (written, false, "Resumed", format!("goes on: {message}"))
        }
        JobTelling::Fail { reason, message } => {
            let body = ended(&job, FAILURE_TARGET, reason, &message, context.clock.now());
            (patch(context, namespace, &job, STATUS, &body).await?, true, reason, message)
        }
        JobTelling::Skip { message } => {
            let body = ended(
                &job,
                SUCCESS_CRITERIA_MET,
                conditions::reason::JOB_SKIPPED,
                &message,
                context.clock.now(),
            );
            match patch(context, namespace, &job, STATUS, &body).await {
                Err(error) if error.is_invalid() => {
                    let note = format!("{CANNOT_SKIP}: {message}");
                    context.announcer.announce(about(&job, true, "CannotSkip", note));
                    return Ok(None);
                }
                written => (written?, false, conditions::reason::JOB_SKIPPED, message),
            }
        }
    };
    match written {
        (Patched::Written(written), warning, reason, note) => {
            context.announcer.announce(about(&written, warning, reason, note));
        }
        (Patched::Changed, ..) => {
            context.queue.add_after(Key::Primitive(namespace.to_owned(), primitive.clone()), RETRY);
        }
        (Patched::Gone, ..) => {}
    }
    Ok(None)
}

// ------------------------------------------------------------------------------------------------------ advice

/// Writes into a condition of the Job what it waits for.
pub(crate) async fn advise(context: &Context, namespace: &str, told: &Told<'_>, waiting: &Waiting) {
    let (job, wait) = waiting;
    let body = granted(job, false, wait.reason, &wait.message, context.clock.now());
    match patch(context, namespace, job, CONDITION, &body).await {
        Ok(Patched::Written(written)) => {
            context.advisor.wrote(&written.metadata);
            let missing = wait.reason == conditions::reason::MISSING_PRIMITIVE;
            let happening = about(&written, missing, wait.reason, wait.message.clone());
            context.announcer.announce(happening.behind(told.holder()));
        }
        // The change that came between brings us here again.
        Ok(Patched::Changed | Patched::Gone) => {}
        Err(error) => tracing::debug!(job = job.metadata.name, %error, "no condition written"),
    }
}

/// What it says of why it waits.
pub(crate) fn granted_of(job: &Job) -> Option<&JobCondition> {
    let conditions = job.status.as_ref()?.conditions.iter().flatten();
    conditions.into_iter().find(|condition| condition.type_ == GRANTED)
}

fn about(job: &Job, warning: bool, reason: &'static str, note: String) -> Happening {
    Happening { about: job.object_ref(&()), related: None, warning, reason, note }
}

// ------------------------------------------------------------------------------------------------------ patches

/// What became of a patch.
enum Patched {
    Written(Box<Job>),
    Changed,
    Gone,
}

/// Which part of a Job a patch is about.
#[derive(Clone, Copy)]
enum Part {
    Spec,
    Status,
}

async fn patch(
    context: &Context,
    namespace: &str,
    job: &Job,
    (part, write): (Part, Write),
    body: &Value,
) -> Result<Patched, CallError> {
    let api: Api<Job> = Api::namespaced(context.client.clone(), namespace);
    context.telemetry.wrote(write);
    let name = job.metadata.name.as_deref().unwrap_or_default();
    let (parameters, body) = (PatchParams::default(), Patch::Strategic(body));
    let answer = match part {
        Part::Spec => call(api.patch(name, &parameters, &body)).await,
        Part::Status => call(api.patch_status(name, &parameters, &body)).await,
    };
    match answer {
        Ok(job) => Ok(Patched::Written(Box::new(job))),
        Err(error) if error.is_conflict() => Ok(Patched::Changed),
        Err(error) if error.is_not_found() => Ok(Patched::Gone),
        Err(error) => Err(error),
    }
}

/// The condition of every write on a Job: this object, in this version.
fn precondition(job: &Job) -> Value {
    json!({"uid": job.metadata.uid, "resourceVersion": job.metadata.resource_version})
}

fn granted(job: &Job, status: bool, reason: &str, message: &str, now: Timestamp) -> Value {
    let status = if status { "True" } else { "False" };
    let since = granted_of(job).filter(|known| known.status == status);
    let since = since.and_then(|known| known.last_transition_time.clone());
    json!({
        "metadata": precondition(job),
        "status": {"conditions": [{
            "type": GRANTED,
            "status": status,
            "reason": reason,
            "message": message,
            "lastTransitionTime": since.unwrap_or(Time(now)),
        }]},
    })
}

fn ended(job: &Job, type_: &str, reason: &str, message: &str, now: Timestamp) -> Value {
    let now = Time(now);
    let started = job.status.as_ref().and_then(|status| status.start_time.clone());
    json!({
        "metadata": precondition(job),
        "status": {
            // A Job that never started may end only with a start.
            "startTime": started.or_else(|| job.metadata.creation_timestamp.clone()),
            "conditions": [{
                "type": type_,
                "status": "True",
                "reason": reason,
                "message": message,
                "lastTransitionTime": now,
                "lastProbeTime": now,
            }],
        },
    })
}

/// The patch that lets a Job go that we suspended; its metadata says which.
pub(crate) fn without_suspension(mut metadata: Value) -> Value {
    metadata["annotations"] = json!({SUSPENDED: null});
    json!({"metadata": metadata, "spec": {"suspend": false}})
}
