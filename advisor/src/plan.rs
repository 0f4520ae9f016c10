//! The advice of all rules as one plan: one value for a setting, nothing that
//! another step takes back, the greatest harm first.
//!
//! The plan is found by trying it. What the rules propose for settings is put
//! into the facts, and the rules are asked again, until no rule wants another
//! value. So whoever applies all of it and asks again gets no further setting.

mod order;
mod record;

use std::collections::BTreeMap;

use advisor_facts::clock::Moment;
use advisor_facts::namespaces::Place;
use advisor_facts::sysctl_files::{Content, PLANNED_FILE};
use advisor_facts::units::seconds;
use advisor_facts::{Facts, OutOfSight, Settings};
use advisor_report::advice::{Advised, Claim, HostProfile, Observed, Recommended, SCHEMA};
use advisor_report::measured::Measured;
use advisor_report::proof::{OtherHost, Proof, Proven};
use serde::Serialize;

use crate::accepted::{Acceptance, Accepted};
use crate::rules::{
    self, AppliesTo, Confidence, Evidence, Finding, NamedReport, NearMiss, Outcome, Placed, RULES,
    Rule,
};

/// The answer: the format of `advisor recommend --format json`. Keys may be
/// added, never renamed; a change of meaning raises [`SCHEMA`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Advice {
    /// Version of the format, [`SCHEMA`].
    pub schema: u32,
    /// The name of the host; `None` where the facts leave it out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// When the host was looked at; `None` in older captures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub taken_at: Option<Moment>,
    /// The host that it is for.
    pub host: HostProfile,
    /// What to do, the greatest harm first; what did not stand its trial last.
    pub recommendations: Vec<Recommendation>,
    /// What became of the recommendations when they were tried all at once; `None` where
    /// they were not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub together: Option<Proven>,
    /// What was found and is accepted, in the same order: it decides no exit status.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub accepted: Vec<Recommendation>,
    /// What matters, could not be seen for want of rights or in this network namespace.
    pub not_seen: Vec<OutOfSight>,
    /// What no rule fires on, and whoever looks at the sockets sees.
    pub near_misses: Vec<NearMiss>,
    /// What to leave as it is, though it may look as if it needed a change.
    pub leave: Vec<Leave>,
    /// What became of each rule, by code.
    pub rules: Vec<RuleOutcome>,
}

/// A recommendation: what a rule found, under the rule's name.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Recommendation {
    /// The rule's code.
    pub code: &'static str,
    /// The rule's name.
    pub name: &'static str,
    /// What it found.
    #[serde(flatten)]
    pub finding: Finding,
    /// The network namespaces whose setting it is, by inode; empty for the reader's own,
    /// and for what the whole kernel has.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<u32>,
    /// Which way the setting goes.
    pub action: Action,
    /// The time that the answer rests on, in words.
    pub window: String,
    /// The other rules that ask for a value of the same setting.
    pub also: Vec<Also>,
    /// The scenario of the catalogue that replays the failure.
    pub scenario: Option<&'static str>,
    /// What a file of accepted findings says of it.
    #[serde(rename = "accepted", skip_serializing_if = "Option::is_none")]
    pub acceptance: Option<Acceptance>,
    /// What tries the advice, or why nothing does.
    pub rests_on: String,
    /// What became of it when it was tried; `None` where there is no proof.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proof: Option<Proven>,
}

impl Recommendation {
    /// The change that it asks for, where it is one of the host's settings or files.
    pub fn change(&self) -> Option<Change> {
        Change::of(&self.finding, &self.namespaces)
    }

    /// What a proof has to be of to be one of this.
    pub fn claim(&self) -> Claim {
        Claim {
            code: self.code.to_owned(),
            name: self.name.to_owned(),
            subject: self.finding.subject.clone(),
            setting: self.finding.setting.clone(),
            current: self.finding.current.clone(),
            proposed: self.finding.proposed.clone(),
        }
    }

    /// Whether it was tried and did not help.
    pub fn has_failed(&self) -> bool {
        self.proof.as_ref().is_some_and(Proven::has_failed)
    }

