//! `harness schema`.

use advisor_report::calibration::Calibration;
use clap::ValueEnum;

use super::print;
use crate::suite;

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Format {
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
pub(super) fn run(format: Format) -> u8 {
    let schema = match format {
        Format::Suite => suite::schema(),
        Format::Report => schemars::schema_for!(advisor_report::Report).to_value(),
        Format::Proof => schemars::schema_for!(advisor_report::proof::Proof).to_value(),
        Format::Calibration => schemars::schema_for!(Calibration).to_value(),
    };
    print(&format!("{schema:#}\n"))
}
