//! Primitives of whatever kind, and their real steps.
//!
//! Nothing but wiring, as in the operator.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use konductor_api::barrier::Barrier;
use konductor_api::claim::LEASE_TTL;
use konductor_api::gate::{Gate, GateOverride};
use konductor_api::lease::Lease;
use konductor_api::mutex::Mutex;
use konductor_api::once::Once;
use konductor_api::participation::Kind;
use konductor_api::rwmutex::RWMutex;
use konductor_api::semaphore::Semaphore;
use konductor_api::waitgroup::WaitGroup;
use konductor_primitives::claim::Defaults;
use konductor_primitives::committed::Committed;
use konductor_primitives::looked::{Looked, Target};
use konductor_primitives::snapshot::{Participant, Snapshot};
use konductor_primitives::step::{Lookup, Withdrawal};
use konductor_primitives::{barrier, gate, lease, mutex, once, rwmutex, semaphore, waitgroup};
use serde_json::Value;

/// What a step needs besides the primitive.
pub(super) struct Seen {
    pub(super) participants: Vec<Participant>,
    pub(super) objects: BTreeMap<Target, Looked>,
    pub(super) absent: BTreeSet<String>,
    pub(super) fresh: BTreeSet<String>,
    pub(super) now: Timestamp,
}

/// What came of it.
pub(super) struct Stepped {
    /// Status before and after, if it changed.
    pub(super) change: Option<(Value, Value)>,
    pub(super) lookups: Vec<Lookup>,
    pub(super) withdrawals: Vec<Withdrawal>,
    /// Who waits, by UID, the next one first.
    pub(super) line: Vec<String>,
    pub(super) wake_at: Option<Timestamp>,
}

macro_rules! kinds {
    ($($kind:ident $module:ident),* $(,)?) => {
        /// A primitive.
        pub(super) enum Object {
            $($kind(Box<$kind>),)*
        }

        impl Object {
            /// Reads one.
            pub(super) fn read(kind: Kind, value: &Value) -> Result<Self, String> {
                let said = |error: serde_json::Error| error.to_string();
                match kind {
                    $(Kind::$kind => {
                        let mut object: $kind = serde_json::from_value(value.clone()).map_err(said)?;
                        object.status = None;
                        object.metadata.uid = Some(format!("{}/{}", kind.lower(), object.metadata.name.clone().unwrap_or_default()));
                        object.metadata.resource_version = Some("1".to_owned());
                        object.metadata.generation = Some(1);
                        Ok(Self::$kind(Box::new(object)))
                    })*
                }
            }

            pub(super) fn committed(&self) -> Committed<'_> {
                match self {
                    $(Self::$kind(object) => Committed::$kind(object),)*
                }
            }

            /// One step; what it says is written, if it breaks no invariant.
            pub(super) fn step(&mut self, seen: Seen) -> Result<Stepped, String> {
                match self {
                    $(Self::$kind(object) => {
                        let snapshot = Snapshot {
                            primitive: (**object).clone(),
                            participants: seen.participants,
                            objects: seen.objects,
                            owners: BTreeMap::new(),
                            strays: Vec::new(),
                            outlived: BTreeSet::new(),
                            fresh: seen.fresh,
                            absent: seen.absent,
                            now: seen.now,
                        };
                        let step = $module::step(&snapshot);
                        let line = step.order.iter().filter_map(|at| snapshot.participants.get(*at)).map(|who| who.uid.clone());
                        let mut stepped = Stepped {
                            change: None,
                            line: line.collect(),
                            lookups: step.lookups,
                            withdrawals: step.withdrawals,
                            wake_at: step.wake_at,
                        };
                        let waits = !stepped.lookups.is_empty() || !stepped.withdrawals.is_empty();
                        if !waits && object.status.as_ref() != Some(&step.status) {
                            $module::check(object, &step.status).map_err(|violation| violation.to_string())?;
                            let value = |status: &_| serde_json::to_value(status).unwrap_or_default();
                            let before = object.status.as_ref().map(value).unwrap_or_default();
                            stepped.change = Some((before, value(&step.status)));
                            object.status = Some(step.status);
                            let version = object.metadata.resource_version.as_deref().and_then(|text| text.parse::<u64>().ok());
                            object.metadata.resource_version = Some((version.unwrap_or(0) + 1).to_string());
                        }
                        Ok(stepped)
                    })*
                }
            }
        }
    };
}

kinds! {
    Gate gate, WaitGroup waitgroup, Barrier barrier, Semaphore semaphore, RWMutex rwmutex, Mutex mutex, Lease lease, Once once,
}

impl Object {
    /// What it looks at.
    pub(super) fn targets(&self) -> Vec<Target> {
        match self {
            Self::Gate(gate) => gate.spec.conditions.iter().filter_map(Target::of).collect(),
            _ => Vec::new(),
        }
    }

    /// What those get who say nothing of it.
    pub(super) fn defaults(&self) -> Defaults {
        match self {
            Self::Lease(lease) => Defaults {
                priority: lease.spec.priority.unwrap_or(0),
                ttl: lease.spec.ttl.or(Some(LEASE_TTL)),
            },
            _ => Defaults::default(),
        }
    }

    /// A person opens a gate.
    pub(super) fn open(&mut self) {
        if let Self::Gate(gate) = self {
            gate.spec.r#override = Some(GateOverride::Open);
            gate.metadata.generation = gate.metadata.generation.map(|generation| generation + 1);
        }
    }
}
