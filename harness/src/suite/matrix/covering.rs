//! The part of a matrix that runs without `--full`.

use std::collections::BTreeSet;

/// The cells that run without `--full`, chosen one by one: each time the one that
/// brings the most pairs of values, and cases, that no chosen cell has.
pub(super) fn covering(
    axes: usize,
    product: &[Vec<usize>],
    deciding: &[Option<usize>],
) -> BTreeSet<usize> {
    // What a cell brings: (axis, value, axis, value), or a case.
    type Brought = (usize, usize, usize, usize);
    let brings = |index: usize| -> Vec<Brought> {
        let values = &product[index];
        let mut brought = vec![(usize::MAX, deciding[index].unwrap_or(0), 0, 0)];
        for first in 0..axes {
            // With one axis only, each value by itself.
            brought.push((first, values[first], first, values[first]));
            for second in first + 1..axes {
                brought.push((first, values[first], second, values[second]));
            }
        }
        brought
    };
    let mut missing: BTreeSet<Brought> = (0..product.len()).flat_map(brings).collect();
    let mut chosen = BTreeSet::new();
    while !missing.is_empty() {
        let news = |index: &usize| {
            let brought = brings(*index);
            brought.iter().filter(|one| missing.contains(one)).count()
        };
        // The first of the best: max_by_key takes the last.
        let Some(best) = (0..product.len()).rev().max_by_key(news) else {
            break;
        };
        for brought in brings(best) {
            missing.remove(&brought);
        }
        chosen.insert(best);
    }
    chosen
}
