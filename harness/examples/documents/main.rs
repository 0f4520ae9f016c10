//! Writes the documents in `docs/` that are made from code and from measured data.
//! `ci/documents` runs it; `ci/catalogue` and `ci/prove` use it to take over what
//! they measured.

pub mod calibration;
pub mod catalogue;
pub mod folklore;
pub mod likeness;
pub mod manual;
pub mod proofs;
pub mod schemas;
pub mod steps;

#[path = "../../tests/invented/mod.rs"]
pub mod invented;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use advisor_facts::{Facts, file};
use clap::{Parser, Subcommand};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What can go wrong: its text is for the person who called `ci/documents`.
type Error = Box<dyn std::error::Error>;

#[derive(Debug, Parser)]
struct Arguments {
    /// Default: write all documents
    #[command(subcommand)]
    task: Option<Task>,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Take a run of the whole catalogue over into docs/reference.json
    Reference {
        /// The directory that `harness run --report` wrote
        report: PathBuf,
        /// The command that was run
        #[arg(long)]
        command: String,
        /// The day of the run
        #[arg(long)]
        date: String,
    },
    /// Take trials over into docs/proofs.json, if what is right is proven and what is wrong
    /// is not
    Proofs {
        /// The directory with the directories that `cases` and `harness prove` wrote
        directory: PathBuf,
    },
    /// Write the hosts and the advice that `ci/prove` tries, a directory for each
    Cases {
        /// The directory to write to
        directory: PathBuf,
    },
    /// Write the hosts and the settings that `ci/folklore` tries
    FolkloreCases {
        /// The directory to write to
        directory: PathBuf,
    },
    /// Take what `harness try` said over into docs/folklore.json
    Folklore {
        /// The directory with HOST.SETTING.json
        directory: PathBuf,
    },
    /// Write the hosts that `ci/likeness` reproduces
    LikenessCases {
        /// The directory to write to
        directory: PathBuf,
    },
    /// Take what `harness reproduce --check` said over into docs/likeness.json
    Likeness {
        /// The directory with HOST.json
        directory: PathBuf,
    },
    /// Write the man pages and completions of both programs
    Manual {
        /// The directory to write to
        directory: PathBuf,
        /// The day of the pages
        #[arg(long)]
        date: String,
    },
}

/// The root of the checkout.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Writes the facts of a host, as `advisor capture` does.
pub fn write_facts(to: &Path, facts: &Facts) -> Result<(), Error> {
    let mut bytes = Vec::new();
    file::write(&mut bytes, facts)?;
    Ok(std::fs::write(to, bytes)?)
}

/// Writes what was measured to a file in `docs/`.
pub fn write_measured(name: &str, measured: &impl Serialize) -> Result<(), Error> {
    let mut text = serde_json::to_vec_pretty(measured)?;
    text.push(b'\n');
    Ok(std::fs::write(root().join("docs").join(name), text)?)
}

/// What was measured, in a file in `docs/`; `None` where nothing was yet.
pub fn read_measured<T: DeserializeOwned>(name: &str) -> Result<Option<T>, Error> {
    let Ok(text) = std::fs::read_to_string(root().join("docs").join(name)) else {
        return Ok(None);
    };
    let measured = serde_json::from_str(&text);
    Ok(Some(
        measured.map_err(|error| format!("docs/{name}: {error}"))?,
    ))
}

/// Every document that is made: its name in `docs/`, and its text.
pub fn documents() -> Result<Vec<(&'static str, String)>, Error> {
    let mut documents = schemas::all();
    documents.push(("steps.md", steps::page()));
    documents.push(("calibration.md", calibration::page()?));
    documents.push(("proofs.md", proofs::page()?));
    documents.push(("catalogue.md", catalogue::page()?));
    documents.push(("folklore.md", folklore::page()?));
    documents.push(("likeness.md", likeness::page()?));
    Ok(documents)
}

/// Writes all documents, and says which of them changed.
fn write() -> Result<(), Error> {
    catalogue::forget_what_is_gone()?;
    for (name, text) in documents()? {
        let path = root().join("docs").join(name);
        if std::fs::read_to_string(&path).is_ok_and(|committed| committed == text) {
            continue;
        }
        std::fs::write(&path, text).map_err(|error| format!("docs/{name}: {error}"))?;
        println!("docs/{name} is written.");
    }
    Ok(())
}

fn run(task: Option<Task>) -> Result<(), Error> {
    match task {
        None => write(),
        Some(Task::Reference {
            report,
            command,
            date,
        }) => {
            catalogue::take_over(&report, command, date)?;
            write()
        }
        Some(Task::Proofs { directory }) => {
            proofs::take_over(&directory)?;
            write()
        }
        Some(Task::FolkloreCases { directory }) => folklore::write_cases(&directory),
        Some(Task::Folklore { directory }) => {
            folklore::take_over(&directory)?;
            write()
        }
        Some(Task::LikenessCases { directory }) => likeness::write_cases(&directory),
        Some(Task::Likeness { directory }) => {
            likeness::take_over(&directory)?;
            write()
        }
        Some(Task::Cases { directory }) => proofs::write_cases(&directory),
        Some(Task::Manual { directory, date }) => manual::write(&directory, &date),
    }
}

fn main() -> ExitCode {
    match run(Arguments::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
