//! Graph: what waits for what, from manifests or from a cluster.
//!
//! Pure. An arrow goes the way that time goes: from what has to happen to what then goes on. [`sources`] reads objects,
//! [`layout`] puts nodes in layers, [`render`] draws. What must stay true: a cycle is seen as one in every form.

pub mod layout;
pub mod render;
pub mod sources;

use std::collections::{BTreeMap, BTreeSet};

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Graph {
    /// As `job/train`, each with what is known of its state.
    pub nodes: BTreeMap<String, String>,
    /// Arrows.
    pub edges: BTreeSet<Edge>,
}

/// An arrow.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edge {
    /// What has to happen.
    pub from: String,
    /// What then goes on.
    pub to: String,
    /// How they are tied, in a word or two.
    pub label: String,
}

impl Graph {
    /// A node, with its state if there is one to tell.
    pub fn node(&mut self, name: &str, state: &str) {
        let known = self.nodes.entry(name.to_owned()).or_default();
        if known.is_empty() {
            state.clone_into(known);
        }
    }

    /// An arrow, and its ends.
    pub fn edge(&mut self, from: &str, to: &str, label: &str) {
        self.node(from, "");
        self.node(to, "");
        self.edges.insert(Edge { from: from.to_owned(), to: to.to_owned(), label: label.to_owned() });
    }

    /// Those that come after each other for ever: the arrows that lie on a cycle.
    pub fn cyclic(&self) -> BTreeSet<&Edge> {
        self.edges.iter().filter(|edge| self.leads(&edge.to, &edge.from)).collect()
    }

    /// Is there a way from there to there?
    fn leads(&self, from: &str, to: &str) -> bool {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
        while let Some(node) = next.pop() {
            if node == to {
                return true;
            }
            if seen.insert(node) {
                next.extend(self.edges.iter().filter(|edge| edge.from == node).map(|edge| edge.to.as_str()));
            }
        }
        false
    }
}
