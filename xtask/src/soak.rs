//! `cargo xtask soak`: admission while everything about it changes.
//!
//! Serving certificates that live a minute, a new CA every eight minutes, two replicas of the webhook, a rolling restart every
//! two minutes, and annotated pods all the while, as dry runs: each crosses admission in full and leaves nothing behind. May touch: the namespace
//! `konductor-soak`, and the installation on the cluster. What must stay true: nothing is counted as passed that was not
//! seen injected.

#![expect(clippy::print_stdout, reason = "the figures are this command's output")]

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::{Value, json};

use crate::images;
use crate::install::{self, NAMESPACE as SYSTEM};
use crate::proxy::Proxy;
use crate::target::{Choice, Target};

const NAMESPACE: &str = "konductor-soak";
/// Of a serving certificate.
const LIFE: &str = "60s";
/// Of two CAs; a rotation takes a little more than two of them.
const OVERLAP: &str = "2m";
const ROTATE_EVERY: Duration = Duration::from_secs(480);
const RESTART_EVERY: Duration = Duration::from_secs(120);
const TELL_EVERY: Duration = Duration::from_secs(60);
/// Pods in a second.
const RATE: u32 = 10;

/// For how long, and where.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Minutes
    #[arg(long, default_value_t = 30)]
    minutes: u64,
    #[command(flatten)]
    choice: Choice,
}

/// What was seen.
#[derive(Debug, Default)]
struct Seen {
    admitted: u64,
    failed: Vec<String>,
    not_injected: u64,
    slowest: Duration,
    /// Bundles that were trusted.
    bundles: BTreeSet<String>,
}

/// Soaks, prints, and fails if anything went wrong.
pub(crate) fn run(options: &Options) -> Result<()> {
    let target = options.choice.resolve()?;
    let images = images::build()?;
    let values = [
        format!("webhook.additionalArgs[0]=--leaf-life={LIFE}"),
        format!("webhook.additionalArgs[1]=--ca-overlap={OVERLAP}"),
    ];
    install::install(&target.helm()?, target.kubeconfig(), &target.load(&images)?, &values)?;
    let proxy = Proxy::start(&target.kubectl()?, target.kubeconfig())?;
    proxy.remove(&format!("/api/v1/namespaces/{NAMESPACE}"))?;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    proxy.create("/api/v1/namespaces", &namespace)?;
    println!(
        "{} minutes: certificates of {LIFE}, a new CA each {ROTATE_EVERY:.0?}, a rolling restart each {RESTART_EVERY:.0?}, {RATE} pods in a second",
        options.minutes
    );
    let seen = soak(&proxy, &target, Duration::from_secs(60 * options.minutes))?;
    proxy.remove(&format!("/api/v1/namespaces/{NAMESPACE}"))?;
    for failure in seen.failed.iter().take(5) {
        println!("failed: {failure}");
    }
    ensure!(
        seen.failed.is_empty() && seen.not_injected == 0,
        "{} admissions failed, and {} pods were not injected",
        seen.failed.len(),
        seen.not_injected
    );
    Ok(())
}

fn soak(proxy: &Proxy, target: &Target, time: Duration) -> Result<Seen> {
    let (start, mut seen, mut restarts) = (Instant::now(), Seen::default(), 0);
    let (mut next_restart, mut next_word) = (start + RESTART_EVERY, start + TELL_EVERY);
    let mut next_rotation = start;
    let mut number = 0;
    while start.elapsed() < time {
        let due = start + Duration::from_secs(1) / RATE * number;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        number += 1;
        one(proxy, &mut seen);
        let now = Instant::now();
        if now >= next_restart {
            // It goes on while pods come.
            kubectl(target, &["rollout", "restart", "deployment/konductor-webhook"])?;
            (next_restart, restarts) = (now + RESTART_EVERY, restarts + 1);
        }
        if now >= next_rotation {
            let ask = ["annotate", "--overwrite", "secret/konductor-ca", "konductor.io/rotate-ca=now"];
            kubectl(target, &ask)?;
            next_rotation = now + ROTATE_EVERY;
        }
        if now >= next_word {
            seen.bundles.insert(bundle(proxy)?);
            println!(
                "{:>5.0?}: {} admitted, {} failed, {} not injected, {restarts} restarts, {} bundles, slowest {:.0?}",
                start.elapsed(),
                seen.admitted,
                seen.failed.len(),
                seen.not_injected,
                seen.bundles.len(),
                seen.slowest
            );
            next_word = now + TELL_EVERY;
        }
    }
    println!(
        "{} admitted, {} failed, {} not injected, {restarts} restarts, {} bundles of CAs",
        seen.admitted,
        seen.failed.len(),
        seen.not_injected,
        seen.bundles.len()
    );
    Ok(seen)
}

/// One annotated pod through admission.
fn one(proxy: &Proxy, seen: &mut Seen) {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"generateName": "soaks-", "annotations": {"konductor.io/mutex": "db"}},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "busybox:1.36"}]},
    });
    let begun = Instant::now();
    match proxy.create(&format!("/api/v1/namespaces/{NAMESPACE}/pods?dryRun=All"), &pod) {
        Ok(made) if is_injected(&made) => seen.admitted += 1,
        Ok(_) => seen.not_injected += 1,
        Err(error) => seen.failed.push(format!("{error:#}")),
    }
    seen.slowest = seen.slowest.max(begun.elapsed());
}

fn is_injected(pod: &Value) -> bool {
    let inits = pod["spec"]["initContainers"].as_array().into_iter().flatten();
    inits.into_iter().any(|container| container["name"] == "konductor-wait")
}

/// What the API server trusts.
fn bundle(proxy: &Proxy) -> Result<String> {
    let path = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/konductor";
    let live = proxy.get(path)?;
    Ok(live["webhooks"][0]["clientConfig"]["caBundle"].as_str().unwrap_or_default().to_owned())
}

fn kubectl(target: &Target, arguments: &[&str]) -> Result<()> {
    let status = Command::new(target.kubectl()?)
        .arg("--kubeconfig")
        .arg(target.kubeconfig())
        .args(["--namespace", SYSTEM])
        .args(arguments)
        .env_remove("KUBECONFIG")
        .status()
        .context("running kubectl")?;
    ensure!(status.success(), "kubectl {} failed; its words are above", arguments.join(" "));
    Ok(())
}
