//! Measures how the advisor looks at sockets: against `ss`, against only
//! receiving the same bytes and only reading the same links, and its memory.
//!
//! Needs root, `ip`, `ss` and `script`; `ci/bench` runs it. The figures of a run are in
//! `docs/benchmarks.md`.
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the benchmark makes the sockets that the advisor looks at"
)]

#[path = "../tests/dump/mod.rs"]
mod dump;

use std::error::Error;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use advisor::sockets::{By, Question};
use advisor_facts::{Looking, Root};
use nix::dir::Dir;
use nix::fcntl::{OFlag, readlinkat};
use nix::libc;
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};
use nix::sys::stat::Mode;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Connections of each holder: two sockets each, and a process may not have
/// more than 20,000 files open.
const CONNECTIONS: usize = 5_000;
const HOLDERS: usize = 5;
/// How often each thing is measured.
const TIMES: usize = 9;
/// Before anything is there to be seen, one look is short.
const TIMES_IDLE: usize = 50;

const ADVISOR: &str = env!("CARGO_BIN_EXE_advisor");

fn main() -> ExitCode {
    let outcome = match std::env::args().nth(1).as_deref() {
        Some("hold") => hold(),
        _ => measure(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Holds connections to itself until its standard input ends.
fn hold() -> Outcome {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        let client = TcpStream::connect(address)?;
        connections.push((client, listener.accept()?.0));
    }
    println!("ready");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// A process that holds connections; it ends with this value.
struct Holder(Child);

impl Holder {
    fn start() -> Outcome<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("hold")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut ready = [0; 6];
        let stdout = child.stdout.as_mut().ok_or("no output")?;
        stdout.read_exact(&mut ready)?;
        Ok(Self(child))
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

fn measure() -> Outcome {
    if !nix::unistd::geteuid().is_root() {
        return Err("making a network namespace needs root: ci/bench calls sudo".into());
    }
    unshare(CloneFlags::CLONE_NEWNET)?;
    run("ip", &["link", "set", "lo", "up"])?;
    fs::write("/proc/sys/net/ipv4/ip_local_port_range", "1024 65535")?;
    let load = fs::read_to_string("/proc/loadavg")?;
    println!(
        "kernel {}, load before {}",
        fs::read_to_string("/proc/sys/kernel/osrelease")?.trim(),
        load.split(' ').take(3).collect::<Vec<_>>().join(" ")
    );

    let mut idle = Figures::default();
    for _ in 0..TIMES_IDLE {
        idle.time(|| run(ADVISOR, &["recommend"]))?;
    }
    heading("an idle host, ms");
    idle.row(
        "advisor recommend",
        Some(("at most 20 ms", idle.median() <= 20.0)),
    );

    let holders: Vec<Holder> = (0..HOLDERS)
        .map(|_| Holder::start())
        .collect::<Outcome<_>>()?;
    let pids: Vec<u32> = holders.iter().map(|holder| holder.0.id()).collect();
    looks(&pids)?;
    println!("\nmost memory, MiB");
    memory("advisor sockets, 50,000", &["sockets"], None)?;
    memory(
        "advisor sockets --by process",
        &["sockets", "--by", "process"],
        None,
    )?;
    memory("advisor recommend, 50,000", &["recommend"], None)?;
    memory(
        "advisor recommend --over 1s",
        &["recommend", "--over", "1s"],
        None,
    )?;
    drop(holders);
    for by in ["memory", "peer"] {
        for sockets in [50_000, 1_000_000] {
            let name = format!("replay of {sockets}, --by {by}");
            memory(&name, &["sockets", "--by", by], Some(sockets))?;
        }
    }
    Ok(())
}

/// The times of looking at the sockets of the holders.
fn looks(pids: &[u32]) -> Outcome {
    let (mut ss, mut ss_processes) = (Figures::default(), Figures::default());
    let (mut by_state, mut by_process) = (Figures::default(), Figures::default());
    let (mut receive, mut links) = (Figures::default(), Figures::default());
    let (mut state_inside, mut process_inside) = (Figures::default(), Figures::default());
    // In turns, so that what else the machine does meets all alike.
    for _ in 0..TIMES {
        receive.time(|| {
            let received = receive_only()?;
            if received < 10 << 20 {
                return Err(format!("only {received} bytes received").into());
            }
            Ok(())
        })?;
        state_inside.time(|| ask(By::State))?;
        by_state.time(|| run(ADVISOR, &["sockets", "--by", "state"]))?;
        ss.time(|| run("ss", &["-tanmi"]))?;
        links.time(|| {
            let read = pids
                .iter()
                .map(|pid| read_links(*pid))
                .sum::<Outcome<usize>>()?;
            if read < 2 * CONNECTIONS * HOLDERS {
                return Err(format!("only {read} links read").into());
            }
            Ok(())
        })?;
        process_inside.time(|| ask(By::Process))?;
        by_process.time(|| run(ADVISOR, &["sockets", "--by", "process"]))?;
    }
    // It takes long, and is what little rests on.
    for _ in 0..3 {
        ss_processes.time(|| run("ss", &["-tanmip"]))?;
    }
    heading("50,000 sockets, ms");
    let goal = |one: &Figures, other: &Figures, least: f64| {
        let ratio = other.median() / one.median();
        (format!("{ratio:.1}x, goal {least:.0}x"), ratio >= least)
    };
    let bound = |one: &Figures, other: &Figures, most: f64| {
        let ratio = one.median() / other.median();
        (format!("{ratio:.2} of it, goal {most:.1}"), ratio <= most)
    };
    ss.row("ss -tanmi", None);
    let (text, met) = goal(&by_state, &ss, 15.0);
    by_state.row("advisor sockets --by state", Some((&text, met)));
    receive.row("only receiving the same bytes", None);
    let (text, met) = bound(&state_inside, &receive, 1.5);
    state_inside.row("decoded and put together", Some((&text, met)));
    ss_processes.row("ss -tanmip", None);
    let (text, met) = goal(&by_process, &ss_processes, 8.0);
    by_process.row("advisor sockets --by process", Some((&text, met)));
    links.row("only reading the links", None);
    let (text, met) = bound(&process_inside, &links, 1.3);
    process_inside.row("put together by process", Some((&text, met)));
    on_a_terminal()
}

/// The same by hand, where `ss` sets its columns.
fn on_a_terminal() -> Outcome {
    let on_terminal = |command: &str| run("script", &["-qec", command, "/dev/null"]);
    heading("on a terminal, ms");
    for (ss_options, by, least) in [("-tanmi", "state", 15.0), ("-tanmip", "process", 8.0)] {
        let (mut ss, mut advisor) = (Figures::default(), Figures::default());
        for _ in 0..3 {
            ss.time(|| on_terminal(&format!("ss {ss_options}")))?;
            advisor.time(|| on_terminal(&format!("{ADVISOR} sockets --by {by}")))?;
        }
        ss.row(&format!("ss {ss_options}"), None);
        let ratio = ss.median() / advisor.median();
        let goal = format!("{ratio:.1}x, goal {least:.0}x");
        advisor.row(
            &format!("advisor sockets --by {by}"),
            Some((&goal, ratio >= least)),
        );
    }
    Ok(())
}

/// The whole of `advisor sockets` but for the start of the program and its
/// answer.
fn ask(by: By) -> Outcome {
    let survey = Question { by, top: 10 }.ask(&Root::Live, Looking::default())?;
    let seen = survey.total.total().sockets;
    if seen < 2 * (CONNECTIONS * HOLDERS) as u64 {
        return Err(format!("only {seen} sockets seen").into());
    }
    Ok(())
}

/// Asks for the same dump and throws it away; gives its length.
fn receive_only() -> Outcome<usize> {
    let fd = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkSockDiag,
    )?;
    let mut buffer = vec![0; 64 << 10];
    let mut received = 0;
    // For a dump of both families, of IPPROTO_TCP: INFO and SKMEMINFO, any
    // socket, all states.
    let mut request = vec![76, 0, 0, 0, 18, 0, 1, 3];
    request.extend([0; 8]);
    request.extend([0, 0, 0, 1 << 1 | 1 << 6]);
    request.extend([0; 48]);
    request.extend([0xff, 0x1f, 0, 0]);
    request.resize(76, 0);
    send(fd.as_raw_fd(), &request, MsgFlags::empty())?;
    loop {
        let length = recv(fd.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        received += length;
        // NLMSG_DONE comes in a datagram of its own, or as the last message.
        let mut at = 0;
        let mut done = false;
        while let Some(header) = buffer[..length].get(at..at + 6) {
            done |= header[4] == 3;
            let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]);
            at += (length as usize).next_multiple_of(4).max(16);
        }
        if done {
            break;
        }
    }
    Ok(received)
}

/// Reads the links of a process's descriptors and throws them away.
fn read_links(pid: u32) -> Outcome<usize> {
    let path = format!("/proc/{pid}/fd");
    let mut directory = Dir::open(Path::new(&path), OFlag::O_DIRECTORY, Mode::empty())?;
    let fd = fs::File::open(&path)?;
    let mut read = 0;
    for entry in directory.iter() {
        let entry = entry?;
        read += usize::from(readlinkat(&fd, entry.file_name()).is_ok());
    }
    Ok(read)
}

/// Runs a program to its end; its answer is thrown away.
fn run(program: &str, args: &[&str]) -> Outcome {
    let status = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .map_err(|error| format!("{program}: {error}"))?;
    // The advisor says by 1 that it found something.
    match status.code() {
        Some(0 | 1) => Ok(()),
        _ => Err(format!("{program} {args:?}: {status}").into()),
    }
}

/// Shows the most memory that the advisor took, of a dump of so many sockets
/// where that is given.
fn memory(name: &str, args: &[&str], replayed: Option<u32>) -> Outcome {
    let host = dump::Host::make();
    let mut command = Command::new(ADVISOR);
    command.args(args).stdout(Stdio::null());
    if replayed.is_some() {
        command.arg("--root").arg(host.path());
    }
    let start = Instant::now();
    let child = command.spawn()?;
    if let Some(sockets) = replayed {
        host.send(sockets);
    }
    let mut status = 0;
    // SAFETY: rusage is a struct of numbers, for which all bits 0 are valid.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to values that live longer than the call.
    let waited =
        unsafe { libc::wait4(child.id().cast_signed(), &raw mut status, 0, &raw mut usage) };
    nix::errno::Errno::result(waited)?;
    if !matches!(libc::WEXITSTATUS(status), 0 | 1) || !libc::WIFEXITED(status) {
        return Err(format!("advisor {args:?} ended with {status:#x}").into());
    }
    let mib = f64::from(u32::try_from(usage.ru_maxrss)?) / 1024.0;
    let met = if mib <= 32.0 { "met" } else { "missed" };
    println!(
        "{name:<32} {mib:>10.1}  goal 32: {met:<8} ({:.1} s)",
        start.elapsed().as_secs_f64()
    );
    std::io::stdout().flush()?;
    Ok(())
}

/// The times of one thing, in milliseconds.
#[derive(Default)]
struct Figures(Vec<f64>);

impl Figures {
    fn time(&mut self, work: impl FnOnce() -> Outcome) -> Outcome {
        std::thread::sleep(Duration::from_millis(20));
        let start = Instant::now();
        work()?;
        self.0.push(start.elapsed().as_secs_f64() * 1e3);
        self.0.sort_by(f64::total_cmp);
        Ok(())
    }

    fn median(&self) -> f64 {
        self.0[self.0.len() / 2]
    }

    /// A line: how often, median, min..max, and what there is to say of a goal.
    fn row(&self, name: &str, goal: Option<(&str, bool)>) {
        let range = format!("({:.1}..{:.1})", self.0[0], self.0[self.0.len() - 1]);
        let goal = goal.map_or_else(String::new, |(goal, met)| {
            format!("{goal}: {}", if met { "met" } else { "missed" })
        });
        let line = format!(
            "{name:<32} {:>5} {:>10.1}  {range:<20} {goal}",
            self.0.len(),
            self.median(),
        );
        println!("{}", line.trim_end());
    }
}

fn heading(name: &str) {
    println!(
        "\n{name:<32} {:>5} {:>10}  {:<20} goal",
        "times", "median", "(min..max)"
    );
}
