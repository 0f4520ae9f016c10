//! The JSON Schemas of what users write and what the programs write.

use advisor_report::{Report, calibration::Calibration, proof::Proof};
use serde_json::Value as Json;

/// The schema of suites.
pub fn suite() -> Json {
    harness::suite::schema()
}

/// The schema of reports.
pub fn report() -> Json {
    schemars::schema_for!(Report).to_value()
}

/// The schema of calibrations.
pub fn calibration() -> Json {
    schemars::schema_for!(Calibration).to_value()
}

/// All schemas, by the names of their documents.
pub fn all() -> Vec<(&'static str, String)> {
    let proof = schemars::schema_for!(Proof).to_value();
    [
        ("suite.schema.json", suite()),
        ("report.schema.json", report()),
        ("calibration.schema.json", calibration()),
        ("proof.schema.json", proof),
    ]
    .into_iter()
    .map(|(name, schema)| (name, format!("{schema:#}\n")))
    .collect()
}
