//! Which programs are built, from which sources, with which flags.
//!
//! Pure, but for [`helm`], [`crane`], [`cert_manager`] and [`programs`], which ask the cache. What must stay true: go.mod and go.sum beside the
//! sources pin every byte that is fetched, and nothing but the Go module proxy is asked.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::cache::{Artefact, Cache, Step};
use crate::kubernetes::Kubernetes;
use crate::machine;
use crate::progress::Progress;
use crate::run;

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

/// The parts of the binary of another version; etcd and CoreDNS are those of the servers.
const OF_ANOTHER_VERSION: [&str; 6] =
    ["kube-apiserver", "kube-controller-manager", "kube-proxy", "kube-scheduler", "kubectl", "kubelet"];

/// Builds what is missing of everything a cluster needs, and returns the folders that hold it; of a name that is in two of
/// them the later one counts.
pub(crate) fn programs(kubernetes: Kubernetes, progress: Progress) -> Result<Vec<PathBuf>> {
    let cache = Cache::of_user()?;
    // Short ones first: what is wrong with the machine shows at once.
    let usual = [node(), forward(), runtime(), servers(Kubernetes::DEFAULT)];
    let another = (kubernetes != Kubernetes::DEFAULT).then(|| servers(kubernetes));
    usual.iter().chain(&another).map(|artefact| get(&cache, artefact, progress)).collect()
}

/// The path of a helm, built on first use.
pub fn helm(progress: Progress) -> Result<PathBuf> {
    tool("helm", "helm (about a minute, once)", "helm.sh/helm/v4/cmd/helm", progress)
}

/// The path of a crane, which pushes an archive to a registry without a container engine; built on first use.
pub fn crane(progress: Progress) -> Result<PathBuf> {
    tool("crane", "crane", "github.com/google/go-containerregistry/cmd/crane", progress)
}

/// A cert-manager for tests with its certificates: the folder of its programs, and that of its definitions. The last version
/// whose programs are packages of the module itself.
pub fn cert_manager(progress: Progress) -> Result<(PathBuf, PathBuf)> {
    const MODULE: &str = "github.com/cert-manager/cert-manager";
    let step = |name, package| go(name, &["-ldflags", "-s -w"], "0", package);
    let artefact = Artefact {
        name: "certificates",
        title: "cert-manager (about two minutes, once)",
        source: sources("go/certificates"),
        steps: vec![
            step("cainjector", "github.com/cert-manager/cert-manager/cmd/cainjector"),
            step("controller", "github.com/cert-manager/cert-manager/cmd/controller"),
        ],
        names: &[],
    };
    let programs = get(&Cache::of_user()?, &artefact, progress)?;
    machine::prepare_to_build(false, true, progress)?;
    let mut ask = Command::new("go");
    ask.args(["mod", "download", "-json", MODULE]).current_dir(&artefact.source);
    ask.env("GOWORK", "off").env("GOFLAGS", "");
    let said: serde_json::Value =
        serde_json::from_str(&run::output(&mut ask, "find cert-manager's definitions")?)?;
    let folder = said["Dir"].as_str().context("go did not say where cert-manager's sources are")?;
    Ok((programs, Path::new(folder).join("deploy/crds")))
}

fn get(cache: &Cache, artefact: &Artefact, progress: Progress) -> Result<PathBuf> {
    if !cache.folder(artefact)?.is_dir() {
        let compilers: Vec<_> = artefact.steps.iter().map(|step| step.compiler).collect();
        let c = compilers.contains(&"cc") || artefact.steps.iter().any(Step::links_c);
        machine::prepare_to_build(c, compilers.contains(&"go"), progress)?;
    }
    cache.get(artefact, progress)
}

fn servers(kubernetes: Kubernetes) -> Artefact {
    let package = "k8s.io/component-base/version";
    let Kubernetes { version, sources: folder } = kubernetes;
    let flags = format!(
        "-s -w -X {package}.gitVersion=v{version} -X {package}.gitMajor=1 -X {package}.gitMinor={}",
        kubernetes.number()
    );
    let usual = kubernetes == Kubernetes::DEFAULT;
    Artefact {
        name: folder.trim_start_matches("go/"),
        title: if usual {
            "the Kubernetes servers, etcd and CoreDNS (about five minutes, once)"
        } else {
            "the Kubernetes servers of another version (about five minutes, once)"
        },
        source: sources(folder),
        steps: vec![go("servers", &["-ldflags", &flags], "0", ".")],
        names: if usual { &SERVERS } else { &OF_ANOTHER_VERSION },
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
        for Kubernetes { version, sources: folder } in Kubernetes::ALL {
            let text = std::fs::read_to_string(sources(folder).join("go.mod")).unwrap();
            assert!(text.contains(&format!("k8s.io/kubernetes v{version}\n")), "{folder}: {text}");
        }
    }

    #[test]
    fn each_binary_knows_every_part_it_is_named_for() {
        for kubernetes in Kubernetes::ALL {
            let text = std::fs::read_to_string(sources(kubernetes.sources).join("main.go")).unwrap();
            for name in servers(kubernetes).names {
                assert!(text.contains(&format!("\"{name}\":")), "{kubernetes}: {name}");
            }
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
