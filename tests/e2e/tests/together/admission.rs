//! What is let in, what is refused and with which words: bad annotations, missing primitives, forgeries.

use std::time::Duration;

use anyhow::{Context, Result};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Event, Pod};
use konductor_api::annotations::{
    FINALIZER, GATE, GRANT, HOLD_CONTAINER, INJECT, JOB_PLAN, MUTEX, PARTICIPANT_LABEL, QUEUED, RENEWED,
    SIDECAR, WAITER_CONTAINER,
};
use konductor_api::conditions::{GRANTED, reason};
use konductor_api::mutex::Mutex;
use konductor_api::values::MAX_VALUE_BYTES;
use konductor_e2e::namespace::{Namespace, in_namespace, refusal};
use konductor_e2e::tools::{kubectl, kubectl_with};
use konductor_e2e::workload::{
    has_succeeded, is_running, is_waiting, job, pod, until_complete, until_pod, waiter,
};
use konductor_e2e::{primitive, product, wait};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

// ------------------------------------------------------------------------------------------------- bad input

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn bad_annotations_are_refused_with_path_reason_and_example() {
    in_namespace("bad", async |namespace| {
        let many: Vec<_> = (0..500).map(|number| format!("m{number}")).collect();
        let many = many.join(",");
        let long = "x".repeat(MAX_VALUE_BYTES + 1);
        for (key, value, words) in [
            ("konductor.io/mutx", "db", "did you mean konductor.io/mutex"),
            ("konductor.io/Gate", "ready", "konductor.io/gate"),
            ("konductor.io/flag", "db", "unknown annotation"),
            ("konductor.io/release", "terminal", "this version"),
            (SIDECAR, "sometimes", "none of auto, always, never"),
            (MUTEX, "", "empty"),
            (MUTEX, "a,,b", "name 2 of 3 is empty"),
            (MUTEX, "Data_Base", "Data_Base"),
            (GATE, "ready; rm -rf /", "no name of an object"),
            (MUTEX, "a,a", "twice"),
            (MUTEX, &many, "500 names"),
            (GATE, &long, "4097 bytes"),
        ] {
            let on_pod = pod("bad").annotated(key, value).is_refused(namespace).await?;
            let on_job = job("bad").annotated(key, value).is_refused(namespace).await?;
            let on_template = job("bad").each_pod_annotated(key, value).is_refused(namespace).await?;
            let on_itself = format!("metadata.annotations[{key}]");
            let in_template = format!("spec.template.metadata.annotations[{key}]");
            for (refused, path) in [(on_pod, &on_itself), (on_job, &on_itself), (on_template, &in_template)] {
                for part in [path, words, "example"] {
                    assert!(refused.contains(part), "{key}: {part:?} is not in {refused:?}");
                }
            }
        }
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn all_problems_of_an_object_are_told_at_once() {
    in_namespace("all", async |namespace| {
        let refused = pod("bad").mutex("").gate("UPPER").is_refused(namespace).await?;
        assert!(refused.contains(MUTEX) && refused.contains(GATE), "{refused}");
        let refused = pod("bad").mutex("db").annotated(INJECT, "false").is_refused(namespace).await?;
        assert!(refused.contains(INJECT) && refused.contains(MUTEX), "{refused}");
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_workload_that_waits_for_nothing_of_ours_is_left_as_it_is() {
    in_namespace("plain", async |namespace| {
        pod("out").annotated(INJECT, "false").create(namespace).await?;
        pod("plain").create(namespace).await?;
        for name in ["out", "plain"] {
            let done = until_pod(namespace, name, "through", has_succeeded).await?;
            assert!(waiter(&done).is_none() && !done.labels().contains_key(PARTICIPANT_LABEL));
        }
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn annotated_workloads_are_refused_where_konductor_does_not_hold_them() {
    in_namespace("excluded", async |namespace| {
        let dry_run = PostParams { dry_run: true, ..PostParams::default() };
        for excluded in ["kube-system", product::NAMESPACE] {
            let pods: Api<Pod> = Api::namespaced(namespace.client().clone(), excluded);
            let annotated = serde_json::from_value(pod("stray").mutex("db").manifest())?;
            let refused = refusal(pods.create(&dry_run, &annotated).await).context("a pod was let in")?;
            assert!(refused.contains("does not hold pods in the namespaces"), "{refused}");
            let jobs: Api<Job> = Api::namespaced(namespace.client().clone(), excluded);
            let annotated = serde_json::from_value(job("stray").gate("ready").manifest())?;
            let refused = refusal(jobs.create(&dry_run, &annotated).await).context("a Job was let in")?;
            assert!(refused.contains("does not hold Jobs in the namespaces"), "{refused}");
        }
        Ok(())
    })
    .await;
}

// ------------------------------------------------------------------------------------------ not there (yet)

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn who_names_a_primitive_that_is_missing_is_warned_and_held_and_goes_on_when_it_appears() {
    in_namespace("missing", async |namespace| {
        let manifest = job("early").mutex("later").gate("later-too").manifest().to_string();
        let said = kubectl_with(namespace.name(), &["create", "-f", "-"], &manifest).await?;
        assert!(said.success, "{}", said.err);
        for words in ["Warning:", "later", "later-too", "does not exist"] {
            assert!(said.err.contains(words), "{words:?} is not in {:?}", said.err);
        }
        let held = konductor_e2e::workload::until_a_pod(namespace, "early", "told what is missing", |pod| {
            granted(pod) == Some(("False", reason::MISSING_PRIMITIVE))
        })
        .await?;
        assert!(is_waiting(&held));
        wait::until_true("a Warning event", async || {
            let events = namespace.api::<Event>().list(&ListParams::default()).await?;
            Ok(events.items.iter().any(|event| {
                event.type_.as_deref() == Some("Warning")
                    && event.message.as_deref().unwrap_or_default().contains("later")
                    && matches!(event.involved_object.kind.as_deref(), Some("Pod" | "Job"))
            }))
        })
        .await?;

        job("data").create(namespace).await?;
        primitive::gate(namespace, "later-too", &[("data", "Complete")]).await?;
        primitive::mutex(namespace, "later").await?;
        until_complete(namespace, "early").await?;
        Ok(())
    })
    .await;
}

fn granted(pod: &Pod) -> Option<(&str, &str)> {
    let condition = pod.status.as_ref()?.conditions.as_ref()?.iter().find(|known| known.type_ == GRANTED)?;
    Some((condition.status.as_str(), condition.reason.as_deref().unwrap_or_default()))
}

// ------------------------------------------------------------------------------------------------ forgeries

/// A pod that holds `db`, and one that waits for it.
async fn a_holder_and_a_waiter(namespace: &Namespace) -> Result<(Pod, Pod)> {
    primitive::mutex(namespace, "db").await?;
    pod("holder").mutex("db").runs("sleep 3600").create(namespace).await?;
    let holder = until_pod(namespace, "holder", "running", is_running).await?;
    pod("waiter").mutex("db").create(namespace).await?;
    let waiter = until_pod(namespace, "waiter", "waiting", is_waiting).await?;
    Ok((holder, waiter))
}

/// A pod that waits, with a sidecar that has not started.
async fn a_guarded_one(namespace: &Namespace) -> Result<Pod> {
    pod("guarded").mutex("nowhere").annotated(SIDECAR, "always").create(namespace).await?;
    until_pod(namespace, "guarded", "waiting", is_waiting).await
}

/// Patches a pod, or a subresource of it, which must be refused; returns the words.
async fn refuses_patch(namespace: &Namespace, pod: &Pod, subresource: &str, patch: Value) -> Result<String> {
    let (api, name, parameters) = (namespace.api::<Pod>(), pod.name_any(), PatchParams::default());
    let shown = patch.to_string();
    let patch = Patch::Strategic(patch);
    let answer = if subresource.is_empty() {
        api.patch(&name, &parameters, &patch).await
    } else {
        api.patch_subresource(subresource, &name, &parameters, &patch).await
    };
    refusal(answer).with_context(|| format!("pods/{subresource} took {shown}"))
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn nobody_can_forge_a_grant() {
    in_namespace("forge", async |namespace| {
        let (_, waiter) = a_holder_and_a_waiter(namespace).await?;
        let uid = waiter.uid().context("no UID")?;
        let started = konductor_e2e::workload::waiter(&waiter)
            .and_then(|status| status.state.as_ref()?.running.as_ref()?.started_at.clone())
            .context("no start")?;
        let go = format!("v1 {uid} 1 {} go", started.0);
        for (key, value) in [(GRANT, go.as_str()), (RENEWED, "1 1")] {
            let forged = json!({"metadata": {"annotations": {key: value}}});
            for subresource in ["", "status"] {
                let refused = refuses_patch(namespace, &waiter, subresource, forged.clone()).await?;
                assert!(refused.contains("only Konductor writes grants"), "{refused}");
            }
            let refused = pod("granted").mutex("db").annotated(key, value).is_refused(namespace).await?;
            assert!(refused.contains(key), "{refused}");
        }

        // A Binding's annotations land on the pod.
        pod("unbound").mutex("db").pod("schedulerName", json!("nobody")).create(namespace).await?;
        let binding = json!({
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": "unbound", "annotations": {GRANT: go}},
            "target": {"apiVersion": "v1", "kind": "Node", "name": waiter.spec.and_then(|spec| spec.node_name)},
        });
        let pods = namespace.api::<Pod>();
        let post = PostParams::default();
        let answer = pods.create_subresource::<_, Value>("binding", "unbound", &post, &binding).await;
        let refused = refusal(answer).context("the Binding was accepted")?;
        assert!(refused.contains("a Binding may not carry"), "{refused}");

        wait::stays("waiting", Duration::from_secs(2), async || Ok(is_waiting(&pods.get("waiter").await?))).await
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn what_keeps_a_pod_in_its_place_cannot_be_changed() {
    in_namespace("fixed", async |namespace| {
        let (holder, waiter) = a_holder_and_a_waiter(namespace).await?;
        let guarded = a_guarded_one(namespace).await?;
        let image = |of: &str| json!({"spec": {"initContainers": [{"name": of, "image": "busybox:1.36"}]}});
        let finalizer = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": [FINALIZER]}});
        let label = json!({"metadata": {"labels": {PARTICIPANT_LABEL: null}}});
        let stamp = json!({"metadata": {"annotations": {QUEUED: "2020-01-01T00:00:00.000000Z"}}});
        let name = json!({"metadata": {"annotations": {MUTEX: null}}});
        for (pod, patch, words) in [
            (&waiter, image(WAITER_CONTAINER), "the image of the init container konductor-wait"),
            (&guarded, image(HOLD_CONTAINER), "and that of konductor-hold, is fixed"),
            (&holder, finalizer, "the finalizer konductor.io/hold"),
            (&waiter, label, "the label konductor.io/participant"),
            (&waiter, stamp, "are fixed once it exists"),
            (&waiter, name, "are fixed once it exists"),
        ] {
            let refused = refuses_patch(namespace, pod, "", patch).await?;
            assert!(refused.contains(words), "{words:?} is not in {refused:?}");
        }
        let all_off = Patch::Merge(json!({"metadata": {"finalizers": null}}));
        let answer = namespace.api::<Pod>().patch("holder", &PatchParams::default(), &all_off).await;
        assert!(refusal(answer).is_some(), "all finalizers could be taken off");
        // What is not ours is anybody's.
        let theirs = Patch::Merge(json!({"metadata": {"annotations": {"example.com/note": "mine"}}}));
        namespace.api::<Pod>().patch("waiter", &PatchParams::default(), &theirs).await?;
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn an_annotated_job_stays_as_it_was_created() {
    in_namespace("fixed-job", async |namespace| {
        primitive::gate(namespace, "ready", &[("data", "Complete")]).await?;
        job("train").gate("ready").create(namespace).await?;
        let jobs = namespace.api::<Job>();
        for (patch, words) in [
            (json!({"metadata": {"annotations": {GATE: null}}}), "annotations of a Job are fixed"),
            (json!({"metadata": {"annotations": {MUTEX: "db"}}}), "annotations of a Job are fixed"),
            (json!({"metadata": {"labels": {PARTICIPANT_LABEL: "no"}}}), "label konductor.io/participant"),
        ] {
            let answer = jobs.patch("train", &PatchParams::default(), &Patch::Merge(patch)).await;
            let refused = refusal(answer).context("a Job was changed")?;
            assert!(refused.contains(words), "{words:?} is not in {refused:?}");
        }
        let marked =
            job("marked").each_pod_annotated(JOB_PLAN, "v1 gate=ready").is_refused(namespace).await?;
        assert!(marked.contains(JOB_PLAN), "{marked}");
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_held_mutex_cannot_be_deleted_nor_its_ledger_written() {
    in_namespace("ledger", async |namespace| {
        a_holder_and_a_waiter(namespace).await?;
        let mutexes = namespace.api::<Mutex>();
        let refused =
            refusal(mutexes.delete("db", &DeleteParams::default()).await).context("it was deleted")?;
        for words in ["held by Pod holder", "delete pod holder", namespace.name()] {
            assert!(refused.contains(words), "{words:?} is not in {refused:?}");
        }
        let emptied = Patch::Merge(json!({"status": {"holders": [], "holder": null}}));
        let refused = refusal(mutexes.patch_status("db", &PatchParams::default(), &emptied).await);
        assert!(refused.context("it was emptied")?.contains("written by its operator only"));

        // Free, it goes; and who waits goes on when there is one again.
        let pods = namespace.api::<Pod>();
        pods.delete("holder", &DeleteParams::default()).await?;
        until_pod(namespace, "waiter", "through", has_succeeded).await?;
        primitive::until_free(namespace, "db").await?;
        mutexes.delete("db", &DeleteParams::default()).await?;
        wait::until_gone(&mutexes, "db").await
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_debugging_container_may_look_but_not_where_the_waiter_keeps_its_things() {
    in_namespace("debug", async |namespace| {
        let (_, waiter) = a_holder_and_a_waiter(namespace).await?;
        let debugger = |mounts: Value| {
            json!({"spec": {"ephemeralContainers": [{
                "name": "debugger", "image": "busybox:1.36", "command": ["sleep", "60"], "volumeMounts": mounts,
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            }]}})
        };
        let guarded = a_guarded_one(namespace).await?;
        for (pod, volume) in
            [(&waiter, "konductor-state"), (&waiter, "konductor-grant"), (&guarded, "konductor-session")]
        {
            let mounts = json!([{"name": volume, "mountPath": "/x"}]);
            let refused = refuses_patch(namespace, pod, "ephemeralcontainers", debugger(mounts)).await?;
            assert!(refused.contains("a debugging container could write there"), "{refused}");
        }
        let change = Patch::Strategic(debugger(json!([])));
        let pods = namespace.api::<Pod>();
        pods.patch_subresource("ephemeralcontainers", &waiter.name_any(), &PatchParams::default(), &change).await?;
        Ok(())
    })
    .await;
}

// ------------------------------------------------------------------------------------------- break the glass

/// With the label an administrator takes a namespace out, and nothing of ours is in the way there.
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn in_a_namespace_whose_glass_is_broken_nothing_of_ours_is_in_the_way() {
    in_namespace("glass", async |namespace| {
        primitive::mutex(namespace, "db").await?;
        pod("holder").mutex("db").runs("sleep 3600").create(namespace).await?;
        until_pod(namespace, "holder", "running", is_running).await?;
        let label = async |value: &str| {
            let change = format!("konductor.io/break-glass{value}");
            kubectl("default", &["label", "namespace", namespace.name(), &change]).await
        };
        label("=incident-42").await?;
        let pods = namespace.api::<Pod>();
        // The API server sees labels of namespaces through a cache of its own.
        wait::until_true("an annotated pod starts unguarded", async || {
            let name = format!("free-{}", Timestamp::now().as_millisecond());
            let made = pod(&name).mutex("db").runs("true").create(namespace).await?;
            Ok(waiter(&made).is_none() && made.spec.is_some_and(|spec| spec.init_containers.is_none()))
        })
        .await?;
        let without = json!({"metadata": {"finalizers": null}});
        pods.patch("holder", &PatchParams::default(), &Patch::Merge(without)).await?;

        label("-").await?;
        wait::until_true("an annotated pod is guarded again", async || {
            let name = format!("held-{}", Timestamp::now().as_millisecond());
            let made = pod(&name).mutex("db").runs("true").create(namespace).await?;
            Ok(made.spec.is_some_and(|spec| spec.init_containers.is_some()))
        })
        .await
    })
    .await;
}
