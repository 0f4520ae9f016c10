use super::*;
use crate::sock_diag::decode_recorded;

/// The sockets that a kernel answered with.
fn recorded(text: &str) -> Vec<TcpSocket> {
    let mut sockets = Vec::new();
    decode_recorded(text.as_bytes(), &mut |socket| sockets.push(socket)).unwrap();
    sockets.sort_by_key(|socket| socket.peer);
    sockets
}

#[test]
fn dead_is_told_from_a_closed_window_on_every_kernel() {
    for (kernel, text) in crate::sock_diag::tests::kernels() {
        let seen: Vec<_> = recorded(&text).iter().map(Condition::of).collect();
        let expected = [
            Condition::Listener,
            Condition::Listener,
            Condition::ZeroWindow,
            Condition::Dead,
        ];
        assert_eq!(seen, expected, "{kernel}");
    }
}

/// A connection in which nothing is wrong, with fields of tcp_info set.
fn socket(timer: Timer, send: u32, recv: u32, info: &[(&str, u64)]) -> TcpSocket {
    let text = include_str!("../../../kernels/6.12/sock_diag-x86-64.hex");
    let mut socket = recorded(text).pop().unwrap();
    socket.inode = 7;
    socket.timer = timer;
    socket.send_queue_bytes = send;
    socket.recv_queue_bytes = recv;
    let fields = socket.info.as_mut().unwrap();
    for name in [
        "backoff",
        "probes",
        "unacked",
        "last_ack_recv",
        "last_data_sent",
        "last_data_recv",
        "delivery_rate",
    ] {
        assert!(fields.set(name, 0));
    }
    for (name, value) in info {
        assert!(fields.set(name, *value), "{name}");
    }
    socket
}

#[test]
fn each_condition_has_its_reason() {
    let waits = [("last_data_recv", 5_000), ("last_ack_recv", 5_000)];
    for (socket, condition, reason) in [
        (
            socket(
                Timer::Retransmit,
                2048,
                0,
                &[("backoff", 5), ("unacked", 2), ("last_ack_recv", 10_000)],
            ),
            Condition::Dead,
            "no acknowledgment for 10 s, retransmitted with the timer doubled 5 times, 2.0 KiB \
             unacknowledged",
        ),
        (
            socket(
                Timer::Probe,
                2048,
                0,
                &[("probes", 3), ("last_ack_recv", 130_000)],
            ),
            Condition::Dead,
            "no answer to 3 probes, no acknowledgment for 2 min, 2.0 KiB to send",
        ),
        (
            socket(
                Timer::Probe,
                2048,
                0,
                &[("snd_wnd", 0), ("last_ack_recv", 130_000)],
            ),
            Condition::ZeroWindow,
            "it answers probes (2 min ago) and its window is closed: it does not read; 2.0 KiB \
             to send",
        ),
        (
            socket(Timer::Off, 0, 100, &waits),
            Condition::Unread,
            "100 bytes have waited for the program here for 5 s",
        ),
        (
            socket(Timer::Retransmit, 40_960, 0, &[("delivery_rate", 10_240)]),
            Condition::Slow,
            "40.0 KiB to send at 10.0 KiB a second: 4 s",
        ),
        (
            socket(Timer::Retransmit, 2048, 0, &[("backoff", 2)]),
            Condition::Slow,
            "retransmitting, the timer doubled 2 times, 2.0 KiB to send",
        ),
        (
            socket(
                Timer::Off,
                0,
                0,
                &[("last_data_sent", 60_000), ("last_data_recv", 8_000_000)],
            ),
            Condition::Idle,
            "no data for 60 s, none waits; it was not asked whether it lives",
        ),
        (
            socket(Timer::Retransmit, 2048, 0, &[("last_ack_recv", 7)]),
            Condition::Healthy,
            "acknowledged 7 ms ago, 2.0 KiB to send",
        ),
        (
            socket(Timer::Off, 0, 100, &[]),
            Condition::Healthy,
            "acknowledged 0 ms ago, nothing to send",
        ),
    ] {
        assert_eq!(Condition::of(&socket), condition, "{reason}");
        assert_eq!(condition.reason(&socket), reason);
    }
}

#[test]
fn a_fin_is_no_unread_data() {
    let mut socket = socket(Timer::Off, 0, 1, &[("last_data_recv", 9_000)]);
    assert_eq!(Condition::of(&socket), Condition::Unread);
    socket.state = TcpState::CloseWait;
    assert_eq!(Condition::of(&socket), Condition::ClosedByPeer);
    assert_eq!(unread_bytes(&socket), 0);
}

