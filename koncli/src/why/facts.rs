//! The facts that [`super::why`] is told from.
//!
//! May touch: one cluster, reading only, by the caller's own rights. What must stay true: what may not be read is left out, and is
//! no failure, except for what is asked about itself.

use std::collections::BTreeMap;

use konductor_api::claim::ClaimSpec;
use konductor_api::participation::{Kind, PodPlan, PrimitiveSet, Role};
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams};
use serde_json::Value;

use super::{Facts, Part};
use crate::check::webhook;
use crate::cluster::Cluster;
use crate::exit::Exit;
use crate::live::{LiveError, as_value, refused, resource};
use crate::told::list;

/// As similar as a slip of the finger.
const SIMILAR: f64 = 0.85;

/// Of what is called `KIND/NAME`, or just `NAME`.
pub async fn collect(cluster: &Cluster, target: &str, name: Option<&str>) -> Result<Facts, LiveError> {
    let (kind, name) = match (name, target.split_once('/')) {
        (Some(name), _) => (target, name),
        (None, Some((kind, name))) => (kind, name),
        (None, None) => return of_any(cluster, target).await,
    };
    let kind = canonical(kind).ok_or_else(|| {
        let said = format!("there is no kind {kind:?}; write pod/NAME, job/NAME, claim/NAME, or the kind of a primitive: mutex/NAME");
        LiveError::Other(said, Exit::Usage)
    })?;
    let object = get(cluster, kind, name).await?;
    of(cluster, kind, name, object).await
}

/// A name without a kind: a Job, a pod, or the first primitive that is called so.
async fn of_any(cluster: &Cluster, name: &str) -> Result<Facts, LiveError> {
    let kinds = ["job", "pod"].into_iter().chain(Kind::ALL.into_iter().map(Kind::lower)).chain(["claim"]);
    for kind in kinds {
        match get(cluster, kind, name).await {
            Ok(object) => return of(cluster, kind, name, object).await,
            Err(error) if error.exit() == Exit::NotFound || error.exit() == Exit::Denied => {}
            Err(error) => return Err(error),
        }
    }
    let said = format!(
        "no Job, pod, primitive or claim is called {name} in namespace {}; -n looks elsewhere",
        cluster.namespace
    );
    Err(LiveError::Other(said, Exit::NotFound))
}

fn canonical(kind: &str) -> Option<&'static str> {
    let kind = kind.to_lowercase();
    let singular = match kind.as_str() {
        "po" | "pods" | "pod" => "pod",
        "jobs" | "job" => "job",
        "claims" | "claim" | "kcl" => "claim",
        other => {
            let known = Kind::ALL.into_iter().find(|known| known.lower() == other || known.plural() == other);
            return known.map(Kind::lower);
        }
    };
    Some(singular)
}

fn api(cluster: &Cluster, kind: &str) -> Api<DynamicObject> {
    let gvk = match kind {
        "pod" => GroupVersionKind::gvk("", "v1", "Pod"),
        "job" => GroupVersionKind::gvk("batch", "v1", "Job"),
        "claim" => GroupVersionKind::gvk("konductor.io", "v1", "Claim"),
        _ => match Kind::ALL.into_iter().find(|known| known.lower() == kind) {
            Some(kind) => return cluster.api(kind),
            None => GroupVersionKind::gvk("konductor.io", "v1", kind),
        },
    };
    cluster.api_of(&ApiResource::from_gvk(&gvk))
}

async fn get(cluster: &Cluster, kind: &str, name: &str) -> Result<Value, LiveError> {
    let found = api(cluster, kind).get(name).await;
    found.map(|object| as_value(&object)).map_err(|error| refused(&format!("{kind}/{name}"), &error))
}

async fn of(cluster: &Cluster, kind: &'static str, name: &str, object: Value) -> Result<Facts, LiveError> {
    let mut facts = Facts {
        subject: format!("{kind}/{name}"),
        namespace: cluster.namespace.clone(),
        parts: Vec::new(),
        pods: Vec::new(),
        webhook: None,
        object,
    };
    match kind {
        "pod" => {
            let owned = list(&facts.object, "/metadata/ownerReferences")
                .any(|owner| owner["controller"] == true && owner["kind"] == "Job");
            let plan = PodPlan::of(&annotations(&facts.object, "/metadata/annotations"), owned);
            for entry in plan.entries() {
                let part = part(cluster, entry.primitive.kind, &entry.primitive.name, entry.role).await?;
                facts.parts.push(part);
            }
            facts.webhook = has_webhook(cluster).await;
        }
        "job" => {
            let own = annotations(&facts.object, "/metadata/annotations");
            let each = annotations(&facts.object, "/spec/template/metadata/annotations");
            for set in [PrimitiveSet::of(&own), PrimitiveSet::of(&each)] {
                for entry in set.entries() {
                    let part = part(cluster, entry.primitive.kind, &entry.primitive.name, entry.role).await?;
                    facts.parts.push(part);
                }
            }
            let pods = ListParams::default().labels(&format!("job-name={name}"));
            if let Ok(pods) = api(cluster, "pod").list(&pods).await {
                facts.pods = pods.items.iter().map(as_value).collect();
            }
        }
        "claim" => {
            if let Ok(spec) = serde_json::from_value::<ClaimSpec>(facts.object["spec"].clone())
                && let Some(role) = spec.role()
            {
                facts.parts.push(part(cluster, spec.primitive.kind, &spec.primitive.name, role).await?);
            }
        }
        _ => {}
    }
    Ok(facts)
}

fn annotations(object: &Value, path: &str) -> BTreeMap<String, String> {
    let all = object.pointer(path).and_then(Value::as_object).into_iter().flatten();
    all.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

async fn part(cluster: &Cluster, kind: Kind, name: &str, role: Role) -> Result<Part, LiveError> {
    let found = cluster.api(kind).get_opt(name).await;
    let primitive = found.map_err(|error| refused(&format!("{}/{name}", kind.lower()), &error))?;
    let mut part = Part {
        kind,
        name: name.to_owned(),
        role,
        primitive: primitive.as_ref().map(as_value),
        elsewhere: Vec::new(),
        similar: None,
    };
    if part.primitive.is_some() {
        return Ok(part);
    }
    if let Ok(here) = cluster.api(kind).list(&ListParams::default()).await {
        let names = here.items.into_iter().filter_map(|object| object.metadata.name);
        let near = names
            .map(|other| (strsim::jaro_winkler(&other, name), other))
            .filter(|(near, _)| *near >= SIMILAR);
        part.similar = near.max_by(|left, right| left.0.total_cmp(&right.0)).map(|(_, other)| other);
    }
    let everywhere: Api<DynamicObject> = Api::all_with(cluster.client.clone(), &resource(kind));
    if let Ok(all) = everywhere.list(&ListParams::default().fields(&format!("metadata.name={name}"))).await {
        part.elsewhere = all.items.into_iter().filter_map(|object| object.metadata.namespace).collect();
    }
    Ok(part)
}

/// Is there a webhook that would see pods?
async fn has_webhook(cluster: &Cluster) -> Option<bool> {
    webhook(&cluster.client).await.ok().map(|found| found.is_some())
}
