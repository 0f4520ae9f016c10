//! `kernel-sysctl`

use super::prelude::*;
use crate::lab::sysctl;
use crate::yaml::value::Words;

/// Sets a sysctl of the whole machine, one that stands under `sysctls: { kernel: ... }`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct KernelSysctl {
    /// The sysctl, dotted.
    pub name: SysctlName,
    /// Its value.
    value: Words,
}

impl Definition for KernelSysctl {
    const PREPARES: bool = true;
}

impl RunByLab for KernelSysctl {
    fn run(&self, _: &mut LabContext<'_>) -> Result<ControlFlow<()>, LabError> {
        sysctl::set("kernel", &self.name, &self.value)?;
        Ok(ControlFlow::Continue(()))
    }
}
