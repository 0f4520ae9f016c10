//! `harness kernels`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use indicatif::ProgressBar;

use super::{SUCCESS, complain_of_kernel, print};
use crate::guest::qemu;
use crate::guest::state::State;
use crate::kernels::KernelError;
use crate::kernels::cache::{Cache, Stored, disk_bytes};
use crate::kernels::catalogue::{self, Line, LineRelease};
use crate::kernels::choice;
use crate::kernels::fetch::{Archives, FetchProgress, MirrorOptions};
use crate::kernels::import::import;

#[derive(Debug, Args)]
pub(super) struct Kernels {
    #[command(subcommand)]
    command: Option<KernelsCommand>,
}

#[derive(Debug, Subcommand)]
enum KernelsCommand {
    /// List what was fetched and imported, with the disk that it takes (the default)
    List {
        /// Also list each release that Debian's archives have
        #[arg(long)]
        available: bool,
        #[command(flatten)]
        mirror: Mirror,
    },
    /// Fetch kernels through apt's verified download, without installing any
    Fetch {
        /// Their names: debian-6.1 is the newest of its line, debian-6.1=6.1.0-47 that
        /// release
        #[arg(required_unless_present = "all")]
        names: Vec<String>,
        /// Fetch all releases of a line that the archives have
        #[arg(long, value_name = "LINE")]
        all: Vec<String>,
        #[command(flatten)]
        mirror: Mirror,
    },
    /// Take in a kernel of one's own: a build tree, or the packages (.deb) of one kernel
    Import {
        /// A directory with arch/x86/boot/bzImage or vmlinux and its modules, or packages
        #[arg(required = true, value_name = "DIR|DEB")]
        paths: Vec<PathBuf>,
        /// What --kernel calls it; default: its release
        #[arg(long)]
        name: Option<String>,
    },
    /// Remove kernels, with the saved guests of each
    Remove {
        /// Their names, as the list has them
        #[arg(required = true)]
        names: Vec<String>,
    },
}

#[derive(Debug, Args)]
pub(super) struct Mirror {
    /// A mirror of Debian, in place of the one that apt uses here
    #[arg(long, value_name = "URL")]
    mirror: Option<String>,
    /// The keys that sign it
    #[arg(long, value_name = "FILE")]
    keyring: Option<PathBuf>,
}

impl Mirror {
    /// For the fetching.
    pub(super) fn options(&self) -> MirrorOptions {
        MirrorOptions {
            mirror: self.mirror.clone(),
            keyring: self.keyring.clone(),
        }
    }
}

impl Kernels {
    /// Does what is asked for; the exit status.
    pub(super) fn run(&self) -> u8 {
        let done = Cache::of_user().and_then(|cache| match &self.command {
            None => {
                list(&cache);
                Ok(())
            }
            Some(KernelsCommand::List { available, mirror }) => {
                list(&cache);
                if *available {
                    return list_available(&cache, &mirror.options());
                }
                Ok(())
            }
            Some(KernelsCommand::Fetch { names, all, mirror }) => {
                fetch(names, all, &cache, &mirror.options())
            }
            Some(KernelsCommand::Import { paths, name }) => {
                let bar = ProgressBar::new_spinner();
                bar.set_message("reading it");
                let stored = import(paths, name.as_deref(), &cache)
                    .and_then(|stored| boot(&stored, &cache, &bar));
                bar.finish_and_clear();
                print(&format!("{}\n", stored?));
                Ok(())
            }
            Some(KernelsCommand::Remove { names }) => remove(names, &cache),
        });
        match done {
            Ok(()) => SUCCESS,
            Err(error) => complain_of_kernel(&error),
        }
    }
}

fn megabytes(bytes: u64) -> String {
    format!("{} MB", bytes / 1_000_000)
}

/// What is known, what of it was fetched, and whether it boots here.
fn list(cache: &Cache) {
    let accelerator = match qemu::known_of_kvm(cache.directory()) {
        Some(true) => qemu::Accelerator::Kvm,
        _ => qemu::Accelerator::Tcg,
    };
    let kernels = cache.kernels();
    let widths = kernels.iter().map(|(name, _)| name.len());
    let width = widths.max().unwrap_or(0).max(12);
    let describe = |name: &str| match kernels.iter().find(|(stored, _)| stored == name) {
        Some((_, Ok(stored))) => describe(stored, State::find(stored, accelerator).as_ref(), width),
        Some((_, Err(error))) => format!("{name:<width$} {error}"),
        None => format!("{name:<width$} not fetched"),
    };
    let of_line = |name: &str, line: &Line| {
        LineRelease::parse(name).is_some_and(|named| named.line.name == line.name)
    };
    for line in catalogue::LINES {
        print(&format!("{}\n", describe(line.name)));
        for (name, _) in &kernels {
            if of_line(name, line) && name != line.name {
                print(&format!("{}\n", describe(name)));
            }
        }
    }
    for (name, _) in &kernels {
        if LineRelease::parse(name).is_none() {
            print(&format!("{}\n", describe(name)));
        }
    }
    if !kernels.is_empty() {
        let directory = cache.directory();
        let bytes = megabytes(disk_bytes(directory));
        print(&format!("{bytes} in {}\n", directory.display()));
    }
}

