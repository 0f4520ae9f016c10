//! The command line, and what each command's exit status means.

mod calibrate;
mod prove;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use advisor_report::Scenario as ScenarioResult;
use advisor_report::calibration::Calibration;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::actor;
use crate::doctor;
use crate::guest::state::State;
use crate::guest::{self, qemu};
use crate::kernels::cache::{Cache, Stored};
use crate::kernels::choice::{Choice, Host, check_modules};
use crate::kernels::fetch::{self, Stage};
use crate::kernels::{KernelError, catalogue};
use crate::lab::{self, Carrier};
use crate::links;
use crate::new;
use crate::privilege::{self, Privilege};
use crate::report::snapshot::{self, Difference};
use crate::report::terminal::{self, Lines, Terminal, comparison, reasons, summary};
use crate::report::{self, Tally};
use crate::runner::guests::{self, Job};
use crate::runner::schedule::{Progress, run_all};
use crate::runner::{Settings, Touching};
use crate::suite::scenario::Scenario;
use crate::suite::{self, LoadError, story};
use crate::touch;

/// All that ran is as expected, and something ran.
const SUCCESS: u8 = 0;
/// An expectation failed, a scenario errored, a snapshot differs, or one was
/// skipped under `--fail-on-skip`.
const FAILURE: u8 = 1;
/// Bad usage, or a bad suite.
const USAGE: u8 = 2;
/// This machine can't do it.
const ENVIRONMENT: u8 = 3;

/// Replays documented TCP failures on a real kernel.
#[derive(Debug, Parser)]
#[command(name = "harness", version, max_term_width = 80, after_help = EXIT_STATUS)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_STATUS: &str = "\
Exit status: 0 all that ran passed and something ran; 1 an expectation failed, a
scenario errored, a snapshot differs, or one was skipped under --fail-on-skip;
2 bad usage or a bad suite; 3 this machine can't run it.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run suites and say what was seen against what was expected
    Run(Run),
    /// List the scenarios of suites, after checking them; runs nothing
    List(Selection),
    /// Tell a scenario as a story: hosts, links, steps, what is expected and why
    Show(Show),
    /// Say what this machine can and can't do, and what to do about it
    Doctor,
    /// Put back sysctls that an interrupted --touch-host run left changed
    Restore,
    /// Compare the relay with netem, on a kernel that has it: what each does to
    /// packets, and what the scenarios come to over each
    Links(Links),
    /// Try what the advisor recommends for a host on a kernel like its own: with
    /// the host's numbers, before and after the change
    Prove(prove::Prove),
    /// List the kernels that suites can run on, or fetch some
    Kernels(Kernels),
    /// Write a suite to start from
    New {
        #[command(subcommand)]
        what: New,
    },
    /// Measure on kernels what the advisor's formulas assume, and write a
    /// calibration for it; takes minutes
    Calibrate(calibrate::Calibrate),
    /// Print a JSON Schema, for editors and for other programs
    Schema {
        /// Of which format
        format: Format,
    },
    /// An actor's process; started by `run`
    #[command(hide = true)]
    Actor,
    /// Takes orders in a guest; started by its init
    #[command(hide = true)]
    Guest,
    /// The process that puts the machine back; started by `run --touch-host`
    #[command(hide = true)]
    Watcher,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// A suite's YAML
    Suite,
    /// report.json
    Report,
    /// proof.json
    Proof,
    /// What `calibrate` writes
    Calibration,
}

#[derive(Debug, Args)]
struct Selection {
    /// Suite files, or directories of them
    #[arg(default_value = "suites")]
    paths: Vec<PathBuf>,
    /// Only scenarios whose id holds this text, or cells with these values
    /// (axis=value,...); given several times, what fits all
    #[arg(long = "filter", value_name = "TEXT")]
    filters: Vec<String>,
    /// Every cell of each matrix, in place of a part that has every pair of
    /// values; a filter with [ or = in it chooses among all cells as well
    #[arg(long)]
    full: bool,
}

#[derive(Debug, Args)]
struct Show {
    /// The scenario's id; of a matrix, with or without the cell
    id: String,
    /// Suite files, or directories of them
    #[arg(default_value = "suites")]
    paths: Vec<PathBuf>,
}

