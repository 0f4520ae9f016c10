//! An [`Impairment`] as the kernel's `sch_netem` reads and dumps it.
//!
//! The bytes are the payload of TCA_OPTIONS, as `linux/pkt_sched.h` lays it
//! out: a `tc_netem_qopt` of six `u32`, then netlink attributes, all in the
//! byte order of the machine. Netem silently ignores what it does not know, so
//! the installed netem is read back and compared.

use std::time::Duration;

use crate::impairment::{Impairment, Loss, Probability};

/// The qdisc's name, for TCA_KIND.
pub const KIND: &str = "netem";

// TCA_NETEM_*.
const CORR: u16 = 1;
const REORDER: u16 = 3;
const CORRUPT: u16 = 4;
const LOSS: u16 = 5;
const RATE: u16 = 6;
const ECN: u16 = 7;
const RATE64: u16 = 8;
const LATENCY64: u16 = 10;
const JITTER64: u16 = 11;
const SLOT: u16 = 12;
const PRNG_SEED: u16 = 14;

/// NETEM_LOSS_GE, inside LOSS.
const LOSS_GILBERT_ELLIOTT: u16 = 2;

const NESTED: u16 = 1 << 15;
/// The bits of an attribute's type that are flags (nested, byte order).
const TYPE_FLAGS: u16 = NESTED | 1 << 14;
const HEADER: usize = 4;

/// PSCHED_SHIFT: the times of `tc_netem_qopt` are in units of 64 ns.
const TICK_SHIFT: u32 = 6;

/// Why bytes are not a netem.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NetemError {
    /// A part ends before it should.
    #[error("netem's options: {what} has {found} bytes, not {expected}")]
    Short {
        /// Which part.
        what: &'static str,
        /// The bytes it has by its definition.
        expected: usize,
        /// The bytes that are there.
        found: usize,
    },
    /// An attribute says that it is longer than what is left, or shorter than
    /// its own header.
    #[error("netem's options: an attribute of {length} bytes where {left} are left")]
    Length {
        /// What the attribute says.
        length: usize,
        /// What is left.
        left: usize,
    },
}

/// The netem that a kernel has installed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Installed {
    /// Its seed is 0 where `seed` is `None`, its rate a multiple of 8 bits.
    pub impairment: Impairment,
    /// Kernels before 6.6 don't have it and ignore the one that was sent.
    pub seed: Option<u64>,
    /// Settings that an [`Impairment`] does not have.
    pub extras: Vec<&'static str>,
}

impl Installed {
    /// How the installed netem differs from the impairment, in words; `None`
    /// where it does not. For the seed see [`Installed::honours_seed_of`].
    pub fn differs_from(&self, asked: &Impairment) -> Option<String> {
        fn compare<T: PartialEq + std::fmt::Debug>(
            differences: &mut Vec<String>,
            what: &str,
            asked: &T,
            installed: &T,
        ) {
            if asked != installed {
                differences.push(format!("{what}: asked {asked:?}, installed {installed:?}"));
            }
        }
        let installed = &self.impairment;
        let mut all = Vec::new();
        compare(&mut all, "delay", &asked.delay, &installed.delay);
        compare(&mut all, "jitter", &asked.jitter, &installed.jitter);
        compare(&mut all, "loss", &asked.loss, &installed.loss);
        compare(
            &mut all,
            "duplicate",
            &asked.duplicate,
            &installed.duplicate,
        );
        compare(&mut all, "corrupt", &asked.corrupt, &installed.corrupt);
        compare(&mut all, "reorder", &asked.reorder, &installed.reorder);
        compare(&mut all, "gap", &asked.gap, &installed.gap);
        compare(
            &mut all,
            "rate in bytes a second",
            &asked.rate_bytes_per_second(),
            &installed.rate_bytes_per_second(),
        );
        compare(
            &mut all,
            "limit",
            &asked.limit_packets,
            &installed.limit_packets,
        );
        if let Some(seed) = self.seed {
            compare(&mut all, "seed", &asked.seed, &seed);
        }
        for extra in &self.extras {
            all.push(format!("{extra}: not asked, installed"));
        }
        (!all.is_empty()).then(|| all.join("; "))
    }

