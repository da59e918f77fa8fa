//! Ledgers: `LedgerExclusion`, `SemaphoreBound`, `RWExclusion` (of entries), `TokenMonotone`, `GrantIdempotent`,
//! `ReleaseNeedsEvidence`, `WithdrawBeforeRelease`, `TtlFloor`, `PriorityRespected`; and what claims are told.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use konductor_api::claim::LEASE_TTL;
use konductor_api::duration::GoDuration;
use konductor_api::ledger::{Evidence, Holder, Ledger, Mode, ParticipantKind};
use konductor_api::participation::{Kind, PrimitiveRef};
use konductor_primitives::facts::PodFacts;
use serde_json::Value;

use super::{breaks, entry, ledger_of, text};
use crate::cluster::Cluster;
use crate::store::{Key, Resource};

/// A waiter that could have been seen to wait for so long is not passed over.
const SEEN_BY_ALL: Duration = Duration::from_secs(150);

/// A status with a ledger was written.
pub(crate) fn written(cluster: &mut Cluster, key: &Key, before: Option<&Value>, after: &Value) {
    let permits = after["spec"]["permits"].as_i64().unwrap_or(0);
    let most = cluster.history.permits.entry(key.clone()).or_default();
    *most = (*most).max(permits);
    let (old, new) = (ledger_of(before), ledger_of(Some(after)));
    if old == new {
        return;
    }
    excludes(cluster, key, before, &old, &new);
    for holder in &new.holders {
        let was = old.holders.iter().find(|was| was.uid == holder.uid);
        granted(cluster, key, was, holder, &old);
        for told in &holder.pods {
            let run = cluster.history.listed.entry((key.clone(), told.uid.clone())).or_default();
            *run = (*run).max(told.run);
        }
        cluster.history.listed.entry((key.clone(), holder.uid.clone())).or_default();
    }
    for holder in &old.holders {
        if !new.holders.iter().any(|other| other.token == holder.token) {
            released(cluster, key, holder, &new, after);
        }
    }
}

fn excludes(cluster: &mut Cluster, key: &Key, before: Option<&Value>, old: &Ledger, new: &Ledger) {
    let names = || new.holders.iter().map(Holder::display).collect::<Vec<_>>().join(", ");
    let alone = matches!(key.resource, Resource::Mutex | Resource::Lease | Resource::Once);
    let writes = new.holders.iter().filter(|holder| holder.mode == Some(Mode::Write)).count();
    if (alone && new.holders.len() > 1) || (writes > 0 && new.holders.len() > 1) {
        breaks(cluster, "LedgerExclusion", format!("{key} is held by {}", names()));
    }
    let distinct: BTreeSet<_> = new.holders.iter().map(|holder| &holder.uid).collect();
    if distinct.len() < new.holders.len() {
        breaks(cluster, "GrantIdempotent", format!("{key} is held twice by one of {}", names()));
    }
    if key.resource == Resource::Semaphore {
        let sum = |ledger: &Ledger| -> i64 {
            ledger.holders.iter().map(|holder| holder.permits.unwrap_or(1)).sum()
        };
        let bound = before.and_then(|before| before["spec"]["permits"].as_i64()).unwrap_or(0);
        let adds = new.holders.iter().any(|holder| !old.holders.iter().any(|was| was.token == holder.token));
        if adds && sum(new) > bound {
            breaks(cluster, "SemaphoreBound", format!("{key} of {bound} gives {}", sum(new)));
        }
    }
}

fn granted(cluster: &mut Cluster, key: &Key, was: Option<&Holder>, holder: &Holder, old: &Ledger) {
    if was.is_some_and(|was| was.token == holder.token) {
        return;
    }
    cluster.history.count("grants");
    if was.is_some() {
        breaks(cluster, "GrantIdempotent", format!("{} gets another token of {key}", holder.display()));
    }
    let token: u64 = holder.token.parse().unwrap_or(0);
    let highest = cluster.history.tokens.entry(key.clone()).or_default();
    if token <= *highest {
        let detail = format!("{key} gives {token} after {highest}");
        breaks(cluster, "TokenMonotone", detail);
    } else {
        *highest = token;
    }
    let _ = old;
    passed_over(cluster, key, holder);
}

