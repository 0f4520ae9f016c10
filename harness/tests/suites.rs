//! Every suite of ours is read and checked without privileges, and what points
//! to a scenario points to one that is there.

use std::path::Path;

use harness::lab::Carrier;
use harness::suite;
use harness::suite::scenario::Scenario;

fn suites() -> Vec<Scenario> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../suites");
    suite::load(&[path]).unwrap_or_else(|errors| panic!("{errors:#?}"))
}

#[test]
fn the_worked_example_is_a_suite() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/worked-example");
    let scenarios = suite::load(&[path]).unwrap_or_else(|errors| panic!("{errors:#?}"));
    assert!(scenarios.iter().all(Scenario::touches_host));
}

#[test]
fn every_suite_is_sound() {
    for scenario in suites() {
        assert!(
            scenario.explains.ends_with(['.', '"']),
            "{}: {}",
            scenario.id,
            scenario.explains
        );
        assert!(scenario.source.len() > 8, "{}", scenario.id);
        assert!(!scenario.expectations.is_empty(), "{}", scenario.id);
        // What carries the link is known before anything is started.
        let link = scenario.link(Carrier::Relay);
        assert_eq!(link == advisor_report::Link::None, !scenario.is_impaired());
    }
}

#[test]
fn the_four_documented_failures_are_there() {
    let ids: Vec<String> = suites().into_iter().map(|scenario| scenario.id).collect();
    for id in [
        "close/unread-data/plain-close",
        "close/unread-data/shutdown-then-read-to-eof",
        "orphans/flood/over-the-limit",
        "crash/killed-server/idle",
        "crash/killed-server/unread",
        "crash/killed-server/unsent",
        "bind/time-wait/neither",
        "bind/time-wait/new-only",
        "bind/time-wait/both",
        "bind/time-wait/fin-timeout",
    ] {
        assert!(ids.iter().any(|known| known == id), "{id}");
    }
}

#[test]
fn references_lead_to_scenarios() {
    let scenarios = suites();
    // A scenario, a cell of a matrix, or the matrix.
    let known = |id: &str| {
        let mut ids = scenarios.iter().map(|scenario| scenario.id.as_str());
        ids.any(|known| known == id || known.split('[').next() == Some(id))
    };
    for scenario in &scenarios {
        if let Some(id) = &scenario.see_also {
            assert!(known(id), "{}: see-also {id}", scenario.id);
        }
    }
    for rule in advisor::rules::RULES {
        for id in rule.scenario.iter().chain(rule.cure.iter()) {
            assert!(known(id), "rule {}: {id}", rule.code);
        }
    }
}

#[test]
fn every_step_is_used_by_a_suite_or_tested() {
    use harness::step::{ActorStep, Kind, LabStep, flatten};
    let scenarios = suites();
    let of_actors = scenarios
        .iter()
        .flat_map(|scenario| &scenario.actors)
        .flat_map(|actor| &actor.tasks)
        .flat_map(|task| flatten(&task.steps))
        .map(|step| step.kind.name());
    let of_lab = scenarios.iter().flat_map(|scenario| &scenario.lab);
    let used: Vec<&str> = of_actors
        .chain(of_lab.map(|step| step.kind.name()))
        .collect();
    // The live tests alone run the first two; `harness reproduce` writes the others, which
    // tests/reproduce.rs and the tests of guests try.
    let elsewhere = [
        "link-up",
        "sysctl",
        "peers",
        "dial",
        "peer",
        "tally",
        "kernel-sysctl",
        "capture",
    ];
    let known = ActorStep::documentation().into_iter();
    for step in known.chain(LabStep::documentation()) {
        let name = step.name;
        let file = format!("src/step/{}.rs", name.replace('-', "_"));
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file));
        assert!(
            used.contains(&name) || text.unwrap().contains("#[test]") || elsewhere.contains(&name),
            "no suite uses {name}, and it has no test of its own"
        );
    }
}

/// docs/sources.md says which scenario tries each statement.
#[test]
fn the_pages_of_sources_name_scenarios_that_are_there() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let page = |name| std::fs::read_to_string(docs.join(name)).unwrap();
    let page = page("sources.md") + &page("reports.md") + &page("coverage.md");
    let scenarios = suites();
    // A scenario or a matrix, without its cells.
    let known = |id: &str| {
        let mut ids = scenarios.iter().map(|scenario| scenario.id.as_str());
        ids.any(|known| known.split('[').next() == Some(id))
    };
    let topics = [
        "close/",
        "bind/",
        "crash/",
        "orphans/",
        "memory/",
        "limits/",
        "listen/",
        "reports/",
        "conntrack/",
        "throughput/",
    ];
    let named: Vec<&str> = page
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|name| topics.iter().any(|topic| name.starts_with(topic)))
        // A directory of packetdrill's has the name of a topic.
        .filter(|name| !name.starts_with("close/close-"))
        .collect();
    assert!(named.len() > 50, "{}", named.len());
    for id in &named {
        assert!(known(id), "{id}");
    }
}
