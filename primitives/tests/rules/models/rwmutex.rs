//! The fair reader-writer lock beside a sorted list, readers and a writer.

use konductor_api::participation::Role;
use konductor_api::rwmutex::{RWMutex, RWMutexSpec};
use proptest::prelude::*;

use super::super::support::fresh;
use super::line::{Answer, Both, Happening, Reference, happenings};

/// Readers together, a writer alone, in their order.
struct Fair;

impl Reference for Fair {
    fn answer(&self, holders: &[Role], next: Role) -> Answer {
        let fits = match next {
            Role::Write => holders.is_empty(),
            _ => !holders.contains(&Role::Write),
        };
        if fits { Answer::Enters } else { Answer::StopsTheLine }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn readers_enter_together_and_a_writer_alone(
        happenings in happenings(prop_oneof![2 => Just(Role::Read), 1 => Just(Role::Write)]),
    ) {
        let mut both = Both::new(fresh(RWMutex::new("x", RWMutexSpec::default())), Fair);
        for happening in happenings.iter().filter(|happening| !matches!(happening, Happening::Changes(_))) {
            let status = both.happens(happening, |_, _| ())?;
            prop_assert!(status.write_holder.is_none() || status.ledger.holders.len() == 1);
        }
    }
}
