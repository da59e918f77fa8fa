//! The tests that need a cluster: it is brought up, Konductor is installed, they run, it goes down again.
//!
//! May touch: that cluster, and `target/e2e-failure`. What must stay true: tests that lose machines run beside nobody but
//! each other, and on the project's own cluster only; tests that disturb others (they kill daemons, break webhooks) run
//! alone and last; after a failure the state of the cluster is on disk before it is gone.

#![expect(clippy::print_stdout, reason = "saying where the state of a failed run is")]

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use konductor_cluster::{Cluster, Kubernetes, Options as ClusterOptions, Progress};

use super::report::Report;
use super::tally::Tally;
use super::{Options, as_strs, cargo, with_filter};
use crate::images::{self, Images, root, target_folder};
use crate::install;
use crate::target::{self, Target};

const FOLDER: &str = "tests/e2e/tests";
/// Files of tests that others could not bear beside them.
const DISTURBING: &str = "disturb_";
/// The file of tests that each lose a machine of their own.
const MACHINES: &str = "machines";
/// Tests that run at once: they mostly wait.
const THREADS: &str = "--test-threads=4";
/// What the step with [`MACHINES`] is called.
const LOSING: &str = "tests that lose machines";
/// All of these at once: each waits for its own machine to be believed lost.
const THREADS_WITH_MACHINES: &str = "--test-threads=6";
const ONE_THREAD: &str = "--test-threads=1";

/// Test binaries, by how they may run.
struct Groups {
    together: Vec<String>,
    machines: Vec<String>,
    alone: Vec<String>,
}

/// A cluster, and whether it is ours to end.
struct Place {
    target: Target,
    ours: Option<ClusterOptions>,
}

/// Everything from listing the tests to taking the cluster down.
pub(super) fn run(report: &mut Report, options: &Options) {
    let Some(groups) = report.step("finding the tests on a cluster", || Groups::find(&options.filter)) else {
        return;
    };
    if groups.are_empty() {
        report.skip("tests on a cluster", "none has a name like that");
        return;
    }
    let Some(images) = report.step("images", images::build) else { return };
    let mut place = None;
    if report.step("cluster", || find(options, &mut place)).is_none() {
        // What came up half is still ours to end.
        down(report, options, place.and_then(|place| place.ours));
        return;
    }
    let Some(place) = place else { return };
    let tested = report.step("install", || set_up(&place.target, &images)).map(|koncli_image| {
        let mut good = true;
        for (title, binaries, threads) in [
            ("tests on the cluster", &groups.together, THREADS),
            (LOSING, &groups.machines, THREADS_WITH_MACHINES),
            ("tests that disturb the cluster", &groups.alone, ONE_THREAD),
        ] {
            if title == LOSING && !binaries.is_empty() && !place.target.is_own() {
                report.skip(title, "only the project's own cluster has machines to lose");
            } else if !binaries.is_empty() {
                good &= report.tests(title, |tally| {
                    test(&place.target, &koncli_image, binaries, threads, &options.filter, tally)
                });
            }
        }
        good
    });
    if tested != Some(true) {
        match dump(&place.target) {
            Ok(folder) => println!("the state of the cluster after the failure: {}", folder.display()),
            Err(error) => println!("the state of the cluster could not be saved: {error:#}"),
        }
    }
    down(report, options, place.ours);
}

impl Groups {
    /// The binaries that hold a test that is wanted.
    fn find(filter: &[String]) -> Result<Self> {
        let mut groups = Self { together: Vec::new(), machines: Vec::new(), alone: Vec::new() };
        let folder = root().join(FOLDER);
        let mut names: Vec<_> = std::fs::read_dir(&folder)
            .with_context(|| format!("reading {}", folder.display()))?
            .filter_map(|entry| {
                let path = entry.ok()?.path();
                (path.extension()? == "rs").then(|| path.file_stem()?.to_str().map(str::to_owned))?
            })
            .collect();
        names.sort();
        for name in names {
            let arguments = with_filter(
                &["test", "--quiet", "--locked", "--workspace", "--test", &name],
                &["--list", "--ignored"],
                filter,
            );
            if cargo::list(&as_strs(&arguments))?.is_empty() {
                continue;
            }
            let group = match name.as_str() {
                MACHINES => &mut groups.machines,
                name if name.starts_with(DISTURBING) => &mut groups.alone,
                _ => &mut groups.together,
            };
            group.push(name);
        }
        Ok(groups)
    }

    fn are_empty(&self) -> bool {
        [&self.together, &self.machines, &self.alone].iter().all(|group| group.is_empty())
    }
}

