//! The rules of a session: when to renew, and when it is too late.
//!
//! Pure: the grant's text, answers and moments in; the next renewal, the deadline, lines for the log and the [`Fence`] out.
//! Moments are milliseconds of one clock that counts while the machine sleeps.
//!
//! What must stay true, `HolderStopsFirst`: the fence comes before the operator may count the hold as lost. The deadline is
//! two thirds of the silence that the operator bears, counted from *before* the request was sent; the last third is for
//! clocks that go wrong (each of the two by up to a tenth) and for the kubelet, who has yet to stop the containers.
//!
//! The operator's part of it: it counts from when it received the last good renewal, or from the grant, and bears
//! whatever is longer, the ttl or what that request said that [it is believed to bear](Session::bears): [`FLOOR`] with the
//! first. An answer may get lost, and with it a ttl that has come into being or has become shorter.

use std::fmt;

use super::wire::Answer;
use crate::grant::{Grant, Verdict};

/// For how long the operator bears silence of a pod that never renewed, in milliseconds.
pub const FLOOR: i64 = 60_000;
/// Ask again so much later when nothing of the pod's has a ttl.
const CALM: i64 = 60_000;
/// Ask again so much later when the operator does not know of the grant yet.
const EARLY: i64 = 1_000;
/// Bounds of the time between two tries.
const RETRY: (i64, i64) = (500, 5_000);
/// Bounds of the time that one try may take.
const TRY: (i64, i64) = (1_000, 10_000);

/// What is wrong if nothing worse is known.
const SILENT: &str = "the operator does not answer";

/// One run of one sidecar.
#[derive(Clone, Debug)]
pub struct Session {
    pod_uid: String,
    /// Of the grant that this sidecar found; it stays the same for as long as the process lives.
    run: Option<u64>,
    /// For how long the operator bears silence; [`FLOOR`] before the first renewal and while nothing has a ttl.
    ttl: i64,
    /// None: nothing of the pod's has a ttl.
    deadline: Option<i64>,
    next: i64,
    standing: Standing,
    problem: String,
}

/// Why the pod must stop now: the text is the last line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence(pub String);

/// What was logged last. Each change is one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Unheard,
    Held { ttl: i64 },
    Forever,
    Early,
    Unanswered,
}

impl Session {
    /// Of a sidecar that starts at that moment.
    pub fn new(pod_uid: String, now: i64) -> Self {
        Self {
            pod_uid,
            run: None,
            ttl: FLOOR,
            deadline: Some(now.saturating_add(two_thirds(FLOOR))),
            next: now,
            standing: Standing::Unheard,
            problem: "there is no grant to renew".to_owned(),
        }
    }

    /// What to renew, and from when on; None as long as no grant was found.
    pub fn due(&self) -> Option<(u64, i64)> {
        self.run.map(|run| (run, self.next))
    }

    /// How much silence the operator bears, as far as is known here, in milliseconds; None: any. It is told with each
    /// request.
    pub fn bears(&self) -> Option<i64> {
        self.deadline.map(|_| self.ttl)
    }

    /// The moment from which on it is too late.
    pub fn deadline(&self) -> Option<i64> {
        self.deadline
    }

    /// When a try that begins at that moment is given up.
    pub fn patience(&self, begun: i64) -> i64 {
        let own = begun.saturating_add((self.ttl / 6).clamp(TRY.0, TRY.1));
        self.deadline.map_or(own, |deadline| own.min(deadline))
    }

    /// Is it too late?
    pub fn at(&self, now: i64) -> Result<(), Fence> {
        match self.deadline {
            Some(deadline) if now >= deadline => Err(Fence(format!(
                "the grant was not renewed for {}, and the hold may be lost after {} without: {}",
                Seconds(two_thirds(self.ttl)),
                Seconds(self.ttl),
                self.problem
            ))),
            _ => Ok(()),
        }
    }

    /// Takes in the content of the grant file. What is no grant may be one in a moment, and changes nothing.
    pub fn read(&mut self, text: &str) -> Result<(), Fence> {
        let Ok(grant) = text.strip_suffix('\n').unwrap_or(text).parse::<Grant>() else { return Ok(()) };
        if grant.pod_uid != self.pod_uid {
            return Err(Fence(format!("the grant is for another pod (UID {})", grant.pod_uid)));
        }
        if self.run.is_none() {
            SILENT.clone_into(&mut self.problem);
        }
        let run = *self.run.get_or_insert(grant.run);
        match grant.verdict {
            // An old version of the file: the one that counts has been there.
            _ if grant.run < run => Ok(()),
            _ if grant.run > run => {
                Err(Fence(format!("grant {run} has been followed by grant {}", grant.run)))
            }
            Verdict::Go | Verdict::Skip { .. } => Ok(()),
            Verdict::Released => Err(Fence(format!("grant {run} was withdrawn"))),
            Verdict::Deny { reason, .. } => Err(Fence(format!("denied: {reason}"))),
        }
    }

