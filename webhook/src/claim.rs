//! Claims: what a claim should say of who made it.
//!
//! Pure. Filled in is what the API server knows of the request: the user, and the pod that the user's token belongs to, which
//! then owns the claim. What must stay true: what somebody wrote there is left as it is; a policy refuses what is not so.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::object::{at, list, text};
use crate::stamp::stamp;
use konductor_api::annotations::QUEUED;

/// Who asks, as the API server says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requester {
    /// Name of the user.
    pub name: String,
    /// Name and UID of the pod that the token belongs to.
    pub pod: Option<(String, String)>,
}

/// What is to be filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fill {
    /// Since when it waits.
    pub queued: String,
    /// Who made it.
    pub requester: Option<String>,
    /// The pod that it was made in.
    pub pod: Option<Value>,
    /// The reference to its owner.
    pub owner: Option<Value>,
}

impl Requester {
    /// Reads it off a review.
    pub(crate) fn of(user: &Value) -> Self {
        let extra = |key: &str| {
            let values = at(user, &["extra", &format!("authentication.kubernetes.io/{key}")])?;
            values.get(0)?.as_str().map(ToOwned::to_owned)
        };
        Self {
            name: text(user, &["username"]).unwrap_or_default().to_owned(),
            pod: extra("pod-name").zip(extra("pod-uid")),
        }
    }
}

impl Fill {
    /// What that claim lacks.
    pub(crate) fn of(claim: &Value, requester: &Requester, now: Timestamp) -> Self {
        let unbound = text(claim, &["spec", "binding"]) == Some("None");
        let pod = requester.pod.as_ref().filter(|_| !unbound);
        let owned = |uid: &str| {
            list(claim, &["metadata", "ownerReferences"])
                .iter()
                .any(|owner| text(owner, &["uid"]) == Some(uid))
        };
        Self {
            queued: stamp(text(claim, &["metadata", "annotations", QUEUED]), now),
            requester: Some(requester.name.clone())
                .filter(|name| !name.is_empty() && at(claim, &["spec", "requester"]).is_none()),
            pod: pod
                .filter(|_| at(claim, &["spec", "pod"]).is_none())
                .map(|(name, uid)| json!({"name": name, "uid": uid})),
            owner: pod
                .filter(|(_, uid)| !owned(uid))
                .map(|(name, uid)| json!({"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid})),
        }
    }
}