#[derive(Debug, Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
struct Run {
    #[command(flatten)]
    selection: Selection,
    /// Write report.json, report.md and junit.xml to this directory
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// Compare the verdicts with the snapshots in this directory
    #[arg(long, value_name = "DIR")]
    snapshot: Option<PathBuf>,
    /// Take the verdicts over as snapshots
    #[arg(long, requires = "snapshot")]
    update: bool,
    /// Runs of each scenario, in place of what the suite says
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    runs: Option<u64>,
    /// Scenarios side by side [default: twelve for each CPU, as most of them
    /// wait, and 64 at most; a guest for each CPU]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: Option<u16>,
    /// What carries impaired links; auto is netem where the kernel has it
    #[arg(long, value_enum, default_value_t = LinkChoice::Auto)]
    link: LinkChoice,
    /// Run on this kernel: host, a name from `harness kernels`, the path of a
    /// vmlinuz, or auto: host where it can serve a scenario, else the fetched
    /// kernel nearest to it; given several times, on each
    #[arg(long = "kernel", value_name = "KERNEL", default_value = "auto")]
    kernels: Vec<String>,
    /// The modules of a vmlinuz that is given by its path, where they are not
    /// beside it; a directory such as /lib/modules/RELEASE
    #[arg(long, value_name = "DIR")]
    modules: Option<PathBuf>,
    /// Also run scenarios that set sysctls of the whole machine, one at a time;
    /// the values are put back
    #[arg(long)]
    touch_host: bool,
    /// Also run scenarios that wait long, for minutes
    #[arg(long)]
    long: bool,
    /// Keep packets (pcap) and the actors' logs of runs that are not as expected
    /// in this directory
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Exit with 1 where a scenario was skipped
    #[arg(long)]
    fail_on_skip: bool,
    /// Show what was seen of every expectation, not only of those not held
    #[arg(long, short)]
    verbose: bool,
    /// Where the lines of scenarios go.
    #[arg(skip)]
    lines: Lines,
}

#[derive(Debug, Subcommand)]
enum New {
    /// Five questions to a server of your own: does a slow client get the whole
    /// response, also when the server stops, does it come back after kill -9, what
    /// does a vanished client cost, does it leak CLOSE_WAIT
    Server {
        /// The file to write; one that is there stays as it is
        #[arg(default_value = "my-suites/server.yaml")]
        path: PathBuf,
        /// The TCP port that the server listens on
        #[arg(long, value_name = "PORT", default_value_t = 8080,
              value_parser = clap::value_parser!(u16).range(1..))]
        port: u16,
        /// The server and its arguments, after --
        #[arg(last = true, value_name = "COMMAND")]
        command: Vec<String>,
    },
}

#[derive(Debug, Args)]
struct Links {
    #[command(flatten)]
    selection: Selection,
    /// A name from `harness kernels`, the path of a vmlinuz, or auto: the fetched
    /// kernel nearest to the host's
    #[arg(long, value_name = "KERNEL", default_value = "auto")]
    kernel: String,
    /// Datagrams over each link
    #[arg(long, value_name = "N", default_value_t = 3000,
          value_parser = clap::value_parser!(u32).range(100..=100_000))]
    packets: u32,
    /// Runs of each scenario, in place of what the suite says
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    runs: Option<u64>,
    /// Leave the scenarios out
    #[arg(long)]
    packets_only: bool,
}

