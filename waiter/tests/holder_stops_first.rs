//! `HolderStopsFirst`: whatever is answered when, and however wrong the clocks go, the sidecar fences before the operator
//! may count the hold as lost. The rules alone, in a played world without a network.
#![allow(clippy::unwrap_used, clippy::panic, reason = "support code of tests is test code")]

use konductor_waiter::hold::session::{FLOOR, Session};
use konductor_waiter::hold::wire::Answer;
use proptest::prelude::*;

/// What becomes of one try, and how long its ways are, in real milliseconds.
#[derive(Clone, Debug)]
struct Try {
    outcome: Outcome,
    connecting: i64,
    there: i64,
    /// None: it comes at the last moment at which it is waited for.
    back: Option<i64>,
}

#[derive(Clone, Debug)]
enum Outcome {
    Held,
    Forever,
    /// The operator renewed, and its answer was lost.
    AnswerLost,
    Nothing,
    Early,
}

/// Clocks that are wrong by up to a tenth: ticks per 1000 real milliseconds.
#[derive(Clone, Copy, Debug)]
struct Clock {
    rate: i64,
}

impl Clock {
    /// What it shows at that real moment.
    fn shows(self, real: i64) -> i64 {
        real * self.rate / 1000
    }

    /// The first real moment at which it shows that.
    fn when(self, shown: i64) -> i64 {
        (shown * 1000 + self.rate - 1) / self.rate
    }
}

fn a_try() -> impl Strategy<Value = Try> {
    let outcome = prop_oneof![
        6 => Just(Outcome::Held),
        1 => Just(Outcome::Forever),
        2 => Just(Outcome::AnswerLost),
        3 => Just(Outcome::Nothing),
        1 => Just(Outcome::Early),
    ];
    let way = || prop_oneof![4 => 0..50_i64, 2 => 0..2_000_i64, 1 => 0..20_000_i64];
    let back = prop_oneof![3 => way().prop_map(Some), 1 => Just(None)];
    (outcome, way(), way(), back).prop_map(|(outcome, connecting, there, back)| Try {
        outcome,
        connecting,
        there,
        back,
    })
}

fn clock() -> impl Strategy<Value = Clock> {
    prop_oneof![Just(900), Just(1100), 900..=1100_i64].prop_map(|rate| Clock { rate })
}

/// Plays the tries, then silence for good. Gives the moments of the fence and of the operator's earliest loss; None: the
/// last good answer was that silence does not end it.
fn play(tries: &[Try], ttl: i64, ours: Clock, theirs: Clock) -> Option<(i64, i64)> {
    let mut session = Session::new("ours".to_owned(), ours.shows(0));
    session.read("v1 ours 1 2030-06-01T12:00:00Z go").unwrap();
    let silence = Try { outcome: Outcome::Nothing, connecting: 0, there: 0, back: Some(0) };
    let mut lost = Some(theirs.when(FLOOR));
    let mut now = 0;
    let mut tries = tries.iter().chain(std::iter::repeat(&silence)).take(tries.len() + 1_000);
    loop {
        let fence = session.deadline().map(|deadline| ours.when(deadline));
        let due = session.due().map(|(_, due)| ours.when(due)).unwrap().max(now);
        let next = tries.next();
        match (fence, next) {
            (Some(fence), _) if due >= fence => return Some((fence, lost.unwrap_or(i64::MAX))),
            (None, None) => return None,
            (Some(_), None) => panic!("it tries for ever"),
            _ => {}
        }
        let step = next.unwrap();
        let given_up = ours.when(session.patience(ours.shows(due)));
        let begun = due + step.connecting;
        let received = begun + step.there;
        let answered = step.back.map_or((given_up - 1).max(received), |back| received + back);
        let in_time = answered < given_up;
        // Never after it is too late: the guard looks before it hands an answer on.
        let fence = fence.unwrap_or(i64::MAX);
        let bears = session.bears();
        let renews = matches!(step.outcome, Outcome::Held | Outcome::Forever | Outcome::AnswerLost);
        if renews && lost.is_some_and(|lost| received >= lost) {
            assert!(fence < lost.unwrap(), "lost while the holder still runs");
        } else if renews && received < given_up {
            // The operator bears whatever is longer: the ttl, or what the sidecar counts on.
            let ttl = if matches!(step.outcome, Outcome::Forever) { None } else { Some(ttl) };
            lost = ttl.zip(bears).map(|(ttl, bears)| received + theirs.when(ttl.max(bears)));
        }
        let answer = match step.outcome {
            _ if !in_time || received >= lost.unwrap_or(i64::MAX) => None,
            Outcome::Held => Some(Answer::Held { ttl_milliseconds: ttl.unsigned_abs() }),
            Outcome::Forever => Some(Answer::Forever),
            Outcome::Early => Some(Answer::Early("not yet".to_owned())),
            Outcome::AnswerLost | Outcome::Nothing => None,
        };
        let (begun, came) = match answer {
            Some(_) => (begun, answered),
            None => (due, given_up),
        };
        if came >= fence {
            return Some((fence, lost.unwrap_or(i64::MAX)));
        }
        now = came;
        let answer = answer.unwrap_or(Answer::None("silence".to_owned()));
        if session.answered(ours.shows(begun), ours.shows(now), answer).is_err() {
            // An answer that was too old when it came.
            return Some((now, lost.unwrap_or(i64::MAX)));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_holder_stops_first(
        tries in prop::collection::vec(a_try(), 0..30),
        // A second of real time is the least that leaves a third for the kubelet at all.
        ttl in prop_oneof![Just(15_000), 3_000..120_000_i64, 1_000..3_600_000_i64],
        ours in clock(),
        theirs in clock(),
    ) {
        if let Some((fence, lost)) = play(&tries, ttl, ours, theirs) {
            prop_assert!(fence < lost, "the fence at {fence}, the loss at {lost}");
        }
    }

    /// The worst that the clocks allow still leaves time for the kubelet to stop the containers.
    #[test]
    fn a_tenth_of_the_ttl_is_left_for_the_kubelet(ttl in 1_000..3_600_000_i64, there in 0..50_i64) {
        let good = Try { outcome: Outcome::Held, connecting: 0, there, back: Some(0) };
        // With the first one the operator does not know yet that we know of the ttl.
        let (fence, lost) = play(&[good.clone(), good], ttl, Clock { rate: 900 }, Clock { rate: 1100 }).unwrap();
        prop_assert!(lost - fence >= ttl / 10, "{} of {ttl}", lost - fence);
    }

    /// One bad try, or two, are no reason to stop a pod.
    #[test]
    fn a_short_outage_fences_nobody(ttl in 9_000..3_600_000_i64, rate in 900..=1100_i64) {
        let held = Try { outcome: Outcome::Held, connecting: 1, there: 1, back: Some(1) };
        let refused = Try { outcome: Outcome::Early, ..held.clone() };
        let mut tries = Vec::new();
        for _ in 0..20 {
            tries.extend([held.clone(), refused.clone(), refused.clone()]);
        }
        let (fence, _) = play(&tries, ttl, Clock { rate }, Clock { rate: 1000 }).unwrap();
        prop_assert!(fence > 20 * ttl * 900 / 1100 / 3, "fenced at {fence}");
    }
}
