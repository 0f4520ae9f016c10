//! The advice for the hosts that the advisor's tests have recorded.

use advisor::plan::{Advice, advise};
use advisor_facts::{Facts, Root};

use super::Error;

#[path = "../../../advisor/tests/recorded/mod.rs"]
mod hosts;

/// The advice for all recorded hosts, as for one host: their kernel is the same, and
/// each recommendation brings the numbers that are tried.
pub fn advice() -> Result<Advice, Error> {
    let mut all = of_each()?.into_iter();
    let mut whole = all.next().ok_or("no host is recorded")?;
    for advice in all {
        if advice.host.kernel != whole.host.kernel {
            return Err("the recorded hosts have different kernels".into());
        }
        for recommendation in advice.recommendations {
            // Several hosts are recorded for some rules.
            let mut known = whole.recommendations.iter();
            if known.all(|known| known.claim() != recommendation.claim()) {
                whole.recommendations.push(recommendation);
            }
        }
    }
    Ok(whole)
}

/// The advice for each recorded host.
fn of_each() -> Result<Vec<Advice>, Error> {
    let advice = |name: String| {
        let host = hosts::directory(&name);
        let facts = Facts::read(&Root::Recorded(host.path().to_owned()))?;
        Ok(advise(&facts, &[]))
    };
    hosts::names().into_iter().map(advice).collect()
}
