//! One way in for people and for CI.

fn main() {}
