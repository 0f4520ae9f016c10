//! What the tests of the rules share: recorded hosts, and what a rule makes of one.

use std::path::Path;

use super::{Finding, Outcome, Rule};
use crate::facts::counters::Counters;
use crate::facts::namespaces::Namespace;
use crate::facts::{Facts, Look, Root};

/// A recorded host of `tests/hosts`. A test states its own host by changing one,
/// mostly `quiet`.
pub(super) fn host(name: &str) -> Facts {
    let directory = crate::recorded::directory(name);
    Facts::read(&Root::Recorded(directory.path().to_owned())).unwrap()
}

/// What a rule finds on a host where it has to find something.
#[track_caller]
pub(super) fn fired(rule: &Rule, facts: &Facts) -> Vec<Finding> {
    match (rule.check)(facts) {
        Outcome::Fired(findings) => findings,
        other => panic!("{}: {other:?}", rule.name),
    }
}

#[track_caller]
pub(super) fn assert_quiet(rule: &Rule, facts: &Facts) {
    let outcome = (rule.check)(facts);
    assert!(
        matches!(outcome, Outcome::Quiet(_)),
        "{}: {outcome:?}",
        rule.name
    );
}

#[track_caller]
pub(super) fn assert_not_evaluated(rule: &Rule, facts: &Facts, why: &str) {
    match (rule.check)(facts) {
        Outcome::NotEvaluated(reason) => assert!(reason.contains(why), "{}: {reason}", rule.name),
        other => panic!("{}: {other:?}", rule.name),
    }
}

/// Adds a network namespace whose counters of TcpExt have grown from 100 by
/// these between the two looks, and which has the sockets of this one.
pub(super) fn add_namespace(facts: &mut Facts, inode: u32, grown: &[(&str, i64)]) {
    let counters = |factor: i64| {
        let (names, values): (Vec<_>, Vec<_>) = grown
            .iter()
            .map(|(name, grown)| (*name, (100 + factor * grown).to_string()))
            .unzip();
        let text = format!(
            "TcpExt: {}\nTcpExt: {}\n",
            names.join(" "),
            values.join(" ")
        );
        Counters::parse(&text, Path::new("counters")).unwrap()
    };
    let namespace = |factor, look: &Look| Namespace {
        inode,
        name: Some(format!("pod-{inode}")),
        pid: None,
        kept_by: None,
        sockstat: look.sockstat.clone(),
        counters: counters(factor),
        sockets: look.sockets.clone(),
        settings: facts.settings.clone(),
    };
    let now = namespace(1, &facts.now);
    let earlier = facts.earlier.as_mut().unwrap();
    let before = Namespace {
        counters: counters(0),
        ..now.clone()
    };
    earlier.elsewhere.push(before);
    facts.now.elsewhere.push(now);
}
