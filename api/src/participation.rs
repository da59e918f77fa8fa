//! Participation: in which primitives a Job and a Pod take part, in what role, and in which order.
//!
//! Pure. The order is fixed and the same for everybody (by kind as in [`Kind`], then by name; a Job's own entries
//! before those of its pods), so that two workloads never wait for each other. What must stay true: a plan that was
//! encoded is decoded as itself, and every part numbers the entries of a pod alike.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::grammar::Parsed;
use crate::job_plan::JobPlan;
use crate::options::{Hold, Options, Sidecar};
use crate::section::Section;
use crate::{annotations, grammar, values};

/// A kind of primitive; the order of the variants is the order in which a workload takes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Kind {
    /// A Gate.
    Gate,
    /// A WaitGroup.
    WaitGroup,
    /// A Barrier.
    Barrier,
    /// A Semaphore.
    Semaphore,
    /// A RWMutex.
    RWMutex,
    /// A Mutex.
    Mutex,
    /// A Lease.
    Lease,
    /// A Once.
    Once,
}

/// What taking part means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Waits until it is open, or done, and leaves no trace there.
    Await,
    /// Arrives at a barrier, and waits until it opens.
    Meet,
    /// Arrives at a barrier when it has succeeded.
    Arrive,
    /// Is a member of a wait group from before its start to its end.
    Join,
    /// Holds it alone.
    Hold,
    /// Holds it together with other readers.
    Read,
    /// Holds it alone, as a writer.
    Write,
    /// Holds so many permits of it.
    Take(u32),
}

/// One primitive by kind and name, in the namespace of whoever names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PrimitiveRef {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
}

/// A primitive, and the role that is played in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Part {
    /// In what.
    pub primitive: PrimitiveRef,
    /// As what.
    pub role: Role,
}

/// The primitives of one object, in the order in which it takes them, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrimitiveSet(Vec<Part>);

/// Everything a pod has to do with: what its Job takes (once, for all its pods) and what it takes itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodPlan {
    /// Taken by the Job that controls the pod.
    pub job: PrimitiveSet,
    /// Taken by the pod itself.
    pub pod: PrimitiveSet,
    /// How the pod itself waits. How its Job waits stands on the Job.
    pub options: Options,
    /// What all of it is held for.
    pub section: Section,
    /// Where the pod waits, for both: if one of the two asks for a scheduling gate, that is where.
    pub hold: Hold,
    /// Who gives signs of life for what is held, by both.
    pub sidecar: Sidecar,
}

/// An entry of a [`PodPlan`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Counted from 1 over the whole plan: the N of `konductor.io/token-N`.
    pub place: usize,
    /// Is it the Job that takes part, and not the pod?
    pub by_job: bool,
    /// In what.
    pub primitive: &'a PrimitiveRef,
    /// As what.
    pub role: Role,
}

/// One way to take part: an annotation, and what it means.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    /// The annotation.
    pub annotation: &'static str,
    /// The kind that it names.
    pub kind: Kind,
    /// The role; for a semaphore with one permit.
    pub role: Role,
    /// May it name several?
    pub several: bool,
    /// A name for examples.
    pub example: &'static str,
}

// ------------------------------------------------------------------------------------------------------ kinds

const fn way(annotation: &'static str, kind: Kind, role: Role, several: bool, example: &'static str) -> Way {
    Way { annotation, kind, role, several, example }
}

/// Every way to take part.
pub const WAYS: [Way; 12] = [
    way(annotations::GATE, Kind::Gate, Role::Await, true, "validation-gate"),
    way(annotations::WAITGROUP, Kind::WaitGroup, Role::Join, true, "workers"),
    way(annotations::WAITGROUP_WAIT, Kind::WaitGroup, Role::Await, true, "workers"),
    way(annotations::BARRIER, Kind::Barrier, Role::Meet, false, "stage-1-complete"),
    way(annotations::BARRIER_WAIT, Kind::Barrier, Role::Await, true, "stage-1-complete"),
    way(annotations::BARRIER_ARRIVE, Kind::Barrier, Role::Arrive, true, "stage-1-complete"),
    way(annotations::SEMAPHORE, Kind::Semaphore, Role::Take(1), false, "batch-limit"),
    way(annotations::RWMUTEX_READ, Kind::RWMutex, Role::Read, true, "cache-lock"),
    way(annotations::RWMUTEX_WRITE, Kind::RWMutex, Role::Write, true, "cache-lock"),
    way(annotations::MUTEX, Kind::Mutex, Role::Hold, true, "database-migration"),
    way(annotations::LEASE, Kind::Lease, Role::Hold, false, "daily-report"),
    way(annotations::ONCE, Kind::Once, Role::Hold, false, "app-init"),
];

