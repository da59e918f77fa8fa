//! Where a cluster keeps its files.
//!
//! May touch: `/var/lib/konductor`. What must stay true: a cluster's folder belongs to one run of its node; it is
//! thrown away when no node runs, so nothing of a run that was killed half-way is ever taken for whole.

use std::fs::{self, File, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// Not below anybody's home, because only root runs clusters; and not in the tree.
const ROOT: &str = "/var/lib/konductor";
/// Longer names would not fit the name of an interface or a host.
const LONGEST_NAME: usize = 30;

/// The paths of one cluster.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    name: String,
    folder: PathBuf,
}

impl Layout {
    /// Of the cluster of this name.
    pub(crate) fn new(name: &str) -> Result<Self> {
        let well_formed = (1..=LONGEST_NAME).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !name.starts_with('-')
            && !name.ends_with('-');
        ensure!(
            well_formed,
            "{name:?} is no name for a cluster: use up to {LONGEST_NAME} small letters, digits and dashes"
        );
        Ok(Self { name: name.to_owned(), folder: Path::new(ROOT).join(name) })
    }

    /// Of the cluster that a kubeconfig belongs to, by where it lies.
    pub(crate) fn of_kubeconfig(file: &Path) -> Option<Self> {
        let name = file.strip_prefix(ROOT).ok()?.parent()?.to_str()?;
        Self::new(name).ok().filter(|layout| layout.kubeconfig() == file)
    }

    /// The cluster's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The cgroup that all its nodes are below.
    pub(crate) fn cgroup(&self) -> String {
        format!("konductor-{}", self.name)
    }

    /// A file or folder of it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Its programs, each under its own name.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.folder.join("bin").join(name)
    }

    /// For whoever uses the cluster.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.path("kubeconfig")
    }

    /// Held while the cluster is changed; the kernel frees it when the holder dies.
    pub(crate) fn lock_file(&self) -> Result<File> {
        fs::create_dir_all(ROOT).with_context(|| format!("making {ROOT}"))?;
        // Beside the folder, which is thrown away, and never removed: two holders could hold two files.
        let path = Path::new(ROOT).join(format!("{}.lock", self.name));
        File::create(&path).with_context(|| format!("making {}", path.display()))
    }

    /// Writes a file with its folder; keys are in some, so nobody else reads any but the ones made public.
    pub(crate) fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> Result<()> {
        let path = self.path(name);
        let write = || {
            fs::create_dir_all(path.parent().unwrap_or(&self.folder))?;
            fs::write(&path, contents)?;
            fs::set_permissions(&path, Permissions::from_mode(0o600))
        };
        write().with_context(|| format!("writing {}", path.display()))
    }

    /// Gathers the programs of several folders under one; of a name that is in two of them the later one counts.
    pub(crate) fn link_programs(&self, folders: &[PathBuf]) -> Result<()> {
        let bin = self.path("bin");
        fs::create_dir_all(&bin).with_context(|| format!("making {}", bin.display()))?;
        for folder in folders {
            for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
                let entry = entry?;
                let link = bin.join(entry.file_name());
                let _ = fs::remove_file(&link);
                symlink(entry.path(), &link).with_context(|| format!("making {}", link.display()))?;
            }
        }
        Ok(())
    }

    /// Reads a file of it.
    pub(crate) fn read(&self, name: &str) -> Result<String> {
        let path = self.path(name);
        fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
    }

    /// Makes a folder of it; says whether it was not there.
    pub(crate) fn claim_folder(&self, name: &str) -> Result<bool> {
        let path = self.path(name);
        match fs::create_dir(&path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
            made => made.map(|()| true).with_context(|| format!("making {}", path.display())),
        }
    }

    /// Throws everything away.
    pub(crate) fn clear(&self) -> Result<()> {
        self.remove("")
    }

    /// Throws a folder of it away. Nothing may be mounted below: a file of somebody else would go with it.
    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        // Without the slash that joining nothing leaves.
        let folder: PathBuf = self.path(name).components().collect();
        let mounts = fs::read_to_string("/proc/self/mountinfo").context("reading /proc/self/mountinfo")?;
        let mounted = mount_points(&mounts).find(|(point, _)| Path::new(point).starts_with(&folder));
        ensure!(
            mounted.is_none(),
            "something is mounted at {}: umount it first",
            mounted.unwrap_or_default().0
        );
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("removing {}", folder.display()))
            }
            _ => Ok(()),
        }
    }

    /// Whether container layers can lie here: overlayfs does not stack on itself.
    pub(crate) fn takes_layers(&self) -> Result<bool> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").context("reading /proc/self/mountinfo")?;
        Ok(filesystem_at(&mounts, &self.folder) != Some("overlay"))
    }
}

/// Mount point and filesystem type of each line.
fn mount_points(mounts: &str) -> impl Iterator<Item = (&str, &str)> {
    mounts.lines().filter_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        Some((left.split(' ').nth(4)?, right.split(' ').next()?))
    })
}

/// Of mounts over one another the last one counts.
fn filesystem_at<'a>(mounts: &'a str, path: &Path) -> Option<&'a str> {
    mount_points(mounts)
        .filter(|(point, _)| path.starts_with(point))
        .max_by_key(|(point, _)| point.len())
        .map(|(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_would_leave_the_folder_is_refused() {
        for name in ["", "..", "a/b", "A", "-a", "a-", "a b", &"a".repeat(31)] {
            assert!(Layout::new(name).is_err(), "{name}");
        }
        for name in ["default", "e2e-1", "7"] {
            Layout::new(name).unwrap();
        }
    }

    #[test]
    fn a_kubeconfig_leads_back_to_its_cluster() {
        let layout = Layout::new("other").unwrap();
        assert_eq!(Layout::of_kubeconfig(&layout.kubeconfig()).unwrap().name(), "other");
        for path in
            ["/root/.kube/config", "/var/lib/konductor/other/settings.json", "/var/lib/konductor/kubeconfig"]
        {
            assert!(Layout::of_kubeconfig(Path::new(path)).is_none(), "{path}");
        }
    }

    #[test]
    fn the_innermost_and_last_mount_decides_the_filesystem() {
        let mounts = "\
1 0 0:1 / / rw - overlay overlay rw
2 1 0:2 / /var rw shared:1 - ext4 /dev/a rw
3 2 0:3 / /var/lib rw - xfs /dev/b rw
4 2 0:3 / /var/lib rw - btrfs /dev/b rw
";
        assert_eq!(filesystem_at(mounts, Path::new("/var/lib/konductor/a")), Some("btrfs"));
        assert_eq!(filesystem_at(mounts, Path::new("/var/library")), Some("ext4"));
        assert_eq!(filesystem_at(mounts, Path::new("/home")), Some("overlay"));
    }
}
