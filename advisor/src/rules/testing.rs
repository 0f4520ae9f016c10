//! What the tests of the rules share: recorded hosts, and what a rule makes of one.

use std::path::Path;

use advisor_facts::counters::Counters;
use advisor_facts::namespaces::Namespace;
use advisor_facts::sockstat::Sockstat;
use advisor_facts::sysctl_files::{self, SysctlFile};
use advisor_facts::{Facts, Look, Root};
use advisor_report::measured::Measured;

use super::{Finding, Outcome, Rule};

/// A recorded host of `tests/hosts`. A test may change one, mostly `quiet`, into the host
/// that it needs.
pub(super) fn host(name: &str) -> Facts {
    let directory = crate::recorded::directory(name);
    Facts::read(&Root::Recorded(directory.path().to_owned())).unwrap()
}

/// What a rule makes of a host of whose kernel nothing was measured.
pub(super) fn outcome(rule: &Rule, facts: &Facts) -> Outcome {
    (rule.check)(facts, &Measured::default())
}

/// What a rule finds on a host where it has to find something.
#[track_caller]
pub(super) fn fired(rule: &Rule, facts: &Facts) -> Vec<Finding> {
    fired_with(rule, facts, &Measured::default())
}

/// The same where something was measured on the kernel of the host.
#[track_caller]
pub(super) fn fired_with(rule: &Rule, facts: &Facts, measured: &Measured) -> Vec<Finding> {
    match (rule.check)(facts, measured) {
        Outcome::Fired(findings) => findings,
        other => panic!("{}: {other:?}", rule.name),
    }
}

#[track_caller]
pub(super) fn assert_quiet(rule: &Rule, facts: &Facts) {
    let outcome = outcome(rule, facts);
    assert!(
        matches!(outcome, Outcome::Quiet(_)),
        "{}: {outcome:?}",
        rule.name
    );
}

#[track_caller]
pub(super) fn assert_not_evaluated(rule: &Rule, facts: &Facts, why: &str) {
    match outcome(rule, facts) {
        Outcome::NotEvaluated(reason) => assert!(reason.contains(why), "{}: {reason}", rule.name),
        other => panic!("{}: {other:?}", rule.name),
    }
}

/// The text of /proc/net/sockstat.
pub(super) fn sockstat(text: &str) -> Sockstat {
    Sockstat::parse(text, Path::new("sockstat")).unwrap()
}

/// The text of /proc/net/netstat and /proc/net/snmp.
pub(super) fn counters(text: &str) -> Counters {
    Counters::parse(text, Path::new("counters")).unwrap()
}

/// Sets a setting of a host.
#[track_caller]
pub(super) fn set(facts: &mut Facts, name: &str, value: &str) {
    assert!(facts.settings.set(name, value), "{name} = {value}");
}

/// Adds a file that sets sysctls, and reads the live values of its keys from the settings.
pub(super) fn with_file(facts: &mut Facts, path: &str, text: &str) {
    facts.sysctl_files.files.push(SysctlFile {
        path: path.into(),
        lines: sysctl_files::parse(text.as_bytes()),
        ..SysctlFile::default()
    });
    for key in facts.sysctl_files.keys() {
        let live = facts.settings.get(&key);
        facts.sysctl_files.live.insert(key, live);
    }
}

/// Adds a network namespace whose counters of TcpExt have grown from 100 by
/// these between the two looks, and which has the sockets of this one.
pub(super) fn add_namespace(facts: &mut Facts, inode: u32, grown: &[(&str, i64)]) {
    let all = |factor: i64| {
        let (names, values): (Vec<_>, Vec<_>) = grown
            .iter()
            .map(|(name, grown)| (*name, (100 + factor * grown).to_string()))
            .unzip();
        counters(&format!(
            "TcpExt: {}\nTcpExt: {}\n",
            names.join(" "),
            values.join(" ")
        ))
    };
    let namespace = |factor, look: &Look| Namespace {
        inode,
        name: Some(format!("pod-{inode}")),
        pid: None,
        kept_by: None,
        sockstat: look.sockstat.clone(),
        counters: all(factor),
        sockets: look.sockets.clone(),
        settings: facts.settings.clone(),
    };
    let now = namespace(1, &facts.now);
    let earlier = facts.earlier.as_mut().unwrap();
    let before = Namespace {
        counters: all(0),
        ..now.clone()
    };
    earlier.elsewhere.push(before);
    facts.now.elsewhere.push(now);
}
