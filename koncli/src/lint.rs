//! Lint: what is wrong with manifests before anything is applied.
//!
//! Pure. First what the webhook would say of each alone ([`konductor_webhook::template`], [`konductor_webhook::plan`]), then
//! what can only be seen of all of them together; [`finding`] is how it is said. What must stay true: nothing is said of what
//! is as it should be; what another folder may define is a warning.

mod finding;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use konductor_api::grammar::Problem;
use konductor_api::participation::{Kind, PodPlan, PrimitiveRef, Role};
use konductor_webhook::names::{Around, Unknown};
use konductor_webhook::review::Resource;
use konductor_webhook::waiter::Settings;
use konductor_webhook::{template, warnings};
use serde_json::Value;

use crate::manifests::Manifest;
use crate::workload::Workload;
pub use finding::{Code, Finding, Severity};

/// What the manifests define, and who takes part in what.
struct Folder<'a> {
    manifests: &'a [Manifest],
    /// Primitives by kind and name, each with its manifest.
    defined: BTreeMap<PrimitiveRef, &'a Manifest>,
    /// Workloads, with what they take part in.
    workloads: Vec<(&'a Manifest, PodPlan)>,
}

/// Everything that is found, in the order of the files.
pub fn lint(manifests: &[Manifest], settings: &Settings, now: Timestamp) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut workloads = Vec::new();
    for manifest in manifests {
        match alone(&manifest.object, settings, now) {
            Ok((plan, said)) => {
                findings.extend(said.into_iter().map(|message| manifest.finding(Code::Kon02, message)));
                workloads.extend(plan.filter(|plan| !plan.is_empty()).map(|plan| (manifest, plan)));
            }
            Err(refusals) => {
                findings.extend(refusals.into_iter().map(|message| manifest.finding(Code::Kon01, message)));
            }
        }
    }
    let defined = manifests.iter().filter_map(|manifest| Some((primitive(&manifest.object)?, manifest)));
    let folder = Folder { manifests, defined: defined.collect(), workloads };
    findings.extend(folder.undefined());
    findings.extend(folder.cycles());
    findings.extend(folder.barriers());
    findings.extend(folder.orders());
    findings.sort();
    findings.dedup();
    findings
}

fn primitive(object: &Value) -> Option<PrimitiveRef> {
    let ours = object["apiVersion"].as_str()?.starts_with("konductor.io/");
    let kind = Kind::ALL.into_iter().find(|kind| object["kind"].as_str() == Some(kind.api_kind()))?;
    let name = object["metadata"]["name"].as_str()?.to_owned();
    ours.then_some(PrimitiveRef { kind, name })
}

/// What the webhook would say, and what the object takes part in.
type Alone = Result<(Option<PodPlan>, Vec<String>), Vec<String>>;

fn alone(object: &Value, settings: &Settings, now: Timestamp) -> Alone {
    let Some(workload) = Workload::of(object) else { return Ok((None, Vec::new())) };
    let resource = workload.resource;
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or("default");
    let part = object.pointer(&workload.pointer()).unwrap_or(&Value::Null);
    let planned = workload.plan(part, settings, now);
    let participation = planned.as_ref().ok().map(|plan| plan.participation.clone());
    // Nothing is said here of what is missing: `Folder::undefined` knows the names that are there.
    let around = Around { settings, names: &Unknown, namespace, now };
    let (problems, said) = match (resource, planned) {
        (Resource::Pods | Resource::Jobs, Ok(plan)) => {
            (Vec::new(), warnings::warnings(resource, object, &plan, &around))
        }
        (Resource::Pods | Resource::Jobs, Err(problems)) => (problems, Vec::new()),
        _ => {
            let checked = template::check(resource, object, None, &around);
            (checked.problems, checked.warnings)
        }
    };
    if problems.is_empty() {
        return Ok((participation, said));
    }
    let sentence =
        |problem: &Problem| format!("{}: {}; e.g. {}", problem.path, problem.reason, problem.example);
    Err(problems.iter().map(sentence).collect())
}

// ------------------------------------------------------------------------------------------- all of them together

