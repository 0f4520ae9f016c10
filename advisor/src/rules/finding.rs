//! What a rule found: the advice, and the evidence for it.

use std::fmt;
use std::time::Duration;

use advisor_facts::release::Release;
use advisor_facts::sysctl::table;
use advisor_facts::sysctl_files::Assignment;
use advisor_facts::units::seconds;
use advisor_facts::{Facts, NamespaceCounters};
use advisor_report::Value;
use serde::Serialize;

use super::Documentation;
use super::apply::{TAKE_OUT, there_and_back};
use super::sizing::BYPASSED;

/// The harm.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Connections or data are being lost, or are about to be.
    Critical,
    /// They will be if the load grows.
    Warning,
    /// Nothing is lost. A setting does not do what people expect of it.
    Notice,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Critical => "critical",
            Self::Warning => "warning",
            Self::Notice => "notice",
        })
    }
}

/// How sure a recommendation is.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Confidence {
    /// The facts have no other explanation: a value, a count at a limit.
    High,
    /// It rests in part on a formula, a worst case or a sample.
    Medium,
    /// It may be on purpose or have another cause: check before you follow it.
    Low,
}

impl fmt::Display for Confidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::High => "high",
            Self::Medium => "medium",
            Self::Low => "low",
        })
    }
}

/// Where to apply a recommendation.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AppliesTo {
    /// A setting of the host.
    Host,
    /// The code of a program.
    Program,
    /// A setting of the host that helps only together with a change of a program.
    Both,
    /// Nothing to change: the harm is over, and its cause has to be seen when it comes
    /// again.
    Observe,
}

impl fmt::Display for AppliesTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Host => "a setting of the host",
            Self::Program => "a change of a program",
            Self::Both => "a host's setting and a program",
            Self::Observe => "over: watch for the next one",
        })
    }
}

/// What a rule found, and the advice.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// The harm.
    pub severity: Severity,
    /// How sure the rule is.
    pub confidence: Confidence,
    /// What is wrong, in one line.
    pub summary: String,
    /// Why the proposal helps.
    pub why: String,
    /// Where to apply it.
    #[serde(rename = "kind")]
    pub applies_to: AppliesTo,
    /// The host, the network namespace or the program.
    pub subject: String,
    /// The setting, the socket option or the system call.
    pub setting: String,
    /// The value now, as far as it can be seen.
    pub current: String,
    /// The value to set.
    pub proposed: String,
    /// The facts that it rests on.
    pub evidence: Vec<Evidence>,
    /// The cost of following it.
    pub cost: String,
    /// What may go wrong.
    pub risk: String,
    /// How to apply it.
    pub apply: String,
    /// How to undo it.
    pub undo: String,
    /// How to see that it helped.
    pub verify: String,
}

/// An observation and its source.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evidence {
    /// Dotted name.
    pub observation: String,
    /// Value.
    pub value: Value,
    /// The file of the host, or the report, that it was read from.
    pub source: String,
}

impl Evidence {
    pub(super) fn new(
        observation: impl Into<String>,
        value: Value,
        source: impl Into<String>,
    ) -> Self {
        Self {
            observation: observation.into(),
            value,
            source: source.into(),
        }
    }

    /// A value of /proc/net/sockstat.
    pub(super) fn sockstat(name: &str, value: i64) -> Self {
        Self::new(
            format!("kernel.sockstat.{name}"),
            value.into(),
            "/proc/net/sockstat",
        )
    }

    /// A setting, by its dotted name.
    pub(super) fn sysctl(name: &str, value: Value) -> Self {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        Self::new(name, value, path)
    }

    /// The growth of a counter: in the window if there is one, else since the counter
    /// began.
    pub(super) fn counter(name: &str, facts: &Facts) -> Option<Self> {
        let file = counter_file(name);
        let (grown, span) = match facts.window() {
            Some((window, _)) => (facts.grown(name)?, format!("in {}", seconds(window))),
            None => (
                facts.now.counters.get(name)?,
                facts.counters_begin().to_owned(),
            ),
        };
        let source = format!("{file}, {span}");
        Some(Self::new(format!("host.{name}"), grown.into(), source))
    }

    /// A counter of a network namespace since it began to count.
    pub(super) fn counted(place: &NamespaceCounters<'_>, name: &str, since: &str) -> Option<Self> {
        let mut source = counter_file(name).to_owned();
        if let Some(namespace) = place.namespace {
            source = format!("{source} of {}", namespace.label());
        }
        Some(Self::new(
            format!("host.{name}"),
            place.count(name)?.into(),
            format!("{source}, {since}"),
        ))
    }

    /// The growth of a counter of a network namespace in the window.
    pub(super) fn counter_at(
        place: &NamespaceCounters<'_>,
        name: &str,
        window: Duration,
    ) -> Option<Self> {
        let mut source = counter_file(name).to_owned();
        if let Some(namespace) = place.namespace {
            source = format!("{source} of {}", namespace.label());
        }
        Some(Self::new(
            format!("host.{name}"),
            place.grown(name)?.into(),
            format!("{source}, in {}", seconds(window)),
        ))
    }
}

