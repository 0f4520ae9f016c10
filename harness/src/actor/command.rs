//! A command in the lab: starts it, looks whether it is ready, passes on what it
//! prints, and knows how it ended.
//!
//! This process is the first one of a PID namespace, so it reaps whatever the
//! command leaves behind, and all of that dies with it. It has a mount namespace
//! as well, for two things: the command's private directory is a file system of
//! its own that is gone with the last process in it, and /proc shows the
//! processes of this namespace by the numbers that they have there. All else is
//! the machine's: /sys too, where the network devices are those of the machine.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, BufRead, PipeReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use advisor_facts::sock_diag::{SockDiag, TcpState};
use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use super::protocol::{Answer, Event, Order, Told};
use crate::errno;
use crate::lab::address::Addresses;
use crate::step::call;
use crate::step::context::{Outcome, lock};
use crate::step::name::OWN_ADDRESSES;
use crate::suite::command::{Command, DIRECTORY_MARK, Ready};

/// Directories for mounting something, of which one becomes the private
/// directory: what is below it is out of the command's sight.
const MOUNT_POINTS: [&str; 3] = ["/mnt", "/media", "/srv"];

/// The names of hosts (hosts(5)).
const HOSTS: &str = "/etc/hosts";

/// The most of its output that a run has, in bytes; the rest is let go.
const MOST_OUTPUT_BYTES: usize = 64 << 10;

/// The longest line that is passed on, in bytes; a longer one becomes several.
const MOST_LINE_BYTES: usize = 1000;

/// Time between two looks at whether it is ready.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Starts the command and sees to it until the harness hangs up, which ends this
/// process and so all of the command's.
pub fn run(
    command: Command,
    addresses: &BTreeMap<String, Addresses>,
    control: UnixStream,
    orders: impl BufRead,
) -> io::Result<()> {
    let supervisor = Arc::new(Supervisor {
        control: Mutex::new(control),
        state: Mutex::default(),
        changed: Condvar::new(),
        output: Mutex::default(),
    });
    let program = command.program().to_owned();
    let command = match Prepared::make(command, addresses) {
        Ok(command) => Arc::new(command),
        Err(error) => {
            let why = format!("cannot prepare {program}: {error}");
            supervisor.tell(&Event::Broken(why));
            return Ok(());
        }
    };
    let reaper = Arc::clone(&supervisor);
    std::thread::spawn(move || reaper.reap());
    let (first, what) = (Arc::clone(&supervisor), Arc::clone(&command));
    std::thread::spawn(move || first.start_first(&what));
    for line in orders.lines() {
        let Ok(Ok(order)) = line.map(|line| serde_json::from_str(&line)) else {
            break;
        };
        match order {
            Order::Done(_) => {}
            Order::Signal { number, to_all } => {
                let sent = supervisor.signal(number, to_all);
                let refused = |errno| Answer::Refused(errno as i32);
                supervisor.tell(&Event::Answer(sent.map_or_else(refused, |()| Answer::Done)));
            }
            Order::Restart { timeout } => {
                let (supervisor, command) = (Arc::clone(&supervisor), Arc::clone(&command));
                // Signals are taken meanwhile.
                std::thread::spawn(move || supervisor.restart(&command, timeout));
            }
        }
    }
    call::exit(0)
}

/// A command whose private directory is made, with the files that are written
/// for it.
struct Prepared {
    words: Vec<String>,
    env: Vec<(String, String)>,
    private: PathBuf,
    directory: PathBuf,
    ready: Ready,
}

impl Prepared {
    fn make(command: Command, addresses: &BTreeMap<String, Addresses>) -> io::Result<Self> {
        let private = private_directory(&command)?;
        name_hosts(&private, addresses)?;
        let marks = marks(addresses);
        let filled = |text: &str| {
            let text = text.replace(DIRECTORY_MARK, &private.to_string_lossy());
            marks
                .iter()
                .fold(text, |text, (mark, address)| text.replace(mark, address))
        };
        for (name, content) in &command.files {
            let path = private.join(name);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::write(&path, filled(content))?;
        }
        let pairs = command.env.iter();
        Ok(Self {
            words: command.words.iter().map(|word| filled(word)).collect(),
            env: pairs
                .map(|(name, value)| (name.clone(), filled(value)))
                .collect(),
            directory: match &command.directory {
                Some(directory) => filled(directory).into(),
                None => private.clone(),
            },
            ready: match command.ready {
                Ready::Line(line) => Ready::Line(filled(&line)),
                Ready::File(file) => Ready::File(filled(&file)),
                ready @ (Ready::Started | Ready::Port(_)) => ready,
            },
            private,
        })
    }

