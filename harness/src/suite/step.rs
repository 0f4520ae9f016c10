//! The steps of an actor and of the lab: what they are called, what they take
//! and what they observe.
//!
//! A step is named after the system call it makes. The table here is the one
//! list of them: the reader, the JSON Schema, the check of observation names
//! and the interpreter go by it.

use std::fmt;

use nix::unistd::Uid;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::error::{Place, SuiteError};
use super::form::{
    Fields, Form, Object, decode_object, object_schema, optional, required, unknown,
};
use super::node::{Key, Kind, Node};

/// The signals that the lab sends: those that end a process or hold it, and those that
/// servers take for orders.
pub const SIGNALS: &[&str] = &[
    "SIGKILL", "SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGSTOP", "SIGCONT",
];

/// Who runs a list of steps.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Room {
    /// A process in a host's namespace.
    Actor,
    /// The harness itself, over all hosts.
    Lab,
}

impl Room {
    /// Where the JSON Schema keeps the steps of this room.
    pub fn schema_reference(self) -> &'static str {
        match self {
            Self::Actor => "#/$defs/actor-step",
            Self::Lab => "#/$defs/lab-step",
        }
    }

    fn verbs(self) -> impl Iterator<Item = &'static VerbSpec> + Clone {
        VERBS.iter().filter(move |spec| spec.rooms.contains(&self))
    }

    /// The JSON Schema of one step of this room.
    pub fn schema(self) -> Json {
        let bare: Vec<&str> = self
            .verbs()
            .filter(|spec| spec.object.fields.iter().all(|field| !field.required))
            .map(|spec| spec.name)
            .collect();
        let properties: serde_json::Map<String, Json> = self
            .verbs()
            .map(|spec| {
                let mut value = object_schema(spec.object);
                value["description"] = json!(spec.doc);
                (spec.name.to_owned(), value)
            })
            .collect();
        json!({"anyOf": [
            {"enum": bare},
            {"type": "object", "properties": properties, "additionalProperties": false,
             "minProperties": 1, "maxProperties": 1},
        ]})
    }
}

/// What a step does.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the table below describes each")]
pub enum Verb {
    Socket,
    Setsockopt,
    Getsockopt,
    Fcntl,
    Bind,
    Listen,
    Accept,
    Connect,
    Poll,
    Write,
    Sendfile,
    Splice,
    Pwrite,
    Ftruncate,
    Read,
    ReadToEnd,
    Drain,
    Shutdown,
    WaitOutqEmpty,
    Close,
    Dup,
    Fork,
    Exit,
    Setrlimit,
    Setuid,
    Sleep,
    Await,
    Repeat,
    LinkDown,
    LinkUp,
    Signal,
    Destroy,
    Sysctl,
    Sample,
    Until,
    Restart,
    Ready,
}

/// A row of the table of steps.
#[derive(Debug)]
pub struct VerbSpec {
    /// The step.
    pub verb: Verb,
    /// What a suite calls it.
    pub name: &'static str,
    /// What it does.
    pub doc: &'static str,
    /// Who can run it.
    pub rooms: &'static [Room],
    /// What it takes.
    pub object: &'static Object,
    /// What it observes: `actor.step.FIELD`. `errors` stands for
    /// `errors.ERRNO`.
    pub yields: &'static [&'static str],
}

const AS: super::form::Field = optional(
    "as",
    Form::Name,
    "the name of the step, and of the socket or set of sockets that it makes",
);
const ON: super::form::Field = optional(
    "on",
    Form::Name,
    "the socket or set of sockets it acts on; else the one used last",
);
const CHUNK: super::form::Field = optional(
    "chunk",
    Form::Bytes,
    "the size of one system call's buffer; 64KiB unless told",
);
const WITHIN: super::form::Field = optional(
    "within",
    Form::Duration,
    "ETIMEDOUT where it is not done by then; no limit unless told",
);
const EVERY: super::form::Field =
    optional("every", Form::Duration, "a pause before each system call");
const FILE: super::form::Field = required(
    "file",
    Form::Name,
    "the sendfile or splice of the same actor that sent it",
);

