//! The report as JSON, which [`advisor_report::read`] reads.

use std::io;

use advisor_report::Report;

use super::Format;

/// `report.json`.
pub(super) struct Json;

impl Format for Json {
    fn file(&self) -> &'static str {
        "report.json"
    }

    fn render(&self, report: &Report) -> io::Result<String> {
        Ok(serde_json::to_string_pretty(report)? + "\n")
    }
}
