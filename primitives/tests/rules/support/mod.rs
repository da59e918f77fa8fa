//! Words for the tests: pods, Jobs and ledgers that read like sentences.
//!
//! What must stay true: what is built here looks like what a kubelet, a Job controller and an API server write.

mod jobs;
mod ledgers;
mod pods;
mod steps;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

pub(crate) use jobs::{JobSketch, job};
pub(crate) use ledgers::{
    Says, failed, gate, gate_on, held_by, holder, jobs_seen, mutex, name_of, name_of_gate, name_of_mutex,
    of_job, of_pod, on_job, snapshot, succeeded, told, waits, works,
};
pub(crate) use pods::{PodSketch, pod};
pub(crate) use steps::{
    Primitive, commit, commit_as, edit, entrance, fresh, holders, is_closed, is_in, is_never, is_ready, line,
    message, queue, reason_of, told_of,
};

/// So many seconds after the tests begin.
pub(crate) fn at(seconds: i64) -> Timestamp {
    "2030-06-01T12:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_secs(seconds)
}

/// The same as the API has it.
pub(crate) fn time(seconds: i64) -> Time {
    Time(at(seconds))
}

/// The UID of everything that has this name.
pub(crate) fn uid(name: &str) -> String {
    format!("uid-of-{name}")
}
