//! Pods: `LedgerBeforeGo`, `NoEarlyPass`, `GateSound` for who is told; `GrantSingleUse`, `NoUnguardedStart`, `MutualExclusion`,
//! `RWExclusion`, `SemaphoreBound` for what runs.

use std::collections::BTreeMap;

use konductor_api::annotations::{FINALIZER, GRANT};
use konductor_api::participation::{Kind, Role};
use konductor_waiter::grant::{Grant, Verdict};
use serde_json::Value;

use super::{breaks, entry, key_of, text};
use crate::cluster::Cluster;
use crate::kubelet::Taken;
use crate::node::{plan_of, takes};
use crate::store::{Actor, Change, Key};

fn grant_of(pod: &Value) -> Option<Grant> {
    pod["metadata"]["annotations"][GRANT].as_str().and_then(|text| text.parse().ok())
}

fn is_kept(pod: &Value) -> bool {
    pod["metadata"]["finalizers"].as_array().is_some_and(|all| all.iter().any(|word| word == FINALIZER))
}

/// A pod was written.
pub(crate) fn written(cluster: &mut Cluster, change: &Change, before: Option<&Value>, after: &Value) {
    let uid = text(after, "/metadata/uid").to_owned();
    if before.is_none() {
        for taken in takes(after, &plan_of(after)) {
            let members = cluster.history.members.entry(key_of(&taken.primitive)).or_default();
            members.insert(taken.by);
        }
    }
    notes_its_wait(cluster, &uid, after);
    if !matches!(change.actor, Actor::Operator(_)) {
        return;
    }
    let (was, now) = (before.and_then(grant_of), grant_of(after));
    if was != now
        && let Some(grant) = now
    {
        told(cluster, after, &grant);
    }
    if before.is_some_and(is_kept) && !is_kept(after) {
        lifted(cluster, after);
    }
}

/// Since when could it be granted something, as far as the API server shows?
fn notes_its_wait(cluster: &mut Cluster, uid: &str, pod: &Value) {
    let statuses = pod["status"]["initContainerStatuses"].as_array();
    let runs = statuses.into_iter().flatten().any(|status| {
        status["name"] == konductor_api::annotations::WAITER_CONTAINER
            && !status["state"]["running"].is_null()
    });
    let waits = runs && pod["metadata"]["deletionTimestamp"].is_null() && grant_of(pod).is_none();
    let now = cluster.age();
    if waits {
        cluster.history.waits_since.entry(uid.to_owned()).or_insert(now);
    } else {
        cluster.history.waits_since.remove(uid);
    }
}

/// A pod is told something.
fn told(cluster: &mut Cluster, pod: &Value, grant: &Grant) {
    let name = text(pod, "/metadata/name").to_owned();
    let what = match grant.verdict {
        Verdict::Go => "go",
        Verdict::Skip { .. } => "skip",
        Verdict::Deny { .. } => "deny",
        Verdict::Released => "released",
    };
    cluster.history.count(match what {
        "go" => "told go",
        "skip" => "told skip",
        "deny" => "told deny",
        _ => "told released",
    });
    if !grant.verdict.opens() {
        return;
    }
    let plan = plan_of(pod);
    if plan.needs_the_end() && !is_kept(pod) {
        breaks(cluster, "ReleaseNeedsEvidence", format!("pod/{name} is told {what} and could vanish unseen"));
    }
    let mut highest = None;
    for taken in takes(pod, &plan) {
        let key = key_of(&taken.primitive);
        if taken.role.is_held() {
            if taken.primitive.kind == Kind::Once && what == "skip" {
                continue;
            }
            let listed = cluster.history.listed.get(&(key.clone(), grant.pod_uid.clone())).copied();
            let Some(run) = listed else {
                let detail = format!("pod/{name} is told {what}, and {key} never listed it");
                return breaks(cluster, "LedgerBeforeGo", detail);
            };
            highest = highest.max(Some(run));
        } else if taken.role.waits() && !cluster.history.opened.contains(&key) {
            let invariant = if taken.primitive.kind == Kind::Gate { "GateSound" } else { "NoEarlyPass" };
            return breaks(
                cluster,
                invariant,
                format!("pod/{name} is told {what}, and {key} never was open"),
            );
        }
    }
    if let Some(highest) = highest.filter(|run| u64::try_from(*run).unwrap_or(0) < grant.run) {
        let detail =
            format!("pod/{name} is told run {}, and {highest} was the last that was listed", grant.run);
        breaks(cluster, "LedgerBeforeGo", detail);
    }
}

