//! The truth on the node: what really runs in one pod, whoever has heard of it.

use konductor_waiter::judge::{Myself, Standing, judge};

use super::super::support::{PodSketch, at};
use super::Flaw;

/// Names of critical containers.
const NAMES: [&str; 2] = ["main", "web"];

/// One run of one container.
#[derive(Clone, Debug)]
pub(super) struct Run {
    id: String,
    started: i64,
    ended: Option<(i64, i32)>,
}

/// One pod as its kubelet knows it.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not the states of a machine")]
#[derive(Clone, Debug)]
pub(super) struct Kubelet {
    pub(super) pod: String,
    pub(super) uid: String,
    /// 0 or 1.
    pub(super) node: usize,
    pub(super) bound: bool,
    restarts_failures: bool,
    /// The grant file, which may be old.
    pub(super) file: String,
    /// The mark on the pod's disk.
    used: u64,
    /// It has heard that the pod must end.
    pub(super) must_end: bool,
    waiter: Vec<Run>,
    /// The init containers have to run (again).
    waiter_due: bool,
    containers: Vec<Vec<Run>>,
    due: Vec<bool>,
    pub(super) terminal: Option<bool>,
    /// Something happened that the API server has not heard of.
    pub(super) unpublished: bool,
}

/// What can happen in a pod by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Move {
    StartWaiter,
    /// The waiter looks at its file.
    Look,
    Start(usize),
    End(usize, i32),
    /// The container did not heed SIGTERM.
    Kill(usize),
    StopWaiter,
    Finish,
}

/// What a move meant to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Nothing,
    /// The waiter let the pod through on that grant.
    Passed(u64),
    /// A critical container starts.
    Starts,
}

impl Kubelet {
    pub(super) fn new(
        pod: &str,
        uid: String,
        node: usize,
        containers: usize,
        restarts_failures: bool,
    ) -> Self {
        Self {
            pod: pod.to_owned(),
            uid,
            node,
            bound: false,
            restarts_failures,
            file: String::new(),
            used: 0,
            must_end: false,
            waiter: Vec::new(),
            waiter_due: true,
            containers: vec![Vec::new(); containers],
            due: vec![false; containers],
            terminal: None,
            unpublished: false,
        }
    }

    fn waiter_runs(&self) -> bool {
        self.waiter.last().is_some_and(|run| run.ended.is_none())
    }

    fn waiter_ended_with(&self) -> Option<i32> {
        self.waiter.last().and_then(|run| run.ended).map(|(_, code)| code)
    }

    fn runs(&self, container: usize) -> bool {
        self.containers[container].last().is_some_and(|run| run.ended.is_none())
    }

    fn code(&self, container: usize) -> Option<i32> {
        self.containers[container].last().and_then(|run| run.ended).map(|(_, code)| code)
    }

    fn all(&self) -> std::ops::Range<usize> {
        0..self.containers.len()
    }

    /// Does any critical container run right now?
    pub(super) fn is_critical(&self) -> bool {
        self.all().any(|container| self.runs(container))
    }

    // ---------------------------------------------------------------------------------------------- moves

    pub(super) fn moves(&self) -> Vec<Move> {
        let mut moves = Vec::new();
        if !self.bound || self.terminal.is_some() {
            return moves;
        }
        let idle = !self.waiter_runs() && !self.is_critical();
        if self.must_end {
            if self.waiter_runs() {
                moves.push(Move::StopWaiter);
            }
            moves.extend(self.all().filter(|container| self.runs(*container)).flat_map(|container| {
                [Move::End(container, 0), Move::End(container, 143), Move::Kill(container)]
            }));
            if idle {
                moves.push(Move::Finish);
            }
            return moves;
        }
        if self.waiter_runs() {
            return vec![Move::Look];
        }
        if self.waiter_due {
            return vec![Move::StartWaiter];
        }
        match self.waiter_ended_with() {
            Some(0) => {
                moves.extend(self.all().filter(|container| self.due[*container]).map(Move::Start));
                for container in self.all().filter(|container| self.runs(*container)) {
                    moves.extend([Move::End(container, 0), Move::End(container, 0), Move::End(container, 1)]);
                }
                if moves.is_empty() {
                    moves.push(Move::Finish);
                }
            }
            _ => moves.push(Move::Finish),
        }
        moves
    }