    /// Whether it gives TCP more memory because of what it holds (LB402), and nobody saw
    /// who holds that: it may be a leak.
    pub fn may_feed_a_leak(&self) -> bool {
        self.code == "LB402"
            && self.action == Action::Raise
            && self.finding.confidence == Confidence::Low
    }
}

impl Advice {
    /// The rules with this outcome, by code.
    pub fn with_outcome(&self, outcome: OutcomeWord) -> impl Iterator<Item = &RuleOutcome> {
        let rules = self.rules.iter();
        rules.filter(move |rule| rule.outcome == outcome)
    }

    /// What there is to try of it.
    pub fn advised(&self) -> Advised {
        let recommended = |step: &Recommendation| Recommended {
            claim: step.claim(),
            evidence: step
                .finding
                .evidence
                .iter()
                .map(|evidence| Observed {
                    observation: evidence.observation.clone(),
                    value: evidence.value.clone(),
                })
                .collect(),
        };
        Advised {
            host: self.host.clone(),
            recommendations: self.recommendations.iter().map(recommended).collect(),
        }
    }

    /// Puts what is accepted aside. What was accepted up to a day that is over stays, and
    /// says so.
    pub fn accept(&mut self, accepted: &Accepted) {
        let today = self.taken_at.unwrap_or_else(Moment::now).date();
        for step in &mut self.recommendations {
            let subjects = [step.finding.subject.as_str(), &step.finding.setting];
            step.acceptance = accepted.find(step.code, &subjects, today);
        }
        let holds = |step: &mut Recommendation| {
            let acceptance = step.acceptance.as_ref();
            acceptance.is_some_and(|acceptance| !acceptance.over)
        };
        self.accepted = self.recommendations.extract_if(.., holds).collect();
    }

    /// Notes beside each recommendation what became of it when it was tried. One
    /// that did not stand the trial goes to the end.
    pub fn prove(&mut self, proof: &Proof) -> Result<(), OtherHost> {
        proof.is_of(&self.host)?;
        for step in &mut self.recommendations {
            step.proof = Some(proof.of(&step.claim()));
        }
        let claims: Vec<Claim> = self
            .recommendations
            .iter()
            .map(Recommendation::claim)
            .collect();
        self.together = proof.together(&claims);
        self.recommendations.sort_by_key(Recommendation::has_failed);
        Ok(())
    }
}

/// Which way a setting goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// To a higher value.
    Raise,
    /// To a lower one.
    Lower,
    /// To another one that is neither.
    Set,
    /// No setting: a program or a file is to be mended.
    Mend,
}

impl Action {
    /// The word for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Raise => "raise",
            Self::Lower => "lower",
            Self::Set => "set",
            Self::Mend => "mend",
        }
    }
}

/// Another rule that is about the same setting.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Also {
    /// The rule's code.
    pub code: &'static str,
    /// The rule's name.
    pub name: &'static str,
    /// What it found.
    pub summary: String,
    /// The value that it proposed, where the plan has another one.
    pub overruled: Option<String>,
}

/// A setting that is to stay.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Leave {
    /// Its dotted name.
    pub setting: &'static str,
    /// Its value.
    pub current: String,
    /// The rule that looked at it.
    pub code: &'static str,
    /// Why it stays.
    pub why: String,
}

/// What became of a rule.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct RuleOutcome {
    /// Its code.
    pub code: &'static str,
    /// Its name.
    pub name: &'static str,
    /// Whether it fired.
    pub outcome: OutcomeWord,
    /// What it saw, or why it could not tell.
    pub reason: String,
}

/// An [`Outcome`] in a word.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutcomeWord {
    /// [`Outcome::Fired`]
    Fired,
    /// [`Outcome::Quiet`]
    Quiet,
    /// [`Outcome::NotEvaluated`]
    NotEvaluated,
}

/// Rounds after which no further value is tried. Two are the most that any
/// host has needed; a property test looks for one that needs more.
const ROUNDS: usize = 8;

