//! The command `koncli`, also called as `kubectl konductor`.

use std::process::ExitCode;

fn main() -> ExitCode {
    koncli::run(std::env::args_os())
}
