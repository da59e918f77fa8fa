//! The wait group beside a map from keys to whether they are through.

use std::collections::BTreeMap;

use konductor_api::participation::Role;
use konductor_api::waitgroup::{WaitGroup, WaitGroupPhase, WaitGroupSpec};
use konductor_primitives::snapshot::{Participant, Snapshot};
use proptest::prelude::*;

use super::super::support::{
    PodSketch, Primitive, Says, entrance, fresh, is_in, of_pod, pod, snapshot, waits,
};

/// What happens to the pods of an Indexed Job.
#[derive(Clone, Copy, Debug)]
enum Happening {
    /// The next attempt at that index comes to wait, if none is under way and none has succeeded.
    Comes(u32),
    /// The attempt at that index starts to work.
    Works(u32),
    /// It ends.
    Ends { index: u32, well: bool },
    /// The Job is over: nobody tries again.
    IsOver,
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let index = || 0..5_u32;
    let one = prop_oneof![
        6 => index().prop_map(Happening::Comes),
        6 => index().prop_map(Happening::Works),
        6 => (index(), any::<bool>()).prop_map(|(index, well)| Happening::Ends { index, well }),
        1 => Just(Happening::IsOver),
    ];
    prop::collection::vec(one, 0..40)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waits,
    Works,
    /// It ended while it waited.
    Left,
    Failed,
    Succeeded,
}

/// The group that is meant.
#[derive(Debug, Default)]
struct Map {
    through: BTreeMap<u32, bool>,
    at_least: usize,
    done: bool,
}

#[derive(Debug, Default)]
struct Pods {
    all: Vec<(u32, usize, State)>,
    over: bool,
}

impl Pods {
    fn last(&mut self, index: u32) -> Option<&mut State> {
        self.all.iter_mut().rev().find(|(of, ..)| *of == index).map(|(_, _, state)| state)
    }

    fn participants(&self) -> Vec<Participant> {
        let all = self.all.iter().map(|(index, attempt, state)| {
            let sketch: PodSketch =
                pod(&format!("train-{index}-{attempt}")).of_job("train").index(&index.to_string());
            let sketch = match state {
                State::Waits => sketch.waiter_running(2),
                State::Works => sketch.at_work(),
                State::Left => sketch.waiter_ended(2, 9, 143).over("Failed"),
                State::Failed => sketch.done(1).over("Failed"),
                State::Succeeded => sketch.done(0).over("Succeeded"),
            };
            of_pod(&sketch, 0).role(Role::Join).of_a_job("train", Some(self.over))
        });
        all.collect()
    }
}

impl Map {
    fn settle(&mut self, pods: &Pods) {
        if self.done {
            return;
        }
        for (index, _, state) in &pods.all {
            if *state == State::Waits {
                self.through.entry(*index).or_default();
            }
        }
        let states =
            |index: u32| pods.all.iter().filter(move |(of, ..)| *of == index).map(|(_, _, state)| *state);
        // Who never started leaves when nobody will come under its key any more.
        let stays = |index: u32| !pods.over || states(index).any(|state| state != State::Left);
        self.through.retain(|index, through| *through || stays(*index));
        for (index, through) in &mut self.through {
            let alive = states(*index).any(|state| matches!(state, State::Waits | State::Works));
            let succeeded = states(*index).any(|state| state == State::Succeeded);
            *through |= !alive && (succeeded || pods.over);
        }
        let all = self.through.values().all(|through| *through);
        self.done = all && self.through.len() >= self.at_least.max(1);
    }
}

struct Both {
    map: Map,
    pods: Pods,
    snapshot: Snapshot<WaitGroup>,
}

impl Both {
    fn happens(&mut self, happening: Happening) -> Result<(), TestCaseError> {
        match happening {
            Happening::Comes(index) => {
                let ended =
                    !matches!(self.pods.last(index), Some(State::Waits | State::Works | State::Succeeded));
                if ended && !self.pods.over {
                    let attempt = self.pods.all.len();
                    self.pods.all.push((index, attempt, State::Waits));
                }
            }
            Happening::Works(index) => {
                if let Some(state) = self.pods.last(index).filter(|state| **state == State::Waits) {
                    *state = State::Works;
                }
            }
            Happening::Ends { index, well } => match self.pods.last(index) {
                Some(state @ State::Waits) => *state = State::Left,
                Some(state @ State::Works) => *state = if well { State::Succeeded } else { State::Failed },
                _ => {}
            },
            Happening::IsOver => {
                let alive = |state: &State| matches!(state, State::Waits | State::Works);
                self.pods.over |= !self.pods.all.iter().any(|(_, _, state)| alive(state));
            }
        }
        self.map.settle(&self.pods);
        self.step()?;
        self.step()
    }

    fn step(&mut self) -> Result<(), TestCaseError> {
        self.snapshot.participants = self.pods.participants();
        let step = Primitive::step(&self.snapshot);
        prop_assert_eq!(self.snapshot.primitive.check(&step.status), Ok(()));
        prop_assert!(step.lookups.is_empty());
        let status = step.status;
        let through = self.map.through.values().filter(|through| **through).count();
        prop_assert_eq!((status.open.len(), status.done.len()), (self.map.through.len() - through, through));
        prop_assert_eq!(status.phase == Some(WaitGroupPhase::Done), self.map.done);
        self.snapshot.primitive.status = Some(status);
        let waiter = waits("w", 0).role(Role::Await);
        prop_assert_eq!(is_in(&entrance(&self.snapshot, &waiter)), self.map.done);
        for who in self.snapshot.participants.iter().filter(|who| who.can_start()) {
            prop_assert!(
                is_in(&entrance(&self.snapshot, who)),
                "a member may start once it is one: {}",
                who.name
            );
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn it_is_a_map(happenings in happenings(), at_least in 0..4_usize) {
        let expect_at_least = Some(i64::try_from(at_least).unwrap()).filter(|least| *least > 0);
        let spec = WaitGroupSpec { expect_at_least, ttl: None };
        let mut both = Both {
            map: Map { at_least, ..Map::default() },
            pods: Pods::default(),
            snapshot: snapshot(fresh(WaitGroup::new("x", spec)), vec![]),
        };
        for happening in happenings {
            both.happens(happening)?;
        }
    }
}
