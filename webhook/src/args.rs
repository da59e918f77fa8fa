//! The command line, as the chart writes it.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{ArgAction, Parser, ValueEnum};
use jiff::SignedDuration;

use crate::sessions::Fence;
use crate::telemetry::LogFormat;
use crate::waiter::Settings;

/// Injects Konductor's waiter into annotated pods.
#[derive(Clone, Debug, Parser)]
#[command(version)]
pub struct Args {
    /// Where admission is served, over TLS
    #[arg(long, default_value = "[::]:9443")]
    pub listen: SocketAddr,
    /// Where /healthz, /readyz and /metrics are served
    #[arg(long, default_value = "[::]:8081")]
    pub health_listen: SocketAddr,
    /// The image that is injected into waiting pods
    #[arg(long)]
    pub waiter_image: String,
    /// When a node pulls that image
    #[arg(long, default_value = "IfNotPresent")]
    pub waiter_pull_policy: PullPolicy,
    /// The Secret, in the namespace of the pod, with which a node pulls that image
    #[arg(long)]
    pub waiter_pull_secret: Option<String>,
    /// CPU of the injected container, as request and as limit
    #[arg(long, default_value = "100m", value_parser = quantity)]
    pub waiter_cpu: String,
    /// Memory of the injected container, as request and as limit
    #[arg(long, default_value = "16Mi", value_parser = quantity)]
    pub waiter_memory: String,
    /// Whether pods may wait at a scheduling gate: only where the operator may lift it
    #[arg(long, default_value_t = true, action = ArgAction::Set, value_name = "BOOL")]
    pub scheduling_gates: bool,
    /// Whether Jobs may wait suspended: only where the operator may resume them
    #[arg(long, default_value_t = true, action = ArgAction::Set, value_name = "BOOL")]
    pub suspends: bool,
    /// Where the operator listens to sidecars, as host:port; without it none is injected
    #[arg(long, value_parser = address)]
    pub sessions: Option<String>,
    /// Whether a sidecar that can renew no more starts its whole pod again: auto means from Kubernetes 1.36 on
    #[arg(long, default_value = "auto")]
    pub fence: Fence,
    /// The namespace that this process runs in
    #[arg(long)]
    pub namespace: String,
    /// The Service through which the API server comes
    #[arg(long)]
    pub service_name: String,
    /// The Secret that holds the certificate authority
    #[arg(long, required_unless_present = "tls_directory")]
    pub ca_secret: Option<String>,
    /// The folder into which somebody else, cert-manager for instance, puts tls.crt and tls.key; caBundle is theirs then, too
    #[arg(long, conflicts_with_all = ["ca_secret", "leaf_life", "ca_overlap"])]
    pub tls_directory: Option<PathBuf>,
    /// The `MutatingWebhookConfiguration` whose caBundle is kept
    #[arg(long)]
    pub webhook_configuration: String,
    /// The `ValidatingWebhookConfiguration` whose caBundle is kept; without it, templates are not checked
    #[arg(long)]
    pub validating_configuration: Option<String>,
    /// How long a serving certificate lives; it is replaced after two thirds of it
    #[arg(long, default_value = "720h", value_parser = leaf_life)]
    pub leaf_life: SignedDuration,
    /// How long two CAs are trusted beside each other before the new one signs, and after the old one has
    #[arg(long, default_value = "10m", value_parser = ca_overlap)]
    pub ca_overlap: SignedDuration,
    /// error, warn, info, debug or trace
    #[arg(long, default_value = "info")]
    pub log_level: String,
    /// How the log is written
    #[arg(long, default_value = "json")]
    pub log_format: LogFormat,
}

/// As in a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
pub enum PullPolicy {
    /// Always.
    Always,
    /// Only what a node lacks.
    IfNotPresent,
    /// Never.
    Never,
}

/// Long enough that each replica has a good one while the next is made.
fn leaf_life(text: &str) -> Result<SignedDuration, String> {
    at_least(SignedDuration::from_secs(30), text)
}

/// Long enough that each replica has seen the next CA, within half a minute, and issued a leaf of it, within another.
fn ca_overlap(text: &str) -> Result<SignedDuration, String> {
    at_least(SignedDuration::from_mins(2), text)
}

fn at_least(least: SignedDuration, text: &str) -> Result<SignedDuration, String> {
    let time: SignedDuration = text.parse().map_err(|error| format!("{error}"))?;
    if time < least { Err(format!("it is {least:#} at least")) } else { Ok(time) }
}

impl Args {
    /// What concerns the injected containers. What sidecars must know besides is found out: see [`crate::sessions`].
    pub fn settings(&self) -> Settings {
        let pull_policy = match self.waiter_pull_policy {
            PullPolicy::Always => "Always",
            PullPolicy::IfNotPresent => "IfNotPresent",
            PullPolicy::Never => "Never",
        };
        Settings {
            image: self.waiter_image.clone(),
            pull_policy: pull_policy.to_owned(),
            pull_secret: self.waiter_pull_secret.clone().filter(|name| !name.is_empty()),
            cpu: self.waiter_cpu.clone(),
            memory: self.waiter_memory.clone(),
            scheduling_gates: self.scheduling_gates,
            suspends: self.suspends,
            sessions: None,
        }
    }