    /// Whether the draws are those of the seed, or there is nothing to draw.
    pub fn honours_seed_of(&self, asked: &Impairment) -> bool {
        self.seed == Some(asked.seed) || !asked.draws()
    }
}

/// The payload of TCA_OPTIONS. Every setting is in it, those of value 0 too, so
/// that replacing an earlier netem leaves nothing of it.
pub fn encode(impairment: &Impairment) -> Vec<u8> {
    let random_loss = match impairment.loss {
        Loss::Random(probability) => probability,
        Loss::None | Loss::GilbertElliott { .. } => Probability::NEVER,
    };
    let rate = impairment.rate_bytes_per_second().unwrap_or(0);
    let rate32 = u32::try_from(rate).unwrap_or(u32::MAX);
    let mut options = words([
        ticks(impairment.delay),
        impairment.limit_packets,
        random_loss.0,
        impairment.gap,
        impairment.duplicate.0,
        ticks(impairment.jitter),
    ]);
    // The ticks are too coarse and end after 275 s; these override them.
    attribute(
        &mut options,
        LATENCY64,
        &nanoseconds(impairment.delay).to_ne_bytes(),
    );
    attribute(
        &mut options,
        JITTER64,
        &nanoseconds(impairment.jitter).to_ne_bytes(),
    );
    attribute(&mut options, CORR, &words([0, 0, 0]));
    attribute(&mut options, REORDER, &words([impairment.reorder.0, 0]));
    attribute(&mut options, CORRUPT, &words([impairment.corrupt.0, 0]));
    if rate > u64::from(u32::MAX) {
        attribute(&mut options, RATE64, &rate.to_ne_bytes());
    }
    // The rate, and none of the overhead that a packet or a cell may have.
    attribute(&mut options, RATE, &words([rate32, 0, 0, 0]));
    if let Loss::GilbertElliott {
        p,
        r,
        bad_loss,
        good_loss,
    } = impairment.loss
    {
        let mut model = Vec::new();
        attribute(
            &mut model,
            LOSS_GILBERT_ELLIOTT,
            &words([p.0, r.0, u32::MAX - bad_loss.0, good_loss.0]),
        );
        attribute(&mut options, LOSS | NESTED, &model);
    }
    attribute(&mut options, PRNG_SEED, &impairment.seed.to_ne_bytes());
    options
}

/// Reads the payload of TCA_OPTIONS, from a dump or from [`encode`].
pub fn decode(options: &[u8]) -> Result<Installed, NetemError> {
    let ([latency, limit, loss, gap, duplicate, jitter], mut rest) =
        split_words("tc_netem_qopt", options)?;
    let mut impairment = Impairment {
        delay: from_ticks(latency),
        jitter: from_ticks(jitter),
        loss: match Probability(loss) {
            Probability::NEVER => Loss::None,
            probability => Loss::Random(probability),
        },
        duplicate: Probability(duplicate),
        gap,
        limit_packets: limit,
        ..Impairment::none()
    };
    let mut rate = 0;
    let mut seed = None;
    let mut extras = Vec::new();
    while let Some((kind, value)) = next_attribute(&mut rest)? {
        match kind {
            LATENCY64 => impairment.delay = from_nanoseconds(long("LATENCY64", value)?),
            JITTER64 => impairment.jitter = from_nanoseconds(long("JITTER64", value)?),
            CORR => {
                let (correlations, _) = split_words::<3>("CORR", value)?;
                if correlations != [0; 3] {
                    extras.push("correlation");
                }
            }
            REORDER | CORRUPT => {
                let ([probability, correlation], _) = split_words("REORDER or CORRUPT", value)?;
                if kind == REORDER {
                    impairment.reorder = Probability(probability);
                } else {
                    impairment.corrupt = Probability(probability);
                }
                if correlation != 0 {
                    extras.push("correlation");
                }
            }
            RATE => {
                let ([bytes_per_second, overhead @ ..], _) = split_words::<4>("RATE", value)?;
                rate = rate.max(u64::from(bytes_per_second));
                if overhead != [0; 3] {
                    extras.push("overhead");
                }
            }
            RATE64 => rate = rate.max(long("RATE64", value)?),
            LOSS => {
                let mut models = value;
                while let Some((model, value)) = next_attribute(&mut models)? {
                    if model != LOSS_GILBERT_ELLIOTT {
                        extras.push("another model of loss");
                        continue;
                    }
                    let ([p, r, h, k1], _) = split_words("the Gilbert-Elliott model", value)?;
                    impairment.loss = Loss::GilbertElliott {
                        p: Probability(p),
                        r: Probability(r),
                        bad_loss: Probability(u32::MAX - h),
                        good_loss: Probability(k1),
                    };
                }
            }
            ECN => extras.push("ECN"),
            SLOT => extras.push("slots"),
            PRNG_SEED => seed = Some(long("PRNG_SEED", value)?),
            // Padding, and what kernels to come may add.
            _ => {}
        }
    }
    impairment.rate_bits_per_second = (rate != 0).then(|| rate.saturating_mul(8));
    impairment.seed = seed.unwrap_or(0);
    Ok(Installed {
        impairment,
        seed,
        extras,
    })
}

