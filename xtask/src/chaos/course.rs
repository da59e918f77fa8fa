//! The order of it all: contention and faults, calm, and the end of the last hold.
//!
//! May touch: what [`drive`](super::drive) and [`faults`] do. What must stay true: the first thing that is wrong
//! ends the faults; calm is judged only after both lanes have restored what they did.

use std::sync::mpsc::channel;
use std::thread::{ScopedJoinHandle, scope, sleep};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use serde_json::Value;

use super::drive::Drive;
use super::faults::{self, Lane};
use super::scene::{Scene, until};
use super::seen::list;
use super::work::{self, NAMESPACE};
use super::{journal, locks, oracle};
use crate::install;

const STEP: Duration = Duration::from_millis(500);
const TELL_EVERY: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// A Job whose pods were killed often backs off for up to six minutes.
const DRAIN: Duration = Duration::from_secs(600);
const SETTLE: Duration = Duration::from_secs(120);

/// When contention ends.
pub(super) struct Enough {
    rounds: usize,
    time: Option<Duration>,
}

impl Enough {
    pub(super) fn new(rounds: usize, minutes: Option<u64>) -> Self {
        Self { rounds, time: minutes.map(|minutes| Duration::from_secs(60 * minutes)) }
    }

    fn is(&self, count: usize, elapsed: Duration) -> bool {
        count >= self.rounds || self.time.is_some_and(|time| elapsed >= time)
    }
}

/// From the first workload to the last release.
pub(super) fn run(scene: &Scene, enough: &Enough, seed: u64) -> Result<()> {
    let (sender, changes) = channel();
    let mut paths: Vec<_> = [work::Form::Job, work::Form::Pod].map(work::collection).to_vec();
    paths.push(format!("/api/v1/namespaces/{NAMESPACE}/events"));
    paths.extend(
        ["mutexes", "rwmutexes", "semaphores", "leases", "onces"]
            .map(|plural| format!("/apis/konductor.io/v1/namespaces/{NAMESPACE}/{plural}")),
    );
    for path in &paths {
        scene.proxy.follow(path, sender.clone());
    }
    drop(sender);
    let say = |words: &str| println!("{:>6.0} s  {words}", scene.begun.elapsed().as_secs_f64());
    let mut drive = Drive::new(scene, seed)?;
    scope(|threads| {
        threads.spawn(move || {
            while !scene.is_over() {
                if let Ok(change) = changes.recv_timeout(STEP) {
                    scene.seen().hear(&change.object);
                }
            }
        });
        let lanes = [Lane::Machines, Lane::Parts]
            .map(|lane| threads.spawn(move || faults::run(scene, lane, seed, say)));
        let driven =
            until_enough(scene, &mut drive, enough, &say, || lanes.iter().any(ScopedJoinHandle::is_finished));
        scene.calm_down();
        say("calm: no more workloads, no more faults");
        let mut outcome = driven;
        for lane in lanes {
            let lane = lane.join().unwrap_or_else(|_| bail!("a lane of faults ended by a panic"));
            outcome = outcome.and(lane);
        }
        let outcome =
            outcome.and_then(|()| scene.until_whole()).and_then(|()| drain(scene, &mut drive, &say));
        scene.end();
        outcome
    })
}

/// Until there were so many hand-overs, or something was wrong.
fn until_enough(
    scene: &Scene,
    drive: &mut Drive<'_>,
    enough: &Enough,
    say: &impl Fn(&str),
    has_ended: impl Fn() -> bool,
) -> Result<()> {
    let (mut told, mut looked) = (Instant::now(), Instant::now());
    loop {
        drive.fill();
        drive.send();
        drive.sweep();
        if looked.elapsed() > LOOK_EVERY {
            looked = Instant::now();
            // While the API is away there is nothing to see.
            let _ = drive.look();
            let _ = metrics(scene);
            let problems = oracle::problems(&scene.journals()?, &scene.seen());
            ensure!(problems.is_empty(), "it went wrong after {:.0?}", scene.begun.elapsed());
        }
        let count: usize = scene.journals()?.values().map(|lines| journal::handovers(lines)).sum();
        if told.elapsed() > TELL_EVERY {
            told = Instant::now();
            let (faults, kinds) = scene.tally().count();
            say(&format!(
                "{count} hand-overs, {} workloads, {faults} faults of {kinds} kinds",
                drive.count()
            ));
        }
        if enough.is(count, scene.begun.elapsed()) {
            return Ok(());
        }
        ensure!(!has_ended(), "the faults ended before the hand-overs did");
        sleep(STEP);
    }
}

/// Everybody gets through, and nothing is left behind.
fn drain(scene: &Scene, drive: &mut Drive<'_>, say: &impl Fn(&str)) -> Result<()> {
    let deadline = Instant::now() + DRAIN;
    loop {
        drive.send();
        let _ = drive.look();
        drive.sweep();
        let open = drive.still_open();
        if open.is_empty() {
            break;
        }
        ensure!(
            Instant::now() < deadline,
            "NoLostWaiter: {DRAIN:?} after the last fault these are not through: {open:?}"
        );
        sleep(STEP);
    }
    say("everybody is through");
    until("ledgers are empty and no finalizer is left", SETTLE, || {
        let pods = scene.pods()?;
        let held = pods.iter().flat_map(|pod| list(&pod["metadata"]["finalizers"]));
        if held
            .into_iter()
            .any(|finalizer| finalizer.as_str().is_some_and(|name| name.starts_with("konductor.io/")))
        {
            return Ok(false);
        }
        for lock in &locks::LOCKS {
            let path = format!("/apis/konductor.io/v1/namespaces/{NAMESPACE}/{}", lock.plural());
            if list(&scene.proxy.get(&path)?["items"]).any(|item| !is_free(&item["status"])) {
                return Ok(false);
            }
        }
        Ok(true)
    })?;
    drive.look()?;
    metrics(scene)
}

fn is_free(status: &Value) -> bool {
    list(&status["holders"]).next().is_none() && status["waiting"].as_u64().unwrap_or_default() == 0
}

/// No operator has refused a write because it would have broken an invariant.
fn metrics(scene: &Scene) -> Result<()> {
    for pod in scene.replicas("controller-manager")? {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        let path = format!("/api/v1/namespaces/{}/pods/{name}:8080/proxy/metrics", install::NAMESPACE);
        // One that starts or ends has none.
        let Ok(text) = scene.proxy.text(&path) else { continue };
        let broken = text.lines().filter(|line| line.starts_with("konductor_invariant_violations_total"));
        for line in broken.filter(|line| !line.ends_with(" 0")) {
            scene.seen().problems.insert(format!("{name} says {line}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_lock_is_free_when_nobody_holds_or_waits() {
        assert!(is_free(&json!(null)) && is_free(&json!({"waiting": 0, "holders": []})));
        assert!(!is_free(&json!({"waiting": 1})) && !is_free(&json!({"holders": [{}]})));
    }
}
