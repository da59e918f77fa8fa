//! What `cargo test` printed, counted.
//!
//! Pure: lines in, numbers out. What must stay true: a run whose tests did not even build counts as nothing, so the
//! caller never takes "no failures" for "all passed".

/// Numbers of tests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Passed.
    pub(super) passed: u64,
    /// Failed.
    pub(super) failed: u64,
    /// Names of those that failed.
    pub(super) names: Vec<String>,
}

impl Tally {
    /// Takes one line of output into account.
    pub(super) fn hear(&mut self, line: &str) {
        if let Some(result) = line.strip_prefix("test result: ") {
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
    }

    /// Did any test run?
    pub(super) fn ran(&self) -> bool {
        self.passed + self.failed > 0
    }
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
            "test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s",
            "error: could not compile",
        ] {
            tally.hear(line);
        }
        assert_eq!(tally, Tally { passed: 13, failed: 1, names: vec!["c".to_owned()] });
        assert!(tally.ran());
    }

    #[test]
    fn what_did_not_build_did_not_run() {
        let mut tally = Tally::default();
        tally.hear("error: could not compile `konductor-api` (lib test) due to 1 previous error");
        assert!(!tally.ran());
    }
}
