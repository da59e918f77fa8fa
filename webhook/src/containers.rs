//! What a pod's spec lacks to take part: the waiter and the sidecar at their places, their volumes, and what the critical
//! section gets.
//!
//! Pure. What must stay true: nothing of the user's is changed or moved (a command that runs once gets words before it),
//! our own work is recognised by what it is and not by a marker, and whatever else stands under our reserved names is
//! refused.

use konductor_api::annotations::{HOLD_CONTAINER, WAITER_CONTAINER};
use konductor_api::grammar::Problem;
use konductor_api::participation::PodPlan;
use serde_json::{Value, json};

use crate::names::Around;
use crate::object::{list, name, text};
use crate::once::{self, Wrap};
use crate::section::{self, Field, Found};
use crate::sidecar::{self, Wanted};
use crate::waiter::{self, Settings};
use crate::{tokens, windows};

/// Native sidecars that carry a mesh's traffic. What runs before them is for them to say; we come right after.
const MESH_PROXIES: [&str; 2] = ["istio-proxy", "linkerd-proxy"];

/// What must be added to a pod's spec.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Injection {
    /// The waiter, and its place among the init containers.
    pub waiter: Option<(usize, Value)>,
    /// The sidecar, and its place once the waiter stands there.
    pub sidecar: Option<(usize, Value)>,
    /// Volumes, to be appended.
    pub volumes: Vec<Value>,
    /// With what the waiter's image is pulled, if that is not there.
    pub pull_secret: Option<Value>,
    /// What the containers of the critical section get.
    pub edits: Vec<Edit>,
}

/// What one of the user's containers gets.
#[derive(Clone, Debug, PartialEq)]
pub struct Edit {
    /// In which list it stands, as the user wrote it.
    pub field: Field,
    /// Where in it.
    pub place: usize,
    /// Variables, to be appended.
    pub variables: Vec<Value>,
    /// What makes it run once.
    pub wrap: Wrap,
}

/// Where things stand, as people read it.
#[derive(Clone, Copy, Debug)]
pub struct Paths<'a> {
    /// Of the spec, e.g. `spec.template.spec`.
    pub spec: &'a str,
    /// Of the annotations by which the pod takes part.
    pub annotations: &'a str,
}

/// What the spec lacks, or why the pod cannot take part.
pub fn inject(
    spec: &Value,
    plan: &PodPlan,
    around: &Around<'_>,
    paths: Paths<'_>,
) -> Result<Injection, Vec<Problem>> {
    let settings = around.settings;
    if let Some(problem) = windows::said_elsewhere(spec, paths) {
        return Err(vec![problem]);
    }
    if windows::is_for(spec) {
        return inject_nothing_but_tokens(spec, plan, settings, paths);
    }
    let init_containers = list(spec, &["initContainers"]);
    let there = position(init_containers, WAITER_CONTAINER);
    let mut problems = Vec::new();
    let section = section::find(spec, plan, paths).unwrap_or_else(|found| {
        problems.push(found);
        Found::default()
    });
    let wanted = sidecar::wanted(plan, spec, &section, around);
    let ours = Ours {
        waiter: waiter::container(settings, plan, spec),
        sidecar: match &settings.sessions {
            Some(sessions) if !matches!(wanted, Wanted::No(_)) => {
                Ok(sidecar::container(settings, sessions, spec))
            }
            _ => Err(why_not(wanted)),
        },
    };
    problems.extend(reserved_containers(spec, &ours, plan, &section, paths.spec));
    let sidecar_is_there = position(init_containers, HOLD_CONTAINER).is_some();
    let mut volumes =
        missing_volumes(spec, waiter::volumes(plan), there.is_some(), &mut problems, paths.spec);
    if wanted == Wanted::Yes || sidecar_is_there {
        let of_the_sidecar = vec![sidecar::volume()];
        volumes.extend(missing_volumes(spec, of_the_sidecar, sidecar_is_there, &mut problems, paths.spec));
    }
    problems.extend(comes_too_early(init_containers, paths.spec));
    problems.extend(comes_too_late(init_containers, &section, paths.spec));
    let edits = edits(spec, plan, &section, paths).unwrap_or_else(|found| {
        problems.extend(found);
        Vec::new()
    });
    if !problems.is_empty() {
        return Err(problems);
    }
    let place = there.unwrap_or_else(|| place(init_containers, &section));
    let sidecar = ours.sidecar.ok().filter(|_| wanted == Wanted::Yes && !sidecar_is_there);
    Ok(Injection {
        waiter: there.is_none().then_some((place, ours.waiter)),
        sidecar: sidecar.map(|sidecar| (place + 1, sidecar)),
        volumes,
        pull_secret: pull_secret(spec, settings),
        edits,
    })
}

