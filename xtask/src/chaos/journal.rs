//! What the critical sections wrote down, and the holds that it shows.
//!
//! Reads the journals on disk. What must stay true: the order of the lines is the order of what happened, and a line that is
//! not understood is never passed over.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// One line.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Line {
    pub(super) event: Event,
    /// UID of the pod.
    pub(super) pod: String,
    /// `None`: it ran without one, which nobody may.
    pub(super) token: Option<u64>,
    pub(super) weight: u32,
    /// The counter, of those who are alone.
    pub(super) count: Option<u64>,
    /// By the machine's clock since it booted, in seconds.
    pub(super) at: f64,
}

/// What a critical section says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Begin,
    Beat,
    End,
}

/// Everything that was done under one token.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Hold {
    pub(super) token: u64,
    pub(super) weight: u32,
    /// Numbers of its first and its last line.
    pub(super) first: usize,
    pub(super) last: usize,
    /// When it said its first word.
    pub(super) from: f64,
    pub(super) pods: BTreeSet<String>,
}

/// All journals, by object.
pub(super) type Journals = BTreeMap<String, Vec<Line>>;

/// Reads them all.
pub(super) fn read(common: &Path) -> Result<Journals> {
    let mut journals = Journals::new();
    for entry in std::fs::read_dir(common).with_context(|| format!("reading {}", common.display()))? {
        let entry = entry?;
        let object = entry.file_name().to_string_lossy().into_owned();
        let text = match std::fs::read_to_string(entry.path().join("journal")) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error).with_context(|| format!("reading the journal of {object}")),
        };
        let lines = parse(&text).with_context(|| format!("the journal of {object}"))?;
        journals.insert(object, lines);
    }
    Ok(journals)
}

/// One journal. What is being written has no end yet.
pub(super) fn parse(text: &str) -> Result<Vec<Line>> {
    let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
    whole.lines().map(|line| parse_line(line).with_context(|| format!("not understood: {line:?}"))).collect()
}

fn parse_line(line: &str) -> Result<Line> {
    let words: Vec<_> = line.split(' ').collect();
    let [event, pod, token, weight, count, at] = words[..] else { anyhow::bail!("{} words", words.len()) };
    let event = match event {
        "begin" => Event::Begin,
        "beat" => Event::Beat,
        "end" => Event::End,
        _ => anyhow::bail!("{event} is no event"),
    };
    ensure!(!pod.is_empty(), "no pod");
    let number = |text: &str| (text != "-").then(|| text.parse()).transpose();
    Ok(Line {
        event,
        pod: pod.to_owned(),
        token: number(token)?,
        weight: weight.parse()?,
        count: number(count)?,
        at: at.parse()?,
    })
}

/// The holds, in the order of their first words.
pub(super) fn holds(lines: &[Line]) -> Vec<Hold> {
    let mut holds: BTreeMap<u64, Hold> = BTreeMap::new();
    for (number, line) in lines.iter().enumerate() {
        let Some(token) = line.token else { continue };
        let hold = holds.entry(token).or_insert_with(|| Hold {
            token,
            weight: line.weight,
            first: number,
            last: number,
            from: line.at,
            pods: BTreeSet::new(),
        });
        hold.last = number;
        hold.pods.insert(line.pod.clone());
    }
    let mut holds: Vec<_> = holds.into_values().collect();
    holds.sort_by_key(|hold| hold.first);
    holds
}

/// How many of the holds came after another one had ended.
pub(super) fn handovers(lines: &[Line]) -> usize {
    let holds = holds(lines);
    let first_end = holds.iter().map(|hold| hold.last).min().unwrap_or_default();
    holds.iter().filter(|hold| hold.first > first_end).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
begin a 7 1 0 10.00
beat a 7 1 0 10.10
end a 7 1 1 10.20
begin b 9 2 - 11.00
begin c - 1 - 11.5
beat b 9 2";

    #[test]
    fn lines_become_holds_and_the_one_being_written_waits() {
        let lines = parse(TEXT).unwrap();
        assert_eq!(lines.len(), 5);
        assert_eq!((lines[2].event, lines[2].count, lines[3].count), (Event::End, Some(1), None));
        assert_eq!(lines[4].token, None);
        let holds = holds(&lines);
        let shown: Vec<_> = holds.iter().map(|hold| (hold.token, hold.first, hold.last)).collect();
        assert_eq!(shown, [(7, 0, 2), (9, 3, 3)]);
        assert_eq!(handovers(&lines), 1);
        assert_eq!(handovers(&[]), 0);
    }

    #[test]
    fn a_line_that_is_not_understood_is_an_error() {
        for line in ["begin a 7 1 0\n", "stop a 7 1 0 1.0\n", "begin a x 1 0 1.0\n", "\n"] {
            assert!(parse(line).is_err(), "{line:?}");
        }
        assert!(parse("").unwrap().is_empty());
    }
}
