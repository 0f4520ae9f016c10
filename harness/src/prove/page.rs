//! A proof as a page, which looks as a report does.

use std::fmt::Write as _;

use advisor_report::escape::xml;
use advisor_report::proof::{Compared, Comparison, Proof, Side, Trial, TrialVerdict};

use super::render::{answer, together};
use crate::report::{describe_seen, html};

/// The page of a proof: what was advised, gauge against limit, before and after.
pub fn page(proof: &Proof) -> String {
    let title = answer(proof);
    let mut page = html::head(&title);
    let _ = write!(
        page,
        "<header><h1>{}</h1><dl class=\"origin\">",
        xml(&title)
    );
    for (name, value) in [
        ("host", proof.host.to_string()),
        (
            "kernel",
            proof
                .kernel
                .as_ref()
                .map(|k| k.release.clone())
                .unwrap_or_default(),
        ),
        ("harness", proof.harness.clone()),
    ] {
        if !value.is_empty() {
            let _ = write!(page, "<dt>{name}</dt><dd>{}</dd>", xml(&value));
        }
    }
    let _ = write!(
        page,
        "</dl><p class=\"note\">{}</p></header><main>",
        xml(&proof.rule)
    );
    let whole = together(proof).map(|whole| &whole.trial);
    for (place, trial) in proof.trials.iter().chain(whole).enumerate() {
        one(&mut page, place, trial);
    }
    page.push_str("</main></body></html>\n");
    page
}

fn one(page: &mut String, place: usize, trial: &Trial) {
    let claim = &trial.claim;
    let class = match trial.verdict {
        TrialVerdict::Proven => "passed",
        TrialVerdict::NoDifference | TrialVerdict::Postponed | TrialVerdict::Harmful => "failed",
        TrialVerdict::NotReproduced | TrialVerdict::CannotBeTried => "skipped",
    };
    let _ = write!(
        page,
        "<section aria-labelledby=\"t{place}\"><h2 id=\"t{place}\"><span class=\"v {class}\">{}</span> \
         {} {}</h2><p>{}</p><div class=\"wide\"><table><thead><tr><th scope=\"col\">setting</th>\
         <th scope=\"col\">now</th><th scope=\"col\">proposed</th></tr></thead><tbody><tr><td>\
         <code>{}</code></td><td>{}</td><td>{}</td></tr></tbody></table></div>",
        trial.verdict,
        xml(&claim.code),
        xml(&claim.name),
        xml(&trial.explains),
        xml(&claim.setting),
        xml(&claim.current),
        xml(&claim.proposed)
    );
    if let (Some(before), Some(after)) = (&trial.before, &trial.after) {
        let _ = write!(
            page,
            "<div class=\"wide\"><table><caption class=\"note\">{}</caption><thead><tr>\
             <th scope=\"col\"></th><th scope=\"col\">failed in runs</th><th scope=\"col\"></th>\
             <th scope=\"col\">saw</th></tr></thead><tbody>",
            xml(&trial.failure)
        );
        for (name, side) in [("before", before), ("after", after)] {
            let _ = write!(
                page,
                "<tr><th scope=\"row\">{name}</th><td>{} of {}</td><td>{}</td><td>{}</td></tr>",
                side.failed,
                side.runs,
                bar(side),
                xml(&describe_seen(&side.seen))
            );
        }
        page.push_str("</tbody></table></div>");
    }
    compared(page, &trial.seen);
    if !trial.workload.is_empty() {
        page.push_str(
            "<div class=\"wide\"><table><caption class=\"note\">The host's numbers, and what was \
             tried</caption><thead><tr><th scope=\"col\">number</th><th scope=\"col\">host</th>\
             <th scope=\"col\">tried</th></tr></thead><tbody>",
        );
        for load in &trial.workload {
            let _ = write!(
                page,
                "<tr><td>{}</td><td>{}</td><td>{}</td></tr>",
                xml(&load.name),
                load.host,
                load.tried
            );
        }
        page.push_str("</tbody></table></div>");
    }
    for note in &trial.notes {
        let _ = write!(page, "<p class=\"note\">{}</p>", xml(note));
    }
    if let Some(reason) = &trial.reason {
        let _ = write!(page, "<p>{}</p>", xml(reason));
    }
    if let Some(chance) = trial.chance {
        let _ = write!(page, "<p class=\"note\">by chance alone: {chance:.2e}</p>");
    }
    page.push_str("</section>");
}

/// What bystanders saw, and what TCP held, in the arms of a trial.
fn compared(page: &mut String, rows: &[Compared]) {
    if rows.is_empty() {
        return;
    }
    page.push_str(
        "<div class=\"wide\"><table><thead><tr><th scope=\"col\">who or what</th>\
         <th scope=\"col\">before</th><th scope=\"col\">after</th><th scope=\"col\">where \
         nothing is amiss</th><th scope=\"col\"></th></tr></thead><tbody>",
    );
    for row in rows {
        let class = match row.verdict {
            Comparison::Better => "passed",
            Comparison::Worse => "failed",
            Comparison::Unchanged => "skipped",
        };
        let _ = write!(
            page,
            "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td>{}</td>\
             <td><span class=\"v {class}\">{}</span></td></tr>",
            xml(&row.what),
            xml(&row.before),
            xml(&row.after),
            xml(row.well.as_deref().unwrap_or("-")),
            row.verdict
        );
    }
    page.push_str("</tbody></table></div>");
}

/// How many runs of a side failed, as a bar.
fn bar(side: &Side) -> String {
    const WIDTH: usize = 160;
    let failed = side.failed * WIDTH / side.runs.max(1);
    format!(
        "<svg class=\"strip\" width=\"{WIDTH}\" height=\"12\" role=\"img\" aria-label=\"{} of {} \
         failed\"><rect class=\"g\" width=\"{WIDTH}\" height=\"12\"/><rect class=\"b\" \
         width=\"{failed}\" height=\"12\"/></svg>",
        side.failed, side.runs
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_is_a_page_in_which_nothing_is_markup() {
        let evil = "<script>alert(1)</script>";
        let side = serde_json::json!({
            "runs": 5, "failed": 5, "seen": [{ "value": evil, "runs": 5 }]
        });
        let proof = serde_json::from_value::<Proof>(serde_json::json!({
            "schema": 1, "harness": evil,
            "host": { "kernel": evil, "ram_bytes": 1, "page_bytes": 4096, "cpus": 1 },
            "kernel": null, "choice": evil, "rule": evil,
            "trials": [{
                "claim": { "code": evil, "name": evil, "setting": evil, "current": evil,
                           "proposed": evil, "scope": evil, "subject": evil, "values": {} },
                "verdict": "postponed", "reason": evil, "scenario": evil, "explains": evil,
                "link": null, "failure": evil, "before": side, "after": side, "chance": 0.01,
                "workload": [{ "name": evil, "observation": evil, "host": 2, "tried": 1 }],
                "notes": [evil],
                "seen": [{ "what": evil, "before": evil, "after": evil, "well": evil,
                           "verdict": "better" }],
            }],
        }));
        let proof = proof.unwrap();
        let text = page(&proof);
        assert!(!text.contains("<script"), "{text}");
        assert!(
            text.contains("5 of 5") && text.contains("postponed"),
            "{text}"
        );
        assert!(text.ends_with("</main></body></html>\n"));
    }
}
