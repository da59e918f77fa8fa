//! Gates: our scheduling gate is lifted from a pod when it holds, or may pass, all that it waits for.
//!
//! The only write on `pods` itself, and so the only one that needs a right to patch them. What must stay true: nothing
//! but our gate is taken off, from the version of the pod that was looked at; it is derived from committed ledgers on
//! every reconcile, so a crash between the ledger and this write loses nothing. A gate is no lock: a pod whose gate is
//! off takes a node, and its waiter waits there until the ledger lists it.

use konductor_api::annotations::SCHEDULING_GATE;
use konductor_primitives::facts::PodFacts;
use konductor_primitives::record::PodRecord;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::client::{CallError, call};
use crate::events::Happening;
use crate::notify::{Patched, outcome, precondition};
use crate::reconcile::Context;
use crate::telemetry::Write;

/// Lifts our gate from that version of the pod; `why` is a sentence for people.
pub(crate) async fn lift(
    context: &Context,
    namespace: &str,
    pod: &PodFacts,
    why: &str,
) -> Result<Patched, CallError> {
    let api: Api<PodRecord> = Api::namespaced(context.client.clone(), namespace);
    context.telemetry.wrote(Write::Gate);
    let body = without_gate(&precondition(pod));
    let answer = call(api.patch(&pod.name, &PatchParams::default(), &Patch::Strategic(&body))).await;
    let patched = outcome(context, &api, pod, answer).await?;
    if let Patched::Written(written) = &patched {
        let note = format!("takes a node: {why}");
        context.announcer.announce(Happening::to_pod(written, false, "GateLifted", note));
    }
    Ok(patched)
}

/// The patch that takes our scheduling gate, and no other, off a pod with that metadata.
pub(crate) fn without_gate(metadata: &Value) -> Value {
    json!({
        "metadata": metadata,
        "spec": {"schedulingGates": [{"$patch": "delete", "name": SCHEDULING_GATE}]},
    })
}
