//! The mark: which grant an earlier run of this pod's waiter has used.
//!
//! Touches two small files in a directory that lives as long as the pod (a disk-backed emptyDir: it must outlive a
//! reboot). What must stay true: the mark is on disk before anybody is told to start, and a mark that cannot be read
//! counts as "everything is used", never as "nothing is".

use std::fs::{self, File};
use std::io::{self, Write};

use crate::text;

/// The highest run that was used.
const USED: &str = "used";
/// The highest run that was used when a later run of ours said that it is there.
const RETURNED: &str = "returned";

/// Where the mark is kept.
#[derive(Clone, Debug)]
pub struct Mark {
    directory: String,
}

impl Mark {
    /// The mark in that directory.
    pub fn new(directory: String) -> Self {
        Self { directory }
    }

    /// The highest run that was used; 0 if none was. An error is a sentence for the log.
    pub fn highest_used(&self) -> Result<u64, String> {
        self.read(USED)
    }

    /// Writes that this run is used, and returns only when that would survive a power cut.
    pub fn set(&self, run: u64) -> Result<(), String> {
        self.write(USED, run).map_err(|error| self.problem("written", &error))
    }

    /// Is this the first of our runs after the one that used the last grant? Says so once, and not before it is on disk.
    pub fn is_first_after_use(&self) -> Result<bool, String> {
        let used = self.highest_used()?;
        if used <= self.read(RETURNED)? {
            return Ok(false);
        }
        self.write(RETURNED, used).map_err(|error| self.problem("written", &error))?;
        Ok(true)
    }

    fn read(&self, name: &str) -> Result<u64, String> {
        let path = self.path(name);
        match text::read(&path) {
            Ok(text) => {
                text.trim_end().parse().map_err(|_| self.problem("read", &format!("{path} holds no number")))
            }
            // No mark in a directory that is there: the first run. No directory: nothing is known.
            Err(error) if error.kind() == io::ErrorKind::NotFound => match fs::metadata(&self.directory) {
                Ok(_) => Ok(0),
                Err(error) => Err(self.problem("read", &error)),
            },
            Err(error) => Err(self.problem("read", &error)),
        }
    }

    fn write(&self, name: &str, run: u64) -> io::Result<()> {
        let temporary = format!("{}/.{name}.new", self.directory);
        let mut file = File::create(&temporary)?;
        writeln!(file, "{run}")?;
        file.sync_all()?;
        fs::rename(&temporary, self.path(name))?;
        File::open(&self.directory)?.sync_all()
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.directory)
    }

    fn problem(&self, verb: &str, what: &dyn std::fmt::Display) -> String {
        format!("the mark of used grants in {} cannot be {verb} ({what})", self.directory)
    }
}
