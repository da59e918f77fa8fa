//! Pods of any shape: the patch applies, a second pass is empty, and nothing of the user's is lost.

#![allow(
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    reason = "clippy.toml permits unwrap in tests, but not in their helpers; a case reads best with its values inline"
)]

mod support;

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use support::{TOKEN_PATH, admitted, between_two_passes, init_container, patched, waiter};

/// A value under a key, or no such key, or null.
fn maybe(value: impl Strategy<Value = Value> + 'static) -> BoxedStrategy<Option<Value>> {
    prop_oneof![1 => Just(None), 1 => Just(Some(Value::Null)), 3 => value.prop_map(Some)].boxed()
}

fn object(fields: Vec<(&str, Option<Value>)>) -> Value {
    let fields = fields.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
    Value::Object(fields.collect::<Map<_, _>>())
}

fn resources() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!({})),
        Just(json!({"requests": {"cpu": "1"}})),
        Just(json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}})),
    ]
}

fn container(names: &'static [&'static str]) -> impl Strategy<Value = Value> {
    let env =
        prop_oneof![Just(json!([])), Just(json!([{"name": "A", "value": "1"}, {"name": "B", "unknown": 2}]))];
    let mounts = Just(json!([{"name": "data", "mountPath": "/data"}]));
    let restart = prop_oneof![Just(None), Just(Some(json!("Always")))];
    (prop::sample::select(names), maybe(env), maybe(mounts), restart, maybe(resources()), any::<bool>())
        .prop_map(|(name, env, mounts, restart, resources, unknown)| {
            object(vec![
                ("name", Some(json!(name))),
                ("env", env),
                ("volumeMounts", mounts),
                ("restartPolicy", restart),
                ("resources", resources),
                ("futureField", unknown.then(|| json!({"deep": [1, 2.5, null, "x"]}))),
            ])
        })
}

fn list(of: impl Strategy<Value = Value>, least: usize) -> impl Strategy<Value = Value> {
    prop::collection::vec(of, least..5).prop_map(Value::Array)
}

/// Each annotation by which a pod can take part, with the values that it may have.
const WAYS: [(&str, [&str; 2]); 11] = [
    ("konductor.io/gate", ["a, db-1", "zebra"]),
    ("konductor.io/waitgroup", ["in", "in, x.y"]),
    ("konductor.io/waitgroup-wait", ["out", "a"]),
    ("konductor.io/barrier", ["here", "x.y"]),
    ("konductor.io/barrier-wait", ["there", "b,c"]),
    ("konductor.io/barrier-arrive", ["end", "d"]),
    ("konductor.io/semaphore", ["a", "a = 3"]),
    ("konductor.io/rwmutex-read", ["r", "r,x.y"]),
    ("konductor.io/rwmutex-write", ["w", "db-1"]),
    ("konductor.io/mutex", ["a, db-1, x.y", "zebra"]),
    ("konductor.io/lease", ["a", "x.y"]),
];

fn participation() -> impl Strategy<Value = Map<String, Value>> {
    let chosen = prop::sample::subsequence((0..WAYS.len()).collect::<Vec<_>>(), 1..6);
    let options = prop::sample::subsequence(
        vec![
            ("timeout", "30m"),
            ("on-busy", "fail"),
            ("priority", "-3"),
            ("hold", "scheduling-gate"),
            ("sidecar", "always"),
        ],
        0..5,
    );
    (chosen, any::<bool>(), options, any::<bool>()).prop_map(|(chosen, second, options, other)| {
        let mut map = Map::new();
        for (key, values) in chosen.into_iter().map(|way| WAYS[way]) {
            map.insert(key.to_owned(), json!(values[usize::from(second)]));
        }
        for (key, value) in options {
            map.insert(format!("konductor.io/{key}"), json!(value));
        }
        if other {
            map.insert("example.com/kept".to_owned(), json!("~1/~0"));
        }
        map
    })
}

