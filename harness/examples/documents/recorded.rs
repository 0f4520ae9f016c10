//! The advice for the hosts that the advisor's tests have recorded.

use std::path::PathBuf;

use advisor::plan::{Advice, advise};
use advisor_facts::{Facts, Root};
use recorded::copy;

use super::{Error, root};

#[path = "../../../advisor/tests/recorded/mod.rs"]
mod recorded;

/// The advice for all recorded hosts, as for one host: their kernel is the same, and
/// each recommendation brings the numbers that are tried.
pub fn advice() -> Result<Advice, Error> {
    let mut all = of_each()?.into_iter();
    let mut whole = all.next().ok_or("no host is recorded")?;
    for advice in all {
        if advice.host.kernel != whole.host.kernel {
            return Err("the recorded hosts have different kernels".into());
        }
        for recommendation in advice.recommendations {
            // Several hosts are recorded for some rules.
            let mut known = whole.recommendations.iter();
            if known.all(|known| known.claim() != recommendation.claim()) {
                whole.recommendations.push(recommendation);
            }
        }
    }
    Ok(whole)
}

/// The advice for each recorded host, and for the quiet one with each overlay.
fn of_each() -> Result<Vec<Advice>, Error> {
    let tests = root().join("advisor/tests");
    let mut all = Vec::new();
    for kind in ["hosts", "overlays"] {
        let mut names = Vec::new();
        for entry in tests.join(kind).read_dir()? {
            names.push(entry?.path());
        }
        names.sort_unstable();
        for name in names {
            let directory = tempfile::tempdir()?;
            if kind == "overlays" {
                copy(&tests.join("hosts/quiet"), directory.path());
            }
            copy(&name, directory.path());
            let host = Root::Recorded(PathBuf::from(directory.path()));
            all.push(advise(&Facts::read(&host)?, &[]));
        }
    }
    Ok(all)
}
