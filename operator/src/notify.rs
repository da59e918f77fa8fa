//! Notify: pods, and by way of [`crate::jobs`] and [`crate::claims`] Jobs and claims, are told what follows from committed ledgers.
//!
//! All that is written on a pod here goes through its status subresource in one strategic merge patch, on the condition of
//! UID and resourceVersion; only a scheduling gate is not ([`crate::gates`]). What must stay true: finalizer, tokens and grant are one write, so a granted pod cannot
//! vanish unseen; `go` for a plan of several primitives is told only after each of them was read from the API server;
//! the pods that are told go before advice to those that wait; and no crowd that is to be told keeps the ledger from
//! being looked at again for long.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use konductor_api::annotations::{self, FINALIZER, GRANT, NUDGED};
use konductor_api::conditions::{self, GRANTED};
use konductor_api::ledger::Holder;
use konductor_api::participation::{PodPlan, PrimitiveRef};
use konductor_primitives::committed::Committed;
use konductor_primitives::facts::PodFacts;
use konductor_primitives::record::PodRecord;
use konductor_primitives::snapshot::Participant;
use konductor_primitives::step::Withdrawal;
use konductor_primitives::verdict::{self, Telling, Wait, Who};
use konductor_waiter::grant::{Grant, Verdict};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::claims;
use crate::client::{CallError, call, delete_this};
use crate::crowd::in_turn;
use crate::events::Happening;
use crate::gates;
use crate::index::{self, Key, ObjectKey};
use crate::jobs;
use crate::line::Line;
use crate::observe::{self, Known};
use crate::reconcile::Context;
use crate::rules::Read;
use crate::telemetry::Write;

/// After so long the ledger is looked at again, whoever is still to be told: what has become free goes on first.
pub(crate) const TURN: Duration = Duration::from_millis(200);
/// A kubelet shows a verdict to the waiter within 0.2 to 1.3 s.
const LATE: Duration = Duration::from_secs(5);
/// A pod changes while it is told: read it and decide again, so often.
const ATTEMPTS: usize = 4;
/// After that.
pub(crate) const RETRY: Duration = Duration::from_millis(200);

/// What is to be told about.
pub(crate) struct Told<'a> {
    /// The primitive as it was committed.
    pub(crate) committed: &'a Read,
    /// Who holds it.
    pub(crate) holders: &'a [Holder],
    pub(crate) participants: &'a [Participant],
    pub(crate) line: Line<'a>,
}

impl Told<'_> {
    /// Who holds the primitive; the first, if several do.
    pub(crate) fn holder(&self) -> Option<&Holder> {
        self.holders.first()
    }

    /// Is there such a primitive?
    pub(crate) fn exists(&self) -> bool {
        !matches!(self.committed, Read::Missing)
    }
}

/// Other primitives of a plan.
pub(crate) type Others = BTreeMap<PrimitiveRef, Read>;

/// Who waits for a primitive, and why.
#[derive(Default)]
pub(crate) struct Waits<'a> {
    /// Pods that wait.
    pub(crate) pods: Vec<(&'a PodFacts, Wait)>,
    /// Jobs that wait without pods.
    pub(crate) jobs: Vec<jobs::Waiting>,
}

// ------------------------------------------------------------------------------------------------- everybody

/// Tells everybody who takes part, and says who waits; `None` if not all could be told in one turn, and it is to be called
/// again.
pub(crate) async fn tell<'a>(
    context: &Context,
    namespace: &str,
    primitive: &PrimitiveRef,
    told: &Told<'a>,
    known: &Known,
) -> Result<Option<Waits<'a>>, CallError> {
    let mut waits = Waits::default();
    for participant in told.participants.iter().filter(|participant| participant.job.is_some()) {
        let wait = jobs::tell(context, namespace, primitive, told, participant).await?;
        waits.jobs.extend(wait.filter(|(_, wait)| wait.primitive == *primitive));
    }
    if !claims::tell(context, namespace, primitive, told, known).await? {
        return Ok(None);
    }
    // Who stands in line has nothing to be told but its place, in memory: only the others take time, and whoever has been
    // told is not told again.
    let (in_line, others): (Vec<_>, Vec<_>) =
        told.participants.iter().partition(|who| told.line.place(&who.uid).is_some());
    for (group, turn) in [(others, TURN), (in_line, Duration::MAX)] {
        let pods: Vec<_> = group
            .into_iter()
            .filter(|who| who.claim.is_none())
            .flat_map(|who| &who.pods)
            .filter(|pod| pod.can_be_told().is_some() || pod.waits_at_our_gate())
            .collect();
        let all = pods.len();
        // By number: a closure over references, kept while others are awaited, is beyond the compiler.
        let tellings = (0..all).filter_map(|number| {
            let pod = *pods.get(number)?;
            Some(async move { (pod, tell_pod(context, namespace, primitive, told, pod, known).await) })
        });
        let outcomes = in_turn(tellings, turn).await;
        let cut = outcomes.len() < all;
        for (pod, outcome) in outcomes {
            // What it waits for first is for the reconcile of that primitive to say, which knows the place.
            if let Some(wait) = outcome?.filter(|wait| wait.primitive == *primitive) {
                waits.pods.push((pod, wait));
            }
        }
        if cut {
            return Ok(None);
        }
    }
    Ok(Some(waits))
}

