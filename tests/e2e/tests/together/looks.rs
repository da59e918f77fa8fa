//! What gates look at: any object, other primitives, persons, other namespaces with their consent.

use anyhow::Result;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Namespace as KubeNamespace;
use konductor_api::annotations::ALLOW_GATES_FROM;
use konductor_api::gate::{Gate, GatePhase, GateStatus};
use konductor_api::mutex::Mutex;
use konductor_e2e::namespace::{Namespace, in_namespace};
use konductor_e2e::workload::{job, pod, until_complete, until_failed};
use konductor_e2e::{primitive, wait};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

async fn until(
    namespace: &Namespace,
    name: &str,
    what: &str,
    holds: impl Fn(&GateStatus) -> bool,
) -> Result<GateStatus> {
    let gate = wait::until(&namespace.api::<Gate>(), name, what, |gate: &Gate| {
        gate.status.as_ref().is_some_and(&holds)
    })
    .await?;
    Ok(gate.status.unwrap_or_default())
}

async fn until_open(namespace: &Namespace, name: &str) -> Result<GateStatus> {
    until(namespace, name, "open", |status| status.phase == Some(GatePhase::Open)).await
}

fn missing(status: &GateStatus) -> String {
    status.condition_statuses.iter().map(|known| known.message.as_str()).collect::<Vec<_>>().join("; ")
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn pods_deployments_and_any_condition_open_a_gate() {
    in_namespace("objects", async |namespace| {
        for (name, condition) in [
            ("pod", json!({"type": "Pod", "name": "server", "state": "Ready"})),
            ("deployment", json!({"type": "Deployment", "name": "web"})),
            (
                "object",
                json!({"type": "Object", "apiVersion": "apps/v1", "kind": "Deployment", "name": "web",
                       "conditionType": "Available"}),
            ),
        ] {
            primitive::make::<Gate>(namespace, name, json!({"conditions": [condition]})).await?;
            until(namespace, name, "looked at", |status| missing(status).contains("does not exist (yet)"))
                .await?;
        }
        job("waits").annotated("konductor.io/gate", "pod,deployment,object").create(namespace).await?;
        pod("server").runs("sleep 3600").create(namespace).await?;
        let template = job("web").runs("sleep 3600").manifest()["spec"]["template"].clone();
        let mut spec = template["spec"].clone();
        spec["restartPolicy"] = json!("Always");
        let labels = json!({"app": "web"});
        namespace
            .create::<Deployment>(json!({
                "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
                "spec": {
                    "replicas": 2,
                    "selector": {"matchLabels": labels},
                    "template": {"metadata": {"labels": labels}, "spec": spec},
                },
            }))
            .await?;
        for name in ["pod", "deployment", "object"] {
            until_open(namespace, name).await?;
        }
        until_complete(namespace, "waits").await?;
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn persons_and_other_primitives_open_a_gate_and_an_override_goes_before_all() {
    in_namespace("persons", async |namespace| {
        let manual = json!({"type": "Manual", "name": "qa"});
        let free = json!({"type": "Mutex", "name": "db", "state": "Unlocked"});
        primitive::make::<Gate>(namespace, "any", json!({"logic": "Any", "conditions": [manual, free]}))
            .await?;
        primitive::make::<Gate>(
            namespace,
            "behind",
            json!({"conditions": [{"type": "Gate", "name": "any"}]}),
        )
        .await?;
        primitive::make::<Gate>(namespace, "by-hand", json!({})).await?;
        job("waits").annotated("konductor.io/gate", "any,behind,by-hand").create(namespace).await?;
        let closed = until(namespace, "any", "looked at", |status| status.met.is_some()).await?;
        assert_eq!(closed.phase, Some(GatePhase::Waiting), "{closed:?}");

        primitive::make::<Mutex>(namespace, "db", json!({})).await?;
        until_open(namespace, "any").await?;
        until_open(namespace, "behind").await?;
        primitive::change::<Gate>(namespace, "by-hand", json!({"override": "Open"})).await?;
        until_complete(namespace, "waits").await?;
        primitive::change::<Gate>(namespace, "any", json!({"override": "Closed"})).await?;
        until(namespace, "any", "closed", |status| status.phase == Some(GatePhase::Waiting)).await?;
        primitive::change::<Gate>(namespace, "any", json!({"override": null})).await?;
        until_open(namespace, "any").await?;
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn gates_that_wait_for_each_other_fail_and_a_timeout_counts_from_the_first_who_waits() {
    in_namespace("rings", async |namespace| {
        for (name, other) in [("a", "b"), ("b", "c"), ("c", "a")] {
            primitive::make::<Gate>(
                namespace,
                name,
                json!({"conditions": [{"type": "Gate", "name": other}]}),
            )
            .await?;
        }
        job("vain").annotated("konductor.io/gate", "a").create(namespace).await?;
        until_failed(namespace, "vain").await?;

        let never = json!({"timeout": "2s", "conditions": [{"type": "Job", "name": "never"}]});
        primitive::make::<Gate>(namespace, "late", never).await?;
        wait::stays("it waits while nobody waits for it", std::time::Duration::from_secs(3), async || {
            let gate = namespace.api::<Gate>().get("late").await?;
            Ok(gate.status.is_none_or(|status| status.phase != Some(GatePhase::Failed)))
        })
        .await?;
        job("too-late").annotated("konductor.io/gate", "late").create(namespace).await?;
        until_failed(namespace, "too-late").await?;
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn another_namespace_is_looked_at_only_with_its_consent() {
    in_namespace("there", async |there| {
        in_namespace("here", async |here| {
            let elsewhere = json!({"type": "Job", "name": "data", "namespace": there.name()});
            primitive::make::<Gate>(here, "far", json!({"conditions": [elsewhere]})).await?;
            job("data").create(there).await?;
            until_complete(there, "data").await?;
            let refused =
                until(here, "far", "refused", |status| missing(status).contains("allow-gates-from")).await?;
            assert_eq!(refused.phase, Some(GatePhase::Waiting));
            let stalled = refused.common.conditions.iter().find(|known| known.type_ == "Stalled");
            assert!(stalled.is_some_and(|known| known.status == "True"), "{refused:?}");

            let consent = Patch::Merge(json!({"metadata": {"annotations": {ALLOW_GATES_FROM: here.name()}}}));
            let namespaces: Api<KubeNamespace> = Api::all(there.client().clone());
            namespaces.patch(there.name(), &PatchParams::default(), &consent).await?;
            until_open(here, "far").await?;
            Ok(())
        })
        .await;
        Ok(())
    })
    .await;
}
