//! Claims: told what follows from committed ledgers, through their status; and the pods that they were made in are kept.
//!
//! Every write is on the version that was looked at. What must stay true: a claim that was made in a pod takes part only
//! when the object of that pod is kept by our finalizer, so that its end will be seen; what is final is said only of what the
//! API server itself says now; a claim is told that it is lost before its hold ends, and a renewal that comes in between is
//! a conflict, after which everything is looked at again.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use konductor_api::annotations::{BREAK_BY, BREAK_REASON, FINALIZER, PARTICIPANT_LABEL, PARTICIPANT_VALUE};
use konductor_api::claim::{Claim, ClaimPhase, ClaimStatus, ClaimingPod};
use konductor_api::conditions::{self, CLAIM_GRANTED, Claimed, READY, reason};
use konductor_api::ledger::Evidence;
use konductor_api::participation::PrimitiveRef;
use konductor_primitives::claim::{self, ClaimTelling, Defaults};
use konductor_primitives::facts::PodFacts;
use konductor_primitives::record::PodRecord;
use konductor_primitives::snapshot::Participant;
use konductor_primitives::step::Expiry;
use kube::api::{Patch, PatchParams};
use kube::{Api, Resource, ResourceExt};
use serde_json::json;

use crate::advice::ADVICE_PERIOD;
use crate::client::{CallError, call, delete_this};
use crate::crowd::in_turn;
use crate::events::Happening;
use crate::index::{Key, ObjectKey};
use crate::notify::{Patched, RETRY, TURN, Told, patch_pod, precondition};
use crate::observe::{self, Known};
use crate::reconcile::Context;
use crate::rules::{Read, Rule};
use crate::telemetry::Write;

/// What is over is kept for so long, for people to read.
const KEPT: SignedDuration = SignedDuration::from_hours(1);
/// A claim changes while it is told: read it and decide again, so often.
const ATTEMPTS: usize = 4;

// ------------------------------------------------------------------------------------------------- taking part

/// That claim as somebody who takes part.
pub(crate) fn participant(
    context: &Context,
    claim: &Claim,
    defaults: Defaults,
    known: &Known,
) -> Option<Participant> {
    let pod = claim.spec.pod.as_ref().and_then(|bound| kept_pod(context, claim, bound, known));
    let silent_for = if claim.spec.pod.is_none() && claim.spec.ttl.or(defaults.ttl).is_some() {
        context.caches.silence.of(claim)
    } else {
        SignedDuration::ZERO
    };
    claim::participant(claim, defaults, pod, silent_for)
}

fn kept_pod(context: &Context, claim: &Claim, bound: &ClaimingPod, known: &Known) -> Option<PodFacts> {
    let key = ObjectKey { namespace: claim.namespace().unwrap_or_default(), name: bound.name.clone() };
    let pod = known.pods.get(&bound.uid).cloned().or_else(|| context.caches.pod(&key))?;
    (pod.metadata.uid.as_deref() == Some(&bound.uid)).then(|| known.facts(&context.caches, &pod))
}

// ------------------------------------------------------------------------------------------------------ telling

/// Tells every claim what there is to tell; `false` if not all could be told in one turn, and it is to be called again.
pub(crate) async fn tell(
    context: &Context,
    namespace: &str,
    primitive: &PrimitiveRef,
    told: &Told<'_>,
    known: &Known,
) -> Result<bool, CallError> {
    // Who stands in line has nothing to be told but its place.
    let (in_line, first): (Vec<_>, Vec<_>) = told
        .participants
        .iter()
        .filter(|who| who.claim.is_some())
        .partition(|who| told.line.place(&who.uid).is_some());
    let all: Vec<_> = first.into_iter().chain(in_line).collect();
    // By number: a closure over references, kept while others are awaited, is beyond the compiler.
    let tellings = (0..all.len()).filter_map(|number| {
        let who = *all.get(number)?;
        Some(tell_one(context, namespace, primitive, told, who, known))
    });
    let outcomes = in_turn(tellings, TURN).await;
    let complete = outcomes.len() == all.len();
    outcomes.into_iter().collect::<Result<Vec<()>, _>>()?;
    Ok(complete)
}

