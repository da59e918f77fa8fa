//! What a person who waits is told: one line per step, with the seconds it took.
//!
//! May touch: standard error. What must stay true: a step that takes minutes shows that it is alive, and a step that
//! takes no time and does nothing says nothing (callers do not open one).

use std::io::Write;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::Result;

/// After so long without a word, a dot.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Where the lines go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Progress {
    /// To standard error.
    #[default]
    Shown,
    /// Nowhere.
    Silent,
}

impl Progress {
    /// Does the work; says what it is before and how long it took after.
    pub(crate) fn step<T>(self, what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        if self == Self::Silent {
            return work();
        }
        show(&format!("{what} ..."));
        let start = Instant::now();
        let (done, wait) = channel::<()>();
        let result = std::thread::scope(|scope| {
            scope.spawn(move || {
                while wait.recv_timeout(HEARTBEAT) == Err(RecvTimeoutError::Timeout) {
                    show(".");
                }
            });
            let result = work();
            drop(done);
            result
        });
        let outcome = if result.is_ok() { "" } else { " failed after" };
        show(&format!("{outcome} {:.1} s\n", start.elapsed().as_secs_f64()));
        result
    }

    /// One line that is no step.
    pub(crate) fn note(self, line: &str) {
        if self == Self::Shown {
            show(&format!("{line}\n"));
        }
    }
}

/// Standard error may be closed; the work goes on all the same.
fn show(text: &str) {
    let mut stderr = std::io::stderr().lock();
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}
