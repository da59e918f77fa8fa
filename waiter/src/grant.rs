//! The grant: the text by which the operator tells one run of one waiter its verdict.
//!
//! This is the only definition of it; the operator writes with it, the webhook names its annotation, the waiter reads
//! with it. Pure, no dependencies. The forms, one line each:
//!
//! ```text
//! v1 <pod UID> <run> <waiter startedAt> go
//! v1 <pod UID> <run> <waiter startedAt> skip <reason until the end of the line>
//! v1 <pod UID> <run> <waiter startedAt> deny <code> <reason until the end of the line>
//! v1 <pod UID> <run> <waiter startedAt> released
//! ```
//!
//! What must stay true: [`Display`](fmt::Display) and [`FromStr`] are exact inverses (a text that is accepted is
//! written again as it was), and no reason, whoever wrote it, can make a second line.
//!
//! Denials, which the waiter turns into exit code 64 + code:
//!
//! | code | exit code | meaning |
//! |---|---|---|
//! | 1 | 65 | [`NEVER`]: what the pod waits for can never come true any more |
//! | 2 | 66 | [`TIMED_OUT`]: the pod has waited for as long as it may |
//! | 3 | 67 | [`BUSY`]: the pod would have to wait, and does not want to |

use std::fmt;
use std::str::FromStr;

use crate::rfc3339;

/// The pod annotation that carries the grant. The kubelet shows it to the waiter as a file.
pub const ANNOTATION: &str = "konductor.io/grant";

/// Denied because what the pod waits for can never come true any more: exit code 65.
pub const NEVER: u8 = 1;

/// Denied because the pod has waited for as long as its `konductor.io/timeout` says: exit code 66.
pub const TIMED_OUT: u8 = 2;

/// Denied because the pod would have to wait, and its `konductor.io/on-busy` says not to: exit code 67.
pub const BUSY: u8 = 3;

/// Codes go from 1 to this one, so that exit codes stay below those of signals.
pub const MAX_CODE: u8 = 63;

/// Longer reasons are cut.
pub const MAX_REASON_BYTES: usize = 512;

/// A verdict and the one run of the one waiter that it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The pod that is meant.
    pub pod_uid: String,
    /// Counts the runs of the pod's waiter that were told something; rises, starting at 1.
    pub run: u64,
    /// When the kubelet says that this run of the waiter started, in seconds since 1970.
    pub waiter_started_at: i64,
    /// What it is told.
    pub verdict: Verdict,
}

/// What a waiter is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The pod may start.
    Go,
    /// The pod may start, and what it would do once has been done: its wrapped containers end at once.
    Skip {
        /// A sentence for people: one line, at most [`MAX_REASON_BYTES`], not empty.
        reason: String,
    },
    /// The pod may never start.
    Deny {
        /// 1 to [`MAX_CODE`].
        code: u8,
        /// A sentence for people: one line, at most [`MAX_REASON_BYTES`], not empty.
        reason: String,
    },
    /// A verdict that was withdrawn: it opens nothing, and only a higher run may follow.
    Released,
}

/// Why a text is no grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError(&'static str);

// --------------------------------------------------------------------------------------------------- writing

impl fmt::Display for Grant {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let started_at = rfc3339::format(self.waiter_started_at);
        write!(formatter, "v1 {} {} {started_at} {}", self.pod_uid, self.run, self.verdict)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Go => formatter.write_str("go"),
            Self::Skip { reason } => write!(formatter, "skip {}", one_line(reason)),
            Self::Deny { code, reason } => {
                write!(formatter, "deny {} {}", (*code).clamp(1, MAX_CODE), one_line(reason))
            }
            Self::Released => formatter.write_str("released"),
        }
    }
}

/// What a reason looks like once it is written: one line, bounded, not empty.
fn one_line(reason: &str) -> String {
    if reason.is_empty() {
        return "no reason was given".to_owned();
    }
    // A control character of two bytes becomes a space of one: never longer than before.
    reason
        .char_indices()
        .take_while(|(at, character)| at + character.len_utf8() <= MAX_REASON_BYTES)
        .map(|(_, character)| if character.is_control() { ' ' } else { character })
        .collect()
}

// --------------------------------------------------------------------------------------------------- reading

impl FromStr for Grant {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let rest = text.strip_prefix("v1 ").ok_or(ParseError("it does not start with \"v1 \""))?;
        let mut words = rest.splitn(4, ' ');
        let mut word = || words.next().ok_or(ParseError("it ends too early"));
        let (pod_uid, run, started_at, verdict) = (word()?, word()?, word()?, word()?);
        if pod_uid.is_empty() || !pod_uid.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ParseError("its second word is no pod UID"));
        }
        Ok(Self {
            pod_uid: pod_uid.to_owned(),
            run: number(run).ok_or(ParseError("its third word is no run number"))?,
            waiter_started_at: rfc3339::parse(started_at)
                .ok_or(ParseError("its fourth word is no moment like 2030-06-01T12:00:00Z"))?,
            verdict: verdict.parse()?,
        })
    }
}

impl FromStr for Verdict {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if let Some(reason) = text.strip_prefix("skip ") {
            let reason = one_line_only(reason)?;
            return Ok(Self::Skip { reason });
        }
        let denial = match text {
            "go" => return Ok(Self::Go),
            "released" => return Ok(Self::Released),
            other => other
                .strip_prefix("deny ")
                .ok_or(ParseError("it says neither go, skip, deny nor released"))?,
        };
        let (code, reason) =
            denial.split_once(' ').ok_or(ParseError("a denial needs a code and a reason"))?;
        let code = number(code)
            .and_then(|code| u8::try_from(code).ok())
            .filter(|code| (1..=MAX_CODE).contains(code))
            .ok_or(ParseError("the code of a denial is a number from 1 to 63"))?;
        Ok(Self::Deny { code, reason: one_line_only(reason)? })
    }
}

