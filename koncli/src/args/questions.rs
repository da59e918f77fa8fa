//! The part of the command line that asks: why, what happened, is all well; and that ends a hold.
//!
//! Types only.

use std::path::PathBuf;
use std::str::FromStr;

use clap::ValueEnum;
use clap_complete::ArgValueCandidates;
use konductor_api::participation::Kind;

use super::Listing;

/// A kind of primitive, in lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KindName(pub Kind);

impl FromStr for KindName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Kind::ALL.into_iter().find(|kind| kind.lower() == text.to_lowercase());
        known.map(Self).ok_or_else(|| {
            let kinds: Vec<_> = Kind::ALL.iter().map(|kind| kind.lower()).collect();
            format!("there are {}", kinds.join(", "))
        })
    }
}

/// Flags of `events`.
#[derive(Clone, Debug, clap::Args)]
pub struct Events {
    /// Of that object only, as KIND/NAME
    pub about: Option<String>,
}

/// Flags of `break`.
#[derive(Clone, Debug, clap::Args)]
pub struct BreakHold {
    /// Its name
    #[arg(add = ArgValueCandidates::new(crate::complete::names))]
    pub name: String,
    /// Why it is certain that the holder has ended; it is kept in an Event
    #[arg(long)]
    pub reason: String,
    /// The hold of that one, as job/NAME, if there are several
    #[arg(long)]
    pub holder: Option<String>,
    /// The hold with that token
    #[arg(long)]
    pub token: Option<String>,
}

/// Flags of `graph`.
#[derive(Clone, Debug, clap::Args)]
pub struct Draw {
    /// Files and folders with manifests; - is standard input; none: the namespace as it is
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// text, dot, mermaid or svg
    #[arg(short, long, default_value = "text")]
    pub output: Picture,
}

/// How a graph is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Picture {
    /// For a terminal.
    #[value(alias = "ascii")]
    Text,
    /// For Graphviz.
    Dot,
    /// For Markdown.
    Mermaid,
    /// For a browser.
    Svg,
}

/// Flags of `check`.
#[derive(Clone, Debug, clap::Args)]
pub struct Check {
    /// Before it is installed: could it be?
    #[arg(long)]
    pub pre: bool,
    /// text, or json: one object a line
    #[arg(short, long, default_value = "text")]
    pub output: Listing,
}

/// Flags of `doctor`.
#[derive(Clone, Debug, clap::Args)]
pub struct Doctor {
    /// In all namespaces
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
}
