//! Waiting until something is so, with a deadline.
//!
//! One object is watched; a list, or anything else, is looked at again after a short tick. What must stay true: who
//! waits in vain is told for what, and what was there instead.

use std::fmt::Debug;
use std::pin::pin;
use std::time::Duration;

use anyhow::{Result, bail};
use futures::TryStreamExt;
use kube::Api;
use kube::runtime::{WatchStreamExt, watcher};
use serde::de::DeserializeOwned;

use crate::namespace::Object;

/// How long anything may take that is no work itself: on two cores that others use too, pods come slowly.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks at something that cannot be watched.
const TICK: Duration = Duration::from_millis(200);

/// Waits until the object is there and `holds` says yes of it; returns it as it was then.
pub async fn until<K: Object>(api: &Api<K>, name: &str, what: &str, holds: impl Fn(&K) -> bool) -> Result<K> {
    until_within(PATIENCE, api, name, what, holds).await
}

/// The same, for what takes longer.
pub async fn until_within<K: Object>(
    patience: Duration,
    api: &Api<K>,
    name: &str,
    what: &str,
    holds: impl Fn(&K) -> bool,
) -> Result<K> {
    let mut last = None;
    let found = {
        let look = async {
            let mut stream = pin!(watcher::watch_object(api.clone(), name).default_backoff());
            while let Some(seen) = stream.try_next().await.transpose() {
                // A broken watch starts again by itself.
                let Ok(seen) = seen else { continue };
                if let Some(object) = seen.as_ref().filter(|object| holds(object)) {
                    return Some(object.clone());
                }
                last = seen;
            }
            None
        };
        tokio::time::timeout(patience, look).await.ok().flatten()
    };
    match (found, last) {
        (Some(object), _) => Ok(object),
        (None, Some(object)) => bail!(
            "{name}: not {what} within {patience:?}; it is:\n{}",
            serde_saphyr::to_string(&object).unwrap_or_else(|_| format!("{object:?}"))
        ),
        (None, None) => bail!("{name}: not {what} within {patience:?}; there is no such object"),
    }
}

/// Waits until the object is gone.
pub async fn until_gone<K>(api: &Api<K>, name: &str) -> Result<()>
where
    K: Clone + Debug + DeserializeOwned,
{
    until_true(&format!("{name} is gone"), async || Ok(api.get_opt(name).await?.is_none())).await
}

/// Waits until a look says yes.
pub async fn until_true(what: &str, look: impl AsyncFn() -> Result<bool>) -> Result<()> {
    until_some(what, async || Ok(look().await?.then_some(()))).await
}

/// Waits until a look finds something. A look that fails is repeated like one that finds nothing.
pub async fn until_some<T>(what: &str, look: impl AsyncFn() -> Result<Option<T>>) -> Result<T> {
    let mut trouble = String::new();
    let found = {
        let looks = async {
            loop {
                match look().await {
                    Ok(Some(found)) => return found,
                    Ok(None) => trouble.clear(),
                    Err(error) => trouble = format!("; the last look failed: {error:#}"),
                }
                tokio::time::sleep(TICK).await;
            }
        };
        tokio::time::timeout(PATIENCE, looks).await
    };
    found.or_else(|_| bail!("not within {PATIENCE:?}: {what}{trouble}"))
}

/// Watches that something stays so for that long: for what must not happen there is no event to wait for.
pub async fn stays(what: &str, time: Duration, look: impl AsyncFn() -> Result<bool>) -> Result<()> {
    let end = tokio::time::Instant::now() + time;
    while tokio::time::Instant::now() < end {
        if !look().await? {
            bail!("it did not stay so: {what}");
        }
        tokio::time::sleep(TICK).await;
    }
    Ok(())
}

/// Lets up to `most` pass, to do something at a moment that nobody chose; returns how long it was.
pub async fn any_moment(most: Duration) -> Duration {
    let nanoseconds = jiff::Timestamp::now().subsec_nanosecond().unsigned_abs();
    let time = most.mul_f64(f64::from(nanoseconds / 1000 % 1_000_000) / 1e6);
    tokio::time::sleep(time).await;
    time
}
