//! The rules of each primitive as a pure step.
