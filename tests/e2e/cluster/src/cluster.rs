//! A cluster: the order in which its parts come up, and what tests do with it.
//!
//! May touch: what the modules below it may. What must stay true: `up` twice is one cluster; `up` after a run that
//! was killed at any moment repairs it (a node that is not whole is thrown away with its files, a daemon that is not
//! alive is started); `down` leaves no process, mount, namespace, cgroup or interface.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::daemons::Daemon;
use crate::images;
use crate::kubernetes::Kubernetes;
use crate::layout::Layout;
use crate::node::{Node, Spec};
use crate::progress::Progress;
use crate::settings::Settings;
use crate::worker::Worker;
use crate::{cgroups, machine, recipes, run};

/// The cluster that is meant when none is named.
pub const DEFAULT_NAME: &str = "default";
/// Far more than a slow machine needs.
const PATIENCE: Duration = Duration::from_secs(180);
const PAUSE_BETWEEN_LOOKS: Duration = Duration::from_millis(100);
const SPEC: Spec = Spec::FIRST;

/// Which cluster, and what is said meanwhile.
#[derive(Clone, Debug)]
pub struct Options {
    /// Small letters, digits and dashes; clusters of different names run beside each other.
    pub name: String,
    /// Of what version it is made, if it is made.
    pub kubernetes: Kubernetes,
    /// How many nodes it has at least.
    pub nodes: u8,
    /// Where the lines about progress go.
    pub progress: Progress,
}

/// A cluster that runs.
#[derive(Clone, Debug)]
pub struct Cluster {
    pub(crate) layout: Layout,
    /// The first.
    pub(crate) node: Node,
    pub(crate) settings: Settings,
}

/// What there is of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// Nothing runs.
    Down,
    /// Some of it runs; `up` repairs it.
    Broken {
        /// What is wrong, as a sentence.
        reason: String,
    },
    /// It answers.
    Up {
        /// For whoever uses it.
        kubeconfig: PathBuf,
    },
}

impl Default for Options {
    fn default() -> Self {
        Self {
            name: DEFAULT_NAME.to_owned(),
            kubernetes: Kubernetes::DEFAULT,
            nodes: 1,
            progress: Progress::default(),
        }
    }
}

// ------------------------------------------------------------------------------------------ up, down, status

impl Cluster {
    /// Brings it up, or finds that it is.
    pub fn up(options: &Options) -> Result<Self> {
        let (layout, progress) = (Layout::new(&options.name)?, options.progress);
        machine::prepare_to_run(progress)?;
        let kubernetes = options.kubernetes;
        let programs = recipes::programs(kubernetes, progress)?;
        let _lock = lock(&layout, progress)?;
        if let Some(node) = Node::find(&layout, SPEC) {
            let settings = Settings::read(&layout)?;
            if !settings.are_current(&layout, SPEC, kubernetes, &programs) {
                progress.note(&format!(
                    "cluster {} runs with older programs or settings; to renew it: {COMMAND} down, then up",
                    layout.name()
                ));
            }
            let cluster = Self { layout, node, settings };
            cluster.complete(progress)?;
            cluster.provide_nodes(options.nodes, progress)?;
            return Ok(cluster);
        }
        let cluster =
            progress.step(&format!("making node {} of cluster {}", SPEC.name(), layout.name()), || {
                remove(&layout)?;
                let settings = Settings::write(&layout, SPEC, kubernetes, &programs)?;
                cgroups::create(&layout.cgroup(), &SPEC.name())?;
                let node = Node::start(&layout, SPEC, None)?;
                Ok(Self { layout, node, settings })
            })?;
        cluster.complete(progress)?;
        cluster.provide_nodes(options.nodes, progress)?;
        Ok(cluster)
    }

    /// Ends it and removes all that it left; says whether there was anything.
    pub fn down(options: &Options) -> Result<bool> {
        let layout = Layout::new(&options.name)?;
        machine::can_run()?;
        let _lock = lock(&layout, options.progress)?;
        remove(&layout)
    }

    /// The cluster if it runs, without starting anything.
    pub fn find(options: &Options) -> Result<Option<Self>> {
        let layout = Layout::new(&options.name)?;
        let Some(node) = Node::find(&layout, SPEC) else { return Ok(None) };
        let settings = Settings::read(&layout)?;
        Ok(Some(Self { layout, node, settings }))
    }

