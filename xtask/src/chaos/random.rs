//! Chance that can be had again: the same seed, the same numbers.
//!
//! Pure. Not for secrets.

use std::time::Duration;

/// A generator (`SplitMix64`, by Steele, Lea and Flood).
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    /// From a seed; each `stream` of a seed is another sequence.
    pub(super) fn new(seed: u64, stream: u64) -> Self {
        let mut random = Self(seed ^ stream.wrapping_mul(0xD1B5_4A32_D192_ED03));
        random.next();
        random
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to `bound`, without it; 0 for a bound of 0.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        // The remainder prefers small numbers by less than one in 2^50 here.
        let bound = u64::try_from(bound).unwrap_or(u64::MAX);
        usize::try_from(self.next().checked_rem(bound).unwrap_or_default()).unwrap_or_default()
    }

    /// So often in a hundred.
    pub(super) fn percent(&mut self, share: usize) -> bool {
        self.below(100) < share
    }

    /// Both ends included, in tenths of a second.
    pub(super) fn seconds(&mut self, from: u64, to: u64) -> Duration {
        let tenths = usize::try_from((to - from) * 10).unwrap_or_default();
        Duration::from_secs(from)
            + Duration::from_millis(100) * u32::try_from(self.below(tenths + 1)).unwrap_or_default()
    }

    /// One of them.
    pub(super) fn choose<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        all.get(self.below(all.len()))
    }

    /// In another order (Fisher and Yates).
    pub(super) fn shuffle<T>(&mut self, all: &mut [T]) {
        for last in (1..all.len()).rev() {
            all.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_its_numbers_again_and_another_stream_others() {
        let draw = |stream| {
            let mut random = Random::new(7, stream);
            (0..8).map(|_| random.below(1000)).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn bounds_are_kept_and_nothing_is_lost_in_a_shuffle() {
        let mut random = Random::new(1, 0);
        assert_eq!(random.below(0), 0);
        assert!((0..100).all(|_| random.below(3) < 3));
        let spans: Vec<_> = (0..100).map(|_| random.seconds(2, 5)).collect();
        assert!(spans.iter().all(|span| (2.0..=5.0).contains(&span.as_secs_f64())), "{spans:?}");
        let mut all: Vec<_> = (0..20).collect();
        random.shuffle(&mut all);
        assert_ne!(all, (0..20).collect::<Vec<_>>());
        all.sort_unstable();
        assert_eq!(all, (0..20).collect::<Vec<_>>());
    }
}