impl Kind {
    /// All, in their order.
    pub const ALL: [Self; 8] = [
        Self::Gate,
        Self::WaitGroup,
        Self::Barrier,
        Self::Semaphore,
        Self::RWMutex,
        Self::Mutex,
        Self::Lease,
        Self::Once,
    ];

    /// As in `gate/validation-gate`.
    pub const fn lower(self) -> &'static str {
        match self {
            Self::Gate => "gate",
            Self::WaitGroup => "waitgroup",
            Self::Barrier => "barrier",
            Self::Semaphore => "semaphore",
            Self::RWMutex => "rwmutex",
            Self::Mutex => "mutex",
            Self::Lease => "lease",
            Self::Once => "once",
        }
    }

    /// Several of them, as in a URL.
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Gate => "gates",
            Self::WaitGroup => "waitgroups",
            Self::Barrier => "barriers",
            Self::Semaphore => "semaphores",
            Self::RWMutex => "rwmutexes",
            Self::Mutex => "mutexes",
            Self::Lease => "leases",
            Self::Once => "onces",
        }
    }

    /// As `kubectl get` finds it: the short name of a Lease would find those of another group.
    pub const fn resource(self) -> &'static str {
        match self {
            Self::Lease => "leases.konductor.io",
            other => other.lower(),
        }
    }

    /// As in a manifest.
    pub const fn api_kind(self) -> &'static str {
        match self {
            Self::Gate => "Gate",
            Self::WaitGroup => "WaitGroup",
            Self::Barrier => "Barrier",
            Self::Semaphore => "Semaphore",
            Self::RWMutex => "RWMutex",
            Self::Mutex => "Mutex",
            Self::Lease => "Lease",
            Self::Once => "Once",
        }
    }
}

impl Role {
    /// Does it mean holding something, with a token and until a proven end?
    pub const fn is_held(self) -> bool {
        matches!(self, Self::Hold | Self::Read | Self::Write | Self::Take(_))
    }

    /// Must the end of whoever plays it be known?
    pub const fn needs_the_end(self) -> bool {
        self.is_held() || matches!(self, Self::Arrive | Self::Join)
    }

    /// Is there something to wait for before the start?
    pub const fn waits(self) -> bool {
        !matches!(self, Self::Arrive | Self::Join)
    }
}

impl fmt::Display for PrimitiveRef {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.kind.lower(), self.name)
    }
}

impl Part {
    /// The annotation that says so.
    pub fn annotation(&self) -> &'static str {
        let same = |way: &&Way| {
            way.kind == self.primitive.kind
                && (way.role == self.role || matches!((way.role, self.role), (Role::Take(_), Role::Take(_))))
        };
        WAYS.iter().find(same).map_or("", |way| way.annotation)
    }

    /// As it stands in the value of the annotation: `name`, or `name=permits`.
    pub fn value(&self) -> String {
        match self.role {
            Role::Take(permits) if permits != 1 => format!("{}={permits}", self.primitive.name),
            _ => self.primitive.name.clone(),
        }
    }
}

// ------------------------------------------------------------------------------------------------------- sets

impl PrimitiveSet {
    /// The entries, in their order.
    pub fn entries(&self) -> &[Part] {
        &self.0
    }

    /// The primitives, in their order.
    pub fn primitives(&self) -> impl Iterator<Item = &PrimitiveRef> {
        self.0.iter().map(|part| &part.primitive)
    }

