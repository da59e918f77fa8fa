//! Commit: one compare-and-swap on a primitive's status.
//!
//! The only place where ledgers are written. A merge patch that carries the resourceVersion which the decision was made
//! on, so that another version is a conflict, and so that status fields of a later version of Konductor stay as they
//! are. A status that would break an invariant is never sent.

use std::sync::Arc;

use konductor_primitives::invariants::Violation;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::client::{CallError, call};
use crate::reconcile::Context;
use crate::rules::Rule;
use crate::telemetry::Write;

/// What became of it.
pub(crate) enum Commit<P> {
    /// As the API server now has it.
    Written(Arc<P>),
    /// Somebody else was faster: read it again, and decide again.
    Conflict,
    /// There is no such object any more.
    Gone,
}

/// Why there was no attempt, or no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommitError {
    #[error("refused to write a ledger that breaks {0}")]
    Invariant(Violation),
    #[error(transparent)]
    Call(#[from] CallError),
}

/// Writes `status` over the version `object`.
pub(crate) async fn status<P: Rule>(
    context: &Context,
    object: &P,
    status: &P::Status,
    write: Write,
) -> Result<Commit<P>, CommitError> {
    object.check(status).map_err(CommitError::Invariant)?;
    let metadata = object.meta();
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    let name = metadata.name.as_deref().unwrap_or_default();
    let body = json!({
        "metadata": {"resourceVersion": metadata.resource_version, "uid": metadata.uid},
        "status": status,
    });
    let api: Api<P> = Api::namespaced(context.client.clone(), namespace);
    context.telemetry.wrote(write);
    match call(api.patch_status(name, &PatchParams::default(), &Patch::Merge(&body))).await {
        Ok(committed) => {
            let committed = Arc::new(committed);
            P::shelf(&context.caches).put(&committed);
            Ok(Commit::Written(committed))
        }
        Err(error) if error.is_conflict() => Ok(Commit::Conflict),
        Err(error) if error.is_not_found() => Ok(Commit::Gone),
        Err(error) => Err(error.into()),
    }
}
