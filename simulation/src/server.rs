//! The server: what the API server answers to one request, at the moment at which it is dealt with.
//!
//! No time passes here. What must stay true: what is answered is what a real API server of 1.36 answers, as far as the
//! operator can tell: versions and UIDs that writes name are conditions, a status subresource changes a status (of pods and
//! Jobs also labels, annotations and finalizers) and nothing else does.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::patch;
use crate::store::{Actor, Key, Refused, Resource, Version};

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) verb: Verb,
    /// `None`: something that is taken and forgotten, like an Event.
    pub(crate) resource: Option<Resource>,
    pub(crate) namespace: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) query: BTreeMap<String, String>,
    pub(crate) body: Value,
    pub(crate) metadata_only: bool,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Get,
    List,
    Watch,
    Create,
    Delete,
    Patch { status: bool, strategic: bool },
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) text: String,
}

impl Verb {
    pub(crate) const fn writes(self) -> bool {
        matches!(self, Self::Create | Self::Delete | Self::Patch { .. })
    }
}

// ------------------------------------------------------------------------------------------------------- reading

impl Ask {
    pub(crate) fn read(request: &http::request::Parts, body: &[u8]) -> Option<Self> {
        let query: BTreeMap<_, _> = request
            .uri
            .query()
            .unwrap_or_default()
            .split('&')
            .filter_map(|part| part.split_once('='))
            .map(|(key, value)| (key.to_owned(), decoded(value)))
            .collect();
        let mut words = request.uri.path().split('/').filter(|word| !word.is_empty());
        let group = match words.next()? {
            "api" => String::new(),
            "apis" => words.next()?.to_owned(),
            _ => return None,
        };
        let _version = words.next()?;
        let mut word = words.next()?;
        let mut namespace = None;
        if word == "namespaces" {
            namespace = Some(words.next()?.to_owned());
            word = words.next()?;
        }
        let resource = Resource::of_path(&group, word).map(|resource| match (resource, group.as_str()) {
            (Resource::NodeLease | Resource::Lease, "konductor.io") => Resource::Lease,
            (other, _) => other,
        });
        let name = words.next().map(ToOwned::to_owned);
        let status = words.next() == Some("status");
        let header = |name: &str| {
            request.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
        };
        let verb = match (request.method.as_str(), &name) {
            ("GET", Some(_)) => Verb::Get,
            ("GET", None) if query.get("watch").is_some_and(|watch| watch == "true") => Verb::Watch,
            ("GET", None) => Verb::List,
            ("POST", _) => Verb::Create,
            ("DELETE", _) => Verb::Delete,
            ("PATCH", _) => Verb::Patch { status, strategic: header("content-type").contains("strategic") },
            _ => return None,
        };
        Some(Self {
            verb,
            resource,
            namespace,
            name,
            query,
            body: serde_json::from_slice(body).unwrap_or_default(),
            metadata_only: header("accept").contains("as=PartialObjectMetadata"),
        })
    }

    fn key(&self) -> Option<Key> {
        Some(Key {
            resource: self.resource?,
            namespace: self.namespace.clone().unwrap_or_default(),
            name: self.name.clone()?,
        })
    }