    /// Takes in the answer to a request that was begun to be sent at the first moment and came at the second. A line for the
    /// log, if something has changed.
    pub fn answered(&mut self, begun: i64, now: i64, answer: Answer) -> Result<Option<String>, Fence> {
        // What comes too late cannot make undone that time was up.
        self.at(now)?;
        let standing = match answer {
            Answer::Held { ttl_milliseconds } => {
                let ttl = i64::try_from(ttl_milliseconds).unwrap_or(i64::MAX);
                self.ttl = ttl;
                self.deadline = Some(begun.saturating_add(two_thirds(ttl)));
                self.next = begun.saturating_add(ttl / 3);
                SILENT.clone_into(&mut self.problem);
                Standing::Held { ttl }
            }
            Answer::Forever => {
                self.ttl = FLOOR;
                self.deadline = None;
                self.next = now.saturating_add(CALM);
                SILENT.clone_into(&mut self.problem);
                Standing::Forever
            }
            Answer::Lost(reason) => return Err(Fence(format!("the hold is lost: {reason}"))),
            Answer::Early(reason) => {
                self.next = now.saturating_add(EARLY);
                self.problem = format!("the operator answers: early, {reason}");
                Standing::Early
            }
            Answer::None(problem) => {
                self.next = now.saturating_add((self.ttl / 30).clamp(RETRY.0, RETRY.1));
                self.problem = problem;
                Standing::Unanswered
            }
        };
        // A line says where we stand, and what is not good is one standing until it is good again.
        let bad = |standing| matches!(standing, Standing::Early | Standing::Unanswered);
        let told = standing == self.standing || (bad(standing) && bad(self.standing));
        self.standing = standing;
        // It may already be too late: a slow answer counts from before it was asked for.
        self.at(now)?;
        Ok((!told).then(|| self.line(now)))
    }

    fn line(&self, now: i64) -> String {
        let run = self.run.unwrap_or_default();
        match self.standing {
            Standing::Unheard => "not heard of yet".to_owned(),
            Standing::Held { ttl } => format!(
                "grant {run} is held with a ttl of {}: renewed every {}, this pod is stopped after {} without",
                Seconds(ttl),
                Seconds(ttl / 3),
                Seconds(two_thirds(ttl)),
            ),
            Standing::Forever => format!("grant {run} is held, and nothing of it can be lost by silence"),
            Standing::Early | Standing::Unanswered => match self.deadline {
                Some(deadline) => format!(
                    "grant {run} is not renewed: {}; trying again, for {} at most",
                    self.problem,
                    Seconds(deadline.saturating_sub(now))
                ),
                None => format!("grant {run} is not renewed: {}; trying again", self.problem),
            },
        }
    }
}

/// Without a step that could overflow.
fn two_thirds(of: i64) -> i64 {
    of - of / 3 - i64::from(of % 3 != 0)
}

/// Milliseconds as people read them.
struct Seconds(i64);

