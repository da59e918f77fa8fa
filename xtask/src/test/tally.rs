//! What `cargo test` printed, counted.
//!
//! Pure: lines in, numbers out. What must stay true: a run whose tests did not even build counts as nothing, so the
//! caller never takes "no failures" for "all passed".

use std::collections::BTreeMap;

/// Of a failure's words, what the end of a report repeats.
const WORDS: usize = 300;

/// Numbers of tests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Passed.
    pub(super) passed: u64,
    /// Failed.
    pub(super) failed: u64,
    /// Names of those that failed.
    pub(super) names: Vec<String>,
    /// The first line of what each of them said.
    words: BTreeMap<String, String>,
    /// The test whose words the next line begins.
    speaks: Option<String>,
}

impl Tally {
    /// Takes one line of output into account.
    pub(super) fn hear(&mut self, line: &str) {
        if let Some(name) = self.speaks.take() {
            self.words.entry(name).or_insert_with(|| line.chars().take(WORDS).collect());
        } else if let Some(name) = panicked(line) {
            self.speaks = Some(name.to_owned());
        } else if let Some(result) = line.strip_prefix("test result: ") {
            let count = |word: &str| {
                result
                    .split(['.', ';'])
                    .filter_map(|part| part.trim().strip_suffix(word)?.trim().parse::<u64>().ok())
                    .sum::<u64>()
            };
            self.passed += count("passed");
            self.failed += count("failed");
        } else if let Some(name) =
            line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED"))
        {
            self.names.push(name.to_owned());
        }
    }

    /// Adds another's numbers.
    pub(super) fn add(&mut self, other: &Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.names.extend(other.names.iter().cloned());
        self.words.extend(other.words.clone());
    }

    /// The failures, a line each.
    pub(super) fn failures(&self) -> impl Iterator<Item = String> {
        self.names.iter().map(|name| match self.words.get(name) {
            Some(words) => format!("{name}: {words}"),
            None => name.clone(),
        })
    }

    /// Did any test run?
    pub(super) fn ran(&self) -> bool {
        self.passed + self.failed > 0
    }
}

/// The test in `thread 'a::b' (42) panicked at tests/a.rs:1:2:`.
fn panicked(line: &str) -> Option<&str> {
    let (name, rest) = line.strip_prefix("thread '")?.split_once('\'')?;
    rest.contains(" panicked at ").then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_several_binaries_are_summed_and_failures_named() {
        let mut tally = Tally::default();
        for line in [
            "running 2 tests",
            "test a::b ... ok",
            "test result: ok. 11 passed; 0 failed; 1 ignored; 0 measured; 4 filtered out; finished in 0.08s",
            "test c ... FAILED",
            "thread 'c' (42) panicked at tests/c.rs:1:2:",
            "it is not so",
            "thread 'c' (43) panicked at tests/c.rs:1:2:",
            "what came of it",
            "test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s",
            "error: could not compile",
        ] {
            tally.hear(line);
        }
        assert_eq!((tally.passed, tally.failed), (13, 1));
        assert_eq!(tally.failures().collect::<Vec<_>>(), ["c: it is not so"]);
        assert!(tally.ran());
    }

    #[test]
    fn what_did_not_build_did_not_run() {
        let mut tally = Tally::default();
        tally.hear("error: could not compile `konductor-api` (lib test) due to 1 previous error");
        assert!(!tally.ran());
    }
}
