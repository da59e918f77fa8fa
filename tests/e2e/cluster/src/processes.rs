//! Which processes there are, asked of the kernel and of nobody else.
//!
//! May touch: `/proc`, read only. What must stay true: no pid is ever remembered across runs. A node's process 1 is
//! known by its arguments and a daemon by its program within the node's own `/proc`, so there is no stale pid file,
//! not after a reboot and not after a run that was killed.

use std::fs;
use std::path::{Path, PathBuf};

/// A number for `/proc`.
pub(crate) type Pid = u32;

/// Pids (as seen from here) whose arguments are what `matches` looks for.
pub(crate) fn find(matches: impl Fn(&[&str]) -> bool) -> Vec<Pid> {
    find_in(Path::new("/proc"), matches)
}

/// The same within a pid namespace: `proc` is where its `/proc` is seen.
pub(crate) fn find_in(proc: &Path, matches: impl Fn(&[&str]) -> bool) -> Vec<Pid> {
    let Ok(entries) = fs::read_dir(proc) else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|&pid| {
            // A zombie has no arguments, and a process may go while we look.
            let Ok(line) = fs::read(proc.join(format!("{pid}/cmdline"))) else { return false };
            let line = String::from_utf8_lossy(&line);
            let arguments: Vec<_> = line.trim_end_matches('\0').split('\0').collect();
            !line.is_empty() && matches(&arguments)
        })
        .collect()
}

/// Whether it runs; a zombie does not.
pub(crate) fn is_alive(proc: &Path, pid: Pid) -> bool {
    fs::read_to_string(proc.join(format!("{pid}/stat"))).is_ok_and(|stat| is_running(&stat))
}

/// The state is the first letter after the name, which may hold anything.
fn is_running(stat: &str) -> bool {
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

/// Where the `/proc` of a process's own namespaces is seen from here.
pub(crate) fn proc_of(pid: Pid) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/root/proc"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zombie_is_not_running_whatever_its_name() {
        assert!(is_running("7 (sh) S 1 7"));
        assert!(is_running("7 (a) Z (b) R 1 7"));
        assert!(!is_running("7 (sh) Z 1 7"));
        assert!(!is_running(""));
    }

    #[test]
    fn this_test_finds_itself_and_its_end() {
        // Ours alone: other runs of this test may be under way.
        let length = format!("1000.{}", std::process::id());
        let mut child = std::process::Command::new("sleep").arg(&length).spawn().unwrap();
        let sought = |arguments: &[&str]| arguments == ["sleep", &length];
        // spawn returns while the kernel still sets the new program up, before its arguments can be read.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while find(sought).is_empty() && std::time::Instant::now() < deadline {
            std::thread::yield_now();
        }
        assert_eq!(find(sought), [child.id()]);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(find(sought).is_empty());
        assert!(!is_alive(Path::new("/proc"), child.id()));
    }
}
