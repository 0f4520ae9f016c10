//! The layout of a tracepoint's records, by its `format` file.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Where a value stands in a record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Field {
    /// Bytes from the start.
    offset: usize,
    /// Its length in bytes.
    size: usize,
    signed: bool,
}

impl Field {
    /// The bytes of the field; `None` where the record is too short.
    pub fn bytes(self, record: &[u8]) -> Option<&[u8]> {
        record.get(self.offset..self.offset.checked_add(self.size)?)
    }

    /// The number in the field; `None` where the record is too short or the field has
    /// the length of no number.
    pub fn number(self, record: &[u8]) -> Option<i64> {
        let bytes = self.bytes(record)?;
        let mut wide = [0; 8];
        let fill = |wide: &mut [u8; 8], bytes: &[u8]| {
            if cfg!(target_endian = "little") {
                wide[..bytes.len()].copy_from_slice(bytes);
            } else {
                wide[8 - bytes.len()..].copy_from_slice(bytes);
            }
        };
        if !matches!(bytes.len(), 1 | 2 | 4 | 8) {
            return None;
        }
        fill(&mut wide, bytes);
        let number = i64::from_ne_bytes(wide);
        let unused = 64 - 8 * u32::try_from(bytes.len()).ok()?;
        Some(if self.signed {
            number << unused >> unused
        } else {
            number
        })
    }
}

/// The layout of the records of one tracepoint.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Format {
    /// The number that begins each record, and by which perf_event_open(2) knows the
    /// tracepoint.
    pub id: u16,
    fields: BTreeMap<String, Field>,
    /// For a field the names of its values.
    symbols: BTreeMap<String, BTreeMap<i64, Arc<str>>>,
}

impl Format {
    /// Reads a `format` file; `None` where it has no number or no fields.
    pub fn parse(text: &str) -> Option<Self> {
        let mut format = Self::default();
        let mut id = None;
        for line in text.lines() {
            if let Some(number) = line.strip_prefix("ID:") {
                id = number.trim().parse().ok();
            } else if let Some(field) = line.trim_start().strip_prefix("field:") {
                let (name, field) = parse_field(field)?;
                format.fields.insert(name, field);
            } else if let Some(print) = line.strip_prefix("print fmt:") {
                format.read_symbols(print);
            }
        }
        format.id = id?;
        (!format.fields.is_empty()).then_some(format)
    }

    /// A field by its name.
    pub fn field(&self, name: &str) -> Option<Field> {
        self.fields.get(name).copied()
    }

    /// The number in a field of a record.
    pub fn number(&self, name: &str, record: &[u8]) -> Option<i64> {
        self.field(name)?.number(record)
    }

    /// The kernel's name of a field's value, `UNKNOWN_n` of one that it does not name.
    pub fn name_of(&self, field: &str, value: i64) -> Arc<str> {
        let named = self.symbols.get(field).and_then(|names| names.get(&value));
        named.map_or_else(|| format!("UNKNOWN_{value}").into(), Arc::clone)
    }

    /// The values of a field that have one of these names.
    pub fn values_of(&self, field: &str, wanted: &[&str]) -> Vec<i64> {
        let names = self.symbols.get(field).into_iter().flatten();
        names
            .filter(|(_, name)| wanted.contains(&&***name))
            .map(|(value, _)| *value)
            .collect()
    }

    /// The names of `__print_symbolic(REC->field, { 1, "NAME" }, ...)`.
    fn read_symbols(&mut self, print: &str) {
        for call in print.split("__print_symbolic(REC->").skip(1) {
            let Some((field, rest)) = call.split_once(',') else {
                continue;
            };
            let names = self.symbols.entry(field.trim().to_owned()).or_default();
            for pair in rest.split('{').skip(1) {
                let Some((pair, _)) = pair.split_once('}') else {
                    break;
                };
                let Some((value, name)) = pair.split_once(',') else {
                    continue;
                };
                // Some kernels print the name of an enumerator in place of its value.
                if let Ok(value) = value.trim().parse() {
                    names.insert(value, name.trim().trim_matches('"').into());
                }
            }
        }
    }
}

/// `int state;  offset:24;  size:4;  signed:1;`, with tabs between.
fn parse_field(text: &str) -> Option<(String, Field)> {
    let mut parts = text.split(';').map(str::trim);
    let declaration = parts.next()?;
    let name = declaration.rsplit([' ', '*']).next()?;
    let name = name.split('[').next()?.to_owned();
    let mut field = Field {
        offset: 0,
        size: 0,
        signed: false,
    };
    for part in parts {
        let Some((key, value)) = part.split_once(':') else {
            continue;
        };
        match key {
            "offset" => field.offset = value.parse().ok()?,
            "size" => field.size = value.parse().ok()?,
            "signed" => field.signed = value == "1",
            _ => {}
        }
    }
    (field.size > 0 && !name.is_empty()).then_some((name, field))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "name: tcp_send_reset\nID: 2280\nformat:\n\
        \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\
        \tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n\
        \tfield:const void * skaddr;\toffset:16;\tsize:8;\tsigned:0;\n\
        \tfield:int state;\toffset:24;\tsize:4;\tsigned:1;\n\
        \tfield:enum sk_rst_reason reason;\toffset:28;\tsize:4;\tsigned:0;\n\
        \tfield:__u8 saddr[28];\toffset:32;\tsize:28;\tsigned:0;\n\n\
        print fmt: \"state=%s reason=%s\", REC->state ? __print_symbolic(REC->state, \
        { TCP_ESTABLISHED, \"TCP_ESTABLISHED\" }) : \"UNKNOWN\", \
        __print_symbolic(REC->reason, { 0, \"NOT_SPECIFIED\" }, { 11, \"TCP_ABORT_ON_CLOSE\" })\n";

    #[test]
    fn a_format_says_where_values_stand_and_what_they_are_called() {
        let format = Format::parse(TEXT).unwrap();
        assert_eq!(format.id, 2280);
        let mut record = [0; 60];
        record[24..28].copy_from_slice(&(-7_i32).to_ne_bytes());
        record[28..32].copy_from_slice(&11_u32.to_ne_bytes());
        assert_eq!(format.number("state", &record), Some(-7));
        assert_eq!(format.number("reason", &record), Some(11));
        assert_eq!(format.number("reason", &record[..31]), None, "cut off");
        assert_eq!(format.number("saddr", &record), None, "no number");
        assert_eq!(
            format.field("saddr").unwrap().bytes(&record).unwrap().len(),
            28
        );
        assert_eq!(&*format.name_of("reason", 11), "TCP_ABORT_ON_CLOSE");
        assert_eq!(&*format.name_of("reason", 99), "UNKNOWN_99");
        assert_eq!(&*format.name_of("state", 1), "UNKNOWN_1");
        assert_eq!(
            format.values_of("reason", &["TCP_ABORT_ON_CLOSE", "NONE"]),
            [11]
        );
    }

    #[test]
    fn what_is_no_format_is_refused_and_never_panics() {
        for text in [
            "",
            "ID: 1\n",
            "name: a\nID: x\n",
            "\tfield:int a;\toffset:x;\tsize:4;\n",
        ] {
            assert_eq!(Format::parse(text), None, "{text:?}");
        }
        for end in 0..TEXT.len() {
            if TEXT.is_char_boundary(end) {
                let _ = Format::parse(&TEXT[..end]);
            }
        }
    }
}
