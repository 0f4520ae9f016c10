//! `advisor watch`: what happens on a host, as it happens, at a bounded cost.
//!
//! One loop takes events, reads gauges once a second, and looks at the sockets when
//! something nears or happens. What takes long is done by a thread beside it, and each
//! kind of work is done as often as its share of a CPU allows (`pace`).

mod gather;
mod looker;
mod pace;
pub(crate) mod plain;
mod sampler;
pub(crate) mod screen;
mod serve;
mod sources;

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use advisor_facts::happened::{At, Happened, Kind};
use advisor_facts::{FactError, Facts, Looking};
use advisor_report::record::{self, Line};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::gauges::{Gauge, Reading};
use crate::lock::{Asked, lock};
use crate::metrics::Metrics;
use crate::plan::Advice;
use crate::record::{Bounds, Change, RecordError, Recorder};
use gather::Gather;
use looker::{Looker, Seen};
use sampler::{Sampler, note};
use serve::Server;
use sources::Sources;

/// Events are taken so often.
const TICK: Duration = Duration::from_millis(100);
/// What is alike within so much time is told as one.
const SECOND: Duration = Duration::from_secs(1);

/// What is asked of a watch.
#[derive(Debug)]
pub struct Options {
    /// How long; `None` until it is stopped.
    pub lasts: Option<Duration>,
    /// How sockets are looked at.
    pub looking: Looking,
    /// Where to keep what happens, and how much of it.
    pub record: Option<(PathBuf, Bounds)>,
    /// Whether the record leaves out what is of this host alone.
    pub redacts: bool,
    /// Where to serve metrics.
    pub listen: Option<SocketAddr>,
    /// Whether a screen is shown.
    pub screen: bool,
}

/// Why there is no watch.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The host could not be read.
    #[error(transparent)]
    Host(#[from] FactError),
    /// The record can't be kept.
    #[error("{}", .0)]
    Record(#[from] RecordError),
    /// The record lacks something.
    #[error("{}: {lines} lines are missing in the record: {source}", path.display())]
    Missing {
        /// Where it was to be.
        path: PathBuf,
        /// How many.
        lines: u64,
        /// The kernel's words.
        source: io::Error,
    },
    /// Metrics can't be served.
    #[error("{address}: cannot listen there: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// The kernel's words.
        source: io::Error,
    },
    /// The kernel gives no signals or refuses to wait.
    #[error("{what}: {source}")]
    Wait {
        /// The call.
        what: &'static str,
        /// The kernel's words.
        source: io::Error,
    },
    /// The lines could not be written.
    #[error("cannot write the lines: {0}")]
    Output(io::Error),
}

impl WatchError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Host(error) => error.hint(),
            Self::Record(error) => error.hint(),
            Self::Missing { .. } => {
                "make room there, or bound the record: --record-size 16MiB; what was written \
                 before can be read"
            }
            Self::Listen { .. } => {
                "name an address of this host and a free port: --listen 127.0.0.1:9477"
            }
            Self::Wait { .. } => "report it with `uname -a`",
            Self::Output(_) => "see that there is room where the output goes",
        }
    }
}

/// Where lines go.
pub trait Output {
    /// Takes a line.
    fn line(&mut self, line: &Line) -> io::Result<()>;

    /// Takes the gauges as they are, each with the inode of its network namespace where
    /// that is not the watcher's own.
    fn gauges(&mut self, _gauges: &mut dyn Iterator<Item = Shown>) {}

    /// Shows what there is, at the end of each tick. False where the user wants to end.
    fn show(&mut self) -> io::Result<bool>;
}