#[derive(Debug, Args)]
struct Kernels {
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

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LinkChoice {
    Auto,
    Netem,
    Relay,
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    // Clap prints usage errors itself, with exit status 2.
    let cli = Cli::parse();
    let status = match cli.command {
        Command::Run(run) => run_suites(&run),
        Command::List(selection) => list(&selection),
        Command::Show(show) => tell(&show),
        Command::Doctor => doctor::report(&privilege::acquire()),
        Command::Restore => restore(),
        Command::New { what } => write_new(&what),
        Command::Schema { format } => schema(format),
        Command::Links(links) => match compare_links(&links) {
            Ok(status) => status,
            Err(error) => complain_of_kernel(&error),
        },
        Command::Prove(prove) => prove.run(),
        Command::Kernels(kernels) => match run_kernels(&kernels) {
            Ok(()) => SUCCESS,
            Err(error) => complain_of_kernel(&error),
        },
        Command::Calibrate(calibrate) => calibrate.run(),
        Command::Guest => serve("guest", guest::init::serve()),
        Command::Actor => serve("actor", actor::interpreter::run()),
        Command::Watcher => serve("watcher", touch::watch()),
    };
    ExitCode::from(status)
}

/// Prints an error and what to do about it.
fn complain(message: impl std::fmt::Display, hint: &str) {
    let style = anstyle::AnsiColor::Red.on_default().bold();
    anstream::eprintln!("{style}error{style:#}: {message}");
    if !hint.is_empty() {
        anstream::eprintln!("hint: {hint}");
    }
}

fn serve(name: &str, result: io::Result<()>) -> u8 {
    match result {
        Ok(()) => SUCCESS,
        Err(error) => {
            complain(format!("{name}: {error}"), "");
            FAILURE
        }
    }
}

/// Loads suites, or prints what is wrong with them.
fn load(paths: &[PathBuf]) -> Result<Vec<Scenario>, u8> {
    suite::load(paths).map_err(|errors| {
        for error in &errors {
            complain(error, LoadError::hint(error));
        }
        USAGE
    })
}

/// The scenarios that the filters leave; none is an error of usage.
fn filter(scenarios: &[Scenario], selection: &Selection) -> Result<Vec<Scenario>, u8> {
    let filters = &selection.filters;
    let names_a_cell = |text: &String| text.contains(['[', '=']);
    let every_cell = selection.full || filters.iter().any(names_a_cell);
    let is_in_part = |scenario: &&Scenario| {
        let cell = scenario.cell.as_ref();
        every_cell || cell.is_none_or(|cell| cell.covering)
    };
    let chosen: Vec<Scenario> = scenarios
        .iter()
        .filter(|scenario| filters.iter().all(|text| holds(scenario, text)))
        .filter(is_in_part)
        .cloned()
        .collect();
    if chosen.is_empty() {
        let texts: Vec<String> = filters.iter().map(|text| format!("{text:?}")).collect();
        complain(
            format!("no scenario's id holds {}", texts.join(" and ")),
            "`harness list` shows the ids",
        );
        return Err(USAGE);
    }
    Ok(chosen)
}

/// Whether a scenario's id holds a text. Values of axes, `a=b,c=d`, are whole ones, in
/// any order.
fn holds(scenario: &Scenario, text: &str) -> bool {
    match &scenario.cell {
        Some(cell) if text.contains('=') && !text.contains('[') => {
            text.split(',').all(|pair| cell.has(pair))
        }
        _ => scenario.id.contains(text),
    }
}

fn list(selection: &Selection) -> u8 {
    let chosen = load(&selection.paths).and_then(|scenarios| filter(&scenarios, selection));
    match chosen {
        Ok(scenarios) => {
            let ids: Vec<&str> = scenarios
                .iter()
                .map(|scenario| scenario.id.as_str())
                .collect();
            print(&format!("{}\n", ids.join("\n")))
        }
        Err(status) => status,
    }
}

fn tell(show: &Show) -> u8 {
    let scenarios = match load(&show.paths) {
        Ok(scenarios) => scenarios,
        Err(status) => return status,
    };
    if let Some(scenario) = scenarios.iter().find(|scenario| scenario.id == show.id) {
        return print(&story::tell(scenario));
    }
    let of_matrix = |scenario: &&Scenario| {
        let cell = scenario.id.strip_prefix(&show.id);
        cell.is_some_and(|cell| cell.starts_with('['))
    };
    let cells: Vec<&Scenario> = scenarios.iter().filter(of_matrix).collect();
    if let [first, ..] = cells[..] {
        let told = story::tell_matrix(&show.id, &cells);
        return print(&format!("{told}\nharness show '{}' tells one.\n", first.id));
    }
    let ids = scenarios.iter().map(|scenario| scenario.id.as_str());
    let likely = suite::error::nearest(&show.id, ids)
        .map(|id| format!("; did you mean {id:?}?"))
        .unwrap_or_default();
    complain(
        format!("no scenario {:?}{likely}", show.id),
        "`harness list` shows the ids",
    );
    USAGE
}

fn write_new(what: &New) -> u8 {
    let New::Server {
        path,
        port,
        command,
    } = what;
    let shown = path.display();
    match new::write_server(path, command, *port) {
        Ok(()) => print(&format!(
            "{shown} is written. Edit it, and as root: harness run {shown}\n"
        )),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            complain(format!("{shown}: it is there already"), "name another file");
            USAGE
        }
        Err(error) => {
            complain(
                format!("{shown}: cannot write it: {error}"),
                "name a file that can be written",
            );
            ENVIRONMENT
        }
    }
}

