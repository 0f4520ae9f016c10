//! What an impaired link does to packets, in netem's terms.
//!
//! One value describes one direction: the router's egress towards one host.
//! `sch_netem` carries it where the kernel has it (`lab::netem`), the relay where not
//! (`lab::relay`); both take it from here, so that they mean the
//! same.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A probability as netem has it: 0 is never, `u32::MAX` is always.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Probability(pub u32);

impl Probability {
    /// Never.
    pub const NEVER: Self = Self(0);
    /// Always.
    pub const ALWAYS: Self = Self(u32::MAX);

    /// From a fraction of one, rounded as tc rounds; values outside 0..=1 are
    /// clamped.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the product is within u32 after the clamp"
    )]
    pub fn from_fraction(fraction: f64) -> Self {
        Self((fraction.clamp(0.0, 1.0) * f64::from(u32::MAX)).round_ties_even() as u32)
    }
}

/// How packets are lost.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum Loss {
    /// None are.
    #[default]
    None,
    /// Each by itself with this probability.
    Random(Probability),
    /// Gilbert-Elliott: a good and a bad state. A packet's fate is decided by
    /// the state before its transition; a link starts in the good state.
    GilbertElliott {
        /// From good to bad, drawn for each packet (netem's `p`).
        p: Probability,
        /// From bad to good, drawn for each packet (netem's `r`).
        r: Probability,
        /// Loss in the bad state: `1-h` on tc's command line. netem's wire
        /// format carries the opposite, the probability to pass.
        bad_loss: Probability,
        /// Loss in the good state: `1-k` on tc's command line, `k1` on the
        /// wire.
        good_loss: Probability,
    },
}

/// One direction of an impaired link.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Impairment {
    /// Added to each packet.
    pub delay: Duration,
    /// The delay is uniform in [delay - jitter, delay + jitter). netem takes no
    /// more than [`Impairment::MAX_JITTER`].
    pub jitter: Duration,
    /// How packets are lost.
    pub loss: Loss,
    /// A packet is sent twice.
    pub duplicate: Probability,
    /// One bit of a packet is flipped.
    pub corrupt: Probability,
    /// A packet skips the delay and goes first.
    pub reorder: Probability,
    /// With `reorder`: at least `gap` - 1 delayed packets lie between two that
    /// go first; 1 where any packet may, 0 where none does, whatever `reorder`
    /// says.
    pub gap: u32,
    /// Bits a second on the wire, counted over whole Ethernet frames without
    /// their checksum. netem has it in bytes a second and rounds down.
    pub rate_bits_per_second: Option<u64>,
    /// The most packets that the link holds, delayed ones included; what comes
    /// above is dropped.
    pub limit_packets: u32,
    /// Where the draws start; the same seed gives the same draws.
    pub seed: u64,
    /// The largest IP packet, in bytes; the router answers larger ones with an ICMP error.
    pub mtu: Option<u32>,
    /// Packets that are dropped for what they are. The relay does it, whatever carries the
    /// rest of the link.
    pub drops: Vec<Drop>,
    /// Whether packets may be dropped for what they are later in the run.
    pub may_drop_later: bool,
}

/// TCP packets that are dropped for what they are.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Drop {
    /// The flags that have to be set, as in the TCP header.
    pub flags: u8,
    /// Whether only packets with payload are meant.
    pub with_data: bool,
    /// Only IP packets of more bytes than this.
    pub larger_than: Option<u32>,
    /// So many of these packets are spared first.
    pub skip: u64,
    /// After those, no more than so many are dropped.
    pub first: Option<u64>,
    /// After those, each of this number is dropped, the first time the first one.
    pub every: u64,
}

impl Impairment {
    /// netem's own default for `limit`, in packets.
    pub const DEFAULT_LIMIT_PACKETS: u32 = 1000;

    /// The most jitter that netem takes; it cuts off what is above.
    pub const MAX_JITTER: Duration = Duration::from_nanos(i32::MAX as u64);

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
            mtu: None,
            drops: Vec::new(),
            may_drop_later: false,
        }
    }

    /// Whether the relay has to look at each packet.
    pub fn looks_at_packets(&self) -> bool {
        self.may_drop_later || !self.drops.is_empty()
    }

    /// The part of it that drops packets for what they are.
    #[must_use]
    pub fn only_drops(&self) -> Self {
        Self {
            drops: self.drops.clone(),
            ..Self::none()
        }
    }

    /// Bytes a second, as netem has the rate; at least 1, as netem takes 0 for
    /// no limit.
    pub fn rate_bytes_per_second(&self) -> Option<u64> {
        self.rate_bits_per_second.map(|bits| (bits / 8).max(1))
    }

    /// Whether any packet's fate is drawn, so that the seed has a say.
    pub fn draws(&self) -> bool {
        self.loss != Loss::None
            || self.duplicate != Probability::NEVER
            || self.corrupt != Probability::NEVER
            || !self.jitter.is_zero()
            || self.gap != 0
    }
}

/// A seed for one direction of one run. Always spread what people write:
/// netem's generator takes its seed as it is and starts badly from small
/// numbers, so that at 1% loss seed 0 loses the first two packets.
pub fn spread_seed(seed: u64, run: u64, direction: u64) -> u64 {
    // The finalizer of SplitMix64 (Steele, Lea, Flood: "Fast splittable
    // pseudorandom number generators", 2014).
    [seed, run, direction].into_iter().fold(0, |state, part| {
        let mut mixed = (state ^ part).wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    })
}
