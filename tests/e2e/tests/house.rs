//! The house rules of the source tree: who may depend on whom, and how files begin. Needs no cluster.

#![expect(clippy::unwrap_used, clippy::panic, reason = "all of this file is tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
    workspace_root: PathBuf,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    manifest_path: PathBuf,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
}

/// The workspace as cargo sees it.
struct House {
    root: PathBuf,
    /// From pure to impure, as the root manifest lists them.
    members: Vec<Member>,
    names: BTreeMap<String, String>,
    nodes: BTreeMap<String, Node>,
}

struct Member {
    folder: String,
    id: String,
}

impl House {
    fn look() -> Self {
        let metadata: Metadata =
            serde_json::from_str(&cargo(&["metadata", "--format-version", "1"])).unwrap();
        let root = metadata.workspace_root;
        let members = listed(&root)
            .into_iter()
            .map(|folder| {
                let manifest = root.join(&folder).join("Cargo.toml");
                let package = metadata.packages.iter().find(|package| package.manifest_path == manifest);
                let id = package.unwrap_or_else(|| panic!("{folder} is no package")).id.clone();
                Member { folder, id }
            })
            .collect();
        Self {
            root,
            members,
            names: metadata.packages.into_iter().map(|package| (package.id, package.name)).collect(),
            nodes: metadata.resolve.nodes.into_iter().map(|node| (node.id.clone(), node)).collect(),
        }
    }

    /// Of this workspace and of others, for its tests too.
    fn dependencies(&self, id: &str) -> impl Iterator<Item = &str> {
        self.nodes[id].deps.iter().map(|dependency| dependency.pkg.as_str())
    }

    /// All source files of all members, from the root.
    fn sources(&self) -> BTreeSet<PathBuf> {
        let mut files = BTreeSet::new();
        for member in &self.members {
            for part in ["src", "tests", "benches", "build.rs"] {
                collect(&self.root.join(&member.folder).join(part), &mut files);
            }
        }
        files
    }
}

fn cargo(arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO"));
    let output =
        command.args(arguments).arg("--locked").current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The names of everything that a crate is built from. From `cargo tree`, because the graph in the metadata has the
/// features that other members ask for.
fn built_from(package: &[&str]) -> BTreeSet<String> {
    let tree = ["tree", "--edges", "normal,build", "--prefix", "none", "--no-dedupe", "--package"];
    let tree = cargo(&[&tree, package].concat());
    tree.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

/// The members in the order of the root manifest: lines of quoted folders.
fn listed(root: &Path) -> Vec<String> {
    let manifest = std::fs::read_to_string(root.join("Cargo.toml")).unwrap();
    let (_, after) = manifest.split_once("members = [").unwrap();
    let (list, _) = after.split_once(']').unwrap();
    list.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

fn collect(path: &Path, files: &mut BTreeSet<PathBuf>) {
    if path.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            collect(&entry.unwrap().path(), files);
        }
    } else if path.is_file() && path.extension().is_some_and(|extension| extension == "rs") {
        files.insert(path.to_owned());
    }
}

#[test]
fn no_crate_depends_on_one_that_stands_below_it() {
    let house = House::look();
    let place: BTreeMap<_, _> =
        house.members.iter().enumerate().map(|(place, member)| (member.id.as_str(), place)).collect();
    for (own, member) in house.members.iter().enumerate() {
        for dependency in house.dependencies(&member.id) {
            if let Some(its) = place.get(dependency) {
                assert!(
                    *its < own,
                    "{} depends on {}, which stands below it",
                    member.folder,
                    house.names[dependency]
                );
            }
        }
    }
}

#[test]
fn the_waiter_knows_neither_kube_nor_tokio() {
    let of = |which| built_from(&["konductor-waiter", which]);
    let (wait, hold) = (of("--no-default-features"), of("--features=hold"));
    let forbidden: Vec<_> = hold
        .iter()
        .filter(|name| name.starts_with("kube") || name.starts_with("k8s") || name.starts_with("tokio"))
        .collect();
    assert!(forbidden.is_empty(), "{forbidden:?}");
    assert!(wait.len() <= 2, "every pod that waits pays for each of {wait:?}");
    assert!(
        hold.contains("rustls") && hold.len() <= 16,
        "every pod that holds by time pays for each of {hold:?}"
    );
}

/// Whoever uses the waiter's texts does not pay for the sidecar's TLS, and asks for it in its own name if it needs it.
#[test]
fn the_waiter_as_a_library_has_no_tls() {
    let crates = built_from(&["konductor-primitives"]);
    assert!(crates.contains("konductor-waiter") && !crates.contains("rustls-webpki"), "{crates:?}");
}

#[test]
fn the_rules_know_neither_a_client_nor_tokio() {
    let crates = built_from(&["konductor-primitives"]);
    for forbidden in ["kube-client", "kube-runtime", "tokio", "hyper", "rustls", "rand"] {
        assert!(!crates.contains(forbidden), "{forbidden} is in {crates:?}");
    }
}

#[test]
fn one_provider_of_cryptography_is_enough() {
    let lock = std::fs::read_to_string(House::look().root.join("Cargo.lock")).unwrap();
    for forbidden in ["aws-lc-rs", "aws-lc-sys", "openssl-sys"] {
        assert!(!lock.contains(&format!("name = \"{forbidden}\"")), "{forbidden} is in Cargo.lock");
    }
}

#[test]
fn every_module_opens_with_what_it_is_for() {
    let silent: Vec<_> = House::look()
        .sources()
        .into_iter()
        .filter(|file| !std::fs::read_to_string(file).unwrap().starts_with("//!"))
        .collect();
    assert!(silent.is_empty(), "no //! on the first line of {silent:#?}");
}

/// The programs that are shipped. That of xtask is not: it has no library, and its main is the list of its commands. Nor are
/// those of tests, which list their rooms.
#[test]
fn mains_of_programs_are_short() {
    let house = House::look();
    let tool = house.root.join("xtask");
    let is_shipped = |file: &PathBuf| {
        !file.starts_with(&tool) && file.components().all(|part| part.as_os_str() != "tests")
    };
    for file in house.sources().into_iter().filter(is_shipped) {
        let is_main =
            file.ends_with("main.rs") || file.parent().is_some_and(|parent| parent.ends_with("src/bin"));
        let lines = std::fs::read_to_string(&file).unwrap().lines().count();
        assert!(
            !is_main || lines <= 30,
            "{} has {lines} lines; what it does belongs into the library",
            file.display()
        );
    }
}
