//! `--touch-host`: a sysctl of the whole machine is set while a scenario runs,
//! and is back afterwards, whoever is killed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use advisor_facts::sockstat::Sockstat;
use harness::host_settings::STATE_DIRECTORY;
use harness::lab::namespace::{read_sysctl, write_sysctl};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::machine;
use super::netns::Netns;
use super::patience::until;
use super::program::{Running, Suite, harness, suite};

const NAME: &str = "net.ipv4.tcp_max_orphans";

/// Connections that the scenario below leaves to the kernel.
const ORPHANS: usize = 20;

/// A scenario that sets the limit, leaves orphans whose peer is silent, and
/// then waits for as long as it is told.
fn scenario(wait: &str) -> Suite {
    suite(&format!(
        r#"
scenarios:
  - name: orphans
    explains: A closed connection whose data nobody acknowledges is an orphan.
    source: tcp(7)
    runs: 1
    time_limit: 10min
    sysctls: {{ kernel: {{ {NAME}: "{{kernel.sockstat.TCP.orphan.before}} + 640" }} }}
    actors:
      acceptor:
        on: server
        steps:
          - listen: {{ port: 7000, backlog: 100 }}
          - accept: {{ count: {ORPHANS}, as: all }}
          - await: leaver.wait
      leaver:
        on: client
        steps:
          - await: acceptor.listen
          - repeat:
              times: {ORPHANS}
              steps: [{{ connect: {{ to: "server:7000", as: all }} }}]
          - await: lab.link-down
          - write: {{ bytes: 10, on: all }}
          - close: all
          - sleep: {{ time: {wait}, as: wait }}
    lab: [{{ await: acceptor.all }}, {{ link-down: server }}]
    expect:
      leaver.close.errors.EBADF: {{ always: 0 }}
      kernel.sockstat.TCP.orphan.max: {{ always: ">= {ORPHANS}" }}
"#
    ))
}

/// Takes the machine's lock: whoever acts on the machine is done by then.
fn lock() -> Flock<File> {
    fs::create_dir_all(STATE_DIRECTORY).unwrap();
    let file = File::create(Path::new(STATE_DIRECTORY).join("lock")).unwrap();
    Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, errno)| errno)
        .unwrap()
}

/// The value before a test; put back when the test ends, however it does.
struct Before(String);

impl Before {
    fn read() -> Self {
        harness(["restore"]).expect(0);
        let _lock = lock();
        assert!(
            !record().exists(),
            "another run on this machine was interrupted"
        );
        Self(read_sysctl(NAME).unwrap())
    }

    fn is_set(&self) -> bool {
        read_sysctl(NAME).unwrap() == self.0
    }

    /// Demands that all is as before, once nobody acts on the machine.
    fn demand(&self) {
        let _lock = lock();
        assert_eq!(read_sysctl(NAME).unwrap(), self.0);
        assert!(!record().exists());
    }
}

impl Drop for Before {
    fn drop(&mut self) {
        let _ = Running::start(["restore"]).wait();
        let _lock = lock();
        if !self.is_set() {
            let _ = write_sysctl(NAME, &self.0);
        }
    }
}

fn record() -> PathBuf {
    Path::new(STATE_DIRECTORY).join("touched.json")
}

fn orphans() -> i64 {
    let path = Path::new("/proc/net/sockstat");
    let now = Sockstat::parse(&fs::read_to_string(path).unwrap(), path).unwrap();
    now.get("TCP.orphan").unwrap()
}

/// A harness that has set the value and stands in the middle of the scenario,
/// with its orphans made.
struct Middle {
    harness: Running,
    watcher: i32,
    /// Of the host that has the orphans.
    client: Netns,
    orphans: i64,
}

impl Middle {
    fn reach(suite: &Suite, before: &Before) -> Self {
        let mut harness = start(suite);
        let watcher = until("the watcher runs", || {
            assert!(!harness.is_over());
            harness.children("watcher").first().copied()
        });
        until("the value is set", || (!before.is_set()).then_some(()));
        let client = until("the orphans are made", || {
            assert!(!harness.is_over());
            let namespaces = harness.children("actor").into_iter().map(Netns::of_process);
            namespaces.into_iter().find(|namespace| {
                let sockets = namespace.tcp_sockets();
                // Without a process: inode 0.
                sockets.iter().filter(|socket| socket.inode == 0).count() >= ORPHANS
            })
        });
        Self {
            orphans: orphans(),
            harness,
            watcher,
            client,
        }
    }
}

