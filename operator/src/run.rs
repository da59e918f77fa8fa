//! Run: ties everything together and takes it down again.
//!
//! What must stay true: a background task that ends is the end of the process, with the reason in the log; whatever is
//! under way when the process ends is found again by the next one.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use crate::args::{Arguments, Command, LogFormat, Run};
use crate::backoff::Salt;
use crate::client::Requests;
use crate::clock::Clock;
use crate::health::Ready;
use crate::operator::{Operator, Settings};
use crate::reconcile::Context;
use crate::sessions::serve::serve;
use crate::sessions::trust::{Issuer, Trust};
use crate::{client, election, health, telemetry, uninstall};

/// For giving the lead back, when asked to stop.
const LAST_WORD: std::time::Duration = std::time::Duration::from_secs(2);

/// Parses the command line and does what it says.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // One provider for the whole process; a second one would make rustls' choice ambiguous.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match start(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn start(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Run(arguments) => {
            telemetry::log(&arguments.log_level, arguments.log_format)?;
            run(&arguments).await
        }
        Command::Uninstall(arguments) => {
            telemetry::log("info", LogFormat::Text)?;
            uninstall::run(&client::connect(&Requests::default()).await?, &arguments).await
        }
    }
}

async fn run(arguments: &Run) -> anyhow::Result<()> {
    let probes = health::bind(arguments.health_probe_bind_address, "health").await?;
    let metrics = health::bind(arguments.metrics_bind_address, "metrics").await?;
    let requests = Requests::default();
    let client = client::connect(&requests).await?;
    let instance =
        std::fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|name| name.trim().to_owned());
    let candidate = arguments.candidate(instance.as_deref());
    let settings = Settings {
        concurrency: arguments.concurrency,
        instance,
        loses_pods: arguments.loses_pods,
        candidate: candidate.clone(),
        clock: Clock::Machine,
        requests,
        salt: Salt::random(),
    };
    let operator = Operator::new(&client, settings);
    let ready = Arc::new(Ready::default());

    let mut tasks: JoinSet<anyhow::Error> = JoinSet::new();
    let served = |outcome: std::io::Result<()>| match outcome {
        Ok(()) => anyhow::anyhow!("a server ended"),
        Err(error) => error.into(),
    };
    let router = health::probes(Arc::clone(&ready));
    tasks.spawn(async move { served(axum::serve(probes, router).await) });
    let router = health::metrics(Arc::clone(&operator.context().telemetry));
    tasks.spawn(async move { served(axum::serve(metrics, router).await) });
    if let (Some(address), Some((issuer, name))) = (arguments.sessions_bind_address, arguments.issuer()?) {
        let listener = health::bind(address, "sessions").await?.into_std()?;
        tasks.spawn(sessions(listener, issuer, name, operator.context()));
    }
    tokio::spawn(health::until_webhook_answers(Arc::clone(&ready), arguments.webhook_address.clone()));
    tasks.spawn(operator.run(move || ready.synced.store(true, Ordering::Relaxed)));

    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "started");
    tokio::select! {
        _ = terminate.recv() => tracing::info!("asked to stop"),
        _ = interrupt.recv() => tracing::info!("interrupted"),
        Some(ended) = tasks.join_next() => return Err(match ended {
            Ok(error) => error,
            Err(error) => anyhow::anyhow!("a task panicked: {error}"),
        }),
    }
    // No more work from here on, and then somebody else's turn at once.
    tasks.shutdown().await;
    if let Some(candidate) = &candidate {
        let _ = tokio::time::timeout(LAST_WORD, election::resign(client, candidate)).await;
    }
    Ok(())
}

/// Serves sessions as soon as there is a certificate.
async fn sessions(
    listener: std::net::TcpListener,
    issuer: Issuer,
    name: String,
    context: Arc<Context>,
) -> anyhow::Error {
    let trust = match Trust::start(&issuer, &context.client, vec![name]).await {
        Ok(trust) => Arc::new(trust),
        Err(error) => return error.context("the certificate of the sessions endpoint"),
    };
    tokio::select! {
        error = serve(listener, context, Arc::clone(&trust)) => error,
        error = trust.keep() => error,
        _ = Arc::clone(&trust.serving).keep_fresh(jiff::Timestamp::now) => anyhow::anyhow!("the certificate of sessions is not kept"),
    }
}
