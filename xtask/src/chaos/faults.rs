//! The faults: which there are, in what order they come, and when each is over.
//!
//! Two lanes run side by side, one with what happens to machines and the control plane, one with what happens to Konductor
//! and the workloads, so that faults of both meet. What must stay true: each lane does one thing at a time and goes on
//! when the cluster has recovered from it; a seed gives the same order of faults again, whatever the cluster makes of it.

pub(super) mod konductor;
pub(super) mod machines;
pub(super) mod workloads;

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::journal;
use super::random::Random;
use super::scene::{Scene, until};

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    ApiServerKilled,
    EtcdKilled,
    ControllersKilled,
    SchedulerKilled,
    FirstKubeletStopped,
    KubeletStopped,
    ContainerdRestarted,
    ProxyRestarted,
    CutOff,
    PowerCycled,
    PowerLost,
    OperatorDeleted,
    OperatorKilled,
    OperatorsKilled,
    OperatorStopped,
    OperatorReset,
    OperatorCutOff,
    WebhookDeleted,
    WebhooksGone,
    HolderDeleted,
    HolderForced,
    HolderEvicted,
    HolderKilled,
    HolderSandboxLost,
    WaiterDeleted,
    WaiterSandboxLost,
    JobDeleted,
}

/// One after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    Machines,
    Parts,
}

/// What was done, and what shows that it is over.
pub(super) struct Done {
    /// To whom.
    pub(super) what: String,
    pub(super) until: Until,
}

/// When the cluster has recovered.
pub(super) enum Until {
    /// All of it works, and one more hold begins.
    Whole,
    /// Konductor serves, and one more hold begins.
    Serving,
    /// Somebody holds that object under a token that is none of those so far.
    NextHold { object: String, tokens: Vec<u64> },
    /// There is no such pod.
    Gone { pod: String },
}

impl Fault {
    /// All of them.
    pub(super) const ALL: [Self; 27] = [
        Self::ApiServerKilled,
        Self::EtcdKilled,
        Self::ControllersKilled,
        Self::SchedulerKilled,
        Self::FirstKubeletStopped,
        Self::KubeletStopped,
        Self::ContainerdRestarted,
        Self::ProxyRestarted,
        Self::CutOff,
        Self::PowerCycled,
        Self::PowerLost,
        Self::OperatorDeleted,
        Self::OperatorKilled,
        Self::OperatorsKilled,
        Self::OperatorStopped,
        Self::OperatorReset,
        Self::OperatorCutOff,
        Self::WebhookDeleted,
        Self::WebhooksGone,
        Self::HolderDeleted,
        Self::HolderForced,
        Self::HolderEvicted,
        Self::HolderKilled,
        Self::HolderSandboxLost,
        Self::WaiterDeleted,
        Self::WaiterSandboxLost,
        Self::JobDeleted,
    ];

    /// For people.
    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::ApiServerKilled => "API server: SIGKILL, away for 2 to 10 s",
            Self::EtcdKilled => "etcd: SIGKILL, away for 1 to 6 s",
            Self::ControllersKilled => "controller manager: SIGKILL, away for 2 to 15 s",
            Self::SchedulerKilled => "scheduler: SIGKILL, away for 2 to 15 s",
            Self::FirstKubeletStopped => "kubelet of the first node: away for 5 to 30 s",
            Self::KubeletStopped => "kubelet of the second node: away for 5 to 60 s",
            Self::ContainerdRestarted => "containerd of the second node: SIGKILL and restart",
            Self::ProxyRestarted => "kube-proxy of the first node: SIGKILL and restart",
            Self::CutOff => "second node: cut off for 10 to 60 s",
            Self::PowerCycled => "second node: power cut, back after up to 15 s",
            Self::PowerLost => "second node: power cut, declared out of service, back later",
            Self::OperatorDeleted => "operator: a replica deleted",
            Self::OperatorKilled => "operator: a replica SIGKILLed",
            Self::OperatorsKilled => "operator: all replicas SIGKILLed",
            Self::OperatorStopped => "operator: SIGSTOP for 5 to 30 s, then SIGCONT",
            Self::OperatorReset => "operator: its connections to the API reset for 1 to 3 s",
            Self::OperatorCutOff => "operator: its packets to the API dropped for 5 to 25 s",
            Self::WebhookDeleted => "webhook: a replica deleted",
            Self::WebhooksGone => "webhook: all replicas away for 3 to 10 s",
            Self::HolderDeleted => "pod that holds: deleted",
            Self::HolderForced => "pod that holds: force-deleted",
            Self::HolderEvicted => "pod that holds: evicted through the API",
            Self::HolderKilled => "pod that holds: its container SIGKILLed",
            Self::HolderSandboxLost => "pod that holds: its sandbox SIGKILLed",
            Self::WaiterDeleted => "pod that waits: deleted",
            Self::WaiterSandboxLost => "pod that waits: its sandbox SIGKILLed",
            Self::JobDeleted => "Job whose pod runs: deleted in the background",
        }
    }

    pub(super) fn lane(self) -> Lane {
        if self <= Self::PowerLost { Lane::Machines } else { Lane::Parts }
    }

    /// Does it. `None`: there was nobody to do it to.
    fn inject(self, scene: &Scene, random: &mut Random) -> Result<Option<Done>> {
        match self {
            _ if self.lane() == Lane::Machines => machines::inject(self, scene, random).map(Some),
            _ if self <= Self::WebhooksGone => konductor::inject(self, scene, random),
            _ => workloads::inject(self, scene, random),
        }
    }
}

