//! Measures the lab: how long a topology takes, by the harness and by `ip`
//! commands, and how fast and how exact the relay is.
//!
//! Needs root and `ip`; `ci/bench` runs it. The figures of a run are in
//! `docs/benchmarks.md`.

#[path = "../tests/live/patience.rs"]
#[expect(dead_code, reason = "the tests wait for more than datagrams")]
mod patience;
#[path = "../tests/live/prediction.rs"]
mod prediction;
#[path = "../tests/live/traffic.rs"]
mod traffic;

use std::error::Error;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use advisor_report::Link;
use harness::lab::Lab;
use harness::lab::namespace::kernel_release;
use harness::lab::sysctl::{PINNED, WIRING, WIRING_V6};
use harness::suite::scenario::Scenario;

use prediction::Prediction;
use traffic::{Traffic, numbers};

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// How many topologies are made in a row, or side by side.
const MANY: usize = 50;

/// What the kernel takes to clear a topology away after it is gone, in the
/// background: no measurement is to find it at work on the one before.
const SETTLE: Duration = Duration::from_millis(200);
/// The same for many.
const SETTLE_MANY: Duration = Duration::from_secs(3);

/// How long each transfer takes.
const TRANSFER: Duration = Duration::from_secs(4);

fn main() -> ExitCode {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("error: making network namespaces needs root\nhint: ci/bench calls sudo");
        return ExitCode::from(3);
    }
    if Command::new("ip")
        .arg("-V")
        .stdout(Stdio::null())
        .status()
        .is_err()
    {
        eprintln!("error: there is no `ip` to compare with\nhint: apt-get install iproute2");
        return ExitCode::from(3);
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
    let load = std::fs::read_to_string("/proc/loadavg")?;
    let load: Vec<&str> = load.split(' ').take(3).collect();
    println!(
        "{} cores, kernel {}, load before {}",
        cores(),
        kernel_release(),
        load.join(" ")
    );
    topologies()?;
    throughput()?;
    losses()?;
    delays()
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// A scenario for its topology only.
fn scenario(link: &str) -> Outcome<Scenario> {
    let text = format!(
        "
scenarios:
  - name: measured
    explains: nothing
    source: none
    {link}
    actors: {{ a: {{ on: client, steps: [socket] }} }}
    expect: {{ a.socket.error: {{ always: none }} }}
"
    );
    Ok(harness::suite::parse(&text, "bench/lab")?.remove(0))
}

/// What a measurement gave, each time that it was made.
struct Figures(Vec<f64>);

impl Figures {
    /// Milliseconds of so many repetitions, with a pause before each.
    fn time(
        repetitions: usize,
        settle: Duration,
        mut work: impl FnMut() -> Outcome,
    ) -> Outcome<Self> {
        (0..repetitions)
            .map(|_| {
                std::thread::sleep(settle);
                let start = Instant::now();
                work()?;
                Ok(milliseconds(start.elapsed()))
            })
            .collect::<Outcome<Vec<f64>>>()
            .map(Self::of)
    }

    fn of(mut figures: Vec<f64>) -> Self {
        figures.sort_by(f64::total_cmp);
        Self(figures)
    }

    fn median(&self) -> f64 {
        let middle = self.0.len() / 2;
        match self.0.len() % 2 {
            0 => f64::midpoint(self.0[middle - 1], self.0[middle]),
            _ => self.0[middle],
        }
    }

    /// Number of figures, median, min..max.
    fn row(&self) -> String {
        let range = format!("({:.2}..{:.2})", self.0[0], self.0[self.0.len() - 1]);
        format!("{:>5} {:>10.2}  {range:<20}", self.0.len(), self.median())
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn topologies() -> Outcome {
    println!(
        "\n{:<32} {:>5} {:>10}  {:<20} ratio",
        "topology up and down, ms", "times", "median", "(min..max)"
    );
    let scenario = scenario("")?;
    let by_harness = || -> Outcome {
        drop(Lab::build(&scenario.topology(), Link::None, 0)?);
        Ok(())
    };
    let by_ip = Ip::new();
    let times = |count: usize, work: &dyn Fn() -> Outcome| (0..count).try_for_each(|_| work());

    let ip_one = Figures::time(20, SETTLE, || by_ip.up_and_down())?;
    let ip_many = Figures::time(3, SETTLE_MANY, || times(MANY, &|| by_ip.up_and_down()))?;
    let one = Figures::time(50, SETTLE, by_harness)?;
    let many = Figures::time(5, SETTLE_MANY, || times(MANY, &by_harness))?;
    let abreast = Figures::time(10, SETTLE_MANY, || side_by_side(&scenario))?;
    let show = |name: &str, figures: &Figures, than: Option<&Figures>| {
        let ratio = than.map(|ip| format!("{:.0}x", ip.median() / figures.median()));
        let line = format!("{name:<32} {} {}", figures.row(), ratio.unwrap_or_default());
        println!("{}", line.trim_end());
    };
    show("1 by ip commands", &ip_one, None);
    show("1 by the harness", &one, Some(&ip_one));
    show(&format!("{MANY} in a row by ip commands"), &ip_many, None);
    show(
        &format!("{MANY} in a row by the harness"),
        &many,
        Some(&ip_many),
    );
    show(
        &format!("{MANY} side by side, the harness"),
        &abreast,
        Some(&ip_many),
    );
    Ok(())
}

/// Has many topologies up at once, made and dropped by a thread for each core.
fn side_by_side(scenario: &Scenario) -> Outcome {
    let made = AtomicUsize::new(0);
    let labs = Mutex::new(Vec::new());
    on_each_core(|| {
        while made.fetch_add(1, Ordering::Relaxed) < MANY {
            let lab = Lab::build(&scenario.topology(), Link::None, 0)?;
            labs.lock().map_err(|_| "a thread panicked")?.push(lab);
        }
        Ok(())
    })?;
    on_each_core(|| {
        loop {
            let lab = labs.lock().map_err(|_| "a thread panicked")?.pop();
            if lab.is_none() {
                return Ok(());
            }
        }
    })
}

fn on_each_core(work: impl Fn() -> Outcome + Sync) -> Outcome {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores()).map(|_| scope.spawn(&work)).collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().map_err(|_| "a thread panicked")?)
    })
}

