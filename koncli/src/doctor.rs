//! Doctor: what in a namespace, or in all, needs a person; and the command that helps.
//!
//! May touch: one cluster, reading. What must stay true: everything that it names is in trouble by what the objects themselves
//! say; a remedy that somebody has to answer for is shown and never done.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use konductor_api::annotations::{FINALIZER, PARTICIPANT_LABEL};
use konductor_api::conditions::STALLED;
use konductor_api::participation::Kind;
use kube::api::{DynamicObject, ListParams};
use kube::{Api, ResourceExt};
use serde_json::Value;

use crate::args::{Connection, Doctor};
use crate::cluster::{Cluster, connect};
use crate::exit::Exit;
use crate::live::{LiveError, Told, as_value, refused, resource};
use crate::told::{condition, list, name, plain};

/// A pod that has ended gives its finalizer back sooner, if anybody is there to take it.
const STUCK: SignedDuration = SignedDuration::from_mins(5);
/// A wait that is worth a look.
const LONG: SignedDuration = SignedDuration::from_hours(1);

/// Trouble, and what helps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Where.
    pub about: String,
    /// What.
    pub what: String,
    /// Commands.
    pub remedies: Vec<String>,
}

/// Looks at everything.
pub async fn doctor(to: &Connection, flags: &Doctor) -> Told {
    let cluster = connect(to).await?;
    let mut all = Vec::new();
    let mut looked_at = 0;
    for kind in Kind::ALL {
        let api: Api<DynamicObject> = if flags.all_namespaces {
            Api::all_with(cluster.client.clone(), &resource(kind))
        } else {
            cluster.api(kind)
        };
        let found = api.list(&ListParams::default()).await.map_err(|error| refused(kind.plural(), &error))?;
        looked_at += found.items.len();
        all.extend(
            found.items.iter().flat_map(|object| of_primitive(kind, &as_value(object), Timestamp::now())),
        );
    }
    all.extend(pods(&cluster, flags).await?);
    let mut text = String::new();
    for trouble in &all {
        text.extend([trouble.about.as_str(), ": ", &trouble.what, "\n"]);
        text.extend(trouble.remedies.iter().flat_map(|remedy| ["  ", remedy, "\n"]));
    }
    if all.is_empty() {
        text = format!("{looked_at} primitives looked at: nobody needs to act\n");
    }
    Ok((text, if all.is_empty() { Exit::Done } else { Exit::Error }))
}

/// What one primitive says of itself.
pub fn of_primitive(kind: Kind, object: &Value, now: Timestamp) -> Vec<Trouble> {
    let (called, namespace) = (plain(&object["metadata"], "name"), plain(&object["metadata"], "namespace"));
    let about = format!("{namespace} {}/{called}", kind.lower());
    let mut all = Vec::new();
    let mut doubt = false;
    for holder in list(object, "/status/holders") {
        let Some(why) = holder["suspect"].as_str() else { continue };
        doubt = true;
        let token = plain(holder, "token");
        all.push(Trouble {
            about: about.clone(),
            what: format!("its holder {} may be gone: {why}", name(holder)),
            remedies: vec![format!(
                "koncli break {} {called} --token {token} --reason WHY -n {namespace}   # only if it has certainly ended",
                kind.lower()
            )],
        });
    }
    let stalled = condition(object, STALLED).filter(|known| known["status"] == "True");
    if let Some(stalled) = stalled.filter(|_| !doubt) {
        all.push(Trouble {
            about: about.clone(),
            what: plain(stalled, "message").to_owned(),
            remedies: Vec::new(),
        });
    }
    let first = list(object, "/status/queue").next();
    let since = first.and_then(|waiter| plain(waiter, "since").parse::<Timestamp>().ok());
    if let (Some(first), Some(since)) = (first, since.filter(|since| now.duration_since(*since) > LONG)) {
        let hours = now.duration_since(since).as_hours();
        all.push(Trouble {
            about,
            what: format!("{} has waited for {hours} h", name(first)),
            remedies: vec![format!("koncli why {} -n {namespace}", name(first))],
        });
    }
    all
}

/// Pods that are gone but for our finalizer.
async fn pods(cluster: &Cluster, flags: &Doctor) -> Result<Vec<Trouble>, LiveError> {
    let api: Api<Pod> = if flags.all_namespaces {
        Api::all(cluster.client.clone())
    } else {
        Api::namespaced(cluster.client.clone(), &cluster.namespace)
    };
    let found = api
        .list(&ListParams::default().labels(PARTICIPANT_LABEL))
        .await
        .map_err(|error| refused("pods", &error))?;
    let stuck = |pod: &&Pod| {
        let over = pod
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref())
            .is_some_and(|phase| matches!(phase, "Succeeded" | "Failed"));
        let since = pod.metadata.deletion_timestamp.as_ref().map(|at| Timestamp::now().duration_since(at.0));
        over && since.is_some_and(|since| since > STUCK)
            && pod.finalizers().iter().any(|finalizer| finalizer == FINALIZER)
    };
    let told = found.items.iter().filter(stuck).map(|pod| Trouble {
        about: format!("{} pod/{}", pod.namespace().unwrap_or_default(), pod.name_any()),
        what: "it has ended and was deleted, and nobody has taken its finalizer off".to_owned(),
        remedies: vec!["koncli check   # does the operator run? It does that; konductor-operator uninstall does it for good".to_owned()],
    });
    Ok(told.collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn who_is_in_doubt_who_is_stalled_and_who_waits_for_long_is_named() {
        let now: Timestamp = "2030-01-01T12:00:00Z".parse().unwrap();
        let mutex = json!({
            "metadata": {"name": "db", "namespace": "shop"},
            "status": {
                "conditions": [{"type": "Stalled", "status": "True", "message": "node n1 is silent"}],
                "holders": [{"kind": "Job", "name": "a", "token": "5", "suspect": "node n1 is silent"}],
                "queue": [{"kind": "Pod", "name": "b", "since": "2030-01-01T09:00:00Z"}],
            },
        });
        let all = of_primitive(Kind::Mutex, &mutex, now);
        assert_eq!(all.len(), 2, "{all:?}");
        assert!(all[0].remedies[0].starts_with("koncli break mutex db --token 5"));
        assert_eq!(all[1].what, "pod/b has waited for 3 h");
        let well = json!({"metadata": {"name": "g"}, "status": {"conditions": [{"type": "Stalled", "status": "False"}]}});
        assert!(of_primitive(Kind::Gate, &well, now).is_empty());
    }
}
