//! The work queue: each key is worked on by one worker at a time, and never forgotten.
//!
//! A key that comes again while it waits is the same work; one that comes again while it is worked on is worked on
//! once more afterwards. Keys may be due later; an earlier moment wins. Some keys can wait: they come when no other is
//! ready. Touches memory and the monotonic clock.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// See the module.
pub(crate) struct Queue<K> {
    state: Mutex<State<K>>,
    changed: Notify,
}

struct State<K> {
    ready: VecDeque<K>,
    /// The same, when there is nothing else to do.
    idle: VecDeque<K>,
    can_wait: fn(&K) -> bool,
    /// Everything in `ready` and `idle`.
    queued: HashSet<K>,
    running: HashSet<K>,
    /// Came again while running.
    again: HashSet<K>,
    later: BTreeSet<(Instant, K)>,
    due: HashMap<K, Instant>,
}

impl<K: Clone + Eq + Hash + Ord> Queue<K> {
    /// `can_wait` says it of keys that stand in nobody's way.
    pub(crate) fn new(can_wait: fn(&K) -> bool) -> Self {
        Self {
            state: Mutex::new(State {
                ready: VecDeque::new(),
                idle: VecDeque::new(),
                can_wait,
                queued: HashSet::new(),
                running: HashSet::new(),
                again: HashSet::new(),
                later: BTreeSet::new(),
                due: HashMap::new(),
            }),
            changed: Notify::new(),
        }
    }

    /// As soon as possible.
    pub(crate) fn add(&self, key: K) {
        self.state().make_ready(key);
        self.changed.notify_one();
    }

    /// In a while, unless it comes earlier.
    pub(crate) fn add_after(&self, key: K, delay: Duration) {
        let mut state = self.state();
        let at = Instant::now() + delay;
        match state.due.get(&key) {
            Some(known) if *known <= at => return,
            Some(known) => {
                let known = *known;
                state.later.remove(&(known, key.clone()));
            }
            None => {}
        }
        state.later.insert((at, key.clone()));
        state.due.insert(key, at);
        drop(state);
        self.changed.notify_one();
    }

    /// The next key. Whoever gets it calls [`Queue::done`] afterwards.
    pub(crate) async fn next(&self) -> K {
        loop {
            let changed = self.changed.notified();
            let (key, wake_at) = self.state().take(Instant::now());
            if let Some(key) = key {
                // There may be more than one, and notifications do not add up.
                self.changed.notify_one();
                return key;
            }
            match wake_at {
                Some(at) => {
                    let _ = tokio::time::timeout_at(at, changed).await;
                }
                None => changed.await,
            }
        }
    }

    /// The work on that key has ended.
    pub(crate) fn done(&self, key: &K) {
        let mut state = self.state();
        state.running.remove(key);
        if state.again.remove(key) {
            state.make_ready(key.clone());
            drop(state);
            self.changed.notify_one();
        }
    }

    /// Whoever worked is gone: what they worked on is to be worked on anew.
    pub(crate) fn forget_running(&self) {
        let mut state = self.state();
        let running: BTreeSet<K> = state.running.drain().collect();
        for key in running {
            state.again.remove(&key);
            state.make_ready(key);
        }
    }

    fn state(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Clone + Eq + Hash + Ord> State<K> {
    fn make_ready(&mut self, key: K) {
        if let Some(at) = self.due.remove(&key) {
            self.later.remove(&(at, key.clone()));
        }
        if self.running.contains(&key) {
            self.again.insert(key);
        } else if self.queued.insert(key.clone()) {
            let lane = if (self.can_wait)(&key) { &mut self.idle } else { &mut self.ready };
            lane.push_back(key);
        }
    }

    fn take(&mut self, now: Instant) -> (Option<K>, Option<Instant>) {
        while let Some((at, key)) = self.later.first().cloned() {
            if at > now {
                break;
            }
            self.make_ready(key);
        }
        let key = self.ready.pop_front().or_else(|| self.idle.pop_front());
        if let Some(key) = &key {
            self.queued.remove(key);
            self.running.insert(key.clone());
        }
        (key, self.later.first().map(|(at, _)| *at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_key_that_comes_again_while_it_runs_runs_once_more() {
        let queue = Queue::new(|_| false);
        queue.add("a");
        queue.add("a");
        assert_eq!(queue.next().await, "a");
        queue.add("a");
        queue.add("a");
        assert!(tokio::time::timeout(Duration::from_secs(1), queue.next()).await.is_err());
        queue.done(&"a");
        assert_eq!(queue.next().await, "a");
        queue.done(&"a");
        assert!(tokio::time::timeout(Duration::from_secs(1), queue.next()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_finished_comes_again() {
        let queue = Queue::new(|_| false);
        queue.add("a");
        assert_eq!(queue.next().await, "a");
        queue.add("a");
        queue.forget_running();
        assert_eq!(queue.next().await, "a");
        queue.done(&"a");
        assert!(tokio::time::timeout(Duration::from_secs(1), queue.next()).await.is_err());
    }

    #[tokio::test]
    async fn what_can_wait_waits() {
        let queue = Queue::new(|key: &&str| key.starts_with("later"));
        for key in ["later-1", "a", "later-2", "b"] {
            queue.add(key);
        }
        for expected in ["a", "b", "later-1", "later-2"] {
            assert_eq!(queue.next().await, expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_earlier_moment_wins() {
        let queue = Queue::new(|_| false);
        let start = Instant::now();
        queue.add_after("a", Duration::from_secs(10));
        queue.add_after("a", Duration::from_secs(5));
        queue.add_after("a", Duration::from_secs(20));
        assert_eq!(queue.next().await, "a");
        assert_eq!(start.elapsed().as_secs(), 5);
        queue.done(&"a");
        assert!(tokio::time::timeout(Duration::from_secs(60), queue.next()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn no_key_is_lost_between_many_workers() {
        let queue = std::sync::Arc::new(Queue::new(|key: &u64| key.is_multiple_of(2)));
        let seen = std::sync::Arc::new(Mutex::new(HashSet::new()));
        let workers: Vec<_> = (0..4)
            .map(|_| {
                let (queue, seen) = (queue.clone(), seen.clone());
                tokio::spawn(async move {
                    loop {
                        let key = queue.next().await;
                        tokio::task::yield_now().await;
                        seen.lock().unwrap().insert(key);
                        queue.done(&key);
                    }
                })
            })
            .collect();
        for key in 0..200 {
            queue.add(key);
            if key % 3 == 0 {
                queue.add_after(1000 + key, Duration::from_millis(key));
            }
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(seen.lock().unwrap().len(), 200 + 67);
        for worker in workers {
            worker.abort();
        }
    }
}
