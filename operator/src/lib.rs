//! The operator: caches, snapshot, step, commit, notify.
