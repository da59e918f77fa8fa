//! What the bench creates: pods and Jobs whose containers write down when they started and ended.
//!
//! Pure. What must stay true: the three cases differ in how they wait and in nothing else.

use konductor_api::annotations::MUTEX;
use serde_json::{Value, json};

/// How a hand-over comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Case {
    /// Bare pods; this process watches them and tells the next one the moment the last one's end is seen. Nobody who
    /// waits in an init container and learns of ends by a watch can be faster.
    Floor,
    /// Annotated pods.
    Pod,
    /// Annotated Jobs.
    Job,
}

/// A member of a chain.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member<'a> {
    /// Of its Job, if it is one, and of its pod if not.
    pub(super) name: &'a str,
    /// Label by which the members of a chain are found, and the name of its Mutex.
    pub(super) chain: &'a str,
    /// How long its main container runs.
    pub(super) seconds: f64,
    /// The first one keeps running until all others wait.
    pub(super) first: bool,
}

/// The namespace.
pub(super) const NAMESPACE: &str = "konductor-bench";
/// The label of a chain.
pub(super) const CHAIN: &str = "bench-chain";
/// The annotation that lets the first member's main container go on.
pub(super) const OPEN: &str = "bench-open";
/// The annotation that lets a member of the floor's chain start.
pub(super) const GO: &str = "bench-go";
/// The init container of the floor's members.
pub(super) const FLOOR_WAITER: &str = "wait";
const IMAGE: &str = "busybox:1.36";

impl Case {
    /// All, the floor first.
    pub(super) const ALL: [Self; 3] = [Self::Floor, Self::Pod, Self::Job];

    /// In names and in the results.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Pod => "pod",
            Self::Job => "job",
        }
    }

    /// For people.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Floor => "floor: bare pods, told by a watch",
            Self::Pod => "annotated pods",
            Self::Job => "annotated Jobs",
        }
    }

    /// Path of the collection that a member is created in, and the member.
    pub(super) fn manifest(self, member: &Member<'_>) -> (String, Value) {
        let labels = json!({CHAIN: member.chain});
        let marks = match self {
            Self::Floor => json!({}),
            Self::Pod | Self::Job => json!({MUTEX: member.chain}),
        };
        let metadata = json!({"name": member.name, "labels": labels, "annotations": marks});
        let spec = self.pod_spec(member);
        match self {
            Self::Floor | Self::Pod => (
                format!("/api/v1/namespaces/{NAMESPACE}/pods"),
                json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}),
            ),
            Self::Job => (
                format!("/apis/batch/v1/namespaces/{NAMESPACE}/jobs"),
                json!({
                    "apiVersion": "batch/v1",
                    "kind": "Job",
                    "metadata": metadata,
                    "spec": {
                        "backoffLimit": 0,
                        "template": {"metadata": {"labels": labels}, "spec": spec},
                    },
                }),
            ),
        }
    }

    fn pod_spec(self, member: &Member<'_>) -> Value {
        // Reading from a pipe that nobody writes into is a sleep that starts no process.
        let wait_for = |file: &str| {
            format!(
                "mkfifo /tmp/pipe; exec 3<>/tmp/pipe; until [ -s /bench/{file} ]; do read -t 0.01 x <&3 || :; done"
            )
        };
        let open = if member.first { format!("{}; ", wait_for("open")) } else { String::new() };
        let command = format!(
            "read up x </proc/uptime; echo start $up; {open}sleep {:.3}; read up x </proc/uptime; echo end $up",
            member.seconds
        );
        let mounts = json!([{"name": "bench", "mountPath": "/bench"}]);
        let shell = |name: &str, command: &str| {
            json!({
                "name": name,
                "image": IMAGE,
                "imagePullPolicy": "IfNotPresent",
                "command": ["sh", "-c", command],
                "volumeMounts": mounts,
            })
        };
        let file = |path: &str, annotation: &str| json!({"path": path, "fieldRef": {"fieldPath": format!("metadata.annotations['{annotation}']")}});
        let waiters = if self == Self::Floor && !member.first {
            vec![shell(FLOOR_WAITER, &wait_for("go"))]
        } else {
            Vec::new()
        };
        json!({
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": false,
            "initContainers": waiters,
            "containers": [shell("main", &command)],
            "volumes": [{"name": "bench", "downwardAPI": {"items": [file("open", OPEN), file("go", GO)]}}],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(first: bool) -> Member<'static> {
        Member { name: "a-1", chain: "a", seconds: 1.25, first }
    }

    #[test]
    fn only_the_floor_waits_by_a_container_of_its_own() {
        let (_, floor) = Case::Floor.manifest(&member(false));
        assert_eq!(floor["spec"]["initContainers"][0]["name"], FLOOR_WAITER);
        assert_eq!(floor["metadata"]["annotations"], json!({}));
        let (_, pod) = Case::Pod.manifest(&member(false));
        assert_eq!(pod["spec"]["initContainers"], json!([]));
        assert_eq!(pod["metadata"]["annotations"][MUTEX], "a");
        assert_eq!(pod["spec"]["containers"], floor["spec"]["containers"]);
        let (path, job) = Case::Job.manifest(&member(false));
        assert!(path.ends_with("/jobs"), "{path}");
        assert_eq!(job["metadata"]["annotations"][MUTEX], "a");
        assert_eq!(job["spec"]["template"]["metadata"]["labels"][CHAIN], "a");
        assert_eq!(job["spec"]["template"]["spec"], pod["spec"]);
    }

    #[test]
    fn the_first_runs_until_it_is_told() {
        for case in Case::ALL {
            let (_, object) = case.manifest(&member(true));
            let text = object.to_string();
            assert!(text.contains("/bench/open ]; do") && !text.contains("/bench/go ]"), "{text}");
            assert!(text.contains("sleep 1.250"), "{text}");
        }
    }
}
