//! Jobs and Pods, as a user would write them, in words that read like sentences.
//!
//! `job("train").gate("ready").runs("sleep 1").create(&namespace)`. Everything is fit for the `restricted` profile
//! unless a test asks for more. What must stay true: the one app container is called [`MAIN`], and nothing of
//! Konductor's but the annotations asked for is in what is sent.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use anyhow::Result;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use konductor_api::annotations::{GATE, MUTEX, WAITER_CONTAINER};
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::{Map, Value, json};

use crate::namespace::{Namespace, Object};
use crate::wait;

/// The app container of every workload here.
pub const MAIN: &str = "main";
/// On every node of the test cluster.
pub const IMAGE: &str = "busybox:1.36";

/// A Job or a Pod to be created.
#[derive(Clone, Debug)]
pub struct Workload<K> {
    name: String,
    annotations: BTreeMap<String, String>,
    template_annotations: BTreeMap<String, String>,
    script: String,
    job_spec: Map<String, Value>,
    pod_spec: Map<String, Value>,
    container: Map<String, Value>,
    kind: PhantomData<K>,
}

/// A Job that runs one pod once, without retries.
pub fn job(name: &str) -> Workload<Job> {
    let mut job = Workload::new(name);
    job.job_spec.insert("backoffLimit".to_owned(), json!(0));
    job
}

/// A bare Pod.
pub fn pod(name: &str) -> Workload<Pod> {
    Workload::new(name)
}

// ------------------------------------------------------------------------------------------------------- both

impl<K> Workload<K> {
    fn new(name: &str) -> Self {
        let Value::Object(pod_spec) = json!({
            "restartPolicy": "Never",
            // A shell as process 1 is deaf to SIGTERM.
            "terminationGracePeriodSeconds": 1,
            "securityContext": {
                "runAsNonRoot": true,
                "runAsUser": 10_001,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
        }) else {
            unreachable!()
        };
        let Value::Object(container) = json!({
            "name": MAIN,
            "image": IMAGE,
            "imagePullPolicy": "IfNotPresent",
            "securityContext": {
                "allowPrivilegeEscalation": false,
                "capabilities": {"drop": ["ALL"]},
            },
        }) else {
            unreachable!()
        };
        Self {
            name: name.to_owned(),
            annotations: BTreeMap::new(),
            template_annotations: BTreeMap::new(),
            script: "true".to_owned(),
            job_spec: Map::new(),
            pod_spec,
            container,
            kind: PhantomData,
        }
    }

    /// Has this annotation.
    #[must_use]
    pub fn annotated(mut self, key: &str, value: &str) -> Self {
        self.annotations.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Waits for that gate, or those, separated by commas.
    #[must_use]
    pub fn gate(self, names: &str) -> Self {
        self.annotated(GATE, names)
    }

    /// Holds that mutex, or those, separated by commas.
    #[must_use]
    pub fn mutex(self, names: &str) -> Self {
        self.annotated(MUTEX, names)
    }

    /// Its container runs this shell script.
    #[must_use]
    pub fn runs(mut self, script: &str) -> Self {
        script.clone_into(&mut self.script);
        self
    }

    /// Its containers get so many seconds to end when it is deleted.
    #[must_use]
    pub fn grace(self, seconds: u32) -> Self {
        self.pod("terminationGracePeriodSeconds", json!(seconds))
    }

    /// For Windows, without what only Linux knows.
    #[must_use]
    pub fn for_windows(mut self) -> Self {
        self.container.remove("securityContext");
        self.pod("securityContext", json!({"runAsNonRoot": true}))
            .pod("os", json!({"name": "windows"}))
            .pod("nodeSelector", json!({"kubernetes.io/os": "windows"}))
    }

    /// Has this field in its pod spec.
    #[must_use]
    pub fn pod(mut self, field: &str, value: Value) -> Self {
        self.pod_spec.insert(field.to_owned(), value);
        self
    }

    /// Has this field in its app container.
    #[must_use]
    pub fn container(mut self, field: &str, value: Value) -> Self {
        self.container.insert(field.to_owned(), value);
        self
    }

    fn body(&self) -> Value {
        let mut container = self.container.clone();
        container.insert("command".to_owned(), json!(["sh", "-c", self.script]));
        let mut spec = self.pod_spec.clone();
        spec.insert("containers".to_owned(), json!([container]));
        Value::Object(spec)
    }
}

/// How each kind is written.
pub trait Manifest: Sized {
    /// What is sent to the API server.
    fn manifest(workload: &Workload<Self>) -> Value;
}

impl<K: Manifest + Object> Workload<K> {
    /// What is sent to the API server.
    pub fn manifest(&self) -> Value {
        K::manifest(self)
    }

    /// Creates it.
    pub async fn create(&self, namespace: &Namespace) -> Result<K> {
        namespace.create(self.manifest()).await
    }

    /// Tries to create it, which must be refused; returns the words.
    pub async fn is_refused(&self, namespace: &Namespace) -> Result<String> {
        namespace.refuses::<K>(self.manifest()).await
    }
}

// ------------------------------------------------------------------------------------------------------- Jobs

impl Workload<Job> {
    /// Each of its pods has this annotation.
    #[must_use]
    pub fn each_pod_annotated(mut self, key: &str, value: &str) -> Self {
        self.template_annotations.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Each of its pods holds that mutex for itself.
    #[must_use]
    pub fn each_pod_mutex(self, names: &str) -> Self {
        self.each_pod_annotated(MUTEX, names)
    }

    /// Each of its pods waits for that gate for itself.
    #[must_use]
    pub fn each_pod_gate(self, names: &str) -> Self {
        self.each_pod_annotated(GATE, names)
    }

    /// A new pod is made so many times when one fails.
    #[must_use]
    pub fn retries(self, times: u32) -> Self {
        self.spec("backoffLimit", json!(times))
    }

    /// A container that fails is restarted in its pod.
    #[must_use]
    pub fn restarts_in_place(self) -> Self {
        self.pod("restartPolicy", json!("OnFailure")).retries(6)
    }

    /// So many pods must succeed, so many at a time.
    #[must_use]
    pub fn pods(self, completions: u32, at_a_time: u32) -> Self {
        self.spec("completions", json!(completions)).spec("parallelism", json!(at_a_time))
    }

    /// Has this field in its spec.
    #[must_use]
    pub fn spec(mut self, field: &str, value: Value) -> Self {
        self.job_spec.insert(field.to_owned(), value);
        self
    }
}

impl Manifest for Job {
    fn manifest(workload: &Workload<Self>) -> Value {
        let mut spec = workload.job_spec.clone();
        spec.insert(
            "template".to_owned(),
            json!({"metadata": {"annotations": workload.template_annotations}, "spec": workload.body()}),
        );
        json!({
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": workload.name, "annotations": workload.annotations},
            "spec": spec,
        })
    }
}

/// Does the Job have this condition?
pub fn has_condition(job: &Job, type_: &str) -> bool {
    let conditions = job.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|all| all.iter().any(|known| known.type_ == type_ && known.status == "True"))
}

/// Waits until the Job is Complete.
pub async fn until_complete(namespace: &Namespace, name: &str) -> Result<Job> {
    let api = namespace.api::<Job>();
    wait::until_within(2 * wait::PATIENCE, &api, name, "Complete", |job| has_condition(job, "Complete")).await
}

/// Waits until the Job is Failed.
pub async fn until_failed(namespace: &Namespace, name: &str) -> Result<Job> {
    wait::until(&namespace.api::<Job>(), name, "Failed", |job| has_condition(job, "Failed")).await
}

/// The pods of a Job.
pub async fn pods_of(namespace: &Namespace, job: &str) -> Result<Vec<Pod>> {
    let of_job = ListParams::default().labels(&format!("batch.kubernetes.io/job-name={job}"));
    Ok(namespace.api::<Pod>().list(&of_job).await?.items)
}

/// Waits until the Job has a pod of which `holds` says yes.
pub async fn until_a_pod(
    namespace: &Namespace,
    job: &str,
    what: &str,
    holds: impl Fn(&Pod) -> bool,
) -> Result<Pod> {
    wait::until_some(&format!("a pod of job {job} is {what}"), async || {
        Ok(pods_of(namespace, job).await?.into_iter().find(&holds))
    })
    .await
}

// ------------------------------------------------------------------------------------------------------- Pods

impl Manifest for Pod {
    fn manifest(workload: &Workload<Self>) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": workload.name, "annotations": workload.annotations},
            "spec": workload.body(),
        })
    }
}

