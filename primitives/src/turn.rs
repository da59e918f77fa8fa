//! A turn at a ledger: who leaves, who waits, who enters. What all kinds share that can be held.
//!
//! A step of such a kind is one turn: [`Turn::begin`] takes out whoever is proven gone and lines up whoever waits,
//! [`Turn::admit`] lets in whom the kind's own rule allows, [`Turn::finish`] writes down the rest. Everything that is legal
//! together happens in one step, so in one write. What must stay true: nobody leaves but by [`crate::hold`]
//! (`ReleaseNeedsEvidence`); everybody who enters gets a token above all before (`TokenMonotone`); nobody is passed over
//! who could have entered (`PriorityRespected`), unless the kind's rule says so.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use konductor_api::conditions::reason;
use konductor_api::ledger::{ENTRIES, HISTORY_KEPT, Held, Holder, Release};

use crate::describe::{self, Says, describe};
use crate::facts::to_the_second;
use crate::hold::{self, Ending, Fate};
use crate::snapshot::{Participant, Snapshot};
use crate::step::{Lookup, Step, Withdrawal};
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
    queue: Vec<&'a Participant>,
    lookups: Vec<Lookup>,
    withdrawals: Vec<Withdrawal>,
    trouble: Option<(&'static str, String)>,
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
    pub(crate) fn begin(snapshot: &'a Snapshot<P>, metadata: &'a ObjectMeta, before: Option<&S>) -> Self {
        let mut status = before.cloned().unwrap_or_default();
        let holders = std::mem::take(&mut status.ledger_mut().holders);
        // Without random: the same snapshot gives the same step.
        let mut known: HashMap<&str, Option<&Participant>, BuildHasherDefault<DefaultHasher>> =
            holders.iter().map(|holder| (holder.uid.as_str(), None)).collect();
        let mut queue = Vec::new();
        for participant in &snapshot.participants {
            match known.get_mut(participant.uid.as_str()) {
                Some(found) => *found = Some(participant),
                None if participant.waits() && !participant.gave_up(snapshot.now) => queue.push(participant),
                None => {}
            }
        }
        queue.sort_by(|left, right| left.key.cmp(&right.key));
        let (mut lookups, mut withdrawals, mut ended, mut stay) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for holder in &holders {
            let participant = known.get(holder.uid.as_str()).copied().flatten();
            match hold::judge(holder, participant, snapshot, &mut lookups) {
                Fate::Stays(holder) => stay.push(holder),
                Fate::EndsAfter(needed) => {
                    withdrawals.extend(needed);
                    stay.push(holder.clone());
                }
                Fate::Ends(ending) => ended.push((holder.clone(), ending)),
            }
        }
        let ledger = status.ledger_mut();
        ledger.holders = stay;
        for (holder, ending) in &ended {
            ledger.history.insert(0, release(holder, *ending, snapshot));
        }
        ledger.history.truncate(HISTORY_KEPT.max(ended.len()));
        Self { snapshot, status, ended, metadata, queue, lookups, withdrawals, trouble: None }
    }

    /// Who holds, as it stands so far.
    pub(crate) fn holders(&self) -> &[Holder] {
        &self.status.ledger().holders
    }

    /// Who waits, the next one first.
    pub(crate) fn queue(&self) -> &[&'a Participant] {
        &self.queue
    }

    /// Asks the kind's rule about everybody who could start now, in the order of the queue. Who cannot start stands in
    /// nobody's way. Into what is being deleted nobody enters.
    pub(crate) fn admit(&mut self, mut may: impl FnMut(&[Holder], &Participant) -> May) {
        if self.metadata.deletion_timestamp.is_some() {
            return;
        }
        let mut queue = std::mem::take(&mut self.queue).into_iter();
        for candidate in queue.by_ref() {
            let says = if candidate.can_start() { may(self.holders(), candidate) } else { May::PassOver };
            if says == May::Enter && self.enter(candidate) {
                continue;
            }
            self.queue.push(candidate);
            if says != May::PassOver {
                break;
            }
        }
        self.queue.extend(queue);
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
        ledger.holders.push(Holder {
            kind: next.kind,
            name: next.name.clone(),
            uid: next.uid.clone(),
            token,
            granted_at: to_the_second(self.snapshot.now),
            mode: describe::mode(next.role),
            permits: describe::permits(next.role),
            pods: next.pods.iter().filter_map(hold::told_now).collect(),
            suspect: None,
        });
        true
    }

    /// Writes down what is left to be said. Only the kind knows `says`; that a person must act, because of the ledger,
    /// is added here.
    pub(crate) fn finish(mut self, says: impl FnOnce(&mut S, &[&Participant]) -> Says) -> Step<S> {
        let mut says = says(&mut self.status, &self.queue);
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
        describe(self.status.common_mut(), self.metadata, &self.queue, says, self.snapshot.now);
        Step {
            order: self.queue.iter().map(|participant| participant.uid.clone()).collect(),
            status: self.status,
            lookups: self.lookups,
            withdrawals: self.withdrawals,
            wake_at: None,
        }
    }
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