/// For how long it may take to recover: a Job backs off for up to six minutes.
const PATIENCE: Duration = Duration::from_secs(480);

impl Until {
    /// Waits for it; without chaos nobody may be left who would take the lock next.
    fn comes(&self, scene: &Scene) -> Result<bool> {
        match self {
            Self::Whole => scene.until_whole().and_then(|()| goes_on(scene)),
            Self::Serving => scene.until_serving().and_then(|()| goes_on(scene)),
            Self::NextHold { object, tokens } => {
                until(&format!("somebody holds {object}"), PATIENCE, || {
                    let journals = scene.journals()?;
                    let mut lines = journals.get(object).into_iter().flatten();
                    Ok(scene.is_calm()
                        || is_taken_over(object)
                        || lines.any(|line| line.token.is_some_and(|token| !tokens.contains(&token))))
                })?;
                Ok(!scene.is_calm() && !is_taken_over(object))
            }
            Self::Gone { pod } => {
                until(&format!("{pod} is gone"), PATIENCE, || {
                    Ok(!scene.pods()?.iter().any(|known| known["metadata"]["name"] == **pod))
                })?;
                Ok(true)
            }
        }
    }
}

/// Waits until one more hold than there are now has begun: that a part is ready does not say that it works.
fn goes_on(scene: &Scene) -> Result<bool> {
    let count =
        || -> Result<usize> { Ok(scene.journals()?.values().map(|lines| journal::holds(lines).len()).sum()) };
    let before = count()?;
    until("one more hold begins", PATIENCE, || Ok(scene.is_calm() || count()? > before))?;
    Ok(!scene.is_calm())
}

/// After a success nobody holds a Once any more.
fn is_taken_over(object: &str) -> bool {
    object.starts_with("schema-")
}

/// Goes through all faults of a lane, again and again in another order, until it is calm.
pub(super) fn run(scene: &Scene, lane: Lane, seed: u64, say: impl Fn(&str)) -> Result<()> {
    let mut random = Random::new(seed, if lane == Lane::Machines { 1 } else { 2 });
    loop {
        let mut deck: Vec<_> = Fault::ALL.into_iter().filter(|fault| fault.lane() == lane).collect();
        random.shuffle(&mut deck);
        for fault in deck {
            // The loss of a machine stops more than half of all hand-overs for a while.
            let pause = if lane == Lane::Machines { random.seconds(5, 25) } else { random.seconds(2, 8) };
            rest(scene, pause);
            if scene.is_calm() {
                return Ok(());
            }
            // Whatever it draws, the next fault has numbers of its own.
            let draws = u64::try_from(random.below(usize::MAX)).unwrap_or_default();
            one(scene, fault, &mut Random::new(draws, 0), &say)?;
        }
    }
}

fn one(scene: &Scene, fault: Fault, random: &mut Random, say: &impl Fn(&str)) -> Result<()> {
    let done = match fault.inject(scene, random) {
        Ok(Some(done)) => done,
        Ok(None) => return Ok(()),
        // The other lane may have taken away what it needs.
        Err(error) => {
            say(&format!("{}: not this time: {error:#}", fault.title()));
            return if fault.lane() == Lane::Machines { scene.until_whole() } else { scene.until_serving() };
        }
    };
    let lifted = Instant::now();
    let recovered = done.until.comes(scene)?;
    let took = lifted.elapsed();
    let shown =
        if recovered { format!("recovered in {:.1} s", took.as_secs_f64()) } else { "over".to_owned() };
    say(&format!("{} ({}): {shown}", fault.title(), done.what));
    scene.tally().fault(fault, recovered.then_some(took));
    Ok(())
}

/// A while without faults.
fn rest(scene: &Scene, time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end && !scene.is_calm() {
        sleep(Duration::from_millis(100));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_lane_and_a_title_of_its_own() {
        let mut titles: Vec<_> = Fault::ALL.iter().map(|fault| fault.title()).collect();
        titles.sort_unstable();
        titles.dedup();
        assert_eq!(titles.len(), Fault::ALL.len());
        let machines = Fault::ALL.iter().filter(|fault| fault.lane() == Lane::Machines).count();
        assert_eq!((machines, Fault::ALL.len() - machines), (11, 16));
    }
}
