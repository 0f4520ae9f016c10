//! Proofs of advice: what was recommended for a host, tried on a kernel like its
//! own, before and after.
//!
//! `harness prove` takes advice and writes a proof; `advisor recommend --proof`
//! reads it. Keys may be added, never renamed; a change of meaning raises
//! [`SCHEMA`]. `docs/proof.schema.json` is generated from these types.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::advice::{Claim, HostProfile};

use crate::document::{self, DocumentError, FileFormat};
use crate::report::{Kernel, Link, Machine, Seen};

/// The version of the format.
pub const SCHEMA: u32 = 1;

/// What became of the advice for a host when it was tried.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Proof {
    /// Version of the format, [`SCHEMA`].
    pub schema: u32,
    /// Version of the harness that tried it.
    pub harness: String,
    /// The host that the advice is for.
    pub host: HostProfile,
    /// The kernel that it was tried on; null where none was to be had.
    pub kernel: Option<Kernel>,
    /// How that kernel was chosen, in words.
    pub choice: String,
    /// When something counts as proven, in words.
    pub rule: String,
    /// A trial of each recommendation, in its order.
    pub trials: Vec<Trial>,
    /// All of them together; null where none can be tried, or not together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whole: Option<Whole>,
}

/// The plan as a whole: all recommendations that can be tried, in their order. Then the
/// advisor is asked again.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Whole {
    /// The recommendations.
    pub claims: Vec<Claim>,
    /// What became of them together. Its claim stands for all.
    pub trial: Trial,
    /// The rules that fire after the change, now or since it, by code; those that a guest
    /// can answer.
    pub fire_after: Vec<String>,
}

/// The trial of a recommendation.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Trial {
    /// The recommendation.
    pub claim: Claim,
    /// What became of it.
    pub verdict: TrialVerdict,
    /// Why the verdict is not `proven`.
    pub reason: Option<String>,
    /// The scenario that tried it, without the side; null where there is none.
    pub scenario: Option<String>,
    /// What the scenario shows.
    pub explains: String,
    /// What carried the impaired link.
    pub link: Option<Link>,
    /// The numbers that were taken from the host.
    pub workload: Vec<Load>,
    /// The harm that shows that the failure happened in a run.
    pub failure: String,
    /// As the host is.
    pub before: Option<Side>,
    /// As it is advised.
    pub after: Option<Side>,
    /// How likely chance alone separates the two sides as clearly, if the change
    /// changed nothing (sign test over pairs of runs, one-sided); null where nothing is
    /// claimed.
    pub chance: Option<f64>,
    /// What is not as on the host, and what was assumed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// What bystanders saw in the first pair of runs, and what TCP held.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub seen: Vec<Compared>,
}

/// A harm that bystanders see: somebody whose work fails, or takes longer.
#[derive(
    Clone, Copy, Debug, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Harm {
    /// A connection is refused, or can't be made.
    ConnectionRefused,
    /// A connection, or the answer on it, is late.
    ConnectionLate,
    /// Data is lost that was on its way.
    DataLost,
    /// A healthy transfer stalls.
    TransferStalls,
    /// A restart can't bind.
    CannotBind,
    /// accept() or connect() is out of descriptors.
    NoDescriptors,
    /// A program hangs on a peer that is gone.
    ProgramHangs,
    /// A connection that was well is cut.
    ConnectionCut,
}

impl Harm {
    /// In words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConnectionRefused => "a connection is refused",
            Self::ConnectionLate => "a connection is late",
            Self::DataLost => "data is lost",
            Self::TransferStalls => "a healthy transfer stalls",
            Self::CannotBind => "a restart can't bind",
            Self::NoDescriptors => "no descriptor is left",
            Self::ProgramHangs => "a program hangs on a peer that is gone",
            Self::ConnectionCut => "a connection that was well is cut",
        }
    }
}

impl fmt::Display for Harm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What one kind of bystander saw in a run.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Reading {
    /// Whose work it is.
    pub what: String,
    /// The harm that it shows.
    pub harm: Harm,
    /// How often it was tried.
    pub tries: u64,
    /// How often it failed.
    pub failures: u64,
    /// How it failed, by the errno's name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub errors: BTreeMap<String, u64>,
    /// How long each took, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ms: Option<f64>,
    /// The bytes that came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// The same reading in the arms of a trial.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Compared {
    /// Whose work it is, or what it is.
    pub what: String,
    /// As the host is.
    pub before: String,
    /// With the change.
    pub after: String,
    /// Where nothing is amiss; null where that was not tried.
    pub well: Option<String>,
    /// What the change does to it.
    pub verdict: Comparison,
}

