//! One run of the checker: exhaustive within the bounds, or until the first counterexample.
//!
//! What must stay true: a run without counterexample has visited every state; how many is printed.

use std::fmt::Debug;
use std::hash::Hash;

use stateright::{Checker, HasDiscoveries, Model};

use crate::invariants::Invariant;

/// `KONDUCTOR_MODEL=deep` asks for larger bounds.
#[expect(clippy::disallowed_methods, reason = "the rules have no environment; their tests may take longer")]
pub(crate) fn is_deep() -> bool {
    std::env::var("KONDUCTOR_MODEL").is_ok_and(|text| text == "deep")
}

/// What was found out.
pub(crate) struct Found {
    pub(crate) states: usize,
    /// The invariant that was broken, and how.
    pub(crate) broken: Option<(Invariant, String)>,
}

fn explore<M>(model: M) -> Found
where
    M: Model + Send + Sync + 'static,
    M::State: Debug + Hash + Clone + PartialEq + Send + Sync + 'static,
    M::Action: Debug + Clone + PartialEq,
{
    let checker = model.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let mut found: Vec<_> = checker.discoveries().into_iter().collect();
    found.sort_by_key(|(name, _)| *name);
    let broken = found.into_iter().next().map(|(name, path)| {
        let last = format!("{:#?}", path.last_state());
        let story =
            path.into_actions().iter().map(|action| format!("{action:?}")).collect::<Vec<_>>().join("\n");
        (name, format!("{name} is broken:\n{story}\nand then\n{last}"))
    });
    Found { states: checker.unique_state_count(), broken }
}

/// Nothing is broken in any state; prints how many there are.
pub(crate) fn nothing_breaks<M>(what: &str, invariants: &[Invariant], model: M)
where
    M: Model + Send + Sync + 'static,
    M::State: Debug + Hash + Clone + PartialEq + Send + Sync + 'static,
    M::Action: Debug + Clone + PartialEq,
{
    let found = explore(model);
    if let Some((_, story)) = found.broken {
        panic!("{what}: {story}");
    }
    println!("{what}: {} states, all keep {}", found.states, invariants.join(", "));
}

/// The model finds that something is broken; says what.
pub(crate) fn breaks<M>(model: M) -> (Invariant, String)
where
    M: Model + Send + Sync + 'static,
    M::State: Debug + Hash + Clone + PartialEq + Send + Sync + 'static,
    M::Action: Debug + Clone + PartialEq,
{
    let found = explore(model);
    found.broken.unwrap_or_else(|| panic!("nothing was found in {} states", found.states))
}
