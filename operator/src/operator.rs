//! An operator without a process around it: watches, workers, and what they share.
//!
//! [`crate::run`] puts a process around one, with sockets and signals; a simulation runs several over an API server in memory.
//! What must stay true: all that it knows of the world it has from its client and its clock; it may be dropped at any
//! moment, and another one finds everything again.

use std::sync::Arc;

use kube::Client;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::advice::Advisor;
use crate::backoff::Salt;
use crate::caches::{self, Caches, Writers};
use crate::client::Requests;
use crate::clock::Clock;
use crate::election::{self, Candidate};
use crate::events::{Announcements, Announcer};
use crate::finalizers::Reads;
use crate::index::Key;
use crate::queue::Queue;
use crate::reconcile::{self, Context};
use crate::telemetry::Telemetry;

/// See the module.
pub struct Operator {
    context: Arc<Context>,
    writers: Writers,
    announcements: Announcements,
    settings: Settings,
}

/// How it works.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How many primitives are worked on at once.
    pub concurrency: u16,
    /// As whom it writes Events.
    pub instance: Option<String>,
    /// Has it the right to delete pods? Without it none is lost to silence.
    pub loses_pods: bool,
    /// As whom it runs for leader; without that it works at once.
    pub candidate: Option<Candidate>,
    /// By what it goes.
    pub clock: Clock,
    /// What its client counts.
    pub requests: Requests,
    /// By which its retries differ from those of others.
    pub salt: Salt,
}

impl Operator {
    /// One that does nothing yet.
    pub fn new(client: &Client, settings: Settings) -> Self {
        // No release waits for a finalizer.
        let queue = Arc::new(Queue::new(|key| matches!(key, Key::Pod(_))));
        let (caches, writers) = Caches::new(client, &queue, settings.salt);
        let (announcer, announcements) = Announcer::new();
        let context = Arc::new(Context {
            client: client.clone(),
            clock: settings.clock,
            caches: Arc::new(caches),
            queue,
            telemetry: Arc::new(Telemetry::new(settings.requests.clone())),
            announcer,
            advisor: Advisor::default(),
            reads: Reads::default(),
            loses_pods: settings.loses_pods,
        });
        Self { context, writers, announcements, settings }
    }

    pub(crate) fn context(&self) -> Arc<Context> {
        Arc::clone(&self.context)
    }

    /// Works until one of its tasks ends, which none does by itself, and says why. `synced` is called once, when every cache
    /// has shown what is there. Dropped, it stops at once.
    pub async fn run(self, synced: impl FnOnce() + Send + 'static) -> anyhow::Error {
        let Self { context, writers, announcements, settings } = self;
        let mut tasks: JoinSet<anyhow::Error> = JoinSet::new();
        tasks.spawn(caches::fill(
            Arc::clone(&context.caches),
            writers,
            Arc::clone(&context.queue),
            context.client.clone(),
        ));
        let listener = Arc::clone(&context);
        tasks.spawn(async move {
            listener.caches.silence.keep(&listener.client, &listener.caches).await;
            anyhow::anyhow!("the clock of silence ended")
        });
        let client = context.client.clone();
        tasks.spawn(async move {
            announcements.publish(client, settings.instance).await;
            anyhow::anyhow!("the publisher of Events ended")
        });
        let (sender, leads) = watch::channel(settings.candidate.is_none());
        if let Some(candidate) = settings.candidate {
            let (client, clock) = (context.client.clone(), settings.clock);
            tasks.spawn(async move {
                election::run(client, candidate, clock, sender).await;
                anyhow::anyhow!("the race for leader ended")
            });
        }
        tasks.spawn(async move {
            if let Err(error) = context.caches.synced().await {
                return error;
            }
            synced();
            tracing::info!("all caches are synced");
            while_leader(&context, settings.concurrency, leads).await
        });
        match tasks.join_next().await {
            Some(Ok(error)) => error,
            Some(Err(error)) => anyhow::anyhow!("a task panicked: {error}"),
            None => anyhow::anyhow!("there was nothing to do"),
        }
    }
}

/// Lets workers work while this is the leader. The others keep their caches and queues warm meanwhile.
async fn while_leader(
    context: &Arc<Context>,
    concurrency: u16,
    mut leads: watch::Receiver<bool>,
) -> anyhow::Error {
    // Without candidates nobody ever sends.
    let ended = |_| anyhow::anyhow!("the race for leader ended");
    loop {
        if let Err(error) = leads.wait_for(|leads| *leads).await.map(drop) {
            return ended(error);
        }
        context.telemetry.leads(true);
        // What is due by time alone was known to the one before.
        context.caches.all_primitives().into_iter().for_each(|key| context.queue.add(key));
        let mut crew = JoinSet::new();
        for _ in 0..concurrency {
            crew.spawn(reconcile::work(Arc::clone(context)));
        }
        let replaced = async {
            if leads.wait_for(|leads| !*leads).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            worker = crew.join_next() => return match worker {
                Some(Err(error)) => anyhow::anyhow!("a worker panicked: {error}"),
                _ => anyhow::anyhow!("a worker ended"),
            },
            () = replaced => {}
        }
        context.telemetry.leads(false);
        crew.shutdown().await;
        context.queue.forget_running();
    }
}
