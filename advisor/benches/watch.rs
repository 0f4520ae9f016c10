//! Measures what `advisor watch` costs: processor time and memory with many sockets and
//! events, how many events a second it takes until it takes only some, the time from an
//! event to its line, and what requests over loopback lose by it.
//!
//! With `scale`: what a watch costs and says of itself beside 10,000 network namespaces, and
//! under as many resets a second as this machine can make.
//!
//! Needs root; `ci/bench watch` and `ci/bench scale` run it. Everything happens in a network
//! namespace of its own. The figures of a run are in `docs/benchmarks.md`.
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the benchmark makes the load that the advisor watches"
)]

use std::error::Error;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use advisor_facts::counters::Counters;
use advisor_facts::happened::{At, Kind};
use advisor_report::record::Line;
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

const ADVISOR: &str = env!("CARGO_BIN_EXE_advisor");
/// Connections of each holder: two sockets each.
const CONNECTIONS: usize = 5_000;
const HOLDERS: usize = 5;
/// How long each rate lasts, in seconds.
const SECONDS: u64 = 20;
const RATES: [u64; 4] = [100, 1_000, 5_000, 20_000];
/// Pairs of requests without and with a watch.
const PAIRS: usize = 15;
const REQUESTS: usize = 2_000;
/// Of the scale.
const NAMESPACES: usize = 10_000;
const RESETS_A_SECOND: u64 = 100_000;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let outcome = match args.next().as_deref() {
        Some("hold") => hold(),
        Some("hold-namespaces") => hold_namespaces(
            args.next()
                .and_then(|count| count.parse().ok())
                .unwrap_or(NAMESPACES),
        ),
        Some("scale") => scale(),
        Some("reset") => reset(
            args.next()
                .and_then(|rate| rate.parse().ok())
                .unwrap_or(100),
        ),
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

/// A network namespace of its own, with loopback.
fn enter() -> Outcome {
    unshare(CloneFlags::CLONE_NEWNET)?;
    let up = Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status()?;
    if !up.success() {
        return Err("ip cannot set lo up".into());
    }
    Ok(())
}

/// Waits until a process of another role says that it is ready.
fn until_ready(child: &mut Child) -> Outcome {
    let mut ready = [0; 1];
    let output = child.stdout.as_mut().ok_or("no output")?;
    Ok(output.read_exact(&mut ready)?)
}

fn scale() -> Outcome {
    enter()?;
    println!("{SECONDS} s each                     CPU      memory    told of itself");
    let begun = Instant::now();
    let mut holder = start(&["hold-namespaces", &NAMESPACES.to_string()])?;
    until_ready(&mut holder)?;
    let made = begun.elapsed().as_secs();
    let begun = Instant::now();
    let mut watch = Watch::start(SECONDS + 60)?;
    watch.until_begun()?;
    let first = begun.elapsed().as_secs_f64();
    row(&format!("{NAMESPACES} namespaces"), &mut watch)?;
    println!("  its first look took {first:.1} s; they were made in {made} s");
    holder.kill()?;
    holder.wait()?;
    let mut closers: Vec<_> = (0..thread::available_parallelism()?.get())
        .map(|_| start(&["reset", &RESETS_A_SECOND.to_string()]))
        .collect::<Outcome<_>>()?;
    let before = aborts()?;
    let mut watch = Watch::start(SECONDS + 60)?;
    watch.until_begun()?;
    let at = aborts()?;
    let begun = Instant::now();
    row("as many resets as can be made", &mut watch)?;
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    let rate = (aborts()? - at) as f64 / begun.elapsed().as_secs_f64();
    println!("  {rate:.0} resets a second, {} in all", aborts()? - before);
    for closer in &mut closers {
        closer.kill()?;
        closer.wait()?;
    }
    Ok(())
}

/// A row of the scale: what a watch costs from now on, and what it says at its end.
fn row(what: &str, watch: &mut Watch) -> Outcome {
    let before = watch.cpu_time()?;
    thread::sleep(Duration::from_secs(SECONDS));
    let cpu = watch.cpu_time()?.saturating_sub(before).as_secs_f64() / SECONDS_F64 * 100.0;
    let memory = f64::from(watch.memory_kib()?) / 1024.0;
    let seen = watch.end()?;
    println!(
        "  {what:<30} {cpu:>5.2}%  {memory:>5.1} MiB  {}",
        seen.notes
    );
    for note in seen.texts {
        println!("    {note}");
    }
    Ok(())
}

/// Holds so many network namespaces by their descriptors until it is killed.
fn hold_namespaces(count: usize) -> Outcome {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    let mut held = Vec::new();
    for _ in 0..count {
        unshare(CloneFlags::CLONE_NEWNET)?;
        held.push(fs::File::open("/proc/thread-self/ns/net")?);
    }
    std::io::stdout().write_all(b"!")?;
    std::io::stdout().flush()?;
    loop {
        thread::sleep(Duration::from_secs(600));
    }
}

fn measure() -> Outcome {
    enter()?;
    println!("requests over loopback, each a connection: {PAIRS} pairs of {REQUESTS}");
    let with = || -> Outcome<f64> {
        let mut watch = Watch::start(600)?;
        watch.until_begun()?;
        let used = requests()?;
        watch.end()?;
        Ok(used)
    };
    requests()?;
    let mut costs = Vec::new();
    let mut losses = Vec::new();
    for pair in 0..PAIRS {
        // Which comes first changes: a machine that gets slower is nobody's fault.
        let (without, with) = if pair % 2 == 0 {
            let without = requests()?;
            (without, with()?)
        } else {
            let with = with()?;
            (requests()?, with)
        };
        costs.push(without);
        losses.push((with / without - 1.0) * 100.0);
    }
    println!(
        "  {:.1} us of a CPU each without; {:+.2}% with a watch (median; quartiles {:+.2}% and {:+.2}%)",
        median(&mut costs),
        median(&mut losses),
        losses[losses.len() / 4],
        losses[losses.len() * 3 / 4],
    );
    let mut holders: Vec<_> = (0..HOLDERS)
        .map(|_| start(&["hold"]))
        .collect::<Outcome<_>>()?;
    holders.iter_mut().try_for_each(until_ready)?;
    println!(
        "{} TCP sockets, {SECONDS} s each:",
        2 * CONNECTIONS * HOLDERS
    );
    println!("  resets/s  CPU      memory    seen      of        latency    told of itself");
    for rate in RATES {
        let before = aborts()?;
        let mut watch = Watch::start(SECONDS + 15)?;
        // Its first look is over when it says that it watches.
        watch.until_begun()?;
        let used_before = watch.cpu_time()?;
        let mut closer = start(&["reset", &rate.to_string()])?;
        thread::sleep(Duration::from_secs(SECONDS));
        let cpu = watch.cpu_time()?.saturating_sub(used_before);
        closer.kill()?;
        closer.wait()?;
        let memory_kib = watch.memory_kib()?;
        let seen = watch.end()?;
        let happened = aborts()? - before;
        println!(
            "  {:>8}  {:>5.2}%  {:>5.1} MiB  {:>8}  {:>8}  {:>6.0} ms  {}",
            happened / i64::try_from(SECONDS)?,
            cpu.as_secs_f64() / SECONDS_F64 * 100.0,
            f64::from(memory_kib) / 1024.0,
            seen.resets,
            happened,
            seen.latency_ms,
            seen.notes,
        );
    }
    for mut holder in holders {
        holder.kill()?;
        holder.wait()?;
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "a few seconds")]
const SECONDS_F64: f64 = SECONDS as f64;

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// This program in another role.
fn start(role: &[&str]) -> Outcome<Child> {
    Ok(Command::new("/proc/self/exe")
        .args(role)
        .stdout(Stdio::piped())
        .spawn()?)
}

/// A watch that runs.
struct Watch {
    child: Child,
    reader: Option<thread::JoinHandle<Seen>>,
    begun: std::sync::mpsc::Receiver<()>,
}

/// What the lines of a watch said.
#[derive(Default)]
struct Seen {
    resets: u64,
    latency_ms: f64,
    notes: String,
    /// What it said of itself.
    texts: Vec<String>,
}

impl Watch {
    fn start(seconds: u64) -> Outcome<Self> {
        let mut child = Command::new(ADVISOR)
            .args(["watch", "--format", "json", "--for", &format!("{seconds}s")])
            .stdout(Stdio::piped())
            .spawn()?;
        let lines = BufReader::new(child.stdout.take().ok_or("no output")?);
        let (tell, begun) = std::sync::mpsc::channel();
        let reader = thread::spawn(move || {
            let mut seen = Seen::default();
            let mut latencies = Vec::new();
            let mut notes = 0;
            for line in lines.lines().map_while(Result::ok) {
                match serde_json::from_str::<Line>(&line) {
                    Ok(Line::Start { .. }) => {
                        let _ = tell.send(());
                    }
                    Ok(Line::Event(one)) if one.kind == Kind::ResetSent => {
                        seen.resets += one.count;
                        if one.count == 1 {
                            latencies.push(At::now().since(one.at).as_secs_f64() * 1e3);
                        }
                    }
                    Ok(Line::Lost { events, .. }) => seen.notes = format!("lost {events}"),
                    Ok(Line::Note { text, .. }) => {
                        notes += usize::from(text.contains("stands for all"));
                        seen.texts.push(text);
                    }
                    _ => {}
                }
            }
            if notes > 0 {
                let lost = std::mem::take(&mut seen.notes);
                seen.notes = format!("{lost} takes one of several, {notes} times changed");
            }
            if !latencies.is_empty() {
                seen.latency_ms = median(&mut latencies);
            }
            seen
        });
        Ok(Self {
            child,
            reader: Some(reader),
            begun,
        })
    }

    fn until_begun(&self) -> Outcome {
        Ok(self.begun.recv_timeout(Duration::from_secs(120))?)
    }

    fn cpu_time(&self) -> Outcome<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let words: Vec<&str> = stat
            .rsplit(')')
            .next()
            .unwrap_or("")
            .split_whitespace()
            .collect();
        let ticks: u64 = words.get(11).ok_or("stat")?.parse::<u64>()?
            + words.get(12).ok_or("stat")?.parse::<u64>()?;
        Ok(Duration::from_millis(ticks * 10))
    }

    fn memory_kib(&self) -> Outcome<u32> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        Ok(line
            .and_then(|line| line.split_whitespace().next())
            .ok_or("VmHWM")?
            .parse()?)
    }

    fn end(&mut self) -> Outcome<Seen> {
        // A second, in which what was gathered is told.
        thread::sleep(Duration::from_millis(1200));
        let pid = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT)?;
        self.child.wait()?;
        let reader = self.reader.take().ok_or("ended")?;
        reader.join().map_err(|_| "the reader panicked".into())
    }
}