/// The same topology by `ip` commands: namespaces, sysctls, veth pairs with
/// the same addresses, routes and static neighbours. Offloads are not in it:
/// `ip` can't switch them.
struct Ip {
    commands: Vec<Vec<String>>,
    namespaces: Vec<String>,
}

impl Ip {
    fn new() -> Self {
        let name = |host: &str| format!("lastbyte-bench-{}-{host}", std::process::id());
        let router = name("router");
        let namespaces = vec![router.clone(), name("client"), name("server")];
        let mut lines: Vec<String> = Vec::new();
        for namespace in &namespaces {
            lines.push(format!("netns add {namespace}"));
            lines.push(format!("-n {namespace} link set lo up"));
        }
        for (number, host) in [(1, "client"), (2, "server")] {
            let inside = name(host);
            let (near, far) = (
                format!("02:00:00:00:0{number}:02"),
                format!("02:00:00:00:0{number}:01"),
            );
            let device = format!("r-{host}");
            let v4 = |side| format!("10.0.{number}.{side}");
            let v6 = |side| format!("fd00:{number}::{side}");
            lines.extend([
                format!(
                    "-n {router} link add {device} address {near} type veth \
                     peer name eth0 address {far} netns {inside}"
                ),
                format!("-n {router} link set {device} up"),
                format!("-n {inside} link set eth0 up"),
            ]);
            for (address, length) in [(&v4 as &dyn Fn(u8) -> String, 24), (&v6, 64)] {
                let (gateway, own) = (address(1), address(2));
                lines.extend([
                    format!("-n {router} address add {gateway}/{length} dev {device}"),
                    format!("-n {inside} address add {own}/{length} dev eth0"),
                    format!("-n {router} neighbour replace {own} lladdr {far} dev {device} nud permanent"),
                    format!("-n {inside} neighbour replace {gateway} lladdr {near} dev eth0 nud permanent"),
                    format!("-n {inside} route add default via {gateway} dev eth0"),
                ]);
            }
        }
        let mut commands: Vec<Vec<String>> = lines
            .iter()
            .map(|line| line.split_whitespace().map(str::to_owned).collect())
            .collect();
        // One shell a namespace writes all of its sysctls, before any device.
        let at = commands
            .iter()
            .position(|words| words[2..].starts_with(&["link".into(), "add".into()]));
        let scripts = namespaces.iter().map(|namespace| {
            ["netns", "exec", namespace, "sh", "-c", &sysctls()]
                .map(str::to_owned)
                .to_vec()
        });
        let at = at.unwrap_or(commands.len());
        commands.splice(at..at, scripts);
        Self {
            commands,
            namespaces,
        }
    }

    fn up_and_down(&self) -> Outcome {
        let up = self.commands.iter().try_for_each(|words| ip(words));
        let down = self
            .namespaces
            .iter()
            .try_for_each(|name| ip(&["netns", "delete", name].map(str::to_owned)));
        up.and(down)
    }
}

/// A script that writes what the lab writes into each namespace.
fn sysctls() -> String {
    let lines = PINNED
        .iter()
        .chain(WIRING)
        .chain(WIRING_V6)
        .map(|(name, value)| {
            let path = format!("/proc/sys/{}", name.replace('.', "/"));
            format!("[ ! -e {path} ] || echo {value} >{path}\n")
        });
    ["set -e\n".to_owned()].into_iter().chain(lines).collect()
}

fn ip(words: &[String]) -> Outcome {
    let output = Command::new("ip")
        .args(words)
        .stdin(Stdio::null())
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("ip {}: {}", words.join(" "), said.trim()).into())
}

