//! Rows: what a list says of a primitive.
//!
//! Pure, over the object as JSON. What must stay true: the keys of a row are those that scripts read (they are those of the Go
//! project), each is always there, and a number is a number.

use konductor_api::participation::Kind;
use serde_json::{Map, Value, json};

/// Where a value comes from.
#[derive(Clone, Copy, Debug)]
enum Source {
    Text(&'static str),
    Number(&'static str),
    Flag(&'static str),
    /// Since when the first one holds.
    Since,
    /// How many hold to read.
    Readers,
    Met,
    Total,
    /// What the Go project counted and never did.
    Never,
}

use Source::{Flag, Met, Never, Number, Readers, Since, Text, Total};

const PHASE: (&str, Source) = ("phase", Text("/status/phase"));
const HOLDER: (&str, Source) = ("holder", Text("/status/holder"));

/// What follows the name.
const fn columns(kind: Kind) -> &'static [(&'static str, Source)] {
    match kind {
        Kind::Semaphore => &[
            ("permits", Number("/spec/permits")),
            ("in-use", Number("/status/inUse")),
            ("available", Number("/status/available")),
            PHASE,
        ],
        Kind::Barrier => &[
            ("expected", Number("/spec/expected")),
            ("arrived", Number("/status/arrived")),
            PHASE,
            ("opened", Text("/status/openedAt")),
        ],
        Kind::Lease => &[HOLDER, PHASE, ("acquired", Since), ("renewals", Never)],
        Kind::Gate => &[
            ("conditions_met", Met),
            ("conditions_total", Total),
            PHASE,
            ("opened", Text("/status/openedAt")),
        ],
        Kind::Mutex => &[HOLDER, PHASE, ("locked", Since)],
        Kind::RWMutex => {
            &[("writeHolder", Text("/status/writeHolder")), ("readers", Readers), PHASE, ("locked", Since)]
        }
        Kind::Once => &[
            ("executed", Flag("/status/executed")),
            ("executor", Text("/status/executor")),
            PHASE,
            ("executedAt", Text("/status/executedAt")),
        ],
        Kind::WaitGroup => &[("counter", Number("/status/counter")), PHASE],
    }
}

/// One row with who waits: how many, and who is next.
pub fn wide_row(kind: Kind, object: &Value) -> Vec<(&'static str, Value)> {
    let next = object.pointer("/status/queue/0").map(crate::told::name).unwrap_or_default();
    let waiting = object.pointer("/status/waiting").and_then(Value::as_i64).unwrap_or(0);
    let since = object.pointer("/status/queue/0/since").cloned().unwrap_or_else(|| json!(""));
    row(kind, object)
        .into_iter()
        .chain([("waiting", json!(waiting)), ("next", json!(next)), ("since", since)])
        .collect()
}

/// One row, as a flat object; the name comes first.
pub fn row(kind: Kind, object: &Value) -> Vec<(&'static str, Value)> {
    let name = json!(object["metadata"]["name"].as_str().unwrap_or_default());
    let rest = columns(kind).iter().map(|(key, from)| (*key, read(*from, object)));
    std::iter::once(("name", name)).chain(rest).collect()
}

fn read(from: Source, object: &Value) -> Value {
    let at = |path: &str| object.pointer(path).cloned().unwrap_or_default();
    let holders = || object.pointer("/status/holders").and_then(Value::as_array).into_iter().flatten();
    match from {
        Text(path) => json!(at(path).as_str().unwrap_or_default()),
        Number(path) => json!(at(path).as_i64().unwrap_or(0)),
        Flag(path) => json!(at(path).as_bool().unwrap_or(false)),
        Since => json!(holders().next().and_then(|first| first["grantedAt"].as_str()).unwrap_or_default()),
        Readers => json!(holders().filter(|holder| holder["mode"] == "Read").count()),
        Met => {
            let all = object.pointer("/status/conditionStatuses").and_then(Value::as_array);
            json!(all.into_iter().flatten().filter(|one| one["met"] == true).count())
        }
        Total => json!(object.pointer("/spec/conditions").and_then(Value::as_array).map_or(0, Vec::len)),
        Never => json!(0),
    }
}

/// The same as JSON.
pub fn as_json(row: &[(&'static str, Value)]) -> Value {
    Value::Object(row.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect::<Map<_, _>>())
}

/// Rows as a table, one space more than the widest cell between columns.
pub fn table(rows: &[Vec<(&'static str, Value)>], with_heads: bool) -> String {
    let Some(first) = rows.first() else { return String::new() };
    let heads: Vec<_> = first.iter().map(|(key, _)| key.to_uppercase().replace('_', "-")).collect();
    let cells = rows.iter().map(|row| row.iter().map(|(_, value)| cell(value)).collect::<Vec<_>>());
    let lines: Vec<_> = with_heads.then_some(heads).into_iter().chain(cells).collect();
    let width = |column: usize| {
        lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let mut text = String::new();
    for line in &lines {
        let padded: Vec<_> =
            line.iter().enumerate().map(|(place, cell)| format!("{cell:<0$}", width(place))).collect();
        text.push_str(padded.join("   ").trim_end());
        text.push('\n');
    }
    text
}

fn cell(value: &Value) -> String {
    match value {
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(Kind::Semaphore, json!({"metadata": {"name": "s"}, "spec": {"permits": 3}, "status": {"inUse": 1, "available": 2, "phase": "Ready"}}),
        r#"{"name":"s","permits":3,"in-use":1,"available":2,"phase":"Ready"}"#)]
    #[case(Kind::Gate, json!({"metadata": {"name": "g"}, "spec": {"conditions": [{}, {}]}, "status": {"conditionStatuses": [{"met": true}, {"met": false}]}}),
        r#"{"name":"g","conditions_met":1,"conditions_total":2,"phase":"","opened":""}"#)]
    #[case(Kind::RWMutex, json!({"metadata": {"name": "r"}, "status": {"phase": "ReadLocked", "holders": [{"mode": "Read", "grantedAt": "t"}, {"mode": "Read"}]}}),
        r#"{"name":"r","writeHolder":"","readers":2,"phase":"ReadLocked","locked":"t"}"#)]
    #[case(Kind::Once, json!({"metadata": {"name": "o"}, "status": {"executed": true, "executor": "job/a"}}),
        r#"{"name":"o","executed":true,"executor":"job/a","phase":"","executedAt":""}"#)]
    #[case(Kind::Lease, json!({"metadata": {"name": "l"}}), r#"{"name":"l","holder":"","phase":"","acquired":"","renewals":0}"#)]
    fn keys_are_always_there_and_numbers_are_numbers(
        #[case] kind: Kind,
        #[case] object: Value,
        #[case] expected: &str,
    ) {
        let expected: Value = serde_json::from_str(expected).unwrap();
        assert_eq!(as_json(&row(kind, &object)), expected);
    }

    #[test]
    fn a_table_is_aligned_and_shows_what_is_empty() {
        let rows: Vec<_> = ["a", "longer"]
            .map(|name| {
                row(Kind::Mutex, &json!({"metadata": {"name": name}, "status": {"phase": "Unlocked"}}))
            })
            .into();
        assert_eq!(
            table(&rows, true),
            "NAME     HOLDER   PHASE      LOCKED\na        -        Unlocked   -\nlonger   -        Unlocked   -\n"
        );
        assert!(!table(&rows, false).contains("NAME"));
        assert_eq!(table(&[], true), "");
    }
}
