//! What all parts of chaos work on: the cluster, what was seen of it, the workloads, and how it is made whole.
//!
//! May touch: the cluster of its name, whatever is on it, and nothing else. What must stay true: whatever was done to the
//! cluster, [`Scene::until_whole`] undoes it, also after a run that was killed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use konductor_cluster::{Cluster, Options, Progress, Worker};
use serde_json::{Value, json};

use super::journal::{self, Journals};
use super::seen::{Seen, list};
use super::table::Tally;
use super::work::{Form, NAMESPACE, Work, collection};
use crate::install::NAMESPACE as SYSTEM;
use crate::proxy::Proxy;

/// A node that comes back has to be believed, and its pods started.
const PATIENCE: Duration = Duration::from_secs(300);
const STEP: Duration = Duration::from_millis(300);
const DEPLOYMENTS: [&str; 2] = ["konductor-controller-manager", "konductor-webhook"];
/// The table of rules that cut the operator off.
pub(super) const RULES: &str = "konductor_chaos";
/// By which an administrator vouches that a machine is off.
pub(super) const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// See the module.
pub(super) struct Scene {
    options: Options,
    pub(super) cluster: Cluster,
    /// The second node, which is lost in all ways.
    pub(super) worker: Worker,
    pub(super) proxy: Proxy,
    common: PathBuf,
    seen: Mutex<Seen>,
    works: Mutex<Works>,
    tally: Mutex<Tally>,
    calm: AtomicBool,
    over: AtomicBool,
    pub(super) begun: Instant,
}

/// The workloads that were made.
#[derive(Debug, Default)]
pub(super) struct Works {
    pub(super) all: BTreeMap<String, Work>,
    /// Those that chaos takes away itself, or has asked to.
    pub(super) removed: BTreeSet<String>,
}

fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Scene {
    /// On a cluster with two nodes and Konductor.
    pub(super) fn new(options: Options, cluster: Cluster, common: PathBuf) -> Result<Self> {
        let worker = cluster.workers().into_iter().next().context("a second node")?;
        let proxy = Proxy::start_silent(&cluster.kubectl(), &cluster.kubeconfig())?;
        Ok(Self {
            options,
            cluster,
            worker,
            proxy,
            common,
            seen: Mutex::default(),
            works: Mutex::default(),
            tally: Mutex::default(),
            calm: AtomicBool::new(false),
            over: AtomicBool::new(false),
            begun: Instant::now(),
        })
    }

    pub(super) fn seen(&self) -> MutexGuard<'_, Seen> {
        guard(&self.seen)
    }

    pub(super) fn works(&self) -> MutexGuard<'_, Works> {
        guard(&self.works)
    }

    pub(super) fn tally(&self) -> MutexGuard<'_, Tally> {
        guard(&self.tally)
    }

    /// The folder of the journals.
    pub(super) fn common(&self) -> &Path {
        &self.common
    }

    pub(super) fn journals(&self) -> Result<Journals> {
        journal::read(&self.common)
    }

    /// No more faults from now on.
    pub(super) fn calm_down(&self) {
        self.calm.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_calm(&self) -> bool {
        self.calm.load(Ordering::Relaxed)
    }

    /// Nobody needs to listen any more.
    pub(super) fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// It will be gone, and that is no fault of Konductor's.
    pub(super) fn takes_away(&self, name: &str) {
        self.works().removed.insert(name.to_owned());
    }

    // ------------------------------------------------------------------------------------------ on nodes

    /// A program on a node.
    pub(super) fn command_on(&self, node: &str, program: &str) -> Result<Command> {
        if node == self.worker.name() {
            self.worker.command(program)
        } else {
            Ok(self.cluster.node_command(program))
        }
    }

    /// Sends the first process of a container a signal.
    pub(super) fn signal(&self, node: &str, container: &str, signal: &str) -> Result<()> {
        if node == self.worker.name() {
            self.worker.kill_container(container, signal)
        } else {
            self.cluster.kill_container(container, signal)
        }
    }

    pub(super) fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        output(self.cluster.kubectl_command().args(arguments))
    }

    // ------------------------------------------------------------------------------------------ looking

    /// The pods of the workloads, as they are now.
    pub(super) fn pods(&self) -> Result<Vec<Value>> {
        let pods = self.proxy.get(&collection(Form::Pod))?;
        Ok(list(&pods["items"]).cloned().collect())
    }

    /// The pods of a part of Konductor.
    pub(super) fn replicas(&self, component: &str) -> Result<Vec<Value>> {
        let selector = format!("app.kubernetes.io/component%3D{component}");
        let pods = self.proxy.get(&format!("/api/v1/namespaces/{SYSTEM}/pods?labelSelector={selector}"))?;
        Ok(list(&pods["items"]).cloned().collect())
    }

    // ------------------------------------------------------------------------------------------ making it whole

    /// Undoes everything, and waits until all of it works.
    pub(super) fn until_whole(&self) -> Result<()> {
        self.repair()?;
        self.until_serving()
    }

    /// The same for the cluster without Konductor.
    pub(super) fn repair(&self) -> Result<()> {
        Cluster::up(&Options { progress: Progress::Silent, ..self.options.clone() })?;
        self.worker.restore()?;
        self.kubectl(&["taint", "node", &self.worker.name(), &format!("{OUT_OF_SERVICE}-")]).ok();
        for node in ["n1", &self.worker.name()] {
            self.let_through(node);
        }
        Ok(())
    }

    /// Removes the rules that cut an operator off, if there are any.
    pub(super) fn let_through(&self, node: &str) {
        if let Ok(mut command) = self.command_on(node, "nft") {
            let _ = output(command.args(["delete", "table", "inet", RULES]));
        }
    }

    /// Waits until all replicas are ready and an annotated pod would be let in.
    pub(super) fn until_serving(&self) -> Result<()> {
        until("Konductor serves", PATIENCE, || {
            for deployment in DEPLOYMENTS {
                let path = format!("/apis/apps/v1/namespaces/{SYSTEM}/deployments/{deployment}");
                if !is_ready(&self.proxy.get(&path)?) {
                    return Ok(false);
                }
            }
            self.proxy.create(&format!("{}?dryRun=All", collection(Form::Pod)), &sample()).map(|_| true)
        })
    }
}

