//! What people are told who ask why: a case each in `tests/why`, as facts and as the answer that is written down beside them.
//!
//! `KONCLI_WHY=write cargo test -p koncli --test why` writes the answers anew; a person reads them before they go in.

#![expect(clippy::unwrap_used, reason = "all of this file is tests")]

use std::path::Path;

use koncli::why::{Facts, Part, why};
use konductor_api::participation::{Kind, Role};
use serde_json::{Value, json};

fn pod(annotations: &Value, granted: Option<(&str, &str)>) -> Value {
    let conditions: Vec<_> = granted
        .into_iter()
        .map(|(reason, message)| json!({"type": "konductor.io/Granted", "status": "False", "reason": reason, "message": message}))
        .collect();
    json!({
        "metadata": {"name": "train", "namespace": "ml", "annotations": annotations},
        "spec": {"nodeName": "n1", "initContainers": [{"name": "konductor-wait"}]},
        "status": {"phase": "Pending", "conditions": conditions},
    })
}

fn part(kind: Kind, name: &str, primitive: Option<Value>) -> Part {
    let role = if kind == Kind::Gate { Role::Await } else { Role::Hold };
    Part { kind, name: name.to_owned(), role, primitive, elsewhere: Vec::new(), similar: None }
}

fn facts(object: Value, parts: Vec<Part>) -> Facts {
    Facts {
        subject: "pod/train".to_owned(),
        namespace: "ml".to_owned(),
        object,
        parts,
        pods: Vec::new(),
        webhook: Some(true),
    }
}

fn condition(type_: &str, status: bool, reason: &str, message: &str) -> Value {
    json!({"type": type_, "status": if status { "True" } else { "False" }, "reason": reason, "message": message})
}

fn closed_gate() -> Value {
    json!({
        "spec": {"conditions": [{"type": "Job", "name": "validate"}, {"type": "Mutex", "name": "db", "state": "Unlocked"}]},
        "status": {
            "phase": "Waiting",
            "conditions": [condition("Open", false, "ConditionsMissing", "1 of 2 conditions are met")],
            "conditionStatuses": [
                {"about": "Job validate Complete", "met": false, "message": "it runs"},
                {"about": "Mutex db Unlocked", "met": true, "message": ""},
            ],
        },
    })
}

fn failed_gate() -> Value {
    json!({
        "spec": {"conditions": [{"type": "Job", "name": "validate"}]},
        "status": {
            "phase": "Failed",
            "conditions": [
                condition("Open", false, "ConditionImpossible", "Job validate has failed"),
                condition("Stalled", true, "ConditionImpossible", "whoever waited has failed: mend the Job and create it again, then the Jobs that waited"),
            ],
            "conditionStatuses": [{"about": "Job validate Complete", "met": false, "message": "it has failed"}],
        },
    })
}

fn held(suspect: Option<&str>) -> Value {
    let mut holder =
        json!({"kind": "Job", "name": "migrate-41", "grantedAt": "2030-06-01T12:00:00Z", "token": "4711"});
    let mut conditions = vec![condition("Held", true, "Locked", "held by job/migrate-41")];
    if let Some(why) = suspect {
        holder["suspect"] = json!(why);
        conditions.push(condition("Stalled", true, "HolderSuspect", why));
    }
    json!({"spec": {}, "status": {
        "phase": "Locked", "waiting": 2, "conditions": conditions, "holders": [holder],
        "queue": [
            {"kind": "Job", "name": "migrate-42", "since": "2030-06-01T12:00:05Z"},
            {"kind": "Pod", "name": "train", "since": "2030-06-01T12:00:09Z"},
        ],
    }})
}

const SILENT: &str = "pod migrate-41-x is on node n2, which has not been heard from, so its end cannot be proven. The hold ends when the node \
                      comes back and reports it; if the machine is certainly off, say so: kubectl taint node n2 \
                      node.kubernetes.io/out-of-service=nodeshutdown:NoExecute, or delete the Node";

fn cases() -> Vec<(&'static str, Facts)> {
    let gate = json!({"konductor.io/gate": "validation-gate"});
    let mutex = json!({"konductor.io/mutex": "database-migration"});
    let waits = |annotations: &Value| pod(annotations, Some(("Waiting", "waits")));
    let mut unplaced = waits(&mutex);
    unplaced["spec"]["nodeName"] = Value::Null;
    unplaced["status"]["conditions"].as_array_mut().unwrap().push(json!({
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes are available: 3 Insufficient nvidia.com/gpu",
    }));
    let mut bare = pod(&mutex, None);
    bare["spec"]["initContainers"] = json!([]);
    bare["status"]["phase"] = json!("Running");
    let mut elsewhere = part(Kind::Mutex, "database-migration", None);
    elsewhere.elsewhere = vec!["prod".to_owned()];
    let mut typo = part(Kind::Mutex, "databse-migration", None);
    typo.similar = Some("database-migration".to_owned());
    let two = json!({"konductor.io/gate": "validation-gate", "konductor.io/mutex": "database-migration"});
    let both = vec![
        part(Kind::Gate, "validation-gate", Some(closed_gate())),
        part(Kind::Mutex, "database-migration", Some(held(None))),
    ];
    let mut of_mutex = facts(held(None), Vec::new());
    "mutex/database-migration".clone_into(&mut of_mutex.subject);
    vec![
        ("closed-gate", facts(waits(&gate), vec![part(Kind::Gate, "validation-gate", Some(closed_gate()))])),
        ("failed-gate", facts(waits(&gate), vec![part(Kind::Gate, "validation-gate", Some(failed_gate()))])),
        (
            "second-in-queue",
            facts(waits(&mutex), vec![part(Kind::Mutex, "database-migration", Some(held(None)))]),
        ),
        (
            "suspect-holder",
            facts(waits(&mutex), vec![part(Kind::Mutex, "database-migration", Some(held(Some(SILENT))))]),
        ),
        ("missing-primitive", facts(waits(&mutex), vec![typo])),
        ("wrong-namespace", facts(waits(&mutex), vec![elsewhere])),
        ("unschedulable", facts(unplaced, vec![part(Kind::Mutex, "database-migration", Some(held(None)))])),
        (
            "webhook-not-installed",
            Facts {
                webhook: Some(false),
                ..facts(bare.clone(), vec![part(Kind::Mutex, "database-migration", None)])
            },
        ),
        ("not-seen-by-the-webhook", facts(bare, vec![part(Kind::Mutex, "database-migration", None)])),
        ("two-things", facts(waits(&two), both)),
        ("a-mutex", of_mutex),
        ("nothing-of-ours", facts(pod(&json!({}), None), Vec::new())),
    ]
}

#[test]
fn each_case_gets_the_answer_that_is_written_down() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/why");
    let write = std::env::var_os("KONCLI_WHY").is_some();
    for (name, facts) in cases() {
        let (file, answer) = (folder.join(format!("{name}.txt")), why(&facts));
        if write {
            std::fs::write(&file, &answer).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&file).unwrap_or_default(), answer, "{name}");
        assert!(answer.lines().count() <= 24, "{name} is more than a screen");
    }
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), cases().len(), "no answer is left over");
}
