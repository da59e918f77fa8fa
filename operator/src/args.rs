//! The command line.

use std::net::{AddrParseError, SocketAddr};

use clap::{Parser, Subcommand, ValueEnum};

/// Konductor's operator.
#[derive(Debug, Parser)]
#[command(name = "konductor-operator", version)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Keep ledgers and tell waiters, until asked to stop
    Run(Run),
    /// Before an uninstall: stop the operator, lift our finalizers, say who still waits
    Uninstall(Uninstall),
}

/// Flags of `run`.
#[derive(Clone, Debug, clap::Args)]
pub struct Run {
    /// Where metrics are served, e.g. :8080
    #[arg(long, default_value = ":8080", value_parser = address)]
    pub metrics_bind_address: SocketAddr,
    /// Where /healthz and /readyz are served, e.g. :8081
    #[arg(long, default_value = ":8081", value_parser = address)]
    pub health_probe_bind_address: SocketAddr,
    /// Where the API server reaches the webhook, e.g. konductor-webhook.konductor-system.svc:443; not ready until
    /// something answered there once
    #[arg(long)]
    pub webhook_address: Option<String>,
    /// error, warn, info, debug, trace, or a filter like `info,konductor_operator=debug`
    #[arg(long, default_value = "info")]
    pub log_level: String,
    /// How log lines look
    #[arg(long, default_value = "json")]
    pub log_format: LogFormat,
    /// How many primitives are worked on at once
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub concurrency: u16,
}

/// Flags of `uninstall`.
#[derive(Clone, Debug, clap::Args)]
pub struct Uninstall {
    /// Namespace of the operator's Deployment
    #[arg(long)]
    pub namespace: String,
    /// Its name
    #[arg(long)]
    pub deployment: String,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// `:8080` is every address of the machine, as Go programs have it.
fn address(text: &str) -> Result<SocketAddr, AddrParseError> {
    match text.strip_prefix(':') {
        Some(port) => format!("[::]:{port}").parse(),
        None => text.parse(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_be_a_port_alone() {
        assert_eq!(address(":8080").unwrap().port(), 8080);
        assert_eq!(address("127.0.0.1:1").unwrap().to_string(), "127.0.0.1:1");
        assert!(address("8080").is_err());
    }

    #[test]
    fn the_flags_of_the_chart_are_known() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
        let parsed = Arguments::try_parse_from([
            "konductor-operator",
            "run",
            "--metrics-bind-address=:8080",
            "--health-probe-bind-address=:8081",
            "--webhook-address=konductor-webhook.konductor-system.svc:443",
            "--log-level=info",
            "--log-format=json",
        ]);
        assert!(parsed.is_ok());
    }
}
