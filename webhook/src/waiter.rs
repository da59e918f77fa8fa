//! The waiter and its volumes: what they are, and whether one that is there is ours.
//!
//! Pure. What must stay true: the container passes the `restricted` Pod Security profile by itself, gets no
//! credentials, and leaves the pod's quality-of-service class as it is; one that could let a pod start before its
//! turn is never taken for ours.
//!
//! **No API token.** `ServiceAccount` admission mounts the token into every container that mounts nothing at the
//! default path; it has run when we are asked and runs again after us. So the grant's volume is mounted there too, read-only:
//! it is in place before that second round, and needs no volume of its own.
//!
//! **What is compared.** The API server fills in defaults between our two passes, and other webhooks come after us:
//! they rewrite registries, adjust resources, give every container variables and credentials of theirs. None of that
//! decides when the pod starts, so it is let be. Compared is what does: command, security context, our variables and
//! mounts, the name of the image's repository; and what would change their meaning must be absent.

use konductor_api::annotations::{GRANT, QUEUED, WAITER_CONTAINER};
use konductor_api::participation::PodPlan;
use serde_json::{Value, json};

use crate::object::{at, includes, list, name, text};
use crate::once;
use crate::sidecar::{SESSION_VOLUME, Sessions};

/// The volume through which the grant comes.
pub const GRANT_VOLUME: &str = "konductor-grant";
/// The volume in which the waiter remembers used grants: on disk, so that a reboot does not wipe it.
pub const STATE_VOLUME: &str = "konductor-state";
/// All our variables begin with this.
pub const VARIABLE_PREFIX: &str = "KONDUCTOR_";

const GRANT_DIRECTORY: &str = "/konductor";
const STATE_DIRECTORY: &str = "/konductor-state";
const TOKEN_DIRECTORY: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const BINARY: &str = "/konductor-wait";
/// The USER of the image.
const NON_ROOT_UID: i64 = 65532;

/// Fields that change what runs, when, or how often. Which of them our containers have is said by themselves.
const DECIDING: [&str; 10] = [
    "args",
    "envFrom",
    "lifecycle",
    "livenessProbe",
    "readinessProbe",
    "restartPolicy",
    "restartPolicyRules",
    "startupProbe",
    "volumeDevices",
    "workingDir",
];

/// Two of the kubelet's looks at its runtime, a second each, and what they take.
const SETTLE_MILLISECONDS: &str = "2500";

/// What an installation says about the containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The image.
    pub image: String,
    /// `Always`, `IfNotPresent` or `Never`.
    pub pull_policy: String,
    /// Name of the Secret with which a node pulls it, where it needs one.
    pub pull_secret: Option<String>,
    /// Request and limit.
    pub cpu: String,
    /// Request and limit.
    pub memory: String,
    /// May pods wait at a scheduling gate? Only where the operator has the right to lift it.
    pub scheduling_gates: bool,
    /// May Jobs wait suspended? Only where the operator has the right to resume them.
    pub suspends: bool,
    /// Where holds are renewed; without it no pod gets the sidecar.
    pub sessions: Option<Sessions>,
}

impl Settings {
    /// As a chart without values has them, with that image. By which CA the sessions are known is not for a chart to say.
    pub fn of_chart(image: &str) -> Self {
        Self {
            image: image.to_owned(),
            pull_policy: "IfNotPresent".to_owned(),
            pull_secret: None,
            cpu: "100m".to_owned(),
            memory: "16Mi".to_owned(),
            scheduling_gates: true,
            suspends: true,
            sessions: Some(Sessions {
                address: "konductor-sessions.konductor-system.svc:443".to_owned(),
                ca: String::new(),
                fences: true,
            }),
        }
    }

    #[cfg(test)]
    pub(crate) fn usual() -> Self {
        Self::of_chart("localhost/konductor-waiter:0.1.0")
    }
}

