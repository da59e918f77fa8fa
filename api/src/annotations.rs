//! The annotations: every key, and the grammar of those that users write.
//!
//! Pure. One grammar for everybody: the webhook refuses by it, the operator reads by it. What must stay true: a
//! problem names the path of the field, the reason and an example of what is right; nothing unknown is passed over.

use std::collections::BTreeMap;
use std::fmt;

use crate::participation::{Kind, PrimitiveRef, PrimitiveSet};

/// All our keys begin with this.
pub const PREFIX: &str = "konductor.io/";

/// Names of gates to wait for.
pub const GATE: &str = "konductor.io/gate";
/// Names of mutexes to hold.
pub const MUTEX: &str = "konductor.io/mutex";
/// `"false"`: inject nothing.
pub const INJECT: &str = "konductor.io/inject";
/// Since when it waits: set by the webhook, RFC 3339 with microseconds.
pub const QUEUED: &str = "konductor.io/queued";
/// On a Job's pod template, by the webhook: what the Job takes part in.
pub const JOB_PLAN: &str = "konductor.io/job-plan";
/// On pods, by the operator: the verdict. Its text is defined in `konductor-waiter`.
pub const GRANT: &str = "konductor.io/grant";
/// On pods, by the operator: fencing tokens, followed by the place of the entry.
pub const TOKEN_PREFIX: &str = "konductor.io/token-";
/// The finalizer of pods that may hold something.
pub const FINALIZER: &str = "konductor.io/hold";
/// The label by which the operator finds Jobs and pods.
pub const PARTICIPANT_LABEL: &str = "konductor.io/participant";
/// Its value.
pub const PARTICIPANT_VALUE: &str = "true";
/// The init container that waits.
pub const WAITER_CONTAINER: &str = "konductor-wait";

/// Names in one annotation.
pub const MAX_NAMES: usize = 32;
/// Bytes of one annotation's value: 32 names of 253 bytes would be more than anybody means.
pub const MAX_VALUE_BYTES: usize = 4096;
const MAX_NAME_BYTES: usize = 253;

/// Keys of the design that this version does not act on yet. Refused, because a workload that counts on them must not
/// start as if they were not there.
const NOT_YET: [&str; 20] = [
    "barrier",
    "barrier-wait",
    "barrier-arrive",
    "rwmutex-read",
    "rwmutex-write",
    "semaphore",
    "lease",
    "once",
    "waitgroup",
    "waitgroup-wait",
    "timeout",
    "on-timeout",
    "on-busy",
    "priority",
    "hold",
    "containers",
    "sidecar",
    "release",
    "rwmutex",
    "allow-gates-from",
];

/// What a user's annotations say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    /// What the object takes part in.
    pub set: PrimitiveSet,
    /// `konductor.io/inject: "false"` was given.
    pub opted_out: bool,
}

/// An annotation that cannot be accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where, e.g. `metadata.annotations[konductor.io/mutex]`.
    pub path: String,
    /// What is wrong.
    pub reason: String,
    /// What would be right.
    pub example: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}; example: {}", self.path, self.reason, self.example)
    }
}

/// The key of the token at that place of a pod's plan.
pub fn token(place: usize) -> String {
    format!("{TOKEN_PREFIX}{place}")
}

/// May only the operator write it?
pub fn is_operators(key: &str) -> bool {
    key == GRANT || key.starts_with(TOKEN_PREFIX)
}

/// A DNS subdomain, as object names are.
pub fn is_name(name: &str) -> bool {
    name.len() <= MAX_NAME_BYTES
        && name.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        })
}

/// Reads all annotations of one object; `path` is where they stand, e.g. `metadata.annotations`. What the webhook and
/// the operator write themselves is passed over: whether it may be there is for the caller to say.
pub fn parse(annotations: &BTreeMap<String, String>, path: &str) -> Result<Parsed, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut entries = Vec::new();
    let mut opted_out = false;
    for (key, value) in annotations {
        let Some(word) = key.strip_prefix(PREFIX) else { continue };
        let mut refuse = |reason: String, example: String| {
            problems.push(Problem { path: format!("{path}[{key}]"), reason, example });
        };
        if let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.annotation() == key) {
            match names(value) {
                Ok(names) => {
                    entries
                        .extend(names.into_iter().map(|name| PrimitiveRef { kind, name: name.to_owned() }));
                }
                Err(reason) => refuse(reason, example(kind)),
            }
        } else if key == INJECT {
            match value.as_str() {
                "false" => opted_out = true,
                "true" => {}
                other => refuse(
                    format!("{} is neither \"true\" nor \"false\"", shown(other)),
                    format!("{INJECT}: \"false\""),
                ),
            }
        } else if key != QUEUED && key != JOB_PLAN && !is_operators(key) {
            refuse(unknown(word), example(Kind::Mutex));
        }
    }
    if opted_out && let Some(entry) = entries.first() {
        problems.push(Problem {
            path: format!("{path}[{INJECT}]"),
            reason: format!(
                "\"false\" stands beside {}: the workload would start without waiting for what it names",
                entry.kind.annotation()
            ),
            example: format!(
                "leave one of the two out, e.g. only {}: {}",
                entry.kind.annotation(),
                entry.name
            ),
        });
    }
    if problems.is_empty() {
        Ok(Parsed { set: entries.into_iter().collect(), opted_out })
    } else {
        Err(problems)
    }
}

