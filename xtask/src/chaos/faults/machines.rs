//! Faults of the control plane and of machines.
//!
//! May touch: daemons of both nodes, and the second node as a whole. What must stay true: the word that a machine is off is
//! given only while it is off, and taken back only after all that was on it is gone.

use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use konductor_cluster::Daemon;

use super::{Done, Fault, Until};
use crate::chaos::random::Random;
use crate::chaos::scene::{OUT_OF_SERVICE, Scene, until};
use crate::chaos::seen::list;

/// Kubernetes notices within 12 s; garbage of an out-of-service node is collected every 20 s.
const PATIENCE: Duration = Duration::from_secs(180);

/// Does it, undoes it after a while, and leaves the waiting to the caller.
pub(super) fn inject(fault: Fault, scene: &Scene, random: &mut Random) -> Result<Done> {
    let (cluster, worker) = (&scene.cluster, &scene.worker);
    let away = |daemon: Daemon, time: Duration| {
        cluster.kill(daemon)?;
        sleep(time);
        cluster.start(daemon)?;
        Ok::<_, anyhow::Error>(for_so_long(time))
    };
    let what = match fault {
        Fault::ApiServerKilled => away(Daemon::ApiServer, random.seconds(2, 10))?,
        Fault::EtcdKilled => away(Daemon::Etcd, random.seconds(1, 6))?,
        Fault::ControllersKilled => away(Daemon::ControllerManager, random.seconds(2, 15))?,
        Fault::SchedulerKilled => away(Daemon::Scheduler, random.seconds(2, 15))?,
        Fault::FirstKubeletStopped => away(Daemon::Kubelet, random.seconds(5, 30))?,
        Fault::ProxyRestarted => away(Daemon::Proxy, Duration::ZERO)?,
        Fault::KubeletStopped => {
            let time = random.seconds(5, 60);
            worker.stop_kubelet()?;
            sleep(time);
            worker.start_kubelet()?;
            for_so_long(time)
        }
        Fault::ContainerdRestarted => {
            worker.restart(Daemon::Containerd)?;
            "at once".to_owned()
        }
        Fault::CutOff => {
            let time = random.seconds(10, 60);
            worker.cut_off()?;
            sleep(time);
            worker.mend()?;
            for_so_long(time)
        }
        Fault::PowerCycled => {
            let time = random.seconds(0, 15);
            worker.power_off()?;
            sleep(time);
            worker.power_on()?;
            for_so_long(time)
        }
        _ => vouched(scene, random.seconds(0, 20))?,
    };
    Ok(Done { what, until: Until::Whole })
}

fn for_so_long(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// Its power is cut, and after Kubernetes has noticed somebody says that it is off.
fn vouched(scene: &Scene, hesitates: Duration) -> Result<String> {
    let name = scene.worker.name();
    scene.worker.power_off()?;
    until("the loss of the node is noticed", PATIENCE, || {
        let node = scene.proxy.get(&format!("/api/v1/nodes/{name}"))?;
        Ok(list(&node["status"]["conditions"])
            .any(|known| known["type"] == "Ready" && known["status"] != "True"))
    })?;
    sleep(hesitates);
    let on_it = || -> Result<Vec<_>> {
        Ok(scene.pods()?.into_iter().filter(|pod| pod["spec"]["nodeName"] == *name).collect())
    };
    // Nobody makes bare pods anew.
    let mut left = Vec::new();
    until("the pods on the lost node are known", PATIENCE, || on_it().map(|_| true))?;
    left.extend(on_it()?);
    for pod in left.iter().filter(|pod| pod["metadata"]["ownerReferences"].is_null()) {
        scene.takes_away(pod["metadata"]["name"].as_str().unwrap_or_default());
    }
    until("the node is declared out of service", PATIENCE, || {
        let taint = format!("{OUT_OF_SERVICE}=nodeshutdown:NoExecute");
        scene.kubectl(&["taint", "node", "--overwrite", &name, &taint]).map(|_| true)
    })?;
    until("the pods of the node that is out of service are gone", PATIENCE, || Ok(on_it()?.is_empty()))?;
    scene.worker.power_on()?;
    Ok(format!("with {} pods", left.len()))
}
