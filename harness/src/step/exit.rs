//! `exit`

use super::prelude::*;

/// exit(2) without closing anything; the kernel does.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Exit {
    /// The exit status.
    #[serde(default)]
    status: u64,
}

impl Definition for Exit {
    const SHORTHAND: Option<&'static str> = Some("status");
    const OBSERVES: &'static [Field] = &[];
}

impl RunByActor for Exit {
    fn run(&self, _: &mut ActorContext<'_>) -> Calls {
        call::exit(i32::try_from(self.status).unwrap_or(1))
    }
}