/// Our finalizer was taken off a pod.
fn lifted(cluster: &mut Cluster, pod: &Value) {
    let (name, uid) = (text(pod, "/metadata/name").to_owned(), text(pod, "/metadata/uid").to_owned());
    if cluster.bodies.get(&uid).is_some_and(crate::kubelet::Body::is_critical) {
        return breaks(cluster, "ReleaseNeedsEvidence", format!("pod/{name} is let go of, and still runs"));
    }
    // Of one that is over an operator with an old view may write an entry again: it can never be told.
    if matches!(text(pod, "/status/phase"), "Succeeded" | "Failed") {
        return;
    }
    for taken in takes(pod, &plan_of(pod)).into_iter().filter(|taken| taken.role.is_held()) {
        let key = key_of(&taken.primitive);
        let holder = entry(cluster, &key, &taken.by);
        if holder.is_some_and(|holder| holder.uid == uid || holder.told(&uid).is_some()) {
            let detail = format!("pod/{name} is let go of, and {key} still lists it");
            return breaks(cluster, "ReleaseNeedsEvidence", detail);
        }
    }
}

/// A pod is gone.
pub(crate) fn gone(cluster: &mut Cluster, change: &Change) {
    if let Some(last) = &change.before {
        cluster.history.waits_since.remove(text(&last.value, "/metadata/uid"));
    }
}

// ---------------------------------------------------------------------------------------------------- what runs

/// A waiter lets its pod through.
pub(crate) fn passes(cluster: &mut Cluster, uid: &str, run: u64) {
    let now = cluster.age();
    let Some(body) = cluster.bodies.get_mut(uid) else { return };
    let (name, last) = (body.name.clone(), std::mem::replace(&mut body.passed, run));
    cluster.history.say(now, || format!("pod/{name} passes on {run}"));
    cluster.history.count("passes");
    if run <= last {
        breaks(cluster, "GrantSingleUse", format!("pod/{name} passes on {run} after {last}"));
    }
}

/// A critical container starts.
pub(crate) fn starts(cluster: &mut Cluster, uid: &str) {
    let now = cluster.age();
    let Some(body) = cluster.bodies.get(uid) else { return };
    let (name, takes) = (body.name.clone(), body.takes.clone());
    cluster.history.say(now, || format!("pod/{name} starts its critical section"));
    cluster.history.count("starts");
    for taken in &takes {
        guarded(cluster, uid, &name, taken);
    }
    for taken in takes.iter().filter(|taken| taken.role.is_held()) {
        excludes(cluster, &key_of(&taken.primitive), taken);
    }
}

fn guarded(cluster: &mut Cluster, uid: &str, name: &str, taken: &Taken) {
    let key = key_of(&taken.primitive);
    if taken.role.is_held() {
        let holder = entry(cluster, &key, &taken.by);
        if holder.is_none_or(|holder| holder.told(uid).is_none()) {
            breaks(cluster, "NoUnguardedStart", format!("pod/{name} starts without {key}"));
        }
    } else if taken.role.waits() && !cluster.history.opened.contains(&key) {
        breaks(cluster, "NoUnguardedStart", format!("pod/{name} starts, and {key} never was open"));
    }
}

/// By what runs on the machines, not by any ledger.
fn excludes(cluster: &mut Cluster, key: &Key, starting: &Taken) {
    let mut running: BTreeMap<&str, (Role, &str)> = BTreeMap::new();
    for body in cluster.bodies.values().filter(|body| body.is_critical()) {
        for taken in body.takes.iter().filter(|taken| key_of(&taken.primitive) == *key) {
            running.insert(&taken.by, (taken.role, &body.name));
        }
    }
    let names = || running.values().map(|(_, name)| *name).collect::<Vec<_>>().join(", ");
    let broken = match starting.primitive.kind {
        Kind::Mutex | Kind::Lease | Kind::Once if running.len() > 1 => {
            Some(("MutualExclusion", format!("{} run at once under {key}", names())))
        }
        Kind::RWMutex if running.len() > 1 && running.values().any(|(role, _)| *role == Role::Write) => {
            Some(("RWExclusion", format!("{} run at once under {key}", names())))
        }
        Kind::Semaphore => {
            let sum: i64 = running
                .values()
                .map(|(role, _)| if let Role::Take(permits) = role { i64::from(*permits) } else { 1 })
                .sum();
            let most = cluster.history.permits.get(key).copied().unwrap_or(0);
            (sum > most).then(|| ("SemaphoreBound", format!("{} run at once under {key} of {most}", names())))
        }
        _ => None,
    };
    if let Some((invariant, detail)) = broken {
        breaks(cluster, invariant, detail);
    }
}
