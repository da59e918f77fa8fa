//! Semaphores: never more than there are permits, and never idle while somebody waits who could go.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use futures::StreamExt;
use konductor_api::annotations::SEMAPHORE;
use konductor_api::semaphore::{Semaphore, SemaphorePhase, SemaphoreStatus};
use konductor_e2e::history::{History, Run};
use konductor_e2e::namespace::{Namespace, in_namespace};
use konductor_e2e::workload::{is_waiting, job, until_a_pod, until_complete, until_failed};
use konductor_e2e::{primitive, wait};
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::json;
use tokio::task::JoinHandle;

/// Every version of the status that the watch shows.
struct Ledgers {
    seen: Arc<Mutex<Vec<SemaphoreStatus>>>,
    task: JoinHandle<()>,
}

impl Ledgers {
    fn record(namespace: &Namespace, name: &str) -> Self {
        let seen = Arc::<Mutex<Vec<SemaphoreStatus>>>::default();
        let (api, into, name) = (namespace.api::<Semaphore>(), Arc::clone(&seen), name.to_owned());
        let task = tokio::spawn(async move {
            let stream = watcher::watch_object(api, &name).default_backoff();
            let mut stream = std::pin::pin!(stream);
            while let Some(event) = stream.next().await {
                if let Ok(Some(Semaphore { status: Some(status), .. })) = event {
                    into.lock().unwrap_or_else(PoisonError::into_inner).push(status);
                }
            }
        });
        Self { seen, task }
    }

    fn all(&self) -> Vec<SemaphoreStatus> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Ledgers {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// How many ran at once at most: of two runs in one second the one that ends comes before the one that starts.
fn at_once(runs: &[Run]) -> usize {
    let mut moments: Vec<_> = runs
        .iter()
        .flat_map(|run| {
            [(run.started, 1_i64), (run.end.as_ref().map_or(jiff::Timestamp::MAX, |end| end.at), -1)]
        })
        .collect();
    moments.sort();
    let mut now = 0_i64;
    let most = moments.iter().map(|(_, step)| {
        now += step;
        now
    });
    usize::try_from(most.max().unwrap_or(0)).unwrap_or(0)
}

async fn until(
    namespace: &Namespace,
    what: &str,
    holds: impl Fn(&SemaphoreStatus) -> bool,
) -> Result<SemaphoreStatus> {
    let found = wait::until(&namespace.api::<Semaphore>(), "limit", what, |found: &Semaphore| {
        found.status.as_ref().is_some_and(&holds)
    })
    .await?;
    Ok(found.status.unwrap_or_default())
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn twenty_jobs_run_five_at_a_time_never_more_and_never_fewer_while_somebody_could_go() {
    in_namespace("permits", async |namespace| {
        let history = History::record(namespace);
        primitive::make::<Semaphore>(namespace, "limit", json!({"permits": 5})).await?;
        let ledgers = Ledgers::record(namespace, "limit");
        for number in 0..20 {
            job(&format!("j{number:02}"))
                .annotated(SEMAPHORE, "limit")
                .runs("sleep 5")
                .create(namespace)
                .await?;
        }
        for number in 0..20 {
            until_complete(namespace, &format!("j{number:02}")).await?;
        }
        let runs = history.runs().await?;
        assert_eq!(runs.len(), 20);
        assert_eq!(at_once(&runs), 5, "{runs:?}");
        for status in ledgers.all() {
            assert!(status.in_use <= 5, "{status:?}");
            let could_go = status.common.queue.iter().any(|waiter| waiter.not_yet.is_none());
            assert!(!(could_go && status.available > 0), "somebody could go and was not let in: {status:?}");
        }
        let free = until(namespace, "free", |status| status.in_use == 0).await?;
        assert_eq!((free.available, free.phase), (5, Some(SemaphorePhase::Ready)));
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn who_asks_for_many_is_not_overtaken_and_who_asks_for_too_many_is_refused() {
    in_namespace("weighted", async |namespace| {
        primitive::make::<Semaphore>(namespace, "limit", json!({"permits": 3})).await?;
        let forever = "trap 'exit 0' TERM; sleep 3600 & wait";
        job("one").annotated(SEMAPHORE, "limit").runs(forever).create(namespace).await?;
        until(namespace, "held by one", |status| status.in_use == 1).await?;
        job("three").annotated(SEMAPHORE, "limit=3").create(namespace).await?;
        until_a_pod(namespace, "three", "waiting", is_waiting).await?;
        until(namespace, "awaited by one", |status| status.common.waiting == 1).await?;
        job("small").annotated(SEMAPHORE, "limit").create(namespace).await?;
        until_a_pod(namespace, "small", "waiting", is_waiting).await?;
        let two = until(namespace, "awaited by two", |status| status.common.waiting == 2).await?;
        assert_eq!(two.in_use, 1, "the small one does not overtake: {two:?}");
        assert_eq!(two.common.queue[0].permits, Some(3));

        job("four").annotated(SEMAPHORE, "limit=4").create(namespace).await?;
        let four = until_failed(namespace, "four").await?;
        let why = four.status.and_then(|status| status.conditions).unwrap_or_default();
        let said = why.iter().find(|known| known.reason.as_deref() == Some("KonductorDenied"));
        assert!(
            said.is_some_and(|known| known.message.as_deref().unwrap_or("").contains("4 permits")),
            "{why:?}"
        );

        namespace
            .api::<k8s_openapi::api::batch::v1::Job>()
            .delete("one", &kube::api::DeleteParams::background())
            .await?;
        for name in ["three", "small"] {
            until_complete(namespace, name).await?;
        }
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn more_permits_let_the_next_ones_in_and_fewer_put_nobody_out() {
    in_namespace("resize", async |namespace| {
        let history = History::record(namespace);
        primitive::make::<Semaphore>(namespace, "limit", json!({"permits": 1})).await?;
        for number in 0..6 {
            job(&format!("j{number}"))
                .annotated(SEMAPHORE, "limit")
                .runs("sleep 4")
                .create(namespace)
                .await?;
        }
        until(namespace, "full", |status| status.phase == Some(SemaphorePhase::Full)).await?;
        for number in 0..6 {
            until_a_pod(namespace, &format!("j{number}"), "up", |pod| {
                konductor_e2e::workload::waiter(pod).is_some()
            })
            .await?;
        }
        primitive::change::<Semaphore>(namespace, "limit", json!({"permits": 3})).await?;
        until(namespace, "held by three", |status| status.in_use == 3).await?;
        primitive::change::<Semaphore>(namespace, "limit", json!({"permits": 1})).await?;
        let over =
            until(namespace, "over-committed", |status| status.phase == Some(SemaphorePhase::OverCommitted))
                .await?;
        assert_eq!((over.available, over.in_use > 1), (0, true));
        for number in 0..6 {
            until_complete(namespace, &format!("j{number}")).await?;
        }
        let runs = history.runs().await?;
        assert!(at_once(&runs) <= 3, "{runs:?}");
        assert!(runs.iter().all(|run| run.end.as_ref().is_some_and(|end| end.exit_code == 0)), "{runs:?}");
        Ok(())
    })
    .await;
}