impl fmt::Display for Seconds {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, tenth) = (self.0 / 1000, self.0 % 1000 / 100);
        if tenth == 0 { write!(formatter, "{whole} s") } else { write!(formatter, "{whole}.{tenth} s") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: i64 = 5_000;

    fn started() -> Session {
        let mut session = Session::new("ours".to_owned(), START);
        session.read(&grant("ours", 3, "go")).unwrap();
        session
    }

    fn grant(uid: &str, run: u64, verdict: &str) -> String {
        format!("v1 {uid} {run} 2030-06-01T12:00:00Z {verdict}")
    }

    fn held(ttl_milliseconds: u64) -> Answer {
        Answer::Held { ttl_milliseconds }
    }

    fn nothing() -> Answer {
        Answer::None("no answer".to_owned())
    }

    #[test]
    fn before_the_first_renewal_it_has_forty_seconds_from_its_own_start() {
        let mut session = started();
        assert_eq!(session.due(), Some((3, START)));
        assert_eq!((session.deadline(), session.bears()), (Some(START + 40_000), Some(60_000)));
        assert!(session.answered(START, START + 39_990, nothing()).is_ok());
        assert_eq!(session.at(START + 39_999), Ok(()));
        let Fence(reason) = session.at(START + 40_000).unwrap_err();
        assert_eq!(
            reason,
            "the grant was not renewed for 40 s, and the hold may be lost after 60 s without: no answer"
        );
    }

    #[test]
    fn a_good_answer_counts_from_before_it_was_asked_for() {
        let mut session = started();
        let line = session.answered(START + 100, START + 3_000, held(15_000)).unwrap().unwrap();
        assert_eq!(
            line,
            "grant 3 is held with a ttl of 15 s: renewed every 5 s, this pod is stopped after 10 s without"
        );
        assert_eq!((session.deadline(), session.bears()), (Some(START + 10_100), Some(15_000)));
        assert_eq!(session.due(), Some((3, START + 5_100)));
        // As slow an answer to the next one is of no use.
        assert!(session.answered(START + 5_100, START + 10_100, held(15_000)).is_err());
    }

    #[test]
    fn an_answer_that_is_older_than_its_own_deadline_fences() {
        assert!(started().answered(START, START + 400, held(600)).is_err());
        assert!(started().answered(START, START + 399, held(600)).is_ok());
    }

    #[test]
    fn a_hold_that_silence_does_not_end_has_no_deadline_until_it_can() {
        let mut session = started();
        assert!(session.answered(START, START + 5, Answer::Forever).unwrap().is_some());
        assert_eq!((session.deadline(), session.due()), (None, Some((3, START + 60_005))));
        assert_eq!((session.at(i64::MAX), session.bears()), (Ok(()), None));
        let line = session.answered(START + 60_005, START + 70_000, nothing()).unwrap().unwrap();
        assert_eq!(line, "grant 3 is not renewed: no answer; trying again");
        assert_eq!(session.due(), Some((3, START + 72_000)));
        session.answered(START + 72_000, START + 72_001, held(9_000)).unwrap();
        assert_eq!(session.deadline(), Some(START + 78_000));
    }

    #[test]
    fn retries_are_paced_by_the_ttl_within_bounds() {
        for (ttl, pause) in [(600, 500), (15_000, 500), (60_000, 2_000), (3_600_000, 5_000)] {
            let mut session = started();
            session.answered(START, START + 1, held(ttl)).unwrap();
            session.answered(START + 2, START + 3, nothing()).unwrap();
            assert_eq!(session.due(), Some((3, START + 3 + pause)), "{ttl}");
        }
        let mut session = started();
        session.answered(START, START + 3, Answer::Early("who".to_owned())).unwrap();
        assert_eq!(session.due(), Some((3, START + 1_003)));
    }

    #[test]
    fn a_try_is_given_up_in_time_for_another_and_never_after_the_deadline() {
        let mut session = started();
        assert_eq!(session.patience(START), START + 10_000);
        session.answered(START, START, held(15_000)).unwrap();
        assert_eq!(session.patience(START + 5_000), START + 7_500);
        assert_eq!(session.patience(START + 9_000), START + 10_000);
        session.answered(START, START, held(600)).unwrap();
        assert_eq!(session.patience(START + 200), START + 400);
    }

    #[test]
    fn what_stays_as_it_is_is_not_told_again() {
        let mut session = started();
        let told = |session: &mut Session, at, answer| session.answered(at, at, answer).unwrap().is_some();
        assert!(told(&mut session, START, Answer::Early("who".to_owned())));
        assert!(!told(&mut session, START, nothing()), "one trouble is told once");
        assert!(told(&mut session, START, held(9_000)));
        assert!(!told(&mut session, START + 1, held(9_000)));
        assert!(told(&mut session, START + 2, nothing()));
        assert!(!told(&mut session, START + 3, Answer::None("other".to_owned())));
        assert!(told(&mut session, START + 4, held(9_000)));
        assert!(told(&mut session, START + 4, held(8_000)));
        let Fence(reason) =
            session.answered(START + 5, START + 5, Answer::Lost("gone".to_owned())).unwrap_err();
        assert_eq!(reason, "the hold is lost: gone");
    }

    #[test]
    fn the_grant_file_fences_only_by_what_is_surely_ours_to_obey() {
        for (text, fences) in [
            (String::new(), None),
            ("garbage".to_owned(), None),
            (grant("ours", 3, "go"), None),
            (grant("ours", 3, "go\n"), None),
            (grant("ours", 3, "skip done"), None),
            (grant("ours", 2, "released"), None),
            (grant("ours", 3, "released"), Some("grant 3 was withdrawn")),
            (grant("ours", 3, "released\n"), Some("grant 3 was withdrawn")),
            (grant("ours", 4, "go"), Some("grant 3 has been followed by grant 4")),
            (grant("ours", 3, "deny 2 too late"), Some("denied: too late")),
            (grant("theirs", 3, "go"), Some("the grant is for another pod (UID theirs)")),
        ] {
            let fence = started().read(&text).err();
            assert_eq!(fence.as_ref().map(|Fence(reason)| reason.as_str()), fences, "{text}");
        }
    }

    #[test]
    fn there_is_nothing_to_renew_before_there_is_a_grant() {
        let mut session = Session::new("ours".to_owned(), START);
        session.read("").unwrap();
        assert_eq!(session.due(), None);
        assert!(session.at(START + 40_000).unwrap_err().0.ends_with("there is no grant to renew"));
        session.read(&grant("ours", 8, "go")).unwrap();
        assert_eq!(session.due(), Some((8, START)));
        // Withdrawn before we were even started.
        let mut session = Session::new("ours".to_owned(), START);
        assert!(session.read(&grant("ours", 8, "released")).is_err());
    }

    #[test]
    fn two_thirds_never_become_more() {
        for of in (0..1_000).chain([i64::MAX - 1, i64::MAX]) {
            let exact = i128::from(of) * 2 / 3;
            assert_eq!(i128::from(two_thirds(of)), exact, "{of}");
        }
    }
}
