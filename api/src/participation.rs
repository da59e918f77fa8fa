//! Participation: in which primitives a Job and a Pod take part, and in which order.
//!
//! Pure. The order is fixed and the same for everybody (by kind as in [`Kind`], then by name; a Job's own entries
//! before those of its pods), so that two workloads never wait for each other. What must stay true: a plan that was
//! encoded is decoded as itself, and every part numbers the entries of a pod alike.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::annotations;

/// A kind of primitive; the order of the variants is the order in which a workload takes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// See [`crate::gate`].
    Gate,
    /// See [`crate::mutex`].
    Mutex,
}

/// One primitive by kind and name, in the namespace of whoever names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PrimitiveRef {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
}

/// The primitives of one object, in the order in which it takes them, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrimitiveSet(Vec<PrimitiveRef>);

/// Everything a pod has to do with: what its Job takes (once, for all its pods) and what it takes itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodPlan {
    /// Taken by the Job that controls the pod.
    pub job: PrimitiveSet,
    /// Taken by the pod itself.
    pub pod: PrimitiveSet,
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
}

// ------------------------------------------------------------------------------------------------------ kinds

impl Kind {
    /// All, in their order.
    pub const ALL: [Self; 2] = [Self::Gate, Self::Mutex];

    /// As in `gate/validation-gate`, and as the annotation is called after its prefix.
    pub const fn lower(self) -> &'static str {
        match self {
            Self::Gate => "gate",
            Self::Mutex => "mutex",
        }
    }

    /// As in a manifest.
    pub const fn api_kind(self) -> &'static str {
        match self {
            Self::Gate => "Gate",
            Self::Mutex => "Mutex",
        }
    }

    /// The annotation by which a workload takes part.
    pub const fn annotation(self) -> &'static str {
        match self {
            Self::Gate => annotations::GATE,
            Self::Mutex => annotations::MUTEX,
        }
    }

    /// Does taking part mean holding something, with a token and until a proven end?
    pub const fn is_held(self) -> bool {
        match self {
            Self::Gate => false,
            Self::Mutex => true,
        }
    }

    fn of_lower(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.lower() == text)
    }
}

impl fmt::Display for PrimitiveRef {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.kind.lower(), self.name)
    }
}

// ------------------------------------------------------------------------------------------------------- sets

impl PrimitiveSet {
    /// The entries, in their order.
    pub fn entries(&self) -> &[PrimitiveRef] {
        &self.0
    }

    /// Nothing to take part in?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Is it in there?
    pub fn contains(&self, primitive: &PrimitiveRef) -> bool {
        self.0.contains(primitive)
    }

    /// What the annotations of a stored object say. Admission has checked them; what it would have refused counts
    /// as not there.
    pub fn of(annotations: &BTreeMap<String, String>) -> Self {
        annotations::parse(annotations, "metadata.annotations").map(|parsed| parsed.set).unwrap_or_default()
    }
}

impl FromIterator<PrimitiveRef> for PrimitiveSet {
    fn from_iter<I: IntoIterator<Item = PrimitiveRef>>(entries: I) -> Self {
        let mut entries: Vec<_> = entries.into_iter().collect();
        entries.sort();
        entries.dedup();
        Self(entries)
    }
}

/// The value of the marker [`annotations::JOB_PLAN`]: `v1 gate=a,b mutex=c`.
impl fmt::Display for PrimitiveSet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("v1")?;
        for kind in Kind::ALL {
            let names: Vec<_> =
                self.0.iter().filter(|entry| entry.kind == kind).map(|entry| entry.name.as_str()).collect();
            if !names.is_empty() {
                write!(formatter, " {}={}", kind.lower(), names.join(","))?;
            }
        }
        Ok(())
    }
}

/// The marker could not be read: it was written by a later version, or by somebody else.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no plan that this version of Konductor reads")]
pub struct PlanError(String);

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
            let (kind, names) = word.split_once('=').ok_or_else(unreadable)?;
            let kind = Kind::of_lower(kind).ok_or_else(unreadable)?;
            for name in names.split(',') {
                if !annotations::is_name(name) {
                    return Err(unreadable());
                }
                entries.push(PrimitiveRef { kind, name: name.to_owned() });
            }
        }
        let set: Self = entries.into_iter().collect();
        if set.to_string() == text { Ok(set) } else { Err(unreadable()) }
    }
}

// ------------------------------------------------------------------------------------------------------ plans

impl PodPlan {
    /// What the annotations of a stored pod say. The Job's part counts only if a Job controls the pod.
    pub fn of(annotations: &BTreeMap<String, String>, controlled_by_job: bool) -> Self {
        let marker = annotations.get(annotations::JOB_PLAN).filter(|_| controlled_by_job);
        Self {
            job: marker.and_then(|text| text.parse().ok()).unwrap_or_default(),
            pod: PrimitiveSet::of(annotations),
        }
    }

    /// All entries, in the order in which they are taken.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        let job = self.job.0.iter().map(|primitive| (true, primitive));
        let pod = self.pod.0.iter().map(|primitive| (false, primitive));
        job.chain(pod).enumerate().map(|(index, (by_job, primitive))| Entry {
            place: index + 1,
            by_job,
            primitive,
        })
    }

    /// Nothing to take part in?
    pub fn is_empty(&self) -> bool {
        self.job.is_empty() && self.pod.is_empty()
    }

    /// Is anything held, so that the pod's end must be proven?
    pub fn holds(&self) -> bool {
        self.entries().any(|entry| entry.primitive.kind.is_held())
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

    fn primitive(kind: Kind, name: &str) -> PrimitiveRef {
        PrimitiveRef { kind, name: name.to_owned() }
    }

    #[test]
    fn gates_come_before_mutexes_and_names_are_sorted() {
        let set: PrimitiveSet = [
            primitive(Kind::Mutex, "a"),
            primitive(Kind::Gate, "z"),
            primitive(Kind::Gate, "b"),
            primitive(Kind::Gate, "z"),
        ]
        .into_iter()
        .collect();
        assert_eq!(set.to_string(), "v1 gate=b,z mutex=a");
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
        for text in
            ["", "v2", "v1 ", "v1 gate=", "v1 gate=B", "v1 barrier=a", "v1 mutex=a gate=b", "v1 gate=b,a"]
        {
            assert!(text.parse::<PrimitiveSet>().is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(names in prop::collection::vec(("[a-z][a-z0-9.-]{0,9}[a-z0-9]", any::<bool>()), 0..12)) {
            let set: PrimitiveSet = names
                .into_iter()
                .filter(|(name, _)| annotations::is_name(name))
                .map(|(name, gate)| PrimitiveRef { kind: if gate { Kind::Gate } else { Kind::Mutex }, name })
                .collect();
            prop_assert_eq!(set.to_string().parse::<PrimitiveSet>().unwrap(), set);
        }
    }
}
