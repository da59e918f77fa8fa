//! Live: what is done with a cluster.
//!
//! May touch: primitives of one cluster, by the caller's own rights. What must stay true: a status is only read; what could not
//! be done says which object, why, and the way out, and ends with the code for it; a wait watches, and asks for nothing again
//! and again.

use std::pin::pin;
use std::time::Duration;

use futures::TryStreamExt;
use konductor_api::annotations::PARTICIPANT_LABEL;
use konductor_api::participation::Kind;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams,
    PostParams,
};
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::{Value, json};

use crate::args::{CommonVerb, Connection, Format, GateVerb, List, Look, OnceVerb, Verb, Wait, WaitVerb};
use crate::cluster::{Cluster, ClusterError, connect};
use crate::create::Create;
use crate::exit::Exit;
use crate::rows::{as_json, row, table, wide_row};
use crate::told::{condition, told};

/// What is asked of primitives of one kind.
#[derive(Clone, Debug)]
pub enum Ask {
    /// Make one.
    Create(Create),
    /// Delete one.
    Delete(String),
    /// Show all.
    List(List),
    /// Show one.
    Status(Look, String),
    /// Set, or take away, what a person decides about a gate.
    Override(String, Option<&'static str>),
    /// Wait until it is open, or done.
    Wait(Wait),
    /// Whether it has been executed; with a code that says so.
    Check(String, bool),
}

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// No cluster.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The API server says no.
    #[error("{what}: {said}{hint}")]
    Refused {
        /// Which object.
        what: String,
        /// Its words.
        said: String,
        /// What can be done.
        hint: &'static str,
        /// The code to end with.
        exit: Exit,
    },
    /// It does not answer.
    #[error("{what}: the API server cannot be asked: {said}")]
    Unreachable {
        /// Which object.
        what: String,
        /// Why.
        said: String,
    },
    /// It is not as it was asked for.
    #[error("{0}")]
    Other(String, Exit),
}

impl LiveError {
    /// The code to end with.
    pub const fn exit(&self) -> Exit {
        match self {
            Self::Refused { exit, .. } | Self::Other(_, exit) => *exit,
            Self::Cluster(_) | Self::Unreachable { .. } => Exit::Error,
        }
    }
}

/// What somebody is told, and how it went.
pub type Told = Result<(String, Exit), LiveError>;

impl Ask {
    /// What can be asked of every kind.
    pub fn of(kind: Kind, verb: Verb) -> Self {
        match verb {
            Verb::Create(flags) => Self::Create(flags.of(kind)),
            Verb::Common(CommonVerb::Delete(named)) => Self::Delete(named.name),
            Verb::Common(CommonVerb::List(list)) => Self::List(list),
            Verb::Common(CommonVerb::Status { name, look }) => Self::Status(look, name),
        }
    }

    /// The same for what opens by itself.
    pub fn of_waiting(kind: Kind, verb: WaitVerb) -> Self {
        match verb {
            WaitVerb::Wait(wait) => Self::Wait(wait),
            WaitVerb::Any(verb) => Self::of(kind, verb),
        }
    }

    /// The same for gates.
    pub fn of_gate(verb: GateVerb) -> Self {
        match verb {
            GateVerb::Create(flags) => Self::Create(flags.into()),
            GateVerb::Open(named) => Self::Override(named.name, Some("Open")),
            GateVerb::Close(named) => Self::Override(named.name, Some("Closed")),
            GateVerb::Clear(named) => Self::Override(named.name, None),
            GateVerb::Wait(wait) => Self::Wait(wait),
            GateVerb::Common(verb) => Self::of(Kind::Gate, Verb::Common(verb)),
        }
    }

    /// The same for onces.
    pub fn of_once(verb: OnceVerb) -> Self {
        match verb {
            OnceVerb::Check { name, exit_code, .. } => Self::Check(name, exit_code),
            OnceVerb::Any(verb) => Self::of(Kind::Once, verb),
        }
    }
}

/// Does it.
pub async fn ask(connection: &Connection, kind: Kind, ask: Ask) -> Told {
    let cluster = connect(connection).await?;
    let one = |name: &str| One { kind, name: name.to_owned(), api: cluster.api(kind) };
    match ask {
        Ask::Create(create) => one(&create.name).create(&cluster.namespace, &create.spec).await,
        Ask::Delete(name) => one(&name).delete().await,
        Ask::List(list) => all(kind, &cluster, &list).await,
        Ask::Status(look, name) => one(&name).status(cluster.format(&look)).await,
        Ask::Override(name, to) => one(&name).decide(to).await,
        Ask::Wait(wait) => one(&wait.name).wait(wait.timeout.map(|time| time.0.as_nanoseconds())).await,
        Ask::Check(name, with_code) => one(&name).check(with_code).await,
    }
}

