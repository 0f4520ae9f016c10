//! `link-up`

use std::ops::ControlFlow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::context::LabContext;
use super::name::LinkHost;
use super::{Definition, RESULT, RunByLab};
use crate::lab::LabError;
use crate::observation::Field;

/// Brings a host's link back.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LinkUp {
    /// The host whose link it is.
    host: LinkHost,
}

impl Definition for LinkUp {
    const SHORTHAND: Option<&'static str> = Some("host");
    const OBSERVES: &'static [Field] = RESULT;
}

impl RunByLab for LinkUp {
    fn run(&self, lab: &mut LabContext<'_>) -> Result<ControlFlow<()>, LabError> {
        lab.lab.set_link(&self.host, true)?;
        Ok(ControlFlow::Continue(()))
    }
}