fn aborts() -> Outcome<i64> {
    let path = Path::new("/proc/thread-self/net/netstat");
    let counters = Counters::parse(&fs::read_to_string(path)?, path)?;
    Ok(counters.get("TcpExt.TCPAbortOnClose").unwrap_or(0))
}

/// What a request takes of a CPU, on both sides, in microseconds: connect, a byte there
/// and back, close.
fn requests() -> Outcome<f64> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let server = thread::spawn(move || {
        for _ in 0..REQUESTS {
            let Ok((mut stream, _)) = listener.accept() else {
                return;
            };
            let mut byte = [0];
            let _ = stream.read_exact(&mut byte);
            let _ = stream.write_all(&byte);
            // The client closes first.
            let _ = stream.read(&mut byte);
        }
    });
    let begun = cpu_us()?;
    for _ in 0..REQUESTS {
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(b"?")?;
        stream.read_exact(&mut [0])?;
    }
    server.join().map_err(|_| "the server panicked")?;
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    let requests = REQUESTS as f64;
    Ok((cpu_us()? - begun) / requests)
}

/// What this process has had of the CPUs.
fn cpu_us() -> Outcome<f64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let us = |time: nix::sys::time::TimeVal| {
        Duration::new(time.tv_sec().cast_unsigned(), 0).as_secs_f64() * 1e6
            + f64::from(i32::try_from(time.tv_usec()).unwrap_or(0))
    };
    Ok(us(usage.user_time()) + us(usage.system_time()))
}

/// Closes so many connections a second with unread data, until it is killed.
fn reset(rate: u64) -> Outcome {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let begun = Instant::now();
    for number in 0_u64.. {
        let due = Duration::from_nanos(number * 1_000_000_000 / rate.max(1));
        if let Some(early) = due.checked_sub(begun.elapsed())
            && early > Duration::from_millis(1)
        {
            thread::sleep(early);
        }
        let mut client = TcpStream::connect(address)?;
        let (server, _) = listener.accept()?;
        client.write_all(b"!")?;
        drop(server);
    }
    Ok(())
}

/// Holds connections until it is killed.
fn hold() -> Outcome {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS {
        held.push(TcpStream::connect(address)?);
        held.push(listener.accept()?.0);
    }
    std::io::stdout().write_all(b"!")?;
    std::io::stdout().flush()?;
    loop {
        thread::sleep(Duration::from_secs(600));
    }
}
