//! The mutating admission webhook: parse, plan, patch.

fn main() {}
