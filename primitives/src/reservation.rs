//! A reservation: the entry of a pod that was told nothing yet, because it waited at our scheduling gate.
//!
//! A pod that waits without a node enters the ledger first; then its gate is lifted; when its waiter runs, the entry lists
//! the pod, and only then is it told. So a reservation holds the place and lets nobody start. It stays until its pod is
//! proven never to run any more (gone, terminal, or on a machine that somebody vouches is off), or until it is taken
//! back: the gate is lifted, the scheduler has found no node for [`IN_VAIN`], and somebody else could start now. That pod
//! waits on as everybody does who has no gate, and is a candidate again when its waiter runs. Whoever has lost so what it
//! takes before this primitive gives this one back, too: holding a later one and waiting for an earlier one is how two
//! workloads come to wait for each other.
//!
//! What must stay true: an entry that lists a pod is never ended here. Ending one that lists none lets nobody start
//! twice: whoever still means to tell that pod has to list it in the ledger first, and finds another ledger.

use jiff::{SignedDuration, Timestamp};
use konductor_api::ledger::{Evidence, Holder, ParticipantKind};

use crate::facts::PodFacts;
use crate::gated::Gated;
use crate::hold::{Ending, Fate, Outcome, suspicion, told_now};
use crate::snapshot::{Participant, Snapshot};
use crate::step::Lookup;

/// How long a reserved pod may go without a node while others could start: a scheduler that has room places a pod within
/// a second, and a cluster that grows takes minutes.
pub const IN_VAIN: SignedDuration = SignedDuration::from_secs(30);

/// Given back, because it never ran.
pub(crate) const TAKEN_BACK: Ending = Ending { evidence: Evidence::P0, outcome: Outcome::GaveBack };

/// Is it one? A Job's entry without pods is not: its told pods are dead and it may make more.
pub(crate) fn is_one(holder: &Holder) -> bool {
    holder.kind == ParticipantKind::Pod && holder.pods.is_empty()
}

/// Judges one, but for whether it should be taken back.
pub(crate) fn judge<P>(
    holder: &Holder,
    participant: Option<&Participant>,
    snapshot: &Snapshot<P>,
    lookups: &mut Vec<Lookup>,
) -> Fate {
    let ends = |evidence| Fate::Ends(Ending { evidence, outcome: Outcome::GaveBack });
    let mut look = || {
        lookups.push(Lookup { kind: holder.kind, name: holder.name.clone(), uid: holder.uid.clone() });
    };
    let Some(pod) = pod(holder, participant).or_else(|| snapshot.pod(&holder.uid)) else {
        if snapshot.absent.contains(&holder.uid) {
            return ends(Evidence::P0);
        }
        look();
        return Fate::Stays;
    };
    if participant.is_some_and(|participant| !participant.reached) {
        return ends(Evidence::P0);
    }
    match (pod.terminal, pod.attested()) {
        // It was told nothing under this entry, so it can have done nothing, whatever it looks like.
        (Some(end), _) => return ends(end.evidence),
        (None, Some(evidence)) if snapshot.fresh.contains(&pod.uid) => return ends(evidence),
        (None, Some(_)) => look(),
        (None, None) => {}
    }
    let told = told_now(pod);
    let suspect = suspicion(pod);
    if told.is_none() && suspect == holder.suspect {
        return Fate::Stays;
    }
    Fate::Changes(Holder { pods: told.into_iter().collect(), suspect, ..holder.clone() })
}

/// From when on it may be taken back, as far as can be said now; `None` if there is nothing to take back.
pub(crate) fn in_vain_from(holder: &Holder, participant: Option<&Participant>) -> Option<Timestamp> {
    let pod = pod(holder, participant).filter(|_| is_one(holder))?;
    let since = pod.unschedulable.filter(|_| {
        pod.gated == Gated::No && pod.node.is_none() && pod.terminal.is_none() && !pod.deleting
    })?;
    // Before it was reserved it was not in anybody's way.
    since.max(holder.granted_at.0).checked_add(IN_VAIN).ok()
}

fn pod<'a>(holder: &Holder, participant: Option<&'a Participant>) -> Option<&'a PodFacts> {
    participant.and_then(|participant| participant.pod(&holder.uid))
}