/// A gauge as it is shown.
pub type Shown = (Option<u32>, &'static Gauge, Reading);

/// Lines of text or of JSON.
pub struct Lines<W: Write> {
    out: W,
    as_json: bool,
    /// The watcher's network namespace.
    own: Option<u32>,
}

impl<W: Write> Lines<W> {
    /// Writes lines, as JSON or as text.
    pub const fn new(out: W, as_json: bool) -> Self {
        Self {
            out,
            as_json,
            own: None,
        }
    }
}

impl<W: Write> Output for Lines<W> {
    fn line(&mut self, line: &Line) -> io::Result<()> {
        if self.as_json {
            serde_json::to_writer(&mut self.out, line)?;
            return self.out.write_all(b"\n");
        }
        if let Line::Start { namespace, .. } = line {
            self.own = *namespace;
        }
        writeln!(self.out, "{}", plain::text(line, self.own))
    }

    fn show(&mut self) -> io::Result<bool> {
        self.out.flush()?;
        Ok(true)
    }
}

/// What a watch has seen at its end.
pub struct Ended {
    /// The host at the last look, with what happened.
    pub facts: Facts,
    /// The plan for it.
    pub advice: Advice,
    /// How many lines the record lacks, and why; `None` where it lacks none.
    pub missing: Option<(u64, io::Error)>,
}

/// Watches this host.
pub fn watch(options: Options, out: &mut dyn Output) -> Result<Ended, WatchError> {
    looker::share_free_memory();
    let signals = signals()?;
    let asked = Asked {
        record: options.record.is_some(),
        listen: options.listen.is_some(),
        inspect_options: options.looking.inspect_options,
        screen: options.screen,
    };
    let mut watch = Watch::begin(options, out)?;
    // All is open now that it needs.
    if let Err(error) = lock(asked) {
        let text = format!("the kernel does not hold the watch to reading: {error}");
        watch.tell(&note(&text), out)?;
    }
    let mut done = Instant::now() + watch.lasts;
    while Instant::now() < done {
        match watch.wait(&signals)? {
            Woken::ByTime => {}
            Woken::BySignal => done = Instant::now(),
        }
        match watch.tick(out) {
            // Whoever reads has read enough.
            Err(WatchError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
                done = Instant::now();
            }
            result => {
                if !result? {
                    done = Instant::now();
                }
            }
        }
    }
    watch.end(out)
}

enum Woken {
    ByTime,
    BySignal,
}

/// Ctrl-C and the stop of systemd, to be polled.
fn signals() -> Result<SignalFd, WatchError> {
    let wrong = |what| {
        move |errno: Errno| WatchError::Wait {
            what,
            source: errno.into(),
        }
    };
    let mut set = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        set.add(signal);
    }
    // Threads that are made later inherit it.
    set.thread_block().map_err(wrong("sigprocmask"))?;
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    SignalFd::with_flags(&set, flags).map_err(wrong("signalfd"))
}

struct Watch {
    lasts: Duration,
    sources: Sources,
    sampler: Sampler,
    looker: Looker,
    gather: Gather,
    second_ends: Instant,
    happened: Happened,
    recorder: Option<Recorder>,
    server: Option<Server>,
    /// Gauges whose holders the next look is to tell.
    asked: BTreeSet<&'static str>,
    /// Codes and subjects of the findings that were told.
    told: BTreeSet<(String, String)>,
    last: Seen,
}

impl Watch {
    fn begin(options: Options, out: &mut dyn Output) -> Result<Self, WatchError> {
        let now = Instant::now();
        let server = options.listen.map(Server::listen).transpose()?;
        let mut sources = Sources::open();
        let mut looker = Looker::new(options.looking, now);
        let first = looker.look(&Happened::default())?;
        sources.learn(&first.facts);
        let sampler = Sampler::new(now, &first.facts)?;
        let mut unseen = sources.unseen().to_vec();
        unseen.extend(first.facts.unseen.iter().cloned());
        let start = Line::Start {
            schema: record::SCHEMA,
            at: At::now(),
            advisor: env!("CARGO_PKG_VERSION").to_owned(),
            hostname: looker::hostname(),
            kernel: first.facts.kernel.clone(),
            namespace: sampler.inode(),
            tells_reset_reasons: sources.tells_reset_reasons(),
            unseen,
        };
        let recorder = options
            .record
            .map(|(directory, bounds)| {
                Recorder::begin(&directory, bounds, options.redacts, start.clone())
            })
            .transpose()?;
        let mut watch = Self {
            lasts: options
                .lasts
                .unwrap_or(Duration::from_secs(u64::from(u32::MAX))),
            sources,
            sampler,
            looker,
            gather: Gather::default(),
            second_ends: now + SECOND,
            happened: Happened::default(),
            recorder,
            server,
            asked: BTreeSet::new(),
            told: BTreeSet::new(),
            last: first,
        };
        // The recorder has begun its file with it.
        start.add_to(&mut watch.happened);
        out.line(&start).map_err(WatchError::Output)?;
        watch.took(out)?;
        out.show().map_err(WatchError::Output)?;
        Ok(watch)
    }

    /// Waits until something is there, or it is time for the next tick.
    fn wait(&self, signals: &SignalFd) -> Result<Woken, WatchError> {
        use std::os::fd::AsFd as _;
        let mut wanted = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        let readable = |fd| PollFd::new(fd, PollFlags::POLLIN);
        wanted.extend(self.sources.descriptors().map(readable));
        if let Some(server) = &self.server {
            wanted.extend(server.descriptors());
        }
        let timeout = u16::try_from(TICK.as_millis()).unwrap_or(u16::MAX);
        match poll(&mut wanted, PollTimeout::from(timeout)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => {
                return Err(WatchError::Wait {
                    what: "poll",
                    source: errno.into(),
                });
            }
        }
        let is_signal = wanted[0].any().unwrap_or(false);
        Ok(if is_signal {
            Woken::BySignal
        } else {
            Woken::ByTime
        })
    }

