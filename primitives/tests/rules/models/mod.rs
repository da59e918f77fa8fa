//! Each kind beside the simplest thing that could be meant: a list, a counter, a set, a map.
//!
//! What must stay true: the reference knows nothing of ledgers, evidence or snapshots; what is written here twice would
//! be wrong twice.

mod barrier;
mod line;
mod mutex;
mod once;
mod rwmutex;
mod semaphore;
mod waitgroup;
