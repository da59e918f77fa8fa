//! Container images without a registry: archives that `ctr images import` takes.
//!
//! May touch: reads the system's busybox and C library. What must stay true: the same files give the same bytes, so
//! an image that is there already is not another one. (The images of Konductor itself are xtask's.)

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::run;

/// What every pod's sandbox runs.
pub(crate) const PAUSE: &str = "localhost/pause:1";
/// The test image, under the name that manifests use on any cluster.
pub(crate) const BUSYBOX: &str = "docker.io/library/busybox:1.36";

/// What busybox needs to resolve names: a static C library loads these at run time.
const RESOLVER: [&str; 4] = ["libc.so.6", "libresolv.so.2", "libnss_files.so.2", "libnss_dns.so.2"];

/// An image of one layer.
pub(crate) struct Image {
    name: &'static str,
    command: Vec<&'static str>,
    /// By path without a leading slash; sorted, so that a folder comes before what is in it.
    entries: BTreeMap<String, Entry>,
}

enum Entry {
    Folder(u32),
    File(u32, Vec<u8>),
    Link(&'static str),
}

/// The sandbox image, of the program that is also process 1 of a node.
pub(crate) fn pause(program: &Path) -> Result<Image> {
    let entries = BTreeMap::from([("pause".to_owned(), Entry::File(0o755, read(program)?))]);
    Ok(Image { name: PAUSE, command: vec!["/pause"], entries })
}

/// The test image, of the system's static busybox.
pub(crate) fn busybox() -> Result<Image> {
    let program = static_busybox().context("there is no static busybox: apt-get install busybox-static")?;
    let mut entries = BTreeMap::new();
    for folder in ["bin", "dev", "etc", "home", "proc", "root", "sys", "usr", "usr/bin", "var"] {
        entries.insert(folder.to_owned(), Entry::Folder(0o755));
    }
    entries.insert("tmp".to_owned(), Entry::Folder(0o1777));
    let applets = run::output(Command::new(&program).arg("--list"), "list busybox's commands")?;
    for applet in applets.lines() {
        entries.insert(format!("bin/{applet}"), Entry::Link("/bin/busybox"));
    }
    entries.insert("usr/bin/env".to_owned(), Entry::Link("/bin/busybox"));
    // After the links: its list names itself.
    entries.insert("bin/busybox".to_owned(), Entry::File(0o755, read(&program)?));
    for (path, text) in [
        ("etc/group", "root:x:0:\nnogroup:x:65534:\n"),
        ("etc/nsswitch.conf", "hosts: files dns\n"),
        ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\n"),
    ] {
        entries.insert(path.to_owned(), Entry::File(0o644, text.into()));
    }
    for path in resolver_files() {
        for folder in path.ancestors().skip(1).filter(|folder| *folder != Path::new("/")) {
            entries.entry(relative(folder)).or_insert(Entry::Folder(0o755));
        }
        entries.insert(relative(&path), Entry::File(0o755, read(&path)?));
    }
    Ok(Image { name: BUSYBOX, command: vec!["sh"], entries })
}

impl Image {
    /// Its name.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// As docker saves it, the form with the fewest parts.
    pub(crate) fn archive(&self) -> Result<Vec<u8>> {
        let layer = tar(&self.entries)?;
        let config = json!({
            "architecture": match std::env::consts::ARCH { "x86_64" => "amd64", "aarch64" => "arm64", other => other },
            "os": "linux",
            "config": {
                "Cmd": self.command,
                "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            },
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{:x}", Sha256::digest(&layer))]},
        });
        let manifest = json!([{"Config": "config.json", "RepoTags": [self.name], "Layers": ["layer.tar"]}]);
        let files = [
            ("config.json", serde_json::to_vec(&config)?),
            ("layer.tar", layer),
            ("manifest.json", serde_json::to_vec(&manifest)?),
        ];
        tar(&files.map(|(path, bytes)| (path.to_owned(), Entry::File(0o644, bytes))).into())
    }
}

/// A tar that tells nothing about who made it and when.
fn tar(entries: &BTreeMap<String, Entry>) -> Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, entry) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(0);
        let added = match entry {
            Entry::Folder(mode) => {
                header.set_entry_type(tar::EntryType::Directory);
                header.set_mode(*mode);
                builder.append_data(&mut header, format!("{path}/"), std::io::empty())
            }
            Entry::File(mode, bytes) => {
                header.set_mode(*mode);
                header.set_size(bytes.len() as u64);
                builder.append_data(&mut header, path, bytes.as_slice())
            }
            Entry::Link(target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_mode(0o777);
                builder.append_link(&mut header, path, target)
            }
        };
        added.with_context(|| format!("packing {path}"))?;
    }
    builder.into_inner().context("packing an image")
}

