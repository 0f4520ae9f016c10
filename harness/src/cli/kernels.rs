//! `harness kernels`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{SUCCESS, complain_of_kernel, print};
use crate::guest::qemu;
use crate::guest::state::State;
use crate::kernels::cache::{Cache, Stored};
use crate::kernels::choice::Choice;
use crate::kernels::fetch::{self, FetchProgress};
use crate::kernels::{KernelError, catalogue};

#[derive(Debug, Args)]
pub(super) struct Kernels {
    #[command(subcommand)]
    command: Option<KernelsCommand>,
}

#[derive(Debug, Subcommand)]
enum KernelsCommand {
    /// Fetch kernels through apt's verified download, without installing any
    Fetch {
        /// Their names
        #[arg(required = true)]
        names: Vec<String>,
        /// A mirror of Debian, in place of the one that apt uses here
        #[arg(long, value_name = "URL")]
        mirror: Option<String>,
        /// The keys that sign it
        #[arg(long, value_name = "FILE")]
        keyring: Option<PathBuf>,
    },
}

impl Kernels {
    /// Lists or fetches kernels; the exit status.
    pub(super) fn run(&self) -> u8 {
        match list_or_fetch(self) {
            Ok(()) => SUCCESS,
            Err(error) => complain_of_kernel(&error),
        }
    }
}

/// What is known, what of it was fetched, and whether it boots here.
fn list_kernels(cache: &Cache) {
    for line in catalogue::LINES {
        let state = match cache.find(line.name) {
            Ok(None) => format!("{:<12} not fetched", line.name),
            Ok(Some(stored)) => {
                let accelerator = match qemu::known_of_kvm(cache.directory()) {
                    Some(true) => qemu::Accelerator::Kvm,
                    _ => qemu::Accelerator::Tcg,
                };
                describe_kernel(&stored, State::find(&stored, accelerator).as_ref())
            }
            Err(error) => format!("{:<12} {error}", line.name),
        };
        print(&format!("{state}\n"));
    }
}

/// A fetched kernel's line: release, size, and whether it has booted here.
fn describe_kernel(kernel: &Stored, state: Option<&State>) -> String {
    let boot = state.map_or_else(
        || "not booted yet".to_owned(),
        |state| format!("boots in {:.1} s", state.boot().as_secs_f64()),
    );
    let megabytes = kernel.size_bytes() >> 20;
    format!(
        "{:<12} {:<28} {megabytes:>4} MB  {boot}",
        kernel.name, kernel.release
    )
}

/// Lists or fetches.
fn list_or_fetch(kernels: &Kernels) -> Result<(), KernelError> {
    let cache = Cache::of_user()?;
    let Some(KernelsCommand::Fetch {
        names,
        mirror,
        keyring,
    }) = &kernels.command
    else {
        list_kernels(&cache);
        return Ok(());
    };
    let lines = names
        .iter()
        .map(|name| match Choice::parse(name)? {
            Choice::Line(name) => Ok(catalogue::find(&name)),
            Choice::Auto | Choice::Host | Choice::File(_) => Err(KernelError::usage(
                name,
                "fetch it",
                "it is here already",
                "`harness kernels` lists the names",
            )),
        })
        .collect::<Result<Vec<_>, _>>()?;
    let options = fetch::MirrorOptions {
        mirror: mirror.clone(),
        keyring: keyring.clone(),
    };
    for line in lines.into_iter().flatten() {
        let bar = indicatif::ProgressBar::new(100);
        let stored = fetch::fetch(line, &cache, &options, &mut |stage| match stage {
            FetchProgress::Index(suite) => {
                bar.set_message(format!("{}: reading {suite}", line.name))
            }
            FetchProgress::Download(package) => bar.set_message(package),
            // Of 100.
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            FetchProgress::Percent(done) => bar.set_position(done as u64),
            FetchProgress::Unpack => bar.set_message(format!("{}: unpacking", line.name)),
        });
        let stored = stored.inspect_err(|_| bar.finish_and_clear())?;
        // Shows that it works here, and the first run needn't.
        let booted = qemu::find().map(|_| {
            bar.set_message(format!("{}: booting", line.name));
            let accelerator = qemu::accelerator(&stored, cache.directory());
            State::make(&stored, accelerator, &cache)
        });
        bar.finish_and_clear();
        print(&format!(
            "{}\n",
            describe_kernel(&stored, booted.transpose()?.as_ref())
        ));
    }
    Ok(())
}
