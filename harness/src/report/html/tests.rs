use super::*;
use crate::report::tests::sample;

#[test]
fn the_page_is_one_file_that_loads_nothing() {
    let page = render(&sample());
    for loads in [
        "src=",
        "@import",
        "http://",
        "https://",
        "<link rel=\"stylesheet",
        "fetch(",
    ] {
        assert!(!page.contains(loads), "{loads}");
    }
    assert!(page.contains("default-src 'none'"));
}

/// Every element is closed in order, and every link within the page leads somewhere.
fn check(page: &str) {
    const VOID: [&str; 6] = ["meta", "link", "input", "br", "img", "!doctype"];
    let mut open: Vec<&str> = Vec::new();
    let mut ids = Vec::new();
    let mut links = Vec::new();
    let mut rest = page;
    while let Some(at) = rest.find('<') {
        rest = &rest[at + 1..];
        let end = rest.find('>').unwrap();
        let tag = &rest[..end];
        let name = tag.split([' ', '/']).find(|word| !word.is_empty()).unwrap();
        for (key, to) in [(" id=\"", &mut ids), ("href=\"#", &mut links)] {
            if let Some((_, value)) = tag.split_once(key) {
                to.push(value.split('"').next().unwrap().to_owned());
            }
        }
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "{}", &rest[..end]);
        } else if !tag.ends_with('/') && !VOID.contains(&name) {
            open.push(name);
        }
        rest = &rest[end + 1..];
        // What stands in these is no markup.
        if matches!(name, "script" | "style") && !tag.starts_with('/') {
            rest = &rest[rest.find(&format!("</{name}")).unwrap()..];
        }
    }
    assert_eq!(open, Vec::<&str>::new());
    for link in links {
        assert!(ids.contains(&link), "#{link}");
    }
    let mut sorted = ids.clone();
    sorted.sort();
    sorted.dedup();
    // The heads of arrows are there once, as all other ids.
    assert_eq!(sorted.len(), ids.len());
}

#[test]
fn the_page_is_well_formed() {
    check(&render(&sample()));
    let mut empty = sample();
    empty.scenarios.clear();
    check(&render(&empty));
}

#[test]
fn the_first_screen_says_what_failed_and_why() {
    let page = render(&sample());
    let first = page.split("<h2 id=\"all\">").next().unwrap();
    for says in [
        "2 of 4 scenarios failed or errored on Linux 6.12.1",
        "harness run suites --report out",
        "web1",
        "2026-11-30 11:38:28 UTC",
        "1 min 1 s",
        "64ea03d86b0a modified",
        "got 1000000 bytes in 2 of 3 runs",
        "The greeting is &lt;unread&gt;.",
        "it sets tcp_max_orphans",
    ] {
        assert!(first.contains(says), "{says}");
    }
}

#[test]
fn nothing_from_elsewhere_is_markup() {
    let evil = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\u{1b}[31m\u{0}'\"";
    let mut report = sample();
    let long = "y".repeat(10 << 20);
    for scenario in &mut report.scenarios {
        for text in [
            &mut scenario.id,
            &mut scenario.explains,
            &mut scenario.source,
            &mut scenario.story,
            &mut scenario.kernel.release,
        ] {
            text.push_str(evil);
        }
        for text in [
            &mut scenario.reason,
            &mut scenario.hint,
            &mut scenario.see_also,
        ] {
            *text = Some(evil.to_owned());
        }
        scenario.console = vec![evil.to_owned(), long.clone()];
        scenario.discarded_runs = vec![evil.to_owned()];
        for expectation in &mut scenario.expectations {
            expectation.observation.push_str(evil);
            expectation.condition.push_str(evil);
            expectation.plain = Some(evil.to_owned());
            expectation.because = Some(evil.to_owned());
            expectation.seen[0].value = long.clone();
        }
    }
    report.origin.command.push(evil.to_owned());
    report.origin.host = evil.to_owned();
    report.harness = evil.to_owned();
    let page = render(&report);
    assert_eq!(page.matches("<script").count(), 1);
    assert!(!page.contains("<img") && !page.contains(['\u{1b}', '\0']));
    assert!(page.len() < 400_000, "{}", page.len());
    check(&page);
}

#[test]
fn a_matrix_is_a_truth_table() {
    let mut report = sample();
    let template = report.scenarios[0].clone();
    report.scenarios = ["a=1,b=x", "a=2,b=x", "a=3,b=x", "a=1,b=y"]
        .map(|cell| ScenarioResult {
            id: format!("close/table/endings[{cell}]"),
            ..template.clone()
        })
        .into();
    report.scenarios[3].verdict = Verdict::Failed;
    let page = render(&report);
    check(&page);
    let (_, table) = page.split_once("id=\"truth\"").unwrap();
    assert!(table.contains("4 cells"), "{table}");
    assert!(table.contains("<td class=\"cell failed\"><a href=\"#s3\">failed</a>"));
    // Cells that were not run are no verdict.
    assert_eq!(table.matches("<td class=\"cell\">-</td>").count(), 2);
}
