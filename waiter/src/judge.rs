//! Is this verdict for this run of this waiter?
//!
//! Pure: text, own identity and own start in, [`Standing`] out. What must stay true: [`Standing::Go`] and
//! [`Standing::Skip`] need our pod's UID, a run above the used one, and a start that is our own; when in doubt the answer is to wait.

use std::fmt;

use crate::grant::{Grant, Verdict};
use crate::rfc3339;

/// The kubelet's seconds are cut, and so are ours.
const OLDER_THAN_US: i64 = 2;
/// The runtime takes the time after it started us, on a slow machine a good while after.
const NEWER_THAN_US: i64 = 60;

/// Who is judging: one run of one pod's waiter.
#[derive(Clone, Debug)]
pub struct Myself {
    /// Our pod.
    pub pod_uid: String,
    /// When this process started, in seconds since 1970.
    pub started_at: i64,
}

/// Where we stand, as far as the grant file tells. Its text is the line that is logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing has been said yet.
    Ungranted,
    /// The file, or the mark of used grants, could not be read or written.
    Unreadable(String),
    /// The file holds something that is no grant.
    Garbled(String),
    /// A grant for another pod.
    Foreign(String),
    /// A grant for another run of our waiter.
    Stale(i64),
    /// A grant that an earlier run of ours has used.
    Used(u64),
    /// A verdict that was withdrawn.
    Released(u64),
    /// We may start, but this soon after our own start not everything behind us has been told.
    Early(u64),
    /// We may start, once the mark is written.
    Go(u64),
    /// The same, but what is done once was done already.
    Skip {
        /// The run.
        run: u64,
        /// By whom.
        reason: String,
    },
    /// We may never start.
    Denied {
        /// See [`crate::grant`].
        code: u8,
        /// Why.
        reason: String,
    },
}

/// Judges the content of the grant file. `used` is the highest run that was used up.
pub fn judge(text: &str, myself: &Myself, used: u64) -> Standing {
    let text = text.strip_suffix('\n').unwrap_or(text);
    if text.is_empty() {
        return Standing::Ungranted;
    }
    let grant: Grant = match text.parse() {
        Ok(grant) => grant,
        Err(error) => return Standing::Garbled(error.to_string()),
    };
    let ours =
        myself.started_at.saturating_sub(OLDER_THAN_US)..=myself.started_at.saturating_add(NEWER_THAN_US);
    if grant.pod_uid != myself.pod_uid {
        Standing::Foreign(grant.pod_uid)
    } else if grant.run <= used {
        Standing::Used(grant.run)
    } else if !ours.contains(&grant.waiter_started_at) {
        Standing::Stale(grant.waiter_started_at)
    } else {
        match grant.verdict {
            Verdict::Go => Standing::Go(grant.run),
            Verdict::Skip { reason } => Standing::Skip { run: grant.run, reason },
            Verdict::Deny { code, reason } => Standing::Denied { code, reason },
            Verdict::Released => Standing::Released(grant.run),
        }
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ungranted => formatter.write_str("not granted yet"),
            Self::Unreadable(problem) => write!(formatter, "{problem}; still waiting"),
            Self::Garbled(problem) => {
                write!(formatter, "the grant file holds something that is no grant: {problem}; still waiting")
            }
            Self::Foreign(uid) => {
                write!(formatter, "the grant is for another pod (UID {uid}); still waiting")
            }
            Self::Stale(started_at) => write!(
                formatter,
                "the grant is for the run of this init container that started at {}; still waiting for one for this run",
                rfc3339::format(*started_at)
            ),
            Self::Used(run) => write!(
                formatter,
                "grant {run} was used by an earlier run of this init container; still waiting for a new one"
            ),
            Self::Released(run) => {
                write!(formatter, "grant {run} was withdrawn before it was used; still waiting for a new one")
            }
            Self::Early(run) => {
                write!(formatter, "granted (run {run}): waiting until the kubelet knows the tokens as well")
            }
            Self::Go(run) => write!(formatter, "granted (run {run}): the next container starts"),
            Self::Skip { run, reason } => {
                write!(
                    formatter,
                    "granted (run {run}): the next container starts and does nothing, for {reason}"
                )
            }
            Self::Denied { reason, .. } => write!(formatter, "denied: {reason}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: i64 = 1_906_545_600;

    fn seen(pod_uid: &str, run: u64, started_at: i64, verdict: Verdict, used: u64) -> Standing {
        let text =
            Grant { pod_uid: pod_uid.to_owned(), run, waiter_started_at: started_at, verdict }.to_string();
        judge(&text, &Myself { pod_uid: "ours".to_owned(), started_at: START }, used)
    }

    #[test]
    fn only_our_pod_our_start_and_an_unused_run_open() {
        let go = |uid, run, started_at, used| seen(uid, run, started_at, Verdict::Go, used);
        assert_eq!(go("ours", 1, START, 0), Standing::Go(1));
        assert_eq!(go("theirs", 1, START, 0), Standing::Foreign("theirs".to_owned()));
        assert_eq!(go("ours", 4, START, 4), Standing::Used(4));
        assert_eq!(go("ours", 3, START, 4), Standing::Used(3));
        assert_eq!(go("ours", 5, START, 4), Standing::Go(5));
        assert_eq!(go("ours", 0, START, 0), Standing::Used(0));
    }

    #[test]
    fn the_start_may_be_a_little_older_and_up_to_a_minute_newer_than_ours() {
        for (offset, opens) in [(-3, false), (-2, true), (0, true), (60, true), (61, false)] {
            let standing = seen("ours", 1, START + offset, Verdict::Go, 0);
            assert_eq!(standing == Standing::Go(1), opens, "{offset}: {standing:?}");
        }
    }

    #[test]
    fn a_denial_or_withdrawal_for_another_run_is_not_ours() {
        let deny = || Verdict::Deny { code: 1, reason: "no".to_owned() };
        assert_eq!(seen("ours", 1, START - 10, deny(), 0), Standing::Stale(START - 10));
        assert_eq!(seen("ours", 1, START, deny(), 1), Standing::Used(1));
        assert_eq!(seen("ours", 2, START, deny(), 1), Standing::Denied { code: 1, reason: "no".to_owned() });
        assert_eq!(seen("ours", 2, START, Verdict::Released, 1), Standing::Released(2));
        let skip = || Verdict::Skip { reason: "done".to_owned() };
        assert_eq!(seen("ours", 1, START, skip(), 1), Standing::Used(1));
        assert_eq!(seen("ours", 2, START, skip(), 1), Standing::Skip { run: 2, reason: "done".to_owned() });
    }

    #[test]
    fn an_empty_file_is_no_grant_yet_and_garbage_is_waited_out() {
        let myself = Myself { pod_uid: "ours".to_owned(), started_at: START };
        assert_eq!(judge("", &myself, 0), Standing::Ungranted);
        assert_eq!(judge("\n", &myself, 0), Standing::Ungranted);
        assert!(matches!(judge("go", &myself, 0), Standing::Garbled(_)));
    }
}
