//! The loop: wait until the next renewal is due, renew, say what changed.
//!
//! Touches standard output, and the rest through the [guard](super::guard). What must stay true: each state of affairs is
//! logged once, and a log that nobody reads keeps the sidecar from nothing.

use std::io::{self, Write};
use std::os::fd::AsFd;

use super::FENCED;
use super::exchange::{Exchange, Renewal};
use super::guard::{End, Guard, Patience};
use super::settings::Settings;
use crate::sys::hold::{Interest, poll, ticks};

/// The command line or the environment is wrong.
const USAGE: u8 = 2;

const HELP: &str = "\
Keeps a hold that silence may end: renews it with the operator of Konductor, and stops this pod before the hold can be
lost. It runs as a sidecar that Konductor's webhook injects.

Usage: konductor-hold [--grant PATH] [--token PATH] [--resolv PATH] [--hosts PATH]

  --grant PATH    the file with the verdict [default: /konductor/grant]
  --token PATH    the file with the token of this pod [default: /konductor-session/token]
  --resolv PATH   which name servers to ask [default: /etc/resolv.conf]
  --hosts PATH    names that need not be asked for [default: /etc/hosts]

Environment: KONDUCTOR_POD_UID, KONDUCTOR_SESSIONS (host:port), KONDUCTOR_SESSIONS_CA (PEM) (all needed),
KONDUCTOR_POD_NAME, KONDUCTOR_POD_NAMESPACE.
Exit code: 97 this pod must stop: its containers are to be restarted, the waiter first; 0 ended by a signal; 2 wrong usage.";

/// Keeps the hold as the command line and the environment say, and returns the exit code.
pub fn run(arguments: impl Iterator<Item = String>, variable: impl Fn(&str) -> Option<String>) -> u8 {
    match Settings::new(arguments, variable) {
        Ok(Some(settings)) => match keep(&settings) {
            End::Stopped => 0,
            End::Fenced(reason) => {
                say(&format!("this pod is stopped: {reason}"));
                FENCED
            }
        },
        Ok(None) => {
            say(HELP);
            0
        }
        Err(problem) => {
            say(&format!("konductor-hold: {problem}\n\n{HELP}"));
            USAGE
        }
    }
}

/// To the end, whatever it is.
fn keep(settings: &Settings) -> End {
    // First of all: as process 1 we are deaf to SIGTERM until it is redirected.
    let mut guard = Guard::new(settings.pod_uid.clone(), settings.grant.clone());
    say(&format!("keeping what pod {} holds, with the operator at {}", settings.pod, settings.sessions));
    let mut exchange = Exchange::new(settings);
    loop {
        if let Err(end) = step(&mut guard, &mut exchange, &settings.pod_uid) {
            return end;
        }
    }
}

fn step(guard: &mut Guard, exchange: &mut Exchange, pod_uid: &str) -> Result<(), End> {
    guard.wait(None, i64::MAX)?;
    let Some((run, _)) = guard.session.due() else { return Ok(()) };
    let until = guard.session.patience(ticks());
    let renewal = Renewal { pod_uid, run, bears: guard.session.bears() };
    let (begun, answer) = exchange.renew(guard, renewal, until)?;
    let line = guard.session.answered(begun, ticks(), answer)?;
    if let Some(line) = line {
        say(&line);
    }
    Ok(())
}

/// To the container's log, if there is room for it: nothing here may wait for somebody to read.
fn say(lines: &str) {
    let mut output = io::stdout().lock();
    if poll(&[(output.as_fd(), Interest::Writable)], 0) {
        let _ = output.write_all(lines.as_bytes()).and_then(|()| output.write_all(b"\n"));
        let _ = output.flush();
    }
}
