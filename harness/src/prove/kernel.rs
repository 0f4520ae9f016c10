//! The kernel on which a host's advice is tried.

use std::path::{Path, PathBuf};

use advisor_facts::release::release_distance;

use crate::kernels::KernelError;
use crate::kernels::cache::{Cache, Stored};
use crate::kernels::choice::{Choice, check_modules, nearest};
use crate::lab::namespace::kernel_release;

/// How many releases a kernel may be away from the host's: about a year of
/// Linux.
pub const FURTHEST: u32 = 6;

/// The chosen kernel.
#[derive(Debug)]
pub struct Chosen {
    /// The kernel.
    pub stored: Stored,
    /// Why it was chosen, in words.
    pub why: String,
}

/// Chooses a kernel for a host's release. `auto` is the host's own where this
/// machine runs it and its files can be read, otherwise the nearest that was
/// fetched; any other name is that kernel.
pub fn choose(
    asked: &str,
    modules: Option<&Path>,
    release: &str,
    cache: &Cache,
) -> Result<Chosen, KernelError> {
    let choice = Choice::parse(asked)?;
    check_modules(std::slice::from_ref(&choice), modules)?;
    match choice {
        Choice::Auto => {}
        Choice::Host => {
            return Err(KernelError::usage(
                "host",
                "reproduce a host on it",
                "a host is reproduced in a guest",
                "leave --kernel out, or name a kernel of `harness kernels`",
            ));
        }
        choice => {
            let stored = choice
                .resolve(cache, modules)?
                .ok_or_else(|| none_fetched(release))?;
            let why = match release_distance(&stored.release, release) {
                Some(apart) => format!("as asked for; {}", describe(apart, release)),
                None => format!("as asked for; the host has {release}"),
            };
            return Ok(Chosen { stored, why });
        }
    }
    if let Some(vmlinuz) = own(release)
        && let Ok(Some(stored)) = Choice::File(vmlinuz.clone()).resolve(cache, modules)
    {
        let why = format!("the host's own, {}", vmlinuz.display());
        return Ok(Chosen { stored, why });
    }
    let stored = nearest(cache, release).ok_or_else(|| none_fetched(release))?;
    match release_distance(&stored.release, release) {
        Some(apart) if apart <= FURTHEST => Ok(Chosen {
            why: format!("the nearest that was fetched; {}", describe(apart, release)),
            stored,
        }),
        apart => {
            let apart = apart.map_or_else(String::new, |apart| format!(", {apart} releases away"));
            Err(KernelError::environment(
                release,
                "reproduce a host of it",
                &format!(
                    "no kernel near it: the nearest that was fetched is {}{apart}, and more than \
                     {FURTHEST} prove nothing",
                    stored.release
                ),
                &format!(
                    "--kernel {} tries it there all the same; `harness kernels` lists others",
                    stored.name
                ),
            ))
        }
    }
}

fn describe(apart: u32, release: &str) -> String {
    match apart {
        0 => format!("of the same line as the host's {release}"),
        1 => format!("1 release from the host's {release}"),
        _ => format!("{apart} releases from the host's {release}"),
    }
}

/// The vmlinuz of this machine's kernel, if that is of this release and can be
/// read.
fn own(release: &str) -> Option<PathBuf> {
    let vmlinuz = Path::new("/boot").join(format!("vmlinuz-{release}"));
    (release == kernel_release() && std::fs::File::open(&vmlinuz).is_ok()).then_some(vmlinuz)
}

fn none_fetched(release: &str) -> KernelError {
    KernelError::environment(
        release,
        "reproduce a host of it",
        "no kernel was fetched to try it on",
        "harness kernels fetch NAME; `harness kernels` lists the names",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_kernel_it_says_which_to_fetch() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::at(directory.path());
        let error = choose("auto", None, "6.18.1", &cache).unwrap_err();
        assert!(!error.is_usage, "{error}");
        assert!(
            error.hint().contains("harness kernels fetch"),
            "{}",
            error.hint()
        );
        assert!(choose("host", None, "6.18.1", &cache).unwrap_err().is_usage);
        assert!(
            choose("debian-9", None, "6.18.1", &cache)
                .unwrap_err()
                .is_usage
        );
    }

    #[test]
    fn a_distance_is_told_in_releases() {
        assert_eq!(
            describe(0, "6.12.1"),
            "of the same line as the host's 6.12.1"
        );
        assert_eq!(describe(6, "6.18.1"), "6 releases from the host's 6.18.1");
    }
}
