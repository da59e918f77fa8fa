//! Advice: what a waiting pod, or a Job that waits without pods, waits for, in which place, behind whom; for people to read.
//!
//! Nothing depends on it, so it comes after the verdicts, and its writes are bounded: when a wait starts or its reason
//! changes, and later for the first of the queue only, now and then. A failure is no harm. What must stay true: a crowd
//! that comes to wait keeps nobody from being let in.

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

use crate::crowd::in_turn;
use crate::events::Happening;
use crate::index::Key;
use crate::jobs;
use crate::notify::{Patched, Told, Waits, granted_condition, granted_of, patch_pod, precondition};
use crate::reconcile::Context;
use crate::telemetry::Write;

/// How often a pod's place in the queue is written, for the first ten.
pub(crate) const ADVICE_PERIOD: Duration = Duration::from_secs(10);
/// After so long the ledger is looked at again.
const TURN: Duration = Duration::from_millis(100);
/// Whose place is kept up to date.
pub(crate) const ADVISED: usize = 10;

/// When what was written that is only for people to read.
#[derive(Default)]
pub(crate) struct Advisor(Mutex<HashMap<String, Instant>>);

/// Writes what pods wait for into their conditions, as many as a turn allows; the others come with the next.
pub(crate) async fn advise(
    context: &Context,
    namespace: &str,
    primitive: &PrimitiveRef,
    told: &Told<'_>,
    waits: Waits<'_>,
) {
    let key = Key::Primitive(namespace.to_owned(), primitive.clone());
    for waiting in &waits.jobs {
        if is_due_for_job(context, &key, told, waiting) {
            jobs::advise(context, namespace, told, waiting).await;
        }
    }
    let due: Vec<_> =
        waits.pods.into_iter().filter(|(pod, wait)| is_due(context, &key, told, pod, wait)).collect();
    // By number, see `tell`.
    let writes = (0..due.len()).filter_map(|number| {
        let (pod, wait) = due.get(number)?;
        Some(write(context, namespace, told, pod, wait))
    });
    if in_turn(writes, TURN).await.len() < due.len() {
        context.queue.add(key);
    }
}

/// What an object says of why it waits: reason and message.
type Said<'a> = Option<(Option<&'a str>, Option<&'a str>)>;

fn is_due(context: &Context, key: &Key, told: &Told<'_>, pod: &PodFacts, wait: &Wait) -> bool {
    let known = granted_of(pod).map(|known| (known.reason.as_deref(), known.message.as_deref()));
    let near = told.line.is_near(&pod.uid) || !told.exists();
    is_news(context, key, &pod.object().metadata, known, wait, near)
}

fn is_due_for_job(context: &Context, key: &Key, told: &Told<'_>, (job, wait): &jobs::Waiting) -> bool {
    let known = jobs::granted_of(job).map(|known| (known.reason.as_deref(), known.message.as_deref()));
    let uid = job.metadata.uid.as_deref().unwrap_or_default();
    let near = told.line.place(uid).is_none_or(|(place, _)| place <= ADVISED);
    is_news(context, key, &job.metadata, known, wait, near)
}

/// When a wait starts or its reason changes, and later for the first of the queue only, now and then.
fn is_news(
    context: &Context,
    key: &Key,
    metadata: &ObjectMeta,
    known: Said<'_>,
    wait: &Wait,
    near: bool,
) -> bool {
    match known {
        Some((Some(reason), message)) if reason == wait.reason => {
            if message == Some(wait.message.as_str()) || !near {
                return false;
            }
        }
        _ => return true,
    }
    let delay = context.advisor.too_soon(metadata, ADVICE_PERIOD);
    if let Some(delay) = delay {
        context.queue.add_after(key.clone(), delay);
    }
    delay.is_none()
}

async fn write(context: &Context, namespace: &str, told: &Told<'_>, pod: &PodFacts, wait: &Wait) {
    let body = json!({
        "metadata": precondition(pod),
        "status": {"conditions": [granted_condition(pod, false, wait.reason, &wait.message, context.clock.now())]},
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
