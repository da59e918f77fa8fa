//! Layout: layers from left to right, and an order in each that crosses few arrows.
//!
//! Pure. Longest-path layering, then sweeps by barycentre, after Sugiyama, Tagawa and Toda, "Methods for visual understanding of
//! hierarchical system structures" (1981). An arrow back, on a cycle, moves no layer.

use std::collections::{BTreeMap, BTreeSet};

use super::{Edge, Graph};

/// Sweeps over the layers: more change nothing that is seen.
const SWEEPS: usize = 8;

/// The nodes of each layer, the first one on top.
pub fn layers(graph: &Graph) -> Vec<Vec<String>> {
    let back = back(graph);
    let forward = || graph.edges.iter().filter(|edge| edge.from != edge.to && !back.contains(edge));
    let mut layer: BTreeMap<&str, usize> = graph.nodes.keys().map(|name| (name.as_str(), 0)).collect();
    // Without arrows back each pass settles a layer more.
    for _ in 0..graph.nodes.len() {
        let mut moved = false;
        for edge in forward() {
            let least = layer.get(edge.from.as_str()).copied().unwrap_or(0) + 1;
            if let Some(at) = layer.get_mut(edge.to.as_str()).filter(|at| **at < least) {
                *at = least;
                moved = true;
            }
        }
        if !moved {
            break;
        }
    }
    let count = layer.values().max().map_or(0, |last| last + 1);
    let mut layers: Vec<Vec<&str>> = vec![Vec::new(); count];
    for (name, at) in &layer {
        if let Some(there) = layers.get_mut(*at) {
            there.push(name);
        }
    }
    for sweep in 0..SWEEPS {
        let places: BTreeMap<&str, usize> =
            layers.iter().flat_map(|there| there.iter().copied().zip(0..)).collect();
        for there in &mut layers {
            there.sort_by_key(|name| {
                let neighbours = forward().filter_map(|edge| match (edge.from == *name, edge.to == *name) {
                    (true, _) if sweep % 2 == 1 => places.get(edge.to.as_str()),
                    (_, true) if sweep % 2 == 0 => places.get(edge.from.as_str()),
                    _ => None,
                });
                let (sum, count) = neighbours.fold((0, 0), |(sum, count), place| (sum + place, count + 1));
                // In thousandths; who has no neighbour stays where it is.
                let own = places.get(name).copied().unwrap_or(0);
                ((sum * 1000_usize).checked_div(count).unwrap_or(own * 1000), own)
            });
        }
    }
    layers.into_iter().map(|there| there.into_iter().map(str::to_owned).collect()).collect()
}

/// The arrows that close a cycle, in the order in which a walk meets them.
fn back(graph: &Graph) -> BTreeSet<&Edge> {
    let (mut back, mut done) = (BTreeSet::new(), BTreeSet::new());
    for start in graph.nodes.keys() {
        let mut path: Vec<(&str, Vec<&Edge>)> = Vec::new();
        let out = |node: &str| graph.edges.iter().filter(|edge| edge.from == node).collect::<Vec<_>>();
        if done.insert(start.as_str()) {
            path.push((start, out(start)));
        }
        while let Some((_, rest)) = path.last_mut() {
            let Some(edge) = rest.pop() else {
                path.pop();
                continue;
            };
            if path.iter().any(|(node, _)| *node == edge.to) {
                back.insert(edge);
            } else if done.insert(edge.to.as_str()) {
                path.push((&edge.to, out(&edge.to)));
            }
        }
    }
    back
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(edges: &[(&str, &str)]) -> Graph {
        let mut graph = Graph::default();
        for (from, to) in edges {
            graph.edge(from, to, "");
        }
        graph
    }

    #[test]
    fn what_comes_later_stands_further_right() {
        let layers = layers(&of(&[("a", "b"), ("b", "c"), ("a", "c"), ("x", "c")]));
        assert_eq!(layers, [vec!["a", "x"], vec!["b"], vec!["c"]]);
    }

    #[test]
    fn a_cycle_is_drawn_all_the_same() {
        let graph = of(&[("a", "b"), ("b", "a"), ("b", "c")]);
        assert_eq!(layers(&graph), [["a"], ["b"], ["c"]]);
        assert_eq!(graph.cyclic().len(), 2);
        assert_eq!(layers(&of(&[("a", "a")])), [["a"]]);
        assert!(layers(&Graph::default()).is_empty());
    }

    #[test]
    fn neighbours_stand_side_by_side() {
        let layers = layers(&of(&[("a", "z"), ("b", "y"), ("c", "x")]));
        assert_eq!(layers, [["a", "b", "c"], ["z", "y", "x"]]);
    }
}
