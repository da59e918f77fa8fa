//! What the commands print.
//!
//! May touch: standard output and standard error. What must stay true: data alone is on standard output; whoever reads only
//! the first lines of it is no error.

#![expect(clippy::print_stderr, reason = "printing is what this is for")]

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use jiff::Timestamp;
use konductor_api::participation::Kind;
use konductor_webhook::waiter::Settings;
use serde_json::Value;

use crate::args::{
    Connection, Document, Draw, Files, GoTime, Inject, Lint, List, Listing, Look, Picture, Uninject, Wait,
};
use crate::cluster::connect;
use crate::exit::Exit;
use crate::graph::{Graph, render, sources};
use crate::inject::{self, Injected, Why};
use crate::lint::{self, Severity};
use crate::live::{self, Ask, LiveError};
use crate::manifests::{self, Manifest};
use crate::simulate::{self, Scenario};
use crate::uninject;
use crate::why;

fn failed(error: &dyn std::error::Error) -> Exit {
    eprintln!("error: {error}");
    Exit::Error
}

/// Prints data, and ends with that code.
fn print(data: &str, exit: Exit) -> Exit {
    match std::io::stdout().lock().write_all(data.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => failed(&error),
        _ => exit,
    }
}

/// What a cluster says.
pub(crate) fn live(connection: &Connection, kind: Kind, ask: Ask) -> Exit {
    told(live::ask(connection, kind, ask))
}

/// The status of one primitive, or of all.
pub(crate) fn status(connection: &Connection, kind: &str, name: Option<String>, look: Look) -> Exit {
    if kind == "all" {
        let list = List { look, all_namespaces: false, no_headers: false };
        return told(live::list_all(connection, &list));
    }
    let known = Kind::ALL.into_iter().find(|known| known.lower() == kind.to_lowercase());
    match (known, name) {
        (Some(kind), Some(name)) => live(connection, kind, Ask::Status(look, name)),
        (Some(kind), None) => {
            eprintln!(
                "error: which {}? koncli status {} NAME, or koncli status all",
                kind.lower(),
                kind.lower()
            );
            Exit::Usage
        }
        (None, _) => {
            let kinds: Vec<_> = Kind::ALL.iter().map(|kind| kind.lower()).collect();
            eprintln!("error: there is no kind {kind:?}; there are {}, and all", kinds.join(", "));
            Exit::Usage
        }
    }
}

/// Waits for what is called `KIND/NAME`.
pub(crate) fn wait(connection: &Connection, target: &str, timeout: Option<GoTime>) -> Exit {
    let kinds = [Kind::Gate, Kind::Barrier, Kind::WaitGroup];
    let found = target.split_once('/').and_then(|(kind, name)| {
        Some((kinds.into_iter().find(|known| known.lower() == kind)?, name.to_owned()))
    });
    if let Some((kind, name)) = found {
        return live(connection, kind, Ask::Wait(Wait { name, timeout }));
    }
    eprintln!(
        "error: {target:?}: write gate/NAME, barrier/NAME or waitgroup/NAME; what can be held is waited for by taking it"
    );
    Exit::Usage
}

/// Every primitive.
pub(crate) fn list(connection: &Connection, list: &List) -> Exit {
    told(live::list_all(connection, list))
}

/// Why something waits.
pub(crate) fn why(connection: &Connection, target: &str, name: Option<&str>) -> Exit {
    told(async {
        let cluster = connect(connection).await?;
        let facts = why::facts::collect(&cluster, target, name).await?;
        Ok((why::why(&facts), Exit::Done))
    })
}

/// A timeline of what would happen.
pub(crate) fn simulate(files: &Files) -> Exit {
    let manifests = match manifests::read(&files.files) {
        Ok(manifests) => manifests,
        Err(error) => return failed(&error),
    };
    match Scenario::of(&manifests).and_then(|scenario| simulate::run(&scenario)) {
        Ok(story) => print(&story, Exit::Done),
        Err(why) => {
            eprintln!("error: {why}");
            Exit::Error
        }
    }
}

/// A picture of manifests, or of a namespace.
pub(crate) fn graph(connection: &Connection, flags: &Draw) -> Exit {
    let draw = |graph: &Graph| match flags.output {
        Picture::Text => render::text(graph),
        Picture::Dot => render::dot(graph),
        Picture::Mermaid => render::mermaid(graph),
        Picture::Svg => render::svg(graph),
    };
    if flags.files.is_empty() {
        return told(async {
            let objects = live::everything(connection).await?;
            Ok((draw(&sources::graph(objects.iter())), Exit::Done))
        });
    }
    match manifests::read(&flags.files) {
        Ok(manifests) => {
            print(&draw(&sources::graph(manifests.iter().map(|manifest| &manifest.object))), Exit::Done)
        }
        Err(error) => failed(&error),
    }
}

