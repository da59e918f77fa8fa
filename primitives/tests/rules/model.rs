//! The mutex beside the simplest lock that could be meant: a sorted list and one holder.

use std::cmp::Reverse;

use konductor_api::mutex::{Mutex, MutexStatus};
use konductor_primitives::queue::QueueKey;
use konductor_primitives::snapshot::{Participant, Snapshot};
use konductor_primitives::{invariants, mutex::step};
use proptest::prelude::*;

use super::support::{PodSketch, at, mutex, of_pod, pod, snapshot, uid};

/// What happens between two steps.
#[derive(Clone, Debug)]
enum Happening {
    /// Somebody comes, with that priority, at that second.
    Comes { priority: i32, second: i64 },
    /// The waiter of the so-manieth pod starts.
    IsReady(usize),
    /// The so-manieth pod goes before it was its turn.
    Leaves(usize),
    /// The holder's last container ends.
    Ends,
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let one = prop_oneof![
        3 => (-2..3_i32, 0..5_i64).prop_map(|(priority, second)| Happening::Comes { priority, second }),
        3 => (0..8_usize).prop_map(Happening::IsReady),
        1 => (0..8_usize).prop_map(Happening::Leaves),
        2 => Just(Happening::Ends),
    ];
    prop::collection::vec(one, 0..40)
}

/// Somebody in the list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Waiting {
    priority: Reverse<i32>,
    second: i64,
    uid: String,
    ready: bool,
}

/// The lock that is meant.
#[derive(Debug, Default)]
struct Lock {
    holder: Option<String>,
    queue: Vec<Waiting>,
}

impl Lock {
    fn settle(&mut self) {
        self.queue.sort();
        if self.holder.is_none()
            && let Some(first) = self.queue.iter().position(|waiting| waiting.ready)
        {
            self.holder = Some(self.queue.remove(first).uid);
        }
    }
}

struct Both {
    lock: Lock,
    snapshot: Snapshot<Mutex>,
    sketches: Vec<(PodSketch, QueueKey)>,
    came: usize,
    revision: u64,
    highest_token: u64,
}

impl Both {
    fn happen(&mut self, happening: &Happening) {
        match *happening {
            Happening::Comes { priority, second } => {
                let name = format!("p{}", self.came);
                self.came += 1;
                let key = QueueKey::new(priority, at(second), None, &uid(&name));
                self.sketches.push((pod(&name), key));
                let priority = Reverse(priority);
                self.lock.queue.push(Waiting { priority, second, uid: uid(&name), ready: false });
            }
            Happening::IsReady(which) => {
                if let Some(waiting) = self.lock.queue.get_mut(which) {
                    waiting.ready = true;
                    let uid = waiting.uid.clone();
                    self.change(&uid, |sketch| sketch.waiter_running(6));
                }
            }
            Happening::Leaves(which) => {
                if which < self.lock.queue.len() {
                    let uid = self.lock.queue.remove(which).uid;
                    self.sketches.retain(|(sketch, _)| sketch.facts().uid != uid);
                }
            }
            Happening::Ends => {
                if let Some(uid) = self.lock.holder.take() {
                    self.change(&uid, |sketch| sketch.told_go(1, 6).done(0).over("Succeeded"));
                }
            }
        }
    }

    fn change(&mut self, uid: &str, change: impl FnOnce(PodSketch) -> PodSketch) {
        let sketch = self.sketches.iter_mut().find(|(sketch, _)| sketch.facts().uid == uid);
        let (sketch, _) = sketch.unwrap();
        *sketch = change(sketch.clone());
    }

    fn settle(&mut self) -> Result<MutexStatus, TestCaseError> {
        self.lock.settle();
        let participants = self.sketches.iter().map(|(sketch, key)| {
            let key = key.clone();
            Participant { key, ..of_pod(sketch, 0) }
        });
        self.snapshot.participants = participants.collect();
        let before = self.snapshot.primitive.status.clone().unwrap_or_default();
        let step = step(&self.snapshot);
        prop_assert_eq!(invariants::mutex(&before, &step.status), Ok(()));
        prop_assert!(step.lookups.is_empty() && step.withdrawals.is_empty());
        let queue: Vec<_> = self.lock.queue.iter().map(|waiting| waiting.uid.clone()).collect();
        prop_assert_eq!(&step.order, &queue);
        self.revision += 1;
        self.snapshot.primitive.metadata.resource_version = Some(self.revision.to_string());
        self.snapshot.primitive.status = Some(step.status.clone());
        Ok(step.status)
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn it_is_a_lock_in_the_order_of_the_queue(happenings in happenings()) {
        let mut both = Both {
            lock: Lock::default(),
            snapshot: snapshot(mutex(Vec::new()), Vec::new()),
            sketches: Vec::new(),
            came: 0,
            revision: 7,
            highest_token: 0,
        };
        for happening in &happenings {
            both.happen(happening);
            let known = both.snapshot.primitive.status.clone().unwrap_or_default();
            let status = both.settle()?;
            let holder = status.holders.first();
            prop_assert_eq!(holder.map(|holder| &holder.uid), both.lock.holder.as_ref());
            prop_assert_eq!(status.waiting, i64::try_from(both.lock.queue.len()).unwrap());
            if let Some(fresh) = holder.filter(|holder| !known.holders.contains(holder)) {
                let token: u64 = fresh.token.parse().unwrap();
                prop_assert!(token > both.highest_token);
                both.highest_token = token;
            }
            // Nothing has happened since: the same step again.
            prop_assert_eq!(both.settle()?, status);
        }
    }
}
