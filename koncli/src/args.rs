//! The command line: the one definition of every command and flag.
//!
//! Types only. What must stay true: help texts are what the reference shows.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Parser, Subcommand, ValueEnum};
use clap_complete::ArgValueCandidates;
use konductor_api::duration::GoDuration;
use serde::Deserialize;

use crate::lint::{Code, Severity};

mod claims;
mod questions;

pub use claims::{
    Add, Arrive, BarrierVerb, LeaseVerb, Lock, MutexVerb, OnceVerbs, Own, Patience, Run, RunOne, RunWith,
    RwmutexVerb, SemaphoreVerb, Take, WaitgroupVerb, Who,
};
pub use questions::{BreakHold, Check, Doctor, Draw, Events, KindName, Picture};

/// Coordinates Kubernetes Jobs and Pods: who holds, who waits, and what a manifest would do.
#[derive(Debug, Parser)]
#[command(name = "koncli", version, disable_help_subcommand = true)]
pub struct Args {
    /// Which cluster.
    #[command(flatten)]
    pub connection: Connection,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Gates: create, delete, list, status, open, close, clear, wait
    #[command(subcommand)]
    Gate(GateVerb),
    /// Barriers: create, delete, list, status, arrive, wait
    #[command(subcommand)]
    Barrier(BarrierVerb),
    /// Semaphores: create, delete, list, status, acquire, release, renew
    #[command(subcommand)]
    Semaphore(SemaphoreVerb),
    /// Leases of konductor.io: create, delete, list, status, acquire, renew, release, run
    #[command(subcommand)]
    Lease(LeaseVerb),
    /// Mutexes: create, delete, list, status, lock, unlock, renew
    #[command(subcommand)]
    Mutex(MutexVerb),
    /// `RWMutex`es: create, delete, list, status, rlock, lock, unlock, renew
    #[command(subcommand)]
    Rwmutex(RwmutexVerb),
    /// Onces: create, delete, list, status, check, run
    #[command(subcommand)]
    Once(OnceVerbs),
    /// Wait groups: create, delete, list, status, add, done, wait
    #[command(subcommand)]
    Waitgroup(WaitgroupVerb),
    /// Say why something waits, who is in the way, and what can be done
    #[command(visible_alias = "explain")]
    Why {
        /// pod/NAME, job/NAME, claim/NAME, a primitive as mutex/NAME, or just a name
        target: String,
        /// The name, if the kind stands alone
        name: Option<String>,
    },
    /// Show a primitive with its spec and what happened to it
    Describe {
        /// gate, barrier, semaphore, lease, mutex, rwmutex, once or waitgroup
        kind: KindName,
        /// Its name
        name: String,
    },
    /// Show what happened: Konductor's Events of the namespace, or of one object
    Events(Events),
    /// End a hold because its holder has certainly ended; needs the right to break
    Break {
        /// semaphore, lease, mutex, rwmutex or once
        kind: KindName,
        /// Which.
        #[command(flatten)]
        flags: BreakHold,
    },
    /// Draw what waits for what: of manifests, or of a namespace if none is given
    Graph(Draw),
    /// Tell what would happen, by the real rules on a virtual clock, without a cluster
    Simulate(Files),
    /// Check that everything is there that Konductor needs, and works
    Check(Check),
    /// Find what needs a person, and the command that helps
    Doctor(Doctor),
    /// Run a command while holding locks; it is killed before they can be lost
    Run(Run),
    /// Kills what is left of a command whose koncli is gone; started by run
    #[command(name = "__guard", hide = true)]
    Guard {
        /// How long it has between the two signals, in milliseconds
        grace: u64,
    },
    /// Becomes a command that ends when its koncli does; started by run
    #[command(name = "__exec", hide = true)]
    Exec {
        /// The process that it ends with
        parent: i32,
        /// The command
        #[arg(last = true, required = true)]
        command: Vec<std::ffi::OsString>,
    },
    /// Show who holds a primitive, who waits for it and why
    Status {
        /// gate, barrier, semaphore, lease, mutex, rwmutex, once or waitgroup; all shows every one
        kind: String,
        /// Its name
        name: Option<String>,
        /// How it is shown.
        #[command(flatten)]
        look: Look,
    },
    /// Show every primitive of the namespace: who holds it, who waits
    List(List),
    /// Wait until a gate or barrier is open, or a wait group is done
    Wait {
        /// gate/NAME, barrier/NAME or waitgroup/NAME
        target: String,
        /// How long, e.g. 30m; left out: without a limit; 0: one look
        #[arg(long, env = "KONDUCTOR_TIMEOUT", hide_env_values = true)]
        timeout: Option<GoTime>,
    },
    /// Show manifests as the webhook would change them, without a cluster
    Inject(Inject),
    /// Take out of manifests what the webhook, or inject, has put into them
    Uninject(Uninject),
    /// Find what is wrong with manifests before they are applied, without a cluster
    Lint(Lint),
    /// Say where Konductor's operator runs, and whether it is ready
    Operator {
        /// Accepted from the Go project; it is found by its labels
        #[arg(long, hide = true)]
        service: Option<String>,
        /// Accepted from the Go project; it is found by its labels
        #[arg(long, hide = true)]
        operator_namespace: Option<String>,
    },
    /// Say which version this is
    Version,
    /// Write the manual pages into a folder
    Man {
        /// The folder, which is made if it is not there
        folder: PathBuf,
    },
    /// Print a completion script for a shell
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Which cluster, and where in it.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Connection {
    /// The namespace
    #[arg(short, long, global = true)]
    pub namespace: Option<String>,
    /// A kubeconfig
    #[arg(long, value_name = "FILE", global = true)]
    pub kubeconfig: Option<PathBuf>,
    /// A context of the kubeconfig
    #[arg(long, global = true)]
    pub context: Option<String>,
    /// Accepted from the Go project: debug, info, warn or error; what there is to say goes to standard error anyway
    #[arg(long, global = true, hide = true, env = "KONCLI_LOG_LEVEL")]
    pub log_level: Option<LogLevel>,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// Everything.
    Debug,
    /// The usual.
    Info,
    /// Trouble.
    Warn,
    /// Failures.
    Error,
}

/// How something is shown.
#[derive(Clone, Debug, clap::Args)]
pub struct Look {
    /// text, wide, json, yaml or name [default: text]
    #[arg(short, long, env = "KONCLI_OUTPUT", hide_env_values = true)]
    pub output: Option<Format>,
}

/// How objects are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people.
    Text,
    /// For people, with who waits.
    Wide,
    /// What a list says, as JSON objects, one a line.
    Json,
    /// The whole object.
    Yaml,
    /// kind/name.
    Name,
}

