//! The controllers of Kubernetes that matter here: scheduler, Jobs, node lifecycle, garbage.
//!
//! They act on the objects only, never on what they could not see. What must stay true: they do what theirs do in 1.36, the
//! dangerous things included: a pod is called Failed without a look, a replacement comes while its predecessor still ends.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::admission::admit;
use crate::cluster::Cluster;
use crate::node::job_of;
use crate::random::Random;
use crate::store::{Actor, Key, Resource};

/// As node-monitor-grace-period.
const SILENCE: Duration = Duration::from_secs(40);
/// Sooner than the 300 s of a real cluster, so that it happens in a short story.
const EVICTION: Duration = Duration::from_secs(90);
/// As the pod garbage collector's quarantine.
const QUARANTINE: Duration = Duration::from_secs(40);

/// What they remember.
#[derive(Debug, Default)]
pub(crate) struct Controllers {
    /// By UID of the Job.
    jobs: BTreeMap<String, Count>,
    missing: BTreeMap<String, Duration>,
    silent: BTreeMap<usize, Duration>,
}

#[derive(Debug, Default)]
struct Count {
    succeeded: BTreeSet<String>,
    failed: BTreeSet<String>,
    active: BTreeSet<String>,
    made: usize,
    enough_since: Option<Duration>,
}

fn is_over(object: &Value) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|condition| {
        matches!(condition["type"].as_str(), Some("Complete" | "Failed")) && condition["status"] == "True"
    })
}

fn has(object: &Value, type_: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == type_ && condition["status"] == "True")
}

fn phase(pod: &Value) -> &str {
    pod["status"]["phase"].as_str().unwrap_or("Pending")
}

fn is_final(pod: &Value) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

impl Controllers {
    /// They look around once.
    pub(crate) fn tick(&mut self, cluster: &mut Cluster, random: &mut Random) {
        schedule(cluster, random);
        self.nodes(cluster);
        self.collect(cluster, random);
        let jobs: Vec<Key> = cluster.store.list(Resource::Job).map(|(key, _)| key.clone()).collect();
        for key in jobs {
            if random.chance(600) {
                self.job(cluster, &key, random);
            }
        }
    }

    // ------------------------------------------------------------------------------------------------- nodes

    fn nodes(&mut self, cluster: &mut Cluster) {
        let now = cluster.age();
        for number in 0..cluster.machines.len() {
            let name = cluster.machines[number].name.clone();
            if cluster.machines[number].reports() {
                self.silent.remove(&number);
                continue;
            }
            let since = *self.silent.entry(number).or_insert(now);
            if now.saturating_sub(since) < SILENCE {
                continue;
            }
            cluster.change(&Key::new(Resource::Node, &name), |node| {
                node["status"]["conditions"] = json!([{"type": "Ready", "status": "Unknown"}]);
            });
            if now.saturating_sub(since) > EVICTION {
                for key in pods_on(cluster, &name) {
                    let _ = cluster.delete(Actor::World, &key, 30);
                }
            }
        }
    }

    fn collect(&mut self, cluster: &mut Cluster, random: &mut Random) {
        let now = cluster.age();
        let pods: Vec<_> =
            cluster.store.list(Resource::Pod).map(|(key, pod)| (key.clone(), Arc::clone(pod))).collect();
        for (key, pod) in pods {
            let pod = &pod.value;
            let deleting = !pod["metadata"]["deletionTimestamp"].is_null();
            if let Some(node) = pod["spec"]["nodeName"].as_str() {
                let object = cluster.store.value(Resource::Node, node);
                let gone = object.is_none();
                let off = object.is_some_and(|node| {
                    let ready = has(node, "Ready");
                    !ready && node["spec"]["taints"].as_array().is_some_and(|taints| !taints.is_empty())
                });
                if gone {
                    let since = *self.missing.entry(node.to_owned()).or_insert(now);
                    if now.saturating_sub(since) > QUARANTINE {
                        bury(cluster, &key);
                    }
                } else {
                    self.missing.remove(node);
                    if off && deleting && random.chance(300) {
                        bury(cluster, &key);
                    }
                }
            }
            let owner = job_of(pod).map(ToOwned::to_owned);
            let orphan = owner.is_some_and(|uid| {
                !cluster
                    .store
                    .list(Resource::Job)
                    .any(|(_, job)| job.value["metadata"]["uid"] == uid.as_str())
            });
            if orphan && !deleting && random.chance(300) {
                let grace = if pod["spec"]["nodeName"].is_null() || is_final(pod) { 0 } else { 30 };
                let _ = cluster.delete(Actor::World, &key, grace);
            }
        }
    }

