//! The kernels that scenarios can run on: a store in the user's cache.
//!
//! The [`catalogue`] names kernels, [`fetch`] gets one through apt, [`import`] takes one
//! from a build tree or a package, the [`cache`] keeps it and [`choice`] finds the one that was asked for. Imports
//! only `lab::namespace`, for this machine's release.

pub mod apt;
pub mod cache;
pub mod catalogue;
pub mod choice;
pub mod elf;
pub mod fetch;
pub mod image;
pub mod import;

use std::fmt;

/// An operation on a kernel or a guest that failed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KernelError {
    /// The kernel or the file.
    pub subject: String,
    /// The operation: `boot it`.
    pub action: String,
    /// The error of the kernel or of the tool.
    pub words: String,
    hint: String,
    /// Whether the user's request is wrong, not the machine.
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

    /// The machine cannot do it.
    pub fn environment(subject: &str, action: &str, words: &str, hint: &str) -> Self {
        Self::new(subject, action, words, hint, false)
    }

    /// The request is wrong.
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
