//! `harness list`.

use super::print;
use super::selection::{Selection, load};

/// Lists the ids of scenarios; the exit status.
pub(super) fn run(selection: &Selection) -> u8 {
    match load(&selection.paths).and_then(|scenarios| selection.filter(&scenarios)) {
        Ok(scenarios) => {
            let ids: Vec<&str> = scenarios
                .iter()
                .map(|scenario| scenario.id.as_str())
                .collect();
            print(&format!("{}\n", ids.join("\n")))
        }
        Err(status) => status,
    }
}
