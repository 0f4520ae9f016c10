//! What scenarios of the catalogue measured on a release of Linux, in place of
//! what formulas assume.
//!
//! `harness calibrate` writes this format and the advisor ships one for each of
//! a few releases, of which the nearest to a host's is used. There is no date in
//! it, and what is noisy is rounded, so that measuring again without a change
//! of the kernel gives the same file.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use advisor_facts::release;

/// The version of the calibration format that this program writes and reads.
pub const SCHEMA: u32 = 1;

/// How many releases of Linux a calibration may be away from a host's: about a
/// year. What is further away is not used.
pub const FURTHEST_RELEASES: u32 = 6;

/// What the life of an orphan is rounded up to, in seconds: its timers double, so
/// that more than this is chance.
pub const LIVES_S: [u64; 11] = [1, 3, 5, 10, 20, 40, 80, 160, 320, 640, 1280];

/// The calibrations that are built in: the line of the kernel, and the text; oldest
/// first. `ci/calibrate` makes them, and `build.rs` finds them in `advisor/kernels`.
pub const SHIPPED: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/calibrations.rs"));

/// What was measured on one kernel.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// Version of the format, [`SCHEMA`].
    pub schema: u32,
    /// Version of the harness that measured.
    pub harness: String,
    /// As `uname -r` gives it.
    pub release: String,
    /// Its first two numbers, `6.12`.
    pub line: String,
    /// The size of a page of memory there, in bytes.
    pub page_bytes: u64,
    /// The memory that an orphan holds, by what was unsent when it was closed.
    pub orphan_memory: Vec<OrphanMemory>,
    /// From how many orphans on the kernel kills, by how often each counts.
    pub orphan_kills: Vec<OrphanKill>,
    /// How long an orphan with a silent peer lives, by tcp_orphan_retries.
    pub orphan_life: Vec<OrphanLife>,
    /// How long a connection with a silent peer and unacknowledged data lives, by
    /// tcp_retries2. Empty where it was not measured.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub data_life: Vec<DataLife>,
    /// How long an idle connection with a silent peer lives with SO_KEEPALIVE and the
    /// kernel's defaults. Absent where it was not measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keepalive_life: Option<KeepaliveLife>,
    /// How long TIME_WAIT lasts.
    pub time_wait: TimeWait,
    /// Whether a program can bind its port again, by the options of the old and
    /// the new socket and the state that the old one is in.
    pub bind: Vec<Bind>,
    /// What a byte that is written and not acknowledged is charged, by the size
    /// of the write. Of packets that are segmented one by one: a device that
    /// segments for the kernel takes larger buffers, which cost less a byte.
    pub write_cost: Vec<WriteCost>,
}

/// A scenario that measured, and how often it was run.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct MeasuredBy {
    /// `topic/file/name[key=value,...]`.
    pub scenario: String,
    /// Its runs, all of which passed.
    pub runs: u64,
}

/// What an orphan had unsent.
#[derive(
    Clone, Copy, Debug, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Unsent {
    /// A hundred bytes.
    Little,
    /// As much as the send buffer of a new connection takes.
    FullBuffer,
}

/// The memory that an orphan holds.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct OrphanMemory {
    /// What it had unsent.
    pub unsent: Unsent,
    /// The same in bytes, its FIN included, as inet_diag counts it.
    pub unsent_bytes: u64,
    /// Its sk_sndbuf, in bytes.
    pub send_buffer_bytes: u64,
    /// Its sk_wmem_queued, in bytes: the greatest of all orphans in all runs.
    pub held_bytes: u64,
    /// The same in pages, rounded up, as tcp_mem is charged.
    pub held_pages: u64,
    /// Where it was measured.
    pub measured_by: MeasuredBy,
}

/// From how many orphans on the kernel kills.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct OrphanKill {
    /// How often the count is doubled before it is compared.
    pub shift: u32,
    /// What tcp_max_orphans allowed beside the orphans that were there before.
    pub limit: u64,
    /// So many lived.
    pub live: u64,
    /// With so many one was killed.
    pub killed_at: u64,
    /// Where they lived.
    pub live_measured_by: MeasuredBy,
    /// Where one was killed.
    pub killed_measured_by: MeasuredBy,
}

/// How long an orphan with a silent peer lives.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct OrphanLife {
    /// tcp_orphan_retries; 0 means 8.
    pub retries: u32,
    /// From close() on, the median of the runs, in seconds, rounded up to one
    /// of [`LIVES_S`].
    pub at_most_s: u64,
    /// Where it was measured.
    pub measured_by: MeasuredBy,
}