fn schema(format: Format) -> u8 {
    let schema = match format {
        Format::Suite => suite::schema(),
        Format::Report => schemars::schema_for!(advisor_report::Report).to_value(),
        Format::Proof => schemars::schema_for!(advisor_report::proof::Proof).to_value(),
        Format::Calibration => schemars::schema_for!(Calibration).to_value(),
    };
    print(&format!("{schema:#}\n"))
}

/// Prints to standard output; a reader that has gone away is no error.
fn print(text: &str) -> u8 {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            complain(format!("standard output: {error}"), "");
            ENVIRONMENT
        }
        _ => SUCCESS,
    }
}

fn restore() -> u8 {
    match touch::restore_alone(touch::STATE_DIRECTORY.as_ref()) {
        Ok(None) => print("A run acts on the machine now; it puts its values back itself.\n"),
        Ok(Some(changes)) if changes.is_empty() => print("Nothing to put back.\n"),
        Ok(Some(changes)) => {
            let lines: Vec<String> = changes
                .iter()
                .map(|(change, restored)| format!("{change}: {restored}"))
                .collect();
            print(&format!("{}\n", lines.join("\n")))
        }
        Err(error) => {
            complain(
                format!("cannot put the sysctls back: {error}"),
                "run it as root",
            );
            ENVIRONMENT
        }
    }
}