/// The values of socket options that `setsockopt` sets; see
/// [`crate::actor::option`] for what the kernel calls them.
const SETSOCKOPT: &Object = &Object {
    short: None,
    fields: &[
        AS,
        ON,
        optional("SO_REUSEADDR", Form::OptionValue, "socket(7)"),
        optional("SO_REUSEPORT", Form::OptionValue, "socket(7)"),
        optional(
            "SO_LINGER",
            Form::OptionValue,
            "socket(7): [l_onoff, l_linger in seconds]",
        ),
        optional(
            "SO_SNDBUF",
            Form::OptionValue,
            "socket(7): bytes; the kernel doubles them",
        ),
        optional(
            "SO_RCVBUF",
            Form::OptionValue,
            "socket(7): bytes; the kernel doubles them",
        ),
        optional("SO_KEEPALIVE", Form::OptionValue, "socket(7)"),
        optional("TCP_KEEPIDLE", Form::OptionValue, "tcp(7): seconds"),
        optional("TCP_KEEPINTVL", Form::OptionValue, "tcp(7): seconds"),
        optional("TCP_KEEPCNT", Form::OptionValue, "tcp(7)"),
        optional(
            "TCP_USER_TIMEOUT",
            Form::OptionValue,
            "tcp(7): milliseconds",
        ),
        optional("TCP_NODELAY", Form::OptionValue, "tcp(7)"),
        optional("TCP_CORK", Form::OptionValue, "tcp(7)"),
        optional("TCP_QUICKACK", Form::OptionValue, "tcp(7)"),
        optional("TCP_LINGER2", Form::OptionValue, "tcp(7): seconds"),
        optional("TCP_DEFER_ACCEPT", Form::OptionValue, "tcp(7): seconds"),
        optional("TCP_SYNCNT", Form::OptionValue, "tcp(7)"),
        optional("TCP_MAXSEG", Form::OptionValue, "tcp(7): bytes"),
        optional("TCP_WINDOW_CLAMP", Form::OptionValue, "tcp(7): bytes"),
        optional("TCP_NOTSENT_LOWAT", Form::OptionValue, "tcp(7): bytes"),
        optional("IP_BIND_ADDRESS_NO_PORT", Form::OptionValue, "ip(7)"),
        optional("IPV6_V6ONLY", Form::OptionValue, "ipv6(7)"),
    ],
};

/// Every socket option that `getsockopt` reads.
const GETSOCKOPT_NAMES: &[&str] = &[
    "SO_REUSEADDR",
    "SO_REUSEPORT",
    "SO_LINGER",
    "SO_ERROR",
    "SO_SNDBUF",
    "SO_RCVBUF",
    "SO_KEEPALIVE",
    "TCP_KEEPIDLE",
    "TCP_KEEPINTVL",
    "TCP_KEEPCNT",
    "TCP_USER_TIMEOUT",
    "TCP_NODELAY",
    "TCP_CORK",
    "TCP_QUICKACK",
    "TCP_LINGER2",
    "TCP_DEFER_ACCEPT",
    "TCP_SYNCNT",
    "TCP_MAXSEG",
    "TCP_WINDOW_CLAMP",
    "TCP_NOTSENT_LOWAT",
    "IP_BIND_ADDRESS_NO_PORT",
    "IPV6_V6ONLY",
];

const ACTOR: &[Room] = &[Room::Actor];
const LAB: &[Room] = &[Room::Lab];
const BOTH: &[Room] = &[Room::Actor, Room::Lab];

const RESULT: &[&str] = &["error", "ms", "ok", "errors"];
const TRANSFER: &[&str] = &["error", "ms", "ok", "errors", "bytes"];
const RECEIPT: &[&str] = &["error", "ms", "ok", "errors", "bytes", "nonzero_bytes"];
const READING: &[&str] = &["error", "ms", "ok", "errors", "value"];
const COUNTED: &[&str] = &["error", "ms", "ok", "errors", "count"];

