//! `docs/likeness.md`: how like their hosts reproductions are, from `docs/likeness.json`,
//! which `ci/likeness` measured with `harness reproduce --check`.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use advisor_facts::{Facts, Root};
use advisor_report::escape::escaped;
use harness::prove::check::Checked;
use serde::{Deserialize, Serialize};

use super::invented::{self, recorded};
use super::{Error, read_measured, write_facts, write_measured};

/// The file in `docs/`.
const FILE: &str = "likeness.json";

/// What `harness reproduce --check` said of a host.
#[derive(Deserialize, Serialize)]
struct Answer {
    /// The host.
    name: String,
    #[serde(flatten)]
    checked: Checked,
}

/// The hosts: those that are invented, and the recorded ones that have connections.
fn hosts() -> Vec<(String, Facts)> {
    let invented = invented::hosts().into_iter();
    let recorded = recorded::names().into_iter().filter_map(|name| {
        let directory = recorded::directory(&name);
        let facts = Facts::read(&Root::Recorded(directory.path().to_owned())).ok()?;
        (facts.now.every_socket().count() >= FEWEST).then_some((name, facts))
    });
    invented.chain(recorded).collect()
}

/// Hosts with fewer sockets show little.
const FEWEST: usize = 10;

/// Writes the facts of each host.
pub fn write_cases(into: &Path) -> Result<(), Error> {
    for (name, facts) in hosts() {
        write_facts(&into.join(format!("{name}.host")), &facts)?;
    }
    Ok(())
}

/// Makes the answers those that the page is made from.
pub fn take_over(from: &Path) -> Result<(), Error> {
    let mut all = Vec::new();
    for (name, _) in hosts() {
        let answer = from.join(format!("{name}.json"));
        let text = fs::read_to_string(&answer)
            .map_err(|error| format!("{}: {error}", answer.display()))?;
        let checked = serde_json::from_str(&text)
            .map_err(|error| format!("{}: {error}", answer.display()))?;
        all.push(Answer { name, checked });
    }
    write_measured(FILE, &all)
}

/// The page.
pub fn page() -> Result<String, Error> {
    let mut text = "# How like its host a reproduction is\n\n\
        `ci/likeness` puts a guest into the condition of each host, captures the guest's facts,\n\
        and has the advisor judge both (`harness reproduce --check`). Sockets of a condition\n\
        are alike within 5 % or one of them, the quartiles of what they hold within 10 % or\n\
        4 KiB. Rules about files, RAM, the log and counters since boot can't be compared.\n"
        .to_owned();
    let Some(all) = read_measured::<Vec<Answer>>(FILE)? else {
        text.push_str("\nNot measured yet.\n");
        return Ok(text);
    };
    let count = |of: fn(&Checked) -> bool| all.iter().filter(|one| of(&one.checked)).count();
    let kernel = all.first().map_or("", |one| one.checked.kernel.as_str());
    let _ = write!(
        text,
        "\nMeasured on Linux {kernel}: of {} hosts {} have the same sockets, and {} the same rules.\n\n\
         | host | factor | sockets | not alike | rules on both | on the host alone | in the guest alone | not comparable |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- |\n",
        all.len(),
        count(|one| one.unlike.is_empty()),
        count(Checked::has_same_rules),
    );
    for Answer { name, checked: one } in &all {
        let sockets: Vec<String> = one
            .conditions
            .iter()
            .map(|row| format!("{} {} as {}", row.condition, row.host, row.there))
            .collect();
        let list = |codes: &[String]| match codes {
            [] => "-".to_owned(),
            codes => codes.join(", "),
        };
        let _ = writeln!(
            text,
            "| {} | {:.3} | {} | {} | {} | {} | {} | {} |",
            name.replace('-', " "),
            one.factor,
            escaped(&list(&sockets)),
            escaped(&list(&one.unlike)),
            list(&one.fire_on_both),
            list(&one.fire_on_host),
            list(&one.fire_in_guest),
            list(&one.not_comparable),
        );
    }
    Ok(text)
}
