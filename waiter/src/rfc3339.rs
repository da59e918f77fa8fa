//! Moments as the grant's text has them: RFC 3339, whole seconds, always UTC (`2030-06-01T12:00:00Z`).
//!
//! Pure, and without a date crate: every waiting pod pays for what this binary links. The calendar arithmetic is
//! the algorithm of Howard Hinnant's "chrono-Compatible Low-Level Date Algorithms" (`days_from_civil` and
//! `civil_from_days`): a year that starts in March has its leap day at the end, so months need no table.
//! What must stay true: [`parse`] accepts exactly what [`format()`] writes.

const SECONDS_PER_DAY: i64 = 86_400;
const DAYS_PER_ERA: i64 = 146_097;
/// 0000-01-01T00:00:00Z.
const FIRST: i64 = -62_167_219_200;
/// 9999-12-31T23:59:59Z.
const LAST: i64 = 253_402_300_799;

/// Writes seconds since 1970 as text. What lies outside the years 0 to 9999, which RFC 3339 cannot write, becomes
/// the nearest moment that it can.
pub fn format(unix_seconds: i64) -> String {
    let seconds = unix_seconds.clamp(FIRST, LAST);
    let (year, month, day) = civil_from_days(seconds.div_euclid(SECONDS_PER_DAY));
    let of_day = seconds.rem_euclid(SECONDS_PER_DAY);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Reads what [`format()`] writes; anything else, a day that does not exist included, is `None`.
pub fn parse(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':'), (19, b'Z')];
    if bytes.len() != 20 || separators.iter().any(|&(at, expected)| bytes[at] != expected) {
        return None;
    }
    let number = |from: usize, to: usize| {
        bytes[from..to]
            .iter()
            .try_fold(0, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + i64::from(digit - b'0')))
    };
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let exists =
        (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second < 60;
    let seconds = days_from_civil(year, month, day) * SECONDS_PER_DAY + hour * 3600 + minute * 60 + second;
    // The 31st of a month of 30 days comes back as the first of the next.
    (exists && format(seconds) == text).then_some(seconds)
}

/// Days since 1970-01-01.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * DAYS_PER_ERA + day_of_era - 719_468
}

/// Year, month, day.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(DAYS_PER_ERA);
    let day_of_era = days.rem_euclid(DAYS_PER_ERA);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments_are_written_as_everybody_writes_them() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_164_800, "2024-02-29T00:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (1_906_545_600, "2030-06-01T12:00:00Z"),
            (FIRST, "0000-01-01T00:00:00Z"),
            (LAST, "9999-12-31T23:59:59Z"),
            (i64::MAX, "9999-12-31T23:59:59Z"),
            (i64::MIN, "0000-01-01T00:00:00Z"),
        ] {
            assert_eq!(format(seconds), text);
        }
    }

    #[test]
    fn every_day_of_four_centuries_comes_back() {
        let mut expected = (1970, 1, 1);
        for day in 0..DAYS_PER_ERA {
            assert_eq!(civil_from_days(day), expected);
            assert_eq!(days_from_civil(expected.0, expected.1, expected.2), day);
            expected = next_day(expected);
        }
    }

    /// The calendar as one learns it at school: the model to compare with.
    fn next_day((year, month, day): (i64, i64, i64)) -> (i64, i64, i64) {
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let length = match month {
            2 if leap => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        match (month, day) {
            (12, 31) => (year + 1, 1, 1),
            (_, day) if day == length => (year, month + 1, 1),
            _ => (year, month, day + 1),
        }
    }

    #[test]
    fn what_is_written_is_read_back_over_the_whole_range() {
        let mut seconds = FIRST;
        while seconds <= LAST {
            assert_eq!(parse(&format(seconds)), Some(seconds));
            seconds += 99_999_989;
        }
        assert_eq!(parse(&format(LAST)), Some(LAST));
    }

    #[test]
    fn what_is_not_such_a_moment_is_refused() {
        for text in [
            "",
            "2030-06-01",
            "2030-06-01T12:00:00",
            "2030-06-01t12:00:00z",
            "2030-06-01 12:00:00Z",
            "2030-06-01T12:00:00.5Z",
            "2030-06-01T12:00:00+00:00",
            "2030-13-01T12:00:00Z",
            "2030-00-01T12:00:00Z",
            "2030-06-31T12:00:00Z",
            "2030-02-29T12:00:00Z",
            "2030-06-01T24:00:00Z",
            "2030-06-01T12:60:00Z",
            "2030-06-01T12:00:60Z",
            "+030-06-01T12:00:00Z",
            "2030-06-01T12:00:00é",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
