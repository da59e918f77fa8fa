//! `cargo xtask bench clients`: many `koncli run` at once on one Semaphore, and what they ask of the API server.
//!
//! May touch: one namespace, `target/bench/clients.json`, processes that it starts itself. What must stay true: requests are counted
//! by the API server, and those of the clients alone: of the kind `claims`, less what the operator asks; while everybody waits, for a
//! stated time, and over all.

#![expect(clippy::print_stdout, reason = "the figures are this command's output")]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::figures::{Sample, store};
use super::manifests::NAMESPACE;
use super::{Options, prepare};
use crate::proxy::Proxy;

/// How many permits there are.
const PERMITS: usize = 5;
/// How long everybody is watched while nothing moves.
const STILL: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(180);
const CLAIMS: &str = "/apis/konductor.io/v1/namespaces";

/// Measures, prints, and writes the results down.
pub(super) fn run(options: &Options, koncli: &Path, clients: usize) -> Result<()> {
    let proxy = Proxy::start(&options.kubectl, &options.kubeconfig)?;
    prepare(&proxy)?;
    let semaphore = json!({
        "apiVersion": "konductor.io/v1", "kind": "Semaphore",
        "metadata": {"name": "pool", "namespace": NAMESPACE}, "spec": {"permits": PERMITS},
    });
    proxy.create(&format!("{CLAIMS}/{NAMESPACE}/semaphores"), &semaphore)?;
    let diary = std::env::temp_dir().join(format!("konductor-bench-{}", std::process::id()));
    std::fs::write(&diary, "")?;
    // The first ones hold until they are told to end, so that nothing moves while the others wait.
    let gate = diary.with_extension("gate");
    let blocks = format!("while [ ! -e {} ]; do sleep 0.1; done", gate.display());
    let mut blockers = start(options, koncli, PERMITS, "blocker", &blocks)?;
    until("the permits are taken", || Ok(holding(&proxy)? == PERMITS))?;
    let script =
        format!("echo start $(date +%s%N) >>{0}; sleep 0.2; echo end $(date +%s%N) >>{0}", diary.display());
    let began = Instant::now();
    let mut crowd = start(options, koncli, clients, "client", &script)?;
    until("all of them wait", || Ok(waiting(&proxy)? == clients))?;
    let came = began.elapsed();
    let (before, from) = (requests(&proxy)?, Instant::now());
    while from.elapsed() < STILL {
        std::thread::sleep(Duration::from_secs(1));
    }
    let (still, minutes) = (requests(&proxy)?.saturating_sub(before), from.elapsed().as_secs_f64() / 60.0);
    std::fs::write(&gate, "")?;
    let went = Instant::now();
    for child in blockers.iter_mut().chain(&mut crowd) {
        ensure!(child.wait()?.success(), "a client has failed");
    }
    let took = went.elapsed();
    let all = requests(&proxy)?.saturating_sub(before);
    let text = std::fs::read_to_string(&diary)?;
    std::fs::remove_file(&diary)?;
    std::fs::remove_file(&gate)?;
    let (most, gaps) = overlap(&text)?;
    proxy.remove(&format!("/api/v1/namespaces/{NAMESPACE}"))?;
    let per_minute = count(still) / count(u64::try_from(clients)?) / minutes;
    println!("\n{clients} koncli run, {PERMITS} permits, each command 0.2 s");
    println!("all of them waited after {:.1} s", came.as_secs_f64());
    println!(
        "requests on claims for each waiting client and minute, the operator's among them: {per_minute:.2}"
    );
    println!(
        "requests on claims from then to the end, for each client: {:.1}",
        count(all) / count(u64::try_from(clients)?)
    );
    println!("commands at a time: {most} at most; all had run after {:.1} s", took.as_secs_f64());
    println!(
        "from the end of one command to the start of the next, in ms: p50 {:.0}, p99 {:.0}",
        gaps.at(0.5).unwrap_or_default() * 1e3,
        gaps.at(0.99).unwrap_or_default() * 1e3
    );
    ensure!(most <= PERMITS, "more ran at a time than there are permits");
    ensure!(per_minute <= 2.0, "a client that waits asks too often");
    store(
        "clients",
        &json!({"clients": clients, "perMinute": per_minute, "most": most, "seconds": took.as_secs_f64(), "gaps": gaps.json()}),
    )
}

#[expect(clippy::cast_precision_loss, reason = "counts of requests are far below 2^52")]
fn count(number: u64) -> f64 {
    number as f64
}

fn start(options: &Options, koncli: &Path, number: usize, name: &str, script: &str) -> Result<Vec<Child>> {
    let one = |number: usize| {
        let holder = format!("{name}-{number}");
        let mut command = Command::new(koncli);
        command.args([
            "run",
            "semaphore/pool",
            "--holder",
            &holder,
            "--ttl",
            "2m",
            "-n",
            NAMESPACE,
            "--kubeconfig",
        ]);
        command.arg(&options.kubeconfig).args(["--", "sh", "-c", script]);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("starting koncli")
    };
    (0..number).map(one).collect()
}

fn until(what: &str, holds: impl Fn() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !holds()? {
        ensure!(Instant::now() < deadline, "not within {} s: {what}", PATIENCE.as_secs());
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

fn waiting(proxy: &Proxy) -> Result<usize> {
    let pool = proxy.get(&format!("{CLAIMS}/{NAMESPACE}/semaphores/pool"))?;
    Ok(usize::try_from(pool["status"]["waiting"].as_u64().unwrap_or(0))?)
}

fn holding(proxy: &Proxy) -> Result<usize> {
    let pool = proxy.get(&format!("{CLAIMS}/{NAMESPACE}/semaphores/pool"))?;
    Ok(usize::try_from(pool["status"]["inUse"].as_u64().unwrap_or(0))?)
}

/// Requests on claims, as the API server counts them.
fn requests(proxy: &Proxy) -> Result<u64> {
    let metrics = proxy.text("/metrics")?;
    let lines = metrics.lines().filter(|line| {
        line.starts_with("apiserver_request_total{")
            && line.contains("group=\"konductor.io\"")
            && line.contains("resource=\"claims\"")
    });
    Ok(lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum())
}

/// How many ran at a time at most, and how long a permit lay idle between two commands.
fn overlap(diary: &str) -> Result<(usize, Sample)> {
    let mut moments = Vec::new();
    for line in diary.lines() {
        let (word, at) = line.split_once(' ').context("a line of the diary")?;
        moments.push((at.parse::<u64>()?, word == "start"));
    }
    moments.sort_unstable();
    let (mut now, mut most, mut ends, mut gaps) =
        (0_usize, 0, std::collections::VecDeque::new(), Sample::default());
    for (at, starts) in moments {
        if starts {
            now += 1;
            most = most.max(now);
            if let Some(ended) = ends.pop_front() {
                gaps.extend([Duration::from_nanos(at - ended).as_secs_f64()]);
            }
        } else {
            now -= 1;
            ends.push_back(at);
        }
    }
    Ok((most, gaps))
}
