//! `harness list`.

use clap::Args;

use super::print;
use super::selection::{Selection, load};
use super::shard::Sharding;

#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    sharding: Sharding,
}

impl List {
    /// Lists the ids of scenarios; the exit status.
    pub(super) fn run(&self) -> u8 {
        self.list().unwrap_or_else(|status| status)
    }

    fn list(&self) -> Result<u8, u8> {
        let all = load(&self.selection.paths)?;
        let chosen = self.sharding.choose(self.selection.filter(&all)?)?;
        let ids: Vec<&str> = chosen.iter().map(|scenario| scenario.id.as_str()).collect();
        Ok(print(&format!("{}\n", ids.join("\n"))))
    }
}
