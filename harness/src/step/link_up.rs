//! `link-up`

use super::prelude::*;
use crate::lab::topology::Cut;

/// Brings a host's link back.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LinkUp {
    /// The host whose link it is.
    host: LinkHost,
}

impl Definition for LinkUp {
    const PREPARES: bool = true;
    const SHORTHAND: Option<&'static str> = Some("host");
}

impl RunByLab for LinkUp {
    fn run(&self, lab: &mut LabContext<'_>) -> Result<ControlFlow<()>, LabError> {
        lab.lab.set_link(&self.host, Cut::default())?;
        Ok(ControlFlow::Continue(()))
    }
}
