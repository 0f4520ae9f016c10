//! Measures how long a guest takes until its first step could run: booted, and
//! restored from a saved state; and `vng` running a command, for comparison.
//!
//! `ci/bench-guests` runs it and installs what it needs. The figures of a run
//! are in `docs/benchmarks.md`.

use std::error::Error;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use harness::guest::state::State;
use harness::guest::{Beginning, Guest};
use harness::guest::{init, qemu};
use harness::kernels::cache::{Cache, Stored};
use harness::lab::namespace::kernel_release;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Times that each is measured; `vng` takes half a minute.
const BOOTS: usize = 7;
const RESTORES: usize = 21;
const VNG_RUNS: usize = 3;

/// What the guest of `vng` says when it runs the command.
const MARKER: &str = "the-first-command-runs";

fn main() -> ExitCode {
    // The guest's init is the program that starts it.
    if init::is_init() {
        init::run();
    }
    if std::env::args().nth(1).as_deref() == Some("guest") {
        return harness::runner::guests::serve().map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
    }
    match measure() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure() -> Outcome {
    let cache = Cache::of_user()?;
    let load = std::fs::read_to_string("/proc/loadavg")?;
    println!(
        "Linux {}, load {} at the start\n",
        kernel_release(),
        load.split(' ').next().unwrap_or_default()
    );
    println!(
        "{:<34}{:>5}{:>9}  (min..max)",
        "ready after, s", "times", "median"
    );
    let vng = match (std::env::var_os("VNG"), std::env::var_os("VNG_KERNEL")) {
        (Some(vng), Some(kernel)) => {
            let (vng, kernel) = (Path::new(&vng), Path::new(&kernel));
            show_that_vng_works(vng, kernel)?;
            Some(times(VNG_RUNS, || run_vng(vng, kernel))?)
        }
        _ => None,
    };
    if let Some(vng) = &vng {
        row("vng, Debian's generic 6.1, true", vng, vng);
    }
    for name in ["debian-5.10", "debian-6.1", "debian-6.12", "debian-7.3"] {
        let Some(kernel) = cache.find(name)? else {
            continue;
        };
        of_kernel(&kernel, &cache, vng.as_deref())?;
    }
    Ok(())
}

fn of_kernel(kernel: &Stored, cache: &Cache, vng: Option<&[Duration]>) -> Outcome {
    let accelerator = qemu::accelerator(kernel, cache.directory());
    let boots = times(BOOTS, || {
        let start = Instant::now();
        let booted = Guest::boot(kernel, accelerator)?;
        let ready = start.elapsed();
        drop(booted);
        Ok(ready)
    })?;
    let state = State::make(kernel, accelerator, cache)?;
    let restores = times(RESTORES, || {
        let start = Instant::now();
        let guest = Guest::restore(kernel, accelerator, &state, &Beginning::here()?)?;
        let ready = start.elapsed();
        drop(guest);
        Ok(ready)
    })?;
    // It is good for this program only.
    state.discard();
    let against = vng.unwrap_or(&boots);
    row(&format!("{}, booted", kernel.name), &boots, against);
    row(&format!("{}, restored", kernel.name), &restores, against);
    Ok(())
}

/// Shows that `vng` runs a command: only with its console does it say what one
/// printed, and then it is slower.
fn show_that_vng_works(vng: &Path, kernel: &Path) -> Outcome {
    let output = vng_with(vng, kernel, &format!("echo {MARKER}"))
        .arg("--verbose")
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    // The console also shows the command line, which has the command encoded.
    if said.contains(MARKER) || complained.contains(MARKER) {
        return Ok(());
    }
    Err(format!("vng ran nothing: {said}{complained}").into())
}

/// The time until `vng` has run `true`.
fn run_vng(vng: &Path, kernel: &Path) -> Outcome<Duration> {
    let start = Instant::now();
    vng_with(vng, kernel, "true").output()?;
    Ok(start.elapsed())
}

fn vng_with(vng: &Path, kernel: &Path, run: &str) -> Command {
    let mut command = Command::new(vng);
    command
        .arg("--run")
        .arg(kernel)
        .args(["--disable-kvm", "--exec", run])
        .stdin(Stdio::null());
    command
}

fn times(count: usize, mut one: impl FnMut() -> Outcome<Duration>) -> Outcome<Vec<Duration>> {
    let mut times = (0..count).map(|_| one()).collect::<Outcome<Vec<_>>>()?;
    times.sort_unstable();
    Ok(times)
}

fn row(what: &str, times: &[Duration], against: &[Duration]) {
    let seconds = |index: usize| times[index].as_secs_f64();
    let median = seconds(times.len() / 2);
    let ratio = against[against.len() / 2].as_secs_f64() / median;
    println!(
        "{what:<34}{:>5}{median:>9.2}  {:<14} {ratio:>6.1}x",
        times.len(),
        format!("({:.2}..{:.2})", seconds(0), seconds(times.len() - 1)),
    );
}
