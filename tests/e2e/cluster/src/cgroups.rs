//! The cgroups of a node: a tree of its own in every hierarchy, v1 and v2 alike.
//!
//! May touch: `/PARENT` in the mounted cgroup hierarchies and, on v2, which controllers the root passes on. What must
//! stay true: two clusters never share a parent (a kubelet ends what it finds below its own and does not know).

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Controllers that a kubelet wants on v2.
const CONTROLLERS: [&str; 5] = ["cpuset", "cpu", "io", "memory", "pids"];

/// A mounted hierarchy.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    mount: PathBuf,
    version_2: bool,
}

/// What is mounted below `/sys/fs/cgroup`.
pub(crate) fn hierarchies() -> Result<Vec<Hierarchy>> {
    let text = fs::read_to_string("/proc/self/mountinfo").context("reading /proc/self/mountinfo")?;
    Ok(parse(&text))
}

fn parse(mounts: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mounts.lines() {
        // …, mount point (fifth), …, " - ", type, …
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let (mount, kind) = (left.split(' ').nth(4), right.split(' ').next());
        let (Some(mount), Some(kind @ ("cgroup" | "cgroup2"))) = (mount, kind) else { continue };
        let hierarchy = Hierarchy { mount: mount.into(), version_2: kind == "cgroup2" };
        if hierarchy.mount.starts_with("/sys/fs/cgroup") && !found.contains(&hierarchy) {
            found.push(hierarchy);
        }
    }
    found
}

/// Makes `/PARENT/NODE` in all of them.
pub(crate) fn create(parent: &str, node: &str) -> Result<()> {
    for hierarchy in hierarchies()? {
        let above = hierarchy.mount.join(parent);
        let folder = above.join(node);
        fs::create_dir_all(&folder).with_context(|| format!("making the cgroup {}", folder.display()))?;
        if hierarchy.version_2 {
            pass_on(&hierarchy.mount)?;
            pass_on(&above)?;
        }
    }
    Ok(())
}

/// Lets the children of a v2 cgroup use the controllers that it has itself.
fn pass_on(folder: &Path) -> Result<()> {
    let file = folder.join("cgroup.subtree_control");
    let read = |file: &Path| fs::read_to_string(file).with_context(|| format!("reading {}", file.display()));
    let (offered, passed) = (read(&folder.join("cgroup.controllers"))?, read(&file)?);
    let has = |list: &str, name: &str| list.split_whitespace().any(|word| word == name);
    for name in CONTROLLERS.into_iter().filter(|name| has(&offered, name) && !has(&passed, name)) {
        fs::write(&file, format!("+{name}")).with_context(|| {
            format!(
                "passing the controller {name} on in {}; in a container, no process may sit in its root cgroup",
                file.display()
            )
        })?;
    }
    Ok(())
}

/// Removes the tree, bottom up; its processes have been killed and may need a moment to be gone.
pub(crate) fn remove(parent: &str) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(15);
    for hierarchy in hierarchies()? {
        let folder = hierarchy.mount.join(parent);
        while let Err(error) = remove_tree(&folder) {
            if Instant::now() > deadline {
                bail!("the cgroup {} cannot be removed: {error}", folder.display());
            }
            sleep(Duration::from_millis(20));
        }
    }
    Ok(())
}

/// Files of a cgroup cannot be removed and need not be.
fn remove_tree(folder: &Path) -> std::io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    match fs::remove_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_of_both_versions_are_seen_once_and_nothing_else_is() {
        let mounts = "\
30 24 0:26 / /sys/fs/cgroup rw,relatime shared:9 - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
31 30 0:27 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
32 30 0:28 / /sys/fs/cgroup/unified rw,relatime shared:1 master:2 - cgroup2 cgroup2 rw
33 24 0:29 / /mnt/elsewhere rw - cgroup cgroup rw,cpu
nonsense
";
        let found = parse(mounts);
        let expected = [("/sys/fs/cgroup/memory", false), ("/sys/fs/cgroup/unified", true)];
        let expected = expected.map(|(mount, version_2)| Hierarchy { mount: mount.into(), version_2 });
        assert_eq!(found, expected);
    }

    #[test]
    fn removing_what_is_not_there_is_no_error() {
        remove("konductor-test-that-is-not-there").unwrap();
    }
}
