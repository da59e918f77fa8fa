//! The process: sockets, certificates, watches, and one end for all of them.
//!
//! May touch: everything, through the other modules. What must stay true: the health port answers from the first
//! moment; a background task that ends takes the process with it, with the reason in the log; being asked to stop is
//! not a failure.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use arc_swap::ArcSwap;
use jiff::Timestamp;
use konductor_certs::{LiveBundles, Serving};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::args::Args;
use crate::certificates::{Certificates, Certified};
use crate::names::KnownNames;
use crate::serve::{Admissions, Health, bind, serve_admission, serve_health};
use crate::sessions::{Lookout, Seen};
use crate::telemetry::Metrics;
use crate::waiter::Settings;

/// After that long without a listing of names, admission starts all the same: only warnings need them.
const NAMES_PATIENCE: Duration = Duration::from_secs(10);
/// Less than the grace period of the chart, with room for the last answers.
const DRAIN: Duration = Duration::from_secs(10);
/// A watch ends on the server's side before that; without an answer for so long, the connection is dead.
const READ_TIMEOUT: Duration = Duration::from_secs(295);

/// Runs until SIGTERM or SIGINT, or until something fails.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let stopping = stop_on_signal()?;
    let admission_listener = bind(args.listen)?;
    let health_listener = bind(args.health_listen)?;
    let mut config = kube::Config::infer().await.context("no way to the API server is known")?;
    config.read_timeout = Some(READ_TIMEOUT);
    let client = kube::Client::try_from(config).context("no client for the API server can be made")?;

    let metrics = Arc::new(Metrics::default());
    let (live_sender, live) = watch::channel(LiveBundles::default());
    let (live_for_checks_sender, live_for_checks) = watch::channel(LiveBundles::default());
    let (serving_sender, serving_receiver) = watch::channel(None);
    let (settled_sender, names_settled) = watch::channel(false);
    let clock = Timestamp::now;
    let health = Health {
        metrics: Arc::clone(&metrics),
        stopping: stopping.clone(),
        live: live.clone(),
        live_for_checks,
        serving: serving_receiver,
        names_settled,
        clock,
    };
    let mut tasks = JoinSet::new();
    tasks.spawn(async {
        let ended = serve_health(health_listener, Arc::new(health)).await;
        Err(ended.err().unwrap_or_else(|| anyhow!("it ended"))).context("the health port")
    });
    let names = Arc::new(KnownNames::default());
    tasks.spawn(keep_names(Arc::clone(&names), client.clone()));
    tasks.spawn(settle(Arc::clone(&names), settled_sender));

    let certificates = Certificates { client: &client, args: &args, clock, live: live.clone() };
    let Certified { serving, publisher, for_checks, trust } = tokio::select! {
        certified = certificates.start(&mut tasks) => certified?,
        () = stopping.cancelled() => return Ok(()),
    };
    serving_sender.send_replace(Some(Arc::clone(&serving)));
    tasks.spawn(async move { match publisher.keep_published(live_sender).await? {} });
    if let Some(publisher) = for_checks {
        tasks.spawn(async move { match publisher.keep_published(live_for_checks_sender).await? {} });
    }
    tasks.spawn(keep_fresh(Arc::clone(&serving), clock));
    let settings = Arc::new(ArcSwap::from_pointee(args.settings()));
    if let Some(address) = args.sessions.clone() {
        let (client, fence) = (client.clone(), args.fence);
        let mut lookout = Lookout { client, address, trust, fence, seen: Seen::default() };
        let first = tokio::select! {
            sessions = lookout.look() => Settings { sessions, ..args.settings() },
            () = stopping.cancelled() => return Ok(()),
        };
        settings.store(Arc::new(first));
        tasks.spawn(keep_sessions(lookout, Arc::clone(&settings)));
    }
    let admissions = Arc::new(Admissions { settings, names, metrics, clock });
    let admission = serve_admission(admission_listener, &serving, admissions, stopping.clone(), DRAIN);
    tracing::info!(listen = %args.listen, health = %args.health_listen, waiter = %args.waiter_image, "serving");
    tokio::select! {
        ended = admission => match ended {
            Ok(()) if stopping.is_cancelled() => Ok(()),
            Ok(()) => Err(anyhow!("the admission port ended")),
            Err(error) => Err(error.context("the admission port")),
        },
        ended = first_end(&mut tasks) => Err(ended),
    }
}

/// The first failure of a background task. A task that has done its work is none.
async fn first_end(tasks: &mut JoinSet<anyhow::Result<()>>) -> anyhow::Error {
    while let Some(ended) = tasks.join_next().await {
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return error,
            Err(panic) => return anyhow!("a background task failed: {panic}"),
        }
    }
    anyhow!("no background task is left")
}

async fn keep_names(names: Arc<KnownNames>, client: kube::Client) -> anyhow::Result<()> {
    match Box::pin(names.keep(client)).await {}
}

async fn keep_sessions(lookout: Lookout, settings: Arc<ArcSwap<Settings>>) -> anyhow::Result<()> {
    match lookout.keep(settings).await {}
}

async fn keep_fresh(serving: Arc<Serving>, clock: fn() -> Timestamp) -> anyhow::Result<()> {
    match serving.keep_fresh(clock).await {}
}

/// Says when the names are known, or when it has been long enough.
async fn settle(names: Arc<KnownNames>, settled: watch::Sender<bool>) -> anyhow::Result<()> {
    let complete = async {
        while !names.is_complete() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    if timeout(NAMES_PATIENCE, complete).await.is_err() {
        tracing::warn!("gates and mutexes could not be listed; serving without warnings about missing ones");
    }
    settled.send_replace(true);
    Ok(())
}

/// Cancelled by the first signal; a second one ends the process at once.
fn stop_on_signal() -> anyhow::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stopping = CancellationToken::new();
    let token = stopping.clone();
    tokio::spawn(async move {
        let mut first = true;
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if !std::mem::take(&mut first) {
                tracing::warn!("asked a second time: ending without waiting for the last answers");
                #[expect(clippy::exit, reason = "somebody insists, and the runtime may be what hangs")]
                std::process::exit(1);
            }
            token.cancel();
        }
    });
    Ok(stopping)
}
