//! The program as somebody calls it: what is on which output, and with which code it ends.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "all of this file is tests")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn koncli(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_koncli"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that refuses its arguments ends without reading.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn examples() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let folders = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    folders.filter(|path| path.is_dir()).collect()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

const JOB: &str = "apiVersion: batch/v1\nkind: Job\nmetadata: {name: etl, annotations: {konductor.io/mutex: db}}\nspec: {template: {spec: {restartPolicy: Never, containers: [{name: main, image: x}]}}}\n";

#[test]
fn lint_says_nothing_of_the_examples() {
    let folders = examples();
    assert!(folders.len() >= 10);
    for folder in folders {
        let said = koncli(&["lint", "--fail-on", "warning", folder.to_str().unwrap()], "");
        assert!(said.status.success() && said.stdout.is_empty(), "{folder:?}: {}", text(&said.stdout));
    }
}

#[test]
fn what_is_injected_into_the_examples_comes_out_of_them_again() {
    for folder in examples() {
        let plain = koncli(&["uninject", "-o", "json", folder.to_str().unwrap()], "");
        let injected = koncli(&["inject", "-o", "json", folder.to_str().unwrap()], "");
        assert!(plain.status.success() && injected.status.success(), "{folder:?}");
        let annotated = text(&plain.stdout).contains("{\"konductor.io/");
        assert_eq!(injected.stdout != plain.stdout, annotated, "{folder:?}");
        let documents: Vec<_> = text(&injected.stdout).lines().collect();
        let back = koncli(&["uninject", "-o", "json", "-"], &documents.join("\n---\n"));
        assert_eq!(text(&back.stdout), text(&plain.stdout), "{folder:?}");
    }
}

#[test]
fn data_is_on_one_output_and_the_report_on_the_other() {
    let said = koncli(&["inject", "-"], JOB);
    assert!(said.status.success());
    assert_eq!(text(&said.stderr), "standard input Job/etl: injected: mutex/db\n");
    assert!(text(&said.stdout).contains("konductor.io/job-plan: v1 mutex=db"));
    let said = koncli(&["lint", "-o", "json", "-"], JOB);
    assert_eq!(
        text(&said.stdout),
        "{\"place\":\"standard input\",\"object\":\"Job/etl\",\"code\":\"KON03\",\"severity\":\"warning\",\"message\":\"mutex/db is defined nowhere here; whoever names it waits until it is\"}\n"
    );
    assert_eq!(text(&said.stderr), "1 objects, 0 errors, 1 warnings\n");
}

#[test]
fn findings_decide_the_code_as_they_are_asked_to() {
    let code = |arguments: &[&str]| koncli(arguments, JOB).status.code();
    assert_eq!(code(&["lint", "-"]), Some(0));
    assert_eq!(code(&["lint", "--fail-on", "warning", "-"]), Some(1));
    assert_eq!(code(&["lint", "--fail-on", "warning", "--ignore", "kon03", "-"]), Some(0));
    let misspelt = JOB.replace("/mutex", "/mutx");
    assert_eq!(koncli(&["lint", "-"], &misspelt).status.code(), Some(1));
    assert_eq!(koncli(&["lint", "--fail-on", "never", "-"], &misspelt).status.code(), Some(0));
    let refused = koncli(&["inject", "-"], &misspelt);
    assert_eq!((refused.status.code(), text(&refused.stdout)), (Some(1), ""));
    assert!(text(&refused.stderr).contains("refused: metadata.annotations[konductor.io/mutx]"));
}

