//! Exit codes: part of what scripts rely on.
//!
//! What must stay true: a code keeps its meaning.

use std::process::ExitCode;

/// How it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done,
    /// It could not be done, or something was found that should not be.
    Error,
    /// The command line says nothing that could be done.
    Usage,
    /// It took longer than it might.
    TimedOut,
    /// There is no right to do it.
    Denied,
    /// Not yet: one look was asked for.
    NotYet,
    /// It can never happen.
    Never,
    /// There is no such object.
    NotFound,
    /// What was held is lost.
    Lost,
    /// Ended by that signal.
    Signal(u8),
    /// What the command itself ended with.
    Of(u8),
}

impl Exit {
    /// The code.
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Error => 1,
            Self::Usage => 2,
            Self::TimedOut => 3,
            Self::Denied => 4,
            Self::NotYet => 5,
            Self::Never => 6,
            Self::NotFound => 7,
            Self::Lost => 8,
            Self::Signal(number) => 128_u8.saturating_add(number),
            Self::Of(code) => code,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
