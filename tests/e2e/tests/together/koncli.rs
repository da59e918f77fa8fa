//! The command line on a cluster: each verb, its outputs and its codes.

use std::time::{Duration, Instant};

use anyhow::Context;
use konductor_e2e::namespace::in_namespace;
use konductor_e2e::tools::{Said, koncli, koncli_as, koncli_done as done, koncli_ends as ends, kubectl};
use konductor_e2e::workload::{is_running, job, pod, until_pod};
use konductor_e2e::{primitive, wait};
use serde_json::Value;

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn each_kind_is_made_listed_shown_and_deleted() {
    in_namespace("koncli", async |namespace| {
        for (kind, flags, keys) in [
            ("semaphore", &["--permits", "3"][..], "name permits in-use available phase"),
            ("barrier", &["--expected", "2"], "name expected arrived phase opened"),
            ("lease", &[], "name holder phase acquired renewals"),
            ("gate", &["--condition", "Job/etl"], "name conditions_met conditions_total phase opened"),
            ("mutex", &["--ttl", "30m"], "name holder phase locked"),
            ("rwmutex", &[], "name writeHolder readers phase locked"),
            ("once", &[], "name executed executor phase executedAt"),
            ("waitgroup", &[], "name counter phase"),
        ] {
            let create = [&[kind, "create", "x"], flags].concat();
            assert_eq!(done(namespace, &create).await?, format!("{kind}/x created\n"));
            assert_eq!(done(namespace, &create).await?, format!("{kind}/x is there already\n"));
            let has_phase = async || {
                Ok(!done(namespace, &[kind, "list", "-o", "json"]).await?.contains("\"phase\":\"\""))
            };
            wait::until_true("it has a phase", has_phase).await?;
            let row: Value = serde_json::from_str(&done(namespace, &[kind, "list", "-o", "json"]).await?)?;
            let found: std::collections::BTreeSet<_> = row.as_object().context("no object")?.keys().collect();
            let wanted: Vec<_> = keys.split(' ').map(str::to_owned).collect();
            assert_eq!(found, wanted.iter().collect(), "{kind}");
            assert!(done(namespace, &[kind, "list"]).await?.starts_with("NAME"));
            assert_eq!(
                done(namespace, &[kind, "list", "-o", "name"]).await?,
                format!("{kind}.konductor.io/x\n")
            );
            assert!(done(namespace, &[kind, "list", "-A"]).await?.contains(namespace.name()));
            let told = done(namespace, &["status", kind, "x"]).await?;
            assert_eq!(told, done(namespace, &[kind, "status", "x"]).await?);
            assert!(told.contains("Phase:") && told.contains(namespace.name()), "{told}");
            let flat: Value =
                serde_json::from_str(&done(namespace, &["status", kind, "x", "-o", "json"]).await?)?;
            assert_eq!(flat["namespace"], namespace.name());
        }
        assert_eq!(done(namespace, &["status", "all", "-o", "name"]).await?.lines().count(), 8);
        ends(namespace, &["semaphore", "create", "x", "--permits", "4"], 1, "is another one").await?;
        for kind in ["semaphore", "mutex", "gate"] {
            assert_eq!(done(namespace, &[kind, "delete", "x"]).await?, format!("{kind}/x deleted\n"));
            assert_eq!(done(namespace, &[kind, "delete", "x"]).await?, format!("{kind}/x is not there\n"));
        }
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn who_holds_and_who_waits_is_on_one_screen() {
    in_namespace("koncli-status", async |namespace| {
        primitive::mutex(namespace, "db").await?;
        pod("holder").mutex("db").runs("sleep 3600").create(namespace).await?;
        until_pod(namespace, "holder", "running", is_running).await?;
        job("next").mutex("db").create(namespace).await?;
        wait::until_true("it waits", async || {
            Ok(done(namespace, &["mutex", "status", "db"]).await?.contains("1. job/next"))
        })
        .await?;
        let told = done(namespace, &["mutex", "status", "db"]).await?;
        for words in ["Phase:       Locked", "Holder:      pod/holder", "pod/holder since", "Waiting (1):"] {
            assert!(told.contains(words), "{words:?} is not in {told}");
        }
        assert!(told.lines().count() < 20, "{told}");
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_wait_ends_when_it_opens_when_its_time_is_up_or_when_it_can_never_open() {
    in_namespace("koncli-wait", async |namespace| {
        done(namespace, &["gate", "create", "manual"]).await?;
        ends(namespace, &["gate", "wait", "manual", "--timeout", "0"], 5, "not open").await?;
        ends(namespace, &["gate", "wait", "manual", "--timeout", "1s"], 3, "is still not open").await?;
        done(namespace, &["gate", "open", "manual"]).await?;
        assert_eq!(done(namespace, &["gate", "wait", "manual"]).await?, "gate/manual is open\n");
        done(namespace, &["gate", "close", "manual"]).await?;
        ends(namespace, &["gate", "wait", "manual", "--timeout", "1s"], 3, "is still not open").await?;
        done(namespace, &["gate", "clear", "manual"]).await?;

        done(namespace, &["gate", "create", "after", "--condition", "Job/fails"]).await?;
        job("fails").spec("backoffLimit", serde_json::json!(0)).runs("exit 1").create(namespace).await?;
        ends(namespace, &["gate", "wait", "after", "--timeout", "2m"], 6, "has failed").await?;

        // It wakes at once, and not with the next of some looks.
        done(namespace, &["barrier", "create", "meet", "--expected", "1"]).await?;
        let name = namespace.name().to_owned();
        let waits = tokio::spawn(async move {
            let said = koncli(&name, &["barrier", "wait", "meet", "--timeout", "2m"]).await;
            (said, Instant::now())
        });
        job("arrives").annotated(konductor_api::annotations::BARRIER, "meet").create(namespace).await?;
        let opened =
            async || Ok(done(namespace, &["barrier", "list", "-o", "json"]).await?.contains("\"Open\""));
        wait::until_true("it is open", opened).await?;
        let seen = Instant::now();
        let (said, woke) = waits.await?;
        assert_eq!(said?.code, Some(0));
        assert!(woke.saturating_duration_since(seen) < Duration::from_secs(2), "{:?}", woke - seen);
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn what_cannot_be_done_says_why_and_ends_with_its_code() {
    in_namespace("koncli-no", async |namespace| {
        ends(namespace, &["mutex", "status", "nobody"], 7, "shows what there is").await?;
        ends(namespace, &["gate", "wait", "nobody"], 7, "not found").await?;
        ends(namespace, &["gate", "open", "nobody"], 7, "not found").await?;
        ends(namespace, &["semaphore", "create", "x", "--permits", "0"], 1, "permits").await?;
        ends(namespace, &["semaphore", "create", "X_x"], 1, "Invalid value").await?;
        ends(namespace, &["mutex", "lick", "x"], 2, "unrecognized subcommand").await?;
        ends(namespace, &["gate", "wait", "x", "--timeout", "soon"], 2, "soon").await?;
        ends(namespace, &["status", "mutx", "x"], 2, "there is no kind").await?;
        kubectl(namespace.name(), &["create", "serviceaccount", "nobody"]).await?;
        let token = kubectl(namespace.name(), &["create", "token", "nobody"]).await?.out;
        let said: Said = koncli_as(namespace.name(), token.trim(), &["mutex", "list"]).await?;
        assert!(said.code == Some(4) && said.err.contains("ask whoever administers"), "{said:?}");
        Ok(())
    })
    .await;
}
