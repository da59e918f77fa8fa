//! A body: what really runs in one pod on its machine, and what its kubelet does about it.
//!
//! Pure: time and chance are handed in. Processes go on by themselves whether a kubelet looks or not; starting one needs the
//! kubelet. What must stay true: the waiter judges by the same code as the real one, and a kubelet reports what is so, late
//! perhaps.

use std::time::Duration;

use konductor_api::participation::{PrimitiveRef, Role};
use konductor_waiter::judge::{Myself, Standing, judge};

use crate::random::Random;

/// One run of one container.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) id: String,
    pub(crate) started: Duration,
    pub(crate) ended: Option<Ended>,
    /// When it ends by itself.
    until: Duration,
    code: i32,
}

/// How a run ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub(crate) at: Duration,
    pub(crate) code: i32,
    /// The runtime saw it; else the kubelet concluded it.
    pub(crate) seen: bool,
}

/// A container that the workload has.
#[derive(Clone, Debug)]
pub(crate) struct Container {
    pub(crate) name: String,
    pub(crate) critical: bool,
    pub(crate) runs: Vec<Run>,
    due: bool,
}

/// When containers are started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    Never,
    OnFailure,
    Always,
}

/// How the containers of a pod behave.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Habits {
    pub(crate) seconds: (u64, u64),
    /// Of a thousand runs.
    pub(crate) failures: usize,
}

/// See the module.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not the states of a machine")]
#[derive(Clone, Debug)]
pub(crate) struct Body {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) node: usize,
    pub(crate) policy: Policy,
    pub(crate) habits: Habits,
    /// What it takes part in, and on whose behalf.
    pub(crate) takes: Vec<Taken>,
    /// By the second of the machine's clock at which each run started.
    pub(crate) waiter: Vec<(i64, Run)>,
    waiter_due: bool,
    /// The sidecar that renews stands beside the waiter.
    pub(crate) sidecar: bool,
    /// A critical init container behind the waiter.
    pub(crate) init: Option<Container>,
    pub(crate) apps: Vec<Container>,
    /// The grant file, which may be old.
    pub(crate) file: String,
    /// The mark on the pod's disk.
    used: u64,
    /// It passed on that.
    pub(crate) passed: u64,
    /// What it would do once has been done.
    pub(crate) skips: bool,
    /// Its kubelet has heard that it must end, and when it kills.
    pub(crate) must_end: Option<Duration>,
    pub(crate) terminal: Option<bool>,
    pub(crate) unpublished: bool,
    /// When the critical section of this pod last ended well.
    pub(crate) succeeded: Option<Duration>,
}

/// Something that a pod takes part in.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    pub(crate) primitive: PrimitiveRef,
    pub(crate) role: Role,
    /// UID of the Job or pod that takes part.
    pub(crate) by: String,
}

/// What a move meant to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The waiter let the pod through on that grant.
    Passed(u64),
    /// A critical container starts.
    Starts,
}

impl Run {
    pub(crate) const fn runs(&self) -> bool {
        self.ended.is_none()
    }
}

impl Container {
    pub(crate) fn new(name: &str, critical: bool) -> Self {
        Self { name: name.to_owned(), critical, runs: Vec::new(), due: false }
    }

    pub(crate) fn runs(&self) -> bool {
        self.runs.last().is_some_and(Run::runs)
    }

    fn code(&self) -> Option<i32> {
        self.runs.last().and_then(|run| run.ended).map(|ended| ended.code)
    }

    fn start(&mut self, pod: &str, now: Duration, until: Duration, code: i32) {
        let id = format!("sim://{pod}-{}-{}", self.name, self.runs.len());
        self.runs.push(Run { id, started: now, ended: None, until, code });
        self.due = false;
    }
}

impl Body {
    pub(crate) fn new(name: &str, uid: &str, node: usize, policy: Policy, habits: Habits) -> Self {
        Self {
            name: name.to_owned(),
            uid: uid.to_owned(),
            node,
            policy,
            habits,
            takes: Vec::new(),
            waiter: Vec::new(),
            waiter_due: true,
            sidecar: false,
            init: None,
            apps: Vec::new(),
            file: String::new(),
            used: 0,
            passed: 0,
            skips: false,
            must_end: None,
            terminal: None,
            unpublished: false,
            succeeded: None,
        }
    }