fn names(value: &str) -> Result<Vec<&str>, String> {
    if value.len() > MAX_VALUE_BYTES {
        return Err(format!("the value has {} bytes and may have {MAX_VALUE_BYTES}", value.len()));
    }
    let names: Vec<_> = value.split(',').map(str::trim).collect();
    if names.len() > MAX_NAMES {
        return Err(format!("{} names, and at most {MAX_NAMES} are allowed", names.len()));
    }
    for (index, name) in names.iter().enumerate() {
        if name.is_empty() {
            return Err(if names.len() == 1 {
                "the name is empty".to_owned()
            } else {
                format!("name {} of {} is empty", index + 1, names.len())
            });
        }
        if name.len() > MAX_NAME_BYTES {
            return Err(format!(
                "{} has {} bytes; a name has at most {MAX_NAME_BYTES}",
                shown(name),
                name.len()
            ));
        }
        if !is_name(name) {
            return Err(format!(
                "{} is no name of an object: lower-case letters, digits, '-' and '.', a letter or digit at both \
                 ends; several names are separated by commas",
                shown(name)
            ));
        }
        if names.iter().take(index).any(|earlier| earlier == name) {
            return Err(format!("{} stands there twice", shown(name)));
        }
    }
    Ok(names)
}

fn example(kind: Kind) -> String {
    match kind {
        Kind::Gate => format!("{GATE}: validation-gate"),
        Kind::Mutex => format!("{MUTEX}: database-migration"),
    }
}

fn unknown(word: &str) -> String {
    let known = [GATE, MUTEX, INJECT].join(", ");
    if NOT_YET.contains(&word) {
        return format!(
            "this version of Konductor does not act on it, and ignoring it would start the workload too early; it \
             knows {known}"
        );
    }
    let near = [GATE, MUTEX, INJECT]
        .into_iter()
        .map(|key| (strsim::damerau_levenshtein(word, key.strip_prefix(PREFIX).unwrap_or(key)), key))
        .min()
        .filter(|(distance, _)| *distance <= 2);
    match near {
        Some((_, key)) => format!("unknown annotation; did you mean {key}? Known are {known}"),
        None => format!("unknown annotation; known are {known}"),
    }
}

/// At most 64 characters of somebody's text, quoted.
fn shown(text: &str) -> String {
    if text.chars().count() <= 64 {
        return format!("{text:?}");
    }
    format!("{:?}…", text.chars().take(64).collect::<String>())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn annotations(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn several_names_of_several_kinds_are_read_in_the_fixed_order() {
        let parsed = parse(
            &annotations(&[(MUTEX, "b, a"), (GATE, "ready"), ("example.com/x", "y"), (QUEUED, "now")]),
            "metadata.annotations",
        )
        .unwrap();
        let told: Vec<_> = parsed.set.entries().iter().map(ToString::to_string).collect();
        assert_eq!(told, ["gate/ready", "mutex/a", "mutex/b"]);
    }

    #[rstest]
    #[case(&[("konductor.io/mutx", "a")], "did you mean konductor.io/mutex?")]
    #[case(&[("konductor.io/gates", "a")], "did you mean konductor.io/gate?")]
    #[case(&[("konductor.io/flag", "a")], "unknown annotation; known are")]
    #[case(&[("konductor.io/semaphore", "a")], "does not act on it")]
    #[case(&[(MUTEX, "")], "the name is empty")]
    #[case(&[(MUTEX, " ")], "the name is empty")]
    #[case(&[(MUTEX, "a,,b")], "name 2 of 3 is empty")]
    #[case(&[(MUTEX, "Db")], "is no name of an object")]
    #[case(&[(MUTEX, "a b")], "is no name of an object")]
    #[case(&[(MUTEX, "a/b")], "is no name of an object")]
    #[case(&[(MUTEX, "a..b")], "is no name of an object")]
    #[case(&[(MUTEX, "a,a")], "stands there twice")]
    #[case(&[(INJECT, "no")], "neither \"true\" nor \"false\"")]
    #[case(&[(INJECT, "false"), (GATE, "a")], "without waiting")]
    fn what_is_wrong_is_refused_with_path_reason_and_example(
        #[case] pairs: &[(&str, &str)],
        #[case] reason: &str,
    ) {
        let problems = parse(&annotations(pairs), "spec.template.metadata.annotations").unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:?}");
        let text = problems[0].to_string();
        assert!(text.starts_with("spec.template.metadata.annotations[konductor.io/"), "{text}");
        assert!(text.contains(reason) && text.contains("; example: "), "{text}");
    }

    #[test]
    fn too_many_names_and_too_long_values_are_refused_without_being_repeated() {
        let many = (0..500).map(|number| format!("m{number}")).collect::<Vec<_>>().join(",");
        let text = parse(&annotations(&[(MUTEX, &many)]), "p").unwrap_err()[0].to_string();
        assert!(text.contains("500 names, and at most 32"), "{text}");
        let long = "a".repeat(5000);
        let text = parse(&annotations(&[(MUTEX, &long)]), "p").unwrap_err()[0].to_string();
        assert!(text.contains("5000 bytes") && text.len() < 300, "{text}");
        let name = "a".repeat(254);
        let text = parse(&annotations(&[(MUTEX, &name)]), "p").unwrap_err()[0].to_string();
        assert!(text.contains("254 bytes") && text.len() < 300, "{text}");
    }

    #[test]
    fn every_problem_is_told_and_not_only_the_first() {
        let problems = parse(&annotations(&[(MUTEX, "A"), (GATE, "")]), "p").unwrap_err();
        assert_eq!(problems.len(), 2);
    }

    proptest! {
        #[test]
        fn what_is_accepted_names_only_objects_that_can_exist(value in "[a-zA-Z0-9., /-]{0,40}") {
            if let Ok(parsed) = parse(&annotations(&[(GATE, &value)]), "p") {
                prop_assert!(!parsed.set.is_empty());
                prop_assert!(parsed.set.entries().iter().all(|entry| is_name(&entry.name)));
            }
        }
    }
}
