//! Complete: the names that a cluster has, for whoever presses Tab.
//!
//! May touch: one cluster, reading. What must stay true: a shell never waits for long, and what cannot be asked completes nothing.

use std::ffi::OsString;
use std::time::Duration;

use clap_complete::CompletionCandidate;
use konductor_api::participation::Kind;
use kube::api::ListParams;

use crate::args::Connection;
use crate::cluster::connect;

const PATIENCE: Duration = Duration::from_secs(2);

/// The primitives of the kind that stands on the line.
pub fn names() -> Vec<CompletionCandidate> {
    let words: Vec<_> = std::env::args_os().collect();
    let Some(kind) = kind_on(&words) else { return Vec::new() };
    let connection = Connection { namespace: namespace_on(&words), ..Connection::default() };
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return Vec::new();
    };
    let found = runtime.block_on(async {
        let all = async {
            let cluster = connect(&connection).await.ok()?;
            cluster.api(kind).list(&ListParams::default()).await.ok()
        };
        tokio::time::timeout(PATIENCE, all).await.ok().flatten()
    });
    let objects = found.map(|found| found.items).unwrap_or_default();
    objects.into_iter().filter_map(|object| object.metadata.name).map(CompletionCandidate::new).collect()
}

/// `run` takes mutexes, unless it is told otherwise.
fn kind_on(words: &[OsString]) -> Option<Kind> {
    words.iter().filter_map(|word| word.to_str()).find_map(|word| match word {
        "run" => Some(Kind::Mutex),
        word => Kind::ALL.into_iter().find(|kind| kind.lower() == word),
    })
}

fn namespace_on(words: &[OsString]) -> Option<String> {
    let words: Vec<_> = words.iter().filter_map(|word| word.to_str()).collect();
    let at = words.iter().position(|word| matches!(*word, "-n" | "--namespace"))?;
    words.get(at + 1).map(|word| (*word).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_of_what_names_are_wanted() {
        let words = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
        assert_eq!(kind_on(&words("koncli -n shop rwmutex rlock x")), Some(Kind::RWMutex));
        assert_eq!(kind_on(&words("koncli run d")), Some(Kind::Mutex));
        assert_eq!(kind_on(&words("koncli lint d")), None);
        assert_eq!(namespace_on(&words("koncli -n shop mutex lock x")), Some("shop".to_owned()));
        assert_eq!(namespace_on(&words("koncli mutex lock -n")), None);
    }
}
