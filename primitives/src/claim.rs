//! A claim: when does its hold end, and what is it told?
//!
//! A claim holds until it is given back (deleted, or its outcome said), until the pod that it was made in is proven dead, or
//! until it is lost: it was not renewed for as long as its `ttl` allows, or somebody broke the hold. Losing comes in two
//! writes: first the claim is told ([`Expiry`]), on the condition that nobody has renewed it since it was looked at, then the
//! ledger. What must stay true: whoever gets a renewal through before that is not lost by what was seen before it; a claim that
//! vanished together with its pod is no claim that was given back; who was denied holds nothing.

use jiff::{SignedDuration, Timestamp};
use konductor_api::claim::{Claim, ClaimMode, ClaimOutcome, ClaimPhase, ClaimingPod};
use konductor_api::conditions::{CLAIM_GRANTED, reason};
use konductor_api::duration::GoDuration;
use konductor_api::ledger::{Evidence, Holder, ParticipantKind};
use konductor_api::members::MemberKey;
use konductor_api::options::OnBusy;
use konductor_api::participation::{PrimitiveRef, Role};

use crate::barrier;
use crate::committed::{Committed, entrance};
use crate::entrance::Entrance;
use crate::facts::PodFacts;
use crate::hold::{Ending, Fate, Outcome, suspicion};
use crate::queue::QueueKey;
use crate::silence::LOOK;
use crate::snapshot::{Participant, Snapshot};
use crate::step::{Expiry, Lookup};
use crate::verdict::Who;

/// What matters of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimFacts {
    /// Who it says it is for.
    pub holder: String,
    /// Its deletion was asked for.
    pub deleting: bool,
    /// What was said of how it went.
    pub outcome: Option<ClaimOutcome>,
    /// What it was told.
    pub phase: Option<ClaimPhase>,
    /// Why it has expired, if it has.
    pub expired: Option<Evidence>,
    /// Does it only arrive, and wait for nobody?
    pub arrives_only: bool,
    /// The pod that it was made in.
    pub pod: Option<ClaimingPod>,
    /// How long it may go without being renewed; `None`: for ever.
    pub ttl: Option<GoDuration>,
    /// For how long whoever looks has seen no renewal since it was granted, on a clock of its own that stands still while the
    /// API server cannot be asked.
    pub silent_for: SignedDuration,
}

/// What it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimTelling {
    /// In one word.
    pub phase: ClaimPhase,
    /// One of [`reason`].
    pub reason: &'static str,
    /// In a sentence.
    pub message: String,
    /// The token of what it holds.
    pub token: Option<String>,
}

// ---------------------------------------------------------------------------------------------------- reading

impl ClaimFacts {
    /// Reads them off a claim. `ttl`: that of whoever says nothing of it.
    pub fn of(claim: &Claim, ttl: Option<GoDuration>, silent_for: SignedDuration) -> Self {
        let status = claim.status.as_ref();
        let phase = status.and_then(|status| status.phase);
        let granted = status
            .and_then(|status| status.conditions.iter().find(|condition| condition.type_ == CLAIM_GRANTED));
        let expired = granted
            .filter(|_| phase == Some(ClaimPhase::Expired))
            .map(|condition| if condition.reason == reason::BROKEN { Evidence::A3 } else { Evidence::T });
        Self {
            holder: claim.spec.holder.clone(),
            deleting: claim.metadata.deletion_timestamp.is_some(),
            outcome: claim.spec.outcome,
            phase,
            expired,
            arrives_only: claim.spec.mode == Some(ClaimMode::Arrive),
            pod: claim.spec.pod.clone(),
            // The kubelet tells of the end of a pod.
            ttl: claim.spec.ttl.or(ttl).filter(|_| claim.spec.pod.is_none()),
            silent_for,
        }
    }

    /// Is there nothing left that it could ever do?
    pub fn is_over(&self) -> bool {
        self.deleting
            || self.was_told() && self.outcome.is_some()
            || self.phase.is_some_and(ClaimPhase::is_final)
    }

