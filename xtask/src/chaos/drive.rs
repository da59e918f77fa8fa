//! Keeps every lock wanted, and notices who gets through and who does not.
//!
//! May touch: the namespace of chaos. What must stay true: a workload whose creation got lost is the same one when it is
//! created again; what was asked for is remembered until it got through, whatever the API says in between.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;

use super::locks::{Kind, LOCKS, Lock};
use super::random::Random;
use super::scene::Scene;
use super::seen::list;
use super::work::{Form, NAMESPACE, Work, collection};
use crate::proxy::refused;

/// So many want each lock at any time.
const DEPTH: usize = 3;
/// So many want one Once, until there is another one.
const WANT_ONCE: usize = 4;
/// Ends are seen before they are swept away.
const SWEPT_AFTER: Duration = Duration::from_secs(10);
/// A list that was read before a creation does not know it.
const SETTLED_AFTER: Duration = Duration::from_secs(30);

/// Who wants what.
pub(super) struct Drive<'a> {
    scene: &'a Scene,
    random: Random,
    number: usize,
    /// Number of the object that is wanted, of locks of which there is one after the other.
    rounds: BTreeMap<&'static str, usize>,
    entries: BTreeMap<String, Entry>,
}

struct Entry {
    lock: &'static str,
    object: String,
    created: Option<Instant>,
    through: Option<Instant>,
    swept: bool,
}

impl<'a> Drive<'a> {
    pub(super) fn new(scene: &'a Scene, seed: u64) -> Result<Self> {
        let drive = Self {
            scene,
            random: Random::new(seed, 3),
            number: 0,
            rounds: BTreeMap::new(),
            entries: BTreeMap::new(),
        };
        for lock in &LOCKS {
            drive.provide(lock)?;
        }
        Ok(drive)
    }

    fn object(&self, lock: &Lock) -> String {
        lock.object(self.rounds.get(lock.name).copied().unwrap_or_default())
    }

    /// The object that is wanted now, and its journal.
    fn provide(&self, lock: &Lock) -> Result<()> {
        let object = self.object(lock);
        let folder = self.scene.common().join(&object);
        std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        // Containers run as somebody else.
        std::fs::set_permissions(&folder, Permissions::from_mode(0o777))?;
        let path = format!("/apis/konductor.io/v1/namespaces/{NAMESPACE}/{}", lock.plural());
        match self.scene.proxy.create(&path, &lock.manifest(&object)) {
            Err(error) if refused(&error) != Some(409) => Err(error),
            _ => Ok(()),
        }
    }

    /// Makes what is missing. What cannot be created now is created later.
    pub(super) fn fill(&mut self) {
        for lock in &LOCKS {
            let open = self.open().filter(|entry| entry.lock == lock.name).count();
            let object = self.object(lock);
            let asked = self.entries.values().filter(|entry| entry.object == object).count();
            let wanted = match lock.kind {
                Kind::Once if asked < WANT_ONCE => WANT_ONCE - asked,
                Kind::Once if open == 0 => {
                    // The number before it is kept until the next object is there.
                    *self.rounds.entry(lock.name).or_default() += 1;
                    if self.provide(lock).is_err() {
                        *self.rounds.entry(lock.name).or_default() -= 1;
                    }
                    0
                }
                Kind::Once => 0,
                _ => DEPTH.saturating_sub(open),
            };
            for _ in 0..wanted {
                self.number += 1;
                let common = self.scene.common().display().to_string();
                let work = Work::new(lock, &object, self.number, &common, &mut self.random);
                let entry = Entry {
                    lock: lock.name,
                    object: object.clone(),
                    created: None,
                    through: None,
                    swept: false,
                };
                self.entries.insert(work.name.clone(), entry);
                self.scene.works().all.insert(work.name.clone(), work);
            }
        }
    }

    /// Creates what was not created yet.
    pub(super) fn send(&mut self) {
        for (name, entry) in &mut self.entries {
            if entry.created.is_some() {
                continue;
            }
            let Some(work) = self.scene.works().all.get(name).cloned() else { continue };
            match self.scene.proxy.create(&collection(work.form), &work.manifest) {
                Err(error) if refused(&error) != Some(409) => {}
                _ => entry.created = Some(Instant::now()),
            }
        }
    }

    /// Notes who is through, and sweeps away what has been through for a while.
    pub(super) fn sweep(&mut self) {
        for (name, entry) in &mut self.entries {
            if entry.through.is_none() && self.scene.seen().through.contains_key(name) {
                entry.through = Some(Instant::now());
            }
            let due = entry.through.is_some_and(|at| at.elapsed() > SWEPT_AFTER);
            if due && !entry.swept {
                let path = self.scene.works().all.get(name).map(Work::path).unwrap_or_default();
                entry.swept =
                    self.scene.proxy.delete(&format!("{path}?propagationPolicy=Background")).is_ok();
            }
        }
    }

    /// Reads everything anew, as a watch may be behind or down; a workload that is not there although nobody took it away is a
    /// problem.
    pub(super) fn look(&mut self) -> Result<()> {
        let before = Instant::now();
        let mut there = BTreeSet::new();
        for (form, kind) in [(Form::Job, "Job"), (Form::Pod, "Pod")] {
            let all = self.scene.proxy.get(&collection(form))?;
            for item in list(&all["items"]) {
                self.hear(item, kind);
                there.insert(item["metadata"]["name"].as_str().unwrap_or_default().to_owned());
            }
        }
        for lock in &LOCKS {
            let path = format!("/apis/konductor.io/v1/namespaces/{NAMESPACE}/{}", lock.plural());
            for item in list(&self.scene.proxy.get(&path)?["items"]) {
                self.hear(item, "");
            }
        }
        let settled = |entry: &Entry| {
            entry.created.is_some_and(|at| before.saturating_duration_since(at) > SETTLED_AFTER)
        };
        let mut vanished = Vec::new();
        for (name, entry) in &mut self.entries {
            if entry.through.is_some() || !settled(entry) || there.contains(name) {
                continue;
            }
            if self.scene.seen().through.contains_key(name) {
                continue;
            }
            if self.scene.works().removed.contains(name) {
                (entry.through, entry.swept) = (Some(Instant::now()), true);
            } else {
                vanished.push(format!("NoLostWaiter: {name} vanished, and chaos has not taken it away"));
            }
        }
        self.scene.seen().problems.extend(vanished);
        Ok(())
    }

    fn hear(&self, item: &Value, kind: &str) {
        let mut object = item.clone();
        object["kind"] = kind.into();
        self.scene.seen().hear(&object);
    }

    fn open(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values().filter(|entry| entry.through.is_none())
    }

    /// Names of those who are not through.
    pub(super) fn still_open(&self) -> Vec<&str> {
        let open = self.entries.iter().filter(|(_, entry)| entry.through.is_none());
        open.map(|(name, _)| name.as_str()).collect()
    }

    /// How many were asked for.
    pub(super) fn count(&self) -> usize {
        self.entries.len()
    }
}