/// What a change does.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Comparison {
    /// It fails less, or is more than a tenth faster.
    Better,
    /// It fails more, or is more than a tenth slower.
    Worse,
    /// Neither.
    Unchanged,
}

impl Comparison {
    /// In words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::Unchanged => "unchanged",
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What became of a recommendation that was tried.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrialVerdict {
    /// It fails before and holds after, more often than chance has it.
    Proven,
    /// It fails before, and after as well.
    NoDifference,
    /// The host's condition, or its failure, was not had.
    NotReproduced,
    /// It fails later: the new limit is met as the old one was.
    Postponed,
    /// Something that was well before no longer is.
    Harmful,
    /// It could not be tried; the reason says why.
    CannotBeTried,
}

impl TrialVerdict {
    /// In words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Proven => "proven",
            Self::NoDifference => "no difference",
            Self::NotReproduced => "not reproduced",
            Self::Postponed => "postponed",
            Self::Harmful => "harmful",
            Self::CannotBeTried => "can't be tried here",
        }
    }
}

impl fmt::Display for TrialVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A number of the host, and what was tried in its place.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Load {
    /// Its name in the scenario.
    pub name: String,
    /// The observation that it is; empty where it is made from others.
    pub observation: String,
    /// The value on the host.
    pub host: u64,
    /// The value that was tried.
    pub tried: u64,
}

/// One side of a trial.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Side {
    /// Runs that gave an answer.
    pub runs: usize,
    /// Runs of these in which the failure happened.
    pub failed: usize,
    /// What was seen of the failure's observation, most frequent first.
    pub seen: Vec<Seen>,
}

/// A proof of other advice, or of another host.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
#[error("the proof is of another host: {proof}; this one has {here}")]
pub struct OtherHost {
    proof: HostProfile,
    here: HostProfile,
}

impl OtherHost {
    /// What to do about it.
    pub const HINT: &str =
        "a proof is of one host's advice: capture this one and prove it, harness prove --facts";
}

impl Proof {
    /// Whether it is of this host's advice.
    pub fn is_of(&self, host: &HostProfile) -> Result<(), OtherHost> {
        if self.host == *host {
            return Ok(());
        }
        Err(OtherHost {
            proof: self.host.clone(),
            here: host.clone(),
        })
    }

    /// What became of a recommendation. A trial of another value is named and
    /// proves nothing.
    pub fn of(&self, claim: &Claim) -> Proven {
        if let Some(trial) = self.trials.iter().find(|trial| trial.claim == *claim) {
            return Proven {
                verdict: Some(trial.verdict),
                words: trial.describe(self.kernel.as_ref()),
            };
        }
        let mut claims = self.trials.iter().map(|trial| &trial.claim);
        let other = claims.find(|other| other.code == claim.code && other.setting == claim.setting);
        let words = match other {
            Some(other) => format!(
                "no: the proof is of other advice, from {} to {} for {}",
                other.current, other.proposed, other.subject
            ),
            None => format!("no: the proof has no trial of {}", claim.code),
        };
        Proven {
            verdict: None,
            words,
        }
    }

    /// What became of the plan as a whole, where that is more than one of these
    /// recommendations. A trial that had others among them is not about this plan.
    pub fn together(&self, claims: &[Claim]) -> Option<Proven> {
        let whole = self.whole.as_ref()?;
        let is_of_these = whole.claims.iter().all(|claim| claims.contains(claim));
        if whole.claims.len() < 2 || !is_of_these {
            return None;
        }
        let codes: Vec<&str> = whole.claims.iter().map(|one| one.code.as_str()).collect();
        // Who is on the host stands beside each of them.
        let trial = Trial {
            workload: Vec::new(),
            ..whole.trial.clone()
        };
        Some(Proven {
            verdict: Some(trial.verdict),
            words: format!(
                "({}): {}",
                codes.join(", "),
                trial.describe(self.kernel.as_ref())
            ),
        })
    }
}

impl Trial {
    /// What was seen, in a sentence.
    pub fn describe(&self, kernel: Option<&Kernel>) -> String {
        let mut words = self.verdict.to_string();
        if let (Some(before), Some(after)) = (&self.before, &self.after) {
            words = format!(
                "{words}: {} in {} of {} runs before and in {} of {} after",
                self.failure, before.failed, before.runs, after.failed, after.runs
            );
        }
        if let (Some(kernel), Some(_)) = (kernel, &self.before) {
            let place = match kernel.machine {
                Machine::Host => "",
                Machine::QemuKvm | Machine::QemuTcg => " in a guest",
            };
            words = format!("{words}, on Linux {}{place}", kernel.release);
        }
        let scaled: Vec<String> = self
            .workload
            .iter()
            .filter(|load| !load.observation.is_empty())
            .map(|load| {
                if load.host == load.tried {
                    format!("{} {}", load.name, load.host)
                } else {
                    format!("{} {} as {}", load.name, load.host, load.tried)
                }
            })
            .collect();
        if !scaled.is_empty() && self.before.is_some() {
            words = format!("{words}; with {}", scaled.join(", "));
        }
        match &self.reason {
            Some(reason) => format!("{words}; {reason}"),
            None => words,
        }
    }
}

