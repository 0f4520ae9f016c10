//! The suites of the last `harness run`, where `harness show` finds them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::kernels::cache::Cache;
use crate::output;

#[derive(Debug, Default, Deserialize, Serialize)]
struct LastRun {
    suites: Vec<PathBuf>,
}

fn file() -> Option<PathBuf> {
    let kernels = Cache::of_user().ok()?;
    Some(kernels.directory().parent()?.join("last-run.json"))
}

/// Notes the suites of a run. It is a convenience: where it can't be written, `show` only
/// has to be given the suites.
pub(super) fn note(paths: &[PathBuf]) {
    let whole = paths
        .iter()
        .filter_map(|path| std::path::absolute(path).ok());
    let last = LastRun {
        suites: whole.collect(),
    };
    if let (Some(file), Ok(json)) = (file(), serde_json::to_vec(&last)) {
        let _ = output::write(&file, &json);
    }
}

/// The suites of the last run that are still there.
pub(super) fn suites() -> Vec<PathBuf> {
    let read = || -> Option<LastRun> { serde_json::from_slice(&std::fs::read(file()?).ok()?).ok() };
    let last = read().unwrap_or_default();
    last.suites
        .into_iter()
        .filter(|path| path.exists())
        .collect()
}