/// Tells one pod, or says what it waits for.
async fn tell_pod(
    context: &Context,
    namespace: &str,
    primitive: &PrimitiveRef,
    told: &Told<'_>,
    pod: &PodFacts,
    known: &Known,
) -> Result<Option<Wait>, CallError> {
    let mut pod =
        known.pods.get(&pod.uid).map_or_else(|| pod.clone(), |fresh| known.facts(&context.caches, fresh));
    for _ in 0..ATTEMPTS {
        let metadata = &pod.object().metadata;
        let plan = index::plan_of(metadata);
        let job = observe::job_who(&context.caches, namespace, metadata);
        let cached =
            cached_others(context, namespace, primitive, plan.entries().map(|entry| entry.primitive));
        let mut telling = judge(context, &pod, &plan, job.as_ref(), primitive, told, &cached);
        // What is final is said only of what the API server itself says now.
        if matches!(telling, Telling::Go { .. } | Telling::Lift { .. }) && !cached.is_empty() {
            let read = read(context, namespace, cached.keys()).await?;
            telling = judge(context, &pod, &plan, job.as_ref(), primitive, told, &read);
        }
        if matches!(telling, Telling::Deny { .. }) {
            let read = read(context, namespace, plan.entries().map(|entry| entry.primitive)).await?;
            telling = judge(context, &pod, &plan, job.as_ref(), primitive, told, &read);
        }
        let (grant, tokens) = match telling {
            Telling::Nothing => {
                nudge(context, namespace, primitive, &pod).await?;
                return Ok(None);
            }
            Telling::Wait(wait) => return Ok(Some(wait)),
            Telling::Lift { message } => match gates::lift(context, namespace, &pod, &message).await? {
                Patched::Changed(Some(fresh)) => {
                    pod = known.facts(&context.caches, &fresh);
                    continue;
                }
                // What comes next comes when its waiter runs.
                Patched::Written(_) | Patched::Changed(None) => return Ok(None),
            },
            Telling::Go { grant, tokens } => (grant, tokens),
            Telling::Deny { grant } => (grant, Vec::new()),
        };
        let body = verdict_patch(&pod, &grant, &tokens, plan.needs_the_end(), context.clock.now());
        let write = Write::Grant;
        match patch_pod(context, namespace, &pod, &body, write).await? {
            Patched::Written(written) => {
                context.queue.add_after(Key::Primitive(namespace.to_owned(), primitive.clone()), LATE);
                // The condition may be older: told again, it is nudged so long after this.
                context.advisor.wrote(&written.metadata);
                announce_verdict(context, &written, &plan, &grant);
                return Ok(None);
            }
            Patched::Changed(Some(fresh)) => pod = known.facts(&context.caches, &fresh),
            // It was never told, so there is nothing to prove.
            Patched::Changed(None) => return Ok(None),
        }
    }
    context.queue.add_after(Key::Primitive(namespace.to_owned(), primitive.clone()), RETRY);
    Ok(None)
}

/// A kubelet may miss a change of a pod that comes while it works through its pods, and shows it to the waiter with its next look,
/// a minute or more later. Any other change makes it look at once.
async fn nudge(
    context: &Context,
    namespace: &str,
    primitive: &PrimitiveRef,
    pod: &PodFacts,
) -> Result<(), CallError> {
    let told = pod.grant.as_ref().filter(|grant| grant.verdict.opens()).map(|grant| grant.waiter_started_at);
    let waits = pod.can_be_told().map(Timestamp::as_second);
    let since = granted_of(pod)
        .filter(|known| known.status == "True")
        .and_then(|known| known.last_transition_time.clone());
    let (Some(since), true) = (since, told.is_some() && told == waits) else { return Ok(()) };
    let now = context.clock.now();
    let key = Key::Primitive(namespace.to_owned(), primitive.clone());
    let late = Duration::try_from(now.duration_since(since.0)).unwrap_or_default();
    let rest = LATE.checked_sub(late).or_else(|| context.advisor.too_soon(&pod.object().metadata, LATE));
    if let Some(rest) = rest.filter(|rest| !rest.is_zero()) {
        context.queue.add_after(key, rest);
        return Ok(());
    }
    let mut metadata = precondition(pod);
    metadata["annotations"] = json!({NUDGED: format!("{now:.0}")});
    if let Patched::Written(written) =
        patch_pod(context, namespace, pod, &json!({"metadata": metadata}), Write::Nudge).await?
    {
        tracing::info!(
            pod = pod.name,
            namespace,
            seconds = late.as_secs(),
            "its kubelet has not shown it the verdict: nudged"
        );
        context.advisor.wrote(&written.metadata);
        context.queue.add_after(key, LATE);
    }
    Ok(())
}

