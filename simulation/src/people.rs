//! People: who creates what the story has, who breaks things, and who helps when it is calm.
//!
//! They act through the API only, and on machines by hand. What must stay true: what they vouch for is so: they say that a
//! machine is off only when it is; a primitive that is held is not deleted, because a policy forbids it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::admission::admit;
use crate::cluster::Cluster;
use crate::controllers::remove;
use crate::network::Sky;
use crate::random::Random;
use crate::store::{Actor, Key, Resource};
use crate::story::{Primitive, Workload};
use crate::weather::TROUBLES;

/// Something that goes wrong.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Weather,
    Crash,
    Compact,
    KubeletStops,
    KubeletRestarts,
    Cut,
    Mend,
    PowerOff,
    PowerOn,
    Taint,
    DeleteNode,
    LoseSandbox,
    DeletePod,
    ForceDeletePod,
    BuryPod,
    Suspend,
    Resume,
    DeleteJob,
    DeletePrimitive,
    ChangeSpec,
}

const FAULTS: [(u64, Fault); 20] = [
    (12, Fault::Weather),
    (6, Fault::Crash),
    (2, Fault::Compact),
    (5, Fault::KubeletStops),
    (3, Fault::KubeletRestarts),
    (5, Fault::Cut),
    (4, Fault::Mend),
    (3, Fault::PowerOff),
    (4, Fault::PowerOn),
    (3, Fault::Taint),
    (2, Fault::DeleteNode),
    (4, Fault::LoseSandbox),
    (4, Fault::DeletePod),
    (4, Fault::ForceDeletePod),
    (2, Fault::BuryPod),
    (2, Fault::Suspend),
    (3, Fault::Resume),
    (1, Fault::DeleteJob),
    (1, Fault::DeletePrimitive),
    (2, Fault::ChangeSpec),
];

/// What a fault asks of whoever runs the operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Nothing,
    Crash(usize),
}

fn say(cluster: &mut Cluster, what: impl FnOnce() -> String) {
    let now = cluster.age();
    cluster.history.say(now, what);
}

pub(crate) fn make_primitive(cluster: &mut Cluster, primitive: &Primitive) {
    let key = crate::check::key_of(&primitive.is);
    let _ = cluster.create(Actor::World, &key, json!({"metadata": {}, "spec": primitive.spec}));
}

pub(crate) fn make_workload(cluster: &mut Cluster, workload: &Workload) {
    match admit(workload.object.clone(), workload.is_job, cluster.now()) {
        Ok(object) => {
            let resource = if workload.is_job { Resource::Job } else { Resource::Pod };
            let _ = cluster.create(Actor::World, &Key::new(resource, &workload.name), object);
        }
        Err(why) => say(cluster, || format!("{} is refused: {why}", workload.name)),
    }
}

// -------------------------------------------------------------------------------------------------------- faults