fn pod() -> impl Strategy<Value = Value> {
    let init = list(container(&["setup", "istio-validation", "istio-proxy", "linkerd-proxy", "logs"]), 0);
    let labels = Just(json!({"app": "x"}));
    let volumes = Just(json!([{"name": "data", "emptyDir": {}}]));
    let security = prop_oneof![Just(json!({})), Just(json!({"runAsUser": 0})), Just(json!({"runAsUser": 7}))];
    let spec = (
        maybe(init),
        list(container(&["main", "helper", "istio-proxy"]), 1),
        maybe(volumes),
        maybe(security),
        maybe(resources()),
    );
    (participation(), maybe(labels), spec, any::<bool>()).prop_map(
        |(annotations, labels, (init, containers, volumes, security, resources), named)| {
            let name = if named { "name" } else { "generateName" };
            json!({
                "metadata": object(vec![
                    (name, Some(json!("p"))),
                    ("annotations", Some(Value::Object(annotations))),
                    ("labels", labels),
                ]),
                "spec": object(vec![
                    ("initContainers", init),
                    ("containers", Some(containers)),
                    ("volumes", volumes),
                    ("securityContext", security),
                    ("resources", resources),
                    ("futureField", Some(json!({"kept": [null, 1.5]}))),
                ]),
                "unknown": {"kept": true},
            })
        },
    )
}

/// Takes away what we add; what is left must be what was there, apart from parents that were missing.
fn without_ours(patched: &Value) -> Value {
    let mut rest = patched.clone();
    let ours = |value: &Value| value["name"].as_str().unwrap_or_default().starts_with("konductor-");
    for field in ["initContainers", "volumes"] {
        if let Some(list) = rest["spec"][field].as_array_mut() {
            list.retain(|item| !ours(item));
        }
    }
    if let Some(gates) = rest["spec"]["schedulingGates"].as_array_mut() {
        gates.retain(|gate| gate["name"] != "konductor.io/hold");
    }
    for container in rest["spec"]["containers"].as_array_mut().unwrap() {
        if let Some(env) = container.get_mut("env").and_then(Value::as_array_mut) {
            env.retain(|variable| !variable["name"].as_str().unwrap().starts_with("KONDUCTOR_TOKEN"));
        }
    }
    rest["metadata"]["labels"].as_object_mut().unwrap().remove("konductor.io/participant");
    rest["metadata"]["annotations"].as_object_mut().unwrap().remove("konductor.io/queued");
    rest
}

/// Empty maps and lists and nulls count as absent.
fn pruned(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.iter().map(|(key, value)| (key.clone(), pruned(value)));
            Value::Object(kept.filter(|(_, value)| !is_nothing(value)).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(pruned).collect()),
        other => other.clone(),
    }
}

fn is_nothing(value: &Value) -> bool {
    value.is_null() || *value == json!({}) || *value == json!([])
}

/// The class, as the kubelet reckons it for cpu and memory.
fn is_guaranteed(pod: &Value) -> bool {
    let guaranteed = |resources: &Value| {
        ["cpu", "memory"].iter().all(|name| {
            let limit = &resources["limits"][name];
            !limit.is_null() && (resources["requests"].is_null() || resources["requests"][name] == *limit)
        })
    };
    if !is_nothing(&pod["spec"]["resources"]) {
        return guaranteed(&pod["spec"]["resources"]);
    }
    ["initContainers", "containers"]
        .iter()
        .flat_map(|field| pod["spec"][field].as_array().into_iter().flatten())
        .all(|container| guaranteed(&container["resources"]))
}

