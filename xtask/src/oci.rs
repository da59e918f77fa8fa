//! An image as an OCI archive, made of files: no container engine, no base image, no network.
//!
//! Pure: bytes in, bytes out. What must stay true: the same files give the same bytes, whatever the machine, the
//! hour or the order in which they are named. One archive serves every importer: it is an OCI layout (containerd,
//! skopeo, podman) and carries the `manifest.json` that `docker load` reads.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Numeric, so that `runAsNonRoot` can be judged without an /etc/passwd.
pub(crate) const USER: &str = "65532:65532";

/// What goes into an image.
pub(crate) struct Contents {
    /// Name without a tag, e.g. `localhost/konductor`.
    pub(crate) repository: String,
    /// The tag starts with it; a digest of the contents follows.
    pub(crate) version: String,
    /// As Go writes it: `amd64`, `arm64`.
    pub(crate) architecture: String,
    /// What runs if a pod names no command.
    pub(crate) entrypoint: String,
    /// Executables: path without a leading slash, bytes.
    pub(crate) files: Vec<(String, Vec<u8>)>,
}

/// A finished image.
pub(crate) struct Archive {
    /// Tag, derived from the contents: a rebuilt image that differs has another one.
    pub(crate) tag: String,
    /// Digest of the manifest, `sha256:…`.
    pub(crate) digest: String,
    /// The tar archive.
    pub(crate) bytes: Vec<u8>,
}

struct Blob {
    digest: String,
    bytes: Vec<u8>,
}

impl Contents {
    /// Packs the image.
    pub(crate) fn pack(mut self) -> Result<Archive> {
        self.files.sort();
        let layer = Blob::new(tar(&self.files, 0o755)?);
        let config = Blob::json(&json!({
            "architecture": self.architecture,
            "os": "linux",
            "created": "1970-01-01T00:00:00Z",
            "config": {
                "User": USER,
                "Entrypoint": [self.entrypoint],
                "Env": ["PATH=/"],
                "WorkingDir": "/",
                "Labels": {
                    "org.opencontainers.image.licenses": "Apache-2.0",
                    "org.opencontainers.image.title": self.repository.rsplit('/').next(),
                    "org.opencontainers.image.version": self.version,
                },
            },
            "rootfs": {"type": "layers", "diff_ids": [layer.digest]},
        }))?;
        let manifest = Blob::json(&json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config.descriptor("application/vnd.oci.image.config.v1+json"),
            "layers": [layer.descriptor("application/vnd.oci.image.layer.v1.tar")],
        }))?;
        let tag = format!("{}-{}", self.version, manifest.hex().get(..12).context("a digest has 64 digits")?);
        let reference = format!("{}:{tag}", self.repository);
        let mut entry = manifest.descriptor("application/vnd.oci.image.manifest.v1+json");
        entry["platform"] = json!({"architecture": self.architecture, "os": "linux"});
        // containerd takes the full name from its own annotation; the standard one holds the tag.
        entry["annotations"] =
            json!({"io.containerd.image.name": reference, "org.opencontainers.image.ref.name": tag});
        let index = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [entry],
        });
        let for_docker =
            json!([{"Config": config.path(), "RepoTags": [reference], "Layers": [layer.path()]}]);
        let digest = manifest.digest.clone();
        let mut files = vec![
            ("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
            ("index.json".to_owned(), serde_json::to_vec(&index)?),
            ("manifest.json".to_owned(), serde_json::to_vec(&for_docker)?),
        ];
        files.extend([layer, config, manifest].into_iter().map(|blob| (blob.path(), blob.bytes)));
        files.sort();
        Ok(Archive { tag, digest, bytes: tar(&files, 0o644)? })
    }
}

impl Blob {
    fn new(bytes: Vec<u8>) -> Self {
        Self { digest: format!("sha256:{:x}", Sha256::digest(&bytes)), bytes }
    }

    fn json(value: &Value) -> Result<Self> {
        Ok(Self::new(serde_json::to_vec(value)?))
    }

    fn hex(&self) -> &str {
        self.digest.trim_start_matches("sha256:")
    }

    fn path(&self) -> String {
        format!("blobs/sha256/{}", self.hex())
    }

    fn descriptor(&self, media_type: &str) -> Value {
        json!({"mediaType": media_type, "digest": self.digest, "size": self.bytes.len()})
    }
}

