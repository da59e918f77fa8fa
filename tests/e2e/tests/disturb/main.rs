//! Tests that take parts of Konductor away, which everybody shares: one after another and beside nobody.
//!
//! `cargo xtask test` runs this program with one thread, after the others. Tests run in the order of their names; the
//! one that uninstalls everything is the last.

mod operator;
mod webhook;
mod without_konductor;
