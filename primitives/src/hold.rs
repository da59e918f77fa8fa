//! A hold: when does it end, and which of its pods may be told to start?
//!
//! The part of the rules that every primitive with holders shares. What must stay true: a hold ends only when each pod
//! that was told is proven dead (and, for a Job, the Job is through), on the weakest rung that was needed
//! (`ReleaseNeedsEvidence`); a pod that lives on has its verdict withdrawn first (`WithdrawBeforeRelease`); a pod is in the
//! entry before it is told (`LedgerBeforeGo`).

use std::borrow::Cow;

use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use konductor_api::duration::GoDuration;
use konductor_api::ledger::{Evidence, Holder, ParticipantKind, ToldPod};
use konductor_waiter::grant::Verdict;

use crate::claim;
use crate::facts::{NodeState, PodFacts, Suspended};
use crate::reservation;
use crate::silence;
use crate::snapshot::{Participant, Snapshot};
use crate::step::{Expiry, Lookup, Withdrawal};

/// What becomes of an entry.
#[derive(Clone, Debug, PartialEq)]
pub enum Fate {
    /// It stays as it is.
    Stays,
    /// It stays, as it now stands here.
    Changes(Holder),
    /// It leaves.
    Ends(Ending),
    /// It will leave once these verdicts are withdrawn.
    EndsAfter(Vec<Withdrawal>),
    /// It will leave once this claim has been told that it is lost.
    EndsAfterExpiry(Expiry),
}

/// How a hold ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// What proves it.
    pub evidence: Evidence,
    /// How it went.
    pub outcome: Outcome,
}

/// How it went for whoever held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It did what it was there for.
    Succeeded,
    /// It failed, or it is gone and nobody saw it succeed.
    Failed,
    /// It never started, or it was suspended and will come again.
    GaveBack,
}

