//! Listeners on ports that connect() may take.

use std::collections::BTreeSet;

use advisor_facts::sock_diag::TcpState;
use advisor_facts::{Facts, Settings};
use advisor_report::measured::Measured;

use super::apply::there_and_back;
use super::{
    AppliesTo, Confidence, Documentation, Evidence, Finding, Outcome, ProvenBy, Rule, Scope,
    Severity,
};

pub(super) const RULE: Rule = Rule {
    code: "LB304",
    name: "listener-in-port-range",
    scope: Scope::Namespace,
    scenario: None,
    cure: None,
    proven_by: ProvenBy::Nothing(
        "no suite yet holds a client on the port of a listener that starts again",
    ),
    log_lines: &[],
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "Listeners inside a widened ip_local_port_range, not reserved. When such a server \
        is stopped, connect() of any program may take its port, and then its bind() fails with \
        EADDRINUSE in spite of SO_REUSEADDR, as long as that connection and its TIME_WAIT last.",
    evidence: "Listeners in the socket table, net.ipv4.ip_local_port_range and \
        net.ipv4.ip_local_reserved_ports, in every network namespace. Ports of the kernel's own \
        range (32768-60999) do not count: bind() to port 0 gives them. Kubernetes NodePorts \
        (30000-32767) are added where its programs run, and are a notice alone.",
    recommendation: "net.ipv4.ip_local_reserved_ports with the ports of the listeners, which \
        connect() and bind() to port 0 then leave alone. Or a range above them.",
    cost: "None.",
    risk: "None known: a reserved port can still be bound by its number.",
    undo: "Set the former list.",
    references: &[
        "ip_local_reserved_ports: Documentation/networking/ip-sysctl.rst of Linux",
        "enable-auto-protect-node-port-range: Cilium reserves NodePorts that are in the range",
        "a client on a listener's port gives EADDRINUSE in spite of SO_REUSEADDR; connect() does \
         not take reserved ports: measured",
    ],
};

pub(super) const RESERVED: &str = "net.ipv4.ip_local_reserved_ports";
const RANGE: &str = "net.ipv4.ip_local_port_range";
/// The kernel's own range: a listener in it got its port from bind() to port 0, or lives
/// with the risk on every host.
const KERNEL_RANGE: [u16; 2] = [32_768, 60_999];
/// Ports that Kubernetes serves without a listener.
const NODE_PORTS: [u16; 2] = [30_000, 32_767];
/// Programs of a Kubernetes node.
const NODE_PROGRAMS: [&str; 5] = ["kubelet", "kubelite", "kube-proxy", "k3s", "k3s-server"];

fn check(facts: &Facts, _: &Measured) -> Outcome {
    if facts.now.sockets.is_none() {
        return Outcome::NotEvaluated("the sockets cannot be seen".to_owned());
    }
    match finding(facts) {
        Some(finding) => Outcome::Fired(vec![finding]),
        None => Outcome::Quiet("no listener is on a port that connect() takes".to_owned()),
    }
}

/// The ports below the kernel's own range, or above, that somebody listens on, in
/// `range`, and that are not reserved.
pub(super) fn unreserved_listeners(facts: &Facts, range: [u16; 2]) -> BTreeSet<u16> {
    let reserved = ranges(
        facts
            .settings
            .ip_local_reserved_ports
            .as_deref()
            .unwrap_or_default(),
    );
    let within = |[first, last]: [u16; 2], port: u16| (first..=last).contains(&port);
    facts
        .now
        .sockets
        .iter()
        .flat_map(|sockets| &sockets.all)
        .filter(|socket| socket.state == TcpState::Listen)
        .map(|socket| socket.local.port())
        .filter(|port| within(range, *port) && !within(KERNEL_RANGE, *port))
        .filter(|port| !reserved.iter().any(|reserved| within(*reserved, *port)))
        .collect()
}

