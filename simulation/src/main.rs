//! Lives seeds: see [`konductor_simulation::command`].

use std::process::ExitCode;

fn main() -> ExitCode {
    konductor_simulation::command::main()
}
