//! The versions of Kubernetes that can be under test.
//!
//! Types only. What must stay true: a version is the one that go.mod beside its sources pins; the default is what everything is
//! tested on, the others are the oldest that is supported and the newest that can be built.

use std::fmt;
use std::str::FromStr;

/// A Kubernetes that can be under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kubernetes {
    /// What the servers say they are; their own build would take it from git.
    pub(crate) version: &'static str,
    /// Where its sources are.
    pub(crate) sources: &'static str,
}

/// There is no such version here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownVersion(String);

impl Kubernetes {
    /// What is meant when none is named. With it come etcd and CoreDNS, for all.
    pub const DEFAULT: Self = Self { version: "1.36.3", sources: "go/servers" };
    /// Every one, the oldest first.
    pub const ALL: [Self; 3] = [
        Self { version: "1.30.14", sources: "go/kubernetes-1.30" },
        Self::DEFAULT,
        Self { version: "1.37.2", sources: "go/kubernetes-1.37" },
    ];

    /// As people say it: `1.36`.
    pub fn minor(self) -> &'static str {
        self.version.rsplit_once('.').map_or(self.version, |(minor, _)| minor)
    }

    /// The number after the dot.
    pub(crate) fn number(self) -> u32 {
        self.minor().rsplit_once('.').and_then(|(_, number)| number.parse().ok()).unwrap_or_default()
    }

    /// Of a cluster of this version, so that those of different versions run beside each other.
    #[must_use]
    pub fn cluster_name(self, name: &str) -> String {
        if self == Self::DEFAULT {
            name.to_owned()
        } else {
            format!("{name}-{}", self.minor().replace('.', "-"))
        }
    }
}

impl Default for Kubernetes {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl fmt::Display for Kubernetes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.minor())
    }
}

impl FromStr for Kubernetes {
    type Err = UnknownVersion;

    fn from_str(text: &str) -> Result<Self, UnknownVersion> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let known = Self::ALL.into_iter().find(|known| text == known.minor() || text == known.version);
        known.ok_or_else(|| UnknownVersion(text.to_owned()))
    }
}

impl fmt::Display for UnknownVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known: Vec<_> = Kubernetes::ALL.iter().map(|known| known.minor()).collect();
        write!(formatter, "Kubernetes {} cannot be built here; {} can", self.0, known.join(", "))
    }
}

impl std::error::Error for UnknownVersion {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_named_by_its_minor_and_another_is_refused_with_those_there_are() {
        for text in ["1.36", "v1.36", "1.36.3"] {
            assert_eq!(text.parse(), Ok(Kubernetes::DEFAULT));
        }
        let refused = "1.29".parse::<Kubernetes>().unwrap_err().to_string();
        assert_eq!(refused, "Kubernetes 1.29 cannot be built here; 1.30, 1.36, 1.37 can");
    }

    #[test]
    fn clusters_of_different_versions_have_different_names() {
        let names: Vec<_> = Kubernetes::ALL.iter().map(|known| known.cluster_name("test")).collect();
        assert_eq!(names, ["test-1-30", "test", "test-1-37"]);
        assert!(Kubernetes::ALL.iter().map(|known| known.number()).is_sorted());
    }
}