fn judge(
    context: &Context,
    pod: &PodFacts,
    plan: &PodPlan,
    job: Option<&Who>,
    primitive: &PrimitiveRef,
    told: &Told<'_>,
    others: &Others,
) -> Telling {
    let place = |other: &PrimitiveRef, uid: &str| told.line.place(uid).filter(|_| other == primitive);
    let committed = |other: &PrimitiveRef| committed_among(primitive, told, others, other);
    verdict::telling(pod, plan, job, committed, place, context.clock.now())
}

pub(crate) fn committed_among<'a>(
    primitive: &PrimitiveRef,
    told: &Told<'a>,
    others: &'a Others,
    which: &PrimitiveRef,
) -> Committed<'a> {
    match others.get(which) {
        Some(read) => read.committed(),
        None if which == primitive => told.committed.committed(),
        None => Committed::Missing,
    }
}

pub(crate) fn cached_others<'a>(
    context: &Context,
    namespace: &str,
    primitive: &PrimitiveRef,
    all: impl Iterator<Item = &'a PrimitiveRef>,
) -> Others {
    all.filter(|other| *other != primitive)
        .map(|other| (other.clone(), Read::cached(&context.caches, namespace, other)))
        .collect()
}

/// The same from the API server itself. Of what is denied for good that is every one, this primitive too: its spec may
/// have been changed just now, and the workload that comes with the change may be seen before it.
pub(crate) async fn read<'a>(
    context: &Context,
    namespace: &str,
    primitives: impl Iterator<Item = &'a PrimitiveRef>,
) -> Result<Others, CallError> {
    let mut read = BTreeMap::new();
    for primitive in primitives {
        read.insert(primitive.clone(), Read::fetch(&context.client, namespace, primitive).await?);
    }
    Ok(read)
}

// ------------------------------------------------------------------------------------------------- one patch

/// What became of a patch.
pub(crate) enum Patched {
    Written(Arc<PodRecord>),
    /// It is not what it was: as it is now, or `None` if it is gone.
    Changed(Option<Arc<PodRecord>>),
}

/// One patch of a pod's status subresource, on the version that was looked at.
pub(crate) async fn patch_pod(
    context: &Context,
    namespace: &str,
    pod: &PodFacts,
    body: &Value,
    write: Write,
) -> Result<Patched, CallError> {
    let api: Api<PodRecord> = Api::namespaced(context.client.clone(), namespace);
    context.telemetry.wrote(write);
    let answer = call(api.patch_status(&pod.name, &PatchParams::default(), &Patch::Strategic(body))).await;
    outcome(context, &api, pod, answer).await
}

/// What the answer to a patch of that version of a pod means.
pub(crate) async fn outcome(
    context: &Context,
    api: &Api<PodRecord>,
    pod: &PodFacts,
    answer: Result<PodRecord, CallError>,
) -> Result<Patched, CallError> {
    match answer {
        Ok(written) => {
            let written = Arc::new(written);
            context.caches.pods.put(&written);
            Ok(Patched::Written(written))
        }
        Err(error) if error.is_conflict() || error.is_not_found() || error.is_invalid() => {
            let found = call(api.get_opt(&pod.name)).await?;
            let same = found.filter(|found| found.metadata.uid.as_deref() == Some(&pod.uid));
            // Refused although it did not change: somebody else's admission, or ours, says why.
            if error.is_invalid()
                && same.as_ref().is_some_and(|same| {
                    same.metadata.resource_version == pod.object().metadata.resource_version
                })
            {
                return Err(error);
            }
            Ok(Patched::Changed(same.map(Arc::new)))
        }
        Err(error) => Err(error),
    }
}

/// The condition of every write on a pod: this object, in this version.
pub(crate) fn precondition(pod: &PodFacts) -> Value {
    let metadata = &pod.object().metadata;
    json!({"uid": metadata.uid, "resourceVersion": metadata.resource_version})
}