/// Every step there is.
pub const VERBS: &[VerbSpec] = &[
    VerbSpec {
        verb: Verb::Socket,
        name: "socket",
        doc: "socket(2): a TCP socket that the following steps use",
        rooms: ACTOR,
        object: &Object {
            short: None,
            fields: &[
                AS,
                optional(
                    "family",
                    Form::Choice(&["ipv4", "ipv6"]),
                    "the scenario's family unless told",
                ),
            ],
        },
        yields: RESULT,
    },
    VerbSpec {
        verb: Verb::Setsockopt,
        name: "setsockopt",
        doc: "setsockopt(2): one or more options by name",
        rooms: ACTOR,
        object: SETSOCKOPT,
        yields: RESULT,
    },
    VerbSpec {
        verb: Verb::Getsockopt,
        name: "getsockopt",
        doc: "getsockopt(2): the option's value, SO_ERROR as an errno's name",
        rooms: ACTOR,
        object: &Object {
            short: Some("option"),
            fields: &[
                AS,
                ON,
                required("option", Form::Choice(GETSOCKOPT_NAMES), "the option"),
            ],
        },
        yields: READING,
    },
    VerbSpec {
        verb: Verb::Fcntl,
        name: "fcntl",
        doc: "fcntl(2) F_SETFL",
        rooms: ACTOR,
        object: &Object {
            short: Some("flags"),
            fields: &[
                AS,
                ON,
                required(
                    "flags",
                    Form::Choice(&["O_NONBLOCK", "none"]),
                    "the flags to set",
                ),
            ],
        },
        yields: RESULT,
    },
    VerbSpec {
        verb: Verb::Bind,
        name: "bind",
        doc: "bind(2); makes a socket unless `socket` or `on` gives one",
        rooms: ACTOR,
        object: &Object {
            short: Some("to"),
            fields: &[
                AS,
                ON,
                required(
                    "to",
                    Form::Endpoint,
                    "a port of the actor's host, or host:port, where any and localhost are hosts too; port 0 is any",
                ),
            ],
        },
        yields: RESULT,
    },
    VerbSpec {
        verb: Verb::Listen,
        name: "listen",
        doc: "listen(2); with a port it makes and binds a socket where needed",
        rooms: ACTOR,
        object: &Object {
            short: Some("port"),
            fields: &[
                AS,
                ON,
                optional("port", Form::Endpoint, "the port to bind first, as of bind"),
                optional("backlog", Form::Count, "128 unless told"),
            ],
        },
        yields: RESULT,
    },
    VerbSpec {
        verb: Verb::Accept,
        name: "accept",
        doc: "accept(2)",
        rooms: ACTOR,
        object: &Object {
            short: Some("count"),
            fields: &[
                AS,
                ON,
                optional("count", Form::Positive, "how many; 1 unless told"),
            ],
        },
        yields: RESULT,
    },
    VerbSpec {
        verb: Verb::Connect,
        name: "connect",
        doc: "connect(2); makes a socket unless `socket`, `bind` or `on` gives one",
        rooms: ACTOR,
        object: &Object {
            short: Some("to"),
            fields: &[
                AS,
                ON,
                required(
                    "to",
                    Form::Endpoint,
                    "host:port; localhost is the actor's own",
                ),
                optional(
                    "after",
                    Form::Reference,
                    "the step that has to end first; the first listen on that port unless told",
                ),
            ],
        },
        yields: RESULT,
    },
    VerbSpec {
        verb: Verb::Poll,
        name: "poll",
        doc: "poll(2): value is the revents, such as POLLIN|POLLHUP, or none",
        rooms: ACTOR,
        object: &Object {
            short: Some("events"),
            fields: &[
                AS,
                ON,
                optional(
                    "events",
                    Form::Choice(&["POLLIN", "POLLOUT", "POLLRDHUP", "none"]),
                    "what to wait for; POLLIN unless told (errors always end it)",
                ),
                optional("timeout", Form::Duration, "no limit unless told"),
            ],
        },
        yields: READING,
    },
    VerbSpec {
        verb: Verb::Write,
        name: "write",
        doc: "write(2) of a text, or of zeros, until all is taken or an error comes",
        rooms: ACTOR,
        object: &Object {
            short: Some("bytes"),
            fields: &[
                AS,
                ON,
                required("bytes", Form::Payload, "how many bytes, or a text"),
                CHUNK,
                EVERY,
                WITHIN,
            ],
        },
        yields: TRANSFER,
    },
    VerbSpec {
        verb: Verb::Sendfile,
        name: "sendfile",
        doc: "sendfile(2) from a file of so many zeros until all is taken",
        rooms: ACTOR,
        object: &Object {
            short: Some("bytes"),
            fields: &[AS, ON, required("bytes", Form::Bytes, "how many")],
        },
        yields: TRANSFER,
    },
    VerbSpec {
        verb: Verb::Splice,
        name: "splice",
        doc: "splice(2) from a file of so many zeros through a pipe until all is taken",
        rooms: ACTOR,
        object: &Object {
            short: Some("bytes"),
            fields: &[AS, ON, required("bytes", Form::Bytes, "how many")],
        },
        yields: TRANSFER,
    },
    VerbSpec {
        verb: Verb::Pwrite,
        name: "pwrite",
        doc: "pwrite(2): ones over a file that was sent, from its start",
        rooms: ACTOR,
        object: &Object {
            short: None,
            fields: &[AS, FILE, required("bytes", Form::Bytes, "how many")],
        },
        yields: RESULT,
    },
    VerbSpec {
        verb: Verb::Ftruncate,
        name: "ftruncate",
        doc: "ftruncate(2): leaves nothing in a file that was sent",
        rooms: ACTOR,
        object: &Object {
            short: Some("file"),
            fields: &[AS, FILE],
        },
        yields: RESULT,
    },
    VerbSpec {
        verb: Verb::Read,
        name: "read",
        doc: "read(2) until that many bytes are there, the stream ends or an error comes",
        rooms: ACTOR,
        object: &Object {
            short: Some("bytes"),
            fields: &[
                AS,
                ON,
                required("bytes", Form::Bytes, "how many"),
                CHUNK,
                EVERY,
                WITHIN,
            ],
        },
        yields: RECEIPT,
    },
    VerbSpec {
        verb: Verb::ReadToEnd,
        name: "read-to-end",
        doc: "read(2) until it returns 0 or an error; error is none at EOF",
        rooms: ACTOR,
        object: &Object {
            short: None,
            fields: &[AS, ON, CHUNK, EVERY, WITHIN],
        },
        yields: RECEIPT,
    },
    VerbSpec {
        verb: Verb::Drain,
        name: "drain",
        doc: "recv(2) with MSG_DONTWAIT until nothing is left; error is none then and at EOF",
        rooms: ACTOR,
        object: &Object {
            short: None,
            fields: &[AS, ON],
        },
        yields: RECEIPT,
    },
    VerbSpec {
        verb: Verb::Shutdown,
        name: "shutdown",
        doc: "shutdown(2)",
        rooms: ACTOR,
        object: &Object {
            short: Some("how"),
            fields: &[
                AS,
                ON,
                required(
                    "how",
                    Form::Choice(&["SHUT_RD", "SHUT_WR", "SHUT_RDWR"]),
                    "what",
                ),
            ],
        },
        yields: RESULT,
    },
    VerbSpec {
        verb: Verb::WaitOutqEmpty,
        name: "wait-outq-empty",
        doc: "ioctl(2) SIOCOUTQ until it reads 0, or SO_ERROR is set; value is what it read last",
        rooms: ACTOR,
        object: &Object {
            short: Some("timeout"),
            fields: &[
                AS,
                ON,
                optional(
                    "timeout",
                    Form::Duration,
                    "ETIMEDOUT after that; no limit unless told",
                ),
                optional(
                    "every",
                    Form::Duration,
                    "the pause between two looks; 1ms unless told",
                ),
            ],
        },
        yields: READING,
    },
    VerbSpec {
        verb: Verb::Close,
        name: "close",
        doc: "close(2)",
        rooms: ACTOR,
        object: &Object {
            short: Some("on"),
            fields: &[AS, ON, EVERY],
        },
        yields: RESULT,
    },
    VerbSpec {
        verb: Verb::Dup,
        name: "dup",
        doc: "dup(2): a second descriptor, named by `as`",
        rooms: ACTOR,
        object: &Object {
            short: None,
            fields: &[AS, ON],
        },
        yields: RESULT,
    },
    VerbSpec {
        verb: Verb::Fork,
        name: "fork",
        doc: "fork(2): a child that holds every descriptor and does nothing",
        rooms: ACTOR,
        object: &Object {
            short: Some("hold"),
            fields: &[
                AS,
                optional(
                    "hold",
                    Form::Duration,
                    "how long it lives; to the run's end unless told",
                ),
            ],
        },
        yields: RESULT,
    },
    VerbSpec {
        verb: Verb::Exit,
        name: "exit",
        doc: "exit(2) without closing anything; the kernel does",
        rooms: ACTOR,
        object: &Object {
            short: Some("status"),
            fields: &[AS, optional("status", Form::Count, "0 unless told")],
        },
        yields: &[],
    },
    VerbSpec {
        verb: Verb::Setrlimit,
        name: "setrlimit",
        doc: "setrlimit(2) on the actor's process",
        rooms: ACTOR,
        object: &Object {
            short: None,
            fields: &[
                AS,
                required(
                    "RLIMIT_NOFILE",
                    Form::Positive,
                    "descriptors; the actor itself has a handful open",
                ),
            ],
        },
        yields: RESULT,
    },
    VerbSpec {
        verb: Verb::Setuid,
        name: "setuid",
        doc: "setuid(2): the actor's process becomes another user's",
        rooms: ACTOR,
        object: &Object {
            short: Some("uid"),
            fields: &[AS, required("uid", Form::Count, "the user's number")],
        },
        yields: RESULT,
    },
    VerbSpec {
        verb: Verb::Sleep,
        name: "sleep",
        doc: "waits at least that long",
        rooms: BOTH,
        object: &Object {
            short: Some("time"),
            fields: &[AS, required("time", Form::Duration, "how long")],
        },
        yields: &["ms"],
    },
    VerbSpec {
        verb: Verb::Await,
        name: "await",
        doc: "waits until a step of another list has ended, well or not",
        rooms: BOTH,
        object: &Object {
            short: Some("step"),
            fields: &[
                AS,
                required("step", Form::Reference, "actor.step, or lab.step"),
            ],
        },
        yields: &["ms"],
    },
    VerbSpec {
        verb: Verb::Repeat,
        name: "repeat",
        doc: "runs steps that many times; sockets of one name become a set",
        rooms: ACTOR,
        object: &Object {
            short: None,
            fields: &[
                AS,
                required("times", Form::Positive, "how often"),
                required("steps", Form::Steps(Room::Actor), "what"),
                EVERY,
            ],
        },
        yields: &["ms"],
    },
    VerbSpec {
        verb: Verb::LinkDown,
        name: "link-down",
        doc: "takes a host's link away without a word to anyone; what is sent is lost",
        rooms: LAB,
        object: &Object {
            short: Some("host"),
            fields: &[AS, required("host", Form::Name, "whose link")],
        },
        yields: RESULT,
    },
    VerbSpec {
        verb: Verb::LinkUp,
        name: "link-up",
        doc: "brings a host's link back",
        rooms: LAB,
        object: &Object {
            short: Some("host"),
            fields: &[AS, required("host", Form::Name, "whose link")],
        },
        yields: RESULT,
    },
    VerbSpec {
        verb: Verb::Signal,
        name: "signal",
        doc: "kill(2) to an actor's process",
        rooms: LAB,
        object: &Object {
            short: None,
            fields: &[
                AS,
                required("actor", Form::Name, "which actor"),
                required("signal", Form::Choice(SIGNALS), "which signal"),
                optional(
                    "to",
                    Form::Choice(&["main", "all"]),
                    "of a command: the process that was started, or all that came of it; \
                     main unless told",
                ),
            ],
        },
        yields: RESULT,
    },
    VerbSpec {
        verb: Verb::Restart,
        name: "restart",
        doc: "starts an actor's command anew once the process that was started before is gone, \
              and waits until it is ready; ECHILD where it ends before it is",
        rooms: LAB,
        object: &Object {
            short: Some("actor"),
            fields: &[
                AS,
                required("actor", Form::Name, "which actor"),
                optional(
                    "timeout",
                    Form::Duration,
                    "ETIMEDOUT where it is not ready after that; no limit unless told",
                ),
            ],
        },
        yields: RESULT,
    },
    VerbSpec {
        verb: Verb::Destroy,
        name: "destroy",
        doc: "SOCK_DESTROY on a host's sockets, as `ss -K` does; count is how many",
        rooms: LAB,
        object: &Object {
            short: Some("host"),
            fields: &[
                AS,
                required("host", Form::Name, "whose sockets"),
                optional(
                    "state",
                    Form::Choice(super::vocabulary::STATES),
                    "only in this state",
                ),
                optional("port", Form::Count, "only with this local port"),
                optional("peer", Form::Name, "only those that lead to this host"),
            ],
        },
        yields: COUNTED,
    },
    VerbSpec {
        verb: Verb::Sysctl,
        name: "sysctl",
        doc: "sets a sysctl of a host's namespace",
        rooms: LAB,
        object: &Object {
            short: None,
            fields: &[
                AS,
                required("host", Form::Name, "whose"),
                required("name", Form::Text, "the sysctl, dotted"),
                required("value", Form::Text, "its value"),
            ],
        },
        yields: RESULT,
    },
    VerbSpec {
        verb: Verb::Sample,
        name: "sample",
        doc: "looks at every host's sockets now, SAMPLE.HOST.sockets.STATE, and at what commands \
              use, SAMPLE.ACTOR.usage.FIELD",
        rooms: LAB,
        object: &Object {
            short: Some("as"),
            fields: &[required("as", Form::Name, "the name of the sample")],
        },
        yields: &[],
    },
    VerbSpec {
        verb: Verb::Until,
        name: "until",
        doc: "waits until HOST.sockets.STATE meets a condition; ms is how long that took",
        rooms: LAB,
        object: &Object {
            short: None,
            fields: &[
                AS,
                required("observation", Form::Text, "HOST.sockets.STATE"),
                required("condition", Form::Condition, "what it has to be"),
                optional(
                    "timeout",
                    Form::Duration,
                    "ETIMEDOUT after that; no limit unless told",
                ),
            ],
        },
        yields: READING,
    },
    // No step that a suite can write: that a command is ready is observed, and
    // awaited, as if it were one.
    VerbSpec {
        verb: Verb::Ready,
        name: "ready",
        doc: "an actor's command is ready",
        rooms: &[],
        object: &Object {
            short: None,
            fields: &[],
        },
        yields: RESULT,
    },
];

