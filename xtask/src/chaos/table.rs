//! The figures: counted while it goes on, printed and written down at the end.
//!
//! Pure, but for [`store`]. What must stay true: a figure is something that was seen in this run.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::faults::Fault;
use crate::images::root;

/// How often each fault was done, and how long it took to recover from it.
#[derive(Debug, Default)]
pub(super) struct Tally {
    faults: BTreeMap<Fault, Vec<Option<Duration>>>,
}

/// Everything that is told at the end.
#[derive(Debug, Default)]
pub(super) struct Figures {
    pub(super) seed: u64,
    pub(super) took: Duration,
    /// By object; those of a Once together.
    pub(super) handovers: BTreeMap<String, usize>,
    pub(super) workloads: usize,
    pub(super) removed: usize,
    pub(super) holds: usize,
    pub(super) beats: usize,
    /// By grade.
    pub(super) grades: BTreeMap<String, usize>,
    /// Holds of whose end no grade was seen.
    pub(super) unseen: usize,
    pub(super) problems: Vec<String>,
}

impl Tally {
    /// Done once. `None`: there was no recovery to wait for.
    pub(super) fn fault(&mut self, fault: Fault, recovered: Option<Duration>) {
        self.faults.entry(fault).or_default().push(recovered);
    }

    /// How many of how many kinds.
    pub(super) fn count(&self) -> (usize, usize) {
        (self.faults.values().map(Vec::len).sum(), self.faults.len())
    }

    fn rows(&self) -> impl Iterator<Item = (Fault, usize, Option<Duration>)> {
        self.faults.iter().map(|(fault, times)| (*fault, times.len(), times.iter().flatten().max().copied()))
    }

    /// As a table of Markdown.
    pub(super) fn markdown(&self) -> String {
        let mut text = String::from("| fault | times | slowest recovery |\n|---|---|---|\n");
        for (fault, times, slowest) in self.rows() {
            let _ = writeln!(text, "| {} | {times} | {} |", fault.title(), shown(slowest));
        }
        text
    }

    fn json(&self) -> Value {
        let rows = self.rows().map(|(fault, times, slowest)| {
            json!({"fault": fault.title(), "times": times,
                "slowestRecoverySeconds": slowest.map(|time| time.as_secs_f64())})
        });
        rows.collect()
    }
}

fn shown(time: Option<Duration>) -> String {
    time.map_or_else(|| "-".to_owned(), |time| format!("{:.0} s", time.as_secs_f64()))
}

impl Figures {
    /// All locks together.
    pub(super) fn total(&self) -> usize {
        self.handovers.values().sum()
    }

    /// As tables of Markdown.
    pub(super) fn markdown(&self, tally: &Tally) -> String {
        let (faults, kinds) = tally.count();
        let mut text = format!(
            "Seed {}: {} hand-overs of {} locks in {} min, {} workloads of which {} were taken away, {faults} faults of \
             {kinds} kinds; {} lines of critical sections.\n\n| lock | hand-overs |\n|---|---|\n",
            self.seed,
            self.total(),
            self.handovers.len(),
            self.took.as_secs() / 60,
            self.workloads,
            self.removed,
            self.beats,
        );
        for (lock, count) in &self.handovers {
            let _ = writeln!(text, "| {lock} | {count} |");
        }
        let grades: Vec<_> = self.grades.iter().map(|(grade, count)| format!("{grade} {count}")).collect();
        let _ = write!(
            text,
            "\n{} holds ran; grades of releases that were seen: {}; ends that were not seen, because no watch was up: \
             {}.\n\n{}",
            self.holds,
            grades.join(", "),
            self.unseen,
            tally.markdown()
        );
        text
    }

    fn json(&self, tally: &Tally) -> Value {
        json!({
            "seed": self.seed,
            "seconds": self.took.as_secs(),
            "handovers": self.total(),
            "handoversByLock": self.handovers,
            "workloads": self.workloads,
            "takenAway": self.removed,
            "holds": self.holds,
            "lines": self.beats,
            "grades": self.grades,
            "endsNotSeen": self.unseen,
            "problems": self.problems,
            "faults": tally.json(),
        })
    }
}

/// Where it is all written down.
pub(super) fn folder() -> PathBuf {
    root().join("target/chaos")
}

/// Writes it down, for machines and for people.
pub(super) fn store(figures: &Figures, tally: &Tally) -> Result<()> {
    let folder = folder();
    std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let json = serde_json::to_string_pretty(&figures.json(tally))?;
    for (name, text) in [("result.json", json), ("table.md", figures.markdown(tally))] {
        let file = folder.join(name);
        std::fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_the_slowest_recovery_there_was() {
        let mut tally = Tally::default();
        tally.fault(Fault::EtcdKilled, Some(Duration::from_secs(3)));
        tally.fault(Fault::EtcdKilled, Some(Duration::from_secs(5)));
        tally.fault(Fault::JobDeleted, None);
        assert_eq!(tally.count(), (3, 2));
        let text = tally.markdown();
        assert!(text.contains("away for 1 to 6 s | 2 | 5 s |"), "{text}");
        assert!(text.contains("in the background | 1 | - |"), "{text}");
        let figures = Figures {
            handovers: [("orders".to_owned(), 3), ("table".to_owned(), 4)].into(),
            grades: [("P2".to_owned(), 7)].into(),
            ..Figures::default()
        };
        assert_eq!(figures.json(&tally)["handovers"], 7);
        assert!(figures.markdown(&tally).contains("| orders | 3 |"));
    }
}