    fn tick(&mut self, out: &mut dyn Output) -> Result<bool, WatchError> {
        let now = Instant::now();
        let taken = self.sources.take(now);
        for one in taken.occurrences {
            if let Some(first) = self.gather.add(one) {
                self.tell(&Line::Event(first), out)?;
            }
        }
        if taken.lost > 0 {
            let at = At::now();
            let events = taken.lost;
            self.tell(&Line::Lost { at, events }, out)?;
        }
        for text in taken.notes {
            self.tell(&note(&text), out)?;
        }
        if now >= self.second_ends {
            self.second_ends = now + SECOND;
            for rest in self.gather.end_of_second() {
                self.tell(&Line::Event(rest), out)?;
            }
        }
        let told = self.sampler.sample(now)?;
        if told.is_new {
            let gauges = self.sampler.gauges();
            out.gauges(&mut gauges.map(|(inode, one)| (inode, one.gauge, one.reading)));
        }
        for line in told.lines {
            self.tell(&line, out)?;
        }
        for gauge in told.nearer {
            self.asked.insert(gauge.name);
            self.looker.want();
        }
        match self.looker.go_on(now, &self.happened) {
            Some(Ok(seen)) => {
                self.last = seen;
                self.took(out)?;
            }
            Some(Err(error)) => {
                let text = format!("a look failed: {error}");
                self.tell(&note(&text), out)?;
            }
            None => {}
        }
        if let Some(server) = &mut self.server {
            let (last, sampler, happened) = (&self.last, &self.sampler, &self.happened);
            server.serve(now, &mut || metrics(last, sampler, happened));
        }
        out.show().map_err(WatchError::Output)
    }

    /// Tells a line to all who want it.
    fn tell(&mut self, line: &Line, out: &mut dyn Output) -> Result<(), WatchError> {
        let groups = self.happened.groups.len();
        line.add_to(&mut self.happened);
        let is_new = self.happened.groups.len() > groups;
        if let Line::Event(one) = line
            && is_new
            && matches!(
                one.kind,
                Kind::ResetSent | Kind::Log | Kind::Counter | Kind::Drop
            )
        {
            // Of something new the rules may find more.
            self.looker.want();
        }
        let change = self.recorder.as_mut().map(|recorder| recorder.line(line));
        tell_change(change, out)?;
        out.line(line).map_err(WatchError::Output)
    }

    /// Tells what the last look saw.
    fn took(&mut self, out: &mut dyn Output) -> Result<(), WatchError> {
        self.sources.learn(&self.last.facts);
        let mut asked: Vec<&str> = std::mem::take(&mut self.asked).into_iter().collect();
        asked.retain(|gauge| matches!(*gauge, "tcp-memory" | "orphans"));
        for line in self.last.lines(&asked) {
            self.tell(&line, out)?;
        }
        let mut new = Vec::new();
        for step in &self.last.advice.recommendations {
            let what = (step.code.to_owned(), step.finding.subject.clone());
            if self.told.insert(what) {
                new.push(Line::Finding {
                    at: At::now(),
                    code: step.code.to_owned(),
                    severity: step.finding.severity.to_string(),
                    summary: step.finding.summary.clone(),
                    subject: step.finding.subject.clone(),
                });
            }
        }
        for line in new {
            self.tell(&line, out)?;
        }
        let recorder = self.recorder.as_mut();
        let change = recorder.map(|recorder| recorder.facts(&self.last.facts));
        tell_change(change, out)
    }

    fn end(mut self, out: &mut dyn Output) -> Result<Ended, WatchError> {
        let result = self.finish(out);
        match result {
            Err(WatchError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {}
            result => result?,
        }
        Ok(Ended {
            facts: self.last.facts,
            advice: self.last.advice,
            missing: self.recorder.and_then(Recorder::missing),
        })
    }

    fn finish(&mut self, out: &mut dyn Output) -> Result<(), WatchError> {
        if let Some(recorder) = &mut self.recorder {
            recorder.try_again();
        }
        for rest in self.gather.end_of_second() {
            self.tell(&Line::Event(rest), out)?;
        }
        self.last = self.looker.look(&self.happened)?;
        self.took(out)?;
        self.tell(&Line::End { at: At::now() }, out)?;
        out.show().map_err(WatchError::Output)?;
        Ok(())
    }
}

/// Tells that the record stops, or that it goes on.
fn tell_change(change: Option<Change>, out: &mut dyn Output) -> Result<(), WatchError> {
    match change.and_then(|change| change.text()) {
        Some(text) => out.line(&note(&text)).map_err(WatchError::Output),
        None => Ok(()),
    }
}

/// The metrics of a watch.
fn metrics(last: &Seen, sampler: &Sampler, happened: &Happened) -> Metrics {
    let mut metrics = Metrics::new(&last.facts);
    for (namespace, followed) in sampler.gauges() {
        metrics.gauge(followed.gauge, namespace, &followed.reading);
    }
    for (namespace, counters) in sampler.counters() {
        metrics.counters(namespace, counters);
    }
    metrics.happened(happened);
    metrics.look(&last.facts, &last.advice);
    metrics
}
