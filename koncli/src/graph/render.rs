//! The forms of a graph: text, Graphviz, Mermaid, SVG.
//!
//! Pure. What must stay true: whatever a name holds, it ends up as text and never as markup.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::layout::layers;
use super::{Edge, Graph};

const WIDTH: usize = 200;
const HEIGHT: usize = 44;
const GAP_X: usize = 150;
const GAP_Y: usize = 26;
const MARGIN: usize = 20;
/// Longer names are cut in pictures.
const SHOWN: usize = 26;

/// For a terminal: each node with what comes of it.
pub fn text(graph: &Graph) -> String {
    let cyclic = graph.cyclic();
    let mut text = String::new();
    for name in layers(graph).into_iter().flatten() {
        let state = graph.nodes.get(&name).filter(|state| !state.is_empty());
        let state = state.map(|state| format!(" ({state})")).unwrap_or_default();
        let out: Vec<_> = graph.edges.iter().filter(|edge| edge.from == name).collect();
        if out.is_empty() && graph.edges.iter().any(|edge| edge.to == name) && state.is_empty() {
            continue;
        }
        let _ = writeln!(text, "{name}{state}");
        for (number, edge) in out.iter().enumerate() {
            let branch = if number + 1 == out.len() { "`-" } else { "|-" };
            let mark = if cyclic.contains(edge) { "  <- cycle" } else { "" };
            let _ = writeln!(text, "  {branch} {} -> {}{mark}", edge.label, edge.to);
        }
    }
    text
}

/// For Graphviz.
pub fn dot(graph: &Graph) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let cyclic = graph.cyclic();
    let mut text = "digraph konductor {\n  rankdir=LR;\n  node [shape=box];\n".to_owned();
    for (name, state) in &graph.nodes {
        let label = if state.is_empty() { name.clone() } else { format!("{name}\n{state}") };
        let _ = writeln!(text, "  {} [label={}];", quoted(name), quoted(&label).replace('\n', "\\n"));
    }
    for edge in &graph.edges {
        let colour = if cyclic.contains(edge) { ", color=red" } else { "" };
        let _ = writeln!(
            text,
            "  {} -> {} [label={}{colour}];",
            quoted(&edge.from),
            quoted(&edge.to),
            quoted(&edge.label)
        );
    }
    text + "}\n"
}

/// For Markdown.
pub fn mermaid(graph: &Graph) -> String {
    let numbers: BTreeMap<&str, usize> = graph.nodes.keys().map(String::as_str).zip(0..).collect();
    let plain = |text: &str| text.replace('"', "#quot;");
    let cyclic = graph.cyclic();
    let mut text = "flowchart LR\n".to_owned();
    for (name, state) in &graph.nodes {
        let state = if state.is_empty() { String::new() } else { format!("<br/>{}", plain(state)) };
        let _ = writeln!(text, "  n{}[\"{}{state}\"]", numbers[name.as_str()], plain(name));
    }
    for (number, edge) in graph.edges.iter().enumerate() {
        let (from, to) = (numbers[edge.from.as_str()], numbers[edge.to.as_str()]);
        let _ = writeln!(text, "  n{from} -->|\"{}\"| n{to}", plain(&edge.label));
        if cyclic.contains(edge) {
            let _ = writeln!(text, "  linkStyle {number} stroke:red");
        }
    }
    text
}

