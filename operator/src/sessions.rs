//! Sessions: the sidecar of a pod that may be lost to silence says here that it lives.
//!
//! In the order in which data passes: [`serve`] (TLS, and whose token it is; [`trust`] has the certificates) -> [`renew`] (one
//! conditional write on the pod) -> the answer's text. Any replica may be asked, leader or not. What must stay true: "held" is said only
//! after the API server has accepted the renewal, so that it and the withdrawal of the verdict exclude each other by the pod's
//! version; what is promised is written down with it, so that a `ttl` that is made shorter counts from the next renewal.

pub(crate) mod serve;
pub(crate) mod trust;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use konductor_api::annotations::RENEWED;
use konductor_api::duration::GoDuration;
use konductor_primitives::facts::PodFacts;
use konductor_primitives::record::PodRecord;
use konductor_primitives::silence::Renewal;
use konductor_waiter::grant::Verdict;
use kube::Api;
use serde_json::json;

use crate::client::{CallError, call};
use crate::index::{self, ObjectKey};
use crate::notify::{Patched, patch_pod, precondition};
use crate::observe;
use crate::reconcile::Context;
use crate::rules::{Rule, of_kind};
use crate::telemetry::Write;

/// What is promised to whom nothing that it holds has a `ttl`.
const FOREVER: GoDuration = GoDuration::from_nanoseconds(i64::MAX);
/// The pod changes while it is renewed: read it and try again, so often.
const ATTEMPTS: usize = 4;

/// Who asks, as the API server says by the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) key: ObjectKey,
    pub(crate) uid: String,
}

/// What it asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// The run of the waiter by which the pod holds, as far as it knows.
    pub(crate) run: u64,
    /// The silence that it counts on until it hears otherwise: should this answer be lost, no less may be borne.
    pub(crate) counts_on: GoDuration,
}

/// What is said to the sidecar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Nothing of it is lost before so long from now.
    Held(Duration),
    /// Nothing that it holds has a `ttl` at present.
    HeldForever,
    /// It holds nothing by that run any more.
    Lost(&'static str),
    /// It was not told yet, as far as anybody here has seen.
    Early,
}

impl fmt::Display for Answer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held(ttl) => write!(formatter, "held {}", ttl.as_millis()),
            Self::HeldForever => formatter.write_str("held forever"),
            Self::Lost(why) => write!(formatter, "lost {why}"),
            Self::Early => formatter.write_str("early the pod was not told to start by that run"),
        }
    }
}

/// Writes down that the pod was heard of, and says what it may count on.
pub(crate) async fn renew(context: &Context, caller: &Caller, request: Request) -> Result<Answer, CallError> {
    let run = request.run;
    let api: Api<PodRecord> = Api::namespaced(context.client.clone(), &caller.key.namespace);
    let is_it = |pod: &Arc<PodRecord>| pod.metadata.uid.as_ref() == Some(&caller.uid);
    let mut seen = context.caches.pod(&caller.key).filter(is_it);
    for _ in 0..ATTEMPTS {
        let pod = match seen.take() {
            Some(pod) => pod,
            None => match call(api.get_opt(&caller.key.name)).await?.map(Arc::new).filter(is_it) {
                Some(pod) => pod,
                None => return Ok(Answer::Lost("there is no such pod")),
            },
        };
        let facts = observe::facts(&context.caches, &pod);
        if let Some(answer) = stands(&facts, run) {
            return Ok(answer);
        }
        let ttl = shortest_ttl(context, &caller.key.namespace, &pod);
        let last = facts.renewal.filter(|last| last.run == run);
        let promised = ttl.map_or(FOREVER, |ttl| ttl.max(request.counts_on));
        // Written down once all the same: should a `ttl` come into being, it does not count for who has not heard of it.
        if ttl.is_none() && last.is_some_and(|last| last.promised == FOREVER) {
            return Ok(Answer::HeldForever);
        }
        let renewal = Renewal { run, count: last.map_or(1, |last| last.count + 1), promised };
        let mut metadata = precondition(&facts);
        metadata["annotations"] = json!({RENEWED: renewal.to_string()});
        let body = json!({"metadata": metadata});
        match patch_pod(context, &caller.key.namespace, &facts, &body, Write::Renewal).await? {
            Patched::Written(_) => {
                let nanoseconds = |ttl: GoDuration| u64::try_from(ttl.as_nanoseconds()).unwrap_or_default();
                return Ok(ttl.map_or(Answer::HeldForever, |ttl| {
                    Answer::Held(Duration::from_nanos(nanoseconds(ttl)))
                }));
            }
            Patched::Changed(Some(fresh)) => seen = Some(fresh),
            Patched::Changed(None) => return Ok(Answer::Lost("there is no such pod")),
        }
    }
    Ok(Answer::Early)
}

