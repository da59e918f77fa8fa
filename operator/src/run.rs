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
use crate::clock::Clock;
use crate::health::Ready;
use crate::operator::{Operator, Settings};
use crate::{client, health, telemetry, uninstall};

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
            uninstall::run(&client::connect().await?, &arguments).await
        }
    }
}

async fn run(arguments: &Run) -> anyhow::Result<()> {
    let probes = health::bind(arguments.health_probe_bind_address, "health").await?;
    let metrics = health::bind(arguments.metrics_bind_address, "metrics").await?;
    let client = client::connect().await?;
    let instance =
        std::fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|name| name.trim().to_owned());
    let settings = Settings { concurrency: arguments.concurrency, instance, clock: Clock::Machine };
    let operator = Operator::new(&client, settings);
    let ready = Arc::new(Ready::default());

    let mut tasks: JoinSet<anyhow::Error> = JoinSet::new();
    let served = |outcome: std::io::Result<()>| match outcome {
        Ok(()) => anyhow::anyhow!("a server ended"),
        Err(error) => error.into(),
    };
    let router = health::probes(Arc::clone(&ready));
    tasks.spawn(async move { served(axum::serve(probes, router).await) });
    let router = health::metrics(operator.telemetry());
    tasks.spawn(async move { served(axum::serve(metrics, router).await) });
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
    Ok(())
}