/// Flags of `list`.
#[derive(Clone, Debug, clap::Args)]
pub struct List {
    /// How they are shown.
    #[command(flatten)]
    pub look: Look,
    /// Of all namespaces
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// Without the heads of the columns
    #[arg(long)]
    pub no_headers: bool,
}

/// One, by its name.
#[derive(Clone, Debug, clap::Args)]
pub struct Named {
    /// Its name
    #[arg(add = ArgValueCandidates::new(crate::complete::names))]
    pub name: String,
}

/// Flags of `wait`.
#[derive(Clone, Debug, clap::Args)]
pub struct Wait {
    /// Its name
    #[arg(add = ArgValueCandidates::new(crate::complete::names))]
    pub name: String,
    /// How long, e.g. 30m; left out: without a limit; 0: one look
    #[arg(long, env = "KONDUCTOR_TIMEOUT", hide_env_values = true)]
    pub timeout: Option<GoTime>,
}

/// Flags of `create`.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Create {
    /// Its name
    pub name: String,
    /// Semaphore: how many may hold at a time [default: 1]
    #[arg(long)]
    pub permits: Option<i64>,
    /// Barrier: how many have to arrive [default: 1]
    #[arg(long)]
    pub expected: Option<i64>,
    /// Barrier: how many are enough
    #[arg(long)]
    pub quorum: Option<i64>,
    /// Barrier: how long after the first arrival it fails
    #[arg(long)]
    pub timeout: Option<GoTime>,
    /// What the kind says of it, see its fields; 0: none [default of a Lease: 10m]
    #[arg(long)]
    pub ttl: Option<GoTime>,
}

/// Flags of `gate create`.
#[derive(Clone, Debug, clap::Args)]
pub struct CreateGate {
    /// Its name
    pub name: String,
    /// What it waits for, as TYPE/NAME or TYPE/NAME=STATE, e.g. Job/etl or Job/etl=Failed; without any it is opened by hand
    #[arg(long = "condition", value_name = "CONDITION")]
    pub conditions: Vec<Condition>,
    /// How long after the first waiter it fails
    #[arg(long)]
    pub timeout: Option<GoTime>,
}

/// A condition of a gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// What it is about.
    pub type_: String,
    /// Which.
    pub name: String,
    /// In which state; left out: the default of the type.
    pub state: Option<String>,
}