fn words<const N: usize>(values: [u32; N]) -> Vec<u8> {
    values.into_iter().flat_map(u32::to_ne_bytes).collect()
}

fn split_words<'a, const N: usize>(
    what: &'static str,
    bytes: &'a [u8],
) -> Result<([u32; N], &'a [u8]), NetemError> {
    let (head, rest) = bytes.split_at_checked(4 * N).ok_or(NetemError::Short {
        what,
        expected: 4 * N,
        found: bytes.len(),
    })?;
    let (words, _) = head.as_chunks::<4>();
    let mut values = [0; N];
    for (value, word) in values.iter_mut().zip(words) {
        *value = u32::from_ne_bytes(*word);
    }
    Ok((values, rest))
}

fn long(what: &'static str, bytes: &[u8]) -> Result<u64, NetemError> {
    let value = bytes.first_chunk().ok_or(NetemError::Short {
        what,
        expected: 8,
        found: bytes.len(),
    })?;
    Ok(u64::from_ne_bytes(*value))
}

/// Appends one; the values here are a few dozen bytes, so its `u16` holds the
/// length.
fn attribute(options: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(HEADER + value.len()).unwrap_or(u16::MAX);
    options.extend(length.to_ne_bytes());
    options.extend(kind.to_ne_bytes());
    options.extend(value);
    options.resize(options.len().next_multiple_of(4), 0);
}

/// Takes one off the front.
fn next_attribute<'a>(rest: &mut &'a [u8]) -> Result<Option<(u16, &'a [u8])>, NetemError> {
    if rest.is_empty() {
        return Ok(None);
    }
    let Some(&[length0, length1, kind0, kind1]) = rest.first_chunk() else {
        return Err(NetemError::Short {
            what: "an attribute's header",
            expected: HEADER,
            found: rest.len(),
        });
    };
    let length = usize::from(u16::from_ne_bytes([length0, length1]));
    let kind = u16::from_ne_bytes([kind0, kind1]) & !TYPE_FLAGS;
    let value = rest.get(HEADER..length).ok_or(NetemError::Length {
        length,
        left: rest.len(),
    })?;
    *rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    Ok(Some((kind, value)))
}

fn ticks(time: Duration) -> u32 {
    u32::try_from(time.as_nanos() >> TICK_SHIFT).unwrap_or(u32::MAX)
}

fn from_ticks(ticks: u32) -> Duration {
    Duration::from_nanos(u64::from(ticks) << TICK_SHIFT)
}

/// The kernel has it as a signed number.
fn nanoseconds(time: Duration) -> i64 {
    time.as_nanos().try_into().unwrap_or(i64::MAX)
}

