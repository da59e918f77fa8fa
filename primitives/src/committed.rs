//! Committed: a primitive of whatever kind, as the API server has it.
//!
//! The one place where a rule of any kind is chosen for what is said *about* a primitive, as the operator chooses it for a
//! step. Pure.

use konductor_api::barrier::{Barrier, BarrierPhase};
use konductor_api::conditions::reason;
use konductor_api::gate::{Gate, GatePhase, GateState};
use konductor_api::lease::Lease;
use konductor_api::ledger::{Holder, Ledger};
use konductor_api::mutex::Mutex;
use konductor_api::once::{Once, OncePhase};
use konductor_api::rwmutex::RWMutex;
use konductor_api::semaphore::Semaphore;
use konductor_api::waitgroup::{WaitGroup, WaitGroupPhase};

use crate::entrance::{Asker, Entrance};
use crate::looked::PrimitiveFacts;
use crate::{barrier, gate, lease, mutex, once, rwmutex, semaphore, waitgroup};

/// A primitive as the API server has it.
#[derive(Clone, Copy, Debug)]
pub enum Committed<'a> {
    /// There is none of that name.
    Missing,
    /// A gate.
    Gate(&'a Gate),
    /// A wait group.
    WaitGroup(&'a WaitGroup),
    /// A barrier.
    Barrier(&'a Barrier),
    /// A semaphore.
    Semaphore(&'a Semaphore),
    /// A `RWMutex`.
    RWMutex(&'a RWMutex),
    /// A mutex.
    Mutex(&'a Mutex),
    /// A lease.
    Lease(&'a Lease),
    /// A once.
    Once(&'a Once),
}

impl<'a> Committed<'a> {
    /// Its ledger; `None` for kinds that nobody holds, and where there is no status yet.
    pub fn ledger(self) -> Option<&'a Ledger> {
        match self {
            Self::Missing | Self::Gate(_) | Self::WaitGroup(_) | Self::Barrier(_) => None,
            Self::Semaphore(object) => object.status.as_ref().map(|status| &status.ledger),
            Self::RWMutex(object) => object.status.as_ref().map(|status| &status.ledger),
            Self::Mutex(object) => object.status.as_ref().map(|status| &status.ledger),
            Self::Lease(object) => object.status.as_ref().map(|status| &status.ledger),
            Self::Once(object) => object.status.as_ref().map(|status| &status.ledger),
        }
    }
}

/// Where somebody stands at one primitive.
pub fn entrance(committed: Committed<'_>, asker: &Asker<'_>) -> Entrance {
    match committed {
        Committed::Missing => Entrance::Closed {
            reason: reason::MISSING_PRIMITIVE,
            message: format!(
                "waits for {}, which does not exist (yet): create the {} of that name",
                asker.primitive,
                asker.primitive.kind.api_kind()
            ),
            busy: false,
        },
        Committed::Gate(object) => gate::entrance(object, asker),
        Committed::WaitGroup(object) => waitgroup::entrance(object, asker),
        Committed::Barrier(object) => barrier::entrance(object, asker),
        Committed::Semaphore(object) => semaphore::entrance(object, asker),
        Committed::RWMutex(object) => rwmutex::entrance(object, asker),
        Committed::Mutex(object) => mutex::entrance(object, asker),
        Committed::Lease(object) => lease::entrance(object, asker),
        Committed::Once(object) => once::entrance(object, asker),
    }
}

impl PrimitiveFacts {
    /// Reads them off a primitive; `None` if there is none.
    pub fn of(committed: Committed<'_>) -> Option<Self> {
        let held = |holders: Option<&Vec<Holder>>, yes, no| {
            if holders.is_some_and(|holders| !holders.is_empty()) { yes } else { no }
        };
        let mut free = 0;
        let mut hopeless = None;
        let (metadata, state) = match committed {
            Committed::Missing => return None,
            Committed::Gate(object) => {
                let phase = gate::phase(object);
                hopeless = (phase == Some(GatePhase::Failed)).then(|| "has failed".to_owned());
                let open = phase == Some(GatePhase::Open);
                (&object.metadata, if open { GateState::Open } else { GateState::Closed })
            }
            Committed::Barrier(object) => {
                let phase = object.status.as_ref().and_then(|status| status.phase);
                hopeless = match phase {
                    Some(BarrierPhase::Failed) => Some("has failed".to_owned()),
                    Some(BarrierPhase::Open) => Some("is open for good".to_owned()),
                    _ => None,
                };
                let open = phase == Some(BarrierPhase::Open);
                (&object.metadata, if open { GateState::Open } else { GateState::Closed })
            }
            Committed::WaitGroup(object) => {
                let done =
                    object.status.as_ref().and_then(|status| status.phase) == Some(WaitGroupPhase::Done);
                (&object.metadata, if done { GateState::Zero } else { GateState::NonZero })
            }
            Committed::Semaphore(object) => {
                let in_use = object.status.as_ref().map_or(0, |status| status.in_use);
                free = object.spec.permits - in_use;
                (&object.metadata, GateState::Available)
            }
            Committed::RWMutex(object) => {
                let holders = object.status.as_ref().map(|status| &status.ledger.holders);
                (&object.metadata, held(holders, GateState::Locked, GateState::Unlocked))
            }
            Committed::Mutex(object) => {
                let holders = object.status.as_ref().map(|status| &status.ledger.holders);
                (&object.metadata, held(holders, GateState::Locked, GateState::Unlocked))
            }
            Committed::Lease(object) => {
                let holders = object.status.as_ref().map(|status| &status.ledger.holders);
                (&object.metadata, held(holders, GateState::Acquired, GateState::Available))
            }
            Committed::Once(object) => {
                let status = object.status.as_ref().filter(|status| status.key == object.spec.key);
                let phase = status.and_then(|status| status.phase);
                hopeless = (phase == Some(OncePhase::Failed)).then(|| "has failed".to_owned());
                let done = phase == Some(OncePhase::Executed);
                (&object.metadata, if done { GateState::Done } else { GateState::Pending })
            }
        };
        Some(Self {
            uid: metadata.uid.clone().unwrap_or_default(),
            created: metadata.creation_timestamp.as_ref().map(|time| time.0),
            state,
            free,
            hopeless,
        })
    }
}
