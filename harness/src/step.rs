//! The steps of actors and of the lab. Each is a file here: a struct with what it takes,
//! what it observes, and how it runs. One line in the list below adds one.

pub mod call;
pub mod context;
pub mod name;
pub mod option;
pub mod page;
pub mod transfer;

use std::ops::ControlFlow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use crate::lab::LabError;
use crate::observation::Field;
use crate::yaml::error::Place;
use crate::yaml::schema;
use context::{ActorContext, Calls, LabContext};
use name::StepReference;

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
    const OBSERVES: &'static [Field];
    /// What its name stands for, beside the step.
    const MAKES: Makes = Makes::Nothing;

    /// What the field `value` can be.
    fn value(&self) -> Values {
        Values::Quantity
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
        let bare = self.shorthand.map(|key| {
            let mut value = self.takes["properties"][key].clone();
            if let Json::Object(value) = &mut value {
                value.remove("description");
                value.remove("default");
            }
            value
        });
        match bare {
            Some(bare) => json!({"anyOf": [bare, mapping], "description": description}),
            None => {
                mapping["description"] = description;
                mapping
            }
        }
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

        kind!(ActorStep { $($Actor $actor_name,)* $($Both $both_name,)* Ready "ready", });
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
    ($Kind:ident { $($Step:ident $name:literal,)* }) => {
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

            fn waits_for(&self) -> Option<&StepReference> {
                match self {
                    Self::Await(step) => Some(&step.step),
                    other => other.waits_first_for(),
                }
            }

            fn inner(&self) -> &[Step<Self>] {
                self.repeated()
            }
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
    /// The step of another list that has to end before it begins, or that it waits for.
    fn waits_for(&self) -> Option<&StepReference>;
    /// The steps inside it.
    fn inner(&self) -> &[Step<Self>];
}

steps! {
    actor {
        socket "socket" Socket,
        setsockopt "setsockopt" Setsockopt,
        getsockopt "getsockopt" Getsockopt,
        fcntl "fcntl" Fcntl,
        bind "bind" Bind,
        listen "listen" Listen,
        accept "accept" Accept,
        connect "connect" Connect,
        poll "poll" Poll,
        write "write" Write,
        sendfile "sendfile" Sendfile,
        splice "splice" Splice,
        pwrite "pwrite" Pwrite,
        ftruncate "ftruncate" Ftruncate,
        read "read" Read,
        read_to_end "read-to-end" ReadToEnd,
        drain "drain" Drain,
        shutdown "shutdown" Shutdown,
        wait_outq_empty "wait-outq-empty" WaitOutqEmpty,
        close "close" Close,
        dup "dup" Dup,
        fork "fork" Fork,
        exit "exit" Exit,
        setrlimit "setrlimit" Setrlimit,
        setuid "setuid" Setuid,
        repeat "repeat" Repeat,
    }
    both {
        sleep "sleep" Sleep,
        r#await "await" Await,
    }
    lab {
        link_down "link-down" LinkDown,
        link_up "link-up" LinkUp,
        signal "signal" Signal,
        restart "restart" Restart,
        destroy "destroy" Destroy,
        sysctl "sysctl" Sysctl,
        sample "sample" Sample,
        until "until" Until,
    }
}

impl ActorStep {
    fn waits_first_for(&self) -> Option<&StepReference> {
        match self {
            Self::Connect(connect) => connect.after.as_ref(),
            _ => None,
        }
    }

    fn repeated(&self) -> &[Step<Self>] {
        match self {
            Self::Repeat(repeat) => &repeat.steps.0,
            _ => &[],
        }
    }
}

impl LabStep {
    fn waits_first_for(&self) -> Option<&StepReference> {
        None
    }

    fn repeated(&self) -> &[Step<Self>] {
        &[]
    }
}

/// A synthetic step of a command: it is ready, and its clients can begin.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Ready {}

impl Definition for Ready {
    const OBSERVES: &'static [Field] = RESULT;
}

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
    /// Where it stands; not sent to actors and guests.
    #[serde(default, skip_serializing)]
    pub place: Place,
}

impl<K: Kind> Step<K> {
    /// A step that no suite writes.
    pub fn synthetic(kind: K, place: Place) -> Self {
        let name = kind.name().to_owned();
        Self { kind, name, place }
    }

    /// The step of another list that has to end before this one begins, or that it waits
    /// for.
    pub fn waits_for(&self) -> Option<&StepReference> {
        self.kind.waits_for()
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
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListVisitor<K>(std::marker::PhantomData<K>);

        impl<'de, K: Deserialize<'de>> serde::de::Visitor<'de> for ListVisitor<K> {
            type Value = Steps<K>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list of steps")
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(
                self,
                mut seq: A,
            ) -> Result<Steps<K>, A::Error> {
                let mut steps = Vec::new();
                while let Some(step) = seq.next_element()? {
                    steps.push(step);
                }
                Ok(Steps(steps))
            }
        }

        deserializer.deserialize_seq(ListVisitor(std::marker::PhantomData))
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
