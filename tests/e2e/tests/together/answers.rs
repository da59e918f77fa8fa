//! What people ask: why, what now, what happened, is all well; and ending a hold by hand.

use anyhow::{Result, ensure};
use konductor_api::claim::Claim;
use konductor_api::ledger::Evidence;
use konductor_api::mutex::Mutex;
use konductor_e2e::cluster::kubeconfig;
use konductor_e2e::namespace::{Namespace, in_namespace};
use konductor_e2e::product;
use konductor_e2e::tools::{helm, koncli, koncli_as, koncli_command, koncli_done as says, kubectl};
use konductor_e2e::workload::{is_running, job, pod, until_complete, until_pod};
use konductor_e2e::{primitive, wait};
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn why_names_what_is_in_the_way() {
    in_namespace("why", async |namespace| {
        primitive::mutex(namespace, "db").await?;
        primitive::gate(namespace, "ready", &[("etl", "Complete")]).await?;
        pod("first").mutex("db").runs("sleep 3600").create(namespace).await?;
        until_pod(namespace, "first", "running", is_running).await?;
        job("second").mutex("db").create(namespace).await?;
        primitive::until_waiting(namespace, "db", 1).await?;
        let answer = says(namespace, &["why", "job/second"]).await?;
        assert!(
            answer.starts_with("job/second waits for mutex/db: place 1 of 1, held by pod/first.\n"),
            "{answer}"
        );
        assert_eq!(answer, says(namespace, &["explain", "second"]).await?, "a name is enough");
        job("gated").gate("ready").create(namespace).await?;
        let closed = async || {
            Ok(says(namespace, &["why", "job", "gated"]).await?.contains("not met: Job etl Complete"))
        };
        wait::until_true("it waits at the gate", closed).await?;
        job("lost").mutex("bd").create(namespace).await?;
        let missing = async || {
            let answer = says(namespace, &["why", "job/lost"]).await?;
            Ok(answer.contains("there is no Mutex of that name"))
        };
        wait::until_true("it waits for what is not there", missing).await?;
        let far = pod("far").mutex("db").pod("nodeSelector", json!({"no": "such"}));
        far.create(namespace).await?;
        wait::until_true("it has no node", async || {
            Ok(says(namespace, &["why", "pod/far"]).await?.contains("has no node yet"))
        })
        .await?;
        assert!(says(namespace, &["why", "mutex/db"]).await?.contains("held by pod/first"));
        let nobody = koncli(namespace.name(), &["why", "nobody"]).await?;
        ensure!(nobody.code == Some(7) && nobody.err.contains("is called nobody"), "{nobody:?}");
        let wrong = koncli(namespace.name(), &["why", "mutx/db"]).await?;
        ensure!(wrong.code == Some(2), "{wrong:?}");
        let picture = says(namespace, &["graph"]).await?;
        for edge in ["-> mutex/db", "held by -> pod/first", "-> gate/ready", "lets through -> job/gated"] {
            assert!(picture.contains(edge), "{edge:?} is not in {picture}");
        }
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_hold_is_broken_by_who_may_under_its_own_name_and_no_other_hold() {
    in_namespace("break", async |namespace| {
        primitive::mutex(namespace, "db").await?;
        pod("holder").mutex("db").grace(0).runs("trap '' TERM; sleep 3600").create(namespace).await?;
        until_pod(namespace, "holder", "running", is_running).await?;
        job("next").mutex("db").create(namespace).await?;
        primitive::until_waiting(namespace, "db", 1).await?;
        // Who may not, may not; and nobody breaks under another's name.
        kubectl(namespace.name(), &["create", "serviceaccount", "editor"]).await?;
        let account = format!("{}:editor", namespace.name());
        kubectl(namespace.name(), &["create", "rolebinding", "editor", "--clusterrole", "edit", "--serviceaccount", &account]).await?;
        let token = kubectl(namespace.name(), &["create", "token", "editor"]).await?.out;
        let refused = async || {
            let said = koncli_as(namespace.name(), token.trim(), &["break", "mutex", "db", "--token", "1", "--reason", "x"]).await?;
            // The role of editors is put together by a controller.
            Ok(said.code == Some(7))
        };
        wait::until_true("an editor may look", refused).await?;
        let forged = json!({"metadata": {"annotations": {
            "konductor.io/break": holder_token(namespace).await?, "konductor.io/break-by": "somebody else", "konductor.io/break-reason": "x",
        }}});
        let api = namespace.api::<Mutex>();
        let said = api.patch("db", &PatchParams::default(), &Patch::Merge(&forged)).await;
        let words = said.err().map(|error| error.to_string()).unwrap_or_default();
        ensure!(words.contains("who breaks the hold"), "{words}");
        let missing = koncli(namespace.name(), &["break", "mutex", "db"]).await?;
        ensure!(missing.code == Some(2) && missing.err.contains("--reason"), "{missing:?}");
        let nobody = koncli(namespace.name(), &["break", "mutex", "db", "--holder", "pod/other", "--reason", "x"]).await?;
        ensure!(nobody.code == Some(7), "{nobody:?}");
        let said = says(namespace, &["break", "mutex", "db", "--holder", "pod/holder", "--reason", "its machine burnt"]).await?;
        ensure!(said.contains("is revoked"), "{said}");
        until_complete(namespace, "next").await?;
        let history = api.get("db").await?.status.unwrap_or_default().ledger.history;
        let of_holder = history.iter().find(|release| release.holder == "pod/holder");
        // Whichever came first: the word of the person, or that of the kubelet.
        ensure!(of_holder.is_some_and(|release| matches!(release.evidence, Evidence::A3 | Evidence::P1)), "{history:?}");
        Ok(())
    })
    .await;
}

async fn holder_token(namespace: &Namespace) -> Result<String> {
    let mutex: Mutex = namespace.api().get("db").await?;
    Ok(mutex
        .status
        .unwrap_or_default()
        .ledger
        .holders
        .first()
        .map(|holder| holder.token.clone())
        .unwrap_or_default())
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_claim_that_is_broken_is_told_who_did_it_and_why() {
    in_namespace("break-claim", async |namespace| {
        primitive::mutex(namespace, "db").await?;
        says(namespace, &["mutex", "lock", "db", "--holder", "ann"]).await?;
        says(namespace, &["break", "mutex", "db", "--reason", "ann is on holiday"]).await?;
        let claims: Vec<Claim> = namespace.api().list(&ListParams::default()).await?.items;
        let told = serde_json::to_string(&claims)?;
        ensure!(told.contains("ann is on holiday") && told.contains("Broken"), "{told}");
        let late = koncli(namespace.name(), &["mutex", "renew", "db", "--holder", "ann"]).await?;
        ensure!(late.code == Some(8) && late.err.contains("ann is on holiday"), "{late:?}");
        let noted =
            async || Ok(says(namespace, &["events", "mutex/db"]).await?.contains("ann is on holiday (A3)"));
        wait::until_true("it is in the Events", noted).await?;
        let described = says(namespace, &["describe", "mutex", "db"]).await?;
        ensure!(described.contains("on evidence A3") && described.contains("Events:"), "{described}");
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn names_of_the_cluster_are_completed_and_everything_is_listed() {
    in_namespace("complete", async |namespace| {
        primitive::mutex(namespace, "database-migration").await?;
        primitive::mutex(namespace, "disk").await?;
        let mut shell = koncli_command(namespace.name(), &kubeconfig()?)?;
        shell
            .args(["--", "koncli", "mutex", "lock", "da"])
            .env("COMPLETE", "bash")
            .env("_CLAP_COMPLETE_INDEX", "3");
        let offered = String::from_utf8(shell.env("_CLAP_IFS", "\n").output().await?.stdout)?;
        assert_eq!(offered.lines().collect::<Vec<_>>(), ["database-migration"]);
        let all = says(namespace, &["list", "-o", "wide"]).await?;
        ensure!(all.contains("NEXT") && all.contains("database-migration") && all.contains("disk"), "{all}");
        says(namespace, &["gate", "create", "g"]).await?;
        says(namespace, &["gate", "open", "g"]).await?;
        ensure!(says(namespace, &["wait", "gate/g", "--timeout", "1m"]).await?.contains("is open"));
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn the_chart_tests_itself_with_the_same_check() {
    let said = helm(product::NAMESPACE, &["test", "konductor", "--logs", "--timeout", "120s"]).await.unwrap();
    assert!(said.out.contains("Succeeded"), "{said:?}");
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn all_is_well_here_and_what_is_not_is_found() {
    in_namespace("check", async |namespace| {
        let said = says(namespace, &["check"]).await?;
        ensure!(
            said.contains("0 failed") && said.contains("an annotated Job, as a dry run: would wait"),
            "{said}"
        );
        for line in says(namespace, &["check", "-o", "json"]).await?.lines() {
            let finding: Value = serde_json::from_str(line)?;
            ensure!(finding["outcome"] == "ok", "{finding}");
        }
        ensure!(says(namespace, &["check", "--pre"]).await?.contains("Rights to install"));
        ensure!(says(namespace, &["doctor"]).await?.contains("nobody needs to act"));
        primitive::gate(namespace, "never", &[("fails", "Complete")]).await?;
        job("fails").runs("exit 1").create(namespace).await?;
        job("waits").gate("never").create(namespace).await?;
        let found = async || {
            let said = koncli(namespace.name(), &["doctor"]).await?;
            Ok(said.code == Some(1) && said.out.contains("gate/never"))
        };
        wait::until_true("the gate that has failed is found", found).await?;
        kubectl(namespace.name(), &["create", "serviceaccount", "nobody"]).await?;
        let token = kubectl(namespace.name(), &["create", "token", "nobody"]).await?.out;
        let poor = koncli_as(namespace.name(), token.trim(), &["check"]).await?;
        ensure!(poor.code == Some(0) && poor.out.contains("unknown: "), "{poor:?}");
        Ok(())
    })
    .await;
}
