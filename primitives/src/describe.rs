//! Describe: what people and tools read of a step, alike for all kinds.
//!
//! Pure. Conditions, the head of the queue, and how somebody is shown in it. What must stay true: a text changes only
//! when what it says changes, so that an idle primitive costs no write.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use konductor_api::conditions::{self, Claimed, HELD, READY, STALLED, reason};
use konductor_api::duration::GoDuration;
use konductor_api::ledger::{Common, Holder, Mode, QUEUE_SHOWN, Status, Waiter};
use konductor_api::participation::Role;

use crate::facts::to_the_second;
use crate::snapshot::{Participant, Waiting};

/// Messages of conditions may have 32 kB; nobody reads a quarter of that.
const MESSAGE_CHARACTERS: usize = 8 * 1024;

/// What a kind has to say of itself.
pub(crate) struct Says {
    /// The condition of the kind: Open, Held, Available or Done.
    pub(crate) domain: &'static str,
    /// Is it true?
    pub(crate) value: bool,
    /// Why: one of [`reason`].
    pub(crate) reason: &'static str,
    /// In a sentence.
    pub(crate) message: String,
    /// What else is to be said of the spec.
    pub(crate) note: Option<String>,
    /// A reason and a sentence if a person must act.
    pub(crate) stalled: Option<(&'static str, String)>,
}

/// Writes it down, and who waits.
pub(crate) fn describe(
    common: &mut Common,
    metadata: &ObjectMeta,
    line: &[Waiting<'_>],
    says: Says,
    now: Timestamp,
) {
    let generation = metadata.generation;
    common.observed_generation = generation;
    common.waiting = i64::try_from(line.len()).unwrap_or(i64::MAX);
    common.queue = line.iter().take(QUEUE_SHOWN).map(|waiting| waiting.who.shown()).collect();
    let ready = match says.note {
        None => "the spec is served".to_owned(),
        Some(note) => format!("the spec is served; {note}"),
    };
    let (stalled, why, advice) = match says.stalled {
        Some((reason, message)) => (true, reason, message),
        None => (false, reason::NOTHING_TO_DO, "nobody needs to act".to_owned()),
    };
    for (type_, status, reason, message) in [
        (READY, true, reason::ACCEPTED, ready),
        (says.domain, says.value, says.reason, says.message),
        (STALLED, stalled, why, advice),
    ] {
        let message = message.chars().take(MESSAGE_CHARACTERS).collect();
        let claimed = Claimed { type_, status, reason, message };
        conditions::set(&mut common.conditions, claimed, generation, to_the_second(now).0);
    }
}

/// What is said of what one can hold at a time.
pub(crate) fn alone(holder: Option<&Holder>, ttl: Option<GoDuration>) -> Says {
    let (value, reason, message) = match holder {
        Some(holder) => (true, reason::LOCKED, format!("held by {}", holder.display())),
        None => (false, reason::UNLOCKED, "nobody holds it".to_owned()),
    };
    Says { domain: HELD, value, reason, message, note: ttl_note(ttl), stalled: None }
}

/// What is said of a `ttl` of a kind that can be held.
pub(crate) fn ttl_note(ttl: Option<GoDuration>) -> Option<String> {
    ttl.map(|ttl| {
        format!(
            "a claim from outside of the cluster is lost when it is not renewed for {ttl}; Jobs and Pods are released when their \
             end is proven"
        )
    })
}

/// Do two statuses differ in nothing but how the queue looks? Such a change is worth a write now and then only.
pub fn differ_in_queue_only<S: Status + PartialEq>(left: &S, right: &S) -> bool {
    let without_queue = |status: &S| {
        let mut status = status.clone();
        let common = status.common_mut();
        common.waiting = 0;
        common.queue = Vec::new();
        status
    };
    without_queue(left) == without_queue(right)
}

impl Participant {
    /// As a queue shows it.
    pub(crate) fn shown(&self) -> Waiter {
        let not_yet = if self.can_start() {
            None
        } else if self.claim.is_some() {
            Some("the pod that it was made in is not known to be alive".to_owned())
        } else if self.pods.is_empty() {
            Some("it has no pod yet".to_owned())
        } else if self.pods.iter().all(|pod| pod.gated.by_others()) {
            Some("scheduling gates of others keep its pods from being placed".to_owned())
        } else {
            Some("none of its pods waits on a node that is alive".to_owned())
        };
        Waiter {
            kind: self.kind,
            name: self.name.clone(),
            holder: self.claim.as_ref().map(|claim| claim.holder.clone()),
            since: to_the_second(self.key.since()),
            mode: mode(self.role),
            permits: permits(self.role),
            priority: Some(self.key.priority()).filter(|priority| *priority != 0),
            not_yet,
        }
    }
}

/// As entries and waiters say it.
pub(crate) const fn mode(role: Role) -> Option<Mode> {
    match role {
        Role::Read => Some(Mode::Read),
        Role::Write => Some(Mode::Write),
        _ => None,
    }
}

/// The same for permits, of which one goes without saying.
pub(crate) fn permits(role: Role) -> Option<i64> {
    match role {
        Role::Take(permits) if permits != 1 => Some(i64::from(permits)),
        _ => None,
    }
}
