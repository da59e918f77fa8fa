//! Create: the spec of a primitive from flags.
//!
//! Pure. What must stay true: what is not given is left to the API server's defaults.

use konductor_api::participation::Kind;
use serde_json::{Map, Value, json};

use crate::args::{Condition, Create as Flags, CreateGate, GoTime};

/// A primitive to be made.
#[derive(Clone, Debug, PartialEq)]
pub struct Create {
    /// Its name.
    pub name: String,
    /// What it shall be.
    pub spec: Value,
}

fn spec(fields: impl IntoIterator<Item = (&'static str, Option<Value>)>) -> Value {
    let given = fields.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
    Value::Object(given.collect::<Map<_, _>>())
}

/// 0 is "none", as the Go project had it.
fn time(time: Option<GoTime>) -> Option<Value> {
    time.filter(|time| time.0.as_nanoseconds() != 0).map(|time| json!(time.0.to_string()))
}

impl Flags {
    /// What they say of that kind.
    pub fn of(self, kind: Kind) -> Create {
        let ttl = time(self.ttl);
        let spec = match kind {
            Kind::Semaphore => spec([("permits", Some(json!(self.permits.unwrap_or(1)))), ("ttl", ttl)]),
            Kind::Barrier => spec([
                ("expected", Some(json!(self.expected.unwrap_or(1)))),
                ("timeout", time(self.timeout)),
                ("quorum", self.quorum.filter(|quorum| *quorum > 0).map(|quorum| json!(quorum))),
            ]),
            Kind::Lease => spec([("ttl", ttl.or_else(|| Some(json!("10m"))))]),
            Kind::Gate | Kind::Mutex | Kind::RWMutex | Kind::Once | Kind::WaitGroup => spec([("ttl", ttl)]),
        };
        Create { name: self.name, spec }
    }
}

impl From<CreateGate> for Create {
    fn from(flags: CreateGate) -> Self {
        let conditions: Vec<_> = flags.conditions.iter().map(Condition::json).collect();
        let conditions = (!conditions.is_empty()).then(|| json!(conditions));
        Self { name: flags.name, spec: spec([("conditions", conditions), ("timeout", time(flags.timeout))]) }
    }
}

impl Condition {
    fn json(&self) -> Value {
        spec([
            ("type", Some(json!(self.type_))),
            ("name", Some(json!(self.name))),
            ("state", self.state.as_ref().map(|state| json!(state))),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(name: &str) -> Flags {
        Flags { name: name.to_owned(), ..Flags::default() }
    }

    #[test]
    fn defaults_are_those_that_the_go_project_had() {
        let made = |kind| flags("x").of(kind).spec;
        assert_eq!(made(Kind::Semaphore), json!({"permits": 1}));
        assert_eq!(made(Kind::Barrier), json!({"expected": 1}));
        assert_eq!(made(Kind::Lease), json!({"ttl": "10m"}));
        assert_eq!(made(Kind::Mutex), json!({}));
    }

    #[test]
    fn what_is_given_stands_in_the_spec_and_nought_is_nothing() {
        let given = Flags {
            ttl: Some("1h30m".parse().unwrap()),
            permits: Some(3),
            expected: Some(5),
            quorum: Some(0),
            timeout: Some("0".parse().unwrap()),
            ..flags("x")
        };
        assert_eq!(given.clone().of(Kind::Semaphore).spec, json!({"permits": 3, "ttl": "1h30m0s"}));
        assert_eq!(given.of(Kind::Barrier).spec, json!({"expected": 5}));
        let gate = CreateGate {
            name: "g".to_owned(),
            conditions: vec!["Job/etl=Failed".parse().unwrap(), "Barrier/b".parse().unwrap()],
            timeout: None,
        };
        let expected = json!({"conditions": [
            {"type": "Job", "name": "etl", "state": "Failed"}, {"type": "Barrier", "name": "b"}]});
        assert_eq!(Create::from(gate).spec, expected);
    }
}