    /// Nothing to take part in?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The role that is played in it, if any.
    pub fn role(&self, primitive: &PrimitiveRef) -> Option<Role> {
        self.0.iter().find(|part| part.primitive == *primitive).map(|part| part.role)
    }

    /// What the annotations of a stored object say. Admission has checked them; what it would have refused counts
    /// as not there.
    pub fn of(annotations: &BTreeMap<String, String>) -> Self {
        grammar::parse(annotations, "metadata.annotations").map(|parsed| parsed.set).unwrap_or_default()
    }
}

/// Of several roles in one primitive the first counts; admission refuses the others.
impl FromIterator<Part> for PrimitiveSet {
    fn from_iter<I: IntoIterator<Item = Part>>(entries: I) -> Self {
        let mut entries: Vec<_> = entries.into_iter().collect();
        entries.sort();
        entries.dedup_by(|later, earlier| later.primitive == earlier.primitive);
        Self(entries)
    }
}

/// `v1 gate=a,b semaphore=c=3`, in the order of [`WAYS`]: what [`JobPlan`] begins with.
impl fmt::Display for PrimitiveSet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("v1")?;
        for way in WAYS {
            let values: Vec<_> =
                self.0.iter().filter(|part| part.annotation() == way.annotation).map(Part::value).collect();
            if let Some(word) =
                way.annotation.strip_prefix(annotations::PREFIX).filter(|_| !values.is_empty())
            {
                write!(formatter, " {word}={}", values.join(","))?;
            }
        }
        Ok(())
    }
}

/// The marker could not be read: it was written by a later version, or by somebody else.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no plan that this version of Konductor reads")]
pub struct PlanError(pub(crate) String);

impl FromStr for PrimitiveSet {
    type Err = PlanError;

    fn from_str(text: &str) -> Result<Self, PlanError> {
        let unreadable = || PlanError(text.chars().take(64).collect());
        let mut words = text.split(' ');
        if words.next() != Some("v1") {
            return Err(unreadable());
        }
        let mut entries = Vec::new();
        for word in words {
            let (word, values) = word.split_once('=').ok_or_else(unreadable)?;
            let way = WAYS
                .iter()
                .find(|way| way.annotation.strip_prefix(annotations::PREFIX) == Some(word))
                .ok_or_else(unreadable)?;
            for value in values.split(',') {
                entries.push(values::part(way, value).map_err(|_| unreadable())?);
            }
        }
        let set: Self = entries.into_iter().collect();
        // What is not written as we write it was not written by us.
        if set.to_string() == text { Ok(set) } else { Err(unreadable()) }
    }
}

// ------------------------------------------------------------------------------------------------------ plans

impl PodPlan {
    /// What the annotations of a stored pod say. The Job's part counts only if a Job controls the pod.
    pub fn of(annotations: &BTreeMap<String, String>, controlled_by_job: bool) -> Self {
        let marker = annotations.get(annotations::JOB_PLAN).filter(|_| controlled_by_job);
        let parsed = grammar::parse(annotations, "metadata.annotations").unwrap_or_default();
        let job: JobPlan = marker.and_then(|text| text.parse().ok()).unwrap_or_default();
        Self::new(job, parsed)
    }

    /// What a Job takes and what its pod takes itself, together.
    pub fn new(job: JobPlan, own: Parsed) -> Self {
        Self {
            // There are no pods before the Job goes on.
            hold: match job.hold {
                Hold::Suspend => own.options.hold,
                of_pods => of_pods.max(own.options.hold),
            },
            sidecar: job.sidecar.or(own.options.sidecar),
            section: if job.set.is_empty() { own.section } else { job.section },
            job: job.set,
            pod: own.set,
            options: own.options,
        }
    }