/// The settings that people change most, and the rule whose word on them is
/// shown where they are to stay.
const SPOKEN_FOR: &[(&str, &str)] = &[
    ("net.ipv4.tcp_max_orphans", "LB101"),
    ("net.ipv4.tcp_mem", "LB402"),
    ("net.ipv4.tcp_max_tw_buckets", "LB311"),
    ("net.ipv4.tcp_fin_timeout", "LB302"),
    ("net.core.somaxconn", "LB511"),
];

/// What other settings are sized by, and what fills it.
const MEMORY: [&str; 5] = [
    "net.ipv4.tcp_mem",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
    "net.core.rmem_max",
    "net.core.wmem_max",
];

/// A change that can be tried on the facts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Change {
    /// A setting gets a value, now and at boot.
    Set {
        /// The dotted name.
        name: &'static str,
        /// The value.
        value: String,
        /// The inodes of the network namespaces; empty for the reader's own.
        namespaces: Vec<u32>,
    },
    /// A line of a file says something else, or goes.
    Line {
        /// `FILE:LINE`.
        place: String,
        /// What it says.
        content: Option<Content>,
    },
}

impl Change {
    /// The change that a finding asks for, where it is one of the host's
    /// settings or files with a definite value.
    pub fn of(finding: &Finding, namespaces: &[u32]) -> Option<Self> {
        if matches!(finding.applies_to, AppliesTo::Program | AppliesTo::Observe) {
            return None;
        }
        if finding.setting.starts_with('/') {
            let content =
                (finding.proposed != rules::TAKE_OUT).then(|| Content::parse(&finding.proposed));
            return Some(Self::Line {
                place: finding.setting.clone(),
                content,
            });
        }
        let name = Settings::NAMES
            .iter()
            .find(|name| **name == finding.setting)?;
        Settings::default()
            .set(name, &finding.proposed)
            .then(|| Self::Set {
                name,
                value: finding.proposed.clone(),
                namespaces: namespaces.to_vec(),
            })
    }

    /// Does to the facts what it does to the host.
    pub fn apply(&self, facts: &mut Facts) {
        match self {
            Self::Set {
                name,
                value,
                namespaces,
            } if namespaces.is_empty() => {
                facts.settings.set(name, value);
                facts.sysctl_files.set(name, value);
            }
            Self::Set {
                name,
                value,
                namespaces,
            } => {
                let others = facts.now.elsewhere.iter_mut();
                for other in others.filter(|other| namespaces.contains(&other.inode)) {
                    other.settings.set(name, value);
                }
            }
            Self::Line { place, content } => facts.sysctl_files.replace(place, content.as_ref()),
        }
    }
}

