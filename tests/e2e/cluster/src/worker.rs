//! A node beside the first one: it joins, and is lost in all the ways in which machines are.
//!
//! May touch: its own namespaces, cgroups and part of the cluster's folder, its cable, and its Node object. What must
//! stay true: a power cut leaves what is on the disk and nothing else, and who starts again has booted again; without
//! power, cable or kubelet nothing tells the cluster so but silence; the first node never notices.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::cluster::{Cluster, is_ready, lock};
use crate::daemons::Daemon;
use crate::node::{Node, Spec};
use crate::progress::Progress;
use crate::{cable, cgroups, run};

/// See the module; made by [`Cluster::join`].
#[derive(Clone, Debug)]
pub struct Worker {
    cluster: Cluster,
    spec: Spec,
}

impl Worker {
    pub(crate) fn new(cluster: &Cluster, spec: Spec) -> Self {
        Self { cluster: cluster.clone(), spec }
    }

    /// Its name, which is that of the Node and its label `kubernetes.io/hostname`.
    pub fn name(&self) -> String {
        self.spec.name()
    }

    /// What tells this boot of it from the others, as its kubelet says it.
    pub fn boot_id(&self) -> Result<String> {
        Ok(self.cluster.layout.read(&format!("{}/boot_id", self.name()))?.trim().to_owned())
    }

    /// A program on it: its network, mounts and processes.
    pub fn command(&self, program: &str) -> Result<Command> {
        Ok(self.cluster.command_on(&self.node()?, program))
    }

    // ------------------------------------------------------------------------------------------ power

    /// Cuts the power: everything on it ends at once, and nobody is told.
    pub fn power_off(&self) -> Result<()> {
        ensure!(Node::kill(&self.cluster.layout, self.spec)?, "node {} has no power to cut", self.name());
        cgroups::remove(&self.cgroup())
    }

    /// Boots it; returns when its kubelet was started.
    pub fn power_on(&self) -> Result<()> {
        let layout = &self.cluster.layout;
        ensure!(Node::find(layout, self.spec).is_none(), "node {} is on", self.name());
        // What a run that was killed left half-made.
        Node::kill(layout, self.spec)?;
        cgroups::create(&layout.cgroup(), &self.name())?;
        Node::start(layout, self.spec, Some(&self.cluster.node))?;
        self.start_missing()
    }

    // ------------------------------------------------------------------------------------------ cable

    /// Pulls its cable: all that is on it goes on, and nobody hears of it.
    pub fn cut_off(&self) -> Result<()> {
        cable::cut(&self.cluster.node, self.spec)
    }

    /// Plugs the cable in again.
    pub fn mend(&self) -> Result<()> {
        cable::mend(&self.cluster.node, self.spec)
    }

    // ------------------------------------------------------------------------------------------ kubelet

    /// Ends its kubelet; containers go on.
    pub fn stop_kubelet(&self) -> Result<()> {
        let node = self.node()?;
        ensure!(!Daemon::Kubelet.pids(&self.cluster.layout, &node).is_empty(), "it does not run");
        Daemon::Kubelet.kill(&self.cluster.layout, &node)
    }

    /// Starts its kubelet again.
    pub fn start_kubelet(&self) -> Result<()> {
        let node = self.node()?;
        ensure!(Daemon::Kubelet.pids(&self.cluster.layout, &node).is_empty(), "it runs");
        self.start(Daemon::Kubelet, &node)
    }

    /// Kills a daemon of it and starts it again; containers go on.
    pub fn restart(&self, daemon: Daemon) -> Result<()> {
        ensure!(Daemon::FURTHER.contains(&daemon), "node {} has no {}", self.name(), daemon.name());
        let node = self.node()?;
        daemon.kill(&self.cluster.layout, &node)?;
        self.start(daemon, &node)
    }

    /// Kills the first process of a container on it; see [`Cluster::kill_container`].
    pub fn kill_container(&self, id: &str, signal: &str) -> Result<()> {
        self.cluster.kill_container_on(&self.node()?, id, signal)
    }

    // ------------------------------------------------------------------------------------------ the Node

    /// Deletes its Node object, as a cloud controller does when a machine is gone. A kubelet that runs makes another only
    /// when it is started again.
    pub fn delete_object(&self) -> Result<()> {
        let mut delete = self.cluster.kubectl_command();
        delete.args(["delete", "node", &self.name(), "--ignore-not-found"]);
        run::output(&mut delete, &format!("delete the Node {}", self.name())).map(drop)
    }

    /// Waits until it takes pods, in this boot.
    pub fn wait_until_ready(&self) -> Result<()> {
        let node = self.node()?;
        self.cluster.until_on(&node, "the node is not ready", &Daemon::FURTHER, || self.is_ready())
    }

