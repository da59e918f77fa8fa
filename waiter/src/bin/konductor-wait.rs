//! Waits in an init container until the grant says go.

fn main() {}
