//! Which kernel a scenario runs on: this host's, or a guest's.
//!
//! A guest is a throw-away machine in QEMU with a kernel from the [`cache`] and
//! an initramfs that holds little more than this same program. In it the same
//! code runs the same scenarios; only where it runs differs.

pub mod apt;
pub mod cache;
pub mod catalogue;
mod cpio;
mod elf;
pub mod fetch;
pub mod image;
pub mod init;
pub mod protocol;
pub mod qemu;

use std::fmt;
use std::path::{Path, PathBuf};

use advisor::evidence::{self, Kernel, Place, Verdict};

use crate::lab::Carrier;
use crate::run::schedule::Progress;
use crate::run::{Settings, Touching, blank};
use crate::suite::scenario::Scenario;
use cache::{Cache, Stored};
use protocol::{News, Order};
use qemu::{Accelerator, Death, Guest};

/// Something about a guest's kernel that could not be done.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KernelError {
    /// The kernel or the file.
    pub subject: String,
    /// What could not be done with it: `boot it`.
    pub action: String,
    /// The words of the kernel or of the tool.
    pub words: String,
    hint: String,
    /// Whether it is what the user asked for that is wrong, and not the machine.
    pub is_usage: bool,
}

impl KernelError {
    fn new(subject: &str, action: &str, words: &str, hint: &str, is_usage: bool) -> Self {
        Self {
            subject: subject.to_owned(),
            action: action.to_owned(),
            words: words.to_owned(),
            hint: hint.to_owned(),
            is_usage,
        }
    }

    /// The machine can't do it.
    pub fn environment(subject: &str, action: &str, words: &str, hint: &str) -> Self {
        Self::new(subject, action, words, hint, false)
    }

    /// What was asked for is wrong.
    pub fn usage(subject: &str, action: &str, words: &str, hint: &str) -> Self {
        Self::new(subject, action, words, hint, true)
    }

    /// What to do about it; may be empty.
    pub fn hint(&self) -> &str {
        &self.hint
    }
}

impl fmt::Display for KernelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: cannot {}: {}",
            self.subject, self.action, self.words
        )
    }
}

impl std::error::Error for KernelError {}

/// A kernel as the command line names it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Choice {
    /// This machine's own.
    Host,
    /// One of the [`catalogue`].
    Line(String),
    /// A vmlinuz.
    File(PathBuf),
}

impl Choice {
    /// Understands a name or a path; a path has a slash in it or is there.
    pub fn parse(text: &str) -> Result<Self, KernelError> {
        if text == "host" {
            return Ok(Self::Host);
        }
        if catalogue::find(text).is_some() {
            return Ok(Self::Line(text.to_owned()));
        }
        if text.contains('/') || Path::new(text).is_file() {
            return Ok(Self::File(text.into()));
        }
        Err(KernelError::usage(
            text,
            "run on it",
            "no kernel has this name",
            &format!(
                "known are host, {}, and the path of a vmlinuz",
                catalogue::names()
            ),
        ))
    }

    /// The kernel to boot. One of the catalogue must have been fetched; a file
    /// is taken in with the modules beside it: those in `modules` or `lib/modules`
    /// beside the vmlinuz, or of its release on this machine.
    pub fn resolve(&self, cache: &Cache) -> Result<Option<Stored>, KernelError> {
        match self {
            Self::Host => Ok(None),
            Self::Line(name) => match cache.find(name)? {
                Some(stored) => Ok(Some(stored)),
                None => Err(KernelError::environment(
                    name,
                    "run on it",
                    "it hasn't been fetched",
                    &format!("harness kernels fetch {name}"),
                )),
            },
            Self::File(path) => {
                let modules = modules_beside(path)?;
                let name = path
                    .file_name()
                    .map(|name| name.to_string_lossy().into_owned())
                    .unwrap_or_default();
                cache
                    .store(&format!("file-{name}"), &[], path, &modules)
                    .map(Some)
            }
        }
    }
}

/// The directory with the modules of a vmlinuz that was given by its path.
fn modules_beside(vmlinuz: &Path) -> Result<PathBuf, KernelError> {
    let name = vmlinuz
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let release = name.strip_prefix("vmlinuz-").unwrap_or_default();
    let beside = vmlinuz.parent().unwrap_or(Path::new("."));
    let installed = ["lib/modules", "../lib/modules", "../usr/lib/modules"]
        .iter()
        .map(|directory| beside.join(directory).join(release))
        .chain([Path::new("/lib/modules").join(release)]);
    // A distribution may keep the vmlinuz among its modules.
    [beside.join("modules"), beside.to_owned()]
        .into_iter()
        .chain(installed.filter(|_| !release.is_empty()))
        .find(|directory| directory.join("kernel/net").is_dir())
        .ok_or_else(|| {
            KernelError::usage(
                &vmlinuz.display().to_string(),
                "run on it",
                "its modules are not beside it",
                "put them in modules/ beside it, as /lib/modules/RELEASE has them",
            )
        })
}

