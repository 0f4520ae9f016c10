//! Raised buffer sizes although the memory of all sockets is short.

use advisor_facts::Facts;
use advisor_facts::units::bytes;
use advisor_report::measured::Measured;

use super::sizing::{BYPASSED, gauge_noise_pages, tcp_pages};
use super::{
    Confidence, Documentation, Evidence, Finding, Outcome, ProvenBy, Rule, Scope, Severity,
    not_initial_namespace,
};

pub(super) const RULE: Rule = Rule {
    code: "LB415",
    name: "buffers-raised-under-pressure",
    scope: Scope::Namespace,
    scenario: None,
    cure: None,
    proven_by: ProvenBy::Nothing(
        "the traffic decides how much of a larger buffer is filled; tcp-mem-near tries what \
         full buffers do to tcp_mem",
    ),
    log_lines: &[],
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "Raised buffer sizes on a host whose TCP memory is beyond the pressure mark. The \
        largest sizes are in tcp_rmem, tcp_wmem, rmem_max and wmem_max. People answer the message about memory with larger \
        buffers. Then fewer sockets fill tcp_mem, and it gets worse.",
    evidence: "TCP.mem above the pressure mark, and a largest buffer above a 64th of the high mark \
        and above the kernel's default (tcp_rmem 6 MiB, 32 MiB from Linux 6.18 on; tcp_wmem 4 \
        MiB). The kernel doubles SO_RCVBUF and SO_SNDBUF, so rmem_max and wmem_max count twice.",
    recommendation: "The power of two below a 64th of the high mark, half of that for rmem_max \
        and wmem_max, and at least the kernel's default or 8 MiB. The proposal is lower than the \
        present value.",
    cost: "Throughput of single connections on paths whose bandwidth times delay is larger than \
        the buffer.",
    risk: "A long fat path gets slower: measure one that matters before and after. rmem_max and \
        wmem_max also limit the sockets of UDP, and QUIC asks for several MiB. Sockets keep what \
        they have, and pressure ends only when TCP holds less than the low mark.",
    undo: "Set the former value.",
    references: &[
        "tcp_rmem, tcp_wmem, tcp_mem: Documentation/networking/ip-sysctl.rst of Linux",
        "__sk_mem_raise_allocated, __sk_mem_reduce_allocated, sock_setsockopt (SO_RCVBUF is \
         doubled): net/core/sock.c of Linux",
        "tcp_init (the defaults): net/ipv4/tcp.c of Linux",
    ],
};

/// A setting with the value in it that may be too great.
struct Greatest {
    name: &'static str,
    /// The place of the value among those of the setting.
    place: usize,
    /// What a socket may take by it: SO_RCVBUF and SO_SNDBUF are doubled.
    times: u64,
    /// No lower value is proposed, in bytes.
    least: fn(&Facts) -> u64,
}

/// QUIC asks for 7 MiB, by way of net.core.rmem_max and wmem_max.
const FOR_UDP_BYTES: u64 = 8 << 20;

const SETTINGS: [Greatest; 4] = [
    Greatest {
        name: "net.ipv4.tcp_rmem",
        place: 2,
        times: 1,
        // The default.
        least: |facts| {
            if facts.kernel_is_at_least(6, 18) {
                32 << 20
            } else {
                6 << 20
            }
        },
    },
    Greatest {
        name: "net.ipv4.tcp_wmem",
        place: 2,
        times: 1,
        least: |_| 4 << 20,
    },
    Greatest {
        name: "net.core.rmem_max",
        place: 0,
        times: 2,
        least: |_| FOR_UDP_BYTES,
    },
    Greatest {
        name: "net.core.wmem_max",
        place: 0,
        times: 2,
        least: |_| FOR_UDP_BYTES,
    },
];

fn check(facts: &Facts, _: &Measured) -> Outcome {
    if facts.settings.tcp_mem.is_some() && facts.gauge_is_bypassed() {
        return Outcome::NotEvaluated(BYPASSED.to_owned());
    }
    let (Some(marks), Some(pages)) = (facts.settings.tcp_mem, tcp_pages(facts)) else {
        return not_initial_namespace("net.ipv4.tcp_mem");
    };
    if pages <= marks[1] || pages <= gauge_noise_pages(facts) {
        return Outcome::Quiet("the memory of TCP is not under pressure".to_owned());
    }
    let share = marks[2].saturating_mul(facts.page_bytes) / 64;
    let most = share.checked_ilog2().map_or(0, |log| 1 << log);
    let findings: Vec<_> = SETTINGS
        .iter()
        .filter_map(|setting| finding(facts, setting, most))
        .collect();
    if findings.is_empty() {
        return Outcome::Quiet(
            "no greatest buffer is above the kernel's default and too great for tcp_mem".to_owned(),
        );
    }
    Outcome::Fired(findings)
}

