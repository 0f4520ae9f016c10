//! `sysctl`

use super::prelude::*;
use crate::lab::sysctl;
use crate::yaml::value::Words;

/// Sets a sysctl of a host's namespace.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Sysctl {
    host: HostName,
    /// The sysctl, dotted.
    name: SysctlName,
    /// Its value.
    value: Words,
}

impl Definition for Sysctl {
    const PREPARES: bool = true;
}

impl RunByLab for Sysctl {
    fn run(&self, lab: &mut LabContext<'_>) -> Result<ControlFlow<()>, LabError> {
        let set = || sysctl::set(&self.host, &self.name, &self.value);
        lab.namespace(&self.host)?
            .run(set)
            .map_err(|error| LabError::new(&self.host, "enter its namespace", error, ""))??;
        Ok(ControlFlow::Continue(()))
    }
}
