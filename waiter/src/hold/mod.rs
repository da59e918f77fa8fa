//! The sidecar of holds that may be lost by silence: it says that it is alive, and stops its pod before somebody else may run.
//!
//! In the order in which data passes: [`settings`] (command line and environment) -> [`guard`] (everything that may end the
//! sidecar, at any moment) with [`session`] (the rules, pure) -> [`exchange`] (one renewal: [`resolve`] with [`dns`] finds the
//! operator, [`tls`] speaks to it, [`wire`] has the words) -> [`run`] (the loop around it).
//!
//! What must stay true: **`HolderStopsFirst`**: the pod is fenced before the operator can count its hold as lost, whatever
//! the network does; so nothing here waits for anything but through the guard, and there is one thread. It needs no
//! library of the system and no right but its own token. A constant and the rules need no feature; what needs the network is
//! behind `hold`.

pub mod session;
pub mod wire;

#[cfg(feature = "hold")]
mod dns;
#[cfg(feature = "hold")]
mod exchange;
#[cfg(feature = "hold")]
mod guard;
#[cfg(feature = "hold")]
mod resolve;
#[cfg(feature = "hold")]
pub mod run;
#[cfg(feature = "hold")]
mod settings;
#[cfg(feature = "hold")]
mod tls;

/// The exit code that fences the pod: the sidecar's restart rule turns it into a restart of all containers, the waiter
/// first.
pub const FENCED: u8 = 97;
