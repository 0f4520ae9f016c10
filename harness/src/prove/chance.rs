//! Whether chance explains a trial's result.

/// The highest probability of chance with which a trial is proven.
pub const MOST: f64 = 0.01;

/// The answer of a trial.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Answer {
    /// It fails before and in no run after, and chance is unlikely.
    Proven,
    /// It fails on both sides.
    StillFails,
    /// It doesn't fail before.
    NeverFailed,
    /// It fails before only, but by chance perhaps.
    MayBeChance,
}

/// The answer from two sides: each is the number of failed runs and of all
/// runs.
pub fn answer(before: (usize, usize), after: (usize, usize)) -> Answer {
    match (before.0, after.0) {
        (0, _) => Answer::NeverFailed,
        (_, 0) if of(before, after) <= MOST => Answer::Proven,
        (_, 0) => Answer::MayBeChance,
        _ => Answer::StillFails,
    }
}

/// Fisher's exact test, one-sided: how likely at least as many of the failures
/// fall before the change if the sides don't differ. 1 where there is nothing to
/// compare.
pub fn of(before: (usize, usize), after: (usize, usize)) -> f64 {
    let failed = before.0 + after.0;
    let runs = before.1 + after.1;
    let ways = |failed_before: usize| {
        choose(before.1, failed_before) * choose(after.1, failed - failed_before)
    };
    let as_clear: f64 = (before.0..=failed.min(before.1)).map(ways).sum();
    as_clear / choose(runs, failed)
}

/// Ways to choose `k` of `n`.
#[expect(clippy::cast_precision_loss, reason = "runs are few")]
fn choose(n: usize, k: usize) -> f64 {
    if k > n {
        return 0.0;
    }
    (1..=k).map(|i| (n - k + i) as f64 / i as f64).product()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chance_is_that_of_fisher() {
        let near = |one: f64, other: f64| (one - other).abs() < 1e-9;
        assert!(near(of((5, 5), (0, 5)), 1.0 / 252.0));
        assert!(near(of((4, 4), (0, 4)), 1.0 / 70.0));
        // The lady tasting tea.
        assert!(near(of((3, 4), (1, 4)), 17.0 / 70.0));
        assert!(near(of((0, 5), (0, 5)), 1.0));
        assert!(near(of((0, 5), (5, 5)), 1.0));
        assert!(near(of((0, 0), (0, 0)), 1.0));
    }

    #[test]
    fn five_of_five_decide_and_four_do_not() {
        assert_eq!(answer((5, 5), (0, 5)), Answer::Proven);
        assert_eq!(answer((4, 4), (0, 4)), Answer::MayBeChance);
        assert_eq!(answer((3, 5), (0, 5)), Answer::MayBeChance);
        assert_eq!(answer((7, 20), (0, 20)), Answer::Proven);
        assert_eq!(answer((6, 20), (0, 20)), Answer::MayBeChance);
        assert_eq!(answer((0, 20), (0, 20)), Answer::NeverFailed);
        assert_eq!(answer((0, 5), (3, 5)), Answer::NeverFailed);
        assert_eq!(answer((20, 20), (1, 20)), Answer::StillFails);
    }
}
