//! Lines of the kernel's log, and errors as programs print them, each with the rule that
//! it leads to.
//!
//! A rule's file has the lines that are about its failure. Here is what they are, and
//! the lines that no rule is about. The wording is that of Linux 3.10 to 7.3, and of
//! older kernels where people still ask for it.

use super::{RULES, Rule};

/// A line of the kernel's log.
#[derive(Clone, Copy, Debug)]
pub struct LogLine {
    /// What of its text is always the same, in its order. Letters count in either case;
    /// a time, a host and a process may stand in front.
    pub pieces: &'static [&'static str],
    /// What it says, and what not.
    pub means: &'static str,
}

impl LogLine {
    fn is_in(&self, line: &str) -> bool {
        let mut rest = line;
        self.pieces.iter().all(|piece| {
            let piece = piece.to_lowercase();
            rest.find(&piece)
                .map(|at| rest = &rest[at + piece.len()..])
                .is_some()
        })
    }
}

/// What a line leads to.
#[derive(Clone, Copy, Debug)]
pub enum LedTo {
    /// A rule.
    Rule(&'static Rule, &'static LogLine),
    /// No rule is about it.
    NoRule(&'static LogLine),
}

/// Lines that people meet beside those of the rules.
const OTHERS: &[LogLine] = &[
    LogLine {
        pieces: &["neighbour table overflow"],
        means: NEIGHBOURS,
    },
    LogLine {
        pieces: &["neighbor table overflow"],
        means: NEIGHBOURS,
    },
    LogLine {
        pieces: &["unexpectedly shrunk window"],
        means: SHRUNK,
    },
    // Before 3.1.
    LogLine {
        pieces: &["treason uncloaked", "shrinks window"],
        means: SHRUNK,
    },
    LogLine {
        pieces: &["illegal window scaling value"],
        means: "A peer sent an option that RFC 7323 forbids; the kernel takes 14 in its place. No \
            rule judges it, and nothing is wrong with this host.",
    },
    LogLine {
        pieces: &["suspect gro implementation"],
        means: "A network driver merges segments wrongly, so that estimates of the segment size \
            are too high. No rule judges it: look for a newer driver, or switch GRO off (ethtool \
            -K DEVICE gro off).",
    },
    LogLine {
        pieces: &["conntrack", "expectation table full"],
        means: "Connection tracking has too many expected connections, which its helpers (ftp, \
            sip) add; further ones are not let through as related. No rule judges it: raise \
            net.netfilter.nf_conntrack_expect_max, or switch off the helper that nobody needs.",
    },
    LogLine {
        pieces: &["dst cache overflow"],
        means: ROUTES,
    },
    LogLine {
        pieces: &["maximum number of routes reached"],
        means: ROUTES,
    },
    LogLine {
        pieces: &["unregister_netdevice: waiting for"],
        means: "A network device cannot go, mostly that of a container which has ended, because \
            something still refers to it. No rule judges it. If the line comes for more than a \
            few minutes, it is a fault of the kernel: look for a newer release.",
    },
    LogLine {
        pieces: &["page allocation failure"],
        means: "The kernel found no free memory at once; with GFP_ATOMIC it was mostly a network \
            driver, which then drops the packet, and TCP sends it again. No rule judges it: more \
            in reserve (vm.min_free_kbytes) helps where it happens often. It is not the limit \
            tcp_mem.",
    },
    LogLine {
        pieces: &["netdev watchdog", "timed out"],
        means: "A network device has not sent for seconds and was reset; connections through it \
            retransmit meanwhile. No rule judges it: look at the driver, the firmware and the \
            link (ethtool -S DEVICE).",
    },
    LogLine {
        pieces: &["sk_stream_kill_queues"],
        means: ACCOUNTING,
    },
    LogLine {
        pieces: &["inet_sock_destruct"],
        means: ACCOUNTING,
    },
    LogLine {
        pieces: &["callbacks suppressed"],
        means: "The kernel left out so many lines like those around this one: it writes 10 in 5 \
            seconds (net.core.message_burst, message_cost). No rule judges it. Count by the \
            counters of nstat, not by lines.",
    },
];

const SHRUNK: &str = "A peer took back window that it had granted, while data was on its way. No rule \
    judges it: the kernel retransmits until the peer opens its window again, and gives up after \
    120 s. `advisor sockets` shows peers at a zero window, and LB403 what they hold.";

const ROUTES: &str = "The table of routes that packets have used is full, and packets to further \
    destinations are dropped. It is not about sockets, and no rule judges it: compare the rows of \
    `ip -6 route show table all` with net.ipv6.route.max_size (net.ipv4.route.max_size has no \
    effect since Linux 3.6).";

const ACCOUNTING: &str = "A socket was freed while the kernel still counted memory for it: a fault of \
    the kernel or of one of its modules, not of a setting. No rule judges it: look for a newer \
    release; TCP.mem of /proc/net/sockstat may be too high until the host is started again.";

const NEIGHBOURS: &str = "The table of neighbours (ARP, NDP) is full. It is not about sockets, and no \
    rule judges it: compare `ip neigh | wc -l` with net.ipv4.neigh.default.gc_thresh3 and \
    net.ipv6.neigh.default.gc_thresh3, and raise these on a host with that many neighbours.";

/// What a line of the kernel's log leads to; `None` where it is not known.
pub fn led_to(line: &str) -> Option<LedTo> {
    let line = line.to_lowercase();
    let of_rules = RULES
        .iter()
        .flat_map(|rule| rule.log_lines.iter().map(move |line| (rule, line)))
        .filter(|(_, known)| known.is_in(&line))
        // Of two, the one that says more.
        .max_by_key(|(_, known)| known.pieces.len());
    of_rules
        .map(|(rule, known)| LedTo::Rule(rule, known))
        .or_else(|| {
            let mut others = OTHERS.iter();
            others.find(|known| known.is_in(&line)).map(LedTo::NoRule)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What stands in front of a line in the logs of people.
    const PREFIXES: &[&str] = &[
        "",
        "TCP: ",
        "<6>[ 4406.521142] TCP: ",
        "[    7.000001] TCP: ",
        "[Mon Nov 30 08:00:26 2026] TCP: ",
        "Nov 30 08:00:26 web1 kernel: TCP: ",
        "Nov 30 08:00:26 web1 kernel: [16508.733356] TCP: ",
        "2026-11-30T08:00:26.123456+01:00 web1 kernel: TCP: ",
        "kern  :info  : [ 12.5] TCP: ",
    ];

    fn code(line: &str) -> Option<&'static str> {
        match led_to(line) {
            Some(LedTo::Rule(rule, _)) => Some(rule.code),
            Some(LedTo::NoRule(_)) => Some("none"),
            None => None,
        }
    }

    #[test]
    fn each_line_of_the_kernel_leads_to_its_rule() {
        for (line, wanted) in [
            ("too many orphaned sockets", "LB101"),
            ("out of memory -- consider tuning tcp_mem", "LB402"),
            ("Out of socket memory", "LB112"),
            ("time wait bucket table overflow", "LB310"),
            ("time wait bucket table overflow (CT101)", "LB310"),
            // 2.6, 3.10 to 6.1, 6.2 and later, MPTCP.
            (
                "possible SYN flooding on port 4671. Sending cookies.",
                "LB510",
            ),
            (
                "request_sock_TCP: Possible SYN flooding on port 80. Sending cookies.  Check SNMP \
              counters.",
                "LB510",
            ),
            (
                "request_sock_TCPv6: Possible SYN flooding on port 34391. Dropping request.  Check \
              SNMP counters.",
                "LB513",
            ),
            (
                "request_sock_TCP: Possible SYN flooding on port 127.0.0.1:23456. Sending cookies.",
                "LB510",
            ),
            (
                "request_sock_TCPv6: Possible SYN flooding on port [::]:20002. Dropping request.",
                "LB513",
            ),
            (
                "request_sock_subflow_v4: Possible SYN flooding on port [::]:20002. Sending cookies.",
                "LB510",
            ),
            ("drop open request from 192.0.2.7/40000", "LB513"),
            (
                "Peer 192.0.2.7:50524/6960 unexpectedly shrunk window 930362701:930364976 (repaired)",
                "none",
            ),
            (
                "nf_conntrack: nf_conntrack: table full, dropping packet",
                "LB701",
            ),
            (
                "nf_conntrack: table full in netns 4026532777, dropping packet",
                "LB701",
            ),
            ("ip_conntrack: table full, dropping packet.", "LB701"),
            ("CT 101: nf_conntrack table full, dropping packet", "LB701"),
            ("nf_conntrack: expectation table full", "none"),
            (
                "Treason uncloaked! Peer 192.0.2.7:80/1234 shrinks window 76154906:76154907. \
                 Repaired.",
                "none",
            ),
            ("IPv4: dst cache overflow", "none"),
            (
                "IPv6: Maximum number of routes reached, consider increasing route/max_size.",
                "none",
            ),
            (
                "unregister_netdevice: waiting for eth0 to become free. Usage count = 1",
                "none",
            ),
            (
                "swapper/0: page allocation failure: order:0, mode:0x20(GFP_ATOMIC)",
                "none",
            ),
            (
                "NETDEV WATCHDOG: eth0 (e1000e): transmit queue 0 timed out",
                "none",
            ),
            (
                "WARNING: CPU: 1 PID: 0 at net/core/stream.c:212 sk_stream_kill_queues+0xf1/0x100",
                "none",
            ),
            ("Neighbour table overflow.", "none"),
            ("neighbour: arp_cache: neighbor table overflow!", "none"),
            ("net_ratelimit: 217 callbacks suppressed", "none"),
        ] {
            for prefix in PREFIXES {
                let line = format!("{prefix}{line}");
                assert_eq!(code(&line), Some(wanted), "{line}");
            }
        }
        for line in [
            "",
            "TCP: cubic registered",
            "Out of memory: Killed process 4242 (java)",
            "eth0: link up",
        ] {
            assert_eq!(code(line), None, "{line}");
        }
    }

    #[test]
    fn errors_of_programs_lead_to_a_rule() {
        for (line, wanted) in [
            (
                "bind() to 0.0.0.0:80 failed (98: Address already in use)",
                "LB301",
            ),
            ("connect: Cannot assign requested address", "LB303"),
            ("accept4() failed (24: Too many open files)", "LB504"),
            ("socket: Too many open files in system", "LB505"),
            (
                "Memory cgroup out of memory: Killed process 4242 (envoy)",
                "LB407",
            ),
        ] {
            assert_eq!(code(line), Some(wanted), "{line}");
        }
    }

    #[test]
    fn every_line_of_a_rule_leads_to_that_rule() {
        for rule in RULES {
            for known in rule.log_lines {
                assert_eq!(code(&known.pieces.join(" 1 ")), Some(rule.code));
                assert!(known.means.ends_with('.'), "{}", known.means);
            }
        }
    }
}
