//! Numbers as small pictures: over the time of a run, and over runs.

use std::fmt::Write as _;

use advisor_report::escape::xml;
use advisor_report::trace::Series;

use super::{grouped, time};

/// Height of a chart with its name.
pub(super) const CHART: i64 = 58;
/// Height of the drawn part.
const PART: i64 = 34;

/// A number over the time of a run, as steps: `width` wide, at a height of `top`.
pub(super) fn steps(
    to: &mut String,
    series: &Series,
    left: i64,
    top: i64,
    width: i64,
    end_us: u64,
) {
    let points = &series.points.0;
    let most = points
        .iter()
        .map(|(_, number)| *number)
        .max()
        .unwrap_or(0)
        .max(1);
    let base = top + 16 + PART;
    let x = |at: u64| {
        let width = u64::try_from(width).unwrap_or(0);
        let share = at.min(end_us).saturating_mul(width) / end_us.max(1);
        left + i64::try_from(share).unwrap_or(0)
    };
    let y = |number: i64| base - number.max(0).saturating_mul(PART) / most;
    let mut path = String::new();
    for (place, (at, number)) in points.iter().enumerate() {
        let _ = match place {
            0 => write!(path, "M{} {}", x(*at), y(*number)),
            _ => write!(path, "H{}V{}", x(*at), y(*number)),
        };
    }
    let _ = write!(path, "H{}", left + width);
    let unit = if series.unit.is_empty() { "" } else { " " };
    let _ = write!(
        to,
        "<text x=\"{left}\" y=\"{}\">{} <tspan class=\"f\">at most {}{unit}{}</tspan></text>\
         <path class=\"x\" d=\"M{left} {base}h{width}\"/><path class=\"q\" d=\"{path}\"/>\
         <text class=\"f z\" x=\"{}\" y=\"{}\">{}</text>",
        top + 10,
        xml(&series.name),
        grouped(u64::try_from(most).unwrap_or(0)),
        xml(&series.unit),
        left + width,
        top + 10,
        time(end_us),
    );
}

/// A number over many runs: a mark for each run on a line from the least to the greatest.
/// Nothing where all are the same.
#[expect(
    clippy::cast_possible_truncation,
    reason = "it is a place in a picture of 240"
)]
pub fn strip(values: &[(f64, bool)]) -> String {
    const WIDTH: f64 = 240.0;
    let numbers = || values.iter().map(|(number, _)| *number);
    let (least, most) = (
        numbers().fold(f64::INFINITY, f64::min),
        numbers().fold(f64::NEG_INFINITY, f64::max),
    );
    if values.len() < 2 || least.partial_cmp(&most) != Some(std::cmp::Ordering::Less) {
        return String::new();
    }
    let mut sorted: Vec<f64> = numbers().collect();
    sorted.sort_by(f64::total_cmp);
    let median = sorted[sorted.len() / 2];
    let x = |number: f64| 4 + ((number - least) / (most - least) * WIDTH).round() as i64;
    let mut svg = format!(
        "<svg class=\"strip\" width=\"248\" height=\"18\" role=\"img\" aria-label=\"{} runs from \
         {least} to {most}, median {median}\"><path class=\"x\" d=\"M4 9h240\"/>",
        values.len()
    );
    for (number, is_held) in values {
        let class = if *is_held { "g" } else { "b" };
        let _ = write!(
            svg,
            "<circle class=\"{class}\" cx=\"{}\" cy=\"9\" r=\"3\"/>",
            x(*number)
        );
    }
    let _ = write!(svg, "<path class=\"m\" d=\"M{} 2v14\"/></svg>", x(median));
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_are_all_the_same_are_no_picture() {
        assert_eq!(strip(&[(1.0, true), (1.0, true)]), "");
        assert_eq!(strip(&[(1.0, true)]), "");
        assert_eq!(strip(&[(f64::NAN, true), (f64::NAN, true)]), "");
        let svg = strip(&[(1.0, true), (3.0, false), (2.0, true)]);
        assert!(svg.contains("3 runs from 1 to 3, median 2"), "{svg}");
        assert!(svg.contains("class=\"b\" cx=\"244\""), "{svg}");
    }
}
