//! The sidecar: who gets one, what it is, and whether one that is there is ours.
//!
//! A hold with a `ttl` is lost after silence. The sidecar `konductor-hold` renews it, and if it can renew no more it ends
//! with a code by which the kubelet starts the whole pod again, behind the waiter. Pure. What must stay true: the
//! sidecar starts after the grant and before what the hold is for; one that is there already stays, whatever is known by
//! then, so that a second pass changes nothing; like the waiter, it gets no credentials but a token that is good with
//! Konductor only.
//!
//! **A pod that starts again as a whole is released when all of it has ended** (P1): that its critical containers have
//! ended does not say that they stay so. So who would give something back earlier than the pod's end (a section of one
//! init container, or of some of the containers) gets no sidecar by itself. Neither does who could not find the operator:
//! it goes by the name of a Service, and not every pod asks the cluster's DNS.

use konductor_api::annotations::{AUDIENCE, HOLD_CONTAINER, SIDECAR};
use konductor_api::grammar::Problem;
use konductor_api::options::Sidecar;
use konductor_api::participation::{Kind, PodPlan};
use serde_json::{Value, json};

use crate::names::Around;
use crate::object::{at, list, name, text};
use crate::section::{Field, Found};
use crate::waiter::{self, Settings};
use crate::windows;

/// The volume with the token.
pub const SESSION_VOLUME: &str = "konductor-session";

const SESSION_DIRECTORY: &str = "/konductor-session";
const BINARY: &str = "/konductor-hold";
/// With these it ends when it was asked to, or cannot begin; with any other it has fenced, or was killed and has taken its
/// deadline with it.
const NOT_FENCED: [u8; 2] = [0, 2];
/// The least that there is. The kubelet renews the file after four fifths of it.
const TOKEN_SECONDS: u32 = 600;
const CA: &str = "KONDUCTOR_SESSIONS_CA";

/// Where holds are renewed, as the sidecar finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sessions {
    /// `host:port`.
    pub address: String,
    /// The CAs by which it is known, as PEM.
    pub ca: String,
    /// Does the cluster know the rule by which a container that ends starts the whole pod again? One that does not, and
    /// knows such rules, refuses the pod.
    pub fences: bool,
}

/// Does a pod get one?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Yes.
    Yes,
    /// It need not have one; ours stays where it is.
    IfThere,
    /// It cannot have one: why, in a few words.
    No(&'static str),
}

// ----------------------------------------------------------------------------------------------- who gets one

/// How a pod comes by the address of a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dns {
    /// The cluster tells it.
    Cluster,
    /// Somebody whom its owner names; who knows.
    Own,
    /// Its node's does not know Services.
    Node,
}

fn dns(spec: &Value) -> Dns {
    let of_the_node = at(spec, &["hostNetwork"]) == Some(&Value::Bool(true));
    match text(spec, &["dnsPolicy"]) {
        Some("None") => Dns::Own,
        Some("Default") => Dns::Node,
        Some("ClusterFirstWithHostNet") => Dns::Cluster,
        _ if of_the_node => Dns::Node,
        _ => Dns::Cluster,
    }
}

/// Does a pod with that plan, that spec and that section get one?
pub fn wanted(plan: &PodPlan, spec: &Value, section: &Found, around: &Around<'_>) -> Wanted {
    if around.settings.sessions.is_none() {
        return Wanted::No("in this installation nobody listens to it");
    }
    if plan.sidecar == Sidecar::Never {
        return Wanted::No("konductor.io/sidecar says never");
    }
    if plan.holds_that_may_be_lost().next().is_none() {
        return Wanted::No("it holds nothing that could be lost");
    }
    if section.init().is_some() {
        return Wanted::No("what it holds is for an init container");
    }
    let apps = list(spec, &[Field::Apps.as_str()]).len();
    let of_the_whole_pod = section.field == Field::Apps && section.places.len() == apps;
    let lasts = |entry: konductor_api::participation::Entry<'_>| {
        entry.primitive.kind == Kind::Lease || around.names.has_ttl(around.namespace, entry.primitive)
    };
    match plan.sidecar {
        _ if dns(spec) == Dns::Node => Wanted::IfThere,
        Sidecar::Always => Wanted::Yes,
        _ if of_the_whole_pod && dns(spec) == Dns::Cluster && plan.holds_that_may_be_lost().any(lasts) => {
            Wanted::Yes
        }
        _ => Wanted::IfThere,
    }
}

