//! The desk: where claims are asked for, watched, renewed and given back.
//!
//! May touch: claims of one namespace, by the caller's own rights. What must stay true: nothing is asked again and again: who
//! waits has one watch; what the API server did not answer is asked again until it did, and what is in doubt is read; only
//! what it answered is believed.

use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use konductor_api::claim::{Claim, ClaimOutcome};
use konductor_api::conditions::reason;
use konductor_api::participation::Kind;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions, WatchEvent, WatchParams};
use serde_json::json;

use super::identity::{Holder, Myself};
use super::wanted::{Standing, Wanted, standing};
use crate::cluster::Cluster;
use crate::exit::Exit;
use crate::live::{LiveError, refused};
use crate::told::named;

/// A watch is made anew after so long, in seconds: less than the API server allows.
const WATCH: u32 = 290;
/// After what was not answered.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_AT_MOST: Duration = Duration::from_secs(20);
/// So often in a row, while nothing has been answered at all.
const ATTEMPTS: u32 = 3;
/// Longer than any call takes while the API server is well.
const DEADLINE: Duration = Duration::from_secs(10);
/// When the operator ought to have looked at a claim.
const LOOKED_AT: Duration = Duration::from_secs(10);
/// What the operator has for its answer beyond the claim's own timeout.
const GRACE: Duration = Duration::from_secs(10);

/// See the module.
pub struct Desk {
    api: Api<Claim>,
    cluster: Cluster,
}

impl Desk {
    /// Of that cluster.
    pub fn of(cluster: &Cluster) -> Self {
        Self { api: Api::namespaced(cluster.client.clone(), &cluster.namespace), cluster: cluster.clone() }
    }

    /// Whoever asks here.
    pub async fn holder(&self, named: Option<&str>) -> Result<Holder, LiveError> {
        Holder::find(named, self.cluster.in_cluster, &self.cluster.client).await
    }

    /// Asks, and waits until there is an answer. `says` is told each time what it waits for.
    pub async fn ask(
        &self,
        wanted: &Wanted,
        holder: &Holder,
        mut says: impl FnMut(&str),
    ) -> Result<Claim, LiveError> {
        let claim = self.create(wanted, holder).await?;
        let limit = wanted
            .timeout
            .and_then(|timeout| u64::try_from(timeout.as_nanoseconds()).ok())
            .map(|nanoseconds| Duration::from_nanos(nanoseconds) + GRACE);
        let name = claim.metadata.name.clone().unwrap_or_default();
        let uid = claim.metadata.uid.clone();
        let answer = self.answered(wanted, claim, &mut says);
        let answer = match limit {
            None => answer.await,
            Some(limit) => tokio::time::timeout(limit, answer).await.unwrap_or_else(|_| {
                let said = format!(
                    "{}: Konductor's operator has not answered in time; koncli check says whether it runs",
                    wanted.what()
                );
                Err(LiveError::Other(said, Exit::TimedOut))
            }),
        };
        if answer.is_err() {
            // It must not be granted when nobody waits for it any more.
            let _ = self.delete(&name, uid.as_deref()).await;
        }
        answer
    }

    async fn answered(
        &self,
        wanted: &Wanted,
        claim: Claim,
        says: &mut impl FnMut(&str),
    ) -> Result<Claim, LiveError> {
        let (mut said, mut claim) = (String::new(), claim);
        let mut changes = Changes::after(&self.api, &claim);
        loop {
            match standing(&claim) {
                Standing::Has(_) | Standing::DoneAlready(_) => return Ok(claim),
                Standing::Denied(message, exit) => {
                    return Err(LiveError::Other(format!("{}: {message}", wanted.what()), exit));
                }
                Standing::Lost(message) => {
                    return Err(LiveError::Other(format!("{}: {message}", wanted.what()), Exit::Lost));
                }
                Standing::Over => {
                    return Err(LiveError::Other(
                        format!("{} was given back meanwhile", wanted.what()),
                        Exit::Error,
                    ));
                }
                Standing::Waits(why, message) if why == reason::MISSING_PRIMITIVE => {
                    return Err(LiveError::Other(format!("{}: {message}", wanted.what()), Exit::NotFound));
                }
                Standing::Waits(_, message) if message != said => {
                    says(&message);
                    said = message;
                }
                Standing::Waits(..) | Standing::Unseen => {}
            }
            let unseen = standing(&claim) == Standing::Unseen;
            let next = changes.next();
            let next = if unseen && said.is_empty() {
                if let Ok(next) = tokio::time::timeout(LOOKED_AT, next).await {
                    next
                } else {
                    "nobody has looked at the claim yet; koncli check says whether Konductor's operator runs"
                        .clone_into(&mut said);
                    says(&said);
                    continue;
                }
            } else {
                next.await
            };
            claim = next?.ok_or_else(|| {
                LiveError::Other(
                    format!("the claim on {} was deleted meanwhile", wanted.what()),
                    Exit::Denied,
                )
            })?;
        }
    }

