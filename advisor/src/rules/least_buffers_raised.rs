//! What every socket keeps under memory pressure was raised.

use super::{
    Confidence, Documentation, Evidence, Finding, Outcome, ProvenBy, Rule, Scope, Severity,
};
use advisor_facts::Facts;
use advisor_facts::units::bytes;
use advisor_report::measured::Measured;

pub(super) const RULE: Rule = Rule {
    code: "LB418",
    name: "least-buffers-raised",
    scope: Scope::Namespace,
    scenario: None,
    cure: None,
    proven_by: ProvenBy::Nothing(
        "the traffic decides how many sockets fill their least buffers; tcp-mem-near tries what \
         full buffers do to tcp_mem",
    ),
    log_lines: &[],
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "A first value of tcp_rmem or tcp_wmem far above a page. It is no size that a buffer \
        begins with: it is what every socket may hold whatever the pressure. Beyond the second \
        mark of tcp_mem the kernel shrinks buffers, but none below this; so TCP goes on to the \
        third mark, where memory is refused to everybody.",
    evidence: "The first value above eight pages; the kernel's own is one page. With tcp_mem, how \
        many sockets that hold so much take TCP from the second mark to the third.",
    recommendation: "A page as the first value. The other two stay: a buffer begins and grows as \
        before.",
    cost: "None without memory pressure. Under pressure single connections get slower, in place \
        of all connections losing data.",
    risk: "A link that needs a great window slows down under pressure.",
    undo: "Set the former three values.",
    references: &[
        "tcp_rmem, tcp_wmem: Documentation/networking/ip-sysctl.rst of Linux",
        "__sk_mem_raise_allocated, \"guarantee minimum buffer size under pressure\": \
        net/core/sock.c of Linux",
    ],
};

/// From more than this many pages on it is no rounding of a page.
const MOST_PAGES: u64 = 8;

fn check(facts: &Facts, _: &Measured) -> Outcome {
    let both = [
        ("net.ipv4.tcp_rmem", facts.settings.tcp_rmem),
        ("net.ipv4.tcp_wmem", facts.settings.tcp_wmem),
    ];
    let findings: Vec<_> =
        both.into_iter()
            .filter_map(|(name, values)| Some((name, values?)))
            .filter(|(_, [least, ..])| *least > MOST_PAGES.saturating_mul(facts.page_bytes))
            .map(|(name, [least, default, most])| {
                let page = facts.page_bytes;
                let proposed = format!("{page} {default} {most}");
                let mut finding = Finding::of_setting(facts, &DOCUMENTATION, name, &proposed);
                let enough = facts.settings.tcp_mem.and_then(|[_, pressure, high]| {
                    let room = high.checked_sub(pressure)?.saturating_mul(page);
                    Some((room / least, room))
                });
                let full = enough.map_or_else(String::new, |(sockets, room)| {
                finding.evidence.push(Evidence::sysctl(
                    "net.ipv4.tcp_mem",
                    facts.settings.get("net.ipv4.tcp_mem").unwrap_or_default().as_str().into(),
                ));
                format!(
                    " {sockets} sockets that hold so much fill the {} between the second and the \
                     third mark of tcp_mem.",
                    bytes(room)
                )
            });
                Finding {
                    severity: Severity::Warning,
                    confidence: Confidence::Medium,
                    summary: format!(
                        "{name}: memory pressure cannot shrink a socket below {}",
                        bytes(least)
                    ),
                    why: format!(
                        "The first value is guaranteed to each socket up to the hard limit of \
                     tcp_mem; the kernel's own is a page, {}.{full}",
                        bytes(page)
                    ),
                    ..finding
                }
            })
            .collect();
    if findings.is_empty() {
        return Outcome::Quiet("under pressure buffers can shrink to a few pages".to_owned());
    }
    Outcome::Fired(findings)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rules::testing::{assert_quiet, fired, host};

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        let mut facts = host("quiet");
        facts.settings.tcp_rmem = Some([371_967, 495_956, 6_291_456]);
        facts
    }

    #[test]
    fn the_least_is_judged_by_the_page() {
        let mut facts = firing();
        facts.settings.tcp_wmem = Some([371_967, 495_956, 4_194_304]);
        facts.settings.tcp_mem = Some([4_194_304, 4_718_592, 5_242_880]);
        let findings = fired(&RULE, &facts);
        let proposed: Vec<_> = findings.iter().map(|finding| &finding.proposed).collect();
        assert_eq!(proposed, ["4096 495956 6291456", "4096 495956 4194304"]);
        assert!(
            findings[0].why.contains("5773 sockets"),
            "{}",
            findings[0].why
        );
        // The page of another machine.
        facts.page_bytes = 65_536;
        assert_quiet(&RULE, &facts);
        facts.page_bytes = 4096;
        facts.settings.tcp_rmem = Some([32_768, 131_072, 6_291_456]);
        facts.settings.tcp_wmem = None;
        assert_quiet(&RULE, &facts);
    }
}
