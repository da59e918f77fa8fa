//! Metrics of Konductor's pods.
//!
//! Asks through the API server, so that it works on every cluster. What must stay true: a port is found by its name.

use anyhow::{Context, Result};

use crate::install::NAMESPACE;
use crate::proxy::Proxy;

/// The metrics of every pod of a component, as text.
pub(super) fn component(proxy: &Proxy, component: &str, port: &str) -> Result<Vec<String>> {
    let selector = format!("app.kubernetes.io/component%3D{component}");
    let pods = proxy.get(&format!("/api/v1/namespaces/{NAMESPACE}/pods?labelSelector={selector}"))?;
    let mut all = Vec::new();
    for pod in pods["items"].as_array().with_context(|| format!("the pods of {component}"))? {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        let number = pod["spec"]["containers"][0]["ports"]
            .as_array()
            .and_then(|ports| ports.iter().find(|known| known["name"] == port))
            .and_then(|known| known["containerPort"].as_u64())
            .with_context(|| format!("{component} has no port named {port}"))?;
        all.push(proxy.text(&format!("/api/v1/namespaces/{NAMESPACE}/pods/{name}:{number}/proxy/metrics"))?);
    }
    Ok(all)
}
