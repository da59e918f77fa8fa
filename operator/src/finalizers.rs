//! Finalizers: lifted when nothing can be learned from the pod any more.
//!
//! The finalizer keeps the object of a pod that was told to start, so that its kubelet can report its end. What must
//! stay true: it is lifted only from a pod whose end is proven, in the version that was read *before* every primitive
//! of its plan was read from the API server and showed no entry for it, and nothing that its end has to be counted for.
//! No release waits for this.

use konductor_api::annotations::FINALIZER;
use konductor_primitives::facts::PodFacts;
use serde_json::{Value, json};

use crate::client::CallError;
use crate::index::{self, ObjectKey};
use crate::notify::{Patched, patch_pod, precondition};
use crate::observe;
use crate::reconcile::Context;
use crate::rules::Read;
use crate::telemetry::Write;

/// Conflicts in a row: the kubelet writes its last words at the same time.
const ATTEMPTS: usize = 4;

/// Lifts the finalizer of that pod, if it may be lifted. If not, the change that allows it brings us here again.
pub(crate) async fn lift(context: &Context, key: &ObjectKey) -> Result<(), CallError> {
    let Some(pod) = context.caches.pod(key) else { return Ok(()) };
    let mut facts = observe::facts(&context.caches, &pod);
    for _ in 0..ATTEMPTS {
        if !facts.finalizer || !facts.is_dead() || is_needed(context, &key.namespace, &facts).await? {
            return Ok(());
        }
        match patch_pod(context, &key.namespace, &facts, &without_finalizer(&facts), Write::Finalizer).await?
        {
            Patched::Written(_) | Patched::Changed(None) => return Ok(()),
            Patched::Changed(Some(fresh)) => facts = observe::facts(&context.caches, &fresh),
        }
    }
    Ok(())
}

/// The patch that takes our finalizer, and no other, off this version of the pod.
pub(crate) fn without_finalizer(pod: &PodFacts) -> Value {
    let mut metadata = precondition(pod);
    metadata["$deleteFromPrimitiveList/finalizers"] = json!([FINALIZER]);
    json!({"metadata": metadata})
}

/// Is it in a ledger, or is there something about its end that has to be written down yet?
async fn is_needed(context: &Context, namespace: &str, pod: &PodFacts) -> Result<bool, CallError> {
    let plan = index::named_by(&pod.object().metadata);
    for entry in plan.entries().filter(|entry| entry.role.needs_the_end()) {
        let read = Read::fetch(&context.client, namespace, entry.primitive).await?;
        if read.needs(&entry, pod) {
            return Ok(true);
        }
    }
    Ok(false)
}