/// How long a connection lives that sends to a silent peer.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DataLife {
    /// tcp_retries2.
    pub retries: u32,
    /// From the write on, the median of the runs, in seconds, rounded up to one of
    /// [`LIVES_S`].
    pub at_most_s: u64,
    /// Where it was measured.
    pub measured_by: MeasuredBy,
}

/// How long an idle connection lives whose peer is gone.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct KeepaliveLife {
    /// In seconds, to the nearest ten.
    pub seconds: u64,
    /// Where it was measured.
    pub measured_by: MeasuredBy,
}

/// How long TIME_WAIT lasts.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TimeWait {
    /// Under the default tcp_fin_timeout, in seconds, to the nearest ten.
    pub seconds: u64,
    /// Whether it was another under another tcp_fin_timeout.
    pub fin_timeout_changes_it: bool,
    /// The values of tcp_fin_timeout, in seconds, and where each was measured.
    pub measured_by: Vec<FinTimeout>,
}

/// TIME_WAIT under one tcp_fin_timeout.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FinTimeout {
    /// tcp_fin_timeout, in seconds.
    pub fin_timeout_s: u64,
    /// How long TIME_WAIT lasted, in seconds, to the nearest ten: the timer is that loose.
    pub seconds: u64,
    /// Where it was measured.
    pub measured_by: MeasuredBy,
}

/// The option that a socket had set before bind().
#[derive(
    Clone, Copy, Debug, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(rename_all = "lowercase")]
pub enum BindOption {
    /// None.
    None,
    /// SO_REUSEADDR.
    ReuseAddr,
    /// SO_REUSEPORT.
    ReusePort,
}

impl fmt::Display for BindOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::None => "none",
            Self::ReuseAddr => "SO_REUSEADDR",
            Self::ReusePort => "SO_REUSEPORT",
        })
    }
}

/// Whether a program can bind its port again.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Bind {
    /// The state of the old socket, as the kernel names it.
    pub state: String,
    /// What the old socket had set.
    pub old: BindOption,
    /// What the new socket had set.
    pub new: BindOption,
    /// What bind() of the new one answered: `none` or the errno's name.
    pub error: String,
    /// Where it was measured.
    pub measured_by: MeasuredBy,
}

/// What writes of one size are charged.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct WriteCost {
    /// The size of one write(), in bytes.
    pub write_bytes: u64,
    /// All that was written and not acknowledged, in bytes.
    pub written_bytes: u64,
    /// sk_wmem_queued then, in bytes: the greatest of all runs.
    pub charged_bytes: u64,
    /// Where it was measured.
    pub measured_by: MeasuredBy,
}

/// Why a text is not a calibration.
#[derive(Debug, thiserror::Error)]
pub enum CalibrationError {
    /// Another version of the format.
    #[error("schema {found}: this program reads calibrations, of schema {SCHEMA}")]
    OtherSchema {
        /// The version that it names.
        found: u64,
    },
    /// Not a whole calibration.
    #[error("not a calibration: {0}")]
    Malformed(#[from] serde_json::Error),
}

impl Calibration {
    /// Parses the text of a calibration.
    pub fn parse(text: &str) -> Result<Self, CalibrationError> {
        /// Only the version: another one is named as such whatever else has
        /// changed.
        #[derive(Deserialize)]
        struct Version {
            schema: u64,
        }
        // What is shipped is read once: each run of the advisor waits for it.
        match serde_json::from_str(text) {
            Ok(calibration @ Self { schema: SCHEMA, .. }) => Ok(calibration),
            whole => match serde_json::from_str::<Version>(text)?.schema {
                found if found != u64::from(SCHEMA) => Err(CalibrationError::OtherSchema { found }),
                _ => Ok(whole?),
            },
        }
    }

    /// The kernel for people: `Linux 6.12.117`, without what a distribution
    /// calls it.
    pub fn kernel(&self) -> String {
        let end = self
            .release
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(self.release.len());
        format!("Linux {}", &self.release[..end])
    }

    /// Where a value of it comes from, for people.
    pub fn source(&self) -> String {
        format!("measured on {} (calibration)", self.kernel())
    }

    /// What an orphan held.
    pub fn orphan(&self, unsent: Unsent) -> Option<&OrphanMemory> {
        self.orphan_memory
            .iter()
            .find(|memory| memory.unsent == unsent)
    }