/// What stands under our names, where it is ours. Without a sidecar: why there is none.
struct Ours {
    waiter: Value,
    sidecar: Result<Value, &'static str>,
}

const fn why_not(wanted: Wanted) -> &'static str {
    match wanted {
        Wanted::No(why) => why,
        Wanted::Yes | Wanted::IfThere => "nobody listens to it",
    }
}

fn position(containers: &[Value], wanted: &str) -> Option<usize> {
    containers.iter().position(|container| name(container) == wanted)
}

/// Whoever runs the pod may have named it already, or their `ServiceAccount`.
fn pull_secret(spec: &Value, settings: &Settings) -> Option<Value> {
    let wanted = settings.pull_secret.as_ref()?;
    let there = list(spec, &["imagePullSecrets"]).iter().any(|secret| name(secret) == wanted.as_str());
    (!there).then(|| json!({"name": wanted}))
}

/// Of a pod that its scheduling gate holds.
fn inject_nothing_but_tokens(
    spec: &Value,
    plan: &PodPlan,
    settings: &Settings,
    paths: Paths<'_>,
) -> Result<Injection, Vec<Problem>> {
    let section = section::find(spec, plan, paths).map_err(|problem| vec![problem])?;
    let problems = windows::problems(spec, plan, &section, settings, paths);
    if problems.is_empty() {
        let edits = edits(spec, plan, &section, paths)?;
        Ok(Injection { edits, ..Injection::default() })
    } else {
        Err(problems)
    }
}

/// The waiter, where it is, behind what it should keep from starting.
fn comes_too_late(init_containers: &[Value], section: &Found, path: &str) -> Option<Problem> {
    let waiter = position(init_containers, WAITER_CONTAINER)?;
    let guarded = section.init().filter(|guarded| *guarded < waiter)?;
    Some(Problem {
        path: format!("{path}.initContainers[{waiter}]"),
        reason: format!(
            "{WAITER_CONTAINER} stands behind initContainers[{guarded}], the critical section, which would start \
             without waiting"
        ),
        example: "remove it, Konductor adds its own in the right place".to_owned(),
    })
}

/// The sidecar before the waiter: it would run, and give up, while nothing is held yet.
fn comes_too_early(init_containers: &[Value], path: &str) -> Option<Problem> {
    let sidecar = position(init_containers, HOLD_CONTAINER)?;
    let waiter = position(init_containers, WAITER_CONTAINER);
    waiter.is_none_or(|waiter| sidecar < waiter).then(|| Problem {
        path: format!("{path}.initContainers[{sidecar}]"),
        reason: format!(
            "{HOLD_CONTAINER} does not stand behind {WAITER_CONTAINER}, so it would start before the grant"
        ),
        example: "remove it, Konductor adds its own in the right place".to_owned(),
    })
}

/// Right before the init container that is the critical section; else first, or right after the last native sidecar of a
/// mesh.
fn place(init_containers: &[Value], section: &Found) -> usize {
    if let Some(guarded) = section.init() {
        return guarded;
    }
    let is_proxy = |container: &Value| {
        MESH_PROXIES.contains(&name(container)) && text(container, &["restartPolicy"]) == Some("Always")
    };
    init_containers.iter().rposition(is_proxy).map_or(0, |index| index + 1)
}

