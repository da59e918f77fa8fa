//! The manifests of `examples/`: each applies unchanged, and the quickstart tells its story.

use std::path::PathBuf;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use konductor_api::conditions::READY;
use konductor_api::gate::{Gate, GatePhase};
use konductor_api::mutex::Mutex;
use konductor_e2e::history::{History, one_at_a_time};
use konductor_e2e::namespace::{Namespace, in_namespace};
use konductor_e2e::tools::{in_tree, kubectl};
use konductor_e2e::workload::{pods_of, until_complete};
use konductor_e2e::{primitive, wait};
use kube::ResourceExt;
use kube::api::LogParams;

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
        let ready = |conditions: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition]| {
            conditions.iter().any(|known| known.type_ == READY && known.status == "True")
        };
        let gate = wait::until(&namespace.api::<Gate>(), "validation-gate", "Ready", |gate| {
            gate.status.as_ref().is_some_and(|status| ready(&status.conditions))
        })
        .await?;
        assert_eq!(gate.status.and_then(|status| status.phase), Some(GatePhase::Waiting));
        let mutex = wait::until(&namespace.api::<Mutex>(), "database-migration", "Ready", |mutex| {
            mutex.status.as_ref().is_some_and(|status| ready(&status.conditions))
        })
        .await?;
        let said: String =
            mutex.status.iter().flat_map(|status| &status.conditions).map(|c| c.message.as_str()).collect();
        assert!(said.contains("ttl 30m"), "the status says that ttl is not acted on yet: {said}");
        Ok(())
    })
    .await;
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
        assert_eq!(mutex.history.len(), 2);

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
