//! The real binary in front of a directory that behaves as the kubelet's downward-API volume does.
#![allow(clippy::unwrap_used, clippy::panic, reason = "support code of tests is test code")]

mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use konductor_waiter::grant::{Grant, NEVER, Verdict};

use support::volume::Volume;

const UID: &str = "6c0a8b3e-7f51-4d9a-9d1e-0b2f3c4d5e6f";
const DEADLINE: Duration = Duration::from_secs(20);

/// A pod's two volumes.
struct Volumes {
    root: PathBuf,
    grant: Volume,
}

/// A run of the waiter.
struct Waiter {
    child: Child,
    lines: Receiver<String>,
}

impl Volumes {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let root = std::env::temp_dir().join(format!("konductor-wait-{}-{number}", std::process::id()));
        fs::create_dir_all(root.join("state")).unwrap();
        let grant = Volume::new(root.join("konductor"));
        Self { root, grant }
    }

    /// With the file there and empty, as the kubelet mounts it while the annotation is missing.
    fn mounted() -> Self {
        let volumes = Self::new();
        volumes.write("");
        volumes
    }

    fn grant(&self) -> PathBuf {
        self.root.join("konductor")
    }

    fn mark(&self) -> PathBuf {
        self.root.join("state/used")
    }

    fn write(&self, text: &str) {
        self.grant.write(text);
    }

    fn tell(&self, uid: &str, run: u64, waiter_started_at: i64, verdict: Verdict) {
        self.write(&Grant { pod_uid: uid.to_owned(), run, waiter_started_at, verdict }.to_string());
    }

    fn go(&self, run: u64) {
        self.tell(UID, run, now(), Verdict::Go);
    }

    fn start(&self) -> Waiter {
        self.start_with(&[])
    }

    fn start_with(&self, variables: &[(&str, &str)]) -> Waiter {
        self.start_as(variables, &[])
    }

    fn start_as(&self, variables: &[(&str, &str)], arguments: &[&str]) -> Waiter {
        let mut child = Command::new(env!("CARGO_BIN_EXE_konductor-wait"))
            .arg("--grant")
            .arg(self.grant().join("grant"))
            .arg(format!("--state={}", self.root.join("state").display()))
            .args(arguments)
            .env("KONDUCTOR_POD_UID", UID)
            .env("KONDUCTOR_POD_NAME", "trainer-x7k2p")
            .env("KONDUCTOR_POD_NAMESPACE", "ml")
            .env("KONDUCTOR_WAITS_FOR", "gate/validation-gate, mutex/database-migration")
            .env("KONDUCTOR_SINCE", "2030-06-01T12:00:00.123456Z")
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let waiter = Waiter { child, lines };
        assert_eq!(waiter.line(), "waiting for gate/validation-gate, mutex/database-migration");
        assert_eq!(waiter.line(), "since 2030-06-01T12:00:00.123456Z");
        assert!(waiter.line().ends_with("kubectl describe pod trainer-x7k2p -n ml"));
        waiter
    }
}

impl Drop for Volumes {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

impl Waiter {
    fn line(&self) -> String {
        self.lines.recv_timeout(DEADLINE).unwrap()
    }

    /// The next line, from a waiter that goes on waiting.
    fn waits_saying(&mut self, part: &str) {
        let line = self.line();
        assert!(line.contains(part), "{line}");
        assert_eq!(self.child.try_wait().unwrap(), None, "it must wait after: {line}");
    }

    /// What it says to the end, and its exit code.
    fn ends(mut self) -> (Vec<String>, i32) {
        let started = Instant::now();
        let mut said = Vec::new();
        while let Ok(line) = self.lines.recv_timeout(DEADLINE.saturating_sub(started.elapsed())) {
            said.push(line);
        }
        if started.elapsed() >= DEADLINE {
            self.child.kill().unwrap();
            panic!("it still waits after {DEADLINE:?}; it said {said:?}");
        }
        (said, self.child.wait().unwrap().code().unwrap())
    }

