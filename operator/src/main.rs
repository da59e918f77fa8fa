//! The operator's process.

use std::process::ExitCode;

fn main() -> ExitCode {
    konductor_operator::main()
}