    pub(super) fn make(&mut self, step: Move, clock: i64, flaw: Flaw) -> Outcome {
        self.unpublished = true;
        match step {
            Move::StartWaiter => {
                // Two runs never start in the same second of the node's clock: a relist lies between them.
                let mut started = clock;
                while self.waiter.iter().any(|run| run.started == started) {
                    started += 1;
                }
                self.waiter.push(Run { id: "waiter".to_owned(), started, ended: None });
                self.waiter_due = false;
            }
            Move::Look => return self.look(clock, flaw),
            Move::Start(container) => {
                let id = format!("{}-{container}-{}", self.pod, self.containers[container].len());
                self.containers[container].push(Run { id, started: clock, ended: None });
                self.due[container] = false;
                return Outcome::Starts;
            }
            Move::End(container, code) => self.end(container, clock, code),
            Move::Kill(container) => self.end(container, clock, 137),
            Move::StopWaiter => self.stop_waiter(clock, 143),
            Move::Finish => self.finish(),
        }
        Outcome::Nothing
    }

    fn look(&mut self, clock: i64, flaw: Flaw) -> Outcome {
        let started_at = at(self.waiter[self.waiter.len() - 1].started).as_second();
        let myself = Myself { pod_uid: self.uid.clone(), started_at };
        let used = if flaw == Flaw::WaiterForgetsWhatItUsed { 0 } else { self.used };
        match judge(&self.file, &myself, used) {
            Standing::Go(run) => {
                self.used = self.used.max(run);
                self.stop_waiter(clock, 0);
                self.due.fill(true);
                Outcome::Passed(run)
            }
            Standing::Denied { code, .. } => {
                self.stop_waiter(clock, 64 + i32::from(code));
                Outcome::Nothing
            }
            _ => Outcome::Nothing,
        }
    }

    fn end(&mut self, container: usize, clock: i64, code: i32) {
        let run = self.containers[container].last_mut().unwrap();
        run.ended = Some((clock.max(run.started), code));
        if code != 0 && self.restarts_failures && !self.must_end {
            self.due[container] = true;
        }
    }

    fn stop_waiter(&mut self, clock: i64, code: i32) {
        let run = self.waiter.last_mut().unwrap();
        run.ended = Some((clock.max(run.started), code));
    }

    fn finish(&mut self) {
        let succeeded = self.waiter_ended_with() == Some(0)
            && self.all().all(|container| self.code(container) == Some(0));
        if !self.must_end && !succeeded && self.restarts_failures && self.waiter_ended_with() != Some(0) {
            self.waiter_due = true;
        } else {
            self.terminal = Some(succeeded);
        }
    }

    /// The sandbox is lost: everything in it ends, and the init containers run again.
    pub(super) fn lose_sandbox(&mut self, clock: i64) {
        for container in self.all().filter(|container| self.runs(*container)).collect::<Vec<_>>() {
            self.end(container, clock, 137);
        }
        if self.waiter_runs() {
            self.stop_waiter(clock, 137);
        }
        self.due.fill(false);
        self.waiter_due = true;
        self.unpublished = true;
    }

    pub(super) fn can_lose_sandbox(&self) -> bool {
        self.terminal.is_none() && !self.must_end && !self.waiter.is_empty() && !self.waiter_due
    }

    // ---------------------------------------------------------------------------------------------- report

    /// The status as the kubelet writes it. A phase that somebody else made final stays so.
    pub(super) fn report(&self, stored: PodSketch, final_already: bool) -> PodSketch {
        let mut sketch = stored.reset();
        match self.waiter.last() {
            Some(Run { started, ended: None, .. }) => sketch = sketch.waiter_running(*started),
            Some(Run { started, ended: Some((finished, code)), .. }) => {
                sketch = sketch.waiter_ended(*started, *finished, *code);
            }
            None => {}
        }
        for (runs, name) in self.containers.iter().zip(NAMES) {
            match runs.last() {
                Some(Run { id, started, ended: None }) => sketch = sketch.runs(name, id, *started),
                Some(Run { id, started, ended: Some((finished, code)) }) => {
                    sketch = sketch.ended(name, id, *started, *finished, *code);
                }
                None => {}
            }
        }
        match self.terminal {
            Some(true) => sketch.over("Succeeded"),
            Some(false) => sketch.over("Failed"),
            None if final_already => sketch.phase("Failed"),
            None => sketch.phase("Running"),
        }
    }
}