    /// Which file it is whose presence says that it is ready.
    fn ready_file(&self) -> Option<(u64, i64, i64)> {
        let Ready::File(name) = &self.ready else {
            return None;
        };
        let file = self.directory.join(name).metadata().ok()?;
        Some((file.ino(), file.ctime(), file.ctime_nsec()))
    }
}

/// What stands for the addresses of hosts, as `{server}` and `{server6}`.
fn marks(addresses: &BTreeMap<String, Addresses>) -> Vec<(String, String)> {
    let hosts = addresses
        .iter()
        .filter(|(name, _)| !OWN_ADDRESSES.contains(&name.as_str()));
    let marks = hosts.flat_map(|(name, address)| {
        [
            (
                format!("{{{name}}}"),
                address.own().to_canonical().to_string(),
            ),
            (format!("{{{name}4}}"), address.v4.to_string()),
            (format!("{{{name}6}}"), address.v6.to_string()),
        ]
    });
    marks.collect()
}

/// Puts the names of the hosts in the command's /etc/hosts: each with its address in the
/// scenario's family, and with a digit in both.
fn name_hosts(private: &Path, addresses: &BTreeMap<String, Addresses>) -> io::Result<()> {
    let mut text = "127.0.0.1 localhost\n::1 localhost\n".to_owned();
    for (name, address) in addresses {
        if !OWN_ADDRESSES.contains(&name.as_str()) {
            let own = address.own().to_canonical();
            let (v4, v6) = (address.v4, address.v6);
            let _ = writeln!(text, "{own} {name}\n{v4} {name}4\n{v6} {name}6");
        }
    }
    let hosts = Path::new(HOSTS);
    if !hosts.exists() {
        // Only a guest has none; it is thrown away.
        return match fs::write(hosts, text) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            written => written,
        };
    }
    let own = private.join(".hosts");
    fs::write(&own, text)?;
    let none = None::<&str>;
    mount(Some(&own), hosts, none, MsFlags::MS_BIND, none)?;
    // The mount keeps it; the private directory is empty at the start.
    fs::remove_file(&own)
}

/// Mounts the private directory, out of the way of what the command names.
fn private_directory(command: &Command) -> io::Result<PathBuf> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    let variables = command.env.iter().map(|(_, value)| value);
    let named: Vec<&String> = command
        .words
        .iter()
        .chain(&command.directory)
        .chain(variables)
        .collect();
    let place = MOUNT_POINTS
        .iter()
        .find(|place| Path::new(place).is_dir() && named.iter().all(|text| !text.contains(*place)))
        .ok_or_else(|| {
            let places = MOUNT_POINTS.join(", ");
            io::Error::new(
                io::ErrorKind::NotFound,
                format!("none of {places} is there and free to mount on"),
            )
        })?;
    // Whoever it becomes may write there, as in /tmp.
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(
        Some("tmpfs"),
        *place,
        Some("tmpfs"),
        flags,
        Some("mode=1777"),
    )?;
    // In a container that hides parts of /proc it is refused; then /proc shows
    // the processes of the machine.
    let _ = mount(
        Some("proc"),
        "/proc",
        Some("proc"),
        flags | MsFlags::MS_NOEXEC,
        none,
    );
    Ok(place.into())
}

struct Supervisor {
    control: Mutex<UnixStream>,
    state: Mutex<State>,
    /// A process was started, or has ended, or a line was printed.
    changed: Condvar,
    output: Mutex<Output>,
}

#[derive(Default)]
struct State {
    /// The process that was started last, until it has ended.
    main: Option<Pid>,
    /// The largest resident set of those that have ended, in bytes.
    max_rss_bytes: u64,
    /// Whether it has printed the line that says so since it was started.
    has_printed_ready: bool,
}

