//! A reservation: the entry of somebody of whom no pod was told anything yet, because it waited without a node.
//!
//! Who waits at our scheduling gate, or as a Job that we suspended, enters the ledger first; then the gate is lifted, or
//! the Job goes on; when a waiter runs, the entry lists its pod, and only then is that one told. So a reservation holds the
//! place and lets nobody start. It stays until nobody is left who could run under it (gone, over, suspended by others, or on a
//! machine that somebody vouches is off), or until it is taken back: it was let go, no pod of it has found a node for
//! [`IN_VAIN`], and somebody else could start now. Its pods wait on as everybody's do who was never held elsewhere, and it is a
//! candidate again when a waiter runs. Whoever has lost so what it takes before this primitive gives this one back, too:
//! holding a later one and waiting for an earlier one is how two workloads come to wait for each other.
//!
//! What must stay true: an entry that lists a pod, or of which one was told, is never ended here. Ending any other lets
//! nobody start twice: whoever still means to tell a pod of it has to list it in the ledger first, and finds another ledger.

use jiff::{SignedDuration, Timestamp};
use konductor_api::ledger::{Evidence, Holder, ParticipantKind};

use crate::facts::{JobFacts, NodeState, PodFacts, Suspended};
use crate::gated::Gated;
use crate::hold::{Ending, Fate, Outcome, suspicion, told_now};
use crate::snapshot::{Participant, Snapshot};
use crate::step::Lookup;

/// How long one that was let go may be without a node while others could start: a scheduler that has room places a pod
/// within a second, and a cluster that grows takes minutes.
pub const IN_VAIN: SignedDuration = SignedDuration::from_secs(30);

/// Given back, because it never ran.
pub(crate) const TAKEN_BACK: Ending = Ending { evidence: Evidence::P0, outcome: Outcome::GaveBack };

/// Is it one? A Job's entry without pods need not be: those that were told may be dead, and it may make more.
pub(crate) const fn is_one(holder: &Holder) -> bool {
    holder.pods.is_empty()
        && match holder.kind {
            ParticipantKind::Pod => true,
            ParticipantKind::Job => holder.reserved,
            // What it was told stands on the claim.
            ParticipantKind::Claim => false,
        }
}

/// Judges one, but for whether it should be taken back.
pub(crate) fn judge<P>(
    holder: &Holder,
    participant: Option<&Participant>,
    snapshot: &Snapshot<P>,
    lookups: &mut Vec<Lookup>,
) -> Fate {
    let mut look = || {
        lookups.push(Lookup { kind: holder.kind, name: holder.name.clone(), uid: holder.uid.clone() });
    };
    if participant.is_some_and(|participant| !participant.reached) {
        return ends(Evidence::P0);
    }
    if let Some((who, job)) = participant.and_then(|who| who.job.as_ref().map(|job| (who, job))) {
        return of_job(holder, who, job);
    }
    let Some(pod) = pod(holder, participant).or_else(|| snapshot.pod(&holder.uid)) else {
        if snapshot.absent.contains(&holder.uid) {
            return ends(Evidence::P0);
        }
        look();
        return Fate::Stays;
    };
    match (pod.terminal, pod.attested()) {
        // It was told nothing under this entry, so it can have done nothing, whatever it looks like.
        (Some(end), _) => return ends(end.evidence),
        (None, Some(evidence)) if snapshot.fresh.contains(&pod.uid) => return ends(evidence),
        (None, Some(_)) => look(),
        (None, None) => {}
    }
    let told = told_now(pod);
    let suspect = suspicion(pod, None);
    if told.is_none() && suspect == holder.suspect {
        return Fate::Stays;
    }
    Fate::Changes(Holder { pods: told.into_iter().collect(), suspect, ..holder.clone() })
}

/// Whatever becomes of its pods, the Job may make others; until it ends, or somebody keeps it from going on.
fn of_job(holder: &Holder, who: &Participant, job: &JobFacts) -> Fate {
    if job.is_over() || job.deleting || job.suspended == Suspended::ByOthers {
        return ends(Evidence::P0);
    }
    let pods: Vec<_> = who.pods.iter().filter_map(told_now).collect();
    if pods.is_empty() {
        return Fate::Stays;
    }
    Fate::Changes(Holder { pods, reserved: false, ..holder.clone() })
}

const fn ends(evidence: Evidence) -> Fate {
    Fate::Ends(Ending { evidence, outcome: Outcome::GaveBack })
}

/// From when on it may be taken back, as far as can be said now; `None` if there is nothing to take back. Before it was
/// reserved it was not in anybody's way.
pub(crate) fn in_vain_from(holder: &Holder, participant: Option<&Participant>) -> Option<Timestamp> {
    if !is_one(holder) {
        return None;
    }
    let since = match participant?.job.as_ref() {
        Some(job) => of_job_since(participant?, job)?,
        None => of_pod_since(pod(holder, participant)?)?,
    };
    since.max(holder.granted_at.0).checked_add(IN_VAIN).ok()
}

fn of_pod_since(pod: &PodFacts) -> Option<Timestamp> {
    pod.unschedulable
        .filter(|_| pod.gated == Gated::No && pod.node.is_none() && pod.terminal.is_none() && !pod.deleting)
}

/// Of all the pods that it has none could start where it is, or there is none: a quota may forbid them.
fn of_job_since(who: &Participant, job: &JobFacts) -> Option<Timestamp> {
    let nowhere = |pod: &PodFacts| {
        pod.terminal.is_some()
            || !pod.gated.by_us() && (pod.node.is_none() || pod.node_state != NodeState::Alive)
    };
    let let_go = job.suspended == Suspended::No && who.pods.iter().all(nowhere);
    let_go.then(|| job.started.or(job.created).unwrap_or(Timestamp::MIN))
}

fn pod<'a>(holder: &Holder, participant: Option<&'a Participant>) -> Option<&'a PodFacts> {
    participant.and_then(|participant| participant.pod(&holder.uid))
}