/// A tar of plain files that tells nothing about who made it, where and when.
fn tar(files: &[(String, Vec<u8>)], mode: u32) -> Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(bytes.len().try_into()?);
        builder
            .append_data(&mut header, path, bytes.as_slice())
            .with_context(|| format!("packing {path}"))?;
    }
    builder.into_inner().context("packing an image")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read;

    use super::*;

    fn contents() -> Contents {
        Contents {
            repository: "localhost/konductor".to_owned(),
            version: "0.1.0".to_owned(),
            architecture: "amd64".to_owned(),
            entrypoint: "/konductor-operator".to_owned(),
            files: vec![
                ("konductor-webhook".to_owned(), b"webhook".to_vec()),
                ("konductor-operator".to_owned(), b"operator".to_vec()),
            ],
        }
    }

    fn unpack(bytes: &[u8]) -> BTreeMap<String, (u32, Vec<u8>)> {
        tar::Archive::new(bytes)
            .entries()
            .unwrap()
            .map(|entry| {
                let mut entry = entry.unwrap();
                let header = entry.header().clone();
                assert_eq!(
                    (header.mtime().unwrap(), header.uid().unwrap(), header.gid().unwrap()),
                    (0, 0, 0)
                );
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes).unwrap();
                (entry.path().unwrap().display().to_string(), (header.mode().unwrap(), bytes))
            })
            .collect()
    }

    fn json_at(files: &BTreeMap<String, (u32, Vec<u8>)>, path: &str) -> Value {
        serde_json::from_slice(&files[path].1).unwrap()
    }

    fn blob(files: &BTreeMap<String, (u32, Vec<u8>)>, descriptor: &Value) -> Vec<u8> {
        let digest = descriptor["digest"].as_str().unwrap();
        let bytes = files[&format!("blobs/{}", digest.replace(':', "/"))].1.clone();
        assert_eq!(Blob::new(bytes.clone()).digest, digest);
        assert_eq!(descriptor["size"], bytes.len());
        bytes
    }

    #[test]
    fn the_same_files_give_the_same_bytes_in_whatever_order() {
        let first = contents().pack().unwrap();
        let mut turned = contents();
        turned.files.reverse();
        let second = turned.pack().unwrap();
        assert_eq!(first.digest, second.digest);
        assert_eq!(first.bytes, second.bytes);
    }

    #[test]
    fn another_byte_gives_another_tag() {
        let mut changed = contents();
        changed.files[0].1.push(b'!');
        let (before, after) = (contents().pack().unwrap(), changed.pack().unwrap());
        assert_ne!(before.tag, after.tag);
        assert!(
            before.tag.starts_with("0.1.0-") && before.tag.len() == "0.1.0-".len() + 12,
            "{}",
            before.tag
        );
    }

    #[test]
    fn every_digest_leads_from_the_index_to_the_executables_and_the_user_is_a_number() {
        let archive = contents().pack().unwrap();
        let files = unpack(&archive.bytes);
        let index = json_at(&files, "index.json");
        assert_eq!(index["manifests"][0]["digest"], archive.digest);
        let manifest: Value = serde_json::from_slice(&blob(&files, &index["manifests"][0])).unwrap();
        let config: Value = serde_json::from_slice(&blob(&files, &manifest["config"])).unwrap();
        assert_eq!(config["config"]["User"], USER);
        assert!(USER.split(':').all(|id| id.parse::<u32>().is_ok_and(|id| id != 0)));
        assert_eq!(config["config"]["Entrypoint"], json!(["/konductor-operator"]));
        // The layer is not compressed, so its digest is its diff id.
        assert_eq!(config["rootfs"]["diff_ids"][0], manifest["layers"][0]["digest"]);
        let layer = unpack(&blob(&files, &manifest["layers"][0]));
        assert_eq!(layer["konductor-operator"], (0o755, b"operator".to_vec()));
        assert_eq!(layer["konductor-webhook"], (0o755, b"webhook".to_vec()));
        assert_eq!(layer.len(), 2);
    }

    #[test]
    fn containerd_and_docker_are_told_the_same_name() {
        let archive = contents().pack().unwrap();
        let files = unpack(&archive.bytes);
        let reference = format!("localhost/konductor:{}", archive.tag);
        let index = json_at(&files, "index.json");
        assert_eq!(index["manifests"][0]["annotations"]["io.containerd.image.name"], reference.as_str());
        let for_docker = json_at(&files, "manifest.json");
        assert_eq!(for_docker[0]["RepoTags"], json!([reference]));
        let config = for_docker[0]["Config"].as_str().unwrap();
        assert!(
            files.contains_key(config) && files.contains_key(for_docker[0]["Layers"][0].as_str().unwrap())
        );
    }
}
