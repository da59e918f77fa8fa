//! The manifests of `examples/`: each applies unchanged, and the quickstart tells its story.

use std::path::PathBuf;

use anyhow::{Context, Result};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use konductor_api::gate::{Gate, GatePhase};
use konductor_api::mutex::Mutex;
use konductor_e2e::history::{History, one_at_a_time};
use konductor_e2e::namespace::{Namespace, in_namespace};
use konductor_e2e::primitive;
use konductor_e2e::tools::{in_tree, kubectl};
use konductor_e2e::workload::{pods_of, until_complete, until_failed};
use kube::ResourceExt;
use kube::api::{ListParams, LogParams};

/// The manifests of a folder, by name.
fn manifests(folder: &str) -> Result<Vec<PathBuf>> {
    let mut files: Vec<_> =
        std::fs::read_dir(in_tree(folder))?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    assert!(!files.is_empty(), "{folder} is empty");
    Ok(files)
}

async fn apply(namespace: &Namespace, file: &std::path::Path) -> Result<String> {
    let file = file.to_string_lossy();
    Ok(kubectl(namespace.name(), &["apply", "--validate=strict", "-f", &file]).await?.out)
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn the_seeds_manifests_apply_unchanged() {
    in_namespace("seed", async |namespace| {
        for file in manifests("examples/seed")? {
            let said = apply(namespace, &file).await?;
            assert!(said.contains("created"), "{said}");
        }
        // All are accepted at once, so that installers that wait for Ready pass.
        for object in ["barrier/stage-1-complete", "gate/validation-gate", "mutex/database-migration"]
            .into_iter()
            .chain(["rwmutex/cache-lock", "semaphore/batch-limit", "once/app-init"])
            .chain(["lease.konductor.io/daily-report"])
        {
            let ready = ["wait", "--for=condition=Ready", "--timeout=60s", object];
            kubectl(namespace.name(), &ready).await?;
        }
        let gate = namespace.api::<Gate>().get("validation-gate").await?;
        assert_eq!(gate.status.and_then(|status| status.phase), Some(GatePhase::Waiting));
        let mutex = namespace.api::<Mutex>().get("database-migration").await?;
        let said: String = mutex
            .status
            .iter()
            .flat_map(|status| &status.common.conditions)
            .map(|condition| condition.message.as_str())
            .collect();
        assert!(said.contains("not renewed for 30m"), "the status says what ttl is about: {said}");
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn the_examples_of_each_primitive_tell_their_stories() {
    for (folder, failing) in [
        ("barrier", &[][..]),
        ("fan-in", &[]),
        ("gates", &["feed-primary"]),
        ("hold-modes", &[]),
        ("migrate-before-serving", &[]),
        ("once", &[]),
        ("readers-and-writer", &[]),
        ("semaphore", &[]),
        ("singleton-cronjob", &[]),
        ("waitgroup", &["crawl-blog"]),
    ] {
        in_namespace(folder, async |namespace| {
            for file in manifests(&format!("examples/{folder}"))? {
                apply(namespace, &file).await?;
            }
            if folder == "gates" {
                let says_go = r#"{"spec":{"override":"Open"}}"#;
                kubectl(namespace.name(), &["patch", "gate", "go-live", "--type=merge", "--patch", says_go])
                    .await?;
            }
            for deployment in &namespace.api::<Deployment>().list(&ListParams::default()).await?.items {
                let name = format!("deployment/{}", deployment.name_any());
                kubectl(namespace.name(), &["rollout", "status", &name, "--timeout=60s"]).await?;
            }
            let jobs = namespace.api::<Job>().list(&ListParams::default()).await?;
            for job in &jobs.items {
                let name = job.name_any();
                if failing.contains(&name.as_str()) {
                    until_failed(namespace, &name).await?;
                } else {
                    until_complete(namespace, &name).await?;
                }
            }
            Ok(())
        })
        .await;
    }
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn the_quickstart_tells_its_story() {
    in_namespace("quickstart", async |namespace| {
        let history = History::record(namespace);
        // Backwards: who waits comes before what is waited for.
        let mut files = manifests("examples/quickstart")?;
        files.reverse();
        for file in &files {
            let said = apply(namespace, file).await?;
            assert!(said.contains("created"), "{said}");
        }
        let training = until_complete(namespace, "model-training").await?;
        let data = until_complete(namespace, "data-validation").await?;
        for name in ["migrate-users", "migrate-orders"] {
            until_complete(namespace, name).await?;
        }
        let validated = data.status.and_then(|status| status.completion_time).context("no completion")?;
        let trained = history.runs_of("model-training").await?;
        assert!(trained.len() == 1 && trained[0].started >= validated.0, "{trained:?} {validated:?}");
        assert!(training.annotations().contains_key("konductor.io/gate"));

        let runs = history.runs().await?;
        let migrations: Vec<_> = runs.into_iter().filter(|run| run.owner().starts_with("migrate-")).collect();
        one_at_a_time(&migrations, |run| run.owner().to_owned())?;
        let mut tokens = Vec::new();
        for run in &migrations {
            tokens.push(token_in_log(namespace, run.owner()).await?);
        }
        assert!(tokens.len() == 2 && tokens[0] < tokens[1], "{tokens:?}");
        let mutex = primitive::until_free(namespace, "database-migration").await?.status.unwrap_or_default();
        assert_eq!(mutex.ledger.history.len(), 2);

        // GitOps applies everything again and again.
        for file in &files {
            let said = apply(namespace, file).await?;
            assert!(said.contains("unchanged"), "{said}");
        }
        kubectl(
            namespace.name(),
            &["delete", "--wait=false", "-f", &in_tree("examples/quickstart").to_string_lossy()],
        )
        .await?;
        Ok(())
    })
    .await;
}

async fn token_in_log(namespace: &Namespace, job: &str) -> Result<u64> {
    let pods = pods_of(namespace, job).await?;
    let pod = pods.first().context("no pod")?;
    let log = namespace.api::<Pod>().logs(&pod.name_any(), &LogParams::default()).await?;
    let token =
        log.lines().find_map(|line| line.rsplit_once("under token ")).context("no token in the log")?;
    Ok(token.1.parse()?)
}
