//! A crowd: calls for many objects, several at once and not for longer than a turn.
//!
//! Touches the monotonic clock. What must stay true: what was begun is finished, and some is begun however short the
//! turn, so that whoever comes again gets on; nothing is made of work before it is begun, so a crowd takes no more memory
//! than a few calls.

use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::Instant;

/// Calls at once.
const CONCURRENCY: usize = 16;

/// Does the work in its order. What comes back are the outcomes, fewer than there was work if the turn was over before.
pub(crate) async fn in_turn<F: Future>(work: impl IntoIterator<Item = F>, turn: Duration) -> Vec<F::Output> {
    let start = Instant::now();
    let mut outcomes = Vec::new();
    let mut running = FuturesUnordered::new();
    let mut rest = work.into_iter();
    running.extend(rest.by_ref().take(CONCURRENCY));
    while let Some(outcome) = running.next().await {
        outcomes.push(outcome);
        if start.elapsed() < turn {
            running.extend(rest.next());
        }
    }
    outcomes
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_turn_ends_with_what_was_begun() {
        let (now, most) = (Cell::new(0), Cell::new(0));
        let work: Vec<_> = (0..1000)
            .map(|number| {
                let (now, most) = (&now, &most);
                async move {
                    now.set(now.get() + 1);
                    most.set(most.get().max(now.get()));
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    now.set(now.get() - 1);
                    number
                }
            })
            .collect();
        let done = in_turn(work, Duration::from_millis(95)).await;
        assert_eq!((done.len(), most.get()), (10 * CONCURRENCY, CONCURRENCY));
    }

    #[tokio::test(start_paused = true)]
    async fn however_short_it_is_some_is_done() {
        let work: Vec<_> = (0..40).map(std::future::ready).collect();
        assert_eq!(in_turn(work, Duration::ZERO).await.len(), CONCURRENCY);
        let work: Vec<_> = (0..40).map(std::future::ready).collect();
        assert_eq!(in_turn(work, Duration::from_secs(1)).await.len(), 40);
    }
}