/// Those of the ports that are reserved.
pub(super) fn reserved_among(settings: &Settings, ports: &BTreeSet<u16>) -> BTreeSet<u16> {
    let reserved = ranges(
        settings
            .ip_local_reserved_ports
            .as_deref()
            .unwrap_or_default(),
    );
    let is_reserved = |port: &u16| {
        reserved
            .iter()
            .any(|[first, last]| (first..=last).contains(&port))
    };
    ports.iter().copied().filter(is_reserved).collect()
}

/// The reserved ports with these added: `22,8080,30000-32767`.
pub(super) fn with_reserved(settings: &Settings, ports: &BTreeSet<u16>) -> String {
    let now = settings
        .ip_local_reserved_ports
        .as_deref()
        .unwrap_or_default();
    let ports = ports.iter().map(u16::to_string);
    let list: Vec<String> = now
        .split(',')
        .filter(|part| !part.trim().is_empty())
        .map(|part| part.trim().to_owned())
        .chain(ports)
        .collect();
    list.join(",")
}

/// The ranges of a list of ports; what is no number is passed over.
fn ranges(list: &str) -> Vec<[u16; 2]> {
    list.split(',')
        .filter_map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            Some([first.trim().parse().ok()?, last.trim().parse().ok()?])
        })
        .collect()
}

/// Whether this is a node of Kubernetes, and connect() takes ports of its NodePorts.
fn has_unreserved_node_ports(facts: &Facts, [first, last]: [u16; 2]) -> bool {
    let mut processes = facts.processes.all.iter();
    let is_node = facts.place.is_none()
        && processes.any(|process| NODE_PROGRAMS.contains(&process.name.as_str()));
    // What the kernel's own range leaves out, and this one does not.
    let ports = NODE_PORTS[0].max(first)..=NODE_PORTS[1].min(last);
    let all: BTreeSet<u16> = ports.collect();
    is_node && reserved_among(&facts.settings, &all).len() < all.len()
}

fn why([first, last]: [u16; 2], listeners: usize, known: bool) -> String {
    let range = format!("The range for connections is {first} to {last}.");
    if listeners == 0 {
        return format!(
            "{range} Kubernetes serves NodePorts by the packet filter or eBPF, mostly without a \
             listener. A connection of this host from such a port gets in the way: an eBPF \
             program takes its answers for requests of clients, and a kube-proxy that opens the \
             port itself cannot bind it. ip_local_reserved_ports does not name them all."
        );
    }
    let reserved = if known {
        "ip_local_reserved_ports does not name them."
    } else {
        "Whether ip_local_reserved_ports names them is not in these facts: look before you follow \
         it."
    };
    format!(
        "{range} While one of these servers is stopped, connect() of any program may take its \
         port, and bind() then fails with EADDRINUSE in spite of SO_REUSEADDR. {reserved}"
    )
}