/// A negative time, which no [`Duration`] can be sent as, reads as one that
/// differs from all that can.
fn from_nanoseconds(nanoseconds: u64) -> Duration {
    i64::try_from(nanoseconds).map_or(Duration::MAX, |_| Duration::from_nanos(nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn everything() -> Impairment {
        Impairment {
            delay: Duration::from_nanos(10_000_001),
            jitter: Duration::from_nanos(3_000_063),
            loss: Loss::GilbertElliott {
                p: Probability(1),
                r: Probability(2),
                bad_loss: Probability(3),
                good_loss: Probability(4),
            },
            duplicate: Probability(5),
            corrupt: Probability(6),
            reorder: Probability(7),
            gap: 8,
            rate_bits_per_second: Some(10_000_000),
            limit_packets: 9,
            seed: u64::MAX - 1,
            ..Impairment::none()
        }
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn the_whole_payload_is_laid_out_as_the_kernel_reads_it() {
        // Worked out by hand from linux/pkt_sched.h; one line an attribute.
        #[rustfmt::skip]
        let expected = [
            0x5a, 0x62, 0x02, 0,  9, 0, 0, 0,  0, 0, 0, 0,  8, 0, 0, 0,  5, 0, 0, 0,  0x1b, 0xb7, 0, 0,
            12, 0, 10, 0,  0x81, 0x96, 0x98, 0, 0, 0, 0, 0,
            12, 0, 11, 0,  0xff, 0xc6, 0x2d, 0, 0, 0, 0, 0,
            16, 0, 1, 0,  0, 0, 0, 0,  0, 0, 0, 0,  0, 0, 0, 0,
            12, 0, 3, 0,  7, 0, 0, 0,  0, 0, 0, 0,
            12, 0, 4, 0,  6, 0, 0, 0,  0, 0, 0, 0,
            20, 0, 6, 0,  0xd0, 0x12, 0x13, 0,  0, 0, 0, 0,  0, 0, 0, 0,  0, 0, 0, 0,
            24, 0, 5, 0x80,  20, 0, 2, 0,  1, 0, 0, 0,  2, 0, 0, 0,  0xfc, 0xff, 0xff, 0xff,  4, 0, 0, 0,
            12, 0, 14, 0,  0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        ];
        assert_eq!(encode(&everything()), expected);
    }

    /// What iproute2 6.1.0 sends for `tc qdisc add dev lo root netem ...`,
    /// taken from its system calls. It leaves out what was not given.
    #[cfg(target_endian = "little")]
    #[test]
    fn what_tc_sends_means_the_same() {
        let percent = |percent: f64| Probability::from_fraction(percent / 100.0);
        let ten_milliseconds = Impairment {
            delay: Duration::from_millis(10),
            ..Impairment::none()
        };
        #[rustfmt::skip]
        let cases: [(&str, Impairment, &[u8]); 8] = [
            ("delay 10ms", ten_milliseconds.clone(), &[
                0x5a, 0x62, 0x02, 0, 0xe8, 0x03, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            ("delay 10ms 3ms limit 50",
             Impairment { jitter: Duration::from_millis(3), limit_packets: 50, ..ten_milliseconds.clone() }, &[
                0x5a, 0x62, 0x02, 0, 0x32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x1b, 0xb7, 0, 0]),
            ("loss 10%", Impairment { loss: Loss::Random(percent(10.0)), ..Impairment::none() }, &[
                0, 0, 0, 0, 0xe8, 0x03, 0, 0, 0x9a, 0x99, 0x99, 0x19, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            ("loss gemodel 1% 10% 70% 0.1%",
             Impairment { loss: Loss::GilbertElliott {
                p: percent(1.0), r: percent(10.0), bad_loss: percent(70.0), good_loss: percent(0.1) },
                ..Impairment::none() }, &[
                0, 0, 0, 0, 0xe8, 0x03, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                0x18, 0, 0x05, 0x80, 0x14, 0, 0x02, 0, 0x29, 0x5c, 0x8f, 0x02, 0x9a, 0x99, 0x99, 0x19,
                0xcd, 0xcc, 0xcc, 0x4c, 0x37, 0x89, 0x41, 0]),
            ("delay 10ms reorder 25% gap 5",
             Impairment { reorder: percent(25.0), gap: 5, ..ten_milliseconds }, &[
                0x5a, 0x62, 0x02, 0, 0xe8, 0x03, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                12, 0, 3, 0, 0, 0, 0, 0x40, 0, 0, 0, 0]),
            ("corrupt 1% duplicate 2%",
             Impairment { corrupt: percent(1.0), duplicate: percent(2.0), ..Impairment::none() }, &[
                0, 0, 0, 0, 0xe8, 0x03, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x52, 0xb8, 0x1e, 0x05, 0, 0, 0, 0,
                12, 0, 4, 0, 0x29, 0x5c, 0x8f, 0x02, 0, 0, 0, 0]),
            ("rate 10mbit",
             Impairment { rate_bits_per_second: Some(10_000_000), ..Impairment::none() }, &[
                0, 0, 0, 0, 0xe8, 0x03, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                0x14, 0, 6, 0, 0xd0, 0x12, 0x13, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            ("rate 100gbit",
             Impairment { rate_bits_per_second: Some(100_000_000_000), ..Impairment::none() }, &[
                0, 0, 0, 0, 0xe8, 0x03, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                12, 0, 8, 0, 0, 0xdd, 0x0e, 0xe9, 2, 0, 0, 0,
                0x14, 0, 6, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        ];
        for (arguments, asked, sent) in cases {
            let of_tc = decode(sent).unwrap();
            assert_eq!(of_tc.differs_from(&asked), None, "{arguments}");
            assert_eq!(of_tc.seed, None);
            let of_ours = decode(&encode(&asked)).unwrap();
            assert_eq!(of_ours.impairment, of_tc.impairment, "{arguments}");
            // Where tc sends an attribute, ours is the same, byte for byte.
            let ours = encode(&asked);
            let mut attributes = &sent[24..];
            assert_eq!(ours[..24], sent[..24], "{arguments}");
            while !attributes.is_empty() {
                let length = usize::from(attributes[0]);
                let (one, rest) = attributes.split_at(length);
                assert!(
                    ours.windows(length).any(|part| part == one),
                    "{arguments}: {one:?}"
                );
                attributes = rest;
            }
        }
    }

    #[test]
    fn what_is_encoded_reads_back_as_it_was() {
        let cases = [
            Impairment::none(),
            everything(),
            Impairment {
                loss: Loss::Random(Probability::ALWAYS),
                delay: Duration::from_secs(10_000),
                jitter: Impairment::MAX_JITTER,
                rate_bits_per_second: Some(8 * (u64::from(u32::MAX) + 1)),
                ..everything()
            },
            Impairment {
                rate_bits_per_second: Some(8 * u64::from(u32::MAX)),
                ..Impairment::none()
            },
        ];
        for asked in cases {
            let installed = decode(&encode(&asked)).unwrap();
            assert_eq!(installed.impairment, asked);
            assert_eq!(installed.differs_from(&asked), None);
            assert!(installed.honours_seed_of(&asked));
        }
    }

    #[test]
    fn a_kernel_without_the_seed_and_times_in_ns_is_told_apart() {
        let asked = everything();
        let mut dump = encode(&asked);
        dump.truncate(dump.len() - 12);
        let installed = decode(&dump).unwrap();
        assert_eq!(installed.differs_from(&asked), None);
        assert!(!installed.honours_seed_of(&asked));
        assert!(installed.honours_seed_of(&Impairment::none()));

        dump.drain(24..48);
        assert_eq!(
            decode(&dump).unwrap().differs_from(&asked).as_deref(),
            Some(
                "delay: asked 10.000001ms, installed 10ms; \
                 jitter: asked 3.000063ms, installed 3ms"
            )
        );
    }

    #[test]
    fn every_field_that_differs_is_named() {
        let mut dump = encode(&everything());
        attribute(&mut dump, ECN, &words([1]));
        attribute(&mut dump, CORR, &words([0, 1, 0]));
        attribute(&mut dump, 99, &[1, 2, 3]);
        let said = decode(&dump)
            .unwrap()
            .differs_from(&Impairment::none())
            .unwrap();
        for name in [
            "delay",
            "jitter",
            "loss",
            "duplicate",
            "corrupt",
            "reorder",
            "gap",
            "rate in bytes a second",
            "limit",
            "seed",
            "ECN",
            "correlation",
        ] {
            assert!(
                said.split("; ").any(|part| part.starts_with(name)),
                "{name}: {said}"
            );
        }
    }

    #[test]
    fn no_bytes_make_the_decoder_panic() {
        let whole = encode(&everything());
        for length in 0..whole.len() {
            let _ = decode(&whole[..length]);
        }
        assert!(decode(&whole[..23]).is_err());
        assert!(decode(&whole[..25]).is_err());
        for at in 0..whole.len() {
            for value in 0..=u8::MAX {
                let mut mutated = whole.clone();
                mutated[at] = value;
                if let Ok(installed) = decode(&mutated) {
                    let _ = installed.differs_from(&everything());
                }
            }
        }
    }
}
