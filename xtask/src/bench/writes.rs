//! What the operator wrote, from its metrics.
//!
//! Pure, but for [`read`], which asks through the API server. What must stay true: only differences of a counter are
//! reported, for other users of the cluster wrote too before.

use std::collections::BTreeMap;

use anyhow::Result;

use super::scrape;
use crate::proxy::Proxy;

/// The counter, by what was written.
const COUNTER: &str = "konductor_api_writes_total{";

/// Writes by what they were for.
pub(super) type Writes = BTreeMap<String, f64>;

/// The counters of all operators.
pub(super) fn read(proxy: &Proxy) -> Result<Writes> {
    let mut writes = Writes::new();
    for text in scrape::component(proxy, "controller-manager", "metrics")? {
        for (what, count) in counts(&text) {
            *writes.entry(what).or_default() += count;
        }
    }
    Ok(writes)
}

/// What was written since.
pub(super) fn since(before: &Writes, now: &Writes) -> Writes {
    let more = now.iter().map(|(what, count)| {
        (what.clone(), (count - before.get(what).copied().unwrap_or_default()).max(0.0))
    });
    more.filter(|(_, count)| *count > 0.0).collect()
}

fn counts(text: &str) -> Writes {
    let read = |line: &str| {
        let (labels, count) = line.strip_prefix(COUNTER)?.split_once("} ")?;
        let what = labels.split(',').find_map(|label| label.strip_prefix("what=\""))?.trim_end_matches('"');
        Some((what.to_owned(), count.split(' ').next()?.parse().ok()?))
    };
    text.lines().filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_by_what_they_count_and_only_what_was_added_counts() {
        let text = "# HELP konductor_api_writes Writes.\nkonductor_api_writes_total{what=\"grant\"} 3\n\
                    konductor_api_writes_total{what=\"ledger\"} 5\nkonductor_releases_total{kind=\"Mutex\"} 9\n";
        let now = counts(text);
        assert_eq!(now.len(), 2);
        let before = Writes::from([("grant".to_owned(), 1.0), ("ledger".to_owned(), 5.0)]);
        assert_eq!(since(&before, &now), Writes::from([("grant".to_owned(), 2.0)]));
    }
}
