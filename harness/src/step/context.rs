//! What a step runs with: an actor's sockets and files, or the lab and its actors; and
//! what its calls give.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::ControlFlow;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use super::call::Protocol;
use super::name::{Endpoint, EpollName, FileName, SocketName, StepReference};
use super::notebook::Notebook;
use super::transfer::Transferred;
use super::{ActorStep, Step, call};
use crate::errno;
use crate::lab::address::{Addresses, SocketFamily, split_family};
use crate::lab::namespace::Namespace;
use crate::lab::peers::Peers;
use crate::lab::{Lab, LabError};
use crate::observation::Observations;

/// What a step observed, all its calls together.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Outcome {
    /// The step's name.
    pub step: String,
    /// Calls that succeeded.
    pub ok: u64,
    /// Calls that failed, by the errno's name.
    pub errors: BTreeMap<String, u64>,
    /// The first error's name; `None` where there was none.
    pub error: Option<String>,
    /// Bytes transferred.
    pub bytes: Option<u64>,
    /// Bytes received that were not zero.
    pub nonzero_bytes: u64,
    /// What the last call read: an option's value, revents, SIOCOUTQ.
    pub value: Option<String>,
    /// The time of all calls in milliseconds.
    pub ms: f64,
    /// The time of each execution in milliseconds, of the first [`MOST_EACH`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub each_ms: Vec<f64>,
}

/// The executions of a step of which the times are kept one by one.
pub const MOST_EACH: usize = 100;

impl Outcome {
    /// Of a step of which nothing is known yet.
    pub fn of(step: &str) -> Self {
        Self {
            step: step.to_owned(),
            ..Self::default()
        }
    }

    /// Adds a call that failed.
    pub fn fail(&mut self, errno: String) {
        self.error.get_or_insert_with(|| errno.clone());
        *self.errors.entry(errno).or_default() += 1;
    }
}

/// What the calls of one execution of a step gave.
#[derive(Default)]
pub struct Calls {
    /// Calls that succeeded.
    ok: u64,
    errors: Vec<io::Error>,
    bytes: Option<u64>,
    nonzero_bytes: u64,
    value: Option<String>,
    /// The time of each part, of a step with several.
    each: Vec<Duration>,
}

impl Calls {
    /// Adds one call.
    pub fn note(&mut self, result: io::Result<()>) {
        match result {
            Ok(()) => self.ok += 1,
            Err(error) => self.errors.push(error),
        }
    }

    /// The same calls with the time of each part.
    #[must_use]
    pub fn with_each(self, each: Vec<Duration>) -> Self {
        Self { each, ..self }
    }

    /// The same calls with the bytes that they moved.
    #[must_use]
    pub fn with_bytes(self, bytes: u64) -> Self {
        Self {
            bytes: Some(bytes),
            ..self
        }
    }

    /// The same calls with what the last of them read.
    #[must_use]
    pub fn with_value(self, value: Option<String>) -> Self {
        Self { value, ..self }
    }
}

impl From<io::Result<()>> for Calls {
    fn from(result: io::Result<()>) -> Self {
        let mut calls = Self::default();
        calls.note(result);
        calls
    }
}

/// The steps that have ended, for those that wait for them.
#[derive(Default)]
pub struct Progress {
    state: Mutex<ProgressState>,
    changed: Condvar,
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Waited {
    /// What was waited for is there.
    Ended,
    /// The time is over.
    Late,
    /// The run is over.
    Over,
}

#[derive(Default)]
struct ProgressState {
    ended: BTreeSet<StepReference>,
    is_over: bool,
}

impl Progress {
    /// A step has ended.
    pub fn ended(&self, step: StepReference) {
        lock(&self.state).ended.insert(step);
        self.changed.notify_all();
    }

    /// The run is over; nobody waits any longer.
    pub fn over(&self) {
        lock(&self.state).is_over = true;
        self.changed.notify_all();
    }

    /// Waits until a step has ended.
    pub fn wait_for(&self, step: &StepReference, limit: Option<Duration>) -> Waited {
        self.wait(limit, |state| state.ended.contains(step))
    }

