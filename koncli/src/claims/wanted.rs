//! What is asked for, and where a claim stands.
//!
//! Pure. What must stay true: a claim that is there already is taken for ours only if it asks for the same.

use jiff::Timestamp;
use konductor_api::annotations::QUEUED;
use konductor_api::claim::{Claim, ClaimBinding, ClaimMode, ClaimPhase, ClaimSpec, ClaimedPrimitive};
use konductor_api::conditions::{CLAIM_GRANTED, reason};
use konductor_api::duration::GoDuration;
use konductor_api::participation::Kind;

use super::identity::Holder;
use crate::exit::Exit;

/// What is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// Of which kind.
    pub kind: Kind,
    /// Which one.
    pub name: String,
    /// How.
    pub mode: Option<ClaimMode>,
    /// Semaphore: how many.
    pub permits: Option<i64>,
    /// How long it may go without being renewed.
    pub ttl: Option<GoDuration>,
    /// How long it waits.
    pub timeout: Option<GoDuration>,
    /// Higher goes first.
    pub priority: Option<i32>,
    /// Does it outlive the pod that it is made in?
    pub unbound: bool,
}

/// Where a claim stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nobody has looked at it yet.
    Unseen,
    /// It waits; why, as one of [`reason`] and in a sentence.
    Waits(String, String),
    /// It has it, with that token.
    Has(Option<String>),
    /// There is nothing left to do: somebody has done it.
    DoneAlready(String),
    /// It will not get it, and the code for that.
    Denied(String, Exit),
    /// It had it, and lost it.
    Lost(String),
    /// It had it, and gave it back.
    Over,
}

impl Wanted {
    /// Nothing but that one, and as it comes.
    pub fn of(kind: Kind, name: &str) -> Self {
        Self {
            kind,
            name: name.to_owned(),
            mode: None,
            permits: None,
            ttl: None,
            timeout: None,
            priority: None,
            unbound: false,
        }
    }

    /// As `mutex/db`.
    pub fn what(&self) -> String {
        format!("{}/{}", self.kind.lower(), self.name)
    }

    /// The claim that asks for it.
    pub fn claim(&self, holder: &Holder, now: Timestamp) -> Claim {
        let spec = ClaimSpec {
            primitive: ClaimedPrimitive { kind: self.kind, name: self.name.clone() },
            mode: self.mode,
            permits: self.permits,
            holder: holder.shown.clone(),
            ttl: self.ttl,
            renew_time: None,
            timeout: self.timeout,
            priority: self.priority,
            outcome: None,
            binding: self.unbound.then_some(ClaimBinding::None),
            requester: None,
            pod: None,
        };
        let mut claim = Claim::new(&holder.claim(self.kind, &self.name), spec);
        claim.metadata.annotations = Some([(QUEUED.to_owned(), format!("{now:.6}"))].into_iter().collect());
        claim
    }

    /// What a claim that is there already asks for otherwise; `None` if it is the same.
    pub fn differs(&self, claim: &Claim) -> Option<String> {
        let spec = &claim.spec;
        let shown = |value: Option<String>| value.unwrap_or_else(|| "none".to_owned());
        let pairs = [
            (
                "mode",
                shown(spec.mode.map(|mode| format!("{mode:?}"))),
                shown(self.mode.map(|mode| format!("{mode:?}"))),
            ),
            ("permits", spec.permits.unwrap_or(1).to_string(), self.permits.unwrap_or(1).to_string()),
            ("ttl", shown(spec.ttl.map(|ttl| ttl.to_string())), shown(self.ttl.map(|ttl| ttl.to_string()))),
        ];
        let (field, there, wanted) = pairs.into_iter().find(|(_, there, wanted)| there != wanted)?;
        Some(format!("{field} {there}, and not {wanted}"))
    }
}

/// Where that claim stands.
pub fn standing(claim: &Claim) -> Standing {
    let Some(status) = &claim.status else { return Standing::Unseen };
    let granted = status.conditions.iter().find(|condition| condition.type_ == CLAIM_GRANTED);
    let (why, message) =
        granted.map_or_else(Default::default, |known| (known.reason.clone(), known.message.clone()));
    match status.phase {
        None => Standing::Unseen,
        Some(ClaimPhase::Waiting) => Standing::Waits(why, message),
        Some(ClaimPhase::Granted) if why == reason::SKIPPED => Standing::DoneAlready(message),
        Some(ClaimPhase::Granted) => Standing::Has(status.token.clone()),
        Some(ClaimPhase::Denied) => {
            let exit = match why.as_str() {
                reason::TIMED_OUT => Exit::TimedOut,
                reason::BUSY => Exit::NotYet,
                _ => Exit::Never,
            };
            Standing::Denied(message, exit)
        }
        Some(ClaimPhase::Expired) => Standing::Lost(message),
        Some(ClaimPhase::Released) => Standing::Over,
    }
}
