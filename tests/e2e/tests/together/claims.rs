//! Claims: everybody else at the same table as Jobs and Pods; who dies, sleeps or is cut off; who may do what.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use konductor_api::claim::{Claim, ClaimPhase};
use konductor_api::ledger::Evidence;
use konductor_api::mutex::Mutex;
use konductor_api::semaphore::Semaphore;
use konductor_e2e::cluster::kubeconfig;
use konductor_e2e::namespace::{Namespace, in_namespace};
use konductor_e2e::proxy::Proxy;
use konductor_e2e::tools::{
    Said, in_tree, koncli, koncli_as, koncli_command, koncli_image, kubectl, kubectl_with,
};
use konductor_e2e::workload::{is_running, job, main, pod, until_complete, until_pod};
use konductor_e2e::{primitive, wait};
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::process::Child;

/// Of the claims here, in seconds.
const TTL: u64 = 6;

async fn done(namespace: &Namespace, arguments: &[&str]) -> Result<Said> {
    let said = koncli(namespace.name(), arguments).await?;
    ensure!(said.code == Some(0), "koncli {}: {said:?}", arguments.join(" "));
    Ok(said)
}

async fn ends(namespace: &Namespace, arguments: &[&str], code: i32, words: &str) -> Result<()> {
    let said = koncli(namespace.name(), arguments).await?;
    let right = said.code == Some(code) && said.err.contains(words);
    ensure!(right, "koncli {}: {code} and {words:?} expected of {said:?}", arguments.join(" "));
    Ok(())
}

/// What the last hold of a mutex ended on.
async fn last(namespace: &Namespace, mutex: &str) -> Result<Option<Evidence>> {
    let mutex: Mutex = namespace.api().get(mutex).await?;
    Ok(mutex.status.and_then(|status| status.ledger.history.first().map(|release| release.evidence)))
}

