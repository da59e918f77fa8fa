//! `cargo xtask images`: static binaries, and the three images made of them, as OCI archives in `target/images/`.
//!
//! May touch: `target/images` (the archives) and `target/images-build` (cargo's). What must stay true: no
//! container engine is needed, the same sources give the same digest, and the waiter's two programs are built each alone, so
//! that no feature of the operator's dependencies creeps into them, and no TLS into the one that waits.

#![expect(clippy::print_stdout, reason = "telling where the archives are is this command's purpose")]

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::oci::{Archive, Contents};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// One image: its name, and the archive that holds it.
#[derive(Clone, Debug)]
pub(crate) struct ImageRef {
    /// Name without a tag, e.g. `localhost/konductor`.
    pub(crate) repository: String,
    /// Version and digest of the contents, so that `IfNotPresent` never serves a stale one.
    pub(crate) tag: String,
    /// Digest of the manifest.
    pub(crate) digest: String,
    /// The archive.
    pub(crate) archive: PathBuf,
}

/// What Konductor runs from.
#[derive(Clone, Debug)]
pub(crate) struct Images {
    /// `/konductor-operator` and `/konductor-webhook`.
    pub(crate) operator: ImageRef,
    /// `/konductor-wait` and `/konductor-hold`, which are injected into pods.
    pub(crate) waiter: ImageRef,
    /// `/koncli`, for use in Jobs.
    pub(crate) koncli: ImageRef,
}

/// What an image is made of.
struct Recipe {
    name: &'static str,
    builds: Vec<Build>,
}

/// One run of cargo.
struct Build {
    /// Packages and features.
    arguments: &'static [&'static str],
    binaries: &'static [&'static str],
    profile: &'static str,
    target: String,
}

impl ImageRef {
    /// Name and tag, as a pod spec takes it.
    pub(crate) fn reference(&self) -> String {
        format!("{}:{}", self.repository, self.tag)
    }
}

/// Builds all images, or what changed of them.
pub(crate) fn build() -> Result<Images> {
    let host = host_triple()?;
    let musl = musl_of(&host);
    ensure!(
        musl.is_some() || has_static_libc(),
        "the images hold static binaries and this machine has no static C library: install libc6-dev (Debian), \
         glibc-static (Fedora), or the musl target (rustup target add {}-unknown-linux-musl)",
        std::env::consts::ARCH,
    );
    // ring needs a C compiler for its target; the host's is the one that is there.
    let operator = Build {
        arguments: &["--package", "konductor-operator", "--package", "konductor-webhook"],
        binaries: &["konductor-operator", "konductor-webhook"],
        profile: "release",
        target: host.clone(),
    };
    let wait = Build {
        arguments: &["--package", "konductor-waiter", "--no-default-features", "--bin", "konductor-wait"],
        binaries: &["konductor-wait"],
        profile: "waiter",
        target: musl.unwrap_or_else(|| host.clone()),
    };
    let hold = Build {
        arguments: &["--package", "konductor-waiter", "--features", "hold", "--bin", "konductor-hold"],
        binaries: &["konductor-hold"],
        profile: "waiter",
        target: host.clone(),
    };
    let koncli =
        Build { arguments: &["--package", "koncli"], binaries: &["koncli"], profile: "cli", target: host };
    let operator = Recipe { name: "konductor", builds: vec![operator] };
    let waiter = Recipe { name: "konductor-waiter", builds: vec![wait, hold] };
    let koncli = Recipe { name: "koncli", builds: vec![koncli] };
    Ok(Images { operator: operator.make()?, waiter: waiter.make()?, koncli: koncli.make()? })
}

/// Builds all images and says where they are.
pub(crate) fn run() -> Result<()> {
    let images = build()?;
    for image in [&images.operator, &images.waiter, &images.koncli] {
        let size = std::fs::metadata(&image.archive)?.len() / 1024;
        println!("{}  {}  {} ({size} KiB)", image.reference(), image.digest, image.archive.display());
    }
    Ok(())
}

