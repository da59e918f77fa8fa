//! The commands that take and give back: lock, unlock, acquire, release, arrive, add, done, renew.
//!
//! May touch: claims, by way of [`super::desk`]; standard error for what people are told meanwhile. What must stay true: what is
//! given back is exactly what this holder took.

#![expect(clippy::print_stderr, reason = "telling people meanwhile is part of it")]

use konductor_api::claim::{Claim, ClaimMode};
use konductor_api::members::Members;
use konductor_api::participation::Kind;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use super::desk::Desk;
use super::identity::Holder;
use super::wanted::{Standing, Wanted, standing};
use crate::args::{Add, Arrive, Connection, Format, Own, Patience, Take};
use crate::cluster::connect;
use crate::exit::Exit;
use crate::live::{LiveError, Told};

/// Takes it.
pub async fn take(to: &Connection, kind: Kind, mode: Option<ClaimMode>, take: Take) -> Told {
    let cluster = connect(to).await?;
    let desk = Desk::of(&cluster);
    let holder = desk.holder(take.who.holder.as_deref()).await?;
    let wanted = Wanted {
        mode,
        permits: take.permits,
        ttl: take.ttl.map(|ttl| ttl.0).filter(|ttl| ttl.as_nanoseconds() > 0),
        ..wanted(kind, &take.name, &take.patience)
    };
    let claim = or_interrupted(&desk, &wanted, &holder).await?;
    let token = claim.status.as_ref().and_then(|status| status.token.clone()).unwrap_or_default();
    let name = claim.metadata.name.clone().unwrap_or_default();
    warn(&wanted, &claim);
    let text = match take.output.or(cluster.output).unwrap_or(Format::Text) {
        Format::Text | Format::Wide => {
            format!("{} is held by {}, token {token}\n", wanted.what(), holder.shown)
        }
        Format::Name => format!("claim.konductor.io/{name}\n"),
        Format::Json | Format::Yaml => {
            let said = json!({"name": wanted.name, "holder": holder.shown, "token": token, "claim": name});
            format!("{said}\n")
        }
    };
    Ok((text, Exit::Done))
}

fn wanted(kind: Kind, name: &str, patience: &Patience) -> Wanted {
    Wanted {
        timeout: patience.timeout.map(|time| time.0),
        priority: patience.priority,
        unbound: patience.unbound,
        ..Wanted::of(kind, name)
    }
}

/// Asks until there is an answer. Whoever is interrupted meanwhile takes the claim away again.
pub(crate) async fn or_interrupted(
    desk: &Desk,
    wanted: &Wanted,
    holder: &Holder,
) -> Result<Claim, LiveError> {
    let broken = |error: std::io::Error| LiveError::Other(error.to_string(), Exit::Error);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(broken)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(broken)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(broken)?;
    let number = tokio::select! {
        answer = desk.ask(wanted, holder, |message| eprintln!("{message}")) => return answer,
        _ = interrupt.recv() => 2,
        _ = terminate.recv() => 15,
        _ = hangup.recv() => 1,
    };
    // As it may have been granted at this very moment, whatever is there goes.
    desk.delete(&holder.claim(wanted.kind, &wanted.name), None).await?;
    Err(LiveError::Other(
        format!("{}: interrupted, and not claimed any more", wanted.what()),
        Exit::Signal(number),
    ))
}

/// What nobody would guess.
fn warn(wanted: &Wanted, claim: &Claim) {
    if claim.spec.pod.is_some() {
        return;
    }
    let name = &wanted.name;
    let renew = format!("koncli {} renew {name}", wanted.kind.lower());
    match (claim.spec.ttl, wanted.kind) {
        (Some(ttl), _) => eprintln!(
            "it is lost {ttl} from now unless it is renewed before: {renew}; koncli run {name} -- CMD renews by itself"
        ),
        (None, Kind::Lease) => eprintln!(
            "it is lost 15s from now, or after the ttl of the Lease, unless it is renewed before: {renew}"
        ),
        (None, _) => eprintln!(
            "it is held until it is given back, or the ttl of the {} is over without a renewal",
            wanted.kind.api_kind()
        ),
    }
}

/// Gives it back.
pub async fn give_back(to: &Connection, kind: Kind, own: Own) -> Told {
    let cluster = connect(to).await?;
    let desk = Desk::of(&cluster);
    let holder = desk.holder(own.who.holder.as_deref()).await?;
    let what = format!("{}/{}", kind.lower(), own.name);
    if desk.delete(&holder.claim(kind, &own.name), None).await? {
        return Ok((format!("{what} was given back by {}\n", holder.shown), Exit::Done));
    }
    let held = match desk.holder_of(kind, &own.name).await {
        Some(other) => format!("; it is held by {other}"),
        None => String::new(),
    };
    Err(LiveError::Other(
        format!(
            "{what}: {} has no claim on it{held}; --holder names another, koncli break ends a hold of others",
            holder.shown
        ),
        Exit::NotFound,
    ))
}