/// A stored kernel's line: release, size, and whether it has booted here.
fn describe(kernel: &Stored, state: Option<&State>, width: usize) -> String {
    let boot = state.map_or_else(
        || "not booted yet".to_owned(),
        |state| format!("boots in {:.1} s", state.boot().as_secs_f64()),
    );
    format!(
        "{:<width$} {:<28} {:>7}  {boot}",
        kernel.name,
        kernel.release,
        megabytes(kernel.disk_bytes())
    )
}

/// Each release that the archives have.
fn list_available(cache: &Cache, options: &MirrorOptions) -> Result<(), KernelError> {
    let lines: Vec<&'static Line> = catalogue::LINES.iter().collect();
    let archives = read(&lines, cache, options)?;
    for line in lines {
        let releases = archives.releases(line);
        print(&format!("\n{}: {} available\n", line.name, releases.len()));
        for (named, version) in releases {
            let state = match choice::find(cache, &named) {
                Ok(None) => "",
                Ok(Some(_)) => "  fetched",
                Err(_) => "  damaged",
            };
            print(&format!("  {:<32} {version}{state}\n", named.to_string()));
        }
    }
    Ok(())
}

fn read(
    lines: &[&'static Line],
    cache: &Cache,
    options: &MirrorOptions,
) -> Result<Archives, KernelError> {
    let bar = ProgressBar::new(100);
    let archives = Archives::read(lines, cache, options, &mut on_bar(&bar));
    bar.finish_and_clear();
    archives
}

/// Shows the progress of a fetch.
pub(super) fn on_bar(bar: &ProgressBar) -> impl FnMut(FetchProgress) {
    |stage| match stage {
        FetchProgress::Index(suite) => bar.set_message(format!("reading {suite}")),
        FetchProgress::Download(package) => bar.set_message(package),
        // Of 100.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        FetchProgress::Percent(done) => bar.set_position(done as u64),
        FetchProgress::Unpack => bar.set_message("unpacking"),
    }
}

/// Fetches the named kernels, and all releases of the named lines.
fn fetch(
    names: &[String],
    all: &[String],
    cache: &Cache,
    options: &MirrorOptions,
) -> Result<(), KernelError> {
    let named = names.iter().map(|name| parse(name));
    let mut wanted = named.collect::<Result<Vec<_>, _>>()?;
    let whole = all.iter().map(|name| match parse(name)? {
        LineRelease {
            line,
            release: None,
        } => Ok(line),
        _ => Err(KernelError::usage(
            name,
            "fetch all of it",
            "it is one release",
            "--all takes a line, such as debian-6.12",
        )),
    });
    let whole = whole.collect::<Result<Vec<_>, _>>()?;
    let mut lines: Vec<&'static Line> = Vec::new();
    for line in wanted.iter().map(|named| named.line).chain(whole.clone()) {
        if !lines.iter().any(|known| known.name == line.name) {
            lines.push(line);
        }
    }
    let archives = read(&lines, cache, options)?;
    for line in whole {
        for (named, _) in archives.releases(line) {
            match choice::find(cache, &named) {
                Ok(Some(stored)) => {
                    print(&format!("{named} is there: {}\n", stored.name));
                }
                // A damaged one is replaced.
                Ok(None) | Err(_) => wanted.push(named),
            }
        }
    }
    for named in wanted {
        let bar = ProgressBar::new(100);
        let stored = archives.fetch(&named, cache, &mut on_bar(&bar));
        // Shows that it works here, and the first run needn't.
        let described = stored.and_then(|stored| boot(&stored, cache, &bar));
        bar.finish_and_clear();
        print(&format!("{}\n", described?));
    }
    Ok(())
}

fn parse(name: &str) -> Result<LineRelease, KernelError> {
    LineRelease::parse(name).ok_or_else(|| {
        KernelError::usage(
            name,
            "fetch it",
            "no line of Debian's kernels has this name",
            "`harness kernels` lists the names; debian-6.1=6.1.0-47 is one release",
        )
    })
}

/// Boots a kernel if QEMU is there; its line of the list.
fn boot(stored: &Stored, cache: &Cache, bar: &ProgressBar) -> Result<String, KernelError> {
    let state = qemu::find().map(|_| {
        bar.set_message(format!("{}: booting", stored.name));
        let accelerator = qemu::accelerator(stored, cache.directory());
        State::make(stored, accelerator, cache)
    });
    Ok(describe(stored, state.transpose()?.as_ref(), 0))
}

fn remove(names: &[String], cache: &Cache) -> Result<(), KernelError> {
    for name in names {
        let bytes = cache.remove(name)?.ok_or_else(|| {
            KernelError::usage(
                name,
                "remove it",
                "no kernel of this name was fetched or imported",
                "`harness kernels` lists the names",
            )
        })?;
        print(&format!("{name}: removed, {} are free\n", megabytes(bytes)));
    }
    Ok(())
}