    /// Is that object among those that are listed or watched?
    pub(crate) fn selects(&self, key: &Key, version: &Version) -> bool {
        let labels = &version.value["metadata"]["labels"];
        let selector = self.query.get("labelSelector").map_or("", String::as_str);
        let field = self.query.get("fieldSelector").and_then(|field| field.strip_prefix("metadata.name="));
        self.namespace.as_ref().is_none_or(|namespace| *namespace == key.namespace)
            && field.is_none_or(|name| name == key.name)
            && selector.split(',').filter(|part| !part.is_empty()).all(|part| match part.split_once('=') {
                Some((label, value)) => labels[label] == value,
                None => !labels[part].is_null(),
            })
    }
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let mut digit = || rest.next().and_then(|byte| char::from(byte).to_digit(16));
        bytes.push(match byte {
            b'%' => digit()
                .zip(digit())
                .and_then(|(high, low)| u8::try_from(high * 16 + low).ok())
                .unwrap_or(b'%'),
            b'+' => b' ',
            other => other,
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

// ----------------------------------------------------------------------------------------------------- answering

impl Answer {
    pub(crate) fn status(code: u16, reason: &str, message: &str) -> Self {
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "code": code, "reason": reason, "message": message,
        });
        Self { code, text: status.to_string() }
    }

    pub(crate) fn refused(refused: &Refused) -> Self {
        match refused {
            Refused::NotFound => Self::status(404, "NotFound", "not found"),
            Refused::AlreadyExists => Self::status(409, "AlreadyExists", "already exists"),
            Refused::Conflict(why) => Self::status(409, "Conflict", why),
            Refused::Invalid(why) => Self::status(422, "Invalid", why),
        }
    }

    fn of(version: &Version) -> Self {
        Self { code: 200, text: version.text.clone() }
    }
}

impl Cluster {
    /// Deals with a request now; not with watches.
    pub(crate) fn serve(&mut self, actor: Actor, ask: &Ask) -> Answer {
        let Some(resource) = ask.resource else {
            return Answer { code: 201, text: ask.body.to_string() };
        };
        match (ask.verb, ask.key()) {
            (Verb::List, _) => self.list(resource, ask),
            (Verb::Get, Some(key)) => match self.store.get(&key) {
                None => Answer::refused(&Refused::NotFound),
                Some(version) if ask.metadata_only => {
                    let metadata = &version.value["metadata"];
                    let partial = json!({
                        "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
                    });
                    Answer { code: 200, text: partial.to_string() }
                }
                Some(version) => Answer::of(version),
            },
            (Verb::Delete, Some(key)) => {
                let wanted = &ask.body["preconditions"]["uid"];
                let uid = self.store.get(&key).map(|version| version.value["metadata"]["uid"].clone());
                if !wanted.is_null() && uid.as_ref().is_some_and(|uid| uid != wanted) {
                    return Answer::refused(&Refused::Conflict(
                        "the UID in the precondition is another".to_owned(),
                    ));
                }
                match self.delete(actor, &key, 0) {
                    Ok(()) => Answer {
                        code: 200,
                        text: r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Success"}"#
                            .to_owned(),
                    },
                    Err(refused) => Answer::refused(&refused),
                }
            }
            (Verb::Patch { status, strategic }, Some(key)) => {
                let outcome =
                    self.update(actor, &key, |value| apply(resource, value, &ask.body, status, strategic));
                outcome.map_or_else(|refused| Answer::refused(&refused), |version| Answer::of(&version))
            }
            _ => Answer::status(405, "MethodNotAllowed", "the simulation does not do that"),
        }
    }

    fn list(&self, resource: Resource, ask: &Ask) -> Answer {
        let items: Vec<_> = self
            .store
            .list(resource)
            .filter(|(key, version)| ask.selects(key, version))
            .map(|(_, version)| version.text.as_str())
            .collect();
        let text = format!(
            r#"{{"kind":"{}List","apiVersion":"{}","metadata":{{"resourceVersion":"{}"}},"items":[{}]}}"#,
            resource.kind(),
            resource.api_version(),
            self.store.revision(),
            items.join(",")
        );
        Answer { code: 200, text }
    }
}

fn apply(
    resource: Resource,
    value: &mut Value,
    body: &Value,
    status: bool,
    strategic: bool,
) -> Result<(), Refused> {
    let before = value.clone();
    if strategic {
        patch::strategic(value, body);
    } else {
        patch::merge(value, body);
    }
    if value["metadata"]["resourceVersion"] != before["metadata"]["resourceVersion"] {
        return Err(Refused::Conflict("the object has been modified".to_owned()));
    }
    let built_in = matches!(resource, Resource::Pod | Resource::Job);
    if status {
        restore(value, &before, "spec");
        if !built_in {
            // The UID remains a condition.
            let uid = value["metadata"]["uid"].clone();
            restore(value, &before, "metadata");
            value["metadata"]["uid"] = uid;
        }
    } else {
        restore(value, &before, "status");
    }
    Ok(())
}

fn restore(value: &mut Value, before: &Value, field: &str) {
    if let Value::Object(map) = value {
        match before.get(field) {
            Some(was) => map.insert(field.to_owned(), was.clone()),
            None => map.remove(field),
        };
    }
}
