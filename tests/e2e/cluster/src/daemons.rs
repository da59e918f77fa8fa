//! The daemons of a node: how each is called, started, signalled, and what it said.
//!
//! May touch: processes of the node's pid namespace and the logs in the cluster's folder. What must stay true: there
//! is no supervisor. "Start what is not alive" makes `up` repeatable, and a daemon that died ends a wait with the last
//! lines of its log.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::config::{API_PORT, API_SERVICE, SERVICES};
use crate::layout::Layout;
use crate::node::{self, Node, Spec};
use crate::processes::{self, Pid};
use crate::run;

/// How much of a log is read for its last lines.
const TAIL_BYTES: i64 = 16 * 1024;

/// How the controller manager is told to see the loss of a node within 12 s (and not 50), once there is a node to lose. A
/// cluster of one has the default: its node is busy with tests, and machines that tests only play do not renew.
const WATCHFUL: [&str; 2] = ["--node-monitor-period=1s", "--node-monitor-grace-period=12s"];

/// A part that runs as long as the cluster does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Daemon {
    /// The store.
    Etcd,
    /// The API.
    ApiServer,
    /// Jobs, `ReplicaSets`, garbage collection, taints.
    ControllerManager,
    /// Pods to nodes.
    Scheduler,
    /// Containers of the node.
    Containerd,
    /// Pods of the node.
    Kubelet,
    /// Services.
    Proxy,
    /// Names of Services.
    Dns,
    /// Carries a port of the machine's loopback to the API server.
    Forward,
}