impl Recipe {
    fn make(&self) -> Result<ImageRef> {
        let mut files = Vec::new();
        for build in &self.builds {
            files.extend(build.make()?);
        }
        let entrypoint =
            files.first().map(|(name, _)| format!("/{name}")).context("an image has a binary")?;
        let repository = format!("localhost/{}", self.name);
        let contents = Contents {
            repository: repository.clone(),
            version: VERSION.to_owned(),
            architecture: architecture()?.to_owned(),
            entrypoint,
            files,
        };
        let Archive { tag, digest, bytes } = contents.pack()?;
        let folder = root().join("target/images");
        std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let archive = folder.join(format!("{}.tar", self.name));
        // Never half an archive under the final name.
        let partial = folder.join(format!("{}.tar.{}", self.name, std::process::id()));
        std::fs::write(&partial, bytes).with_context(|| format!("writing {}", partial.display()))?;
        std::fs::rename(&partial, &archive).with_context(|| format!("writing {}", archive.display()))?;
        Ok(ImageRef { repository, tag, digest, archive })
    }
}

impl Build {
    /// The binaries with their names.
    fn make(&self) -> Result<Vec<(String, Vec<u8>)>> {
        self.compile()?;
        let built = build_dir().join(&self.target).join(self.profile);
        let read = |binary: &&str| {
            let path = built.join(binary);
            let bytes = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
            Ok(((*binary).to_owned(), bytes))
        };
        self.binaries.iter().map(read).collect()
    }

    fn compile(&self) -> Result<()> {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(root()).args(["build", "--locked", "--profile", self.profile]);
        cargo.args(self.arguments);
        // With an explicit target the flags below reach the binaries only; without one they would break proc
        // macros. For the same reason, and so that developers' builds are not thrown away, an own folder.
        cargo.args(["--target", &self.target]).arg("--target-dir").arg(build_dir());
        cargo.env_remove("RUSTFLAGS").env("CARGO_ENCODED_RUSTFLAGS", rust_flags());
        let status = cargo.status().context("running cargo")?;
        if !status.success() {
            bail!("{} could not be built; cargo's words are above", self.binaries.join(" and "));
        }
        Ok(())
    }
}

/// Static, and without the paths of this machine: they would end up in panic messages and change the digest.
fn rust_flags() -> String {
    let home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")));
    let mut flags = vec!["-Ctarget-feature=+crt-static".to_owned()];
    flags.extend(home.map(|home| format!("--remap-path-prefix={}=/cargo", home.display())));
    flags.push(format!("--remap-path-prefix={}=/konductor", root().display()));
    flags.join("\x1f")
}

fn host_triple() -> Result<String> {
    let told = output("rustc", ["-vV"])?;
    let host =
        told.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc -vV names no host")?;
    ensure!(
        host.contains("linux"),
        "images hold Linux binaries and this is {host}: run this on Linux, or in a Linux container"
    );
    Ok(host.to_owned())
}

/// The musl sibling of the host, if its standard library is installed: a third of the size.
fn musl_of(host: &str) -> Option<String> {
    let target = format!("{}-unknown-linux-musl", host.split('-').next()?);
    let folder = output("rustc", ["--print", "target-libdir", "--target", &target]).ok()?;
    Path::new(folder.trim()).is_dir().then_some(target)
}

fn has_static_libc() -> bool {
    // A compiler that does not find a library answers with the bare name.
    output("cc", ["-print-file-name=libc.a"]).is_ok_and(|path| Path::new(path.trim()).is_absolute())
}

fn architecture() -> Result<&'static str> {
    match std::env::consts::ARCH {
        "x86_64" => Ok("amd64"),
        "aarch64" => Ok("arm64"),
        other => bail!("no name for the architecture {other} in an image; x86_64 and aarch64 are known"),
    }
}

fn output(program: &str, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<String> {
    let output =
        Command::new(program).args(arguments).output().with_context(|| format!("running {program}"))?;
    ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr).trim());
    String::from_utf8(output.stdout).with_context(|| format!("reading what {program} says"))
}

/// The top of the source tree.
pub(crate) fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// Where cargo builds.
pub(crate) fn target_folder() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

fn build_dir() -> PathBuf {
    root().join("target/images-build")
}