/// Everything of every kind.
pub async fn list_all(connection: &Connection, list: &List) -> Told {
    let look = &list.look;
    let cluster = connect(connection).await?;
    let mut text = String::new();
    for kind in Kind::ALL {
        let (rows, _) = all(kind, &cluster, list).await?;
        if !rows.is_empty() {
            if matches!(cluster.format(look), Format::Text | Format::Wide) && !text.is_empty() {
                text.push('\n');
            }
            text.push_str(&rows);
        }
    }
    Ok((text, Exit::Done))
}

// ------------------------------------------------------------------------------------------------------- calls

impl Cluster {
    fn format(&self, look: &Look) -> Format {
        look.output.or(self.output).unwrap_or(Format::Text)
    }

    /// The primitives of that kind.
    pub(crate) fn api(&self, kind: Kind) -> Api<DynamicObject> {
        self.api_of(&resource(kind))
    }

    /// The objects of any kind.
    pub(crate) fn api_of(&self, resource: &ApiResource) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.namespace, resource)
    }
}

pub(crate) fn resource(kind: Kind) -> ApiResource {
    let version = GroupVersionKind::gvk("konductor.io", "v1", kind.api_kind());
    ApiResource { plural: kind.plural().to_owned(), ..ApiResource::from_gvk(&version) }
}

/// That primitive.
pub(crate) async fn get(cluster: &Cluster, kind: Kind, name: &str) -> Result<Value, LiveError> {
    One { kind, name: name.to_owned(), api: cluster.api(kind) }.get().await
}

/// Everything of a namespace that takes part, and what it takes part in.
pub(crate) async fn everything(connection: &Connection) -> Result<Vec<Value>, LiveError> {
    let cluster = connect(connection).await?;
    let mut all = Vec::new();
    let claims = ApiResource::from_gvk(&GroupVersionKind::gvk("konductor.io", "v1", "Claim"));
    for resource in Kind::ALL.into_iter().map(resource).chain([claims]) {
        let found = cluster.api_of(&resource).list(&ListParams::default()).await;
        let found = found.map_err(|error| refused(&resource.plural, &error))?;
        all.extend(found.items.iter().map(|object| typed(object, &resource)));
    }
    let labelled = ListParams::default().labels(PARTICIPANT_LABEL);
    for (group, kind) in [("batch", "Job"), ("", "Pod")] {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind));
        let found = cluster.api_of(&resource).list(&labelled).await;
        let found = found.map_err(|error| refused(&resource.plural, &error))?;
        // The pods of a Job are the Job's.
        let owned = |object: &&DynamicObject| {
            object.metadata.owner_references.iter().flatten().all(|owner| owner.kind != "Job")
        };
        all.extend(found.items.iter().filter(owned).map(|object| typed(object, &resource)));
    }
    Ok(all)
}

/// A list says of itself what its items are, and the items do not.
fn typed(object: &DynamicObject, resource: &ApiResource) -> Value {
    let mut object = as_value(object);
    object["apiVersion"] = json!(resource.api_version);
    object["kind"] = json!(resource.kind);
    object
}

/// One primitive.
struct One {
    kind: Kind,
    name: String,
    api: Api<DynamicObject>,
}

async fn all(kind: Kind, cluster: &Cluster, list: &List) -> Told {
    let api = if list.all_namespaces {
        Api::all_with(cluster.client.clone(), &resource(kind))
    } else {
        cluster.api(kind)
    };
    let what = kind.plural();
    let found = api.list(&ListParams::default()).await.map_err(|error| refused(what, &error))?;
    let objects: Vec<Value> = found.items.iter().map(as_value).collect();
    let text = match cluster.format(&list.look) {
        shown @ (Format::Text | Format::Wide) => table(
            &objects
                .iter()
                .map(|object| {
                    let namespace =
                        list.all_namespaces.then(|| ("namespace", object["metadata"]["namespace"].clone()));
                    let row = if shown == Format::Wide { wide_row(kind, object) } else { row(kind, object) };
                    namespace.into_iter().chain(row).collect()
                })
                .collect::<Vec<_>>(),
            !list.no_headers,
        ),
        Format::Json => lines(objects.iter().map(|object| as_json(&row(kind, object)).to_string())),
        Format::Name => lines(objects.iter().map(|object| name_of(kind, object))),
        Format::Yaml => objects.iter().map(as_yaml).collect(),
    };
    Ok((text, Exit::Done))
}

