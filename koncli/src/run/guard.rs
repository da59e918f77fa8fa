//! The guard: a process of its own that kills a command when its time is up, or when whoever started it is gone.
//!
//! May touch: its standard input, on which it is told what to do, and the signals of one process group. It knows no cluster.
//! What must stay true: it depends on nothing but its clock and its input, so it acts when koncli is stopped or killed; it
//! stands in a process group of its own, so that what a terminal sends does not reach it.
//!
//! A line each: `group N`, the process group; `until T`, when it has to end, in nanoseconds of the clock that goes on while the
//! machine sleeps; `fence`, now; `done`, it has ended. The end of the input means that koncli is gone.

use std::io::Read;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process_group};

use super::keep::boot_time;
use crate::exit::Exit;

/// How often the clock is looked at: after a sleep of the machine the command lives on for no longer than that.
const PERIOD: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// What the guard knows.
#[derive(Debug, Default)]
struct Watch {
    group: Option<Pid>,
    until: Option<i64>,
    /// When it is killed; it was asked to end before.
    kill_at: Option<i64>,
    fenced: bool,
    done: bool,
}

/// Watches until the command has ended. `grace`: between the request to end and the end.
pub fn guard(grace: Duration) -> Exit {
    let grace = i64::try_from(grace.as_nanos()).unwrap_or(0);
    let mut watch = Watch::default();
    let (mut input, mut rest) = (std::io::stdin().lock(), Vec::new());
    // Larger than the buffer of the input, so that nothing stays in that.
    let mut buffer = vec![0; 64 * 1024];
    while !watch.done {
        let ready = {
            let mut descriptors = [PollFd::new(&input, PollFlags::IN)];
            poll(&mut descriptors, Some(&PERIOD)).is_ok_and(|ready| ready > 0)
        };
        if ready {
            match input.read(&mut buffer) {
                Ok(0) => {
                    watch.send(Signal::KILL);
                    return Exit::Lost;
                }
                Ok(length) => {
                    rest.extend_from_slice(buffer.get(..length).unwrap_or_default());
                    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                        let line: Vec<u8> = rest.drain(..=end).collect();
                        watch.told(&String::from_utf8_lossy(&line));
                    }
                }
                Err(_) => {}
            }
        }
        watch.look(boot_time(), grace);
    }
    if watch.fenced { Exit::Lost } else { Exit::Done }
}

impl Watch {
    fn told(&mut self, line: &str) {
        let (word, value) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
        match word {
            "group" => self.group = value.parse().ok().filter(|number| *number > 0).and_then(Pid::from_raw),
            "until" => self.until = value.parse().ok(),
            "fence" => {
                self.fenced = true;
                self.send(Signal::KILL);
            }
            "done" => self.done = true,
            _ => {}
        }
    }

    fn look(&mut self, now: i64, grace: i64) {
        match self.kill_at {
            Some(at) if at <= now => self.send(Signal::KILL),
            None if !self.done && self.until.is_some_and(|until| until <= now) => {
                self.fenced = true;
                self.kill_at = Some(now.saturating_add(grace));
                self.send(Signal::TERM);
            }
            Some(_) | None => {}
        }
    }

    fn send(&self, signal: Signal) {
        if let Some(group) = self.group {
            // It may have ended by itself.
            let _ = kill_process_group(group, signal);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_asks_first_and_kills_then_and_no_later_word_saves_the_command() {
        let mut watch = Watch::default();
        watch.told("until 100\n");
        watch.look(99, 10);
        assert!(!watch.fenced);
        watch.told("until 200\n");
        watch.look(150, 10);
        assert!(!watch.fenced, "it was renewed");
        watch.look(200, 10);
        assert_eq!((watch.fenced, watch.kill_at), (true, Some(210)));
        watch.told("until 900\n");
        watch.look(205, 10);
        assert_eq!(watch.kill_at, Some(210));
        watch.told("done\n");
        assert!(watch.done && watch.fenced);
    }

    #[test]
    fn what_it_does_not_know_it_does_not_do() {
        let mut watch = Watch::default();
        for line in ["", "until", "until soon", "group x", "group", "what 5", "group -3"] {
            watch.told(line);
        }
        watch.look(i64::MAX, 1);
        assert!(!watch.fenced && watch.group.is_none());
    }
}
