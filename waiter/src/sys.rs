//! The system calls that std does not offer: signalfd, inotify, poll (and exec and the time, which std offers at kilobytes).
//!
//! The only file with unsafe code, with `hold` below it, which has those of konductor-hold alone. What must stay true: every function is safe to call with any argument, and every
//! descriptor that leaves it is owned.
#![allow(unsafe_code, reason = "system calls; each block says why it is sound")]

use std::ffi::{CStr, CString, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

#[cfg(feature = "hold")]
pub(crate) mod hold;

/// The events that a swap of the kubelet's `..data` link, or a plain write, makes in a directory.
const EVENTS: u32 = libc::IN_CREATE
    | libc::IN_CLOSE_WRITE
    | libc::IN_MOVED_TO
    | libc::IN_DELETE
    | libc::IN_DELETE_SELF
    | libc::IN_MOVE_SELF
    | libc::IN_ONLYDIR;

/// The watch is over: the directory was removed, or its file system unmounted.
pub(crate) const WATCH_ENDED: u32 = libc::IN_IGNORED | libc::IN_MOVE_SELF;

/// Blocks SIGTERM and SIGINT for this thread and gives a descriptor from which they can be read instead.
pub(crate) fn signals() -> io::Result<OwnedFd> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the set, the others read it; the null pointer asks for no old mask; the new
    // descriptor is ours alone.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGTERM);
        libc::sigaddset(set.as_mut_ptr(), libc::SIGINT);
        let descriptor = owned(libc::signalfd(-1, set.as_ptr(), libc::SFD_NONBLOCK | libc::SFD_CLOEXEC))?;
        if libc::sigprocmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut()) == -1 {
            return Err(io::Error::last_os_error());
        }
        Ok(descriptor)
    }
}

/// Gives a descriptor that becomes readable when something changes in the directory.
pub(crate) fn watch_directory(path: &CStr) -> io::Result<OwnedFd> {
    // SAFETY: the new descriptor is ours alone; the path is a C string that outlives the call.
    unsafe {
        let descriptor = owned(libc::inotify_init1(libc::IN_NONBLOCK | libc::IN_CLOEXEC))?;
        if libc::inotify_add_watch(descriptor.as_raw_fd(), path.as_ptr(), EVENTS) == -1 {
            return Err(io::Error::last_os_error());
        }
        Ok(descriptor)
    }
}

/// Waits until one of the descriptors can be read, or the time is up. An interruption counts as time.
pub(crate) fn wait_readable(descriptors: &[BorrowedFd<'_>], timeout_milliseconds: i32) {
    let mut entries: Vec<libc::pollfd> = descriptors
        .iter()
        .map(|descriptor| libc::pollfd { fd: descriptor.as_raw_fd(), events: libc::POLLIN, revents: 0 })
        .collect();
    let count = libc::nfds_t::try_from(entries.len()).unwrap_or(0);
    // SAFETY: the pointer and the count describe a vector that outlives the call, and so do the descriptors.
    unsafe {
        libc::poll(entries.as_mut_ptr(), count, timeout_milliseconds);
    }
}

/// Becomes that program, found as a shell finds it; returns only if that failed.
pub(crate) fn execute(command: &[OsString]) -> io::Error {
    let texts: Result<Vec<_>, _> = command.iter().map(|text| CString::new(text.as_bytes())).collect();
    let Ok(texts) = texts else { return io::ErrorKind::InvalidInput.into() };
    let Some(name) = texts.first() else { return io::ErrorKind::InvalidInput.into() };
    let pointers: Vec<_> = texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect();
    // SAFETY: the array ends with a null pointer, and it and its C strings outlive the call.
    unsafe {
        libc::execvp(name.as_ptr(), pointers.as_ptr());
    }
    io::Error::last_os_error()
}

/// Mode 755.
pub(crate) fn allow_everybody_to_run(file: &impl AsRawFd) -> io::Result<()> {
    // SAFETY: the descriptor is open as long as the file is borrowed.
    match unsafe { libc::fchmod(file.as_raw_fd(), 0o755) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> i64 {
    // SAFETY: with a null pointer the time is only returned.
    unsafe { libc::time(std::ptr::null_mut()) }
}

/// Milliseconds on a clock that only goes forward; what it started from says nothing.
pub(crate) fn ticks() -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: it writes to `time`, which outlives the call. It cannot fail: every Linux has this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec * 1000 + time.tv_nsec / 1_000_000
}

/// Takes a descriptor that a system call returned.
///
/// # Safety
/// It must be -1 or a descriptor that nobody else owns.
unsafe fn owned(descriptor: libc::c_int) -> io::Result<OwnedFd> {
    if descriptor == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the caller promised it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}
