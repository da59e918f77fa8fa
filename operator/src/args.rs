//! The command line.

use std::net::{AddrParseError, SocketAddr};
use std::path::PathBuf;

use clap::{ArgAction, Parser, Subcommand, ValueEnum};

use crate::election::{self, Candidate};
use crate::sessions::trust::Issuer;

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
    Run(Box<Run>),
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
    /// The namespace that this process runs in
    #[arg(long)]
    pub namespace: Option<String>,
    /// The coordination Lease in that namespace by which one of several replicas is the leader, who works; without it this one
    /// works at once
    #[arg(long, requires = "namespace")]
    pub leader_election_lease: Option<String>,
    /// Where sidecars renew holds that have a ttl, over TLS, e.g. :9444; without it none can
    #[arg(long, value_parser = address, requires = "sessions_service", requires = "namespace")]
    pub sessions_bind_address: Option<SocketAddr>,
    /// The Service through which they come
    #[arg(long)]
    pub sessions_service: Option<String>,
    /// The Secret in that namespace that holds the certificate authority of the webhook; it issues for sessions, too
    #[arg(long)]
    pub ca_secret: Option<String>,
    /// The folder into which somebody else, cert-manager for instance, puts tls.crt, tls.key and ca.crt for sessions
    #[arg(long, conflicts_with = "ca_secret")]
    pub sessions_tls_directory: Option<PathBuf>,
    /// error, warn, info, debug, trace, or a filter like `info,konductor_operator=debug`
    #[arg(long, default_value = "info")]
    pub log_level: String,
    /// How log lines look
    #[arg(long, default_value = "json")]
    pub log_format: LogFormat,
    /// Whether pods may be lost to silence, where a primitive has a ttl: they are deleted then, which needs the right to
    #[arg(long, default_value_t = true, action = ArgAction::Set, value_name = "BOOL")]
    pub loses_pods: bool,
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

impl Run {
    /// Who issues for sessions, and for which name; nobody where none are served.
    pub(crate) fn issuer(&self) -> anyhow::Result<Option<(Issuer, String)>> {
        if self.sessions_bind_address.is_none() {
            return Ok(None);
        }
        let (namespace, service) = (self.namespace.clone(), self.sessions_service.clone());
        let (namespace, service) = (namespace.unwrap_or_default(), service.unwrap_or_default());
        let name = format!("{service}.{namespace}.svc");
        let issuer = match (&self.sessions_tls_directory, &self.ca_secret) {
            (Some(directory), _) => Issuer::Others(directory.clone()),
            (None, Some(secret)) => Issuer::Own { namespace, secret: secret.clone() },
            (None, None) => anyhow::bail!(
                "--sessions-bind-address needs a certificate: --ca-secret or --sessions-tls-directory says where it comes from"
            ),
        };
        Ok(Some((issuer, name)))
    }

    /// As whom this process runs for leader, if there is a race.
    pub(crate) fn candidate(&self, instance: Option<&str>) -> Option<Candidate> {
        Some(Candidate {
            namespace: self.namespace.clone()?,
            lease: self.leader_election_lease.clone()?,
            identity: election::identity(instance),
        })
    }
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
            "--namespace=konductor-system",
            "--leader-election-lease=konductor-controller-manager",
            "--sessions-bind-address=:9444",
            "--sessions-service=konductor-sessions",
            "--ca-secret=konductor-webhook-ca",
            "--loses-pods=true",
            "--log-level=info",
            "--log-format=json",
        ]);
        assert!(parsed.is_ok());
    }
}
