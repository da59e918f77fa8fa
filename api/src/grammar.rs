//! The grammar of the annotations that users write.
//!
//! Pure. One grammar for everybody: the webhook refuses by it, the operator reads by it. What must stay true: a
//! problem names the path of the field, the reason and an example of what is right; nothing unknown is passed over.

use std::collections::BTreeMap;
use std::fmt;

use crate::annotations::{
    ALLOW_GATES_FROM, CONTAINERS, HOLD, INJECT, JOB_PLAN, MUTEX, ON_BUSY, ON_TIMEOUT, PREFIX, PRIORITY,
    QUEUED, RWMUTEX_READ, RWMUTEX_WRITE, SIDECAR, SUSPENDED, TIMEOUT, is_operators,
};
use crate::options::{OnBusy, OnTimeout, Options, Sidecar};
use crate::participation::{Part, PrimitiveSet, Role, WAYS, Way};
use crate::section::Section;
use crate::values::{hold, one_of, parts, priority, shown, timeout};

/// How somebody waits: these say nothing where nothing is waited for.
const OPTIONS: [(&str, &str); 7] = [
    (TIMEOUT, "30m"),
    (ON_TIMEOUT, "fail"),
    (ON_BUSY, "skip"),
    (PRIORITY, "10"),
    (HOLD, "scheduling-gate"),
    (CONTAINERS, "migrate"),
    (SIDECAR, "always"),
];

/// Keys of the design that this version does not act on yet. Refused, because a workload that counts on them must not
/// start as if they were not there.
const NOT_YET: [&str; 1] = ["release"];

/// What a user's annotations say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    /// What the object takes part in.
    pub set: PrimitiveSet,
    /// How it waits.
    pub options: Options,
    /// What it is held for.
    pub section: Section,
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

// ---------------------------------------------------------------------------------------------------- reading

/// Reads all annotations of one object; `path` is where they stand, e.g. `metadata.annotations`. What the webhook and
/// the operator write themselves is passed over: whether it may be there is for the caller to say.
pub fn parse(annotations: &BTreeMap<String, String>, path: &str) -> Result<Parsed, Vec<Problem>> {
    let mut reading = Reading { path, parts: Vec::new(), parsed: Parsed::default(), problems: Vec::new() };
    for (key, value) in annotations {
        let Some(word) = key.strip_prefix(PREFIX) else { continue };
        if let Err((reason, example)) = reading.take(key, word, value) {
            reading.refuse(key, reason, example);
        }
    }
    reading.compare(annotations);
    let Reading { parts, mut parsed, problems, .. } = reading;
    parsed.set = parts.into_iter().collect();
    if problems.is_empty() { Ok(parsed) } else { Err(problems) }
}

/// What was read so far.
struct Reading<'a> {
    path: &'a str,
    parts: Vec<Part>,
    parsed: Parsed,
    problems: Vec<Problem>,
}

/// A reason and an example.
type Refusal = (String, String);

