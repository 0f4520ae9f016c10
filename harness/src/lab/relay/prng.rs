//! The numbers that netem draws from.

/// L'Ecuyer's combined Tausworthe generator of four components, LFSR113
/// ("Tables of maximally equidistributed combined LFSR generators", 1999),
/// seeded as Linux's `prandom_seed_state` does. netem draws from it since
/// Linux 6.6, so one seed means the same draws here and there.
#[derive(Clone, Debug)]
pub(super) struct Prng {
    components: [u32; 4],
}

/// A component's recurrence: the step over its state, two shifts, and the
/// lowest bits that take no part. A state below `1 << idle_bits` is stuck.
struct Recurrence {
    feedback: u32,
    output: u32,
    step: u32,
    idle_bits: u32,
}

const RECURRENCES: [Recurrence; 4] = [
    Recurrence {
        feedback: 6,
        output: 13,
        step: 18,
        idle_bits: 1,
    },
    Recurrence {
        feedback: 2,
        output: 27,
        step: 2,
        idle_bits: 3,
    },
    Recurrence {
        feedback: 13,
        output: 21,
        step: 7,
        idle_bits: 4,
    },
    Recurrence {
        feedback: 3,
        output: 12,
        step: 13,
        idle_bits: 7,
    },
];

impl Prng {
    /// All 64 bits of the seed count, folded into 32; the same for each
    /// component, and no draw is thrown away first.
    pub(super) fn from_seed(seed: u64) -> Self {
        let folded = (seed >> 32) ^ (seed << 10) ^ seed;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the kernel keeps the low half"
        )]
        let low = folded as u32;
        Self::from_components([low; 4])
    }

    fn from_components(mut components: [u32; 4]) -> Self {
        for (component, recurrence) in components.iter_mut().zip(RECURRENCES) {
            let least = 1 << recurrence.idle_bits;
            if *component < least {
                *component += least;
            }
        }
        Self { components }
    }

    /// The next number, uniform in 0..=`u32::MAX`.
    pub(super) fn draw(&mut self) -> u32 {
        let mut number = 0;
        for (component, recurrence) in self.components.iter_mut().zip(RECURRENCES) {
            let fresh = ((*component << recurrence.feedback) ^ *component) >> recurrence.output;
            let kept = (*component >> recurrence.idle_bits) << recurrence.idle_bits;
            *component = (kept << recurrence.step) ^ fresh;
            number ^= *component;
        }
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the GNU Scientific Library's `taus113` starts: each component from
    /// the one before it, then ten draws thrown away.
    fn gsl(seed: u32) -> Prng {
        let mut components = [0_u32; 4];
        let mut previous = seed;
        for (component, recurrence) in components.iter_mut().zip(RECURRENCES) {
            let multiplied = previous.wrapping_mul(69069);
            let least = 1 << recurrence.idle_bits;
            previous = multiplied + if multiplied < least { least } else { 0 };
            *component = previous;
        }
        let mut prng = Prng::from_components(components);
        for _ in 0..10 {
            prng.draw();
        }
        prng
    }

    #[test]
    fn the_generator_gives_the_known_answers_of_taus113() {
        // (seed, which draw, its value).
        for (seed, nth, value) in [
            (1, 1, 3_484_351_685),
            (2, 1, 2_623_130_059),
            (3, 1, 3_125_133_893),
            (4, 1, 984_847_254),
            (931_557_656, 959, 2_975_593_782),
            (1_339_693_295, 876, 3_887_776_532),
            (407_983_964, 921, 728_767_059),
        ] {
            let mut prng = gsl(seed);
            let drawn = (0..nth).map(|_| prng.draw()).last();
            assert_eq!(drawn, Some(value), "seed {seed}, draw {nth}");
        }
    }

    #[test]
    fn both_halves_of_a_seed_count_and_zero_is_a_seed() {
        let first = |seed| Prng::from_seed(seed).draw();
        assert_eq!(first(0), 1_574_944);
        assert_eq!(first(42), 3_053_367_555);
        assert_eq!(first((1 << 63) + 5), 1_385_583_655);
    }

    /// The example that the authors of netem's seed gave for it: seed 42424242
    /// and 10% loss drop the 5th, 12th and 24th of 25 packets.
    #[test]
    fn the_published_example_of_netem_comes_out() {
        let mut prng = Prng::from_seed(42_424_242);
        let dropped: Vec<u32> = (1..=25).filter(|_| prng.draw() <= u32::MAX / 10).collect();
        assert_eq!(dropped, [5, 12, 24]);
    }
}
