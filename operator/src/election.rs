//! Election: which of the replicas works. Load control only.
//!
//! One coordination Lease, of which every replica judges by its own clock: who holds it is the leader until it has not changed for
//! [`LAPSE`], as client-go has it. What must stay true: nothing rests on there being one leader; two at once delay each other and
//! nothing else, and one that does not know yet that it was replaced writes nothing that its successor did not agree to, because
//! each write names a version.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::client::{CallError, call};
use crate::clock::Clock;

/// A leader that was not heard of for so long is replaced.
const LAPSE: Duration = Duration::from_secs(4);
/// One that could not renew for so long stops working, before it is replaced.
const RENEW_DEADLINE: Duration = Duration::from_secs(3);
/// How often it renews, and how often the others look.
const PERIOD: Duration = Duration::from_secs(1);

/// Where it is held, and by whom.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Its name.
    pub lease: String,
    /// Who this is: no other process may have the same.
    pub identity: String,
}

/// What a candidate knows.
struct Race<'a> {
    api: Api<Lease>,
    candidate: &'a Candidate,
    clock: Clock,
    /// The Lease as it was seen last, and when it was first seen so.
    seen: Option<(Lease, Instant)>,
}

/// What is to be done about the Lease as it is.
#[derive(Debug, PartialEq, Eq)]
enum Move {
    /// It is ours: say that we are there.
    Renew,
    /// Nobody holds it, or who did is not heard of.
    Take,
    /// Somebody else holds it.
    Wait,
}

/// Runs for leader for ever, and says through `leads` whether this is it.
pub(crate) async fn run(client: Client, candidate: Candidate, clock: Clock, leads: watch::Sender<bool>) {
    let api = Api::namespaced(client, &candidate.namespace);
    let mut race = Race { api, candidate: &candidate, clock, seen: None };
    let mut renewed: Option<Instant> = None;
    let mut period = tokio::time::interval(PERIOD);
    period.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        period.tick().await;
        let began = Instant::now();
        match tokio::time::timeout(RENEW_DEADLINE, race.once()).await {
            Ok(Ok(true)) => renewed = Some(began),
            Ok(Ok(false)) => renewed = None,
            Ok(Err(error)) => tracing::debug!(%error, "the Lease of the leader could not be asked about"),
            Err(_) => tracing::debug!("the Lease of the leader could not be asked about in time"),
        }
        let is_leader = renewed.is_some_and(|at| at.elapsed() < RENEW_DEADLINE);
        leads.send_if_modified(|leads| {
            let changed = *leads != is_leader;
            if changed && is_leader {
                tracing::info!(identity = candidate.identity, "leads");
            } else if changed {
                tracing::warn!(identity = candidate.identity, "leads no more");
            }
            *leads = is_leader;
            changed
        });
    }
}

/// Gives it back, so that the next one need not wait. Best effort.
pub(crate) async fn resign(client: Client, candidate: &Candidate) {
    let api: Api<Lease> = Api::namespaced(client, &candidate.namespace);
    let given_back = async {
        let Some(mut lease) = call(api.get_opt(&candidate.lease)).await? else { return Ok(()) };
        let ours = |spec: &&mut LeaseSpec| spec.holder_identity.as_ref() == Some(&candidate.identity);
        let Some(spec) = lease.spec.as_mut().filter(ours) else { return Ok(()) };
        spec.holder_identity = None;
        call(api.replace(&candidate.lease, &PostParams::default(), &lease)).await.map(drop)
    };
    let outcome: Result<(), CallError> = given_back.await;
    if let Err(error) = outcome {
        tracing::debug!(%error, "the Lease of the leader could not be given back");
    }
}

impl Race<'_> {
    /// One look, and one write if there is something to write; says whether we hold it now.
    async fn once(&mut self) -> Result<bool, CallError> {
        let name = &self.candidate.lease;
        let Some(lease) = call(self.api.get_opt(name)).await? else {
            let lease = Lease {
                metadata: ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() },
                spec: Some(self.claimed(None)),
            };
            return self.written(call(self.api.create(&PostParams::default(), &lease)).await);
        };
        let version = |lease: &Lease| lease.metadata.resource_version.clone();
        let since = match &self.seen {
            Some((seen, since)) if version(seen) == version(&lease) => *since,
            _ => Instant::now(),
        };
        let next = next(lease.spec.as_ref(), &self.candidate.identity, since.elapsed());
        self.seen = Some((lease.clone(), since));
        if next == Move::Wait {
            return Ok(false);
        }
        let lease = Lease { spec: Some(self.claimed(lease.spec.as_ref())), ..lease };
        self.written(call(self.api.replace(name, &PostParams::default(), &lease)).await)
    }

    /// Somebody else may have been faster.
    fn written(&mut self, answer: Result<Lease, CallError>) -> Result<bool, CallError> {
        match answer {
            Ok(lease) => {
                self.seen = Some((lease, Instant::now()));
                Ok(true)
            }
            Err(error) if error.is_conflict() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// It, held by us from now on.
    fn claimed(&self, before: Option<&LeaseSpec>) -> LeaseSpec {
        let now = Some(MicroTime(self.clock.now()));
        let ours = before.filter(|spec| spec.holder_identity.as_ref() == Some(&self.candidate.identity));
        let transitions = before.map_or(0, |spec| spec.lease_transitions.unwrap_or(0) + 1);
        LeaseSpec {
            holder_identity: Some(self.candidate.identity.clone()),
            lease_duration_seconds: i32::try_from(LAPSE.as_secs()).ok(),
            acquire_time: ours.map_or(now.clone(), |spec| spec.acquire_time.clone()),
            renew_time: now,
            lease_transitions: Some(ours.map_or(transitions, |spec| spec.lease_transitions.unwrap_or(0))),
            ..before.cloned().unwrap_or_default()
        }
    }
}

/// What to do about a Lease that has looked so for so long.
fn next(spec: Option<&LeaseSpec>, identity: &str, unchanged: Duration) -> Move {
    match spec.and_then(|spec| spec.holder_identity.as_deref()) {
        Some(holder) if holder == identity => Move::Renew,
        None | Some("") => Move::Take,
        Some(_) if unchanged >= LAPSE => Move::Take,
        Some(_) => Move::Wait,
    }
}

/// A name that no other process has.
pub(crate) fn identity(instance: Option<&str>) -> String {
    let started = Timestamp::now().as_nanosecond();
    format!("{}_{:x}_{started:x}", instance.unwrap_or("operator"), std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held_by(holder: &str) -> LeaseSpec {
        LeaseSpec { holder_identity: Some(holder.to_owned()), ..LeaseSpec::default() }
    }

    #[test]
    fn who_is_not_heard_of_is_replaced_and_nobody_earlier() {
        let (ours, theirs) = (held_by("a"), held_by("b"));
        assert_eq!(next(Some(&ours), "a", Duration::from_secs(60)), Move::Renew);
        assert_eq!(next(Some(&theirs), "a", LAPSE.saturating_sub(Duration::from_millis(1))), Move::Wait);
        assert_eq!(next(Some(&theirs), "a", LAPSE), Move::Take);
        assert_eq!(next(Some(&held_by("")), "a", Duration::ZERO), Move::Take, "it was given back");
        assert_eq!(next(None, "a", Duration::ZERO), Move::Take);
    }

    #[test]
    fn a_leader_stops_before_it_is_replaced() {
        assert!(RENEW_DEADLINE < LAPSE);
    }
}