/// Runs scenarios in guests of one kernel and returns their results in the order in
/// which they are. A scenario that acts on the whole kernel
/// has a guest to itself; the others share one. A guest that dies is the result
/// of its scenario, and the next has a new one.
pub fn run_all(
    kernel: &Stored,
    scenarios: &[Scenario],
    settings: &Settings,
    cache: &Cache,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Vec<evidence::Scenario>, KernelError> {
    let accelerator = qemu::accelerator(kernel, cache.directory());
    // The whole machine is the guest's, and no guest is without netem.
    let settings = Settings {
        carrier: match settings.carrier {
            Carrier::Auto => Carrier::Netem,
            chosen => chosen,
        },
        touching: Touching::Allowed,
        in_guest: true,
        // The directory is the host's.
        keep: None,
        ..settings.clone()
    };
    let mut shared: Option<Guest> = None;
    // Those that share a guest first: while another one runs nobody listens to it,
    // and what it then says of its clock is old.
    let (alone, together): (Vec<usize>, Vec<usize>) =
        (0..scenarios.len()).partition(|index| scenarios[*index].touches_host());
    let mut results = vec![None; scenarios.len()];
    for index in together.into_iter().chain(alone) {
        let scenario = &scenarios[index];
        progress(Progress::Started(scenario));
        let mut guest = match shared.take() {
            Some(guest) if !scenario.touches_host() => guest,
            other => {
                shared = other;
                Guest::boot(kernel, accelerator)?
            }
        };
        // In its own words, whatever the packages are called.
        let release = guest.release.clone();
        let mut result = match run_in(&mut guest, scenario, &settings, progress) {
            Ok(result) => {
                if !scenario.touches_host() {
                    shared = Some(guest);
                }
                result
            }
            Err(death) => errored(scenario, &settings, &death),
        };
        result.kernel = Kernel {
            release,
            place: match accelerator {
                Accelerator::Kvm => Place::QemuKvm,
                Accelerator::Tcg => Place::QemuTcg,
            },
        };
        progress(Progress::Ended(&result));
        results[index] = Some(result);
    }
    // All results are there: a guest that can't end well takes nothing away.
    let _ = shared.map(Guest::power_off);
    Ok(results.into_iter().flatten().collect())
}

fn run_in(
    guest: &mut Guest,
    scenario: &Scenario,
    settings: &Settings,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<evidence::Scenario, Death> {
    guest.order(&Order::Run(Box::new(scenario.clone()), settings.clone()))?;
    loop {
        match guest.listen()? {
            News::Ran(runs) => progress(Progress::Ran(scenario, runs)),
            News::Ended(result) => return Ok(*result),
            News::Refused(words) => {
                return Err(Death {
                    what: words,
                    console: guest.complaints.clone(),
                });
            }
            News::End => {
                return Err(Death {
                    what: "it ended before the scenario did".to_owned(),
                    console: Vec::new(),
                });
            }
            News::Ready { .. } | News::Alive(_) => {}
        }
    }
}

/// The result of a scenario whose guest gave none.
fn errored(scenario: &Scenario, settings: &Settings, death: &Death) -> evidence::Scenario {
    let mut result = blank(scenario, settings.carrier.link(scenario));
    result.verdict = Verdict::Errored;
    result.reason = Some(death.to_string());
    result.hint = (!death.console.is_empty())
        .then(|| format!("the end of its console:\n{}", death.console.join("\n")));
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_is_named_or_given_by_its_path() {
        assert_eq!(Choice::parse("host").unwrap(), Choice::Host);
        assert_eq!(
            Choice::parse("debian-6.1").unwrap(),
            Choice::Line("debian-6.1".to_owned())
        );
        assert_eq!(
            Choice::parse("./vmlinuz").unwrap(),
            Choice::File("./vmlinuz".into())
        );
        let error = Choice::parse("debian-4.4").unwrap_err();
        assert!(error.is_usage);
        assert!(error.hint().contains("debian-6.12"), "{}", error.hint());
    }

    #[test]
    fn a_kernel_that_was_not_fetched_says_how_to() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::at(directory.path());
        let choice = Choice::Line("debian-6.1".to_owned());
        let error = choice.resolve(&cache).unwrap_err();
        assert_eq!(error.hint(), "harness kernels fetch debian-6.1");
        assert_eq!(Choice::Host.resolve(&cache).unwrap(), None);
    }

    #[test]
    fn modules_are_looked_for_beside_the_vmlinuz() {
        let directory = tempfile::tempdir().unwrap();
        let boot = directory.path().join("boot");
        let modules = directory.path().join("lib/modules/6.1.0-x/kernel/net");
        std::fs::create_dir_all(&boot).unwrap();
        let vmlinuz = boot.join("vmlinuz-6.1.0-x");
        let error = modules_beside(&vmlinuz).unwrap_err();
        assert!(error.is_usage);
        std::fs::create_dir_all(&modules).unwrap();
        assert_eq!(
            modules_beside(&vmlinuz).unwrap(),
            boot.join("../lib/modules/6.1.0-x")
        );
    }
}