impl Verb {
    /// The verb's row in the table.
    pub fn spec(self) -> &'static VerbSpec {
        VERBS
            .iter()
            .find(|spec| spec.verb == self)
            .unwrap_or(&VERBS[0])
    }
}

impl Verb {
    /// Whether the step's name is also that of a socket, or of a set of them.
    pub fn makes_a_socket(self) -> bool {
        matches!(
            self,
            Self::Socket | Self::Bind | Self::Listen | Self::Accept | Self::Connect | Self::Dup
        )
    }

    /// Whether the step's name is also that of the file that it sends.
    pub fn sends_a_file(self) -> bool {
        matches!(self, Self::Sendfile | Self::Splice)
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.spec().name)
    }
}

/// One step of a list.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Step {
    /// What it does.
    pub verb: Verb,
    /// `as:` or the verb's name.
    pub name: String,
    /// What it was given.
    pub fields: Fields,
    /// Where it stands; not carried to the actors.
    #[serde(skip)]
    pub place: Place,
}

impl Step {
    /// Reads a step: a bare verb, or a mapping with the verb as its one key.
    pub fn decode(node: &Node, room: Room) -> Result<Self, SuiteError> {
        let nothing;
        let (key, value) = match &node.kind {
            Kind::Scalar(text) => {
                nothing = Node {
                    kind: Kind::Null,
                    place: node.place,
                };
                let key = Key {
                    text: text.clone(),
                    place: node.place,
                };
                (key, &nothing)
            }
            Kind::Map(entries) if entries.len() == 1 => (entries[0].0.clone(), &entries[0].1),
            Kind::Map(entries) if entries.len() > 1 => {
                return Err(SuiteError::new(
                    entries[1].0.place,
                    format!(
                        "a step has one key, here is a second one: {:?}",
                        entries[1].0.text
                    ),
                    "what a step takes goes in a mapping below it: { write: { bytes: 1MB, on: conn } }",
                ));
            }
            _ => {
                return Err(SuiteError::new(
                    node.place,
                    format!("a step can't be {}", node.describe()),
                    "a verb such as accept, or a mapping such as { connect: \"server:7000\" }",
                ));
            }
        };
        let spec = room
            .verbs()
            .find(|spec| spec.name == key.text)
            .ok_or_else(|| unknown("step", &key, room.verbs().map(|spec| spec.name)))?;
        let mut fields = decode_object(value, spec.object, spec.name)?;
        if matches!(value.kind, Kind::Null) {
            fields.place = key.place;
        }
        Ok(Self {
            verb: spec.verb,
            name: fields.text("as").unwrap_or(spec.name).to_owned(),
            fields,
            place: key.place,
        })
    }