    /// The running cluster that this kubeconfig is of, if it is one of ours.
    pub fn of_kubeconfig(file: &Path) -> Result<Option<Self>> {
        let Some(layout) = Layout::of_kubeconfig(file) else { return Ok(None) };
        Self::find(&Options {
            name: layout.name().to_owned(),
            progress: Progress::Silent,
            ..Options::default()
        })
    }

    /// What there is of it.
    pub fn status(options: &Options) -> Result<Status> {
        machine::can_run()?;
        let Some(cluster) = Self::find(options)? else { return Ok(Status::Down) };
        let look = || {
            cluster.ensure_alive(&Daemon::ALL)?;
            cluster.answers()
        };
        Ok(match look() {
            Ok(()) => Status::Up { kubeconfig: cluster.kubeconfig() },
            Err(error) => Status::Broken { reason: format!("{error:#}") },
        })
    }

    /// Starts what is not alive and waits until pods can be created.
    fn complete(&self, progress: Progress) -> Result<()> {
        let missing = |daemons: &[Daemon]| {
            daemons.iter().any(|daemon| daemon.pids(&self.layout, &self.node).is_empty())
        };
        if !missing(&Daemon::ALL) && self.is_ready().is_ok() {
            return Ok(());
        }
        progress.step("starting etcd, the API server and containerd", || {
            self.start_missing(&Daemon::FIRST)?;
            self.until("containerd does not answer", &[Daemon::Containerd], || {
                self.ctr(&self.node, &["version"]).map(drop)
            })?;
            self.import_own_images()?;
            self.until("the API server is not ready", &Daemon::FIRST, || self.answers())
        })?;
        progress.step("starting controllers, scheduler, kubelet, proxy and DNS", || {
            self.start_missing(&Daemon::SECOND)?;
            let dns = self.layout.path("config/dns.json");
            self.until("kube-system does not take the DNS service", &Daemon::ALL, || {
                let mut apply = self.kubectl_command();
                apply
                    .args(["apply", "--server-side", "--force-conflicts", "--validate=false", "-f"])
                    .arg(&dns);
                run::output(&mut apply, "apply the DNS service").map(drop)
            })?;
            self.until("the node is not ready", &Daemon::ALL, || self.is_ready())
        })
    }

    fn start_missing(&self, daemons: &[Daemon]) -> Result<()> {
        for daemon in daemons {
            if daemon.pids(&self.layout, &self.node).is_empty() {
                self.start(*daemon)?;
            }
        }
        Ok(())
    }

    fn until(&self, what: &str, daemons: &[Daemon], look: impl Fn() -> Result<()>) -> Result<()> {
        self.until_on(&self.node, what, daemons, look)
    }

