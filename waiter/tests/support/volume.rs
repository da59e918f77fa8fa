//! A downward-API volume with one file, swapped as the kubelet does it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

pub(crate) struct Volume {
    directory: PathBuf,
    version: AtomicU32,
}

impl Volume {
    /// Not mounted before the first write.
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self { directory, version: AtomicU32::new(0) }
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.directory.join("grant")
    }

    /// New directory, new link beside the old one, rename over it, old directory away.
    pub(crate) fn write(&self, text: &str) {
        let volume = &self.directory;
        let number = self.version.fetch_add(1, Ordering::Relaxed);
        let (old, new) = (format!("..v{}", number.wrapping_sub(1)), format!("..v{number}"));
        fs::create_dir_all(volume.join(&new)).unwrap();
        fs::write(volume.join(&new).join("grant"), text).unwrap();
        symlink(&new, volume.join("..data_tmp")).unwrap();
        fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
        if number == 0 {
            symlink("..data/grant", volume.join("grant")).unwrap();
        } else {
            fs::remove_dir_all(volume.join(old)).unwrap();
        }
    }
}
