//! History: what has happened, as far as the checks need to remember it, and in words for whoever replays a seed.
//!
//! What must stay true: it only grows; two runs of one seed have the same [`History::digest`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::store::{Actor, Change, Key};

/// An invariant that was broken, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// As in the documentation.
    pub invariant: &'static str,
    /// What happened.
    pub detail: String,
    /// When, since the beginning.
    pub at: Duration,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// The first one.
    pub(crate) broken: Option<Broken>,
    /// `None`: nobody wants to read it.
    pub(crate) lines: Option<Vec<String>>,
    digest: u64,
    /// The highest token that each primitive ever gave.
    pub(crate) tokens: BTreeMap<Key, u64>,
    /// The highest run of each pod, or 0 for claims, that each ledger ever listed.
    pub(crate) listed: BTreeMap<(Key, String), i64>,
    /// Gates, barriers and groups that were open or done once.
    pub(crate) opened: BTreeSet<Key>,
    /// The most permits that a semaphore ever had.
    pub(crate) permits: BTreeMap<Key, i64>,
    /// Jobs by UID that were Complete, or Failed.
    pub(crate) completed: BTreeSet<String>,
    pub(crate) failed: BTreeSet<String>,
    /// When each claim was renewed last, by UID.
    pub(crate) renewed: BTreeMap<String, Duration>,
    /// Everybody who ever took part, by primitive.
    pub(crate) members: BTreeMap<Key, BTreeSet<String>>,
    /// Times that a Once, by UID, was executed.
    pub(crate) executed: BTreeMap<String, usize>,
    /// Claims by UID whose owner said that it went well.
    pub(crate) claimed_well: BTreeSet<String>,
    /// Since when each pod could be granted something, as far as the API server shows.
    pub(crate) waits_since: BTreeMap<String, Duration>,
    /// What has happened, counted.
    pub(crate) tally: BTreeMap<&'static str, usize>,
}

impl History {
    pub(crate) fn new(told: bool) -> Self {
        Self { lines: told.then(Vec::new), digest: 0xcbf2_9ce4_8422_2325, ..Self::default() }
    }

    pub(crate) fn count(&mut self, what: &'static str) {
        *self.tally.entry(what).or_default() += 1;
    }

    pub(crate) fn breaks(&mut self, at: Duration, invariant: &'static str, detail: impl Into<String>) {
        let detail = detail.into();
        self.say(at, || format!("BROKEN {invariant}: {detail}"));
        self.broken.get_or_insert(Broken { invariant, detail, at });
    }

    /// Something that somebody did.
    pub(crate) fn say(&mut self, at: Duration, what: impl FnOnce() -> String) {
        if self.lines.is_some() {
            let line = format!("{:>9.3} {}", at.as_secs_f64(), what());
            if let Some(lines) = &mut self.lines {
                lines.push(line);
            }
        }
    }

    /// A change of an object.
    pub(crate) fn tell(&mut self, at: Duration, change: &Change) {
        let text =
            change.after.as_ref().or(change.before.as_ref()).map_or("", |version| version.text.as_str());
        self.mix(&at.as_micros().to_le_bytes());
        self.mix(text.as_bytes());
        let kind = match (&change.before, &change.after) {
            (None, _) => "made",
            (_, None) => "gone",
            _ => "changed",
        };
        let by = match change.actor {
            Actor::Operator(number) => format!(" by operator {number}"),
            Actor::World => String::new(),
        };
        self.say(at, || format!("{} {kind}{by} @{}: {}", change.key, change.revision, differs(change)));
    }

    fn mix(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..part.len()].copy_from_slice(part);
            self.digest =
                (self.digest.rotate_left(23) ^ u64::from_le_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
    }

    /// A number that stands for everything that has happened.
    pub(crate) const fn digest(&self) -> u64 {
        self.digest
    }
}

/// What a change changed, in short.
fn differs(change: &Change) -> String {
    let (Some(before), Some(after)) = (&change.before, &change.after) else {
        return change
            .after
            .as_ref()
            .map_or_else(String::new, |version| version.text.chars().take(600).collect());
    };
    let mut parts = Vec::new();
    difference("", &before.value, &after.value, &mut parts);
    parts.join("; ").chars().take(1200).collect()
}

fn difference(path: &str, before: &serde_json::Value, after: &serde_json::Value, parts: &mut Vec<String>) {
    use serde_json::Value::Object;
    if before == after || path == ".metadata.resourceVersion" {
        return;
    }
    if let (Object(before), Object(after)) = (before, after) {
        let keys: BTreeSet<_> = before.keys().chain(after.keys()).collect();
        for key in keys {
            let of = |map: &serde_json::Map<_, _>| map.get(key).cloned().unwrap_or_default();
            difference(&format!("{path}.{key}"), &of(before), &of(after), parts);
        }
    } else {
        parts.push(format!("{path}={after}"));
    }
}
