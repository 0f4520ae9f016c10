//! `link-down`

use super::prelude::*;
use crate::lab::topology::Cut;
use crate::yaml::error::{Place, SuiteError};

/// Takes a host's link away; what is sent is lost.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LinkDown {
    /// The host whose link it is.
    host: LinkHost,
    /// Only one direction: what is sent towards the host, or from it. Default: both.
    only: Option<Direction>,
    /// Where it is lost: path, without a word to anyone, or device: the queue of the host's own
    /// device refuses what the host sends, and its kernel knows (NET_XMIT_DROP). What is
    /// sent towards the host still arrives then. Default: path.
    at: Option<At>,
}

/// Where packets are lost.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
enum At {
    /// Behind the host's device.
    Path,
    /// At the host's device.
    Device,
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

impl LinkDown {
    /// Whether the device can lose what is to be lost.
    pub fn check(&self, place: Place) -> Result<(), SuiteError> {
        match (self.at, self.only) {
            (Some(At::Device), Some(Direction::Towards)) => Err(SuiteError::new(
                place,
                "link-down: what is sent towards a host doesn't leave by its device",
                "only: from, or without at: device",
            )),
            _ => Ok(()),
        }
    }
}

impl Definition for LinkDown {
    const PREPARES: bool = true;
    const SHORTHAND: Option<&'static str> = Some("host");
}

impl RunByLab for LinkDown {
    fn run(&self, lab: &mut LabContext<'_>) -> Result<ControlFlow<()>, LabError> {
        let at_device = matches!(self.at, Some(At::Device));
        let cut = Cut {
            towards: !at_device && self.only != Some(Direction::From),
            from: !at_device && self.only != Some(Direction::Towards),
            at_device,
        };
        lab.lab.set_link(&self.host, cut)?;
        Ok(ControlFlow::Continue(()))
    }
}