/// Only where it is beyond doubt: a lock that one holds, pods that wait for nothing else.
fn passed_over(cluster: &mut Cluster, key: &Key, holder: &Holder) {
    if !matches!(key.resource, Resource::Mutex | Resource::Lease) || holder.kind != ParticipantKind::Pod {
        return;
    }
    let now = cluster.age();
    let Some(winner) = rank(cluster, &holder.name, &holder.uid) else { return };
    let waiting: Vec<_> =
        cluster.history.waits_since.iter().map(|(uid, since)| (uid.clone(), *since)).collect();
    for (uid, since) in waiting {
        let Some(body) = cluster.bodies.get(&uid).filter(|_| uid != holder.uid) else { continue };
        let only =
            body.takes.len() == 1 && body.takes.iter().all(|taken| super::key_of(&taken.primitive) == *key);
        let alive = cluster.machines[body.node].reports();
        let name = body.name.clone();
        if only
            && alive
            && now.saturating_sub(since) > SEEN_BY_ALL
            && rank(cluster, &name, &uid) < Some(winner.clone())
        {
            let detail =
                format!("{} gets {key} before pod/{name}, which waits since {since:?}", holder.display());
            return breaks(cluster, "PriorityRespected", detail);
        }
    }
}

fn rank(cluster: &Cluster, name: &str, uid: &str) -> Option<konductor_primitives::queue::QueueKey> {
    let pod = cluster.store.value(Resource::Pod, name).filter(|pod| pod["metadata"]["uid"] == uid)?;
    let metadata = serde_json::from_value(pod["metadata"].clone()).ok()?;
    let priority = text(pod, "/metadata/annotations/konductor.io~1priority").parse().unwrap_or(0);
    Some(konductor_primitives::queue::QueueKey::of(&metadata, priority))
}

// ------------------------------------------------------------------------------------------------------- the end

fn released(cluster: &mut Cluster, key: &Key, holder: &Holder, new: &Ledger, after: &Value) {
    let who = holder.display();
    let Some(release) = new.history.iter().find(|release| release.token == holder.token) else {
        return breaks(cluster, "ReleaseNeedsEvidence", format!("{who} vanishes from {key}"));
    };
    cluster.history.count(match release.evidence {
        Evidence::P0 => "releases P0",
        Evidence::P1 => "releases P1",
        Evidence::P2 => "releases P2",
        Evidence::A1 => "releases A1",
        Evidence::A2 => "releases A2",
        Evidence::A3 => "releases A3",
        Evidence::T => "releases T",
        Evidence::Released => "releases Released",
    });
    let by_claim = matches!(release.evidence, Evidence::T | Evidence::Released);
    if by_claim != (holder.kind == ParticipantKind::Claim) && holder.pod.is_none() {
        let detail = format!("{who} leaves {key} on {}", release.evidence);
        return breaks(cluster, "ReleaseNeedsEvidence", detail);
    }
    if holder.kind == ParticipantKind::Claim {
        return claim_released(cluster, key, holder, release.evidence, after);
    }
    for told in &holder.pods {
        if let Some(body) = cluster.bodies.get(&told.uid)
            && body.is_critical()
        {
            let detail = format!("{who} leaves {key} on {}, and {} still runs", release.evidence, told.name);
            return breaks(cluster, "ReleaseNeedsEvidence", detail);
        }
        let Some(pod) = cluster.store.value(Resource::Pod, &told.name) else { continue };
        if pod["metadata"]["uid"] != told.uid.as_str() {
            continue;
        }
        let Ok(read) = serde_json::from_value::<Pod>(pod.clone()) else { continue };
        let facts = PodFacts::of(&read, false);
        let opens = facts.grant.as_ref().is_some_and(|grant| grant.verdict.opens());
        if opens && !facts.deleting && facts.terminal.is_none() {
            let detail =
                format!("{who} leaves {key} on {}, and {} could still read go", release.evidence, told.name);
            return breaks(cluster, "WithdrawBeforeRelease", detail);
        }
        if release.evidence == Evidence::P0
            && !facts.deleting
            && facts.terminal.is_none()
            && holder.kind == ParticipantKind::Pod
        {
            let detail = format!("{who} leaves {key} as if {} were not there", told.name);
            return breaks(cluster, "AbsenceConfirmed", detail);
        }
    }
}