    /// Waits until `look` is content; a node or a daemon on it that dies meanwhile ends the wait.
    pub(crate) fn until_on(
        &self,
        node: &Node,
        what: &str,
        daemons: &[Daemon],
        look: impl Fn() -> Result<()>,
    ) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let Err(error) = look() else { return Ok(()) };
            node.ensure_alive()?;
            daemons.iter().try_for_each(|daemon| daemon.ensure_alive(&self.layout, node))?;
            if Instant::now() > deadline {
                let logs = self.layout.path(&node.spec().part_of("logs"));
                return Err(error.context(format!("{what} after {PATIENCE:?}; look into {}", logs.display())));
            }
            sleep(PAUSE_BETWEEN_LOOKS);
        }
    }

    fn ensure_alive(&self, daemons: &[Daemon]) -> Result<()> {
        daemons.iter().try_for_each(|daemon| daemon.ensure_alive(&self.layout, &self.node))
    }

    fn answers(&self) -> Result<()> {
        let mut ask = self.kubectl_command();
        run::output(ask.args(["get", "--raw", "/readyz"]), "ask the API server").map(drop)
    }

    /// Pods are refused before their account is there, and wait before the node is ready.
    fn is_ready(&self) -> Result<()> {
        let mut ask = self.kubectl_command();
        ask.args(["get", "node,serviceaccount,service,endpointslice", "-A", "-o", "json"]);
        let answer = run::output(&mut ask, "ask for the node")?;
        let list: Value = serde_json::from_str(&answer).context("reading what kubectl says")?;
        let items = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        let find = |kind: &str, name: &str| {
            items.iter().find(|item| item["kind"] == kind && item["metadata"]["name"] == name)
        };
        let node =
            find("Node", &SPEC.name()).with_context(|| format!("node {} has not joined", SPEC.name()))?;
        ensure!(is_ready(node), "node {} is not Ready", SPEC.name());
        let account = items.iter().any(|item| {
            item["kind"] == "ServiceAccount"
                && item["metadata"]["name"] == "default"
                && item["metadata"]["namespace"] == "default"
        });
        ensure!(account, "the default service account is not there");
        ensure!(find("Service", "kube-dns").is_some(), "the DNS service is not there");
        ensure!(find("EndpointSlice", "kube-dns").is_some(), "the DNS service leads nowhere");
        Ok(())
    }

    fn import_own_images(&self) -> Result<()> {
        let there = self.images(&self.node)?;
        let wanted = [images::pause(&self.layout.program("pause"))?, images::busybox()?];
        for image in wanted.iter().filter(|image| !there.iter().any(|name| name == image.name())) {
            let file = format!("images/{}.tar", image.name().replace(['/', ':'], "_"));
            self.layout.write(&file, image.archive()?)?;
            self.import_images(&[self.layout.path(&file)])?;
        }
        Ok(())
    }

    /// Lets nodes join, and starts those that are off, until it has so many.
    fn provide_nodes(&self, count: u8, progress: Progress) -> Result<()> {
        for spec in Spec::further().take(usize::from(count.saturating_sub(1))) {
            let worker = Worker::new(self, spec);
            if Node::find(&self.layout, spec).is_some() && worker.is_ready().is_ok() {
                continue;
            }
            progress.step(&format!("starting node {}", spec.name()), || {
                self.make_room(spec)?;
                worker.restore()
            })?;
        }
        Ok(())
    }

    /// Makes the folder of a further node; says whether it was not there. With the first such node the controller
    /// manager begins to watch nodes closely.
    pub(crate) fn make_room(&self, spec: Spec) -> Result<bool> {
        let alone = Spec::joined(&self.layout).is_empty();
        if !self.layout.claim_folder(&spec.name())? {
            return Ok(false);
        }
        self.settings.write_for_further(&self.layout, spec)?;
        if alone {
            self.restart(Daemon::ControllerManager)?;
        }
        Ok(true)
    }
}

/// Does a node say that it is ready?
pub(crate) fn is_ready(node: &Value) -> bool {
    node["status"]["conditions"].as_array().is_some_and(|conditions| {
        conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
    })
}

/// The command that people use.
const COMMAND: &str = "cargo xtask cluster";

/// Waits for whoever else changes this cluster; an abandoned lock frees itself.
pub(crate) fn lock(layout: &Layout, progress: Progress) -> Result<File> {
    let file = layout.lock_file()?;
    if file.try_lock().is_err() {
        let what = format!("waiting for another run that changes cluster {}", layout.name());
        progress.step(&what, || file.lock().context("waiting for the lock"))?;
    }
    Ok(file)
}

fn remove(layout: &Layout) -> Result<bool> {
    let mut ran = false;
    for spec in Spec::further().rev().chain([SPEC]) {
        ran |= Node::kill(layout, spec)?;
    }
    cgroups::remove(&layout.cgroup())?;
    let existed = layout.path("").exists();
    layout.clear()?;
    Ok(ran || existed)
}

// ---------------------------------------------------------------------------------------------- for its users

impl Cluster {
    /// A kubeconfig with all rights, through the machine's loopback.
    pub fn kubeconfig(&self) -> PathBuf {
        self.layout.kubeconfig()
    }

    /// A kubectl of the cluster's version.
    pub fn kubectl(&self) -> PathBuf {
        self.layout.program("kubectl")
    }

    /// A kubectl for this cluster, whatever the shell says.
    pub fn kubectl_command(&self) -> Command {
        let mut command = Command::new(self.kubectl());
        command.env_remove("KUBECONFIG").arg("--kubeconfig").arg(self.kubeconfig());
        command
    }

    /// Lets another node join, which the caller may lose in all ways; nodes have numbers, and it gets the lowest that is
    /// free. Where it is needed no longer, [`Worker::leave`] removes it; `down` does, too.
    pub fn join(&self) -> Result<Worker> {
        let spec = {
            let _lock = lock(&self.layout, Progress::Silent)?;
            let mut free = Spec::further();
            loop {
                let spec = free.next().context("no more nodes fit in: cargo xtask cluster down, then up")?;
                if self.make_room(spec)? {
                    break spec;
                }
            }
        };
        let worker = Worker::new(self, spec);
        worker.power_on()?;
        worker.wait_until_ready()?;
        Ok(worker)
    }

