//! The tables of the page: what differs between kernels, why scenarios were skipped, and
//! the truth tables of matrices.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use advisor_report::escape::xml;
use advisor_report::{Report, ScenarioResult, Verdict};

use crate::report::matrix::Matrix;
use crate::report::{describe_seen, standing_class};

/// Cells of a truth table at most; a larger one is only a list.
const MOST_CELLS: usize = 4000;

pub(super) fn differences(page: &mut String, report: &Report) {
    if report.differences.is_empty() {
        return;
    }
    page.push_str(
        "<section aria-labelledby=\"differs\"><h2 id=\"differs\">What differs between kernels or \
         links</h2><div class=\"wide\"><table><thead><tr><th scope=\"col\">scenario</th>\
         <th scope=\"col\">what</th><th scope=\"col\">where</th><th scope=\"col\">seen</th></tr>\
         </thead><tbody>",
    );
    for difference in &report.differences {
        let place = report
            .scenarios
            .iter()
            .position(|one| one.id == difference.id);
        let place = place.unwrap_or_default();
        for (row, group) in difference.groups.iter().enumerate() {
            page.push_str("<tr>");
            if row == 0 {
                let rows = difference.groups.len();
                let _ = write!(
                    page,
                    "<td rowspan=\"{rows}\"><a href=\"#s{place}\">{}</a></td>\
                     <td rowspan=\"{rows}\"><code>{}</code></td>",
                    xml(&difference.id),
                    xml(difference.observation.as_deref().unwrap_or("verdict"))
                );
            }
            let _ = write!(
                page,
                "<td>{}</td><td>{}</td></tr>",
                xml(&group.columns.join(", ")),
                xml(&describe_seen(&group.seen))
            );
        }
    }
    page.push_str("</tbody></table></div></section>");
}

pub(super) fn skipped(page: &mut String, report: &Report) {
    let mut reasons: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for scenario in report
        .scenarios
        .iter()
        .filter(|one| one.verdict == Verdict::Skipped)
    {
        let reason = scenario.reason.as_deref().unwrap_or_default();
        let hint = scenario.hint.as_deref().unwrap_or_default();
        *reasons.entry((reason, hint)).or_default() += 1;
    }
    if reasons.is_empty() {
        return;
    }
    page.push_str(
        "<section aria-labelledby=\"skipped\"><h2 id=\"skipped\">Why scenarios were skipped</h2>\
         <ul>",
    );
    for ((reason, hint), count) in reasons {
        let _ = write!(page, "<li>{count}: {}", xml(reason));
        if !hint.is_empty() {
            let _ = write!(page, "<br><span class=\"note\">hint: {}</span>", xml(hint));
        }
        page.push_str("</li>");
    }
    page.push_str("</ul></section>");
}

/// A cell that leads to its scenario.
fn cell(page: &mut String, result: Option<(usize, &ScenarioResult)>) {
    let _ = match result {
        Some((place, result)) => write!(
            page,
            "<td class=\"cell {}\"><a href=\"#s{place}\">{}</a></td>",
            standing_class(result),
            result.verdict
        ),
        None => write!(page, "<td class=\"cell\">-</td>"),
    };
}

/// Each scenario on each kernel, those first that differ.
pub(super) fn kernels(page: &mut String, report: &Report, matrix: &Matrix) {
    page.push_str(
        "<section aria-labelledby=\"kernels\"><h2 id=\"kernels\">By kernel</h2>\
         <div class=\"wide\"><table class=\"truth\"><thead><tr><th scope=\"col\">scenario</th>",
    );
    for column in &matrix.columns {
        let _ = write!(page, "<th scope=\"col\">{}</th>", xml(column));
    }
    page.push_str("</tr></thead><tbody>");
    let mut rows: Vec<_> = matrix.rows.iter().collect();
    rows.sort_by_key(|row| row.agrees());
    let place = |wanted: &ScenarioResult| {
        report
            .scenarios
            .iter()
            .position(|one| std::ptr::eq(one, wanted))
    };
    for row in rows {
        let _ = write!(page, "<tr><th scope=\"row\">{}</th>", xml(row.id));
        for result in &row.cells {
            cell(
                page,
                result.and_then(|result| Some((place(result)?, result))),
            );
        }
        page.push_str("</tr>");
    }
    page.push_str("</tbody></table></div></section>");
}