/// The container for a pod with this spec and this plan.
pub fn container(settings: &Settings, plan: &PodPlan, spec: &Value) -> Value {
    let mut container = injected(settings, spec, WAITER_CONTAINER, BINARY);
    container["env"] = json!([
        from_field("KONDUCTOR_POD_UID", "metadata.uid"),
        from_field("KONDUCTOR_POD_NAME", "metadata.name"),
        from_field("KONDUCTOR_POD_NAMESPACE", "metadata.namespace"),
        from_field("KONDUCTOR_SINCE", &format!("metadata.annotations['{QUEUED}']")),
        {"name": "KONDUCTOR_WAITS_FOR", "value": plan.to_string()},
    ]);
    let [grant, instead_of_a_token] = grant_mounts();
    container["volumeMounts"] =
        json!([grant, {"name": STATE_VOLUME, "mountPath": STATE_DIRECTORY}, instead_of_a_token]);
    if once::is_asked(plan) {
        container["command"] = json!([BINARY, "--once", once::DIRECTORY]);
        if let Some(mounts) = container["volumeMounts"].as_array_mut() {
            mounts.push(once::mount());
        }
    }
    // Tokens come with the grant, and the next container must find them: see `unsettled` in `konductor-waiter`.
    if plan.holds()
        && let Some(variables) = container["env"].as_array_mut()
    {
        variables.push(json!({"name": "KONDUCTOR_SETTLE_MS", "value": SETTLE_MILLISECONDS}));
    }
    // The only policy under which a kubelet would not report that the waiter runs again: see `has_returned` there.
    let on_failure = at(spec, &["restartPolicy"]).filter(|policy| *policy == "OnFailure");
    if let Some((policy, variables)) = on_failure.zip(container["env"].as_array_mut()) {
        variables.push(json!({"name": "KONDUCTOR_RESTART_POLICY", "value": policy}));
    }
    container
}

/// What all our containers have in common.
pub(crate) fn injected(settings: &Settings, spec: &Value, name: &str, binary: &str) -> Value {
    let mut container = json!({
        "name": name,
        "image": settings.image,
        "imagePullPolicy": settings.pull_policy,
        "command": [binary],
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": true,
            "runAsNonRoot": true,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    });
    // Elsewhere the image's USER, or the UID that the pod or OpenShift gives, is right.
    if at(spec, &["securityContext", "runAsUser"]).and_then(Value::as_i64) == Some(0) {
        container["securityContext"]["runAsUser"] = json!(NON_ROOT_UID);
    }
    // Resources of the pod as a whole may be less than ours, which would make the pod invalid; they decide its class.
    if at(spec, &["resources"]).and_then(Value::as_object).is_none_or(serde_json::Map::is_empty) {
        let resources = json!({"cpu": settings.cpu, "memory": settings.memory});
        container["resources"] = json!({"requests": resources, "limits": resources});
    }
    container
}

/// Where our containers find the grant; and the place where a token would be, which is taken.
pub(crate) fn grant_mounts() -> [Value; 2] {
    [GRANT_DIRECTORY, TOKEN_DIRECTORY]
        .map(|directory| json!({"name": GRANT_VOLUME, "mountPath": directory, "readOnly": true}))
}

/// Its volumes.
pub fn volumes(plan: &PodPlan) -> Vec<Value> {
    let field = json!({"fieldPath": format!("metadata.annotations['{GRANT}']")});
    let mut volumes = vec![
        json!({"name": GRANT_VOLUME, "downwardAPI": {"items": [{"path": "grant", "fieldRef": field}]}}),
        json!({"name": STATE_VOLUME, "emptyDir": {}}),
    ];
    if once::is_asked(plan) {
        volumes.push(once::volume());
    }
    volumes
}

/// Is it a name that belongs to us?
pub fn is_reserved_volume(name: &str) -> bool {
    [GRANT_VOLUME, STATE_VOLUME, SESSION_VOLUME, once::VOLUME].contains(&name)
}

