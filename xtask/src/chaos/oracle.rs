//! Judges what was written down and seen: did anything happen that never may?
//!
//! Pure. What must stay true: the beginning of a history is judged as the whole is, so that it can be asked while chaos goes
//! on; each problem begins with the name of the invariant.

use std::collections::BTreeMap;

use super::journal::{Event, Hold, Journals, Line, holds};
use super::locks::{Kind, Lock, of_object};
use super::seen::{Ran, Seen, Through};
use super::work::{Form, Work};

/// Grades on which a hold without a `ttl`, which nobody breaks, may end while no Node object is deleted.
const ADMITTED: [&str; 4] = ["P0", "P1", "P2", "A1"];

/// Everything that may be judged at any time.
pub(super) fn problems(journals: &Journals, seen: &Seen) -> Vec<String> {
    let mut problems: Vec<_> = seen.problems.iter().cloned().collect();
    for (object, lines) in journals {
        let Some(lock) = of_object(object) else { continue };
        problems.extend(exclusion(object, lock, lines));
        problems.extend(kubelets(object, lock, lines, seen.runs.values()));
        if lock.kind == Kind::Once {
            problems.extend(single_success(object, lines, seen));
        }
    }
    for ((object, token), grade) in &seen.releases {
        if !ADMITTED.contains(&grade.as_str()) {
            problems.push(format!("ReleaseNeedsEvidence: token {token} of {object} ended on {grade}"));
        }
    }
    problems
}

/// Exclusion, order of tokens and lost updates, by what the critical sections wrote themselves.
fn exclusion(object: &str, lock: &Lock, lines: &[Line]) -> Vec<String> {
    let mut problems = Vec::new();
    for line in lines.iter().filter(|line| line.token.is_none()) {
        problems.push(format!("NoUnguardedStart: pod {} ran without a token of {object}", line.pod));
    }
    let holds = holds(lines);
    for (place, later) in holds.iter().enumerate() {
        let before = &holds[..place];
        let still: Vec<_> = before.iter().filter(|hold| hold.last > later.first).collect();
        let taken: u32 = still.iter().map(|hold| hold.weight).sum::<u32>() + later.weight;
        if taken > lock.capacity() {
            problems.push(format!(
                "MutualExclusion: token {} of {object} began at {:.2} s (line {}), and {taken} of {} were taken; under \
                 tokens {:?} it went on after that",
                later.token,
                later.from,
                later.first + 1,
                lock.capacity(),
                still.iter().map(|hold| hold.token).collect::<Vec<_>>(),
            ));
        }
        let passed =
            |earlier: &&Hold| earlier.token > later.token && earlier.weight + later.weight > lock.capacity();
        if let Some(earlier) = before.iter().find(passed) {
            problems.push(format!(
                "TokenMonotone: token {} of {object} ran after token {}",
                later.token, earlier.token
            ));
        }
    }
    let ends = lines.iter().filter(|line| line.event == Event::End);
    let counts: Vec<_> = ends.filter_map(|line| line.count).collect();
    for pair in counts.windows(2).filter(|pair| pair[0] >= pair[1]) {
        problems.push(format!("MutualExclusion: an update of the counter of {object} was lost: {pair:?}"));
    }
    problems
}

/// Exclusion by the kubelet's word. Of two runs that do not overlap the later one starts in the second in which the earlier one
/// ended, or after it; a run of whose end the kubelet never told is judged by the journal alone.
fn kubelets<'a>(
    object: &str,
    lock: &Lock,
    lines: &[Line],
    runs: impl Iterator<Item = &'a Ran>,
) -> Vec<String> {
    let holds_of: BTreeMap<_, _> =
        lines.iter().filter_map(|line| Some((line.pod.as_str(), (line.token?, line.weight)))).collect();
    let mut runs: Vec<_> = runs.filter_map(|run| Some((run, *holds_of.get(run.pod.as_str())?))).collect();
    runs.sort_by_key(|(run, _)| run.started);
    let mut problems = Vec::new();
    for (place, (later, (token, weight))) in runs.iter().enumerate() {
        // Of three that fit in pairs and not together the journal tells.
        for (earlier, (other, its)) in &runs[..place] {
            if token != other
                && weight + its > lock.capacity()
                && earlier.ended.is_some_and(|end| end > later.started)
            {
                problems.push(format!(
                    "MutualExclusion: by the kubelet, {} started under {object} at {} while {} ran until {:?}",
                    later.name, later.started, earlier.name, earlier.ended
                ));
            }
        }
    }
    problems
}

