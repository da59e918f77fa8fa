//! Namespaces as they are found: strict, rationed, without tokens; and the opposite.

use k8s_openapi::api::core::v1::{Pod, ResourceQuota};
use konductor_api::annotations::WAITER_CONTAINER;
use konductor_e2e::history::{History, one_at_a_time};
use konductor_e2e::namespace::{in_namespace, in_privileged_namespace};
use konductor_e2e::primitive;
use konductor_e2e::workload::{is_waiting, job, pod, until_a_pod, until_complete, until_pod};
use serde_json::json;

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn works_in_a_restricted_namespace_with_a_quota_and_without_tokens() {
    in_namespace("strict", async |namespace| {
        namespace
            .create::<ResourceQuota>(json!({
                "metadata": {"name": "ration"},
                "spec": {"hard": {
                    "requests.cpu": "500m", "requests.memory": "512Mi", "limits.cpu": "500m", "limits.memory": "512Mi",
                }},
            }))
            .await?;
        let history = History::record(namespace);
        primitive::mutex(namespace, "db").await?;
        primitive::gate(namespace, "ready", &[("data", "Complete")]).await?;
        let rationed = json!({"requests": {"cpu": "50m", "memory": "32Mi"}, "limits": {"cpu": "50m", "memory": "32Mi"}});
        for workload in [
            job("first").gate("ready").mutex("db"),
            job("second").gate("ready").each_pod_mutex("db"),
            job("data"),
        ] {
            workload
                .runs("[ ! -e /var/run/secrets/kubernetes.io/serviceaccount/token ] && sleep 1")
                .pod("automountServiceAccountToken", json!(false))
                .container("resources", rationed.clone())
                .create(namespace)
                .await?;
        }
        for name in ["first", "second"] {
            until_complete(namespace, name).await?;
        }
        let runs = history.runs().await?;
        let locked: Vec<_> = runs.into_iter().filter(|run| run.owner() != "data").collect();
        one_at_a_time(&locked, |run| run.owner().to_owned())?;
        for pod in namespace.api::<Pod>().list(&kube::api::ListParams::default()).await? {
            let class = pod.status.as_ref().and_then(|status| status.qos_class.as_deref());
            assert_eq!(class, Some("Guaranteed"), "what was Guaranteed stays so");
        }
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn the_waiter_has_no_token_where_the_app_has_one() {
    in_namespace("token", async |namespace| {
        let token = "cat /var/run/secrets/kubernetes.io/serviceaccount/token > /dev/null";
        primitive::mutex(namespace, "db").await?;
        job("with").mutex("db").runs(token).create(namespace).await?;
        let waiting = until_a_pod(namespace, "with", "there", |_| true).await?;
        let containers = waiting.spec.and_then(|spec| spec.init_containers).unwrap_or_default();
        let waiter = containers.iter().find(|container| container.name == WAITER_CONTAINER).unwrap();
        let mounts = waiter.volume_mounts.iter().flatten();
        let secret: Vec<_> = mounts.filter(|mount| mount.name.starts_with("kube-api-access")).collect();
        assert!(secret.is_empty(), "{secret:?}");
        until_complete(namespace, "with").await?;
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn works_in_a_privileged_namespace_on_the_network_of_the_node() {
    in_privileged_namespace("host", async |namespace| {
        let history = History::record(namespace);
        primitive::mutex(namespace, "db").await?;
        primitive::gate(namespace, "ready", &[("data", "Complete")]).await?;
        for name in ["first", "second"] {
            job(name)
                .gate("ready")
                .mutex("db")
                .runs("sleep 1")
                .pod("hostNetwork", json!(true))
                .pod("securityContext", json!({}))
                .container("securityContext", json!({"privileged": true, "runAsUser": 0}))
                .create(namespace)
                .await?;
        }
        pod("bare").gate("ready").pod("hostNetwork", json!(true)).create(namespace).await?;
        until_pod(namespace, "bare", "waiting", is_waiting).await?;
        job("data").create(namespace).await?;
        for name in ["first", "second"] {
            until_complete(namespace, name).await?;
        }
        let runs = history.runs().await?;
        let locked = runs.into_iter().filter(|run| run.job.as_deref().is_some_and(|job| job != "data"));
        one_at_a_time(&locked.collect::<Vec<_>>(), |run| run.owner().to_owned())
    })
    .await;
}
