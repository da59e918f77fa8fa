//! The loop: look at the grant file, judge, say what changed, wait.
//!
//! Touches the grant file (read), the mark, standard output and the clock once, at the start. What must stay true:
//! `go` is obeyed only after its mark is on disk, a signal comes before a verdict, and each state of affairs is
//! logged once, however often it is seen.

use std::io::{self, Write};

use crate::judge::{Myself, Standing, judge};
use crate::mark::Mark;
use crate::once::{Decision, Once};
use crate::watch::Watch;
use crate::{rfc3339, sys, text};

/// A denial's exit code is this plus the denial's code.
const DENIED: u8 = 64;
/// The command line or the environment is wrong: no pod was waited for.
const USAGE: u8 = 2;
/// An earlier run has let the pod through, and this one is there to be seen.
const RETURNED: u8 = 3;
/// After a look that failed, look again so many milliseconds later.
const SOON: i32 = 1_000;

const HELP: &str = "\
Waits until the operator of Konductor lets this pod start. It runs as an init container that Konductor's webhook injects.

Usage: konductor-wait [--grant PATH] [--state DIR] [--once DIR]
       konductor-wait once [--once DIR] -- COMMAND [ARGUMENT]...

  --grant PATH   the file with the verdict [default: /konductor/grant]
  --state DIR    where used verdicts are remembered [default: /konductor-state]
  --once DIR     where this program and the decision are left for containers that do something once [once: /konductor-once]

The second form runs the command if this pod is the one that does it, and else ends with 0.

Environment: KONDUCTOR_POD_UID (needed), KONDUCTOR_POD_NAME, KONDUCTOR_POD_NAMESPACE, KONDUCTOR_WAITS_FOR, KONDUCTOR_SINCE,
KONDUCTOR_SETTLE_MS (how long after its start it goes on waiting although it was granted [default: 0]),
KONDUCTOR_RESTART_POLICY (that of the pod; under OnFailure the first run after one that was granted ends with 3).
Exit code: 0 granted, 3 see above, 65 to 127 denied for good, 130 or 143 ended by a signal, 2 wrong usage. Of the second form: that of
the command, 0 if there is nothing to do, 125 if that is not known, 126 or 127 if the command cannot be run.";

/// What to wait for, and on whose behalf.
#[derive(Clone, Debug)]
pub struct Wait {
    // Paths are text here: printing a Path links a kilobyte and a half.
    grant: String,
    mark: Mark,
    once: Option<Once>,
    myself: Myself,
    greeting: String,
    /// In milliseconds, as [`sys::ticks`] has them.
    settled_at: i64,
    /// See [`Wait::has_returned`].
    on_failure: bool,
}

/// Waits as the command line and the environment say, and returns the exit code.
pub fn run(arguments: impl Iterator<Item = String>, variable: impl Fn(&str) -> Option<String>) -> u8 {
    match Wait::new(arguments, variable, sys::now()) {
        Ok(Some(wait)) => wait.to_the_end(),
        Ok(None) => {
            say(HELP);
            0
        }
        Err(problem) => {
            say(&format!("konductor-wait: {problem}\n\n{HELP}"));
            USAGE
        }
    }
}

impl Wait {
    fn new(
        mut arguments: impl Iterator<Item = String>,
        variable: impl Fn(&str) -> Option<String>,
        now: i64,
    ) -> Result<Option<Self>, String> {
        let (mut grant, mut state) = ("/konductor/grant".to_owned(), "/konductor-state".to_owned());
        let mut once = None;
        while let Some(argument) = arguments.next() {
            let (flag, value) = match argument.split_once('=') {
                Some((flag, value)) => (flag.to_owned(), Some(value.to_owned())),
                None => (argument, None),
            };
            let mut value =
                || value.clone().or_else(|| arguments.next()).ok_or(format!("{flag} needs a value"));
            match flag.as_str() {
                "--grant" => grant = value()?,
                "--state" => state = value()?,
                "--once" => once = Some(Once::new(value()?)),
                "--help" | "-h" => return Ok(None),
                other => return Err(format!("{other} is unknown")),
            }
        }
        let known = |name: &str| variable(name).filter(|value| !value.is_empty());
        let pod_uid = known("KONDUCTOR_POD_UID")
            .ok_or("KONDUCTOR_POD_UID is not set, so no verdict could be recognised as ours")?;
        let settle = match known("KONDUCTOR_SETTLE_MS") {
            None => 0,
            Some(text) => {
                i64::from(text.parse::<u16>().map_err(|_| "KONDUCTOR_SETTLE_MS is no number".to_owned())?)
            }
        };
        let what = known("KONDUCTOR_WAITS_FOR").unwrap_or_else(|| "the operator's verdict".to_owned());
        let since = known("KONDUCTOR_SINCE").unwrap_or_else(|| rfc3339::format(now));
        let name = known("KONDUCTOR_POD_NAME").unwrap_or_else(|| "NAME".to_owned());
        let namespace = known("KONDUCTOR_POD_NAMESPACE").unwrap_or_else(|| "NAMESPACE".to_owned());
        Ok(Some(Self {
            grant,
            mark: Mark::new(state),
            once,
            myself: Myself { pod_uid, started_at: now },
            settled_at: sys::ticks().saturating_add(settle),
            on_failure: known("KONDUCTOR_RESTART_POLICY").is_some_and(|policy| policy == "OnFailure"),
            greeting: format!(
                "waiting for {what}\nsince {since}\nwho holds it, and which place this pod has: \
                 kubectl describe pod {name} -n {namespace}"
            ),
        }))
    }