    /// Makes the claim, or finds the one that is there already.
    async fn create(&self, wanted: &Wanted, holder: &Holder) -> Result<Claim, LiveError> {
        let name = holder.claim(wanted.kind, &wanted.name);
        let mut attempts = 0;
        loop {
            let claim = wanted.claim(holder, Timestamp::now());
            match within(self.api.create(&PostParams::default(), &claim)).await {
                Ok(made) => return Ok(made),
                Err(kube::Error::Api(status)) if status.code == 409 => {
                    if let Some(found) = self.found(wanted, &name).await? {
                        return Ok(found);
                    }
                }
                Err(error) if is_passing(&error) && attempts < ATTEMPTS => {
                    attempts += 1;
                    tokio::time::sleep(RETRY).await;
                }
                Err(error) => return Err(refused(&wanted.what(), &error)),
            }
        }
    }

    /// The claim of that name, if it is ours and asks for the same; what has ended is taken away.
    async fn found(&self, wanted: &Wanted, name: &str) -> Result<Option<Claim>, LiveError> {
        let Some(found) = self.get(name).await? else { return Ok(None) };
        let me = Myself::ask(&self.cluster.client).await?;
        let theirs = found.spec.requester.as_deref().is_some_and(|requester| requester != me.user)
            || found
                .spec
                .pod
                .as_ref()
                .is_some_and(|pod| me.pod.as_ref().is_none_or(|(_, uid)| *uid != pod.uid));
        if theirs {
            let who = found.spec.requester.as_deref().unwrap_or("somebody");
            let pod = found.spec.pod.as_ref().map(|pod| format!(" in pod {}", pod.name)).unwrap_or_default();
            return Err(LiveError::Other(
                format!(
                    "{}: {who}{pod} claims it as {} already; choose another --holder",
                    wanted.what(),
                    found.spec.holder
                ),
                Exit::Denied,
            ));
        }
        let over = matches!(standing(&found), Standing::Denied(..) | Standing::Lost(_) | Standing::Over);
        if over || found.metadata.deletion_timestamp.is_some() {
            self.delete(name, found.metadata.uid.as_deref()).await?;
            return Ok(None);
        }
        match wanted.differs(&found) {
            None => Ok(Some(found)),
            Some(how) => Err(LiveError::Other(
                format!(
                    "{}: {} claims it already, with {how}; give that back first, or choose another --holder",
                    wanted.what(),
                    found.spec.holder
                ),
                Exit::Error,
            )),
        }
    }

    /// The claim of that name.
    pub async fn get(&self, name: &str) -> Result<Option<Claim>, LiveError> {
        within(self.api.get_opt(name)).await.map_err(|error| refused(&format!("claim/{name}"), &error))
    }

    /// Shows that its holder is there. What comes back is how the API server has it after that.
    pub async fn renew(&self, name: &str) -> Result<Claim, kube::Error> {
        let now = Timestamp::now();
        let body = json!({"spec": {"renewTime": format!("{now:.6}")}});
        within(self.api.patch(name, &PatchParams::default(), &Patch::Merge(&body))).await
    }

    /// Says how it went, and waits until that is written down.
    pub async fn conclude(&self, claim: &Claim, outcome: ClaimOutcome) -> Result<(), LiveError> {
        let name = claim.metadata.name.as_deref().unwrap_or_default();
        let what = format!("claim/{name}");
        let body = json!({"spec": {"outcome": outcome}});
        let mut attempts = 0;
        let mut claim = loop {
            match within(self.api.patch(name, &PatchParams::default(), &Patch::Merge(&body))).await {
                Ok(written) => break written,
                Err(error) if is_passing(&error) && attempts < 30 => {
                    attempts += 1;
                    tokio::time::sleep(RETRY).await;
                }
                Err(error) => return Err(refused(&what, &error)),
            }
        };
        let mut changes = Changes::after(&self.api, &claim);
        loop {
            match standing(&claim) {
                Standing::Over => return Ok(()),
                Standing::Lost(message) => {
                    return Err(LiveError::Other(format!("{what}: {message}"), Exit::Lost));
                }
                _ => {}
            }
            claim = changes.next().await?.ok_or_else(|| {
                LiveError::Other(format!("{what} was deleted before it was written down"), Exit::Lost)
            })?;
        }
    }