fn finding(facts: &Facts, setting: &Greatest, most: u64) -> Option<Finding> {
    let most = (most / setting.times).max((setting.least)(facts));
    let text = facts.settings.get(setting.name)?;
    let mut values: Vec<u64> = text
        .split_whitespace()
        .map(|value| value.parse().ok())
        .collect::<Option<_>>()?;
    let current = *values.get(setting.place)?;
    if current <= most {
        return None;
    }
    // The smaller sizes stay below it.
    for value in &mut values {
        *value = (*value).min(most);
    }
    let values: Vec<_> = values.iter().map(u64::to_string).collect();
    let mut finding = Finding::of_setting(facts, &DOCUMENTATION, setting.name, &values.join(" "));
    finding.evidence.extend(
        facts
            .now
            .sockstat
            .get("TCP.mem")
            .map(|pages| Evidence::sockstat("TCP.mem", pages)),
    );
    Some(Finding {
        severity: Severity::Warning,
        confidence: Confidence::Medium,
        summary: format!(
            "one socket may take {} while the memory of TCP is under pressure",
            bytes(current.saturating_mul(setting.times))
        ),
        why: "Beyond the pressure mark, single buffers are not too small: all of them together \
            are too large. With a larger maximum, fewer sockets fill tcp_mem."
            .to_owned(),
        verify:
            "`mem` in /proc/net/sockstat falls below the first value of tcp_mem, where pressure \
            ends"
                .to_owned(),
        ..finding
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rules::testing::{
        assert_not_evaluated, assert_quiet, bare_host, fired, host, sockstat,
    };

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        host("buffers-raised-under-pressure")
    }

    /// A host of 4 GiB under pressure.
    fn under_pressure(settings: &[(&str, &str)]) -> Facts {
        let mut facts = bare_host(4 << 30);
        for (name, value) in settings {
            assert!(facts.settings.set(name, value), "{name}");
        }
        let pressure = facts.settings.tcp_mem.unwrap()[1];
        facts.now.sockstat = sockstat(&format!("TCP: orphan 0 mem {}\n", pressure + 1));
        facts
    }

    #[test]
    fn the_kernels_own_default_is_not_too_great() {
        let rmem = [("net.ipv4.tcp_rmem", "4096 131072 33554432")];
        let mut facts = under_pressure(&rmem);
        facts.kernel = "6.18.44".to_owned();
        assert_quiet(&RULE, &facts);
        facts.kernel = "6.12.48".to_owned();
        let finding = fired(&RULE, &facts).remove(0);
        assert_eq!(finding.proposed, "4096 131072 6291456");
    }

    #[test]
    fn a_buffer_is_twice_what_is_asked_for_and_udp_needs_some() {
        let mut facts = under_pressure(&[("net.core.rmem_max", "67108864")]);
        let finding = fired(&RULE, &facts).remove(0);
        assert_eq!(finding.proposed, FOR_UDP_BYTES.to_string());
        assert!(finding.summary.contains("128.0 MiB"), "{}", finding.summary);
        assert!(finding.risk.contains("QUIC"));
        facts.settings.rmem_max = Some(7_500_000);
        assert_quiet(&RULE, &facts);
        facts.settings.bypass_prot_mem = Some(1);
        assert_not_evaluated(&RULE, &facts, "bypass_prot_mem");
    }

    #[test]
    fn a_buffer_of_a_64th_of_the_high_mark_or_of_the_default_is_not_too_large() {
        let mut facts = firing();
        let set_to = |facts: &mut Facts, setting: &Greatest, bytes: u64| {
            let smaller = if setting.place == 0 { "" } else { "4096 4096 " };
            let value = format!("{smaller}{bytes}");
            assert!(facts.settings.set(setting.name, &value), "{}", setting.name);
        };
        for (high_bytes, share) in [(64 << 26, 1 << 26), (64 << 20, 1 << 20)] {
            facts.settings.tcp_mem = Some([1, 2, high_bytes / facts.page_bytes]);
            let most = |setting: &Greatest| (share / setting.times).max((setting.least)(&facts));
            let most: Vec<u64> = SETTINGS.iter().map(most).collect();
            for (setting, too_much) in SETTINGS.iter().zip(&most) {
                for (other, most) in SETTINGS.iter().zip(&most) {
                    set_to(&mut facts, other, *most);
                }
                assert_quiet(&RULE, &facts);
                set_to(&mut facts, setting, too_much + 1);
                assert_eq!(fired(&RULE, &facts)[0].setting, setting.name);
            }
        }
        // Without pressure any size will do.
        facts.settings.tcp_mem = Some([1 << 20, 1 << 21, 1 << 22]);
        assert_quiet(&RULE, &facts);
    }
}
