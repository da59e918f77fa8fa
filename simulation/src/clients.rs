//! Clients: who creates claims, works while one is granted, renews it, gives it back, or vanishes.
//!
//! They know what the status of their claim says and nothing else. What must stay true: one that is told that it lost its
//! claim stops.

use std::time::Duration;

use konductor_api::annotations::QUEUED;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::store::{Actor, Key, Resource};
use crate::story::ClaimStory;

/// One client.
pub(crate) struct Client {
    story: ClaimStory,
    made: bool,
    granted_at: Option<Duration>,
    renewed_at: Duration,
    /// It vanished, or is done.
    gone: bool,
    /// People clear up behind it.
    cleared: bool,
}

impl Client {
    pub(crate) const fn new(story: ClaimStory) -> Self {
        Self { story, made: false, granted_at: None, renewed_at: Duration::ZERO, gone: false, cleared: false }
    }

    pub(crate) const fn is_done(&self) -> bool {
        self.gone
    }

    fn key(&self) -> Key {
        Key::new(Resource::Claim, &self.story.name)
    }

    /// It looks at its claim, and does what is due.
    pub(crate) fn tick(&mut self, cluster: &mut Cluster) {
        let now = cluster.age();
        if self.gone || now < self.story.comes {
            return;
        }
        let key = self.key();
        if !self.made {
            self.made = true;
            self.renewed_at = now;
            let mut spec = self.story.spec.clone();
            let stamp = json!(format!("{:.6}", cluster.now()));
            spec["renewTime"] = stamp.clone();
            let claim = json!({"metadata": {"annotations": {QUEUED: stamp}}, "spec": spec});
            let _ = cluster.create(Actor::World, &key, claim);
            return;
        }
        let Some(claim) = cluster.store.get(&key).map(|claim| claim.value.clone()) else {
            self.gone = true;
            return;
        };
        match claim["status"]["phase"].as_str() {
            Some("Granted") => self.work(cluster, &claim, now),
            Some("Denied" | "Expired" | "Released") => {
                let _ = cluster.delete(Actor::World, &key, 0);
                self.gone = true;
            }
            _ => {}
        }
    }

    fn work(&mut self, cluster: &mut Cluster, claim: &Value, now: Duration) {
        let key = self.key();
        let since = *self.granted_at.get_or_insert(now);
        let worked = now.saturating_sub(since);
        if self.story.dies.is_some_and(|after| worked >= after) {
            cluster.history.say(now, || format!("{key} has nobody any more"));
            self.gone = true;
            return;
        }
        if worked >= self.story.works {
            let said = claim["spec"]["outcome"].is_null();
            if said {
                let outcome = if self.story.succeeds { "Succeeded" } else { "Failed" };
                cluster.change(&key, |claim| claim["spec"]["outcome"] = json!(outcome));
            } else {
                let _ = cluster.delete(Actor::World, &key, 0);
                self.gone = true;
            }
            return;
        }
        if self.story.renews.is_some_and(|period| now.saturating_sub(self.renewed_at) >= period) {
            self.renewed_at = now;
            let stamp = format!("{:.6}", cluster.now());
            cluster.change(&key, |claim| claim["spec"]["renewTime"] = json!(stamp));
        }
    }

    /// When it is calm, people delete what nobody will ever get or give back.
    pub(crate) fn help(&mut self, cluster: &mut Cluster, since: Duration) {
        if since > Duration::from_secs(120) && !self.cleared {
            self.cleared = true;
            self.gone = true;
            let _ = cluster.delete(Actor::World, &self.key(), 0);
        }
    }
}