/// A rule and one thing that it found.
type Found = (&'static Rule, Placed);

/// Applies every rule to a host and makes one plan of what they say. What the
/// reports say of a rule's scenarios is added to the evidence of what it found.
pub fn advise(facts: &Facts, reports: &[NamedReport]) -> Advice {
    let read = reports
        .iter()
        .map(|named| (named.path.as_path(), &named.report));
    let measured = Measured::of(read, &facts.kernel);
    let first = ask(facts, &measured);
    let (steps, last) = settle(facts, &measured, first.found());

    let mut steps: Vec<Step> = steps
        .into_values()
        // One rule raised it and another one lowered it to what it was.
        .filter(|step| step.current(facts).as_ref() != Some(&step.placed.finding.proposed))
        .collect();
    let with_a_step: Vec<(&str, Option<Place>)> = steps
        .iter()
        .flat_map(|step| {
            let codes =
                std::iter::once(step.rule.code).chain(step.also.iter().map(|also| also.code));
            codes.map(|code| (code, step.placed.place.clone()))
        })
        .collect();
    let has_step = |rule: &Rule, placed: &Placed| {
        with_a_step
            .iter()
            .any(|(code, place)| *code == rule.code && *place == placed.place)
    };
    // What no setting mends is told as it was first seen; what another step
    // mends on the way is not told. Nor is what a rule would say next, where its
    // own step doesn't show at once: it is asked again for that.
    let first_found = first.found();
    for (rule, placed) in last {
        let seen_at_first = first_found.iter().find(|(first, seen)| {
            let (one, other) = (&seen.finding, &placed.finding);
            first.code == rule.code
                && seen.place == placed.place
                && (&one.setting, &one.subject) == (&other.setting, &other.subject)
        });
        steps.push(match seen_at_first {
            // It rested on what a step of the same rule changes, and says the contrary.
            Some((_, seen)) if has_step(rule, &placed) && *seen != placed => continue,
            Some((_, seen)) => Step::new(rule, seen.clone()),
            None if has_step(rule, &placed) => continue,
            None => Step {
                later: true,
                ..Step::new(rule, placed)
            },
        });
    }
    let steps = steps.into_iter().map(|step| step.before_the_others(facts));
    let mut recommendations: Vec<_> = rules::grouped(steps, |step| &step.placed)
        .into_iter()
        .map(|(step, others)| step.recommend(&others, facts, reports))
        .collect();
    order::sort(&mut recommendations);
    order::tell_apart(&mut recommendations);
    let found: Vec<_> = recommendations
        .iter()
        .map(|step| (step.code, &step.finding))
        .collect();
    Advice {
        schema: SCHEMA,
        hostname: facts.hostname.clone(),
        taken_at: facts.taken_at,
        together: None,
        accepted: Vec::new(),
        host: HostProfile::of(facts),
        not_seen: facts.out_of_sight(),
        near_misses: rules::near_misses(facts, &found),
        leave: leave(facts, &first, &recommendations),
        recommendations,
        rules: first.outcomes(),
    }
}

/// What every rule made of the facts.
struct Answers(Vec<(&'static Rule, Outcome<Placed>)>);

fn ask(facts: &Facts, measured: &Measured) -> Answers {
    let namespaces = facts.by_namespace();
    Answers(
        RULES
            .iter()
            .map(|rule| (rule, rule.judge(facts, &namespaces, measured)))
            .collect(),
    )
}

impl Placed {
    fn change(&self) -> Option<Change> {
        let inodes: Vec<u32> = self.place.iter().map(|place| place.inode).collect();
        Change::of(&self.finding, &inodes)
    }
}

impl Answers {
    fn found(&self) -> Vec<Found> {
        self.0
            .iter()
            .filter_map(|(rule, outcome)| match outcome {
                Outcome::Fired(findings) => Some((*rule, findings)),
                _ => None,
            })
            .flat_map(|(rule, findings)| {
                findings.iter().map(move |finding| (rule, finding.clone()))
            })
            .collect()
    }

    fn outcomes(self) -> Vec<RuleOutcome> {
        self.0
            .into_iter()
            .map(|(rule, outcome)| {
                let (outcome, reason) = match outcome {
                    Outcome::Fired(findings) => {
                        let summaries: Vec<_> = rules::grouped(findings, |placed| placed)
                            .into_iter()
                            .map(|(placed, others)| placed.named(&others).summary)
                            .collect();
                        (OutcomeWord::Fired, summaries.join("; "))
                    }
                    Outcome::Quiet(reason) => (OutcomeWord::Quiet, reason),
                    Outcome::NotEvaluated(reason) => (OutcomeWord::NotEvaluated, reason),
                };
                RuleOutcome {
                    code: rule.code,
                    name: rule.name,
                    outcome,
                    reason,
                }
            })
            .collect()
    }
}

/// A change of the host that the plan has.
struct Step {
    rule: &'static Rule,
    placed: Placed,
    also: Vec<Also>,
    /// Whether it rests on other steps, which the facts had when it was found.
    later: bool,
}

impl Step {
    fn new(rule: &'static Rule, placed: Placed) -> Self {
        Self {
            rule,
            placed,
            also: Vec::new(),
            later: false,
        }
    }

    /// The value now of the setting that it changes.
    fn current(&self, facts: &Facts) -> Option<String> {
        let others = &facts.now.elsewhere;
        let settings = match &self.placed.place {
            None => &facts.settings,
            Some(place) => {
                &others
                    .iter()
                    .find(|other| other.inode == place.inode)?
                    .settings
            }
        };
        settings.get(&self.placed.finding.setting)
    }

    /// The step for a host to which nothing has been done yet.
    fn before_the_others(mut self, facts: &Facts) -> Self {
        // A step for other network namespaces rests on nothing but their own settings.
        if !self.later || self.placed.place.is_some() {
            return self;
        }
        let current = self.current(facts);
        let is_value = self.placed.change().is_some();
        let finding = &mut self.placed.finding;
        if let Some(current) = current.filter(|_| is_value) {
            finding.current = current;
            (finding.apply, finding.undo) =
                rules::there_and_back(facts, &finding.setting, &finding.proposed);
        }
        finding
            .evidence
            .retain(|evidence| !evidence.observation.starts_with(PLANNED_FILE));
        for evidence in &mut finding.evidence {
            let now = facts.settings.get(&evidence.observation);
            if now.is_some_and(|now| now != evidence.value.to_string()) {
                rules::PLANNED_VALUE.clone_into(&mut evidence.source);
            }
        }
        self
    }

    /// Takes note of another rule that is about the same setting.
    fn add(&mut self, rule: &'static Rule, finding: Finding) {
        if rule.code != self.rule.code && self.also.iter().all(|also| also.code != rule.code) {
            self.also.push(Also {
                code: rule.code,
                name: rule.name,
                summary: finding.summary,
                overruled: (finding.proposed != self.placed.finding.proposed)
                    .then_some(finding.proposed),
            });
        }
    }

    /// The recommendation, for its network namespace and for `others` alike.
    fn recommend(self, others: &[Place], facts: &Facts, reports: &[NamedReport]) -> Recommendation {
        let Self {
            rule,
            placed,
            also,
            later: _,
        } = self;
        let places = placed.place.iter().chain(others);
        let namespaces: Vec<u32> = places.map(|place| place.inode).collect();
        let mut finding = placed.named(others);
        finding
            .evidence
            .extend(rules::replayed(rule, facts, reports));
        Recommendation {
            code: rule.code,
            name: rule.name,
            action: action(&finding),
            window: match finding.applies_to {
                AppliesTo::Observe if namespaces.is_empty() => facts.counters_begin().to_owned(),
                AppliesTo::Observe => "since the network namespace was made".to_owned(),
                _ => window(&finding.evidence, facts),
            },
            also,
            scenario: rule.scenario,
            acceptance: None,
            rests_on: rule.proven_by.to_string(),
            proof: None,
            finding,
            namespaces,
        }
    }
}

/// The setting of a step, and the network namespace that has it.
type Target = (String, Option<u32>);

/// Tries the changes that the rules ask for on a copy of the facts, round by
/// round, until they ask for no other one. Gives the step for each setting, and what no change mends.
fn settle(
    facts: &Facts,
    measured: &Measured,
    found: Vec<Found>,
) -> (BTreeMap<Target, Step>, Vec<Found>) {
    let mut tried = facts.clone();
    let mut steps: BTreeMap<Target, Step> = BTreeMap::new();
    let at_first = found.clone();
    let mut found = found;
    for round in 0.. {
        let (mut changes, rest): (Vec<_>, Vec<_>) = found
            .into_iter()
            .partition(|(_, placed)| placed.change().is_some());
        if changes.is_empty() || round == ROUNDS {
            found = rest;
            break;
        }
        // Limits are sized by what tcp_mem pays for, so that comes first.
        let sizes = |(_, placed): &Found| MEMORY.contains(&placed.finding.setting.as_str());
        if changes.iter().any(sizes) {
            changes.retain(sizes);
        }
        // The greatest harm decides on the value; then the first rule.
        changes.sort_by_key(|(_, placed)| placed.finding.severity);
        let mut decided: Vec<Target> = Vec::new();
        for (rule, placed) in changes {
            let Some(change) = placed.change() else {
                continue;
            };
            let inode = placed.place.as_ref().map(|place| place.inode);
            let target = (placed.finding.setting.clone(), inode);
            if decided.contains(&target) {
                if let Some(step) = steps.get_mut(&target) {
                    step.add(rule, placed.finding);
                }
                continue;
            }
            decided.push(target.clone());
            change.apply(&mut tried);
            let later = !at_first
                .iter()
                .any(|(first, seen)| first.code == rule.code && *seen == placed);
            let mut step = match steps.remove(&target) {
                None => Step::new(rule, placed),
                Some(former) => former.superseded(rule, placed.finding),
            };
            step.later |= later;
            steps.insert(target, step);
        }
        found = ask(&tried, measured).found();
    }
    (steps, found)
}

impl Step {
    /// The same step with the value of a later round; what was first seen stays.
    fn superseded(mut self, rule: &'static Rule, later: Finding) -> Self {
        // What it says now is the value that was tried, and never was the host's.
        let tried = Finding {
            summary: format!(
                "with {} as just proposed: {}",
                self.placed.finding.proposed, later.summary
            ),
            ..later.clone()
        };
        self.add(rule, tried);
        if let Some(also) = self.also.iter_mut().find(|also| also.code == rule.code) {
            also.overruled = None;
        }
        let finding = &mut self.placed.finding;
        finding.cost = later.cost;
        finding.verify = later.verify;
        finding.proposed = later.proposed;
        finding.severity = finding.severity.min(later.severity);
        self
    }
}

/// Which way the plan takes a setting, told by the first number that changes.
fn action(finding: &Finding) -> Action {
    let Some(Change::Set { .. }) = Change::of(finding, &[]) else {
        return Action::Mend;
    };
    let numbers = |text: &str| -> Option<Vec<i128>> {
        text.split_whitespace()
            .map(|word| word.parse().ok())
            .collect()
    };
    let (Some(mut current), Some(proposed)) =
        (numbers(&finding.current), numbers(&finding.proposed))
    else {
        return Action::Set;
    };
    // No retries means 8 of them (tcp_orphan_retries in net/ipv4/tcp_timer.c).
    if finding.setting == "net.ipv4.tcp_orphan_retries" && current == [0] {
        current = vec![8];
    }
    let mut ways = current
        .iter()
        .zip(&proposed)
        .map(|(current, proposed)| proposed.cmp(current))
        .filter(|way| way.is_ne());
    match ways.next() {
        Some(first) if ways.all(|way| way == first) => {
            // A switch has no higher and lower.
            if matches!(
                (current.as_slice(), proposed.as_slice()),
                ([0..=2], [0..=2])
            ) {
                Action::Set
            } else if first.is_gt() {
                Action::Raise
            } else {
                Action::Lower
            }
        }
        _ => Action::Set,
    }
}

/// The time that an answer rests on.
fn window(evidence: &[Evidence], facts: &Facts) -> String {
    let counters = evidence.iter().any(|evidence| {
        evidence.source.starts_with("/proc/net/netstat")
            || evidence.source.starts_with("/proc/net/snmp")
    });
    match (facts.window(), counters) {
        (Some((window, _)), true) => format!("counters over {}", seconds(window)),
        (Some((window, _)), false) => format!("two looks {} apart", seconds(window)),
        (None, true) => format!(
            "one look; counters {}, {}, only support it",
            facts.counters_begin(),
            span(facts)
        ),
        (None, false) => "one look".to_owned(),
    }
}

/// How long the kernel has run, for people.
fn span(facts: &Facts) -> String {
    let hours = facts.now.uptime.as_secs() / 3600;
    match hours {
        0 => "less than an hour ago".to_owned(),
        1..48 => format!("{hours} h ago at most"),
        _ => format!("{} days ago at most", hours / 24),
    }
}

/// The settings that a rule looked at and that no step changes.
fn leave(facts: &Facts, first: &Answers, steps: &[Recommendation]) -> Vec<Leave> {
    SPOKEN_FOR
        .iter()
        .filter(|(setting, _)| {
            let about =
                |step: &Recommendation| step.finding.setting.split(", ").any(|one| one == *setting);
            !steps.iter().any(about)
        })
        .filter_map(|(setting, code)| {
            let current = facts.settings.get(setting)?;
            first.0.iter().find_map(|(rule, outcome)| match outcome {
                Outcome::Quiet(why) if rule.code == *code => Some(Leave {
                    setting,
                    current: current.clone(),
                    code,
                    why: why.clone(),
                }),
                _ => None,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests;