/// Waits until `holds` says yes of the pod.
pub async fn until_pod(
    namespace: &Namespace,
    name: &str,
    what: &str,
    holds: impl Fn(&Pod) -> bool,
) -> Result<Pod> {
    wait::until(&namespace.api::<Pod>(), name, what, holds).await
}

/// Does its waiter run?
pub fn is_waiting(pod: &Pod) -> bool {
    waiter(pod).and_then(|status| status.state.as_ref()).is_some_and(|state| state.running.is_some())
}

/// Does its app container run?
pub fn is_running(pod: &Pod) -> bool {
    main(pod).and_then(|status| status.state.as_ref()).is_some_and(|state| state.running.is_some())
}

/// Was its app container ever started?
pub fn has_started(pod: &Pod) -> bool {
    main(pod).is_some_and(|status| status.container_id.as_ref().is_some_and(|id| !id.is_empty()))
}

/// Has it ended well?
pub fn has_succeeded(pod: &Pod) -> bool {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Succeeded")
}

/// Has it ended badly?
pub fn has_failed(pod: &Pod) -> bool {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Failed")
}

/// The status of its waiter.
pub fn waiter(pod: &Pod) -> Option<&ContainerStatus> {
    let all = pod.status.as_ref()?.init_container_statuses.as_ref()?;
    all.iter().find(|status| status.name == WAITER_CONTAINER)
}

/// The exit code of its waiter.
pub fn waiter_exit_code(pod: &Pod) -> Option<i32> {
    waiter(pod)?.state.as_ref()?.terminated.as_ref().map(|ended| ended.exit_code)
}

/// The status of its app container.
pub fn main(pod: &Pod) -> Option<&ContainerStatus> {
    let all = pod.status.as_ref()?.container_statuses.as_ref()?;
    all.iter().find(|status| status.name == MAIN)
}

/// The names of pods, for a message.
pub fn names(pods: &[Pod]) -> Vec<String> {
    pods.iter().map(ResourceExt::name_any).collect()
}
