//! Run: a command that runs while locks are held, and never longer.
//!
//! The way through: the claims are asked for in the one order, each kept by a [`keep::Keeper`] from the moment it is granted; then
//! the command is started ([`child`]) under the eyes of a [`guard`], a process of its own that kills it when time is up or we
//! are gone; when it has ended the claims are given back. What must stay true: before a hold can be lost the command is dead,
//! whatever becomes of this process: killed, stopped, asleep with its machine, or cut off.

pub mod child;
pub mod guard;
pub mod keep;

use std::time::Duration;

use jiff::Timestamp;
use konductor_api::claim::{Claim, ClaimOutcome, LEASE_TTL};
use konductor_api::duration::GoDuration;
use konductor_api::participation::Kind;

use crate::args::{Connection, Lock, RunWith};
use crate::claims::desk::Desk;
use crate::claims::identity::Holder;
use crate::claims::verbs::or_interrupted;
use crate::claims::wanted::{Standing, Wanted, standing};
use crate::cluster::connect;
use crate::exit::Exit;
use crate::live::{LiveError, Told};
use child::Ended;
use keep::Keeper;

/// Of a hold that nothing else is said of.
const TTL: GoDuration = GoDuration::from_seconds(30);
/// How long giving back may take when the command is dead, and the hold perhaps lost.
const FAREWELL: Duration = Duration::from_secs(5);

/// What is held while it runs.
struct Held {
    wanted: Wanted,
    claim: Claim,
    keeper: Keeper,
}

/// Runs a command while holding all of those.
pub async fn run(to: &Connection, mut locks: Vec<Lock>, with: RunWith) -> Told {
    locks.sort();
    if let Some(twice) =
        locks.windows(2).find(|pair| pair[0].kind == pair[1].kind && pair[0].name == pair[1].name)
    {
        let said = format!("{}/{} is named twice", twice[0].kind.lower(), twice[0].name);
        return Err(LiveError::Other(said, Exit::Usage));
    }
    let wanted = locks
        .iter()
        .map(|lock| Wanted {
            mode: lock.mode(),
            permits: lock.permits,
            ..wanted(lock.kind, &lock.name, &with)
        })
        .collect();
    while_held(to, wanted, with).await
}

/// Runs a command while holding one.
pub async fn run_one(to: &Connection, kind: Kind, name: &str, with: RunWith) -> Told {
    while_held(to, vec![wanted(kind, name, &with)], with).await
}

fn wanted(kind: Kind, name: &str, with: &RunWith) -> Wanted {
    let default = if kind == Kind::Lease { LEASE_TTL } else { TTL };
    Wanted {
        // Nothing gives a Once back by time.
        ttl: (kind != Kind::Once).then(|| with.ttl.map_or(default, |ttl| ttl.0)),
        timeout: with.patience.timeout.map(|time| time.0),
        priority: with.patience.priority,
        unbound: with.patience.unbound,
        ..Wanted::of(kind, name)
    }
}

async fn while_held(to: &Connection, wanted: Vec<Wanted>, with: RunWith) -> Told {
    let cluster = connect(to).await?;
    let desk = std::sync::Arc::new(Desk::of(&cluster));
    // Two runs of one user on one machine are two holders, unless somebody says otherwise.
    let holder = match with.who.holder.as_deref() {
        Some(name) => Holder::named(name),
        None => desk.holder(None).await?.of_this_process(Timestamp::now()),
    };
    let mut held: Vec<Held> = Vec::new();
    for wanted in wanted {
        match one(&desk, wanted, &holder, &held).await {
            Ok(Taken::Held(one)) => held.push(*one),
            Ok(Taken::DoneAlready(message)) => {
                give_back(&desk, held, None).await?;
                return Ok((format!("{message}\n"), Exit::Done));
            }
            Err(error) => {
                // The first reason is the one to tell.
                let _ = give_back(&desk, held, None).await;
                return Err(error);
            }
        }
    }
    let tokens: Vec<_> =
        held.iter().map(|held| (held.wanted.kind, held.wanted.name.as_str(), token(&held.claim))).collect();
    let ttl = held.iter().filter_map(|held| held.wanted.ttl).min();
    let keepers: Vec<_> = held.iter().map(|held| &held.keeper).collect();
    let ended = child::run(&with.command, &tokens, ttl, &keepers).await;
    let lost = matches!(ended, Ok(Ended::Fenced(_)));
    let outcome = match &ended {
        Ok(Ended::Itself(exit)) if exit.code() == 0 => ClaimOutcome::Succeeded,
        _ => ClaimOutcome::Failed,
    };
    let given = if lost {
        // The command is dead: whoever comes next need not wait for the ttl, if anybody answers.
        let _ = tokio::time::timeout(FAREWELL, give_back(&desk, held, Some(outcome))).await;
        Ok(())
    } else {
        give_back(&desk, held, Some(outcome)).await
    };
    match ended? {
        Ended::Fenced(why) => Err(LiveError::Other(format!("the command was ended: {why}"), Exit::Lost)),
        Ended::Itself(exit) => given.map(|()| (String::new(), exit)),
    }
}

enum Taken {
    Held(Box<Held>),
    DoneAlready(String),
}

/// Takes one more. Whoever loses what was taken before meanwhile need not wait for it.
async fn one(
    desk: &std::sync::Arc<Desk>,
    wanted: Wanted,
    holder: &Holder,
    held: &[Held],
) -> Result<Taken, LiveError> {
    let claim = tokio::select! {
        claim = or_interrupted(desk, &wanted, holder) => claim?,
        why = keep::first_lost(held.iter().map(|held| &held.keeper)) => {
            desk.delete(&holder.claim(wanted.kind, &wanted.name), None).await?;
            return Err(LiveError::Other(why, Exit::Lost));
        }
    };
    if let Standing::DoneAlready(message) = standing(&claim) {
        let name = claim.metadata.name.as_deref().unwrap_or_default();
        desk.delete(name, claim.metadata.uid.as_deref()).await?;
        return Ok(Taken::DoneAlready(message));
    }
    let keeper = Keeper::start(std::sync::Arc::clone(desk), &wanted, &claim);
    keeper.confirmed().await.map_err(|why| LiveError::Other(why, Exit::Lost))?;
    Ok(Taken::Held(Box::new(Held { wanted, claim, keeper })))
}

/// Gives everything back, the last one first. `outcome`: how it went, if the command has run.
async fn give_back(desk: &Desk, held: Vec<Held>, outcome: Option<ClaimOutcome>) -> Result<(), LiveError> {
    let mut first = Ok(());
    for held in held.into_iter().rev() {
        held.keeper.stop();
        let name = held.claim.metadata.name.as_deref().unwrap_or_default();
        if let Some(outcome) = outcome.filter(|_| held.wanted.kind == Kind::Once)
            && let Err(error) = desk.conclude(&held.claim, outcome).await
        {
            first = first.and(Err(error));
        }
        if let Err(error) = desk.delete(name, held.claim.metadata.uid.as_deref()).await {
            first = first.and(Err(error));
        }
    }
    first
}

fn token(claim: &Claim) -> String {
    claim.status.as_ref().and_then(|status| status.token.clone()).unwrap_or_default()
}
