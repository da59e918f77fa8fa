//! The network: the way of one operator's requests to the API server and back, as the transport of a `kube::Client`.
//!
//! A request is carried by a task of its own, so that it goes on when whoever sent it gives up. What must stay true: the
//! API server deals with a request in one moment; whatever goes wrong goes wrong on the way there, or on the way back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use axum::body::Body;
use futures::channel::oneshot;
use futures::future::BoxFuture;
use http::{Request, Response};
use tokio::time::{Instant, sleep, sleep_until};
use tower::{BoxError, Service};

use crate::cluster::Shared;
use crate::flaw::Flaw;
use crate::server::{Answer, Ask, Verb};
use crate::store::Actor;
use crate::watch;
use crate::weather::{Fate, Way, Weather};

/// The end of it that an operator has.
#[derive(Clone)]
pub(crate) struct Network {
    pub(crate) cluster: Shared,
    pub(crate) sky: Sky,
    pub(crate) actor: Actor,
    /// Is there still an operator at this end?
    pub(crate) alive: Arc<AtomicBool>,
    pub(crate) flaw: Option<Flaw>,
}

/// The weather, as several look at it.
#[derive(Clone)]
pub(crate) struct Sky(Arc<Mutex<Weather>>);

/// Why there is no answer.
#[derive(Debug)]
struct Lost(&'static str);

impl Sky {
    pub(crate) fn new(weather: Weather) -> Self {
        Self(Arc::new(Mutex::new(weather)))
    }

    pub(crate) fn look(&self) -> MutexGuard<'_, Weather> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until something can move.
    pub(crate) async fn thaw(&self) {
        loop {
            let Some(until) = self.look().frozen() else { return };
            sleep_until(until).await;
        }
    }
}

impl std::fmt::Display for Lost {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.0)
    }
}

impl std::error::Error for Lost {}

impl Service<Request<kube::client::Body>> for Network {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<Body>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<kube::client::Body>) -> Self::Future {
        let network = self.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect_bytes().await?;
            let Some(ask) = Ask::read(&parts, &body) else {
                return Err(Lost("the simulation does not know that path").into());
            };
            let (sender, receiver) = oneshot::channel();
            tokio::spawn(network.carry(ask, sender));
            match receiver.await {
                Ok(answer) => answer,
                // Nobody ever tells.
                Err(oneshot::Canceled) => std::future::pending().await,
            }
        })
    }
}

type Reply = oneshot::Sender<Result<Response<Body>, BoxError>>;

impl Network {
    async fn carry(self, mut ask: Ask, reply: Reply) {
        let Way { before, after, fate } = self.sky.look().way(ask.verb.writes());
        sleep(before).await;
        self.sky.thaw().await;
        if let Fate::Lost { told } = fate {
            return tell(reply, told, "the connection was reset");
        }
        // What a dead operator sent last may arrive, or not.
        if !self.alive.load(Ordering::Relaxed) && before.subsec_millis() % 2 == 0 {
            return;
        }
        let answer = match fate {
            Fate::Down => Answer::status(503, "ServiceUnavailable", "the API server is down"),
            Fate::Conflict => Answer::status(409, "Conflict", "the object has been modified"),
            _ if ask.verb == Verb::Watch => {
                let response = watch::open(&self, ask);
                sleep(after).await;
                let _ = reply.send(Ok(response));
                return;
            }
            _ => self.serve(&mut ask),
        };
        sleep(after).await;
        self.sky.thaw().await;
        if let Fate::AnswerLost { told } = fate {
            return tell(reply, told, "the connection was reset before the answer came");
        }
        let _ = reply.send(Ok(respond(&answer)));
    }

    fn serve(&self, ask: &mut Ask) -> Answer {
        let mut cluster = self.cluster.lock();
        match self.flaw {
            None => cluster.serve(self.actor, ask),
            Some(flaw) => flaw.serve(&mut cluster, self.actor, ask),
        }
    }
}

/// The sender is told that it is lost, or waits for ever.
fn tell(reply: Reply, told: bool, why: &'static str) {
    if told {
        let _ = reply.send(Err(Lost(why).into()));
    } else {
        tokio::spawn(async move {
            // As long as anybody would wait.
            sleep_until(Instant::now() + std::time::Duration::from_secs(3600)).await;
            drop(reply);
        });
    }
}

fn respond(answer: &Answer) -> Response<Body> {
    let mut response = Response::new(Body::from(answer.text.clone()));
    *response.status_mut() = http::StatusCode::from_u16(answer.code).unwrap_or_default();
    response
}
