//! What people see: tables, descriptions, logs. Each must answer who holds, who waits, for what, since when.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use konductor_api::annotations::WAITER_CONTAINER;
use konductor_api::conditions::{GRANTED, reason};
use konductor_e2e::namespace::{Namespace, in_namespace};
use konductor_e2e::tools::kubectl;
use konductor_e2e::workload::{is_waiting, job, pod, until_a_pod, until_pod};
use konductor_e2e::{primitive, wait};
use kube::ResourceExt;

/// A held mutex with two who wait, and a closed gate with one.
async fn a_scene(namespace: &Namespace) -> Result<()> {
    primitive::mutex(namespace, "db").await?;
    primitive::gate(namespace, "ready", &[("data", "Complete")]).await?;
    pod("holder").mutex("db").runs("sleep 3600").create(namespace).await?;
    primitive::until_held_by(namespace, "db", "pod/holder").await?;
    job("second").mutex("db").create(namespace).await?;
    until_a_pod(namespace, "second", "waiting", is_waiting).await?;
    pod("third").mutex("db").create(namespace).await?;
    until_pod(namespace, "third", "waiting", is_waiting).await?;
    pod("gated").gate("ready").create(namespace).await?;
    until_pod(namespace, "gated", "waiting", is_waiting).await?;
    primitive::until_waiting(namespace, "db", 2).await?;
    Ok(())
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn the_tables_say_who_holds_and_how_many_wait() {
    in_namespace("tables", async |namespace| {
        a_scene(namespace).await?;
        wait::until_true("the gate counts its waiter", async || {
            let table = kubectl(namespace.name(), &["get", "gates", "ready"]).await?.out;
            Ok(cell(&table, "ready", "WAITING")? == "1")
        })
        .await?;
        let both = kubectl(namespace.name(), &["get", "gates,mutexes"]).await?.out;
        assert!(both.contains("gate.konductor.io/ready") && both.contains("mutex.konductor.io/db"), "{both}");

        let gates = kubectl(namespace.name(), &["get", "gates", "-o", "wide"]).await?.out;
        assert_eq!((cell(&gates, "ready", "PHASE")?, cell(&gates, "ready", "MET")?), ("Waiting", "0/1"));
        assert!(gates.contains("data"), "the wide table names what is missing:\n{gates}");

        let mutexes = kubectl(namespace.name(), &["get", "mutexes"]).await?.out;
        assert_eq!(cell(&mutexes, "db", "PHASE")?, "Locked");
        assert_eq!(cell(&mutexes, "db", "HOLDER")?, "pod/holder");
        assert_eq!(cell(&mutexes, "db", "WAITING")?, "2");
        for column in ["SINCE", "AGE"] {
            let age = cell(&mutexes, "db", column)?;
            assert!(age.ends_with('s') || age.ends_with('m'), "{column}: {age}");
        }
        let wide = kubectl(namespace.name(), &["get", "mutexes", "-o", "wide"]).await?.out;
        assert_eq!(cell(&wide, "db", "NEXT")?, "second");
        assert!(cell(&wide, "db", "TOKEN")?.parse::<u64>().is_ok(), "{wide}");

        // By their short names, and all at once by their category.
        let short = kubectl(namespace.name(), &["get", "kgt,kmx"]).await?.out;
        let category = kubectl(namespace.name(), &["get", "konductor"]).await?.out;
        for table in [short, category] {
            assert!(table.contains("ready") && table.contains("db"), "{table}");
        }
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn the_description_of_a_waiting_pod_says_what_for_since_when_who_holds_it_and_which_place() {
    in_namespace("describe", async |namespace| {
        a_scene(namespace).await?;
        let third = until_pod(namespace, "third", "told its place", |pod| {
            granted(pod).is_some_and(|known| known.message.as_deref().unwrap_or_default().contains("holder"))
        })
        .await?;
        let condition = granted(&third).context("no condition")?;
        assert_eq!(
            (condition.status.as_str(), condition.reason.as_deref()),
            ("False", Some(reason::WAITING))
        );
        assert!(condition.last_transition_time.is_some(), "since when");
        let message = condition.message.as_deref().unwrap_or_default();
        for words in ["mutex/db", "pod/holder", "2"] {
            assert!(message.contains(words), "{words:?} is not in {message:?}");
        }

        let description = wait::until_some("an event in the description", async || {
            let text = kubectl(namespace.name(), &["describe", "pod", "third"]).await?.out;
            Ok(text
                .split_once("Events:")
                .is_some_and(|(_, events)| events.contains("mutex/db"))
                .then_some(text))
        })
        .await?;
        let (head, events) = description.split_once("Events:").context("no events")?;
        assert!(head.contains(GRANTED) && head.contains("konductor.io/queued"), "{head}");
        for words in ["mutex/db", "pod/holder"] {
            assert!(events.contains(words), "{words:?} is not in {events}");
        }

        let gated = until_pod(namespace, "gated", "told what is missing", |pod| {
            granted(pod).is_some_and(|known| known.message.as_deref().unwrap_or_default().contains("data"))
        })
        .await?;
        let message = granted(&gated).and_then(|known| known.message.clone()).unwrap_or_default();
        assert!(message.contains("gate/ready"), "{message}");
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn the_log_of_the_waiter_says_what_for_since_when_and_how_to_learn_more() {
    in_namespace("log", async |namespace| {
        a_scene(namespace).await?;
        let waiting = until_a_pod(namespace, "second", "waiting", is_waiting).await?;
        let name = waiting.name_any();
        let log = wait::until_some("a log", async || {
            let log = kubectl(namespace.name(), &["logs", &name, "-c", WAITER_CONTAINER]).await?.out;
            Ok(log.contains("since").then_some(log))
        })
        .await?;
        let command = format!("kubectl describe pod {name} -n {}", namespace.name());
        for words in ["waiting for mutex/db", "since 20", &command] {
            assert!(log.contains(words), "{words:?} is not in {log:?}");
        }
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn events_of_a_hand_over_are_on_the_workload_and_on_the_primitive() {
    in_namespace("events", async |namespace| {
        primitive::mutex(namespace, "db").await?;
        job("only").mutex("db").create(namespace).await?;
        konductor_e2e::workload::until_complete(namespace, "only").await?;
        primitive::until_free(namespace, "db").await?;
        for object in ["job/only", "mutex/db"] {
            wait::until_true(&format!("an event on {object}"), async || {
                let events = kubectl(namespace.name(), &["events", "--for", object]).await?.out;
                Ok(events.to_lowercase().contains("mutex/db"))
            })
            .await?;
        }
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn the_fields_explain_themselves() {
    in_namespace("explain", async |namespace| {
        for (field, words) in [
            ("gate.spec.conditions", "come true"),
            ("mutex.spec.ttl", "before it counts as lost"),
            ("claim.spec.mode", "ArriveAndWait, which is the default"),
            ("mutex.status.holders.token", "fencing"),
        ] {
            let text = kubectl(namespace.name(), &["explain", field]).await?.out;
            let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(text.contains(words), "{field}: {text}");
        }
        Ok(())
    })
    .await;
}

fn granted(pod: &Pod) -> Option<&PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == GRANTED)
}

/// The cell of a table that kubectl printed; columns begin where their headings do.
fn cell<'a>(table: &'a str, row: &str, column: &str) -> Result<&'a str> {
    let mut lines = table.lines();
    let head = lines.next().context("an empty table")?;
    let start = head.match_indices(column).map(|(at, _)| at).find(|at| {
        head[..*at].chars().last().is_none_or(char::is_whitespace)
            && head[at + column.len()..].chars().next().is_none_or(char::is_whitespace)
    });
    let start = start.with_context(|| format!("no column {column}:\n{table}"))?;
    let line = lines.find(|line| line.split_whitespace().next() == Some(row));
    let line = line.with_context(|| format!("no row {row}:\n{table}"))?;
    let cell = line.get(start..).unwrap_or_default().split("  ").next().unwrap_or_default().trim();
    ensure!(!cell.is_empty(), "{column} of {row} is empty:\n{table}");
    Ok(cell)
}
