//! Tests that run beside each other, each in its own namespace, and touch nothing that others share.
//!
//! One program, because each would link the whole client anew. `cargo xtask test` runs it with four threads.

mod admission;
mod crds;
mod gate;
mod holders;
mod mutex;
mod seed;
mod surface;
mod surroundings;
