//! The rule of each kind: where the generic reconcile meets `konductor-primitives`, and a primitive of any kind as it
//! was read.
//!
//! Nothing but wiring. A new kind is a line in each of the two tables below.

use std::fmt::Debug;
use std::sync::Arc;

use konductor_api::barrier::{Barrier, BarrierPhase, BarrierStatus};
use konductor_api::claim::LEASE_TTL;
use konductor_api::duration::GoDuration;
use konductor_api::gate::{Gate, GateStatus};
use konductor_api::lease::{Lease, LeaseStatus};
use konductor_api::ledger::{self, Holder, Release, Status};
use konductor_api::members::MemberKey;
use konductor_api::mutex::{Mutex, MutexStatus};
use konductor_api::once::{Once, OnceStatus};
use konductor_api::participation::{Entry, Kind, PrimitiveRef, Role};
use konductor_api::rwmutex::{RWMutex, RWMutexStatus};
use konductor_api::semaphore::{Semaphore, SemaphoreStatus};
use konductor_api::waitgroup::{WaitGroup, WaitGroupStatus};
use konductor_primitives::claim::Defaults;
use konductor_primitives::committed::Committed;
use konductor_primitives::facts::PodFacts;
use konductor_primitives::invariants::Violation;
use konductor_primitives::looked::Target;
use konductor_primitives::snapshot::Snapshot;
use konductor_primitives::step::Step;
use konductor_primitives::{barrier, gate, lease, mutex, once, rwmutex, semaphore, waitgroup};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::caches::{Caches, Shelf};
use crate::client::{CallError, call};

/// A kind of primitive.
pub(crate) trait Rule:
    kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + DeserializeOwned
    + Serialize
    + Send
    + Sync
    + 'static
{
    type Status: Status + Debug + PartialEq + Serialize + Send + Sync;
    const KIND: Kind;

    fn shelf(caches: &Caches) -> &Shelf<Self>;
    fn status(&self) -> Option<&Self::Status>;
    fn step(snapshot: &Snapshot<Self>) -> Step<Self::Status>;
    fn check(&self, after: &Self::Status) -> Result<(), Violation>;
    fn read(object: Arc<Self>) -> Read;
    fn committed(&self) -> Committed<'_>;

    /// Who holds; empty for kinds that nobody holds.
    fn holders(&self) -> &[Holder] {
        &[]
    }

    /// The last holds that ended.
    fn history(&self) -> &[Release] {
        &[]
    }

    /// What it looks at.
    fn targets(&self) -> Vec<Target> {
        Vec::new()
    }

    /// How long nothing may be heard of a pod that holds it.
    fn ttl(&self) -> Option<GoDuration> {
        None
    }

    /// What those get who say nothing of it.
    fn defaults(&self) -> Defaults {
        Defaults::default()
    }
}

/// A primitive as it was read.
#[derive(Clone, Debug)]
pub(crate) enum Read {
    Missing,
    Gate(Arc<Gate>),
    WaitGroup(Arc<WaitGroup>),
    Barrier(Arc<Barrier>),
    Semaphore(Arc<Semaphore>),
    RWMutex(Arc<RWMutex>),
    Mutex(Arc<Mutex>),
    Lease(Arc<Lease>),
    Once(Arc<Once>),
}

/// The same expression for the type that belongs to a kind.
macro_rules! of_kind {
    ($kind:expr, $type:ident => $body:expr) => {
        match $kind {
            konductor_api::participation::Kind::Gate => {
                type $type = konductor_api::gate::Gate;
                $body
            }
            konductor_api::participation::Kind::WaitGroup => {
                type $type = konductor_api::waitgroup::WaitGroup;
                $body
            }
            konductor_api::participation::Kind::Barrier => {
                type $type = konductor_api::barrier::Barrier;
                $body
            }
            konductor_api::participation::Kind::Semaphore => {
                type $type = konductor_api::semaphore::Semaphore;
                $body
            }
            konductor_api::participation::Kind::RWMutex => {
                type $type = konductor_api::rwmutex::RWMutex;
                $body
            }
            konductor_api::participation::Kind::Mutex => {
                type $type = konductor_api::mutex::Mutex;
                $body
            }
            konductor_api::participation::Kind::Lease => {
                type $type = konductor_api::lease::Lease;
                $body
            }
            konductor_api::participation::Kind::Once => {
                type $type = konductor_api::once::Once;
                $body
            }
        }
    };
}
pub(crate) use of_kind;

