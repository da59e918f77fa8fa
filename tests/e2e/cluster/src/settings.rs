//! The files that a cluster is started from: certificates, configuration, programs.
//!
//! May touch: the cluster's folder. What must stay true: they are all written before its node starts, so a node that
//! runs has them all; which programs and settings they were is kept, so that a later version of this tree can tell.

use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::config::{self, API_PORT};
use crate::daemons::{Daemon, api_names};
use crate::kubernetes::Kubernetes;
use crate::layout::Layout;
use crate::node::Spec;
use crate::pki::{Identity, Pki};

const FILE: &str = "settings.json";
/// Below the ports that the kernel gives to outgoing connections.
const PORTS: std::ops::Range<u16> = 20000..30000;

/// What was decided when a cluster was made.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    port: u16,
    fingerprint: String,
    kubernetes: Kubernetes,
}

impl Settings {
    /// Of a cluster that was made before.
    pub(crate) fn read(layout: &Layout) -> Result<Self> {
        let path = layout.path(FILE);
        let read = || -> Result<Self> {
            let value: Value = serde_json::from_str(&std::fs::read_to_string(&path)?)?;
            let port = value["port"].as_u64().and_then(|port| u16::try_from(port).ok());
            let fingerprint = value["fingerprint"].as_str().map(str::to_owned);
            // Earlier clusters do not say, and are what is usual.
            let kubernetes = value["kubernetes"].as_str().map_or(Ok(Kubernetes::DEFAULT), str::parse)?;
            Ok(Self {
                port: port.context("no port")?,
                fingerprint: fingerprint.context("no fingerprint")?,
                kubernetes,
            })
        };
        read().with_context(|| {
            format!(
                "the cluster runs but {} cannot be read: cargo xtask cluster down ends it",
                path.display()
            )
        })
    }

    /// Writes everything that a new cluster needs.
    pub(crate) fn write(
        layout: &Layout,
        spec: Spec,
        kubernetes: Kubernetes,
        programs: &[PathBuf],
    ) -> Result<Self> {
        let settings = Self {
            port: free_port(layout.name())?,
            fingerprint: fingerprint(layout, spec, kubernetes, programs),
            kubernetes,
        };
        layout.link_programs(programs)?;
        for (name, text) in shared_files(layout, spec) {
            layout.write(&format!("config/{name}"), text)?;
        }
        write_own_files(layout, spec, kubernetes)?;
        let pki = write_pki(layout, spec)?;
        write_kubeconfigs(layout, spec, &pki, settings.port)?;
        // Makes the folder.
        layout.write("logs/README", "What each daemon says; appended to when it is started again.\n")?;
        let value = json!({
            "port": settings.port,
            "fingerprint": settings.fingerprint,
            "kubernetes": kubernetes.minor(),
        });
        layout.write(FILE, value.to_string())?;
        Ok(settings)
    }

    /// Writes what a further node of this cluster needs.
    pub(crate) fn write_for_further(&self, layout: &Layout, spec: Spec) -> Result<()> {
        write_own_files(layout, spec, self.kubernetes)?;
        let read = |name: &str| layout.read(&format!("pki/{name}"));
        let pki = Pki::of(read("ca.crt")?, read("ca.key")?, read("sa.key")?, read("sa.pub")?)?;
        write_kubelets_kubeconfig(layout, spec, &pki)?;
        layout.write(&format!("{}/README", spec.part_of("logs")), "What each daemon of this node says.\n")
    }

    /// Whether a cluster made now would be the same.
    pub(crate) fn are_current(
        &self,
        layout: &Layout,
        spec: Spec,
        kubernetes: Kubernetes,
        programs: &[PathBuf],
    ) -> bool {
        self.fingerprint == fingerprint(layout, spec, kubernetes, programs)
    }