    /// All entries, in the order in which they are taken.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        let job = self.job.0.iter().map(|part| (true, part));
        let pod = self.pod.0.iter().map(|part| (false, part));
        job.chain(pod).enumerate().map(|(index, (by_job, part))| Entry {
            place: index + 1,
            by_job,
            primitive: &part.primitive,
            role: part.role,
        })
    }

    /// Nothing to take part in?
    pub fn is_empty(&self) -> bool {
        self.job.is_empty() && self.pod.is_empty()
    }

    /// Is anything held, with a token?
    pub fn holds(&self) -> bool {
        self.entries().any(|entry| entry.role.is_held())
    }

    /// What may be lost after silence, if it has a ttl. Never a Once: what it protects must not be done twice.
    pub fn holds_that_may_be_lost(&self) -> impl Iterator<Item = Entry<'_>> {
        self.entries().filter(|entry| entry.role.is_held() && entry.primitive.kind != Kind::Once)
    }

    /// Must the pod's end be known?
    pub fn needs_the_end(&self) -> bool {
        self.entries().any(|entry| entry.role.needs_the_end())
    }
}

/// `gate/validation-gate, mutex/database-migration`.
impl fmt::Display for PodPlan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for entry in self.entries() {
            let separator = if entry.place == 1 { "" } else { ", " };
            write!(formatter, "{separator}{}", entry.primitive)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn part(kind: Kind, role: Role, name: &str) -> Part {
        Part { primitive: PrimitiveRef { kind, name: name.to_owned() }, role }
    }

    #[test]
    fn kinds_come_in_their_order_and_names_are_sorted() {
        let set: PrimitiveSet = [
            part(Kind::Once, Role::Hold, "o"),
            part(Kind::Mutex, Role::Hold, "a"),
            part(Kind::Gate, Role::Await, "z"),
            part(Kind::Semaphore, Role::Take(3), "s"),
            part(Kind::RWMutex, Role::Write, "w"),
            part(Kind::RWMutex, Role::Read, "r"),
            part(Kind::Gate, Role::Await, "b"),
            part(Kind::Gate, Role::Await, "z"),
            part(Kind::WaitGroup, Role::Join, "g"),
        ]
        .into_iter()
        .collect();
        assert_eq!(
            set.to_string(),
            "v1 gate=b,z waitgroup=g semaphore=s=3 rwmutex-read=r rwmutex-write=w mutex=a once=o"
        );
        let order: Vec<_> = set.primitives().map(ToString::to_string).collect();
        assert_eq!(
            order,
            ["gate/b", "gate/z", "waitgroup/g", "semaphore/s", "rwmutex/r", "rwmutex/w", "mutex/a", "once/o"]
        );
    }

    #[test]
    fn the_jobs_part_comes_first_and_counts_only_under_a_job() {
        let annotations: BTreeMap<String, String> =
            [(annotations::JOB_PLAN, "v1 mutex=db"), (annotations::GATE, "ready")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into();
        let plan = PodPlan::of(&annotations, true);
        assert_eq!(plan.to_string(), "mutex/db, gate/ready");
        let places: Vec<_> = plan.entries().map(|entry| (entry.place, entry.by_job)).collect();
        assert_eq!(places, [(1, true), (2, false)]);
        assert_eq!(PodPlan::of(&annotations, false).to_string(), "gate/ready");
    }

    #[test]
    fn a_plan_that_nobody_here_wrote_is_refused() {
        for text in [
            "",
            "v2",
            "v1 ",
            "v1 gate=",
            "v1 gate=B",
            "v1 claim=a",
            "v1 mutex=a gate=b",
            "v1 gate=b,a",
            "v1 semaphore=a=1",
            "v1 semaphore=a=0",
            "v1 semaphore=a=03",
            "v1 mutex=a=2",
            "v1 rwmutex-read=a rwmutex-write=a",
        ] {
            assert!(text.parse::<PrimitiveSet>().is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(
            parts in prop::collection::vec(("[a-z][a-z0-9.-]{0,9}[a-z0-9]", 0..WAYS.len(), 1..5_u32), 0..12),
        ) {
            let set: PrimitiveSet = parts
                .into_iter()
                .filter(|(name, ..)| values::is_name(name))
                .map(|(name, way, permits)| {
                    let role = if WAYS[way].kind == Kind::Semaphore { Role::Take(permits) } else { WAYS[way].role };
                    part(WAYS[way].kind, role, &name)
                })
                .collect();
            prop_assert_eq!(set.to_string().parse::<PrimitiveSet>().unwrap(), set);
        }
    }
}