/// Why that spec cannot have the sidecar that is asked for; `path` is where the annotations stand that ask.
pub fn refused(
    asked: Sidecar,
    spec: &Value,
    section: &Found,
    settings: &Settings,
    path: &str,
) -> Option<Problem> {
    let reason = match asked {
        Sidecar::Always if settings.sessions.is_none() => {
            "in this installation nobody listens to a sidecar (chart value controller.sessions.enabled)"
        }
        Sidecar::Always if windows::is_for(spec) => "the sidecar is a Linux program",
        Sidecar::Always if section.init().is_some() => {
            "what is held for an init container is given back when that has ended, and the sidecar would start the whole \
             pod again for it"
        }
        Sidecar::Always if dns(spec) == Dns::Node => {
            "the pod asks its node's DNS, which does not know the Service by which a sidecar finds the operator (spec.hostNetwork \
             goes with spec.dnsPolicy: ClusterFirstWithHostNet)"
        }
        Sidecar::Auto | Sidecar::Always | Sidecar::Never => return None,
    };
    Some(Problem {
        path: format!("{path}[{SIDECAR}]"),
        reason: reason.to_owned(),
        example: format!("{SIDECAR}: {}", Sidecar::Never.word()),
    })
}

// -------------------------------------------------------------------------------------------------- what it is

/// The container for a pod with this spec.
pub fn container(settings: &Settings, sessions: &Sessions, spec: &Value) -> Value {
    let mut container = waiter::injected(settings, spec, HOLD_CONTAINER, BINARY);
    container["env"] = json!([
        waiter::from_field("KONDUCTOR_POD_UID", "metadata.uid"),
        waiter::from_field("KONDUCTOR_POD_NAME", "metadata.name"),
        waiter::from_field("KONDUCTOR_POD_NAMESPACE", "metadata.namespace"),
        {"name": "KONDUCTOR_SESSIONS", "value": sessions.address},
        {"name": CA, "value": sessions.ca},
    ]);
    let [grant, instead_of_a_token] = waiter::grant_mounts();
    container["volumeMounts"] = json!([
        grant,
        {"name": SESSION_VOLUME, "mountPath": SESSION_DIRECTORY, "readOnly": true},
        instead_of_a_token,
    ]);
    container["restartPolicy"] = json!("Always");
    if sessions.fences {
        container["restartPolicyRules"] = rules();
    }
    container
}

/// The kubelet starts the whole pod again.
fn rules() -> Value {
    json!([{"action": "RestartAllContainers", "exitCodes": {"operator": "NotIn", "values": NOT_FENCED}}])
}

/// The volume with its token.
pub fn volume() -> Value {
    let token = json!({"audience": AUDIENCE, "expirationSeconds": TOKEN_SECONDS, "path": "token"});
    json!({"name": SESSION_VOLUME, "projected": {"sources": [{"serviceAccountToken": token}]}})
}

// ------------------------------------------------------------------------------------------------ is it ours?