    pub(crate) fn is_ready(&self) -> Result<()> {
        let mut ask = self.cluster.kubectl_command();
        ask.args(["get", "node", &self.name(), "-o", "json"]);
        let node: Value = serde_json::from_str(&run::output(&mut ask, "ask for the node")?)
            .context("reading what kubectl says")?;
        check(&node, &self.boot_id()?).with_context(|| format!("node {} takes no pods", self.name()))
    }

    // ------------------------------------------------------------------------------------------ beginning and end

    /// Makes it whole, whatever was done to it.
    pub fn restore(&self) -> Result<()> {
        if Node::find(&self.cluster.layout, self.spec).is_none() {
            self.power_on()?;
        }
        self.mend()?;
        self.start_missing()?;
        self.wait_until_ready()
    }

    /// Removes it with all that it left, its Node object included.
    pub fn leave(self) -> Result<()> {
        let (cluster, layout) = (&self.cluster, &self.cluster.layout);
        let _lock = lock(layout, Progress::Silent)?;
        Node::kill(layout, self.spec)?;
        cgroups::remove(&self.cgroup())?;
        cable::unplug(&cluster.node, self.spec)?;
        self.delete_object()?;
        for folder in [self.name(), self.spec.part_of("config"), self.spec.part_of("logs")] {
            layout.remove(&folder)?;
        }
        // It watches as closely as it did before.
        if Spec::joined(layout).is_empty() { cluster.restart(Daemon::ControllerManager) } else { Ok(()) }
    }

    /// Starts what is not alive; images come from the first node, as no registry has them.
    fn start_missing(&self) -> Result<()> {
        let node = self.node()?;
        for daemon in Daemon::FURTHER {
            if daemon.pids(&self.cluster.layout, &node).is_empty() {
                self.start(daemon, &node)?;
            }
            if daemon == Daemon::Containerd {
                self.cluster.until_on(&node, "containerd does not answer", &[daemon], || {
                    self.cluster.ctr(&node, &["version"]).map(drop)
                })?;
                self.copy_images(&node)?;
            }
        }
        Ok(())
    }

    fn copy_images(&self, node: &Node) -> Result<()> {
        let (cluster, there) = (&self.cluster, self.cluster.images(node)?);
        let missing: Vec<_> =
            cluster.images(&cluster.node)?.into_iter().filter(|name| !there.contains(name)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let file = cluster.layout.path(&format!("{}/images.tar", self.name()));
        let path = file.display().to_string();
        // Otherwise a stream carries it, and its end may be on its way yet when ctr ends.
        let mut export = vec!["images", "export", "--local", &path];
        export.extend(missing.iter().map(String::as_str));
        cluster.ctr(&cluster.node, &export)?;
        cluster.ctr(node, &["images", "import", &path])?;
        std::fs::remove_file(&file).with_context(|| format!("removing {path}"))
    }

    fn start(&self, daemon: Daemon, node: &Node) -> Result<()> {
        daemon.start(&self.cluster.layout, node, self.cluster.settings.port())
    }

    fn node(&self) -> Result<Node> {
        Node::find(&self.cluster.layout, self.spec).with_context(|| format!("node {} is off", self.name()))
    }

    fn cgroup(&self) -> String {
        format!("{}/{}", self.cluster.layout.cgroup(), self.name())
    }
}

/// Of a boot before this one a Node may still say that all is well.
fn check(node: &Value, boot_id: &str) -> Result<()> {
    ensure!(
        node["status"]["nodeInfo"]["bootID"] == boot_id,
        "it has not been heard from since it was started"
    );
    ensure!(is_ready(node), "it is not Ready");
    let taints = node["spec"]["taints"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is_down = |taint: &&Value| {
        let key = taint["key"].as_str().unwrap_or_default();
        ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"].contains(&key)
    };
    ensure!(!taints.iter().any(|taint| is_down(&taint)), "it is Ready and its taints are not gone yet");
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(boot_id: &str, ready: &str, taint: &str) -> Value {
        json!({
            "spec": {"taints": [{"key": taint, "effect": "NoSchedule"}]},
            "status": {
                "nodeInfo": {"bootID": boot_id},
                "conditions": [{"type": "MemoryPressure", "status": "False"}, {"type": "Ready", "status": ready}],
            },
        })
    }

    #[test]
    fn a_node_takes_pods_when_this_boot_of_it_says_so_and_its_taints_are_gone() {
        let says = |node: &Value| check(node, "b").map_err(|error| error.to_string());
        assert_eq!(says(&node("b", "True", "other")), Ok(()));
        assert_eq!(says(&json!({"status": node("b", "True", "")["status"]})), Ok(()), "no taints at all");
        for (node, words) in [
            (node("a", "True", "other"), "since it was started"),
            (node("b", "Unknown", "other"), "not Ready"),
            (node("b", "True", "node.kubernetes.io/unreachable"), "taints"),
            (json!({}), "since it was started"),
        ] {
            assert!(says(&node).unwrap_err().contains(words), "{node}");
        }
    }
}
