//! How large things are: the waiter on disk, the waiter and the operator in memory.
//!
//! May touch: reads `/proc` of this machine and one archive. What must stay true: a process counts only if its
//! control group names the pod; on a cluster whose processes this machine does not see, nothing is claimed.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

/// Resident memory, in KiB, of the processes with that name in those pods.
pub(super) fn resident(program: &str, uids: &BTreeSet<String>) -> Vec<u64> {
    // The kernel keeps 15 characters of a name.
    let short: String = program.chars().take(15).collect();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let read = |file: &str| fs::read_to_string(entry.path().join(file)).unwrap_or_default();
        if read("comm").trim_end() != short || !is_in(&read("cgroup"), uids) {
            continue;
        }
        found.extend(field(&read("status"), "VmRSS:"));
    }
    found
}

/// The UIDs of pods in a list.
pub(super) fn uids(list: &Value) -> BTreeSet<String> {
    let items = list["items"].as_array().into_iter().flatten();
    items.filter_map(|pod| pod["metadata"]["uid"].as_str().map(str::to_owned)).collect()
}

/// The size of an executable in an image's archive.
pub(super) fn in_image(archive: &Path, program: &str) -> Result<u64> {
    let file = fs::File::open(archive).with_context(|| format!("opening {}", archive.display()))?;
    let mut outer = tar::Archive::new(file);
    for blob in outer.entries()? {
        let mut bytes = Vec::new();
        blob?.read_to_end(&mut bytes)?;
        let mut layer = tar::Archive::new(bytes.as_slice());
        // What is no archive has no entries.
        for entry in layer.entries().into_iter().flatten().flatten() {
            if entry.path().is_ok_and(|path| path == Path::new(program)) {
                return Ok(entry.size());
            }
        }
    }
    anyhow::bail!("{} holds no {program}", archive.display())
}

fn is_in(cgroup: &str, uids: &BTreeSet<String>) -> bool {
    // Where systemd makes the groups, dashes have another meaning.
    uids.iter().any(|uid| cgroup.contains(uid) || cgroup.contains(&uid.replace('-', "_")))
}

fn field(status: &str, name: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_recognised_by_its_control_group() {
        let uids = BTreeSet::from(["a-b".to_owned()]);
        assert!(is_in("0::/konductor-x/n1/kubepods/burstable/poda-b/c", &uids));
        assert!(is_in("0::/kubepods.slice/kubepods-poda_b.slice/c", &uids));
        assert!(!is_in("0::/kubepods/podc-d/c", &uids));
    }

    #[test]
    fn our_own_memory_can_be_read() {
        assert_eq!(field("Name:\tx\nVmRSS:\t    1024 kB\n", "VmRSS:"), Some(1024));
        assert!(field(&fs::read_to_string("/proc/self/status").unwrap(), "VmRSS:").unwrap() > 100);
    }
}