/// The fields in which a container under our name differs from ours; none means that it is ours. The rule may be there
/// or not: an older cluster drops it. The CAs may be others: they change, and our replicas see it one after the other.
pub(crate) fn differences(actual: &Value, expected: &Value) -> Vec<String> {
    let mut expected = expected.clone();
    expected["restartPolicyRules"] = rules();
    let told = |container: &Value| {
        list(container, &["env"])
            .iter()
            .find(|variable| name(variable) == CA)
            .map(|found| found["value"].clone())
    };
    let certificates = told(actual).filter(|found| found.as_str().is_some_and(|pem| pem.contains(BEGIN)));
    if let Some(certificates) = certificates
        && let Some(variables) = expected["env"].as_array_mut()
    {
        variables.iter_mut().filter(|variable| name(variable) == CA).for_each(|variable| {
            variable["value"] = certificates.clone();
        });
    }
    waiter::differences(actual, &expected)
}

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::names::Names;

    struct Knows(&'static [&'static str]);

    impl Names for Knows {
        fn is_missing(&self, _: &str, _: &konductor_api::participation::PrimitiveRef) -> bool {
            false
        }

        fn has_ttl(&self, namespace: &str, primitive: &konductor_api::participation::PrimitiveRef) -> bool {
            namespace == "shop" && self.0.contains(&primitive.to_string().as_str())
        }
    }

    fn plan(set: &str, sidecar: Sidecar) -> PodPlan {
        PodPlan { pod: set.parse().unwrap(), sidecar, ..PodPlan::default() }
    }

    fn around<'a>(settings: &'a Settings, names: &'a Knows) -> Around<'a> {
        Around { settings, names, namespace: "shop", now: jiff::Timestamp::UNIX_EPOCH }
    }

    fn sessions() -> Sessions {
        Sessions { address: "s.k.svc:443".to_owned(), ca: format!("{BEGIN}\nAA\n"), fences: true }
    }

    const WHOLE: [usize; 2] = [0, 1];

    fn two_apps() -> Value {
        json!({"containers": [{"name": "a"}, {"name": "b"}]})
    }

    #[rstest]
    #[case::a_lease("v1 lease=l", Sidecar::Auto, Wanted::Yes)]
    #[case::a_mutex_with_a_ttl("v1 mutex=lasts", Sidecar::Auto, Wanted::Yes)]
    #[case::a_reader_of_what_has_a_ttl("v1 rwmutex-read=lasts", Sidecar::Auto, Wanted::Yes)]
    #[case::one_of_several("v1 semaphore=s mutex=lasts", Sidecar::Auto, Wanted::Yes)]
    #[case::a_mutex_without("v1 mutex=db", Sidecar::Auto, Wanted::IfThere)]
    #[case::asked_for("v1 mutex=db", Sidecar::Always, Wanted::Yes)]
    #[case::never("v1 lease=l", Sidecar::Never, Wanted::No("konductor.io/sidecar says never"))]
    #[case::a_once("v1 once=o", Sidecar::Always, Wanted::No("it holds nothing that could be lost"))]
    #[case::a_gate(
        "v1 gate=g waitgroup=w barrier=b",
        Sidecar::Auto,
        Wanted::No("it holds nothing that could be lost")
    )]
    fn who_holds_what_may_be_lost_gets_one(
        #[case] set: &str,
        #[case] asked: Sidecar,
        #[case] expected: Wanted,
    ) {
        let (settings, names) = (Settings::usual(), Knows(&["mutex/lasts", "rwmutex/lasts"]));
        let section = Found { field: Field::Apps, places: WHOLE.to_vec() };
        assert_eq!(wanted(&plan(set, asked), &two_apps(), &section, &around(&settings, &names)), expected);
    }

    #[test]
    fn who_gives_something_back_before_the_pods_end_gets_none_by_itself() {
        let (settings, names) = (Settings::usual(), Knows(&[]));
        let of = |field, places: &[usize], asked| {
            let section = Found { field, places: places.to_vec() };
            wanted(&plan("v1 lease=l", asked), &two_apps(), &section, &around(&settings, &names))
        };
        assert_eq!(of(Field::Apps, &[1], Sidecar::Auto), Wanted::IfThere);
        assert_eq!(of(Field::Apps, &[1], Sidecar::Always), Wanted::Yes);
        for asked in [Sidecar::Auto, Sidecar::Always] {
            assert_eq!(of(Field::Init, &[0], asked), Wanted::No("what it holds is for an init container"));
        }
        let nowhere = Settings { sessions: None, ..Settings::usual() };
        let section = Found { field: Field::Apps, places: WHOLE.to_vec() };
        let found =
            wanted(&plan("v1 lease=l", Sidecar::Auto), &two_apps(), &section, &around(&nowhere, &names));
        assert!(matches!(found, Wanted::No(_)));
    }

    #[rstest]
    #[case::usual(json!({}), Wanted::Yes, Wanted::Yes)]
    #[case::said_in_full(json!({"dnsPolicy": "ClusterFirst"}), Wanted::Yes, Wanted::Yes)]
    #[case::of_the_node(json!({"hostNetwork": true, "dnsPolicy": "ClusterFirst"}), Wanted::IfThere, Wanted::IfThere)]
    #[case::of_the_node_with_services(json!({"hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"}), Wanted::Yes, Wanted::Yes)]
    #[case::of_the_nodes_dns(json!({"dnsPolicy": "Default"}), Wanted::IfThere, Wanted::IfThere)]
    #[case::of_its_own(json!({"dnsPolicy": "None"}), Wanted::IfThere, Wanted::Yes)]
    fn who_could_not_find_the_operator_gets_none_by_itself(
        #[case] mut spec: Value,
        #[case] by_itself: Wanted,
        #[case] asked_for: Wanted,
    ) {
        spec["containers"] = json!([{"name": "main"}]);
        let (settings, names) = (Settings::usual(), Knows(&[]));
        let section = Found { field: Field::Apps, places: vec![0] };
        for (asked, expected) in [(Sidecar::Auto, by_itself), (Sidecar::Always, asked_for)] {
            let found = wanted(&plan("v1 lease=l", asked), &spec, &section, &around(&settings, &names));
            assert_eq!(found, expected);
            let refused = refused(asked, &spec, &section, &settings, "p").is_some();
            assert_eq!(refused, asked == Sidecar::Always && expected == Wanted::IfThere);
        }
    }

    #[test]
    fn one_that_cannot_be_is_refused_where_it_is_asked_for() {
        let usual = Settings::usual();
        let nowhere = Settings { sessions: None, ..Settings::usual() };
        let init = Found { field: Field::Init, places: vec![0] };
        let (apps, windows) = (Found::default(), json!({"os": {"name": "windows"}}));
        let said = |asked, spec: &Value, section: &Found, settings: &Settings| {
            refused(asked, spec, section, settings, "p").map(|problem| problem.to_string())
        };
        assert_eq!(said(Sidecar::Always, &json!({}), &apps, &usual), None);
        for asked in [Sidecar::Auto, Sidecar::Never] {
            assert_eq!(said(asked, &windows, &init, &nowhere), None);
        }
        for (found, words) in [
            (said(Sidecar::Always, &json!({}), &apps, &nowhere), "controller.sessions.enabled"),
            (said(Sidecar::Always, &windows, &apps, &usual), "a Linux program"),
            (said(Sidecar::Always, &json!({}), &init, &usual), "given back when that has ended"),
        ] {
            let found = found.unwrap();
            assert!(found.starts_with("p[konductor.io/sidecar]: ") && found.contains(words), "{found}");
        }
    }

    #[test]
    fn the_rule_is_there_only_where_the_cluster_knows_it() {
        let settings = Settings::usual();
        let rule = |fences| {
            container(&settings, &Sessions { fences, ..sessions() }, &json!({}))
                .get("restartPolicyRules")
                .cloned()
        };
        assert_eq!(rule(true), Some(rules()));
        assert_eq!(rule(false), None);
    }

    fn ours() -> Value {
        container(&Settings::usual(), &sessions(), &json!({}))
    }

    #[rstest]
    #[case::unchanged(|_: &mut Value| {})]
    #[case::a_cluster_that_drops_the_rule(|c: &mut Value| { c.as_object_mut().unwrap().remove("restartPolicyRules"); })]
    #[case::an_empty_list_of_rules(|c: &mut Value| c["restartPolicyRules"] = json!([]))]
    #[case::the_next_ca(|c: &mut Value| c["env"][4]["value"] = json!(format!("{BEGIN}\nBB\n")))]
    #[case::another_registry(|c: &mut Value| c["image"] = json!("mirror:5000/x/konductor-waiter@sha256:00"))]
    fn ours_stays_ours_after_others_had_it(#[case] change: fn(&mut Value)) {
        let mut container = ours();
        change(&mut container);
        assert_eq!(differences(&container, &ours()), Vec::<String>::new());
        let without =
            super::container(&Settings::usual(), &Sessions { fences: false, ..sessions() }, &json!({}));
        assert_eq!(differences(&container, &without), Vec::<String>::new(), "whoever compares");
    }

    #[rstest]
    #[case("command", |c: &mut Value| c["command"] = json!(["sleep"]))]
    #[case("image", |c: &mut Value| c["image"] = json!("busybox"))]
    #[case("restartPolicy", |c: &mut Value| { c.as_object_mut().unwrap().remove("restartPolicy"); })]
    #[case("restartPolicy", |c: &mut Value| c["restartPolicy"] = json!("Never"))]
    #[case("restartPolicyRules", |c: &mut Value| c["restartPolicyRules"][0]["exitCodes"]["values"] = json!([1]))]
    #[case("restartPolicyRules", |c: &mut Value| c["restartPolicyRules"][0]["action"] = json!("Restart"))]
    #[case("lifecycle", |c: &mut Value| c["lifecycle"] = json!({"preStop": {}}))]
    #[case("startupProbe", |c: &mut Value| c["startupProbe"] = json!({"exec": {}}))]
    #[case("env[KONDUCTOR_SESSIONS]", |c: &mut Value| c["env"][3]["value"] = json!("mine:443"))]
    #[case("env[KONDUCTOR_SESSIONS_CA]", |c: &mut Value| c["env"][4]["value"] = json!(""))]
    #[case("env[KONDUCTOR_SESSIONS_CA]", |c: &mut Value| { c["env"].as_array_mut().unwrap().pop(); })]
    #[case("volumeMounts[/konductor-session]", |c: &mut Value| c["volumeMounts"][1]["name"] = json!("mine"))]
    #[case("volumeMounts[/konductor]", |c: &mut Value| c["volumeMounts"][0]["name"] = json!("mine"))]
    fn a_difference_that_matters_is_named(#[case] field: &str, #[case] change: fn(&mut Value)) {
        let mut container = ours();
        change(&mut container);
        assert_eq!(differences(&container, &ours()), [field]);
    }

    #[test]
    fn the_volume_is_ours_with_defaults_and_with_no_other_token() {
        let mut found = volume();
        found["projected"]["defaultMode"] = json!(420);
        assert!(!waiter::is_other_volume(&found, &volume()));
        found["projected"]["sources"][0]["serviceAccountToken"]["audience"] = json!("other");
        assert!(waiter::is_other_volume(&found, &volume()));
    }
}