    /// Was it told that it has what it asked for?
    pub fn was_told(&self) -> bool {
        self.phase == Some(ClaimPhase::Granted)
    }

    /// Does it still want to be told?
    pub(crate) fn waits(&self) -> bool {
        !self.is_over() && !self.was_told()
    }

    /// Could it be told, as far as the pod goes that it was made in? Once we keep the object of that, its end will be seen.
    pub(crate) fn could_start(&self, pods: &[PodFacts]) -> bool {
        let lives = |pod: &PodFacts| pod.finalizer && !pod.deleting && !pod.is_dead();
        self.pod.as_ref().is_none_or(|bound| pods.iter().any(|pod| pod.uid == bound.uid && lives(pod)))
    }

    /// Has it ended, or the pod that it was made in?
    pub(crate) fn has_ended(&self, pods: &[PodFacts]) -> bool {
        self.is_over() || self.pod.is_some() && pods.iter().any(|pod| pod.terminal.is_some())
    }

    /// When it will be lost, if nobody renews it.
    pub(crate) fn lost_at(&self, now: Timestamp) -> Option<Timestamp> {
        let ttl = SignedDuration::from_nanos(self.ttl.filter(|_| self.was_told())?.as_nanoseconds());
        now.checked_add(ttl.saturating_sub(self.silent_for).max(LOOK)).ok()
    }

    fn is_silent(&self) -> bool {
        self.ttl
            .filter(|_| self.was_told())
            .is_some_and(|ttl| self.silent_for >= SignedDuration::from_nanos(ttl.as_nanoseconds()))
    }
}

/// What whoever says nothing of it gets from the primitive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Defaults {
    /// Priority in the queue.
    pub priority: i32,
    /// How long a claim may go without being renewed.
    pub ttl: Option<GoDuration>,
}

/// A claim as somebody who takes part. `pod`: the one that it was made in, if that is known; `silent_for` as in
/// [`ClaimFacts`].
pub fn participant(
    claim: &Claim,
    defaults: Defaults,
    pod: Option<PodFacts>,
    silent_for: SignedDuration,
) -> Option<Participant> {
    let who = who(claim);
    Some(Participant {
        kind: ParticipantKind::Claim,
        name: claim.metadata.name.clone().unwrap_or_default(),
        key: QueueKey::of(&claim.metadata, who.options.priority.unwrap_or(defaults.priority)),
        uid: who.uid,
        role: claim.spec.role()?,
        member: who.member,
        options: who.options,
        reached: true,
        job: None,
        of_job: None,
        claim: Some(ClaimFacts::of(claim, defaults.ttl, silent_for)),
        pods: pod.into_iter().collect(),
    })
}

/// Itself, as a member: another claim is another member.
pub fn member(claim: &Claim) -> MemberKey {
    MemberKey::Claim {
        name: claim.metadata.name.clone().unwrap_or_default(),
        uid: claim.metadata.uid.clone().unwrap_or_default(),
    }
}

/// Whoever asks.
pub fn who(claim: &Claim) -> Who {
    let since = QueueKey::of(&claim.metadata, 0).since();
    let options = claim.spec.options();
    Who {
        uid: claim.metadata.uid.clone().unwrap_or_default(),
        member: member(claim),
        since,
        deadline: options.deadline(since),
        options,
    }
}

// ----------------------------------------------------------------------------------------------------- the end