fn verdict_patch(
    pod: &PodFacts,
    grant: &Grant,
    tokens: &[(usize, String)],
    holds: bool,
    now: Timestamp,
) -> Value {
    let mut metadata = precondition(pod);
    let mut annotations: BTreeMap<String, String> =
        tokens.iter().map(|(place, token)| (annotations::token(*place), token.clone())).collect();
    annotations.insert(GRANT.to_owned(), grant.to_string());
    metadata["annotations"] = json!(annotations);
    if grant.verdict.opens() && holds {
        metadata["finalizers"] = json!([FINALIZER]);
    }
    let condition = match &grant.verdict {
        Verdict::Go => {
            let told: Vec<_> = tokens.iter().map(|(_, token)| token.as_str()).collect();
            let message = if told.is_empty() {
                "everything it waited for is open".to_owned()
            } else {
                format!("everything it waits for is its own; token {}", told.join(", "))
            };
            granted_condition(pod, true, conditions::reason::GRANTED, &message, now)
        }
        Verdict::Skip { reason } => {
            let message = format!("it starts, and what it would do once is skipped: {reason}");
            granted_condition(pod, true, conditions::reason::SKIPPED, &message, now)
        }
        Verdict::Deny { reason, .. } => {
            granted_condition(pod, false, conditions::reason::DENIED, reason, now)
        }
        Verdict::Released => Value::Null,
    };
    json!({"metadata": metadata, "status": {"conditions": [condition]}})
}

pub(crate) fn granted_condition(
    pod: &PodFacts,
    status: bool,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> Value {
    let known = granted_of(pod);
    let status = if status { "True" } else { "False" };
    let since = known
        .filter(|known| known.status == status)
        .and_then(|known| known.last_transition_time.clone())
        .unwrap_or(Time(now));
    json!({
        "type": GRANTED,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": since,
    })
}

pub(crate) fn granted_of(pod: &PodFacts) -> Option<&k8s_openapi::api::core::v1::PodCondition> {
    pod.object().condition(GRANTED)
}

fn announce_verdict(context: &Context, pod: &PodRecord, plan: &PodPlan, grant: &Grant) {
    let (warning, reason, note) = match &grant.verdict {
        Verdict::Go => (false, "Admitted", format!("may start: {plan}")),
        Verdict::Skip { reason } => (false, "Admitted", format!("may start, and skips its once: {reason}")),
        Verdict::Deny { reason, .. } => (true, "Denied", reason.clone()),
        Verdict::Released => return,
    };
    context.announcer.announce(Happening::to_pod(pod, warning, reason, note));
}

/// Takes verdicts back, before the holds that they stand for end. What comes back goes into `known`.
pub(crate) async fn withdraw(
    context: &Context,
    namespace: &str,
    withdrawals: &[Withdrawal],
    known: &mut Known,
) -> Result<(), CallError> {
    for withdrawal in withdrawals {
        let key = ObjectKey { namespace: namespace.to_owned(), name: withdrawal.pod.clone() };
        let pod = known.pods.get(&withdrawal.uid).cloned().or_else(|| context.caches.pod(&key));
        let Some(pod) = pod.filter(|pod| pod.metadata.uid.as_deref() == Some(&withdrawal.uid)) else {
            continue;
        };
        let pod = known.facts(&context.caches, &pod);
        let grant = verdict::withdrawn(&pod, withdrawal);
        let mut metadata = precondition(&pod);
        metadata["annotations"] = json!({GRANT: grant.to_string()});
        let body = json!({"metadata": metadata});
        let found = match patch_pod(context, namespace, &pod, &body, Write::Withdraw).await? {
            Patched::Written(fresh) if withdrawal.lost => lose(context, namespace, &fresh).await?,
            Patched::Written(fresh) | Patched::Changed(Some(fresh)) => Some(fresh),
            Patched::Changed(None) => None,
        };
        match found {
            Some(fresh) => known.pods.insert(withdrawal.uid.clone(), fresh).map(drop),
            None => known.absent.insert(withdrawal.uid.clone()).then_some(()),
        };
    }
    Ok(())
}

/// Deletes a pod of which nothing was heard for longer than its `ttl` allows, after its verdict was taken back: if it lives after all,
/// its kubelet ends it as soon as that hears of it. As it is then, or `None` if it is gone.
async fn lose(
    context: &Context,
    namespace: &str,
    pod: &Arc<PodRecord>,
) -> Result<Option<Arc<PodRecord>>, CallError> {
    let name = pod.metadata.name.clone().unwrap_or_default();
    let api: Api<PodRecord> = Api::namespaced(context.client.clone(), namespace);
    context.telemetry.wrote(Write::Lost);
    if delete_this(&api, &pod.metadata).await? {
        let note = "nothing was heard of it for longer than the ttl of what it holds: its hold is lost, and it is deleted";
        context.announcer.announce(Happening::to_pod(pod, true, "HoldLost", note.to_owned()));
    }
    let found = call(api.get_opt(&name)).await?.filter(|found| found.metadata.uid == pod.metadata.uid);
    let found = found.map(Arc::new);
    if let Some(found) = &found {
        context.caches.pods.put(found);
    }
    Ok(found)
}
