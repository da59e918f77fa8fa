//! The steps of a test run: what each was, how long it took, how it ended.
//!
//! May touch: standard output. What must stay true: every step that was begun or left out has its row; a run in which
//! anything failed is an error, and so is one in which no test ran.

#![expect(clippy::print_stdout, reason = "the report is this command's output")]

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::tally::Tally;

/// All steps so far.
#[derive(Default)]
pub(super) struct Report {
    steps: Vec<Step>,
    tally: Tally,
    fail_fast: bool,
}

struct Step {
    title: String,
    took: Duration,
    outcome: Outcome,
}

enum Outcome {
    Passed(String),
    Failed,
    Skipped(String),
}

impl Report {
    /// With `fail_fast` nothing is begun after a failure.
    pub(super) fn new(fail_fast: bool) -> Self {
        Self { fail_fast, ..Self::default() }
    }

    /// Does a step and remembers how it ended; what it gave, if it ended well.
    pub(super) fn step<T>(&mut self, title: &str, work: impl FnOnce() -> Result<T>) -> Option<T> {
        if self.stopped() {
            self.skip(title, "not reached");
            return None;
        }
        println!("\n=== {title}");
        let start = Instant::now();
        let result = work();
        let took = start.elapsed();
        match result {
            Ok(value) => {
                println!("--- {title}: ok, {:.1} s", took.as_secs_f64());
                self.add(title, took, Outcome::Passed(String::new()));
                Some(value)
            }
            Err(error) => {
                println!("--- {title}: FAILED after {:.1} s: {error:#}", took.as_secs_f64());
                self.add(title, took, Outcome::Failed);
                None
            }
        }
    }

    /// The same for a step that runs tests. Fails if one of them did.
    pub(super) fn tests(&mut self, title: &str, work: impl FnOnce(&mut Tally) -> Result<()>) -> bool {
        let mut tally = Tally::default();
        let ok = self.step(title, || work(&mut tally)).is_some();
        if let (true, Some(Step { outcome: Outcome::Passed(note), .. })) = (ok, self.steps.last_mut()) {
            *note = format!("{} tests", tally.passed);
        }
        self.tally.add(&tally);
        ok
    }

    /// Remembers a step that is left out.
    pub(super) fn skip(&mut self, title: &str, why: &str) {
        println!("\n=== {title}: skipped: {why}");
        self.add(title, Duration::ZERO, Outcome::Skipped(why.to_owned()));
    }

    /// Has anything failed?
    pub(super) fn failed(&self) -> bool {
        self.steps.iter().any(|step| matches!(step.outcome, Outcome::Failed))
    }

    fn stopped(&self) -> bool {
        self.fail_fast && self.failed()
    }

    fn add(&mut self, title: &str, took: Duration, outcome: Outcome) {
        self.steps.push(Step { title: title.to_owned(), took, outcome });
    }

    /// Prints the table and says how it all ended.
    pub(super) fn finish(self, started: Instant) -> Result<()> {
        println!("\n{}", self.table());
        println!("{:.0} s in all", started.elapsed().as_secs_f64());
        for failure in self.tally.failures() {
            println!("failed: {failure}");
        }
        println!("{} passed, {} failed", self.tally.passed, self.tally.failed);
        let failed: Vec<_> = self
            .steps
            .iter()
            .filter(|step| matches!(step.outcome, Outcome::Failed))
            .map(|step| step.title.as_str())
            .collect();
        if !failed.is_empty() {
            bail!("failed: {}", failed.join(", "));
        }
        if !self.tally.ran() {
            bail!("no test ran: none has a name like that");
        }
        Ok(())
    }

    fn table(&self) -> String {
        let width = self.steps.iter().map(|step| step.title.chars().count()).max().unwrap_or_default();
        let rows = self.steps.iter().map(|step| {
            let (word, note) = match &step.outcome {
                Outcome::Passed(note) => ("ok", note.as_str()),
                Outcome::Failed => ("FAILED", ""),
                Outcome::Skipped(why) => ("skipped", why.as_str()),
            };
            format!("{:<width$}  {:>7.1} s  {word:<7}  {note}", step.title, step.took.as_secs_f64())
                .trim_end()
                .to_owned()
        });
        rows.collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[expect(clippy::unnecessary_wraps, reason = "the shape of a step")]
    fn one_test(tally: &mut Tally) -> Result<()> {
        tally.hear("test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out");
        Ok(())
    }

    #[test]
    fn after_a_failure_the_rest_is_done_unless_asked_otherwise() {
        for (fail_fast, reached) in [(false, true), (true, false)] {
            let mut report = Report::new(fail_fast);
            assert!(report.step("a", || Ok(())).is_some());
            assert!(report.step("b", || Err::<(), _>(anyhow!("no"))).is_none());
            assert_eq!(report.tests("c", one_test), reached);
            assert!(report.finish(Instant::now()).unwrap_err().to_string().ends_with("failed: b"));
        }
    }

    #[test]
    fn a_run_without_tests_is_no_success() {
        let mut report = Report::new(false);
        assert!(report.step("a", || Ok(())).is_some());
        assert!(report.finish(Instant::now()).is_err());
        let mut report = Report::new(false);
        assert!(report.tests("t", one_test));
        report.skip("u", "not today");
        let table = report.table();
        assert!(table.contains("t      0.0 s  ok       1 tests"), "{table}");
        assert!(table.contains("skipped  not today"), "{table}");
        report.finish(Instant::now()).unwrap();
    }
}