/// What is there before a start, and says nothing about it.
struct Before {
    processes: BTreeSet<i32>,
    file: Option<(u64, i64, i64)>,
}

/// What the command prints.
#[derive(Default)]
struct Output {
    pipe: Option<PipeReader>,
    /// A line of which the end hasn't come.
    begun: Vec<u8>,
    bytes: usize,
    /// What the line that says that it is ready holds.
    awaited: Option<String>,
}

impl Supervisor {
    fn tell(&self, event: &Event) {
        let mut line = serde_json::to_vec(&Told::now(event)).unwrap_or_default();
        line.push(b'\n');
        // A harness that is gone ends this process by the signal asked for at
        // the start.
        let _ = lock(&self.control).write_all(&line);
    }

    /// Starts it for the first time, as if that were a list of one step.
    fn start_first(self: &Arc<Self>, command: &Prepared) {
        self.tell(&Event::Started {
            task: 0,
            step: "ready".to_owned(),
        });
        let start = Instant::now();
        let mut outcome = Outcome::of("ready");
        match self.start(command, None) {
            Ok(Answer::Done) => outcome.ok = 1,
            Ok(Answer::Refused(errno)) => outcome.fail(errno::name(errno)),
            Ok(Answer::Late) => outcome.fail(errno::LATE.to_owned()),
            Err(why) => return self.tell(&Event::Broken(why)),
        }
        outcome.ms = start.elapsed().as_secs_f64() * 1e3;
        self.tell(&Event::Ended(outcome));
        self.tell(&Event::Finished { task: 0 });
    }

    fn restart(self: &Arc<Self>, command: &Prepared, timeout: Option<Duration>) {
        let end = timeout.map(|timeout| Instant::now() + timeout);
        let mut state = lock(&self.state);
        while state.main.is_some() {
            if is_over(end) {
                return self.tell(&Event::Answer(Answer::Late));
            }
            state = self.wait(state);
        }
        drop(state);
        match self.start(command, end) {
            Ok(answer) => self.tell(&Event::Answer(answer)),
            Err(why) => self.tell(&Event::Broken(why)),
        }
    }

    /// Starts it and waits until it is ready: ECHILD where it ends before. An error where
    /// it can't be started at all.
    fn start(self: &Arc<Self>, command: &Prepared, end: Option<Instant>) -> Result<Answer, String> {
        let before = Before {
            processes: processes(),
            file: command.ready_file(),
        };
        let program = &command.words[0];
        self.spawn(command)
            .map_err(|error| format!("cannot start {program}: {error}"))?;
        let mut sockets = SockDiag::open().map_err(|error| format!("sock_diag: {error}"))?;
        loop {
            let is_ready = match &command.ready {
                Ready::Started => true,
                Ready::Line(_) => lock(&self.state).has_printed_ready,
                Ready::File(_) => {
                    let file = command.ready_file();
                    file.is_some() && file != before.file
                }
                Ready::Port(port) => listens(*port, &mut sockets, &before.processes)
                    .map_err(|error| format!("cannot look who listens on {port}: {error}"))?,
            };
            // One that goes on in the background is ready all the same.
            if is_ready {
                return Ok(Answer::Done);
            }
            let state = lock(&self.state);
            if state.main.is_none() && !has_others(&before.processes) {
                return Ok(Answer::Refused(libc::ECHILD));
            }
            if is_over(end) {
                return Ok(Answer::Late);
            }
            drop(self.wait(state));
        }
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed
            .wait_timeout(state, LOOK_EVERY)
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }

    fn spawn(self: &Arc<Self>, command: &Prepared) -> io::Result<()> {
        let (reader, writer) = io::pipe()?;
        call::set_nonblocking(reader.as_raw_fd(), true)?;
        let watched = reader.try_clone()?;
        {
            // What the one before has printed, even where somebody still holds
            // its pipe, is taken.
            let mut output = lock(&self.output);
            self.take_output(&mut output);
            output.pipe = Some(reader);
            output.begun.clear();
            output.awaited = match &command.ready {
                Ready::Line(line) => Some(line.clone()),
                _ => None,
            };
        }
        // Whoever reaps waits for the lock, and so knows which process it is.
        let mut state = lock(&self.state);
        state.has_printed_ready = false;
        let child = std::process::Command::new(&command.words[0])
            .args(&command.words[1..])
            .env("TMPDIR", &command.private)
            .envs(command.env.iter().map(|(name, value)| (name, value)))
            .current_dir(&command.directory)
            .stdin(Stdio::null())
            .stdout(writer.try_clone()?)
            .stderr(writer)
            // What it sends to its own group is not for this process.
            .process_group(0)
            .spawn()?;
        state.main = Some(Pid::from_raw(i32::try_from(child.id()).unwrap_or(0)));
        drop(state);
        let listener = Arc::clone(self);
        std::thread::spawn(move || listener.listen(&watched));
        self.changed.notify_all();
        Ok(())
    }

    /// Takes what is printed, until nobody is left who could print.
    fn listen(&self, pipe: &PipeReader) {
        loop {
            let mut watched = [PollFd::new(
                std::os::fd::AsFd::as_fd(pipe),
                PollFlags::POLLIN,
            )];
            if poll(&mut watched, PollTimeout::NONE).is_err() {
                continue;
            }
            let events = watched[0].revents().unwrap_or(PollFlags::empty());
            let mut output = lock(&self.output);
            let is_current = output
                .pipe
                .as_ref()
                .is_some_and(|current| same_pipe(current, pipe));
            if is_current {
                self.take_output(&mut output);
            } else {
                // One that was started before goes on printing.
                let _ = io::copy(&mut &*pipe, &mut io::sink());
            }
            if events.contains(PollFlags::POLLHUP) && !events.contains(PollFlags::POLLIN) {
                return;
            }
        }
    }

    /// Passes on what there is to read.
    fn take_output(&self, output: &mut Output) {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = output.pipe.as_ref() {
            // It ends with EAGAIN, or at the end.
            let _ = pipe.read_to_end(&mut bytes);
        }
        let mut printed_ready = false;
        for byte in bytes {
            if byte != b'\n' {
                output.begun.push(byte);
                if output.begun.len() < MOST_LINE_BYTES {
                    continue;
                }
            }
            let line = printable(&std::mem::take(&mut output.begun));
            printed_ready |= output
                .awaited
                .as_ref()
                .is_some_and(|text| line.contains(text));
            output.bytes += line.len() + 1;
            if output.bytes <= MOST_OUTPUT_BYTES {
                self.tell(&Event::Printed(line));
            }
        }
        if printed_ready {
            lock(&self.state).has_printed_ready = true;
            self.changed.notify_all();
        }
    }

    /// Passes on what there is to read of a process that has ended, with a line that it
    /// did not end.
    fn take_last_output(&self, output: &mut Output) {
        self.take_output(output);
        if !output.begun.is_empty() {
            let line = printable(&std::mem::take(&mut output.begun));
            output.bytes += line.len() + 1;
            if output.bytes <= MOST_OUTPUT_BYTES {
                self.tell(&Event::Printed(line));
            }
        }
    }

    /// Reaps what ends, for ever; whatever a process leaves behind becomes this
    /// one's child.
    fn reap(&self) {
        loop {
            // Without taking it: who it is has to be known first.
            if waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT).is_err() {
                std::thread::sleep(LOOK_EVERY);
                continue;
            }
            let mut state = lock(&self.state);
            let Some((pid, status, max_rss_bytes)) = wait4() else {
                continue;
            };
            state.max_rss_bytes = state.max_rss_bytes.max(max_rss_bytes);
            if state.main != Some(pid) {
                continue;
            }
            let max_rss_bytes = state.max_rss_bytes;
            drop(state);
            // What it said last comes before that it is gone.
            self.take_last_output(&mut lock(&self.output));
            self.tell(&Event::Exited {
                status,
                max_rss_bytes,
            });
            self.tell(&Event::Ended(Outcome {
                ok: 1,
                ..Outcome::of("exit")
            }));
            lock(&self.state).main = None;
            self.changed.notify_all();
        }
    }

    fn signal(&self, number: i32, to_all: bool) -> nix::Result<()> {
        let signal = Signal::try_from(number)?;
        // Nobody is reaped meanwhile: the number is still its own.
        let state = lock(&self.state);
        match state.main {
            // All that this process may signal: those of the namespace.
            _ if to_all => kill(Pid::from_raw(-1), signal),
            Some(main) => kill(main, signal),
            None => Err(nix::errno::Errno::ESRCH),
        }
    }
}

