//! `link`, and the impairment of a link as a suite writes it.

use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use super::prelude::*;
use crate::impairment::{Drop, Impairment, Loss, Probability};
use crate::lab::address::Family;
use crate::yaml::error::{Place, SuiteError};
use crate::yaml::value::{OneOrMore, Percent, Placed, Rate};

/// Changes the link towards a host from now on; what is on its way stays so.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// The host that the link leads to.
    pub host: LinkHost,
    /// What it is then, as `link` of the scenario has it, in place of what it was.
    pub becomes: LinkText,
}

impl Definition for Link {
    const PREPARES: bool = true;
}

impl RunByLab for Link {
    fn run(&self, lab: &mut LabContext<'_>) -> Result<ControlFlow<()>, LabError> {
        let impairment = self.becomes.impairment().map_err(|error| {
            let error = io::Error::other(error.message);
            LabError::new(&self.host, "read the link", error, "")
        })?;
        lab.lab.change_link(&self.host, &impairment)?;
        Ok(ControlFlow::Continue(()))
    }
}

/// The impairment of a link.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct LinkText {
    /// Added to each packet.
    #[serde(default = "zero")]
    delay: Time,
    /// The delay is uniform within +- this; it reorders.
    #[serde(default = "zero_placed")]
    jitter: Placed<Time>,
    /// Each packet by itself.
    loss: Option<Percent>,
    /// Loss in bursts: a good and a bad state.
    gilbert_elliott: Option<Placed<GilbertElliott>>,
    /// Sent twice.
    #[serde(default = "never")]
    duplicate: Percent,
    /// One bit is flipped.
    #[serde(default = "never")]
    corrupt: Percent,
    /// Goes first, without the delay; needs delay.
    reorder: Option<Placed<Percent>>,
    /// With reorder: only every gap-th packet may. Default: 1.
    gap: Option<Placed<NonZeroU32>>,
    /// Bits a second on the wire. Default: no limit.
    rate: Option<Rate>,
    /// Packets that the link holds.
    #[serde(default = "limit")]
    limit: NonZeroU32,
    /// Where the draws start; run N adds N to it.
    #[serde(default)]
    seed: u64,
    /// The largest IP packet in bytes; the router answers larger ones with an ICMP error.
    mtu: Option<Placed<u32>>,
    /// TCP packets to drop for what they are: one mapping, or a list of them.
    drop: Option<OneOrMore<Placed<DropText>>>,
}

/// Which packets are dropped for what they are.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
struct DropText {
    /// One flag or several that have to be set; DATA means that there is payload.
    flags: Option<OneOrMore<FlagText>>,
    /// Only IP packets of more bytes than this: a black hole, as no ICMP error is sent.
    larger_than: Option<u32>,
    /// So many of them pass first. Default: 0.
    #[serde(default)]
    skip: u64,
    /// Then so many are dropped, and no more. Default: all.
    first: Option<NonZeroU64>,
    /// Then only every Nth is dropped. Default: 1.
    every: Option<NonZeroU64>,
}

/// A flag of the TCP header, or payload.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[schemars(inline)]
pub enum FlagText {
    /// FIN.
    #[serde(rename = "FIN")]
    Fin,
    /// SYN.
    #[serde(rename = "SYN")]
    Syn,
    /// RST.
    #[serde(rename = "RST")]
    Rst,
    /// PSH.
    #[serde(rename = "PSH")]
    Psh,
    /// ACK.
    #[serde(rename = "ACK")]
    Ack,
    /// URG.
    #[serde(rename = "URG")]
    Urg,
    /// There is payload.
    #[serde(rename = "DATA")]
    Data,
}

impl FlagText {
    /// The bit in the TCP header; 0 of payload.
    pub const fn bit(self) -> u8 {
        match self {
            Self::Fin => 1,
            Self::Syn => 2,
            Self::Rst => 4,
            Self::Psh => 8,
            Self::Ack => 16,
            Self::Urg => 32,
            Self::Data => 0,
        }
    }
}

impl DropText {
    fn drop(&self, place: Place) -> Result<Drop, SuiteError> {
        if self.flags.is_none() && self.larger_than.is_none() {
            let message = "drop: which packets?";
            let hint = "flags: FIN, larger_than: 1400, or both; loss: 100% drops every packet";
            return Err(SuiteError::new(place, message, hint));
        }
        if self.first.is_some() && self.every.is_some() {
            let message = "drop: both first and every";
            return Err(SuiteError::new(place, message, "one of them"));
        }
        let flags = || self.flags.iter().flat_map(|OneOrMore(flags)| flags);
        Ok(Drop {
            flags: flags().fold(0, |all, flag| all | flag.bit()),
            with_data: flags().any(|flag| *flag == FlagText::Data),
            larger_than: self.larger_than,
            skip: self.skip,
            first: self.first.map(NonZeroU64::get),
            every: self.every.map_or(1, NonZeroU64::get),
        })
    }
}

