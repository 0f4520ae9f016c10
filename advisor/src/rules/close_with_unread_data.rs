//! A program closes connections with data unread, which resets them and loses
//! what it had still to send.

use super::{Confidence, Documentation, Evidence, Finding, Kind, Outcome, Rule, Severity, seconds};
use crate::facts::Facts;

pub(super) const RULE: Rule = Rule {
    code: "LB201",
    name: "close-with-unread-data",
    scenario: Some("close/unread-data/plain-close"),
    cure: Some("close/unread-data/shutdown-then-read-to-eof"),
    documentation: DOCUMENTATION,
    check,
};

const DOCUMENTATION: Documentation = Documentation {
    detects: "A program calls close() on a connection while received data is unread. The kernel \
        then sends a reset in place of a FIN and throws away what was written and not yet \
        acknowledged: the peer's transfer is cut short, and close() returns 0.",
    evidence: "TCPAbortOnClose between two looks (--over): 5 or more, and at least one for each \
        100 connections opened meanwhile (ActiveOpens and PassiveOpens, for want of a counter \
        of closes). Both bounds are a judgement of this project, from no source: any server \
        closes on a peer that misbehaves now and then, and a program that forgets to read does \
        it to a good part of its peers. A total without a window says nothing of now.",
    recommendation: "shutdown(SHUT_WR), read to the end, then close(). Not SO_LINGER: it changes \
        nothing about the reset.",
    cost: "The connection stays open until the peer has closed its half; bound the wait, for \
        example by 2 seconds or 64 KiB.",
    risk: "A peer that never closes holds the socket for as long as the wait is bound to.",
    undo: "Take the change of the program out again.",
    references: &[
        "RFC 1122 section 4.2.2.13; RFC 2525 section 2.17",
        "data_was_unread in __tcp_close: net/ipv4/tcp.c of Linux",
        "The ultimate SO_LINGER page, or: why is my tcp not reliable",
        "bounded lingering close: gunicorn pull request 3590",
    ],
};

const COUNTER: &str = "TcpExt.TCPAbortOnClose";
/// What is opened, which over a window is about what is closed.
const OPENS: [&str; 2] = ["Tcp.ActiveOpens", "Tcp.PassiveOpens"];

/// Fewer closes than this are chance: our judgement.
const FEW: i64 = 5;
/// Of so many connections one close is a misbehaving peer: our judgement.
const OPENS_A_CLOSE: i64 = 100;

fn check(facts: &Facts) -> Outcome {
    let Some(total) = facts.now.counters.get(COUNTER) else {
        return Outcome::NotEvaluated(format!("this kernel has no counter {COUNTER}"));
    };
    let (Some((window, _)), Some(closes)) = (facts.window(), facts.grown(COUNTER)) else {
        return Outcome::NotEvaluated(format!(
            "needs a window: --over 30s (TCPAbortOnClose {}: {total})",
            facts.counters_begin()
        ));
    };
    let window = seconds(window);
    if closes <= 0 {
        return Outcome::Quiet(format!("no close() with unread data in {window}"));
    }
    let opens: i64 = OPENS.into_iter().filter_map(|name| facts.grown(name)).sum();
    let seen =
        format!("{closes} close() with unread data and {opens} connections opened in {window}");
    if closes < FEW {
        return Outcome::Quiet(format!("{seen}: fewer than {FEW} are taken for chance"));
    }
    if closes.saturating_mul(OPENS_A_CLOSE) < opens {
        return Outcome::Quiet(format!(
            "{seen}: fewer than one in {OPENS_A_CLOSE} are taken for peers that misbehave"
        ));
    }
    let mut evidence = Vec::from_iter(Evidence::counter(COUNTER, facts));
    evidence.extend(Evidence::counter("TcpExt.TCPAbortOnData", facts));
    evidence.extend(
        OPENS
            .into_iter()
            .filter_map(|name| Evidence::counter(name, facts)),
    );
    Outcome::Fired(vec![Finding {
        confidence: Confidence::Medium,
        severity: Severity::Warning,
        summary: format!("{seen}; each such close is a reset"),
        why: "close() with unread data resets the connection, and data that was written and not \
            yet acknowledged is lost without an error. After shutdown(SHUT_WR) and a read to the \
            end of file nothing is unread, and the peer has everything. SO_LINGER does not help. \
            The counter does not say which program: look for one whose peers report \
            ECONNRESET or short transfers. Where such closes are meant, for clients that \
            misbehave, there is nothing to mend."
            .to_owned(),
        kind: Kind::Program,
        subject: "the program in this network namespace that closes these connections".to_owned(),
        setting: "close()".to_owned(),
        current: "close() with received data unread".to_owned(),
        proposed: "shutdown(SHUT_WR), read to EOF, then close()".to_owned(),
        evidence,
        cost: DOCUMENTATION.cost.to_owned(),
        risk: DOCUMENTATION.risk.to_owned(),
        apply: "in the program: shutdown(fd, SHUT_WR); read(fd) until it returns 0, an error, or \
            2 s or 64 KiB are over; close(fd). Better still: have the peer acknowledge the \
            length it received"
            .to_owned(),
        undo: DOCUMENTATION.undo.to_owned(),
        verify: "TCPAbortOnClose stops rising: `advisor recommend --over 30s` calls LB201 quiet, \
            or nstat -az TcpExtTCPAbortOnClose"
            .to_owned(),
    }])
}
