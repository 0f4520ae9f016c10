//! The plan as a whole: all recommendations that can be tried, at once, and what the
//! advisor says afterwards.

use advisor_report::advice::Claim;
use advisor_report::proof::{Trial, TrialVerdict, Whole};

use super::Prepared;
use super::guests::Guests;
use crate::reproduce::trial::Change;
use crate::runner;

/// The recommendations that were tried one by one.
#[derive(Debug, Default)]
pub(super) struct Parts {
    parts: Vec<Part>,
}

#[derive(Debug)]
struct Part {
    prepared: Prepared,
    trial: Trial,
    fire_after: Vec<String>,
}

impl Parts {
    /// Adds one, and the rules that fired after it.
    pub(super) fn add(&mut self, prepared: Prepared, trial: Trial, fire_after: Vec<String>) {
        self.parts.push(Part {
            prepared,
            trial,
            fire_after,
        });
    }

    /// Tries them together; one alone was tried already.
    pub(super) fn try_it(
        self,
        guests: &mut Guests,
        suites: &mut Vec<(String, String)>,
    ) -> Result<Option<Whole>, runner::Error> {
        let claims: Vec<Claim> = self
            .parts
            .iter()
            .map(|part| part.trial.claim.clone())
            .collect();
        // A server that starts again binds in a trial, and ends: nobody listens afterwards
        // either.
        let is_judged = |part: &&Part| !part.prepared.tried.changes.contains(&Change::ReuseAddress);
        let judged = self.parts.iter().filter(is_judged);
        let judged: Vec<String> = judged.map(|part| part.trial.claim.code.clone()).collect();
        let stand_in = stand_in(&claims);
        let mut parts = self.parts.into_iter();
        let Some(Part {
            mut prepared,
            mut trial,
            mut fire_after,
        }) = parts.next()
        else {
            return Ok(None);
        };
        if claims.len() > 1 {
            for part in parts {
                if part.prepared.reproduction.settings != prepared.reproduction.settings {
                    let why = "they are for several network namespaces, and a reproduction has one";
                    return Ok(Some(Whole {
                        claims,
                        trial: super::untried(&stand_in, why.to_owned()),
                        fire_after: Vec::new(),
                    }));
                }
                prepared.add(part.prepared);
            }
            suites.extend(prepared.suites("plan"));
            let runs = prepared.try_it(guests)?;
            fire_after.clone_from(&runs.fire_after);
            trial = prepared.conclude(&stand_in, runs);
        }
        trial.claim = stand_in;
        let still: Vec<&str> = fire_after
            .iter()
            .filter(|code| judged.contains(code))
            .map(String::as_str)
            .collect();
        if trial.verdict == TrialVerdict::Proven && !still.is_empty() {
            trial.verdict = TrialVerdict::NoDifference;
            trial.reason = Some(format!(
                "the harm is gone, and the advisor still advises {}",
                still.join(", ")
            ));
        }
        Ok(Some(Whole {
            claims,
            trial,
            fire_after,
        }))
    }
}

/// The claim that stands for all.
fn stand_in(claims: &[Claim]) -> Claim {
    let all = |of: fn(&Claim) -> &String| {
        let texts: Vec<&str> = claims.iter().map(|claim| of(claim).as_str()).collect();
        texts.join("; ")
    };
    Claim {
        code: "plan".to_owned(),
        name: "as-a-whole".to_owned(),
        subject: "the host".to_owned(),
        setting: all(|claim| &claim.setting),
        current: all(|claim| &claim.current),
        proposed: all(|claim| &claim.proposed),
    }
}