/// The axes of a cell: `[a=1,b=2]` of `topic/file/name[a=1,b=2]`.
fn axes(id: &str) -> Option<(&str, Vec<(&str, &str)>)> {
    let (name, rest) = id.split_once('[')?;
    let pairs = rest.strip_suffix(']')?.split(',');
    let axes: Option<Vec<(&str, &str)>> = pairs.map(|pair| pair.split_once('=')).collect();
    Some((name, axes?))
}

/// A scenario of a matrix: its place in the report, and its axes with their values.
type Cell<'a> = (usize, Vec<(&'a str, &'a str)>);

/// The truth table of each matrix: the axis with the most values down, the others across.
pub(super) fn truth(page: &mut String, report: &Report) {
    let mut matrices: Vec<(&str, &str, Vec<Cell<'_>>)> = Vec::new();
    for (place, scenario) in report.scenarios.iter().enumerate() {
        let Some((name, axes)) = axes(&scenario.id) else {
            continue;
        };
        let release = scenario.kernel.release.as_str();
        match matrices
            .iter_mut()
            .find(|(known, on, _)| *known == name && *on == release)
        {
            Some((_, _, cells)) => cells.push((place, axes)),
            None => matrices.push((name, release, vec![(place, axes)])),
        }
    }
    matrices.retain(|(_, _, cells)| cells.len() > 1 && cells.len() <= MOST_CELLS);
    if matrices.is_empty() {
        return;
    }
    page.push_str("<section aria-labelledby=\"truth\"><h2 id=\"truth\">Truth tables</h2>");
    for (name, release, cells) in matrices {
        let bad = cells.iter().filter(|(place, _)| {
            matches!(
                report.scenarios[*place].verdict,
                Verdict::Failed | Verdict::Errored
            )
        });
        let open = if bad.count() > 0 { " open" } else { "" };
        let _ = write!(
            page,
            "<details class=\"more\"{open}><summary>{} <span class=\"note\">{} cells, Linux {}\
             </span></summary>",
            xml(name),
            cells.len(),
            xml(release)
        );
        table(page, report, &cells);
        page.push_str("</details>");
    }
    page.push_str("</section>");
}

fn table(page: &mut String, report: &Report, cells: &[Cell]) {
    let Some((_, first)) = cells.first() else {
        return;
    };
    let mut values: Vec<Vec<&str>> = vec![Vec::new(); first.len()];
    for (_, axes) in cells {
        for (known, (_, value)) in values.iter_mut().zip(axes) {
            if !known.contains(value) {
                known.push(value);
            }
        }
    }
    // The axis with the most values goes down.
    let down = (0..values.len())
        .max_by_key(|axis| values[*axis].len())
        .unwrap_or(0);
    let rest = |axes: &[(&str, &str)]| -> Vec<String> {
        let others = axes.iter().enumerate().filter(|(axis, _)| *axis != down);
        others.map(|(_, (_, value))| (*value).to_owned()).collect()
    };
    let mut columns: Vec<Vec<String>> = Vec::new();
    let mut at: BTreeMap<(&str, Vec<String>), usize> = BTreeMap::new();
    for (place, axes) in cells {
        let column = rest(axes);
        if !columns.contains(&column) {
            columns.push(column.clone());
        }
        if let Some((_, value)) = axes.get(down) {
            at.insert((value, column), *place);
        }
    }
    columns.sort();
    let name = first.get(down).map_or("", |(name, _)| *name);
    let others: Vec<&str> = first
        .iter()
        .enumerate()
        .filter(|(axis, _)| *axis != down)
        .map(|(_, (name, _))| *name)
        .collect();
    let _ = write!(
        page,
        "<div class=\"wide\" tabindex=\"0\" role=\"group\" aria-label=\"truth table\">\
         <table class=\"truth\"><caption class=\"note\">down: {}; across: {}</caption><thead><tr>\
         <th scope=\"col\">{}</th>",
        xml(name),
        xml(&others.join(", ")),
        xml(name)
    );
    for column in &columns {
        let text = if column.is_empty() {
            "verdict".to_owned()
        } else {
            column.join(" ")
        };
        let _ = write!(page, "<th scope=\"col\">{}</th>", xml(&text));
    }
    page.push_str("</tr></thead><tbody>");
    for value in &values[down] {
        let _ = write!(page, "<tr><th scope=\"row\">{}</th>", xml(value));
        for column in &columns {
            let place = at.get(&(value, column.clone())).copied();
            cell(page, place.map(|place| (place, &report.scenarios[place])));
        }
        page.push_str("</tr>");
    }
    page.push_str("</tbody></table></div>");
}