macro_rules! rule {
    ($kind:ident, $status:ty, $module:ident, $shelf:ident $(, $extra:item)*) => {
        impl Rule for $kind {
            type Status = $status;
            const KIND: Kind = Kind::$kind;

            fn shelf(caches: &Caches) -> &Shelf<Self> {
                &caches.$shelf
            }

            fn status(&self) -> Option<&$status> {
                self.status.as_ref()
            }

            fn step(snapshot: &Snapshot<Self>) -> Step<$status> {
                $module::step(snapshot)
            }

            fn check(&self, after: &$status) -> Result<(), Violation> {
                $module::check(self, after)
            }

            fn read(object: Arc<Self>) -> Read {
                Read::$kind(object)
            }

            fn committed(&self) -> Committed<'_> {
                Committed::$kind(self)
            }

            $($extra)*
        }
    };
    (held $kind:ident, $status:ty, $module:ident, $shelf:ident $(, $extra:item)*) => {
        rule!($kind, $status, $module, $shelf,
            fn holders(&self) -> &[Holder] {
                ledger::holders(self.status.as_ref())
            },
            fn history(&self) -> &[Release] {
                self.status.as_ref().map(|status| status.ledger.history.as_slice()).unwrap_or_default()
            }
            $(, $extra)*
        );
    };
    (lasting $kind:ident, $status:ty, $module:ident, $shelf:ident) => {
        rule!(held $kind, $status, $module, $shelf,
            fn ttl(&self) -> Option<GoDuration> {
                self.spec.ttl
            },
            fn defaults(&self) -> Defaults {
                Defaults { ttl: self.spec.ttl, ..Defaults::default() }
            }
        );
    };
}

rule!(
    Gate,
    GateStatus,
    gate,
    gates,
    fn targets(&self) -> Vec<Target> {
        self.spec.conditions.iter().filter_map(Target::of).collect()
    }
);
rule!(WaitGroup, WaitGroupStatus, waitgroup, waitgroups);
rule!(Barrier, BarrierStatus, barrier, barriers);
rule!(lasting Semaphore, SemaphoreStatus, semaphore, semaphores);
rule!(lasting RWMutex, RWMutexStatus, rwmutex, rwmutexes);
rule!(lasting Mutex, MutexStatus, mutex, mutexes);
rule!(held Lease, LeaseStatus, lease, leases,
    fn ttl(&self) -> Option<GoDuration> {
        self.spec.ttl
    },
    fn defaults(&self) -> Defaults {
        Defaults { priority: self.spec.priority.unwrap_or(0), ttl: self.spec.ttl.or(Some(LEASE_TTL)) }
    }
);
rule!(held Once, OnceStatus, once, onces);

impl Read {
    /// As the caches have it.
    pub(crate) fn cached(caches: &Caches, namespace: &str, primitive: &PrimitiveRef) -> Self {
        of_kind!(primitive.kind, P => P::shelf(caches).get(namespace, &primitive.name).map(P::read))
            .unwrap_or(Self::Missing)
    }

    /// As the API server itself has it.
    pub(crate) async fn fetch(
        client: &Client,
        namespace: &str,
        primitive: &PrimitiveRef,
    ) -> Result<Self, CallError> {
        let client = client.clone();
        let found = of_kind!(primitive.kind, P => {
            let api: Api<P> = Api::namespaced(client, namespace);
            call(api.get_opt(&primitive.name)).await?.map(|object| P::read(Arc::new(object)))
        });
        Ok(found.unwrap_or(Self::Missing))
    }

    pub(crate) fn committed(&self) -> Committed<'_> {
        match self {
            Self::Missing => Committed::Missing,
            Self::Gate(object) => object.committed(),
            Self::WaitGroup(object) => object.committed(),
            Self::Barrier(object) => object.committed(),
            Self::Semaphore(object) => object.committed(),
            Self::RWMutex(object) => object.committed(),
            Self::Mutex(object) => object.committed(),
            Self::Lease(object) => object.committed(),
            Self::Once(object) => object.committed(),
        }
    }

    /// Must the object of that pod stay, because something of it is not written down yet, or because it is in the ledger?
    pub(crate) fn needs(&self, entry: &Entry<'_>, pod: &PodFacts) -> bool {
        let holders = match self {
            Self::Semaphore(object) => object.holders(),
            Self::RWMutex(object) => object.holders(),
            Self::Mutex(object) => object.holders(),
            Self::Lease(object) => object.holders(),
            Self::Once(object) => object.holders(),
            Self::WaitGroup(object) => {
                let open = object.status.as_ref().map(|status| &status.open);
                return !entry.by_job && open.is_some_and(|open| open.contains(&pod.member()));
            }
            Self::Barrier(object) => {
                let status = object.status.as_ref();
                let filling = status.is_none_or(|status| {
                    status.phase != Some(BarrierPhase::Open) && status.phase != Some(BarrierPhase::Failed)
                });
                let by_uid = MemberKey::Pod { name: pod.name.clone(), uid: pod.uid.clone() };
                let counted = status.is_some_and(|status| {
                    status.succeeded.contains(&pod.member()) || status.passed.contains(&by_uid)
                });
                let succeeded = pod.terminal.is_some_and(|end| end.success);
                return entry.role == Role::Arrive && !entry.by_job && filling && succeeded && !counted;
            }
            Self::Missing | Self::Gate(_) => &[],
        };
        holders.iter().any(|holder| holder.uid == pod.uid || holder.told(&pod.uid).is_some())
    }
}