    /// A step that stands for something that comes to pass by itself.
    pub fn of_itself(verb: Verb, place: Place) -> Self {
        let mut fields = Fields::default();
        fields.place = place;
        Self {
            verb,
            name: verb.spec().name.to_owned(),
            fields,
            place,
        }
    }

    /// The step of another list, `actor.step`, that has to end before this one
    /// begins.
    pub fn waits_for(&self) -> Option<&str> {
        match self.verb {
            Verb::Await => self.fields.text("step"),
            Verb::Connect => self.fields.text("after"),
            _ => None,
        }
    }

    /// The user that the actor becomes.
    pub fn user(&self) -> Option<Uid> {
        let uid = self.fields.count("uid")?;
        // setuid(2) refuses the highest, with EINVAL.
        Some(Uid::from_raw(u32::try_from(uid).unwrap_or(u32::MAX)))
    }

    /// The steps inside this one.
    pub fn inner(&self) -> &[Step] {
        self.fields.steps("steps").unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::node;

    #[test]
    fn the_table_has_one_row_for_each_verb_and_name() {
        for (index, spec) in VERBS.iter().enumerate() {
            assert!(VERBS[..index].iter().all(|other| other.verb != spec.verb));
            assert!(VERBS[..index].iter().all(|other| other.name != spec.name));
            assert!(!spec.doc.is_empty());
            assert_eq!(spec.verb.spec().name, spec.name);
            if let Some(short) = spec.object.short {
                assert!(spec.object.fields.iter().any(|field| field.name == short));
            }
        }
    }

    #[test]
    fn options_that_can_be_set_can_be_read() {
        for field in SETSOCKOPT.fields.iter().skip(2) {
            assert!(GETSOCKOPT_NAMES.contains(&field.name), "{}", field.name);
        }
    }

    #[test]
    fn a_step_is_a_word_or_a_mapping_of_one() {
        let step = |text: &str| Step::decode(&node::parse(text).unwrap(), Room::Actor);
        assert_eq!(step("accept").unwrap().verb, Verb::Accept);
        let write = step("write: { bytes: 1MB, as: body }").unwrap();
        assert_eq!(
            (write.name.as_str(), write.fields.count("bytes")),
            ("body", Some(1_000_000))
        );
        assert_eq!(
            step("write: \"220 Welcome\"").unwrap().fields.text("bytes"),
            Some("220 Welcome")
        );
        let error = step("conect: \"server:7000\"").unwrap_err();
        assert!(
            error.message.contains("did you mean \"connect\""),
            "{error}"
        );
        let error = step("{ read: 1, on: x }").unwrap_err();
        assert!(error.message.contains("second one"), "{error}");
        assert!(step("link-down: server").is_err(), "a step of the lab");
    }
}
