//! Which programs are built, from which sources, with which flags.
//!
//! Pure, but for [`helm`], [`crane`] and [`programs`], which ask the cache. What must stay true: go.mod and go.sum beside the
//! sources pin every byte that is fetched, and nothing but the Go module proxy is asked.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::cache::{Artefact, Cache, Step};
use crate::machine;
use crate::progress::Progress;

/// What the servers say they are; their own build would take it from git. Must be the version in go/servers/go.mod.
pub(crate) const KUBERNETES: &str = "1.36.3";

/// The parts of the servers binary.
const SERVERS: [&str; 8] = [
    "coredns",
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubectl",
    "kubelet",
];

/// Builds what is missing of everything a cluster needs, and returns the folders that hold it.
pub(crate) fn programs(progress: Progress) -> Result<Vec<PathBuf>> {
    let cache = Cache::of_user()?;
    // Short ones first: what is wrong with the machine shows at once.
    [node(), forward(), runtime(), servers()].iter().map(|artefact| get(&cache, artefact, progress)).collect()
}

/// The path of a helm, built on first use.
pub fn helm(progress: Progress) -> Result<PathBuf> {
    tool("helm", "helm (about a minute, once)", "helm.sh/helm/v4/cmd/helm", progress)
}

/// The path of a crane, which pushes an archive to a registry without a container engine; built on first use.
pub fn crane(progress: Progress) -> Result<PathBuf> {
    tool("crane", "crane", "github.com/google/go-containerregistry/cmd/crane", progress)
}

fn get(cache: &Cache, artefact: &Artefact, progress: Progress) -> Result<PathBuf> {
    if !cache.folder(artefact)?.is_dir() {
        let compilers: Vec<_> = artefact.steps.iter().map(|step| step.compiler).collect();
        let c = compilers.contains(&"cc") || artefact.steps.iter().any(Step::links_c);
        machine::prepare_to_build(c, compilers.contains(&"go"), progress)?;
    }
    cache.get(artefact, progress)
}

fn servers() -> Artefact {
    let version = "k8s.io/component-base/version";
    let minor = KUBERNETES.split('.').nth(1).unwrap_or_default();
    let flags = format!(
        "-s -w -X {version}.gitVersion=v{KUBERNETES} -X {version}.gitMajor=1 -X {version}.gitMinor={minor}"
    );
    Artefact {
        name: "servers",
        title: "the Kubernetes servers, etcd and CoreDNS (about five minutes, once)",
        source: sources("go/servers"),
        steps: vec![go("servers", &["-ldflags", &flags], "0", ".")],
        names: &SERVERS,
    }
}

fn runtime() -> Artefact {
    let plain = |output, package| go(output, &["-ldflags", "-s -w"], "0", package);
    Artefact {
        name: "runtime",
        title: "containerd, runc and the network plugins (about a minute, once)",
        source: sources("go/runtime"),
        steps: vec![
            // First, because it is the one that needs a C library. Sandboxes always ask for seccomp.
            go(
                "runc",
                &["-tags", "netgo osusergo seccomp", "-ldflags", "-s -w -extldflags -static"],
                "1",
                "github.com/opencontainers/runc",
            ),
            plain("containerd", "github.com/containerd/containerd/v2/cmd/containerd"),
            plain(
                "containerd-shim-runc-v2",
                "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
            ),
            plain("ctr", "github.com/containerd/containerd/v2/cmd/ctr"),
            plain("host-local", "github.com/containernetworking/plugins/plugins/ipam/host-local"),
            plain("loopback", "github.com/containernetworking/plugins/plugins/main/loopback"),
            plain("portmap", "github.com/containernetworking/plugins/plugins/meta/portmap"),
            plain("ptp", "github.com/containernetworking/plugins/plugins/main/ptp"),
        ],
        names: &[],
    }
}

fn forward() -> Artefact {
    Artefact {
        name: "forward",
        title: "the port forwarder",
        source: sources("go/forward"),
        steps: vec![go("forward", &["-ldflags", "-s -w"], "0", ".")],
        names: &[],
    }
}

fn node() -> Artefact {
    Artefact {
        name: "pause",
        title: "process 1 of nodes and pods",
        source: sources("c"),
        steps: vec![Step {
            output: "pause",
            compiler: "cc",
            before: ["-static", "-Os", "-s", "-Wall"].map(str::to_owned).to_vec(),
            after: vec!["pause.c".to_owned()],
            environment: vec![],
        }],
        names: &[],
    }
}

/// A tool of its own, because a user may need only one of them.
fn tool(name: &'static str, title: &'static str, package: &str, progress: Progress) -> Result<PathBuf> {
    let artefact = Artefact {
        name,
        title,
        source: sources("go/tools"),
        steps: vec![go(name, &["-ldflags", "-s -w"], "0", package)],
        names: &[],
    };
    Ok(get(&Cache::of_user()?, &artefact, progress)?.join(name))
}

fn go(output: &'static str, flags: &[&str], cgo: &'static str, package: &str) -> Step {
    let before = ["build", "-trimpath", "-buildvcs=false", "-mod=readonly"].iter().chain(flags);
    Step {
        output,
        compiler: "go",
        before: before.map(|&flag| flag.to_owned()).collect(),
        after: vec![package.to_owned()],
        // Settings of the developer must not reach in; where modules come from is theirs to say.
        environment: vec![("CGO_ENABLED", cgo), ("GOFLAGS", ""), ("GOWORK", "off"), ("GOEXPERIMENT", "")],
    }
}

impl Step {
    fn links_c(&self) -> bool {
        self.environment.contains(&("CGO_ENABLED", "1"))
    }
}

fn sources(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_say_the_version_that_go_mod_pins() {
        let text = std::fs::read_to_string(sources("go/servers/go.mod")).unwrap();
        assert!(text.contains(&format!("k8s.io/kubernetes v{KUBERNETES}\n")), "{text}");
    }

    #[test]
    fn the_binary_knows_every_part_it_is_named_for() {
        let text = std::fs::read_to_string(sources("go/servers/main.go")).unwrap();
        for name in SERVERS {
            assert!(text.contains(&format!("\"{name}\":")), "{name}");
        }
    }

    #[test]
    fn every_package_of_the_runtime_is_pinned() {
        let text = std::fs::read_to_string(sources("go/runtime/go.mod")).unwrap();
        for step in runtime().steps {
            assert!(text.contains(&format!("\t{}\n", step.after[0])), "{}", step.after[0]);
        }
    }
}