/// Of those who ran under one Once, the kubelet saw one succeed at most.
fn single_success(object: &str, lines: &[Line], seen: &Seen) -> Option<String> {
    let mut pods: Vec<_> =
        lines.iter().map(|line| &line.pod).filter(|pod| seen.succeeded.contains(*pod)).collect();
    pods.sort_unstable();
    pods.dedup();
    (pods.len() > 1).then(|| format!("OnceSingleSuccess: {pods:?} ran under {object} and succeeded"))
}

/// At the end: who has not got through, of those whom chaos did not take away itself.
pub(super) fn lost<'a>(works: impl Iterator<Item = &'a Work>, seen: &Seen) -> Vec<String> {
    works
        .filter_map(|work| match (seen.through.get(&work.name), work.form) {
            (None, _) => {
                Some(format!("NoLostWaiter: {} ({:?}) did not get through", work.name, work.objects))
            }
            // Whatever kills its pods, it has retries enough.
            (Some(Through::Badly), Form::Job) => Some(format!("NoLostWaiter: Job {} failed", work.name)),
            (Some(_), _) => None,
        })
        .collect()
}

/// The holds that ran and of whose end no grade was seen, by object: a watch that was down may have missed them.
pub(super) fn unseen(journals: &Journals, seen: &Seen) -> Vec<(String, u64)> {
    let all = journals
        .iter()
        .flat_map(|(object, lines)| holds(lines).into_iter().map(|hold| (object.clone(), hold.token)));
    all.filter(|key| !seen.releases.contains_key(key)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::chaos::journal::parse;

    fn judged(object: &str, text: &str) -> String {
        let journals = Journals::from([(object.to_owned(), parse(text).unwrap())]);
        problems(&journals, &Seen::default()).join("\n")
    }

    /// `pod token weight count: events`, one after the other.
    fn said(words: &[(&str, &str, &str)]) -> String {
        let line = |(event, hold, count): &(&str, &str, &str)| format!("{event} {hold} {count} 1.0\n");
        words.iter().map(line).collect::<Vec<_>>().concat()
    }

    #[test]
    fn one_after_the_other_is_as_it_should_be() {
        let text = said(&[
            ("begin", "a 1 1", "0"),
            ("beat", "a 1 1", "0"),
            ("end", "a 1 1", "1"),
            ("begin", "b 2 1", "0"),
            ("end", "b 2 1", "2"),
            // Killed, and retried under the same hold.
            ("begin", "c 3 1", "2"),
            ("begin", "d 3 1", "2"),
            ("end", "d 3 1", "3"),
        ]);
        assert_eq!(judged("orders", &text), "");
    }

    #[test]
    fn a_planted_overlap_is_found_however_short_it_was() {
        let text = said(&[
            ("begin", "a 1 1", "0"),
            ("begin", "b 2 1", "0"),
            ("beat", "a 1 1", "0"),
            ("end", "b 2 1", "1"),
        ]);
        assert!(judged("orders", &text).starts_with("MutualExclusion: token 2 of orders began"));
        // One that was killed and said nothing more did not overlap.
        let text = said(&[("begin", "a 1 1", "0"), ("begin", "b 2 1", "0"), ("end", "b 2 1", "1")]);
        assert_eq!(judged("orders", &text), "");
    }

    #[test]
    fn readers_overlap_and_writers_do_not() {
        let readers = [("begin", "a 1 1", "-"), ("begin", "b 2 1", "-"), ("end", "a 1 1", "-")];
        assert_eq!(judged("table", &said(&readers)), "");
        let writer = [("begin", "a 1 1", "-"), ("begin", "b 2 1000", "0"), ("end", "a 1 1", "-")];
        assert!(judged("table", &said(&writer)).contains("MutualExclusion"));
    }

    #[test]
    fn permits_are_summed() {
        let fits =
            [("begin", "a 1 2", "-"), ("begin", "b 2 1", "-"), ("end", "a 1 2", "-"), ("end", "b 2 1", "-")];
        assert_eq!(judged("pool", &said(&fits)), "");
        let over =
            [("begin", "a 1 2", "-"), ("begin", "b 2 2", "-"), ("end", "a 1 2", "-"), ("end", "b 2 2", "-")];
        assert!(judged("pool", &said(&over)).contains("4 of 3 were taken"));
    }

    #[test]
    fn a_token_that_falls_is_found_where_order_matters() {
        let text = said(&[("begin", "a 2 1", "0"), ("end", "a 2 1", "1"), ("begin", "b 1 1", "1")]);
        assert_eq!(judged("orders", &text), "TokenMonotone: token 1 of orders ran after token 2");
        // Who holds at the same time may begin in any order.
        let text = said(&[("begin", "a 2 1", "-"), ("end", "a 2 1", "-"), ("begin", "b 1 1", "-")]);
        assert_eq!(judged("table", &text), "");
    }

    #[test]
    fn a_lost_update_and_a_run_without_a_token_are_found() {
        let text = said(&[("end", "a 1 1", "1"), ("end", "b 2 1", "1")]);
        assert!(judged("orders", &text).contains("counter of orders was lost: [1, 1]"));
        assert!(judged("orders", "begin a - 1 0 1.0\n").contains("NoUnguardedStart"));
    }

    #[test]
    fn an_overlap_by_the_kubelets_word_is_found() {
        let text = said(&[("begin", "a 1 1", "0"), ("end", "a 1 1", "1"), ("begin", "b 2 1", "1")]);
        let journals = Journals::from([("orders".to_owned(), parse(&text).unwrap())]);
        let run = |pod: &str, started: i64, ended: Option<i64>| Ran {
            pod: pod.to_owned(),
            name: pod.to_owned(),
            started: jiff::Timestamp::from_second(started).unwrap(),
            ended: ended.map(|ended| jiff::Timestamp::from_second(ended).unwrap()),
        };
        let judged = |runs: [Ran; 2]| {
            let mut seen = Seen::default();
            seen.runs.extend(runs.into_iter().map(|run| (run.pod.clone(), run)));
            problems(&journals, &seen).join("\n")
        };
        assert_eq!(judged([run("a", 1, Some(3)), run("b", 3, None)]), "");
        assert!(judged([run("a", 1, Some(3)), run("b", 2, Some(4))]).contains("by the kubelet, b started"));
    }

    #[test]
    fn a_grade_that_is_not_admitted_is_found_and_one_that_was_not_seen_is_told() {
        let mut seen = Seen::default();
        seen.hear(&json!({"kind": "Mutex", "metadata": {"name": "orders"}, "status": {"history": [
            {"token": "1", "evidence": "T"}, {"token": "2", "evidence": "A1"}]}}));
        let text = said(&[("end", "b 2 1", "1"), ("end", "c 3 1", "2")]);
        let journals = Journals::from([("orders".to_owned(), parse(&text).unwrap())]);
        assert_eq!(problems(&journals, &seen), ["ReleaseNeedsEvidence: token 1 of orders ended on T"]);
        assert_eq!(unseen(&journals, &seen), [("orders".to_owned(), 3)]);
    }

    #[test]
    fn a_lost_waiter_and_a_second_success_are_found() {
        let lock = of_object("billing").unwrap();
        let mut random = crate::chaos::random::Random::new(1, 1);
        let works: Vec<_> =
            (0..3).map(|number| Work::new(lock, "billing", number, "/c", &mut random)).collect();
        let mut seen = Seen::default();
        seen.through.insert(works[0].name.clone(), Through::Well);
        seen.through.insert(works[1].name.clone(), Through::Badly);
        let lost = lost(works.iter(), &seen);
        assert_eq!(lost.len(), 2, "{lost:?}");
        assert!(lost[0].contains("Job billing-00001 failed") && lost[1].contains("billing-00002"));

        seen.succeeded.extend(["a".to_owned(), "b".to_owned()]);
        let text = said(&[("end", "a 1 1", "1"), ("end", "b 2 1", "2")]);
        let journals = Journals::from([("schema-0".to_owned(), parse(&text).unwrap())]);
        assert!(problems(&journals, &seen).join("\n").starts_with("OnceSingleSuccess"));
    }
}