    pub(crate) fn waiter_runs(&self) -> bool {
        self.waiter.last().is_some_and(|(_, run)| run.runs())
    }

    pub(crate) fn waiter_code(&self) -> Option<i32> {
        self.waiter.last().and_then(|(_, run)| run.ended).map(|ended| ended.code)
    }

    fn containers(&self) -> impl Iterator<Item = &Container> {
        self.init.iter().chain(&self.apps)
    }

    fn containers_mut(&mut self) -> impl Iterator<Item = &mut Container> {
        self.init.iter_mut().chain(&mut self.apps)
    }

    /// Does any critical container run right now? What is wrapped and has been done ends at once, and does nothing.
    pub(crate) fn is_critical(&self) -> bool {
        !self.skips && self.containers().any(|container| container.critical && container.runs())
    }

    fn is_idle(&self) -> bool {
        !self.waiter_runs() && !self.containers().any(Container::runs)
    }

    // ------------------------------------------------------------------------------------------- by themselves

    /// What processes do by themselves until then.
    pub(crate) fn live(&mut self, now: Duration) {
        for container in self.init.iter_mut().chain(&mut self.apps) {
            if let Some(run) = container.runs.last_mut()
                && run.runs()
                && run.until <= now
            {
                run.ended = Some(Ended { at: run.until, code: run.code, seen: true });
                self.unpublished = true;
            }
        }
        let done = |container: &Container| !container.critical || container.code() == Some(0);
        let any = self.containers().any(|container| container.critical && !container.runs.is_empty());
        if any && !self.skips && self.containers().all(done) && self.succeeded.is_none() {
            self.succeeded = Some(now);
        }
    }

    /// The waiter looks at its file.
    pub(crate) fn look(&mut self, now: Duration, forgets: bool) -> Option<Outcome> {
        let started_at = self.waiter.last().filter(|(_, run)| run.runs())?.0;
        let myself = Myself { pod_uid: self.uid.clone(), started_at };
        let used = if forgets { 0 } else { self.used };
        match judge(&self.file, &myself, used) {
            Standing::Go(run) => Some(self.pass(now, run, false)),
            Standing::Skip { run, .. } => Some(self.pass(now, run, true)),
            Standing::Denied { code, .. } => {
                self.stop_waiter(now, 64 + i32::from(code), true);
                None
            }
            _ => None,
        }
    }

    fn pass(&mut self, now: Duration, run: u64, skips: bool) -> Outcome {
        self.used = self.used.max(run);
        self.skips = skips;
        self.succeeded = None;
        self.stop_waiter(now, 0, true);
        match &mut self.init {
            Some(init) => init.due = true,
            None => self.start_apps(),
        }
        Outcome::Passed(run)
    }

    fn start_apps(&mut self) {
        let keeps_successes = self.policy == Policy::OnFailure;
        for app in &mut self.apps {
            app.due = !(keeps_successes && app.code() == Some(0));
        }
    }

    fn stop_waiter(&mut self, now: Duration, code: i32, seen: bool) {
        if let Some((_, run)) = self.waiter.last_mut()
            && run.runs()
        {
            run.ended = Some(Ended { at: now, code, seen });
            self.unpublished = true;
        }
    }

    /// The machine goes off, or the sandbox is lost: nothing of it runs any more.
    pub(crate) fn kill(&mut self, now: Duration, seen: bool) {
        self.stop_waiter(now, 255, seen);
        for container in self.init.iter_mut().chain(&mut self.apps) {
            if let Some(run) = container.runs.last_mut()
                && run.runs()
            {
                run.ended = Some(Ended { at: now, code: 255, seen });
            }
        }
        self.unpublished = true;
    }

    // --------------------------------------------------------------------------------------------- its kubelet

    /// The sandbox is gone: who may run again does so from the beginning.
    pub(crate) fn begin_anew(&mut self) {
        if self.terminal.is_some() {
            return;
        }
        let all_done = self.policy == Policy::OnFailure
            && self.waiter_code() == Some(0)
            && self.apps.iter().all(|app| app.code() == Some(0));
        for container in self.containers_mut() {
            container.due = false;
        }
        if self.policy != Policy::Never && !all_done && !self.waiter.is_empty() {
            self.waiter_due = true;
        }
        self.unpublished = true;
    }

