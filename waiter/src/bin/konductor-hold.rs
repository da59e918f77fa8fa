//! Keeps a hold from a sidecar.

use std::process::ExitCode;

use konductor_waiter::hold::run;

fn main() -> ExitCode {
    let arguments = std::env::args_os().skip(1).filter_map(|argument| argument.into_string().ok());
    ExitCode::from(run::run(arguments, |name| std::env::var(name).ok()))
}
