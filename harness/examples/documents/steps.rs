//! `docs/steps.md`: every step with its fields.

use std::fmt::Write as _;

use harness::suite::form::Form;
use harness::suite::step::{Room, VERBS};

/// The page.
pub fn page() -> String {
    let mut page = "# Steps\n\nMade by `ci/documents` from the table in \
        `harness/src/suite/step.rs`. A step is a bare word, or a\nmapping with the step as its \
        one key. A bare value stands for the field in **bold**:\n`write: 1MB` means \
        `write: { bytes: 1MB }`.\n"
        .to_owned();
    for (room, title, lead) in [
        (
            Room::Actor,
            "Steps of an actor",
            "Each makes the system call that it is named after.",
        ),
        (
            Room::Lab,
            "Steps of the lab",
            "They stand under `lab:` and act on all hosts.",
        ),
    ] {
        let _ = write!(page, "\n## {title}\n\n{lead}\n");
        for spec in VERBS.iter().filter(|spec| spec.rooms.contains(&room)) {
            let _ = write!(page, "\n### {}\n\n{}.\n\n", spec.name, spec.doc);
            for field in spec.object.fields {
                let mark = if spec.object.short == Some(field.name) {
                    "**"
                } else {
                    ""
                };
                let needed = if field.required { " (needed)" } else { "" };
                let choice = match field.form {
                    Form::Choice(words) if words.len() <= 9 => format!(" [{}]", words.join(", ")),
                    _ => String::new(),
                };
                let _ = writeln!(
                    page,
                    "- {mark}`{}`{mark}{needed}: {}{choice}",
                    field.name, field.doc
                );
            }
            if !spec.yields.is_empty() {
                let _ = writeln!(page, "\nObserves: `{}`.", spec.yields.join("`, `"));
            }
        }
    }
    page.replace("`errors`", "`errors.ERRNO`")
}
