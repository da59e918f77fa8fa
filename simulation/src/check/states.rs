//! Gates, barriers, groups, onces: `GateSound`, `LatchFinal`, `BarrierTripOnce`, `DistinctArrivals`, `WaitGroupNoEarlyDone`,
//! `OnceSingleSuccess`, `OnceNoPhantomDone`.

use konductor_api::participation::{Kind, PrimitiveRef, Role};
use serde_json::Value;

use super::{breaks, key_of, text};
use crate::cluster::Cluster;
use crate::store::{Key, Resource};

/// The kind of that name, if it can be held.
pub(crate) fn held(kind: &str) -> Option<Resource> {
    Some(match kind {
        "Mutex" => Resource::Mutex,
        "RWMutex" => Resource::RWMutex,
        "Semaphore" => Resource::Semaphore,
        "Lease" => Resource::Lease,
        "Once" => Resource::Once,
        _ => return None,
    })
}

fn turns(before: Option<&Value>, after: &Value, phase: &str) -> bool {
    let is = |value: &Value| text(value, "/status/phase") == phase;
    is(after) && !before.is_some_and(is)
}

/// A gate was written.
pub(crate) fn gate(cluster: &mut Cluster, key: &Key, before: Option<&Value>, after: &Value) {
    let statuses =
        |value: &Value| value["status"]["conditionStatuses"].as_array().cloned().unwrap_or_default();
    let now = statuses(after);
    if let Some(before) =
        before.filter(|before| before["spec"] == after["spec"] && after["spec"]["latch"] != false)
    {
        for was in statuses(before).iter().filter(|was| was["met"] == true) {
            if !now.iter().any(|is| is["about"] == was["about"] && is["met"] == true) {
                breaks(cluster, "LatchFinal", format!("{key}: {} was met and is not", was["about"]));
            }
        }
    }
    for status in now.iter().filter(|status| status["met"] == true && status["type"] == "Job") {
        let uid = text(status, "/uid");
        let (complete, failed) =
            (cluster.history.completed.contains(uid), cluster.history.failed.contains(uid));
        if !(complete || failed && text(status, "/about").contains("Failed")) {
            breaks(
                cluster,
                "GateSound",
                format!("{key}: {} is met by {uid}, which never was so", status["about"]),
            );
        }
    }
    if turns(before, after, "Open") {
        cluster.history.count("gates opened");
        cluster.history.opened.insert(key.clone());
        let overridden = after["spec"]["override"] == "Open";
        let met = now.iter().filter(|status| status["met"] == true).count();
        let wanted = if after["spec"]["logic"] == "Any" { 1 } else { now.len().max(1) };
        if !overridden && met < wanted {
            breaks(cluster, "GateSound", format!("{key} opens with {met} of {wanted}"));
        }
    }
}

/// A barrier was written.
pub(crate) fn barrier(cluster: &mut Cluster, key: &Key, before: Option<&Value>, after: &Value) {
    let opened = |value: &Value| text(value, "/status/phase") == "Open";
    let generation = |value: &Value| value["status"]["generation"].as_i64().unwrap_or(0);
    if let Some(before) = before
        && opened(before)
        && !opened(after)
        && generation(before) == generation(after)
    {
        breaks(cluster, "BarrierTripOnce", format!("{key} was open and is not"));
    }
    if turns(before, after, "Open") {
        cluster.history.count("barriers tripped");
        cluster.history.opened.insert(key.clone());
        let arrived = after["status"]["arrived"].as_i64().unwrap_or(0);
        let came = cluster.history.members.get(key).map_or(0, std::collections::BTreeSet::len);
        if usize::try_from(arrived).unwrap_or(0) > came {
            breaks(cluster, "DistinctArrivals", format!("{key} counts {arrived}, and {came} ever came"));
        }
        let expected =
            after["spec"]["quorum"].as_i64().or_else(|| after["spec"]["expected"].as_i64()).unwrap_or(0);
        if arrived < expected {
            breaks(cluster, "NoEarlyPass", format!("{key} opens with {arrived} of {expected}"));
        }
    }
}

/// A group was written.
pub(crate) fn waitgroup(cluster: &mut Cluster, key: &Key, before: Option<&Value>, after: &Value) {
    if !turns(before, after, "Done") {
        return;
    }
    cluster.history.count("groups done");
    cluster.history.opened.insert(key.clone());
    let at_work = cluster.bodies.values().find(|body| {
        let joins =
            body.takes.iter().any(|taken| taken.role == Role::Join && key_of(&taken.primitive) == *key);
        joins && body.is_critical()
    });
    if let Some(body) = at_work {
        let detail = format!("{key} is done, and {} still works", body.name);
        return breaks(cluster, "WaitGroupNoEarlyDone", detail);
    }
    let members = cluster.history.members.get(key).map_or(0, std::collections::BTreeSet::len);
    let least = after["spec"]["expectAtLeast"].as_u64().unwrap_or(1).max(1);
    if members < usize::try_from(least).unwrap_or(1) {
        breaks(cluster, "WaitGroupNoEarlyDone", format!("{key} is done with {members} members ever"));
    }
}

/// A once was written.
pub(crate) fn once(cluster: &mut Cluster, before: Option<&Value>, after: &Value) {
    let executed = |value: &Value| value["status"]["executed"] == true;
    if !executed(after) || before.is_some_and(executed) {
        return;
    }
    cluster.history.count("onces executed");
    let (uid, name) = (text(after, "/metadata/uid").to_owned(), text(after, "/metadata/name").to_owned());
    let times = cluster.history.executed.entry(uid.clone()).or_default();
    *times += 1;
    if *times > 1 {
        breaks(cluster, "OnceSingleSuccess", format!("once/{name} is executed again"));
    }
    let primitive = PrimitiveRef { kind: Kind::Once, name: name.clone() };
    let by_pod = cluster
        .bodies
        .values()
        .any(|body| body.succeeded.is_some() && body.takes.iter().any(|taken| taken.primitive == primitive));
    let by_claim = !cluster.history.claimed_well.is_empty();
    if !by_pod && !by_claim {
        breaks(cluster, "OnceNoPhantomDone", format!("once/{name} is executed, and nobody has succeeded"));
    }
}
