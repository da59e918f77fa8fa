//! The two tiny static programs in a pod: konductor-wait waits in an init container, konductor-hold keeps a hold that may be
//! lost by silence.
//!
//! In the order in which data passes: [`grant`] (the one definition of the verdict's text; the operator writes it,
//! the webhook and the waiter read it) -> [`judge`] (is this verdict for this run of this waiter?) -> [`mark`] (a
//! grant is used once) -> [`wait`] (the loop, with [`watch`] to be woken). [`once`] is what the waiter leaves behind for
//! containers that do something once, and what they run. [`hold`] is the sidecar. [`sys`] holds the system calls.
//!
//! What must stay true of konductor-wait: exit 0 means granted and nothing else does; a grant that this pod's disk remembers
//! as used opens nothing; a transient problem is waited out, never turned into an exit code; one thread, no network, no
//! credentials, one dependency. All that the sidecar needs beyond is behind the feature `hold`.

pub mod grant;
pub mod hold;
pub mod judge;
pub mod mark;
pub mod once;
pub mod rfc3339;
mod sys;
mod text;
pub mod wait;
pub mod watch;