    /// Takes a claim away; says whether there was one. Tried again while nobody answers.
    pub async fn delete(&self, name: &str, uid: Option<&str>) -> Result<bool, LiveError> {
        let preconditions =
            uid.map(|uid| Preconditions { uid: Some(uid.to_owned()), resource_version: None });
        let parameters = DeleteParams { preconditions, ..DeleteParams::default() };
        let mut attempts = 0;
        loop {
            match within(self.api.delete(name, &parameters)).await {
                Ok(_) => return Ok(true),
                // Gone, or another one of that name.
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => return Ok(attempts > 0),
                Err(error) if is_passing(&error) && attempts < ATTEMPTS => {
                    attempts += 1;
                    tokio::time::sleep(RETRY).await;
                }
                Err(error) => return Err(refused(&format!("claim/{name}"), &error)),
            }
        }
    }

    /// How that claim changes from here on.
    pub fn changes(&self, claim: &Claim) -> Changes {
        Changes::after(&self.api, claim)
    }

    /// Who holds a primitive, for a message.
    pub async fn holder_of(&self, kind: Kind, name: &str) -> Option<String> {
        let object = within(self.cluster.api(kind).get_opt(name)).await.ok()??;
        object.data.pointer("/status/holders/0").map(named)
    }
}

/// How one claim changes: a watch that is taken up again where it ended.
pub struct Changes {
    api: Api<Claim>,
    name: String,
    uid: Option<String>,
    version: String,
    stream: Option<futures::stream::BoxStream<'static, kube::Result<WatchEvent<Claim>>>>,
    wait: Duration,
}

impl Changes {
    fn after(api: &Api<Claim>, claim: &Claim) -> Self {
        Self {
            api: api.clone(),
            name: claim.metadata.name.clone().unwrap_or_default(),
            uid: claim.metadata.uid.clone(),
            version: claim.metadata.resource_version.clone().unwrap_or_default(),
            stream: None,
            wait: RETRY,
        }
    }

    /// Its next version; `None` if it is gone. Waits for as long as nobody answers; refused is an error.
    pub async fn next(&mut self) -> Result<Option<Claim>, LiveError> {
        loop {
            if self.stream.is_none() {
                let parameters =
                    WatchParams::default().fields(&format!("metadata.name={}", self.name)).timeout(WATCH);
                match self.api.watch(&parameters, &self.version).await {
                    Ok(stream) => self.stream = Some(stream.boxed()),
                    Err(error) if is_passing(&error) => {
                        self.pause().await;
                        continue;
                    }
                    Err(kube::Error::Api(status)) if status.code == 410 => match self.read().await? {
                        Some(read) => return Ok(read),
                        None => continue,
                    },
                    Err(error) => return Err(refused(&format!("claim/{}", self.name), &error)),
                }
            }
            let Some(stream) = &mut self.stream else { continue };
            match stream.next().await {
                Some(Ok(WatchEvent::Added(claim) | WatchEvent::Modified(claim))) => {
                    self.wait = RETRY;
                    self.version = claim.metadata.resource_version.clone().unwrap_or_default();
                    return Ok(Some(claim).filter(|claim| claim.metadata.uid == self.uid));
                }
                Some(Ok(WatchEvent::Deleted(_))) => return Ok(None),
                Some(Ok(WatchEvent::Bookmark(mark))) => self.version = mark.metadata.resource_version,
                Some(Ok(WatchEvent::Error(_))) => {
                    self.stream = None;
                    if let Some(read) = self.read().await? {
                        return Ok(read);
                    }
                }
                Some(Err(_)) => {
                    self.stream = None;
                    self.pause().await;
                }
                None => self.stream = None,
            }
        }
    }

    /// Reads it, after a watch that could not go on; `None`: nobody answered.
    async fn read(&mut self) -> Result<Option<Option<Claim>>, LiveError> {
        match within(self.api.get_opt(&self.name)).await {
            Ok(found) => {
                let found = found.filter(|claim| claim.metadata.uid == self.uid);
                if let Some(claim) = &found {
                    self.version = claim.metadata.resource_version.clone().unwrap_or_default();
                }
                Ok(Some(found))
            }
            Err(error) if is_passing(&error) => {
                self.pause().await;
                Ok(None)
            }
            Err(error) => Err(refused(&format!("claim/{}", self.name), &error)),
        }
    }

    async fn pause(&mut self) {
        tokio::time::sleep(self.wait).await;
        self.wait = (self.wait * 2).min(RETRY_AT_MOST);
    }
}

/// One call, with a deadline.
async fn within<T>(call: impl Future<Output = kube::Result<T>>) -> kube::Result<T> {
    match tokio::time::timeout(DEADLINE, call).await {
        Ok(answer) => answer,
        Err(_) => Err(kube::Error::Service(format!("no answer in {} s", DEADLINE.as_secs()).into())),
    }
}

/// Will it pass? All that is no answer, and that it is too busy to give one.
pub fn is_passing(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => status.code == 429 || status.code >= 500,
        _ => true,
    }
}