    /// How often an orphan counts at most where the kernel killed.
    pub fn orphan_counts_at_most(&self) -> Option<u64> {
        let shifts = self.orphan_kills.iter().map(|kill| kill.shift);
        1_u64.checked_shl(shifts.max()?)
    }

    /// What bind() answered.
    pub fn bind(&self, state: &str, old: BindOption, new: BindOption) -> Option<&Bind> {
        self.bind
            .iter()
            .find(|bind| bind.state == state && bind.old == old && bind.new == new)
    }
}

/// The calibration of the release that is nearest to a host's; only that one is
/// parsed. `None` where none is within [`FURTHEST_RELEASES`].
pub fn nearest(kernel: &str) -> Option<Calibration> {
    let (&(_, text), distance) = release::nearest(SHIPPED, |(line, _)| line, kernel)?;
    if distance > FURTHEST_RELEASES {
        return None;
    }
    Calibration::parse(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shipped_is_whole() {
        let mut before = "3.0";
        for (line, text) in SHIPPED {
            let calibration = Calibration::parse(text).unwrap_or_else(|error| {
                panic!("kernels/{line}: {error}");
            });
            assert_eq!(calibration.schema, SCHEMA, "{line}");
            assert_eq!(calibration.line, *line);
            assert_eq!(release::kernel_line(&calibration.release), *line);
            // Oldest first, each once.
            assert_eq!(
                release::nearest([before, line], |one| one, "99.0")
                    .unwrap()
                    .0,
                *line
            );
            before = line;
            assert_eq!(calibration.orphan_memory.len(), 2, "{line}");
            assert_eq!(
                calibration
                    .orphan_kills
                    .iter()
                    .map(|kill| kill.shift)
                    .collect::<Vec<_>>(),
                [0, 1, 2],
                "{line}"
            );
            assert_eq!(
                calibration
                    .orphan_life
                    .iter()
                    .map(|life| life.retries)
                    .collect::<Vec<_>>(),
                [0, 1, 2, 3, 4],
                "{line}"
            );
            assert_eq!(calibration.bind.len(), 45, "{line}");
            assert!(calibration.write_cost.len() >= 3, "{line}");
        }
    }

    /// Each fact is what the rest of the program says of Linux.
    #[test]
    fn what_is_shipped_bears_the_rules_out() {
        for (line, text) in SHIPPED {
            let calibration = Calibration::parse(text).unwrap();
            assert_eq!(calibration.time_wait.seconds, 60, "{line}");
            assert!(!calibration.time_wait.fin_timeout_changes_it, "{line}");
            assert_eq!(calibration.orphan_counts_at_most(), Some(4), "{line}");
            for kill in &calibration.orphan_kills {
                assert!(kill.live << kill.shift <= kill.limit, "{line}: {kill:?}");
                assert!(
                    kill.killed_at << kill.shift > kill.limit,
                    "{line}: {kill:?}"
                );
            }
            let bind = |old, new| {
                let bind = calibration.bind("TIME_WAIT", old, new).unwrap();
                bind.error.as_str()
            };
            let (none, reuse) = (BindOption::None, BindOption::ReuseAddr);
            assert_eq!(bind(none, none), "EADDRINUSE", "{line}");
            assert_eq!(bind(none, reuse), "EADDRINUSE", "{line}");
            assert_eq!(bind(reuse, reuse), "none", "{line}");
        }
    }

    #[test]
    fn the_nearest_is_used_unless_it_is_too_far_away() {
        for (kernel, line) in [
            ("6.12.9", Some("6.12")),
            ("6.18.44-cloud", Some("7.3")),
            ("5.15.0-91-generic", Some("5.10")),
            ("5.4.0", Some("5.10")),
            ("4.19.3", None),
            ("7.9", Some("7.3")),
            ("7.10", None),
            ("nonsense", None),
        ] {
            let found = nearest(kernel).map(|calibration| calibration.line);
            assert_eq!(found.as_deref(), line, "{kernel}");
        }
    }

    #[test]
    fn another_schema_and_garbage_are_named() {
        let error = Calibration::parse(r#"{"schema": 7, "facts": []}"#).unwrap_err();
        assert_eq!(
            error.to_string(),
            "schema 7: this program reads calibrations, of schema 1"
        );
        for garbage in ["", "[]", r#"{"schema": 1}"#, r#"{"schema": -1}"#] {
            let error = Calibration::parse(garbage).unwrap_err();
            assert!(matches!(error, CalibrationError::Malformed(_)), "{error}");
        }
    }
}
