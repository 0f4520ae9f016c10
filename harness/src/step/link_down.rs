//! `link-down`

use super::prelude::*;

/// Takes a host's link away without a word to anyone; what is sent is lost.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LinkDown {
    /// The host whose link it is.
    host: LinkHost,
}

impl Definition for LinkDown {
    const SHORTHAND: Option<&'static str> = Some("host");
}

impl RunByLab for LinkDown {
    fn run(&self, lab: &mut LabContext<'_>) -> Result<ControlFlow<()>, LabError> {
        lab.lab.set_link(&self.host, false)?;
        Ok(ControlFlow::Continue(()))
    }
}
