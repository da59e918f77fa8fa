//! `cargo xtask demo`: a cluster, Konductor, a pipeline of annotated Jobs, told while it happens.
//!
//! May touch: the cluster it works on, there the release and the namespace `konductor-demo`. What must stay true: what
//! is told is read off the cluster, and the command fails if the story did not hold.
//!
//! The way through: [`story`] (objects to sentences) → [`proof`] (did it hold).

#![expect(clippy::print_stdout, reason = "telling is this command's purpose")]

mod proof;
mod story;

use std::path::Path;
use std::process::Command;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use self::proof::{CLAIMS, is_over, problems};
use self::story::Story;
use crate::images::root;
use crate::install;
use crate::proxy::Proxy;
use crate::target::{self, Choice, Target};

const NAMESPACE: &str = "konductor-demo";
const PIPELINE: &str = "examples/quickstart";
/// The pipeline takes a quarter of a minute where its image is at hand; elsewhere it has to be pulled.
const PATIENCE: Duration = Duration::from_secs(300);

/// Brings everything up and tells the story.
pub(crate) fn run(choice: &Choice) -> Result<()> {
    let target = choice.resolve()?;
    install::onto(&target)?;
    let kubectl = target.kubectl()?;
    let proxy = Proxy::start(&kubectl, target.kubeconfig())?;
    fresh_namespace(&proxy)?;
    println!("\nThe pipeline of {PIPELINE}, in namespace {NAMESPACE}:\n");
    println!("  data-validation --Complete--> Gate validation-gate --> model-training");
    println!("  migrate-users, migrate-orders: one at a time, by Mutex database-migration\n");
    let (sender, changes) = channel();
    for path in [
        format!("/apis/batch/v1/namespaces/{NAMESPACE}/jobs"),
        format!("/api/v1/namespaces/{NAMESPACE}/pods"),
        format!("/apis/konductor.io/v1/namespaces/{NAMESPACE}/gates"),
        format!("/apis/konductor.io/v1/namespaces/{NAMESPACE}/mutexes"),
    ] {
        proxy.follow(&path, sender.clone());
    }
    let start = Instant::now();
    apply(&kubectl, target.kubeconfig())?;
    let mut story = Story::default();
    while !is_over(&story) {
        let left = PATIENCE.saturating_sub(start.elapsed());
        let Ok(change) = changes.recv_timeout(left) else { break };
        for line in story.hear(change.object) {
            println!("{:>6.1} s  {:<26} {}", (change.at - start).as_secs_f64(), line.who, line.words);
        }
    }
    let problems = problems(&story);
    if !problems.is_empty() {
        println!("\nThe story did not hold:");
        for problem in &problems {
            println!("  - {problem}");
        }
        next(choice, &target)?;
        bail!("the story did not hold: {}", problems.join("; "));
    }
    println!("\nIt held; checked against the times that the kubelet and the controllers wrote down:");
    for claim in CLAIMS {
        println!("  - {claim}");
    }
    next(choice, &target)
}

/// An empty namespace in which the strictest of Kubernetes' profiles for pods is enforced.
fn fresh_namespace(proxy: &Proxy) -> Result<()> {
    let path = format!("/api/v1/namespaces/{NAMESPACE}");
    proxy.remove(&path)?;
    let namespace = json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": NAMESPACE,
            "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
        },
    });
    proxy.create("/api/v1/namespaces", &namespace).map(drop)
}

fn apply(kubectl: &Path, kubeconfig: &Path) -> Result<()> {
    let mut command = Command::new(kubectl);
    command.arg("--kubeconfig").arg(kubeconfig).args(["--namespace", NAMESPACE, "apply", "--filename"]);
    command.arg(root().join(PIPELINE)).env_remove("KUBECONFIG");
    let output = command.output().with_context(|| format!("running {}", kubectl.display()))?;
    ensure!(output.status.success(), "kubectl apply: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

/// What to look at now, and how to be rid of it.
fn next(choice: &Choice, target: &Target) -> Result<()> {
    let kubectl = target.kubectl()?;
    let kubectl = kubectl.display();
    println!("\nIt is all still there. To look around:\n");
    println!("  export KUBECONFIG={}", target.kubeconfig().display());
    println!("  alias kubectl={kubectl}");
    println!("  kubectl -n {NAMESPACE} get jobs,gates,mutexes");
    println!("  kubectl -n {NAMESPACE} describe pod -l job-name=migrate-orders");
    println!("  kubectl -n {NAMESPACE} logs -l job-name=model-training -c konductor-wait");
    println!("  kubectl -n {NAMESPACE} get mutex database-migration -o yaml");
    println!("  kubectl explain mutex.spec");
    println!("\nTo clean up:\n");
    println!("  kubectl delete namespace {NAMESPACE}");
    let which = match &choice.kubeconfig {
        Some(file) => format!(" --kubeconfig {}", file.display()),
        None => String::new(),
    };
    println!("  cargo xtask uninstall{which}      # Konductor; your gates and mutexes stay");
    if choice.kubeconfig.is_none() && !target::has_kind() {
        println!("  cargo xtask cluster down    # the whole cluster");
    }
    Ok(())
}