    /// Of the machine's loopback, leading to the API server.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

/// Configuration without secrets that all nodes share, by file name; `first` is the one that the control plane runs on.
fn shared_files(layout: &Layout, first: Spec) -> Vec<(&'static str, String)> {
    vec![
        ("Corefile", config::corefile(layout)),
        ("containerd.toml", config::containerd(layout)),
        ("dns.json", config::dns_service(first).to_string()),
        ("resolv.conf", config::resolv_conf(first)),
    ]
}

/// Configuration without secrets of one node.
fn own_files(layout: &Layout, spec: Spec, kubernetes: Kubernetes) -> Vec<(&'static str, String)> {
    vec![
        ("kube-proxy.json", config::proxy(layout, spec, kubernetes).to_string()),
        ("kubelet.json", config::kubelet(layout, spec, kubernetes).to_string()),
        ("pods.conflist", config::cni(spec).to_string()),
    ]
}

fn write_own_files(layout: &Layout, spec: Spec, kubernetes: Kubernetes) -> Result<()> {
    own_files(layout, spec, kubernetes)
        .into_iter()
        .try_for_each(|(name, text)| layout.write(&format!("{}/{name}", spec.part_of("config")), text))
}

fn write_pki(layout: &Layout, spec: Spec) -> Result<Pki> {
    let pki = Pki::new()?;
    let names = api_names(spec);
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let server = pki.server("kube-apiserver", &names)?;
    let client = pki.client("kubelet-client", Some("system:masters"))?;
    for (name, text) in [
        ("ca.crt", &pki.authority),
        ("ca.key", &pki.authority_key),
        ("sa.key", &pki.accounts_key),
        ("sa.pub", &pki.accounts_public),
        ("apiserver.crt", &server.certificate),
        ("apiserver.key", &server.key),
        ("kubelet-client.crt", &client.certificate),
        ("kubelet-client.key", &client.key),
    ] {
        layout.write(&format!("pki/{name}"), text)?;
    }
    Ok(pki)
}

fn write_kubeconfigs(layout: &Layout, spec: Spec, pki: &Pki, port: u16) -> Result<()> {
    for (name, user, group) in [
        ("kube-controller-manager", "system:kube-controller-manager", None),
        ("kube-scheduler", "system:kube-scheduler", None),
        ("kube-proxy", "system:kube-proxy", None),
        ("coredns", "coredns", Some("system:masters")),
    ] {
        let file = format!("config/{name}.kubeconfig");
        write_kubeconfig(layout, &file, &inside(), pki, &pki.client(user, group)?)?;
    }
    write_kubelets_kubeconfig(layout, spec, pki)?;
    let admin = pki.client("admin", Some("system:masters"))?;
    write_kubeconfig(layout, "kubeconfig", &format!("https://127.0.0.1:{port}"), pki, &admin)?;
    hand_over(layout)
}

fn write_kubelets_kubeconfig(layout: &Layout, spec: Spec, pki: &Pki) -> Result<()> {
    let identity = pki.client(&format!("system:node:{}", spec.name()), Some("system:nodes"))?;
    let file = format!("{}/kubelet.kubeconfig", spec.part_of("config"));
    write_kubeconfig(layout, &file, &inside(), pki, &identity)
}

fn write_kubeconfig(layout: &Layout, file: &str, server: &str, pki: &Pki, identity: &Identity) -> Result<()> {
    let context = format!("konductor-{}", layout.name());
    layout.write(file, config::kubeconfig(&context, server, &pki.authority, identity).to_string())
}

/// Where the API server is, as nodes see it.
fn inside() -> String {
    format!("https://{}:{API_PORT}", Spec::FIRST.address())
}

/// Who became root by sudo uses the cluster as who they are.
fn hand_over(layout: &Layout) -> Result<()> {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
    if let (Some(user), Some(group)) = (number("SUDO_UID"), number("SUDO_GID")) {
        let path = layout.kubeconfig();
        std::os::unix::fs::chown(&path, Some(user), Some(group))
            .with_context(|| format!("giving {} to who called sudo", path.display()))?;
    }
    Ok(())
}

/// Clusters of different names start looking at different places, so that two that start at once do not meet.
fn free_port(name: &str) -> Result<u16> {
    let digest = Sha256::digest(name);
    let start = digest.iter().take(2).fold(0, |number, byte| number << 8 | usize::from(*byte)) % PORTS.len();
    PORTS
        .cycle()
        .skip(start)
        .take(PORTS.len())
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .context("no port of 127.0.0.1 between 20000 and 30000 is free for the API server")
}

/// Of everything that a cluster is made of, apart from its keys and its port.
fn fingerprint(layout: &Layout, spec: Spec, kubernetes: Kubernetes, programs: &[PathBuf]) -> String {
    let mut hash = Sha256::new();
    let files = shared_files(layout, spec).into_iter().chain(own_files(layout, spec, kubernetes));
    for (name, text) in files {
        hash.update(format!("{name}\n{text}\n"));
    }
    for daemon in Daemon::ALL {
        hash.update(format!("{:?}\n", daemon.arguments(layout, spec, 0)));
    }
    for folder in programs {
        hash.update(format!("{:?}\n", folder.file_name()));
    }
    format!("{:x}", hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_free_and_the_next_one_is_taken_if_it_is_not() {
        let first = free_port("test-of-ports").unwrap();
        let _taken = TcpListener::bind((Ipv4Addr::LOCALHOST, first)).unwrap();
        let second = free_port("test-of-ports").unwrap();
        assert_ne!(first, second);
        assert!(PORTS.contains(&second));
    }

    #[test]
    fn other_programs_are_other_settings() {
        let layout = Layout::new("default").unwrap();
        let of =
            |folder: &str| fingerprint(&layout, Spec::FIRST, Kubernetes::DEFAULT, &[PathBuf::from(folder)]);
        assert_eq!(of("/a/servers-1"), of("/b/servers-1"));
        assert_ne!(of("/a/servers-1"), of("/a/servers-2"));
    }
}
