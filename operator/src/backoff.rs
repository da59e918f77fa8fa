//! Backoff: how long a watch that was interrupted waits before it tries again.
//!
//! Twice as long each time, and longer by a part that differs between watches and between operators, so that those who lost
//! the API server together do not all come back at once. What must stay true: the same salt gives the same waits, so that a
//! simulation can be told again.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use kube::runtime::utils::Backoff;

const SHORTEST: Duration = Duration::from_millis(800);
const LONGEST: Duration = Duration::from_secs(30);

/// By which the waits of one operator differ from those of others.
#[derive(Clone, Copy, Debug)]
pub struct Salt(pub u64);

/// The waits of one watch.
#[derive(Debug)]
pub(crate) struct Waits {
    state: u64,
    next: Duration,
}

impl Salt {
    /// Another one for every process.
    pub fn random() -> Self {
        Self(RandomState::new().hash_one(()))
    }

    /// The waits of the watch of that name.
    pub(crate) fn waits(self, name: &str) -> Waits {
        let fold = |state: u64, byte: u8| (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        Waits { state: name.bytes().fold(self.0 ^ 0xcbf2_9ce4_8422_2325, fold), next: SHORTEST }
    }
}

impl Iterator for Waits {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        // SplitMix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 32;
        let thousandths = u32::try_from(mixed % 1000).unwrap_or_default();
        let wait = self.next + self.next * thousandths / 1000;
        self.next = (self.next * 2).min(LONGEST);
        Some(wait)
    }
}

impl Backoff for Waits {
    fn reset(&mut self) {
        self.next = SHORTEST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_limit_and_differ() {
        let waits = |salt, name| Salt(salt).waits(name).take(9).collect::<Vec<_>>();
        let some = waits(1, "pods");
        for (at, wait) in some.iter().enumerate() {
            let least = (SHORTEST * 2_u32.pow(u32::try_from(at).unwrap())).min(LONGEST);
            assert!(*wait >= least && *wait < least * 2, "{wait:?}");
        }
        assert_eq!(some, waits(1, "pods"));
        assert_ne!(some, waits(1, "jobs"));
        assert_ne!(some, waits(2, "pods"));
        let mut again = Salt(1).waits("pods");
        again.by_ref().nth(5);
        again.reset();
        assert!(again.next().unwrap() < SHORTEST * 2);
    }
}