/// What there is to say without a renewal, if it does not hold by that run. A cache that is behind says "early".
fn stands(pod: &PodFacts, run: u64) -> Option<Answer> {
    let Some(grant) = &pod.grant else { return Some(Answer::Early) };
    if pod.terminal.is_some() {
        return Some(Answer::Lost("the pod has ended"));
    }
    match &grant.verdict {
        _ if grant.run < run => Some(Answer::Early),
        _ if grant.run > run => Some(Answer::Lost("the pod was told to start by another run")),
        Verdict::Go => None,
        Verdict::Skip { .. } => Some(Answer::HeldForever),
        Verdict::Released => Some(Answer::Lost("the grant was withdrawn")),
        Verdict::Deny { .. } => Some(Answer::Lost("the pod was denied")),
    }
}

/// The shortest of what it holds, of what has one.
fn shortest_ttl(context: &Context, namespace: &str, pod: &PodRecord) -> Option<GoDuration> {
    let plan = index::named_by(&pod.metadata);
    let ttl = |name: &str, kind| of_kind!(kind, P => P::shelf(&context.caches).get(namespace, name)?.ttl());
    plan.entries().filter_map(|entry| ttl(&entry.primitive.name, entry.primitive.kind)).min()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn told(grant: Option<&str>) -> PodFacts {
        let annotations = grant.map(|grant| json!({"konductor.io/grant": format!("v1 u {grant}")}));
        let pod: PodRecord = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "ns", "uid": "u", "annotations": annotations},
            "spec": {"nodeName": "n", "containers": []},
        }))
        .unwrap();
        PodFacts::shared(&Arc::new(pod), true)
    }

    #[rstest]
    #[case::told(Some("2 2001-01-01T00:00:00Z go"), None)]
    #[case::not_seen_yet(None, Some("early"))]
    #[case::an_earlier_run_is_seen(Some("1 2001-01-01T00:00:00Z go"), Some("early"))]
    #[case::a_later_run(Some("3 2001-01-01T00:00:00Z go"), Some("lost"))]
    #[case::withdrawn(Some("2 2001-01-01T00:00:00Z released"), Some("lost"))]
    #[case::an_earlier_run_was_withdrawn(Some("1 2001-01-01T00:00:00Z released"), Some("early"))]
    #[case::denied(Some("2 2001-01-01T00:00:00Z deny 1 no"), Some("lost"))]
    fn only_the_run_that_was_told_is_renewed(#[case] grant: Option<&str>, #[case] said: Option<&str>) {
        let answer = stands(&told(grant), 2).map(|answer| answer.to_string());
        assert_eq!(answer.as_deref().and_then(|answer| answer.split(' ').next()), said);
    }

    #[test]
    fn the_first_line_of_an_answer_is_its_text() {
        assert_eq!(Answer::Held(Duration::from_millis(1500)).to_string(), "held 1500");
        assert_eq!(Answer::HeldForever.to_string(), "held forever");
        assert_eq!(Answer::Lost("so it is").to_string(), "lost so it is");
    }
}
