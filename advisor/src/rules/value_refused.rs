//! The kernel refuses the value that a file sets.

use super::{
    Confidence, Documentation, Finding, Outcome, ProvenBy, Rule, Scope, Severity, TAKE_OUT,
    setting_unknown_here,
};
use advisor_facts::Facts;
use advisor_facts::release::Release;
use advisor_facts::sysctl::table::{Form, Numbers, Setting, Unit};
use advisor_facts::sysctl::write::{Value, Written};
use advisor_facts::sysctl_files::{Assignment, SysctlFiles};
use advisor_report::measured::Measured;

pub(crate) const RULE: Rule = Rule {
    code: "LB606",
    name: "value-refused",
    scope: Scope::Files,
    scenario: None,
    cure: None,
    proven_by: ProvenBy::FILES_ONLY,
    log_lines: &[],
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "A value in a file that the kernel answers with EINVAL. It is a number beyond its \
        bounds, such as tcp_retries2 = 300 or an ip_local_port_range that begins below \
        ip_unprivileged_port_start, a word where the kernel takes a number, such as tcp_sack = \
        yes, or a number in quotes.",
    evidence: "Every line of the files whose setting is known, and the bounds that the kernel of \
        this release has. The kernel takes the first numbers and passes over what follows, so a \
        comment after a number is no fault; fewer numbers than a setting has set the first ones.",
    recommendation: "What was probably meant, where that is plain (16M of bytes, 10m of seconds, \
        65,536); else the line taken out, which \
        changes nothing.",
    cost: "None.",
    risk: "The line says what somebody wanted and never had: look before it goes.",
    undo: "Put the former line back.",
    references: &[
        "proc_get_long and do_proc_dointvec: kernel/sysctl.c of Linux",
        "the tables of sysctls in net/ of Linux, held against five kernels by ci/settings",
        "procps 4.0.2 and systemd-sysctl 252 tried: both write the value as it stands",
    ],
};

fn check(facts: &Facts, _: &Measured) -> Outcome {
    let findings: Vec<_> = refused(&facts.sysctl_files, &facts.kernel)
        .into_iter()
        .map(|refused| {
            let line = refused.line;
            let proposed = match &refused.meant {
                Some(value) => format!("{} = {value}", line.key),
                None => TAKE_OUT.to_owned(),
            };
            Finding {
                severity: Severity::Warning,
                confidence: Confidence::High,
                summary: refused.summary(),
                why: refused.why(),
                verify: format!("advisor lint names {line} no more"),
                ..Finding::of_line(facts, &DOCUMENTATION, &line, proposed)
            }
        })
        .collect();
    if findings.is_empty() {
        return Outcome::Quiet("the kernel takes every value of the files".to_owned());
    }
    Outcome::Fired(findings)
}

/// A line whose value the kernel refuses.
pub(crate) struct Refused<'a> {
    pub line: Assignment<'a>,
    /// The value that was probably meant.
    pub meant: Option<String>,
    written: Written,
}

impl Refused<'_> {
    pub(crate) fn summary(&self) -> String {
        format!(
            "the kernel refuses {} = {} (EINVAL)",
            self.line.key, self.line.value
        )
    }

    pub(crate) fn why(&self) -> String {
        let reason = self
            .written
            .refused
            .as_ref()
            .map_or_else(String::new, ToString::to_string);
        if self.written.sets_nothing() {
            return format!("{reason}. {} stays as it was.", self.line.key);
        }
        let set: Vec<String> = match &self.written.value {
            Value::Numbers(numbers) => numbers.iter().flatten().map(ToString::to_string).collect(),
            Value::Text(text) => vec![text.clone()],
        };
        format!(
            "{reason}. Before that the kernel sets {} and leaves the rest as it was.",
            set.join(" ")
        )
    }
}

/// The lines whose values the kernel of a release refuses, beside the others and what
/// is live.
pub(crate) fn refused<'a>(files: &'a SysctlFiles, kernel: &str) -> Vec<Refused<'a>> {
    let release = Release::of_kernel(kernel);
    files
        .spelled_out()
        .into_iter()
        .filter(|line| setting_unknown_here::unknown(line.key, kernel).is_none())
        .filter_map(|line| {
            let setting = line.setting()?;
            let others = |name: &str| {
                let winner = files
                    .winner(files.loader(), name)
                    .filter(|_| name != line.key);
                winner
                    .and_then(|winner| winner.result(None, release))
                    .or_else(|| files.live.get(name).cloned().flatten())
            };
            let write = |text: &str| setting.write_beside(text, release, &others);
            let written = write(line.value);
            written.refused.as_ref()?;
            let meant =
                meant(setting, line.value, release).filter(|value| write(value).refused.is_none());
            Some(Refused {
                line,
                meant,
                written,
            })
        })
        .collect()
}

