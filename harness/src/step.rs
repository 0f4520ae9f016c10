//! The steps of actors and of the lab. Each is a file here: a struct with what it takes,
//! what it observes, and how it runs. One line in the list below adds one.
//!
//! Imports lab, observation, condition, errno and yaml.

pub mod call;
pub mod context;
pub mod limit;
pub mod name;
pub mod notebook;
pub mod option;
pub mod transfer;

use std::ops::ControlFlow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value as Json, json};

use crate::lab::LabError;
use crate::observation::Field;
use crate::yaml::error::Place;
use crate::yaml::schema;
use crate::yaml::value::from_list;
use context::{ActorContext, Calls, LabContext};
use name::StepReference;

/// What the file of a step needs.
mod prelude {
    pub(super) use std::io;
    pub(super) use std::ops::ControlFlow;

    pub(super) use schemars::JsonSchema;
    pub(super) use serde::{Deserialize, Serialize};

    pub(super) use super::context::{ActorContext, Calls, LabContext, done};
    pub(super) use super::name::{
        ActorName, CommandActor, Destination, Endpoint, FileName, HostName, LinkHost, SocketName,
        StepReference, SysctlName,
    };
    pub(super) use super::{
        COUNTED, Definition, Makes, READING, RECEIPT, RunByActor, RunByLab, TIME, TRANSFER, Values,
        call,
    };
    pub(super) use crate::lab::LabError;
    pub(super) use crate::observation::Field;
    pub(super) use crate::yaml::value::{Bytes, Time};
}

/// What every system call observes.
pub const RESULT: &[Field] = &[Field::Error, Field::Ms, Field::Ok, Field::Errors];
/// What sending observes.
pub const TRANSFER: &[Field] = &[
    Field::Error,
    Field::Ms,
    Field::Ok,
    Field::Errors,
    Field::Bytes,
];
/// What receiving observes.
pub const RECEIPT: &[Field] = &[
    Field::Error,
    Field::Ms,
    Field::Ok,
    Field::Errors,
    Field::Bytes,
    Field::NonzeroBytes,
];
/// What a call that reads a value observes.
pub const READING: &[Field] = &[
    Field::Error,
    Field::Ms,
    Field::Ok,
    Field::Errors,
    Field::Value,
];
/// What a step that acts on several things observes.
pub const COUNTED: &[Field] = &[
    Field::Error,
    Field::Ms,
    Field::Ok,
    Field::Errors,
    Field::Count,
];
/// What a step observes that only takes time.
pub const TIME: &[Field] = &[Field::Ms];

/// What a step is, beside how it runs. Its documentation and that of its keys is that of
/// the struct and its fields.
pub trait Definition: DeserializeOwned + JsonSchema + Serialize {
    /// The key that a bare value stands for.
    const SHORTHAND: Option<&'static str> = None;
    /// What it observes, as `LIST.STEP.FIELD`.
    const OBSERVES: &'static [Field] = RESULT;
    /// What its name stands for, beside the step.
    const MAKES: Makes = Makes::Nothing;
    /// Whether it prepares what the following steps are about: where it fails, they try
    /// something else than the suite says.
    const PREPARES: bool = false;

    /// Whether a time limit of its own can end it, with [`LATE`](crate::errno::LATE).
    fn is_limited(&self) -> bool {
        false
    }

    /// What the field `value` can be.
    fn value(&self) -> Values {
        Values::Quantity
    }

    /// The step of another list that it waits for, or that has to end before it begins.
    fn waits_for(&self) -> Option<&StepReference> {
        None
    }
}

/// How a step of an actor runs.
pub trait RunByActor: Definition {
    /// Runs it once.
    fn run(&self, actor: &mut ActorContext<'_>) -> Calls;
}

/// How a step of the lab runs.
pub trait RunByLab: Definition {
    /// Runs it once. Breaks where the run was over before the step ended.
    fn run(&self, lab: &mut LabContext<'_>) -> Result<ControlFlow<()>, LabError>;
}

/// What the name of a step stands for, beside the step.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Makes {
    /// Nothing.
    Nothing,
    /// A socket or a set of them, for `on`.
    Sockets,
    /// A file that it sends, for `file`.
    File,
}

/// What an observed value can be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Values {
    /// A number, bytes or a time.
    Quantity,
    /// An errno's name or `none`.
    Errno,
    /// Some of these words, joined by `|`.
    Flags(&'static [&'static str]),
    /// Any text.
    Text,
}

