//! The mutating admission webhook: parse, plan, patch.

use std::process::ExitCode;

use clap::Parser;
use konductor_webhook::{args::Args, run::run, telemetry::start_log};

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    // One provider, chosen once: with none, or with two, the first TLS connection would fail.
    let provider = rustls::crypto::ring::default_provider().install_default();
    let started = start_log(&args.log_level, args.log_format);
    let ended = match (provider, started) {
        (Err(_), _) => Err(anyhow::anyhow!("a TLS provider was installed before ours")),
        (_, Err(error)) => Err(error),
        _ => run(args).await,
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
