//! The answer for programs.

use std::io;

use serde::Serialize;

/// Writes an answer as JSON.
pub fn write(out: &mut dyn io::Write, answer: &impl Serialize) -> io::Result<()> {
    let json = serde_json::to_string_pretty(answer)?;
    // JSON escapes the control characters of ASCII; those that a terminal
    // obeys beyond it can only be in strings, and are escaped there.
    for line in json.lines() {
        for character in line.chars() {
            if character.is_control() {
                write!(out, "\\u{:04x}", u32::from(character))?;
            } else {
                write!(out, "{character}")?;
            }
        }
        writeln!(out)?;
    }
    Ok(())
}

/// Writes a value as one line, named by its key `line`.
pub fn write_line(out: &mut dyn io::Write, name: &str, value: &impl Serialize) -> io::Result<()> {
    let value = serde_json::json!({ "line": name, name: value });
    writeln!(out, "{value}")
}