fn is_over(end: Option<Instant>) -> bool {
    end.is_some_and(|end| Instant::now() >= end)
}

/// Whether two descriptors are of one pipe.
fn same_pipe(one: &PipeReader, other: &PipeReader) -> bool {
    let inode = |pipe: &PipeReader| {
        let copy = pipe
            .try_clone()
            .map(|pipe| File::from(std::os::fd::OwnedFd::from(pipe)));
        copy.and_then(|file| file.metadata())
            .map(|file| file.ino())
            .ok()
    };
    inode(one) == inode(other)
}

/// A line as it can be shown anywhere.
fn printable(line: &[u8]) -> String {
    String::from_utf8_lossy(line)
        .chars()
        .filter(|letter| !letter.is_control())
        .collect()
}

/// Takes one that has ended: who it is, how it ended, and the largest resident
/// set that it or its own children had, in bytes. At the least that is what the
/// harness itself has: a new process starts as a copy of it.
fn wait4() -> Option<(Pid, String, u64)> {
    let mut status = 0;
    // SAFETY: rusage is plain numbers, of which zero is a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes an int and a whole rusage.
    let pid = unsafe { libc::wait4(-1, &raw mut status, libc::WNOHANG, &raw mut usage) };
    if pid <= 0 {
        return None;
    }
    let how = if libc::WIFSIGNALED(status) {
        let number = libc::WTERMSIG(status);
        Signal::try_from(number)
            .map_or_else(|_| format!("signal {number}"), |signal| signal.to_string())
    } else {
        libc::WEXITSTATUS(status).to_string()
    };
    let bytes = u64::try_from(usage.ru_maxrss).unwrap_or(0) * 1024;
    Some((Pid::from_raw(pid), how, bytes))
}

/// The processes that /proc shows.
fn processes() -> BTreeSet<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// Whether there is a process that wasn't there before; where /proc shows the
/// machine's that can't be told.
fn has_others(before: &BTreeSet<i32>) -> bool {
    let own = std::process::id().to_string();
    let shows_these = fs::read_link("/proc/self").is_ok_and(|link| link == Path::new(&own));
    shows_these && processes().iter().any(|pid| !before.contains(pid))
}

/// Whether a process that was not there before listens on a TCP port. Asking the
/// port itself would be a connection that the command sees.
fn listens(port: u16, sockets: &mut SockDiag, before: &BTreeSet<i32>) -> io::Result<bool> {
    let seen = sockets.tcp_sockets().map_err(io::Error::other)?;
    let names: Vec<PathBuf> = seen
        .iter()
        .filter(|socket| socket.state == TcpState::Listen && socket.local.port() == port)
        .map(|socket| format!("socket:[{}]", socket.inode).into())
        .collect();
    if names.is_empty() {
        return Ok(false);
    }
    let holds = |pid: &i32| {
        // One that is gone meanwhile holds nothing.
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd"));
        let mut descriptors = descriptors.into_iter().flatten().flatten();
        descriptors.any(|entry| fs::read_link(entry.path()).is_ok_and(|link| names.contains(&link)))
    };
    Ok(processes().difference(before).any(holds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_command_prints_can_be_shown() {
        assert_eq!(
            printable(b"ok \x1b[31mred\x07\r \xff"),
            "ok [31mred \u{fffd}"
        );
    }

    #[test]
    fn who_listens_is_told_from_who_did_before() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut sockets = SockDiag::open().unwrap();
        assert!(listens(port, &mut sockets, &BTreeSet::new()).unwrap());
        // A child of another test holds every descriptor too, until its exec.
        let mut nobody_listens = |before: &dyn Fn() -> BTreeSet<i32>| {
            (0..1000).any(|_| {
                std::thread::sleep(LOOK_EVERY);
                !listens(port, &mut sockets, &before()).unwrap()
            })
        };
        assert!(nobody_listens(&processes));
        drop(listener);
        assert!(nobody_listens(&BTreeSet::new));
    }
}