/// The file of a counter.
fn counter_file(name: &str) -> &'static str {
    match name.split_once('.') {
        Some(("TcpExt", _)) => "/proc/net/netstat",
        Some(("Conntrack", "count")) => "/proc/sys/net/netfilter/nf_conntrack_count",
        Some(("Conntrack", _)) => "/proc/net/stat/nf_conntrack",
        Some(("Softnet", _)) => "/proc/net/softnet_stat",
        _ => "/proc/net/snmp",
    }
}

impl Finding {
    /// A finding about the value of a setting. The rule adds the summary, the reason and
    /// how to verify.
    pub(super) fn of_setting(
        facts: &Facts,
        documentation: &Documentation,
        name: &'static str,
        proposed: &str,
    ) -> Self {
        let current = facts.settings.get(name).unwrap_or_default();
        let mut evidence = vec![Evidence::sysctl(name, current.as_str().into())];
        let files = &facts.sysctl_files;
        if let Some(line) = files.winner(files.loader(), name) {
            evidence.push(Evidence::new(
                line.to_string(),
                line.value.into(),
                "the files that set sysctls at boot",
            ));
        }
        let proposed = table::find(name).map_or_else(
            || proposed.to_owned(),
            |setting| setting.within_bounds(proposed, Release::of_kernel(&facts.kernel)),
        );
        let (apply, undo) = there_and_back(facts, name, &proposed);
        Self {
            severity: Severity::Notice,
            confidence: Confidence::High,
            summary: String::new(),
            why: String::new(),
            applies_to: AppliesTo::Host,
            subject: scope(name, facts).to_owned(),
            setting: name.to_owned(),
            verify: format!(
                "{} says {proposed}",
                facts.command(&format!("sysctl {name}"))
            ),
            proposed,
            evidence,
            cost: documentation.cost.to_owned(),
            risk: documentation.risk.to_owned(),
            apply,
            undo,
            current,
        }
    }

    /// Says, where it speaks of tcp_mem, that the kernel leaves sockets out of it.
    pub(super) fn say_that_tcp_mem_is_blind(&mut self) {
        const NAMES: [&str; 2] = ["tcp_mem", "TCP.mem"];
        let speaks_of_it = [&self.summary, &self.why, &self.setting]
            .iter()
            .any(|text| NAMES.iter().any(|name| text.contains(name)));
        if speaks_of_it && !self.why.contains("bypass_prot_mem") {
            self.why = format!("{} But {BYPASSED}.", self.why);
        }
    }

    /// A finding about a line of a file. The rule adds the summary, the reason and how
    /// to verify.
    pub(super) fn of_line(
        facts: &Facts,
        documentation: &Documentation,
        line: &Assignment<'_>,
        proposed: String,
    ) -> Self {
        let mut evidence = vec![Evidence::new(
            line.to_string(),
            format!("{} = {}", line.glob.unwrap_or(line.key), line.value)
                .as_str()
                .into(),
            "the files that set sysctls at boot",
        )];
        let live = facts.sysctl_files.live.get(line.key);
        evidence.extend(
            live.and_then(Option::as_deref)
                .map(|live| Evidence::sysctl(line.key, live.into())),
        );
        let file = line.path.display();
        Self {
            severity: Severity::Notice,
            confidence: Confidence::High,
            summary: String::new(),
            why: String::new(),
            applies_to: AppliesTo::Host,
            subject: "the files that set sysctls at boot".to_owned(),
            setting: match line.glob {
                None => line.to_string(),
                // No change of the line itself: that of a glob is for other keys as well.
                Some(glob) => format!("{glob} in {line}"),
            },
            current: format!("{} = {}", line.glob.unwrap_or(line.key), line.value),
            evidence,
            cost: documentation.cost.to_owned(),
            risk: documentation.risk.to_owned(),
            apply: match (line.glob, proposed == TAKE_OUT) {
                (None, true) => format!("take line {} out of {file}", line.line),
                (None, false) => format!("write `{proposed}` in line {} of {file}", line.line),
                (Some(_), true) => format!(
                    "add `-{}` to {file}, so that line {} leaves it alone",
                    line.key, line.line
                ),
                (Some(_), false) => format!(
                    "add `{proposed}` to {file}: a name goes before the glob of line {}",
                    line.line
                ),
            },
            undo: documentation.undo.to_owned(),
            verify: String::new(),
            proposed,
        }
    }
}

/// Whether a setting is the whole kernel's.
pub(super) fn is_of_the_kernel(facts: &Facts, name: &str) -> bool {
    let release = Release::of_kernel(&facts.kernel);
    name.starts_with("fs.")
        || table::find(name).is_some_and(|setting| setting.is_of_the_kernel(release))
}

/// Who has a setting: some exist once for all network namespaces.
fn scope(name: &str, facts: &Facts) -> &'static str {
    if is_of_the_kernel(facts, name) {
        "the whole kernel"
    } else {
        "this network namespace"
    }
}
