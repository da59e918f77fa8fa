//! The system calls of konductor-hold: the clock that counts suspended time and a timer on it, poll in both directions, a
//! connect that does not block, and random.
//!
//! Below `sys`, which allows the unsafe code; the same must stay true here.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use super::owned;

/// What is awaited of a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interest {
    Readable,
    Writable,
}

/// Milliseconds on a clock that only goes forward, also while the machine sleeps; what it started from says nothing.
pub(crate) fn ticks() -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: it writes to `time`, which outlives the call. It cannot fail: every Linux has this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) };
    time.tv_sec * 1000 + time.tv_nsec / 1_000_000
}

/// A descriptor that becomes readable at the moment for which it is [set](set_timer). Poll's own timeout stands still while
/// the machine sleeps, and would come too late after that.
pub(crate) fn timer() -> io::Result<OwnedFd> {
    // SAFETY: the new descriptor is ours alone.
    unsafe { owned(libc::timerfd_create(libc::CLOCK_BOOTTIME, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC)) }
}

/// Sets the timer to a moment of [`ticks`]; it is no longer readable from before.
pub(crate) fn set_timer(timer: BorrowedFd<'_>, at: i64) -> io::Result<()> {
    // All zero would switch it off.
    let at = at.max(1);
    let never = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let moment = libc::timespec { tv_sec: at / 1000, tv_nsec: at % 1000 * 1_000_000 };
    let setting = libc::itimerspec { it_interval: never, it_value: moment };
    // SAFETY: it reads `setting`, which outlives the call; the null pointer asks for no old setting.
    match unsafe {
        libc::timerfd_settime(
            timer.as_raw_fd(),
            libc::TFD_TIMER_ABSTIME,
            &raw const setting,
            std::ptr::null_mut(),
        )
    } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Waits until something can be had of one of the descriptors (or it is broken), or the time is up; an interruption counts
/// as time. Says whether it can of the last one.
pub(crate) fn poll(descriptors: &[(BorrowedFd<'_>, Interest)], timeout_milliseconds: i32) -> bool {
    let mut entries: Vec<libc::pollfd> = descriptors
        .iter()
        .map(|(descriptor, interest)| libc::pollfd {
            fd: descriptor.as_raw_fd(),
            events: match interest {
                Interest::Readable => libc::POLLIN,
                Interest::Writable => libc::POLLOUT,
            },
            revents: 0,
        })
        .collect();
    let count = libc::nfds_t::try_from(entries.len()).unwrap_or(0);
    // SAFETY: the pointer and the count describe a vector that outlives the call, and so do the descriptors.
    let ready = unsafe { libc::poll(entries.as_mut_ptr(), count, timeout_milliseconds) };
    ready > 0 && entries.last().is_some_and(|entry| entry.revents != 0)
}

/// Begins to connect. It is done when the stream is writable; whether it went well is then `TcpStream::take_error`.
pub(crate) fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let (family, length) = match address {
        SocketAddr::V4(_) => (libc::AF_INET, size_of::<libc::sockaddr_in>()),
        SocketAddr::V6(_) => (libc::AF_INET6, size_of::<libc::sockaddr_in6>()),
    };
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: the new descriptor is ours alone.
    let socket = unsafe { owned(libc::socket(family, kind, 0))? };
    let length = libc::socklen_t::try_from(length).unwrap_or(0);
    let connected = match address {
        SocketAddr::V4(address) => {
            let raw = libc::sockaddr_in {
                sin_family: family_field(family),
                sin_port: address.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
                sin_zero: [0; 8],
            };
            // SAFETY: `raw` is an address of this length and outlives the call.
            unsafe { libc::connect(socket.as_raw_fd(), (&raw const raw).cast(), length) }
        }
        SocketAddr::V6(address) => {
            let raw = libc::sockaddr_in6 {
                sin6_family: family_field(family),
                sin6_port: address.port().to_be(),
                sin6_flowinfo: 0,
                sin6_addr: libc::in6_addr { s6_addr: address.ip().octets() },
                sin6_scope_id: address.scope_id(),
            };
            // SAFETY: as above.
            unsafe { libc::connect(socket.as_raw_fd(), (&raw const raw).cast(), length) }
        }
    };
    if connected == -1 {
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::EINPROGRESS) {
            return Err(error);
        }
    }
    Ok(TcpStream::from(socket))
}

/// Fills it with random that keys may be made of.
pub(crate) fn random(bytes: &mut [u8]) -> io::Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        // SAFETY: the pointer and the length describe a slice that outlives the call.
        let got = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
        match usize::try_from(got) {
            Ok(got) => rest = rest.get_mut(got..).unwrap_or_default(),
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(error),
            },
        }
    }
    Ok(())
}

fn family_field(family: libc::c_int) -> libc::sa_family_t {
    libc::sa_family_t::try_from(family).unwrap_or_default()
}
