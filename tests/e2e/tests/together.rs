//! Tests that run beside each other, each in its own namespace, and touch nothing that others share.
//!
//! One program, because each would link the whole client anew. `cargo xtask test` runs it with four threads.

#[path = "together/admission.rs"]
mod admission;
#[path = "together/answers.rs"]
mod answers;
#[path = "together/attested.rs"]
mod attested;
#[path = "together/barrier.rs"]
mod barrier;
#[path = "together/claims.rs"]
mod claims;
#[path = "together/corpus.rs"]
mod corpus;
#[path = "together/crds.rs"]
mod crds;
#[path = "together/gate.rs"]
mod gate;
#[path = "together/hold.rs"]
mod hold;
#[path = "together/holders.rs"]
mod holders;
#[path = "together/koncli.rs"]
mod koncli;
#[path = "together/lease.rs"]
mod lease;
#[path = "together/looks.rs"]
mod looks;
#[path = "together/mutex.rs"]
mod mutex;
#[path = "together/once.rs"]
mod once;
#[path = "together/patience.rs"]
mod patience;
#[path = "together/run.rs"]
mod run;
#[path = "together/rwmutex.rs"]
mod rwmutex;
#[path = "together/section.rs"]
mod section;
#[path = "together/seed.rs"]
mod seed;
#[path = "together/semaphore.rs"]
mod semaphore;
#[path = "together/surface.rs"]
mod surface;
#[path = "together/surroundings.rs"]
mod surroundings;
#[path = "together/suspend.rs"]
mod suspend;
#[path = "together/templates.rs"]
mod templates;
#[path = "together/transcripts.rs"]
mod transcripts;
#[path = "together/waitgroup.rs"]
mod waitgroup;
#[path = "together/windows.rs"]
mod windows;
