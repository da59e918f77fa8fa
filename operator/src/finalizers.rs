//! Finalizers: lifted when nothing can be learned from the pod any more.
//!
//! The finalizer keeps the object of a pod that was told to start, so that its kubelet can report its end. What must
//! stay true: it is lifted only from a pod whose end is proven, in the version that was read *before* every primitive
//! of its plan was read from the API server and showed no entry for it, and nothing that its end has to be counted for.
//! No release waits for this.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use konductor_api::annotations::FINALIZER;
use konductor_api::participation::PrimitiveRef;
use konductor_primitives::facts::PodFacts;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::client::CallError;
use crate::index::{self, ObjectKey};
use crate::notify::{Patched, patch_pod, precondition};
use crate::observe;
use crate::reconcile::Context;
use crate::rules::Read;
use crate::telemetry::Write;

/// Conflicts in a row: the kubelet writes its last words at the same time.
const ATTEMPTS: usize = 4;

/// Primitives as the API server had them, for all who ask at the same time: of a crowd that has ended together each
/// would read the same large ledger.
#[derive(Default)]
pub(crate) struct Reads(Mutex<HashMap<(String, PrimitiveRef), Arc<Slot>>>);

/// When the last read began, and what came back.
type Slot = tokio::sync::Mutex<Option<(Instant, Read)>>;

impl Reads {
    /// That primitive, by a read that began at `since` or later.
    async fn since(
        &self,
        context: &Context,
        namespace: &str,
        primitive: &PrimitiveRef,
        since: Instant,
    ) -> Result<Read, CallError> {
        let key = (namespace.to_owned(), primitive.clone());
        let slot = Arc::clone(self.slots().entry(key.clone()).or_default());
        let mut latest = slot.lock().await;
        let read = match &*latest {
            Some((began, read)) if *began >= since => read.clone(),
            _ => {
                let began = Instant::now();
                let read = Read::fetch(&context.client, namespace, primitive).await?;
                *latest = Some((began, read.clone()));
                read
            }
        };
        drop(latest);
        // Ours, and the map's: nobody else wants it.
        let mut slots = self.slots();
        if Arc::strong_count(&slot) == 2 {
            slots.remove(&key);
        }
        Ok(read)
    }

    fn slots(&self) -> std::sync::MutexGuard<'_, HashMap<(String, PrimitiveRef), Arc<Slot>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lifts the finalizer of that pod, if it may be lifted. If not, the change that allows it brings us here again.
pub(crate) async fn lift(context: &Context, key: &ObjectKey) -> Result<(), CallError> {
    let Some(pod) = context.caches.pod(key) else { return Ok(()) };
    let mut facts = observe::facts(&context.caches, &pod);
    for _ in 0..ATTEMPTS {
        let seen = Instant::now();
        if !facts.finalizer || !has_ended(&facts) || is_needed(context, &key.namespace, &facts, seen).await? {
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

/// A pod in which somebody claims something has no waiter that would find its verdict withdrawn if its machine came back: that
/// somebody vouches for its end counts only when nobody starts it again.
fn has_ended(pod: &PodFacts) -> bool {
    let takes_part = !index::named_by(&pod.object().metadata).is_empty();
    pod.terminal.is_some() || pod.attested().is_some() && (takes_part || pod.deleting)
}

/// The patch that takes our finalizer, and no other, off this version of the pod.
pub(crate) fn without_finalizer(pod: &PodFacts) -> Value {
    let mut metadata = precondition(pod);
    metadata["$deleteFromPrimitiveList/finalizers"] = json!([FINALIZER]);
    json!({"metadata": metadata})
}

/// Is it in a ledger, or is there something about its end that has to be written down yet? `seen`: when this version of
/// the pod was there already.
async fn is_needed(
    context: &Context,
    namespace: &str,
    pod: &PodFacts,
    seen: Instant,
) -> Result<bool, CallError> {
    let plan = index::named_by(&pod.object().metadata);
    for entry in plan.entries().filter(|entry| entry.role.needs_the_end()) {
        let read = context.reads.since(context, namespace, entry.primitive, seen).await?;
        if read.needs(&entry, pod) {
            return Ok(true);
        }
    }
    Ok(false)
}
