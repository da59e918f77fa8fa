//! Where sidecars renew: by which CA it is known, and whether the cluster knows the rule by which they fence.
//!
//! May touch: one file, the version of the API server, and the settings of admissions to come. What must stay true: no
//! sidecar is injected that could trust nobody, because it would end its pod; the rule is injected only where the API
//! server takes it.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use clap::ValueEnum;
use konductor_certs::Current;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::sidecar::Sessions;
use crate::waiter::Settings;

/// How often the CAs are looked at. They are trusted for minutes before the first leaf is issued by the next one.
const PERIOD: Duration = Duration::from_secs(5);
/// Every so many looks the version is asked for again: a control plane may be upgraded while we run.
const LOOKS_BETWEEN_VERSIONS: u32 = 12;
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// From that version on a container may start its whole pod again, without a feature gate. The one before refuses a
/// sidecar with rules, and those before that drop them.
const KNOWS_THE_RULE: (u32, u32) = (1, 36);
/// As cert-manager puts it beside certificate and key.
const CA_FILE: &str = "ca.crt";

/// Whether sidecars get the rule by which they start their whole pod again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Fence {
    /// If the API server is of a version that has it without a feature gate.
    Auto,
    /// Yes: the feature gate is on.
    Always,
    /// No.
    Never,
}

/// Where the CAs come from.
pub(crate) enum Trust {
    /// Our own.
    Ours(Current),
    /// Those of somebody else, in that folder.
    Others(PathBuf),
}

/// What is looked at.
pub(crate) struct Lookout {
    pub(crate) client: kube::Client,
    pub(crate) address: String,
    pub(crate) trust: Trust,
    pub(crate) fence: Fence,
    /// What was found last, and what was said of it.
    pub(crate) seen: Seen,
}

/// What was found last.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    knows_the_rule: Option<bool>,
    looks: u32,
    told: String,
}

impl Lookout {
    /// Looks once.
    pub(crate) async fn look(&mut self) -> Option<Sessions> {
        let fences = match self.fence {
            Fence::Always => true,
            Fence::Never => false,
            Fence::Auto => self.knows_the_rule().await,
        };
        match self.trust.pem() {
            Ok(ca) => Some(Sessions { address: self.address.clone(), ca, fences }),
            Err(problem) => {
                self.tell(format!("no sidecar is injected: {problem}"));
                None
            }
        }
    }

    /// Looks for ever.
    pub(crate) async fn keep(mut self, settings: Arc<ArcSwap<Settings>>) -> Infallible {
        let mut looks = interval(PERIOD);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            let sessions = self.look().await;
            let now = settings.load();
            if now.sessions != sessions {
                settings.store(Arc::new(Settings { sessions, ..Settings::clone(&now) }));
            }
        }
    }

    async fn knows_the_rule(&mut self) -> bool {
        let due =
            self.seen.looks.is_multiple_of(LOOKS_BETWEEN_VERSIONS) || self.seen.knows_the_rule.is_none();
        self.seen.looks = self.seen.looks.wrapping_add(1);
        if due {
            match timeout(CALL_TIMEOUT, self.client.apiserver_version()).await {
                Ok(Ok(version)) => {
                    let knows = version_of(&version.major, &version.minor) >= KNOWS_THE_RULE;
                    if self.seen.knows_the_rule != Some(knows) {
                        tracing::info!(version = version.git_version, fences = knows, "sidecars");
                    }
                    self.seen.knows_the_rule = Some(knows);
                }
                Ok(Err(error)) => self.tell(format!("the API server does not tell its version: {error}")),
                Err(_) => self.tell("the API server does not tell its version in time".to_owned()),
            }
        }
        self.seen.knows_the_rule.unwrap_or_default()
    }

    /// Once for each text.
    fn tell(&mut self, text: String) {
        if self.seen.told != text {
            tracing::warn!("{text}");
            self.seen.told = text;
        }
    }
}

/// `1` and `36+`, as clouds write it. What cannot be read is old.
fn version_of(major: &str, minor: &str) -> (u32, u32) {
    let number = |text: &str| {
        let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().unwrap_or_default()
    };
    (number(major), number(minor))
}

impl Trust {
    fn pem(&self) -> Result<String, String> {
        match self {
            Self::Ours(current) => Ok(current.load().bundle_pem().to_owned()),
            Self::Others(directory) => {
                let path = directory.join(CA_FILE);
                let found = std::fs::read_to_string(&path).map_err(|error| error.to_string());
                let found = found.and_then(|pem| {
                    if pem.contains("-----BEGIN CERTIFICATE-----") {
                        Ok(pem)
                    } else {
                        Err("it holds no certificate".to_owned())
                    }
                });
                found.map_err(|problem| format!("{}: {problem}", path.display()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_clouds_write_them() {
        for (major, minor, knows) in
            [("1", "36", true), ("1", "36+", true), ("1", "35", false), ("2", "0", true), ("", "", false)]
        {
            assert_eq!(version_of(major, minor) >= KNOWS_THE_RULE, knows, "{major}.{minor}");
        }
    }

    #[test]
    fn a_folder_without_a_ca_is_told_with_its_file() {
        let problem = Trust::Others(PathBuf::from("/nowhere/at/all")).pem().unwrap_err();
        assert!(problem.starts_with("/nowhere/at/all/ca.crt: No such file"), "{problem}");
        let folder = std::env::temp_dir().join(format!("konductor-ca-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let read = |text: &str| {
            std::fs::write(folder.join(CA_FILE), text).unwrap();
            Trust::Others(folder.clone()).pem()
        };
        assert!(read("").unwrap_err().ends_with("it holds no certificate"));
        assert!(read("-----BEGIN CERTIFICATE-----\nAA\n").is_ok());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
