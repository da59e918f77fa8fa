//! The transcripts of `docs/`: each command of a `console` block is run, and says what stands below it.
//!
//! `…` in a line stands for anything, and a line of it alone for any lines. `$ echo $?` is the exit code of the command before. The
//! blocks of a page are one story, in a namespace of its own. What must stay true: a page that has such a block with koncli in it is
//! in the table below, so that none is left out.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use konductor_e2e::namespace::{Namespace, in_namespace};
use konductor_e2e::tools::{in_tree, koncli_program, kubeconfig_with};
use tokio::process::Command;

/// A command of a page, and what it says.
struct Step {
    command: String,
    says: Vec<String>,
}

fn steps(page: &str) -> Vec<Step> {
    let (mut steps, mut inside): (Vec<Step>, bool) = (Vec::new(), false);
    for line in page.lines() {
        if line.starts_with("```") {
            inside = line == "```console";
        } else if !inside {
        } else if let Some(command) = line.strip_prefix("$ ") {
            steps.push(Step { command: command.to_owned(), says: Vec::new() });
        } else if let Some(step) = steps.last_mut() {
            step.says.push(line.to_owned());
        }
    }
    steps
}

/// Does the text read like that?
fn reads(says: &[String], lines: &[&str]) -> bool {
    match (says.split_first(), lines.split_first()) {
        (None, None) => true,
        (Some((any, rest)), _) if any == "…" => {
            reads(rest, lines) || lines.split_first().is_some_and(|(_, others)| reads(says, others))
        }
        (Some((line, rest)), Some((actual, others))) => fits(line, actual) && reads(rest, others),
        _ => false,
    }
}

/// Does a line read like that?
fn fits(pattern: &str, line: &str) -> bool {
    match pattern.split_once('…') {
        None => pattern == line,
        Some((before, after)) => {
            let Some(rest) = line.strip_prefix(before) else { return false };
            (0..=rest.len()).filter(|at| rest.is_char_boundary(*at)).any(|at| fits(after, &rest[at..]))
        }
    }
}

/// Every page of the documentation.
fn pages(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            pages(&path, found)?;
        } else if path.extension().is_some_and(|ending| ending == "md") {
            found.push(path);
        }
    }
    Ok(())
}

async fn tell(namespace: &Namespace, page: &str) -> Result<()> {
    let kubeconfig = kubeconfig_with(namespace.name(), |config| {
        config["contexts"][0]["context"]["namespace"] = serde_json::json!(namespace.name());
    })?;
    let program = koncli_program()?;
    let folder = program.parent().context("koncli lies in a folder")?;
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap_or_default());
    let mut code = 0;
    for step in steps(&std::fs::read_to_string(in_tree("docs/src").join(page))?) {
        if step.command == "echo $?" {
            ensure!(step.says == [code.to_string()], "{page}: {code} is the code, and not {:?}", step.says);
            continue;
        }
        let said = Command::new("sh")
            .args(["-c", &format!("{{ {}\n}} 2>&1", step.command)])
            .env("PATH", &path)
            .env("KUBECONFIG", &kubeconfig)
            .env_remove("KONCLI_NAMESPACE")
            .kill_on_drop(true)
            .output()
            .await?;
        code = said.status.code().unwrap_or(-1);
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        let lines: Vec<_> = text.lines().collect();
        ensure!(
            reads(&step.says, &lines),
            "{page}: $ {}\n{text}\nand not\n{}",
            step.command,
            step.says.join("\n")
        );
    }
    std::fs::remove_file(kubeconfig)?;
    Ok(())
}

const TOLD: [&str; 3] =
    ["tasks/take-part-from-a-terminal.md", "tasks/break-a-hold.md", "tasks/migrate-from-the-go-konductor.md"];

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn what_the_documentation_shows_is_what_is_said() {
    let mut all = Vec::new();
    pages(&in_tree("docs/src"), &mut all).unwrap();
    let root = in_tree("docs/src");
    let with_koncli: Vec<_> = all
        .iter()
        .filter(|path| {
            steps(&std::fs::read_to_string(path).unwrap())
                .iter()
                .any(|step| step.command.starts_with("koncli"))
        })
        .map(|path| path.strip_prefix(&root).unwrap().display().to_string())
        .collect();
    assert!(with_koncli.iter().all(|page| TOLD.contains(&page.as_str())), "{with_koncli:?}");
    for (number, page) in TOLD.into_iter().enumerate() {
        in_namespace(&format!("docs-{number}"), async |namespace| tell(namespace, page).await).await;
    }
}

#[test]
fn a_transcript_reads_like_what_was_said() {
    let says = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
    assert!(reads(&says(&["…", "a … c", "…"]), &["x", "y", "a b c"]));
    assert!(!reads(&says(&["a … c"]), &["a b d"]));
    assert!(!reads(&says(&["a"]), &["a", "b"]));
    assert!(fits("…b…", "abc") && !fits("…d", "abc"));
    assert_eq!(steps("```console\n$ a\nb\n```\n```sh\n$ c\n```\n").len(), 1);
}
