//! The command: started in a process group of its own, signalled, waited for, and what is left of it killed.
//!
//! May touch: processes that it started itself. What must stay true: the guard knows the group before the command runs; a command
//! is not forgotten by its parent (reaped) before the guard has let go of it, so that its number stands for nobody else; the
//! command itself is killed by the kernel when this process ends.

#![expect(clippy::print_stderr, reason = "why a command could not be started is for people")]

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::select_all;
use konductor_api::duration::GoDuration;
use konductor_api::participation::Kind;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::signal::unix::{SignalKind, signal};

use super::keep::{self, Keeper};
use crate::exit::Exit;
use crate::live::LiveError;

/// Between the request to end and the end, at most.
const GRACE: Duration = Duration::from_secs(10);
/// A guard that has nothing to do ends at once.
const GUARD_ENDS: Duration = Duration::from_secs(2);

/// How it ended.
#[derive(Debug)]
pub enum Ended {
    /// By itself, or by a signal that somebody sent.
    Itself(Exit),
    /// It had to, because its hold could be lost, or is; why.
    Fenced(String),
}

/// A line to the guard.
struct Guard {
    process: Child,
    line: Option<ChildStdin>,
}

impl Guard {
    fn start(grace: Duration) -> std::io::Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg("__guard")
            .arg(grace.as_millis().to_string())
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let line = process.stdin.take();
        Ok(Self { process, line })
    }

    /// A guard that does not listen is gone.
    fn tell(&mut self, line: &str) -> std::io::Result<()> {
        match &mut self.line {
            Some(to) => to.write_all(format!("{line}\n").as_bytes()),
            None => Err(std::io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// Lets it go; did it have to act?
    fn end(mut self) -> bool {
        let told = self.tell("done");
        let until = std::time::Instant::now() + GUARD_ENDS;
        while told.is_ok() && std::time::Instant::now() < until {
            if let Ok(Some(status)) = self.process.try_wait() {
                return status.code() == Some(i32::from(Exit::Lost.code()));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
        false
    }
}

/// Runs it until it has ended.
pub async fn run(
    command: &[OsString],
    tokens: &[(Kind, &str, String)],
    ttl: Option<GoDuration>,
    keepers: &[&Keeper],
) -> Result<Ended, LiveError> {
    let failed =
        |error: std::io::Error| LiveError::Other(format!("the command cannot be run: {error}"), Exit::Error);
    let sixth = ttl.and_then(|ttl| u64::try_from(ttl.as_nanoseconds() / 6).ok()).map(Duration::from_nanos);
    let mut guard = Guard::start(sixth.unwrap_or(GRACE).min(GRACE)).map_err(failed)?;
    let mut signals = Vec::new();
    for (kind, number) in [
        (SignalKind::interrupt(), Signal::INT),
        (SignalKind::terminate(), Signal::TERM),
        (SignalKind::hangup(), Signal::HUP),
        (SignalKind::quit(), Signal::QUIT),
        (SignalKind::user_defined1(), Signal::USR1),
        (SignalKind::user_defined2(), Signal::USR2),
        (SignalKind::window_change(), Signal::WINCH),
    ] {
        let stream = signal(kind).map_err(failed)?;
        signals.push(
            futures::stream::unfold(stream, move |mut stream| async move {
                stream.recv().await.map(|()| (number, stream))
            })
            .boxed(),
        );
    }
    let mut signals = select_all(signals);
    let mut child = start(command, tokens).map_err(failed)?;
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let Some(group) = group else { return Err(failed(std::io::ErrorKind::Other.into())) };
    let told = guard.tell(&format!("group {}", group.as_raw_nonzero()));
    let deadline =
        |keepers: &[&Keeper]| keepers.iter().filter_map(|keeper| keeper.state().borrow().until).min();
    let told = told.and_then(|()| match deadline(keepers) {
        Some(until) => guard.tell(&format!("until {until}")),
        None => Ok(()),
    });
    if let Err(error) = told {
        let _ = kill_process_group(group, Signal::KILL);
        let _ = child.wait();
        return Err(failed(error));
    }
    to_the_foreground(group);

    let ended = tokio::task::spawn_blocking(move || {
        loop {
            // Left to be reaped: until then its number is nobody else's.
            match waitid(WaitId::Pid(group), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
                Err(rustix::io::Errno::INTR) => {}
                other => return other.map(|_| ()),
            }
        }
    });
    let mut ended = std::pin::pin!(ended);
    let lost = keep::first_lost(keepers.iter().copied());
    let mut lost = std::pin::pin!(lost);
    let mut renewed = select_all(keepers.iter().map(|keeper| {
        futures::stream::unfold(keeper.state(), |mut state| async move {
            state.changed().await.ok().map(|()| ((), state))
        })
        .boxed()
    }));
    let mut why: Option<String> = None;
    loop {
        tokio::select! {
            _ = &mut ended => break,
            reason = &mut lost, if why.is_none() => {
                why = Some(reason);
                if guard.tell("fence").is_err() {
                    let _ = kill_process_group(group, Signal::KILL);
                }
            }
            Some(number) = signals.next() => {
                let _ = kill_process_group(group, number);
            }
            Some(()) = renewed.next() => {
                if let Some(until) = deadline(keepers) && guard.tell(&format!("until {until}")).is_err() {
                    why.get_or_insert_with(|| "its guard is gone".to_owned());
                    let _ = kill_process_group(group, Signal::KILL);
                }
            }
        }
    }
    let fenced = guard.end();
    // Whatever it left behind goes with it.
    let _ = kill_process_group(group, Signal::KILL);
    let status = child.wait().map_err(failed)?;
    if fenced || why.is_some() {
        let reason = why.unwrap_or_else(|| {
            "the API server could not be reached for as long as the hold is safe; it may be lost".to_owned()
        });
        return Ok(Ended::Fenced(reason));
    }
    let exit = match (status.code(), status.signal()) {
        (Some(code), _) => u8::try_from(code).map_or(Exit::Error, Exit::Of),
        (None, Some(number)) => u8::try_from(number).map_or(Exit::Error, Exit::Signal),
        (None, None) => Exit::Error,
    };
    Ok(Ended::Itself(exit))
}

/// By way of ourselves: what becomes the command first asks the kernel to be killed when we are gone.
fn start(command: &[OsString], tokens: &[(Kind, &str, String)]) -> std::io::Result<Child> {
    let mut child = Command::new(std::env::current_exe()?);
    child.arg("__exec").arg(std::process::id().to_string()).arg("--").args(command).process_group(0);
    for (kind, name, token) in tokens {
        child.env(variable(*kind, name), token);
    }
    if let [(_, _, token)] = tokens {
        child.env("KONDUCTOR_TOKEN", token);
    }
    child.spawn()
}

/// `KONDUCTOR_TOKEN_MUTEX_DB`.
fn variable(kind: Kind, name: &str) -> String {
    let name: String = name
        .chars()
        .map(|letter| if letter.is_ascii_alphanumeric() { letter.to_ascii_uppercase() } else { '_' })
        .collect();
    format!("KONDUCTOR_TOKEN_{}_{name}", kind.lower().to_uppercase())
}

/// If we have a terminal, it is the command's now: what is typed there, and its signals.
fn to_the_foreground(group: Pid) {
    let terminal = std::io::stdin();
    let ours = terminal.is_terminal()
        && rustix::termios::tcgetpgrp(&terminal).is_ok_and(|front| front == rustix::process::getpgrp());
    if ours && rustix::termios::tcsetpgrp(&terminal, group).is_ok() {
        // It may have been stopped for reading before it was its turn.
        let _ = kill_process_group(group, Signal::CONT);
    }
}

/// Becomes the command. Comes back only if it cannot.
pub fn exec(parent: i32, command: &[OsString]) -> Exit {
    let Some((program, arguments)) = command.split_first() else { return Exit::Usage };
    let bound = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    let orphan = rustix::process::getppid().is_none_or(|now| now.as_raw_nonzero().get() != parent);
    if bound.is_err() || orphan {
        return Exit::Error;
    }
    let error = Command::new(program).args(arguments).exec();
    eprintln!("error: {}: {error}", program.display());
    // As shells say it.
    Exit::Of(if error.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_named_as_in_pods() {
        assert_eq!(
            variable(Kind::Mutex, "database-migration.v2"),
            "KONDUCTOR_TOKEN_MUTEX_DATABASE_MIGRATION_V2"
        );
    }
}
