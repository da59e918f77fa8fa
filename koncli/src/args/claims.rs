//! The part of the command line that is about claims: who asks, for how long, and what runs meanwhile.
//!
//! Types only.

use std::ffi::OsString;
use std::str::FromStr;

use clap::Subcommand;
use clap_complete::ArgValueCandidates;
use konductor_api::claim::ClaimMode;
use konductor_api::participation::Kind;

use super::{Format, GoTime, OnceVerb, Verb, WaitVerb};

/// Who asks.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Who {
    /// Who it is for; left out: the pod, or user@host
    #[arg(
        long,
        visible_alias = "arrival-id",
        visible_alias = "member",
        env = "KONDUCTOR_HOLDER_ID",
        hide_env_values = true
    )]
    pub holder: Option<String>,
}

/// How somebody waits.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Patience {
    /// How long it waits, e.g. 30m; left out: without a limit; 0: one look
    #[arg(long, env = "KONDUCTOR_TIMEOUT", hide_env_values = true)]
    pub timeout: Option<GoTime>,
    /// Higher goes first; left out: as the primitive says
    #[arg(long, allow_negative_numbers = true)]
    pub priority: Option<i32>,
    /// In a pod: do not end with that pod
    #[arg(long)]
    pub unbound: bool,
    /// It always waits
    #[arg(long, hide = true)]
    pub wait: bool,
}

/// Flags of what takes something.
#[derive(Clone, Debug, clap::Args)]
pub struct Take {
    /// Its name
    #[arg(add = ArgValueCandidates::new(crate::complete::names))]
    pub name: String,
    /// Who asks.
    #[command(flatten)]
    pub who: Who,
    /// How it waits.
    #[command(flatten)]
    pub patience: Patience,
    /// How long it may go without being renewed before it is lost, e.g. 30s; not in a pod, whose end counts
    #[arg(long)]
    pub ttl: Option<GoTime>,
    /// Semaphore: how many permits [default: 1]
    #[arg(long)]
    pub permits: Option<i64>,
    /// Accepted from the Go project; it always wakes at once
    #[arg(long, hide = true)]
    pub wait_duration: Option<GoTime>,
    /// text, json or name [default: text]
    #[arg(short, long, env = "KONCLI_OUTPUT", hide_env_values = true)]
    pub output: Option<Format>,
}

/// Flags of what gives something back, or renews it.
#[derive(Clone, Debug, clap::Args)]
pub struct Own {
    /// Its name
    #[arg(add = ArgValueCandidates::new(crate::complete::names))]
    pub name: String,
    /// Who asked.
    #[command(flatten)]
    pub who: Who,
}

/// Flags of `barrier arrive`.
#[derive(Clone, Debug, clap::Args)]
pub struct Arrive {
    /// Its name
    #[arg(add = ArgValueCandidates::new(crate::complete::names))]
    pub name: String,
    /// Who arrives, as --holder
    #[arg(value_name = "HOLDER")]
    pub arrival: Option<String>,
    /// Who arrives.
    #[command(flatten)]
    pub who: Who,
    /// In a pod: do not end with that pod
    #[arg(long)]
    pub unbound: bool,
    /// Accepted from the Go project; it returns when it is counted
    #[arg(long, hide = true, num_args = 0..=1, default_missing_value = "true")]
    pub wait_for_update: Option<bool>,
    /// Accepted from the Go project; it returns when it is counted
    #[arg(long, hide = true)]
    pub update_timeout: Option<GoTime>,
}

/// Flags of `waitgroup add`.
#[derive(Clone, Debug, clap::Args)]
pub struct Add {
    /// Its name
    #[arg(add = ArgValueCandidates::new(crate::complete::names))]
    pub name: String,
    /// Who is added.
    #[command(flatten)]
    pub who: Who,
    /// In a pod: do not end with that pod
    #[arg(long)]
    pub unbound: bool,
    /// How many members
    #[arg(long, default_value_t = 1, allow_negative_numbers = true)]
    pub delta: i64,
}

/// Flags of `run`.
#[derive(Clone, Debug, clap::Args)]
pub struct Run {
    /// What to hold meanwhile: names of mutexes, or lease/NAME, semaphore/NAME, semaphore/NAME=PERMITS, rwmutex-read/NAME,
    /// rwmutex-write/NAME; taken in one order for everybody
    #[arg(required = true, value_name = "LOCK")]
    pub locks: Vec<Lock>,
    /// The rest.
    #[command(flatten)]
    pub with: RunWith,
}

/// Flags of `once run` and `lease run`.
#[derive(Clone, Debug, clap::Args)]
pub struct RunOne {
    /// Its name
    #[arg(add = ArgValueCandidates::new(crate::complete::names))]
    pub name: String,
    /// The rest.
    #[command(flatten)]
    pub with: RunWith,
}

/// What runs, and how.
#[derive(Clone, Debug, clap::Args)]
pub struct RunWith {
    /// Who asks.
    #[command(flatten)]
    pub who: Who,
    /// How it waits.
    #[command(flatten)]
    pub patience: Patience,
    /// How long the hold may go without being renewed before it is lost; the command is killed before; left out: 30s, of a
    /// Lease 15s
    #[arg(long)]
    pub ttl: Option<GoTime>,
    /// The command and its arguments, behind --
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// Something to hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lock {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// Semaphore: how many.
    pub permits: Option<i64>,
    /// `RWMutex`: as a reader?
    pub reads: bool,
}

