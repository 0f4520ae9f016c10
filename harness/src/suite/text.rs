//! A scenario as a suite writes it: the reader and the JSON Schema go by these structs.

use std::num::{NonZeroU16, NonZeroU64};
use std::time::Duration;

use schemars::JsonSchema;
use serde::de::{Error as _, IgnoredAny};
use serde::{Deserialize, Deserializer, Serialize};

use crate::condition::Condition;
use crate::lab::OnUnknown;
use crate::lab::address::Family;
use crate::step::link::LinkText;
use crate::step::name::{HostName, Name};
use crate::step::{ActorStep, LabStep, Steps};
use crate::yaml::value::{
    Bytes, Entries, OneOrMore, Placed, Time, Words, from_text, inline_schema,
};
use advisor_facts::release::Release;

/// A suite.
#[derive(JsonSchema)]
#[schemars(inline, deny_unknown_fields)]
pub struct SuiteText {
    /// The scenarios of this file.
    #[expect(
        dead_code,
        reason = "each is read by itself, once its matrix is expanded"
    )]
    #[schemars(extend("x-as-it-is" = true))]
    scenarios: Vec<ScenarioText>,
}

/// The conditions of which one has to hold.
pub type Conditions = OneOrMore<Placed<Condition>>;

/// A scenario.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct ScenarioText {
    /// The last part of its id.
    pub name: Placed<Name>,
    /// What it shows, in plain sentences.
    pub explains: Words,
    /// The document that states it.
    pub source: Words,
    /// The id of another scenario, such as the cure.
    #[serde(rename = "see-also")]
    pub see_also: Option<Words>,
    /// How often it runs. Default: 3, or 1 where it tries advice.
    pub runs: Option<NonZeroU64>,
    /// The most runs for `sometimes`.
    #[serde(default = "max_runs")]
    pub max_runs: NonZeroU64,
    /// The time limit of one run.
    #[serde(default = "time_limit")]
    pub time_limit: Time,
    /// true where it waits long: it then runs with --long only.
    #[serde(default)]
    pub long: bool,
    /// The first release that it can run on. Default: any.
    pub since: Option<ReleaseText>,
    /// Axes with their values; $axis stands for a value in the scenario.
    #[expect(dead_code, reason = "expanded before the scenario is read")]
    matrix: Option<Axes>,
    /// With a matrix: the first case that fits a cell says what is expected there.
    #[expect(dead_code, reason = "expanded before the scenario is read")]
    #[schemars(extend("x-as-it-is" = true))]
    cases: Option<Vec<CaseText>>,
    /// The hosts; each has its own link to the router. Default: [client, server].
    pub hosts: Option<Placed<Vec<Placed<Name>>>>,
    /// The address family of endpoints; ipv4-mapped is IPv4 through IPv6 sockets.
    #[serde(default)]
    pub family: Family,
    /// skip: too much work for a guest with an emulated processor.
    #[serde(default)]
    pub emulation: Emulation,
    /// real: it measures the machine's own speed, or needs two processors; virtual: it
    /// waits for hours, which only a guest with a virtual clock has.
    #[serde(default)]
    pub clock: ClockText,
    /// What carries impaired links: with netem never the relay.
    #[serde(default)]
    pub carrier: CarrierText,
    /// The link towards every host.
    pub link: Option<LinkText>,
    /// By host: the link towards that host only, in place of `link`.
    #[serde(default)]
    pub links: Entries<LinkText>,
    /// true: segmentation offload stays on, as it is on hosts, and up to 64 KiB cross a link
    /// as one packet. Then no link can be impaired.
    #[serde(default)]
    pub offload: Placed<bool>,
    /// The router as a middlebox. Default: it forwards.
    pub router: Option<RouterText>,
    /// By host; under `kernel` those of the initial namespace, which act on the machine.
    #[serde(default)]
    pub sysctls: Entries<Entries<Placed<Words>>>,
    /// The actors, by name.
    pub actors: Placed<Entries<ActorText>>,
    /// Steps of the lab: links, signals, looks.
    #[serde(default)]
    pub lab: Steps<LabStep>,
    /// A failure that is known: the scenario may fail, and is counted.
    #[serde(rename = "expected-failure")]
    pub expected_failure: Option<Placed<ExpectedFailureText>>,
    /// An observation with what it is where the failure happened; expected always where
    /// the axis `change` is `before`, and never where it is `after`.
    #[serde(default)]
    pub failure: Placed<Entries<Conditions>>,
    /// By observation: what must have been seen for a run to count; a run without it is
    /// made again.
    #[serde(default)]
    pub given: Entries<Conditions>,
    /// By observation; may be left out where there is a `failure`.
    #[serde(default)]
    pub expect: Placed<Entries<OneOrMore<ExpectationText>>>,
}

fn max_runs() -> NonZeroU64 {
    const { NonZeroU64::new(20).unwrap() }
}

fn time_limit() -> Time {
    Time(Duration::from_secs(20))
}

/// A release of Linux.
#[derive(Clone, Copy, Debug)]
pub struct ReleaseText(pub Release);

impl<'de> Deserialize<'de> for ReleaseText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = "a release with the word before it, such as Linux 6.11";
        from_text(deserializer, expected, Release::parse).map(Self)
    }
}