fn complain_of_kernel(error: &KernelError) -> u8 {
    complain(error, error.hint());
    if error.is_usage { USAGE } else { ENVIRONMENT }
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

fn run_kernels(kernels: &Kernels) -> Result<(), KernelError> {
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
                &format!("known are {}", catalogue::names()),
            )),
        })
        .collect::<Result<Vec<_>, _>>()?;
    let options = fetch::Options {
        mirror: mirror.clone(),
        keyring: keyring.clone(),
    };
    for line in lines.into_iter().flatten() {
        let bar = indicatif::ProgressBar::new(100);
        let stored = fetch::fetch(line, &cache, &options, &mut |stage| match stage {
            Stage::Index(suite) => bar.set_message(format!("{}: reading {suite}", line.name)),
            Stage::Download(package) => bar.set_message(package),
            // Of 100.
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            Stage::Percent(done) => bar.set_position(done as u64),
            Stage::Unpack => bar.set_message(format!("{}: unpacking", line.name)),
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

/// Which scenarios run where: the indices of those that run on this host, and by
/// kernel of those that run in guests.
struct Plan {
    host: Vec<usize>,
    guests: Vec<(Stored, Vec<usize>)>,
}

impl Plan {
    fn make(
        run: &Run,
        choices: &[Choice],
        chosen: &[Scenario],
        privilege: &Privilege,
    ) -> Result<Self, KernelError> {
        if run.snapshot.is_some() && choices.len() > 1 {
            return Err(KernelError::usage(
                "--snapshot",
                "compare with it",
                "several kernels were asked for",
                "compare one kernel's verdicts at a time",
            ));
        }
        let mut plan = Self {
            host: Vec::new(),
            guests: Vec::new(),
        };
        let can_run = !matches!(privilege, Privilege::None(_));
        let netem_is_asked_for = matches!(run.link, LinkChoice::Netem);
        let netem_matters =
            netem_is_asked_for || chosen.iter().any(|scenario| scenario.needs_netem);
        let host = Host {
            can_run,
            may_be_touched: run.touch_host && *privilege == Privilege::Root,
            netem_is_asked_for,
            has_netem: netem_matters && can_run && lab::kernel_has_netem(),
        };
        for choice in choices {
            let (here, elsewhere) = match choice {
                Choice::Host => ((0..chosen.len()).collect(), Vec::new()),
                Choice::Auto => (0..chosen.len()).partition(|index| host.serves(&chosen[*index])),
                Choice::Line(_) | Choice::File(_) => (Vec::new(), (0..chosen.len()).collect()),
            };
            plan.host.extend(here);
            if elsewhere.is_empty() {
                continue;
            }
            // Where neither is to be had, the host says what it lacks.
            let is_optional = *choice == Choice::Auto;
            match choice.resolve(&Cache::of_user()?, run.modules.as_deref())? {
                Some(kernel) if !is_optional || qemu::find().is_some() => {
                    match plan.guests.iter_mut().find(|(known, _)| *known == kernel) {
                        // By auto and by name: once will do.
                        Some((_, indices)) => {
                            indices.extend(elsewhere);
                            indices.sort_unstable();
                            indices.dedup();
                        }
                        None => plan.guests.push((kernel, elsewhere)),
                    }
                }
                _ => plan.host.extend(elsewhere),
            }
        }
        plan.host.sort_unstable();
        plan.host.dedup();
        Ok(plan)
    }
}

fn choices(run: &Run) -> Result<Vec<Choice>, KernelError> {
    let mut choices = Vec::new();
    for name in &run.kernels {
        let choice = Choice::parse(name)?;
        if !choices.contains(&choice) {
            choices.push(choice);
        }
    }
    check_modules(&choices, run.modules.as_deref())?;
    Ok(choices)
}

/// Runs scenarios in guests; each result with its scenario's index.
fn run_in_guests(
    run: &Run,
    chosen: &[Scenario],
    guests: &[(Stored, Vec<usize>)],
) -> Result<Vec<(usize, ScenarioResult)>, KernelError> {
    let (indices, jobs): (Vec<usize>, Vec<Job>) = guests
        .iter()
        .flat_map(|(kernel, indices)| indices.iter().map(move |index| (kernel, *index)))
        .map(|(kernel, index)| {
            let scenario = &chosen[index];
            (index, Job { kernel, scenario })
        })
        .unzip();
    if jobs.is_empty() {
        return Ok(Vec::new());
    }
    // The whole machine is the guest's.
    let settings = settings(run, Touching::Allowed);
    let side_by_side = run.jobs.map_or_else(guests::most_guests, usize::from);
    let terminal = Terminal::new(jobs.len(), run.verbose, run.lines);
    let results = guests::run_all(
        &jobs,
        &settings,
        side_by_side,
        &Cache::of_user()?,
        &|progress| terminal.show(&progress),
    );
    terminal.finish();
    Ok(indices.into_iter().zip(results?).collect())
}

/// Compares the relay with netem; the exit status.
fn compare_links(options: &Links) -> Result<u8, KernelError> {
    let scenarios = if options.packets_only {
        Vec::new()
    } else {
        match load(&options.selection.paths).and_then(|all| filter(&all, &options.selection)) {
            Ok(scenarios) => scenarios,
            Err(status) => return Ok(status),
        }
    };
    // Without an impairment there is nothing to compare.
    let impaired: Vec<Scenario> = scenarios
        .into_iter()
        .filter(|scenario| scenario.is_impaired() && !scenario.needs_netem)
        .collect();
    let choice = Choice::parse(&options.kernel)?;
    if choice == Choice::Host {
        return Err(KernelError::usage(
            "host",
            "compare links on it",
            "links are compared in a guest",
            "name a kernel that was fetched, see `harness kernels`",
        ));
    }
    let cache = Cache::of_user()?;
    let Some(kernel) = choice.resolve(&cache, None)? else {
        return Err(KernelError::environment(
            &options.kernel,
            "compare links on it",
            "no kernel was fetched",
            "harness kernels fetch debian-6.12",
        ));
    };
    let terminal = Terminal::new(impaired.len() * 2, false, Lines::Out);
    let progress = |progress: Progress| terminal.show(&progress);
    let mut comparisons = Vec::new();
    let mut release = String::new();
    guests::measure_links(&kernel, options.packets, &cache, &progress, |of, pair| {
        of.clone_into(&mut release);
        let comparison = links::compare(pair);
        terminal.say(&format!("{} {}", comparison.verdict(), pair.link));
        comparisons.push(comparison);
    })?;
    let mut results = Vec::new();
    for carrier in [Carrier::Netem, Carrier::Relay] {
        let settings = Settings {
            carrier,
            runs: options.runs,
            touching: Touching::Allowed,
            in_guest: true,
            first_run: 0,
            long: false,
            keep: None,
        };
        let jobs: Vec<Job> = impaired
            .iter()
            .map(|scenario| Job {
                kernel: &kernel,
                scenario,
            })
            .collect();
        results.extend(guests::run_all(
            &jobs,
            &settings,
            guests::most_guests(),
            &cache,
            &progress,
        )?);
    }
    terminal.finish();
    let report = report::assemble(results, lab::pinned_sysctls());
    anstream::println!(
        "\n{}",
        terminal::links(&comparisons, &release, options.packets)
    );
    if let Some(comparison) = terminal::comparison(&report) {
        anstream::println!("\n{comparison}");
    }
    let packets_differ = comparisons.iter().any(|seen| !seen.differs.is_empty());
    let tally = Tally::of(&report.scenarios);
    let is_worse = tally.failed + tally.errored > 0 || !report.differences.is_empty();
    Ok(if packets_differ || is_worse {
        FAILURE
    } else {
        SUCCESS
    })
}

fn settings(run: &Run, touching: Touching) -> Settings {
    Settings {
        carrier: match run.link {
            LinkChoice::Auto => Carrier::Auto,
            LinkChoice::Netem => Carrier::Netem,
            LinkChoice::Relay => Carrier::Relay,
        },
        runs: run.runs,
        touching,
        in_guest: false,
        first_run: 0,
        long: run.long,
        keep: run.keep.clone(),
    }
}

fn run_suites(run: &Run) -> u8 {
    let (all, chosen) = match load(&run.selection.paths).and_then(|all| {
        let chosen = filter(&all, &run.selection)?;
        Ok((all, chosen))
    }) {
        Ok(scenarios) => scenarios,
        Err(status) => return status,
    };
    let (results, status) = match carry_out(run, &chosen) {
        Ok(seen) => seen,
        Err(status) => return status,
    };
    if results.is_empty() {
        return status;
    }
    status.max(conclude(run, &all, results))
}

/// Runs scenarios on the kernels that were asked for; the results scenario by
/// scenario, and of each kernel by kernel. The status is not 0 where guests gave
/// no results.
fn carry_out(run: &Run, chosen: &[Scenario]) -> Result<(Vec<ScenarioResult>, u8), u8> {
    // Before the first thread: a user namespace needs a process of one thread.
    // A guest needs nothing of the kind.
    let choices = choices(run).map_err(|error| complain_of_kernel(&error))?;
    let privilege = if choices.iter().any(Choice::is_of_host) {
        privilege::acquire()
    } else {
        Privilege::None("not asked for".to_owned())
    };
    let plan = Plan::make(run, &choices, chosen, &privilege)
        .map_err(|error| complain_of_kernel(&error))?;
    check_outputs(run)?;
    let mut results = Vec::new();
    if !plan.host.is_empty() {
        let here: Vec<Scenario> = plan.host.iter().map(|i| chosen[*i].clone()).collect();
        let seen = run_on_host(run, &here, &privilege)?;
        results.extend(plan.host.iter().copied().zip(seen));
    }
    let mut status = SUCCESS;
    match run_in_guests(run, chosen, &plan.guests) {
        Ok(seen) => results.extend(seen),
        // What the host has shown is told all the same.
        Err(error) => status = complain_of_kernel(&error),
    }
    results.sort_by_key(|(index, _)| *index);
    let results = results.into_iter().map(|(_, result)| result).collect();
    Ok((results, status))
}

fn run_on_host(
    run: &Run,
    chosen: &[Scenario],
    privilege: &Privilege,
) -> Result<Vec<ScenarioResult>, u8> {
    if let Privilege::None(why) = privilege {
        complain(
            format!("cannot make network namespaces: {why}"),
            "run it as root (sudo harness run ...), or in a guest, which needs no rights \
             (harness kernels fetch debian-6.12); `harness doctor` says more",
        );
        return Err(ENVIRONMENT);
    }
    let touching = match (run.touch_host, privilege) {
        (false, _) => Touching::NotAsked,
        (true, Privilege::Root) => Touching::Allowed,
        (true, _) => Touching::NotRoot,
    };
    let settings = settings(run, touching);
    if settings.carrier == Carrier::Netem && !lab::kernel_has_netem() {
        complain(
            "router: cannot add netem: ENOENT",
            "this kernel has no sch_netem; run with --link relay or in a guest (--kernel debian-6.12)",
        );
        return Err(ENVIRONMENT);
    }
    finish_earlier_run(privilege)?;
    let jobs = run.jobs.map_or_else(
        || (12 * std::thread::available_parallelism().map_or(1, usize::from)).min(64),
        usize::from,
    );
    let terminal = Terminal::new(chosen.len(), run.verbose, run.lines);
    let results = run_all(chosen, &settings, jobs, &|progress| {
        terminal.show(&progress);
    });
    terminal.finish();
    Ok(results)
}

/// Puts back what an earlier run left, before anything is measured.
fn finish_earlier_run(privilege: &Privilege) -> Result<(), u8> {
    if *privilege != Privilege::Root {
        return Ok(());
    }
    match touch::restore_alone(touch::STATE_DIRECTORY.as_ref()) {
        Ok(changes) => {
            for (change, restored) in changes.into_iter().flatten() {
                anstream::eprintln!("left by an earlier run: {change}: {restored}");
            }
            Ok(())
        }
        Err(error) => {
            complain(
                format!("cannot put back what an earlier run left: {error}"),
                "harness restore",
            );
            Err(ENVIRONMENT)
        }
    }
}

/// Writes what was asked for, prints the answer and says how it all came out.
fn conclude(run: &Run, all: &[Scenario], results: Vec<ScenarioResult>) -> u8 {
    let report = report::assemble(results, crate::lab::pinned_sysctls());
    let mut status = SUCCESS;
    if let Some(directory) = &run.report
        && let Err(error) = report::write(&report, directory)
    {
        status = complain_of_report(directory, &error);
    }
    if let Some(directory) = &run.snapshot {
        let known: Vec<&str> = all.iter().map(|scenario| scenario.id.as_str()).collect();
        match snapshot::compare(directory, &known, &report.scenarios, run.update) {
            Ok(differences) => {
                if differences
                    .iter()
                    .any(|difference| difference.pending.is_some())
                {
                    status = status.max(FAILURE);
                }
                differences.iter().for_each(show_difference);
            }
            Err(error) => status = complain_of_snapshots(directory, &error),
        }
    }
    if let Some(comparison) = comparison(&report) {
        anstream::println!("\n{comparison}");
    }
    if let Some(reasons) = reasons(&report.scenarios).filter(|_| !run.verbose) {
        anstream::println!("{reasons}");
    }
    anstream::println!("{}", summary(&report.scenarios));
    let tally = Tally::of(&report.scenarios);
    if status == ENVIRONMENT || tally.passed + tally.failed + tally.errored == 0 {
        return ENVIRONMENT;
    }
    if tally.failed + tally.errored > 0 || (run.fail_on_skip && tally.skipped > 0) {
        return FAILURE;
    }
    status
}

/// Whether what is to be written can be, before the work.
fn check_outputs(run: &Run) -> Result<(), u8> {
    if let Some(directory) = &run.report {
        crate::output::check(directory).map_err(|error| complain_of_report(directory, &error))?;
    }
    if let Some(directory) = run.snapshot.as_ref().filter(|_| run.update) {
        crate::output::check(directory)
            .map_err(|error| complain_of_snapshots(directory, &error))?;
    }
    Ok(())
}

fn complain_of_snapshots(directory: &Path, error: &io::Error) -> u8 {
    complain(
        format!("{}: cannot compare snapshots: {error}", directory.display()),
        "--snapshot takes a directory that can be written to",
    );
    ENVIRONMENT
}

fn complain_of_report(directory: &Path, error: &io::Error) -> u8 {
    complain(
        format!("{}: cannot write the report: {error}", directory.display()),
        "--report takes a directory that can be written to",
    );
    ENVIRONMENT
}

fn show_difference(difference: &Difference) {
    match &difference.pending {
        Some(pending) => anstream::println!(
            "{} differs; what was seen is in {} (cargo insta review, or --update)",
            difference.path.display(),
            pending.display()
        ),
        None => anstream::println!("{} updated", difference.path.display()),
    }
    for line in &difference.lines {
        anstream::println!("    {line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
