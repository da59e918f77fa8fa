//! A node: a set of namespaces around one process that waits.
//!
//! May touch: processes it finds by their arguments, and everything inside the namespaces. What must stay true: the
//! pid namespace holds all that a node runs, so that killing its process 1 ends daemons and pods at once; mounts,
//! interfaces and nft tables go with their namespaces; every part keeps its default paths, which are bound to the
//! cluster's folder; each start is another boot, as the kernel's boot ID tells that it shows.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::cable;
use crate::layout::Layout;
use crate::processes::{self, Pid, proc_of};
use crate::run;

/// By this argument, and the folder after it, a node's process 1 is known.
const MARK: &str = "konductor-node";
/// Made last: what stands without it was left by a run that was killed.
const READY: &str = "run/konductor-ready";
/// How many nodes a cluster can have.
pub const MOST: u8 = 9;

/// What differs between the nodes of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spec {
    number: u8,
}

/// A node whose process 1 runs.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    init: Pid,
    spec: Spec,
}

impl Spec {
    /// The node that the control plane runs on.
    pub(crate) const FIRST: Self = Self { number: 1 };

    /// All others that there can be.
    pub(crate) fn further() -> impl DoubleEndedIterator<Item = Self> {
        (2..=MOST).map(|number| Self { number })
    }

    /// All others that a cluster has, whether they run or not.
    pub(crate) fn joined(layout: &Layout) -> Vec<Self> {
        Self::further().filter(|spec| layout.path(&spec.name()).is_dir()).collect()
    }

    /// Its name, which is its hostname.
    pub(crate) fn name(self) -> String {
        format!("n{}", self.number)
    }

    /// Its hardware address: the same after each boot, so that nobody remembers a wrong one.
    pub(crate) fn hardware_address(self) -> String {
        format!("02:00:0a:0a:00:{:02x}", self.number)
    }

    /// Its own part of a folder of the cluster: the first node's is the folder itself.
    pub(crate) fn part_of(self, folder: &str) -> String {
        if self == Self::FIRST { folder.to_owned() } else { format!("{folder}/{}", self.name()) }
    }

    /// Its address.
    pub(crate) fn address(self) -> String {
        format!("10.10.0.{}", self.number)
    }

    /// Addresses of its pods.
    pub(crate) fn pod_subnet(self) -> String {
        format!("10.244.{}.0/24", self.number)
    }
}

impl Node {
    /// The node if it runs and was set up to the end.
    pub(crate) fn find(layout: &Layout, spec: Spec) -> Option<Self> {
        let init = *find_init(layout, spec).first()?;
        Path::new(&format!("/proc/{init}/root/{READY}")).exists().then_some(Self { init, spec })
    }

    /// All that run, the first one first.
    pub(crate) fn all(layout: &Layout) -> Vec<Self> {
        let specs = std::iter::once(Spec::FIRST).chain(Spec::joined(layout));
        specs.filter_map(|spec| Self::find(layout, spec)).collect()
    }

    /// Starts one; none of this name may be running. All but the first are plugged into the first.
    pub(crate) fn start(layout: &Layout, spec: Spec, first: Option<&Self>) -> Result<Self> {
        // In a session of its own, so that a Ctrl-C in the terminal is not for it; `setsid --fork` leaves it to the
        // machine's process 1, so that no zombie stays with a caller that lives long.
        let mut command = Command::new("setsid");
        command.args(["--fork", "unshare", "--net", "--mount", "--pid", "--uts", "--fork", "--kill-child"]);
        command.arg("--mount-proc").arg(layout.program("pause")).args(mark(layout, spec));
        let null = std::process::Stdio::null;
        command
            .stdin(null())
            .stdout(null())
            .stderr(null())
            .current_dir("/")
            .env_clear()
            .env("PATH", path(layout));
        let status = command.status().context("starting setsid")?;
        ensure!(status.success(), "the namespaces of a node could not be made: setsid: {status}");
        let deadline = Instant::now() + Duration::from_secs(10);
        let init = loop {
            if let [init] = *find_init(layout, spec) {
                break init;
            }
            ensure!(
                Instant::now() < deadline,
                "the namespaces of node {} did not come up in 10 s",
                spec.name()
            );
            sleep(Duration::from_millis(5));
        };
        let node = Self { init, spec };
        if let Some(first) = first {
            cable::plug(first, &node)?;
        }
        let mut setup = node.command("sh");
        setup.args(["-euc", SETUP, "sh"]).arg(layout.path(&spec.name()));
        setup.arg(layout.path(&spec.part_of("config"))).args([spec.name(), spec.address()]);
        setup.arg(if layout.takes_layers()? { "disk" } else { "memory" });
        setup.arg(Spec::FIRST.address()).arg(spec.hardware_address());
        run::output(setup.env("PATH", path(layout)), &format!("set up node {}", spec.name()))?;
        Ok(node)
    }

    /// Ends it like a power cut, and whatever a killed run left of it.
    pub(crate) fn kill(layout: &Layout, spec: Spec) -> Result<bool> {
        let mark = mark(layout, spec);
        let any = || processes::find(|arguments| arguments.ends_with(&mark.each_ref().map(String::as_str)));
        let deadline = Instant::now() + Duration::from_secs(20);
        let found = !any().is_empty();
        loop {
            // All of them: process 1, the unshare that waits for it, and one that has not come that far yet.
            let pids = any();
            if pids.is_empty() {
                return Ok(found);
            }
            ensure!(Instant::now() < deadline, "processes {pids:?} of node {} do not end", spec.name());
            let mut kill = Command::new("kill");
            // Some are gone by then, which kill calls a failure.
            let _ = kill.arg("-KILL").args(pids.iter().map(Pid::to_string)).output();
            sleep(Duration::from_millis(10));
        }
    }