    fn to_the_end(&self) -> u8 {
        // First of all: as process 1 we are deaf to SIGTERM until it is redirected.
        let mut watch = Watch::new(self.grant.as_ref());
        say(&self.greeting);
        if self.has_returned() {
            say(
                "an earlier run of this init container let the pod through; ends once, so that the kubelet reports this one",
            );
            return RETURNED;
        }
        let mut seen = Standing::Ungranted;
        let mut prepared = false;
        loop {
            if let Some(signal) = watch.signal() {
                say("asked to stop before it was granted");
                return signal.0;
            }
            let standing = if let Err(problem) = self.prepare(&mut prepared) {
                Standing::Unreadable(problem)
            } else {
                self.look()
            };
            let changed = standing != seen;
            if changed {
                say(&standing.to_string());
            }
            match standing {
                Standing::Go(_) | Standing::Skip { .. } => return 0,
                Standing::Denied { code, .. } => return DENIED.saturating_add(code),
                waiting => seen = waiting,
            }
            watch.wait(match seen {
                Standing::Unreadable(_) => SOON,
                Standing::Early(_) => self.unsettled(),
                _ => i32::MAX,
            });
        }
    }

    /// Is this the first run after one that let the pod through, where nobody would see it wait? Under `OnFailure` a kubelet
    /// holds that who has ended with 0 never runs again, and keeps every later status of the pod to itself; a failure it
    /// reports, and what comes after that.
    fn has_returned(&self) -> bool {
        self.on_failure && self.mark.is_first_after_use().unwrap_or(false)
    }

    /// Once, and before anything is judged: what an earlier run decided is no longer so.
    fn prepare(&self, prepared: &mut bool) -> Result<(), String> {
        if !*prepared {
            self.once.as_ref().map_or(Ok(()), Once::prepare)?;
            *prepared = true;
        }
        Ok(())
    }

    /// Where we stand. `Go` only after its mark is on disk.
    fn look(&self) -> Standing {
        let text = match text::read(&self.grant) {
            Ok(text) => text,
            Err(error) => {
                return Standing::Unreadable(format!("{} cannot be read ({error})", self.grant));
            }
        };
        // Nothing to judge: do not let a broken mark hide that there is no verdict yet.
        if judge(&text, &self.myself, 0) == Standing::Ungranted {
            return Standing::Ungranted;
        }
        let standing = match self.mark.highest_used() {
            Ok(used) => judge(&text, &self.myself, used),
            Err(problem) => return Standing::Unreadable(problem),
        };
        match standing {
            // Not marked as used: it may still be withdrawn.
            Standing::Go(run) if self.unsettled() > 0 => Standing::Early(run),
            Standing::Go(run) => self.passes(run, &Decision::Run, standing),
            Standing::Skip { run, ref reason } => {
                self.passes(run, &Decision::Skip(reason.clone()), standing.clone())
            }
            other => other,
        }
    }

    /// The decision first: whoever finds the mark finds the decision, too.
    fn passes(&self, run: u64, decision: &Decision, standing: Standing) -> Standing {
        let written = match (&self.once, decision) {
            (Some(once), decision) => once.decide(decision),
            (None, Decision::Run) => Ok(()),
            (None, Decision::Skip(_)) => {
                Err("the verdict says skip, and nothing here is done once".to_owned())
            }
        };
        match written.and_then(|()| self.mark.set(run)) {
            Ok(()) => standing,
            Err(problem) => Standing::Unreadable(problem),
        }
    }
}

impl Wait {
    /// For how many milliseconds this run is still too young to end. The kubelet may show us a grant before the worker of this pod has
    /// seen the version that carries it; should that worker start the next container from the version before, the tokens
    /// would be missing there. It happens only while the events of our own start are worked off, two looks at the
    /// runtime of a second each.
    fn unsettled(&self) -> i32 {
        i32::try_from(self.settled_at.saturating_sub(sys::ticks())).unwrap_or(0).max(0)
    }
}

/// One or more lines to the container's log. Nobody reads it? Then there is nobody to complain to either.
fn say(lines: &str) {
    let mut output = io::stdout().lock();
    let _ = output
        .write_all(lines.as_bytes())
        .and_then(|()| output.write_all(b"\n"))
        .and_then(|()| output.flush());
}