impl Folder<'_> {
    /// `KON03`: names that nothing here defines, and gates' conditions on our own kinds.
    fn undefined(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let named = self.workloads.iter().flat_map(|(manifest, plan)| {
            plan.entries().map(|entry| (*manifest, entry.primitive.clone())).collect::<Vec<_>>()
        });
        let looked_at = self.manifests.iter().flat_map(|manifest| {
            conditions(&manifest.object)
                .filter(|condition| condition["namespace"].is_null())
                .filter_map(|condition| Some((manifest, condition_on(condition)?)))
                .collect::<Vec<_>>()
        });
        let claimed =
            self.manifests.iter().filter_map(|manifest| Some((manifest, claimed(&manifest.object)?.1)));
        for (manifest, wanted) in named.chain(looked_at).chain(claimed) {
            if self.defined.contains_key(&wanted) {
                continue;
            }
            let of_kind = self.defined.keys().filter(|known| known.kind == wanted.kind);
            let near = of_kind
                .map(|known| (strsim::damerau_levenshtein(&known.name, &wanted.name), &known.name))
                .min()
                .filter(|(distance, _)| *distance <= 2);
            let message = match near {
                Some((_, name)) => format!("{wanted} is defined nowhere here; did you mean {name}?"),
                None => format!("{wanted} is defined nowhere here; whoever names it waits until it is"),
            };
            findings.push(manifest.finding(Code::Kon03, message));
        }
        findings
    }

    /// `KON04`: a Job that waits for a gate which waits for that Job.
    fn cycles(&self) -> Vec<Finding> {
        let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for manifest in self.manifests {
            let Some(own) = primitive(&manifest.object).filter(|own| own.kind == Kind::Gate) else {
                continue;
            };
            // Of several any one is enough where it says so, and the others may still come.
            if manifest.object["spec"]["logic"] == "Any" {
                continue;
            }
            for condition in conditions(&manifest.object).filter(|condition| condition["namespace"].is_null())
            {
                let name = condition["name"].as_str().unwrap_or_default();
                let on = match condition["type"].as_str() {
                    Some("Gate") => format!("gate/{name}"),
                    Some("Job") => format!("job/{name}"),
                    _ => continue,
                };
                edges.entry(own.to_string()).or_default().insert(on);
            }
        }
        for (manifest, plan) in &self.workloads {
            if manifest.object["kind"] != "Job" {
                continue;
            }
            let own = format!("job/{}", manifest.object["metadata"]["name"].as_str().unwrap_or_default());
            let gates = plan.entries().filter(|entry| entry.primitive.kind == Kind::Gate);
            edges.entry(own).or_default().extend(gates.map(|entry| entry.primitive.to_string()));
        }
        let mut told = BTreeSet::new();
        let mut findings = Vec::new();
        for start in edges.keys() {
            let Some(cycle) = cycle_from(start, &edges) else { continue };
            // The same one is found from each of its members.
            if !told.insert(cycle.iter().cloned().collect::<BTreeSet<_>>()) {
                continue;
            }
            let Some(manifest) = self.manifests.iter().find(|manifest| is_node(manifest, start)) else {
                continue;
            };
            let way = [cycle.as_slice(), std::slice::from_ref(start)].concat().join(" waits for ");
            findings.push(manifest.finding(Code::Kon04, format!("{way}, so none of them ever goes on")));
        }
        findings
    }

    /// `KON06`: what one holder claims is taken in the order in which it stands here. Annotated workloads have one order for
    /// everybody, and `koncli run` too; claims do not.
    fn orders(&self) -> Vec<Finding> {
        let mut taken: BTreeMap<&str, Vec<(PrimitiveRef, &Manifest)>> = BTreeMap::new();
        for manifest in self.manifests {
            if let Some((holder, wanted)) = claimed(&manifest.object) {
                taken.entry(holder).or_default().push((wanted, manifest));
            }
        }
        let pairs = |all: &'_ [(PrimitiveRef, &Manifest)]| -> BTreeSet<(PrimitiveRef, PrimitiveRef)> {
            let later = |at: usize| all.iter().skip(at + 1).map(|(wanted, _)| wanted.clone());
            all.iter()
                .enumerate()
                .flat_map(|(at, (first, _))| later(at).map(|then| (first.clone(), then)))
                .collect()
        };
        let orders: Vec<_> = taken.iter().map(|(holder, all)| (*holder, pairs(all), all)).collect();
        let mut findings = Vec::new();
        for (at, (holder, own, claims)) in orders.iter().enumerate() {
            for (other, others, _) in orders.iter().skip(at + 1) {
                let Some((first, then)) =
                    own.iter().find(|(first, then)| others.contains(&(then.clone(), first.clone())))
                else {
                    continue;
                };
                let manifest =
                    claims.iter().find(|(wanted, _)| wanted == first).map(|(_, manifest)| *manifest);
                let message = format!(
                    "{holder} takes {first} and then {then}, and {other} the other way round: each may come to wait for the other; \
                     take them in one order, or with koncli run, which does"
                );
                findings.extend(manifest.map(|manifest| manifest.finding(Code::Kon06, message)));
            }
        }
        findings
    }

    /// `KON05`: whoever comes is told apart by who it is, so that retries count once.
    fn barriers(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (wanted, manifest) in self.defined.iter().filter(|(known, _)| known.kind == Kind::Barrier) {
            let spec = &manifest.object["spec"];
            let Some(expected) = spec["quorum"].as_u64().or_else(|| spec["expected"].as_u64()) else {
                continue;
            };
            let (mut come, mut someone) = (0, false);
            for (workload, plan) in &self.workloads {
                let counts = plan.entries().find(|entry| {
                    entry.primitive == wanted && matches!(entry.role, Role::Meet | Role::Arrive)
                });
                if let Some(entry) = counts {
                    someone = true;
                    come += if entry.by_job { 1 } else { pods_of(&workload.object) };
                }
            }
            if someone && come < expected {
                findings.push(manifest.finding(
                    Code::Kon05,
                    format!(
                        "it opens when {expected} have arrived, and only {come} of these manifests ever do"
                    ),
                ));
            }
        }
        findings
    }
}

