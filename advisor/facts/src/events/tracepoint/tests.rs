//! Records of five kernels. On each the same was done: a connection closed with unread
//! data, one of IPv6 closed with SO_LINGER {1,0}, a connect() to a closed port, a listener
//! whose queue overflowed, and datagrams to a full socket.

use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;

const KERNELS: [&str; 5] = ["5.10", "6.1", "6.12", "6.18", "7.3"];

fn directory(kernel: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/events")
        .join(kernel)
}

fn layout(kernel: &str, tracepoint: Tracepoint) -> Option<Layout> {
    let file = directory(kernel).join(format!("{}.format", tracepoint.name));
    Layout::new(tracepoint, &std::fs::read_to_string(file).unwrap())
}

/// The records of a kernel, each with the layout of its tracepoint.
fn records(kernel: &str) -> Vec<(Layout, Vec<u8>)> {
    let text = std::fs::read_to_string(directory(kernel).join("records.hex")).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, digits) = line.split_once(' ').unwrap();
            let tracepoint = TRACEPOINTS.iter().find(|one| one.name == name).unwrap();
            let bytes = (0..digits.len() / 2)
                .map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap())
                .collect();
            (layout(kernel, *tracepoint).unwrap(), bytes)
        })
        .collect()
}

/// Each record of a kernel: whether it is of the process, and what it says.
fn decoded(kernel: &str) -> Vec<(bool, What)> {
    let records = records(kernel);
    records
        .iter()
        .map(|(layout, record)| {
            assert_eq!(
                i64::from(layout.format.id),
                layout.format.number("common_type", record).unwrap()
            );
            (layout.is_of_process(record), layout.decode(record).unwrap())
        })
        .collect()
}

#[test]
fn resets_of_five_kernels_have_reason_context_and_addresses() {
    for kernel in KERNELS {
        let events = decoded(kernel);
        let sent: Vec<_> = events
            .iter()
            .filter_map(|(of_process, what)| match what {
                What::ResetSent {
                    reason,
                    state,
                    ends,
                    ..
                } => {
                    let ports = ends.map(|ends| (ends.local.ip(), ends.local.port()));
                    Some((*of_process, reason.as_deref(), *state, ports.unwrap()))
                }
                _ => None,
            })
            .collect();
        let v4: IpAddr = [127, 0, 0, 1].into();
        let v6: IpAddr = Ipv6Addr::LOCALHOST.into();
        let close = Some(TcpState::Close);
        let tells = layout(kernel, RESET_SENT).unwrap().has_reason();
        let reason = |name| tells.then_some(name);
        assert_eq!(
            sent[0],
            (true, reason("TCP_ABORT_ON_CLOSE"), close, (v4, 7001)),
            "{kernel}"
        );
        assert_eq!(
            sent[1],
            (true, reason("TCP_STATE"), close, (v6, 7002)),
            "{kernel}"
        );
        match kernel {
            // A reset without a socket is not told.
            "5.10" | "6.1" => assert!(!tells, "{kernel}"),
            _ => assert_eq!(
                sent[2],
                (false, Some("NO_SOCKET"), None, (v4, 7003)),
                "{kernel}"
            ),
        }
    }
}

#[test]
fn what_else_happens_is_understood_on_five_kernels() {
    for kernel in KERNELS {
        let events = decoded(kernel);
        let count = |is: fn(&What) -> bool| events.iter().filter(|(_, what)| is(what)).count();
        assert!(count(|what| matches!(what, What::ResetReceived { ends: Some(_), .. })) >= 2);
        // An overflowing listener makes clients send their SYN again. The host was too
        // fast for that.
        let retransmitted = count(|what| {
            matches!(what, What::Retransmitted { state: Some(TcpState::SynSent), ends: Some(ends), .. }
                if ends.peer.port() == 7004)
        });
        assert!(kernel == "6.18" || retransmitted > 0, "{kernel}");
        assert!(
            count(|what| matches!(
                what,
                What::StateChanged {
                    from: TcpState::Established,
                    to: TcpState::Close,
                    ..
                }
            )) >= 2,
            "{kernel}"
        );
        let drops = count(
            |what| matches!(what, What::Dropped { reason, .. } if &**reason == "SOCKET_RCVBUFF"),
        );
        assert_eq!(drops > 0, kernel != "5.10", "{kernel}");
    }
}

#[test]
fn reasons_are_there_from_their_release_on() {
    for kernel in KERNELS {
        let release = Release::of_kernel(kernel).unwrap();
        let check = |tracepoint, reason: &str, since: Release| {
            let layout = layout(kernel, tracepoint);
            let values = layout.map(|layout| layout.format.values_of("reason", &[reason]));
            let is_there = values.is_some_and(|values| !values.is_empty());
            assert_eq!(is_there, release >= since, "{kernel} {reason}");
        };
        for (reason, since) in RESET_REASONS {
            check(RESET_SENT, reason, *since);
        }
        for reason in DROP_REASONS {
            check(DROPPED, reason, drop_reason_since(reason));
        }
    }
}

#[test]
fn tracepoints_of_no_use_are_told_apart() {
    for kernel in KERNELS {
        for tracepoint in TRACEPOINTS {
            let found = layout(kernel, *tracepoint);
            let is_old = kernel == "5.10" && *tracepoint == DROPPED;
            assert_eq!(found.is_none(), is_old, "{kernel} {}", tracepoint.name);
        }
    }
    let filter = layout("7.3", DROPPED).unwrap().filter;
    assert!(
        filter.starts_with("reason == ") && filter.contains(" || "),
        "{filter}"
    );
}

proptest! {
    #[test]
    fn a_damaged_record_is_decoded_or_refused(cut in 0_usize..120, at in 0_usize..120, byte: u8) {
        for kernel in KERNELS {
            for (layout, mut record) in records(kernel) {
                record.truncate(cut);
                if let Some(damaged) = record.get_mut(at) {
                    *damaged = byte;
                }
                let _ = (layout.decode(&record), layout.is_of_process(&record));
            }
        }
    }

    #[test]
    fn a_damaged_format_is_read_or_refused(lines in prop::collection::vec(0_usize..40, 0..10), cut: u16) {
        let text = std::fs::read_to_string(directory("6.12").join("kfree_skb.format")).unwrap();
        let mut text: String = text.lines().enumerate()
            .filter(|(number, _)| !lines.contains(number))
            .flat_map(|(_, line)| [line, "\n"])
            .collect();
        text.truncate(text.len().min(usize::from(cut)));
        if let Some(layout) = Layout::new(DROPPED, &text) {
            let _ = layout.decode(&[0; 64]);
        }
    }
}
