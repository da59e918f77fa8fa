//! Who asks: the holder's name, and the name of the claim that is made of it.
//!
//! May touch: the environment, and in a pod one question to the API server. What must stay true: lock and unlock find the same
//! name; two holders never do, and neither do two pods of one name, one after the other.

use std::fmt::Write;

use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use konductor_api::participation::Kind;
use kube::api::PostParams;
use kube::{Api, Client};
use sha2::{Digest, Sha256};

use crate::live::{LiveError, refused};

/// Of the hash, in bytes: 80 bits are enough for as many claims as a namespace can hold.
const HASH: usize = 10;
/// Of what is there for people to read.
const READABLE: usize = 40;

/// Whoever asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// As people read it.
    pub shown: String,
    /// What distinguishes it.
    key: String,
}

/// Who the API server takes us for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Myself {
    /// The user.
    pub user: String,
    /// Name and UID of the pod, in one.
    pub pod: Option<(String, String)>,
}

impl Myself {
    /// Asks.
    pub async fn ask(client: &Client) -> Result<Self, LiveError> {
        let api: Api<SelfSubjectReview> = Api::all(client.clone());
        let answer = api
            .create(&PostParams::default(), &SelfSubjectReview::default())
            .await
            .map_err(|error| refused("who this is", &error))?;
        let user = answer.status.and_then(|status| status.user_info).unwrap_or_default();
        let extra = |key: &str| {
            let all = user.extra.as_ref()?;
            all.get(&format!("authentication.kubernetes.io/{key}"))?.first().cloned()
        };
        let pod = extra("pod-name").zip(extra("pod-uid"));
        Ok(Self { user: user.username.unwrap_or_default(), pod })
    }
}

impl Holder {
    /// The one that was named.
    pub fn named(name: &str) -> Self {
        Self { shown: name.to_owned(), key: name.to_owned() }
    }

    /// Whoever it is: who was named, else the pod, else this user on this machine.
    pub async fn find(named: Option<&str>, in_cluster: bool, client: &Client) -> Result<Self, LiveError> {
        if let Some(name) = named.filter(|name| !name.is_empty()) {
            return Ok(Self::named(name));
        }
        if in_cluster && let Some((pod, uid)) = Myself::ask(client).await?.pod {
            return Ok(Self { key: format!("{pod}/{uid}"), shown: pod });
        }
        Ok(Self::named(&on_this_machine()))
    }

    /// This process alone: what it runs is one of several that this user, or this pod, may run.
    #[must_use]
    pub fn of_this_process(&self, now: jiff::Timestamp) -> Self {
        let process = std::process::id();
        Self {
            shown: format!("{}#{process}", self.shown),
            key: format!("{}#{process}.{}", self.key, now.as_nanosecond()),
        }
    }

    /// The same with a number: one of several.
    #[must_use]
    pub fn numbered(&self, number: i64) -> Self {
        if number <= 1 {
            return self.clone();
        }
        Self { shown: format!("{}#{number}", self.shown), key: format!("{}#{number}", self.key) }
    }

    /// The name of its claim.
    pub fn claim(&self, kind: Kind, primitive: &str) -> String {
        let mut hash = Sha256::new();
        for part in [self.key.as_str(), kind.lower(), primitive] {
            hash.update(part.as_bytes());
            hash.update([0]);
        }
        let mut name: String = self
            .shown
            .chars()
            .map(|letter| letter.to_ascii_lowercase())
            .map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' })
            .take(READABLE)
            .collect();
        name = name.trim_matches('-').to_owned();
        let dash = if name.is_empty() { "" } else { "-" };
        let _ = write!(name, "{dash}{}-", kind.lower());
        for byte in hash.finalize().iter().take(HASH) {
            let _ = write!(name, "{byte:02x}");
        }
        name
    }
}

/// `user@host`.
fn on_this_machine() -> String {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let user = variable("USER")
        .or_else(|| variable("LOGNAME"))
        .unwrap_or_else(|| format!("uid-{}", rustix::process::getuid().as_raw()));
    format!("{user}@{}", rustix::system::uname().nodename().to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_reads_well_and_is_nobody_elses() {
        let name = |holder: &str, kind, primitive: &str| Holder::named(holder).claim(kind, primitive);
        let ann = name("Ann@laptop.example", Kind::Mutex, "db");
        assert_eq!(ann, "ann-laptop-example-mutex-a6d325a381a7a96d0431");
        assert_eq!(ann, name("Ann@laptop.example", Kind::Mutex, "db"), "asked twice");
        for other in [
            name("ann@laptop.example", Kind::Mutex, "db"),
            name("Ann@laptop-example", Kind::Mutex, "db"),
            name("Ann@laptop.example", Kind::Lease, "db"),
            name("Ann@laptop.example", Kind::Mutex, "db2"),
        ] {
            assert_ne!(ann, other);
        }
        assert_ne!(name("a", Kind::Mutex, "b"), name("a\0mutex", Kind::Mutex, "b"));
    }

    #[test]
    fn whatever_somebody_is_called_it_is_a_name_that_kubernetes_takes() {
        for holder in ["äöü", "--", "x".repeat(500).as_str(), "A b/c:d", "-a-"] {
            let name = Holder::named(holder).claim(Kind::WaitGroup, "g");
            assert!(name.len() <= 63 + 20, "{name}");
            assert!(
                name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            );
            assert!(!name.starts_with('-') && !name.ends_with('-'), "{name}");
        }
    }

    #[test]
    fn one_of_several_is_another() {
        let holder = Holder::named("ci");
        assert_eq!(holder.numbered(1), holder);
        assert_eq!(holder.numbered(2).shown, "ci#2");
    }
}
