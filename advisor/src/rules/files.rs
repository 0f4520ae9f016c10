//! Files that set sysctls, judged without the live state of a host.

use std::collections::BTreeMap;
use std::path::Path;

use advisor_facts::release::Release;
use advisor_facts::sysctl_files::{Assignment, Content, Loader, SysctlFiles};
use advisor_facts::{Facts, Settings};
use advisor_report::measured::Measured;

use super::{Finding, Outcome, RULES, Rule, Scope, setting_unknown_here};

/// A line whose value a rule calls wrong.
pub(crate) struct WrongValue<'a> {
    pub line: Assignment<'a>,
    pub rule: &'static Rule,
    pub finding: Finding,
}

/// The values that the rules about settings call wrong: in each file for
/// itself, and in what all together come to.
pub(crate) fn wrong_values<'a>(files: &'a SysctlFiles, base: &Facts) -> Vec<WrongValue<'a>> {
    type Set<'a> = BTreeMap<&'a str, Assignment<'a>>;
    let mut wrong: Vec<WrongValue<'a>> = Vec::new();
    let lines = files.spelled_out();
    let mut last_of_each: BTreeMap<&Path, Set<'a>> = BTreeMap::new();
    for line in &lines {
        let of_file = last_of_each.entry(line.path).or_default();
        of_file.insert(line.key, *line);
    }
    let of_all = |loader| -> Set<'a> {
        let names = Settings::NAMES.iter();
        names
            .filter_map(|name| Some((*name, files.winner(loader, name)?.of(name))))
            .collect()
    };
    // One that loses in its own file is judged alone: who takes the winner out
    // has it.
    let losers = lines
        .iter()
        .filter(|line| last_of_each[line.path][line.key].line != line.line)
        .map(|line| BTreeMap::from([(line.key, *line)]));
    let sets = losers
        .chain(last_of_each.values().cloned())
        .chain([of_all(Loader::SystemdSysctl), of_all(Loader::Procps)]);
    for set in sets {
        for (rule, finding) in judge(&set, base) {
            let Some(line) = set.get(finding.setting.as_str()) else {
                continue;
            };
            let known = |known: &WrongValue<'_>| {
                known.rule.code == rule.code
                    && (known.line.path, known.line.line, known.line.key)
                        == (line.path, line.line, line.key)
            };
            if !wrong.iter().any(known) {
                wrong.push(WrongValue {
                    line: *line,
                    rule,
                    finding,
                });
            }
        }
    }
    wrong
}

/// What the rules find in a set of assignments alone, with every other setting as it
/// is at boot.
fn judge(set: &BTreeMap<&str, Assignment<'_>>, base: &Facts) -> Vec<(&'static Rule, Finding)> {
    let release = Release::of_kernel(&base.kernel);
    let mut facts = Facts::without_host(&base.kernel, base.ram_bytes, base.page_bytes);
    facts.memory = base.memory.clone();
    // What no file of settings sets, but the kernel's size does.
    facts.settings.tcp_ehash_entries = base.settings.tcp_ehash_entries;
    let mut any = false;
    for (key, line) in set {
        if setting_unknown_here::unknown(key, &base.kernel).is_none()
            && facts.settings.write(key, line.value, release)
        {
            any = true;
            // So that a rule sees that a file says so.
            facts.sysctl_files.set(key, line.value);
        }
    }
    if !any {
        return Vec::new();
    }
    facts.settings.fill_with_defaults(release);
    // What is a rule's about files would only find itself.
    facts.sysctl_files.live.clear();
    RULES
        .iter()
        .filter(|rule| rule.scope != Scope::Files)
        .filter_map(|rule| match (rule.check)(&facts, &Measured::default()) {
            Outcome::Fired(findings) => Some((rule, findings)),
            _ => None,
        })
        .flat_map(|(rule, findings)| findings.into_iter().map(move |finding| (rule, finding)))
        .collect()
}

/// The lines that no program understands: file, line, what is wrong.
pub(crate) fn not_understood(files: &SysctlFiles) -> impl Iterator<Item = (&Path, usize, String)> {
    files.distinct().flat_map(|file| {
        file.lines.iter().filter_map(|line| match &line.content {
            Content::Malformed { message } => {
                Some((file.path.as_path(), line.number, message.clone()))
            }
            Content::Assignment { .. } | Content::Exclusion { .. } => None,
        })
    })
}
