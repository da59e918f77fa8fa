//! What the process tells about itself: the log and the metrics.
//!
//! May touch: standard error, once at the start. What must stay true: labels are bounded (no names, no namespaces), and
//! each admission is one line.

use std::time::Duration;

use clap::ValueEnum;
use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tracing_subscriber::EnvFilter;

use crate::admit::Admission;
use crate::review::Verdict;

/// Content type of the metrics.
pub const METRICS_CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    resource: &'static str,
    result: &'static str,
    dry_run: &'static str,
}

/// The metrics of one process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    duration: Histogram,
    certificate_expiry: Gauge,
}

/// Starts the log. Fails if it has been started, or if the level is none.
pub fn start_log(level: &str, format: LogFormat) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(level)?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Json => log.json().flatten_event(true).try_init(),
        LogFormat::Text => log.try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("the log cannot be started: {error}"))
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let requests = Family::<RequestLabels, Counter>::default();
        let duration = Histogram::new([0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0]);
        let certificate_expiry = Gauge::default();
        registry.register(
            "konductor_webhook_requests",
            "Admission requests by resource (pods, jobs, deployments, statefulsets, daemonsets, replicasets, cronjobs, claims, other) and result (injected, unchanged, opted-out, refused, malformed)",
            requests.clone(),
        );
        registry.register(
            "konductor_webhook_request_duration_seconds",
            "Time from the request's body to the answer",
            duration.clone(),
        );
        registry.register(
            "konductor_certificate_expiry_timestamp_seconds",
            "When the serving certificate ends, in seconds since 1970",
            certificate_expiry.clone(),
        );
        Self { registry, requests, duration, certificate_expiry }
    }
}

impl Metrics {
    /// Counts one admission and writes its line.
    pub fn record(&self, admission: &Admission, took: Duration) {
        let Admission { answer, resource, namespace, name, dry_run } = admission;
        let result = answer.verdict.as_str();
        let dry = if *dry_run { "true" } else { "false" };
        let labels = RequestLabels { resource: resource.as_str(), result, dry_run: dry };
        self.requests.get_or_create(&labels).inc();
        self.duration.observe(took.as_secs_f64());
        let operations = match &answer.verdict {
            Verdict::Injected(patch) => patch.len(),
            _ => 0,
        };
        tracing::info!(
            uid = %answer.uid,
            resource = resource.as_str(),
            namespace = %namespace,
            name = %name,
            dry_run = dry_run,
            decision = result,
            plan = %answer.plan,
            operations,
            warnings = answer.warnings.len(),
            reason = %answer.verdict.message(),
            micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            "admission"
        );
    }

    /// Tells until when the serving certificate is good.
    pub fn set_certificate_expiry(&self, at: Timestamp) {
        self.certificate_expiry.set(at.as_second());
    }

    /// The text that Prometheus reads.
    pub fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}