impl One {
    fn what(&self) -> String {
        format!("{}/{}", self.kind.lower(), self.name)
    }

    async fn get(&self) -> Result<Value, LiveError> {
        let found = self.api.get(&self.name).await.map_err(|error| refused(&self.what(), &error))?;
        Ok(as_value(&found))
    }

    async fn create(self, namespace: &str, spec: &Value) -> Told {
        let object = json!({
            "apiVersion": "konductor.io/v1", "kind": self.kind.api_kind(),
            "metadata": {"name": self.name, "namespace": namespace}, "spec": spec,
        });
        let object: DynamicObject = serde_json::from_value(object)
            .map_err(|error| LiveError::Other(format!("{}: {error}", self.what()), Exit::Usage))?;
        match self.api.create(&PostParams::default(), &object).await {
            Ok(_) => Ok((format!("{} created\n", self.what()), Exit::Done)),
            Err(kube::Error::Api(status)) if status.code == 409 => {
                let there = self.get().await?;
                let same =
                    spec.as_object().into_iter().flatten().all(|(key, value)| there["spec"][key] == *value);
                if same {
                    return Ok((format!("{} is there already\n", self.what()), Exit::Done));
                }
                Err(LiveError::Other(
                    format!(
                        "{} is there already, and is another one; delete it first, or choose another name",
                        self.what()
                    ),
                    Exit::Error,
                ))
            }
            Err(error) => Err(refused(&self.what(), &error)),
        }
    }

    async fn delete(self) -> Told {
        match self.api.delete(&self.name, &DeleteParams::default()).await {
            Ok(_) => Ok((format!("{} deleted\n", self.what()), Exit::Done)),
            Err(kube::Error::Api(status)) if status.code == 404 => {
                Ok((format!("{} is not there\n", self.what()), Exit::Done))
            }
            Err(error) => Err(refused(&self.what(), &error)),
        }
    }

    async fn status(self, output: Format) -> Told {
        let object = self.get().await?;
        let text = match output {
            Format::Text | Format::Wide => told(self.kind, &object),
            Format::Json => {
                let mut flat = as_json(&row(self.kind, &object));
                flat["namespace"] = object["metadata"]["namespace"].clone();
                format!("{flat}\n")
            }
            Format::Yaml => as_yaml(&object),
            Format::Name => format!("{}\n", name_of(self.kind, &object)),
        };
        Ok((text, Exit::Done))
    }

    async fn decide(self, to: Option<&str>) -> Told {
        let patch = Patch::Merge(json!({"spec": {"override": to}}));
        self.api
            .patch(&self.name, &PatchParams::default(), &patch)
            .await
            .map_err(|error| refused(&self.what(), &error))?;
        let said = match to {
            Some("Open") => "is opened by hand",
            Some(_) => "is closed by hand",
            None => "follows its conditions again",
        };
        Ok((format!("{} {said}\n", self.what()), Exit::Done))
    }

    async fn check(self, with_code: bool) -> Told {
        let object = self.get().await?;
        let executed = object.pointer("/status/executed") == Some(&json!(true));
        let said = if executed { "has been executed" } else { "has not been executed" };
        let exit = if executed || !with_code { Exit::Done } else { Exit::NotYet };
        Ok((format!("{} {said}\n", self.what()), exit))
    }

