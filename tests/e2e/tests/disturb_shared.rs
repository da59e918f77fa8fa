//! Tests that take parts of Konductor away, which everybody shares: one after another and beside nobody.
//!
//! `cargo xtask test` runs files of such a name with one thread, after the others. Tests run in the order of their
//! names; the one that uninstalls everything is the last.

#[path = "disturb_shared/cert_manager.rs"]
mod cert_manager;
#[path = "disturb_shared/operator.rs"]
mod operator;
#[path = "disturb_shared/outage.rs"]
mod outage;
#[path = "disturb_shared/webhook.rs"]
mod webhook;
#[path = "disturb_shared/without_konductor.rs"]
mod without_konductor;
