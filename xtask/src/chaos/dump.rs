//! What is kept of a run that failed.
//!
//! Reads the cluster and the journals, writes to one folder. What must stay true: what cannot be read does not hide the rest.

use std::fmt::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::scene::Scene;
use super::table::folder;
use super::work::NAMESPACE;
use crate::install::NAMESPACE as SYSTEM;

const KINDS: &str = "mutexes.konductor.io,rwmutexes.konductor.io,semaphores.konductor.io,leases.konductor.io,\
                     onces.konductor.io,jobs,pods";

/// Writes down all that tells why; returns where.
pub(super) fn write(scene: &Scene, seed: u64, problems: &[String]) -> Result<PathBuf> {
    let folder = folder().join(format!("failed-{seed}"));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let get = |arguments: &[&str]| scene.kubectl(arguments).unwrap_or_else(|error| format!("{error:#}\n"));
    let mut logs = String::new();
    for component in ["controller-manager", "webhook"] {
        for pod in scene.replicas(component).unwrap_or_default() {
            let name = pod["metadata"]["name"].as_str().unwrap_or_default();
            for when in ["--previous=true", "--previous=false"] {
                let log = get(&["-n", SYSTEM, "logs", when, "--tail=20000", name]);
                let _ = write!(logs, "==== {name} {when}\n{log}");
            }
        }
    }
    for (file, text) in [
        ("problems.txt", problems.join("\n")),
        ("objects.yaml", get(&["-n", NAMESPACE, "get", KINDS, "-o", "yaml"])),
        ("nodes.yaml", get(&["get", "nodes", "-o", "yaml"])),
        ("konductor.yaml", get(&["-n", SYSTEM, "get", "pods,deployments,leases", "-o", "yaml"])),
        ("events.txt", get(&["get", "events", "-A", "--sort-by=.lastTimestamp"])),
        ("konductor.log", logs),
        ("seen.txt", format!("{:#?}\n{:#?}", *scene.seen(), scene.works().removed)),
    ] {
        std::fs::write(folder.join(file), text).with_context(|| format!("writing {file}"))?;
    }
    for entry in std::fs::read_dir(scene.common())?.flatten() {
        let name = format!("{}.journal", entry.file_name().to_string_lossy());
        let _ = std::fs::copy(entry.path().join("journal"), folder.join(name));
    }
    Ok(folder)
}
