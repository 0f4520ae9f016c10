//! The actor's side: runs the steps and tells what they observed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigHandler, SigSet, Signal, signal};
use nix::unistd::setuid;

use super::option;
use super::protocol::{Event, Order, Outcome, Plan};
use super::{call, command};
use crate::descriptor;
use crate::suite::errno::errno_name;
use crate::suite::form::Data;
use crate::suite::scenario::flatten;
use crate::suite::step::{SIGNALS, Step, Verb};

/// The size of a system call's buffer unless the suite says otherwise.
const CHUNK_BYTES: u64 = 64 << 10;
/// The backlog of listen(2) unless the suite says otherwise.
const BACKLOG: u64 = 128;

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
    let mut orders = BufReader::new(control.try_clone()?);
    let mut line = String::new();
    orders.read_line(&mut line)?;
    let mut plan: Plan = serde_json::from_str(&line)?;
    if let Some(command) = plan.command.take() {
        return command::run(command, control, orders);
    }
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    let actor = Actor {
        plan,
        control: Mutex::new(control),
        sockets: Mutex::default(),
        files: Mutex::default(),
        done: Mutex::default(),
        changed: Condvar::new(),
    };
    std::thread::scope(|scope| {
        for (task, steps) in actor.plan.tasks.iter().enumerate() {
            let actor = &actor;
            scope.spawn(move || actor.run_task(task, steps));
        }
        // Ends the process when the harness says so or is gone, whatever the
        // steps are waiting for. Descriptors close then, as in any exit.
        for line in orders.lines() {
            match line.map(|line| serde_json::from_str(&line)) {
                Ok(Ok(Order::Done(step))) => actor.note_done(step),
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
    for name in SIGNALS {
        let number: Signal = name.parse()?;
        if !matches!(number, Signal::SIGKILL | Signal::SIGSTOP) {
            // SAFETY: the default runs no code of ours.
            unsafe { signal(number, SigHandler::SigDfl) }?;
        }
    }
    SigSet::all().thread_unblock()?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)
}

/// What all tasks of an actor share.
struct Actor {
    plan: Plan,
    control: Mutex<UnixStream>,
    /// The sockets under each name.
    sockets: Mutex<BTreeMap<String, Vec<RawFd>>>,
    /// What was last sent as a file, by the step that sent it.
    files: Mutex<BTreeMap<String, Arc<File>>>,
    /// The steps of other lists that have ended, `actor.step`.
    done: Mutex<BTreeSet<String>>,
    changed: Condvar,
}

/// Where a task stands with its sockets.
#[derive(Default)]
struct Hands {
    /// What a step without `on` acts on.
    current: Vec<RawFd>,
    /// What accept acts on.
    listener: Option<RawFd>,
    /// A socket that is made and not yet used up by listen or connect.
    fresh: Option<RawFd>,
}

/// What one execution of a step gave.
#[derive(Default)]
struct Tally {
    ok: u64,
    errors: Vec<io::Error>,
    bytes: Option<u64>,
    nonzero_bytes: u64,
    value: Option<String>,
}

/// What the calls of a step sent or received.
#[derive(Default)]
struct Transferred {
    bytes: u64,
    /// Of those that were received.
    nonzero_bytes: u64,
}

impl Transferred {
    fn receive(&mut self, data: &[u8]) {
        self.bytes += data.len() as u64;
        // Mostly there are none; without optimisation counting is slow.
        if data.first() != Some(&0) || data[1..] != data[..data.len() - 1] {
            self.nonzero_bytes += data.iter().filter(|byte| **byte != 0).count() as u64;
        }
    }
}

impl Tally {
    fn note(&mut self, result: io::Result<()>) {
        match result {
            Ok(()) => self.ok += 1,
            Err(error) => self.errors.push(error),
        }
    }
}

impl From<io::Result<()>> for Tally {
    fn from(result: io::Result<()>) -> Self {
        let mut tally = Self::default();
        tally.note(result);
        tally
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Actor {
    fn tell(&self, event: &Event) {
        let mut line = serde_json::to_vec(event).unwrap_or_default();
        line.push(b'\n');
        // A harness that is gone ends this process by the signal asked for at
        // the start.
        let _ = lock(&self.control).write_all(&line);
    }

    fn note_done(&self, step: String) {
        lock(&self.done).insert(step);
        self.changed.notify_all();
    }

    fn run_task(&self, task: usize, steps: &[Step]) {
        let mut hands = Hands::default();
        for step in steps {
            self.tell(&Event::Started {
                task,
                step: step.name.clone(),
            });
            let mut outcomes = BTreeMap::new();
            self.run_step(step, &mut hands, &mut outcomes);
            // The inner steps first, the step itself last.
            for inner in flatten(step.inner()).chain([step]) {
                if let Some(outcome) = outcomes.remove(&inner.name) {
                    self.note_done(format!("{}.{}", self.plan.name, inner.name));
                    self.tell(&Event::Ended(outcome));
                }
            }
        }
        self.tell(&Event::Finished { task });
    }

    fn run_step(&self, step: &Step, hands: &mut Hands, outcomes: &mut BTreeMap<String, Outcome>) {
        if step.verb != Verb::Await {
            self.wait_for(step);
        }
        let start = Instant::now();
        let tally = if step.verb == Verb::Repeat {
            for _ in 0..step.fields.count("times").unwrap_or(1) {
                pause(step);
                for inner in step.inner() {
                    self.run_step(inner, hands, outcomes);
                }
            }
            Tally::from(Ok(()))
        } else {
            self.execute(step, hands)
        };
        let outcome = outcomes
            .entry(step.name.clone())
            .or_insert_with(|| Outcome {
                step: step.name.clone(),
                ..Outcome::default()
            });
        outcome.ms += start.elapsed().as_secs_f64() * 1e3;
        outcome.ok += tally.ok;
        for error in tally.errors {
            let name = error
                .raw_os_error()
                .map_or_else(|| error.to_string(), errno_name);
            outcome.error.get_or_insert_with(|| name.clone());
            *outcome.errors.entry(name).or_default() += 1;
        }
        if let Some(bytes) = tally.bytes {
            *outcome.bytes.get_or_insert(0) += bytes;
        }
        outcome.nonzero_bytes += tally.nonzero_bytes;
        if tally.value.is_some() {
            outcome.value = tally.value;
        }
    }

    /// Waits until the step of another list that this one names has ended.
    fn wait_for(&self, step: &Step) {
        let Some(awaited) = step.waits_for() else {
            return;
        };
        let mut done = lock(&self.done);
        while !done.contains(awaited) {
            done = self
                .changed
                .wait(done)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn execute(&self, step: &Step, hands: &mut Hands) -> Tally {
        let fields = &step.fields;
        match step.verb {
            Verb::Socket => self.make(step, hands).map(|_| ()).into(),
            Verb::Setsockopt => self.on_each(step, hands, |socket| {
                for (name, item) in fields.iter() {
                    if let (Some(option), Data::Text(value)) = (option::find(name), &item.data) {
                        option.set(socket, value)?;
                    }
                }
                Ok(())
            }),
            Verb::Getsockopt => {
                let mut value = None;
                let option = fields.text("option").and_then(option::find);
                let mut tally = self.on_each(step, hands, |socket| {
                    value = option.map(|option| option.get(socket)).transpose()?;
                    Ok(())
                });
                tally.value = value;
                tally
            }
            Verb::Fcntl => {
                let on = fields.text("flags") == Some("O_NONBLOCK");
                self.on_each(step, hands, |socket| call::set_nonblocking(socket, on))
            }
            Verb::Bind => self.bind(step, hands).into(),
            Verb::Listen => self.listen(step, hands).into(),
            Verb::Accept => self.accept(step, hands),
            Verb::Connect => self.connect(step, hands).into(),
            Verb::Poll => {
                let mut value = None;
                let events = fields.text("events").unwrap_or("POLLIN");
                let mut tally = self.on_each(step, hands, |socket| {
                    value = Some(call::poll(socket, events, fields.duration("timeout"))?);
                    Ok(())
                });
                tally.value = value;
                tally
            }
            Verb::Write => self.transfer(step, hands, |socket, done| write(step, socket, done)),
            Verb::Sendfile => self.send_file(step, hands, sendfile),
            Verb::Splice => self.send_file(step, hands, splice),
            Verb::Pwrite => self
                .file(step)
                .and_then(|file| call::fill(&file, 1, fields.count("bytes").unwrap_or(0)))
                .into(),
            Verb::Ftruncate => self.file(step).and_then(|file| file.set_len(0)).into(),
            Verb::Read => self.transfer(step, hands, |socket, done| {
                read(step, socket, fields.count("bytes").unwrap_or(0), done)
            }),
            Verb::ReadToEnd => self.transfer(step, hands, |socket, done| {
                read(step, socket, u64::MAX, done)
            }),
            Verb::Drain => self.transfer(step, hands, drain),
            Verb::Shutdown => {
                let how = fields.text("how").unwrap_or_default();
                self.on_each(step, hands, |socket| call::shutdown(socket, how))
            }
            Verb::WaitOutqEmpty => {
                let mut left = None;
                let mut tally = self.on_each(step, hands, |socket| {
                    wait_outq_empty(step, socket, &mut left)
                });
                tally.value = left.map(|left| left.to_string());
                tally
            }
            Verb::Close => self.close(step, hands),
            Verb::Dup => self
                .one(step, hands)
                .and_then(call::dup)
                .map(|socket| self.keep(step, hands, socket))
                .into(),
            Verb::Fork => {
                call::fork_holder(lock(&self.control).as_raw_fd(), fields.duration("hold")).into()
            }
            Verb::Exit => {
                call::exit(i32::try_from(fields.count("status").unwrap_or(0)).unwrap_or(1))
            }
            Verb::Setrlimit => {
                let most = fields.count("RLIMIT_NOFILE").unwrap_or(0);
                setrlimit(Resource::RLIMIT_NOFILE, most, most)
                    .map_err(io::Error::from)
                    .into()
            }
            Verb::Setuid => become_user(step).map_err(io::Error::from).into(),
            Verb::Sleep => {
                std::thread::sleep(fields.duration("time").unwrap_or_default());
                Ok(()).into()
            }
            Verb::Await => {
                self.wait_for(step);
                Ok(()).into()
            }
            // Repeat is run by the caller; the rest are the lab's.
            _ => Err(io::Error::from_raw_os_error(libc::ENOSYS)).into(),
        }
    }

    /// The sockets that a step acts on.
    fn chosen(&self, step: &Step, hands: &mut Hands) -> Vec<RawFd> {
        if let Some(name) = step.fields.text("on") {
            hands.current = lock(&self.sockets).get(name).cloned().unwrap_or_default();
        }
        hands.current.clone()
    }

    /// The one socket that a step acts on: the last of a set.
    fn one(&self, step: &Step, hands: &mut Hands) -> io::Result<RawFd> {
        self.chosen(step, hands)
            .last()
            .copied()
            .ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))
    }

    /// Makes the step's call on each of its sockets.
    fn on_each(
        &self,
        step: &Step,
        hands: &mut Hands,
        mut call: impl FnMut(RawFd) -> io::Result<()>,
    ) -> Tally {
        let sockets = self.chosen(step, hands);
        if sockets.is_empty() {
            return Err(io::Error::from_raw_os_error(libc::EBADF)).into();
        }
        let mut tally = Tally::default();
        for socket in sockets {
            tally.note(call(socket));
        }
        tally
    }

    /// Makes the step's calls on each of its sockets and counts the bytes, of
    /// those too that ended in an error.
    fn transfer(
        &self,
        step: &Step,
        hands: &mut Hands,
        mut call: impl FnMut(RawFd, &mut Transferred) -> io::Result<()>,
    ) -> Tally {
        let mut done = Transferred::default();
        let mut tally = self.on_each(step, hands, |socket| call(socket, &mut done));
        tally.bytes = Some(done.bytes);
        tally.nonzero_bytes = done.nonzero_bytes;
        tally
    }

    /// Sends a file of zeros on each of the step's sockets, and keeps it under the
    /// step's name.
    fn send_file(
        &self,
        step: &Step,
        hands: &mut Hands,
        mut send: impl FnMut(RawFd, RawFd, u64, &mut Transferred) -> io::Result<()>,
    ) -> Tally {
        let bytes = step.fields.count("bytes").unwrap_or(0);
        let file = match call::zero_file(bytes) {
            Ok(file) => Arc::new(file),
            Err(error) => return Err(error).into(),
        };
        lock(&self.files).insert(step.name.clone(), Arc::clone(&file));
        self.transfer(step, hands, |socket, done| {
            send(file.as_raw_fd(), socket, bytes, done)
        })
    }

    /// The file that a step acts on.
    fn file(&self, step: &Step) -> io::Result<Arc<File>> {
        let name = step.fields.text("file").unwrap_or_default();
        let file = lock(&self.files).get(name).cloned();
        file.ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))
    }

    /// Keeps a new socket under the step's name and takes it in hand.
    fn keep(&self, step: &Step, hands: &mut Hands, socket: RawFd) {
        lock(&self.sockets)
            .entry(step.name.clone())
            .or_default()
            .push(socket);
        hands.current = vec![socket];
    }

    fn make(&self, step: &Step, hands: &mut Hands) -> io::Result<RawFd> {
        let own = self.plan.addresses.get(&self.plan.host).copied();
        let family = match step.fields.text("family") {
            Some("ipv6") => std::net::Ipv6Addr::UNSPECIFIED.into(),
            Some(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
            None => own.unwrap_or(std::net::Ipv4Addr::UNSPECIFIED.into()),
        };
        let socket = call::socket(family)?;
        self.keep(step, hands, socket);
        hands.fresh = Some(socket);
        Ok(socket)
    }

    /// The socket for bind, listen or connect: the one named, else one that is
    /// made and not yet used, else a new one.
    fn fresh(&self, step: &Step, hands: &mut Hands) -> io::Result<RawFd> {
        if step.fields.text("on").is_some() {
            return self.one(step, hands);
        }
        match hands.fresh {
            Some(socket) => {
                self.keep(step, hands, socket);
                Ok(socket)
            }
            None => self.make(step, hands),
        }
    }

    /// `host:port`; without a host, the actor's own.
    fn endpoint(&self, text: &str) -> io::Result<SocketAddr> {
        let invalid = || io::Error::from_raw_os_error(libc::EINVAL);
        let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
        let host = if host.is_empty() {
            &self.plan.host
        } else {
            host
        };
        let address = self.plan.addresses.get(host).ok_or_else(invalid)?;
        Ok(SocketAddr::new(
            *address,
            port.parse().map_err(|_| invalid())?,
        ))
    }

    fn bind(&self, step: &Step, hands: &mut Hands) -> io::Result<()> {
        let socket = self.fresh(step, hands)?;
        call::bind(
            socket,
            self.endpoint(step.fields.text("to").unwrap_or_default())?,
        )
    }

    fn listen(&self, step: &Step, hands: &mut Hands) -> io::Result<()> {
        let socket = self.fresh(step, hands)?;
        if let Some(port) = step.fields.text("port") {
            call::bind(socket, self.endpoint(port)?)?;
        }
        let backlog = step.fields.count("backlog").unwrap_or(BACKLOG);
        call::listen(socket, i32::try_from(backlog).unwrap_or(i32::MAX))?;
        hands.fresh = None;
        hands.listener = Some(socket);
        Ok(())
    }

    fn accept(&self, step: &Step, hands: &mut Hands) -> Tally {
        let listener = match (step.fields.text("on"), hands.listener) {
            (None, Some(listener)) => listener,
            _ => match self.one(step, hands) {
                Ok(listener) => listener,
                Err(error) => return Err(error).into(),
            },
        };
        let mut tally = Tally::default();
        let mut accepted = Vec::new();
        for _ in 0..step.fields.count("count").unwrap_or(1) {
            tally.note(call::accept(listener).map(|socket| {
                self.keep(step, hands, socket);
                accepted.push(socket);
            }));
        }
        hands.current = accepted;
        tally
    }

    fn connect(&self, step: &Step, hands: &mut Hands) -> io::Result<()> {
        let address = self.endpoint(step.fields.text("to").unwrap_or_default())?;
        let socket = self.fresh(step, hands)?;
        hands.fresh = None;
        call::connect(socket, address)
    }

    fn close(&self, step: &Step, hands: &mut Hands) -> Tally {
        let tally = self.on_each(step, hands, |socket| {
            pause(step);
            // Forgotten first: the kernel may hand the number out again.
            for sockets in lock(&self.sockets).values_mut() {
                sockets.retain(|known| *known != socket);
            }
            call::close(socket)
        });
        let closed = std::mem::take(&mut hands.current);
        hands.fresh = hands.fresh.filter(|socket| !closed.contains(socket));
        hands.listener = hands.listener.filter(|socket| !closed.contains(socket));
        tally
    }
}

/// setuid(2), which takes back that the process dies with the harness (prctl(2)).
fn become_user(step: &Step) -> nix::Result<()> {
    step.user().map_or(Ok(()), setuid)?;
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)
}

/// Waits `every`, where the step has it.
fn pause(step: &Step) {
    if let Some(every) = step.fields.duration("every") {
        std::thread::sleep(every);
    }
}

/// When a step has to be done, where it has `within`.
fn end(step: &Step) -> Option<Instant> {
    Some(Instant::now() + step.fields.duration("within")?)
}

/// Makes a call that doesn't wait, and waits until it can be made; without an
/// end the call is one that waits itself.
fn in_time(
    end: Option<Instant>,
    socket: RawFd,
    events: &str,
    mut call: impl FnMut() -> io::Result<usize>,
) -> io::Result<usize> {
    let Some(end) = end else { return call() };
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::from_raw_os_error(libc::ETIMEDOUT));
        }
        match call() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                // A millisecond more: poll(2) counts whole ones.
                call::poll(socket, events, Some(left + Duration::from_millis(1)))?;
            }
            done => return done,
        }
    }
}