/// Containers under our names that are not ours, and containers that mount our volumes.
fn reserved_containers(
    spec: &Value,
    ours: &Ours,
    plan: &PodPlan,
    section: &Found,
    path: &str,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut seen = Vec::new();
    for field in [Field::Init, Field::Apps] {
        for (index, container) in list(spec, &[field.as_str()]).iter().enumerate() {
            let path = format!("{path}.{}[{index}]", field.as_str());
            let wrapped = once::is_asked(plan) && section.field == field && section.places.contains(&index);
            if [WAITER_CONTAINER, HOLD_CONTAINER].contains(&name(container)) {
                let first = field == Field::Init && !seen.contains(&name(container));
                seen.push(name(container));
                problems.extend(look_alike(container, ours, first).map(|reason| Problem {
                    path,
                    reason,
                    example: "remove it, Konductor adds its own; or give it another name".to_owned(),
                }));
                continue;
            }
            for (number, mount) in list(container, &["volumeMounts"]).iter().enumerate() {
                if waiter::is_reserved_volume(name(mount)) && !(wrapped && once::is_ours(mount)) {
                    problems.push(Problem {
                        path: format!("{path}.volumeMounts[{number}]"),
                        reason: format!(
                            "the volume {} belongs to what Konductor adds: another container could write there, \
                             or speak in its name",
                            name(mount)
                        ),
                        example: "remove the mount; an app reads its token from KONDUCTOR_TOKEN".to_owned(),
                    });
                }
            }
        }
    }
    problems
}

/// Why that container, under one of our names, is not ours. `first`: is it the first of that name among the init containers?
fn look_alike(container: &Value, ours: &Ours, first: bool) -> Option<String> {
    let name = name(container);
    let (kind, differences) = match &ours.sidecar {
        _ if !first => ("container", vec!["its place".to_owned()]),
        _ if name == WAITER_CONTAINER => ("init container", waiter::differences(container, &ours.waiter)),
        Ok(sidecar) => ("sidecar", sidecar::differences(container, sidecar)),
        Err(why) => {
            return Some(format!(
                "the name {name} is reserved for the sidecar that Konductor adds, and this pod gets none: {why}"
            ));
        }
    };
    (!differences.is_empty()).then(|| {
        format!(
            "the name {name} is reserved for the {kind} that Konductor adds, and this one differs from it in {}",
            told(&differences)
        )
    })
}

/// The first differences: enough to see what kind of thing this is.
fn told(differences: &[String]) -> String {
    const MOST: usize = 4;
    let more = if differences.len() > MOST { " and more" } else { "" };
    format!("{}{more}", differences.iter().take(MOST).map(String::as_str).collect::<Vec<_>>().join(", "))
}

/// Those of the volumes that are to be added. Under our names there may be ours only, and only beside our container.
fn missing_volumes(
    spec: &Value,
    expected: Vec<Value>,
    container_is_there: bool,
    problems: &mut Vec<Problem>,
    path: &str,
) -> Vec<Value> {
    let found = list(spec, &["volumes"]);
    let mut missing = Vec::new();
    for expected in expected {
        let mut seen = false;
        for (index, volume) in found.iter().enumerate().filter(|(_, volume)| name(volume) == name(&expected))
        {
            if seen || !container_is_there || waiter::is_other_volume(volume, &expected) {
                problems.push(Problem {
                    path: format!("{path}.volumes[{index}]"),
                    reason: format!(
                        "the name {} is reserved for a volume that Konductor adds, and this is not it",
                        name(&expected)
                    ),
                    example: "give the volume another name, e.g. data".to_owned(),
                });
            }
            seen = true;
        }
        if !seen {
            missing.push(expected);
        }
    }
    missing
}

