//! `harness schema`.

use advisor_report::calibration::Calibration;
use clap::ValueEnum;

use super::print;
use crate::suite;

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Document {
    /// A suite's YAML
    Suite,
    /// report.json
    Report,
    /// proof.json
    Proof,
    /// What `calibrate` writes
    Calibration,
}

/// Prints the schema; the exit status.
pub(super) fn run(format: Document) -> u8 {
    let schema = match format {
        Document::Suite => suite::schema(),
        Document::Report => schemars::schema_for!(advisor_report::Report).to_value(),
        Document::Proof => schemars::schema_for!(advisor_report::proof::Proof).to_value(),
        Document::Calibration => schemars::schema_for!(Calibration).to_value(),
    };
    print(&format!("{schema:#}\n"))
}
