//! The line: who waits for a primitive, and in which place, as the last step has it.
//!
//! Pure. Built once for a reconcile, because everybody who waits is told of a place: looked up one by one in a list they
//! would cost the square of their number.

use std::collections::{HashMap, HashSet};

use konductor_primitives::snapshot::Participant;

/// See the module.
#[derive(Default)]
pub(crate) struct Line<'a> {
    places: HashMap<&'a str, usize>,
    near: HashSet<&'a str>,
    first: usize,
}

impl<'a> Line<'a> {
    /// Of those, in that order; the pods of the first `near` of them are near.
    pub(crate) fn new(participants: &'a [Participant], order: &[usize], near: usize) -> Self {
        let line = || order.iter().filter_map(|at| participants.get(*at));
        Self {
            places: line().zip(1..).map(|(who, place)| (who.uid.as_str(), place)).collect(),
            first: near,
            near: line().take(near).flat_map(|who| &who.pods).map(|pod| pod.uid.as_str()).collect(),
        }
    }

    /// The place of that participant, the first being 1, and how many there are.
    pub(crate) fn place(&self, uid: &str) -> Option<(usize, usize)> {
        Some((*self.places.get(uid)?, self.places.len()))
    }

    /// Is that participant one of the first?
    pub(crate) fn is_among_the_first(&self, uid: &str) -> bool {
        self.places.get(uid).is_none_or(|place| *place <= self.first)
    }

    /// Is that pod one of the first?
    pub(crate) fn is_near(&self, pod: &str) -> bool {
        self.near.contains(pod)
    }
}