fn one_line_only(reason: &str) -> Result<String, ParseError> {
    if reason == one_line(reason) {
        Ok(reason.to_owned())
    } else {
        Err(ParseError("a reason is one line of at most 512 bytes"))
    }
}

impl Verdict {
    /// Does it let the pod start?
    pub const fn opens(&self) -> bool {
        matches!(self, Self::Go | Self::Skip { .. })
    }
}

/// Only what a number is written as: no sign, no leading zero.
pub(crate) fn number(text: &str) -> Option<u64> {
    let canonical = text == "0" || !text.starts_with(['0', '+']);
    canonical.then(|| text.parse().ok()).flatten()
}

impl fmt::Display for ParseError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0)
    }
}

impl std::error::Error for ParseError {}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "6c0a8b3e-7f51-4d9a-9d1e-0b2f3c4d5e6f";

    fn grant(verdict: Verdict) -> Grant {
        Grant { pod_uid: UID.to_owned(), run: 3, waiter_started_at: 1_906_545_600, verdict }
    }

    fn deny(code: u8, reason: &str) -> Verdict {
        Verdict::Deny { code, reason: reason.to_owned() }
    }

    #[test]
    fn the_text_is_what_the_contract_says() {
        let text = |verdict| grant(verdict).to_string();
        let head = format!("v1 {UID} 3 2030-06-01T12:00:00Z");
        assert_eq!(text(Verdict::Go), format!("{head} go"));
        assert_eq!(text(Verdict::Released), format!("{head} released"));
        assert_eq!(
            text(deny(NEVER, "Job data failed: it will not complete")),
            format!("{head} deny 1 Job data failed: it will not complete")
        );
    }

    #[test]
    fn what_is_written_is_read_back() {
        let reasons = ["x", " ", "two  spaces ", "Ümläut → ok", "v1 a 1 2030-06-01T12:00:00Z go"];
        let mut seed = 1_u64;
        for round in 0..4000_usize {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let verdict = match round % 3 {
                0 => Verdict::Go,
                1 => Verdict::Released,
                _ => deny(u8::try_from(seed % 63).unwrap() + 1, reasons[round % reasons.len()]),
            };
            let grant = Grant {
                pod_uid: format!("{seed:x}-{round}"),
                run: if round % 7 == 0 { u64::MAX } else { seed >> (round % 64) },
                waiter_started_at: i64::try_from(seed >> 31).unwrap(),
                verdict,
            };
            assert_eq!(grant.to_string().parse(), Ok(grant));
        }
    }

    /// Every text one edit away from a good one is refused, or is written again exactly as it was.
    #[test]
    fn what_is_accepted_is_written_again_as_it_was() {
        let good =
            [grant(Verdict::Go), grant(Verdict::Released), grant(deny(12, "a b"))].map(|g| g.to_string());
        let mut accepted = 0;
        for good in &good {
            for at in 0..=good.len() {
                for inserted in ["", " ", "0", "+", "9", "x", "\n", "\t", "é", "T", "-"] {
                    for removed in 0..=usize::from(at < good.len()) {
                        let text = format!("{}{inserted}{}", &good[..at], &good[at + removed..]);
                        if let Ok(grant) = text.parse::<Grant>() {
                            assert_eq!(grant.to_string(), text);
                            accepted += 1;
                        }
                    }
                }
            }
        }
        assert!(accepted > 100, "the edits must reach texts that are accepted: {accepted}");
    }

    #[test]
    fn a_reason_never_makes_a_second_line_and_is_cut_between_characters() {
        let written = grant(deny(1, "first\nsecond\r\u{85}third\0")).to_string();
        assert_eq!(written.lines().count(), 1);
        assert!(written.ends_with(" deny 1 first second  third "), "{written:?}");
        let long = "ä".repeat(400);
        let Verdict::Deny { reason, .. } =
            grant(deny(1, &long)).to_string().parse::<Grant>().unwrap().verdict
        else {
            unreachable!()
        };
        assert_eq!(reason, "ä".repeat(256));
        assert!(grant(deny(1, "")).to_string().parse::<Grant>().is_ok());
        assert!(grant(deny(200, "x")).to_string().contains(" deny 63 x"));
    }

    #[test]
    fn what_is_no_grant_is_refused_with_the_reason() {
        let moment = "2030-06-01T12:00:00Z";
        for (text, reason) in [
            (String::new(), "does not start"),
            ("v2 a 1".to_owned(), "does not start"),
            ("v1 a 1".to_owned(), "too early"),
            (format!("v1  1 {moment} go"), "no pod UID"),
            (format!("v1 a -1 {moment} go"), "no run"),
            (format!("v1 a 01 {moment} go"), "no run"),
            (format!("v1 a 18446744073709551616 {moment} go"), "no run"),
            ("v1 a 1 yesterday go".to_owned(), "no moment"),
            (format!("v1 a 1 {moment} GO"), "neither"),
            (format!("v1 a 1 {moment} go\n"), "neither"),
            (format!("v1 a 1 {moment} go on"), "neither"),
            (format!("v1 a 1 {moment} deny 1"), "needs a code"),
            (format!("v1 a 1 {moment} deny 0 x"), "from 1 to 63"),
            (format!("v1 a 1 {moment} deny 64 x"), "from 1 to 63"),
            (format!("v1 a 1 {moment} deny 1 "), "one line"),
            (format!("v1 a 1 {moment} deny 1 a\nb"), "one line"),
        ] {
            let refused = text.parse::<Grant>().unwrap_err().to_string();
            assert!(refused.contains(reason), "{text:?}: {refused}");
        }
    }
}