    // -------------------------------------------------------------------------------------------------- Jobs

    fn job(&mut self, cluster: &mut Cluster, key: &Key, random: &mut Random) {
        let Some(job) = cluster.store.get(key).map(Arc::clone) else { return };
        let job = &job.value;
        let uid = job["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
        if is_over(job) {
            return;
        }
        let now = cluster.age();
        let count = self.jobs.entry(uid.clone()).or_default();
        let suspended = job["spec"]["suspend"] == true;
        let pods: Vec<_> = cluster
            .store
            .list(Resource::Pod)
            .filter(|(_, pod)| job_of(&pod.value) == Some(&uid))
            .map(|(key, pod)| (key.clone(), Arc::clone(pod)))
            .collect();
        let mut active = Vec::new();
        let mut there = BTreeSet::new();
        for (key, pod) in &pods {
            let pod = &pod.value;
            let pod_uid = pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
            there.insert(pod_uid.clone());
            match phase(pod) {
                "Succeeded" => {
                    count.succeeded.insert(pod_uid);
                }
                "Failed" if !suspended => {
                    count.failed.insert(pod_uid);
                }
                "Failed" => {}
                _ if pod["metadata"]["deletionTimestamp"].is_null() => active.push((key.clone(), pod_uid)),
                _ => {}
            }
        }
        // Who vanished without a word has failed.
        let vanished: Vec<_> = count.active.iter().filter(|uid| !there.contains(*uid)).cloned().collect();
        if !suspended {
            count.failed.extend(vanished.into_iter().filter(|uid| !count.succeeded.contains(uid)));
        }
        count.active = active.iter().map(|(_, uid)| uid.clone()).collect();
        let number = |field: &str, default: usize| {
            job["spec"][field].as_u64().and_then(|number| usize::try_from(number).ok()).unwrap_or(default)
        };
        let (completions, parallelism) = (number("completions", 1), number("parallelism", 1));
        let succeeds = count.succeeded.len() >= completions || has(job, "SuccessCriteriaMet");
        let fails = count.failed.len() > number("backoffLimit", 6) || has(job, "FailureTarget");
        let living = pods.iter().any(|(_, pod)| !is_final(&pod.value));
        if succeeds || fails {
            for (key, _) in &active {
                remove(cluster, key);
            }
            let since = *count.enough_since.get_or_insert(now);
            if !living && now.saturating_sub(since) > Duration::from_millis(random.between(500, 3500)) {
                let type_ = if succeeds { "Complete" } else { "Failed" };
                cluster.change(key, |job| {
                    push(job, &json!({"type": type_, "status": "True", "message": "as its pods ended"}));
                    job["status"]["active"] = json!(0);
                });
            } else if fails && !has(job, "FailureTarget") {
                cluster.change(key, |job| push(job, &json!({"type": "FailureTarget", "status": "True"})));
            }
            return;
        }
        let began = format!("{:.0}", cluster.now());
        if suspended {
            for (key, _) in &active {
                remove(cluster, key);
            }
            cluster.change(key, |job| {
                job["status"]["active"] = json!(0);
                if let Some(status) = job["status"].as_object_mut() {
                    status.remove("startTime");
                }
            });
            return;
        }
        let wanted = parallelism.min(completions - count.succeeded.len());
        for _ in active.len()..wanted {
            count.made += 1;
            let name = format!("{}-{}", key.name, count.made);
            make_pod(cluster, job, &name, &uid);
        }
        let busy = wanted.max(active.len());
        cluster.change(key, |job| {
            job["status"]["active"] = json!(busy);
            if job["status"]["startTime"].is_null() {
                job["status"]["startTime"] = json!(began);
            }
        });
    }
}

fn push(object: &mut Value, condition: &Value) {
    match object["status"]["conditions"].as_array_mut() {
        Some(all) => all.push(condition.clone()),
        None => object["status"]["conditions"] = json!([condition]),
    }
}

fn make_pod(cluster: &mut Cluster, job: &Value, name: &str, uid: &str) {
    let mut metadata = job["spec"]["template"]["metadata"].clone();
    if !metadata.is_object() {
        metadata = json!({});
    }
    metadata["name"] = json!(name);
    metadata["labels"] = json!({"batch.kubernetes.io/job-name": job["metadata"]["name"]});
    metadata["ownerReferences"] = json!([{
        "apiVersion": "batch/v1", "kind": "Job", "name": job["metadata"]["name"], "uid": uid, "controller": true,
    }]);
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": job["spec"]["template"]["spec"]});
    match admit(pod, false, cluster.now()) {
        Ok(pod) => {
            let _ = cluster.create(Actor::World, &Key::new(Resource::Pod, name), pod);
        }
        Err(why) => {
            let now = cluster.age();
            cluster.history.say(now, || format!("pod/{name} is refused: {why}"));
        }
    }
}

// ------------------------------------------------------------------------------------------------------- pods

/// Somebody asks for its end, as everybody does.
pub(crate) fn remove(cluster: &mut Cluster, key: &Key) {
    let Some(pod) = cluster.store.get(key) else { return };
    let at_once = pod.value["spec"]["nodeName"].is_null() || is_final(&pod.value);
    let _ = cluster.delete(Actor::World, key, if at_once { 0 } else { 30 });
}

/// The pod garbage collector: Failed, whatever runs, and gone as far as it can tell.
fn bury(cluster: &mut Cluster, key: &Key) {
    cluster.change(key, |pod| {
        if !is_final(pod) {
            pod["status"]["phase"] = json!("Failed");
            push(pod, &json!({"type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC"}));
        }
    });
    let _ = cluster.delete(Actor::World, key, 0);
}

fn pods_on(cluster: &Cluster, node: &str) -> Vec<Key> {
    cluster
        .store
        .list(Resource::Pod)
        .filter(|(_, pod)| pod.value["spec"]["nodeName"] == node && !is_final(&pod.value))
        .filter(|(_, pod)| pod.value["metadata"]["deletionTimestamp"].is_null())
        .map(|(key, _)| key.clone())
        .collect()
}

fn schedule(cluster: &mut Cluster, random: &mut Random) {
    let ready: Vec<String> = cluster
        .store
        .list(Resource::Node)
        .filter(|(_, node)| has(&node.value, "Ready") && node.value["spec"]["taints"].is_null())
        .map(|(key, _)| key.name.clone())
        .collect();
    let waiting: Vec<Key> = cluster
        .store
        .list(Resource::Pod)
        .filter(|(_, pod)| {
            let pod = &pod.value;
            pod["spec"]["nodeName"].is_null()
                && pod["spec"]["schedulingGates"].as_array().is_none_or(Vec::is_empty)
                && pod["metadata"]["deletionTimestamp"].is_null()
        })
        .map(|(key, _)| key.clone())
        .collect();
    for key in waiting {
        if random.chance(700)
            && let Some(node) = random.pick(&ready).cloned()
        {
            cluster.change(&key, |pod| pod["spec"]["nodeName"] = json!(node));
        }
    }
}