/// What a proof says of a recommendation.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Proven {
    /// The verdict; `None` where the proof has no trial of this.
    pub verdict: Option<TrialVerdict>,
    /// The same with the numbers, for people.
    pub words: String,
}

impl Proven {
    /// Whether it was tried and did not help.
    pub fn has_failed(&self) -> bool {
        matches!(
            self.verdict,
            Some(
                TrialVerdict::NoDifference
                    | TrialVerdict::NotReproduced
                    | TrialVerdict::Postponed
                    | TrialVerdict::Harmful
            )
        )
    }
}

/// A proof, as a file.
const PROOF: FileFormat = FileFormat {
    name: "proof",
    what: "a proof of the harness",
    schema: SCHEMA,
    limit_bytes: 16 << 20,
    given: "--proof takes a proof.json that `harness prove --output DIR` wrote",
    anew: "write it anew with a harness of this release: harness prove --output DIR",
};

/// Reads a proof.
pub fn read(path: &Path) -> Result<Proof, DocumentError> {
    document::read(path, &PROOF)
}

/// Parses the text of a proof; `path` is for the errors.
pub fn parse(text: &str, path: &Path) -> Result<Proof, DocumentError> {
    document::parse(text, path, &PROOF)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Clock;

    fn claim(proposed: &str) -> Claim {
        Claim {
            code: "LB101".to_owned(),
            name: "orphan-limit-near".to_owned(),
            subject: "the whole kernel".to_owned(),
            setting: "net.ipv4.tcp_max_orphans".to_owned(),
            current: "16384".to_owned(),
            proposed: proposed.to_owned(),
        }
    }

    fn side(failed: usize) -> Side {
        Side {
            runs: 5,
            failed,
            seen: Vec::new(),
        }
    }

    fn proof() -> Proof {
        Proof {
            schema: SCHEMA,
            harness: "0.1.0".to_owned(),
            host: HostProfile {
                kernel: "6.12.48".to_owned(),
                ram_bytes: 8 << 30,
                page_bytes: 4096,
                cpus: 4,
            },
            kernel: Some(Kernel {
                release: "6.12.117".to_owned(),
                machine: Machine::QemuTcg,
                clock: Clock::Virtual,
            }),
            choice: String::new(),
            rule: String::new(),
            trials: vec![Trial {
                claim: claim("32768"),
                verdict: TrialVerdict::Proven,
                reason: None,
                scenario: Some("proof/orphan-limit-near/limit".to_owned()),
                explains: String::new(),
                link: None,
                workload: vec![Load {
                    name: "seen".to_owned(),
                    observation: "kernel.sockstat.TCP.orphan".to_owned(),
                    host: 4410,
                    tried: 60,
                }],
                failure: "client.TcpExt.TCPAbortOnMemory >= 1".to_owned(),
                before: Some(side(5)),
                after: Some(side(0)),
                chance: Some(0.004),
                notes: Vec::new(),
                seen: Vec::new(),
            }],
            whole: None,
        }
    }

    #[test]
    fn a_trial_is_of_one_value_on_one_host() {
        let proof = proof();
        let proven = proof.of(&claim("32768"));
        assert_eq!(proven.verdict, Some(TrialVerdict::Proven));
        assert_eq!(
            proven.words,
            "proven: client.TcpExt.TCPAbortOnMemory >= 1 in 5 of 5 runs before and in 0 of 5 \
             after, on Linux 6.12.117 in a guest; with seen 4410 as 60"
        );
        let other = proof.of(&claim("65536"));
        assert_eq!(other.verdict, None);
        assert_eq!(
            other.words,
            "no: the proof is of other advice, from 16384 to 32768 for the whole kernel"
        );
        let mut none = claim("1");
        none.code = "LB401".to_owned();
        assert_eq!(proof.of(&none).words, "no: the proof has no trial of LB401");
        assert_eq!(proof.is_of(&proof.host), Ok(()));
        let mut here = proof.host.clone();
        here.ram_bytes = 16 << 30;
        assert_eq!(
            proof.is_of(&here).unwrap_err().to_string(),
            "the proof is of another host: Linux 6.12.48, 8.0 GiB RAM, 4 CPUs; this one has \
             Linux 6.12.48, 16.0 GiB RAM, 4 CPUs"
        );
    }
}