/// Who claims what, if it is a claim.
fn claimed(object: &Value) -> Option<(&str, PrimitiveRef)> {
    let ours = object["apiVersion"].as_str()?.starts_with("konductor.io/") && object["kind"] == "Claim";
    let wanted = &object["spec"]["primitive"];
    let kind = Kind::ALL.into_iter().find(|kind| wanted["kind"].as_str() == Some(kind.api_kind()))?;
    let name = wanted["name"].as_str()?.to_owned();
    ours.then_some((object["spec"]["holder"].as_str()?, PrimitiveRef { kind, name }))
}

fn conditions(object: &Value) -> impl Iterator<Item = &Value> {
    let gate = primitive(object).is_some_and(|own| own.kind == Kind::Gate);
    object["spec"]["conditions"].as_array().into_iter().flatten().filter(move |_| gate)
}

/// The primitive that a condition of a gate is about, if it is one.
fn condition_on(condition: &Value) -> Option<PrimitiveRef> {
    let kind = Kind::ALL.into_iter().find(|kind| condition["type"].as_str() == Some(kind.api_kind()))?;
    Some(PrimitiveRef { kind, name: condition["name"].as_str()?.to_owned() })
}

fn is_node(manifest: &Manifest, node: &str) -> bool {
    let object = &manifest.object;
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    match node.split_once('/') {
        Some(("gate", wanted)) => object["kind"] == "Gate" && name == wanted,
        Some(("job", wanted)) => object["kind"] == "Job" && name == wanted,
        _ => false,
    }
}

/// The way from there back to there, if there is one: depth first, each node once.
fn cycle_from(start: &str, edges: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    let (mut seen, mut paths) = (BTreeSet::new(), vec![vec![start.to_owned()]]);
    while let Some(path) = paths.pop() {
        let Some(last) = path.last() else { continue };
        for next in edges.get(last).into_iter().flatten() {
            if next == start {
                return Some(path);
            }
            if seen.insert(next.clone()) {
                paths.push([path.as_slice(), std::slice::from_ref(next)].concat());
            }
        }
    }
    None
}