/// The system's busybox, if it needs no library that an image would lack.
pub(crate) fn static_busybox() -> Option<PathBuf> {
    ["/bin/busybox", "/usr/bin/busybox", "/usr/local/bin/busybox"]
        .map(PathBuf::from)
        .into_iter()
        .find(|path| fs::read(path).is_ok_and(|program| is_static(&program)))
}

/// Whether an ELF program names no interpreter, which would load its libraries.
fn is_static(program: &[u8]) -> bool {
    const INTERPRETER: u64 = 3;
    let number = |offset: usize, length: usize| -> Option<u64> {
        let bytes = program.get(offset..offset.checked_add(length)?)?;
        // Little endian, as every machine that this runs on.
        Some(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    };
    let header = || {
        let first = usize::try_from(number(32, 8)?).ok()?;
        let (size, count) = (usize::try_from(number(54, 2)?).ok()?, usize::try_from(number(56, 2)?).ok()?);
        (0..count).map(|index| number(first.checked_add(index * size)?, 4)).collect::<Option<Vec<_>>>()
    };
    program.starts_with(b"\x7fELF\x02\x01") && header().is_some_and(|kinds| !kinds.contains(&INTERPRETER))
}

/// Where the system keeps what busybox loads; an image of another C library needs none of it.
fn resolver_files() -> Vec<PathBuf> {
    let arch = std::env::consts::ARCH;
    let loader = match arch {
        "x86_64" => "/lib64/ld-linux-x86-64.so.2",
        _ => "/lib/ld-linux-aarch64.so.1",
    };
    let library = |name: &&str| {
        ["/lib", "/usr/lib"]
            .into_iter()
            .map(|base| format!("{base}/{arch}-linux-gnu/{name}"))
            .find_map(existing)
    };
    RESOLVER.iter().filter_map(library).chain(existing(loader.to_owned())).collect()
}

fn existing(path: String) -> Option<PathBuf> {
    let path = PathBuf::from(path);
    path.is_file().then_some(path)
}

fn relative(path: &Path) -> String {
    path.strip_prefix("/").unwrap_or(path).display().to_string()
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("reading {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn sample() -> Image {
        let entries = BTreeMap::from([
            ("bin".to_owned(), Entry::Folder(0o755)),
            ("bin/sh".to_owned(), Entry::Link("/bin/busybox")),
            ("bin/busybox".to_owned(), Entry::File(0o755, b"program".to_vec())),
            ("tmp".to_owned(), Entry::Folder(0o1777)),
        ]);
        Image { name: BUSYBOX, command: vec!["sh"], entries }
    }

    fn unpack(bytes: &[u8]) -> BTreeMap<String, (u32, Vec<u8>)> {
        let mut archive = tar::Archive::new(bytes);
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            (entry.path().unwrap().display().to_string(), (entry.header().mode().unwrap(), bytes))
        });
        entries.collect()
    }

    #[test]
    fn the_same_files_give_the_same_bytes() {
        assert_eq!(sample().archive().unwrap(), sample().archive().unwrap());
    }

    #[test]
    fn the_config_names_the_layer_by_its_digest_and_the_manifest_the_image() {
        let files = unpack(&sample().archive().unwrap());
        let json = |path: &str| -> serde_json::Value { serde_json::from_slice(&files[path].1).unwrap() };
        let digest = format!("sha256:{:x}", Sha256::digest(&files["layer.tar"].1));
        assert_eq!(json("config.json")["rootfs"]["diff_ids"], json!([digest]));
        assert_eq!(json("manifest.json")[0]["RepoTags"], json!([BUSYBOX]));
        let layer = unpack(&files["layer.tar"].1);
        assert_eq!(layer["bin/busybox"], (0o755, b"program".to_vec()));
        assert_eq!(layer["tmp/"].0, 0o1777);
    }

    #[test]
    fn a_program_with_an_interpreter_is_not_static() {
        let elf = |kind: u8| {
            let mut bytes = vec![0; 64 + 56];
            bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
            (bytes[32], bytes[54], bytes[56], bytes[64]) = (64, 56, 1, kind);
            bytes
        };
        assert!(is_static(&elf(1)));
        assert!(!is_static(&elf(3)));
        assert!(!is_static(&elf(1)[..66]));
        assert!(!is_static(b"#!/bin/sh\n"));
    }
}