impl Daemon {
    /// What needs nothing else to be there.
    pub(crate) const FIRST: [Self; 4] = [Self::Etcd, Self::ApiServer, Self::Containerd, Self::Forward];
    /// What needs the API server: the controller manager exits for want of RBAC on an empty store, the kubelet for
    /// want of containerd's socket.
    pub(crate) const SECOND: [Self; 5] =
        [Self::ControllerManager, Self::Scheduler, Self::Kubelet, Self::Proxy, Self::Dns];
    /// What a node has that is not the first, in the order of starting.
    pub(crate) const FURTHER: [Self; 3] = [Self::Containerd, Self::Kubelet, Self::Proxy];
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Etcd,
        Self::ApiServer,
        Self::ControllerManager,
        Self::Scheduler,
        Self::Containerd,
        Self::Kubelet,
        Self::Proxy,
        Self::Dns,
        Self::Forward,
    ];

    /// Its program.
    pub fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
            Self::Containerd => "containerd",
            Self::Kubelet => "kubelet",
            Self::Proxy => "kube-proxy",
            Self::Dns => "coredns",
            Self::Forward => "forward",
        }
    }

    pub(crate) fn arguments(self, layout: &Layout, spec: Spec, port: u16) -> Vec<String> {
        let path = |name: &str| layout.path(name).display().to_string();
        let flag = |name: &str, file: &str| format!("--{name}={}", path(file));
        let own = |name: &str| format!("{}/{name}", spec.part_of("config"));
        let plain = |flags: &[&str]| flags.iter().map(|&flag| flag.to_owned()).collect::<Vec<_>>();
        match self {
            // What is written here need not survive the machine.
            Self::Etcd => {
                [vec![flag("data-dir", "etcd")], plain(&["--unsafe-no-fsync", "--log-level=warn"])].concat()
            }
            Self::ApiServer => [
                plain(&[
                    "--etcd-servers=http://127.0.0.1:2379",
                    "--kubelet-preferred-address-types=InternalIP",
                    "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
                    "--authorization-mode=Node,RBAC",
                    "--enable-admission-plugins=NodeRestriction",
                    "--allow-privileged",
                ]),
                vec![
                    format!("--advertise-address={}", spec.address()),
                    format!("--secure-port={API_PORT}"),
                    format!("--service-cluster-ip-range={SERVICES}"),
                    flag("tls-cert-file", "pki/apiserver.crt"),
                    flag("tls-private-key-file", "pki/apiserver.key"),
                    flag("client-ca-file", "pki/ca.crt"),
                    flag("kubelet-client-certificate", "pki/kubelet-client.crt"),
                    flag("kubelet-client-key", "pki/kubelet-client.key"),
                    flag("service-account-key-file", "pki/sa.pub"),
                    flag("service-account-signing-key-file", "pki/sa.key"),
                ],
            ]
            .concat(),
            Self::ControllerManager => [
                vec![
                    flag("kubeconfig", "config/kube-controller-manager.kubeconfig"),
                    flag("service-account-private-key-file", "pki/sa.key"),
                    flag("root-ca-file", "pki/ca.crt"),
                    flag("cluster-signing-cert-file", "pki/ca.crt"),
                    flag("cluster-signing-key-file", "pki/ca.key"),
                ],
                plain(&[
                    "--leader-elect=false",
                    // Webhooks then see the job controller's own account, as on any cluster.
                    "--use-service-account-credentials",
                    // At the default of 20 a second the start of all controllers holds back the first accounts.
                    "--kube-api-qps=200",
                    "--kube-api-burst=400",
                ]),
            ]
            .concat(),
            Self::Scheduler => {
                vec![
                    flag("kubeconfig", "config/kube-scheduler.kubeconfig"),
                    "--leader-elect=false".to_owned(),
                ]
            }
            Self::Containerd => vec!["--config".to_owned(), path("config/containerd.toml")],
            Self::Kubelet => vec![
                flag("config", &own("kubelet.json")),
                flag("kubeconfig", &own("kubelet.kubeconfig")),
                format!("--node-ip={}", spec.address()),
            ],
            Self::Proxy => vec![flag("config", &own("kube-proxy.json"))],
            Self::Dns => vec!["-conf".to_owned(), path("config/Corefile")],
            Self::Forward => vec![format!("127.0.0.1:{port}"), format!("127.0.0.1:{API_PORT}")],
        }
    }

    /// Starts it, alive or not.
    pub(crate) fn start(self, layout: &Layout, node: &Node, port: u16) -> Result<()> {
        let mut command = match self {
            Self::Forward => node.command_on_host_network("sh"),
            _ => node.command("sh"),
        };
        // Its parent is gone at once, so it becomes a child of the node's process 1.
        command.args(["-euc", r#"log=$1; shift; exec setsid --fork "$@" </dev/null >>"$log" 2>&1"#, "sh"]);
        command.arg(self.log(layout, node.spec())).arg(layout.program(self.name()));
        command.args(self.arguments(layout, node.spec(), port)).env("PATH", node::path(layout));
        if self == Self::ControllerManager && !Spec::joined(layout).is_empty() {
            command.args(WATCHFUL);
        }
        run::output(&mut command, &format!("start {}", self.name()))?;
        Ok(())
    }

    /// Its pids as the node sees them.
    pub(crate) fn pids(self, layout: &Layout, node: &Node) -> Vec<Pid> {
        let program = layout.program(self.name()).display().to_string();
        processes::find_in(&node.proc(), |arguments| match arguments {
            // Forked, and about to become it.
            ["setsid", "--fork", next, ..] => *next == program,
            [first, ..] => *first == program,
            [] => false,
        })
    }

    /// Sends it a signal by name, e.g. `STOP`.
    pub(crate) fn signal(self, layout: &Layout, node: &Node, signal: &str) -> Result<()> {
        let pids = self.pids(layout, node);
        ensure!(!pids.is_empty(), "{} does not run, so it cannot get the signal {signal}", self.name());
        let mut command = node.command("kill");
        command.arg(format!("-{signal}")).args(pids.iter().map(Pid::to_string));
        run::output(&mut command, &format!("send {signal} to {}", self.name()))?;
        Ok(())
    }

    /// Ends it without giving it time: a graceful stop of the API server takes a minute with watches open.
    pub(crate) fn kill(self, layout: &Layout, node: &Node) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !self.pids(layout, node).is_empty() {
            ensure!(Instant::now() < deadline, "{} does not end", self.name());
            // It may have ended by itself in between.
            let _ = self.signal(layout, node, "KILL");
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Ends a wait for what a dead daemon would have to do.
    pub(crate) fn ensure_alive(self, layout: &Layout, node: &Node) -> Result<()> {
        if self.pids(layout, node).is_empty() {
            let log = self.log(layout, node.spec());
            bail!("{} has ended; the last of {}:\n{}", self.name(), log.display(), last_words(&log)?);
        }
        Ok(())
    }

    /// Where what it says on a node is kept.
    pub(crate) fn log(self, layout: &Layout, spec: Spec) -> PathBuf {
        layout.path(&spec.part_of("logs")).join(format!("{}.log", self.name()))
    }
}

/// The end of a daemon's log.
fn last_words(path: &Path) -> Result<String> {
    let mut bytes = Vec::new();
    let mut read = || {
        let mut file = File::open(path)?;
        if file.seek(SeekFrom::End(-TAIL_BYTES)).is_err() {
            file.rewind()?;
        }
        file.read_to_end(&mut bytes)
    };
    read().with_context(|| format!("reading {}", path.display()))?;
    Ok(run::last_lines(&String::from_utf8_lossy(&bytes)))
}

/// What the API server's certificate must be good for.
pub(crate) fn api_names(spec: Spec) -> Vec<String> {
    let mut names: Vec<_> = ["", ".default", ".default.svc", ".default.svc.cluster.local"]
        .into_iter()
        .map(|suffix| format!("kubernetes{suffix}"))
        .collect();
    names.extend(["localhost", "127.0.0.1", API_SERVICE].map(str::to_owned));
    names.push(spec.address());
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_daemon_is_started_once() {
        let order: Vec<_> = Daemon::FIRST.into_iter().chain(Daemon::SECOND).collect();
        assert_eq!(order.len(), Daemon::ALL.len());
        assert!(Daemon::ALL.iter().all(|daemon| order.contains(daemon)));
    }

    #[test]
    fn two_daemons_never_share_a_log_or_a_program() {
        let mut names: Vec<_> = Daemon::ALL.iter().map(|daemon| daemon.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Daemon::ALL.len());
    }

    #[test]
    fn a_further_node_reads_its_own_configuration_and_writes_its_own_log() {
        let layout = Layout::new("default").unwrap();
        let second = Spec::further().next().unwrap();
        for daemon in [Daemon::Kubelet, Daemon::Proxy] {
            assert_ne!(
                daemon.arguments(&layout, Spec::FIRST, 0),
                daemon.arguments(&layout, second, 0),
                "{}",
                daemon.name()
            );
        }
        for daemon in Daemon::FURTHER {
            assert_ne!(daemon.log(&layout, Spec::FIRST), daemon.log(&layout, second));
        }
    }

    #[test]
    fn only_the_forwarder_knows_the_machines_port() {
        let layout = Layout::new("default").unwrap();
        for daemon in Daemon::ALL {
            let told = daemon.arguments(&layout, Spec::FIRST, 12345).concat().contains("12345");
            assert_eq!(told, daemon == Daemon::Forward, "{}", daemon.name());
        }
    }
}