    /// The nodes beside the first, whether they run or not; none of them may be another test's.
    pub fn workers(&self) -> Vec<Worker> {
        Spec::joined(&self.layout).into_iter().map(|spec| Worker::new(self, spec)).collect()
    }

    /// A folder that is the machine's and, under the same path, each node's: what containers write there with the help of a
    /// `hostPath` is in one order, whatever node they run on. It goes with the cluster.
    pub fn common_folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.layout.path("common").join(name);
        std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        Ok(folder)
    }

    /// Puts images (docker or OCI archives) where pods find them, on all nodes that run.
    pub fn import_images<P: AsRef<Path>>(&self, archives: &[P]) -> Result<()> {
        for archive in archives {
            // The program runs elsewhere.
            let path = std::path::absolute(archive).context("finding the current folder")?;
            ensure!(path.is_file(), "there is no image archive {}", path.display());
            for node in Node::all(&self.layout) {
                self.ctr(&node, &["images", "import", &path.display().to_string()])?;
            }
        }
        Ok(())
    }

    /// A program on the first node: its network, mounts and processes.
    pub fn node_command(&self, program: &str) -> Command {
        self.command_on(&self.node, program)
    }

    /// The same on any node.
    pub(crate) fn command_on(&self, node: &Node, program: &str) -> Command {
        let mut command = node.command(program);
        command.env("PATH", crate::node::path(&self.layout));
        command
    }

    /// Kills the first process of a container on the first node; the id is that of the pod's status, with or without `containerd://`.
    pub fn kill_container(&self, id: &str, signal: &str) -> Result<()> {
        self.kill_container_on(&self.node, id, signal)
    }

    pub(crate) fn kill_container_on(&self, node: &Node, id: &str, signal: &str) -> Result<()> {
        let id = id.trim_start_matches("containerd://");
        let signal = format!("SIG{}", signal.trim_start_matches("SIG"));
        self.ctr(node, &["tasks", "kill", "--signal", &signal, id]).map(drop)
    }

    /// Sends a daemon a signal by name: `STOP`, `CONT`, `KILL`, `TERM`.
    pub fn signal(&self, daemon: Daemon, signal: &str) -> Result<()> {
        daemon.signal(&self.layout, &self.node, signal)
    }

    /// Kills a daemon and returns when it is gone.
    pub fn kill(&self, daemon: Daemon) -> Result<()> {
        daemon.kill(&self.layout, &self.node)
    }

    /// Starts a daemon that does not run.
    pub fn start(&self, daemon: Daemon) -> Result<()> {
        ensure!(daemon.pids(&self.layout, &self.node).is_empty(), "{} runs already", daemon.name());
        daemon.start(&self.layout, &self.node, self.settings.port())
    }

    /// Kills and starts it.
    pub fn restart(&self, daemon: Daemon) -> Result<()> {
        self.kill(daemon)?;
        self.start(daemon)
    }

    /// Waits until the cluster takes pods, e.g. after daemons were killed and started.
    pub fn wait_until_ready(&self) -> Result<()> {
        self.until("the cluster is not ready", &Daemon::ALL, || self.is_ready())
    }

    /// Where a daemon's output goes.
    pub fn log(&self, daemon: Daemon) -> PathBuf {
        daemon.log(&self.layout, SPEC)
    }

    /// The folder of all daemons' logs.
    pub fn logs(&self) -> PathBuf {
        self.layout.path("logs")
    }

    /// The images that a node has, by name.
    pub(crate) fn images(&self, node: &Node) -> Result<Vec<String>> {
        let names = self.ctr(node, &["images", "ls", "-q"])?;
        // The kubelet's runtime keeps each by its digest, too.
        Ok(names.lines().filter(|name| !name.starts_with("sha256:")).map(str::to_owned).collect())
    }

    pub(crate) fn ctr(&self, node: &Node, arguments: &[&str]) -> Result<String> {
        let mut command = self.command_on(node, "ctr");
        command.args(["-n", "k8s.io"]).args(arguments).env("CONTAINERD_SUPPRESS_DEPRECATION_WARNINGS", "1");
        run::output(&mut command, &format!("run ctr {}", arguments.join(" ")))
    }
}
