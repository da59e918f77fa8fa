//! `koncli run -- CMD`: a command that holds what it needs while it runs; who dies, sleeps or is cut off; and many at once.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use konductor_api::claim::Claim;
use konductor_api::ledger::Evidence;
use konductor_api::mutex::Mutex;
use konductor_api::semaphore::Semaphore;
use konductor_e2e::cluster::kubeconfig;
use konductor_e2e::namespace::{Namespace, in_namespace};
use konductor_e2e::proxy::Proxy;
use konductor_e2e::tools::{koncli_command, koncli_done as done, koncli_ends as ends};
use konductor_e2e::{primitive, wait};
use kube::api::ListParams;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Child;

/// Of the claims here, in seconds.
const TTL: u64 = 6;

/// What a command under `run` writes, and where.
struct Diary(PathBuf);

impl Diary {
    fn new(namespace: &Namespace) -> Self {
        Self(std::env::temp_dir().join(format!("konductor-e2e-{}.diary", namespace.name())))
    }

    /// Lives until it is killed, writes its pulse, and so does a child of its own.
    fn lives(&self) -> String {
        let file = self.0.display();
        format!(
            "trap '' HUP; (while :; do echo pulse $(date +%s%N) >>{file}; sleep 0.05; done) & \
             while :; do echo pulse $(date +%s%N) >>{file}; sleep 0.05; done"
        )
    }

    /// Says that it is the next, and ends.
    fn next(&self) -> String {
        format!("echo next $(date +%s%N) >>{}", self.0.display())
    }

    /// The last pulse and the start of the next, in nanoseconds.
    fn read(&self) -> Result<(u64, u64)> {
        let text = std::fs::read_to_string(&self.0)?;
        let of = |word: &str| {
            let times = text.lines().filter_map(|line| line.strip_prefix(word)?.trim().parse::<u64>().ok());
            times.max().with_context(|| format!("no {word} in the diary"))
        };
        Ok((of("pulse")?, of("next")?))
    }

    async fn has_pulse(&self) -> Result<()> {
        wait::until_true("it lives", async || {
            Ok(std::fs::read_to_string(&self.0).is_ok_and(|text| text.contains("pulse")))
        })
        .await
    }
}

impl Drop for Diary {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn run(namespace: &Namespace, kubeconfig: &Path, script: &str) -> Result<Child> {
    let mut command = koncli_command(namespace.name(), kubeconfig)?;
    command.args(["run", "db", "--ttl", &format!("{TTL}s"), "--", "sh", "-c", script]);
    Ok(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?)
}

fn signal(child: &Child, signal: Signal) -> Result<()> {
    let id =
        child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw).context("it has ended")?;
    Ok(kill_process(id, signal)?)
}