impl Reading<'_> {
    fn refuse(&mut self, key: &str, reason: String, example: String) {
        self.problems.push(Problem { path: format!("{}[{key}]", self.path), reason, example });
    }

    fn take(&mut self, key: &str, word: &str, value: &str) -> Result<(), Refusal> {
        let like = |example: &str| format!("{key}: {example}");
        if let Some(way) = WAYS.iter().find(|way| way.annotation == key) {
            let parts = parts(way, value).map_err(|reason| (reason, example(way)))?;
            self.parts.extend(parts);
            return Ok(());
        }
        let options = &mut self.parsed.options;
        match key {
            TIMEOUT => options.timeout = Some(timeout(value).map_err(|reason| (reason, like("30m")))?),
            ON_TIMEOUT => {
                options.on_timeout =
                    one_of(value, &OnTimeout::WORDS).map_err(|reason| (reason, like("fail")))?;
            }
            ON_BUSY => {
                options.on_busy = one_of(value, &OnBusy::WORDS).map_err(|reason| (reason, like("skip")))?;
            }
            HOLD => options.hold = hold(value).map_err(|reason| (reason, like("scheduling-gate")))?,
            PRIORITY => options.priority = Some(priority(value).map_err(|reason| (reason, like("\"10\"")))?),
            SIDECAR => {
                options.sidecar =
                    one_of(value, &Sidecar::WORDS).map_err(|reason| (reason, like("always")))?;
            }
            CONTAINERS => {
                self.parsed.section = value.parse().map_err(|error| (format!("{error}"), like("migrate")))?;
            }
            INJECT => match value {
                "false" => self.parsed.opted_out = true,
                "true" => {}
                other => {
                    return Err((
                        format!("{} is neither \"true\" nor \"false\"", shown(other)),
                        like("\"false\""),
                    ));
                }
            },
            QUEUED | JOB_PLAN | SUSPENDED => {}
            _ if is_operators(key) => {}
            _ => return Err((unknown(word), format!("{MUTEX}: database-migration"))),
        }
        Ok(())
    }

    /// What is right by itself and makes no sense together.
    fn compare(&mut self, annotations: &BTreeMap<String, String>) {
        let parts = std::mem::take(&mut self.parts);
        if self.parsed.opted_out
            && let Some(part) = parts.first()
        {
            let (key, value) = (part.annotation(), part.value());
            self.refuse(
                INJECT,
                format!("\"false\" stands beside {key}: the workload would start without waiting for what it names"),
                format!("leave one of the two out, e.g. only {key}: {value}"),
            );
        }
        for (index, part) in parts.iter().enumerate() {
            let same = |other: &&Part| other.primitive == part.primitive && other.role != part.role;
            if let Some(other) = parts.iter().take(index).find(same) {
                self.refuse(
                    part.annotation(),
                    format!(
                        "{} stands in {} too, and {}",
                        part.primitive,
                        other.annotation(),
                        clash(part.role, other.role)
                    ),
                    format!("leave one of the two out, e.g. only {}: {}", part.annotation(), part.value()),
                );
            }
        }
        // A marker means that the Job of this pod takes part; what stands here is then about the pod, and says nothing.
        if parts.is_empty() && !self.parsed.opted_out && self.problems.is_empty() {
            for (key, _) in OPTIONS.iter().filter(|(key, _)| annotations.contains_key(*key)) {
                self.refuse(
                    key,
                    "it says how to wait, and nothing here says for what: it belongs on the object that names the \
                     primitive"
                        .to_owned(),
                    format!("{MUTEX}: database-migration beside it"),
                );
            }
        }
        if annotations.contains_key(ON_TIMEOUT) && !annotations.contains_key(TIMEOUT) {
            self.refuse(
                ON_TIMEOUT,
                format!("it says what happens after a time that is not given: {TIMEOUT} is missing"),
                format!("{TIMEOUT}: 30m beside it"),
            );
        }
        let held = parts.iter().find(|part| part.role.is_held());
        if self.parsed.options.on_timeout == OnTimeout::Proceed
            && let Some(held) = held
        {
            self.refuse(
                ON_TIMEOUT,
                format!(
                    "\"proceed\" would start the workload without {}, which protects something",
                    held.primitive
                ),
                format!("{ON_TIMEOUT}: fail"),
            );
        }
        self.parts = parts;
    }
}

/// Why two roles in one primitive cannot be played together.
const fn clash(one: Role, other: Role) -> &'static str {
    match (one, other) {
        (Role::Read | Role::Write, _) => "a reader that waits to write waits for itself",
        (Role::Take(_), _) => "it would wait for its own permits",
        (Role::Join | Role::Await, Role::Join | Role::Await) => "it would wait for its own end",
        (Role::Arrive | Role::Await, Role::Arrive | Role::Await) => "it would wait for its own success",
        _ => "one of the two says it all",
    }
}

fn example(way: &Way) -> String {
    format!("{}: {}", way.annotation, way.example)
}

/// Every key that a user may write.
pub fn known() -> impl Iterator<Item = &'static str> {
    WAYS.iter().map(|way| way.annotation).chain(OPTIONS.iter().map(|(key, _)| *key)).chain([INJECT])
}

