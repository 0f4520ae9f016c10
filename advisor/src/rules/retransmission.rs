//! How long the kernel goes on with a peer that does not answer.

use advisor_facts::sock_diag::{TcpSocket, Timer};
use advisor_facts::{Facts, Settings};

/// The first pause that the kernel reckons with (TCP_RTO_MIN), in milliseconds.
const RTO_MIN_MS: u64 = 200;
/// The longest pause (TCP_RTO_MAX), in milliseconds; tcp_rto_max_ms sets it from Linux
/// 6.15 on.
const RTO_MAX_MS: u64 = 120_000;
/// The default of tcp_retries2.
const RETRIES2: i64 = 15;

/// The time after which so many retransmissions are spent, in milliseconds: pauses that
/// double from the first up to the longest (tcp_model_timeout in net/ipv4/tcp_timer.c).
/// The kernel gives up at the first timer that fires after it, up to 2.5 times later.
pub(super) fn spent_ms(retries: i64, rto_max_ms: u64) -> u64 {
    let mut pause = RTO_MIN_MS;
    let mut spent = 0;
    for _ in 0..=retries.clamp(0, 255) {
        spent += pause;
        pause = (pause * 2).min(rto_max_ms.max(RTO_MIN_MS));
    }
    spent
}

/// The longest pause in a network namespace, in milliseconds.
pub(super) fn rto_max_ms(settings: &Settings) -> u64 {
    settings.tcp_rto_max_ms.unwrap_or(RTO_MAX_MS)
}

/// How long the peer of a socket has not answered what it was sent, in milliseconds: by
/// the timer that doubles, and at most since the last acknowledgment. `None` where there
/// is no tcp_info.
pub(super) fn unanswered_ms(facts: &Facts, socket: &TcpSocket) -> Option<u64> {
    let info = socket.info.as_ref()?;
    let silent = u64::from(info.last_ack_recv_ms()?);
    if socket.timer != Timer::Retransmit {
        return Some(silent);
    }
    let longest = rto_max_ms(&facts.settings);
    let (backoff, pause) = (u32::from(info.backoff()?), u64::from(info.rto_us()?) / 1000);
    let of_path = u64::from(info.rtt_us().unwrap_or(0)) / 1000 + RTO_MIN_MS;
    let first = Some(pause >> backoff.min(63))
        .filter(|first| *first >= RTO_MIN_MS)
        .unwrap_or(of_path);
    let mut waited = 0;
    let mut next = first;
    for _ in 0..backoff {
        waited += next.min(longest);
        next = next.saturating_mul(2);
    }
    let waited = waited + next.min(longest).saturating_sub(socket.timer_ms.into());
    let since_sent = info.last_data_sent_ms().map_or(0, u64::from);
    Some(waited.max(since_sent).min(silent))
}

/// How long the kernel will go on with a socket of a process whose peer does not answer,
/// in milliseconds. `None` where that cannot be told: keepalive with intervals of the
/// program's own.
pub(super) fn left_ms(facts: &Facts, socket: &TcpSocket) -> Option<u64> {
    let settings = &facts.settings;
    let longest = rto_max_ms(settings);
    let retries = settings.tcp_retries2.unwrap_or(RETRIES2);
    let first = u64::from(socket.timer_ms);
    let user_timeout = socket
        .options
        .map(|options| u64::from(options.user_timeout_ms))
        .filter(|ms| *ms > 0);
    let mut pause = u64::from(socket.info.as_ref()?.rto_us()?) / 1000;
    let backoff = socket.info.as_ref()?.backoff()?;
    // What tcp_info says is the pause that runs now; some kernels leave the first there.
    pause = pause.max((RTO_MIN_MS << backoff.min(20)).min(longest));
    let mut next = || {
        pause = pause.saturating_mul(2).min(longest);
        pause
    };
    match socket.timer {
        Timer::Retransmit => {
            let waited = unanswered_ms(facts, socket)?;
            let spent = user_timeout.unwrap_or_else(|| spent_ms(retries, longest));
            let mut left = first;
            while waited + left < spent {
                left += next();
            }
            Some(left)
        }
        Timer::Probe => {
            let probes = i64::from(socket.info.as_ref()?.probes()?);
            let more = retries.clamp(0, 255).saturating_sub(probes).max(0);
            let left = (0..more).fold(first, |left, _| left + next());
            Some(match user_timeout {
                Some(ms) => left.min(ms),
                None => left,
            })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::testing::{host, socket};
    use advisor_facts::sock_diag::TcpState;

    #[test]
    fn retries_are_spent_as_documented() {
        // ip-sysctl.rst: 15 retries are 924.6 s.
        assert_eq!(spent_ms(15, RTO_MAX_MS), 924_600);
        assert_eq!(spent_ms(8, RTO_MAX_MS), 102_200);
        assert_eq!(spent_ms(15, 10_000), 112_600);
    }

    /// Data that the peer has not acknowledged.
    fn dead(backoff: u64, rto_ms: u64, timer_ms: u32, silent_ms: u64) -> TcpSocket {
        let mut dead = socket(TcpState::Established, "10.0.0.1:40000", "10.0.0.2:443")
            .held_by(7)
            .info("backoff", backoff)
            .info("unacked", 1)
            .info("rto", rto_ms * 1000)
            .info("last_ack_recv", silent_ms)
            .info("last_data_sent", rto_ms.saturating_sub(timer_ms.into()))
            .done();
        (dead.timer, dead.timer_ms) = (Timer::Retransmit, timer_ms);
        dead
    }

    #[test]
    fn the_time_that_is_left_is_the_hosts_own() {
        let mut facts = host("quiet");
        facts.settings.tcp_retries2 = Some(15);
        // 200, 400, .. 6400 ms have passed, and 2800 of the next 12800.
        let at_six = dead(6, 12_800, 10_000, 3_600_000);
        assert_eq!(unanswered_ms(&facts, &at_six), Some(12_600 + 2_800));
        let left = left_ms(&facts, &at_six).unwrap();
        assert!((900_000..1_050_000).contains(&left), "{left}");
        facts.settings.tcp_retries2 = Some(8);
        let left = left_ms(&facts, &at_six).unwrap();
        assert!((80_000..130_000).contains(&left), "{left}");
        // With TCP_USER_TIMEOUT the next timer ends it.
        let mut with = at_six.clone();
        with.options = Some(advisor_facts::sock_diag::SocketOptions {
            user_timeout_ms: 20_000,
            ..advisor_facts::sock_diag::SocketOptions::default()
        });
        assert_eq!(left_ms(&facts, &with), Some(10_000));
        // No longer than it is silent.
        assert_eq!(
            unanswered_ms(&facts, &dead(6, 12_800, 10_000, 11_000)),
            Some(11_000)
        );
    }
}
