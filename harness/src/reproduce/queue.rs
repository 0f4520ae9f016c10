//! The accept queue of a listener in which clients wait, or that turns them away: what
//! comes to it in a trial.

use std::cmp::Reverse;

use advisor_facts::Facts;
use advisor_facts::condition::Condition;

use super::population::{Listener, Population, Way};

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
/// Two looks so far apart tell that nothing was accepted (LB503), in seconds.
const STAYS_S: f64 = 5.0;

#[expect(clippy::cast_precision_loss, reason = "rates and shares")]
impl AcceptQueue {
    /// Of the facts of a network namespace; the one on `port`, where that is known. The
    /// counters don't say which listener turned clients away: it is one in whose queue they
    /// wait, else the one with the shortest of those that have connections.
    pub fn of(place: &Facts, population: &Population, port: Option<u16>) -> Option<Self> {
        let window = place.window().map(|(window, _)| window.as_secs_f64());
        let window = window.filter(|seconds| *seconds > 0.0);
        let grown = |counter: &str| place.grown(counter).unwrap_or(0).max(0);
        let accepted = grown("Tcp.PassiveOpens");
        let refused = grown("TcpExt.ListenOverflows");
        let is_full = |one: &Listener| one.queue > one.backlog;
        let is_stuck = |one: &Listener| {
            let stays = window.is_some_and(|seconds| seconds >= STAYS_S) && accepted == 0;
            one.queue > 0 && (stays || longest_ms(place, one.port) >= LONG_MS)
        };
        let stays = |one: &Listener| is_full(one) || is_stuck(one);
        let is_used = |one: &Listener| {
            let mut classes = population.classes.iter();
            classes.any(|class| class.way == Way::Inbound(one.port))
        };
        let known = population
            .listeners
            .iter()
            .filter(|one| one.backlog > 0 && port.is_none_or(|port| port == one.port));
        let listener = known.max_by_key(|one| {
            (
                stays(one),
                one.queue > 0,
                is_used(one),
                Reverse(one.backlog),
            )
        })?;
        let share = refused as f64 / accepted.max(1) as f64;
        let how = if stays(listener) || (refused >= FEW && share > GREATEST_SHARE) {
            let a_second = |count: i64| window.map(|seconds| count as f64 / seconds);
            // No more than have left the queue since the first of it came; what comes to
            // another listener is accepted there.
            let longest_s = f64::from(longest_ms(place, listener.port)) / 1000.0;
            let most = if is_stuck(listener) {
                0.0
            } else if longest_s > 0.0 {
                listener.queue as f64 / longest_s
            } else {
                f64::INFINITY
            };
            Fills::Always {
                accepted_a_second: a_second(accepted).map(|rate| rate.min(most)),
                refused_a_second: a_second(refused),
            }
        } else if refused >= FEW {
            Fills::AtTimes { share }
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
                "the counters don't say which queue was full, and when; assumed: that on port \
                 {port}, in bursts of which {:.1}% found no room",
                share * 100.0
            ),
            Fills::Always {
                accepted_a_second: None,
                ..
            } => format!(
                "no window says how fast the program accepts on port {port}: not at all was assumed"
            ),
            Fills::Always {
                accepted_a_second: Some(0.0),
                ..
            } => format!("nothing is accepted on port {port}"),
            Fills::Always {
                accepted_a_second: Some(rate),
                ..
            } => format!("the program accepts {rate:.1} connections a second on port {port}"),
        }
    }
}

/// How long the first in the queue of a listener has waited, in milliseconds.
fn longest_ms(place: &Facts, port: u16) -> u32 {
    let sockets = place.now.every_socket().map(|(_, socket)| socket);
    let waiting = sockets.filter(|socket| {
        socket.local.port() == port && Condition::of(socket) == Condition::NotAccepted
    });
    let waited = waiting.filter_map(|socket| socket.info.as_ref()?.last_data_recv_ms());
    waited.max().unwrap_or(0)
}
