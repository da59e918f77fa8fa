//! Running a program to its end.
//!
//! May touch: nothing itself. What must stay true: an error names the program and carries its last words.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Lines of a log or of a program's output that an error shows.
const LAST_LINES: usize = 12;

/// Runs it and returns what it printed. `what` finishes the sentence "could not …".
pub(crate) fn output(command: &mut Command, what: &str) -> Result<String> {
    let program = Path::new(command.get_program()).display().to_string();
    let output = command
        .stdin(std::process::Stdio::null())
        .output()
        .with_context(|| format!("could not {what}: {program} does not start"))?;
    if !output.status.success() {
        let words = if output.stderr.is_empty() { &output.stdout } else { &output.stderr };
        bail!(
            "could not {what}: {program}: {}\n{}",
            output.status,
            last_lines(&String::from_utf8_lossy(words))
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The end of a text, for an error message.
pub(crate) fn last_lines(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines.get(lines.len().saturating_sub(LAST_LINES)..).unwrap_or_default().join("\n")
}

/// Whether a program of this name is on the path of root, as a plain user's may lack sbin.
pub(crate) fn has_program(name: &str) -> bool {
    search_path().any(|folder| folder.join(name).is_file())
}

/// PATH, and what root's has on every Linux.
fn search_path() -> impl Iterator<Item = std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<_> = std::env::split_paths(&path).collect();
    folders.extend(SYSTEM_FOLDERS.iter().map(std::path::PathBuf::from));
    folders.into_iter()
}

/// Where the tools of the system are.
pub(crate) const SYSTEM_FOLDERS: [&str; 6] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_program_and_ends_with_its_last_words() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo one >&2; echo two >&2; exit 3"]);
        let error = output(&mut command, "try").unwrap_err().to_string();
        assert!(error.starts_with("could not try: sh: exit status: 3"), "{error}");
        assert!(error.ends_with("one\ntwo"), "{error}");
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = output(&mut Command::new("/no/such/program"), "try").unwrap_err().to_string();
        assert_eq!(error, "could not try: /no/such/program does not start");
    }

    #[test]
    fn only_the_end_of_a_long_text_is_shown() {
        let text = (0..100).map(|line| line.to_string()).collect::<Vec<_>>().join("\n");
        assert_eq!(last_lines(&text).lines().count(), LAST_LINES);
        assert!(last_lines(&text).ends_with("99"));
    }
}