fn throughput() -> Outcome {
    println!(
        "\n{:<32} {:>5} {:>10}  (min..max)",
        "TCP through the relay, Gbit/s", "times", "median"
    );
    for link in ["{ limit: 100000 }", "{ limit: 100000, delay: 1ms }"] {
        let scenario = scenario(&format!("link: {link}"))?;
        let figures: Outcome<Vec<f64>> = (0..5).map(|_| transfer(&scenario)).collect();
        let name = link.trim_matches(['{', '}', ' ']);
        println!("{name:<32} {}", Figures::of(figures?).row().trim_end());
    }
    Ok(())
}

/// Gigabits a second that arrive, from the first byte to the last.
fn transfer(scenario: &Scenario) -> Outcome<f64> {
    let mut lab = Lab::build(&scenario.topology(), Link::Relay, 0)?;
    let namespace = |host: &str| lab.namespace(host).ok_or("a host is missing");
    let any = SocketAddr::new(scenario.address_of("server"), 0);
    let listener = namespace("server")?.run(|| TcpListener::bind(any))??;
    let to = listener.local_addr()?;
    let mut sender = namespace("client")?.run(|| TcpStream::connect(to))??;
    let (mut receiver, _) = listener.accept()?;
    let rate = std::thread::scope(|scope| -> Outcome<f64> {
        let sending = scope.spawn(move || -> Outcome {
            let bytes = vec![0; 256 << 10];
            let start = Instant::now();
            while start.elapsed() < TRANSFER {
                sender.write_all(&bytes)?;
            }
            Ok(())
        });
        let mut bytes = vec![0; 256 << 10];
        let mut total = receiver.read(&mut bytes)?;
        let start = Instant::now();
        loop {
            match receiver.read(&mut bytes)? {
                0 => break,
                length => total += length,
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        sending.join().map_err(|_| "the sender panicked")??;
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52 bytes")]
        let bits = total as f64 * 8.0;
        Ok(bits / seconds / 1e9)
    })?;
    for counts in lab.stop_relay()? {
        if counts.overrun > 0 {
            return Err(format!("the relay itself lost packets: {counts:?}").into());
        }
    }
    Ok(rate)
}

fn losses() -> Outcome {
    println!(
        "\n{:<32} {:>9} {:>9} {:>9}  as foreseen",
        "packets lost", "sent", "asked", "seen"
    );
    let bursts = "gilbert_elliott: { p: 1%, r: 10%, bad_loss: 70%, good_loss: 0.1% }";
    // In the long run p / (p + r) of the packets meet the bad state.
    let in_bursts = (1.0 * 70.0 + 10.0 * 0.1) / (1.0 + 10.0);
    for (name, link, asked) in [
        ("random", "loss: 1%", 1.0),
        ("random", "loss: 10%", 10.0),
        ("in bursts, Gilbert-Elliott", bursts, in_bursts),
    ] {
        let scenario = scenario(&format!("link: {{ {link}, seed: 42 }}"))?;
        let prediction = Prediction::new(&scenario, "server", 0, 50_000);
        let mut lab = Lab::build(&scenario.topology(), Link::Relay, 0)?;
        let traffic = Traffic::open(&scenario, &lab, "client", "server");
        let mut arrivals = traffic.pour(&lab, prediction.sent, prediction.arrive.len());
        let counts = lab.stop_relay()?;
        let to_server = counts.iter().find(|wire| wire.towards == "server");
        let lost = to_server.map(|wire| wire.impairment.lost);
        arrivals.extend(traffic.rest());
        let arrived = numbers(&arrivals);
        #[expect(clippy::cast_precision_loss, reason = "some ten thousand")]
        let arrived_count = arrived.len() as f64;
        let seen = 100.0 * (1.0 - arrived_count / f64::from(prediction.sent));
        let foreseen = if arrived == prediction.arrive && lost == Some(prediction.counts.lost) {
            "yes"
        } else {
            "NO"
        };
        println!(
            "{name:<32} {:>9} {asked:>8.2}% {seen:>8.2}%  {foreseen}",
            prediction.sent
        );
    }
    Ok(())
}

fn delays() -> Outcome {
    println!(
        "\n{:<32} {:>5} {:>10}  {:<20} early",
        "one-way delay, ms", "times", "median", "(min..max)"
    );
    for asked in [1, 10, 100] {
        let link = format!("links: {{ server: {{ delay: {asked}ms, limit: 100000 }} }}");
        let scenario = scenario(&link)?;
        let lab = Lab::build(&scenario.topology(), Link::Relay, 0)?;
        let traffic = Traffic::open(&scenario, &lab, "client", "server");
        let arrivals = traffic.pour(&lab, 5000, 5000);
        let least = Duration::from_millis(asked);
        let early = arrivals
            .iter()
            .filter(|arrival| arrival.waited() < least)
            .count();
        let waited = arrivals
            .iter()
            .map(|arrival| milliseconds(arrival.waited()))
            .collect();
        let figures = Figures::of(waited);
        println!(
            "{:<32} {} {early}",
            format!("asked for {asked}"),
            figures.row()
        );
    }
    Ok(())
}