fn chunk(step: &Step) -> usize {
    length(step.fields.count("chunk").unwrap_or(CHUNK_BYTES).max(1))
}

fn length(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX).min(1 << 30)
}

fn write(step: &Step, socket: RawFd, done: &mut Transferred) -> io::Result<()> {
    let text = step.fields.text("bytes").unwrap_or_default().as_bytes();
    let bytes = step.fields.count("bytes").unwrap_or(text.len() as u64);
    let zeros = vec![0; chunk(step).min(length(bytes))];
    let end = end(step);
    let mut written = 0;
    while written < bytes {
        pause(step);
        let buffer = if text.is_empty() {
            &zeros[..zeros.len().min(length(bytes - written))]
        } else {
            &text[length(written)..]
        };
        let count = in_time(end, socket, "POLLOUT", || match end {
            Some(_) => call::send_now(socket, buffer),
            None => call::write(socket, buffer),
        })? as u64;
        written += count;
        done.bytes += count;
    }
    Ok(())
}

fn read(step: &Step, socket: RawFd, bytes: u64, done: &mut Transferred) -> io::Result<()> {
    let mut buffer = vec![0; chunk(step)];
    let end = end(step);
    let mut taken = 0;
    while taken < bytes {
        pause(step);
        let most = buffer.len().min(length(bytes - taken));
        let count = in_time(end, socket, "POLLIN", || match end {
            Some(_) => call::receive_now(socket, &mut buffer[..most]),
            None => call::read(socket, &mut buffer[..most]),
        })?;
        if count == 0 {
            break;
        }
        taken += count as u64;
        done.receive(&buffer[..count]);
    }
    Ok(())
}

