//! A turn at a ledger: who leaves, who waits, who enters. What all kinds share that can be held.
//!
//! A step of such a kind is one turn: [`Turn::begin`] takes out whoever is proven gone and lines up whoever waits,
//! [`Turn::admit`] lets in whom the kind's own rule allows, [`Turn::finish`] writes down the rest. Everything that is legal
//! together happens in one step, so in one write. What must stay true: nobody leaves but by [`crate::hold`]
//! (`ReleaseNeedsEvidence`); everybody who enters gets a token above all before (`TokenMonotone`); nobody is passed over
//! who could have entered (`PriorityRespected`), unless the kind's rule says so.

use std::collections::HashMap;

use foldhash::fast::FixedState;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use konductor_api::annotations;
use konductor_api::conditions::reason;
use konductor_api::duration::GoDuration;
use konductor_api::ledger::{ENTRIES, HISTORY_KEPT, Held, Holder, ParticipantKind, Release};

use crate::describe::{self, Says, describe};
use crate::facts::to_the_second;
use crate::hold::{self, Ending, Fate};
use crate::reservation;
use crate::silence;
use crate::snapshot::{Participant, Snapshot, Waiting, order, sort};
use crate::step::{Expiry, Lookup, Step, Withdrawal};
use crate::token;

/// A step of a kind with a ledger, under way.
pub(crate) struct Turn<'a, P, S> {
    /// What it is decided on.
    pub(crate) snapshot: &'a Snapshot<P>,
    /// The status as it stands so far.
    pub(crate) status: S,
    /// Who left.
    pub(crate) ended: Vec<(Holder, Ending)>,
    metadata: &'a ObjectMeta,
    line: Vec<Waiting<'a>>,
    lookups: Vec<Lookup>,
    withdrawals: Vec<Withdrawal>,
    expiries: Vec<Expiry>,
    trouble: Option<(&'static str, String)>,
    wake_at: Option<Timestamp>,
}

/// What a kind's rule says to one candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum May {
    /// Come in.
    Enter,
    /// Not you, but perhaps somebody behind you.
    PassOver,
    /// Neither you nor anybody behind you.
    Stop,
}

impl<'a, P, S: Held> Turn<'a, P, S> {
    /// Who is proven gone has left, and who waits stands in line.
    /// `ttl`: how long nothing may be heard of a pod that holds.
    pub(crate) fn begin(
        snapshot: &'a Snapshot<P>,
        metadata: &'a ObjectMeta,
        before: Option<&S>,
        ttl: Option<GoDuration>,
    ) -> Self {
        let mut status = before.cloned().unwrap_or_default();
        let ledger = status.ledger_mut();
        let (known, mut line, mut in_order) = part(snapshot, &ledger.holders);
        let others_could_start = line.iter().any(|waiting| waiting.who.can_start());
        let (mut lookups, mut withdrawals, mut expiries, mut ended, mut stay) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::with_capacity(ledger.holders.len()));
        let mut wake_at = None;
        let breaking = metadata.annotations.as_ref().and_then(|all| all.get(annotations::BREAK));
        for (holder, known) in std::mem::take(&mut ledger.holders).into_iter().zip(known) {
            let participant = known.map(|known| known.who);
            let in_vain = reservation::in_vain_from(&holder, participant).filter(|_| others_could_start);
            if let Some(from) = in_vain {
                if from <= snapshot.now {
                    // It waits on in its old place, and stands in nobody's way until its waiter runs.
                    line.extend(known.filter(|known| is_in_line(known.who, snapshot)));
                    in_order = false;
                    ended.push((holder, reservation::TAKEN_BACK));
                    continue;
                }
                wake_at = Some(wake_at.map_or(from, |earlier: Timestamp| earlier.min(from)));
            }
            let lost_at = participant.and_then(|who| who.claim.as_ref()?.lost_at(snapshot.now));
            let lost_at = lost_at.into_iter().chain(silences(&holder, participant, ttl, snapshot.now));
            wake_at = lost_at.filter(|at| *at > snapshot.now).chain(wake_at).min();
            let broken = breaking.is_some_and(|token| *token == holder.token);
            match hold::judge(&holder, participant, broken, ttl, snapshot, &mut lookups) {
                Fate::Stays => stay.push(holder),
                Fate::Changes(changed) => stay.push(changed),
                Fate::EndsAfter(needed) => {
                    withdrawals.extend(needed);
                    stay.push(holder);
                }
                Fate::EndsAfterExpiry(needed) => {
                    expiries.push(needed);
                    stay.push(holder);
                }
                Fate::Ends(ending) => ended.push((holder, ending)),
            }
        }
        ledger.holders = stay;
        if !in_order {
            sort(&mut line);
        }
        for (holder, ending) in &ended {
            ledger.history.insert(0, release(holder, *ending, snapshot));
        }
        ledger.history.truncate(HISTORY_KEPT.max(ended.len()));
        Self {
            snapshot,
            status,
            ended,
            metadata,
            line,
            lookups,
            withdrawals,
            expiries,
            trouble: None,
            wake_at,
        }
    }

    /// Who holds, as it stands so far.
    pub(crate) fn holders(&self) -> &[Holder] {
        &self.status.ledger().holders
    }

    /// Who waits, the next one first.
    pub(crate) fn line(&self) -> impl Iterator<Item = &'a Participant> + '_ {
        self.line.iter().map(|waiting| waiting.who)
    }

    /// Asks the kind's rule about everybody who could start now, in the order of the queue. Who cannot start stands in
    /// nobody's way. Into what is being deleted nobody enters.
    pub(crate) fn admit(&mut self, mut may: impl FnMut(&[Holder], &Participant) -> May) {
        if self.metadata.deletion_timestamp.is_some() {
            return;
        }
        let mut line = std::mem::take(&mut self.line).into_iter();
        for next in line.by_ref() {
            let says = if next.who.can_start() { may(self.holders(), next.who) } else { May::PassOver };
            if says == May::Enter && self.enter(next.who) {
                continue;
            }
            self.line.push(next);
            if says != May::PassOver {
                break;
            }
        }
        self.line.extend(line);
    }

    /// The entry of somebody new; says whether there could be one.
    fn enter(&mut self, next: &Participant) -> bool {
        let version = self.metadata.resource_version.as_deref().unwrap_or_default();
        let ledger = self.status.ledger_mut();
        if ledger.holders.len() >= ENTRIES {
            let message = format!(
                "{ENTRIES} entries are as many as fit into the object; whoever waits goes on when some have ended"
            );
            self.trouble = Some((reason::LEDGER_FULL, message));
            return false;
        }
        let token = match token::next(ledger.last_token.as_deref(), version) {
            Ok(token) => token.to_string(),
            Err(error) => {
                self.trouble = Some((reason::NO_TOKEN, error.to_string()));
                return false;
            }
        };
        ledger.last_token = Some(token.clone());
        let pods: Vec<_> = next.pods.iter().filter_map(hold::told_now).collect();
        ledger.holders.push(Holder {
            kind: next.kind,
            name: next.name.clone(),
            uid: next.uid.clone(),
            token,
            granted_at: to_the_second(self.snapshot.now),
            mode: describe::mode(next.role),
            permits: describe::permits(next.role),
            holder: next.claim.as_ref().map(|claim| claim.holder.clone()),
            pod: next.claim.as_ref().and_then(|claim| claim.pod.clone()),
            reserved: next.kind == ParticipantKind::Job && pods.is_empty(),
            pods,
            suspect: None,
        });
        true
    }

    /// Writes down what is left to be said. Only the kind knows `says`; that a person must act, because of the ledger,
    /// is added here.
    pub(crate) fn finish(mut self, says: impl FnOnce(&mut S) -> Says) -> Step<S> {
        let mut says = says(&mut self.status);
        let suspect = || {
            let mut suspects =
                self.status.ledger().holders.iter().filter_map(|holder| holder.suspect.clone());
            let first = suspects.next()?;
            Some((
                reason::HOLDER_SUSPECT,
                match suspects.count() {
                    0 => first,
                    others => format!("{first} ({others} more holders are in doubt)"),
                },
            ))
        };
        says.stalled = self.trouble.take().or(says.stalled).or_else(suspect);
        describe(self.status.common_mut(), self.metadata, &self.line, says, self.snapshot.now);
        Step {
            order: order(&self.line),
            status: self.status,
            lookups: self.lookups,
            withdrawals: self.withdrawals,
            expiries: self.expiries,
            wake_at: self.wake_at,
        }
    }
}