/// The documentation of a step.
#[derive(Debug)]
pub struct Documentation {
    /// What a suite calls it.
    pub name: &'static str,
    /// The key that a bare value stands for.
    pub shorthand: Option<&'static str>,
    /// What it observes.
    pub observes: &'static [Field],
    /// The schema of what it takes: descriptions, defaults, choices.
    pub takes: Json,
}

impl Documentation {
    fn of<T: Definition>(name: &'static str) -> Self {
        let mut takes = schema::of::<T>();
        takes["properties"]["as"] = json!({
            "anyOf": [{"type": "string", "pattern": "^[a-z0-9-]+$"}, schema::axis_value()],
            "description": match T::MAKES {
                Makes::Nothing => "The name of the step.",
                Makes::Sockets => "The name of the step, and of the sockets that it makes.",
                Makes::File => "The name of the step, and of the file that it sends.",
            },
        });
        takes["properties"]["may-fail"] = json!({
            "anyOf": [{"type": "boolean"}, schema::axis_value()],
            "description": "true: where it fails and nothing is expected of it, that is no \
                            error of the run and is not shown.",
        });
        if T::SHORTHAND == Some("as") {
            takes["required"] = json!(["as"]);
        }
        Self {
            name,
            shorthand: T::SHORTHAND,
            observes: T::OBSERVES,
            takes,
        }
    }

    /// Whether a key has to be there.
    pub fn requires(&self, key: &str) -> bool {
        let required = self.takes["required"].as_array();
        required.is_some_and(|keys| keys.iter().any(|required| required == key))
    }

    /// The schema of the step, a mapping with one key or the bare word.
    fn schema(&self) -> Json {
        let mut mapping = self.takes.clone();
        let description = mapping["description"].take();
        if let Json::Object(mapping) = &mut mapping {
            mapping.remove("description");
        }
        let Some(key) = self.shorthand else {
            mapping["description"] = description;
            return mapping;
        };
        let mut bare = self.takes["properties"][key].clone();
        if let Json::Object(bare) = &mut bare {
            bare.remove("description");
            bare.remove("default");
        }
        json!({"anyOf": [bare, mapping], "description": description})
    }
}

/// The schema of one of several steps.
fn schema_of(steps: &[Documentation]) -> Json {
    let is_bare =
        |step: &&Documentation| step.takes["required"].as_array().is_none_or(Vec::is_empty);
    let bare: Vec<&str> = steps.iter().filter(is_bare).map(|step| step.name).collect();
    let properties: serde_json::Map<String, Json> = steps
        .iter()
        .map(|step| (step.name.to_owned(), step.schema()))
        .collect();
    json!({"anyOf": [
        {"enum": bare},
        {"type": "object", "properties": properties, "additionalProperties": false,
         "minProperties": 1, "maxProperties": 1},
    ]})
}

