//! The mutex beside the simplest lock that could be meant: a sorted list and one holder.

use konductor_api::participation::Role;
use proptest::prelude::*;

use super::super::support::mutex;
use super::line::{Answer, Both, Happening, Reference, happenings};

/// One at a time.
struct Lock;

impl Reference for Lock {
    fn answer(&self, holders: &[Role], _: Role) -> Answer {
        if holders.is_empty() { Answer::Enters } else { Answer::StopsTheLine }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn it_is_a_lock_in_the_order_of_the_queue(happenings in happenings(Just(Role::Hold))) {
        let mut both = Both::new(mutex(Vec::new()), Lock);
        for happening in happenings.iter().filter(|happening| !matches!(happening, Happening::Changes(_))) {
            let status = both.happens(happening, |_, _| ())?;
            prop_assert!(status.ledger.holders.len() <= 1);
        }
    }
}
