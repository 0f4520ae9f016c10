//! What an impaired link does to packets, in netem's terms.
//!
//! One value describes one direction: the router's egress towards one host.
//! `sch_netem` carries it where the kernel has it ([`super::netem`]), the relay
//! where not ([`super::relay`]); both take it from here, so that they mean the
//! same.

use std::time::Duration;

/// A probability as netem has it: 0 is never, `u32::MAX` is always.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Probability(pub u32);

impl Probability {
    /// Never.
    pub const NEVER: Self = Self(0);
    /// Always.
    pub const ALWAYS: Self = Self(u32::MAX);

    /// From a fraction of one; values outside 0..=1 are clamped.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the product is within u32 after the clamp"
    )]
    pub fn from_fraction(fraction: f64) -> Self {
        Self((fraction.clamp(0.0, 1.0) * f64::from(u32::MAX)).round() as u32)
    }
}

/// How packets are lost.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Loss {
    /// None are.
    #[default]
    None,
    /// Each by itself with this probability.
    Random(Probability),
    /// Gilbert-Elliott: a good and a bad state, the state before the
    /// transition decides. netem's letters.
    GilbertElliott {
        /// From good to bad.
        p: Probability,
        /// From bad to good.
        r: Probability,
        /// Loss in the bad state (netem's command line calls it 1-h).
        h: Probability,
        /// Loss in the good state (netem's command line calls it 1-k).
        k1: Probability,
    },
}

/// One direction of an impaired link.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Impairment {
    /// Added to each packet.
    pub delay: Duration,
    /// The delay is uniform in [delay - jitter, delay + jitter).
    pub jitter: Duration,
    /// How packets are lost.
    pub loss: Loss,
    /// A packet is sent twice.
    pub duplicate: Probability,
    /// One bit of a packet is flipped.
    pub corrupt: Probability,
    /// A packet skips the delay and goes first.
    pub reorder: Probability,
    /// With `reorder`: only every `gap`-th packet may; 0 where nothing is
    /// reordered, 1 where any packet may be.
    pub gap: u32,
    /// Bits a second on the wire.
    pub rate_bits_per_second: Option<u64>,
    /// The most packets that the link holds, delayed ones included; what comes
    /// above is dropped.
    pub limit_packets: u32,
    /// Where the draws start; the same seed gives the same draws.
    pub seed: u64,
}

impl Impairment {
    /// netem's own default for `limit`, in packets.
    pub const DEFAULT_LIMIT_PACKETS: u32 = 1000;

    /// A link that only passes packets on.
    pub const fn none() -> Self {
        Self {
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            loss: Loss::None,
            duplicate: Probability::NEVER,
            corrupt: Probability::NEVER,
            reorder: Probability::NEVER,
            gap: 0,
            rate_bits_per_second: None,
            limit_packets: Self::DEFAULT_LIMIT_PACKETS,
            seed: 0,
        }
    }
}
