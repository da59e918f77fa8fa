//! The cable between a further node and the first one.
//!
//! May touch: interfaces and routes in the namespaces of both, and nothing of the machine. What must stay true: both
//! ends live in namespaces of nodes, so a cable goes with the first of its nodes that does.

use anyhow::Result;

use crate::node::{Node, Spec};
use crate::run;

/// Lays one from the first node to a new one, which is to call its end `eth0`.
pub(crate) fn plug(first: &Node, further: &Node) -> Result<()> {
    let spec = further.spec();
    // The kernel takes its time with the namespace of a node that is gone, and the old cable with it.
    unplug(first, spec)?;
    let script = r#"
        ip link add "$1" type veth peer name eth0 address "$2" netns "$3"
        ip link set "$1" master eth0 up
        ip route replace "$4" via "$5"
    "#;
    let (pid, what) = (further.init().to_string(), format!("plug in node {}", spec.name()));
    let words = [&spec.name(), &spec.hardware_address(), &pid, &spec.pod_subnet(), &spec.address()];
    on(first, script, &words.map(String::as_str), &what)
}

/// Pulls the plug; both ends stay.
pub(crate) fn cut(first: &Node, spec: Spec) -> Result<()> {
    on(first, r#"ip link set "$1" down"#, &[&spec.name()], &format!("cut off node {}", spec.name()))
}

/// Puts it in again.
pub(crate) fn mend(first: &Node, spec: Spec) -> Result<()> {
    on(first, r#"ip link set "$1" up"#, &[&spec.name()], &format!("mend the cable of node {}", spec.name()))
}

/// Takes the cable away, and what the first node knows of the way, as far as they are there.
pub(crate) fn unplug(first: &Node, spec: Spec) -> Result<()> {
    // They may go by themselves while this looks, so what counts is that they are gone.
    let script = r#"
        ip link delete "$1" 2>/dev/null || ! ip link show dev "$1" >/dev/null 2>&1
        ip route delete "$2" 2>/dev/null || test -z "$(ip route show "$2")"
    "#;
    on(first, script, &[&spec.name(), &spec.pod_subnet()], &format!("unplug node {}", spec.name()))
}

fn on(first: &Node, script: &str, words: &[&str], what: &str) -> Result<()> {
    let mut command = first.command_on_its_network("sh");
    command.args(["-euc", script, "sh"]).args(words);
    run::output(&mut command, what).map(drop)
}
