//! The queue stamp: since when an object waits.
//!
//! Pure; the clock is the caller's. What must stay true: our own stamp survives our second pass, and no other does
//! (a copied or forged one would win a better place).

use jiff::{SignedDuration, Timestamp};

/// Our second pass comes within the timeouts of all webhooks of one request.
const MAX_AGE: SignedDuration = SignedDuration::from_secs(10);
/// Clocks of replicas differ.
const MAX_AHEAD: SignedDuration = SignedDuration::from_secs(1);

/// RFC 3339, UTC, microseconds: texts of one length, which sort as the moments do.
pub(crate) fn format(at: Timestamp) -> String {
    format!("{at:.6}")
}

/// The stamp that the object should carry, given the one that it has.
pub(crate) fn stamp(found: Option<&str>, now: Timestamp) -> String {
    let ours = |text: &&str| {
        text.parse::<Timestamp>().is_ok_and(|at| {
            format(at) == **text && now.duration_since(at) <= MAX_AGE && at.duration_since(now) <= MAX_AHEAD
        })
    };
    found.filter(ours).map_or_else(|| format(now), ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const NOW: &str = "2030-06-01T12:00:00.123456Z";

    #[rstest]
    #[case("2030-06-01T12:00:00.123456Z")]
    #[case("2030-06-01T11:59:50.123456Z")]
    #[case("2030-06-01T12:00:01.123456Z")]
    fn a_stamp_of_our_own_is_kept(#[case] found: &str) {
        assert_eq!(stamp(Some(found), NOW.parse().unwrap()), found);
    }

    #[rstest]
    #[case::a_little_too_old("2030-06-01T11:59:50.123455Z")]
    #[case::a_little_too_early("2030-06-01T12:00:01.123457Z")]
    #[case::copied_from_yesterday("2030-05-31T12:00:00.000000Z")]
    #[case::whole_seconds("2030-06-01T12:00:00Z")]
    #[case::nanoseconds("2030-06-01T12:00:00.123456789Z")]
    #[case::another_zone("2030-06-01T14:00:00.123456+02:00")]
    #[case::no_moment("now")]
    #[case::empty("")]
    fn any_other_is_replaced(#[case] found: &str) {
        assert_eq!(stamp(Some(found), NOW.parse().unwrap()), NOW);
    }

    #[test]
    fn a_moment_is_written_with_exactly_six_digits() {
        for (moment, written) in [
            ("2030-06-01T12:00:00Z", "2030-06-01T12:00:00.000000Z"),
            ("2030-06-01T12:00:00.1234569Z", "2030-06-01T12:00:00.123456Z"),
        ] {
            assert_eq!(stamp(None, moment.parse().unwrap()), written);
        }
    }
}
