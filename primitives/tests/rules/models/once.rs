//! The once beside a lock, a flag and a counter.

use konductor_api::once::{Once, OnceSpec};
use konductor_api::participation::Role;
use proptest::prelude::*;

use super::super::support::{fresh, uid};
use super::line::{Answer, Both, Reference, happenings};

/// Until one has succeeded, or as many have failed as may.
#[derive(Debug, Default)]
struct Flag {
    done_by: Option<String>,
    failed: i64,
    max: Option<i64>,
}

impl Reference for Flag {
    fn answer(&self, holders: &[Role], _: Role) -> Answer {
        let over = self.done_by.is_some() || self.max.is_some_and(|max| self.failed >= max);
        if holders.is_empty() && !over { Answer::Enters } else { Answer::StopsTheLine }
    }

    fn ended(&mut self, uid: &str, code: i32) {
        if code == 0 {
            self.done_by = Some(uid.to_owned());
        } else {
            self.failed += 1;
        }
    }

    fn changes(&mut self, number: u32) {
        self.max = Some(number.into());
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn it_is_executed_once(happenings in happenings(Just(Role::Hold))) {
        let mut both = Both::new(fresh(Once::new("x", OnceSpec::default())), Flag::default());
        for happening in &happenings {
            let status = both.happens(happening, |once, number| once.spec.max_attempts = Some(number.into()))?;
            let executor = status.executor.as_deref().and_then(|name| name.strip_prefix("pod/")).map(uid);
            prop_assert_eq!(&executor, &both.reference.done_by);
            prop_assert_eq!((status.executed, status.attempts), (executor.is_some(), both.reference.failed));
        }
    }
}
