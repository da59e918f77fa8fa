//! Telemetry: logs and metrics.
//!
//! What must stay true: labels are bounded (kinds, grades, categories; never names of users' objects).

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use konductor_api::ledger::Holder;
use konductor_api::participation::Kind;
use konductor_primitives::invariants::Violation;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::args::LogFormat;
use crate::client::Requests;
use crate::index::Key;

/// What a write to the API server was for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Write {
    Ledger,
    Queue,
    Grant,
    Withdraw,
    Finalizer,
    Gate,
    Condition,
    Job,
    Claim,
    Nudge,
    Lost,
    Renewal,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct What {
    what: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfKind {
    kind: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfCategory {
    kind: &'static str,
    category: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfInvariant {
    invariant: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Version {
    version: &'static str,
}

type Durations = Family<OfKind, Histogram, fn() -> Histogram>;

/// All metrics.
pub(crate) struct Telemetry {
    registry: Registry,
    writes: Family<What, Counter>,
    reconciles: Durations,
    errors: Family<OfCategory, Counter>,
    violations: Family<OfInvariant, Counter>,
    acquisitions: Family<OfKind, Counter>,
    releases: Family<OfKind, Counter>,
    waits: Durations,
    holds: Durations,
    leader: Gauge<i64, std::sync::atomic::AtomicI64>,
}

fn fast() -> Histogram {
    Histogram::new([0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2.0, 10.0])
}

fn slow() -> Histogram {
    Histogram::new([0.1, 1.0, 5.0, 15.0, 60.0, 300.0, 1_800.0, 7_200.0, 28_800.0, 86_400.0])
}

fn kind_of(key: &Key) -> &'static str {
    match key {
        Key::Primitive(_, primitive) => primitive.kind.api_kind(),
        Key::Pod(_) => "Pod",
    }
}

impl Telemetry {
    pub(crate) fn new(requests: Requests) -> Self {
        let telemetry = Self {
            registry: Registry::with_prefix("konductor"),
            writes: Family::default(),
            reconciles: Family::new_with_constructor(fast),
            errors: Family::default(),
            violations: Family::default(),
            acquisitions: Family::default(),
            releases: Family::default(),
            waits: Family::new_with_constructor(slow),
            holds: Family::new_with_constructor(slow),
            leader: Gauge::default(),
        };
        telemetry.registered(requests)
    }

    fn registered(mut self, requests: Requests) -> Self {
        let registry = &mut self.registry;
        registry.register(
            "api_writes",
            "Writes to the API server, by what: ledger, queue, grant, withdraw, finalizer, gate, condition, job, claim, nudge, lost (a pod deleted after its ttl), renewal",
            self.writes.clone(),
        );
        registry.register(
            "reconcile_duration_seconds",
            "Time of one reconcile, by kind: Gate, Mutex, Pod (its finalizer)",
            self.reconciles.clone(),
        );
        registry.register(
            "reconcile_errors",
            "Reconciles that have to be tried again, by kind and category: Api, Timeout, Invariant, Unsettled",
            self.errors.clone(),
        );
        registry.register(
            "invariant_violations",
            "Writes that were refused because they would break an invariant; anything but 0 is a bug",
            self.violations.clone(),
        );
        registry.register("acquisitions", "Holds that were granted, by kind", self.acquisitions.clone());
        registry.register("releases", "Holds that ended, by kind", self.releases.clone());
        registry.register(
            "wait_duration_seconds",
            "From the queue stamp to the grant of a hold, by kind",
            self.waits.clone(),
        );
        registry.register(
            "hold_duration_seconds",
            "From the grant of a hold to its release, by kind",
            self.holds.clone(),
        );
        registry.register(
            "api_requests",
            "Requests to the API server, by verb; watches once when they begin",
            requests.0,
        );
        registry.register("leader", "1 if this replica works, 0 if it stands by", self.leader.clone());
        let info: Family<Version, Gauge<i64, std::sync::atomic::AtomicI64>> = Family::default();
        info.get_or_create(&Version { version: env!("CARGO_PKG_VERSION") }).set(1);
        registry.register("build_info", "1, with the version", info);
        self
    }

    pub(crate) fn wrote(&self, write: Write) {
        let what = match write {
            Write::Ledger => "ledger",
            Write::Queue => "queue",
            Write::Grant => "grant",
            Write::Withdraw => "withdraw",
            Write::Finalizer => "finalizer",
            Write::Gate => "gate",
            Write::Condition => "condition",
            Write::Job => "job",
            Write::Claim => "claim",
            Write::Nudge => "nudge",
            Write::Lost => "lost",
            Write::Renewal => "renewal",
        };
        self.writes.get_or_create(&What { what }).inc();
    }

    pub(crate) fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    pub(crate) fn reconciled(&self, key: &Key, took: Duration) {
        self.reconciles.get_or_create(&OfKind { kind: kind_of(key) }).observe(took.as_secs_f64());
    }

    pub(crate) fn failed(&self, key: &Key, category: &'static str) {
        self.errors.get_or_create(&OfCategory { kind: kind_of(key), category }).inc();
    }

    pub(crate) fn violated(&self, violation: &Violation) {
        self.violations.get_or_create(&OfInvariant { invariant: violation.invariant }).inc();
    }

    pub(crate) fn acquired(&self, kind: Kind, since: Timestamp) {
        let kind = OfKind { kind: kind.api_kind() };
        self.acquisitions.get_or_create(&kind).inc();
        self.waits.get_or_create(&kind).observe(elapsed(since));
    }

    pub(crate) fn released(&self, kind: Kind, holder: &Holder) {
        let kind = OfKind { kind: kind.api_kind() };
        self.releases.get_or_create(&kind).inc();
        self.holds.get_or_create(&kind).observe(elapsed(holder.granted_at.0));
    }

    /// In the text format of Prometheus.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        if prometheus_client::encoding::text::encode(&mut text, &self.registry).is_err() {
            let _ = writeln!(text, "# EOF");
        }
        text
    }
}

fn elapsed(since: Timestamp) -> f64 {
    Timestamp::now().duration_since(since).as_secs_f64().max(0.0)
}

/// Logs to standard output, from here on.
pub(crate) fn log(level: &str, format: LogFormat) -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_new(level).with_context(|| {
        format!("--log-level {level:?} is no level (error, warn, info, debug, trace) and no filter")
    })?;
    let logs = tracing_subscriber::fmt().with_env_filter(filter);
    match format {
        LogFormat::Json => logs.json().flatten_event(true).init(),
        LogFormat::Text => logs.init(),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_counted_by_what_they_were_for() {
        let telemetry = Telemetry::new(Requests::default());
        telemetry.wrote(Write::Ledger);
        telemetry.wrote(Write::Ledger);
        telemetry.wrote(Write::Grant);
        let text = telemetry.text();
        assert!(text.contains("konductor_api_writes_total{what=\"ledger\"} 2"), "{text}");
        assert!(text.contains("konductor_api_writes_total{what=\"grant\"} 1"), "{text}");
        assert!(text.contains("konductor_build_info{version="), "{text}");
    }
}