/// The same socket in another state, held by a process or by none.
fn turned(mut socket: TcpSocket, state: TcpState, inode: u32) -> TcpSocket {
    socket.state = state;
    socket.inode = inode;
    socket
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of sockets")]
fn an_orphan_is_told_by_its_peer_as_well() {
    let dead = [("backoff", 7), ("unacked", 2), ("last_ack_recv", 40_000)];
    let closed = [("snd_wnd", 0), ("last_ack_recv", 3_000)];
    for (state, inode, timer, send, info, condition) in [
        (
            TcpState::FinWait1,
            0,
            Timer::Retransmit,
            9,
            &dead[..],
            Condition::OrphanDead,
        ),
        (
            TcpState::FinWait1,
            7,
            Timer::Retransmit,
            9,
            &dead,
            Condition::Dead,
        ),
        (
            TcpState::LastAck,
            0,
            Timer::Probe,
            9,
            &closed,
            Condition::OrphanZeroWindow,
        ),
        (
            TcpState::FinWait1,
            7,
            Timer::Probe,
            9,
            &closed,
            Condition::ZeroWindow,
        ),
        (
            TcpState::Closing,
            0,
            Timer::Retransmit,
            9,
            &[],
            Condition::OrphanDraining,
        ),
        (
            TcpState::FinWait2,
            0,
            Timer::Keepalive,
            0,
            &[],
            Condition::OrphanHalfClosed,
        ),
        (
            TcpState::FinWait2,
            7,
            Timer::Off,
            0,
            &[],
            Condition::HalfClosed,
        ),
        (
            TcpState::FinWait2,
            0,
            Timer::TimeWait,
            0,
            &[],
            Condition::TimeWait,
        ),
        (
            TcpState::CloseWait,
            7,
            Timer::Retransmit,
            9,
            &dead,
            Condition::Dead,
        ),
        (
            TcpState::CloseWait,
            7,
            Timer::Retransmit,
            9,
            &[],
            Condition::Healthy,
        ),
        (
            TcpState::CloseWait,
            7,
            Timer::Off,
            0,
            &[],
            Condition::ClosedByPeer,
        ),
        (
            TcpState::CloseWait,
            0,
            Timer::Off,
            0,
            &[],
            Condition::NotAccepted,
        ),
        (
            TcpState::Established,
            0,
            Timer::Off,
            0,
            &[],
            Condition::NotAccepted,
        ),
        (
            TcpState::SynSent,
            7,
            Timer::Retransmit,
            1,
            &dead,
            Condition::Connecting,
        ),
        (TcpState::SynRecv, 0, Timer::Off, 0, &[], Condition::Request),
        (
            TcpState::Close,
            7,
            Timer::Off,
            0,
            &[],
            Condition::Unconnected,
        ),
    ] {
        let socket = turned(socket(timer, send, 0, info), state, inode);
        assert_eq!(Condition::of(&socket), condition, "{state} {inode}");
        assert_eq!(condition.is_orphan(), socket.is_orphan(), "{state} {inode}");
    }
}

#[test]
fn without_tcp_info_the_state_tells_what_it_can() {
    for (state, inode, condition) in [
        (TcpState::FinWait1, 0, Condition::Orphan),
        (TcpState::FinWait2, 0, Condition::OrphanHalfClosed),
        (TcpState::FinWait2, 7, Condition::HalfClosed),
        (TcpState::CloseWait, 7, Condition::ClosedByPeer),
        (TcpState::Established, 7, Condition::Unknown),
        (TcpState::Established, 0, Condition::NotAccepted),
    ] {
        let mut socket = turned(socket(Timer::Off, 0, 0, &[]), state, inode);
        (socket.info, socket.memory) = (None, None);
        assert_eq!(Condition::of(&socket), condition, "{state} {inode}");
        assert!(!condition.reason(&socket).contains(" ago"), "{state}");
    }
}

#[test]
fn what_is_amiss_says_what_ends_it() {
    for (place, condition) in Condition::ALL.into_iter().enumerate() {
        assert_eq!(condition as usize, place);
        if condition.is_amiss() {
            assert!(condition.ends().is_some(), "{condition}");
            assert!(condition.is_connection(), "{condition}");
        }
    }
    assert!(!Condition::Healthy.is_amiss() && !Condition::Idle.is_amiss());
    let probed = socket(Timer::Keepalive, 0, 0, &[]);
    let ends = |socket: &TcpSocket| Condition::Dead.ends_of(socket).unwrap();
    assert!(ends(&probed).contains("keepalive") && !ends(&probed).contains("tcp_retries2"));
    let probed = socket(Timer::Probe, 0, 0, &[]);
    assert_eq!(Some(ends(&probed)), Condition::Dead.ends());
}

#[test]
fn sums_are_kept_by_condition() {
    let mut sums = ConditionSums::default();
    sums.count(Condition::Dead, 100);
    sums.count(Condition::OrphanDead, 50);
    sums.count(Condition::Healthy, 400);
    let mut both = sums;
    both.add(&sums);
    assert_eq!(
        both.of(Condition::Dead),
        Sum {
            sockets: 2,
            bytes: 200
        }
    );
    assert_eq!(
        both.sum(Condition::is_amiss),
        Sum {
            sockets: 4,
            bytes: 300
        }
    );
    assert_eq!(
        both.total(),
        Sum {
            sockets: 6,
            bytes: 1100
        }
    );
    assert_eq!(both.conditions()[0].0, Condition::Healthy);
}