/// `65,536` as 65536: a comma where the number has its thousands.
fn without_commas(value: &str) -> Option<String> {
    let mut groups = value.split(',');
    let first = groups.next()?;
    let digits = |group: &str| group.bytes().all(|byte| byte.is_ascii_digit());
    let is_number = (1..=3).contains(&first.len())
        && digits(first)
        && groups.all(|group| group.len() == 3 && digits(group));
    (is_number && value.contains(',')).then(|| value.replace(',', ""))
}

/// A number with its unit, `16M` or `10s`, in the unit of its setting; without one it is
/// that number.
fn with_unit(word: &str, unit: Unit) -> Option<String> {
    let digits = word.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let suffix = word[digits.len()..].to_ascii_lowercase();
    let times: u64 = match (unit, suffix.as_str()) {
        (_, "")
        | (Unit::Bytes, "b")
        | (Unit::Seconds, "s" | "sec")
        | (Unit::Milliseconds, "ms") => 1,
        (Unit::Bytes, "k" | "kb" | "kib") => 1 << 10,
        (Unit::Bytes, "m" | "mb" | "mib") => 1 << 20,
        (Unit::Bytes, "g" | "gb" | "gib") => 1 << 30,
        (Unit::Seconds, "m" | "min") => 60,
        (Unit::Seconds, "h") => 3600,
        (Unit::Milliseconds, "s" | "sec") => 1000,
        _ => return None,
    };
    let number: u64 = digits.parse().ok()?;
    number.checked_mul(times).map(|number| number.to_string())
}

