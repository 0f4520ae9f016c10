//! Outcomes that survive the actor that they are of.
//!
//! An actor tells of a step when it has ended; of the steps inside a repeat, when that has.
//! What they gave until then is written to a file without a name, in which the harness
//! reads it where the repeat never ends: the time limit comes, or the actor is killed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use super::call::zero_file;
use super::context::Outcome;
use super::{ActorStep, Step, flatten};

/// Bytes of the file for each step: a page, which a kill doesn't leave half written.
const PAGE_BYTES: usize = 4096;

/// A page for each step inside another one.
#[derive(Debug)]
pub struct Notebook {
    file: File,
    pages: BTreeMap<String, u64>,
}

impl Notebook {
    /// An empty one for the step lists of an actor.
    pub fn new(tasks: &[Vec<Step<ActorStep>>]) -> io::Result<Self> {
        Ok(Self {
            file: zero_file(0)?,
            pages: pages(tasks),
        })
    }

    /// The one of a file, which another process has made for the same lists.
    pub fn of(file: OwnedFd, tasks: &[Vec<Step<ActorStep>>]) -> Self {
        Self {
            file: file.into(),
            pages: pages(tasks),
        }
    }

    /// Writes what a step has given so far.
    pub fn write(&self, outcome: &Outcome) {
        let Some(page) = self.pages.get(&outcome.step) else {
            return;
        };
        let mut outcome = outcome.clone();
        // A page has no room for the time of each execution.
        outcome.each_ms.clear();
        let mut line = serde_json::to_vec(&outcome).unwrap_or_default();
        line.push(b'\n');
        if line.len() <= PAGE_BYTES {
            // Without room for it the outcome comes when the step has ended, as any other.
            let _ = self.file.write_all_at(&line, page * PAGE_BYTES as u64);
        }
    }

    /// What each step has given so far, where it was written.
    pub fn read(&self) -> Vec<Outcome> {
        let read = |page: &u64| {
            let mut bytes = vec![0; PAGE_BYTES];
            let length = self
                .file
                .read_at(&mut bytes, page * PAGE_BYTES as u64)
                .ok()?;
            let line = bytes[..length].split(|byte| *byte == b'\n').next()?;
            serde_json::from_slice(line).ok()
        };
        self.pages.values().filter_map(read).collect()
    }
}

impl AsFd for Notebook {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn pages(tasks: &[Vec<Step<ActorStep>>]) -> BTreeMap<String, u64> {
    let outer = tasks.iter().flatten();
    let inner = outer.flat_map(|step| flatten(step.inner()));
    inner.map(|step| step.name.clone()).zip(0..).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_last_is_read() {
        let text = "repeat: { times: 2, steps: [accept, { read: 1 }] }";
        let tasks = [vec![
            super::super::tests::step::<ActorStep>(text).unwrap().0,
        ]];
        let notebook = Notebook::new(&tasks).unwrap();
        assert!(notebook.read().is_empty());
        let mut outcome = Outcome::of("read");
        outcome.fail("ECONNRESET".to_owned());
        notebook.write(&outcome);
        outcome.errors.clear();
        outcome.error = None;
        outcome.ok = 1;
        notebook.write(&outcome);
        let other = Notebook::of(notebook.as_fd().try_clone_to_owned().unwrap(), &tasks);
        assert_eq!(other.read(), [outcome]);
    }
}
