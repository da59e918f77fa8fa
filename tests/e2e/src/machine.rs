//! A machine of the test's own, that is lost and comes back.
//!
//! A node of the project's own cluster, made for one test and removed after it, however it went. May touch: that node and
//! nothing of the others. What must stay true: what a test says of a process is what the machine shows, also while the
//! cluster hears nothing of it.

use std::panic::AssertUnwindSafe;

use anyhow::{Context, Result, ensure};
use futures::FutureExt;
use konductor_cluster::{Cluster, Worker};
use serde_json::{Value, json};

use crate::cluster;
use crate::namespace::{Namespace, in_namespace};
use crate::tools::kubectl;
use crate::workload::{MAIN, Workload};

/// The node that is there before and after: the control plane and Konductor run on it.
const FIRST: &str = "n1";

const HOSTNAME: &str = "kubernetes.io/hostname";

/// The taint by which an administrator vouches that a machine is off.
pub const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// Counts aloud, and ends well when it is told that it is enough; SIGTERM is nothing to it.
pub const COUNTS_ALOUD: &str = "\
    trap '' TERM; n=0; while [ ! -e /tmp/enough ]; do n=$((n + 1)); echo $n; sleep 0.1; done";

/// See the module.
#[derive(Debug)]
pub struct Machine {
    worker: Worker,
}

/// Runs a test in its own namespace with its own machine.
pub async fn with_machine(purpose: &str, test: impl AsyncFnOnce(&Namespace, &Machine) -> Result<()>) {
    in_namespace(purpose, async |namespace| {
        let machine = Machine::join().await?;
        let outcome = AssertUnwindSafe(Box::pin(test(namespace, &machine))).catch_unwind().await;
        let left = machine.leaves().await;
        match outcome {
            Ok(outcome) => outcome.and(left),
            Err(panicked) => std::panic::resume_unwind(panicked),
        }
    })
    .await;
}

/// Puts a workload on the node that stays.
#[must_use]
pub fn stays_put<K>(workload: Workload<K>) -> Workload<K> {
    on(FIRST, workload)
}

fn on<K>(node: &str, workload: Workload<K>) -> Workload<K> {
    workload.pod("nodeSelector", json!({HOSTNAME: node}))
}

impl Machine {
    async fn join() -> Result<Self> {
        let cluster = Cluster::of_kubeconfig(&cluster::kubeconfig()?)?
            .context("this test loses a machine, which only the project's own cluster has: run it without --kubeconfig")?;
        let worker = tokio::task::spawn_blocking(move || cluster.join()).await??;
        Ok(Self { worker })
    }

    async fn leaves(self) -> Result<()> {
        tokio::task::spawn_blocking(move || self.worker.leave()).await?
    }

    /// Its name.
    pub fn name(&self) -> String {
        self.worker.name()
    }

    /// Puts a workload on it.
    #[must_use]
    pub fn takes<K>(&self, workload: Workload<K>) -> Workload<K> {
        on(&self.name(), workload)
    }

    /// An affinity to it and, where it does not take pods, to the node that stays: never to the machine of another test.
    pub fn prefers(&self) -> Value {
        let one_of = |names: &[&str]| json!({"matchExpressions": [{"key": HOSTNAME, "operator": "In", "values": names}]});
        json!({"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [one_of(&[&self.name(), FIRST])],
            },
            "preferredDuringSchedulingIgnoredDuringExecution": [
                {"weight": 100, "preference": one_of(&[&self.name()])},
            ],
        }})
    }

    // ------------------------------------------------------------------------------------------ losing it

    /// Its power is cut.
    pub async fn loses_power(&self) -> Result<()> {
        self.does(Worker::power_off).await
    }

    /// It boots.
    pub async fn boots(&self) -> Result<()> {
        self.does(Worker::power_on).await
    }

    /// Its cable is pulled.
    pub async fn is_cut_off(&self) -> Result<()> {
        self.does(Worker::cut_off).await
    }

    /// Its cable is plugged in again.
    pub async fn is_mended(&self) -> Result<()> {
        self.does(Worker::mend).await
    }

    /// Its kubelet ends, and nothing else.
    pub async fn loses_its_kubelet(&self) -> Result<()> {
        self.does(Worker::stop_kubelet).await
    }

    /// Its kubelet starts again.
    pub async fn has_its_kubelet_back(&self) -> Result<()> {
        self.does(Worker::start_kubelet).await
    }

    /// Its Node object is deleted.
    pub async fn is_deleted(&self) -> Result<()> {
        self.does(Worker::delete_object).await
    }

    /// Waits until it takes pods, in this boot.
    pub async fn until_ready(&self) -> Result<()> {
        self.does(Worker::wait_until_ready).await
    }

    /// An administrator says that it is off, in the words that a primitive in doubt asks for.
    pub async fn is_declared_off(&self) -> Result<()> {
        let taint = format!("{OUT_OF_SERVICE}=nodeshutdown:NoExecute");
        kubectl("default", &["taint", "node", &self.name(), &taint]).await.map(drop)
    }

    // ------------------------------------------------------------------------------------------ looking at it

    /// What its kernel calls this boot.
    pub fn boot_id(&self) -> Result<String> {
        self.worker.boot_id()
    }

    /// How far the pod, which [`COUNTS_ALOUD`], has come.
    pub async fn count(&self, namespace: &Namespace, pod: &str) -> Result<u64> {
        self.last_words(namespace, pod).await?.parse().context("no number")
    }

    /// The last word that the pod has said, by what is on the machine's disk.
    pub async fn last_words(&self, namespace: &Namespace, pod: &str) -> Result<String> {
        let files = format!("/var/log/pods/{}_{pod}_*/{MAIN}", namespace.name());
        let mut command = self.worker.command("sh")?;
        // The last line may be half there.
        command.args(["-c", &format!("tail -n 2 {files}/*.log | head -n 1")]);
        let output = tokio::task::spawn_blocking(move || command.output()).await??;
        let line = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(line.split_whitespace().last().context("it has said nothing")?.to_owned())
    }

    async fn does(&self, what: impl FnOnce(&Worker) -> Result<()> + Send + 'static) -> Result<()> {
        let worker = self.worker.clone();
        tokio::task::spawn_blocking(move || what(&worker)).await?
    }
}
