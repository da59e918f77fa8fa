//! The clock by which waiting and patience are measured: the machine's, or that of a simulation.
//!
//! Wall-clock time only, for what people read and for deadlines. What must stay true: how long somebody has been silent is never
//! taken from it ([`crate::silence`], [`crate::nodes`]).

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub enum Clock {
    /// The machine's.
    #[default]
    Machine,
    /// It stood at `epoch` when the runtime's clock stood at `since`, and goes with that.
    Simulated {
        /// Then.
        epoch: Timestamp,
        /// When that was.
        since: Instant,
    },
}

impl Clock {
    /// What it shows.
    pub fn now(self) -> Timestamp {
        match self {
            Self::Machine => Timestamp::now(),
            Self::Simulated { epoch, since } => SignedDuration::try_from(since.elapsed())
                .ok()
                .and_then(|passed| epoch.checked_add(passed).ok())
                .unwrap_or(epoch),
        }
    }
}
