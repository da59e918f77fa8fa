//! The rules of a session: when to renew, and when it is too late.
//!
//! Pure: the grant's text, answers and moments in; the next renewal, the deadline, lines for the log and the [`Fence`] out.
//! Moments are milliseconds of one clock that counts while the machine sleeps.
//!
//! What must stay true, `HolderStopsFirst`: the fence comes before the operator may count the hold as lost, which is at
//! the earliest the whole ttl after it received the last good renewal, or [`FLOOR`] after the grant where there was none. A
//! deadline is therefore two thirds of that, counted from *before* the request was sent: the last third is for clocks that
//! go wrong (each of the two by up to a tenth) and for the kubelet, who has yet to stop the containers. The operator's part
//! of it: a ttl that becomes shorter counts only once the longer one has passed, because an answer may get lost.

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
                Standing::Held { ttl }
            }
            Answer::Forever => {
                self.ttl = FLOOR;
                self.deadline = None;
                self.next = now.saturating_add(CALM);
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
