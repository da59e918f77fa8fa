//! The rules (CEL) of our definitions, evaluated without an API server.
//!
//! What stands in the generated definitions is run against the specs of `rules.yaml` and of `examples/`, in the way of
//! the API server: defaults are filled in first, null counts as absent, and a rule runs wherever its schema describes
//! something that is there. What must stay true: every rule is broken by a spec that a person could write.
//!
//! Not evaluated are patterns, bounds and the estimate of a rule's cost; these and the rules once more are for the API
//! server to judge, in `tests/e2e/tests/together/crds.rs`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy.toml permits both in tests, but not in their helpers"
)]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use cel::{Context, Env};
use serde::Deserialize;
use serde_json::{Map, Value, json};

// ------------------------------------------------------------------------------------------------------ cases

#[derive(Deserialize)]
struct Cases {
    refused: Vec<Refused>,
    accepted: Vec<Accepted>,
}

#[derive(Deserialize)]
struct Refused {
    kind: String,
    spec: Value,
    words: String,
    /// What it is to replace.
    was: Option<Value>,
}

#[derive(Deserialize)]
struct Accepted {
    kind: String,
    spec: Value,
}

fn cases() -> Cases {
    serde_saphyr::from_str(include_str!("rules.yaml")).unwrap()
}

/// Every manifest of one of our kinds in `examples/`, by its file.
fn examples() -> Vec<(PathBuf, Value)> {
    fn collect(folder: &Path, found: &mut Vec<(PathBuf, Value)>) {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                collect(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "yaml") {
                let text = std::fs::read_to_string(&path).unwrap();
                let manifests: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
                let ours =
                    manifests.into_iter().filter(|manifest| manifest["apiVersion"] == "konductor.io/v1");
                found.extend(ours.map(|manifest| (path.clone(), manifest)));
            }
        }
    }
    let mut found = Vec::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples"), &mut found);
    found
}

// ------------------------------------------------------------------------------------------------------ rules

/// A rule, and the path of the schema that it stands on, e.g. `Gate.spec.conditions[]`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rule {
    path: String,
    expression: String,
    message: String,
}

/// The schema of each kind.
static SCHEMAS: LazyLock<BTreeMap<String, Value>> = LazyLock::new(|| {
    let schema = |definition: &Value| definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone();
    konductor_api::crds()
        .iter()
        .map(|definition| {
            let versions = definition.spec.versions.len();
            assert_eq!(versions, 1, "each version would have rules of its own");
            (definition.spec.names.kind.clone(), schema(&json!(definition)))
        })
        .collect()
});

fn rules_on(schema: &Value, path: &str) -> Vec<Rule> {
    let text = |rule: &Value, field: &str| rule[field].as_str().unwrap_or_default().to_owned();
    let rules = schema["x-kubernetes-validations"].as_array().into_iter().flatten();
    rules
        .map(|rule| Rule {
            path: path.to_owned(),
            expression: text(rule, "rule"),
            message: text(rule, "message"),
        })
        .collect()
}

/// Calls `visit` for each schema below and including this one, with its path.
fn every_schema(schema: &Value, path: &str, visit: &mut impl FnMut(&Value, &str)) {
    visit(schema, path);
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        every_schema(property, &format!("{path}.{name}"), visit);
    }
    for (field, mark) in [("items", "[]"), ("additionalProperties", "{}")] {
        if schema[field].is_object() {
            every_schema(&schema[field], &format!("{path}{mark}"), visit);
        }
    }
}

fn every_rule() -> BTreeSet<Rule> {
    let mut rules = BTreeSet::new();
    for (kind, schema) in SCHEMAS.iter() {
        every_schema(schema, kind, &mut |schema, path| rules.extend(rules_on(schema, path)));
    }
    rules
}

// ------------------------------------------------------------------------------------------------- evaluation

/// Fills in defaults, as the API server does before it validates: where nothing is, and where null is not allowed.
fn default_in(value: &mut Value, schema: &Value) {
    if let Some(object) = value.as_object_mut() {
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let nothing =
                object.get(name).is_none_or(|found| found.is_null() && property["nullable"] != json!(true));
            if nothing && let Some(default) = property.get("default") {
                object.insert(name.clone(), default.clone());
            }
            if let Some(found) = object.get_mut(name) {
                default_in(found, property);
            }
        }
        if schema["additionalProperties"].is_object() {
            object.values_mut().for_each(|found| default_in(found, &schema["additionalProperties"]));
        }
    }
    for item in value.as_array_mut().into_iter().flatten() {
        default_in(item, &schema["items"]);
    }
}

/// The rules that a value of that schema breaks.
fn broken(value: &Value, old: Option<&Value>, schema: &Value, path: &str) -> Vec<Rule> {
    if value.is_null() {
        return Vec::new();
    }
    let rules = rules_on(schema, path).into_iter();
    // A rule about a change is asked when there is one.
    let rules = rules.filter(|rule| old.is_some() || !rule.expression.contains("oldSelf"));
    let mut broken: Vec<_> = rules.filter(|rule| !holds(rule, value, old)).collect();
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        broken.extend(value.get(name).map_or_else(Vec::new, |found| {
            let old = old.and_then(|old| old.get(name));
            self::broken(found, old, property, &format!("{path}.{name}"))
        }));
    }
    for item in value.as_array().into_iter().flatten() {
        broken.extend(self::broken(item, None, &schema["items"], &format!("{path}[]")));
    }
    if schema["additionalProperties"].is_object() {
        for found in value.as_object().into_iter().flat_map(Map::values) {
            broken.extend(self::broken(found, None, &schema["additionalProperties"], &format!("{path}{{}}")));
        }
    }
    broken
}

