//! Figures of a sample, and where all figures go.
//!
//! Pure, but for [`store`]. What must stay true: a figure is one of the sample's own values, never an average that nobody
//! saw.
#![expect(clippy::print_stdout, reason = "it says where the figures are")]

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::images::root;

/// Seconds, sorted.
#[derive(Clone, Debug, Default)]
pub(super) struct Sample(Vec<f64>);

impl Sample {
    /// More values.
    pub(super) fn extend(&mut self, values: impl IntoIterator<Item = f64>) {
        self.0.extend(values);
        self.0.sort_by(f64::total_cmp);
    }

    /// How many.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The smallest value that at least this share of all does not exceed; nearest rank.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank within a list in memory"
    )]
    #[expect(clippy::cast_precision_loss, reason = "samples have tens of values")]
    pub(super) fn at(&self, share: f64) -> Option<f64> {
        let rank = (share * self.0.len() as f64).ceil().max(1.0) as usize;
        self.0.get(rank - 1).copied()
    }

    /// As one row of a table.
    pub(super) fn row(&self) -> String {
        let shown = [0.5, 0.9, 0.0, 1.0].map(|share| {
            self.at(share).map_or_else(|| format!("{:>7}", "-"), |value| format!("{value:>7.2}"))
        });
        format!("{}  {:>6}", shown.join(" "), self.len())
    }

    /// For machines.
    pub(super) fn json(&self) -> Value {
        json!({
            "rounds": self.len(),
            "p50": self.at(0.5),
            "p90": self.at(0.9),
            "min": self.at(0.0),
            "max": self.at(1.0),
            "seconds": self.0,
        })
    }
}

/// So many in a second.
#[expect(clippy::cast_precision_loss, reason = "some thousands")]
pub(super) fn rate(count: usize, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

/// Writes the results of a bench down, for machines.
pub(super) fn store(bench: &str, results: &Value) -> Result<()> {
    let file = root().join(format!("target/bench/{bench}.json"));
    std::fs::create_dir_all(file.parent().context("a folder")?)?;
    std::fs::write(&file, serde_json::to_string_pretty(results)?)
        .with_context(|| format!("writing {}", file.display()))?;
    println!("all of it: {}", file.display());
    Ok(())
}

/// The heads of [`Sample::row`].
pub(super) const HEADS: &str = "    p50     p90     min     max  rounds";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_values_of_the_sample() {
        let mut sample = Sample::default();
        assert_eq!(sample.at(0.5), None);
        sample.extend([3.0, 1.0]);
        sample.extend([2.0, 4.0]);
        assert_eq!(sample.at(0.5), Some(2.0));
        assert_eq!(
            sample.row().split_whitespace().collect::<Vec<_>>(),
            ["2.00", "4.00", "1.00", "4.00", "4"]
        );
        assert_eq!(sample.row().len(), HEADS.len());
    }
}
