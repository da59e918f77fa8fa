//! The API of a cluster, through a `kubectl proxy` on a private socket: fast enough to measure with, and no client
//! library that every run of xtask would have to build.
//!
//! May touch: one socket in the temporary folder, one child process, and the cluster of the kubeconfig. What must stay
//! true: both are gone when the [`Proxy`] is; a watch that ends is taken up again from a fresh list.

use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::Sender;
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::http::{self, Answer};

const PATIENCE: Duration = Duration::from_secs(30);
/// A namespace with pods that take their time to stop.
const REMOVAL: Duration = Duration::from_secs(180);
const STEP: Duration = Duration::from_millis(20);
/// Before a watch that failed is tried again.
const BREATH: Duration = Duration::from_millis(200);

/// A running proxy.
#[derive(Debug)]
pub(crate) struct Proxy {
    child: Child,
    socket: PathBuf,
}

/// The API server's no.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// 404, 409, …
    pub(crate) code: u16,
    message: String,
}

/// An object as it is now, or as it was last.
#[derive(Debug)]
pub(crate) struct Change {
    /// With its kind.
    pub(crate) object: Value,
    /// When it was read.
    pub(crate) at: Instant,
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the API server answers {}: {}", self.code, self.message)
    }
}

impl std::error::Error for Refusal {}

/// The code of a refusal, if that is what the error is.
pub(crate) fn refused(error: &anyhow::Error) -> Option<u16> {
    error.downcast_ref::<Refusal>().map(|refusal| refusal.code)
}

impl Proxy {
    /// Starts one and waits until the API server answers through it.
    pub(crate) fn start(kubectl: &Path, kubeconfig: &Path) -> Result<Self> {
        Self::start_with(kubectl, kubeconfig, Stdio::inherit())
    }

    /// The same; it does not tell of each request that an API server, which goes away on purpose, has not answered.
    pub(crate) fn start_silent(kubectl: &Path, kubeconfig: &Path) -> Result<Self> {
        Self::start_with(kubectl, kubeconfig, Stdio::null())
    }

    fn start_with(kubectl: &Path, kubeconfig: &Path, errors: Stdio) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let socket =
            std::env::temp_dir().join(format!("konductor-xtask-{}-{number}.socket", std::process::id()));
        let _ = std::fs::remove_file(&socket);
        let child = Command::new(kubectl)
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .args(["proxy", "--keepalive=30s", "--unix-socket"])
            .arg(&socket)
            .env_remove("KUBECONFIG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(errors)
            .spawn()
            .with_context(|| format!("starting {} proxy", kubectl.display()))?;
        let mut proxy = Self { child, socket };
        let deadline = Instant::now() + PATIENCE;
        loop {
            let Err(error) = proxy.text("/readyz") else { return Ok(proxy) };
            if let Some(status) = proxy.child.try_wait()? {
                bail!("kubectl proxy ended at once ({status}); its words are above");
            }
            if Instant::now() > deadline {
                return Err(error.context("the API server does not answer through kubectl proxy"));
            }
            sleep(STEP);
        }
    }

    /// What stands at a path, as text.
    pub(crate) fn text(&self, path: &str) -> Result<String> {
        whole(send(&self.socket, "GET", path, None)?).with_context(|| format!("reading {path}"))
    }

    /// An object or a list.
    pub(crate) fn get(&self, path: &str) -> Result<Value> {
        Ok(serde_json::from_str(&self.text(path)?)?)
    }

    /// Creates an object.
    pub(crate) fn create(&self, path: &str, object: &Value) -> Result<Value> {
        let body = serde_json::to_vec(object)?;
        let text = whole(send(&self.socket, "POST", path, Some(("application/json", &body)))?)
            .with_context(|| format!("creating in {path}"))?;
        Ok(serde_json::from_str(&text)?)
    }

    /// Changes fields of an object.
    pub(crate) fn merge(&self, path: &str, fields: &Value) -> Result<Value> {
        let body = serde_json::to_vec(fields)?;
        let kind = "application/merge-patch+json";
        let text = whole(send(&self.socket, "PATCH", path, Some((kind, &body)))?)
            .with_context(|| format!("changing {path}"))?;
        Ok(serde_json::from_str(&text)?)
    }

    /// Deletes an object or a collection; what is not there is no error.
    pub(crate) fn delete(&self, path: &str) -> Result<()> {
        match whole(send(&self.socket, "DELETE", path, None)?) {
            Err(error) if refused(&error) != Some(404) => Err(error.context(format!("deleting {path}"))),
            _ => Ok(()),
        }
    }

    /// Deletes an object and waits until it is gone.
    pub(crate) fn remove(&self, path: &str) -> Result<()> {
        self.delete(path)?;
        let deadline = Instant::now() + REMOVAL;
        loop {
            match self.get(path) {
                Err(error) if refused(&error) == Some(404) => return Ok(()),
                Err(error) => return Err(error),
                Ok(object) if Instant::now() > deadline => {
                    bail!("{path} does not go away: {}", object["status"]);
                }
                Ok(_) => sleep(BREATH),
            }
        }
    }

    /// Sends every object of a collection, and then every change of it, until nobody listens or the proxy ends.
    pub(crate) fn follow(&self, path: &str, changes: Sender<Change>) {
        let (socket, path) = (self.socket.clone(), path.to_owned());
        spawn(move || {
            while socket.exists() {
                match round(&socket, &path, &changes) {
                    Ok(true) => {}
                    Ok(false) => return,
                    Err(_) => sleep(BREATH),
                }
            }
        });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.socket);
    }
}

fn send(socket: &Path, method: &str, path: &str, body: Option<(&str, &[u8])>) -> Result<Answer<UnixStream>> {
    let stream = UnixStream::connect(socket).context("reaching kubectl proxy")?;
    http::ask(stream, method, path, body).with_context(|| format!("{method} {path}"))
}

fn whole(mut answer: Answer<impl Read>) -> Result<String> {
    let mut text = String::new();
    answer.body.read_to_string(&mut text)?;
    if answer.code < 400 {
        return Ok(text);
    }
    let message = serde_json::from_str::<Value>(&text)
        .ok()
        .and_then(|status| status["message"].as_str().map(str::to_owned))
        .unwrap_or(text);
    Err(Refusal { code: answer.code, message }.into())
}

/// One list and one watch. False: nobody listens any more.
fn round(socket: &Path, path: &str, changes: &Sender<Change>) -> Result<bool> {
    let list: Value = serde_json::from_str(&whole(send(socket, "GET", path, None)?)?)?;
    let kind = list["kind"].as_str().unwrap_or_default().trim_end_matches("List").to_owned();
    for item in list["items"].as_array().into_iter().flatten() {
        let mut object = item.clone();
        // The items of a list do not say their kind.
        object["kind"] = kind.clone().into();
        if changes.send(Change { object, at: Instant::now() }).is_err() {
            return Ok(false);
        }
    }
    let version = list["metadata"]["resourceVersion"].as_str().unwrap_or_default();
    let mark = if path.contains('?') { '&' } else { '?' };
    let answer = send(socket, "GET", &format!("{path}{mark}watch=1&resourceVersion={version}"), None)?;
    if answer.code >= 400 {
        whole(answer)?;
        return Ok(true);
    }
    for line in BufReader::new(answer.body).lines() {
        let at = Instant::now();
        let mut event: Value = serde_json::from_str(&line?)?;
        if event["type"] == "ERROR" {
            return Ok(true);
        }
        if changes.send(Change { object: event["object"].take(), at }).is_err() {
            return Ok(false);
        }
    }
    Ok(true)
}