/// One runs, something happens to it, and the next one runs: the first was dead before.
async fn one_then_the_next(
    namespace: &Namespace,
    kubeconfig_of_first: &Path,
    happens: impl AsyncFnOnce(&mut Child) -> Result<()>,
) -> Result<Child> {
    primitive::mutex(namespace, "db").await?;
    let diary = Diary::new(namespace);
    let mut first = run(namespace, kubeconfig_of_first, &diary.lives())?;
    diary.has_pulse().await?;
    let mut next = run(namespace, &kubeconfig()?, &diary.next())?;
    primitive::until_waiting(namespace, "db", 1).await?;
    happens(&mut first).await?;
    let ended =
        tokio::time::timeout(wait::PATIENCE, next.wait()).await.context("the next one did not run")??;
    ensure!(ended.success(), "{ended:?}");
    let (pulse, start) = diary.read()?;
    ensure!(pulse < start, "it lived {} ms into the next one's time", (pulse - start) / 1_000_000);
    Ok(first)
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_command_dies_with_koncli_and_the_next_one_waits_for_the_whole_ttl() {
    in_namespace("run-killed", async |namespace| {
        one_then_the_next(namespace, &kubeconfig()?, async |first| signal(first, Signal::KILL)).await?;
        let mutex: Mutex = namespace.api().get("db").await?;
        let history = mutex.status.unwrap_or_default().ledger.history;
        assert!(history.iter().any(|release| release.evidence == Evidence::T), "{history:?}");
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_command_is_dead_before_the_hold_of_a_koncli_that_was_stopped_is_lost() {
    in_namespace("run-stopped", async |namespace| {
        let stop = async |first: &mut Child| signal(first, Signal::STOP);
        let mut first = one_then_the_next(namespace, &kubeconfig()?, stop).await?;
        signal(&first, Signal::CONT)?;
        assert_eq!(first.wait().await?.code(), Some(8));
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_command_is_dead_before_the_hold_of_a_koncli_that_is_cut_off_is_lost() {
    in_namespace("run-cut-off", async |namespace| {
        let proxy = Proxy::start(namespace.name()).await?;
        let cut = async |_: &mut Child| {
            proxy.cut(true);
            Ok(())
        };
        let mut first = one_then_the_next(namespace, &proxy.kubeconfig, cut).await?;
        assert_eq!(first.wait().await?.code(), Some(8), "and it does not hang either");
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn who_is_cut_off_for_less_than_the_ttl_does_not_notice() {
    in_namespace("run-short-cut", async |namespace| {
        primitive::mutex(namespace, "db").await?;
        let proxy = Proxy::start(namespace.name()).await?;
        let diary = Diary::new(namespace);
        let first = run(namespace, &proxy.kubeconfig, &diary.lives())?;
        diary.has_pulse().await?;
        let renewed = async || -> Result<_> {
            let claims: Vec<Claim> = namespace.api().list(&ListParams::default()).await?.items;
            Ok(claims.first().and_then(|claim| claim.spec.renew_time.clone()))
        };
        let before = renewed().await?;
        wait::until_true("it is renewed", async || Ok(renewed().await? != before)).await?;
        proxy.cut(true);
        let seen = renewed().await?;
        wait::stays("it is held", Duration::from_millis(1500), async || Ok(renewed().await? == seen)).await?;
        proxy.cut(false);
        wait::until_true("it is renewed again", async || Ok(renewed().await? != seen)).await?;
        primitive::until_held_by(
            namespace,
            "db",
            &format!("claim/{}", primitive::claim_name(namespace).await?),
        )
        .await?;
        signal(&first, Signal::TERM)?;
        primitive::until_free(namespace, "db").await?;
        assert_eq!(primitive::last_evidence(namespace, "db").await?, Some(Evidence::Released));
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn run_passes_codes_signals_input_and_tokens_and_kills_what_is_left() {
    in_namespace("run", async |namespace| {
        primitive::mutex(namespace, "db").await?;
        done(namespace, &["semaphore", "create", "pool", "--permits", "2"]).await?;
        ends(namespace, &["run", "db", "--", "sh", "-c", "exit 42"], 42, "").await?;
        ends(namespace, &["run", "db", "--", "sh", "-c", "kill -9 $$"], 137, "").await?;
        ends(namespace, &["run", "db", "--", "/no/such/command"], 127, "No such file").await?;
        ends(namespace, &["run", "db", "db", "--", "true"], 2, "named twice").await?;
        ends(namespace, &["run", "db"], 2, "CMD").await?;
        let said = done(
            namespace,
            &["run", "db", "--", "sh", "-c", "echo $KONDUCTOR_TOKEN $KONDUCTOR_TOKEN_MUTEX_DB"],
        )
        .await?;
        let tokens: Vec<_> = said.split_whitespace().collect();
        ensure!(tokens.len() == 2 && tokens[0] == tokens[1], "{said:?}");
        let both = [
            "run",
            "db",
            "semaphore/pool=2",
            "--",
            "sh",
            "-c",
            "echo $KONDUCTOR_TOKEN_SEMAPHORE_POOL; test -z $KONDUCTOR_TOKEN",
        ];
        ensure!(done(namespace, &both).await?.trim().parse::<u64>().is_ok());
        // What it leaves behind goes with it.
        let file = std::env::temp_dir().join(format!("konductor-e2e-{}.left", namespace.name()));
        let leaves = format!("(sleep 2; touch {}) >/dev/null 2>&1 & true", file.display());
        done(namespace, &["run", "db", "--", "sh", "-c", &leaves]).await?;
        wait::stays("nothing is left of it", Duration::from_secs(3), async || Ok(!file.exists())).await?;
        // A request to end is the command's to answer.
        let diary = Diary::new(namespace);
        let script =
            format!("trap 'exit 5' TERM; echo pulse 1 >>{}; while :; do sleep 0.05; done", diary.0.display());
        let mut polite = run(namespace, &kubeconfig()?, &script)?;
        diary.has_pulse().await?;
        signal(&polite, Signal::TERM)?;
        assert_eq!(polite.wait().await?.code(), Some(5));
        primitive::until_free(namespace, "db").await?;
        assert!(namespace.api::<Claim>().list(&ListParams::default()).await?.items.is_empty());
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn who_is_interrupted_while_it_waits_leaves_no_claim() {
    in_namespace("run-interrupted", async |namespace| {
        primitive::mutex(namespace, "db").await?;
        done(namespace, &["mutex", "lock", "db", "--holder", "ann"]).await?;
        let mut waits = run(namespace, &kubeconfig()?, "true")?;
        primitive::until_waiting(namespace, "db", 1).await?;
        signal(&waits, Signal::INT)?;
        assert_eq!(waits.wait().await?.code(), Some(130));
        primitive::until_waiting(namespace, "db", 0).await?;
        assert_eq!(namespace.api::<Claim>().list(&ListParams::default()).await?.items.len(), 1);
        Ok(())
    })
    .await;
}

// -------------------------------------------------------------------------------------------------------- many

/// How many at once.
const CROWD: usize = 60;

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_crowd_of_runs_is_never_more_than_the_permits() {
    in_namespace("run-crowd", async |namespace| {
        done(namespace, &["semaphore", "create", "pool", "--permits", "5"]).await?;
        let file = std::env::temp_dir().join(format!("konductor-e2e-{}.crowd", namespace.name()));
        let script = format!(
            "echo start $(date +%s%N) $0 >>{0}; sleep 0.3; echo end $(date +%s%N) $0 >>{0}",
            file.display()
        );
        let mut crowd = Vec::new();
        for number in 0..CROWD {
            let mut command = koncli_command(namespace.name(), &kubeconfig()?)?;
            let holder = format!("c{number}");
            command.args(["run", "semaphore/pool", "--holder", &holder, "--", "sh", "-c", &script, &holder]);
            crowd.push(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
        }
        for mut child in crowd {
            ensure!(child.wait().await?.success());
        }
        let text = std::fs::read_to_string(&file)?;
        std::fs::remove_file(&file)?;
        let mut moments: Vec<(u64, i64)> = Vec::new();
        for line in text.lines() {
            let mut words = line.split(' ');
            let change = if words.next() == Some("start") { 1 } else { -1 };
            moments.push((words.next().and_then(|at| at.parse().ok()).context(line.to_owned())?, change));
        }
        moments.sort_unstable();
        let (mut now, mut most) = (0, 0);
        for (_, change) in &moments {
            now += change;
            most = most.max(now);
        }
        assert_eq!((moments.len(), now, most), (2 * CROWD, 0, 5));
        wait::until(&namespace.api(), "pool", "free again", |semaphore: &Semaphore| {
            semaphore.status.as_ref().is_some_and(|status| status.in_use == 0)
        })
        .await?;
        assert!(namespace.api::<Claim>().list(&ListParams::default()).await?.items.is_empty());
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn who_came_first_runs_first() {
    in_namespace("run-order", async |namespace| {
        primitive::mutex(namespace, "db").await?;
        done(namespace, &["mutex", "lock", "db", "--holder", "first"]).await?;
        let file = std::env::temp_dir().join(format!("konductor-e2e-{}.order", namespace.name()));
        let mut line = Vec::new();
        for number in 0..6 {
            let script = format!("echo {number} $KONDUCTOR_TOKEN >>{}", file.display());
            line.push(run(namespace, &kubeconfig()?, &script)?);
            primitive::until_waiting(namespace, "db", number + 1).await?;
        }
        done(namespace, &["mutex", "unlock", "db", "--holder", "first"]).await?;
        for mut child in line {
            ensure!(child.wait().await?.success());
        }
        let text = std::fs::read_to_string(&file)?;
        std::fs::remove_file(&file)?;
        let numbers: Vec<_> = text.lines().filter_map(|line| line.split(' ').next()).collect();
        assert_eq!(numbers, ["0", "1", "2", "3", "4", "5"]);
        let tokens: Vec<u64> = text.lines().filter_map(|line| line.split(' ').nth(1)?.parse().ok()).collect();
        assert!(tokens.len() == 6 && tokens.is_sorted(), "{text}");
        Ok(())
    })
    .await;
}