impl Lock {
    /// How it is claimed.
    pub const fn mode(&self) -> Option<ClaimMode> {
        match (self.kind, self.reads) {
            (Kind::RWMutex, true) => Some(ClaimMode::Read),
            (Kind::RWMutex, false) => Some(ClaimMode::Write),
            _ => None,
        }
    }
}

impl FromStr for Lock {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, rest) = text.split_once('/').unwrap_or(("mutex", text));
        let lock = |kind, name: &str, permits, reads| Self { kind, name: name.to_owned(), permits, reads };
        if rest.is_empty() {
            return Err("the name is missing".to_owned());
        }
        Ok(match kind {
            "mutex" => lock(Kind::Mutex, rest, None, false),
            "lease" => lock(Kind::Lease, rest, None, false),
            "rwmutex-read" => lock(Kind::RWMutex, rest, None, true),
            "rwmutex-write" => lock(Kind::RWMutex, rest, None, false),
            "semaphore" => match rest.split_once('=') {
                None => lock(Kind::Semaphore, rest, None, false),
                Some((name, permits)) => {
                    let permits = permits.parse().ok().filter(|permits| *permits > 0);
                    let permits = permits.ok_or_else(|| format!("{rest}: permits are a number from 1 on"))?;
                    lock(Kind::Semaphore, name, Some(permits), false)
                }
            },
            "rwmutex" => return Err(format!("say rwmutex-read/{rest} or rwmutex-write/{rest}")),
            "once" => return Err(format!("use koncli once run {rest} -- CMD")),
            other => {
                return Err(format!(
                    "{other} is nothing that can be held meanwhile: mutex, lease, semaphore, rwmutex-read, rwmutex-write"
                ));
            }
        })
    }
}

/// What can be done with semaphores.
#[derive(Clone, Debug, Subcommand)]
pub enum SemaphoreVerb {
    /// Take permits, as soon as they are free
    Acquire(Take),
    /// Give them back
    Release(Own),
    /// Show that whoever took permits with a ttl is still there
    Renew(Own),
    /// What can be done with every kind.
    #[command(flatten)]
    Any(Verb),
}

/// What can be done with mutexes.
#[derive(Clone, Debug, Subcommand)]
pub enum MutexVerb {
    /// Lock it, as soon as it is free
    Lock(Take),
    /// Unlock it
    Unlock(Own),
    /// Show that whoever locked it with a ttl is still there
    Renew(Own),
    /// What can be done with every kind.
    #[command(flatten)]
    Any(Verb),
}

/// What can be done with `RWMutex`es.
#[derive(Clone, Debug, Subcommand)]
pub enum RwmutexVerb {
    /// Lock it to read, together with other readers
    Rlock(Take),
    /// Lock it to write, alone
    Lock(Take),
    /// Unlock it, however it was locked
    Unlock(Own),
    /// Show that whoever locked it with a ttl is still there
    Renew(Own),
    /// What can be done with every kind.
    #[command(flatten)]
    Any(Verb),
}

/// What can be done with leases.
#[derive(Clone, Debug, Subcommand)]
pub enum LeaseVerb {
    /// Become its holder, as soon as nobody else is
    Acquire(Take),
    /// Show that its holder is still there
    Renew(Own),
    /// Give it back
    Release(Own),
    /// Hold it while a command runs
    Run(RunOne),
    /// What can be done with every kind.
    #[command(flatten)]
    Any(Verb),
}

/// What can be done with barriers.
#[derive(Clone, Debug, Subcommand)]
pub enum BarrierVerb {
    /// Arrive, and go on
    Arrive(Arrive),
    /// What can be done with what opens by itself.
    #[command(flatten)]
    Waits(WaitVerb),
}

/// What can be done with wait groups.
#[derive(Clone, Debug, Subcommand)]
pub enum WaitgroupVerb {
    /// Add a member
    Add(Add),
    /// Say that a member is through
    Done(Own),
    /// What can be done with what opens by itself.
    #[command(flatten)]
    Waits(WaitVerb),
}

/// What can be done with onces, with a command besides.
#[derive(Clone, Debug, Subcommand)]
pub enum OnceVerbs {
    /// Run a command if nobody has succeeded yet; wait while somebody else runs
    Run(RunOne),
    /// What can be done with onces.
    #[command(flatten)]
    Any(OnceVerb),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_said_in_one_word() {
        let parsed =
            |text: &str| text.parse::<Lock>().map(|lock| (lock.kind, lock.name, lock.permits, lock.reads));
        assert_eq!(parsed("db"), Ok((Kind::Mutex, "db".to_owned(), None, false)));
        assert_eq!(parsed("semaphore/pool=3"), Ok((Kind::Semaphore, "pool".to_owned(), Some(3), false)));
        assert_eq!(parsed("rwmutex-read/c"), Ok((Kind::RWMutex, "c".to_owned(), None, true)));
        for wrong in ["", "mutex/", "semaphore/a=0", "semaphore/a=x", "rwmutex/a", "gate/a", "once/a"] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn they_are_taken_in_the_order_that_is_the_same_for_everybody() {
        let mut locks: Vec<Lock> = ["db", "a", "lease/l", "rwmutex-write/r", "semaphore/s"]
            .map(|text| text.parse().unwrap())
            .to_vec();
        locks.sort();
        let names: Vec<_> = locks.iter().map(|lock| lock.name.as_str()).collect();
        assert_eq!(names, ["s", "r", "a", "db", "l"]);
    }
}