proptest! {
    #[test]
    fn the_patch_applies_once_and_keeps_everything(pod in pod()) {
        let first = patched("pods", &pod);
        prop_assert_ne!(&first, &pod);
        prop_assert_eq!(pruned(&without_ours(&first)), pruned(&pod));
        prop_assert_eq!(admitted("pods", &first).answer.verdict.as_str(), "unchanged");
        prop_assert_eq!(is_guaranteed(&pod), is_guaranteed(&first));

        let mut second = first.clone();
        between_two_passes(&mut second);
        prop_assert_eq!(admitted("pods", &second).answer.verdict.as_str(), "unchanged");
    }

    #[test]
    fn the_policies_and_the_restricted_profile_are_satisfied(pod in pod()) {
        let first = patched("pods", &pod);
        prop_assert_eq!(&first["metadata"]["labels"]["konductor.io/participant"], "true");
        let waiter = waiter(&first);
        prop_assert!(waiter.get("restartPolicy").is_none());
        let security = &waiter["securityContext"];
        prop_assert_eq!(&security["allowPrivilegeEscalation"], &json!(false));
        prop_assert_eq!(&security["capabilities"], &json!({"drop": ["ALL"]}));
        prop_assert_eq!(&security["runAsNonRoot"], &json!(true));
        prop_assert_eq!(&security["seccompProfile"]["type"], "RuntimeDefault");
        prop_assert_eq!(&security["readOnlyRootFilesystem"], &json!(true));
        let forced = first["spec"]["securityContext"]["runAsUser"] == json!(0);
        prop_assert_eq!(security.get("runAsUser").cloned(), forced.then(|| json!(65532)));
        let mounts = waiter["volumeMounts"].as_array().unwrap();
        prop_assert!(mounts.iter().any(|mount| mount["mountPath"] == TOKEN_PATH));
    }

    #[test]
    fn the_waiter_stands_before_all_but_a_meshs_proxy(pod in pod()) {
        let first = patched("pods", &pod);
        let init = first["spec"]["initContainers"].as_array().unwrap();
        let place = init.iter().position(|container| container["name"] == "konductor-wait").unwrap();
        let is_proxy = |container: &Value| {
            container["restartPolicy"] == "Always"
                && ["istio-proxy", "linkerd-proxy"].contains(&container["name"].as_str().unwrap())
        };
        prop_assert!(place == 0 || is_proxy(&init[place - 1]));
        prop_assert!(!init[place..].iter().any(is_proxy));
    }

    #[test]
    fn the_sidecar_stands_right_behind_the_waiter_and_satisfies_the_same(pod in pod()) {
        let first = patched("pods", &pod);
        let annotations = first["metadata"]["annotations"].as_object().unwrap();
        let has = |key: &str| annotations.contains_key(&format!("konductor.io/{key}"));
        let holds = ["semaphore", "rwmutex-read", "rwmutex-write", "mutex", "lease"].into_iter().any(has);
        let wanted = has("lease") || has("sidecar") && holds;
        let sidecar = init_container(&first, "konductor-hold");
        prop_assert_eq!(sidecar.is_some(), wanted);
        let volumes = first["spec"]["volumes"].as_array().unwrap();
        prop_assert_eq!(volumes.iter().any(|volume| volume["name"] == "konductor-session"), wanted);
        let Some(sidecar) = sidecar else { return Ok(()) };
        let init = first["spec"]["initContainers"].as_array().unwrap();
        let place = init.iter().position(|container| container["name"] == "konductor-wait").unwrap();
        prop_assert_eq!(&init[place + 1]["name"], "konductor-hold");
        let waiter = waiter(&first);
        prop_assert_eq!(&sidecar["securityContext"], &waiter["securityContext"]);
        prop_assert_eq!(&sidecar["resources"], &waiter["resources"]);
        prop_assert_eq!(&sidecar["image"], &waiter["image"]);
        prop_assert_eq!(&sidecar["restartPolicy"], "Always");
        let mounts = sidecar["volumeMounts"].as_array().unwrap();
        prop_assert!(mounts.iter().all(|mount| mount["readOnly"] == true));
        prop_assert!(mounts.iter().any(|mount| mount["mountPath"] == TOKEN_PATH));

        // Whatever else is known by then, and however the cluster took it.
        let mut second = first.clone();
        between_two_passes(&mut second);
        for container in second["spec"]["initContainers"].as_array_mut().unwrap() {
            container.as_object_mut().unwrap().remove("restartPolicyRules");
        }
        prop_assert_eq!(admitted("pods", &second).answer.verdict.as_str(), "unchanged");
    }

    #[test]
    fn any_bytes_get_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let answer = konductor_webhook::admit::admit(&bytes, &support::settings(), &support::Unknown, support::now());
        prop_assert_eq!(&answer.answer.to_review()["response"]["allowed"], &json!(false));
    }

    #[test]
    fn any_object_gets_an_answer(key in "(metadata|spec)", inner in "(annotations|labels|containers|template|initContainers)", value in prop_oneof![
        Just(json!(null)), Just(json!(1)), Just(json!("x")), Just(json!([])), Just(json!([1])), Just(json!([null])), Just(json!({"a": 1}))
    ], resource in "(pods|jobs)") {
        let mut object = json!({"metadata": {"annotations": {"konductor.io/mutex": "a"}}, "spec": {}});
        object[key][inner] = value;
        prop_assert!(admitted(&resource, &object).answer.to_review()["response"]["allowed"].is_boolean());
    }
}