    /// The names that the certificate is good for; the API server uses the first.
    pub fn dns_names(&self) -> Vec<String> {
        let short = format!("{}.{}", self.service_name, self.namespace);
        vec![format!("{short}.svc"), format!("{short}.svc.cluster.local"), short, self.service_name.clone()]
    }
}

fn address(text: &str) -> Result<String, String> {
    let right = text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && !host.contains(['/', ' ']) && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    if right {
        Ok(text.to_owned())
    } else {
        Err("write it like konductor-sessions.konductor-system.svc:443".to_owned())
    }
}

/// A wrong one would make every pod invalid that we touch, so it is told at the start.
fn quantity(text: &str) -> Result<String, String> {
    let number = text.trim_end_matches(|character: char| character.is_ascii_alphabetic());
    let suffix = &text[number.len()..];
    let known = ["", "m", "k", "M", "G", "T", "Ki", "Mi", "Gi", "Ti"].contains(&suffix);
    let decimal = number.parse::<f64>().is_ok_and(|value| value > 0.0)
        && number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if known && decimal { Ok(text.to_owned()) } else { Err("write it like 100m or 16Mi".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(more: &[&str]) -> Result<Args, clap::Error> {
        let chart = [
            "konductor-webhook",
            "--listen=[::]:9443",
            "--health-listen=[::]:8081",
            "--waiter-image=localhost/konductor-waiter:0.1.0",
            "--waiter-pull-policy=IfNotPresent",
            "--namespace=konductor-system",
            "--service-name=konductor-webhook",
            "--ca-secret=konductor-ca",
            "--webhook-configuration=konductor",
            "--log-level=info",
        ];
        Args::try_parse_from(chart.iter().chain(more))
    }

    #[test]
    fn what_the_chart_passes_is_understood() {
        let args = parsed(&["--waiter-cpu=50m", "--waiter-memory=32Mi", "--log-format=text"]).unwrap();
        assert_eq!(args.dns_names()[0], "konductor-webhook.konductor-system.svc");
        let settings = args.settings();
        assert_eq!((settings.cpu.as_str(), settings.memory.as_str()), ("50m", "32Mi"));
        assert_eq!(settings.pull_policy, "IfNotPresent");
        assert!(settings.scheduling_gates);
        assert!(!parsed(&["--scheduling-gates=false"]).unwrap().settings().scheduling_gates);
        assert!(settings.suspends && !parsed(&["--suspends=false"]).unwrap().settings().suspends);
    }

    #[test]
    fn certificates_are_our_own_or_somebody_elses() {
        assert_eq!(parsed(&[]).unwrap().ca_secret.as_deref(), Some("konductor-ca"));
        assert!(parsed(&["--tls-directory=/tls"]).is_err(), "both");
        let others =
            ["x", "--waiter-image=w", "--namespace=n", "--service-name=s", "--webhook-configuration=c"];
        assert!(Args::try_parse_from(others).is_err(), "neither");
        let args = Args::try_parse_from(others.iter().chain(&["--tls-directory=/tls"])).unwrap();
        assert_eq!((args.ca_secret, args.tls_directory), (None, Some("/tls".into())));
    }

    #[test]
    fn the_defaults_are_those_of_the_chart() {
        let settings = parsed(&[]).unwrap().settings();
        assert_eq!((settings.cpu.as_str(), settings.memory.as_str()), ("100m", "16Mi"));
        assert!(parsed(&["--waiter-pull-policy=Sometimes"]).is_err());
    }

    #[test]
    fn sidecars_are_told_a_host_and_a_port() {
        let args = parsed(&["--sessions=konductor-sessions.konductor-system.svc:443"]).unwrap();
        assert_eq!(args.sessions.as_deref(), Some("konductor-sessions.konductor-system.svc:443"));
        assert_eq!(args.fence, Fence::Auto);
        assert_eq!(parsed(&["--fence=never"]).unwrap().fence, Fence::Never);
        assert!(parsed(&[]).unwrap().sessions.is_none());
        for wrong in ["host", ":443", "host:0", "https://host:443", "host:https"] {
            assert!(parsed(&[&format!("--sessions={wrong}")]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_quantity_that_no_pod_could_have_is_refused_at_the_start() {
        for wrong in ["", "16MB", "Mi", "-1", "1e3x", "0", "a lot", "inf"] {
            assert!(parsed(&[&format!("--waiter-memory={wrong}")]).is_err(), "{wrong}");
        }
        for right in ["1", "0.5", "100m", "16Mi", "1G"] {
            assert!(parsed(&[&format!("--waiter-cpu={right}")]).is_ok(), "{right}");
        }
    }
}
