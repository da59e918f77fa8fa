//! Critical: the containers of a pod that what it holds is for.
//!
//! Pure, over one object version. Named by `konductor.io/containers`, else all app containers. What must stay true: what
//! cannot be found in the pod is unknown and proves nothing, so that nobody is released by the end of something else.

use konductor_api::section::Section;

use crate::record::{ContainerRecord, PodRecord};

/// The critical containers.
#[derive(Clone, Debug, PartialEq)]
pub enum Critical<'a> {
    /// App containers, at least one.
    Apps(Vec<&'a ContainerRecord>),
    /// One init container; the pod goes on after it.
    Init(&'a ContainerRecord),
    /// It cannot be told which.
    Unknown,
}

impl<'a> Critical<'a> {
    /// Those of that pod.
    pub fn of(pod: &'a PodRecord) -> Self {
        let section = pod.metadata.annotations.as_ref().map_or_else(|| Some(Section::default()), Section::of);
        section.map_or(Self::Unknown, |section| Self::among(&section, pod))
    }

    fn among(section: &Section, pod: &'a PodRecord) -> Self {
        if let [name] = section.names()
            && let Some(container) = pod.init_containers.iter().find(|container| container.name == *name)
        {
            // A sidecar never ends by itself, so its end would prove nothing.
            let sidecar = container.restart_policy.as_deref() == Some("Always");
            return if sidecar { Self::Unknown } else { Self::Init(container) };
        }
        let apps: Vec<_> = pod
            .containers
            .iter()
            .filter(|container| section.is_everything() || section.names_it(&container.name))
            .collect();
        let all_found = section.is_everything() || apps.len() == section.names().len();
        if apps.is_empty() || !all_found { Self::Unknown } else { Self::Apps(apps) }
    }
}
