//! `harness restore`.

use super::{ENVIRONMENT, complain, print};
use crate::host_settings;

/// Puts sysctls back; the exit status.
pub(super) fn run() -> u8 {
    match host_settings::restore_alone(host_settings::STATE_DIRECTORY.as_ref()) {
        Ok(None) => print("A run acts on the machine now; it puts its values back itself.\n"),
        Ok(Some(changes)) if changes.is_empty() => print("Nothing to put back.\n"),
        Ok(Some(changes)) => {
            let lines: Vec<String> = changes
                .iter()
                .map(|(change, restored)| format!("{change}: {restored}"))
                .collect();
            print(&format!("{}\n", lines.join("\n")))
        }
        Err(error) => {
            complain(
                format!("cannot put the sysctls back: {error}"),
                "run it as root",
            );
            ENVIRONMENT
        }
    }
}
