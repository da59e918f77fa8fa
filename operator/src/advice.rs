//! Advice: what a waiting pod waits for, in which place, behind whom; for people to read.
//!
//! Nothing depends on it, so it comes after the verdicts, and its writes are bounded: when a wait starts or its reason
//! changes, and later for the first of the queue only, now and then. A failure is no harm.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use konductor_api::conditions;
use konductor_api::participation::PrimitiveRef;
use konductor_primitives::facts::PodFacts;
use konductor_primitives::verdict::Wait;
use serde_json::json;
use tokio::time::Instant;

use crate::events::Happening;
use crate::index::Key;
use crate::notify::{Patched, Told, granted_condition, granted_of, patch_pod, precondition};
use crate::reconcile::Context;
use crate::telemetry::Write;

/// How often a pod's place in the queue is written, for the first ten.
const ADVICE_PERIOD: Duration = Duration::from_secs(10);
/// Whose place is kept up to date.
pub(crate) const ADVISED: usize = 10;

/// When what was written that is only for people to read.
#[derive(Default)]
pub(crate) struct Advisor(Mutex<HashMap<String, Instant>>);

/// Writes what a pod waits for into its condition: when its wait starts or its reason changes, and later for the first
/// of the queue only, now and then. A failure is no harm.
pub(crate) async fn advise(
    context: &Context,
    namespace: &str,
    primitive: &PrimitiveRef,
    told: &Told<'_>,
    pod: &PodFacts,
    wait: &Wait,
) {
    let known = granted_of(pod);
    let first = known.is_none_or(|known| known.reason.as_deref() != Some(wait.reason));
    if !first {
        let same = known.and_then(|known| known.message.as_deref()) == Some(wait.message.as_str());
        if same || !told.line.is_near(&pod.uid) && told.exists() {
            return;
        }
        if let Some(delay) = context.advisor.too_soon(&pod.object().metadata, ADVICE_PERIOD) {
            context.queue.add_after(Key::Primitive(namespace.to_owned(), primitive.clone()), delay);
            return;
        }
    }
    let body = json!({
        "metadata": precondition(pod),
        "status": {"conditions": [granted_condition(pod, false, wait.reason, &wait.message)]},
    });
    match patch_pod(context, namespace, pod, &body, Write::Condition).await {
        Ok(Patched::Written(written)) => {
            context.advisor.wrote(&written.metadata);
            let missing = wait.reason == conditions::reason::MISSING_PRIMITIVE;
            let happening = Happening::to_pod(&written, missing, wait.reason, wait.message.clone());
            // Repeats are merged by what they are about: behind another holder it is another Event, with its own text.
            context.announcer.announce(happening.behind(told.holder()));
        }
        // The change that came between brings us here again.
        Ok(Patched::Changed(_)) => {}
        Err(error) => tracing::debug!(pod = pod.name, %error, "no condition written"),
    }
}

impl Advisor {
    /// How long to wait before the next advisory write on that object; `None` if it may be written now.
    pub(crate) fn too_soon(&self, metadata: &ObjectMeta, period: Duration) -> Option<Duration> {
        let written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = written.get(metadata.uid.as_deref().unwrap_or_default())?;
        period.checked_sub(last.elapsed()).filter(|rest| !rest.is_zero())
    }

    /// It was written now.
    pub(crate) fn wrote(&self, metadata: &ObjectMeta) {
        let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        // What is older than any period says nothing any more.
        if written.len() > 4096 {
            written.retain(|_, at| now.duration_since(*at) < ADVICE_PERIOD);
        }
        written.insert(metadata.uid.clone().unwrap_or_default(), now);
    }
}