async fn tell_one(
    context: &Context,
    namespace: &str,
    primitive: &PrimitiveRef,
    told: &Told<'_>,
    who: &Participant,
    known: &Known,
) -> Result<(), CallError> {
    let Some(mut claim) = seen(context, namespace, who, known) else { return Ok(()) };
    let api: Api<Claim> = Api::namespaced(context.client.clone(), namespace);
    if is_long_over(&claim, context.clock.now()) {
        return delete_this(&api, &claim.metadata).await.map(drop);
    }
    for _ in 0..ATTEMPTS {
        let gone = is_bound_to_nobody(context, namespace, &claim, who).await?;
        let place = told.line.place(&who.uid);
        let judge = |read: &Read| {
            claim::telling(&claim, primitive, who.role, read.committed(), place, context.clock.now())
        };
        let telling = match gone {
            Some(telling) => Some(telling),
            None => match judge(told.committed) {
                Some(telling) if telling.phase.is_final() => {
                    judge(&Read::fetch(&context.client, namespace, primitive).await?)
                }
                telling => telling,
            },
        };
        let Some(telling) = telling.filter(|telling| is_news(context, primitive, told, who, &claim, telling))
        else {
            return Ok(());
        };
        match write(context, &api, &claim, &telling).await? {
            Some(written) => {
                if telling.phase == ClaimPhase::Denied {
                    announce(context, &written, true, "Denied", telling.message);
                }
                return Ok(());
            }
            None => match call(api.get_opt(&who.name)).await? {
                Some(fresh) if fresh.metadata.uid.as_deref() == Some(&who.uid) => {
                    claim = Arc::new(fresh);
                    context.caches.claims.put(&claim);
                }
                _ => return Ok(()),
            },
        }
    }
    context.queue.add_after(Key::Primitive(namespace.to_owned(), primitive.clone()), RETRY);
    Ok(())
}

/// Whoever made it has had its answer, or is gone.
fn is_long_over(claim: &Claim, now: Timestamp) -> bool {
    let Some(status) = &claim.status else { return false };
    let since = granted_of(status).map(|known| now.duration_since(known.last_transition_time.0));
    status.phase.is_some_and(ClaimPhase::is_final) && since.is_some_and(|since| since > KEPT)
}

fn seen(context: &Context, namespace: &str, who: &Participant, known: &Known) -> Option<Arc<Claim>> {
    let key = ObjectKey { namespace: namespace.to_owned(), name: who.name.clone() };
    let claim = known.claims.get(&who.uid).cloned().or_else(|| context.caches.claim(&key))?;
    (claim.metadata.uid.as_deref() == Some(&who.uid)).then_some(claim)
}

/// Is there anything in it that is not there yet? A place in the queue is worth a write now and then, for the first.
fn is_news(
    context: &Context,
    primitive: &PrimitiveRef,
    told: &Told<'_>,
    who: &Participant,
    claim: &Claim,
    telling: &ClaimTelling,
) -> bool {
    let status = claim.status.as_ref();
    let known = status.and_then(|status| granted_of(status));
    let same = status.and_then(|status| status.phase) == Some(telling.phase)
        && known.is_some_and(|known| known.reason == telling.reason);
    if !same || telling.phase != ClaimPhase::Waiting {
        return !same;
    }
    if known.is_some_and(|known| known.message == telling.message) || !told.line.is_among_the_first(&who.uid)
    {
        return false;
    }
    let delay = context.advisor.too_soon(&claim.metadata, ADVICE_PERIOD);
    if let Some(delay) = delay {
        let namespace = claim.namespace().unwrap_or_default();
        context.queue.add_after(Key::Primitive(namespace, primitive.clone()), delay);
    }
    delay.is_none()
}

fn granted_of(status: &ClaimStatus) -> Option<&k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition> {
    status.conditions.iter().find(|condition| condition.type_ == CLAIM_GRANTED)
}