fn find(options: &Options, place: &mut Option<Place>) -> Result<()> {
    let any = options.kubernetes == Kubernetes::DEFAULT;
    if options.choice.kubeconfig.is_some() || any && target::has_kind() {
        let target = options.choice.resolve()?;
        *place = Some(Place { target, ours: None });
        return Ok(());
    }
    let own = ClusterOptions {
        name: options.kubernetes.cluster_name(&options.name),
        kubernetes: options.kubernetes,
        nodes: 1,
        progress: Progress::Shown,
    };
    let was_there = Cluster::find(&own)?.is_some();
    let cluster = Cluster::up(&own)?;
    let target = Target::own(cluster);
    *place = Some(Place { target, ours: (!was_there).then_some(own) });
    Ok(())
}

/// Says how a pod names the image of koncli.
fn set_up(target: &Target, images: &Images) -> Result<String> {
    let loaded = target.load(images)?;
    install::install(&target.helm()?, target.kubeconfig(), &loaded, &[])?;
    Ok(loaded.koncli.reference())
}

fn test(
    target: &Target,
    koncli_image: &str,
    binaries: &[String],
    threads: &str,
    filter: &[String],
    tally: &mut Tally,
) -> Result<()> {
    // The whole workspace, so that features are those of the run before and nothing is built again.
    let mut base = vec!["test", "--locked", "--no-fail-fast", "--workspace"];
    for binary in binaries {
        base.extend(["--test", binary.as_str()]);
    }
    let arguments = with_filter(&base, &["--ignored", threads], filter);
    let mut command = cargo::cargo(&as_strs(&arguments));
    command
        .env("KONDUCTOR_E2E_KUBECONFIG", target.kubeconfig())
        .env("KONDUCTOR_E2E_KUBECTL", target.kubectl()?)
        .env("KONDUCTOR_E2E_HELM", target.helm()?)
        .env("KONDUCTOR_E2E_KONCLI", koncli()?)
        .env("KONDUCTOR_E2E_KONCLI_IMAGE", koncli_image)
        .env_remove("KUBECONFIG");
    if binaries.iter().any(|name| name.starts_with(DISTURBING)) {
        let (programs, definitions) = konductor_cluster::cert_manager(Progress::Shown)?;
        command.env("KONDUCTOR_E2E_CERT_MANAGER", programs);
        command.env("KONDUCTOR_E2E_CERT_MANAGER_CRDS", definitions);
    }
    cargo::test(command, tally)?;
    ensure!(tally.ran(), "no test ran, although some were listed");
    Ok(())
}

/// The command line of this tree.
pub(crate) fn koncli() -> Result<PathBuf> {
    cargo::run(cargo::cargo(&["build", "--quiet", "--locked", "--workspace", "--bin", "koncli"]))?;
    Ok(target_folder().join("debug/koncli"))
}

/// What somebody who was not there needs to see.
fn dump(target: &Target) -> Result<PathBuf> {
    let folder = root().join("target/e2e-failure");
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let kubectl = target.kubectl()?;
    let ask = |arguments: &[&str]| kubectl_says(&kubectl, target.kubeconfig(), arguments);
    let namespace = ["--namespace", install::NAMESPACE];
    let save = |file: &str, text: String| std::fs::write(folder.join(file), text);
    save("pods.txt", ask(&["get", "pods", "--all-namespaces", "--output=wide"]))?;
    save("events.txt", ask(&["get", "events", "--all-namespaces", "--sort-by=.lastTimestamp"]))?;
    save("jobs.txt", ask(&["get", "jobs", "--all-namespaces", "--output=wide"]))?;
    save("primitives.yaml", ask(&["get", "konductor", "--all-namespaces", "--output=yaml"]))?;
    save(
        "waiting-pods.txt",
        ask(&["describe", "pods", "--all-namespaces", "-l", "konductor.io/participant=true"]),
    )?;
    save("konductor-pods.txt", ask(&[&["describe", "pods"][..], &namespace].concat()))?;
    for pod in ask(&[&["get", "pods", "--output=name"][..], &namespace].concat()).lines() {
        let Some(name) = pod.strip_prefix("pod/") else { continue };
        let logs =
            |extra: &[&str]| ask(&[&["logs", pod, "--all-containers"][..], &namespace, extra].concat());
        save(&format!("{name}.log"), logs(&[]))?;
        let before = logs(&["--previous"]);
        if !before.contains("previous terminated container") {
            save(&format!("{name}.previous.log"), before)?;
        }
    }
    Ok(folder)
}

/// Its answer or its complaint.
fn kubectl_says(kubectl: &Path, kubeconfig: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new(kubectl);
    command.arg("--kubeconfig").arg(kubeconfig).args(arguments).env_remove("KUBECONFIG");
    match command.output() {
        Ok(output) => {
            let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
            text.push_str(&String::from_utf8_lossy(&output.stderr));
            text
        }
        Err(error) => format!("kubectl does not start: {error}\n"),
    }
}

fn down(report: &mut Report, options: &Options, ours: Option<ClusterOptions>) {
    let Some(own) = ours else { return };
    if options.keep {
        report.skip(
            "cluster down",
            &format!("--keep; to end it: cargo xtask cluster down --name {}", own.name),
        );
        return;
    }
    report.step("cluster down", || Cluster::down(&own).map(drop));
}