fn drain(socket: RawFd, done: &mut Transferred) -> io::Result<()> {
    let mut buffer = vec![0; length(CHUNK_BYTES)];
    loop {
        match call::receive_now(socket, &mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => done.receive(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

fn sendfile(file: RawFd, socket: RawFd, bytes: u64, done: &mut Transferred) -> io::Result<()> {
    let mut offset = 0;
    let mut sent = 0;
    while sent < bytes {
        let count = call::sendfile(socket, file, &mut offset, length(bytes - sent))? as u64;
        if count == 0 {
            break;
        }
        sent += count;
        done.bytes += count;
    }
    Ok(())
}

fn splice(file: RawFd, socket: RawFd, bytes: u64, done: &mut Transferred) -> io::Result<()> {
    let (reader, writer) = call::pipe()?;
    let mut offset = 0;
    let mut spliced = 0;
    while spliced < bytes {
        let mut piped = call::splice(
            file,
            Some(&mut offset),
            writer.as_raw_fd(),
            length(bytes - spliced).min(64 << 10),
        )?;
        if piped == 0 {
            break;
        }
        while piped > 0 {
            let count = call::splice(reader.as_raw_fd(), None, socket, piped)?;
            piped -= count;
            spliced += count as u64;
            done.bytes += count as u64;
        }
    }
    Ok(())
}

/// Looks at SIOCOUTQ until it is 0. After a reset it never is, so SO_ERROR, which
/// is cleared by that, and the state are looked at as well.
fn wait_outq_empty(step: &Step, socket: RawFd, left: &mut Option<i32>) -> io::Result<()> {
    let start = Instant::now();
    let every = step
        .fields
        .duration("every")
        .unwrap_or(Duration::from_millis(1));
    loop {
        let outq = call::outq(socket)?;
        *left = Some(outq);
        if outq == 0 {
            return Ok(());
        }
        let error = option::pending_error(socket)?;
        if error != 0 {
            return Err(io::Error::from_raw_os_error(error));
        }
        if call::is_closed(socket)? {
            // The reset may have come since SO_ERROR was read; where there is
            // still none, another call has taken it before.
            let error = match option::pending_error(socket)? {
                0 => libc::ENOTCONN,
                error => error,
            };
            return Err(io::Error::from_raw_os_error(error));
        }
        if step
            .fields
            .duration("timeout")
            .is_some_and(|limit| start.elapsed() >= limit)
        {
            return Err(io::Error::from_raw_os_error(libc::ETIMEDOUT));
        }
        std::thread::sleep(every);
    }
}
