//! Traps: what a controller does with its pods that does not go together with what they wait for.
//!
//! Pure. What must stay true: each sentence is so, and says what to do instead.

use konductor_api::participation::{Part, Role};
use serde_json::Value;

use crate::object::{at, text};
use crate::plan::Plan;
use crate::review::Resource;

/// Those of an object that makes pods.
pub fn found(resource: Resource, object: &Value, plan: &Plan) -> Vec<String> {
    // An init container ends, and with it the hold: nothing of this is a trap then.
    let whole = plan.participation.section.is_everything() || !is_init_section(object, plan);
    let alone = |part: &&Part| matches!(part.role, Role::Hold | Role::Write);
    let held = |part: &&Part| part.role.is_held();
    let mine = plan.participation.pod.entries();
    let (alone, held) = (mine.iter().find(alone).filter(|_| whole), mine.iter().find(held).filter(|_| whole));
    let mut said = Vec::new();
    match resource {
        Resource::Deployments => {
            said.extend(held.and_then(|part| never_unavailable(object, part)).into_iter().flatten());
            said.extend(alone.and_then(|part| replicas(object, part)));
        }
        Resource::StatefulSets | Resource::ReplicaSets => {
            said.extend(alone.and_then(|part| replicas(object, part)));
        }
        Resource::DaemonSets => said.extend(alone.map(|part| {
            format!("under {} one pod runs at a time, and a DaemonSet means one on each node", part.primitive)
        })),
        Resource::CronJobs => said.extend(forbids(object, plan)),
        Resource::Pods | Resource::Jobs | Resource::Claims | Resource::Other => {}
    }
    said
}

fn is_init_section(object: &Value, plan: &Plan) -> bool {
    let inits = crate::object::list(object, &["spec", "template", "spec", "initContainers"]);
    inits.iter().any(|container| plan.participation.section.names_it(crate::object::name(container)))
}

/// A rollout that keeps all old pods until a new one is ready, which waits for an old one.
fn never_unavailable(deployment: &Value, held: &Part) -> Option<[String; 2]> {
    if text(deployment, &["spec", "strategy", "type"]).unwrap_or("RollingUpdate") != "RollingUpdate" {
        return None;
    }
    let replicas = at(deployment, &["spec", "replicas"]).and_then(Value::as_u64).unwrap_or(1);
    let field = at(deployment, &["spec", "strategy", "rollingUpdate", "maxUnavailable"]);
    let unavailable = match field {
        Some(Value::Number(number)) => number.as_u64()?,
        Some(Value::String(text)) => share(text, replicas)?,
        _ => share("25%", replicas)?,
    };
    (unavailable == 0 && replicas > 0).then(|| {
        [
            format!(
                "a rollout may never end: a new pod waits for {}, and the old pods stay until it is ready",
                held.primitive
            ),
            "set spec.strategy.type: Recreate, or spec.strategy.rollingUpdate.maxUnavailable: 1".to_owned(),
        ]
    })
}

/// Of so many; parts are cut off, as the Deployment controller does.
fn share(text: &str, of: u64) -> Option<u64> {
    Some(text.strip_suffix('%')?.parse::<u64>().ok()?.checked_mul(of)? / 100)
}

fn replicas(object: &Value, alone: &Part) -> Option<String> {
    let replicas = at(object, &["spec", "replicas"]).and_then(Value::as_u64).unwrap_or(1);
    (replicas > 1).then(|| {
        format!(
            "spec.replicas is {replicas}, but under {} one pod runs at a time; konductor.io/containers can narrow it",
            alone.primitive
        )
    })
}

fn forbids(cron_job: &Value, plan: &Plan) -> Option<String> {
    let waits = plan.participation.entries().any(|entry| entry.role.waits());
    let policy = text(cron_job, &["spec", "concurrencyPolicy"]).filter(|_| waits)?;
    let said = match policy {
        "Forbid" => Some(
            "spec.concurrencyPolicy: Forbid leaves runs out while a Job waits; with Allow each waits for its turn",
        ),
        "Replace" => Some(
            "spec.concurrencyPolicy: Replace deletes a Job that still waits, or holds, when the next is due",
        ),
        _ => None,
    };
    said.map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use konductor_api::participation::PodPlan;
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::plan::Becomes;

    fn said(resource: Resource, set: &str, section: &str, spec: &Value) -> String {
        let participation = PodPlan {
            pod: set.parse().unwrap(),
            section: section.parse().unwrap_or_default(),
            ..PodPlan::default()
        };
        found(resource, &json!({"spec": spec}), &Plan { becomes: Becomes::Unchanged, participation })
            .join("\n")
    }

    #[rstest]
    #[case::one_replica_by_default(json!({}), true)]
    #[case::a_quarter_of_three_is_none(json!({"replicas": 3}), true)]
    #[case::a_quarter_of_four_is_one(json!({"replicas": 4}), false)]
    #[case::none(json!({"replicas": 8, "strategy": {"rollingUpdate": {"maxUnavailable": 0}}}), true)]
    #[case::none_of_a_hundred(json!({"replicas": 8, "strategy": {"rollingUpdate": {"maxUnavailable": "0%"}}}), true)]
    #[case::one(json!({"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}}}), false)]
    #[case::all(json!({"strategy": {"rollingUpdate": {"maxUnavailable": "100%"}}}), false)]
    #[case::recreate(json!({"strategy": {"type": "Recreate"}}), false)]
    #[case::nobody(json!({"replicas": 0}), false)]
    fn a_rollout_that_cannot_end_is_told(#[case] spec: Value, #[case] told: bool) {
        for set in ["v1 mutex=db", "v1 semaphore=s=2", "v1 rwmutex-read=r"] {
            let said = said(Resource::Deployments, set, "", &spec);
            assert_eq!(said.contains("a rollout may never end"), told, "{set}: {said}");
        }
        assert_eq!(said(Resource::Deployments, "v1 gate=g barrier=b", "", &spec), "");
    }

    #[test]
    fn where_only_an_init_container_holds_there_is_no_trap() {
        let spec = json!({"replicas": 3, "template": {"spec": {"initContainers": [{"name": "migrate"}]}}});
        assert_eq!(said(Resource::Deployments, "v1 mutex=db", "migrate", &spec), "");
        assert_ne!(said(Resource::Deployments, "v1 mutex=db", "main", &spec), "");
    }

    #[test]
    fn many_where_one_may_run_are_told() {
        let three = || json!({"replicas": 3});
        assert!(said(Resource::StatefulSets, "v1 lease=l", "", &three()).contains("spec.replicas is 3"));
        assert_eq!(said(Resource::StatefulSets, "v1 semaphore=s", "", &three()), "");
        assert!(
            said(Resource::DaemonSets, "v1 rwmutex-write=w", "", &json!({})).contains("one on each node")
        );
    }

    #[rstest]
    #[case("Forbid", "leaves runs out while a Job waits")]
    #[case("Replace", "deletes a Job that still waits")]
    #[case("Allow", "")]
    fn what_a_cronjob_makes_of_a_job_that_waits_is_told(#[case] policy: &str, #[case] words: &str) {
        let said = said(Resource::CronJobs, "v1 mutex=db", "", &json!({"concurrencyPolicy": policy}));
        assert!(said.contains(words) && said.is_empty() == words.is_empty(), "{said}");
    }
}