/// Declares the steps: the module, what a suite calls the step, its struct.
macro_rules! steps {
    (
        actor { $($actor:ident $actor_name:literal $Actor:ident,)* }
        both { $($both:ident $both_name:literal $Both:ident,)* }
        lab { $($lab:ident $lab_name:literal $Lab:ident,)* }
    ) => {
        $(pub mod $actor;)*
        $(pub mod $both;)*
        $(pub mod $lab;)*

        /// What a step of an actor does.
        #[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
        #[expect(missing_docs, reason = "the struct of each has its documentation")]
        pub enum ActorStep {
            $(#[serde(rename = $actor_name)] $Actor($actor::$Actor),)*
            $(#[serde(rename = $both_name)] $Both($both::$Both),)*
            /// A synthetic step of a command: it is ready. No suite writes it.
            #[serde(rename = "$ready")]
            Ready(Ready),
        }

        /// What a step of the lab does.
        #[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
        #[expect(missing_docs, reason = "the struct of each has its documentation")]
        pub enum LabStep {
            $(#[serde(rename = $both_name)] $Both($both::$Both),)*
            $(#[serde(rename = $lab_name)] $Lab($lab::$Lab),)*
        }

        kind!(
            ActorStep { $($Actor $actor_name,)* $($Both $both_name,)* Ready "ready", }
            fn inner(&self) -> &[Step<Self>] {
                match self {
                    Self::Repeat(repeat) => &repeat.steps.0,
                    _ => &[],
                }
            }
        );
        kind!(LabStep { $($Both $both_name,)* $($Lab $lab_name,)* });

        impl ActorStep {
            /// Runs it once.
            pub fn run(&self, actor: &mut ActorContext<'_>) -> Calls {
                match self {
                    $(Self::$Actor(step) => RunByActor::run(step, actor),)*
                    $(Self::$Both(step) => RunByActor::run(step, actor),)*
                    Self::Ready(step) => RunByActor::run(step, actor),
                }
            }

            /// The documentation of each.
            pub fn documentation() -> Vec<Documentation> {
                vec![
                    $(Documentation::of::<$actor::$Actor>($actor_name),)*
                    $(Documentation::of::<$both::$Both>($both_name),)*
                ]
            }
        }

        impl LabStep {
            /// Runs it once. Breaks where the run was over before the step ended.
            pub fn run(&self, lab: &mut LabContext<'_>) -> Result<ControlFlow<()>, LabError> {
                match self {
                    $(Self::$Both(step) => RunByLab::run(step, lab),)*
                    $(Self::$Lab(step) => RunByLab::run(step, lab),)*
                }
            }

            /// The documentation of each.
            pub fn documentation() -> Vec<Documentation> {
                vec![
                    $(Documentation::of::<$both::$Both>($both_name),)*
                    $(Documentation::of::<$lab::$Lab>($lab_name),)*
                ]
            }
        }

        /// The key that a bare value of a step stands for.
        pub fn shorthand(name: &str) -> Option<&'static str> {
            match name {
                $($actor_name => $actor::$Actor::SHORTHAND,)*
                $($both_name => $both::$Both::SHORTHAND,)*
                $($lab_name => $lab::$Lab::SHORTHAND,)*
                _ => None,
            }
        }
    };
}

/// What the steps of actors and those of the lab have in common.
macro_rules! kind {
    ($Kind:ident { $($Step:ident $name:literal,)* } $($more:item)?) => {
        impl Kind for $Kind {
            fn name(&self) -> &'static str {
                match self { $(Self::$Step(_) => $name,)* }
            }

            fn observes(&self) -> &'static [Field] {
                fn of<T: Definition>(_: &T) -> &'static [Field] { T::OBSERVES }
                match self { $(Self::$Step(step) => of(step),)* }
            }

            fn makes(&self) -> Makes {
                fn of<T: Definition>(_: &T) -> Makes { T::MAKES }
                match self { $(Self::$Step(step) => of(step),)* }
            }

            fn value(&self) -> Values {
                match self { $(Self::$Step(step) => step.value(),)* }
            }

            fn prepares(&self) -> bool {
                fn of<T: Definition>(_: &T) -> bool { T::PREPARES }
                match self { $(Self::$Step(step) => of(step),)* }
            }

            fn is_limited(&self) -> bool {
                match self { $(Self::$Step(step) => step.is_limited(),)* }
            }

            fn waits_for(&self) -> Option<&StepReference> {
                match self { $(Self::$Step(step) => step.waits_for(),)* }
            }

            $($more)?
        }
    };
}

/// What is common to the steps of actors and of the lab.
pub trait Kind: Sized + 'static {
    /// What a suite calls it.
    fn name(&self) -> &'static str;
    /// What it observes.
    fn observes(&self) -> &'static [Field];
    /// What its name stands for.
    fn makes(&self) -> Makes;
    /// What the field `value` can be.
    fn value(&self) -> Values;
    /// Whether it prepares what the following steps are about.
    fn prepares(&self) -> bool;
    /// Whether a time limit of its own can end it.
    fn is_limited(&self) -> bool;
    /// The step of another list that has to end before it begins, or that it waits for.
    fn waits_for(&self) -> Option<&StepReference>;
    /// The steps inside it.
    fn inner(&self) -> &[Step<Self>] {
        &[]
    }
}