    fn signal(&self, name: &str) {
        let killed =
            Command::new("sh").args(["-c", &format!("kill -{name} {}", self.child.id())]).status().unwrap();
        assert!(killed.success());
    }
}

fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

fn mark(volumes: &Volumes) -> String {
    fs::read_to_string(volumes.mark()).unwrap()
}

#[test]
fn a_go_for_this_run_lets_it_through_and_is_marked_as_used() {
    let volumes = Volumes::mounted();
    let waiter = volumes.start();
    volumes.go(1);
    let (said, code) = waiter.ends();
    assert_eq!(code, 0, "{said:?}");
    assert_eq!(said.len(), 1);
    assert_eq!(mark(&volumes), "1\n");
}

#[test]
fn a_go_is_seen_at_once_and_not_by_polling() {
    let volumes = Volumes::mounted();
    let waiter = volumes.start();
    let told = Instant::now();
    volumes.go(1);
    assert_eq!(waiter.ends().1, 0);
    // Polling without a watch takes a second, the second look ten.
    assert!(told.elapsed() < Duration::from_millis(900), "{:?}", told.elapsed());
}

#[test]
fn a_grant_that_is_there_before_the_waiter_is_obeyed() {
    let volumes = Volumes::mounted();
    volumes.go(7);
    assert_eq!(volumes.start().ends().1, 0);
    assert_eq!(mark(&volumes), "7\n");
}

#[test]
fn a_go_for_another_pod_opens_nothing() {
    let volumes = Volumes::mounted();
    let mut waiter = volumes.start();
    volumes.tell("another-pod", 1, now(), Verdict::Go);
    waiter.waits_saying("for another pod (UID another-pod)");
    volumes.go(1);
    assert_eq!(waiter.ends().1, 0);
}

#[test]
fn a_go_for_an_earlier_run_opens_nothing() {
    let volumes = Volumes::mounted();
    let mut waiter = volumes.start();
    volumes.tell(UID, 1, now() - 60, Verdict::Go);
    waiter.waits_saying("for the run of this init container that started at");
    assert!(!volumes.mark().exists(), "what was not obeyed is not marked");
    volumes.go(2);
    assert_eq!(waiter.ends().1, 0);
}

#[test]
fn a_used_grant_opens_nothing_for_the_next_run() {
    let volumes = Volumes::mounted();
    volumes.go(3);
    assert_eq!(volumes.start().ends().1, 0);
    let mut second = volumes.start();
    second.waits_saying("grant 3 was used by an earlier run");
    volumes.go(2);
    second.waits_saying("grant 2 was used by an earlier run");
    volumes.go(4);
    assert_eq!(second.ends().1, 0);
    assert_eq!(mark(&volumes), "4\n");
}

#[test]
fn where_its_kubelet_would_not_report_it_the_first_run_after_a_used_grant_fails_once() {
    let volumes = Volumes::mounted();
    let start = || volumes.start_with(&[("KONDUCTOR_RESTART_POLICY", "OnFailure")]);
    for run in 1..3 {
        let waits = start();
        volumes.go(run);
        assert_eq!(waits.ends().1, 0);
        let (log, code) = start().ends();
        assert_eq!(code, 3, "{log:?}");
        assert!(log[0].contains("let the pod through"), "{log:?}");
    }
    let mut never = volumes.start_with(&[("KONDUCTOR_RESTART_POLICY", "Never")]);
    never.waits_saying("grant 2 was used by an earlier run");
    volumes.go(3);
    assert_eq!(never.ends().1, 0);
}

#[test]
fn too_young_it_waits_on_and_a_grant_that_is_withdrawn_meanwhile_opens_nothing() {
    let volumes = Volumes::mounted();
    let started = Instant::now();
    let settle = Duration::from_millis(1500);
    let mut waiter = volumes.start_with(&[("KONDUCTOR_SETTLE_MS", "1500")]);
    volumes.go(1);
    waiter.waits_saying("granted (run 1): waiting until the kubelet knows the tokens as well");
    volumes.tell(UID, 1, now(), Verdict::Released);
    waiter.waits_saying("grant 1 was withdrawn");
    assert!(!volumes.mark().exists(), "what was withdrawn was not used");
    volumes.go(2);
    assert_eq!(waiter.ends().1, 0);
    assert!(started.elapsed() >= settle, "{:?}", started.elapsed());
    assert_eq!(mark(&volumes), "2\n");
}

#[test]
fn a_denial_ends_it_with_its_code_and_its_reason() {
    let volumes = Volumes::mounted();
    let waiter = volumes.start();
    let reason = "gate validation-gate cannot open any more: Job data-validation failed".to_owned();
    volumes.tell(UID, 1, now(), Verdict::Deny { code: NEVER, reason: reason.clone() });
    let (said, code) = waiter.ends();
    assert_eq!(code, 65);
    assert_eq!(said, [format!("denied: {reason}")]);
}

#[test]
fn a_withdrawn_verdict_keeps_it_waiting_for_a_higher_run() {
    let volumes = Volumes::mounted();
    let mut waiter = volumes.start();
    volumes.tell(UID, 1, now(), Verdict::Released);
    waiter.waits_saying("grant 1 was withdrawn");
    volumes.go(2);
    assert_eq!(waiter.ends().1, 0);
}

#[test]
fn it_says_the_same_thing_once_however_often_it_looks() {
    let volumes = Volumes::mounted();
    let mut waiter = volumes.start();
    for _ in 0..5 {
        volumes.write("nonsense");
    }
    waiter.waits_saying("no grant");
    volumes.go(1);
    let (said, code) = waiter.ends();
    assert_eq!((said.len(), code), (1, 0), "{said:?}");
}

#[test]
fn a_file_that_is_missing_at_the_start_is_waited_for() {
    let volumes = Volumes::new();
    let mut waiter = volumes.start();
    waiter.waits_saying("cannot be read");
    volumes.write("");
    waiter.waits_saying("not granted yet");
    volumes.go(1);
    assert_eq!(waiter.ends().1, 0);
}

#[test]
fn a_directory_that_is_replaced_is_followed() {
    let volumes = Volumes::mounted();
    let mut waiter = volumes.start();
    fs::remove_dir_all(volumes.grant()).unwrap();
    waiter.waits_saying("cannot be read");
    let again = Volumes { root: volumes.root.clone(), grant: Volume::new(volumes.grant()) };
    again.go(1);
    assert_eq!(waiter.ends().1, 0);
}

#[test]
fn a_mark_that_cannot_be_read_or_written_opens_nothing() {
    let volumes = Volumes::mounted();
    fs::write(volumes.mark(), "not a number").unwrap();
    let mut waiter = volumes.start();
    volumes.go(1);
    waiter.waits_saying("cannot be read");
    // Back in order: the same grant is obeyed, by itself.
    fs::remove_file(volumes.mark()).unwrap();
    assert_eq!(waiter.ends().1, 0);

    let volumes = Volumes::mounted();
    fs::create_dir(volumes.root.join("state/.used.new")).unwrap();
    let mut waiter = volumes.start();
    volumes.go(1);
    waiter.waits_saying("cannot be written");
    assert!(!volumes.mark().exists());
    fs::remove_dir(volumes.root.join("state/.used.new")).unwrap();
    assert_eq!(waiter.ends().1, 0);
    assert_eq!(mark(&volumes), "1\n");

    let volumes = Volumes::mounted();
    fs::remove_dir(volumes.root.join("state")).unwrap();
    let mut waiter = volumes.start();
    volumes.go(1);
    waiter.waits_saying("cannot be read");
    waiter.child.kill().unwrap();
}

#[test]
fn a_signal_ends_it_at_once_with_its_own_code() {
    for (name, expected) in [("TERM", 143), ("INT", 130)] {
        let volumes = Volumes::mounted();
        let waiter = volumes.start();
        let asked = Instant::now();
        waiter.signal(name);
        let (said, code) = waiter.ends();
        assert_eq!(code, expected, "{said:?}");
        assert!(asked.elapsed() < Duration::from_millis(900), "{:?}", asked.elapsed());
        assert!(!volumes.mark().exists());
    }
}

#[test]
fn a_signal_comes_before_a_verdict() {
    let volumes = Volumes::mounted();
    let waiter = volumes.start();
    waiter.signal("STOP");
    waiter.signal("TERM");
    volumes.go(1);
    waiter.signal("CONT");
    assert_eq!(waiter.ends().1, 143);
    assert!(!volumes.mark().exists());
}

/// A waiter that has left behind what containers that do something once need, and where.
fn prepares(volumes: &Volumes) -> (Waiter, PathBuf) {
    let directory = volumes.root.join("once");
    fs::create_dir_all(&directory).unwrap();
    let _ = fs::remove_file(directory.join("konductor-wait"));
    let waiter = volumes.start_as(&[], &["--once", directory.to_str().unwrap()]);
    let started = Instant::now();
    while !directory.join("konductor-wait").exists() {
        assert!(started.elapsed() < DEADLINE, "nothing was left in {}", directory.display());
        std::thread::yield_now();
    }
    (waiter, directory)
}

/// What a container prints that is wrapped by what lies there, and how it ends.
fn wrapped(directory: &Path, command: &[&str]) -> (String, i32) {
    let output = Command::new(directory.join("konductor-wait"))
        .args(["once", "--once", directory.to_str().unwrap(), "--"])
        .args(command)
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (String::from_utf8(said).unwrap(), output.status.code().unwrap())
}

#[test]
fn after_go_what_is_wrapped_runs_with_its_own_output_and_exit_code() {
    let volumes = Volumes::mounted();
    let (waiter, directory) = prepares(&volumes);
    assert_eq!(wrapped(&directory, &["true"]).1, 125, "too early: nothing runs");
    volumes.go(1);
    assert_eq!(waiter.ends().1, 0);
    let (said, code) = wrapped(&directory, &["sh", "-c", "echo \"$0,$1,\"; exit 3", "a b", ""]);
    assert_eq!((said.as_str(), code), ("a b,,\n", 3));
    assert_eq!(wrapped(&directory, &["/does/not/exist"]).1, 127);
    assert_eq!(wrapped(&directory, &[directory.to_str().unwrap()]).1, 126);
    assert_eq!(wrapped(&directory, &[]).1, 125);
}

#[test]
fn after_skip_what_is_wrapped_ends_at_once_and_says_why() {
    let volumes = Volumes::mounted();
    let (waiter, directory) = prepares(&volumes);
    let reason = "once/app-init was executed by pod/web-1 already".to_owned();
    volumes.tell(UID, 1, now(), Verdict::Skip { reason: reason.clone() });
    let (said, code) = waiter.ends();
    assert_eq!(code, 0);
    assert!(said[0].ends_with(&format!("does nothing, for {reason}")), "{said:?}");
    assert_eq!(mark(&volumes), "1\n");
    assert_eq!(wrapped(&directory, &["false"]), (format!("konductor: nothing to do, {reason}\n"), 0));
}

#[test]
fn a_run_takes_back_what_an_earlier_run_decided() {
    let volumes = Volumes::mounted();
    let (waiter, directory) = prepares(&volumes);
    volumes.go(1);
    assert_eq!(waiter.ends().1, 0);
    assert_eq!(wrapped(&directory, &["true"]).1, 0);
    let (mut again, directory) = prepares(&volumes);
    again.waits_saying("was used by an earlier run");
    assert_eq!(wrapped(&directory, &["true"]).1, 125);
    volumes.go(2);
    assert_eq!(again.ends().1, 0);
    assert_eq!(wrapped(&directory, &["true"]).1, 0);
}

#[test]
fn what_cannot_be_left_or_obeyed_lets_nothing_through() {
    let volumes = Volumes::mounted();
    let mut waiter = volumes.start_as(&[], &["--once", "/does/not/exist"]);
    waiter.waits_saying("cannot be prepared");
    volumes.go(1);
    waiter.signal("TERM");
    assert_eq!(waiter.ends().1, 143);
    volumes.tell(UID, 1, now(), Verdict::Skip { reason: "done".to_owned() });
    let mut plain = volumes.start();
    plain.waits_saying("nothing here is done once");
    plain.signal("TERM");
    assert_eq!(plain.ends().1, 143);
    assert!(!volumes.mark().exists());
}

#[test]
fn wrong_usage_is_told_and_is_no_verdict() {
    let run = |arguments: &[&str], uid: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_konductor-wait"))
            .args(arguments)
            .env("KONDUCTOR_POD_UID", uid)
            .output()
            .unwrap();
        (String::from_utf8(output.stdout).unwrap(), output.status.code().unwrap())
    };
    let (said, code) = run(&["--gate", "x"], UID);
    assert!(said.contains("--gate is unknown") && said.contains("Usage:"), "{said}");
    assert_eq!(code, 2);
    assert_eq!(run(&["--grant"], UID).1, 2);
    let (said, code) = run(&[], "");
    assert!(said.contains("KONDUCTOR_POD_UID is not set"), "{said}");
    assert_eq!(code, 2);
    assert!(Path::new(env!("CARGO_BIN_EXE_konductor-wait")).exists());
}
