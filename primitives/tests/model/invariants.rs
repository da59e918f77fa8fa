//! The invariants by their names, and how a world says that one of them was broken.
//!
//! What must stay true: the names are those of the design; a model that breaks an invariant which it does not list is a
//! mistake in the test, and fails loudly.

use stateright::{Model, Property};

/// A name of the design.
pub(crate) type Invariant = &'static str;

/// Every invariant that some model checks.
pub(crate) const ALL: [Invariant; 22] = [
    "MutualExclusion",
    "LedgerExclusion",
    "TokenMonotone",
    "SemaphoreBound",
    "RWExclusion",
    "ReleaseNeedsEvidence",
    "GrantIdempotent",
    "BarrierTripOnce",
    "NoEarlyPass",
    "DistinctArrivals",
    "GateSound",
    "LatchFinal",
    "OnceSingleSuccess",
    "OnceNoPhantomDone",
    "WaitGroupNoEarlyDone",
    "PriorityRespected",
    "NoUnguardedStart",
    "LedgerBeforeGo",
    "WithdrawBeforeRelease",
    "GrantSingleUse",
    "GenerationIsolation",
    "DoneIdempotent",
];

/// What is looked at in states in which nothing goes on by itself any more.
pub(crate) const NO_LOST_WAKEUP: Invariant = "NoLostWakeup";

/// A state that remembers what was broken on the way to it.
pub(crate) trait Verdict {
    /// The first invariant that was broken.
    fn broken(&self) -> Option<Invariant>;
}

/// A model that knows where it comes to rest.
pub(crate) trait Rests: Model {
    /// Does somebody wait in vain, in a state in which nothing goes on by itself?
    fn waits_in_vain(&self, state: &Self::State) -> bool;
}

fn holds<M: Model, const AT: usize>(_: &M, state: &M::State) -> bool
where
    M::State: Verdict,
{
    state.broken() != Some(ALL[AT])
}

fn nobody_waits_in_vain<M: Rests>(model: &M, state: &M::State) -> bool
where
    M::State: Verdict,
{
    state.broken().is_some() || !model.waits_in_vain(state)
}

macro_rules! conditions {
    ($($at:literal)*) => { [$(holds::<M, $at>),*] };
}

/// One property for each name.
pub(crate) fn properties<M: Rests>(names: &[Invariant]) -> Vec<Property<M>>
where
    M::State: Verdict,
{
    let conditions: [fn(&M, &M::State) -> bool; ALL.len()] =
        conditions!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21);
    let listed = ALL.into_iter().zip(conditions).filter(|(name, _)| names.contains(name));
    let mut all: Vec<_> = listed.map(|(name, condition)| Property::always(name, condition)).collect();
    if names.contains(&NO_LOST_WAKEUP) {
        all.push(Property::always(NO_LOST_WAKEUP, nobody_waits_in_vain::<M>));
    }
    assert_eq!(all.len(), names.len(), "each name is one of the design's: {names:?}");
    all
}

/// The name as it stands in the list.
pub(crate) fn named(name: &str) -> Invariant {
    let known = ALL.into_iter().chain([NO_LOST_WAKEUP]).find(|known| *known == name);
    known.unwrap_or_else(|| panic!("{name} is no invariant that a model checks"))
}
