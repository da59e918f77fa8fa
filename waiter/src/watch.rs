//! Being woken: by a change in the grant file's directory, by a signal, or by time.
//!
//! Touches descriptors only, reads no content. It watches the **directory**: the kubelet swaps the link `..data` in it
//! and never writes the file itself. What must stay true: whoever looks after each wake misses nothing, also where
//! inotify is not to be had (then it wakes once a second), and no signal is lost between two waits.

use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
#[cfg(feature = "hold")]
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::sys;
#[cfg(feature = "hold")]
use crate::sys::hold::Interest;

/// Without inotify: missing directory, or the node's limit of instances is used up.
const POLL_MILLISECONDS: i32 = 1_000;
/// With it: a second look, should an event ever be lost.
const SAFETY_MILLISECONDS: i32 = 10_000;

/// SIGTERM or SIGINT, as the exit code that tells of it: 143 or 130.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signal(pub u8);

/// Wakes its owner.
pub struct Watch {
    directory: Option<CString>,
    /// None: signals could not be redirected. As process 1 they are then without effect, and the kubelet kills us at
    /// the end of the grace period.
    signals: Option<File>,
    changes: Option<File>,
}

impl Watch {
    /// Watches the directory of that file, which need not be there yet. From here on SIGTERM and SIGINT end nothing by
    /// themselves: see [`Watch::signal`].
    pub fn new(file: &Path) -> Self {
        let directory = match file.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let mut watch = Self {
            directory: CString::new(directory.as_os_str().as_bytes()).ok(),
            signals: sys::signals().ok().map(File::from),
            changes: None,
        };
        watch.begin();
        watch
    }

    /// The signal that arrived since the last call, if any. Never blocks.
    pub fn signal(&mut self) -> Option<Signal> {
        // struct signalfd_siginfo, of which the first field is the number.
        let mut info = [0; 128];
        let length = self.signals.as_mut()?.read(&mut info).ok()?;
        (length == info.len())
            .then(|| Signal(128_u8.saturating_add(info[if cfg!(target_endian = "big") { 3 } else { 0 }])))
    }

    /// Waits until there is something to look at again; for so many milliseconds at most.
    pub fn wait(&mut self, at_most: i32) {
        if self.changes.is_none() && self.begin() {
            // What happened before the watch began made no event.
            return;
        }
        let descriptors: Vec<_> = self.signals.iter().chain(&self.changes).map(AsFd::as_fd).collect();
        let unwatched = self.changes.is_none() || self.signals.is_none();
        let longest = if unwatched { POLL_MILLISECONDS } else { SAFETY_MILLISECONDS };
        sys::wait_readable(&descriptors, longest.min(at_most));
        self.drain();
    }

    /// Like [`Watch::wait`], but wakes for these descriptors too. Says whether the last one of them is ready.
    #[cfg(feature = "hold")]
    pub(crate) fn wait_beside(&mut self, others: &[(BorrowedFd<'_>, Interest)], at_most: i32) -> bool {
        if self.changes.is_none() && self.begin() {
            return false;
        }
        let own = self.signals.iter().chain(&self.changes).map(|file| (file.as_fd(), Interest::Readable));
        let descriptors: Vec<_> = own.chain(others.iter().copied()).collect();
        let unwatched = self.changes.is_none() || self.signals.is_none();
        let longest = if unwatched { POLL_MILLISECONDS } else { SAFETY_MILLISECONDS };
        let ready = sys::hold::poll(&descriptors, longest.min(at_most));
        self.drain();
        ready && !others.is_empty()
    }

    fn begin(&mut self) -> bool {
        self.changes =
            self.directory.as_deref().and_then(|path| sys::watch_directory(path).ok()).map(File::from);
        self.changes.is_some()
    }

    /// Takes all events away; what they were about does not matter, except that the directory is gone.
    fn drain(&mut self) {
        let Some(changes) = &mut self.changes else { return };
        let mut events = [0; 4096];
        let mut ended = false;
        while let Ok(length) = changes.read(&mut events) {
            let mut rest = &events[..length.min(events.len())];
            if rest.is_empty() {
                break;
            }
            // struct inotify_event: wd, mask, cookie, len, then len bytes of name.
            while let Some((head, tail)) = rest.split_at_checked(16) {
                let field =
                    |at: usize| u32::from_ne_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
                ended |= field(4) & sys::WATCH_ENDED != 0;
                let name = usize::try_from(field(12)).unwrap_or(usize::MAX);
                rest = tail.split_at_checked(name).map_or(&[][..], |(_, after)| after);
            }
        }
        if ended {
            self.changes = None;
        }
    }
}