static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

fn holds(rule: &Rule, value: &Value, old: Option<&Value>) -> bool {
    let program = ENVIRONMENT.compile(&rule.expression).unwrap_or_else(|error| panic!("{rule:?}: {error}"));
    let mut context = Context::with_env(Arc::clone(&ENVIRONMENT));
    context.add_variable_from_value("self", as_cel(value));
    if let Some(old) = old {
        context.add_variable_from_value("oldSelf", as_cel(old));
    }
    match program.execute(&context) {
        Ok(cel::Value::Bool(holds)) => holds,
        other => panic!("{rule:?} of {value} is {other:?}"),
    }
}

/// What `self` is in a rule: whole numbers are int and never uint, a field that is null is none, and names that are
/// reserved in CEL are escaped.
fn as_cel(value: &Value) -> cel::Value {
    match value {
        Value::Null => cel::Value::Null,
        Value::Bool(truth) => cel::Value::Bool(*truth),
        Value::Number(number) => {
            number.as_i64().map_or_else(|| cel::Value::Float(number.as_f64().unwrap()), cel::Value::Int)
        }
        Value::String(text) => cel::Value::from(text.as_str()),
        Value::Array(items) => cel::Value::from(items.iter().map(as_cel).collect::<Vec<_>>()),
        Value::Object(fields) => {
            let there = fields.iter().filter(|(_, value)| !value.is_null());
            let fields: HashMap<String, cel::Value> =
                there.map(|(name, value)| (escaped(name), as_cel(value))).collect();
            cel::Value::from(fields)
        }
    }
}

/// As Kubernetes escapes the name of a property for its rules.
fn escaped(name: &str) -> String {
    const RESERVED: [&str; 21] = [
        "true",
        "false",
        "null",
        "in",
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
        "void",
        "while",
    ];
    if RESERVED.contains(&name) {
        return format!("__{name}__");
    }
    let parts = [("__", "__underscores__"), (".", "__dot__"), ("-", "__dash__"), ("/", "__slash__")];
    parts.iter().fold(name.to_owned(), |name, (part, escape)| name.replace(part, escape))
}

/// The rules that a spec of that kind breaks, or the change to it.
fn broken_by(kind: &str, spec: &Value, was: Option<&Value>) -> Vec<Rule> {
    let schema = &SCHEMAS[kind];
    let mut object = json!({"metadata": {"name": "sample"}, "spec": spec});
    default_in(&mut object, schema);
    let old = was.map(|was| json!({"metadata": {"name": "sample"}, "spec": was}));
    broken(&object, old.as_ref(), schema, kind)
}

// ------------------------------------------------------------------------------------------------------ tests

#[test]
fn what_makes_no_sense_breaks_the_rule_that_says_so() {
    for Refused { kind, spec, words, was } in cases().refused {
        let broken = broken_by(&kind, &spec, was.as_ref());
        let told: Vec<_> = broken.iter().map(|rule| rule.message.as_str()).collect();
        assert!(
            told.iter().any(|message| message.contains(&words)),
            "{kind} {spec}: {words:?} not in {told:?}"
        );
    }
}

#[test]
fn what_makes_sense_breaks_no_rule() {
    for Accepted { kind, spec } in cases().accepted {
        assert_eq!(broken_by(&kind, &spec, None), [], "{kind} {spec}");
    }
    let examples = examples();
    assert!(examples.len() >= 15, "the examples are there");
    for (path, manifest) in examples {
        let spec = manifest.get("spec").cloned().unwrap_or_else(|| json!({}));
        assert_eq!(broken_by(manifest["kind"].as_str().unwrap(), &spec, None), [], "{}", path.display());
    }
}

#[test]
fn every_rule_is_broken_by_one_of_the_cases() {
    let seen: BTreeSet<_> = cases()
        .refused
        .iter()
        .flat_map(|case| broken_by(&case.kind, &case.spec, case.was.as_ref()))
        .collect();
    let every = every_rule();
    assert!(every.len() >= 30, "the rules are found: {}", every.len());
    let without: Vec<_> = every.difference(&seen).collect();
    assert!(without.is_empty(), "add a case to rules.yaml for {without:#?}");
}

#[test]
fn every_kind_has_accepted_cases() {
    let accepted: BTreeSet<_> = cases().accepted.into_iter().map(|case| case.kind).collect();
    assert_eq!(accepted, SCHEMAS.keys().cloned().collect());
}

#[test]
fn every_rule_has_a_sentence_and_a_place_in_the_spec() {
    for rule in every_rule() {
        assert!(rule.message.len() > 20, "{rule:?}");
        assert!(rule.path.contains(".spec"), "nobody's spec breaks it: {rule:?}");
    }
}

#[test]
fn names_are_escaped_as_kubernetes_does() {
    for (name, escape) in [("namespace", "__namespace__"), ("a-b", "a__dash__b"), ("type", "type")] {
        assert_eq!(escaped(name), escape);
    }
}