steps! {
    actor {
        socket "socket" Socket,
        setsockopt "setsockopt" Setsockopt,
        getsockopt "getsockopt" Getsockopt,
        getsockname "getsockname" Getsockname,
        getpeername "getpeername" Getpeername,
        fcntl "fcntl" Fcntl,
        bind "bind" Bind,
        listen "listen" Listen,
        accept "accept" Accept,
        connect "connect" Connect,
        poll "poll" Poll,
        epoll_ctl "epoll-ctl" Epollctl,
        epoll_wait "epoll-wait" Epollwait,
        write "write" Write,
        sendfile "sendfile" Sendfile,
        splice "splice" Splice,
        pwrite "pwrite" Pwrite,
        ftruncate "ftruncate" Ftruncate,
        read "read" Read,
        read_to_end "read-to-end" ReadToEnd,
        send "send" Send,
        recv "recv" Recv,
        error_queue "error-queue" ErrorQueue,
        drain "drain" Drain,
        shutdown "shutdown" Shutdown,
        ioctl "ioctl" Ioctl,
        tcp_info "tcp-info" Tcpinfo,
        wait_outq_empty "wait-outq-empty" WaitOutqEmpty,
        close "close" Close,
        dup "dup" Dup,
        send_rights "send-rights" Sendrights,
        receive_rights "receive-rights" Receiverights,
        fork "fork" Fork,
        exit "exit" Exit,
        setrlimit "setrlimit" Setrlimit,
        setuid "setuid" Setuid,
        sigaction "sigaction" Sigaction,
        repeat "repeat" Repeat,
        peers "peers" Peers,
        dial "dial" Dial,
        peer "peer" Peer,
        tally "tally" Tally,
    }
    both {
        sleep "sleep" Sleep,
        r#await "await" Await,
    }
    lab {
        link_down "link-down" LinkDown,
        link_up "link-up" LinkUp,
        link "link" Link,
        inject "inject" Inject,
        signal "signal" Signal,
        restart "restart" Restart,
        destroy "destroy" Destroy,
        sysctl "sysctl" Sysctl,
        kernel_sysctl "kernel-sysctl" KernelSysctl,
        track_connections "track-connections" TrackConnections,
        sample "sample" Sample,
        until "until" Until,
        capture "capture" Capture,
    }
}

/// A synthetic step of a command: it is ready, and its clients can begin.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Ready {}

impl Definition for Ready {}

impl RunByActor for Ready {
    fn run(&self, _: &mut ActorContext<'_>) -> Calls {
        // The command's own process says when it is.
        Calls::default()
    }
}

/// One step of a list.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename = "$Step")]
pub struct Step<K> {
    /// What it does.
    pub kind: K,
    /// `as`, or what the step is called.
    #[serde(deserialize_with = "name::read")]
    pub name: String,
    /// Whether it may fail without anything being expected of it.
    #[serde(default, rename = "may-fail")]
    pub may_fail: bool,
    /// Where it stands; not sent to actors and guests.
    #[serde(default, skip_serializing)]
    pub place: Place,
}

impl<K: Kind> Step<K> {
    /// A step that no suite writes.
    pub fn synthetic(kind: K, place: Place) -> Self {
        let name = kind.name().to_owned();
        Self {
            kind,
            name,
            may_fail: false,
            place,
        }
    }

    /// The step of another list that has to end before this one begins, or that it waits
    /// for.
    pub fn waits_for(&self) -> Option<&StepReference> {
        self.kind.waits_for()
    }

    /// Whether no suite writes it.
    pub fn is_synthetic(&self) -> bool {
        self.kind.name() == "ready"
    }

    /// The steps inside it.
    pub fn inner(&self) -> &[Self] {
        self.kind.inner()
    }
}

