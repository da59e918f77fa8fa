//! Claims: everybody else at the same table as Jobs and Pods; in a pod, by hand, and who may do what.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use konductor_api::claim::{Claim, ClaimPhase};
use konductor_api::ledger::Evidence;
use konductor_e2e::namespace::{Namespace, in_namespace};
use konductor_e2e::tools::{
    Said, in_tree, koncli_as, koncli_done as done, koncli_ends as ends, koncli_image, kubectl, kubectl_with,
};
use konductor_e2e::workload::{is_running, job, main, pod, until_complete, until_pod};
use konductor_e2e::{primitive, wait};
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use serde_json::{Value, json};

// ---------------------------------------------------------------------------------------------- the same table

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_person_and_jobs_take_turns_and_the_token_rises() {
    in_namespace("claims", async |namespace| {
        primitive::mutex(namespace, "db").await?;
        let said = done(namespace, &["mutex", "lock", "db", "--holder", "ann", "-o", "json"]).await?;
        let first: Value = serde_json::from_str(&said)?;
        job("migrate").mutex("db").create(namespace).await?;
        primitive::until_waiting(namespace, "db", 1).await?;
        let again: Value = serde_json::from_str(
            &done(namespace, &["mutex", "lock", "db", "--holder", "ann", "-o", "json"]).await?,
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
            &done(namespace, &["mutex", "lock", "db", "--holder", "bob", "-o", "json"]).await?,
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
            done(namespace, &["lease", "renew", "l", "--holder", "leader"]).await?.contains("still held")
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
        assert!(done(namespace, &["once", "check", "o"]).await?.contains("has not been executed"));
        assert_eq!(done(namespace, &["once", "run", "o", "--", "echo", "ran"]).await?, "ran\n");
        assert!(done(namespace, &["once", "run", "o", "--", "echo", "ran"]).await?.contains("executed"));
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
        assert_eq!(primitive::last_evidence(namespace, "db").await?, Some(Evidence::P1));
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
        assert_eq!(primitive::last_evidence(namespace, "warehouse").await?, Some(Evidence::P1));
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
        let claim = primitive::claim_name(namespace).await?;
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

// ------------------------------------------------------------------------------------------------------ by hand

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
        assert_eq!(primitive::last_evidence(namespace, "db").await?, Some(Evidence::T));
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