/// Tokens are for those who do the work.
fn edits(spec: &Value, plan: &PodPlan, section: &Found, paths: Paths<'_>) -> Result<Vec<Edit>, Vec<Problem>> {
    let wanted = tokens::variables(plan, paths.annotations)?;
    let field = section.field;
    let containers = list(spec, &[field.as_str()]);
    let mut all = Vec::new();
    let once = once::is_asked(plan);
    let mut problems: Vec<_> =
        once.then(|| once::never_ends(spec, section, paths)).flatten().into_iter().collect();
    for (place, container) in
        section.places.iter().filter_map(|place| Some((*place, containers.get(*place)?)))
    {
        let path = format!("{}.{}[{place}]", paths.spec, field.as_str());
        let variables = tokens::missing(container, &wanted, &path);
        let wrap = if once { once::wrap(container, &path) } else { Ok(Wrap::default()) };
        match (variables, wrap) {
            (Ok(variables), Ok(wrap)) if variables.is_empty() && wrap.is_empty() => {}
            (Ok(variables), Ok(wrap)) => all.push(Edit { field, place, variables, wrap }),
            (variables, wrap) => {
                problems.extend(variables.err().into_iter().flatten().chain(wrap.err()));
            }
        }
    }
    if problems.is_empty() { Ok(all) } else { Err(problems) }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::names::Unknown;

    const PATHS: Paths<'static> = Paths { spec: "spec", annotations: "metadata.annotations" };

    fn injected(spec: &Value) -> Result<Injection, Vec<Problem>> {
        injected_for("", spec)
    }

    fn injected_for(section: &str, spec: &Value) -> Result<Injection, Vec<Problem>> {
        let settings = Settings::usual();
        let plan = PodPlan {
            pod: "v1 mutex=db".parse().unwrap(),
            section: section.parse().unwrap_or_default(),
            ..PodPlan::default()
        };
        inject(spec, &plan, &around(&settings), PATHS)
    }

    fn around(settings: &Settings) -> Around<'_> {
        Around { settings, names: &Unknown, namespace: "shop", now: jiff::Timestamp::UNIX_EPOCH }
    }

    fn sidecar(name: &str) -> Value {
        json!({"name": name, "restartPolicy": "Always"})
    }

    #[rstest]
    #[case::none(json!([]), 0)]
    #[case::the_users_own(json!([{"name": "setup"}, {"name": "more"}]), 0)]
    #[case::an_ordinary_sidecar(json!([sidecar("logs"), {"name": "setup"}]), 0)]
    #[case::istio(json!([{"name": "istio-validation"}, sidecar("istio-proxy"), {"name": "setup"}]), 2)]
    #[case::linkerd(json!([{"name": "linkerd-network-validator"}, sidecar("linkerd-proxy"), {"name": "setup"}]), 2)]
    #[case::istio_without_native_sidecars(json!([{"name": "istio-init"}, {"name": "istio-proxy"}]), 0)]
    fn the_waiter_is_first_but_after_a_meshs_native_proxy(#[case] init: Value, #[case] place: usize) {
        let injection = injected(&json!({"initContainers": init, "containers": [{"name": "main"}]})).unwrap();
        assert_eq!(injection.waiter.unwrap().0, place);
    }

    #[test]
    fn only_a_pod_that_forces_root_gets_a_uid() {
        let uid = |security: Value| {
            let spec = json!({"securityContext": security, "containers": [{"name": "main"}]});
            injected(&spec).unwrap().waiter.unwrap().1["securityContext"]["runAsUser"].clone()
        };
        assert_eq!(uid(json!({"runAsUser": 0})), 65532);
        assert_eq!(uid(json!({"runAsUser": 1000})), Value::Null);
        assert_eq!(uid(json!({})), Value::Null);
    }

    #[test]
    fn requests_are_limits_unless_the_pod_as_a_whole_has_resources() {
        let resources = |spec: Value| injected(&spec).unwrap().waiter.unwrap().1["resources"].clone();
        let ours = resources(json!({"containers": [{"name": "main"}]}));
        assert_eq!(ours["requests"], json!({"cpu": "100m", "memory": "16Mi"}));
        assert_eq!(ours["requests"], ours["limits"]);
        let whole = json!({"containers": [{"name": "main"}], "resources": {"requests": {"cpu": "10m"}}});
        assert_eq!(resources(whole), Value::Null);
    }

    #[test]
    fn every_app_container_gets_the_tokens_and_no_init_container_does() {
        let injection = injected(&json!({
            "initContainers": [{"name": "setup"}], "containers": [{"name": "a"}, {"name": "b", "env": []}],
        }));
        let edits = injection.unwrap().edits;
        assert_eq!(
            edits.iter().map(|edit| (edit.field, edit.place)).collect::<Vec<_>>(),
            [(Field::Apps, 0), (Field::Apps, 1)]
        );
        assert!(edits.iter().all(|edit| edit.variables.len() == 2));
    }

    #[test]
    fn the_waiter_stands_right_before_the_init_container_that_is_the_critical_section() {
        let mut spec = json!({
            "initContainers": [{"name": "setup"}, sidecar("istio-proxy"), {"name": "config"}, {"name": "migrate"}, {"name": "warm"}],
            "containers": [{"name": "main"}],
        });
        let injection = injected_for("migrate", &spec).unwrap();
        let (place, waiter) = injection.waiter.unwrap();
        assert_eq!(place, 3);
        let [edit] = injection.edits.as_slice() else { panic!("{:?}", injection.edits) };
        assert_eq!((edit.field, edit.place, edit.variables.len()), (Field::Init, 3, 2));
        // Another webhook may come between the two; nobody may put it before.
        spec["volumes"] = json!(waiter::volumes(&PodPlan::default()));
        let inits = spec["initContainers"].as_array_mut().unwrap();
        inits.insert(2, waiter.clone());
        assert_eq!(injected_for("migrate", &spec).unwrap().waiter, None);
        let inits = spec["initContainers"].as_array_mut().unwrap();
        let waiter = inits.remove(2);
        inits.insert(4, waiter);
        assert_eq!(injected_for("migrate", &spec).unwrap_err()[0].path, "spec.initContainers[4]");
    }

    #[test]
    fn only_the_app_containers_that_are_the_critical_section_get_the_tokens() {
        let spec = json!({"containers": [{"name": "main"}, {"name": "logs"}]});
        let injection = injected_for("logs", &spec).unwrap();
        assert_eq!(injection.waiter.unwrap().0, 0);
        assert_eq!(injection.edits.iter().map(|edit| edit.place).collect::<Vec<_>>(), [1]);
    }

    #[rstest]
    #[case("spec.initContainers[0]", json!({"initContainers": [{"name": "konductor-wait", "image": "busybox"}]}))]
    #[case("spec.containers[0]", json!({"containers": [{"name": "konductor-wait"}]}))]
    #[case("spec.volumes[1]", json!({"volumes": [{"name": "data"}, {"name": "konductor-grant", "emptyDir": {}}]}))]
    #[case("spec.volumes[0]", json!({"volumes": [{"name": "konductor-state", "emptyDir": {}}]}))]
    #[case("spec.containers[0].volumeMounts[0]", json!({
        "containers": [{"name": "a", "volumeMounts": [{"name": "konductor-state", "mountPath": "/x"}]}],
    }))]
    #[case("spec.initContainers[0].volumeMounts[0]", json!({
        "initContainers": [{"name": "a", "volumeMounts": [{"name": "konductor-grant", "mountPath": "/x"}]}],
    }))]
    fn what_stands_under_our_names_and_is_not_ours_is_refused(#[case] path: &str, #[case] spec: Value) {
        let problems = injected(&spec).unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!(problems[0].path, path);
    }

    #[test]
    fn ours_is_recognised_and_a_second_one_is_refused() {
        let (_, waiter) = injected(&json!({})).unwrap().waiter.unwrap();
        let mut spec = json!({"initContainers": [waiter], "volumes": waiter::volumes(&PodPlan::default())});
        assert_eq!(injected(&spec), Ok(Injection::default()));
        spec["containers"] = json!([waiter]);
        assert_eq!(injected(&spec).unwrap_err()[0].path, "spec.containers[0]");
    }

    #[test]
    fn a_secret_to_pull_with_is_added_where_it_is_wanted_and_not_there() {
        let added = |wanted: Option<&str>, there: Value| {
            let settings = Settings { pull_secret: wanted.map(str::to_owned), ..Settings::usual() };
            let plan = PodPlan { pod: "v1 mutex=db".parse().unwrap(), ..PodPlan::default() };
            let spec = json!({"containers": [{"name": "main"}], "imagePullSecrets": there});
            inject(&spec, &plan, &around(&settings), PATHS).unwrap().pull_secret
        };
        assert_eq!(added(None, json!(null)), None);
        assert_eq!(added(Some("registry"), json!(null)), Some(json!({"name": "registry"})));
        assert_eq!(added(Some("registry"), json!([{"name": "mine"}])), Some(json!({"name": "registry"})));
        assert_eq!(added(Some("registry"), json!([{"name": "registry"}])), None);
    }
}
