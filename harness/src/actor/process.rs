//! The harness's side of an actor: starts its process and listens to it.

use std::collections::BTreeSet;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use super::cgroup::{self, Cgroup};
use super::protocol::{Answer, Event, Order, Plan, Told, now_us};
use super::usage::Usage;
use crate::descriptor;
use crate::lab::LabError;
use crate::lab::namespace::Namespace;
use crate::step::context::Outcome;
use crate::step::flatten;
use crate::step::name::StepReference;
use crate::step::notebook::Notebook;

/// A running actor. Dropping it kills its process and reaps it.
#[derive(Debug)]
pub struct Process {
    /// The actor's name.
    pub name: String,
    /// Whether it starts a command.
    pub is_command: bool,
    child: Mutex<Child>,
    pid: Pid,
    /// The steps of other lists that it waits for.
    awaits: BTreeSet<StepReference>,
    orders: Mutex<UnixStream>,
    events: UnixStream,
    answer: Awaited,
    /// What the steps inside others have given so far.
    notebook: Notebook,
    /// The largest resident set of its command's processes that have ended.
    max_rss_bytes: Mutex<u64>,
    /// Dropped after the process was killed: the thread that is its parent.
    _parent: Option<Sender<()>>,
    /// Dropped after the process was killed.
    cgroup: Option<Cgroup>,
}

/// What it answers to the one order at a time that it is asked to follow.
#[derive(Debug, Default)]
struct Awaited {
    state: Mutex<AnswerState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct AnswerState {
    given: Option<Answer>,
    /// None will come: the process is gone.
    is_over: bool,
}

impl Awaited {
    fn change(&self, change: impl FnOnce(&mut AnswerState)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    /// What came of it; nothing where no answer will come.
    fn wait(&self) -> Option<Answer> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self
            .changed
            .wait_while(state, |state| state.given.is_none() && !state.is_over)
            .unwrap_or_else(PoisonError::into_inner);
        state.given.take()
    }
}

impl Process {
    /// Starts an actor in a namespace. The calling thread must live as long as
    /// the actor: the kernel kills the actor when that thread ends.
    pub fn start(plan: &Plan, namespace: &Namespace) -> Result<Self, LabError> {
        let error =
            |error| LabError::new(&plan.host, &format!("start actor {}", plan.name), error, "");
        let (ours, theirs) = UnixStream::pair().map_err(error)?;
        let mut command = Command::new("/proc/self/exe");
        command
            .arg0("harness")
            .args(["actor", &plan.name])
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            // It takes every signal, and those to the harness's group are not for it.
            .process_group(0);
        let is_command = plan.command.is_some();
        let (child, parent) = if is_command {
            let (child, parent) = spawn_as_first(command).map_err(error)?;
            (child, Some(parent))
        } else {
            (command.spawn().map_err(error)?, None)
        };
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap_or(0));
        let cgroup = plan
            .memory_limits
            .map(|limits| Cgroup::with(&plan.name, limits, child.id()))
            .transpose()
            .map_err(error)?;
        let process = Self {
            cgroup,
            name: plan.name.clone(),
            is_command,
            answer: Awaited::default(),
            notebook: Notebook::new(&plan.tasks).map_err(error)?,
            _parent: parent,
            max_rss_bytes: Mutex::new(0),
            child: Mutex::new(child),
            pid,
            awaits: plan
                .tasks
                .iter()
                .flat_map(|steps| flatten(steps))
                .filter_map(|step| step.waits_for().cloned())
                .collect(),
            events: ours.try_clone().map_err(error)?,
            orders: Mutex::new(ours),
        };
        process.send_plan(plan, namespace).map_err(error)?;
        Ok(process)
    }

    fn send_plan(&self, plan: &Plan, namespace: &Namespace) -> io::Result<()> {
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        descriptor::send(&orders, namespace)?;
        descriptor::send(&orders, &self.notebook)?;
        let mut line = serde_json::to_vec(plan)?;
        line.push(b'\n');
        orders.write_all(&line)
    }

