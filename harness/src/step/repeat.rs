//! `repeat`

use std::num::NonZeroU64;
use std::time::Instant;

use super::context::MOST_EACH;
use super::prelude::*;
use super::transfer::Every;
use super::{ActorStep, Steps};

/// Runs steps a number of times; the sockets of one name become a set.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Repeat {
    /// How often.
    times: NonZeroU64,
    /// The steps to repeat, a list.
    pub steps: Steps<ActorStep>,
    /// A pause before each time. Default: none.
    every: Option<Every>,
}

impl Definition for Repeat {
    const OBSERVES: &'static [Field] = TIME;
}

impl RunByActor for Repeat {
    fn run(&self, actor: &mut ActorContext<'_>) -> Calls {
        let mut each = Vec::new();
        for _ in 0..self.times.get() {
            Every::pause(self.every);
            let start = Instant::now();
            for step in &self.steps.0 {
                actor.run_inner(step);
            }
            if each.len() < MOST_EACH {
                each.push(start.elapsed());
            }
        }
        Calls::from(Ok(())).with_each(each)
    }
}