/// Something goes wrong.
pub(crate) fn disturb(cluster: &mut Cluster, skies: &[Sky], random: &mut Random) -> Request {
    let total = FAULTS.iter().map(|(weight, _)| weight).sum::<u64>();
    let mut at = random.between(1, total);
    let fault = FAULTS.iter().find(|(weight, _)| {
        let hit = at <= *weight;
        at = at.saturating_sub(*weight);
        hit
    });
    let Some((_, fault)) = fault else { return Request::Nothing };
    let node = random.below(cluster.machines.len());
    let name = cluster.machines[node].name.clone();
    match fault {
        Fault::Weather => {
            let trouble = *random.pick(&TROUBLES).unwrap_or(&TROUBLES[0]);
            let lasting = random.millis(2_000, 100_000);
            let both = random.chance(300);
            let one = random.below(skies.len());
            for (number, sky) in skies.iter().enumerate().filter(|(number, _)| both || *number == one) {
                sky.look().make(trouble, lasting);
                say(cluster, || format!("weather of operator {number}: {trouble:?} for {lasting:?}"));
            }
        }
        Fault::Crash => {
            let one = random.below(skies.len());
            say(cluster, || format!("operator {one} crashes"));
            return Request::Crash(one);
        }
        Fault::Compact => cluster.store.compact(),
        Fault::KubeletStops => {
            say(cluster, || format!("the kubelet of {name} stops"));
            cluster.machines[node].kubelet = false;
        }
        Fault::KubeletRestarts => {
            say(cluster, || format!("the kubelet of {name} starts again"));
            cluster.restart_kubelet(node);
        }
        Fault::Cut => {
            say(cluster, || format!("{name} is cut off"));
            cluster.machines[node].connected = false;
        }
        Fault::Mend => {
            say(cluster, || format!("{name} is no longer cut off"));
            cluster.mend(node);
        }
        Fault::PowerOff => {
            say(cluster, || format!("{name} loses power"));
            cluster.power_off(node);
        }
        Fault::PowerOn => turn_on(cluster, node),
        Fault::Taint => taint(cluster, node),
        Fault::DeleteNode => {
            let machine = &cluster.machines[node];
            // Of a live machine only if it will say at once that it is there.
            if !machine.on || machine.reports() {
                say(cluster, || format!("Node {name} is deleted"));
                let _ = cluster.delete(Actor::World, &Key::new(Resource::Node, &name), 0);
                let _ = cluster.delete(Actor::World, &Key::new(Resource::NodeLease, &name), 0);
            }
        }
        Fault::LoseSandbox => {
            let uids: Vec<_> = cluster
                .bodies
                .values()
                .filter(|body| cluster.machines[body.node].on)
                .map(|body| body.uid.clone())
                .collect();
            if let Some(uid) = random.pick(&uids) {
                say(cluster, || format!("{uid} loses its sandbox"));
                cluster.lose_sandbox(uid);
            }
        }
        Fault::DeletePod | Fault::ForceDeletePod | Fault::BuryPod => {
            let pods: Vec<Key> = cluster.store.list(Resource::Pod).map(|(key, _)| key.clone()).collect();
            if let Some(key) = random.pick(&pods) {
                say(cluster, || format!("{fault:?} {key}"));
                match fault {
                    Fault::DeletePod => remove(cluster, key),
                    Fault::ForceDeletePod => {
                        let _ = cluster.delete(Actor::World, key, 0);
                    }
                    _ => {
                        cluster.change(key, |pod| {
                            if !matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed")) {
                                pod["status"]["phase"] = json!("Failed");
                            }
                        });
                    }
                }
            }
        }
        Fault::Suspend | Fault::Resume | Fault::DeleteJob => jobs(cluster, *fault, random),
        Fault::DeletePrimitive => {
            let held = |value: &Value| {
                value["status"]["holders"].as_array().is_some_and(|holders| !holders.is_empty())
            };
            let free: Vec<Key> = primitives(cluster)
                .into_iter()
                .filter(|(_, value)| !held(value))
                .map(|(key, _)| key)
                .collect();
            if let Some(key) = random.pick(&free) {
                say(cluster, || format!("{key} is deleted"));
                let _ = cluster.delete(Actor::World, key, 0);
            }
        }
        Fault::ChangeSpec => {
            let all: Vec<Key> = primitives(cluster).into_iter().map(|(key, _)| key).collect();
            let number = random.between(1, 3);
            if let Some(key) = random.pick(&all).cloned() {
                cluster.change(&key, |object| match key.resource {
                    Resource::Semaphore => object["spec"]["permits"] = json!(number),
                    Resource::Barrier => object["spec"]["expected"] = json!(number),
                    Resource::Gate if number == 1 => object["spec"]["override"] = json!("Open"),
                    _ => {}
                });
            }
        }
    }
    Request::Nothing
}

fn primitives(cluster: &Cluster) -> Vec<(Key, Value)> {
    const ALL: [Resource; 8] = [
        Resource::Gate,
        Resource::WaitGroup,
        Resource::Barrier,
        Resource::Semaphore,
        Resource::RWMutex,
        Resource::Mutex,
        Resource::Lease,
        Resource::Once,
    ];
    let of = |resource: &Resource| {
        cluster
            .store
            .list(*resource)
            .map(|(key, version)| (key.clone(), version.value.clone()))
            .collect::<Vec<_>>()
    };
    ALL.iter().flat_map(of).collect()
}

fn jobs(cluster: &mut Cluster, fault: Fault, random: &mut Random) {
    let jobs: Vec<Key> = cluster.store.list(Resource::Job).map(|(key, _)| key.clone()).collect();
    let Some(key) = random.pick(&jobs) else { return };
    say(cluster, || format!("{fault:?} {key}"));
    match fault {
        Fault::Suspend => {
            cluster.change(key, |job| job["spec"]["suspend"] = json!(true));
        }
        Fault::Resume => resume(cluster, key),
        _ => {
            let uid =
                cluster.store.get(key).map(|job| job.value["metadata"]["uid"].clone()).unwrap_or_default();
            if random.chance(400) {
                let pods: Vec<Key> = cluster.store.list(Resource::Pod).map(|(key, _)| key.clone()).collect();
                for pod in pods {
                    cluster.change(&pod, |pod| {
                        let owners = pod["metadata"]["ownerReferences"].as_array();
                        if owners.into_iter().flatten().any(|owner| owner["uid"] == uid) {
                            pod["metadata"]["ownerReferences"] = json!([]);
                        }
                    });
                }
            }
            let _ = cluster.delete(Actor::World, key, 0);
        }
    }
}