/// For a browser.
pub fn svg(graph: &Graph) -> String {
    let layers = layers(graph);
    let rows = layers.iter().map(Vec::len).max().unwrap_or(0);
    let across =
        |count: usize, one: usize, gap: usize| 2 * MARGIN + count * one + count.saturating_sub(1) * gap;
    let (width, height) = (across(layers.len(), WIDTH, GAP_X), across(rows, HEIGHT, GAP_Y));
    let mut places: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for (column, there) in layers.iter().enumerate() {
        let top = (height - across(there.len(), HEIGHT, GAP_Y)) / 2 + MARGIN;
        for (row, name) in there.iter().enumerate() {
            places.insert(name, (MARGIN + column * (WIDTH + GAP_X), top + row * (HEIGHT + GAP_Y)));
        }
    }
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<defs>{}{}</defs>\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
        head("arrow", "#555"),
        head("cycle", "red"),
    );
    let cyclic = graph.cyclic();
    for edge in &graph.edges {
        let ends = (places.get(edge.from.as_str()), places.get(edge.to.as_str()));
        if let (Some(from), Some(to)) = ends {
            arrow(&mut text, edge, *from, *to, cyclic.contains(edge));
        }
    }
    for (name, (x, y)) in &places {
        let state = graph.nodes.get(*name).map(String::as_str).unwrap_or_default();
        let _ = writeln!(
            text,
            "<g><title>{0}</title><rect x=\"{x}\" y=\"{y}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"6\" fill=\"#f4f6fa\" stroke=\"#456\"/>\
             <text x=\"{1}\" y=\"{2}\">{3}</text><text x=\"{1}\" y=\"{4}\" fill=\"#667\" font-size=\"10\">{5}</text></g>",
            escaped(name),
            x + 10,
            y + 19,
            escaped(&cut(name)),
            y + 35,
            escaped(state),
        );
    }
    text + "</svg>\n"
}

fn head(id: &str, colour: &str) -> String {
    format!(
        "<marker id=\"{id}\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" orient=\"auto\">\
         <path d=\"M0 0L8 4L0 8z\" fill=\"{colour}\"/></marker>"
    )
}

fn arrow(text: &mut String, edge: &Edge, from: (usize, usize), to: (usize, usize), cycle: bool) {
    let (x1, y1, x2, y2) = (from.0 + WIDTH, from.1 + HEIGHT / 2, to.0, to.1 + HEIGHT / 2);
    let bend = GAP_X / 2;
    let (colour, mark) = if cycle { ("red", "cycle") } else { ("#555", "arrow") };
    let _ = writeln!(
        text,
        "<path d=\"M{x1} {y1}C{} {y1} {} {y2} {x2} {y2}\" fill=\"none\" stroke=\"{colour}\" marker-end=\"url(#{mark})\"/>\
         <text x=\"{}\" y=\"{}\" fill=\"{colour}\" font-size=\"10\" text-anchor=\"middle\">{}</text>",
        x1 + bend,
        x2.saturating_sub(bend),
        usize::midpoint(x1, x2),
        usize::midpoint(y1, y2).saturating_sub(4),
        escaped(&edge.label),
    );
}

fn cut(name: &str) -> String {
    if name.chars().count() <= SHOWN {
        return name.to_owned();
    }
    name.chars().take(SHOWN - 1).chain(['\u{2026}']).collect()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pipeline() -> Graph {
        let mut graph = Graph::default();
        graph.node("gate/ready", "Waiting");
        graph.edge("job/etl", "gate/ready", "Complete opens");
        graph.edge("gate/ready", "job/train", "lets through");
        graph.edge("job/train", "mutex/gpu", "holds");
        graph
    }

    #[test]
    fn a_terminal_shows_what_comes_of_what() {
        let expected = "\
job/etl
  `- Complete opens -> gate/ready
gate/ready (Waiting)
  `- lets through -> job/train
job/train
  `- holds -> mutex/gpu
";
        assert_eq!(text(&pipeline()), expected);
    }

    #[test]
    fn a_cycle_is_seen_in_every_form() {
        let mut graph = pipeline();
        graph.edge("job/train", "job/etl", "starts");
        assert_eq!(text(&graph).matches("<- cycle").count(), 3);
        assert_eq!(dot(&graph).matches("color=red").count(), 3);
        assert_eq!(mermaid(&graph).matches("stroke:red").count(), 3);
        assert_eq!(svg(&graph).matches("stroke=\"red\"").count(), 3);
    }

    #[test]
    fn a_name_is_text_and_nothing_else() {
        let mut graph = Graph::default();
        graph.edge("job/<script>\"x\\", "gate/g", "a & b");
        assert!(!svg(&graph).contains("<script"));
        assert!(svg(&graph).contains("a &amp; b"));
        assert!(dot(&graph).contains("\\\"x\\\\"));
        assert!(mermaid(&graph).contains("#quot;"));
    }
}
