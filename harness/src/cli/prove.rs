//! `harness prove`.

use std::path::{Path, PathBuf};

use advisor::plan;
use advisor::rules::{RULES, Scope};
use advisor_facts::file;
use advisor_facts::given::GivenFileError;
use advisor_facts::{FactError, Facts, Root};
use advisor_report::advice::{self, Advised, Claim, HostProfile};
use advisor_report::document::DocumentError;
use advisor_report::proof::{Proof, TrialVerdict};
use advisor_report::record;
use clap::Args;

use super::host::{OnKernel, at_worst};
use super::{ENVIRONMENT, FAILURE, SUCCESS, USAGE, complain, complain_of_run};
use crate::output;
use crate::prove;
use crate::report::terminal::{self, Lines, Terminal};
use crate::runner::{self, Progress};

#[derive(Debug, Args)]
#[command(after_help = "\
Exit status: 0 all is proven, or there is nothing to prove; 1 something is not;
2 bad usage, or facts or advice that can't be read; 3 no guest can be had.")]
pub(super) struct Prove {
    /// Facts of a host, as `advisor capture` writes them [default: those of this
    /// host]
    #[arg(long, value_name = "FILE")]
    facts: Option<PathBuf>,
    /// What `advisor watch --record DIR` kept: the host at its worst moment, with the
    /// rates of the record, and the advice for the whole time
    #[arg(long, value_name = "DIR", conflicts_with = "facts")]
    record: Option<PathBuf>,
    /// Advice, as `advisor recommend --format json` writes it [default: what the
    /// advisor says of the facts]
    #[arg(long, value_name = "FILE")]
    advice: Option<PathBuf>,
    /// Only recommendations of the rule with this code; may be given several times
    #[arg(long = "rule", value_name = "CODE")]
    rules: Vec<String>,
    #[command(flatten)]
    on: OnKernel,
    /// Write proof.json, proof.md, proof.html and the suites that were run to this directory
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
}

/// Why there is no proof.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Advice(#[from] DocumentError),
    #[error(transparent)]
    Facts(#[from] GivenFileError),
    #[error(transparent)]
    Host(#[from] FactError),
    #[error("the advice is for another host: {advice}; the facts are of {facts}")]
    OtherHost {
        advice: HostProfile,
        facts: HostProfile,
    },
    #[error("no recommendation is of rule {0}")]
    NoRule(String),
    #[error(transparent)]
    Run(#[from] runner::Error),
    #[error("{}: cannot write the proof: {source}", path.display())]
    Output {
        path: PathBuf,
        source: std::io::Error,
    },
}

impl Prove {
    /// Proves, and gives the exit status.
    pub(super) fn run(&self) -> u8 {
        let proof = match self.prove() {
            Ok(proof) => proof,
            Err(Error::Run(error)) => return complain_of_run(&error),
            Err(error) => {
                let (hint, status) = match &error {
                    Error::Advice(error) => (error.hint(), USAGE),
                    Error::Facts(error) => (error.hint(), USAGE),
                    Error::Host(error) => (error.hint(), ENVIRONMENT),
                    Error::OtherHost { .. } => (
                        "advice is of one host: advisor recommend --facts FILE --format json",
                        USAGE,
                    ),
                    Error::NoRule(_) => ("`advisor recommend` shows what is recommended", USAGE),
                    _ => (
                        "--output takes a directory that can be written to",
                        ENVIRONMENT,
                    ),
                };
                complain(&error, hint);
                return status;
            }
        };
        output::print(&prove::render::text(&proof, terminal::width()));
        let whole = proof.whole.iter().map(|whole| &whole.trial);
        let all_proven = proof
            .trials
            .iter()
            .chain(whole)
            // What no trial can show is no failure of the advice.
            .filter(|trial| !is_of_files(&trial.claim))
            .all(|trial| trial.verdict == TrialVerdict::Proven);
        if all_proven { SUCCESS } else { FAILURE }
    }

    fn prove(&self) -> Result<Proof, Error> {
        let failed = |directory: &PathBuf| {
            let path = directory.clone();
            move |source| Error::Output { path, source }
        };
        let (mut advised, facts) = self.advised()?;
        for code in &self.rules {
            if advised
                .recommendations
                .iter()
                .all(|known| known.claim.code != *code)
            {
                return Err(Error::NoRule(code.clone()));
            }
        }
        if !self.rules.is_empty() {
            let wanted = |code: &String| self.rules.contains(code);
            advised
                .recommendations
                .retain(|known| wanted(&known.claim.code));
        }
        let facts = facts.as_ref();
        let tried = prove::can_be_tried(&advised, facts);
        let prove::Proved { proof, suites } = if tried == 0 {
            prove::nothing(&advised, facts)
        } else {
            if let Some(directory) = &self.output {
                output::check(directory).map_err(failed(directory))?;
            }
            let kernel = self.on.choose(&advised.host.kernel)?;
            let terminal = Terminal::new(tried, false, Lines::Out);
            let progress = |progress: Progress| match progress {
                // The answer comes when all arms are there.
                Progress::Ended(_) => {}
                other => terminal.show(&other),
            };
            let proof = prove::run(&advised, facts, &kernel, &progress);
            terminal.finish();
            proof?
        };
        if let Some(directory) = &self.output {
            write(&proof, &suites, directory).map_err(failed(directory))?;
        }
        Ok(proof)
    }

    /// The advice that is to be proven, and the facts of its host.
    fn advised(&self) -> Result<(Advised, Option<Facts>), Error> {
        let mut advised = None;
        let facts = match (&self.facts, &self.record, &self.advice) {
            (Some(path), ..) => Some(file::read(path)?),
            (None, Some(directory), _) => {
                let record = record::read(directory)?;
                let mut advice = plan::advise(&record.facts, &[]);
                advice.add_past(&record.looks, record.facts.happened.as_ref());
                advised = Some(advice.advised());
                Some(at_worst(record))
            }
            (None, None, Some(_)) => None,
            (None, None, None) => Some(Facts::read(&Root::Live)?),
        };
        let advised = match (&self.advice, advised, &facts) {
            (Some(path), ..) => advice::read(path)?,
            (None, Some(advised), _) => advised,
            (None, None, Some(facts)) => plan::advise(facts, &[]).advised(),
            (None, None, None) => return Err(Error::NoRule(String::new())),
        };
        if let Some(facts) = &facts {
            let here = HostProfile::of(facts);
            if advised.host != here {
                return Err(Error::OtherHost {
                    advice: advised.host,
                    facts: here,
                });
            }
        }
        Ok((advised, facts))
    }
}

/// Whether advice changes a line of a file, which no kernel reads before boot.
fn is_of_files(claim: &Claim) -> bool {
    RULES
        .iter()
        .any(|rule| rule.code == claim.code && rule.scope == Scope::Files)
}

/// Writes `proof.json`, `proof.md` and `proof.html`, and the suites that were run.
fn write(proof: &Proof, suites: &[(String, String)], directory: &Path) -> std::io::Result<()> {
    let mut json = serde_json::to_vec_pretty(proof)?;
    json.push(b'\n');
    output::write(&directory.join("proof.json"), &json)?;
    for (name, text) in suites {
        output::write(&directory.join(name), text.as_bytes())?;
    }
    let page = prove::page::page(proof);
    output::write(&directory.join("proof.html"), page.as_bytes())?;
    let markdown = prove::render::markdown(proof);
    output::write(&directory.join("proof.md"), markdown.as_bytes())
}
