//! Break: ends a hold because a person says that its holder has ended.
//!
//! May touch: the pods of the holder (deleted first, by the caller's own right), and the annotations of one primitive, which the
//! API server admits only with the right to break and under the caller's own name. What must stay true: exactly the hold that was
//! looked at is broken, by its token; a holder that came after it is not.

use std::pin::pin;
use std::time::Duration;

use futures::TryStreamExt;
use k8s_openapi::api::core::v1::Pod;
use konductor_api::annotations::{BREAK, BREAK_BY, BREAK_REASON};
use konductor_api::participation::Kind;
use kube::Api;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, Preconditions};
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::{Value, json};

use crate::args::{BreakHold, Connection};
use crate::claims::identity::Myself;
use crate::cluster::{Cluster, connect};
use crate::exit::Exit;
use crate::live::{LiveError, Told, as_value, refused};
use crate::told::{list, name, plain};

/// How long the operator may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Does it.
pub async fn break_hold(to: &Connection, kind: Kind, flags: BreakHold) -> Told {
    let cluster = connect(to).await?;
    let api = cluster.api(kind);
    let what = format!("{}/{}", kind.lower(), flags.name);
    let found = api.get(&flags.name).await.map_err(|error| refused(&what, &error))?;
    let object = as_value(&found);
    let holder = choose(&what, &object, &flags)?;
    let token = plain(&holder, "token").to_owned();
    delete_pods(&cluster, &holder).await?;
    let me = Myself::ask(&cluster.client).await?;
    let body = json!({
        "metadata": {
            "uid": found.metadata.uid,
            "annotations": {BREAK: token, BREAK_BY: me.user, BREAK_REASON: flags.reason},
        },
    });
    api.patch(&flags.name, &PatchParams::default(), &Patch::Merge(&body))
        .await
        .map_err(|error| refused(&what, &error))?;
    until_gone(&api, &flags.name, &what, &token).await?;
    Ok((
        format!("{what}: the hold of {} is broken, and its token {token} is revoked\n", name(&holder)),
        Exit::Done,
    ))
}

/// The hold that is meant.
fn choose(what: &str, object: &Value, flags: &BreakHold) -> Result<Value, LiveError> {
    let holders: Vec<_> = list(object, "/status/holders")
        .filter(|holder| flags.token.as_deref().is_none_or(|token| plain(*holder, "token") == token))
        .filter(|holder| {
            let named = |wanted: &str| wanted == name(holder) || holder["holder"].as_str() == Some(wanted);
            flags.holder.as_deref().is_none_or(named)
        })
        .collect();
    match holders.as_slice() {
        [only] => Ok((*only).clone()),
        [] => Err(LiveError::Other(
            format!("{what}: nobody like that holds it; koncli status shows who does"),
            Exit::NotFound,
        )),
        several => {
            let names: Vec<_> = several.iter().map(|holder| name(holder)).collect();
            let said = format!(
                "{what} is held by {}: say which hold is over, with --holder or --token",
                names.join(", ")
            );
            Err(LiveError::Other(said, Exit::Usage))
        }
    }
}

/// So that none of them starts, or goes on, under a hold that is not its own any more.
async fn delete_pods(cluster: &Cluster, holder: &Value) -> Result<(), LiveError> {
    let api: Api<Pod> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    for pod in list(holder, "/pods") {
        let (called, uid) = (plain(pod, "name"), plain(pod, "uid"));
        let preconditions = Some(Preconditions { uid: Some(uid.to_owned()), resource_version: None });
        match api.delete(called, &DeleteParams { preconditions, ..DeleteParams::default() }).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
            Err(error) => return Err(refused(&format!("pod/{called}"), &error)),
        }
    }
    Ok(())
}

async fn until_gone(
    api: &Api<DynamicObject>,
    called: &str,
    what: &str,
    token: &str,
) -> Result<(), LiveError> {
    let look = async {
        let mut changes = pin!(watcher::watch_object(api.clone(), called).default_backoff());
        loop {
            match changes.try_next().await {
                Ok(Some(Some(object))) => {
                    let object = as_value(&object);
                    if list(&object, "/status/holders").all(|holder| plain(holder, "token") != token) {
                        return;
                    }
                }
                Ok(Some(None) | None) => return,
                Err(_) => {}
            }
        }
    };
    tokio::time::timeout(PATIENCE, look).await.map_err(|_| {
        let said = format!("{what}: the hold was to be broken, and the operator has not done so yet; koncli check says whether it runs");
        LiveError::Other(said, Exit::TimedOut)
    })
}