/// Writes it over that version; `None` if it is another one by now.
async fn write(
    context: &Context,
    api: &Api<Claim>,
    claim: &Claim,
    telling: &ClaimTelling,
) -> Result<Option<Arc<Claim>>, CallError> {
    let mut status = claim.status.clone().unwrap_or_default();
    let (generation, now) = (claim.metadata.generation, context.clock.now());
    status.phase = Some(telling.phase);
    status.observed_generation = generation;
    // What it held it holds no more; the token stays, for people to read.
    if telling.token.is_some() {
        status.token.clone_from(&telling.token);
    }
    let ready = Claimed {
        type_: READY,
        status: true,
        reason: reason::ACCEPTED,
        message: "the claim is served".to_owned(),
    };
    let granted = Claimed {
        type_: CLAIM_GRANTED,
        status: telling.phase == ClaimPhase::Granted,
        reason: telling.reason,
        message: telling.message.clone(),
    };
    conditions::set(&mut status.conditions, ready, generation, now);
    conditions::set(&mut status.conditions, granted, generation, now);
    let body = json!({
        "metadata": {"resourceVersion": claim.metadata.resource_version, "uid": claim.metadata.uid},
        "status": status,
    });
    context.telemetry.wrote(Write::Claim);
    match call(api.patch_status(&claim.name_any(), &PatchParams::default(), &Patch::Merge(&body))).await {
        Ok(written) => {
            context.advisor.wrote(&written.metadata);
            let written = Arc::new(written);
            context.caches.claims.put(&written);
            Ok(Some(written))
        }
        Err(error) if error.is_conflict() || error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

fn announce(context: &Context, claim: &Claim, warning: bool, reason: &'static str, note: String) {
    context.announcer.announce(Happening {
        about: claim.object_ref(&()),
        related: None,
        warning,
        reason,
        note,
    });
}

// ---------------------------------------------------------------------------------------- the pod it was made in

/// Keeps the object of the pod that a claim was made in. Says what to tell the claim if there is no such pod any more.
async fn is_bound_to_nobody(
    context: &Context,
    namespace: &str,
    claim: &Claim,
    who: &Participant,
) -> Result<Option<ClaimTelling>, CallError> {
    let waits = who.claim.as_ref().is_some_and(|facts| !facts.is_over() && !facts.was_told());
    let Some(bound) = claim.spec.pod.as_ref().filter(|_| waits && !who.can_start()) else { return Ok(None) };
    let api: Api<PodRecord> = Api::namespaced(context.client.clone(), namespace);
    for _ in 0..ATTEMPTS {
        let found = call(api.get_opt(&bound.name)).await?;
        let facts = found
            .filter(|pod| pod.metadata.uid.as_deref() == Some(&bound.uid))
            .map(|pod| observe::facts(&context.caches, &Arc::new(pod)));
        let Some(facts) = facts.filter(|facts| !facts.deleting && facts.terminal.is_none()) else {
            return Ok(Some(ClaimTelling {
                phase: ClaimPhase::Denied,
                reason: reason::LOST,
                message: format!("pod {}, in which it was made, has ended or is being deleted", bound.name),
                token: None,
            }));
        };
        if facts.finalizer {
            return Ok(None);
        }
        let mut metadata = precondition(&facts);
        metadata["labels"] = json!({PARTICIPANT_LABEL: PARTICIPANT_VALUE});
        metadata["finalizers"] = json!([FINALIZER]);
        let body = json!({"metadata": metadata});
        match patch_pod(context, namespace, &facts, &body, Write::Finalizer).await? {
            // The watch shows it from here on, and brings us here again.
            Patched::Written(_) => return Ok(None),
            Patched::Changed(_) => {}
        }
    }
    Ok(None)
}

// ------------------------------------------------------------------------------------------------------ losing

/// Tells claims that they are lost. What comes back goes into `known`.
pub(crate) async fn expire<P: Rule>(
    context: &Context,
    namespace: &str,
    primitive: &P,
    expiries: &[Expiry],
    known: &mut Known,
) -> Result<(), CallError> {
    let api: Api<Claim> = Api::namespaced(context.client.clone(), namespace);
    for expiry in expiries {
        let key = ObjectKey { namespace: namespace.to_owned(), name: expiry.name.clone() };
        let claim = known.claims.get(&expiry.uid).cloned().or_else(|| context.caches.claim(&key));
        let Some(claim) = claim.filter(|claim| claim.metadata.uid.as_deref() == Some(&expiry.uid)) else {
            continue;
        };
        let telling = lost(primitive, expiry);
        if let Some(written) = write(context, &api, &claim, &telling).await? {
            announce(context, &written, true, "Expired", telling.message);
            known.claims.insert(expiry.uid.clone(), written);
            continue;
        }
        // Somebody renewed it, or gave it back.
        match call(api.get_opt(&expiry.name)).await? {
            Some(fresh) if fresh.metadata.uid.as_deref() == Some(&expiry.uid) => {
                let fresh = Arc::new(fresh);
                context.caches.claims.put(&fresh);
                known.claims.insert(expiry.uid.clone(), fresh);
            }
            _ => {
                known.claims.remove(&expiry.uid);
                known.absent.insert(expiry.uid.clone());
            }
        }
    }
    Ok(())
}

fn lost<P: Rule>(primitive: &P, expiry: &Expiry) -> ClaimTelling {
    let says = |reason, message| ClaimTelling { phase: ClaimPhase::Expired, reason, message, token: None };
    if expiry.evidence == Evidence::A3 {
        return says(reason::BROKEN, broken_by(primitive));
    }
    says(
        reason::NOT_RENEWED,
        "it was not renewed for as long as its ttl allows: a later renewal does not bring it back".to_owned(),
    )
}

/// Who broke a hold, and why, as they said.
pub(crate) fn broken_by<P: Rule>(primitive: &P) -> String {
    let said = |key: &str| primitive.meta().annotations.as_ref().and_then(|all| all.get(key)).cloned();
    let by = said(BREAK_BY).unwrap_or_else(|| "somebody".to_owned());
    match said(BREAK_REASON) {
        Some(why) => format!("broken by {by}: {why}"),
        None => format!("broken by {by}"),
    }
}
