//! Konductor's command line.
//!
//! The way through: [`args`] (what can be asked for) -> [`manifests`] (what it is asked about) -> [`inject`], [`uninject`], [`lint`] (pure:
//! what the webhook would do, and what it would not see) -> [`exit`]. With a cluster it is [`cluster`] (which one) -> [`live`]
//! (the calls; [`create`], [`rows`] and [`told`] are pure) -> [`exit`]. Locks are taken with [`claims`], and [`mod@run`] holds them
//! around a command. What people ask is answered by [`why`], [`describe`], [`graph`], [`simulate`], [`doctor`] and [`check`];
//! [`breaking`] ends a hold by hand, [`complete`] answers a shell. What must stay true: data goes to standard output and
//! everything else to standard error; bad input is one sentence with the way out and an exit code, never a panic; what runs
//! here without a cluster is the code that runs in one.

pub mod args;
pub mod breaking;
pub mod check;
pub mod claims;
pub mod cluster;
pub mod complete;
pub mod create;
pub mod describe;
pub mod doctor;
pub mod exit;
pub mod graph;
pub mod inject;
pub mod lint;
pub mod live;
pub mod manifests;
mod output;
pub mod rows;
pub mod run;
pub mod simulate;
pub mod told;
pub mod uninject;
pub mod why;
mod workload;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use args::{
    Args, BarrierVerb, Command, LeaseVerb, MutexVerb, OnceVerbs, RwmutexVerb, SemaphoreVerb, WaitgroupVerb,
};
use claims::verbs;
use clap::{CommandFactory, FromArgMatches};
use exit::Exit;
use konductor_api::claim::ClaimMode;
use konductor_api::participation::Kind;
use live::Ask;

/// Does what the command line asks for.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<_> = arguments.into_iter().collect();
    // A shell asks what may come next, and is answered here.
    clap_complete::CompleteEnv::with_factory(Args::command).complete();
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

fn answer(args: Args, command: clap::Command) -> Exit {
    let to = &args.connection;
    match args.command {
        Command::Gate(verb) => output::live(to, Kind::Gate, Ask::of_gate(verb)),
        Command::Barrier(verb) => match verb {
            BarrierVerb::Arrive(arrive) => output::told(verbs::arrive(to, arrive)),
            BarrierVerb::Waits(verb) => output::live(to, Kind::Barrier, Ask::of_waiting(Kind::Barrier, verb)),
        },
        Command::Semaphore(verb) => match verb {
            SemaphoreVerb::Acquire(take) => output::told(verbs::take(to, Kind::Semaphore, None, take)),
            SemaphoreVerb::Release(own) => output::told(verbs::give_back(to, Kind::Semaphore, own)),
            SemaphoreVerb::Renew(own) => output::told(verbs::renew(to, Kind::Semaphore, own)),
            SemaphoreVerb::Any(verb) => output::live(to, Kind::Semaphore, Ask::of(Kind::Semaphore, verb)),
        },
        Command::Lease(verb) => match verb {
            LeaseVerb::Acquire(take) => output::told(verbs::take(to, Kind::Lease, None, take)),
            LeaseVerb::Release(own) => output::told(verbs::give_back(to, Kind::Lease, own)),
            LeaseVerb::Renew(own) => output::told(verbs::renew(to, Kind::Lease, own)),
            LeaseVerb::Run(one) => output::told(run::run_one(to, Kind::Lease, &one.name, one.with)),
            LeaseVerb::Any(verb) => output::live(to, Kind::Lease, Ask::of(Kind::Lease, verb)),
        },
        Command::Mutex(verb) => match verb {
            MutexVerb::Lock(take) => output::told(verbs::take(to, Kind::Mutex, None, take)),
            MutexVerb::Unlock(own) => output::told(verbs::give_back(to, Kind::Mutex, own)),
            MutexVerb::Renew(own) => output::told(verbs::renew(to, Kind::Mutex, own)),
            MutexVerb::Any(verb) => output::live(to, Kind::Mutex, Ask::of(Kind::Mutex, verb)),
        },
        Command::Rwmutex(verb) => match verb {
            RwmutexVerb::Rlock(take) => {
                output::told(verbs::take(to, Kind::RWMutex, Some(ClaimMode::Read), take))
            }
            RwmutexVerb::Lock(take) => {
                output::told(verbs::take(to, Kind::RWMutex, Some(ClaimMode::Write), take))
            }
            RwmutexVerb::Unlock(own) => output::told(verbs::give_back(to, Kind::RWMutex, own)),
            RwmutexVerb::Renew(own) => output::told(verbs::renew(to, Kind::RWMutex, own)),
            RwmutexVerb::Any(verb) => output::live(to, Kind::RWMutex, Ask::of(Kind::RWMutex, verb)),
        },
        Command::Once(verb) => match verb {
            OnceVerbs::Run(one) => output::told(run::run_one(to, Kind::Once, &one.name, one.with)),
            OnceVerbs::Any(verb) => output::live(to, Kind::Once, Ask::of_once(verb)),
        },
        Command::Waitgroup(verb) => match verb {
            WaitgroupVerb::Add(add) => output::told(verbs::add(to, add)),
            WaitgroupVerb::Done(own) => output::told(verbs::done(to, own)),
            WaitgroupVerb::Waits(verb) => {
                output::live(to, Kind::WaitGroup, Ask::of_waiting(Kind::WaitGroup, verb))
            }
        },
        Command::Why { target, name } => output::why(to, &target, name.as_deref()),
        Command::Describe { kind, name } => output::told(describe::describe(to, kind.0, &name)),
        Command::Events(flags) => output::told(describe::events(to, &flags)),
        Command::Break { kind, flags } => output::told(breaking::break_hold(to, kind.0, flags)),
        Command::Graph(flags) => output::graph(to, &flags),
        Command::Simulate(files) => output::simulate(&files),
        Command::Check(flags) => output::told(check::check(to, &flags)),
        Command::Doctor(flags) => output::told(doctor::doctor(to, &flags)),
        Command::Run(flags) => output::told(run::run(to, flags.locks, flags.with)),
        Command::Guard { grace } => run::guard::guard(Duration::from_millis(grace)),
        Command::Exec { parent, command } => run::child::exec(parent, &command),
        Command::Status { kind, name, look } => output::status(to, &kind, name, look),
        Command::List(flags) => output::list(to, &flags),
        Command::Wait { target, timeout } => output::wait(to, &target, timeout),
        Command::Inject(options) => output::inject(&options),
        Command::Uninject(options) => output::uninject(&options),
        Command::Lint(options) => output::lint(&options),
        Command::Operator { .. } => output::told(check::operator(to)),
        Command::Version => output::version(),
        Command::Man { folder } => output::man(&folder, command),
        Command::Completion { shell } => output::completion(shell, command.get_name()),
    }
}

/// kubectl finds a plug-in by its file name, and shows it as a command of its own.
fn called(arguments: &[OsString]) -> &'static str {
    let name = arguments.first().map(Path::new).and_then(Path::file_stem).unwrap_or_default();
    if name == "kubectl-konductor" { "kubectl konductor" } else { "koncli" }
}