impl FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (what, state) = text.split_once('=').map_or((text, None), |(what, state)| (what, Some(state)));
        let (type_, name) = what
            .split_once('/')
            .filter(|(type_, name)| !type_.is_empty() && !name.is_empty())
            .ok_or("write it as TYPE/NAME or TYPE/NAME=STATE, e.g. Job/etl=Complete")?;
        Ok(Self { type_: type_.to_owned(), name: name.to_owned(), state: state.map(str::to_owned) })
    }
}

/// A time as Go writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GoTime(pub GoDuration);

impl FromStr for GoTime {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|error| format!("{error}"))
    }
}

/// What can be done with every kind.
#[derive(Clone, Debug, Subcommand)]
pub enum Verb {
    /// Make one; if there is one like it already, that is fine
    Create(Create),
    /// What can be done with every kind.
    #[command(flatten)]
    Common(CommonVerb),
}

/// What can be done with every kind.
#[derive(Clone, Debug, Subcommand)]
pub enum CommonVerb {
    /// Delete one; that there is none is fine
    Delete(Named),
    /// Show all
    List(List),
    /// Show who holds it, who waits for it and why
    Status {
        /// Its name
        #[arg(add = ArgValueCandidates::new(crate::complete::names))]
        name: String,
        /// How it is shown.
        #[command(flatten)]
        look: Look,
    },
}

/// What can be done with what opens by itself.
#[derive(Clone, Debug, Subcommand)]
pub enum WaitVerb {
    /// Wait until it is open, or done
    Wait(Wait),
    /// What can be done with every kind.
    #[command(flatten)]
    Any(Verb),
}

/// What can be done with gates.
#[derive(Clone, Debug, Subcommand)]
pub enum GateVerb {
    /// Make one
    Create(CreateGate),
    /// Open it, whatever its conditions say
    Open(Named),
    /// Close it, whatever its conditions say
    Close(Named),
    /// Let its conditions decide again
    Clear(Named),
    /// Wait until it is open
    Wait(Wait),
    /// What can be done with every kind.
    #[command(flatten)]
    Common(CommonVerb),
}

/// What can be done with onces.
#[derive(Clone, Debug, Subcommand)]
pub enum OnceVerb {
    /// Say whether it has been executed
    Check {
        /// Its name
        name: String,
        /// End with 5 if it has not been
        #[arg(long)]
        exit_code: bool,
        /// Accepted from the Go project: how long the API server may take
        #[arg(long, hide = true)]
        timeout: Option<GoTime>,
    },
    /// What can be done with every kind.
    #[command(flatten)]
    Any(Verb),
}

/// Which manifests.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Files {
    /// Files and folders with manifests (.yaml, .yml, .json); - is standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

/// Flags of `inject`.
#[derive(Debug, clap::Args)]
pub struct Inject {
    /// Which manifests.
    #[command(flatten)]
    pub files: Files,
    /// The image of the waiter
    #[arg(long, env = "KONCLI_WAITER_IMAGE", hide_env_values = true, default_value = concat!("localhost/konductor-waiter:", env!("CARGO_PKG_VERSION")))]
    pub waiter_image: String,
    /// yaml or json
    #[arg(short, long, default_value = "yaml")]
    pub output: Document,
}

/// Flags of `uninject`.
#[derive(Debug, clap::Args)]
pub struct Uninject {
    /// Which manifests.
    #[command(flatten)]
    pub files: Files,
    /// yaml or json
    #[arg(short, long, default_value = "yaml")]
    pub output: Document,
}

/// How manifests are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Document {
    /// As YAML documents.
    Yaml,
    /// As JSON objects, one a line.
    Json,
}

/// Flags of `lint`.
#[derive(Debug, clap::Args)]
pub struct Lint {
    /// Which manifests.
    #[command(flatten)]
    pub files: Files,
    /// Codes to leave out, e.g. KON03
    #[arg(long, value_name = "CODE", value_delimiter = ',')]
    pub ignore: Vec<Code>,
    /// From what on it ends with 1: error, warning or never
    #[arg(long, value_name = "SEVERITY", default_value = "error")]
    pub fail_on: FailOn,
    /// text, or json: one object a line
    #[arg(short, long, default_value = "text")]
    pub output: Listing,
}

/// From what on a finding is a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FailOn {
    /// Errors.
    Error,
    /// Warnings, too.
    Warning,
    /// Nothing.
    Never,
}

/// How findings are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Listing {
    /// For people.
    Text,
    /// For programs.
    Json,
}

impl FailOn {
    /// Is that a failure?
    pub fn fails(self, severity: Severity) -> bool {
        match self {
            Self::Error => severity == Severity::Error,
            Self::Warning => true,
            Self::Never => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Args::command().debug_assert();
    }
}
