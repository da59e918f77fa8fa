//! Durations as Go writes them: `30m`, `1h30m`, `1.5s`.
//!
//! Pure. The grammar is that of Go's `time.ParseDuration` without a sign, because the manifests that people have were
//! written for it. What must stay true: no text makes this panic, and what is printed is read back as the same
//! length of time.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use jiff::{SignedDuration, Timestamp};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const UNITS: [(&str, i64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60 * 1_000_000_000),
    ("h", 3_600 * 1_000_000_000),
];

/// A length of time that is not negative, to the nanosecond, at most some 292 years.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GoDuration(i64);

/// Why a text is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no duration: {problem}; write it like 30m, 1h30m or 90s")]
pub struct DurationError {
    text: String,
    problem: &'static str,
}

impl GoDuration {
    /// So many seconds.
    pub const fn from_seconds(seconds: u32) -> Self {
        Self(seconds as i64 * 1_000_000_000)
    }

    /// The moment so long after that one; `None` where no calendar goes.
    pub fn after(self, since: Timestamp) -> Option<Timestamp> {
        since.checked_add(SignedDuration::from_nanos(self.0)).ok()
    }

    /// So many nanoseconds.
    pub const fn from_nanoseconds(nanoseconds: i64) -> Self {
        Self(nanoseconds)
    }

    /// In nanoseconds.
    pub const fn as_nanoseconds(self) -> i64 {
        self.0
    }
}

impl FromStr for GoDuration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        nanoseconds(text)
            .map(Self)
            .map_err(|problem| DurationError { text: text.chars().take(64).collect(), problem })
    }
}

fn nanoseconds(text: &str) -> Result<i64, &'static str> {
    const TOO_LONG: &str = "it is longer than 292 years";
    if text == "0" {
        return Ok(0);
    }
    if text.is_empty() {
        return Err("it is empty");
    }
    let mut rest = text;
    let mut sum = 0_i64;
    while !rest.is_empty() {
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let (whole, after) = rest.split_at(digits(rest));
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => after.split_at(digits(after)),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err("a number is missing");
        }
        let unit_length = after.find(|letter: char| letter.is_ascii_digit() || letter == '.');
        let (unit, after) = after.split_at(unit_length.unwrap_or(after.len()));
        let (_, scale) = UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .ok_or("a number needs one of the units ns, us, ms, s, m, h")?;
        let whole = if whole.is_empty() { 0 } else { whole.parse::<i64>().map_err(|_| TOO_LONG)? };
        let mut term = whole.checked_mul(*scale).ok_or(TOO_LONG)?;
        let mut place = *scale;
        for digit in fraction.bytes() {
            place /= 10;
            term = term.checked_add(place * i64::from(digit - b'0')).ok_or(TOO_LONG)?;
        }
        sum = sum.checked_add(term).ok_or(TOO_LONG)?;
        rest = after;
    }
    Ok(sum)
}

/// As Go prints it: `1h30m0s`, `1.5s`, `250ms`.
impl fmt::Display for GoDuration {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanoseconds = self.0;
        if nanoseconds < 1_000_000_000 {
            let (unit, scale) = match nanoseconds {
                0 => return formatter.write_str("0s"),
                1..1_000 => ("ns", 1),
                1_000..1_000_000 => ("µs", 1_000),
                _ => ("ms", 1_000_000),
            };
            return write!(formatter, "{}{unit}", decimal(nanoseconds, scale));
        }
        let seconds = nanoseconds / 1_000_000_000;
        let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
        if hours > 0 {
            write!(formatter, "{hours}h")?;
        }
        if hours > 0 || minutes > 0 {
            write!(formatter, "{minutes}m")?;
        }
        write!(formatter, "{}s", decimal(nanoseconds % 60_000_000_000, 1_000_000_000))
    }
}

fn decimal(value: i64, scale: i64) -> String {
    let (whole, rest) = (value / scale, value % scale);
    if rest == 0 {
        return whole.to_string();
    }
    let digits = usize::try_from(scale.ilog10()).unwrap_or(0);
    let fraction = format!("{rest:0digits$}");
    format!("{whole}.{}", fraction.trim_end_matches('0'))
}

impl Serialize for GoDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for GoDuration {
    fn schema_name() -> Cow<'static, str> {
        "GoDuration".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "maxLength": 32,
            "pattern": r"^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$",
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("30m", 1_800_000_000_000, "30m0s")]
    #[case("1h30m", 5_400_000_000_000, "1h30m0s")]
    #[case("1.5s", 1_500_000_000, "1.5s")]
    #[case("90s", 90_000_000_000, "1m30s")]
    #[case("1500us", 1_500_000, "1.5ms")]
    #[case(".5s", 500_000_000, "500ms")]
    #[case("0", 0, "0s")]
    #[case("0s", 0, "0s")]
    #[case("1h", 3_600_000_000_000, "1h0m0s")]
    #[case("2ns", 2, "2ns")]
    fn it_reads_and_writes_as_go_does(#[case] text: &str, #[case] nanoseconds: i64, #[case] written: &str) {
        let duration: GoDuration = text.parse().unwrap();
        assert_eq!(duration.as_nanoseconds(), nanoseconds);
        assert_eq!(duration.to_string(), written);
    }

    #[rstest]
    #[case("", "empty")]
    #[case("30", "units")]
    #[case("30 m", "units")]
    #[case("-5s", "number is missing")]
    #[case("--5s", "number is missing")]
    #[case("1d", "units")]
    #[case("s", "number is missing")]
    #[case("9999999999999999h", "292 years")]
    #[case("2562047h2562047h", "292 years")]
    fn what_is_none_is_refused_with_the_reason_and_an_example(#[case] text: &str, #[case] reason: &str) {
        let refused = text.parse::<GoDuration>().unwrap_err().to_string();
        assert!(refused.contains(reason) && refused.contains("1h30m"), "{refused}");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(nanoseconds in 0..i64::MAX) {
            let duration = GoDuration(nanoseconds);
            prop_assert_eq!(duration.to_string().parse::<GoDuration>().unwrap(), duration);
        }

        #[test]
        fn no_text_makes_it_panic(text in "[0-9.]{0,24}(ns|us|µs|ms|s|m|h|d|x){0,3}[0-9]{0,24}[hms]?") {
            let _ = text.parse::<GoDuration>();
        }
    }
}
