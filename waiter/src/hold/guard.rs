//! The guard: everything that may end the sidecar, watched at every moment at which it waits for something.
//!
//! Touches the grant file (read), signals, the clock. What must stay true: nothing in the sidecar waits but through
//! [`Patience::wait`], and that comes back with an [`End`] as soon as there is one: a signal, a fence that the grant file or
//! the deadline asks for. So a peer that hangs can keep the sidecar from nothing.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::session::{Fence, Session};
use crate::sys::hold::{self as sys, Interest};
use crate::text;
use crate::watch::Watch;

/// Without a timer that counts suspended time: look at the clock so often.
const POLL_MILLISECONDS: i64 = 1_000;

/// Why the sidecar ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It was asked to.
    Stopped,
    /// The pod must stop.
    Fenced(String),
}

/// What came of waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    Ready,
    TimeIsUp,
}

/// How the network is waited for.
pub(crate) trait Patience {
    /// Waits for the socket until that moment of [`sys::ticks`].
    fn wait(&mut self, socket: Option<(BorrowedFd<'_>, Interest)>, until: i64) -> Result<Waited, End>;
}

/// The session and what may end it.
pub(crate) struct Guard {
    pub(crate) session: Session,
    watch: Watch,
    timer: Option<OwnedFd>,
    grant: String,
}

impl Guard {
    /// From here on signals end nothing by themselves.
    pub(crate) fn new(pod_uid: String, grant: String) -> Self {
        Self {
            session: Session::new(pod_uid, sys::ticks()),
            watch: Watch::new(grant.as_ref()),
            timer: sys::timer().ok(),
            grant,
        }
    }

    fn look(&mut self) -> Result<(), End> {
        if self.watch.signal().is_some() {
            return Err(End::Stopped);
        }
        // A file that cannot be read may be there in a moment.
        if let Ok(text) = text::read(&self.grant) {
            self.session.read(&text)?;
        }
        Ok(self.session.at(sys::ticks())?)
    }
}

impl Patience for Guard {
    fn wait(&mut self, socket: Option<(BorrowedFd<'_>, Interest)>, until: i64) -> Result<Waited, End> {
        let mut ready = false;
        loop {
            self.look()?;
            if ready {
                return Ok(Waited::Ready);
            }
            // What can be renewed only since this look ends a wait that is for nothing else.
            let until = match (socket, self.session.due()) {
                (None, Some((_, due))) => until.min(due),
                _ => until,
            };
            let now = sys::ticks();
            if now >= until {
                return Ok(Waited::TimeIsUp);
            }
            let wake = self.session.deadline().map_or(until, |deadline| deadline.min(until));
            let timer = self.timer.as_ref().map(AsFd::as_fd);
            let timer = timer.filter(|timer| sys::set_timer(*timer, wake).is_ok());
            // Rounded up, and a moment after the timer, which is the one that is right.
            let mut at_most = wake.saturating_sub(now).saturating_add(1);
            if timer.is_none() {
                at_most = at_most.min(POLL_MILLISECONDS);
            }
            let timer = timer.map(|timer| (timer, Interest::Readable));
            let others: Vec<_> = timer.into_iter().chain(socket).collect();
            let at_most = i32::try_from(at_most).unwrap_or(i32::MAX);
            ready = self.watch.wait_beside(&others, at_most) && socket.is_some();
        }
    }
}

impl From<Fence> for End {
    fn from(Fence(reason): Fence) -> Self {
        Self::Fenced(reason)
    }
}
