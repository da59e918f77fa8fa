//! `RWMutexes`: readers share, a writer is alone, and a stream of readers does not keep it out.

use konductor_api::annotations::{RWMUTEX_READ, RWMUTEX_WRITE};
use konductor_api::rwmutex::{RWMutex, RWMutexPhase, RWMutexStatus};
use konductor_e2e::history::History;
use konductor_e2e::namespace::in_namespace;
use konductor_e2e::workload::{is_waiting, job, until_a_pod, until_complete};
use konductor_e2e::{primitive, wait};
use serde_json::json;

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn readers_share_and_a_writer_behind_a_stream_of_readers_gets_in() {
    in_namespace("rw", async |namespace| {
        let history = History::record(namespace);
        primitive::make::<RWMutex>(namespace, "cache", json!({})).await?;
        let until = async |what: &str, holds: &(dyn Fn(&RWMutexStatus) -> bool + Sync)| {
            wait::until(&namespace.api::<RWMutex>(), "cache", what, |lock: &RWMutex| {
                lock.status.as_ref().is_some_and(holds)
            })
            .await
        };
        for number in 0..3 {
            job(&format!("before{number}"))
                .annotated(RWMUTEX_READ, "cache")
                .runs("sleep 6")
                .create(namespace)
                .await?;
        }
        until("held by three readers", &|status| status.readers == 3).await?;
        job("writer").annotated(RWMUTEX_WRITE, "cache").runs("sleep 2").create(namespace).await?;
        until_a_pod(namespace, "writer", "waiting", is_waiting).await?;
        until("awaited by the writer", &|status| status.common.waiting == 1).await?;
        for number in 0..3 {
            job(&format!("after{number}"))
                .annotated(RWMUTEX_READ, "cache")
                .runs("sleep 1")
                .create(namespace)
                .await?;
        }
        let held = until("held to write", &|status| status.phase == Some(RWMutexPhase::WriteLocked)).await?;
        assert_eq!(held.status.and_then(|status| status.write_holder).as_deref(), Some("job/writer"));
        for name in ["before0", "before1", "before2", "writer", "after0", "after1", "after2"] {
            until_complete(namespace, name).await?;
        }
        let runs = history.runs().await?;
        let writer = runs.iter().find(|run| run.owner() == "writer").cloned();
        let writer = writer.ok_or_else(|| anyhow::anyhow!("the writer did not run"))?;
        let ended = writer.end.as_ref().map(|end| end.at).unwrap_or_default();
        for reader in runs.iter().filter(|run| run.owner() != "writer") {
            let before = reader.end.as_ref().is_some_and(|end| end.at <= writer.started);
            assert!(before || reader.started >= ended, "{reader:?} beside {writer:?}");
            assert_eq!(before, reader.owner().starts_with("before"), "{reader:?} {writer:?}");
        }
        let together = |stem: &str| {
            let of: Vec<_> = runs.iter().filter(|run| run.owner().starts_with(stem)).collect();
            let last_start = of.iter().map(|run| run.started).max();
            let first_end = of.iter().filter_map(|run| Some(run.end.as_ref()?.at)).min();
            last_start < first_end
        };
        assert!(together("before"), "readers share: {runs:?}");
        Ok(())
    })
    .await;
}
