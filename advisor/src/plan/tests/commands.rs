//! Every command that an answer prints can be run: it parses, and names what there is.

use std::sync::LazyLock;

use advisor_facts::Facts;
use clap::CommandFactory as _;

use super::*;
use crate::cli::Cli;
use crate::rules::{hosts_that_fire, moved_to_namespace};

/// What is wrong with a command, from its first word on; `None` if nothing is.
fn amiss(facts: &Facts, command: &str) -> Option<String> {
    let words = shell_words(command);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["nsenter", "-t", pid, "-n", ..] => {
            if *pid != "PID" && pid.parse::<u32>().is_err() {
                return Some(format!("{pid} is no process"));
            }
            let inner = command.splitn(5, ' ').nth(4)?;
            amiss(facts, inner)
        }
        ["ip", "netns", "exec", _, ..] => amiss(facts, command.splitn(5, ' ').nth(4)?),
        ["lsns", "-t", "net", ..] | ["sysctl", "--system", ..] => None,
        ["sysctl", "-w", assignment, ..] => {
            let (name, value) = assignment.split_once('=')?;
            // The table is of the network; this one is an unsigned long (fs/file_table.c).
            if name == "fs.file-max" {
                return value
                    .parse::<u64>()
                    .is_err()
                    .then(|| assignment.to_string());
            }
            let Some(setting) = table::find(name) else {
                return Some(format!("{name}: no setting"));
            };
            let release = Release::of_kernel(&facts.kernel);
            if release.is_some_and(|release| !setting.exists(release)) {
                return Some(format!("{name}: not in {}", facts.kernel));
            }
            let others = |name: &str| facts.settings.get(name);
            // What a setting is, it was made to be: hosts that are made up have values
            // that this kernel would have refused.
            let elsewhere = facts.now.elsewhere.iter().map(|other| &other.settings);
            if std::iter::once(&facts.settings)
                .chain(elsewhere)
                .any(|settings| settings.get(name).as_deref() == Some(value))
            {
                return None;
            }
            setting
                .write_beside(value, release, &others)
                .refused
                .map(|why| format!("{assignment}: {why}"))
        }
        ["sysctl", name, ..] => table::find(name)
            .is_none()
            .then(|| format!("{name}: no setting")),
        ["nstat", "-az", names @ ..] => names
            .iter()
            .take_while(|name| name.starts_with("Tcp") || name.starts_with("Ip"))
            .map(|name| name.trim_end_matches([',', ')']))
            .find(|name| {
                // Linux 4.12 took it away together with tcp_tw_recycle.
                let is_old = *name == "TcpExtPAWSPassive" && !facts.kernel_is_at_least(4, 12);
                !is_old && !COUNTERS.contains(*name)
            })
            .map(|name| format!("{name}: no counter")),
        ["ss", options, rest @ ..] => {
            if !options.starts_with('-')
                || !options[1..].chars().all(|one| "talnompieK".contains(one))
            {
                return Some(format!("ss {options}"));
            }
            let states = rest.windows(2).filter(|pair| pair[0] == "state");
            states
                .map(|pair| pair[1])
                .find(|state| {
                    ![
                        "syn-sent",
                        "close-wait",
                        "fin-wait-1",
                        "fin-wait-2",
                        "last-ack",
                        "closing",
                    ]
                    .contains(state)
                })
                .map(|state| format!("{state}: no state"))
        }
        ["advisor", words @ ..] => {
            let words = words.iter().take_while(|word| !is_prose(word));
            let words = std::iter::once(&"advisor").chain(words);
            Cli::command()
                .try_get_matches_from(words)
                .err()
                .map(|error| format!("{error}"))
        }
        _ => Some("no known command".to_owned()),
    }
}

/// Whether a word can't be of a command of the advisor: the text goes on.
fn is_prose(word: &str) -> bool {
    ["shows", "says", "no", ">"].contains(&word)
}

