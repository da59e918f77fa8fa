//! The ten locks, side by side.
//!
//! Pure. What must stay true: a lock of every kind that can be held is among them, and how much of it each hold takes is
//! said in one way for all kinds: `weight` of `capacity`.

use konductor_api::annotations;
use serde_json::{Value, json};

/// More readers than there can be.
const WHOLE: u32 = 1000;

/// What it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Mutex,
    RwMutex,
    Semaphore,
    Lease,
    Once,
}

/// Who takes it, and where they wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// Pods of their own.
    Pods,
    /// Jobs, annotated themselves.
    Jobs,
    /// Jobs whose template is annotated: each attempt for itself.
    Templates,
    /// Pods and Jobs in turn.
    Both,
    /// Pods at a scheduling gate and suspended Jobs in turn.
    Held,
}

/// One of the ten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lock {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) style: Style,
    /// Of a Semaphore.
    permits: u32,
}

/// A part of it that is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) annotation: &'static str,
    pub(super) weight: u32,
}

const fn lock(name: &'static str, kind: Kind, style: Style) -> Lock {
    Lock { name, kind, style, permits: 1 }
}

/// All of them.
pub(super) const LOCKS: [Lock; 10] = [
    lock("orders", Kind::Mutex, Style::Pods),
    lock("billing", Kind::Mutex, Style::Jobs),
    lock("stock", Kind::Mutex, Style::Templates),
    lock("night", Kind::Mutex, Style::Held),
    lock("table", Kind::RwMutex, Style::Pods),
    lock("index", Kind::RwMutex, Style::Both),
    lock("single", Kind::Semaphore, Style::Both),
    Lock { permits: 3, ..lock("pool", Kind::Semaphore, Style::Both) },
    lock("leader", Kind::Lease, Style::Templates),
    lock("schema", Kind::Once, Style::Both),
];

impl Lock {
    /// How much of it there is.
    pub(super) const fn capacity(&self) -> u32 {
        match self.kind {
            Kind::RwMutex => WHOLE,
            Kind::Semaphore => self.permits,
            Kind::Mutex | Kind::Lease | Kind::Once => 1,
        }
    }

    /// What can be taken of it.
    pub(super) fn shares(&self) -> Vec<Share> {
        let share = |annotation, weight| Share { annotation, weight };
        match self.kind {
            Kind::Mutex => vec![share(annotations::MUTEX, 1)],
            Kind::RwMutex => {
                vec![share(annotations::RWMUTEX_READ, 1), share(annotations::RWMUTEX_WRITE, WHOLE)]
            }
            Kind::Semaphore if self.permits > 1 => {
                (1..self.permits).map(|weight| share(annotations::SEMAPHORE, weight)).collect()
            }
            Kind::Semaphore => vec![share(annotations::SEMAPHORE, 1)],
            Kind::Lease => vec![share(annotations::LEASE, 1)],
            Kind::Once => vec![share(annotations::ONCE, 1)],
        }
    }

    /// Its objects: a Once is good for one success, so there is one after the other.
    pub(super) fn object(&self, number: usize) -> String {
        match self.kind {
            Kind::Once => format!("{}-{number}", self.name),
            _ => self.name.to_owned(),
        }
    }

    /// What is sent to the API server.
    pub(super) fn manifest(&self, object: &str) -> Value {
        let spec = match (self.kind, self.name) {
            (Kind::Semaphore, _) => json!({"permits": self.permits}),
            (Kind::RwMutex, "index") => json!({"policy": "PhaseFair"}),
            _ => json!({}),
        };
        let kind = self.api_kind();
        json!({"apiVersion": "konductor.io/v1", "kind": kind, "metadata": {"name": object}, "spec": spec})
    }

    const fn api_kind(&self) -> &'static str {
        match self.kind {
            Kind::Mutex => "Mutex",
            Kind::RwMutex => "RWMutex",
            Kind::Semaphore => "Semaphore",
            Kind::Lease => "Lease",
            Kind::Once => "Once",
        }
    }

    /// In a path of the API.
    pub(super) const fn plural(&self) -> &'static str {
        match self.kind {
            Kind::Mutex => "mutexes",
            Kind::RwMutex => "rwmutexes",
            Kind::Semaphore => "semaphores",
            Kind::Lease => "leases",
            Kind::Once => "onces",
        }
    }

    /// The variable in which a container finds its token.
    pub(super) fn variable(&self, object: &str) -> String {
        let upper = |text: &str| text.to_uppercase().replace('-', "_");
        format!("KONDUCTOR_TOKEN_{}_{}", upper(self.api_kind()), upper(object))
    }
}

/// The lock that an object belongs to.
pub(super) fn of_object(object: &str) -> Option<&'static Lock> {
    LOCKS.iter().find(|lock| {
        object == lock.name || (lock.kind == Kind::Once && object.starts_with(&format!("{}-", lock.name)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_share_fits_and_writers_are_alone() {
        for lock in LOCKS {
            assert!(lock.shares().iter().all(|share| share.weight <= lock.capacity()), "{lock:?}");
        }
        let pool = of_object("pool").unwrap();
        assert_eq!((pool.capacity(), pool.shares().len()), (3, 2));
        let table = of_object("table").unwrap();
        assert_eq!(table.shares()[1].weight, table.capacity());
        assert!(table.shares()[0].weight < table.capacity());
    }

    #[test]
    fn a_once_is_many_objects_of_one_lock() {
        let schema = of_object("schema-7").unwrap();
        assert_eq!((schema.object(7).as_str(), of_object("else")), ("schema-7", None));
        assert_eq!(schema.variable("schema-7"), "KONDUCTOR_TOKEN_ONCE_SCHEMA_7");
        assert_eq!(of_object("table").unwrap().variable("table"), "KONDUCTOR_TOKEN_RWMUTEX_TABLE");
    }
}
