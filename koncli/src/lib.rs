//! Konductor's command line.
//!
//! The way through: [`args`] (what can be asked for) -> [`manifests`] (what it is asked about) -> [`inject`], [`uninject`], [`lint`] (pure:
//! what the webhook would do, and what it would not see) -> [`exit`]. With a cluster it is [`cluster`] (which one) -> [`live`]
//! (the calls; [`create`], [`rows`] and [`told`] are pure) -> [`exit`]. What must stay true: data goes to standard output and
//! everything else to standard error; bad input is one sentence with the way out and an exit code, never a panic; what runs
//! here without a cluster is the code that runs in one.

pub mod args;
pub mod cluster;
pub mod create;
pub mod exit;
pub mod inject;
pub mod lint;
pub mod live;
pub mod manifests;
mod output;
pub mod rows;
pub mod told;
pub mod uninject;
mod workload;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use args::{Args, Command};
use clap::{CommandFactory, FromArgMatches};
use exit::Exit;
use konductor_api::participation::Kind;
use live::Ask;

/// Does what the command line asks for.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<_> = arguments.into_iter().collect();
    let matches = Args::command().name(called(&arguments)).bin_name(called(&arguments));
    let parsed =
        matches.clone().try_get_matches_from(arguments).and_then(|found| Args::from_arg_matches(&found));
    let outcome = match parsed {
        Ok(args) => answer(args, matches),
        Err(error) => {
            // Help and the version are asked for, and go to standard output.
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Done };
            let _ = error.print();
            exit
        }
    };
    outcome.into()
}

fn answer(args: Args, mut command: clap::Command) -> Exit {
    match args.command {
        Command::Gate(verb) => output::live(Kind::Gate, Ask::of_gate(verb)),
        Command::Barrier(verb) => output::live(Kind::Barrier, Ask::of_waiting(Kind::Barrier, verb)),
        Command::Semaphore(verb) => output::live(Kind::Semaphore, Ask::of(Kind::Semaphore, verb)),
        Command::Lease(verb) => output::live(Kind::Lease, Ask::of(Kind::Lease, verb)),
        Command::Mutex(verb) => output::live(Kind::Mutex, Ask::of(Kind::Mutex, verb)),
        Command::Rwmutex(verb) => output::live(Kind::RWMutex, Ask::of(Kind::RWMutex, verb)),
        Command::Once(verb) => output::live(Kind::Once, Ask::of_once(verb)),
        Command::Waitgroup(verb) => output::live(Kind::WaitGroup, Ask::of_waiting(Kind::WaitGroup, verb)),
        Command::Status { kind, name, look } => output::status(&kind, name, look),
        Command::Inject(options) => output::inject(&options),
        Command::Uninject(options) => output::uninject(&options),
        Command::Lint(options) => output::lint(&options),
        Command::Version => output::version(),
        Command::Completion { shell } => output::completion(shell, &mut command),
    }
}

/// kubectl finds a plug-in by its file name, and shows it as a command of its own.
fn called(arguments: &[OsString]) -> &'static str {
    let name = arguments.first().map(Path::new).and_then(Path::file_stem).unwrap_or_default();
    if name == "kubectl-konductor" { "kubectl konductor" } else { "koncli" }
}