fn start(suite: &Suite) -> Running {
    Running::start(["run", "--touch-host", suite.path().to_str().unwrap()])
}

#[test]
fn the_value_is_set_for_the_run_and_back_after_it() {
    let _machine = machine::alone();
    let before = Before::read();
    let middle = Middle::reach(&scenario("1s"), &before);
    assert!(record().exists());
    middle.harness.wait().expect(0);
    before.demand();
    assert!(middle.client.tcp_sockets().is_empty());
}

#[test]
fn the_watcher_puts_it_back_and_ends_the_orphans_of_a_killed_harness() {
    let _machine = machine::alone();
    let before = Before::read();
    let mut middle = Middle::reach(&scenario("10min"), &before);
    middle.harness.kill();
    // The watcher has the lock until it is done.
    before.demand();
    assert!(middle.client.tcp_sockets().is_empty());
    let made = i64::try_from(ORPHANS).unwrap();
    until("the kernel has fewer orphans", || {
        (orphans() <= middle.orphans - made).then_some(())
    });
}

/// How often a test is made again where another harness of this machine was
/// quicker to finish what was left.
const ATTEMPTS: usize = 5;

/// Kills the watcher, so that it can do nothing, then the harness, and demands
/// that `finish` puts back what they leave; it says whether it did.
fn demand_that_it_finishes(finish: impl Fn(&Suite) -> bool) {
    let before = Before::read();
    let suite = scenario("10min");
    for _ in 0..ATTEMPTS {
        let mut middle = Middle::reach(&suite, &before);
        kill(Pid::from_raw(middle.watcher), Signal::SIGKILL).unwrap();
        middle.harness.kill();
        until("the watcher is gone", || {
            (!Running::is_harness(middle.watcher)).then_some(())
        });
        until("the actors have left their sockets", || {
            let sockets = middle.client.tcp_sockets();
            sockets.iter().all(|socket| socket.inode == 0).then_some(())
        });
        // They would count for the whole kernel for minutes.
        middle.client.destroy_tcp_sockets();
        let is_left = !before.is_set() && record().exists();
        let finished = finish(&suite);
        before.demand();
        if is_left && finished {
            return;
        }
    }
    panic!("what was left was put back, but not by what should have, {ATTEMPTS} times");
}

#[test]
fn restore_finishes_what_a_killed_watcher_left() {
    let _machine = machine::alone();
    demand_that_it_finishes(|_| {
        let ended = harness(["restore"]).expect(0);
        ended.stdout.contains(NAME) && ended.stdout.contains(": put back\n")
    });
    assert_eq!(
        harness(["restore"]).expect(0).stdout,
        "Nothing to put back.\n"
    );
}

#[test]
fn the_next_start_finishes_what_a_killed_watcher_left() {
    let _machine = machine::alone();
    demand_that_it_finishes(|suite| {
        // It touches nothing itself: its only scenario is skipped.
        let ended = harness(["run", suite.path().to_str().unwrap()]).expect(3);
        ended.stderr.contains(NAME)
    });
}

#[test]
fn the_machine_is_one_runs_at_a_time() {
    let _machine = machine::alone();
    let before = Before::read();
    let suite = scenario("1s");
    let mut runs = [start(&suite), start(&suite)];
    until("both end", || {
        let actors = runs.each_ref().map(|run| run.children("actor"));
        // Seen one after the other, so the first may have ended in between.
        let first = runs[0].children("actor");
        let meet = actors.iter().all(|actors| !actors.is_empty()) && first == actors[0];
        assert!(!meet, "both have actors: {actors:?}");
        let over = runs.each_mut().map(Running::is_over);
        (over == [true, true]).then_some(())
    });
    for run in runs {
        run.wait().expect(0);
    }
    before.demand();
}