fn unknown(word: &str) -> String {
    if NOT_YET.contains(&word) {
        return "this version of Konductor does not act on it, and ignoring it would start the workload otherwise \
                than it was meant to"
            .to_owned();
    }
    if word == "rwmutex" {
        return format!("readers say {RWMUTEX_READ} and writers {RWMUTEX_WRITE}");
    }
    if format!("{PREFIX}{word}") == ALLOW_GATES_FROM {
        return "it belongs on a namespace, and not on a workload".to_owned();
    }
    let near = known()
        .map(|key| (strsim::damerau_levenshtein(word, key.strip_prefix(PREFIX).unwrap_or(key)), key))
        .min()
        .filter(|(distance, _)| *distance <= 2);
    let all = known().collect::<Vec<_>>().join(", ");
    match near {
        Some((_, key)) => format!("unknown annotation; did you mean {key}? Known are {all}"),
        None => format!("unknown annotation; known are {all}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;
    use crate::annotations::{
        BARRIER, BARRIER_ARRIVE, BARRIER_WAIT, GATE, LEASE, SEMAPHORE, WAITGROUP, WAITGROUP_WAIT,
    };
    use crate::options::Hold;
    use crate::values::is_name;

    fn annotations(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn several_names_of_several_kinds_are_read_in_the_fixed_order() {
        let parsed = parse(
            &annotations(&[
                (MUTEX, "b, a"),
                (GATE, "ready"),
                (SEMAPHORE, " limit = 3"),
                ("example.com/x", "y"),
                (QUEUED, "now"),
            ]),
            "metadata.annotations",
        )
        .unwrap();
        let told: Vec<_> = parsed.set.primitives().map(ToString::to_string).collect();
        assert_eq!(told, ["gate/ready", "semaphore/limit", "mutex/a", "mutex/b"]);
        assert_eq!(parsed.set.entries()[1].role, Role::Take(3));
    }

    #[test]
    fn options_are_read() {
        let parsed = parse(
            &annotations(&[
                (GATE, "a"),
                (TIMEOUT, "1h30m"),
                (ON_TIMEOUT, "proceed"),
                (ON_BUSY, "skip"),
                (PRIORITY, "-3"),
                (HOLD, "scheduling-gate"),
                (CONTAINERS, "load, migrate"),
                (SIDECAR, "always"),
            ]),
            "p",
        )
        .unwrap();
        let wanted = Options {
            priority: Some(-3),
            timeout: Some("90m".parse().unwrap()),
            on_timeout: OnTimeout::Proceed,
            on_busy: OnBusy::Skip,
            hold: Hold::SchedulingGate,
            sidecar: Sidecar::Always,
        };
        assert_eq!(parsed.options, wanted);
        assert_eq!(parsed.section.to_string(), "load,migrate");
        assert_eq!(parse(&annotations(&[(GATE, "a")]), "p").unwrap().options, Options::default());
    }

    #[rstest]
    #[case(&[("konductor.io/mutx", "a")], "did you mean konductor.io/mutex?")]
    #[case(&[("konductor.io/gates", "a")], "did you mean konductor.io/gate?")]
    #[case(&[("konductor.io/flag", "a")], "unknown annotation; known are")]
    #[case(&[("konductor.io/release", "terminal")], "does not act on it")]
    #[case(&[(LEASE, "a"), (SIDECAR, "yes")], "is none of auto, always, never")]
    #[case(&[(SIDECAR, "always")], "nothing here says for what")]
    #[case(&[("konductor.io/rwmutex", "a")], "readers say konductor.io/rwmutex-read")]
    #[case(&[(SEMAPHORE, "a=0")], "is no number of permits")]
    #[case(&[(SEMAPHORE, "a=-1")], "is no number of permits")]
    #[case(&[(SEMAPHORE, "a=+1")], "is no number of permits")]
    #[case(&[(SEMAPHORE, "a=1000001")], "from 1 to 1000000")]
    #[case(&[(SEMAPHORE, "a=99999999999999999999")], "from 1 to 1000000")]
    #[case(&[(SEMAPHORE, "a=")], "is no number of permits")]
    #[case(&[(SEMAPHORE, "=3")], "is no name of an object")]
    #[case(&[(SEMAPHORE, "a,b")], "2 names, and it takes one")]
    #[case(&[(BARRIER, "a,b")], "2 names, and it takes one")]
    #[case(&[(MUTEX, "a=2")], "only a semaphore takes a number")]
    #[case(&[(RWMUTEX_READ, "a"), (RWMUTEX_WRITE, "b,a")], "waits for itself")]
    #[case(&[(WAITGROUP, "a"), (WAITGROUP_WAIT, "a")], "wait for its own end")]
    #[case(&[(BARRIER_ARRIVE, "a"), (BARRIER_WAIT, "a")], "wait for its own success")]
    #[case(&[(BARRIER, "a"), (BARRIER_WAIT, "a")], "one of the two says it all")]
    #[case(&[(MUTEX, "a"), (TIMEOUT, "soon")], "is no duration")]
    #[case(&[(MUTEX, "a"), (TIMEOUT, "-5m")], "is no duration")]
    #[case(&[(MUTEX, "a"), (TIMEOUT, "9999999h")], "longer than 292 years")]
    #[case(&[(MUTEX, "a"), (TIMEOUT, "0s")], "no time at all")]
    #[case(&[(GATE, "a"), (ON_TIMEOUT, "fail")], "konductor.io/timeout is missing")]
    #[case(&[(GATE, "a"), (TIMEOUT, "1m"), (ON_TIMEOUT, "explode")], "is none of fail, skip, proceed")]
    #[case(&[(MUTEX, "a"), (TIMEOUT, "1m"), (ON_TIMEOUT, "proceed")], "without mutex/a, which protects something")]
    #[case(&[(LEASE, "a"), (ON_BUSY, "")], "is none of wait, skip, fail")]
    #[case(&[(LEASE, "a"), (HOLD, "gate")], "is none of init-container, scheduling-gate")]
    #[case(&[(HOLD, "scheduling-gate")], "nothing here says for what")]
    #[case(&[(CONTAINERS, "main")], "nothing here says for what")]
    #[case(&[(MUTEX, "a"), (CONTAINERS, "Main")], "is no name of a container")]
    #[case(&[(MUTEX, "a"), (CONTAINERS, "")], "is no name of a container")]
    #[case(&[(LEASE, "a"), (PRIORITY, "high")], "is no priority")]
    #[case(&[(LEASE, "a"), (PRIORITY, "9999999")], "is no priority")]
    #[case(&[(PRIORITY, "1")], "nothing here says for what")]
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
                prop_assert!(parsed.set.primitives().all(|primitive| is_name(&primitive.name)));
            }
        }
    }
}
