//! `harness doctor`.

use anstyle::AnsiColor;

use super::{ENVIRONMENT, SUCCESS};
use crate::doctor;
use crate::output;
use crate::privilege;

/// Prints what was found; the exit status.
pub(super) fn run() -> u8 {
    let checks = doctor::examine(&privilege::acquire());
    let (here, in_guests) = doctor::can_run(&checks);
    output::say(&format!(
        "{}\n",
        match (here, in_guests) {
            (true, _) => "This machine can run suites.",
            (false, true) => "This machine can run suites in guests only.",
            (false, false) => "This machine can't run suites.",
        }
    ));
    for check in checks {
        let (mark, color) = match (check.good, check.needed) {
            (true, _) => ("yes", AnsiColor::Green),
            (false, true) => ("no ", AnsiColor::Red),
            (false, false) => ("no ", AnsiColor::Yellow),
        };
        let style = color.on_default().bold();
        output::say(&format!(
            "{style}{mark}{style:#} {:<22} {}",
            check.subject, check.what
        ));
        if !check.good && !check.hint.is_empty() {
            output::say(&format!("    hint: {}", check.hint));
        }
    }
    if here || in_guests {
        SUCCESS
    } else {
        ENVIRONMENT
    }
}