    /// Which one it is.
    pub(crate) fn spec(&self) -> Spec {
        self.spec
    }

    /// Its process 1, as the machine sees it.
    pub(crate) fn init(&self) -> Pid {
        self.init
    }

    /// A program inside, with root's usual path.
    pub(crate) fn command(&self, program: &str) -> Command {
        self.enter(&["-n", "-m", "-p", "-u"], program)
    }

    /// A program inside, but on the machine's network.
    pub(crate) fn command_on_host_network(&self, program: &str) -> Command {
        self.enter(&["-m", "-p", "-u"], program)
    }

    /// A program of the machine, on the node's network.
    pub(crate) fn command_on_its_network(&self, program: &str) -> Command {
        self.enter(&["-n"], program)
    }

    fn enter(&self, namespaces: &[&str], program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.init.to_string()]).args(namespaces).args(["--", program]);
        // A proxy or a kubeconfig of the developer must not reach into the cluster.
        command.env_clear().env("PATH", run::SYSTEM_FOLDERS.join(":")).env("HOME", "/root").current_dir("/");
        command
    }

    /// Where its `/proc` is seen from here.
    pub(crate) fn proc(&self) -> PathBuf {
        proc_of(self.init)
    }

    /// Ends the wait for something that a dead node will never do.
    pub(crate) fn ensure_alive(&self) -> Result<()> {
        if !processes::is_alive(Path::new("/proc"), self.init) {
            let name = self.spec.name();
            bail!("node {name} has been killed, and everything on it: cargo xtask cluster up starts it anew");
        }
        Ok(())
    }
}

/// Path of everything that runs on a node.
pub(crate) fn path(layout: &Layout) -> String {
    format!("{}:{}", layout.path("bin").display(), run::SYSTEM_FOLDERS.join(":"))
}

fn mark(layout: &Layout, spec: Spec) -> [String; 2] {
    [MARK.to_owned(), layout.path(&spec.name()).display().to_string()]
}

fn find_init(layout: &Layout, spec: Spec) -> Vec<Pid> {
    let mark = mark(layout, spec);
    let mark = mark.each_ref().map(String::as_str);
    // Longer ones are of the unshare that waits for it, or will become it.
    processes::find(|arguments| arguments.len() == 3 && arguments.ends_with(&mark))
}

/// Arguments: the node's folder, the folder of its configuration, name, address, where layers lie, address of the first
/// node, hardware address.
const SETUP: &str = r#"
data=$1 config=$2 name=$3 address=$4 layers=$5 first=$6 hardware=$7
mount --make-rshared /
mount -t tmpfs -o mode=755 run /run
for folder in var/lib/kubelet var/lib/containerd var/lib/cni var/log/pods var/log/containers etc/cni; do
	mkdir -p "$data/$folder" "/$folder"
	mount --bind "$data/$folder" "/$folder"
done
if [ "$layers" = memory ]; then
	mount -t tmpfs containerd /var/lib/containerd
fi
# The kubelet would write these for the whole machine; it finds them right and writes nothing.
for setting in vm/overcommit_memory=1 kernel/panic=10 kernel/panic_on_oops=1; do
	file=$data/sysctl/$(basename "${setting%=*}")
	mkdir -p "$data/sysctl"
	echo "${setting#*=}" >"$file"
	mount --bind "$file" "/proc/sys/${setting%=*}"
done
# A node that starts again has booted again, and the kubelet tells by this.
cat /proc/sys/kernel/random/uuid >"$data/boot_id"
mount --bind "$data/boot_id" /proc/sys/kernel/random/boot_id
mkdir -p /etc/cni/net.d
cp "$config/pods.conflist" /etc/cni/net.d/
hostname "$name"
ip link set lo up
if [ "$address" = "$first" ]; then
	# A bridge serves where the kernel has no dummy interface, and later nodes plug into it. Without an address of its own
	# it would take that of whoever plugs in.
	ip link add eth0 type bridge
	ip link set eth0 address "$hardware"
fi
ip address add "$address/24" dev eth0
ip link set eth0 up
# Without one a process that dials a Service is told "unreachable" before the address is translated. The first node
# knows where everybody's pods are.
if [ "$address" = "$first" ]; then
	ip route add default dev eth0
else
	ip route add default via "$first"
fi
echo 1 >/proc/sys/net/ipv4/ip_forward
: >/run/konductor-ready
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_share_neither_a_name_nor_an_address_nor_a_file() {
        let all: Vec<_> = std::iter::once(Spec::FIRST).chain(Spec::further()).collect();
        assert_eq!(all.len(), usize::from(MOST));
        for of in [Spec::name, Spec::address, Spec::hardware_address, Spec::pod_subnet, |spec: Spec| {
            spec.part_of("config")
        }] {
            let different: std::collections::BTreeSet<_> = all.iter().map(|spec| of(*spec)).collect();
            assert_eq!(different.len(), all.len(), "{different:?}");
        }
    }

    #[test]
    fn every_start_is_another_boot() {
        let (before, after) = SETUP.split_once("/proc/sys/kernel/random/boot_id").unwrap();
        assert!(before.contains("random/uuid >\"$data/boot_id\""), "{before}");
        assert!(!after.contains("boot_id"), "{after}");
    }

    #[test]
    fn the_set_up_ends_with_the_mark_of_a_whole_node() {
        assert_eq!(SETUP.trim_end().lines().last().unwrap(), format!(": >/{READY}"));
    }

    #[test]
    fn a_cluster_that_does_not_run_has_no_node() {
        let layout = Layout::new("no-such-cluster").unwrap();
        assert!(Node::find(&layout, Spec::FIRST).is_none());
    }
}
