//! Options: how somebody waits.
//!
//! Pure. One object's options are about all that this object takes part in. Read from annotations by
//! [`crate::annotations`]; what must stay true: a word that is not known is refused, never taken for the default.

use jiff::Timestamp;

use crate::duration::GoDuration;

/// How an object waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Higher goes first; `None`: what the primitive says, else 0.
    pub priority: Option<i32>,
    /// How long it waits at most, for everything together, from its queue stamp.
    pub timeout: Option<GoDuration>,
    /// What then.
    pub on_timeout: OnTimeout,
    /// What if it would have to wait at all.
    pub on_busy: OnBusy,
    /// Where it waits.
    pub hold: Hold,
    /// Who gives signs of life for what it holds.
    pub sidecar: Sidecar,
}

/// Where somebody waits. In every mode the injected waiter stands before the containers: it alone lets them start, and
/// the mode only says what is used until then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hold {
    /// On a node, placed and warm, in the init container.
    #[default]
    InitContainer,
    /// Nowhere: a scheduling gate keeps it from taking a node until it is its turn.
    SchedulingGate,
    /// Nowhere: a Job is suspended, and has no pods until it is its turn.
    Suspend,
}

/// Whether a pod gets the sidecar that gives signs of life for what it holds. A hold with a ttl is lost after silence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sidecar {
    /// Where it counts: for a Lease, and for what has a ttl as far as is known.
    #[default]
    Auto,
    /// For whatever could have a ttl.
    Always,
    /// The node alone speaks for the pod.
    Never,
}

/// What becomes of somebody whose time is up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnTimeout {
    /// It fails.
    #[default]
    Fail,
    /// A Job is completed without having run.
    Skip,
    /// It starts all the same. Only where nothing is held.
    Proceed,
}

/// What becomes of somebody who would have to wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnBusy {
    /// It waits.
    #[default]
    Wait,
    /// A Job is completed without having run.
    Skip,
    /// It fails.
    Fail,
}

impl Options {
    /// When the patience of somebody ends who has waited since then.
    pub fn deadline(&self, since: Timestamp) -> Option<Timestamp> {
        self.timeout?.after(since)
    }
}

impl OnTimeout {
    /// Every word.
    pub const WORDS: [(&'static str, Self); 3] =
        [("fail", Self::Fail), ("skip", Self::Skip), ("proceed", Self::Proceed)];
}

impl Hold {
    /// Every word.
    pub const WORDS: [(&'static str, Self); 3] = [
        ("init-container", Self::InitContainer),
        ("scheduling-gate", Self::SchedulingGate),
        ("suspend", Self::Suspend),
    ];

    /// As users write it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::InitContainer => "init-container",
            Self::SchedulingGate => "scheduling-gate",
            Self::Suspend => "suspend",
        }
    }
}

impl Sidecar {
    /// Every word.
    pub const WORDS: [(&'static str, Self); 3] =
        [("auto", Self::Auto), ("always", Self::Always), ("never", Self::Never)];

    /// As users write it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Always => "always",
            Self::Never => "never",
        }
    }

    /// What is said for both, where "auto" says nothing.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        if self == Self::Auto { other } else { self }
    }
}

impl OnBusy {
    /// Every word.
    pub const WORDS: [(&'static str, Self); 3] =
        [("wait", Self::Wait), ("skip", Self::Skip), ("fail", Self::Fail)];
}