/// The steps of a list and those inside them, in order.
pub fn flatten<K: Kind>(steps: &[Step<K>]) -> Box<dyn Iterator<Item = &Step<K>> + '_> {
    Box::new(
        steps
            .iter()
            .flat_map(|step| std::iter::once(step).chain(flatten(step.inner()))),
    )
}

/// A list of steps.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Steps<K>(pub Vec<Step<K>>);

impl<K> Default for Steps<K> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, K: Deserialize<'de>> Deserialize<'de> for Steps<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_list(deserializer, "a list of steps").map(Self)
    }
}

/// Where the schema of a suite keeps the steps of a kind.
trait Definitions {
    const REFERENCE: &'static str;
}

impl Definitions for ActorStep {
    const REFERENCE: &'static str = "actor-step";
}

impl Definitions for LabStep {
    const REFERENCE: &'static str = "lab-step";
}

impl<K: Definitions> JsonSchema for Steps<K> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        K::REFERENCE.into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let step = json!({"$ref": format!("#/$defs/{}", K::REFERENCE)});
        json_schema!({"type": "array", "items": {"anyOf": [step, schema::axis_value()]}})
    }
}

/// The schemas of the steps, by the names under which lists refer to them.
pub fn schemas() -> [(&'static str, Json); 2] {
    [
        (ActorStep::REFERENCE, schema_of(&ActorStep::documentation())),
        (LabStep::REFERENCE, schema_of(&LabStep::documentation())),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::context::{Outcome, Shared};
    use super::*;
    use crate::lab::address::{Addresses, Family};
    use crate::yaml::error::SuiteError;
    use crate::yaml::node;
    use crate::yaml::reader::{Grammar, Mention, read};

    pub(super) fn step<K: DeserializeOwned>(
        text: &str,
    ) -> Result<(Step<K>, Vec<Mention>), SuiteError> {
        const GRAMMAR: Grammar = Grammar {
            shorthand,
            schema: || json!({"$defs": schemas().map(|(_, schema)| schema)}),
        };
        read(&node::parse(text).unwrap(), "steps", &GRAMMAR)
    }

    /// Runs steps of an actor on this machine's loopback, and returns what each observed.
    pub(super) fn run(steps: &[&str]) -> BTreeMap<String, Outcome> {
        let with = |v4, v6| Addresses {
            v4,
            v6,
            family: Family::V4,
        };
        let localhost = with(Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST);
        let any = with(Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED);
        let addresses = [("localhost", localhost), ("any", any)];
        let addresses = addresses.map(|(name, address)| (name.to_owned(), address));
        let host = "localhost".to_owned();
        let shared = Shared::new("actor".to_owned(), host, addresses.into(), -1, None);
        let mut context = ActorContext::new(&shared);
        let mut outcomes = BTreeMap::new();
        for text in steps {
            let (step, _) = step::<ActorStep>(text).unwrap();
            context.run(&step);
            let outcome = context.take_outcome(&step.name).unwrap();
            outcomes.insert(step.name, outcome);
        }
        outcomes
    }

    #[test]
    fn a_step_is_a_word_or_a_mapping_of_one() {
        for (text, same) in [
            ("accept", "accept: { count: 1 }"),
            ("accept: 2", "accept: { count: 2 }"),
            ("write: 1MB", "write: { bytes: 1000kB, chunk: 64KiB }"),
            ("write: \"220 Welcome\"", "write: { bytes: 220 Welcome }"),
            ("exit:", "exit: { status: 0 }"),
            (
                "setsockopt: { SO_LINGER: 1 }",
                "setsockopt: { SO_LINGER: [1, 0] }",
            ),
        ] {
            let kind = |text| step::<ActorStep>(text).unwrap().0.kind;
            assert_eq!(kind(text), kind(same), "{text}");
        }
        let (body, _) = step::<ActorStep>("write: { bytes: 1MB, as: body }").unwrap();
        assert_eq!((body.name.as_str(), body.kind.name()), ("body", "write"));
        assert_eq!(step::<LabStep>("sample: there").unwrap().0.name, "there");
    }

    /// Each step, and what the error says.
    #[test]
    fn what_is_wrong_with_a_step_is_said_with_its_place() {
        for (text, says) in [
            (
                "conect: \"server:1\"",
                "1:1: unknown step \"conect\"; did you mean \"connect\"?",
            ),
            ("link-down: server", "1:1: unknown step \"link-down\""),
            ("$ready", "1:1: unknown step \"$ready\""),
            ("{ read: 1, on: x }", "1:12: a step has one key"),
            ("[]", "1:1: a step can't be a list"),
            (
                "read: 5 apples",
                "1:7: read: \"5 apples\" isn't allowed here",
            ),
            ("read: { bytes: 5 apples }", "1:16: bytes: \"5 apples\""),
            (
                "read: { byte: 5 }",
                "1:9: unknown key \"byte\"; did you mean \"bytes\"?",
            ),
            ("read: {}", "1:7: read: \"bytes\" is missing"),
            ("read: []", "1:7: read: a list isn't allowed here"),
            ("accept: 0", "1:9: accept: \"0\" isn't allowed here"),
            ("accept: { as: No }", "1:15: as: \"No\" isn't allowed here"),
            ("connect: 7000", "1:10: connect needs a host"),
            (
                "shutdown: SHUT_ALL",
                "1:11: shutdown: \"SHUT_ALL\" isn't allowed here",
            ),
            ("setsockopt", "1:1: setsockopt: no option"),
            (
                "setsockopt: { SO_ERROR: 1 }",
                "1:15: unknown key \"SO_ERROR\"",
            ),
            (
                "setsockopt: { SO_SNDBUF: [1, 2] }",
                "1:26: SO_SNDBUF: a list isn't",
            ),
            (
                "repeat: { times: 1, steps: [{ red: 1 }] }",
                "1:31: unknown step \"red\"",
            ),
        ] {
            let error = step::<ActorStep>(text).unwrap_err().to_string();
            assert!(error.starts_with(says), "{text}: {error}");
        }
        let error = step::<LabStep>("sample").unwrap_err().to_string();
        assert!(
            error.starts_with("1:1: sample: \"as\" is missing"),
            "{error}"
        );
        let error = step::<ActorStep>("read: {}").unwrap_err();
        assert_eq!(error.hint, "bytes: How many bytes.");
    }

    #[test]
    fn names_in_a_step_are_kept_with_their_places() {
        let (_, mentions) =
            step::<LabStep>("destroy: { host: server, port: 7000, peer: client }").unwrap();
        let mentioned: Vec<_> = mentions
            .iter()
            .map(|mention| (mention.of, mention.text.as_str(), mention.place.column))
            .collect();
        let hosts = [("HostName", "server", 18), ("HostName", "client", 44)];
        assert_eq!(mentioned, hosts);
    }

    #[test]
    fn steps_act_on_the_sockets_of_those_before() {
        let outcomes = run(&[
            "listen: { port: 0, as: server }",
            "getsockopt: { option: SO_ERROR, as: error }",
            "dup: { as: second }",
            "close: server",
            "shutdown: { how: SHUT_RDWR, on: server, as: gone }",
            "shutdown: { how: SHUT_RDWR, on: second }",
        ]);
        assert_eq!(outcomes["error"].value.as_deref(), Some("none"));
        assert_eq!(outcomes["gone"].error.as_deref(), Some("EBADF"));
        // A listening socket that is shut down listens no longer.
        assert_eq!(
            (outcomes["shutdown"].ok, &outcomes["shutdown"].error),
            (1, &None)
        );
    }

    #[test]
    fn every_step_is_documented() {
        let all = ActorStep::documentation().into_iter();
        for step in all.chain(LabStep::documentation()) {
            let keys = step.takes["properties"].as_object().unwrap();
            if let Some(key) = step.shorthand {
                assert!(keys.contains_key(key), "{}", step.name);
            }
            for (key, value) in keys.iter().chain([(&step.name.to_owned(), &step.takes)]) {
                let text = value["description"].as_str().unwrap_or_default();
                assert!(!text.is_empty(), "{}: {key}", step.name);
            }
        }
    }
}