/// A variable that shows a field of the pod.
pub(crate) fn from_field(name: &str, path: &str) -> Value {
    json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}})
}

// ------------------------------------------------------------------------------------------------ is it ours?

/// The fields in which a container under our name differs from ours; none means that it is ours.
pub(crate) fn differences(actual: &Value, expected: &Value) -> Vec<String> {
    let mut differences = Vec::new();
    for field in ["command", "securityContext"] {
        if !at(actual, &[field]).is_some_and(|found| includes(found, &expected[field])) {
            differences.push(field.to_owned());
        }
    }
    let repository = |container| repository_name(text(container, &["image"]).unwrap_or_default()).to_owned();
    if repository(actual) != repository(expected) {
        differences.push("image".to_owned());
    }
    let decided = |field: &&str| match expected.get(*field) {
        None => is_empty(actual, field),
        Some(wanted) if *field == "restartPolicyRules" => {
            is_empty(actual, field) || actual[*field] == *wanted
        }
        Some(wanted) => actual[*field] == *wanted,
    };
    differences.extend(DECIDING.into_iter().filter(|field| !decided(field)).map(Into::into));
    differences.extend(variable_differences(list(actual, &["env"]), list(expected, &["env"])));
    differences.extend(mount_differences(list(actual, &["volumeMounts"]), list(expected, &["volumeMounts"])));
    differences
}

/// Does a volume under one of our names differ from ours?
pub(crate) fn is_other_volume(actual: &Value, expected: &Value) -> bool {
    let fields = actual.as_object().map_or(0, |map| map.values().filter(|value| !value.is_null()).count());
    // Memory, which a reboot wipes, only where it is meant.
    let medium = |volume| text(volume, &["emptyDir", "medium"]).unwrap_or_default().to_owned();
    fields != 2 || medium(actual) != medium(expected) || !includes(actual, expected)
}

fn variable_differences(actual: &[Value], expected: &[Value]) -> Vec<String> {
    let mut differences = Vec::new();
    for expected in expected {
        let found: Vec<_> = actual.iter().filter(|found| name(found) == name(expected)).collect();
        if !matches!(found.as_slice(), [found] if includes(found, expected)) {
            differences.push(format!("env[{}]", name(expected)));
        }
    }
    let ours = |found: &&Value| expected.iter().any(|expected| name(found) == name(expected));
    let foreign = actual.iter().filter(|found| name(found).starts_with(VARIABLE_PREFIX) && !ours(found));
    differences.extend(foreign.map(|found| format!("env[{}]", name(found))));
    differences
}

fn path(mount: &Value) -> &str {
    text(mount, &["mountPath"]).unwrap_or_default()
}

fn mount_differences(actual: &[Value], expected: &[Value]) -> Vec<String> {
    let read_only = |mount: &Value| at(mount, &["readOnly"]).and_then(Value::as_bool).unwrap_or_default();
    let mut differences = Vec::new();
    for expected in expected {
        let found: Vec<_> = actual.iter().filter(|found| path(found) == path(expected)).collect();
        let same = |found: &Value| {
            name(found) == name(expected)
                && read_only(found) == read_only(expected)
                && is_empty(found, "subPath")
                && is_empty(found, "subPathExpr")
        };
        if !matches!(found.as_slice(), [found] if same(found)) {
            differences.push(format!("volumeMounts[{}]", path(expected)));
        }
    }
    let ours = |found: &&Value| expected.iter().any(|expected| path(found) == path(expected));
    let foreign = actual.iter().filter(|found| {
        !ours(found) && (is_reserved_volume(name(found)) || hides_something_of_ours(path(found)))
    });
    differences.extend(foreign.map(|found| format!("volumeMounts[{}]", path(found))));
    differences
}

