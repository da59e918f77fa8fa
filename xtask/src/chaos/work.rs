//! The workloads: what runs under a lock, and how it asks for it.
//!
//! Pure: objects are made here and sent elsewhere. What must stay true: a critical section says on disk that it begins, that
//! it goes on (ten times a second), and that it ends, into one file for each lock that all nodes append to. The kernel
//! puts those lines into one order, so an overlap shows without any clock, also of a run that was killed.

use serde_json::{Map, Value, json};

use super::locks::{Kind, LOCKS, Lock, Share, Style};
use super::random::Random;

/// Its namespace.
pub(super) const NAMESPACE: &str = "konductor-chaos";
/// On every node of the project's own cluster.
const IMAGE: &str = "busybox:1.36";
/// A second one that some take besides.
const BESIDES: &str = "pool";

/// What is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Job,
    Pod,
}

/// One workload.
#[derive(Clone, Debug)]
pub(super) struct Work {
    pub(super) name: String,
    pub(super) form: Form,
    /// The objects that it asks for, the one that it was made for first.
    pub(super) objects: Vec<String>,
    pub(super) manifest: Value,
}

/// A hold that a workload asks for.
struct Hold<'a> {
    lock: &'a Lock,
    object: &'a str,
    share: Share,
}

impl Work {
    /// The `number`th workload, for this object of this lock. `common` is the folder in which the journals are.
    pub(super) fn new(lock: &Lock, object: &str, number: usize, common: &str, random: &mut Random) -> Self {
        let name = format!("{object}-{number:05}");
        let even = number.is_multiple_of(2);
        let form = match lock.style {
            Style::Pods => Form::Pod,
            Style::Both | Style::Held if even => Form::Pod,
            Style::Jobs | Style::Templates | Style::Both | Style::Held => Form::Job,
        };
        let mut holds = Vec::new();
        if let Some(share) = random.choose(&lock.shares()).copied() {
            holds.push(Hold { lock, object, share });
        }
        if lock.kind == Kind::Mutex
            && random.percent(15)
            && let Some(pool) = LOCKS.iter().find(|other| other.name == BESIDES)
            && let Some(share) = pool.shares().first().copied()
        {
            holds.push(Hold { lock: pool, object: pool.name, share });
        }
        let several = form == Form::Job && lock.style == Style::Jobs && random.percent(10);
        // A Once is handed over only by those who fail.
        let fails_first = random.percent(if lock.kind == Kind::Once { 50 } else { 8 });
        // Most are over before anybody sees them; of those that are not, a fault finds one at work.
        let beats = if random.percent(12) { 30 + random.below(31) } else { 2 + random.below(13) };
        let script = script(&name, &holds, beats, !several, fails_first);
        let in_place = form == Form::Job && random.percent(25);
        let pod = pod_spec(&script, common, if in_place { "OnFailure" } else { "Never" }, random);

        let mut annotations = Map::new();
        for hold in &holds {
            let value = match hold.share.weight {
                weight if weight > 1 && hold.lock.kind == Kind::Semaphore => {
                    format!("{}={weight}", hold.object)
                }
                _ => hold.object.to_owned(),
            };
            annotations.insert(hold.share.annotation.to_owned(), json!(value));
        }
        if lock.style == Style::Held {
            let hold = if form == Form::Pod { "scheduling-gate" } else { "suspend" };
            annotations.insert(konductor_api::annotations::HOLD.to_owned(), json!(hold));
        }
        let objects = holds.iter().map(|hold| hold.object.to_owned()).collect();
        let manifest = match form {
            Form::Pod => json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": name, "annotations": annotations},
                "spec": pod,
            }),
            Form::Job => {
                let each = lock.style == Style::Templates;
                let (own, template) =
                    if each { (Map::new(), annotations) } else { (annotations, Map::new()) };
                let count = if several { 2 } else { 1 };
                json!({
                    "apiVersion": "batch/v1", "kind": "Job",
                    "metadata": {"name": name, "annotations": own},
                    "spec": {
                        // What chaos kills is retried, however often it is.
                        "backoffLimit": 50,
                        "completions": count,
                        "parallelism": count,
                        "podReplacementPolicy": if in_place || even { "TerminatingOrFailed" } else { "Failed" },
                        "template": {"metadata": {"annotations": template}, "spec": pod},
                    },
                })
            }
        };
        Self { name, form, objects, manifest }
    }

    /// Where it stands in the API.
    pub(super) fn path(&self) -> String {
        format!("{}/{}", collection(self.form), self.name)
    }
}

/// Where all of a form stand in the API.
pub(super) fn collection(form: Form) -> String {
    match form {
        Form::Job => format!("/apis/batch/v1/namespaces/{NAMESPACE}/jobs"),
        Form::Pod => format!("/api/v1/namespaces/{NAMESPACE}/pods"),
    }
}

/// The namespace: journals are on the node's disk, which only this profile lets pods write to.
pub(super) fn namespace() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "privileged"}},
    })
}

