//! Received data that its program does not read.

use advisor_facts::Facts;
use advisor_facts::condition::Condition;
use advisor_facts::units::bytes;
use advisor_report::measured::Measured;

use super::program::plain;
use super::program::{by_program, connections, without_tcp_info, worth_bytes};
use super::{
    AppliesTo, Confidence, Documentation, Evidence, Finding, Harm, Outcome, ProvenBy, Rule, Scope,
    Severity,
};

pub(super) const RULE: Rule = Rule {
    code: "LB404",
    name: "unread-data-holds-memory",
    scope: Scope::Namespace,
    scenario: None,
    cure: None,
    proven_by: ProvenBy::Reproduction(&[Harm::TransferStalls, Harm::DataLost]),
    log_lines: &[],
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "Received data that the program does not read. It holds memory of the kernel, and \
        closes the window for the peer.",
    evidence: "The receive queues: data that has waited for a second, or more than 64 KiB. It \
        fires if the sockets of one program hold a sixteenth of the pressure mark of tcp_mem, or \
        64 MiB if that cannot be read.",
    recommendation: "Find what the program waits for, and read; or close what it will not read. \
        A larger tcp_mem only delays the problem.",
    cost: "None.",
    risk: "A program may leave data unread on purpose, to slow its peers down. Then SO_RCVBUF \
        limits the memory.",
    undo: "Revert the change of the program.",
    references: &[
        "SK_MEMINFO_RMEM_ALLOC: include/uapi/linux/sock_diag.h of Linux",
        "tcp_select_window: net/ipv4/tcp_output.c of Linux",
    ],
};

/// Largest number of connections shown as evidence.
const CONNECTIONS: usize = 5;

fn check(facts: &Facts, _: &Measured) -> Outcome {
    if let Some(lacking) = without_tcp_info(facts) {
        return lacking;
    }
    let worth = worth_bytes(facts);
    let programs = by_program(facts, |socket| Condition::of(socket) == Condition::Unread);
    let count: usize = programs.iter().map(|program| program.sockets.len()).sum();
    let findings: Vec<_> = programs
        .iter()
        .filter(|program| program.bytes >= worth)
        .map(|program| {
            let count = program.sockets.len();
            let mut evidence = vec![
                Evidence::new(
                    "host.sockets.unread",
                    i64::try_from(count).unwrap_or(i64::MAX).into(),
                    "sock_diag, tcp_info",
                ),
                Evidence::new(
                    "host.sockets.unread.bytes",
                    i64::try_from(program.bytes).unwrap_or(i64::MAX).into(),
                    "sock_diag, SKMEMINFO",
                ),
            ];
            evidence.extend(program.sockets.iter().take(CONNECTIONS).map(|socket| {
                Evidence::new(
                    format!("{} -> {}", plain(socket.local), plain(socket.peer)),
                    format!(
                        "{} held: {}",
                        bytes(socket.held_bytes()),
                        Condition::Unread.reason(socket)
                    )
                    .as_str()
                    .into(),
                    "sock_diag, tcp_info",
                )
            }));
            Finding {
                severity: Severity::Warning,
                confidence: Confidence::High,
                summary: format!(
                    "{} leaves {} unread on {}",
                    program.name,
                    bytes(program.bytes),
                    connections(count)
                ),
                why: "The kernel has received and acknowledged this data, and the program has \
                    not read it. No setting of the kernel changes that; more memory only lets \
                    more data wait."
                    .to_owned(),
                applies_to: AppliesTo::Program,
                subject: program.name.clone(),
                setting: "read()".to_owned(),
                current: format!("not called in time on {count} connections"),
                proposed: "read, or close what is not to be read".to_owned(),
                evidence,
                cost: DOCUMENTATION.cost.to_owned(),
                risk: DOCUMENTATION.risk.to_owned(),
                apply: "see what the program's threads wait for (a lock, a disk, another \
                    connection); read in a loop until EAGAIN; limit with SO_RCVBUF how much one \
                    peer may send ahead"
                    .to_owned(),
                undo: DOCUMENTATION.undo.to_owned(),
                verify: "advisor sockets --by process shows less unread data".to_owned(),
            }
        })
        .collect();
    if findings.is_empty() {
        return Outcome::Quiet(match count {
            0 => "no program leaves received data unread".to_owned(),
            count => format!("{count} connections have data unread, too little to matter"),
        });
    }
    Outcome::Fired(findings)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rules::testing::{host, outcome};

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        host("unread-data-holds-memory")
    }

    #[test]
    fn it_fires_from_a_sixteenth_of_the_pressure_mark() {
        let mut facts = firing();
        let held = by_program(&facts, |socket| Condition::of(socket) == Condition::Unread)[0].bytes;
        let mut fires_at = |bytes: u64| {
            let pressure = bytes / facts.page_bytes * 16;
            facts.settings.tcp_mem = Some([pressure, pressure, pressure]);
            matches!(outcome(&RULE, &facts), Outcome::Fired(_))
        };
        assert!(fires_at(held));
        assert!(!fires_at(held + 4096));
    }
}
