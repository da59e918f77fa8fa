//! The real binary before a real TLS server, with real files and real signals.
#![allow(clippy::unwrap_used, clippy::panic, reason = "support code of tests is test code")]

mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use konductor_waiter::hold::FENCED;

use support::operator::{Authority, HOST, Manner, Operator};
use support::volume::Volume;

const UID: &str = "6c0a8b3e-7f51-4d9a-9d1e-0b2f3c4d5e6f";
const DEADLINE: Duration = Duration::from_secs(30);
/// In milliseconds; a third of it is left when a pod is fenced, which even a busy machine can keep.
const TTL: u64 = 3_000;

/// A pod's files.
struct Pod {
    root: PathBuf,
    grant: Volume,
}

/// A run of the sidecar.
struct Sidecar {
    child: Child,
    lines: Receiver<String>,
}

impl Pod {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let root = std::env::temp_dir().join(format!("konductor-hold-{}-{number}", std::process::id()));
        fs::create_dir_all(&root).unwrap();
        fs::write(root.join("hosts"), format!("127.0.0.1 {HOST}\n")).unwrap();
        fs::write(root.join("resolv.conf"), "nameserver 127.0.0.1:1\n").unwrap();
        let grant = Volume::new(root.join("konductor"));
        let pod = Self { root, grant };
        pod.token("first-token");
        pod
    }

    /// Told go.
    fn granted() -> Self {
        let pod = Self::new();
        pod.tell(1, "go");
        pod
    }

    fn tell(&self, run: u64, verdict: &str) {
        self.grant.write(&format!("v1 {UID} {run} 2030-06-01T12:00:00Z {verdict}\n"));
    }

    fn token(&self, token: &str) {
        fs::write(self.root.join("token.new"), token).unwrap();
        fs::rename(self.root.join("token.new"), self.root.join("token")).unwrap();
    }

    fn command(&self, port: u16, certificates: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_konductor-hold"));
        command
            .arg("--grant")
            .arg(self.grant.file())
            .arg(format!("--token={}", self.root.join("token").display()))
            .arg(format!("--hosts={}", self.root.join("hosts").display()))
            .arg(format!("--resolv={}", self.root.join("resolv.conf").display()))
            .env("KONDUCTOR_POD_UID", UID)
            .env("KONDUCTOR_POD_NAME", "trainer-x7k2p")
            .env("KONDUCTOR_POD_NAMESPACE", "ml")
            .env("KONDUCTOR_SESSIONS", format!("{HOST}:{port}"))
            .env("KONDUCTOR_SESSIONS_CA", certificates)
            .stdout(Stdio::piped());
        command
    }

    fn start(&self, operator: &Operator, authority: &Authority) -> Sidecar {
        let mut child = self.command(operator.port, &authority.pem).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let sidecar = Sidecar { child, lines };
        sidecar.says("keeping what pod ml/trainer-x7k2p holds");
        sidecar
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

impl Sidecar {
    fn says(&self, part: &str) {
        let line = self.lines.recv_timeout(DEADLINE).unwrap();
        assert!(line.contains(part), "{line}");
    }

    /// Its last line and its exit code, and when it ended.
    fn ends(&mut self) -> (Option<String>, i32, Instant) {
        let started = Instant::now();
        let mut last = None;
        while let Ok(line) = self.lines.recv_timeout(DEADLINE.saturating_sub(started.elapsed())) {
            last = Some(line);
        }
        assert!(started.elapsed() < DEADLINE, "it still runs; it said {last:?}");
        let ended = Instant::now();
        (last, self.child.wait().unwrap().code().unwrap(), ended)
    }

    fn is_fenced(&mut self, reason: &str) -> Instant {
        let (last, code, ended) = self.ends();
        let last = last.unwrap();
        assert_eq!(code, i32::from(FENCED), "{last}");
        assert!(last.starts_with("this pod is stopped: ") && last.contains(reason), "{last}");
        ended
    }

    fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    fn signal(&self, name: &str) {
        let killed =
            Command::new("sh").args(["-c", &format!("kill -{name} {}", self.child.id())]).status().unwrap();
        assert!(killed.success());
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn held(ttl: u64) -> Manner {
    Manner::Answers(200, format!("held {ttl}\n"))
}

/// A pod that has been heard, and what then becomes of it when the operator is like that: it must be fenced after two thirds
/// of the ttl, and before the operator counts it as lost.
fn fences_in_time(trouble: impl FnOnce(&Operator), reason: &str) {
    let (pod, authority) = (Pod::granted(), Authority::new());
    let operator = Operator::new(&authority, held(TTL));
    let mut sidecar = pod.start(&operator, &authority);
    sidecar.says("is held with a ttl of 3 s");
    let renewed = operator.heard(0).at;
    trouble(&operator);
    let ended = sidecar.is_fenced(reason);
    // What it counts from is a moment before what we know.
    let silence = ended.saturating_duration_since(renewed);
    assert!(silence < Duration::from_millis(TTL), "lost before it was fenced: {silence:?}");
    assert!(silence > Duration::from_millis(TTL / 2), "{silence:?}");
}

#[test]
fn it_renews_after_each_third_of_the_ttl_and_says_so_once() {
    let (pod, authority) = (Pod::granted(), Authority::new());
    let operator = Operator::new(&authority, held(900));
    let mut sidecar = pod.start(&operator, &authority);
    let (first, last) = (operator.heard(0), operator.heard(6));
    let six = last.at.duration_since(first.at);
    assert!(six >= Duration::from_millis(1_700), "{six:?}");
    assert_eq!(
        first.text,
        format!(
            "POST /v1/renew HTTP/1.1\r\nHost: {HOST}:{}\r\nAuthorization: Bearer first-token\r\n\
             Content-Type: text/plain\r\nKonductor-Silence: 60000\r\nContent-Length: 39\r\n\
             Connection: close\r\n\r\n{UID} 1\n",
            operator.port
        )
    );
    assert!(last.text.contains("\r\nKonductor-Silence: 900\r\n"), "{}", last.text);
    sidecar.says("grant 1 is held with a ttl of 0.9 s");
    assert!(sidecar.lines.try_recv().is_err(), "a renewal is no news");
    assert!(sidecar.runs());
}

#[test]
fn it_fences_in_time_when_the_operator_hangs() {
    fences_in_time(|operator| operator.behave(Manner::Hangs), "the operator does not answer");
}

#[test]
fn it_fences_in_time_when_the_operator_hangs_after_it_has_heard() {
    fences_in_time(|operator| operator.behave(Manner::HangsAfterTls), "the operator does not answer");
}

#[test]
fn it_fences_in_time_when_the_answer_never_ends() {
    fences_in_time(|operator| operator.behave(Manner::Drips), "the operator");
}

#[test]
fn half_an_answer_is_none() {
    fences_in_time(|operator| operator.behave(Manner::EndsEarly), "eof");
}

#[test]
fn it_fences_in_time_when_connections_are_reset() {
    fences_in_time(|operator| operator.behave(Manner::Resets), "");
}

#[test]
fn it_fences_in_time_when_the_operator_has_errors() {
    fences_in_time(
        |operator| operator.behave(Manner::Answers(503, "not now\nreally".to_owned())),
        "the operator answers 503: not now",
    );
}

#[test]
fn it_fences_in_time_when_somebody_else_answers() {
    let other = Authority::new();
    fences_in_time(|operator| operator.show(&other, HOST), "TLS: invalid peer certificate");
}

#[test]
fn a_certificate_for_another_name_is_no_answer() {
    let (pod, authority) = (Pod::granted(), Authority::new());
    let operator = Operator::new(&authority, held(TTL));
    operator.show(&authority, "konductor-webhook.konductor-system.svc");
    let sidecar = pod.start(&operator, &authority);
    sidecar.says("grant 1 is not renewed: TLS: invalid peer certificate");
    assert_eq!(operator.count(), 0, "no token was sent");
}

#[test]
fn it_fences_in_time_when_nobody_listens() {
    let (pod, authority) = (Pod::granted(), Authority::new());
    let operator = Operator::new(&authority, held(TTL));
    // A way in that can be closed.
    let front = TcpListener::bind("127.0.0.1:0").unwrap();
    let there = front.local_addr().unwrap();
    let port = operator.port;
    let passing = std::thread::spawn(move || {
        let (mut inner, _) = front.accept().unwrap();
        drop(front);
        let mut outer = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        let (mut back_from, mut back_to) = (outer.try_clone().unwrap(), inner.try_clone().unwrap());
        std::thread::spawn(move || std::io::copy(&mut back_from, &mut back_to));
        let _ = std::io::copy(&mut inner, &mut outer);
    });
    let mut child = pod.command(there.port(), &authority.pem).spawn().unwrap();
    let renewed = operator.heard(0).at;
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(i32::from(FENCED)));
    let silence = renewed.elapsed();
    assert!(silence < Duration::from_millis(TTL) && silence > Duration::from_millis(TTL / 2), "{silence:?}");
    passing.join().unwrap();
}

#[test]
fn a_loss_fences_at_once() {
    let (pod, authority) = (Pod::granted(), Authority::new());
    let operator = Operator::new(&authority, Manner::Answers(409, "lost broken by somebody\n".to_owned()));
    let mut sidecar = pod.start(&operator, &authority);
    sidecar.is_fenced("the hold is lost: broken by somebody");
    assert_eq!(operator.count(), 1);
}

#[test]
fn a_grant_that_is_withdrawn_fences_at_once_without_a_network() {
    let (pod, authority) = (Pod::granted(), Authority::new());
    let operator = Operator::new(&authority, held(600_000));
    let mut sidecar = pod.start(&operator, &authority);
    sidecar.says("is held with a ttl of 600 s");
    let told = Instant::now();
    pod.tell(1, "released");
    let ended = sidecar.is_fenced("grant 1 was withdrawn");
    // Without a watch the next look would be seconds away.
    assert!(ended.duration_since(told) < Duration::from_millis(900));
    assert_eq!(operator.count(), 1);
}

#[test]
fn a_grant_that_is_withdrawn_fences_at_once_in_the_middle_of_a_request() {
    let (pod, authority) = (Pod::granted(), Authority::new());
    let operator = Operator::new(&authority, Manner::HangsAfterTls);
    let mut sidecar = pod.start(&operator, &authority);
    operator.heard(0);
    let told = Instant::now();
    pod.tell(1, "released");
    let ended = sidecar.is_fenced("grant 1 was withdrawn");
    assert!(ended.duration_since(told) < Duration::from_millis(900));
}

#[test]
fn it_waits_for_a_grant_that_is_not_there_yet() {
    let (pod, authority) = (Pod::new(), Authority::new());
    let operator = Operator::new(&authority, held(TTL));
    let sidecar = pod.start(&operator, &authority);
    pod.grant.write("");
    pod.grant.write("nonsense");
    assert_eq!(operator.count(), 0);
    pod.tell(4, "go");
    sidecar.says("grant 4 is held");
    assert!(operator.heard(0).text.ends_with(&format!("{UID} 4\n")));
}

#[test]
fn a_short_outage_is_told_and_overcome() {
    let (pod, authority) = (Pod::granted(), Authority::new());
    let operator = Operator::new(&authority, held(TTL));
    let mut sidecar = pod.start(&operator, &authority);
    sidecar.says("is held with a ttl of 3 s");
    operator.behave(Manner::Answers(500, String::new()));
    operator.next();
    sidecar.says("grant 1 is not renewed: the operator answers 500: ; trying again");
    operator.behave(held(TTL));
    sidecar.says("is held with a ttl of 3 s");
    // Past the deadline that there was.
    let renewed = operator.count();
    operator.heard(renewed + 2);
    assert!(sidecar.runs());
}

#[test]
fn an_operator_that_does_not_know_of_the_grant_yet_is_asked_again() {
    let (pod, authority) = (Pod::granted(), Authority::new());
    let operator = Operator::new(&authority, Manner::Answers(425, "early no such grant\n".to_owned()));
    let sidecar = pod.start(&operator, &authority);
    sidecar.says("is not renewed: the operator answers: early, no such grant; trying again");
    operator.behave(Manner::Answers(200, "held forever\n".to_owned()));
    sidecar.says("nothing of it can be lost by silence");
}

#[test]
fn it_trusts_the_certificates_that_come_with_an_answer() {
    let (pod, old, new) = (Pod::granted(), Authority::new(), Authority::new());
    // No certificate changes nothing.
    let operator = Operator::new(&old, held(900));
    let mut sidecar = pod.start(&operator, &old);
    operator.heard(1);
    operator.behave(Manner::Answers(200, format!("held 900\n{}{}", new.pem, old.pem)));
    operator.next();
    operator.next();
    operator.show(&new, HOST);
    operator.behave(Manner::Answers(200, format!("held 900\n{}", new.pem)));
    operator.next();
    operator.next();
    // And no longer the one that was taken out.
    operator.show(&old, HOST);
    sidecar.is_fenced("TLS: invalid peer certificate");
}

#[test]
fn keys_of_other_kinds_are_understood() {
    for kind in [&rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519] {
        let (pod, authority) = (Pod::granted(), Authority::with(rcgen::KeyPair::generate_for(kind).unwrap()));
        let operator = Operator::new(&authority, held(TTL));
        pod.start(&operator, &authority).says("is held");
    }
}

#[test]
fn the_token_is_read_anew_for_each_request() {
    let (pod, authority) = (Pod::granted(), Authority::new());
    let operator = Operator::new(&authority, held(900));
    let _sidecar = pod.start(&operator, &authority);
    assert!(operator.heard(0).text.contains("\r\nAuthorization: Bearer first-token\r\n"));
    pod.token("second-token\n");
    // One may be under way.
    operator.next();
    assert!(operator.next().text.contains("\r\nAuthorization: Bearer second-token\r\n"));
}

#[test]
fn a_token_that_cannot_be_used_is_waited_for() {
    let (pod, authority) = (Pod::granted(), Authority::new());
    pod.token("two words");
    let operator = Operator::new(&authority, held(TTL));
    let sidecar = pod.start(&operator, &authority);
    sidecar.says("cannot be used (it is none)");
    pod.token("good");
    sidecar.says("is held");
    assert_eq!(operator.count(), 1);
}

#[test]
fn asked_to_stop_it_ends_at_once_and_well_whatever_it_does() {
    for (manner, signal) in [(held(600_000), "TERM"), (Manner::HangsAfterTls, "TERM"), (held(600_000), "INT")]
    {
        let (pod, authority) = (Pod::granted(), Authority::new());
        let operator = Operator::new(&authority, manner);
        let mut sidecar = pod.start(&operator, &authority);
        operator.heard(0);
        let told = Instant::now();
        sidecar.signal(signal);
        let (_, code, ended) = sidecar.ends();
        assert_eq!(code, 0);
        let took = ended.duration_since(told);
        assert!(took < Duration::from_millis(100), "{took:?}");
    }
}

#[test]
fn a_log_that_nobody_reads_keeps_it_from_nothing() {
    let (pod, authority) = (Pod::granted(), Authority::new());
    let operator = Operator::new(&authority, held(600_000));
    let mut command = pod.command(operator.port, &authority.pem);
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    operator.heard(0);
    pod.tell(1, "released");
    assert_eq!(child.wait().unwrap().code(), Some(i32::from(FENCED)));
    // And one that is full.
    pod.tell(2, "go");
    let (reader, writer) = std::io::pipe().unwrap();
    // As much as a pipe takes.
    std::io::Write::write_all(&mut writer.try_clone().unwrap(), &vec![b'x'; 1 << 16]).unwrap();
    let (mut child, before) = (command.stdout(writer).spawn().unwrap(), operator.count());
    operator.heard(before);
    pod.tell(2, "released");
    assert_eq!(child.wait().unwrap().code(), Some(i32::from(FENCED)));
    drop(reader);
}

#[test]
fn a_name_server_says_where_the_operator_is() {
    let (pod, authority) = (Pod::granted(), Authority::new());
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    fs::write(pod.root.join("hosts"), "").unwrap();
    let text = format!(
        "nameserver {}\nnameserver {}\nsearch ml.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n",
        silent.local_addr().unwrap(),
        server.local_addr().unwrap()
    );
    fs::write(pod.root.join("resolv.conf"), text).unwrap();
    let (sender, asked) = channel();
    std::thread::spawn(move || {
        let mut message = [0; 512];
        while let Ok((length, who)) = server.recv_from(&mut message) {
            let question = &message[12..length];
            let name: String = question[..question.len() - 5]
                .iter()
                .map(|&byte| if byte < b' ' { '.' } else { char::from(byte) })
                .collect();
            let known = name == format!(".{HOST}.cluster.local") && question[question.len() - 3] == 1;
            let mut reply = message[..length].to_vec();
            reply[2..4].copy_from_slice(if known { &[0x81, 0x80] } else { &[0x81, 0x83] });
            if known {
                reply[7] = 1;
                reply.extend_from_slice(b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x1e\x00\x04\x7f\x00\x00\x01");
            }
            // Somebody guesses, and guesses wrong.
            let mut forged = reply.clone();
            forged[0] ^= 1;
            server.send_to(&forged, who).unwrap();
            server.send_to(&reply, who).unwrap();
            if sender.send(name).is_err() {
                return;
            }
        }
    });
    let operator = Operator::new(&authority, held(TTL));
    let sidecar = pod.start(&operator, &authority);
    sidecar.says("is held with a ttl of 3 s");
    // It knows now, and asks no more.
    operator.heard(2);
    let names: Vec<String> = asked.try_iter().collect();
    let expected = ["ml.svc.cluster.local", "svc.cluster.local", "cluster.local"];
    assert_eq!(names.iter().collect::<std::collections::BTreeSet<_>>().len(), 3, "{names:?}");
    assert!(names.last().unwrap().ends_with(expected[2]), "{names:?}");
}

#[test]
fn a_name_that_nobody_knows_is_told() {
    let (pod, authority) = (Pod::granted(), Authority::new());
    fs::write(pod.root.join("hosts"), "").unwrap();
    let operator = Operator::new(&authority, held(TTL));
    pod.start(&operator, &authority).says("is not renewed: name server 127.0.0.1:1");
}

#[test]
fn what_is_missing_is_named_and_fences_nothing() {
    let (pod, authority) = (Pod::granted(), Authority::new());
    for (name, value, part) in [
        ("KONDUCTOR_POD_UID", "", "KONDUCTOR_POD_UID is not set"),
        ("KONDUCTOR_SESSIONS", "", "KONDUCTOR_SESSIONS is not set"),
        ("KONDUCTOR_SESSIONS", "host", "KONDUCTOR_SESSIONS is no host:port: host"),
        ("KONDUCTOR_SESSIONS", "host:0x1", "KONDUCTOR_SESSIONS is no host:port: host:0x1"),
        ("KONDUCTOR_SESSIONS_CA", "", "KONDUCTOR_SESSIONS_CA is not set"),
        ("KONDUCTOR_SESSIONS_CA", "nonsense", "KONDUCTOR_SESSIONS_CA has no certificate"),
    ] {
        let output = pod.command(1, &authority.pem).env(name, value).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.starts_with(&format!("konductor-hold: {part}")), "{text}");
    }
    let output = pod.command(1, &authority.pem).arg("--help").output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8(output.stdout).unwrap().contains("Usage: konductor-hold"));
    let output = pod.command(1, &authority.pem).arg("--fence").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}
