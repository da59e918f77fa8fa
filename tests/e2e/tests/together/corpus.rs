//! The corpus of the webhook's golden tests, shown to a real API server: what we make of a workload is still a
//! workload, where Pod Security, a quota and a range of limits have their say as well. Nothing is stored.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{LimitRange, ResourceQuota};
use konductor_api::annotations::{PARTICIPANT_LABEL, SCHEDULING_GATE, WAITER_CONTAINER};
use konductor_e2e::namespace::{Namespace, in_namespace, in_privileged_namespace};
use konductor_e2e::wait;
use kube::api::{PostParams, Request};
use serde_json::{Value, json};

const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../webhook/tests");

fn read(path: &str) -> Result<Value> {
    let path = Path::new(CORPUS).join(path);
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    Ok(serde_json::from_str(&text)?)
}

/// The objects of the reviews that have this place in the table.
fn objects(place: &str) -> Result<Vec<(String, Value)>> {
    let table = read("on-a-cluster.json")?;
    let names = table[place].as_array().context("no such place")?.iter().filter_map(Value::as_str);
    names
        .map(|name| {
            let mut review = read(&format!("reviews/{name}.json"))?;
            Ok((name.to_owned(), review["request"]["object"].take()))
        })
        .collect()
}

/// Creates it as a dry run, on raw JSON: a typed object would lose what this client does not know. All that are not
/// as they should be are told at once.
async fn all_are_accepted_and_take_part(namespace: &Namespace, place: &str) -> Result<()> {
    let mut failures = Vec::new();
    for (name, object) in objects(place)? {
        if let Err(error) = is_accepted_and_takes_part(namespace, object).await {
            failures.push(format!("{name}: {error:#}"));
        }
    }
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

async fn is_accepted_and_takes_part(namespace: &Namespace, mut object: Value) -> Result<()> {
    let name = namespace.name();
    object["metadata"]["namespace"] = json!(name);
    let is_job = object["kind"] == "Job";
    let url = if is_job {
        format!("/apis/batch/v1/namespaces/{name}/jobs")
    } else {
        format!("/api/v1/namespaces/{name}/pods")
    };
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    let request = Request::new(url).create(&dry_run, object.to_string().into_bytes())?;
    let made: Value = namespace.client().request(request).await?;
    let metadata = if is_job { &made["spec"]["template"]["metadata"] } else { &made["metadata"] };
    ensure!(metadata["labels"][PARTICIPANT_LABEL] == "true", "the label is missing in {metadata}");
    if !is_job {
        let spec = &made["spec"];
        let count = |field: &str, name: &str| {
            let all = spec[field].as_array().into_iter().flatten();
            all.filter(|item| item["name"] == name).count()
        };
        // A Windows pod is held by its scheduling gate, any other by the waiter.
        let windows =
            spec["os"]["name"] == "windows" || spec["nodeSelector"]["kubernetes.io/os"] == "windows";
        let waiters = count("initContainers", WAITER_CONTAINER);
        ensure!(waiters == usize::from(!windows), "{waiters} waiters in {spec}");
        ensure!(!windows || count("schedulingGates", SCHEDULING_GATE) == 1, "no gate in {spec}");
    }
    Ok(())
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn real_workloads_pass_where_all_is_restricted_and_rationed() {
    in_namespace("corpus", async |namespace| {
        namespace
            .create::<ResourceQuota>(json!({
                "metadata": {"name": "ration"},
                "spec": {"hard": {
                    "requests.cpu": "100", "requests.memory": "100Gi", "limits.cpu": "1k", "limits.memory": "1000Gi",
                }},
            }))
            .await?;
        namespace
            .create::<LimitRange>(json!({
                "metadata": {"name": "range"},
                "spec": {"limits": [{
                    "type": "Container",
                    "default": {"cpu": "2", "memory": "1Gi"},
                    "defaultRequest": {"cpu": "10m", "memory": "16Mi"},
                    "min": {"cpu": "10m", "memory": "8Mi"},
                    "max": {"cpu": "4", "memory": "8Gi"},
                }]},
            }))
            .await?;
        // Pods are refused while nobody has reckoned what is used.
        let quotas = namespace.api::<ResourceQuota>();
        wait::until(&quotas, "ration", "reckoned", |quota| {
            quota.status.as_ref().is_some_and(|status| status.used.is_some())
        })
        .await?;
        all_are_accepted_and_take_part(namespace, "restricted").await
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn real_workloads_pass_that_only_a_privileged_namespace_takes() {
    in_privileged_namespace("corpus-privileged", async |namespace| {
        all_are_accepted_and_take_part(namespace, "privileged").await
    })
    .await;
}
