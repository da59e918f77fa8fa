//! The semaphore beside a sorted list and a counter.

use konductor_api::participation::Role;
use konductor_api::semaphore::{Semaphore, SemaphoreSpec};
use proptest::prelude::*;

use super::super::support::fresh;
use super::line::{Answer, Both, Reference, happenings};

struct Counter {
    permits: u32,
}

fn wanted(role: Role) -> u32 {
    let Role::Take(permits) = role else { panic!("it takes permits") };
    permits
}

impl Reference for Counter {
    fn answer(&self, holders: &[Role], next: Role) -> Answer {
        let used: u32 = holders.iter().map(|role| wanted(*role)).sum();
        match wanted(next) {
            wanted if wanted > self.permits => Answer::IsPassedOver,
            wanted if used + wanted <= self.permits => Answer::Enters,
            _ => Answer::StopsTheLine,
        }
    }

    fn changes(&mut self, number: u32) {
        self.permits = number;
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn it_counts(happenings in happenings((1..4_u32).prop_map(Role::Take)), permits in 1..6_u32) {
        let spec = SemaphoreSpec { permits: permits.into(), ttl: None };
        let mut both = Both::new(fresh(Semaphore::new("x", spec)), Counter { permits });
        for happening in &happenings {
            let before = both.snapshot.primitive.status.clone().unwrap_or_default();
            let status = both.happens(happening, |semaphore, number| semaphore.spec.permits = number.into())?;
            let permits = i64::from(both.reference.permits);
            // Beyond the permits only by who was there before they became fewer.
            prop_assert!(status.in_use <= permits.max(before.in_use));
            prop_assert_eq!(status.available, (permits - status.in_use).max(0));
        }
    }
}