/// Thirty files, of which eight have something planted; the same without those.
#[test]
fn what_is_planted_in_a_folder_is_found_and_nothing_else() {
    let folder = |name: &str| format!("{}/tests/{name}", env!("CARGO_MANIFEST_DIR"));
    let found = koncli(&["lint", &folder("planted")], "");
    let lines: Vec<_> = text(&found.stdout).lines().collect();
    for (file, words) in [
        ("23-cycle.yaml", "error KON04: gate/dawn waits for gate/dusk waits for job/night"),
        (
            "25-claims.yaml",
            "error KON06: ann takes mutex/left and then mutex/right, and bob the other way round",
        ),
        ("27-rollout.yaml", "warning KON02: a rollout may never end"),
        ("28-barrier.yaml", "error KON05: it opens when 4 have arrived, and only 3"),
        ("29-typo.yaml", "did you mean table-9?"),
        ("30-annotation.yaml", "did you mean konductor.io/mutex?"),
    ] {
        assert!(lines.iter().any(|line| line.contains(file) && line.contains(words)), "{file}: {lines:#?}");
    }
    let planted = ["23-", "25-", "27-", "28-", "29-", "30-"];
    assert!(lines.iter().all(|line| planted.iter().any(|file| line.contains(&format!("/planted/{file}")))));
    assert_eq!(found.status.code(), Some(1));
    let clean = koncli(&["lint", "--fail-on", "warning", &folder("clean")], "");
    assert_eq!((clean.status.code(), text(&clean.stdout)), (Some(0), ""), "{}", text(&clean.stderr));
    let cycles = koncli(&["graph", &folder("planted")], "");
    assert_eq!(text(&cycles.stdout).matches("<- cycle").count(), 3);
    let none = koncli(&["graph", &folder("clean")], "");
    assert!(!text(&none.stdout).contains("<- cycle") && text(&none.stdout).contains("gate/stage-1"));
    for (output, begins) in [("dot", "digraph"), ("mermaid", "flowchart LR"), ("svg", "<svg ")] {
        let drawn = koncli(&["graph", "-o", output, &folder("planted")], "");
        assert!(text(&drawn.stdout).starts_with(begins), "{output}");
    }
}

#[test]
fn bad_input_is_a_sentence_and_a_code() {
    for (arguments, input, code, words) in [
        (&["frob"][..], "", 2, "unrecognized subcommand 'frob'"),
        (&[], "", 2, "Usage: koncli [OPTIONS] <COMMAND>"),
        (&["lint"], "", 2, "required arguments were not provided"),
        (&["lint", "--ignore", "KON99", "-"], "", 2, "there is no such code; there are KON01"),
        (&["lint", "/no/such/file"], "", 1, "/no/such/file: No such file"),
        (&["inject", "-"], "kind: [", 1, "a manifest is a YAML or JSON object"),
        (&["inject", "-"], "\u{0}\u{1}", 1, "error: standard input"),
        (&["mutex", "list", "--kubeconfig", "/no/such/file"], "", 1, "name one with --kubeconfig FILE"),
        (&["gate", "create", "g", "--condition", "etl"], "", 2, "write it as TYPE/NAME"),
        (&["status", "mutex"], "", 2, "which mutex? koncli status mutex NAME"),
    ] {
        let said = koncli(arguments, input);
        let error = text(&said.stderr);
        assert_eq!(said.status.code(), Some(code), "{arguments:?}: {error}");
        assert!(error.contains(words) && !error.contains("panicked"), "{arguments:?}: {error}");
        assert!(said.stdout.is_empty());
    }
}

#[test]
fn version_help_and_completion_need_nothing() {
    assert!(text(&koncli(&["version"], "").stdout).starts_with("koncli 0."));
    assert!(text(&koncli(&["--help"], "").stdout).contains("lint"));
    let folder = std::env::temp_dir().join(format!("koncli-man-{}", std::process::id()));
    assert!(koncli(&["man", folder.to_str().unwrap()], "").status.success());
    let pages: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|page| page.unwrap().file_name()).collect();
    assert!(pages.len() > 30 && pages.contains(&"koncli-mutex-lock.1".into()), "{pages:?}");
    assert!(pages.iter().all(|page| !page.to_str().unwrap().contains("__")), "{pages:?}");
    std::fs::remove_dir_all(&folder).unwrap();
    for shell in ["bash", "zsh", "fish"] {
        assert!(text(&koncli(&["completion", shell], "").stdout).contains("koncli"), "{shell}");
    }
}