/// What one told pod is, as far as the snapshot can tell.
enum Body<'a> {
    /// Its end is proven, and the pod object can never run again.
    Gone(Evidence),
    /// Its end is proven, but the pod is neither terminal nor being deleted.
    Done(&'a PodFacts, Evidence),
    Alive(&'a PodFacts),
    /// Nothing is heard of it, or somebody vouches for its end, as far as a cache tells: an attestation is no fact that stays, for the machine may be
    /// back and the pod hold anew.
    Doubted(&'a PodFacts),
    /// Not in the snapshot.
    Unseen,
}

// ------------------------------------------------------------------------------------------------------ the end

/// Judges one entry. `participant` is whoever holds, if the snapshot has it; `broken`: somebody with the right to do so says
/// that it has ended. Asks for what the snapshot misses through `lookups`.
pub fn judge<P>(
    holder: &Holder,
    participant: Option<&Participant>,
    broken: bool,
    ttl: Option<GoDuration>,
    snapshot: &Snapshot<P>,
    lookups: &mut Vec<Lookup>,
) -> Fate {
    if holder.kind == ParticipantKind::Claim {
        return claim::judge(holder, participant, broken, snapshot, lookups);
    }
    // Nobody was told, so nobody's death says anything.
    if reservation::is_one(holder) {
        return reservation::judge(holder, participant, snapshot, lookups);
    }
    let bodies: Vec<_> =
        holder.pods.iter().map(|told| (told, body(told, participant, broken, ttl, snapshot))).collect();
    for (told, body) in &bodies {
        if matches!(body, Body::Unseen | Body::Doubted(_)) {
            lookups.push(Lookup {
                kind: ParticipantKind::Pod,
                name: told.name.clone(),
                uid: told.uid.clone(),
            });
        }
    }
    let all_dead = bodies.iter().all(|(_, body)| matches!(body, Body::Gone(_) | Body::Done(..)));
    let lost = bodies.iter().any(|(_, body)| matches!(body, Body::Done(_, Evidence::T)));
    if all_dead && (broken || lost || is_through(holder, participant, snapshot, lookups)) {
        return leave(&bodies, outcome(holder, participant, snapshot), broken);
    }
    stay(holder, &bodies, participant, ttl).map_or(Fate::Stays, Fate::Changes)
}

/// Is there nobody left who could need the hold? For a pod that is its own end; for a Job, the Job's.
fn is_through<P>(
    holder: &Holder,
    participant: Option<&Participant>,
    snapshot: &Snapshot<P>,
    lookups: &mut Vec<Lookup>,
) -> bool {
    if holder.kind == ParticipantKind::Pod {
        return true;
    }
    let Some(participant) = participant else {
        let gone = snapshot.absent.contains(&holder.uid);
        if !gone {
            lookups.push(Lookup { kind: holder.kind, name: holder.name.clone(), uid: holder.uid.clone() });
        }
        return gone;
    };
    let told = |uid: &str| holder.told(uid);
    // Suspended: its pods were deleted, and it queues again when it goes on. Being deleted: it makes no more pods, and those that
    // it has keep it (`foreground`) as long as the ledger keeps them.
    participant
        .job
        .as_ref()
        .is_some_and(|job| job.is_over() || job.deleting || job.suspended == Suspended::ByOthers)
        || participant.has_its_successes(told)
}

/// How it went, as far as anybody can prove. For who holds in vain nothing has begun: the pods of a Job that was
/// suspended were deleted, and one that never ran cannot have failed.
fn outcome<P>(holder: &Holder, participant: Option<&Participant>, snapshot: &Snapshot<P>) -> Outcome {
    let told = |uid: &str| holder.told(uid);
    let Some(participant) = participant else {
        // Gone without our finalizer: it was never told.
        let untold_pod = holder.kind == ParticipantKind::Pod && snapshot.absent.contains(&holder.uid);
        return if untold_pod { Outcome::GaveBack } else { Outcome::Failed };
    };
    let succeeded = match &participant.job {
        Some(job) => job.complete || participant.has_its_successes(told),
        None => participant.pods.iter().any(|pod| pod.end(told(&pod.uid)).is_some_and(|end| end.success)),
    };
    let never_ran = |pod: &PodFacts| {
        pod.terminal.is_some_and(|end| end.evidence == Evidence::P0)
            || !pod.has_passed() && pod.critical_ids.is_empty() && pod.terminal.is_some()
    };
    match &participant.job {
        _ if succeeded => Outcome::Succeeded,
        Some(job) if job.suspended != Suspended::No && job.failed.is_none() => Outcome::GaveBack,
        None if participant.pods.iter().all(never_ran) => Outcome::GaveBack,
        _ => Outcome::Failed,
    }
}

fn leave(bodies: &[(&ToldPod, Body<'_>)], outcome: Outcome, broken: bool) -> Fate {
    let withdrawals: Vec<_> = bodies
        .iter()
        .filter_map(|(told, body)| match body {
            Body::Done(pod, evidence)
                if carries_a_verdict(pod)
                    || may_yet_be_told(pod, told, *evidence)
                    || *evidence == Evidence::T && !pod.deleting =>
            {
                Some(Withdrawal {
                    pod: pod.name.clone(),
                    uid: pod.uid.clone(),
                    run: u64::try_from(told.run).unwrap_or(0),
                    waiter_started_at: told.waiter_started_at.0.as_second(),
                    lost: *evidence == Evidence::T,
                })
            }
            _ => None,
        })
        .collect();
    if !withdrawals.is_empty() {
        return Fate::EndsAfter(withdrawals);
    }
    let weakest = bodies
        .iter()
        .filter_map(|(_, body)| match body {
            Body::Gone(evidence) | Body::Done(_, evidence) => Some(*evidence),
            Body::Alive(_) | Body::Doubted(_) | Body::Unseen => None,
        })
        .min();
    // Nobody left in the list: a Job whose told pods were all taken out of it on the kubelet's last word.
    let evidence = weakest.unwrap_or(if broken { Evidence::A3 } else { Evidence::P1 });
    Fate::Ends(Ending { evidence, outcome })
}

fn body<'a, P>(
    told: &ToldPod,
    participant: Option<&'a Participant>,
    broken: bool,
    ttl: Option<GoDuration>,
    snapshot: &'a Snapshot<P>,
) -> Body<'a> {
    let of_participant = participant.and_then(|participant| participant.pod(&told.uid));
    let Some(pod) = of_participant.or_else(|| snapshot.pod(&told.uid)) else {
        // Gone, and our finalizer would have kept it had it been told: it never ran.
        return if snapshot.absent.contains(&told.uid) { Body::Gone(Evidence::P0) } else { Body::Unseen };
    };
    match (pod.end(Some(told)), pod.attested()) {
        (Some(end), _) if end.evidence == Evidence::P2 && !pod.deleting => Body::Done(pod, end.evidence),
        (Some(end), _) => Body::Gone(end.evidence),
        // Whoever breaks a hold deletes its pods; what they were told is taken back before it ends.
        (None, _) if broken && pod.deleting => Body::Done(pod, Evidence::A3),
        // Whoever vouches for a machine that is off may be wrong: the pod finds its verdict withdrawn.
        (None, Some(evidence)) if snapshot.fresh.contains(&pod.uid) => Body::Done(pod, evidence),
        (None, Some(_)) => Body::Doubted(pod),
        // A watch that is stuck is silent, too: what counts is what the API server itself says of the pod and its node.
        (None, None) if silence::is_lost(pod, told, ttl) && snapshot.fresh.contains(&pod.uid) => {
            Body::Done(pod, Evidence::T)
        }
        (None, None) if silence::is_lost(pod, told, ttl) => Body::Doubted(pod),
        (None, None) => Body::Alive(pod),
    }
}

/// Could a run of this pod's waiter still find a verdict that was not taken back? Of whatever number: a waiter may have
/// passed on an earlier grant than the last that was decided on.
fn carries_a_verdict(pod: &PodFacts) -> bool {
    pod.grant.as_ref().is_some_and(|grant| grant.verdict != Verdict::Released)
}

/// Could a verdict still come that was decided on before? A pod whose containers have ended has been told; one on a
/// machine that is off may not have been, and the machine may come back.
fn may_yet_be_told(pod: &PodFacts, told: &ToldPod, evidence: Evidence) -> bool {
    matches!(evidence, Evidence::A1 | Evidence::A2 | Evidence::A3 | Evidence::T) && !is_withdrawn(pod, told)
}

fn is_withdrawn(pod: &PodFacts, told: &ToldPod) -> bool {
    let run = u64::try_from(told.run).unwrap_or(u64::MAX);
    pod.last_run() >= run && !carries_a_verdict(pod)
}

// -------------------------------------------------------------------------------------------------- the middle

/// The entry of somebody who goes on holding, if it is another than it was: dead pods leave the list, pods that wait come
/// in.
fn stay(
    holder: &Holder,
    bodies: &[(&ToldPod, Body<'_>)],
    participant: Option<&Participant>,
    ttl: Option<GoDuration>,
) -> Option<Holder> {
    let known = bodies
        .iter()
        .filter(|(_, body)| holder.kind == ParticipantKind::Pod || !is_terminal(body))
        .map(|(told, body)| match body {
            Body::Alive(pod) => reissued(told, pod).map_or(Cow::Borrowed(*told), Cow::Owned),
            _ => Cow::Borrowed(*told),
        });
    let come = participant
        .filter(|who| {
            who.job.as_ref().is_none_or(|job| !job.is_over() && job.suspended != Suspended::ByOthers)
        })
        .into_iter()
        .flat_map(|who| who.pods.iter().filter(|pod| holder.told(&pod.uid).is_none()))
        .filter_map(told_now)
        .map(Cow::Owned);
    let pods: Vec<Cow<'_, ToldPod>> = known.chain(come).collect();
    let suspect = bodies.iter().find_map(|(_, body)| match body {
        Body::Alive(pod) | Body::Doubted(pod) => suspicion(pod, ttl),
        _ => None,
    });
    let same = suspect == holder.suspect
        && pods.len() == holder.pods.len()
        && pods.iter().all(|pod| matches!(pod, Cow::Borrowed(_)));
    (!same).then(|| Holder {
        pods: pods.into_iter().map(Cow::into_owned).collect(),
        suspect,
        ..holder.clone()
    })
}

/// P2 of a pod that is being deleted is not the last word: what its record proves would be lost with it.
const fn is_terminal(body: &Body<'_>) -> bool {
    matches!(body, Body::Gone(Evidence::P0 | Evidence::P1))
}

/// The record of a pod that may be told now; `None` if it cannot be.
pub fn told_now(pod: &PodFacts) -> Option<ToldPod> {
    pod.can_be_told().map(|started_at| ToldPod {
        name: pod.name.clone(),
        uid: pod.uid.clone(),
        run: i64::try_from(pod.last_run().saturating_add(1)).unwrap_or(i64::MAX),
        waiter_started_at: Time(started_at),
        ran_before: pod.critical_ids.clone(),
    })
}

/// A grant is good for one run of the waiter. Another run of it, or one whose verdict was withdrawn, gets the next
/// number, because its pod is still in the ledger.
fn reissued(told: &ToldPod, pod: &PodFacts) -> Option<ToldPod> {
    let started_at = pod.can_be_told()?;
    // Another run, not a later one: a node's clock may have stepped back. A view that is old can name a run that is over;
    // nobody can be told as that run, and the next look puts it right.
    if started_at == told.waiter_started_at.0 && !is_withdrawn(pod, told) {
        return None;
    }
    let fresh = told_now(pod)?;
    Some(ToldPod { run: fresh.run.max(told.run.saturating_add(1)), ..fresh })
}

/// Why this pod may be dead although nothing proves it. Without times: the text must not change while nothing does.
pub(crate) fn suspicion(pod: &PodFacts, ttl: Option<GoDuration>) -> Option<String> {
    let node = pod.node.as_ref().filter(|_| pod.node_state != NodeState::Alive)?;
    let lost = ttl.map_or_else(String::new, |ttl| {
        let least = SignedDuration::from_nanos(ttl.as_nanoseconds()) < silence::FLOOR;
        let floor = if least { " (60s where no sidecar renews it)" } else { "" };
        format!("; its ttl of {ttl}{floor} ends it without proof when nothing is heard of it for so long")
    });
    Some(format!(
        "pod {} is on node {node}, which has not been heard from, so its end cannot be proven. The hold ends when the \
         node comes back and reports it; if the machine is certainly off, say so: kubectl taint node {node} \
         node.kubernetes.io/out-of-service=nodeshutdown:NoExecute, or delete the Node{lost}",
        pod.name
    ))
}
