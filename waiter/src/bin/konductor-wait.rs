//! Waits in an init container until the grant says go.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Not args(): its panic on text that is no Unicode links a kilobyte and a half.
    let arguments = std::env::args_os().skip(1).filter_map(|argument| argument.into_string().ok());
    ExitCode::from(konductor_waiter::wait::run(arguments, |name| std::env::var(name).ok()))
}
