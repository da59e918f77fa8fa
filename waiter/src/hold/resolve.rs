//! Names to addresses, the part with a network: asks the pod's name servers.
//!
//! Reads two files and speaks UDP. What must stay true: it waits through the guard only, and not beyond the moment it is
//! given.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;

use super::dns::{self, Configuration, Kind, Reply};
use super::exchange::Failure;
use super::guard::{Patience, Waited};
use crate::sys::hold::{Interest, random, ticks};

/// A server that has said nothing for so long is asked again, after the others.
const PER_SERVER: i64 = 1_000;
const ROUNDS: usize = 2;
/// Neither file is ever as long; what is behind it does not count.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// Where names are looked up.
#[derive(Clone, Debug)]
pub(crate) struct Resolver {
    /// `/etc/resolv.conf`.
    pub(crate) configuration: String,
    /// `/etc/hosts`.
    pub(crate) hosts: String,
}

impl Resolver {
    /// The addresses of a host; at least one.
    pub(crate) fn look_up(
        &self,
        patience: &mut dyn Patience,
        host: &str,
        until: i64,
    ) -> Result<Vec<IpAddr>, Failure> {
        if let Ok(address) = host.parse() {
            return Ok(vec![address]);
        }
        let found = dns::in_hosts(&read(&self.hosts), host);
        if !found.is_empty() {
            return Ok(found);
        }
        let configuration = Configuration::parse(&read(&self.configuration));
        let mut servers = configuration.servers.clone();
        let mut problem = format!("no name server knows {host}");
        for name in configuration.candidates(host) {
            for kind in [Kind::V4, Kind::V6] {
                match ask(patience, &mut servers, &name, kind, until)? {
                    Ok(Reply::Addresses(addresses)) if !addresses.is_empty() => return Ok(addresses),
                    Ok(Reply::Addresses(_)) => {}
                    // And what could not be said of one kind is not asked of the other.
                    Ok(_) => break,
                    Err(other) => {
                        problem = other;
                        break;
                    }
                }
            }
            if ticks() >= until {
                break;
            }
        }
        Err(Failure::Problem(problem))
    }
}

/// Asks one server after the other, and leaves the one first that knew. The inner error is a sentence.
fn ask(
    patience: &mut dyn Patience,
    servers: &mut [SocketAddr],
    name: &str,
    kind: Kind,
    until: i64,
) -> Result<Result<Reply, String>, Failure> {
    let mut id = [0; 2];
    // Only so that an old answer is not taken for this one's: whom we speak to, the certificate says.
    let _ = random(&mut id);
    let Some(question) = dns::question(id, name, kind) else { return Ok(Ok(Reply::NoName)) };
    let mut problem = "the name servers do not answer".to_owned();
    for _ in 0..servers.len() * ROUNDS {
        let (now, Some(&server)) = (ticks(), servers.first()) else { break };
        if now >= until {
            break;
        }
        let share = (until.saturating_sub(now) / 3).min(PER_SERVER);
        match ask_one(patience, server, &question, kind, now.saturating_add(share)) {
            Ok(Reply::Failed) => problem = format!("name server {server} could not say where {name} is"),
            Ok(Reply::NotOurs) => problem = format!("name server {server} does not answer"),
            Ok(reply) => return Ok(Ok(reply)),
            Err(Failure::Problem(other)) => problem = format!("name server {server}: {other}"),
            Err(end) => return Err(end),
        }
        servers.rotate_left(1);
    }
    Ok(Err(problem))
}

/// [`Reply::NotOurs`]: nothing came in time.
fn ask_one(
    patience: &mut dyn Patience,
    server: SocketAddr,
    question: &[u8],
    kind: Kind,
    until: i64,
) -> Result<Reply, Failure> {
    let here: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(here)?;
    socket.set_nonblocking(true)?;
    // Connected: from then on the kernel hands us what comes from there, and nothing else.
    socket.connect(server)?;
    socket.send(question)?;
    let mut message = [0; 2048];
    while patience.wait(Some((socket.as_fd(), Interest::Readable)), until)? == Waited::Ready {
        match socket.recv(&mut message) {
            Ok(length) => match dns::reply(&message[..length], question, kind) {
                Reply::NotOurs => {}
                reply => return Ok(reply),
            },
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Reply::NotOurs)
}

/// What is not there is empty.
fn read(path: &str) -> String {
    use std::io::Read;
    let mut bytes = Vec::new();
    if let Ok(file) = std::fs::File::open(path) {
        let _ = file.take(MAX_FILE_BYTES).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