fn claim_released(cluster: &mut Cluster, key: &Key, holder: &Holder, evidence: Evidence, after: &Value) {
    let who = holder.display();
    let claim = cluster.store.value(Resource::Claim, &holder.name).cloned();
    let claim = claim.filter(|claim| claim["metadata"]["uid"] == holder.uid.as_str());
    match (evidence, claim) {
        (Evidence::Released, Some(claim)) if claim["spec"]["outcome"].is_null() => {
            breaks(cluster, "ReleaseNeedsEvidence", format!("{who} leaves {key}, and nobody gave it back"));
        }
        (Evidence::T, Some(claim)) => {
            let of = |value: &Value| {
                value["spec"]["ttl"].as_str().and_then(|text| text.parse::<GoDuration>().ok())
            };
            let default = (key.resource == Resource::Lease).then_some(LEASE_TTL);
            let Some(ttl) = of(&claim).or_else(|| of(after)).or(default) else {
                return breaks(cluster, "TtlFloor", format!("{who} leaves {key} by time, and has no ttl"));
            };
            if text(&claim, "/status/phase") != "Expired" {
                breaks(
                    cluster,
                    "WithdrawBeforeRelease",
                    format!("{who} leaves {key} by time and was not told"),
                );
            }
            let silent = cluster.history.renewed.get(&holder.uid).map(|at| cluster.age().saturating_sub(*at));
            let floor = Duration::from_nanos(u64::try_from(ttl.as_nanoseconds()).unwrap_or(0));
            if let Some(silent) = silent.filter(|silent| *silent < floor) {
                breaks(cluster, "TtlFloor", format!("{who} leaves {key} after {silent:?} of {ttl}"));
            }
        }
        _ => {}
    }
}

/// A claim was written.
pub(crate) fn claim(cluster: &mut Cluster, before: Option<&Value>, after: &Value) {
    let uid = text(after, "/metadata/uid").to_owned();
    if before.is_none_or(|before| before["spec"]["renewTime"] != after["spec"]["renewTime"]) {
        let now = cluster.age();
        cluster.history.renewed.insert(uid.clone(), now);
    }
    if before.is_none()
        && let Some(kind) =
            Kind::ALL.into_iter().find(|kind| kind.api_kind() == text(after, "/spec/primitive/kind"))
    {
        let primitive = PrimitiveRef { kind, name: text(after, "/spec/primitive/name").to_owned() };
        cluster.history.members.entry(super::key_of(&primitive)).or_default().insert(uid.clone());
    }
    if after["spec"]["outcome"] == "Succeeded" {
        cluster.history.claimed_well.insert(uid.clone());
    }
    let phase = |value: &Value| text(value, "/status/phase").to_owned();
    let told = phase(after) == "Granted" && before.is_none_or(|before| phase(before) != "Granted");
    let Some(kind) = super::states::held(text(after, "/spec/primitive/kind")).filter(|_| told) else {
        return;
    };
    let key = Key::new(kind, text(after, "/spec/primitive/name"));
    let done = |value: &Value| value["status"]["executed"] == true;
    if cluster.store.get(&key).is_some_and(|once| done(&once.value)) {
        return;
    }
    if entry(cluster, &key, &uid).is_none() && !cluster.history.listed.contains_key(&(key.clone(), uid)) {
        let detail = format!("claim/{} is told of {key} that never had it", text(after, "/metadata/name"));
        breaks(cluster, "LedgerBeforeGo", detail);
    }
}
