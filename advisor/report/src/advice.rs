//! Advice, as far as a trial of it needs: the format that `advisor recommend
//! --format json` writes.

use std::fmt;
use std::path::Path;

use advisor_facts::Facts;
use advisor_facts::units::bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::document::{self, DocumentError, FileFormat};
use crate::report::Value;

/// The version of the format.
pub const SCHEMA: u32 = 1;

/// What advice depends on of a host.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct HostProfile {
    /// The release of its kernel, as `uname -r` gives it.
    pub kernel: String,
    /// RAM that its kernel manages, in bytes.
    pub ram_bytes: u64,
    /// Size of a page, in bytes.
    pub page_bytes: u64,
    /// CPUs that are online.
    pub cpus: u64,
}

impl HostProfile {
    /// Of a host's facts.
    pub fn of(facts: &Facts) -> Self {
        Self {
            kernel: facts.kernel.clone(),
            ram_bytes: facts.ram_bytes,
            page_bytes: facts.page_bytes,
            cpus: facts.cpus,
        }
    }
}

impl fmt::Display for HostProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ram = bytes(self.ram_bytes);
        write!(f, "Linux {}, {ram} RAM, {} CPUs", self.kernel, self.cpus)
    }
}

/// What is recommended: a trial is one of this and of nothing else.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Claim {
    /// The rule's code.
    pub code: String,
    /// The rule's name.
    pub name: String,
    /// The host, or the program by its sockets.
    pub subject: String,
    /// The setting, the socket option or the call.
    pub setting: String,
    /// What it is now.
    pub current: String,
    /// What it should be.
    pub proposed: String,
}

/// Advice as `advisor recommend --format json` writes it, with what a trial needs
/// of it.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Advised {
    /// The host that it is for.
    pub host: HostProfile,
    /// What to try.
    pub recommendations: Vec<Recommended>,
}

/// A recommendation, as far as it is needed for a trial.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Recommended {
    /// What is recommended.
    #[serde(flatten)]
    pub claim: Claim,
    /// What was seen on the host.
    pub evidence: Vec<Observed>,
}

/// An observation on the host.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Observed {
    /// Its dotted name.
    pub observation: String,
    /// Its value.
    pub value: Value,
}

/// Advice, as a file.
const ADVICE: FileFormat = FileFormat {
    name: "advice",
    what: "advice of the advisor",
    schema: SCHEMA,
    limit_bytes: 16 << 20,
    given: "--advice takes a file that `advisor recommend --format json` wrote",
    anew: "write it anew with an advisor of this release: advisor recommend --format json",
};

/// Reads advice.
pub fn read(path: &Path) -> Result<Advised, DocumentError> {
    document::read(path, &ADVICE)
}