/// Looks until it is so; a look that fails is repeated like one that says no.
pub(super) fn until(what: &str, patience: Duration, look: impl Fn() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + patience;
    let mut trouble = String::new();
    loop {
        match look() {
            Ok(true) => return Ok(()),
            Ok(false) => trouble.clear(),
            Err(error) => trouble = format!("; the last look failed: {error:#}"),
        }
        ensure!(Instant::now() < deadline, "not within {patience:?}: {what}{trouble}");
        sleep(STEP);
    }
}

fn is_ready(deployment: &Value) -> bool {
    let (spec, status) = (&deployment["spec"], &deployment["status"]);
    status["observedGeneration"] == deployment["metadata"]["generation"]
        && ["readyReplicas", "replicas", "updatedReplicas"].iter().all(|key| status[*key] == spec["replicas"])
}

fn sample() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "sample", "namespace": NAMESPACE, "annotations": {"konductor.io/mutex": "orders"}},
        "spec": {"containers": [{"name": "main", "image": "busybox:1.36", "command": ["true"]}]},
    })
}

/// What it prints, if it ends well.
pub(super) fn output(command: &mut Command) -> Result<String> {
    let program = command.get_program().display().to_string();
    let output = command.output().with_context(|| format!("running {program}"))?;
    ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deployment_is_ready_when_all_it_wants_is_there_and_new() {
        let status = |ready: u32, generation: u32| {
            json!({"metadata": {"generation": 2}, "spec": {"replicas": 2}, "status": {
                "observedGeneration": generation, "readyReplicas": ready, "replicas": 2, "updatedReplicas": 2}})
        };
        assert!(is_ready(&status(2, 2)));
        assert!(
            !is_ready(&status(1, 2))
                && !is_ready(&status(2, 1))
                && !is_ready(&json!({"spec": {"replicas": 2}}))
        );
    }
}
