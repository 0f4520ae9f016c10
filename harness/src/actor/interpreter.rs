//! The actor's side: runs the steps and reports what they observed.

use std::ffi::CString;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd};
use std::os::unix::net::UnixStream;
use std::sync::Mutex;

use nix::sched::{CloneFlags, setns};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigHandler, SigSet, Signal, signal};

use super::command;
use super::protocol::{Event, Order, Plan, Told};
use crate::descriptor;
use crate::step::context::{ActorContext, Shared, lock};
use crate::step::notebook::Notebook;
use crate::step::signal::SIGNALS;
use crate::step::{ActorStep, Step, call, flatten};

/// Runs an actor; its control socket is standard input. Returns when the run
/// is over; the process then ends.
pub fn run() -> io::Result<()> {
    take_every_signal()?;
    // SAFETY: the harness gives each actor its control socket as descriptor 0,
    // and nothing else in this process uses standard input.
    let control = unsafe { UnixStream::from_raw_fd(0) };
    // A child of an actor that outlives it must not be killed with it, but the
    // actor itself must not outlive the harness.
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    let namespace = descriptor::receive(&control)?
        .ok_or_else(|| io::Error::other("no network namespace came with the plan"))?;
    setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET)?;
    drop(namespace);
    let notebook = descriptor::receive(&control)?
        .ok_or_else(|| io::Error::other("no notebook came with the plan"))?;
    let mut orders = BufReader::new(control.try_clone()?);
    let mut line = String::new();
    orders.read_line(&mut line)?;
    let mut plan: Plan = serde_json::from_str(&line)?;
    // What ps and top show of its threads; of 15 bytes.
    if let Ok(name) = CString::new(plan.name.clone()) {
        let _ = nix::sys::prctl::set_name(&name);
    }
    if let Some(command) = plan.command.take() {
        return command::run(command, &plan.addresses, control, orders);
    }
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    let Plan {
        name,
        host,
        addresses,
        tasks,
        ..
    } = plan;
    let notebook = Some(Notebook::of(notebook, &tasks));
    let actor = Actor {
        shared: Shared::new(name, host, addresses, control.as_raw_fd(), notebook),
        control: Mutex::new(control),
    };
    std::thread::scope(|scope| {
        for (task, steps) in tasks.iter().enumerate() {
            let actor = &actor;
            scope.spawn(move || actor.run_task(task, steps));
        }
        // Ends the process when the harness says so or is gone, whatever the
        // steps are waiting for. Descriptors close then, as in any exit.
        for line in orders.lines() {
            match line.map(|line| serde_json::from_str(&line)) {
                Ok(Ok(Order::Done(step))) => actor.shared.progress.ended(step),
                _ => break,
            }
        }
        call::exit(0)
    })
}

/// Lets signals do to this process, and to what comes of it, what they do by default:
/// nohup and a shell's background leave some ignored. A core dump would stay behind;
/// where core_pattern is a pipe, its program decides.
fn take_every_signal() -> nix::Result<()> {
    for number in SIGNALS {
        if !matches!(number, Signal::SIGKILL | Signal::SIGSTOP) {
            // SAFETY: the default runs no code of ours.
            unsafe { signal(number, SigHandler::SigDfl) }?;
        }
    }
    SigSet::all().thread_unblock()?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)
}

/// An actor that runs steps.
struct Actor {
    shared: Shared,
    control: Mutex<UnixStream>,
}

impl Actor {
    fn tell(&self, event: &Event) {
        let mut line = serde_json::to_vec(&Told::now(event)).unwrap_or_default();
        line.push(b'\n');
        // A harness that is gone ends this process by the signal asked for at
        // the start.
        let _ = lock(&self.control).write_all(&line);
    }

    fn run_task(&self, task: usize, steps: &[Step<ActorStep>]) {
        let mut context = ActorContext::new(&self.shared);
        for step in steps {
            self.tell(&Event::Started {
                task,
                step: step.name.clone(),
            });
            context.run(step);
            // The inner steps first, the step itself last.
            for ended in flatten(step.inner()).chain([step]) {
                if let Some(outcome) = context.take_outcome(&ended.name) {
                    self.tell(&Event::Ended(outcome));
                }
            }
        }
        self.tell(&Event::Finished { task });
    }
}
