//! `link-down`

use std::ops::ControlFlow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::context::LabContext;
use super::name::LinkHost;
use super::{Definition, RESULT, RunByLab};
use crate::lab::LabError;
use crate::observation::Field;

/// Takes a host's link away without a word to anyone; what is sent is lost.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LinkDown {
    /// The host whose link it is.
    host: LinkHost,
}

impl Definition for LinkDown {
    const SHORTHAND: Option<&'static str> = Some("host");
    const OBSERVES: &'static [Field] = RESULT;
}

impl RunByLab for LinkDown {
    fn run(&self, lab: &mut LabContext<'_>) -> Result<ControlFlow<()>, LabError> {
        lab.lab.set_link(&self.host, false)?;
        Ok(ControlFlow::Continue(()))
    }
}
