//! Facts of another schema, read as far as they are understood: each part by itself, and
//! what is not understood is noted as not seen.

use std::io::{BufReader, Read};
use std::path::Path;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{Quoted, malformed};
use crate::facts::Facts;
use crate::given::GivenFileError;
use crate::look::Look;
use crate::origin::Origin;
use crate::read::{SOCKETS, Unseen};
use crate::settings::Settings;
use crate::shared::Shared;

/// The largest file of another schema that is read, in bytes: it is held as a whole.
const LIMIT_BYTES: u64 = 32 << 20;

/// Parts of facts as JSON, of a schema.
struct Parts<'a> {
    all: &'a mut Map<String, Value>,
    schema: u32,
    unseen: &'a mut Vec<Unseen>,
}

impl Parts<'_> {
    /// A part by its name; one that is there and not understood is noted.
    fn take<T: DeserializeOwned>(&mut self, name: &str, words: &str) -> Option<T> {
        let part = self.all.remove(name).filter(|part| !part.is_null())?;
        let understood = serde_json::from_value(part).ok();
        if understood.is_none() {
            self.unseen.push(Unseen {
                what: words.to_owned(),
                why: format!(
                    "the capture is of schema {}, in which they differ",
                    self.schema
                ),
            });
        }
        understood
    }
}

/// Reads what is understood; `path` is for the errors.
pub(super) fn read(file: impl Read, path: &Path, schema: u32) -> Result<Facts, GivenFileError> {
    let malformed = |line, column, message: &str| malformed(path, line, column, message);
    let mut quoted = Quoted {
        inner: file.take(LIMIT_BYTES),
        unquoted: 0,
        line: 1,
    };
    let read: Result<Value, _> = serde_json::from_reader(BufReader::new(&mut quoted));
    let is_too_large = quoted.inner.limit() == 0;
    let mut whole = read.map_err(|error| {
        if is_too_large {
            let words = format!(
                "of schema {schema}, and larger than {} MiB",
                LIMIT_BYTES >> 20
            );
            malformed(error.line(), error.column(), &words)
        } else {
            malformed(error.line(), error.column(), &error.to_string())
        }
    })?;
    let parts = whole.get_mut("facts").and_then(Value::as_object_mut);
    let Some(parts) = parts else {
        return Err(malformed(
            1,
            1,
            &format!("of schema {schema}, and there are no facts in it"),
        ));
    };
    let mut unseen = Vec::new();
    let facts = of_parts(parts, schema, &mut unseen);
    if facts.kernel.is_empty() && facts.settings == Settings::default() {
        let words =
            format!("of schema {schema}, and neither its kernel nor its settings are understood");
        return Err(malformed(1, 1, &words));
    }
    Ok(facts)
}

fn of_parts(parts: &mut Map<String, Value>, schema: u32, unseen: &mut Vec<Unseen>) -> Facts {
    let mut now = match parts.remove("now") {
        Some(Value::Object(now)) => now,
        _ => Map::new(),
    };
    let settings = parts.remove("settings");
    let mut parts = Parts {
        all: parts,
        schema,
        unseen,
    };
    let kernel: String = parts
        .take("kernel", "the release of the kernel")
        .unwrap_or_default();
    let ram_bytes = parts
        .take("ram_bytes", "the memory of the host")
        .unwrap_or_default();
    let page_bytes = parts
        .take("page_bytes", "the size of a page")
        .unwrap_or(4096);
    let mut facts = Facts::without_host(&kernel, ram_bytes, page_bytes);
    facts.origin = Origin::OtherSchema(schema);
    facts.settings = settings_of(settings.as_ref());
    facts.hostname = parts.take("hostname", "the name of the host");
    facts.boot_id = parts.take("boot_id", "the run of the kernel");
    facts.taken_at = parts.take("taken_at", "when it was taken");
    facts.cpus = parts.take("cpus", "the CPUs").unwrap_or(1);
    if let Some(memory) = parts.take("memory", "the memory of the host") {
        facts.memory = memory;
    }
    if let Some(files) = parts.take("sysctl_files", "the files that set sysctls") {
        facts.sysctl_files = files;
    }
    facts.kernel_log = parts.take("kernel_log", "the kernel's log");
    facts.processes = parts.take("processes", "the processes").unwrap_or_default();
    facts.cgroups = parts.take("cgroups", "the cgroups").unwrap_or_default();
    facts.cgroups_v1 = parts
        .take("cgroups_v1", "the cgroups of version 1")
        .unwrap_or_default();
    let noted: Vec<Unseen> = parts
        .take("unseen", "what was not seen")
        .unwrap_or_default();
    let mut look = Parts {
        all: &mut now,
        schema,
        unseen: parts.unseen,
    };
    facts.now = Shared::from(Look {
        uptime: look
            .take("uptime", "the time since boot")
            .unwrap_or(Duration::ZERO),
        sockstat: look
            .take("sockstat", "the gauges of sockets")
            .unwrap_or_default(),
        counters: look.take("counters", "the counters").unwrap_or_default(),
        sockets: look.take("sockets", SOCKETS),
        elsewhere: look
            .take("elsewhere", "the sockets of other network namespaces")
            .unwrap_or_default(),
    });
    facts.unseen = noted;
    facts.unseen.append(unseen);
    facts
}

/// The settings, each by itself: one that has become something else hides no other.
fn settings_of(settings: Option<&Value>) -> Settings {
    let understood = settings
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter(|(name, value)| {
            let alone = Map::from_iter([((*name).clone(), (*value).clone())]);
            serde_json::from_value::<Settings>(Value::Object(alone)).is_ok()
        })
        .map(|(name, value)| (name.clone(), value.clone()));
    let understood = Value::Object(understood.collect());
    serde_json::from_value(understood).unwrap_or_default()
}
