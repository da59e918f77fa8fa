//! One renewal: find the operator, connect, ask.
//!
//! Touches the network and the token file (read). What must stay true: the token is read anew for each request and goes
//! nowhere but into a connection whose certificate was checked; where the operator was found is remembered only while it
//! answers there, so that neither a name server that is away nor an address that has moved keeps a hold from being renewed.

use std::fs::File;
use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls_pki_types::ServerName;

use super::guard::{End, Patience, Waited};
use super::resolve::Resolver;
use super::wire::{self, Answer};
use super::{settings::Settings, tls};
use crate::sys::hold::{Interest, connect, ticks};

/// A token has one or two kilobytes.
const MAX_TOKEN_BYTES: u64 = 32 * 1024;

/// The way to the operator.
pub(crate) struct Exchange {
    authority: String,
    host: String,
    port: u16,
    name: ServerName<'static>,
    trusted: Arc<ClientConfig>,
    token: String,
    resolver: Resolver,
    /// Where it answered last time.
    known: Vec<SocketAddr>,
}

/// What is to be renewed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Renewal<'a> {
    pub(crate) pod_uid: &'a str,
    pub(crate) run: u64,
    /// See [`Session::bears`](super::session::Session::bears).
    pub(crate) bears: Option<i64>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// There is no time for one any more.
    End(End),
    /// A sentence.
    Problem(String),
}

impl Exchange {
    /// None of the settings' words is checked again.
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            authority: settings.sessions.clone(),
            host: settings.host.clone(),
            port: settings.port,
            name: settings.name.clone(),
            trusted: Arc::clone(&settings.trusted),
            token: settings.token.clone(),
            resolver: settings.resolver.clone(),
            known: Vec::new(),
        }
    }

    /// Asks once; says when it began to ask, and what came of it.
    pub(crate) fn renew(
        &mut self,
        patience: &mut dyn Patience,
        renewal: Renewal<'_>,
        until: i64,
    ) -> Result<(i64, Answer), End> {
        let mut begun = ticks();
        match self.ask(patience, renewal, until, &mut begun) {
            Ok(answer) => Ok((begun, answer)),
            Err(Failure::End(end)) => Err(end),
            Err(Failure::Problem(problem)) => {
                self.known.clear();
                Ok((begun, Answer::None(problem)))
            }
        }
    }

    fn ask(
        &mut self,
        patience: &mut dyn Patience,
        renewal: Renewal<'_>,
        until: i64,
        begun: &mut i64,
    ) -> Result<Answer, Failure> {
        let token = read_token(&self.token).map_err(|problem| {
            Failure::Problem(format!("the token in {} cannot be used ({problem})", self.token))
        })?;
        let addresses = if self.known.is_empty() {
            let found = self.resolver.look_up(patience, &self.host, until)?;
            found.into_iter().map(|address| SocketAddr::new(address, self.port)).collect()
        } else {
            std::mem::take(&mut self.known)
        };
        let (socket, address) = reach(patience, &addresses, until)?;
        *begun = ticks();
        let request = wire::request(&self.authority, &token, renewal.pod_uid, renewal.run, renewal.bears);
        let (status, body) =
            tls::converse(socket, &self.trusted, &self.name, request.as_bytes(), patience, until)?;
        self.known.push(address);
        let (answer, certificates) = wire::answer(status, &body);
        if let Some(trusted) = certificates.and_then(tls::trusting) {
            self.trusted = trusted;
        }
        Ok(answer)
    }
}

/// Connects to the first address that can be reached; each has its share of the time.
fn reach(
    patience: &mut dyn Patience,
    addresses: &[SocketAddr],
    until: i64,
) -> Result<(TcpStream, SocketAddr), Failure> {
    let mut problem = "there is no address to connect to".to_owned();
    for (behind, &address) in (1..=addresses.len()).rev().zip(addresses) {
        let now = ticks();
        let share = until.saturating_sub(now) / i64::try_from(behind).unwrap_or(1);
        match reach_one(patience, address, now.saturating_add(share)) {
            Ok(socket) => return Ok((socket, address)),
            Err(Failure::Problem(why)) => problem = format!("connecting to {address}: {why}"),
            Err(end) => return Err(end),
        }
    }
    Err(Failure::Problem(problem))
}

fn reach_one(patience: &mut dyn Patience, address: SocketAddr, until: i64) -> Result<TcpStream, Failure> {
    let socket = connect(address)?;
    match patience.wait(Some((socket.as_fd(), Interest::Writable)), until)? {
        Waited::Ready => {}
        Waited::TimeIsUp => return Err(Failure::Problem("no answer".to_owned())),
    }
    if let Some(error) = socket.take_error()? {
        return Err(error.into());
    }
    socket.set_nodelay(true)?;
    Ok(socket)
}

/// The error is a few words.
fn read_token(path: &str) -> Result<String, String> {
    let mut text = String::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    file.take(MAX_TOKEN_BYTES).read_to_string(&mut text).map_err(|error| error.to_string())?;
    let token = text.trim();
    // Anything else would be another header, or none.
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("it is none".to_owned());
    }
    Ok(token.to_owned())
}

impl From<End> for Failure {
    fn from(end: End) -> Self {
        Self::End(end)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Problem(error.to_string())
    }
}