/// How many pods of it come at once, or in the end: an index of an Indexed Job counts for itself.
fn pods_of(object: &Value) -> u64 {
    let spec = match object["kind"].as_str() {
        Some("CronJob") => &object["spec"]["jobTemplate"]["spec"],
        _ => &object["spec"],
    };
    let number = |field: &str| spec[field].as_u64();
    match object["kind"].as_str() {
        Some("Job" | "CronJob") if spec["completionMode"] == "Indexed" => number("completions").unwrap_or(1),
        Some("Job" | "CronJob") => number("parallelism").unwrap_or(1).max(number("completions").unwrap_or(1)),
        Some("Deployment" | "StatefulSet" | "ReplicaSet") => number("replicas").unwrap_or(1),
        // As many as there are nodes.
        Some("DaemonSet") => u64::MAX / 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::manifests::parse;

    fn found(text: &str) -> Vec<(String, String)> {
        let settings = Settings::of_chart("waiter");
        let findings = lint(&parse("f", text).unwrap(), &settings, Timestamp::UNIX_EPOCH);
        findings
            .into_iter()
            .map(|finding| (format!("{} {}", finding.code, finding.object), finding.message))
            .collect()
    }

    fn job(name: &str, annotations: &str, spec: &str) -> String {
        format!(
            "apiVersion: batch/v1\nkind: Job\nmetadata: {{name: {name}, annotations: {{{annotations}}}}}\nspec: {{{spec} template: {{spec: {{restartPolicy: Never, containers: [{{name: main, image: x}}]}}}}}}\n---\n"
        )
    }

    fn primitive(kind: &str, name: &str, spec: &str) -> String {
        format!(
            "apiVersion: konductor.io/v1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n---\n"
        )
    }

    fn claim(holder: &str, name: &str) -> String {
        format!(
            "apiVersion: konductor.io/v1\nkind: Claim\nmetadata: {{name: {holder}-{name}}}\nspec: {{primitive: {{kind: Mutex, name: {name}}}, holder: {holder}}}\n---\n"
        )
    }

    fn on(type_: &str, name: &str) -> String {
        format!("conditions: [{{type: {type_}, name: {name}}}]")
    }

    #[rstest]
    #[case::refused(job("a", "konductor.io/mutx: db", ""), "KON01 Job/a", "did you mean konductor.io/mutex?")]
    #[case::warned(
        primitive("Mutex", "db", "") + &job("a", "konductor.io/mutex: db", "activeDeadlineSeconds: 9,"),
        "KON02 Job/a", "runs while it waits"
    )]
    #[case::misspelt(
        primitive("Mutex", "database", "") + &job("a", "konductor.io/mutex: datbase", ""),
        "KON03 Job/a", "did you mean database?"
    )]
    #[case::defined_elsewhere(
        job("a", "konductor.io/mutex: db", ""),
        "KON03 Job/a",
        "mutex/db is defined nowhere here"
    )]
    #[case::a_gate_on_nothing(primitive("Gate", "g", &on("Barrier", "b")), "KON03 Gate/g", "barrier/b")]
    #[case::a_job_for_its_own_gate(
        primitive("Gate", "g", &on("Job", "a")) + &job("a", "konductor.io/gate: g", ""),
        "KON04 Gate/g", "gate/g waits for job/a waits for gate/g"
    )]
    #[case::gates_for_each_other(
        primitive("Gate", "a", &on("Gate", "b")) + &primitive("Gate", "b", &on("Gate", "a")),
        "KON04 Gate/a", "none of them ever goes on"
    )]
    #[case::too_few(
        primitive("Barrier", "b", "expected: 3") + &job("a", "konductor.io/barrier: b", ""),
        "KON05 Barrier/b", "only 1 of these manifests"
    )]
    #[case::opposite_orders(
        primitive("Mutex", "a", "") + &primitive("Mutex", "b", "")
            + &claim("ann", "a") + &claim("ann", "b") + &claim("bob", "b") + &claim("bob", "a"),
        "KON06 Claim/ann-a", "ann takes mutex/a and then mutex/b, and bob the other way round"
    )]
    #[case::a_claim_on_nothing(claim("ann", "a"), "KON03 Claim/ann-a", "mutex/a is defined nowhere")]
    fn what_is_planted_is_found(#[case] text: String, #[case] what: &str, #[case] words: &str) {
        let all = found(&text);
        let [(place, message)] = all.as_slice() else { panic!("one finding: {all:?}") };
        assert_eq!(place, what);
        assert!(message.contains(words), "{message}");
    }

    #[test]
    fn nothing_is_said_of_what_is_as_it_should_be() {
        let text = primitive("Mutex", "db", "")
            + &primitive("Gate", "ready", &on("Job", "a"))
            + &primitive("Barrier", "meet", "expected: 2")
            + &job("a", "konductor.io/mutex: db, konductor.io/barrier: meet", "")
            + &job("b", "'konductor.io/gate': ready, konductor.io/barrier: meet", "")
            + "apiVersion: v1\nkind: Service\nmetadata: {name: s}\n";
        // b meets a at the barrier, and waits for a's end before: that is for a person to see.
        assert_eq!(found(&text.replace("konductor.io/gate': ready, ", "konductor.io/mutex': db, ")), []);
    }
}