inline_schema!(ReleaseText, {"type": "string", "pattern": "^Linux [0-9]+\\.[0-9]+$"});

/// The axes of a matrix, which [`super::matrix`] reads.
#[derive(Deserialize)]
struct Axes(IgnoredAny);

inline_schema!(Axes, {
    "type": "object", "minProperties": 1, (crate::yaml::schema::AS_IT_IS): true,
    "additionalProperties": {(crate::yaml::schema::AS_IT_IS): true, "anyOf": [
        {"type": "array", "minItems": 1, "items": {"type": ["string", "number", "boolean"]}},
        {"type": "object", "minProperties": 1},
    ]},
});

/// A case of a matrix, which [`super::matrix`] reads.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
#[expect(dead_code, reason = "read before")]
struct CaseText {
    /// By axis: the values that it is for. Default: all.
    when: Option<Entries<OneOrMore<Words>>>,
    /// Added to what the scenario explains.
    explains: Option<Words>,
    /// In place of the scenario's.
    #[serde(rename = "see-also")]
    see_also: Option<Words>,
    /// By observation, beside what the scenario expects.
    expect: Option<Entries<OneOrMore<ExpectationText>>>,
}

/// Whether a guest with an emulated processor runs a scenario.
#[derive(Clone, Copy, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Emulation {
    /// It does.
    #[default]
    Run,
    /// It is too much work.
    Skip,
}

/// What the clock of a guest that runs a scenario may count.
#[derive(Clone, Copy, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum ClockText {
    /// Real or virtual time.
    #[default]
    Any,
    /// Only real time.
    Real,
    /// Only virtual time.
    Virtual,
}

/// What may carry impaired links.
#[derive(Clone, Copy, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum CarrierText {
    /// netem or the relay.
    #[default]
    Auto,
    /// Only netem.
    Netem,
}

/// A failure that is known.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct ExpectedFailureText {
    /// Why it is there, with where it is tracked.
    pub reason: Words,
    /// The last day on which it may be there, such as 2027-03-31. Default: for ever.
    pub until: Option<Placed<Words>>,
}

/// What is expected of an observation.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct ExpectationText {
    /// In every run.
    pub always: Option<Conditions>,
    /// In no run.
    pub never: Option<Conditions>,
    /// Every run gives one of these, none has to appear.
    pub may: Option<Conditions>,
    /// Each in at least one run; runs are added up to max_runs.
    pub sometimes: Option<Conditions>,
    /// Only from this release on.
    pub since: Option<ReleaseText>,
    /// Only before this release.
    pub before: Option<ReleaseText>,
    /// Why, in a plain sentence.
    pub because: Option<Words>,
}

/// An actor.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct ActorText {
    /// The host whose namespace it runs in.
    pub on: HostName,
    /// memory.max of a cgroup of its own; such a scenario runs in guests only.
    pub memory_max: Option<Bytes>,
    /// memory.high of a cgroup of its own; such a scenario runs in guests only.
    pub memory_high: Option<Bytes>,
    /// What it does, one after the other.
    pub steps: Option<Steps<ActorStep>>,
    /// Step lists side by side in the one process.
    #[serde(default)]
    pub tasks: Entries<Steps<ActorStep>>,
    /// A program and its arguments, in place of steps; {dir} is its private directory.
    pub command: Option<Placed<Vec<Argument>>>,
    /// Of a command: variables, beside the harness's own; TMPDIR is its private directory.
    pub env: Option<Placed<Entries<Argument>>>,
    /// Of a command: where it runs. Default: its private directory.
    pub directory: Option<Placed<Argument>>,
    /// Of a command: files to write in its private directory, by name.
    pub files: Option<Placed<Entries<Words>>>,
    /// Of a command: when it is ready. Default: once it has started.
    pub ready: Option<Placed<ReadyText>>,
    /// Of a command: files and directories that a guest needs beside program and libraries.
    pub needs: Option<Placed<Vec<Placed<Argument>>>>,
    /// Of a command: what installs it; named where it is missing.
    pub install: Option<Placed<Argument>>,
}

/// When a command is ready.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct ReadyText {
    /// A process of it listens there.
    pub port: Option<NonZeroU16>,
    /// A line that it prints holds this.
    pub line: Option<Argument>,
    /// There is this file, named from where it runs.
    pub file: Option<Argument>,
}

/// A text for the kernel, which ends at a zero byte there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Argument(pub String);

impl<'de> Deserialize<'de> for Argument {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = from_text(deserializer, "a text", |text| Some(text.to_owned()))?;
        if text.contains('\0') {
            return Err(D::Error::custom("a zero byte in it"));
        }
        Ok(Self(text))
    }
}

inline_schema!(Argument);

/// What the router does beside forwarding.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct RouterText {
    /// masquerade: what it forwards has its own address.
    pub nat: Nat,
    /// After so long without a packet it forgets an established connection; whole seconds.
    /// Default: 5 days, the kernel's.
    pub idle_limit: Option<Placed<Time>>,
    /// What it does with a packet of a connection that it doesn't know.
    #[serde(default)]
    pub on_unknown: OnUnknown,
}

/// How the router changes addresses.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Nat {
    /// What it forwards has its own address.
    Masquerade,
}