/// When each pod that holds will be lost, if nothing is heard of it.
fn silences(
    holder: &Holder,
    participant: Option<&Participant>,
    ttl: Option<GoDuration>,
    now: Timestamp,
) -> impl Iterator<Item = Timestamp> {
    let told = holder.pods.iter().filter(move |_| ttl.is_some());
    told.filter_map(move |told| silence::lost_at(participant?.pod(&told.uid)?, told, ttl, now))
}

/// Does somebody stand in line who holds nothing?
fn is_in_line<P>(who: &Participant, snapshot: &Snapshot<P>) -> bool {
    who.waits() && !who.gave_up(snapshot.now)
}

/// Who each holder is, if the snapshot has it, and who waits; and whether those stand in their order already. Asked here,
/// where each is looked at anyway: there may be ten thousand.
fn part<'a, P>(
    snapshot: &'a Snapshot<P>,
    holders: &[Holder],
) -> (Vec<Option<Waiting<'a>>>, Vec<Waiting<'a>>, bool) {
    // Without random: the same snapshot gives the same step.
    let places: HashMap<&str, usize, FixedState> =
        holders.iter().enumerate().map(|(place, holder)| (holder.uid.as_str(), place)).collect();
    let mut known = vec![None; holders.len()];
    let (mut line, mut in_order): (Vec<Waiting<'a>>, bool) = (Vec::new(), true);
    for (at, who) in snapshot.participants.iter().enumerate() {
        match places.get(who.uid.as_str()).map(|place| known.get_mut(*place)) {
            Some(Some(known)) => *known = Some(Waiting { at, who }),
            None if is_in_line(who, snapshot) => {
                in_order &= line.last().is_none_or(|last| last.who.key < who.key);
                line.push(Waiting { at, who });
            }
            Some(None) | None => {}
        }
    }
    (known, line, in_order)
}

fn release<P>(holder: &Holder, ending: Ending, snapshot: &Snapshot<P>) -> Release {
    Release {
        holder: holder.display(),
        uid: holder.uid.clone(),
        token: holder.token.clone(),
        evidence: ending.evidence,
        at: to_the_second(snapshot.now),
    }
}

/// `job/a`, or `job/a and 4 others`.
pub(crate) fn named(holders: &[Holder]) -> String {
    match holders {
        [] => "nobody".to_owned(),
        [only] => only.display(),
        [first, second] => format!("{} and {}", first.display(), second.display()),
        [first, others @ ..] => format!("{} and {} others", first.display(), others.len()),
    }
}
