//! `capture`

use advisor_facts::{Facts, Root, file};

use super::Values;
use super::prelude::*;

/// Captures the facts of the machine, as `advisor capture` does; `value` is their JSON.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Capture {}

impl Definition for Capture {
    const OBSERVES: &'static [Field] = READING;

    fn value(&self) -> Values {
        Values::Text
    }
}

impl RunByLab for Capture {
    fn run(&self, lab: &mut LabContext<'_>) -> Result<ControlFlow<()>, LabError> {
        let failed = |error| LabError::new("kernel", "capture its facts", error, "");
        let facts = Facts::read(&Root::Live).map_err(|error| failed(io::Error::other(error)))?;
        let mut json = Vec::new();
        file::write(&mut json, &facts).map_err(failed)?;
        let text = String::from_utf8(json).map_err(|error| failed(io::Error::other(error)))?;
        lab.value = Some(text);
        Ok(ControlFlow::Continue(()))
    }
}
