//! Once: whether the command of a container is to run, and the wrapper that asks.
//!
//! A container cannot be skipped from outside. So the waiter leaves two files in a small volume of their own: this very
//! program, and the decision; and the container's command is wrapped: `konductor-wait once -- COMMAND` becomes that
//! command, or ends with 0 because somebody has done it already.
//!
//! Touches the directory of the two files, and replaces the process. What must stay true: there is no decision while the
//! waiter waits, so a container that comes too early runs nothing; without a decision that can be read nothing runs.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Write};

use crate::{sys, text};

/// Where the webhook mounts the volume.
const DIRECTORY: &str = "/konductor-once";

/// The wrapper's own failure, as `env` and container runtimes have it.
const FAILED: u8 = 125;
/// The command is there and cannot be run.
const NOT_RUNNABLE: u8 = 126;
/// The command is not there.
const NOT_FOUND: u8 = 127;

const RUN: &str = "run";
const SKIP: &str = "skip ";

/// The directory of the two files.
#[derive(Clone, Debug)]
pub struct Once {
    directory: String,
}

/// What becomes of the command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It runs.
    Run,
    /// It does not, and why.
    Skip(String),
}

// --------------------------------------------------------------------------------------------------- the waiter

impl Once {
    /// The two files in that directory.
    pub fn new(directory: String) -> Self {
        Self { directory }
    }

    /// Takes back what an earlier run decided, and leaves this program there. An error is a sentence for the log.
    pub fn prepare(&self) -> Result<(), String> {
        self.forget().and_then(|()| self.install()).map_err(|error| self.problem("prepared", &error))
    }

    /// Writes the decision down.
    pub fn decide(&self, decision: &Decision) -> Result<(), String> {
        let text = match decision {
            Decision::Run => RUN.to_owned(),
            Decision::Skip(reason) => format!("{SKIP}{reason}"),
        };
        self.write(&text).map_err(|error| self.problem("written", &error))
    }

    fn write(&self, text: &str) -> io::Result<()> {
        let temporary = format!("{}/.decision.new", self.directory);
        File::create(&temporary)?.write_all(text.as_bytes())?;
        fs::rename(&temporary, self.path())
    }

    fn forget(&self) -> io::Result<()> {
        match fs::remove_file(self.path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn install(&self) -> io::Result<()> {
        let temporary = format!("{}/.konductor-wait.new", self.directory);
        let (mut program, mut copy) = (File::open("/proc/self/exe")?, File::create(&temporary)?);
        // Not io::copy(): its ways for pipes and sockets link kilobytes.
        let mut buffer = [0; 16_384];
        loop {
            match program.read(&mut buffer)? {
                0 => break,
                length => copy.write_all(&buffer[..length])?,
            }
        }
        // Whatever user the container runs as.
        sys::allow_everybody_to_run(&copy)?;
        // Nobody can run what somebody may still write.
        drop(copy);
        fs::rename(&temporary, format!("{}/konductor-wait", self.directory))
    }

    fn path(&self) -> String {
        format!("{}/decision", self.directory)
    }

    fn problem(&self, verb: &str, what: &dyn std::fmt::Display) -> String {
        format!("what runs once in {} cannot be {verb} ({what})", self.directory)
    }
}

// -------------------------------------------------------------------------------------------------- the wrapper

/// Becomes the command behind `--`, if it is to run; else returns an exit code.
pub fn run(mut arguments: impl Iterator<Item = OsString>) -> u8 {
    let mut directory = DIRECTORY.to_owned();
    let mut argument = arguments.next();
    if argument.as_ref().is_some_and(|argument| argument == "--once") {
        directory = arguments.next().and_then(|path| path.into_string().ok()).unwrap_or_default();
        argument = arguments.next();
    }
    if argument.is_none_or(|argument| argument != "--") {
        return fail(FAILED, "usage: konductor-wait once [--once DIR] -- COMMAND [ARGUMENT]...");
    }
    let command: Vec<_> = arguments.collect();
    match read(&directory) {
        Ok(Decision::Run) => {}
        Ok(Decision::Skip(reason)) => {
            say(&format!("konductor: nothing to do, {reason}"));
            return 0;
        }
        Err(problem) => return fail(FAILED, &problem),
    }
    let Some(name) = command.first() else { return fail(FAILED, "there is no command behind --") };
    let error = sys::execute(&command);
    let code = if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_RUNNABLE };
    fail(code, &format!("{} cannot be run ({error})", name.to_str().unwrap_or("the command")))
}

fn read(directory: &str) -> Result<Decision, String> {
    let path = Once::new(directory.to_owned()).path();
    let text =
        text::read(&path).map_err(|error| format!("{path} cannot be read ({error}), so nothing runs"))?;
    match (text.as_str(), text.strip_prefix(SKIP)) {
        (RUN, _) => Ok(Decision::Run),
        (_, Some(reason)) => Ok(Decision::Skip(reason.to_owned())),
        _ => Err(format!("{path} holds no decision, so nothing runs")),
    }
}

fn say(line: &str) {
    let _ = writeln!(io::stdout().lock(), "{line}");
}

/// On the same stream, which the waiter has anyway: in a container's log both are one.
fn fail(code: u8, problem: &str) -> u8 {
    say(&format!("konductor: {problem}"));
    code
}