fn finding(facts: &Facts) -> Option<Finding> {
    let settings = &facts.settings;
    let range @ [first, last] = settings.ip_local_port_range?;
    let mut ports = unreserved_listeners(facts, range);
    let node = has_unreserved_node_ports(facts, range);
    if ports.is_empty() && !node {
        return None;
    }
    let listed: Vec<String> = ports.iter().map(u16::to_string).collect();
    let count = listed.len();
    let listed = listed.join(" ");
    let node_ports = format!("{}-{}", NODE_PORTS[0], NODE_PORTS[1]);
    if node {
        ports.retain(|port| !(NODE_PORTS[0]..=NODE_PORTS[1]).contains(port));
    }
    let mut proposed = with_reserved(settings, &ports);
    if node {
        let comma = if proposed.is_empty() { "" } else { "," };
        proposed = format!("{proposed}{comma}{node_ports}");
    }
    let known = settings.ip_local_reserved_ports.is_some();
    let (apply, undo) = there_and_back(facts, RESERVED, &proposed);
    Some(Finding {
        severity: if count == 0 {
            Severity::Notice
        } else {
            Severity::Warning
        },
        confidence: if known {
            Confidence::High
        } else {
            Confidence::Medium
        },
        summary: match count {
            0 => format!("connect() may take NodePorts of Kubernetes ({node_ports})"),
            1 => format!("1 listener is on a port that connect() may take: {listed}"),
            _ => format!("{count} listeners are on ports that connect() may take: {listed}"),
        },
        why: why(range, count, known),
        applies_to: AppliesTo::Host,
        subject: "this network namespace".to_owned(),
        setting: RESERVED.to_owned(),
        current: match &settings.ip_local_reserved_ports {
            Some(list) if list.is_empty() => "none".to_owned(),
            Some(list) => list.clone(),
            None => "not recorded".to_owned(),
        },
        proposed,
        evidence: vec![
            Evidence::new(
                "host.ports.listening",
                listed.as_str().into(),
                "socket table, LISTEN",
            ),
            Evidence::sysctl(RANGE, format!("{first} {last}").as_str().into()),
        ],
        cost: DOCUMENTATION.cost.to_owned(),
        risk: DOCUMENTATION.risk.to_owned(),
        apply,
        undo,
        verify: format!(
            "{} names the ports",
            facts.command(&format!("sysctl {RESERVED}"))
        ),
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rules::testing::{
        add_process, add_sockets, assert_quiet, bare_host, fired, move_to_namespace, set, socket,
    };

    /// A host that the rule fires on.
    pub fn firing() -> Facts {
        let mut facts = bare_host(8 << 30);
        set(&mut facts, RANGE, "1024 65535");
        set(&mut facts, RESERVED, "");
        let listeners = [22, 5432, 8080, 40_000].map(|port| {
            let local = format!("0.0.0.0:{port}");
            socket(TcpState::Listen, &local, "0.0.0.0:0").done()
        });
        add_sockets(&mut facts, listeners);
        facts
    }

    #[test]
    fn the_ports_of_listeners_are_reserved() {
        let mut facts = firing();
        let finding = fired(&RULE, &facts).remove(0);
        assert_eq!(finding.proposed, "5432,8080");
        set(&mut facts, RESERVED, "8000-8999");
        assert_eq!(fired(&RULE, &facts)[0].proposed, "8000-8999,5432");
        set(&mut facts, RESERVED, "5432, 8000-8999");
        assert_quiet(&RULE, &facts);
    }

    #[test]
    fn the_kernels_own_range_is_quiet() {
        let mut facts = firing();
        set(&mut facts, RANGE, "32768 60999");
        assert_quiet(&RULE, &facts);
    }

    #[test]
    fn a_node_of_kubernetes_reserves_its_node_ports() {
        let mut facts = firing();
        add_process(&mut facts, (7, "kubelet"), None, []);
        let finding = fired(&RULE, &facts).remove(0);
        assert_eq!(finding.proposed, "5432,8080,30000-32767");
        // Also those that a listener holds are in the list once, and those that none holds.
        let listener = socket(TcpState::Listen, "[::]:30080", "[::]:0").done();
        add_sockets(&mut facts, [listener]);
        let finding = fired(&RULE, &facts).remove(0);
        assert_eq!(finding.proposed, "5432,8080,30000-32767");
        set(&mut facts, RESERVED, "5432,8080,30080");
        let finding = fired(&RULE, &facts).remove(0);
        assert_eq!(finding.severity, Severity::Notice);
        assert_eq!(finding.proposed, "5432,8080,30080,30000-32767");
        set(&mut facts, RESERVED, "5432,8080,30000-32767");
        assert_quiet(&RULE, &facts);
        set(&mut facts, RESERVED, "");
        set(&mut facts, RANGE, "32768 60999");
        assert_quiet(&RULE, &facts);
    }

    #[test]
    fn another_namespace_is_judged_by_its_own_settings() {
        let mut facts = firing();
        move_to_namespace(&mut facts, 77, 4242);
        let finding = fired(&RULE, &facts).remove(0);
        assert!(
            finding.apply.starts_with("nsenter -t 4242 -n sysctl -w"),
            "{}",
            finding.apply
        );
    }
}