/// Could a mount there lie over the binary, the grant, the marks, or the place that keeps the token away? The image
/// holds the binary and nothing else.
fn hides_something_of_ours(path: &str) -> bool {
    let parts: Vec<_> = path.split('/').filter(|part| !part.is_empty()).collect();
    let guarded: Vec<_> = TOKEN_DIRECTORY.split('/').filter(|part| !part.is_empty()).collect();
    let first = parts.first().copied().unwrap_or_default();
    parts.iter().any(|part| *part == "." || *part == "..")
        || first.is_empty()
        || first.starts_with("konductor")
        || guarded.starts_with(&parts)
        || parts.starts_with(&guarded)
}

/// `konductor-waiter` of `registry:5000/team/konductor-waiter:1.0@sha256:…`. Registries are rewritten by webhooks
/// after us, and tags differ while a new version is rolled out.
fn repository_name(image: &str) -> &str {
    let without_digest = image.split('@').next().unwrap_or_default();
    let last = without_digest.rsplit('/').next().unwrap_or_default();
    last.split(':').next().unwrap_or_default()
}

/// Absent, or as good as absent.
fn is_empty(object: &Value, field: &str) -> bool {
    match at(object, &[field]) {
        None => true,
        Some(Value::Array(items)) => items.is_empty(),
        Some(Value::Object(fields)) => fields.is_empty(),
        Some(Value::String(text)) => text.is_empty(),
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn ours() -> Value {
        let settings = Settings::usual();
        let plan = PodPlan { pod: "v1 mutex=db".parse().unwrap(), ..PodPlan::default() };
        container(&settings, &plan, &json!({}))
    }

    #[rstest]
    #[case::unchanged(|_: &mut Value| {})]
    #[case::defaults(|c: &mut Value| {
        c["terminationMessagePath"] = json!("/dev/termination-log");
        c["terminationMessagePolicy"] = json!("File");
        c["imagePullPolicy"] = json!("Always");
        c["env"][0]["valueFrom"]["fieldRef"]["apiVersion"] = json!("v1");
        c["resizePolicy"] = json!([{"resourceName": "cpu", "restartPolicy": "NotRequired"}]);
    })]
    #[case::another_registry(|c: &mut Value| c["image"] = json!("mirror:5000/x/konductor-waiter@sha256:00"))]
    #[case::an_openshift_uid(|c: &mut Value| c["securityContext"]["runAsUser"] = json!(1_000_650_000))]
    #[case::resources_of_a_limit_range(|c: &mut Value| c["resources"]["limits"]["ephemeral-storage"] = json!("1Gi"))]
    #[case::cloud_credentials(|c: &mut Value| {
        c["env"].as_array_mut().unwrap().push(json!({"name": "AWS_ROLE_ARN", "value": "arn"}));
        c["volumeMounts"].as_array_mut().unwrap().push(json!(
            {"name": "aws-iam-token", "mountPath": "/var/run/secrets/eks.amazonaws.com/serviceaccount", "readOnly": true}
        ));
    })]
    fn ours_stays_ours_after_others_had_it(#[case] change: fn(&mut Value)) {
        let mut container = ours();
        change(&mut container);
        assert_eq!(differences(&container, &ours()), Vec::<String>::new());
    }

    #[rstest]
    #[case("command", |c: &mut Value| c["command"] = json!(["true"]))]
    #[case("command", |c: &mut Value| { c.as_object_mut().unwrap().remove("command"); })]
    #[case("args", |c: &mut Value| c["args"] = json!(["--grant=/tmp/mine"]))]
    #[case("image", |c: &mut Value| c["image"] = json!("busybox"))]
    #[case("restartPolicy", |c: &mut Value| c["restartPolicy"] = json!("Always"))]
    #[case("lifecycle", |c: &mut Value| c["lifecycle"] = json!({"preStop": {}}))]
    #[case("startupProbe", |c: &mut Value| c["startupProbe"] = json!({"exec": {}}))]
    #[case("envFrom", |c: &mut Value| c["envFrom"] = json!([{"configMapRef": {"name": "a"}}]))]
    #[case("securityContext", |c: &mut Value| c["securityContext"]["runAsNonRoot"] = json!(false))]
    #[case("securityContext", |c: &mut Value| { c["securityContext"].as_object_mut().unwrap().remove("seccompProfile"); })]
    #[case("env[KONDUCTOR_POD_UID]", |c: &mut Value| c["env"][0] = json!({"name": "KONDUCTOR_POD_UID", "value": "x"}))]
    #[case("env[KONDUCTOR_POD_UID]", |c: &mut Value| { c["env"].as_array_mut().unwrap().remove(0); })]
    #[case("env[KONDUCTOR_POD_UID]", |c: &mut Value| {
        c["env"].as_array_mut().unwrap().push(json!({"name": "KONDUCTOR_POD_UID", "value": "x"}));
    })]
    #[case("env[KONDUCTOR_X]", |c: &mut Value| {
        c["env"].as_array_mut().unwrap().push(json!({"name": "KONDUCTOR_X", "value": "x"}));
    })]
    #[case("env[KONDUCTOR_WAITS_FOR]", |c: &mut Value| c["env"][4]["value"] = json!("nothing"))]
    #[case("volumeMounts[/konductor]", |c: &mut Value| c["volumeMounts"][0]["name"] = json!("mine"))]
    #[case("volumeMounts[/konductor]", |c: &mut Value| c["volumeMounts"][0]["subPath"] = json!("x"))]
    #[case("volumeMounts[/konductor]", |c: &mut Value| c["volumeMounts"][0]["readOnly"] = json!(false))]
    #[case("volumeMounts[/konductor-state]", |c: &mut Value| c["volumeMounts"][1]["readOnly"] = json!(true))]
    #[case("volumeMounts[/var/run/secrets/kubernetes.io/serviceaccount]", |c: &mut Value| {
        c["volumeMounts"][2]["name"] = json!("kube-api-access-x");
    })]
    fn a_difference_that_matters_is_named(#[case] field: &str, #[case] change: fn(&mut Value)) {
        let mut container = ours();
        change(&mut container);
        assert_eq!(differences(&container, &ours()), [field]);
    }

    #[rstest]
    #[case("/")]
    #[case("")]
    #[case("/konductor/grant")]
    #[case("//konductor")]
    #[case("/konductor-wait")]
    #[case("/tmp/../konductor")]
    #[case("konductor")]
    #[case("/var/run")]
    #[case("/var/run/secrets/kubernetes.io/serviceaccount/")]
    fn a_mount_over_something_of_ours_is_a_difference(#[case] path: &str) {
        let mut container = ours();
        let mount = json!({"name": "mine", "mountPath": path});
        container["volumeMounts"].as_array_mut().unwrap().push(mount);
        assert_eq!(differences(&container, &ours()), [format!("volumeMounts[{path}]")]);
    }

    #[test]
    fn a_volume_is_ours_with_defaults_and_not_in_memory() {
        let [mut grant, mut state] = volumes(&PodPlan::default()).try_into().unwrap();
        grant["downwardAPI"]["defaultMode"] = json!(420);
        grant["downwardAPI"]["items"][0]["fieldRef"]["apiVersion"] = json!("v1");
        let [expected_grant, expected_state]: [Value; 2] = volumes(&PodPlan::default()).try_into().unwrap();
        assert!(!is_other_volume(&grant, &expected_grant) && !is_other_volume(&state, &expected_state));
        grant["downwardAPI"]["items"][0]["fieldRef"]["fieldPath"] = json!("metadata.annotations['mine']");
        assert!(is_other_volume(&grant, &expected_grant));
        state["emptyDir"]["medium"] = json!("Memory");
        assert!(is_other_volume(&state, &expected_state));
        let empty = json!({"name": GRANT_VOLUME, "emptyDir": {}});
        assert!(is_other_volume(&empty, &expected_grant));
    }
}
