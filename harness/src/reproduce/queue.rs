//! The accept queue of a listener in which clients wait, or that turns them away: what
//! comes to it in a trial.

use std::cmp::Reverse;

use advisor_facts::Facts;
use advisor_facts::condition::Condition;
use advisor_facts::tcp_info::TcpInfo;

use super::population::{Listener, Population};

/// An accept queue that is full, now or at times, or that does not move.
#[derive(Clone, Debug, PartialEq)]
pub struct AcceptQueue {
    /// The port of its listener.
    pub port: u16,
    /// Its length; it holds one connection more.
    pub backlog: u64,
    /// How it fills.
    pub how: Fills,
}

/// How a queue fills.
#[derive(Clone, Debug, PartialEq)]
pub enum Fills {
    /// Many connections come at once, and the program accepts them a moment later.
    AtTimes {
        /// How many of them the queue has no room for.
        share: f64,
    },
    /// The program accepts less than comes.
    Always {
        /// How many it accepts, a second; `None` where there is no window.
        accepted_a_second: Option<f64>,
        /// How often clients are turned away, a second.
        refused_a_second: Option<f64>,
    },
}

/// The greatest share of a burst that has no room: with more, the program accepts less
/// than comes.
const GREATEST_SHARE: f64 = 0.75;
/// Fewer that were turned away in the window are chance.
const FEW: i64 = 2;
/// Who waits for so long waits for a program that does not accept (LB503), in milliseconds.
const LONG_MS: u32 = 10_000;

#[expect(clippy::cast_precision_loss, reason = "rates and shares")]
impl AcceptQueue {
    /// Of the facts of a network namespace. The counters don't say which listener turned
    /// clients away: it is one in whose queue they wait, else the one with the shortest.
    pub fn of(place: &Facts, population: &Population) -> Option<Self> {
        let known = population.listeners.iter().filter(|one| one.backlog > 0);
        let is_full = |one: &Listener| one.queue > one.backlog;
        let stays = |one: &Listener| is_full(one) || is_stuck(place, one);
        let listener = known.max_by_key(|one| (stays(one), Reverse(one.backlog)))?;
        let seconds = place.window().map(|(window, _)| window.as_secs_f64());
        let seconds = seconds.filter(|seconds| *seconds > 0.0);
        let grown = |counter: &str| place.grown(counter).unwrap_or(0).max(0);
        let accepted = grown("Tcp.PassiveOpens");
        let refused = grown("TcpExt.ListenOverflows");
        let how = if stays(listener) {
            let a_second = |count: i64| seconds.map(|seconds| count as f64 / seconds);
            // What comes to another listener is accepted there.
            let accepted = if is_full(listener) { accepted } else { 0 };
            Fills::Always {
                accepted_a_second: a_second(accepted),
                refused_a_second: a_second(refused),
            }
        } else if refused >= FEW {
            Fills::AtTimes {
                share: (refused as f64 / accepted.max(1) as f64).min(GREATEST_SHARE),
            }
        } else {
            return None;
        };
        Some(Self {
            port: listener.port,
            backlog: listener.backlog,
            how,
        })
    }

    /// How many connections come at once at a queue of this length: all that come, come in
    /// such bursts.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a few thousand connections"
    )]
    pub fn at_once(&self, backlog: u64) -> u64 {
        let room = backlog + 1;
        match self.how {
            Fills::AtTimes { share } => ((room as f64 / (1.0 - share)).ceil() as u64).max(room + 1),
            // Those who wait are there already.
            Fills::Always { .. } => 0,
        }
    }

    /// Whether the program accepts less than comes.
    pub const fn is_always(&self) -> bool {
        matches!(self.how, Fills::Always { .. })
    }

    /// What is assumed, where the facts do not say it.
    pub fn note(&self) -> String {
        let Self { port, .. } = self;
        match self.how {
            Fills::AtTimes { share } => format!(
                "the counters don't say which queue was full, and when: on port {port}, by bursts \
                 of which {:.1}% found no room",
                share * 100.0
            ),
            Fills::Always {
                accepted_a_second: None,
                ..
            } => format!(
                "no window says how fast the program accepts on port {port}: not at all was assumed"
            ),
            Fills::Always {
                accepted_a_second: Some(rate),
                ..
            } => format!("the program accepts {rate:.1} connections a second on port {port}"),
        }
    }
}

/// Whether somebody has waited for long in the queue of a listener.
fn is_stuck(place: &Facts, listener: &Listener) -> bool {
    let mut sockets = place.now.every_socket().map(|(_, socket)| socket);
    sockets.any(|socket| {
        let info = socket.info.as_ref();
        let waited = info.and_then(TcpInfo::last_data_recv_ms);
        socket.local.port() == listener.port
            && Condition::of(socket) == Condition::NotAccepted
            && waited.is_some_and(|ms| ms >= LONG_MS)
    })
}
