//! A tcp_max_tw_buckets so low that TIME_WAIT ends early.

use advisor_facts::Facts;
use advisor_facts::units::bytes;
use advisor_report::measured::Measured;

use super::{
    Confidence, Documentation, Evidence, Finding, Outcome, ProvenBy, Rule, Scope, Severity,
    cannot_be_read,
};

pub(super) const RULE: Rule = Rule {
    code: "LB311",
    name: "tw-buckets-few",
    scope: Scope::Namespace,
    scenario: Some("bind/ports/too-many-time-wait"),
    cure: None,
    proven_by: ProvenBy::Nothing(
        "the harm is an old segment taken for a new connection's; no trial is long enough to see one",
    ),
    log_lines: &[],
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "A tcp_max_tw_buckets of a few thousand, set against TIME_WAIT. Beyond it the \
        kernel ends TIME_WAIT at once, and with it the protection from old segments. Nothing is \
        logged; TCPTimeWaitOverflow counts it. A record takes about a quarter of a kilobyte, so \
        there is little to gain.",
    evidence: "net.ipv4.tcp_max_tw_buckets below 8192 and below the kernel's default, which is \
        half of tcp_ehash_entries, or computed from the RAM if that cannot be read (before 6.2).",
    recommendation: "The kernel's default, or as many records as a 64th of the RAM holds. If the \
        RAM is not known: 65536.",
    cost: "About 256 bytes per record, if so many connections end within a minute.",
    risk: "Programs that connect to one destination may run out of ports in TIME_WAIT, as they \
        would have without the setting.",
    undo: "Set the former value.",
    references: &[
        "tcp_max_tw_buckets: Documentation/networking/ip-sysctl.rst of Linux",
        "inet_twsk_alloc: net/ipv4/inet_timewait_sock.c of Linux",
        "RFC 9293 section 3.6, TIME-WAIT",
    ],
};

pub(super) const SETTING: &str = "net.ipv4.tcp_max_tw_buckets";
/// Lists of settings have fewer than this.
const FEW: i64 = 8192;
/// The proposal if the kernel's default is not known.
const USUAL: i64 = 65_536;
/// A record of TIME_WAIT (struct tcp_timewait_sock), rounded up, in bytes.
const RECORD_BYTES: u64 = 256;

/// The number of records that a 64th of the RAM holds.
pub(super) fn most_records(facts: &Facts) -> i64 {
    match facts.ram_bytes {
        0 => i64::from(i32::MAX),
        ram => i64::try_from(ram / 64 / RECORD_BYTES)
            .unwrap_or(i64::MAX)
            .min(i32::MAX.into()),
    }
}

/// The memory of records, in bytes.
pub(super) fn records_bytes(records: i64) -> u64 {
    u64::try_from(records)
        .unwrap_or(0)
        .saturating_mul(RECORD_BYTES)
}

/// The kernel's default by the RAM: half of a bucket for 128 KiB, rounded up to a power of
/// two, a page of buckets of 8 bytes at least, 524288 at most (tcp_init,
/// alloc_large_system_hash). `None` where the RAM is not known.
fn default_of_ram(facts: &Facts) -> Option<i64> {
    let buckets = (facts.ram_bytes >> 17)
        .max(facts.page_bytes / 8)
        .checked_next_power_of_two()?
        .min(512 << 10);
    (facts.ram_bytes > 0).then(|| i64::try_from(buckets / 2).unwrap_or(i64::MAX))
}

/// The kernel's default, or as many records as the RAM holds; where neither is known, what
/// is usual.
pub(super) fn default_records(facts: &Facts) -> i64 {
    let default = facts.settings.half_ehash_entries();
    let default = default.or_else(|| default_of_ram(facts)).unwrap_or(USUAL);
    default.min(most_records(facts))
}

fn check(facts: &Facts, _: &Measured) -> Outcome {
    let Some(current) = facts.settings.tcp_max_tw_buckets else {
        return cannot_be_read(SETTING);
    };
    let default = facts.settings.half_ehash_entries();
    let proposed = default_records(facts);
    // By the RAM of now the default is known to a factor of two.
    let least = if default.is_some() {
        proposed
    } else {
        proposed / 2
    };
    if current >= FEW || current >= least {
        return Outcome::Quiet(format!("tcp_max_tw_buckets is {current}"));
    }
    let mut finding = Finding::of_setting(facts, &DOCUMENTATION, SETTING, &proposed.to_string());
    finding
        .evidence
        .extend(Evidence::counter("TcpExt.TCPTimeWaitOverflow", facts));
    Outcome::Fired(vec![Finding {
        severity: Severity::Notice,
        confidence: if default.is_some() {
            Confidence::High
        } else {
            Confidence::Medium
        },
        summary: format!("tcp_max_tw_buckets is {current}, which ends TIME_WAIT early"),
        why: "TIME_WAIT keeps segments of an old connection away from a new one between the same \
            ports. Its records are small and go by themselves after 60 s. Ending them early \
            saves little and gives up that protection. It does not help bind() either: that \
            needs SO_REUSEADDR."
            .to_owned(),
        cost: format!(
            "at most {}, if all are used",
            bytes(records_bytes(proposed))
        ),
        verify: format!(
            "TCPTimeWaitOverflow stops rising ({})",
            facts.command("nstat -az TcpExtTCPTimeWaitOverflow")
        ),
        ..finding
    }])
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rules::testing::{assert_quiet, fired, host, set};

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        host("tw-buckets-few")
    }

    #[test]
    fn it_fires_below_8192_and_proposes_the_default() {
        let mut facts = host("quiet");
        set(&mut facts, SETTING, "8192");
        assert_quiet(&RULE, &facts);
        set(&mut facts, SETTING, "8191");
        assert_eq!(fired(&RULE, &facts)[0].proposed, "65536");
    }

    #[test]
    fn a_64th_of_the_ram_holds_the_proposal() {
        let mut facts = host("quiet");
        set(&mut facts, SETTING, "100");
        facts.ram_bytes = 64 * 256 * 1000;
        assert_eq!(fired(&RULE, &facts)[0].proposed, "1000");
        facts.ram_bytes = 64 * 256 * 100;
        assert_quiet(&RULE, &facts);
    }
}