/// Judges the entry of a claim. `broken`: somebody with the right to do so has broken this hold.
pub(crate) fn judge<P>(
    holder: &Holder,
    participant: Option<&Participant>,
    broken: bool,
    snapshot: &Snapshot<P>,
    lookups: &mut Vec<Lookup>,
) -> Fate {
    let Some((who, claim)) = participant.and_then(|who| Some((who, who.claim.as_ref()?))) else {
        return unseen(holder, snapshot, lookups);
    };
    match (claim.phase, claim.expired, claim.outcome) {
        (_, Some(evidence), _) => return ends(evidence, Outcome::Failed),
        // It was told no, so it has done nothing.
        (Some(phase), ..) if phase.is_final() => return ends(Evidence::P0, Outcome::GaveBack),
        (Some(ClaimPhase::Granted), _, Some(outcome)) => {
            return ends(
                Evidence::Released,
                if outcome == ClaimOutcome::Succeeded { Outcome::Succeeded } else { Outcome::Failed },
            );
        }
        _ => {}
    }
    let pod = body(claim.pod.as_ref(), Some(who), snapshot, lookups);
    match pod {
        Body::Dead(evidence) => return ends(evidence, Outcome::Failed),
        Body::None | Body::Alive(_) if claim.deleting => {
            return ends(
                Evidence::Released,
                if claim.was_told() { Outcome::Failed } else { Outcome::GaveBack },
            );
        }
        _ => {}
    }
    let lost = match (broken, claim.is_silent()) {
        (true, _) => Some(Evidence::A3),
        (false, true) => Some(Evidence::T),
        (false, false) => None,
    };
    if let Some(evidence) = lost {
        return Fate::EndsAfterExpiry(Expiry {
            name: holder.name.clone(),
            uid: holder.uid.clone(),
            evidence,
        });
    }
    let suspect = match pod {
        Body::Alive(pod) | Body::Leaving(pod) => suspicion(pod, None),
        Body::None | Body::Dead(_) | Body::Unseen => holder.suspect.clone(),
    };
    if suspect == holder.suspect { Fate::Stays } else { Fate::Changes(Holder { suspect, ..holder.clone() }) }
}

const fn ends(evidence: Evidence, outcome: Outcome) -> Fate {
    Fate::Ends(Ending { evidence, outcome })
}

/// The claim cannot be seen. That it is gone says who had it gave it back; but for one that went with its pod, whose end is
/// what counts.
fn unseen<P>(holder: &Holder, snapshot: &Snapshot<P>, lookups: &mut Vec<Lookup>) -> Fate {
    if !snapshot.absent.contains(&holder.uid) {
        lookups.push(Lookup {
            kind: ParticipantKind::Claim,
            name: holder.name.clone(),
            uid: holder.uid.clone(),
        });
        return Fate::Stays;
    }
    match body(holder.pod.as_ref(), None, snapshot, lookups) {
        Body::None | Body::Alive(_) => ends(Evidence::Released, Outcome::Failed),
        Body::Dead(evidence) => ends(evidence, Outcome::Failed),
        Body::Leaving(_) | Body::Unseen => Fate::Stays,
    }
}

/// The pod that a claim was made in, as far as the snapshot can tell.
enum Body<'a> {
    None,
    Alive(&'a PodFacts),
    /// Being deleted, and with it perhaps its claims: that one is gone says nothing then.
    Leaving(&'a PodFacts),
    Dead(Evidence),
    Unseen,
}

fn body<'a, P>(
    bound: Option<&ClaimingPod>,
    participant: Option<&'a Participant>,
    snapshot: &'a Snapshot<P>,
    lookups: &mut Vec<Lookup>,
) -> Body<'a> {
    let Some(bound) = bound else { return Body::None };
    let mut look = || {
        lookups.push(Lookup { kind: ParticipantKind::Pod, name: bound.name.clone(), uid: bound.uid.clone() });
    };
    let found = participant.and_then(|who| who.pod(&bound.uid)).or_else(|| snapshot.pod(&bound.uid));
    let Some(pod) = found else {
        // It carried our finalizer before it was granted anything, and lost that after its end only.
        if snapshot.absent.contains(&bound.uid) {
            return Body::Dead(Evidence::P1);
        }
        look();
        return Body::Unseen;
    };
    match (pod.terminal, pod.attested()) {
        (Some(end), _) => Body::Dead(end.evidence),
        // There is no waiter that would find its verdict withdrawn when the machine comes back.
        (None, Some(evidence)) if pod.deleting => {
            if snapshot.fresh.contains(&pod.uid) {
                return Body::Dead(evidence);
            }
            look();
            Body::Leaving(pod)
        }
        _ if pod.deleting => Body::Leaving(pod),
        _ => Body::Alive(pod),
    }
}