/// Whoever suspended it lets it go on; not for us.
fn resume(cluster: &mut Cluster, key: &Key) {
    cluster.change(key, |job| {
        let ours = !job["metadata"]["annotations"][konductor_api::annotations::SUSPENDED].is_null();
        if job["spec"]["suspend"] == true && !ours {
            job["spec"]["suspend"] = json!(false);
        }
    });
}

fn turn_on(cluster: &mut Cluster, node: usize) {
    let name = cluster.machines[node].name.clone();
    if cluster.machines[node].on {
        return;
    }
    say(cluster, || format!("{name} has power again"));
    cluster.change(&Key::new(Resource::Node, &name), |node| {
        if let Some(spec) = node["spec"].as_object_mut() {
            spec.remove("taints");
        }
    });
    cluster.power_on(node);
}

fn taint(cluster: &mut Cluster, node: usize) {
    let name = cluster.machines[node].name.clone();
    if !cluster.machines[node].on {
        say(cluster, || format!("{name} is said to be out of service"));
        cluster.change(&Key::new(Resource::Node, &name), |node| {
            node["spec"]["taints"] =
                json!([{"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute"}]);
        });
    }
}

// ---------------------------------------------------------------------------------------------------------- calm

/// What went wrong is put right; some machines stay off, and people say so.
pub(crate) fn calm(cluster: &mut Cluster, skies: &[Sky], random: &mut Random) {
    say(cluster, || "it is calm".to_owned());
    for sky in skies {
        sky.look().clear();
    }
    for node in 0..cluster.machines.len() {
        if !cluster.machines[node].on && (node == 0 || random.chance(400)) {
            turn_on(cluster, node);
        } else if !cluster.machines[node].on {
            taint(cluster, node);
        } else {
            cluster.mend(node);
            if !cluster.machines[node].kubelet {
                cluster.restart_kubelet(node);
            }
        }
    }
}

/// What people do now and then once it is calm, `since` when.
pub(crate) fn help(cluster: &mut Cluster, story: &[Primitive], since: Duration) {
    for primitive in story {
        make_primitive(cluster, primitive);
    }
    let jobs: Vec<Key> = cluster.store.list(Resource::Job).map(|(key, _)| key.clone()).collect();
    for key in jobs {
        resume(cluster, &key);
    }
    let pods: Vec<_> =
        cluster.store.list(Resource::Pod).map(|(key, pod)| (key.clone(), pod.value.clone())).collect();
    for (key, pod) in pods {
        let node = pod["spec"]["nodeName"].as_str();
        let off = node
            .is_some_and(|name| cluster.machines.iter().any(|machine| machine.name == name && !machine.on));
        let denied = pod["metadata"]["annotations"][konductor_api::annotations::GRANT]
            .as_str()
            .is_some_and(|grant| grant.contains(" deny "));
        let orphan = crate::node::job_of(&pod).is_none()
            && !pod["metadata"]["annotations"][konductor_api::annotations::JOB_PLAN].is_null();
        let works_for_ever = pod["spec"]["restartPolicy"] == "Always" && since > Duration::from_secs(60);
        let is_over = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
        // Said to have failed by somebody who did not look.
        let disowned = is_over && since > Duration::from_secs(30);
        if off || denied || orphan || works_for_ever || disowned {
            remove(cluster, &key);
        }
    }
    if since < Duration::from_secs(40) {
        return;
    }
    for (key, value) in primitives(cluster) {
        match key.resource {
            Resource::Gate if value["status"]["phase"] != "Open" => {
                cluster.change(&key, |gate| gate["spec"]["override"] = json!("Open"));
            }
            Resource::Barrier => {
                cluster.change(&key, |barrier| barrier["spec"]["expected"] = json!(1));
                close(cluster, &key);
            }
            Resource::Semaphore => {
                cluster.change(&key, |semaphore| semaphore["spec"]["permits"] = json!(3));
            }
            Resource::WaitGroup => {
                cluster.change(&key, |group| {
                    if let Some(spec) = group["spec"].as_object_mut() {
                        spec.remove("expectAtLeast");
                    }
                });
                close(cluster, &key);
            }
            _ => {}
        }
    }
}

/// A group that nobody is left to join gets a member that ends, and a barrier that nobody is left to meet one that comes.
fn close(cluster: &mut Cluster, key: &Key) {
    let name = format!("last-{}", key.name);
    let way = match key.resource {
        Resource::WaitGroup => konductor_api::annotations::WAITGROUP,
        _ => konductor_api::annotations::BARRIER,
    };
    let object = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "annotations": {way: key.name}},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "app"}]},
    });
    if cluster.store.get(&Key::new(Resource::Pod, &name)).is_none() {
        make_workload(cluster, &Workload { name, object, is_job: false, comes: Duration::ZERO });
    }
}