// ---------------------------------------------------------------------------------------------- the same table

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_person_and_jobs_take_turns_and_the_token_rises() {
    in_namespace("claims", async |namespace| {
        primitive::mutex(namespace, "db").await?;
        let said = done(namespace, &["mutex", "lock", "db", "--holder", "ann", "-o", "json"]).await?;
        let first: Value = serde_json::from_str(&said.out)?;
        job("migrate").mutex("db").create(namespace).await?;
        primitive::until_waiting(namespace, "db", 1).await?;
        let again: Value = serde_json::from_str(
            &done(namespace, &["mutex", "lock", "db", "--holder", "ann", "-o", "json"]).await?.out,
        )?;
        assert_eq!(first["token"], again["token"], "the same holder asking twice is the same claim");
        ends(namespace, &["mutex", "lock", "db", "--holder", "bob", "--timeout", "0"], 5, "does not want to")
            .await?;
        ends(namespace, &["mutex", "lock", "db", "--holder", "bob", "--timeout", "1s"], 3, "1s are over")
            .await?;
        ends(namespace, &["mutex", "unlock", "db", "--holder", "bob"], 7, "it is held by").await?;
        done(namespace, &["mutex", "unlock", "db", "--holder", "ann"]).await?;
        until_complete(namespace, "migrate").await?;
        let third: Value = serde_json::from_str(
            &done(namespace, &["mutex", "lock", "db", "--holder", "bob", "-o", "json"]).await?.out,
        )?;
        let token = |said: &Value| said["token"].as_str().and_then(|text| text.parse::<u64>().ok());
        assert!(token(&first) < token(&third), "{first} {third}");
        let left: Vec<Claim> = namespace.api().list(&ListParams::default()).await?.items;
        assert_eq!(left.len(), 1, "who gave up left nothing behind: {left:?}");
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn every_kind_can_be_claimed() {
    in_namespace("claims-kinds", async |namespace| {
        for create in [
            &["semaphore", "create", "s", "--permits", "3"][..],
            &["rwmutex", "create", "rw"],
            &["lease", "create", "l"],
            &["barrier", "create", "b", "--expected", "2"],
            &["waitgroup", "create", "w"],
            &["once", "create", "o"],
        ] {
            done(namespace, create).await?;
        }
        done(namespace, &["semaphore", "acquire", "s", "--holder", "a", "--permits", "2"]).await?;
        ends(
            namespace,
            &["semaphore", "acquire", "s", "--holder", "b", "--permits", "2", "--timeout", "0"],
            5,
            "",
        )
        .await?;
        ends(
            namespace,
            &["semaphore", "acquire", "s", "--holder", "b", "--permits", "4"],
            6,
            "ask for fewer",
        )
        .await?;
        ends(
            namespace,
            &["semaphore", "acquire", "s", "--holder", "a", "--permits", "1"],
            1,
            "give that back first",
        )
        .await?;
        done(namespace, &["semaphore", "release", "s", "--holder", "a"]).await?;

        done(namespace, &["rwmutex", "rlock", "rw", "--holder", "r1"]).await?;
        done(namespace, &["rwmutex", "rlock", "rw", "--holder", "r2"]).await?;
        ends(namespace, &["rwmutex", "lock", "rw", "--holder", "w", "--timeout", "0"], 5, "").await?;
        done(namespace, &["rwmutex", "unlock", "rw", "--holder", "r1"]).await?;
        done(namespace, &["rwmutex", "unlock", "rw", "--holder", "r2"]).await?;
        done(namespace, &["rwmutex", "lock", "rw", "--holder", "w"]).await?;

        done(namespace, &["lease", "acquire", "l", "--holder", "leader"]).await?;
        assert!(
            done(namespace, &["lease", "renew", "l", "--holder", "leader"]).await?.out.contains("still held")
        );
        done(namespace, &["lease", "release", "l", "--holder", "leader"]).await?;
        ends(namespace, &["lease", "renew", "l", "--holder", "leader"], 8, "any more").await?;

        done(namespace, &["barrier", "arrive", "b", "one"]).await?;
        done(namespace, &["barrier", "arrive", "b", "one"]).await?;
        ends(namespace, &["barrier", "wait", "b", "--timeout", "1s"], 3, "1 of 2").await?;
        done(namespace, &["barrier", "arrive", "b", "--arrival-id", "two"]).await?;
        done(namespace, &["barrier", "wait", "b", "--timeout", "1m"]).await?;

        done(namespace, &["waitgroup", "add", "w", "--holder", "a", "--delta", "2"]).await?;
        ends(namespace, &["waitgroup", "add", "w", "--delta", "-1"], 2, "waitgroup done").await?;
        ends(namespace, &["waitgroup", "done", "w", "--holder", "stranger"], 7, "no member").await?;
        done(namespace, &["waitgroup", "done", "w", "--holder", "a"]).await?;
        ends(namespace, &["waitgroup", "wait", "w", "--timeout", "0"], 5, "not done").await?;
        done(namespace, &["waitgroup", "done", "w", "--holder", "a"]).await?;
        done(namespace, &["waitgroup", "wait", "w", "--timeout", "1m"]).await?;
        done(namespace, &["waitgroup", "done", "w", "--holder", "a"]).await?;

        ends(namespace, &["once", "run", "o", "--", "false"], 1, "").await?;
        assert!(done(namespace, &["once", "check", "o"]).await?.out.contains("has not been executed"));
        assert_eq!(done(namespace, &["once", "run", "o", "--", "echo", "ran"]).await?.out, "ran\n");
        assert!(done(namespace, &["once", "run", "o", "--", "echo", "ran"]).await?.out.contains("executed"));
        ends(namespace, &["mutex", "lock", "nobody"], 7, "create the Mutex").await?;
        Ok(())
    })
    .await;
}

// ------------------------------------------------------------------------------------------------------ in pods

/// A `ServiceAccount` that may do what `konductor-user` may.
async fn user(namespace: &Namespace, name: &str) -> Result<()> {
    kubectl(namespace.name(), &["create", "serviceaccount", name]).await?;
    let account = format!("{}:{name}", namespace.name());
    let binding =
        ["create", "rolebinding", name, "--clusterrole", "konductor-user", "--serviceaccount", &account];
    kubectl(namespace.name(), &binding).await?;
    Ok(())
}

/// A pod whose first container is koncli, and whose main container then runs.
fn with_koncli(
    name: &str,
    account: &str,
    arguments: &[&str],
) -> Result<konductor_e2e::workload::Workload<Pod>> {
    let command = [["koncli"].as_slice(), arguments].concat();
    let init = json!([{
        "name": "koncli",
        "image": koncli_image()?,
        "imagePullPolicy": "IfNotPresent",
        "command": command,
        "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": true},
    }]);
    Ok(pod(name).pod("serviceAccountName", json!(account)).pod("initContainers", init).runs("sleep 3600"))
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn what_was_locked_in_a_pod_is_freed_by_the_proven_end_of_the_pod() {
    in_namespace("claims-pod", async |namespace| {
        primitive::mutex(namespace, "db").await?;
        user(namespace, "script").await?;
        with_koncli("one", "script", &["mutex", "lock", "db"])?.create(namespace).await?;
        until_pod(namespace, "one", "running", is_running).await?;
        let claims: Vec<Claim> = namespace.api().list(&ListParams::default()).await?.items;
        let claim = claims.first().context("there is no claim")?;
        assert_eq!(claim.spec.pod.as_ref().map(|pod| pod.name.as_str()), Some("one"));
        assert_eq!(claim.spec.holder, "one");
        with_koncli("two", "script", &["mutex", "lock", "db"])?.create(namespace).await?;
        primitive::until_waiting(namespace, "db", 1).await?;
        // Killed without a word: no signal reaches it, and its record is kept until its end is proven.
        let api = namespace.api::<Pod>();
        api.delete("one", &DeleteParams::default().grace_period(0)).await?;
        let two = until_pod(namespace, "two", "running", is_running).await?;
        assert_eq!(last(namespace, "db").await?, Some(Evidence::P1));
        wait::until_gone(&api, "one").await?;
        wait::until_gone(&namespace.api::<Claim>(), &claim.name_any()).await?;
        assert!(main(&two).is_some());
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn the_example_of_koncli_in_a_job_tells_its_story() {
    in_namespace("koncli-in-a-job", async |namespace| {
        for file in ["access.yaml", "mutex.yaml", "job.yaml"] {
            let text = std::fs::read_to_string(in_tree("examples/koncli-in-a-job").join(file))?;
            // On the cluster under test the image has a tag of its contents.
            let text = text.replace("localhost/koncli:0.1.0", &koncli_image()?);
            let said = kubectl_with(namespace.name(), &["apply", "-f", "-"], &text).await?;
            ensure!(said.success, "{file}: {said:?}");
        }
        until_complete(namespace, "nightly").await?;
        primitive::until_free(namespace, "warehouse").await?;
        assert_eq!(last(namespace, "warehouse").await?, Some(Evidence::P1));
        Ok(())
    })
    .await;
}

// ---------------------------------------------------------------------------------------------------- run -- CMD

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
        primitive::until_held_by(namespace, "db", &format!("claim/{}", claim_of(namespace).await?)).await?;
        signal(&first, Signal::TERM)?;
        primitive::until_free(namespace, "db").await?;
        assert_eq!(last(namespace, "db").await?, Some(Evidence::Released));
        Ok(())
    })
    .await;
}

async fn claim_of(namespace: &Namespace) -> Result<String> {
    let claims: Vec<Claim> = namespace.api().list(&ListParams::default()).await?.items;
    Ok(claims.first().context("there is no claim")?.name_any())
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
        let tokens: Vec<_> = said.out.split_whitespace().collect();
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
        ensure!(done(namespace, &both).await?.out.trim().parse::<u64>().is_ok());
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

// ------------------------------------------------------------------------------------------------------- rights

/// A token of that account, bound to that pod if there is one.
async fn token(namespace: &Namespace, account: &str, pod: Option<&Pod>) -> Result<String> {
    let mut arguments = vec!["create".to_owned(), "token".to_owned(), account.to_owned()];
    if let Some(pod) = pod {
        arguments.extend([
            "--bound-object-kind=Pod".to_owned(),
            format!("--bound-object-name={}", pod.name_any()),
        ]);
        arguments.push(format!("--bound-object-uid={}", pod.uid().unwrap_or_default()));
    }
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    Ok(kubectl(namespace.name(), &arguments).await?.out.trim().to_owned())
}

/// kubectl as whoever has that token; that it is refused with those words is what is wanted.
async fn refused(
    namespace: &Namespace,
    token: &str,
    arguments: &[&str],
    input: &Value,
    words: &str,
) -> Result<()> {
    let said = kubectl_as(namespace, token, arguments, input).await?;
    ensure!(!said.success && said.err.contains(words), "{arguments:?}: {words:?} expected of {said:?}");
    Ok(())
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_user_speaks_for_nobody_else() {
    in_namespace("claims-rights", async |namespace| {
        primitive::mutex(namespace, "db").await?;
        user(namespace, "ann").await?;
        user(namespace, "bob").await?;
        pod("host").pod("serviceAccountName", json!("ann")).runs("sleep 3600").create(namespace).await?;
        pod("other").pod("serviceAccountName", json!("ann")).runs("sleep 3600").create(namespace).await?;
        let host = until_pod(namespace, "host", "running", is_running).await?;
        let other = until_pod(namespace, "other", "running", is_running).await?;
        let (ann, bob) = (token(namespace, "ann", None).await?, token(namespace, "bob", None).await?);
        let in_host = token(namespace, "ann", Some(&host)).await?;
        let in_other = token(namespace, "ann", Some(&other)).await?;
        let said = koncli_as(namespace.name(), &ann, &["mutex", "lock", "db", "--holder", "x"]).await?;
        ensure!(said.success, "{said:?}");
        let claim = claim_of(namespace).await?;
        let belongs = "belongs to system:serviceaccount";
        let renew = json!({"spec": {"renewTime": "2030-01-01T00:00:00.000000Z"}}).to_string();
        let status = json!({"status": {"phase": "Granted"}}).to_string();
        let nothing = Value::Null;
        refused(
            namespace,
            &bob,
            &["patch", "claim", &claim, "--type=merge", "-p", &renew],
            &nothing,
            belongs,
        )
        .await?;
        refused(namespace, &bob, &["delete", "claim", &claim], &nothing, belongs).await?;
        refused(
            namespace,
            &bob,
            &["patch", "claim", &claim, "--subresource=status", "--type=merge", "-p", &status],
            &nothing,
            "forbidden",
        )
        .await?;
        refused(
            namespace,
            &ann,
            &[
                "patch",
                "mutex",
                "db",
                "--subresource=status",
                "--type=merge",
                "-p",
                "{\"status\":{\"holders\":[]}}",
            ],
            &nothing,
            "forbidden",
        )
        .await?;
        refused(namespace, &ann, &["annotate", "mutex", "db", "konductor.io/break=1"], &nothing, "forbidden")
            .await?;
        let asks = |name: &str, spec: Value| {
            let mut all = json!({"primitive": {"kind": "Mutex", "name": "db"}, "holder": "h"});
            if let (Some(all), Some(spec)) = (all.as_object_mut(), spec.as_object()) {
                all.extend(spec.clone());
            }
            json!({"apiVersion": "konductor.io/v1", "kind": "Claim", "metadata": {"name": name}, "spec": all})
        };
        let create = ["create", "-f", "-"];
        let as_ann = json!({"requester": format!("system:serviceaccount:{}:ann", namespace.name())});
        refused(namespace, &bob, &create, &asks("a", as_ann), "nobody claims for somebody else").await?;
        let as_host = json!({"pod": {"name": "host", "uid": host.uid()}});
        refused(namespace, &bob, &create, &asks("b", as_host.clone()), "nobody claims as another pod")
            .await?;
        refused(namespace, &in_other, &create, &asks("c", as_host), "nobody claims as another pod").await?;
        refused(
            namespace,
            &ann,
            &create,
            &asks("d", json!({"outcome": "Succeeded"})),
            "leave it out until then",
        )
        .await?;
        // In a pod it is that pod's, and no other's of the same account.
        let said = koncli_as(
            namespace.name(),
            &in_host,
            &["mutex", "lock", "db", "--holder", "y", "--timeout", "1s"],
        )
        .await?;
        ensure!(said.code == Some(3), "{said:?}");
        let bound =
            kubectl_as(namespace, &in_host, &["create", "-f", "-"], &asks("bound", json!({}))).await?;
        ensure!(bound.success, "{bound:?}");
        let stored: Claim = namespace.api().get("bound").await?;
        assert_eq!(stored.spec.pod.as_ref().map(|pod| &pod.uid), host.metadata.uid.as_ref());
        refused(namespace, &in_other, &["delete", "claim", "bound"], &nothing, "in pod host").await?;
        refused(namespace, &ann, &["delete", "claim", "bound"], &nothing, "in pod host").await?;
        let early =
            ["patch", "claim", "bound", "--type=merge", "-p", "{\"spec\":{\"outcome\":\"Succeeded\"}}"];
        refused(namespace, &in_host, &early, &nothing, "is not granted").await?;
        let gone = kubectl_as(namespace, &in_host, &["delete", "claim", "bound"], &nothing).await?;
        ensure!(gone.success, "{gone:?}");
        // Whoever administers may.
        kubectl(namespace.name(), &["delete", "claim", &claim]).await?;
        Ok(())
    })
    .await;
}

/// kubectl as whoever has that token; it may fail.
async fn kubectl_as(namespace: &Namespace, token: &str, arguments: &[&str], input: &Value) -> Result<Said> {
    // The client certificate of the kubeconfig would win over the token.
    let bare = konductor_e2e::tools::kubeconfig_with(&format!("{}-bare", namespace.name()), |config| {
        config["users"][0]["user"] = json!({});
    })?;
    let file = bare.display().to_string();
    let all = [&["--kubeconfig", file.as_str(), "--token", token][..], arguments].concat();
    kubectl_with(namespace.name(), &all, &input.to_string()).await
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

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_claim_written_by_hand_is_answered_in_its_status() {
    in_namespace("claims-by-hand", async |namespace| {
        primitive::mutex(namespace, "db").await?;
        let claim = json!({
            "apiVersion": "konductor.io/v1", "kind": "Claim", "metadata": {"name": "mine"},
            "spec": {"primitive": {"kind": "Mutex", "name": "db"}, "holder": "ann", "ttl": "3s"},
        });
        kubectl_with(namespace.name(), &["create", "-f", "-"], &claim.to_string()).await?;
        kubectl(namespace.name(), &["wait", "--for=condition=Granted", "claim/mine", "--timeout=60s"])
            .await?;
        let api = namespace.api::<Claim>();
        let lost = wait::until(&api, "mine", "lost", |claim: &Claim| {
            claim.status.as_ref().and_then(|status| status.phase) == Some(ClaimPhase::Expired)
        })
        .await?;
        assert!(lost.spec.requester.is_some());
        primitive::until_free(namespace, "db").await?;
        assert_eq!(last(namespace, "db").await?, Some(Evidence::T));
        let late = json!({"spec": {"renewTime": "2030-01-01T00:00:00.000000Z"}}).to_string();
        kubectl(namespace.name(), &["patch", "claim", "mine", "--type=merge", "-p", &late]).await?;
        wait::stays("it is lost for good", Duration::from_secs(1), async || {
            let claim = api.get("mine").await?;
            Ok(claim.status.and_then(|status| status.phase) == Some(ClaimPhase::Expired))
        })
        .await?;
        Ok(())
    })
    .await;
}
