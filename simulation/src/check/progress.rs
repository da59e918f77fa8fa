//! The end: `Progress` and `NoLostWakeup`. When nothing goes wrong any more, everybody gets through, ledgers become empty,
//! and finalizers go.

use crate::cluster::Cluster;
use crate::store::Resource;

/// What is still under way.
pub(crate) fn rest(cluster: &Cluster) -> Vec<String> {
    let mut rest = Vec::new();
    for (key, version) in cluster.store.list(Resource::Pod) {
        let pod = &version.value;
        let over = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
        let kept = pod["metadata"]["finalizers"].as_array().is_some_and(|all| !all.is_empty());
        let deleting = !pod["metadata"]["deletionTimestamp"].is_null();
        if !over || kept || deleting {
            let grant = pod["metadata"]["annotations"][konductor_api::annotations::GRANT]
                .as_str()
                .unwrap_or("nothing");
            rest.push(format!(
                "{key} ({}{}{}, told {grant})",
                pod["status"]["phase"].as_str().unwrap_or("Pending"),
                if kept { ", kept" } else { "" },
                if deleting { ", deleting" } else { "" },
            ));
        }
    }
    for (key, version) in cluster.store.list(Resource::Job) {
        let conditions = version.value["status"]["conditions"].as_array();
        let over = conditions.into_iter().flatten().any(|condition| {
            matches!(condition["type"].as_str(), Some("Complete" | "Failed")) && condition["status"] == "True"
        });
        if !over {
            rest.push(key.to_string());
        }
    }
    for resource in [
        Resource::Mutex,
        Resource::RWMutex,
        Resource::Semaphore,
        Resource::Lease,
        Resource::Once,
        Resource::WaitGroup,
    ] {
        for (key, version) in cluster.store.list(resource) {
            let status = &version.value["status"];
            let holders = status["holders"].as_array().into_iter().flatten();
            let names: Vec<_> = holders.filter_map(|holder| holder["name"].as_str()).collect();
            if !names.is_empty() {
                rest.push(format!("{key} held by {}", names.join(", ")));
            }
        }
    }
    for (key, _) in cluster.store.list(Resource::Claim) {
        rest.push(key.to_string());
    }
    rest
}
