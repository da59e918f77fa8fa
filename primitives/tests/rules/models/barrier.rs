//! The barrier beside a set of keys; the cyclic one beside two.

use std::collections::{BTreeMap, BTreeSet};

use konductor_api::barrier::{ArrivalPolicy, Barrier, BarrierPhase, BarrierSpec};
use konductor_api::participation::Role;
use konductor_primitives::snapshot::{Participant, Snapshot};
use proptest::prelude::*;

use super::super::support::{PodSketch, Primitive, Says, entrance, fresh, is_in, of_pod, pod, snapshot};

/// What happens to the pods of an Indexed Job.
#[derive(Clone, Copy, Debug)]
enum Happening {
    /// The next attempt at that index comes to wait, if none is under way.
    Comes(u32),
    /// The attempt at that index finds that it may go on, if it may.
    GoesOn(u32),
    /// It ends, after it has gone on, or while it waits.
    Ends { index: u32, well: bool },
    /// Somebody changes how many are expected.
    Expected(i64),
    /// The objects of those who have succeeded go.
    Reaped,
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let index = || 0..5_u32;
    let one = prop_oneof![
        6 => index().prop_map(Happening::Comes),
        5 => index().prop_map(Happening::GoesOn),
        4 => (index(), any::<bool>()).prop_map(|(index, well)| Happening::Ends { index, well }),
        1 => (1..5_i64).prop_map(Happening::Expected),
        1 => Just(Happening::Reaped),
    ];
    prop::collection::vec(one, 0..60)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waits,
    Works,
    Failed,
    Succeeded,
}

/// Every pod that can be seen: index, attempt, state.
#[derive(Debug, Default)]
struct Pods {
    all: Vec<(u32, usize, State)>,
    made: BTreeMap<u32, usize>,
}

impl Pods {
    fn under_way(&mut self, index: u32) -> Option<&mut State> {
        let alive = |state: &State| matches!(state, State::Waits | State::Works);
        self.all.iter_mut().find(|(of, _, state)| *of == index && alive(state)).map(|(_, _, state)| state)
    }

    fn comes(&mut self, index: u32) {
        if self.under_way(index).is_none() {
            let attempt = self.made.entry(index).or_default();
            *attempt += 1;
            self.all.push((index, *attempt, State::Waits));
        }
    }

    fn participants(&self) -> Vec<Participant> {
        let all = self.all.iter().map(|(index, attempt, state)| {
            let sketch: PodSketch =
                pod(&format!("train-{index}-{attempt}")).of_job("train").index(&index.to_string());
            let sketch = match state {
                State::Waits => sketch.waiter_running(2),
                State::Works => sketch.at_work(),
                State::Failed => sketch.done(1).over("Failed"),
                State::Succeeded => sketch.done(0).over("Succeeded"),
            };
            of_pod(&sketch, 0).role(Role::Meet)
        });
        all.collect()
    }
}

/// The barrier that is meant.
#[derive(Debug, Default)]
struct Sets {
    expected: usize,
    cyclic: bool,
    filling: BTreeSet<u32>,
    /// Let through and not yet through.
    inside: BTreeSet<u32>,
    open: bool,
    trips: i64,
}

impl Sets {
    fn settle(&mut self, pods: &Pods) {
        if self.open {
            return;
        }
        let waiting =
            pods.all.iter().filter(|(_, _, state)| *state == State::Waits).map(|(index, ..)| *index);
        self.filling.extend(waiting.filter(|index| !self.inside.contains(index)));
        if self.filling.len() < self.expected {
            return;
        }
        self.trips += 1;
        if self.cyclic {
            self.inside.append(&mut self.filling);
        } else {
            self.open = true;
        }
    }
}

struct Both {
    sets: Sets,
    pods: Pods,
    snapshot: Snapshot<Barrier>,
}

impl Both {
    fn new(cyclic: bool) -> Self {
        let spec =
            BarrierSpec { expected: 3, quorum: None, timeout: None, cyclic, arrivals: ArrivalPolicy::Sticky };
        Self {
            sets: Sets { expected: 3, cyclic, ..Sets::default() },
            pods: Pods::default(),
            snapshot: snapshot(fresh(Barrier::new("x", spec)), vec![]),
        }
    }

    fn happens(&mut self, happening: Happening) -> Result<(), TestCaseError> {
        match happening {
            Happening::Comes(index) => self.pods.comes(index),
            Happening::GoesOn(index) => {
                let may = self.sets.open || self.sets.inside.contains(&index);
                if let Some(state) = self.pods.under_way(index).filter(|state| may && **state == State::Waits)
                {
                    *state = State::Works;
                }
            }
            Happening::Ends { index, well } => {
                if let Some(state) = self.pods.under_way(index) {
                    let well = well && *state == State::Works;
                    *state = if well { State::Succeeded } else { State::Failed };
                    if well {
                        self.sets.inside.remove(&index);
                    }
                }
            }
            Happening::Expected(expected) => {
                self.sets.expected = usize::try_from(expected).unwrap();
                self.snapshot.primitive.spec.expected = expected;
            }
            Happening::Reaped => self.pods.all.retain(|(_, _, state)| *state != State::Succeeded),
        }
        self.sets.settle(&self.pods);
        self.step()?;
        self.step()
    }

    fn step(&mut self) -> Result<(), TestCaseError> {
        self.snapshot.participants = self.pods.participants();
        let step = Primitive::step(&self.snapshot);
        prop_assert_eq!(self.snapshot.primitive.check(&step.status), Ok(()));
        prop_assert!(step.lookups.is_empty());
        let status = step.status;
        prop_assert_eq!(status.arrived, i64::try_from(self.sets.filling.len()).unwrap());
        prop_assert_eq!(status.phase == Some(BarrierPhase::Open), self.sets.open);
        prop_assert_eq!(status.generation - 1, if self.sets.cyclic { self.sets.trips } else { 0 });
        self.snapshot.primitive.status = Some(status);
        for (who, (index, _, state)) in self.snapshot.participants.iter().zip(&self.pods.all) {
            if *state == State::Waits {
                let may = self.sets.open || self.sets.inside.contains(index);
                prop_assert_eq!(is_in(&entrance(&self.snapshot, who)), may, "{}", who.name);
            }
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
    fn it_is_a_set_of_keys(happenings in happenings()) {
        let mut both = Both::new(false);
        for happening in happenings {
            both.happens(happening)?;
        }
    }

    #[test]
    fn a_cyclic_one_is_a_set_that_fills_and_a_set_of_who_was_let_through(happenings in happenings()) {
        let mut both = Both::new(true);
        for happening in happenings {
            both.happens(happening)?;
        }
    }
}
