//! What really ran when, by the word of the kubelet.
//!
//! Records the start and end of every run of the app containers of a namespace, from the statuses of its pods, so that
//! a pod that is gone at the end of the test is not forgotten. The kubelet's times have seconds, cut: of two runs that
//! do not overlap the later one starts in the second in which the earlier one ended, or after it. An overlap within
//! one second escapes that; [`crate::shared`] catches it.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, ensure};
use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerState, Pod};
use kube::api::ListParams;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, ResourceExt};
use tokio::task::JoinHandle;

use crate::namespace::Namespace;

/// One run of an app container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Name of the pod.
    pub pod: String,
    /// UID of the pod.
    pub pod_uid: String,
    /// The Job that controls the pod.
    pub job: Option<String>,
    /// When it started.
    pub started: Timestamp,
    /// How it ended; `None` while it runs.
    pub end: Option<End>,
}

/// The end of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// When.
    pub at: Timestamp,
    /// With which exit code.
    pub exit_code: i32,
    /// What it wrote to its termination log.
    pub message: String,
}

/// A recorder; it stops when it is dropped.
#[derive(Debug)]
pub struct History {
    pods: Api<Pod>,
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

/// By ID of the container.
type Seen = BTreeMap<String, Run>;

impl Run {
    /// The Job, or else the pod.
    pub fn owner(&self) -> &str {
        self.job.as_deref().unwrap_or(&self.pod)
    }

    /// What it wrote to its termination log.
    pub fn message(&self) -> &str {
        self.end.as_ref().map_or("", |end| end.message.as_str())
    }
}

impl History {
    /// Records from now on.
    pub fn record(namespace: &Namespace) -> Self {
        let pods = namespace.api::<Pod>();
        let seen = Arc::<Mutex<Seen>>::default();
        let (watched, into) = (pods.clone(), Arc::clone(&seen));
        let task = tokio::spawn(async move {
            let stream = watcher(watched, watcher::Config::default()).default_backoff().touched_objects();
            // A broken watch starts again by itself.
            let mut stream = pin!(stream.into_stream().filter_map(async |pod| pod.ok()));
            while let Some(pod) = stream.next().await {
                note(&into, &pod);
            }
        });
        Self { pods, seen, task }
    }

    /// All runs so far, in the order in which they started.
    pub async fn runs(&self) -> Result<Vec<Run>> {
        // The watch may be behind what the test has seen.
        for pod in self.pods.list(&ListParams::default()).await? {
            note(&self.seen, &pod);
        }
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut runs: Vec<_> = seen.values().cloned().collect();
        runs.sort_by_key(|run| (run.started, run.end.as_ref().map_or(Timestamp::MAX, |end| end.at)));
        Ok(runs)
    }

    /// The runs of one Job or bare pod.
    pub async fn runs_of(&self, owner: &str) -> Result<Vec<Run>> {
        Ok(self.runs().await?.into_iter().filter(|run| run.owner() == owner).collect())
    }
}

impl Drop for History {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn note(seen: &Mutex<Seen>, pod: &Pod) {
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    for status in statuses.into_iter().flatten() {
        for state in [&status.last_state, &status.state].into_iter().flatten() {
            let id = status.container_id.as_deref().unwrap_or_default();
            if let Some((id, run)) = run(pod, state, id) {
                seen.insert(id, run);
            }
        }
    }
}

fn run(pod: &Pod, state: &ContainerState, running_id: &str) -> Option<(String, Run)> {
    let (id, started, end) = if let Some(ended) = &state.terminated {
        let end = End {
            at: ended.finished_at.as_ref()?.0,
            exit_code: ended.exit_code,
            message: ended.message.clone().unwrap_or_default(),
        };
        (ended.container_id.as_deref()?, ended.started_at.as_ref()?.0, Some(end))
    } else {
        (running_id, state.running.as_ref()?.started_at.as_ref()?.0, None)
    };
    let job = pod.owner_references().iter().find(|owner| owner.kind == "Job").map(|owner| owner.name.clone());
    let run = Run { pod: pod.name_any(), pod_uid: pod.uid().unwrap_or_default(), job, started, end };
    (!id.is_empty()).then(|| (id.to_owned(), run))
}

/// `MutualExclusion`: runs of different participants do not overlap. `participant` says whose a run is.
pub fn one_at_a_time(runs: &[Run], participant: impl Fn(&Run) -> String) -> Result<()> {
    for (index, earlier) in runs.iter().enumerate() {
        let others = runs.iter().skip(index + 1).filter(|later| participant(later) != participant(earlier));
        for later in others {
            ensure!(
                earlier.end.as_ref().is_some_and(|end| end.at <= later.started),
                "{} started at {} while {} ran ({:?})",
                later.pod,
                later.started,
                earlier.pod,
                earlier
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(pod: &str, from: i64, to: Option<i64>) -> Run {
        let at = |second| Timestamp::from_second(second).unwrap();
        Run {
            pod: pod.to_owned(),
            pod_uid: pod.to_owned(),
            job: None,
            started: at(from),
            end: to.map(|to| End { at: at(to), exit_code: 0, message: String::new() }),
        }
    }

    fn exclusive(runs: &[Run]) -> bool {
        one_at_a_time(runs, |run| run.pod.clone()).is_ok()
    }

    #[test]
    fn a_run_may_start_in_the_second_in_which_the_last_one_ended_and_not_before() {
        assert!(exclusive(&[ran("a", 1, Some(5)), ran("b", 5, Some(6))]));
        assert!(!exclusive(&[ran("a", 1, Some(5)), ran("b", 4, Some(6))]));
        assert!(!exclusive(&[ran("a", 1, None), ran("b", 9, None)]));
    }

    #[test]
    fn runs_of_one_participant_may_overlap_and_hide_nobody() {
        assert!(exclusive(&[ran("a", 1, Some(5)), ran("a", 2, Some(7)), ran("b", 7, None)]));
        assert!(!exclusive(&[ran("a", 1, Some(9)), ran("a", 2, Some(3)), ran("b", 4, None)]));
    }
}
