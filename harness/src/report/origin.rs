//! What a report is of: the command, the machine, the time, the revision of the suites.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use advisor_report::Origin;

use crate::lab::namespace::kernel_release;

/// A run that has begun.
#[derive(Debug)]
pub struct Begun {
    origin: Origin,
    at: Instant,
}

impl Begun {
    /// Notes what begins now, with suites from these paths.
    pub fn now(paths: &[PathBuf]) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            origin: Origin {
                command: std::env::args_os()
                    .map(|word| word.to_string_lossy().into_owned())
                    .collect(),
                host: host_name(),
                kernel: kernel_release(),
                started_ms: since.map_or(0, |since| milliseconds(since.as_millis())),
                revision: paths
                    .iter()
                    .find_map(|path| revision(path))
                    .unwrap_or_default(),
                ..Origin::default()
            },
            at: Instant::now(),
        }
    }

    /// What has ended now.
    pub fn ended(&self, interrupted: bool) -> Origin {
        Origin {
            duration_ms: milliseconds(self.at.elapsed().as_millis()),
            interrupted,
            ..self.origin.clone()
        }
    }
}

fn milliseconds(count: u128) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname");
    name.map_or_else(|_| String::new(), |name| name.trim().to_owned())
}

/// The commit of the repository that a path is in; nothing where it is in none, or where
/// there is no git.
fn revision(path: &Path) -> Option<String> {
    let directory = if path.is_dir() { path } else { path.parent()? };
    let directory = if directory.as_os_str().is_empty() {
        Path::new(".")
    } else {
        directory
    };
    // Under sudo the checkout is somebody else's. git then runs no program that the
    // checkout's configuration names.
    let output = Command::new("git")
        .args(["-c", "safe.directory=*", "-c", "core.fsmonitor=false"])
        .arg("-C")
        .arg(directory)
        .args([
            "describe",
            "--always",
            "--exclude=*",
            "--abbrev=12",
            "--dirty= modified",
        ])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

/// A time of day in UTC: `2026-11-30 11:38:28 UTC`.
pub fn moment(since_1970_ms: u64) -> String {
    instant(since_1970_ms).map_or_else(String::new, |at| {
        at.format("%Y-%m-%d %H:%M:%S UTC").to_string()
    })
}

/// Milliseconds since 1970 as a moment; nothing where there is none.
pub fn instant(since_1970_ms: u64) -> Option<chrono::DateTime<chrono::Utc>> {
    let ms = i64::try_from(since_1970_ms).ok().filter(|ms| *ms > 0)?;
    chrono::DateTime::from_timestamp_millis(ms)
}

/// A duration for people: `1.3 s`, `2 min 5 s`.
pub fn duration(ms: u64) -> String {
    match ms {
        0..1000 => format!("{ms} ms"),
        1000..60_000 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        _ => format!("{} min {} s", ms / 60_000, ms % 60_000 / 1000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_for_people() {
        assert_eq!(moment(1_796_038_708_000), "2026-11-30 11:38:28 UTC");
        assert_eq!(
            (moment(0), moment(u64::MAX)),
            (String::new(), String::new())
        );
        let told = [999, 1349, 60_000, 125_999].map(duration);
        assert_eq!(told, ["999 ms", "1.3 s", "1 min 0 s", "2 min 5 s"]);
    }

    #[test]
    fn a_path_outside_a_repository_has_no_revision() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(revision(directory.path()), None);
        assert_eq!(revision(Path::new("/no/such/suite.yaml")), None);
    }
}
