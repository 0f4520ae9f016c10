//! `link-down`

use super::prelude::*;
use crate::lab::topology::Cut;

/// Takes a host's link away without a word to anyone; what is sent is lost.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LinkDown {
    /// The host whose link it is.
    host: LinkHost,
    /// Only one direction: what is sent towards the host, or from it. Default: both.
    only: Option<Direction>,
}

/// A direction of a link.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
enum Direction {
    /// What is sent to the host.
    Towards,
    /// What the host sends.
    From,
}

impl Definition for LinkDown {
    const SHORTHAND: Option<&'static str> = Some("host");
}

impl RunByLab for LinkDown {
    fn run(&self, lab: &mut LabContext<'_>) -> Result<ControlFlow<()>, LabError> {
        let cut = Cut {
            towards: self.only != Some(Direction::From),
            from: self.only != Some(Direction::Towards),
        };
        lab.lab.set_link(&self.host, cut)?;
        Ok(ControlFlow::Continue(()))
    }
}