/// What runs. The counter is read, held for a while and written back: who overlaps loses an update.
fn script(name: &str, holds: &[Hold<'_>], beats: usize, alone: bool, fails_first: bool) -> String {
    use std::fmt::Write;
    let counted = holds.first().filter(|hold| alone && hold.share.weight == hold.lock.capacity());
    let mut script = String::from("n=0 i=0\nsay() {\n\tread -r at rest </proc/uptime\n");
    for (place, hold) in holds.iter().enumerate() {
        let (object, weight) = (hold.object, hold.share.weight);
        let count = if place == 0 && counted.is_some() { "$n" } else { "-" };
        let token = hold.lock.variable(object);
        let _ = writeln!(
            script,
            "\techo \"$1 $POD ${{{token}:--}} {weight} {count} $at\" >>/common/{object}/journal"
        );
    }
    script.push_str("}\nsay begin\n");
    if let Some(hold) = counted {
        let _ = writeln!(script, "n=$(cat /common/{}/counter 2>/dev/null || echo 0)", hold.object);
    }
    let _ = writeln!(
        script,
        "while [ $i -lt {beats} ]; do sleep 0.1; say beat; i=$((i + 1)); done\nn=$((n + 1))"
    );
    if let Some(hold) = counted {
        let folder = format!("/common/{}", hold.object);
        // Whoever is killed in between leaves no half of a number.
        let _ = writeln!(script, "echo $n >{folder}/counter.$POD; mv {folder}/counter.$POD {folder}/counter");
    }
    script.push_str("say end\n");
    if let Some(hold) = holds.first().filter(|_| fails_first) {
        let mark = format!("/common/{}/failed.{name}", hold.object);
        let _ = writeln!(script, "if [ ! -e {mark} ]; then : >{mark}; exit 1; fi");
    }
    script
}

fn pod_spec(script: &str, common: &str, restart: &str, random: &mut Random) -> Value {
    let mut spec = json!({
        "restartPolicy": restart,
        // A shell as process 1 is deaf to SIGTERM, so a deleted holder goes on for so long.
        "terminationGracePeriodSeconds": 1 + random.below(3),
        "automountServiceAccountToken": false,
        "securityContext": {"runAsNonRoot": true, "runAsUser": 10_001},
        "volumes": [{"name": "common", "hostPath": {"path": common, "type": "Directory"}}],
        "containers": [{
            "name": "main",
            "image": IMAGE,
            "imagePullPolicy": "IfNotPresent",
            "command": ["sh", "-c", script],
            "env": [{"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}}],
            "volumeMounts": [{"name": "common", "mountPath": "/common"}],
        }],
    });
    // Half of them go where the scheduler puts them.
    match random.below(4) {
        0 => spec["nodeSelector"] = json!({"kubernetes.io/hostname": "n1"}),
        1 => spec["nodeSelector"] = json!({"kubernetes.io/hostname": "n2"}),
        _ => {}
    }
    spec
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::locks::of_object;

    fn many(object: &str) -> Vec<Work> {
        let (lock, mut random) = (of_object(object).unwrap(), Random::new(1, 1));
        (0..60).map(|number| Work::new(lock, object, number, "/common", &mut random)).collect()
    }

    #[test]
    fn a_workload_asks_as_its_lock_wants_it() {
        for work in many("stock") {
            assert_eq!(work.form, Form::Job);
            let template = &work.manifest["spec"]["template"]["metadata"]["annotations"];
            assert_eq!(template["konductor.io/mutex"], "stock");
            assert_eq!(work.manifest["metadata"]["annotations"], json!({}));
        }
        let holds: Vec<_> = many("night")
            .iter()
            .map(|work| (work.form, work.manifest["metadata"]["annotations"]["konductor.io/hold"].clone()))
            .collect();
        assert!(holds.contains(&(Form::Pod, json!("scheduling-gate"))), "{holds:?}");
        assert!(holds.contains(&(Form::Job, json!("suspend"))), "{holds:?}");
        let values: Vec<_> = many("pool")
            .iter()
            .map(|work| work.manifest["metadata"]["annotations"]["konductor.io/semaphore"].clone())
            .collect();
        assert!(values.contains(&json!("pool")) && values.contains(&json!("pool=2")), "{values:?}");
    }

    #[test]
    fn some_take_a_second_lock_and_say_so_in_both_journals() {
        let works = many("orders");
        let both = works.iter().find(|work| work.objects.len() == 2).unwrap();
        let script = both.manifest["spec"]["containers"][0]["command"][2].as_str().unwrap();
        for part in ["${KONDUCTOR_TOKEN_MUTEX_ORDERS:--} 1 $n", "${KONDUCTOR_TOKEN_SEMAPHORE_POOL:--} 1 -"] {
            assert!(script.contains(part), "{part} is not in {script}");
        }
        assert!(works.iter().any(|work| work.objects.len() == 1));
    }

    #[test]
    fn nobody_counts_who_is_not_alone() {
        for work in many("table") {
            let reads = work.manifest["metadata"]["annotations"].get("konductor.io/rwmutex-read").is_some();
            assert_eq!(work.manifest.to_string().contains("/common/table/counter"), !reads);
        }
    }
}