/// The value that was probably meant by one that the kernel refuses.
fn meant(setting: &Setting, value: &str, release: Option<Release>) -> Option<String> {
    const QUOTES: [char; 2] = ['"', '\''];
    if value.contains(QUOTES) {
        let bare = value.replace(QUOTES, "");
        return Some(bare.split_whitespace().collect::<Vec<_>>().join(" "));
    }
    let mut words = value.split_whitespace();
    let count = match setting.form(release) {
        Form::Numbers(Numbers { count, .. }) => count,
        Form::Ports => return Some(words.collect()),
        Form::Word | Form::Text | Form::ReadOnly => return words.next().map(str::to_owned),
    };
    let numbers: Option<Vec<String>> = words.map(|word| with_unit(word, setting.unit)).collect();
    if let Some(numbers) = numbers.filter(|numbers| numbers.len() == count)
        && value.contains(|c: char| c.is_ascii_alphabetic())
    {
        return Some(numbers.join(" "));
    }
    if count == 1 {
        return match value.to_ascii_lowercase().as_str() {
            "yes" | "on" | "true" | "enable" | "enabled" => Some("1".to_owned()),
            "no" | "off" | "false" | "disable" | "disabled" => Some("0".to_owned()),
            _ => without_commas(value).or_else(|| {
                // With the comment that stands right behind it.
                let (number, _) = value.split_once(['#', ';'])?;
                Some(number.to_owned())
            }),
        };
    }
    // A minus is a sign, unless a number stands before it: `1024-65535`.
    let begins_negative = |word: &str| word.starts_with('-');
    if value.split_whitespace().any(begins_negative) {
        return None;
    }
    let words: Vec<&str> = value
        .split(|c: char| c == ',' || c == '-' || c.is_whitespace())
        .filter(|word| !word.is_empty())
        .collect();
    match words.as_slice() {
        // A range the wrong way round.
        [last, first] if count == 2 && value.contains(' ') => Some(format!("{first} {last}")),
        words if words.len() == count => Some(words.join(" ")),
        _ => None,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rules::testing::{assert_quiet, host};
    use advisor_facts::sysctl_files::{SysctlFile, parse};

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        host("value-refused")
    }

    fn files(text: &str) -> SysctlFiles {
        SysctlFiles {
            files: vec![SysctlFile {
                path: "/etc/sysctl.conf".into(),
                links_to_conf: false,
                lines: parse(text.as_bytes()),
            }],
            ..SysctlFiles::default()
        }
    }

    #[test]
    fn each_value_that_the_kernel_refuses_is_named_with_what_was_meant() {
        for (line, kernel, expected) in [
            // No value is made of it by leaving the sign out.
            ("net.ipv4.tcp_mem = -1 -1 -1", "", Some(None)),
            ("net.ipv4.ip_local_port_range = 100 65535", "", Some(None)),
            (
                "net.ipv4.ip_local_port_range = 65000 1024",
                "",
                Some(Some("1024 65000")),
            ),
            (
                "net.ipv4.ip_local_port_range = 1024-65000",
                "",
                Some(Some("1024 65000")),
            ),
            ("net.ipv4.ip_local_port_range = 1024 65000", "", None),
            ("net.ipv4.tcp_retries2 = 300", "", Some(None)),
            // An int without bounds then.
            ("net.ipv4.tcp_retries2 = 300", "4.19", None),
            ("net.ipv4.tcp_tw_reuse = 5", "6.1", Some(None)),
            ("net.ipv4.tcp_wmem = 0 65536 16777216", "", Some(None)),
            (
                "net.ipv4.tcp_rmem = 4096,87380,6291456",
                "",
                Some(Some("4096 87380 6291456")),
            ),
            ("net.ipv4.tcp_sack = yes", "", Some(Some("1"))),
            ("net.ipv4.tcp_sack = off", "", Some(Some("0"))),
            ("net.ipv4.tcp_sack = 1#on", "", Some(Some("1"))),
            ("net.ipv4.tcp_sack =", "", Some(None)),
            // Never a number that nobody meant.
            (
                "net.core.netdev_max_backlog = 65,536",
                "",
                Some(Some("65536")),
            ),
            ("net.core.netdev_max_backlog = 65,53", "", Some(None)),
            ("net.core.rmem_max = 16M", "", Some(Some("16777216"))),
            (
                "net.ipv4.tcp_rmem = 4k 128KiB 16m",
                "",
                Some(Some("4096 131072 16777216")),
            ),
            ("net.ipv4.tcp_keepalive_time = 10m", "", Some(Some("600"))),
            ("net.core.somaxconn = 4k", "", Some(None)),
            ("net.core.wmem_max = 16777216.0", "", Some(None)),
            (
                "net.ipv4.ip_local_reserved_ports = 8080, 9000-9010",
                "",
                Some(Some("8080,9000-9010")),
            ),
            (
                "net.ipv4.tcp_mem = '786432 1048576 26777216'",
                "",
                Some(Some("786432 1048576 26777216")),
            ),
            ("net.ipv4.tcp_keepalive_time = \"60\"", "", Some(Some("60"))),
            (
                "net.ipv4.tcp_congestion_control = bbr # fast",
                "",
                Some(Some("bbr")),
            ),
            ("net.ipv4.tcp_available_ulp = tls", "", Some(None)),
            ("net.ipv4.tcp_retries2 = 8 # seldom", "", None),
            ("net.ipv4.tcp_rmem = 4096 87380", "", None),
            ("net.ipv4.tcp_rmem = 4096 87380 6291456 9 9", "", None),
            // Unknown there, which another rule says.
            ("net.ipv4.tcp_rto_max_ms = 1", "5.10", None),
            ("net.ipv4.tcp_no_such = yes", "", None),
        ] {
            let files = files(line);
            let found = refused(&files, kernel);
            let meant = found.first().map(|refused| refused.meant.as_deref());
            assert_eq!(meant, expected, "{line} on {kernel}");
        }
    }

    #[test]
    fn another_line_may_make_room_for_a_value() {
        let files = files(
            "net.ipv4.ip_unprivileged_port_start = 80\nnet.ipv4.ip_local_port_range = 100 65535\n",
        );
        assert!(refused(&files, "6.12").is_empty());
        let mut facts = host("quiet");
        facts.sysctl_files = files;
        assert_quiet(&RULE, &facts);
    }

    #[test]
    fn what_is_set_before_the_refusal_is_told() {
        let files = files("net.ipv4.tcp_rmem = 4096 0 6291456\n");
        let found = refused(&files, "");
        assert_eq!(
            found[0].why(),
            "0 is not between 4096 and 2147483647. Before that the kernel sets 4096 and leaves \
             the rest as it was."
        );
    }
}