/// Renews it.
pub async fn renew(to: &Connection, kind: Kind, own: Own) -> Told {
    let cluster = connect(to).await?;
    let desk = Desk::of(&cluster);
    let holder = desk.holder(own.who.holder.as_deref()).await?;
    let what = format!("{}/{}", kind.lower(), own.name);
    let claim = desk.renew(&holder.claim(kind, &own.name)).await.map_err(|error| match error {
        kube::Error::Api(status) if status.code == 404 => {
            LiveError::Other(format!("{what}: {} has no claim on it (any more)", holder.shown), Exit::Lost)
        }
        error => crate::live::refused(&what, &error),
    })?;
    match standing(&claim) {
        Standing::Has(_) => Ok((format!("{what} is still held by {}\n", holder.shown), Exit::Done)),
        Standing::Waits(_, message) => {
            Err(LiveError::Other(format!("{what} is not held yet: it {message}"), Exit::NotYet))
        }
        Standing::Lost(message) | Standing::Denied(message, _) | Standing::DoneAlready(message) => {
            Err(LiveError::Other(format!("{what} is lost: {message}"), Exit::Lost))
        }
        Standing::Unseen | Standing::Over => {
            Err(LiveError::Other(format!("{what} is not held by {}", holder.shown), Exit::Lost))
        }
    }
}

/// Arrives at a barrier.
pub async fn arrive(to: &Connection, arrive: Arrive) -> Told {
    let cluster = connect(to).await?;
    let desk = Desk::of(&cluster);
    let named = arrive.arrival.as_deref().or(arrive.who.holder.as_deref());
    let holder = desk.holder(named).await?;
    let wanted = Wanted {
        mode: Some(ClaimMode::Arrive),
        unbound: arrive.unbound,
        ..Wanted::of(Kind::Barrier, &arrive.name)
    };
    or_interrupted(&desk, &wanted, &holder).await?;
    Ok((format!("{} has arrived at {}\n", holder.shown, wanted.what()), Exit::Done))
}

/// Adds members to a wait group.
pub async fn add(to: &Connection, add: Add) -> Told {
    if add.delta < 1 {
        let said = "--delta says how many members are added, at least 1; koncli waitgroup done NAME says that one is through";
        return Err(LiveError::Other(said.to_owned(), Exit::Usage));
    }
    let cluster = connect(to).await?;
    let desk = Desk::of(&cluster);
    let holder = desk.holder(add.who.holder.as_deref()).await?;
    let wanted = Wanted { unbound: add.unbound, ..Wanted::of(Kind::WaitGroup, &add.name) };
    let mut text = String::new();
    for number in 1..=add.delta {
        let member = holder.numbered(number);
        or_interrupted(&desk, &wanted, &member).await?;
        text.extend([member.shown.as_str(), " is a member of ", &wanted.what(), "\n"]);
    }
    Ok((text, Exit::Done))
}

/// Says that a member is through: the first of this holder that is not.
pub async fn done(to: &Connection, own: Own) -> Told {
    let cluster = connect(to).await?;
    let desk = Desk::of(&cluster);
    let holder = desk.holder(own.who.holder.as_deref()).await?;
    let what = format!("waitgroup/{}", own.name);
    let group = crate::live::get(&cluster, Kind::WaitGroup, &own.name).await?;
    let members = |path: &str| -> Members {
        group.pointer(path).cloned().and_then(|value| serde_json::from_value(value).ok()).unwrap_or_default()
    };
    let has =
        |members: &Members, claim: &str| members.iter().any(|key| key.display() == format!("claim/{claim}"));
    let (open, through) = (members("/status/open"), members("/status/done"));
    let mut number = 1;
    loop {
        let member = holder.numbered(number);
        let claim = member.claim(Kind::WaitGroup, &own.name);
        if desk.delete(&claim, None).await? {
            return Ok((format!("{} is through with {what}\n", member.shown), Exit::Done));
        }
        if !has(&open, &claim) && !has(&through, &claim) {
            break;
        }
        number += 1;
    }
    if number > 1 {
        return Ok((format!("{} is through with {what} already\n", holder.shown), Exit::Done));
    }
    Err(LiveError::Other(
        format!(
            "{what}: {} is no member of it; koncli waitgroup add {} makes it one",
            holder.shown, own.name
        ),
        Exit::NotFound,
    ))
}
