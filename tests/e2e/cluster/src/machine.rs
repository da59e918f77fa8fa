//! Whether this machine can run the cluster, and its packages.
//!
//! May touch: on Debian-like systems, as root, the system's packages. What must stay true: whoever cannot go on is
//! told why in one sentence, with the way out; nothing is installed that is there.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::progress::Progress;
use crate::run::{self, has_program};

/// Something of the system that is needed: how it is recognised, and its names in package lists.
struct Need {
    present: fn() -> bool,
    what: &'static str,
    debian: &'static str,
}

const TO_RUN: [Need; 5] = [
    Need { present: || has_program("ip"), what: "ip", debian: "iproute2" },
    Need { present: || has_program("nft"), what: "nft", debian: "nftables" },
    Need {
        present: || ["unshare", "nsenter", "setsid", "mount"].iter().all(|name| has_program(name)),
        what: "unshare, nsenter, setsid and mount",
        debian: "util-linux mount",
    },
    Need { present: || has_program("kill"), what: "kill", debian: "procps" },
    Need {
        present: || crate::images::static_busybox().is_some(),
        what: "a static busybox (for the test image)",
        debian: "busybox-static",
    },
];

const TO_COMPILE_C: [Need; 4] = [
    Need { present: || has_program("cc"), what: "a C compiler", debian: "gcc" },
    Need { present: has_static_libc, what: "a static C library", debian: "libc6-dev" },
    Need { present: || has_program("pkg-config"), what: "pkg-config", debian: "pkg-config" },
    Need { present: has_seccomp, what: "libseccomp with its headers", debian: "libseccomp-dev" },
];

/// Checks that a node can run here, and installs what is missing.
pub(crate) fn prepare_to_run(progress: Progress) -> Result<()> {
    can_run()?;
    provide(&TO_RUN, progress)?;
    if !has_filesystem("overlay") {
        // Loads by itself on most systems; the answer is in /proc/filesystems.
        let _ = Command::new("modprobe").arg("overlay").output();
        ensure!(
            has_filesystem("overlay"),
            "containers need overlayfs and this kernel has none: load it with `modprobe overlay`, or use --kubeconfig"
        );
    }
    let mut probe = Command::new("unshare");
    probe.args(["--net", "--mount", "--pid", "--uts", "--fork", "--mount-proc", "true"]);
    run::output(&mut probe, "make namespaces (in a container: run it with --privileged)")?;
    Ok(())
}

/// Whether the project's own cluster is possible here at all, without changing anything.
pub(crate) fn can_run() -> Result<()> {
    ensure!(
        cfg!(target_os = "linux"),
        "the project's own cluster runs on Linux only: give another with --kubeconfig FILE, or start one with kind"
    );
    let user = fs::metadata("/proc/self").context("reading /proc, which the cluster needs")?.uid();
    ensure!(
        user == 0,
        "the project's own cluster needs root for namespaces and mounts: run this with sudo, or give another cluster \
         with --kubeconfig FILE"
    );
    ensure!(
        !crate::cgroups::hierarchies()?.is_empty(),
        "no cgroup filesystem is mounted below /sys/fs/cgroup, and the kubelet needs one: in a container, run it \
         with --privileged"
    );
    Ok(())
}

/// Checks for compilers, and installs what is missing.
pub(crate) fn prepare_to_build(c: bool, go: bool, progress: Progress) -> Result<()> {
    if c {
        provide(&TO_COMPILE_C, progress)?;
    }
    ensure!(
        !go || has_program("go"),
        "the cluster is built from Go modules and there is no `go`: install Go 1.26.8 or newer (https://go.dev/dl)"
    );
    Ok(())
}

fn provide(needs: &[Need], progress: Progress) -> Result<()> {
    let missing: Vec<_> = needs.iter().filter(|need| !(need.present)()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = |name: fn(&Need) -> &'static str| missing.iter().map(|need| name(need)).collect::<Vec<_>>();
    let (what, packages) = (list(|need| need.what).join(", "), list(|need| need.debian).join(" "));
    ensure!(
        has_program("apt-get"),
        "missing: {what}; install them with this system's package manager (on Debian: apt-get install {packages})"
    );
    progress.step(&format!("installing {packages}"), || {
        let packages: Vec<_> = packages.split(' ').collect();
        // The lists may be there and fresh enough; fetching them is the slower half.
        if apt(&[&["install", "--yes", "--no-install-recommends"], &*packages].concat()).is_err() {
            apt(&["update"])?;
            apt(&[&["install", "--yes", "--no-install-recommends"], &*packages].concat())?;
        }
        Ok(())
    })?;
    if let Some(need) = missing.iter().find(|need| !(need.present)()) {
        bail!("{} is still missing after installing {}", need.what, need.debian);
    }
    Ok(())
}

fn apt(arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("apt-get");
    command.args(["-qq", "-o", "DPkg::Lock::Timeout=300"]).args(arguments);
    command.env("DEBIAN_FRONTEND", "noninteractive");
    run::output(&mut command, &format!("run apt-get {}", arguments.join(" ")))?;
    Ok(())
}

fn has_filesystem(name: &str) -> bool {
    fs::read_to_string("/proc/filesystems")
        .is_ok_and(|text| text.lines().any(|line| line.split_whitespace().last() == Some(name)))
}

fn has_static_libc() -> bool {
    // A compiler that does not find a library answers with the bare name.
    run::output(Command::new("cc").arg("-print-file-name=libc.a"), "ask the C compiler")
        .is_ok_and(|path| Path::new(path.trim()).is_absolute())
}

fn has_seccomp() -> bool {
    run::output(Command::new("pkg-config").args(["--exists", "libseccomp"]), "ask pkg-config").is_ok()
}
