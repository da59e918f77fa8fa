//! The queue: a total order, the same in every replica and after every restart.
//!
//! Key = (priority, stamp, UID). The stamp is what the webhook wrote in microseconds, because two objects of the same
//! second must not tie. It only refines the server's time: what lies outside of [creation - 10 s, creation + 1 s] is
//! ignored, so a stamp that was copied or forged gains nothing.

use std::cmp::Reverse;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use konductor_api::annotations::QUEUED;

const EARLIER_THAN_CREATION: SignedDuration = SignedDuration::from_secs(10);
const LATER_THAN_CREATION: SignedDuration = SignedDuration::from_secs(1);

/// Where somebody stands; the smallest goes first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueKey {
    /// Higher first.
    priority: Reverse<i32>,
    stamp: Timestamp,
    uid: String,
}

impl QueueKey {
    /// The key of an object that the server says was created then, with the stamp it carries.
    pub fn new(priority: i32, created: Timestamp, stamp: Option<&str>, uid: &str) -> Self {
        let stamp = stamp
            .and_then(|text| text.parse::<Timestamp>().ok())
            .filter(|stamp| {
                let offset = stamp.duration_since(created);
                -EARLIER_THAN_CREATION <= offset && offset <= LATER_THAN_CREATION
            })
            .unwrap_or(created);
        Self { priority: Reverse(priority), stamp, uid: uid.to_owned() }
    }

    /// The key of a Job or a Pod.
    pub fn of(metadata: &ObjectMeta, priority: i32) -> Self {
        let created = metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
        let stamp = metadata.annotations.as_ref().and_then(|annotations| annotations.get(QUEUED));
        Self::new(priority, created, stamp.map(String::as_str), metadata.uid.as_deref().unwrap_or_default())
    }

    /// Its priority.
    pub const fn priority(&self) -> i32 {
        self.priority.0
    }

    /// Since when it waits.
    pub const fn since(&self) -> Timestamp {
        self.stamp
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn key(stamp: Option<&str>) -> QueueKey {
        QueueKey::new(0, at("2030-06-01T12:00:00Z"), stamp, "u")
    }

    #[test]
    fn a_stamp_refines_the_servers_time() {
        assert_eq!(key(Some("2030-06-01T12:00:00.123456Z")).since(), at("2030-06-01T12:00:00.123456Z"));
        assert_eq!(key(Some("2030-06-01T11:59:50Z")).since(), at("2030-06-01T11:59:50Z"));
        assert_eq!(key(Some("2030-06-01T12:00:01Z")).since(), at("2030-06-01T12:00:01Z"));
    }

    #[test]
    fn a_forged_copied_or_broken_stamp_counts_as_none() {
        for stamp in
            ["2030-06-01T11:59:49.999Z", "2030-06-01T12:00:01.001Z", "2020-01-01T00:00:00Z", "soon", ""]
        {
            assert_eq!(key(Some(stamp)), key(None), "{stamp}");
        }
    }

    #[test]
    fn priority_goes_before_time_and_the_uid_breaks_ties() {
        let created = at("2030-06-01T12:00:00Z");
        let urgent = QueueKey::new(5, at("2030-06-01T13:00:00Z"), None, "z");
        let first = QueueKey::new(0, created, None, "a");
        let second = QueueKey::new(0, created, None, "b");
        assert!(urgent < first && first < second);
    }
}