/// What comes of talking to a cluster.
pub(crate) fn told(told: impl Future<Output = Result<(String, Exit), LiveError>>) -> Exit {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    match runtime.block_on(told) {
        Ok((text, exit)) => print(&text, exit),
        Err(error) => {
            eprintln!("error: {error}");
            error.exit()
        }
    }
}

/// Every manifest, with what is made of it; one that is refused is left out.
fn each(files: &Files, output: Document, mut make: impl FnMut(&Manifest) -> Option<Value>) -> Exit {
    let manifests = match manifests::read(&files.files) {
        Ok(manifests) => manifests,
        Err(error) => return failed(&error),
    };
    let (mut data, mut exit) = (String::new(), Exit::Done);
    for manifest in &manifests {
        let Some(object) = make(manifest) else {
            exit = Exit::Error;
            continue;
        };
        let written = match output {
            Document::Json => writeln!(data, "{object}").map_err(|error| error.to_string()),
            Document::Yaml => match serde_saphyr::to_string(&object) {
                Ok(text) => write!(data, "---\n{text}").map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            },
        };
        if let Err(error) = written {
            eprintln!("error: {} {}: {error}", manifest.origin, manifest.display());
            exit = Exit::Error;
        }
    }
    print(&data, exit)
}

/// Manifests on standard output, what was done with them on standard error.
pub(crate) fn inject(options: &Inject) -> Exit {
    let settings = Settings::of_chart(&options.waiter_image);
    each(&options.files, options.output, |manifest| {
        let place = format!("{} {}", manifest.origin, manifest.display());
        match inject::inject(&manifest.object, &settings, Timestamp::now()) {
            Injected::Changed { object, plan } => {
                eprintln!("{place}: injected: {plan}");
                Some(object)
            }
            Injected::Skipped(why) => {
                if why != Why::NoWorkload {
                    eprintln!("{place}: skipped: {}", why.sentence());
                }
                Some(manifest.object.clone())
            }
            Injected::Refused(problems) => {
                for problem in problems {
                    eprintln!(
                        "{place}: refused: {}: {}; e.g. {}",
                        problem.path, problem.reason, problem.example
                    );
                }
                None
            }
        }
    })
}

/// The same for the way back.
pub(crate) fn uninject(options: &Uninject) -> Exit {
    each(&options.files, options.output, |manifest| {
        let rest = uninject::uninject(&manifest.object);
        if rest.is_some() {
            eprintln!("{} {}: uninjected", manifest.origin, manifest.display());
        }
        Some(rest.unwrap_or_else(|| manifest.object.clone()))
    })
}

/// Findings on standard output, their number on standard error.
pub(crate) fn lint(options: &Lint) -> Exit {
    let manifests = match manifests::read(&options.files.files) {
        Ok(manifests) => manifests,
        Err(error) => return failed(&error),
    };
    let mut findings = lint::lint(&manifests, &Settings::of_chart("konductor-waiter"), Timestamp::now());
    findings.retain(|finding| !options.ignore.contains(&finding.code));
    let mut data = String::new();
    for finding in &findings {
        match options.output {
            Listing::Json => match serde_json::to_string(finding) {
                Ok(text) => data.extend([text.as_str(), "\n"]),
                Err(error) => return failed(&error),
            },
            Listing::Text => data.extend([finding.to_string().as_str(), "\n"]),
        }
    }
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error).count();
    eprintln!("{} objects, {errors} errors, {} warnings", manifests.len(), findings.len() - errors);
    let fails = findings.iter().any(|finding| options.fail_on.fails(finding.severity));
    print(&data, if fails { Exit::Error } else { Exit::Done })
}

/// The version, as data.
pub(crate) fn version() -> Exit {
    print(concat!("koncli ", env!("CARGO_PKG_VERSION"), "\n"), Exit::Done)
}

/// A page for each command.
pub(crate) fn man(folder: &Path, command: clap::Command) -> Exit {
    let written = std::fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(command, folder));
    match written {
        Ok(()) => print("", Exit::Done),
        Err(error) => {
            eprintln!("error: {}: {error}", folder.display());
            Exit::Error
        }
    }
}

/// What a shell has to know: it asks the program itself each time, so that names of the cluster are completed, too.
pub(crate) fn completion(shell: clap_complete::Shell, called: &str) -> Exit {
    let mut script = Vec::new();
    let shells = clap_complete::env::Shells::builtins();
    let Some(completer) = shells.completer(&shell.to_string()) else {
        eprintln!("error: there is no completion for {shell}");
        return Exit::Error;
    };
    match completer.write_registration("COMPLETE", called, called, called, &mut script) {
        Ok(()) => print(&String::from_utf8_lossy(&script), Exit::Done),
        Err(error) => failed(&error),
    }
}
