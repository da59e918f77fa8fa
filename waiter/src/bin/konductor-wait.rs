//! Waits in an init container until the grant says go; `once` runs a command, or does not.

use std::process::ExitCode;

use konductor_waiter::{once, wait};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).peekable();
    if arguments.next_if(|argument| argument == "once").is_some() {
        return ExitCode::from(once::run(arguments));
    }
    // Not args(): its panic on text that is no Unicode links a kilobyte and a half.
    let arguments = arguments.filter_map(|argument| argument.into_string().ok());
    ExitCode::from(wait::run(arguments, |name| std::env::var(name).ok()))
}