// --------------------------------------------------------------------------------------------------- the verdict

/// What to tell a claim; `None` if it knows. What is final is to be said of what the API server itself says now.
pub fn telling(
    claim: &Claim,
    primitive: &PrimitiveRef,
    role: Role,
    committed: Committed<'_>,
    place: Option<(usize, usize)>,
    now: Timestamp,
) -> Option<ClaimTelling> {
    let facts = ClaimFacts::of(claim, None, SignedDuration::ZERO);
    if facts.deleting || facts.phase.is_some_and(ClaimPhase::is_final) {
        return None;
    }
    let who = who(claim);
    let mut asker = who.asks(primitive, role, now);
    asker.place = place;
    let stands = entrance(committed, &asker);
    if facts.was_told() {
        let holds = claim.status.as_ref().is_some_and(|status| status.token.is_some());
        return after_grant(&facts, holds, primitive, &stands, committed, &who);
    }
    let says = |phase, reason, message: String| ClaimTelling { phase, reason, message, token: None };
    Some(match stands {
        Entrance::Through => {
            says(ClaimPhase::Granted, reason::GRANTED, format!("{primitive} lets it through"))
        }
        Entrance::Held { token, .. } => ClaimTelling {
            phase: ClaimPhase::Granted,
            reason: reason::GRANTED,
            message: format!("{primitive} is its own; token {token}"),
            token: Some(token),
        },
        Entrance::Done { message } => says(ClaimPhase::Granted, reason::SKIPPED, message),
        Entrance::Never { message } => says(ClaimPhase::Denied, reason::DENIED, message),
        Entrance::Next { message } => says(ClaimPhase::Waiting, reason::WAITING, message),
        Entrance::Closed { .. } if facts.arrives_only && has_arrived(committed, &who) => {
            says(ClaimPhase::Granted, reason::GRANTED, format!("it has arrived at {primitive}"))
        }
        Entrance::Closed { reason: why, message, busy } => {
            let at_once = who.options.on_busy == OnBusy::Fail;
            let decided = busy || why == reason::MISSING_PRIMITIVE;
            match who.deadline {
                Some(deadline) if deadline <= now => {
                    let timeout = who.options.timeout.map(|timeout| timeout.to_string()).unwrap_or_default();
                    let message = format!("{timeout} are over, and it still {message}");
                    says(ClaimPhase::Denied, reason::TIMED_OUT, message)
                }
                _ if at_once && decided => {
                    let message = format!("it would have to wait, and does not want to: it {message}");
                    says(ClaimPhase::Denied, reason::BUSY, message)
                }
                _ => says(ClaimPhase::Waiting, why, message),
            }
        }
    })
}

fn has_arrived(committed: Committed<'_>, who: &Who) -> bool {
    matches!(committed, Committed::Barrier(barrier) if barrier::counts(barrier, &who.member))
}

/// What becomes of one that had it.
fn after_grant(
    facts: &ClaimFacts,
    holds: bool,
    primitive: &PrimitiveRef,
    stands: &Entrance,
    committed: Committed<'_>,
    who: &Who,
) -> Option<ClaimTelling> {
    let says = |phase, reason, message: String| Some(ClaimTelling { phase, reason, message, token: None });
    let given_back = || says(ClaimPhase::Released, reason::RELEASED, format!("{primitive} was given back"));
    if matches!(stands, Entrance::Held { .. }) {
        return None;
    }
    if facts.outcome.is_some() {
        return given_back();
    }
    // What was open, or done already, stays so for whoever was told.
    if !holds {
        return None;
    }
    let ended = committed.ledger().and_then(|ledger| ledger.history.iter().find(|gone| gone.uid == who.uid));
    let why = ended.map_or("it is not in the ledger any more", |release| release.evidence.sentence());
    says(ClaimPhase::Expired, reason::LOST, format!("{primitive} is held no more, because {why}"))
}
