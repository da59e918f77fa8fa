//! Entrance: where somebody stands at one primitive.
//!
//! Types, and what holds for all kinds with a ledger. Each kind says it of itself (`entrance` in its file);
//! [`crate::verdict`] puts together what several of them say.

use jiff::Timestamp;
use konductor_api::conditions::reason;
use konductor_api::ledger::Holder;
use konductor_api::members::MemberKey;
use konductor_api::participation::{PrimitiveRef, Role};

use crate::turn::named;

/// Somebody who asks to pass one primitive.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    /// Which one.
    pub primitive: &'a PrimitiveRef,
    /// As what.
    pub role: Role,
    /// Identity of who takes part.
    pub uid: &'a str,
    /// What a retry would come under.
    pub member: &'a MemberKey,
    /// Since when it waits.
    pub since: Timestamp,
    /// The pod that would be told, and when its waiter started; `None` where it is about the participant as a whole.
    pub pod: Option<(&'a str, Timestamp)>,
    /// Place in the queue, and how many stand there.
    pub place: Option<(usize, usize)>,
    /// The time.
    pub now: Timestamp,
}

/// Where somebody stands at one primitive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entrance {
    /// Through, holding nothing.
    Through,
    /// In the ledger; if it is about a pod, this run of its waiter is the one that the ledger names.
    Held {
        /// Number of the grant.
        run: u64,
        /// The token.
        token: String,
    },
    /// It is in the ledger, which does not name this run of the waiter yet.
    Next {
        /// A sentence.
        message: String,
    },
    /// Not yet.
    Closed {
        /// One of [`reason`].
        reason: &'static str,
        /// A sentence.
        message: String,
        /// Is it because of others? Who does not want to wait is told so.
        busy: bool,
    },
    /// Never.
    Never {
        /// A sentence.
        message: String,
    },
    /// There is nothing left to do.
    Done {
        /// A sentence.
        message: String,
    },
}

/// What holds for all kinds with a ledger. `busy`: would somebody who comes now have to wait for others?
pub(crate) fn held(holders: &[Holder], asker: &Asker<'_>, busy: bool) -> Entrance {
    let own = holders.iter().find(|holder| holder.uid == asker.uid);
    if let Some(own) = own {
        let run = match asker.pod {
            None => Some(0),
            // Not if the ledger does not name this run of the waiter yet.
            Some((pod, started_at)) => own
                .told(pod)
                .filter(|told| told.waiter_started_at.0 == started_at)
                .map(|told| u64::try_from(told.run).unwrap_or(0)),
        };
        if let Some(run) = run {
            return Entrance::Held { run, token: own.token.clone() };
        }
    }
    let place = asker.place.map_or_else(String::new, |(place, of)| format!("place {place} of {of}, "));
    let state = match holders {
        _ if own.is_some() => "it is this one's turn".to_owned(),
        [] => "nobody holds it".to_owned(),
        [only] => format!("held by {} since {}", only.display(), only.granted_at.0),
        several => format!("held by {}", named(several)),
    };
    let message = format!("waits for {}: {place}{state}", asker.primitive);
    if own.is_some() {
        return Entrance::Next { message };
    }
    Entrance::Closed { reason: reason::WAITING, message, busy }
}