    /// `limit` in nanoseconds: none, or one look.
    async fn wait(self, limit: Option<i64>) -> Told {
        let first = self.get().await?;
        if let Some(done) = self.stands(&first) {
            return done;
        }
        if limit == Some(0) {
            return Err(self.not_yet(&first, "is", Exit::NotYet));
        }
        let look = async {
            let changes = watcher::watch_object(self.api.clone(), &self.name).default_backoff();
            let mut changes = pin!(changes);
            loop {
                // A watch that breaks is taken up again by itself.
                match changes.try_next().await {
                    Ok(Some(Some(object))) => {
                        let object = as_value(&object);
                        if let Some(done) = self.stands(&object) {
                            return done;
                        }
                    }
                    Ok(Some(None)) => {
                        let gone = format!("{} was deleted while it was waited for", self.what());
                        return Err(LiveError::Other(gone, Exit::NotFound));
                    }
                    Ok(None) => return Err(LiveError::Other("the watch ended".to_owned(), Exit::Error)),
                    Err(_) => {}
                }
            }
        };
        let Some(limit) = limit.and_then(|limit| u64::try_from(limit).ok()) else { return look.await };
        if let Ok(done) = tokio::time::timeout(Duration::from_nanos(limit), look).await {
            return done;
        }
        // Once more, at the end.
        let now = self.get().await?;
        self.stands(&now).unwrap_or_else(|| Err(self.not_yet(&now, "is still", Exit::TimedOut)))
    }

    /// Open or done, or never; `None`: not yet.
    fn stands(&self, object: &Value) -> Option<Told> {
        let current = object.pointer("/status/observedGeneration") == object.pointer("/metadata/generation");
        match object.pointer("/status/phase").and_then(Value::as_str).filter(|_| current)? {
            "Open" | "Done" => {
                let phase = if self.kind == Kind::WaitGroup { "done" } else { "open" };
                Some(Ok((format!("{} is {phase}\n", self.what()), Exit::Done)))
            }
            "Failed" => Some(Err(self.not_yet(object, "has failed:", Exit::Never))),
            _ => None,
        }
    }

    fn not_yet(&self, object: &Value, verb: &str, exit: Exit) -> LiveError {
        let domain = if self.kind == Kind::WaitGroup { "Done" } else { "Open" };
        let said = condition(object, domain).and_then(|condition| condition["message"].as_str());
        let message = said.unwrap_or("not looked at yet");
        let state =
            if exit == Exit::Never { String::new() } else { format!(" not {}:", domain.to_lowercase()) };
        LiveError::Other(format!("{} {verb}{state} {message}", self.what()), exit)
    }
}

pub(crate) fn as_value(object: &DynamicObject) -> Value {
    serde_json::to_value(object).unwrap_or_default()
}

fn as_yaml(object: &Value) -> String {
    let mut object = object.clone();
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("managedFields");
    }
    serde_saphyr::to_string(&object).map_or_else(|_| String::new(), |text| format!("---\n{text}"))
}

fn name_of(kind: Kind, object: &Value) -> String {
    format!("{}.konductor.io/{}", kind.lower(), object["metadata"]["name"].as_str().unwrap_or_default())
}

fn lines(all: impl Iterator<Item = String>) -> String {
    all.flat_map(|line| [line, "\n".to_owned()]).collect()
}

/// The API server's no, with what can be done.
pub(crate) fn refused(what: &str, error: &kube::Error) -> LiveError {
    let kube::Error::Api(status) = error else {
        return LiveError::Unreachable { what: what.to_owned(), said: error.to_string() };
    };
    let (hint, exit) = match status.code {
        // No such kind looks like no such object, but names none.
        404 if status.details.as_ref().is_none_or(|details| details.name.is_empty()) => {
            ("; Konductor's definitions are not in this cluster: install the chart first", Exit::Error)
        }
        404 => ("; koncli KIND list shows what there is, and -n NAMESPACE looks elsewhere", Exit::NotFound),
        401 | 403 => ("; ask whoever administers the cluster for that right", Exit::Denied),
        _ => ("", Exit::Error),
    };
    LiveError::Refused { what: what.to_owned(), said: status.message.clone(), hint, exit }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(code: u16, name: &str) -> (String, Exit) {
        let status = json!({"code": code, "message": "no", "reason": "x", "status": "Failure", "details": {"name": name}});
        let error = refused("mutex/db", &kube::Error::Api(Box::new(serde_json::from_value(status).unwrap())));
        (error.to_string(), error.exit())
    }

    #[test]
    fn each_no_has_a_way_out_and_a_code() {
        let (words, exit) = said(404, "");
        assert!(words.contains("definitions are not in this cluster: install the chart"), "{words}");
        assert_eq!(exit, Exit::Error);
        assert_eq!(said(404, "db").1, Exit::NotFound);
        assert!(said(403, "db").0.contains("ask whoever administers") && said(403, "db").1 == Exit::Denied);
        assert_eq!(said(500, "db").1, Exit::Error);
    }
}
