//! A few seeds with every test run; `cargo xtask sim` lives many.

use konductor_simulation::{Flaw, Way, live};
use rstest::rstest;

/// In two parts, for two processors.
#[rstest]
#[case(0..15)]
#[case(15..30)]
fn nothing_breaks_and_everybody_gets_through(#[case] seeds: std::ops::Range<u64>) {
    for seed in seeds {
        if let Some(broken) = live(seed, Way::default()).broken {
            panic!(
                "seed {seed}: {} after {:?}: {}\n`cargo xtask sim --replay {seed}` tells how",
                broken.invariant, broken.at, broken.detail
            );
        }
    }
}

#[test]
fn a_seed_is_lived_the_same_way_again() {
    for seed in [3, 7, 11] {
        let lives = [live(seed, Way::default()), live(seed, Way { flaw: None, told: true })];
        assert_eq!(lives[0].digest, lives[1].digest, "seed {seed}");
        assert_eq!(lives[0].age, lives[1].age);
    }
}

/// The seeds are those that `cargo xtask sim --flaw all` named: looking for them takes longer than a test may.
#[rstest]
#[case(Flaw::GrantsWithoutFinalizer, 0)]
fn a_flaw_is_found(#[case] flaw: Flaw, #[case] seed: u64) {
    let found =
        (seed..seed + 20).any(|seed| live(seed, Way { flaw: Some(flaw), told: false }).broken.is_some());
    assert!(found, "{flaw:?}");
}
