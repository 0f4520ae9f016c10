//! A comparison as a page, which looks as a report does: what differs, and a run of each
//! side beside each other.

use std::fmt::Write as _;

use advisor_report::escape::xml;

use super::{Comparison, ScenarioDifference};
use crate::report::{html, picture};

impl Comparison {
    /// The page.
    pub fn html(&self) -> String {
        let title = self.headline();
        let mut page = html::head(&title);
        let _ = write!(page, "<header><h1>{}</h1></header><main>", xml(&title));
        for (place, scenario) in self.scenarios.iter().enumerate() {
            self.one(&mut page, place, scenario);
        }
        page.push_str("<section aria-labelledby=\"how\"><h2 id=\"how\">How</h2><ul>");
        for note in self.notes() {
            let _ = write!(page, "<li>{}</li>", xml(&note));
        }
        page.push_str("</ul></section></main></body></html>\n");
        page
    }

    fn one(&self, page: &mut String, place: usize, scenario: &ScenarioDifference) {
        let [first, second] = self.sides.each_ref().map(|side| xml(side));
        let _ = write!(
            page,
            "<section aria-labelledby=\"s{place}\"><h2 id=\"s{place}\">{}</h2><div class=\"wide\">\
             <table><thead><tr><th scope=\"col\">what</th><th scope=\"col\">{first}</th>\
             <th scope=\"col\">{second}</th><th scope=\"col\">by</th></tr></thead><tbody>",
            xml(&scenario.id)
        );
        if let Some([one, other]) = scenario.verdicts {
            let _ = write!(
                page,
                "<tr><th scope=\"row\">verdict</th><td><span class=\"v {one}\">{one}</span></td>\
                 <td><span class=\"v {other}\">{other}</span></td><td></td></tr>"
            );
        }
        for difference in &scenario.observations {
            let [one, other] = difference.seen.each_ref();
            let _ = write!(
                page,
                "<tr><th scope=\"row\"><code>{}</code></th><td>{}</td><td>{}</td><td>{}</td></tr>",
                xml(&difference.observation),
                xml(&one.to_string()),
                xml(&other.to_string()),
                xml(&difference.by.to_string())
            );
        }
        page.push_str("</tbody></table></div>");
        if scenario.traces.iter().all(Option::is_none) {
            page.push_str("</section>");
            return;
        }
        page.push_str("<div class=\"pictures\">");
        for (side, trace) in [first, second].iter().zip(&scenario.traces) {
            let Some(trace) = trace else {
                continue;
            };
            let _ = write!(
                page,
                "<figure><figcaption>{side}, run {run}</figcaption><div class=\"wide\" \
                 tabindex=\"0\" role=\"group\" aria-label=\"sequence on {side}\">{}</div></figure>",
                picture::svg(trace),
                run = trace.run
            );
        }
        page.push_str("</div></section>");
    }
}
