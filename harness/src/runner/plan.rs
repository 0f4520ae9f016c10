//! Which scenario runs on which kernel.

use std::path::Path;
use std::sync::Arc;

use advisor_report::Clock;

use super::executor::Job;
use super::{Error, Options};
use crate::guest::qemu;
use crate::kernels::KernelError;
use crate::kernels::cache::{Cache, Stored};
use crate::kernels::choice::{Choice, check_modules};
use crate::lab::{self, Carrier};
use crate::privilege::{self, Privilege};
use crate::suite::scenario::Scenario;

/// The jobs to run, scenario by scenario and for each kernel by kernel.
#[derive(Debug)]
pub struct Plan<'a> {
    /// The jobs.
    pub jobs: Vec<Job<'a>>,
    /// What this process may do on this machine.
    pub(super) privilege: Privilege,
}

impl<'a> Plan<'a> {
    /// Every scenario on one kernel, in guests.
    pub fn in_guests(scenarios: impl IntoIterator<Item = &'a Scenario>, kernel: &Stored) -> Self {
        let kernel = Arc::new(kernel.clone());
        let job = |scenario| Job {
            scenario,
            kernel: Some(Arc::clone(&kernel)),
            seed: None,
        };
        Self {
            jobs: scenarios.into_iter().map(job).collect(),
            privilege: Privilege::None("not asked for".to_owned()),
        }
    }

    /// Every scenario on each of the kernels, which are named as [`Choice`] parses
    /// them. `modules` are those of a kernel that is given by its path.
    ///
    /// Must be called before the first thread starts, see [`privilege::acquire`].
    pub fn make(
        scenarios: &'a [Scenario],
        kernels: &[String],
        modules: Option<&Path>,
        options: &Options,
    ) -> Result<Self, Error> {
        let mut choices = Vec::new();
        for name in kernels {
            let choice = Choice::parse(name)?;
            if !choices.contains(&choice) {
                choices.push(choice);
            }
        }
        check_modules(&choices, modules)?;
        let asked = if options.seed.is_some() {
            "--seed"
        } else {
            "--clock virtual"
        };
        if options.seed.is_some() && options.clock == Some(Clock::Real) {
            return Err(KernelError::usage(
                asked,
                "repeat runs in real time",
                "only a virtual clock makes two runs the same",
                "leave --clock real out",
            )
            .into());
        }
        let only_guests = options.seed.is_some() || options.clock == Some(Clock::Virtual);
        if only_guests && choices.contains(&Choice::Host) {
            return Err(KernelError::usage(
                asked,
                "run on the host's kernel with it",
                "only an emulated guest has a virtual clock",
                "--kernel debian-6.12, or another that `harness kernels` lists",
            )
            .into());
        }
        // A guest needs no rights here.
        let privilege = if !only_guests && choices.iter().any(Choice::is_of_host) {
            privilege::acquire()
        } else {
            Privilege::None("not asked for".to_owned())
        };
        let abilities = Abilities::of_host(scenarios, options, &privilege);
        let mut places: Vec<Targets> = vec![Targets::default(); scenarios.len()];
        for choice in &choices {
            let mut elsewhere = Vec::new();
            for (scenario, placed) in scenarios.iter().zip(&mut places) {
                match choice {
                    Choice::Host => placed.on_host = true,
                    Choice::Auto if !only_guests && abilities.serve(scenario) => {
                        placed.on_host = true;
                    }
                    Choice::Auto | Choice::Line(_) | Choice::Imported(_) | Choice::File(_) => {
                        elsewhere.push(placed);
                    }
                }
            }
            if elsewhere.is_empty() {
                continue;
            }
            let is_optional = *choice == Choice::Auto;
            let kernel = choice
                .resolve(&Cache::of_user()?, modules)?
                .filter(|_| !is_optional || only_guests || qemu::find().is_some())
                .map(Arc::new);
            if only_guests && kernel.is_none() {
                return Err(KernelError::environment(
                    asked,
                    "run in a guest",
                    "no kernel has been fetched",
                    "harness kernels fetch debian-6.12",
                )
                .into());
            }
            for placed in elsewhere {
                match &kernel {
                    // By auto and by name: once is enough.
                    Some(kernel) if placed.kernels.contains(kernel) => {}
                    Some(kernel) => placed.kernels.push(Arc::clone(kernel)),
                    // No guest is available. The scenario runs on the host, which
                    // reports why it is skipped.
                    None => placed.on_host = true,
                }
            }
        }
        let jobs = scenarios.iter().zip(places).flat_map(|(scenario, placed)| {
            let here = placed.on_host.then_some(None);
            let kernels = here.into_iter().chain(placed.kernels.into_iter().map(Some));
            kernels.map(move |kernel| Job {
                scenario,
                kernel,
                seed: options.seed,
            })
        });
        Ok(Self {
            jobs: jobs.collect(),
            privilege,
        })
    }

    /// Has each job that has a seed run with this many: its own and those that follow.
    pub fn explore(&mut self, seeds: u64) {
        let jobs = std::mem::take(&mut self.jobs).into_iter();
        let with_seeds = jobs.flat_map(|job| {
            let first = job.seed.unwrap_or(0);
            (0..seeds).map(move |further| Job {
                seed: Some(first.wrapping_add(further)),
                ..job.clone()
            })
        });
        self.jobs = with_seeds.collect();
    }
}

/// Where a scenario runs.
#[derive(Clone, Default)]
struct Targets {
    on_host: bool,
    kernels: Vec<Arc<Stored>>,
}

/// What the host's kernel can do for scenarios.
#[derive(Clone, Copy, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own about the host"
)]
struct Abilities {
    /// Make network namespaces.
    can_run: bool,
    /// Have sysctls of the whole machine set.
    may_be_touched: bool,
    /// Carry a link by netem.
    has_netem: bool,
    /// Whether the user wants netem for every impaired link.
    netem_is_asked_for: bool,
}

impl Abilities {
    fn of_host(scenarios: &[Scenario], options: &Options, privilege: &Privilege) -> Self {
        let can_run = !matches!(privilege, Privilege::None(_));
        let netem_is_asked_for = options.carrier == Carrier::Netem;
        let netem_matters =
            netem_is_asked_for || scenarios.iter().any(|scenario| scenario.needs_netem);
        Self {
            can_run,
            may_be_touched: options.touch_host && *privilege == Privilege::Root,
            netem_is_asked_for,
            has_netem: netem_matters && can_run && lab::kernel_has_netem(),
        }
    }

    /// Whether the host can run a scenario.
    fn serve(self, scenario: &Scenario) -> bool {
        self.can_run
            && (self.may_be_touched || !scenario.touches_host())
            && !scenario.needs_guest()
            && scenario.clock != Some(Clock::Virtual)
            && scenario.users().all(privilege::has_user)
            && (self.has_netem
                || !(scenario.needs_netem || (self.netem_is_asked_for && scenario.is_impaired())))
    }
}