    /// The number of its process.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw().cast_unsigned()
    }

    /// Tells the actor that a step has ended, where it waits for that. One that
    /// is dead doesn't hear it.
    pub fn tell_ended(&self, step: &StepReference) {
        // No more than it waits for: one that is stopped reads nothing, and the
        // rest would fill the socket and block the harness.
        if !self.awaits.contains(step) {
            return;
        }
        self.tell(&Order::Done(step.clone()));
    }

    /// Calls `heard` with each event and its time until the actor's process is gone.
    pub fn listen(&self, mut heard: impl FnMut(Told)) {
        for line in BufReader::new(&self.events).lines() {
            let Ok(line) = line else { break };
            let told = match serde_json::from_str::<Told>(&line) {
                Ok(told) => told,
                Err(error) => {
                    heard(Told {
                        at_us: now_us(),
                        event: Event::Broken(format!("it said {line:?}: {error}")),
                    });
                    continue;
                }
            };
            if let Event::Answer(answer) = told.event {
                self.answer.change(|state| state.given = Some(answer));
                continue;
            }
            if let Event::Exited { max_rss_bytes, .. } = told.event {
                let known = self.max_rss_bytes.lock();
                *known.unwrap_or_else(PoisonError::into_inner) = max_rss_bytes;
            }
            heard(told);
        }
        self.answer.change(|state| state.is_over = true);
    }

    /// Has its command's process, or all of its processes, sent a signal. False
    /// where the actor is gone before it answers.
    pub fn signal_command(&self, signal: Signal, to_all: bool) -> io::Result<bool> {
        self.ask(&Order::Signal {
            number: signal as i32,
            to_all,
        })
    }

    /// Has its command started anew. False where the actor is gone before it is
    /// ready.
    pub fn restart_command(&self, timeout: Option<Duration>) -> io::Result<bool> {
        self.ask(&Order::Restart { timeout })
    }

    fn ask(&self, order: &Order) -> io::Result<bool> {
        self.tell(order);
        match self.answer.wait() {
            None => Ok(false),
            Some(answer) => io::Result::from(answer).map(|()| true),
        }
    }

    /// What the steps inside others have given so far.
    pub fn so_far(&self) -> Vec<Outcome> {
        self.notebook.read()
    }

    /// The memory of its cgroup now, where it has one.
    pub fn cgroup_memory(&self) -> io::Result<Option<cgroup::Memory>> {
        self.cgroup.as_ref().map(Cgroup::memory).transpose()
    }

    /// What its command's processes use now.
    pub fn usage(&self) -> io::Result<Usage> {
        let mut usage = Usage::below(self.pid.as_raw())?;
        let ended = *self
            .max_rss_bytes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        usage.max_rss_bytes = usage.max_rss_bytes.max(ended);
        Ok(usage)
    }

    fn tell(&self, order: &Order) {
        let mut line = serde_json::to_vec(order).unwrap_or_default();
        line.push(b'\n');
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = orders.write_all(&line);
    }

    /// Sends a signal to the actor's process; ESRCH where it has ended, whoever
    /// has its number by now.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        if child.try_wait()?.is_some() {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        Ok(kill(self.pid, signal)?)
    }

    /// Waits until the process has ended, and leaves it to be reaped.
    pub fn await_end(&self) {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        // Another error than EINTR says that it has been reaped.
        while waitid(Id::Pid(self.pid), flags) == Err(Errno::EINTR) {}
    }

    /// How the process ended, where it has by now.
    pub fn has_ended(&self) -> Option<String> {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        let status = child.try_wait().ok().flatten()?;
        Some(match status.signal() {
            Some(number) => Signal::try_from(number)
                .map_or_else(|_| format!("signal {number}"), |signal| signal.to_string()),
            None => format!("exit status {}", status.code().unwrap_or(0)),
        })
    }

    /// Whether a signal has stopped it: state T in /proc/PID/stat (proc(5)).
    pub fn is_stopped(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid));
        let stat = stat.unwrap_or_default();
        let state = stat.rsplit(')').next().map(str::trim_start);
        state.is_some_and(|state| state.starts_with('T'))
    }

    /// Ends the conversation, which also ends children that the actor forked.
    pub fn hang_up(&self) {
        // An actor that is gone has hung up already.
        let _ = self.events.shutdown(std::net::Shutdown::Both);
    }

    /// Kills the process, where it still lives, and reaps it.
    pub fn end(&self) {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(None) = child.try_wait() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Starts a process as the first one of a PID namespace. The thread that does it
/// can have no other child outside of that namespace and, in a user namespace,
/// can't go back; so it is one for the purpose. It waits until what is returned
/// with the process is dropped: the kernel kills the process when it ends.
fn spawn_as_first(mut command: Command) -> io::Result<(Child, Sender<()>)> {
    let (alive, until_dropped) = channel();
    let (sender, started) = channel();
    std::thread::Builder::new()
        .name("first of its namespace".to_owned())
        .spawn(move || {
            let child = unshare(CloneFlags::CLONE_NEWPID)
                .map_err(io::Error::from)
                .and_then(|()| command.spawn());
            // Its end of the line is then only its own.
            drop(command);
            let _ = sender.send(child);
            let _ = until_dropped.recv();
        })?;
    let child = started
        .recv()
        .unwrap_or_else(|_| Err(io::Error::other("the thread that starts it panicked")))?;
    Ok((child, alive))
}

impl Drop for Process {
    fn drop(&mut self) {
        self.hang_up();
        self.end();
    }
}