/// Programs that the answers name.
const PROGRAMS: [&str; 6] = ["nsenter", "sysctl", "nstat", "ss", "lsns", "advisor"];

/// Files of the kernel, below /proc, that the answers name.
const NET_FILES: [&str; 5] = [
    "net/netstat",
    "net/snmp",
    "net/sockstat",
    "net/softnet_stat",
    "net/stat/nf_conntrack",
];

/// The counters that kernels have, as nstat names them.
static COUNTERS: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
    let quiet = crate::rules::recorded_host("quiet");
    let hosts = std::iter::once(quiet).chain(hosts_that_fire());
    let names = hosts.flat_map(|host| {
        let names = host.now.counters.names();
        names.map(|name| name.replace('.', "")).collect::<Vec<_>>()
    });
    names.collect()
});

/// The words of a shell's command up to its end.
fn shell_words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for character in text.chars() {
        match character {
            '\'' => quoted = !quoted,
            _ if quoted => words.last_mut().unwrap().push(character),
            ' ' => words.push(String::new()),
            ';' | '`' | ')' | ':' | ',' => break,
            other => words.last_mut().unwrap().push(other),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// The commands in a text: what begins with a program's name and an argument, at the
/// beginning or behind a mark.
fn commands(text: &str) -> impl Iterator<Item = &str> {
    PROGRAMS.iter().flat_map(move |program| {
        text.match_indices(program).filter_map(move |(at, _)| {
            let (before, rest) = text.split_at(at);
            let begins = before.is_empty()
                || ["; ", ": ", "`", "(", "then ", "first ", "or "]
                    .iter()
                    .any(|mark| before.ends_with(mark));
            let argument = rest.strip_prefix(program)?.strip_prefix(' ')?;
            let is_command = begins
                && (argument.starts_with('-')
                    || argument.starts_with("net.")
                    || *program == "advisor");
            is_command.then_some(rest)
        })
    })
}

/// Holds that every command and file that the answer names is there; gives how many
/// commands it names.
pub(super) fn all_can_be_run(facts: &Facts, advice: &Advice) -> Result<usize, TestCaseError> {
    let mut count = 0;
    for step in &advice.recommendations {
        let finding = &step.finding;
        for text in [
            &finding.why,
            &finding.current,
            &finding.risk,
            &finding.apply,
            &finding.undo,
            &finding.verify,
        ] {
            for command in commands(text) {
                count += 1;
                let amiss = amiss(facts, command);
                prop_assert_eq!(amiss, None, "{}: {:?} of {:?}", step.code, command, text);
            }
            // Files that are named are the kernel's, or those of settings.
            for path in text.split([' ', '`', '(', ')', ',', ';', ':']) {
                if let Some(name) = path.strip_prefix("/proc/sys/") {
                    prop_assert!(table::find(&name.replace('/', ".")).is_some(), "{}", path);
                } else if let Some(file) = path.strip_prefix("/proc/") {
                    let of_process = file.split_once('/').is_some_and(|(pid, file)| {
                        pid.parse::<u32>().is_ok() && matches!(file, "fd" | "limits")
                    });
                    prop_assert!(
                        of_process || NET_FILES.contains(&file),
                        "{}: {}",
                        step.code,
                        path
                    );
                } else if path.starts_with("/etc/") {
                    let is_known = path.starts_with("/etc/sysctl.d")
                        || facts
                            .sysctl_files
                            .files
                            .iter()
                            .any(|file| path.starts_with(&*file.path.to_string_lossy()));
                    prop_assert!(is_known, "{}: {}", step.code, path);
                }
            }
        }
    }
    Ok(count)
}

#[test]
fn every_command_of_every_rule_can_be_run() {
    let mut count = 0;
    for facts in hosts_that_fire() {
        for facts in [moved_to_namespace(&facts), facts] {
            count += all_can_be_run(&facts, &advise(&facts, &[])).unwrap();
        }
    }
    assert!(count > 200, "{count}");
}