    /// The kubelet looks after the pod once. `second` is that of the machine's clock.
    pub(crate) fn tend(&mut self, now: Duration, second: i64, random: &mut Random) -> Option<Outcome> {
        if self.terminal.is_some() {
            return None;
        }
        if let Some(kill_at) = self.must_end {
            self.end(now, kill_at, random);
            return None;
        }
        if self.waiter_due {
            // Two runs never start in the same second: a relist lies between them.
            if self.waiter.iter().all(|(started, _)| *started != second) {
                let run = Run {
                    id: format!("sim://{}-wait-{}", self.name, self.waiter.len()),
                    started: now,
                    ended: None,
                    until: Duration::MAX,
                    code: 0,
                };
                self.waiter.push((second, run));
                self.waiter_due = false;
                self.unpublished = true;
            }
            return None;
        }
        match self.waiter_code() {
            None => return None,
            Some(0) => {}
            Some(_) => {
                self.waiter_due = self.policy != Policy::Never;
                if !self.waiter_due {
                    self.terminal = Some(false);
                    self.unpublished = true;
                }
                return None;
            }
        }
        self.go_on(now, random)
    }

    /// Behind the waiter.
    fn go_on(&mut self, now: Duration, random: &mut Random) -> Option<Outcome> {
        let (least, most) = self.habits.seconds;
        let mut until = now + random.millis(least * 1000, most * 1000);
        let mut code = i32::from(random.chance(self.habits.failures));
        if self.skips {
            (until, code) = (now + Duration::from_millis(50), 0);
        }
        let (name, policy) = (self.name.clone(), self.policy);
        if let Some(init) = &mut self.init {
            if init.due {
                init.start(&name, now, until, code);
                self.unpublished = true;
                return Some(Outcome::Starts);
            }
            match init.code() {
                None => return None,
                Some(0) => {
                    if self.apps.iter().all(|app| app.runs.is_empty() && !app.due) {
                        self.start_apps();
                        return None;
                    }
                }
                Some(_) if policy == Policy::Never => {
                    self.terminal = Some(false);
                    self.unpublished = true;
                    return None;
                }
                Some(_) => {
                    init.due = true;
                    return None;
                }
            }
        }
        if let Some(app) = self.apps.iter_mut().find(|app| app.due) {
            let critical = app.critical;
            app.start(&name, now, if critical { until } else { until + random.millis(0, 20_000) }, code);
            self.unpublished = true;
            return (critical && !self.skips).then_some(Outcome::Starts);
        }
        for app in self.apps.iter_mut().filter(|app| !app.runs()) {
            app.due = match (policy, app.code()) {
                (Policy::Always, Some(_)) => true,
                (Policy::OnFailure, Some(code)) => code != 0,
                _ => false,
            };
        }
        if self.apps.iter().all(|app| !app.runs() && !app.due) {
            self.terminal = Some(self.apps.iter().all(|app| app.code() == Some(0)));
            self.unpublished = true;
        }
        None
    }

    fn end(&mut self, now: Duration, kill_at: Duration, random: &mut Random) {
        self.stop_waiter(now, 143, true);
        let (heeds, code) = (random.chance(300), if random.chance(500) { 143 } else { 0 });
        for container in self.init.iter_mut().chain(&mut self.apps) {
            container.due = false;
            if let Some(run) = container.runs.last_mut()
                && run.runs()
            {
                if now >= kill_at {
                    run.ended = Some(Ended { at: now, code: 137, seen: true });
                } else if heeds {
                    run.ended = Some(Ended { at: now, code, seen: true });
                }
                self.unpublished = true;
            }
        }
        if self.is_idle() {
            // Who obeyed with 0 has succeeded before anybody can read it.
            self.live(now);
            let succeeded =
                self.waiter_code() == Some(0) && self.apps.iter().all(|app| app.code() == Some(0));
            self.terminal = Some(succeeded);
            self.unpublished = true;
        }
    }
}