/// The smallest MTU of IPv4 (RFC 791).
const LEAST_MTU: u32 = 68;
/// That of the lab's devices.
const MOST_MTU: u32 = 1500;

/// Loss in bursts.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
struct GilbertElliott {
    /// From the good to the bad state, each packet.
    p: Percent,
    /// From the bad to the good state, each packet.
    r: Percent,
    /// Loss in the bad state.
    #[serde(default = "always")]
    bad_loss: Percent,
    /// Loss in the good state.
    #[serde(default = "never")]
    good_loss: Percent,
}

fn zero() -> Time {
    Time(Duration::ZERO)
}

fn zero_placed() -> Placed<Time> {
    let value = zero();
    let place = crate::yaml::error::Place::START;
    Placed { value, place }
}

fn never() -> Percent {
    Percent(Probability::NEVER)
}

fn always() -> Percent {
    Percent(Probability::ALWAYS)
}

fn limit() -> NonZeroU32 {
    const { NonZeroU32::new(Impairment::DEFAULT_LIMIT_PACKETS).unwrap() }
}

impl LinkText {
    /// Whether packets of a family fit.
    pub fn check_family(&self, family: Family) -> Result<(), SuiteError> {
        match &self.mtu {
            Some(mtu) if family == Family::V6 && mtu.value < 1280 => Err(SuiteError::new(
                mtu.place,
                format!("mtu: {} is too small for IPv6", mtu.value),
                "at least 1280 (RFC 8200)",
            )),
            _ => Ok(()),
        }
    }

    /// The impairment, where netem could carry it.
    pub fn impairment(&self) -> Result<Impairment, SuiteError> {
        let loss = match (self.loss, &self.gilbert_elliott) {
            (Some(_), Some(states)) => {
                let message = "both loss and gilbert_elliott";
                return Err(SuiteError::new(states.place, message, "one of them"));
            }
            (Some(Percent(probability)), None) => Loss::Random(probability),
            (None, Some(states)) => Loss::GilbertElliott {
                p: states.p.0,
                r: states.r.0,
                bad_loss: states.bad_loss.0,
                good_loss: states.good_loss.0,
            },
            (None, None) => Loss::None,
        };
        let (Time(delay), Time(jitter)) = (self.delay, self.jitter.value);
        let place = self.jitter.place;
        if jitter > delay {
            let message = "the jitter is larger than the delay";
            let hint = "a packet can't arrive before it was sent";
            return Err(SuiteError::new(place, message, hint));
        }
        if jitter > Impairment::MAX_JITTER {
            let message = "the jitter is larger than netem's largest";
            return Err(SuiteError::new(place, message, "at most 2.1s"));
        }
        if let Some(reorder) = self.reorder.as_ref().filter(|_| delay.is_zero()) {
            let message = "reorder without a delay does nothing";
            let hint = "add a delay for the packets that are not reordered";
            return Err(SuiteError::new(reorder.place, message, hint));
        }
        let gap = match (&self.reorder, &self.gap) {
            (Some(_), Some(gap)) => gap.get(),
            (Some(_), None) => 1,
            (None, Some(gap)) => {
                return Err(SuiteError::new(gap.place, "gap without reorder", ""));
            }
            (None, None) => 0,
        };
        let mtu = self.mtu.as_ref();
        if let Some(mtu) = mtu.filter(|mtu| !(LEAST_MTU..=MOST_MTU).contains(&mtu.value)) {
            let message = format!("mtu: {} can't be one", mtu.value);
            let hint =
                "from 68, the least of IPv4, to 1500, that of the lab's devices; IPv6 needs 1280";
            return Err(SuiteError::new(mtu.place, message, hint));
        }
        let drops = self.drop.iter().flat_map(|OneOrMore(drops)| drops);
        let drops = drops
            .map(|drop| drop.drop(drop.place))
            .collect::<Result<_, _>>()?;
        Ok(Impairment {
            delay,
            jitter,
            loss,
            duplicate: self.duplicate.0,
            corrupt: self.corrupt.0,
            reorder: self.reorder.as_ref().map_or(Probability::NEVER, |p| p.0),
            gap,
            rate_bits_per_second: self.rate.map(|Rate(rate)| rate),
            limit_packets: self.limit.get(),
            seed: self.seed,
            mtu: mtu.map(|mtu| mtu.value),
            drops,
            may_drop_later: false,
        })
    }
}
