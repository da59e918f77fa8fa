//! Exit codes: part of what scripts rely on.
//!
//! What must stay true: a code keeps its meaning.

use std::process::ExitCode;

/// How it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// It could not be done, or something was found that should not be.
    Error = 1,
    /// The command line says nothing that could be done.
    Usage = 2,
    /// It took longer than it might.
    TimedOut = 3,
    /// There is no right to do it.
    Denied = 4,
    /// Not yet: one look was asked for.
    NotYet = 5,
    /// It can never happen.
    Never = 6,
    /// There is no such object.
    NotFound = 7,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
