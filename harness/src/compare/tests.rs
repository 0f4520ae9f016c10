use advisor_report::{Clock, Kernel, Link, Run};

use super::*;

/// A result whose runs saw these values of one observation.
fn result(id: &str, name: &str, values: &[Value]) -> ScenarioResult {
    let run = |value: &Value| Run {
        observations: [(name.to_owned(), value.clone())].into(),
        duration_ms: 1,
        number: 0,
        seed_honoured: true,
        sockets: Vec::new(),
        error: None,
        failed_steps: BTreeMap::new(),
        events: Vec::new(),
    };
    ScenarioResult {
        id: id.to_owned(),
        explains: String::new(),
        source: String::new(),
        see_also: None,
        kernel: Kernel {
            release: "6.12.1".to_owned(),
            machine: Machine::QemuTcg,
            clock: Clock::Virtual,
        },
        link: Link::None,
        verdict: Verdict::Passed,
        reason: None,
        hint: None,
        console: Vec::new(),
        runs: values.iter().map(run).collect(),
        identical_runs: 0,
        repeatable: None,
        discarded_runs: Vec::new(),
        runs_without_given: 0,
        expectations: Vec::new(),
        place: None,
        story: String::new(),
        started_ms: 0,
        traces: vec![],
        known_failure: None,
    }
}

fn integers(numbers: impl IntoIterator<Item = i64>) -> Vec<Value> {
    numbers.into_iter().map(Value::Integer).collect()
}

fn texts(texts: &[&str]) -> Vec<Value> {
    texts.iter().map(|text| Value::from(*text)).collect()
}

fn compared(name: &str, one: &[Value], other: &[Value]) -> Comparison {
    let side = |values| Side {
        name: "side".to_owned(),
        results: vec![result("t/f/s", name, values)],
    };
    Comparison::of(&side(one), &side(other))
}

#[test]
fn a_constant_that_is_another_is_a_difference_from_five_runs_on() {
    let ones = |runs| integers(std::iter::repeat_n(1, runs));
    let twos = |runs| integers(std::iter::repeat_n(2, runs));
    let seen = compared("client.TcpExt.X", &ones(5), &twos(5));
    assert_eq!(
        seen.scenarios[0].observations[0].by,
        Judgement::Constant([5, 5])
    );
    assert!(
        seen.text().contains("client.TcpExt.X 1 -> 2"),
        "{}",
        seen.text()
    );
    for (one, other) in [(4, 5), (5, 4)] {
        let seen = compared("client.TcpExt.X", &ones(one), &twos(other));
        assert!(seen.is_same() && seen.few_runs == 1);
    }
    assert!(compared("client.TcpExt.X", &ones(9), &ones(5)).is_same());
    // Durations tell of the machine.
    assert!(compared("client.close.ms", &ones(5), &twos(5)).is_same());
}

#[test]
fn a_counter_that_is_not_listed_is_zero() {
    let one = Side {
        name: "one".to_owned(),
        results: vec![result("t/f/s", "other", &integers([1; 5]))],
    };
    let other = Side {
        name: "other".to_owned(),
        results: vec![result("t/f/s", "client.Tcp.X", &integers([0; 5]))],
    };
    let seen = Comparison::of(&one, &other);
    let names: Vec<&str> = seen.scenarios[0]
        .observations
        .iter()
        .map(|of| of.observation.as_str())
        .collect();
    assert_eq!(names, ["other"]);
}

#[test]
fn what_varies_differs_only_beyond_chance() {
    // Interleaved, and shifted by less than it varies.
    assert!(compared("a.bytes", &integers(0..40), &integers(1..41)).is_same());
    let seen = compared("a.bytes", &integers(0..40), &integers(40..80));
    assert!(matches!(seen.scenarios[0].observations[0].by, Judgement::MannWhitneyU(p) if p < 1e-9));
    // Five values that lie apart can do so by chance: once in 126.
    assert!(compared("a.bytes", &integers(0..5), &integers(5..10)).is_same());
    let often = [["reset"; 19].as_slice(), &["none"]].concat();
    let rarely = [["reset"; 2].as_slice(), &["none"; 18]].concat();
    let seen = compared("a.error", &texts(&often), &texts(&rarely));
    assert!(matches!(
        seen.scenarios[0].observations[0].by,
        Judgement::FishersExact(_)
    ));
    assert!(compared("a.error", &texts(&often), &texts(&often)).is_same());
}

/// Two sides of one distribution, with hundreds of observations: what chance makes of
/// them is not reported.
#[test]
fn many_observations_of_one_distribution_do_not_differ() {
    // A linear congruential generator: the same numbers each time.
    let mut state = 1_u64;
    let mut draw = |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        i64::try_from((state >> 33) % below).unwrap()
    };
    let mut side = || {
        let names = (0..400).map(|n| format!("client.TcpExt.X{n}"));
        let results = names.map(|name| {
            let values = integers((0..20).map(|_| draw(7)));
            result(&name, &name, &values)
        });
        Side {
            name: "side".to_owned(),
            results: results.collect(),
        }
    };
    let seen = Comparison::of(&side(), &side());
    assert_eq!((seen.tested, seen.compared), (400, 400));
    assert!(seen.is_same(), "{}", seen.text());
}

#[test]
fn verdicts_and_missing_scenarios_are_told() {
    let mut failed = result("t/f/s", "a.b", &integers([1; 5]));
    failed.verdict = Verdict::Failed;
    let one = Side {
        name: "one".to_owned(),
        results: vec![
            result("t/f/s", "a.b", &integers([1; 5])),
            result("t/f/gone", "a.b", &integers([1; 5])),
        ],
    };
    let other = Side {
        name: "<b>other".to_owned(),
        results: vec![failed],
    };
    let seen = Comparison::of(&one, &other);
    insta::assert_snapshot!(format!("{}\n{}", seen.text(), seen.markdown()));
}

#[test]
fn a_page_has_a_run_of_each_side_and_no_markup_of_a_suite() {
    use crate::report::picture::tests::sample_trace;
    let with_trace = |value: i64| {
        let mut result = result("t/f/<b>s", "a.b", &integers([value; 5]));
        result.traces = vec![sample_trace()];
        result.traces[0].run = value.unsigned_abs();
        result
    };
    let side = |name: &str, value| Side {
        name: name.to_owned(),
        results: vec![with_trace(value)],
    };
    let seen = Comparison::of(&side("old", 1), &side("<i>new", 2));
    let page = seen.html();
    assert_eq!(page.matches("<svg class=\"seq\" role=\"img\"").count(), 2);
    let place = |text: &str| {
        page.find(text)
            .unwrap_or_else(|| panic!("{text} in {page}"))
    };
    assert!(place("old, run 1") < place("&lt;i&gt;new, run 2"));
    assert!(place("t/f/&lt;b&gt;s") < place("old, run 1"));
    assert!(!page.contains("<b>") && !page.contains("<i>"), "{page}");
    let markdown = seen.markdown();
    assert_eq!(markdown.matches("<details>").count(), 2, "{markdown}");
    // Without traces the table is all.
    let bare = |value| Side {
        name: "side".to_owned(),
        results: vec![result("t/f/s", "a.b", &integers([value; 5]))],
    };
    let page = Comparison::of(&bare(1), &bare(2)).html();
    assert!(
        !page.contains("<figure>") && page.contains("<code>a.b</code>"),
        "{page}"
    );
}
