//! The table of settings, held against what five kernels did (`ci/settings`).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use advisor_facts::release::Release;
use advisor_facts::sysctl::table::{self, Default, Form, Relation, Scope, Setting, Width};
use advisor_facts::sysctl::write::Value;
use serde::Deserialize;

/// What was seen of a kernel.
#[derive(Debug, Deserialize)]
struct Capture {
    kernel: String,
    /// Whether it was in a guest of its own, as it boots.
    guest: bool,
    texts: Vec<String>,
    settings: BTreeMap<String, Seen>,
    answers: Vec<Answers>,
}

/// What was seen of a setting.
#[derive(Debug, Deserialize)]
struct Seen {
    /// What it was at boot; `None` where it can't be read.
    boot: Option<String>,
    /// Whether another namespace has it.
    elsewhere: String,
}

/// What the kernel answered to each text, of settings with the same answers.
#[derive(Debug, Deserialize)]
struct Answers {
    settings: Vec<String>,
    answers: Vec<String>,
}

fn captures() -> Vec<Capture> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/settings");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    let captures: Vec<Capture> = paths
        .iter()
        .map(|path| serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap())
        .collect();
    assert!(captures.len() >= 5, "{paths:?}");
    captures
}

/// Everything that is not as the table says, a line each.
fn differences(judge: impl Fn(&Capture, Release, &mut String)) -> String {
    let mut text = String::new();
    for capture in captures() {
        let release = Release::of_kernel(&capture.kernel).unwrap();
        let mut of_this = String::new();
        judge(&capture, release, &mut of_this);
        for line in of_this.lines() {
            let _ = writeln!(text, "{}: {line}", capture.kernel);
        }
    }
    text
}

/// Settings of which a kernel's configuration decides whether it has them.
fn is_optional(setting: &Setting) -> bool {
    let name = setting.name;
    name.starts_with("net.netfilter.")
        || name.starts_with("net.mptcp.")
        || name.starts_with("net.ipv4.cipso_")
        || name == "net.nf_conntrack_max"
}

#[test]
fn each_kernel_has_the_settings_that_the_table_gives_it() {
    let differences = differences(|capture, release, text| {
        for setting in table::settings() {
            let (name, is_there) = (setting.name, capture.settings.contains_key(setting.name));
            let may_differ = is_optional(setting) && !is_there;
            if setting.exists(release) != is_there && !may_differ {
                let _ = writeln!(text, "{name}: there is one: {is_there}");
            }
        }
        for name in capture.settings.keys() {
            if table::find(name).is_none() {
                let _ = writeln!(text, "{name}: not in the table");
            }
        }
    });
    assert!(differences.is_empty(), "\n{differences}");
}

#[test]
fn each_is_whose_the_table_says() {
    let differences = differences(|capture, release, text| {
        for (setting, seen) in known(capture) {
            let writable = setting.form(Some(release)) != Form::ReadOnly;
            let expected = match setting.scope(Some(release)) {
                Scope::Kernel => "absent",
                Scope::KernelReadable(_) if writable => "read-only",
                Scope::Namespace(_) if writable => "own",
                _ => "read-only everywhere",
            };
            if seen.elsewhere != expected {
                let _ = writeln!(
                    text,
                    "{}: {} and not {expected}",
                    setting.name, seen.elsewhere
                );
            }
        }
    });
    assert!(differences.is_empty(), "\n{differences}");
}

#[test]
fn each_is_at_boot_what_the_table_says() {
    let differences = differences(|capture, release, text| {
        for (setting, seen) in known(capture) {
            // A host's own may have been set since.
            if !capture.guest && seen.elsewhere != "own" {
                continue;
            }
            if let (Default::Value(expected), Some(boot)) =
                (setting.default(Some(release)), &seen.boot)
                && boot != expected
            {
                let _ = writeln!(text, "{}: {boot} and not {expected}", setting.name);
            }
        }
    });
    assert!(differences.is_empty(), "\n{differences}");
}

#[test]
fn the_kernel_answers_each_text_as_the_table_says() {
    let mut tried = 0;
    let differences = differences(|capture, release, text| {
        for answers in &capture.answers {
            for name in &answers.settings {
                let Some(setting) = table::find(name) else {
                    continue;
                };
                for (written, answer) in capture.texts.iter().zip(&answers.answers) {
                    let boot = capture.settings[name].boot.as_deref().unwrap_or_default();
                    if let Some(expected) = expected(setting, written, boot, release)
                        && !is_same(&expected, answer, setting.form(Some(release)))
                    {
                        let _ = writeln!(text, "{name} = {written:?}: {answer} and not {expected}");
                    }
                }
            }
        }
    });
    for capture in captures() {
        tried += capture
            .answers
            .iter()
            .map(|answers| answers.settings.len())
            .sum::<usize>();
    }
    assert!(tried > 600, "{tried}");
    assert!(differences.is_empty(), "\n{differences}");
}

/// What the program of `ci/settings` would print: `=VALUE`, the error, or both.
/// `None` where the table doesn't tell: which words the kernel knows.
fn expected(setting: &Setting, text: &str, boot: &str, release: Release) -> Option<String> {
    let written = setting.write(text, Some(release));
    let form = setting.form(Some(release));
    if form == Form::Word && written.refused.is_some() {
        return Some("ENOENT".to_owned());
    }
    let after = match (&written.value, form) {
        (Value::Text(text), Form::Ports) => text.clone(),
        (Value::Text(_), _) => return None,
        (Value::Numbers(_), _) => written
            .result(Some(boot), setting.count(Some(release)))
            .unwrap_or_default(),
    };
    Some(match written.refused {
        None => format!("={after}"),
        Some(_) if after == boot => "EINVAL".to_owned(),
        Some(_) => format!("EINVAL={after}"),
    })
}

/// What is kept in ticks comes back rounded, and its bounds depend on CONFIG_HZ.
fn is_same(expected: &str, answer: &str, form: Form) -> bool {
    if expected == answer {
        return true;
    }
    match form {
        Form::Numbers(numbers) if numbers.width == Width::Milliseconds => {
            let number = expected
                .strip_prefix('=')
                .and_then(|number| number.parse().ok());
            number.is_some_and(|number: i128| {
                !(0..=i128::from(i32::MAX)).contains(&number) || answer.starts_with('=')
            })
        }
        // The kernel may refuse more, or round.
        Form::Numbers(numbers) if numbers.relation == Relation::Other => expected.starts_with('='),
        _ => false,
    }
}

fn known(capture: &Capture) -> impl Iterator<Item = (&'static Setting, &Seen)> {
    capture
        .settings
        .iter()
        .filter_map(|(name, seen)| Some((table::find(name)?, seen)))
}