    /// Whether a step has ended by now.
    pub fn has_ended(&self, step: &StepReference) -> bool {
        lock(&self.state).ended.contains(step)
    }

    /// Waits for a time. False where the run is over before.
    pub fn sleep(&self, time: Duration) -> bool {
        self.wait(Some(time), |_| false) == Waited::Late
    }

    fn wait(&self, limit: Option<Duration>, ready: impl Fn(&ProgressState) -> bool) -> Waited {
        let end = limit.map(|limit| Instant::now() + limit);
        let mut state = lock(&self.state);
        loop {
            if state.is_over {
                return Waited::Over;
            }
            if ready(&state) {
                return Waited::Ended;
            }
            let left = match end {
                Some(end) => match end.checked_duration_since(Instant::now()) {
                    Some(left) if !left.is_zero() => left,
                    _ => return Waited::Late,
                },
                None => Duration::from_secs(3600),
            };
            state = self
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

/// Locks, whatever happened to who held the lock before.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What all step lists of an actor share.
pub struct Shared {
    name: String,
    host: String,
    /// The addresses of each host.
    addresses: BTreeMap<String, Addresses>,
    /// Hangs up when the run is over.
    lifeline: RawFd,
    /// The steps of other lists that have ended, and those of this actor.
    pub progress: Progress,
    /// The sockets under each name.
    sockets: Mutex<BTreeMap<String, Vec<RawFd>>>,
    /// What was last sent as a file, by the step that sent it.
    files: Mutex<BTreeMap<String, Arc<File>>>,
    /// The epoll instances under each name.
    epolls: Mutex<BTreeMap<String, Arc<OwnedFd>>>,
    /// Where outcomes are written that nobody was told of yet.
    notebook: Option<Notebook>,
    /// The peers that are packets, where a step has started them.
    peers: Mutex<Option<Arc<Peers>>>,
}

impl Shared {
    /// Of an actor on a host; the lifeline hangs up when the run is over.
    pub fn new(
        name: String,
        host: String,
        addresses: BTreeMap<String, Addresses>,
        lifeline: RawFd,
        notebook: Option<Notebook>,
    ) -> Self {
        Self {
            name,
            host,
            addresses,
            lifeline,
            notebook,
            progress: Progress::default(),
            sockets: Mutex::default(),
            epolls: Mutex::default(),
            files: Mutex::default(),
            peers: Mutex::default(),
        }
    }
}

/// What a step of an actor runs with.
pub struct ActorContext<'a> {
    shared: &'a Shared,
    /// The name of the step that runs.
    step: String,
    /// The sockets that a step without `on` acts on.
    current: Vec<RawFd>,
    /// The socket that accept acts on.
    listener: Option<RawFd>,
    /// A socket that is made and not yet used up by listen or connect.
    unused: Option<RawFd>,
    outcomes: BTreeMap<String, Outcome>,
}

impl<'a> ActorContext<'a> {
    /// At the start of a list.
    pub fn new(shared: &'a Shared) -> Self {
        Self {
            shared,
            step: String::new(),
            current: Vec::new(),
            listener: None,
            unused: None,
            outcomes: BTreeMap::new(),
        }
    }

    /// Runs a step and adds what it gave to its outcome.
    pub fn run(&mut self, step: &Step<ActorStep>) {
        // How long `await` waits is what it observes.
        if let (Some(awaited), false) = (step.waits_for(), matches!(step.kind, ActorStep::Await(_)))
        {
            self.wait_for(awaited, None);
        }
        self.step.clone_from(&step.name);
        let start = Instant::now();
        let calls = step.kind.run(self);
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let outcome = self
            .outcomes
            .entry(step.name.clone())
            .or_insert_with(|| Outcome::of(&step.name));
        let took = ms(start.elapsed());
        outcome.ms += took;
        let each = calls.each.into_iter().map(ms).collect::<Vec<_>>();
        let each = if each.is_empty() { vec![took] } else { each };
        let room = MOST_EACH.saturating_sub(outcome.each_ms.len());
        outcome.each_ms.extend(each.into_iter().take(room));
        outcome.ok += calls.ok;
        for error in calls.errors {
            outcome.fail(errno::observed(&error).unwrap_or_else(|| error.to_string()));
        }
        if let Some(bytes) = calls.bytes {
            *outcome.bytes.get_or_insert(0) += bytes;
        }
        outcome.nonzero_bytes += calls.nonzero_bytes;
        if calls.value.is_some() {
            outcome.value = calls.value;
        }
    }

    /// Runs a step inside of another one, and notes what it gave: the outer one may never
    /// end.
    pub fn run_inner(&mut self, step: &Step<ActorStep>) {
        self.run(step);
        if let (Some(notebook), Some(outcome)) =
            (&self.shared.notebook, self.outcomes.get(&step.name))
        {
            notebook.write(outcome);
        }
    }

    /// The outcome of a step that has ended, which is noted for others that wait.
    pub fn take_outcome(&mut self, step: &str) -> Option<Outcome> {
        let outcome = self.outcomes.remove(step)?;
        self.shared.progress.ended(StepReference {
            list: self.shared.name.clone(),
            step: step.to_owned(),
        });
        Some(outcome)
    }

    /// Waits until a step of another list has ended.
    pub fn wait_for(&self, step: &StepReference, limit: Option<Duration>) -> Waited {
        self.shared.progress.wait_for(step, limit)
    }

    /// Hangs up when the run is over.
    pub fn lifeline(&self) -> RawFd {
        self.shared.lifeline
    }

    /// The sockets that a step acts on.
    pub fn sockets(&mut self, on: Option<&SocketName>) -> Vec<RawFd> {
        if let Some(name) = on {
            let sockets = lock(&self.shared.sockets);
            self.current = sockets.get(&**name).cloned().unwrap_or_default();
        }
        self.current.clone()
    }

    /// The one socket that a step acts on: the last of a set.
    pub fn socket(&mut self, on: Option<&SocketName>) -> io::Result<RawFd> {
        let sockets = self.sockets(on);
        sockets.last().copied().ok_or_else(no_descriptor)
    }

    /// The socket that accept acts on.
    pub fn listener(&mut self, on: Option<&SocketName>) -> io::Result<RawFd> {
        match (on, self.listener) {
            (None, Some(listener)) => Ok(listener),
            _ => self.socket(on),
        }
    }

    /// Makes a call on each of the step's sockets.
    pub fn on_each(
        &mut self,
        on: Option<&SocketName>,
        mut call: impl FnMut(RawFd) -> io::Result<()>,
    ) -> Calls {
        let sockets = self.sockets(on);
        if sockets.is_empty() {
            return Err(no_descriptor()).into();
        }
        let mut calls = Calls::default();
        for socket in sockets {
            calls.note(call(socket));
        }
        calls
    }

    /// Makes a call that reads a value on each of the step's sockets.
    pub fn read_each(
        &mut self,
        on: Option<&SocketName>,
        mut call: impl FnMut(RawFd) -> io::Result<String>,
    ) -> Calls {
        let mut value = None;
        let calls = self.on_each(on, |socket| {
            value = Some(call(socket)?);
            Ok(())
        });
        calls.with_value(value)
    }

    /// Makes calls on each of the step's sockets and counts the bytes, those too of calls
    /// that ended in an error.
    pub fn transfer(
        &mut self,
        on: Option<&SocketName>,
        mut call: impl FnMut(RawFd, &mut Transferred) -> io::Result<()>,
    ) -> Calls {
        let mut done = Transferred::default();
        let mut calls = self.on_each(on, |socket| call(socket, &mut done));
        calls.bytes = Some(done.bytes);
        calls.nonzero_bytes = done.nonzero_bytes;
        calls
    }

    /// Sends a file of zeros on each of the step's sockets, and keeps it under the step's
    /// name.
    pub fn send_file(
        &mut self,
        on: Option<&SocketName>,
        bytes: u64,
        mut send: impl FnMut(&File, RawFd, &mut Transferred) -> io::Result<()>,
    ) -> Calls {
        let file = match call::zero_file(bytes) {
            Ok(file) => Arc::new(file),
            Err(error) => return Err(error).into(),
        };
        lock(&self.shared.files).insert(self.step.clone(), Arc::clone(&file));
        self.transfer(on, |socket, done| send(&file, socket, done))
    }

    /// A file that was sent.
    pub fn file(&self, name: &FileName) -> io::Result<Arc<File>> {
        let file = lock(&self.shared.files).get(&**name).cloned();
        file.ok_or_else(no_descriptor)
    }

    /// Keeps a new socket under the step's name; the steps after it act on it.
    pub fn keep(&mut self, socket: RawFd) {
        lock(&self.shared.sockets)
            .entry(self.step.clone())
            .or_default()
            .push(socket);
        self.current = vec![socket];
    }

    /// The actor's name.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Keeps a socket that another process made, which may be a listening one.
    pub fn receive(&mut self, socket: RawFd) {
        self.keep(socket);
        self.listener = Some(socket);
    }

    /// The epoll instance of a name, made where it isn't there.
    pub fn epoll(&self, name: &EpollName) -> io::Result<Arc<OwnedFd>> {
        let mut epolls = lock(&self.shared.epolls);
        if let Some(epoll) = epolls.get(&**name) {
            return Ok(Arc::clone(epoll));
        }
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let epoll: Arc<OwnedFd> = Arc::new(epoll.0);
        epolls.insert(name.to_string(), Arc::clone(&epoll));
        Ok(epoll)
    }

    /// Lets the steps after this one act on several sockets.
    pub fn act_on(&mut self, sockets: Vec<RawFd>) {
        self.current = sockets;
    }

    /// Makes a socket of a family; without one, of the scenario's.
    pub fn make_socket(
        &mut self,
        family: Option<SocketFamily>,
        protocol: Protocol,
    ) -> io::Result<RawFd> {
        let own = self.shared.addresses.get(&self.shared.host);
        let own = own.map(|addresses| SocketFamily::of(addresses.own()));
        let family = family.or(own).unwrap_or(SocketFamily::V4);
        let socket = call::socket(family, protocol)?;
        self.keep(socket);
        self.unused = Some(socket);
        Ok(socket)
    }

    /// The socket for bind, listen or connect: the one named, else one that is made and
    /// not yet used, else a new one, of the family that its address names.
    pub fn unused_socket(
        &mut self,
        on: Option<&SocketName>,
        endpoint: Option<&Endpoint>,
    ) -> io::Result<RawFd> {
        if on.is_some() {
            return self.socket(on);
        }
        if let Some(socket) = self.unused {
            self.keep(socket);
            Ok(socket)
        } else {
            let family = endpoint.and_then(|endpoint| self.named_family(endpoint));
            self.make_socket(family, Protocol::Tcp)
        }
    }

    /// A socket is used: the next bind, listen or connect makes a new one.
    pub fn use_up(&mut self) {
        self.unused = None;
    }

    /// A socket listens: accept acts on it.
    pub fn listens(&mut self, socket: RawFd) {
        self.use_up();
        self.listener = Some(socket);
    }

    /// Forgets a socket, before it is closed: the kernel may hand its number out again.
    pub fn forget(&mut self, socket: RawFd) {
        for sockets in lock(&self.shared.sockets).values_mut() {
            sockets.retain(|known| *known != socket);
        }
        self.current.retain(|known| *known != socket);
        self.unused = self.unused.filter(|known| *known != socket);
        self.listener = self.listener.filter(|known| *known != socket);
    }

    /// The family that an endpoint names.
    fn named_family(&self, endpoint: &Endpoint) -> Option<SocketFamily> {
        let host = endpoint.host.as_ref()?;
        if self.shared.addresses.contains_key(host) {
            return None;
        }
        split_family(host).map(|(_, family)| family)
    }

    /// The address of an endpoint for a socket; without a host, of the actor's own. It is
    /// of the family that the endpoint names, else of the socket's.
    pub fn address(&self, endpoint: &Endpoint, socket: RawFd) -> io::Result<SocketAddr> {
        self.address_in(endpoint, call::family(socket)?)
    }

    /// The same without a socket: in this family, where the endpoint names none.
    pub fn address_in(&self, endpoint: &Endpoint, own: SocketFamily) -> io::Result<SocketAddr> {
        let unknown = || io::Error::from_raw_os_error(libc::EINVAL);
        let host = endpoint.host.as_ref().unwrap_or(&self.shared.host);
        let addresses = self.shared.addresses.get(host);
        let address = match (addresses, split_family(host)) {
            (Some(addresses), _) => addresses.of_socket(own),
            (None, Some((host, family))) => {
                let addresses = self.shared.addresses.get(host).ok_or_else(unknown)?;
                addresses.named(family)
            }
            (None, None) => return Err(unknown()),
        };
        Ok(SocketAddr::new(address, endpoint.port))
    }

    /// The name of the step that runs.
    pub fn step(&self) -> &str {
        &self.step
    }

    /// The peers that are packets, at the actor's host; the first call starts them.
    pub fn peers(&self) -> io::Result<Arc<Peers>> {
        // Held while they start: two would answer against one another.
        let mut peers = lock(&self.shared.peers);
        if let Some(peers) = &*peers {
            return Ok(Arc::clone(peers));
        }
        let own = self.shared.addresses.get(&self.shared.host);
        let Some(IpAddr::V4(address)) = own.map(Addresses::own) else {
            return Err(io::Error::from_raw_os_error(libc::EAFNOSUPPORT));
        };
        let started = Arc::new(Peers::start(address)?);
        *peers = Some(Arc::clone(&started));
        Ok(started)
    }

    /// An address as a suite writes it: `host:port` where it is a host's.
    pub fn endpoint(&self, address: SocketAddr) -> String {
        let ip = address.ip().to_canonical();
        let port = address.port();
        for (host, known) in &self.shared.addresses {
            if known.own().to_canonical() == ip {
                return format!("{host}:{port}");
            }
            for (digit, other) in [(4, IpAddr::from(known.v4)), (6, known.v6.into())] {
                if other == ip {
                    return format!("{host}{digit}:{port}");
                }
            }
        }
        address.to_string()
    }
}

fn no_descriptor() -> io::Error {
    io::Error::from_raw_os_error(libc::EBADF)
}

/// The actors of a run, as steps of the lab see them.
pub trait Actors: Sync {
    /// Sends a signal: to an actor's process, or to one or all of a command's. False
    /// where the actor is gone before it answers.
    fn signal(&self, actor: &str, signal: Signal, to_all: bool) -> io::Result<bool>;
    /// Starts a command again. False where the actor is gone before it answers.
    fn restart(&self, actor: &str, timeout: Option<Duration>) -> io::Result<bool>;
    /// What commands and cgroups use now, as `OWNER.ACTOR.usage.FIELD`.
    fn observe_resources(
        &self,
        owner: Option<&str>,
        observations: &mut Observations,
    ) -> Result<(), LabError>;
}

/// Goes on where a wait has come to its end, and breaks where the run was over before.
pub fn done(is_done: bool) -> ControlFlow<()> {
    if is_done {
        ControlFlow::Continue(())
    } else {
        ControlFlow::Break(())
    }
}

/// What a step of the lab runs with.
pub struct LabContext<'a> {
    /// The lab.
    pub lab: &'a Lab,
    /// The actors.
    pub actors: &'a dyn Actors,
    /// The steps that have ended, and whether the run is over.
    pub progress: &'a Progress,
    /// The name of the step that runs.
    pub step: &'a str,
    /// What the step read, or how many it acted on.
    pub value: Option<String>,
    /// What a sample saw.
    pub sampled: Observations,
}

impl LabContext<'_> {
    /// The namespace of a host.
    pub fn namespace(&self, host: &str) -> Result<&Namespace, LabError> {
        let not_found = || LabError::new(host, "find it", io::ErrorKind::NotFound.into(), "");
        self.lab.namespace(host).ok_or_else(not_found)
    }

    /// The number of a host, from 1.
    pub fn number(&self, host: &str) -> Result<usize, LabError> {
        let mut hosts = self.lab.hosts().iter();
        let index = hosts.position(|known| known.host == host);
        index
            .map(|index| index + 1)
            .ok_or_else(|| LabError::new(host, "find it", io::ErrorKind::NotFound.into(), ""))
    }
}
