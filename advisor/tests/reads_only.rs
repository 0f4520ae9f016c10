//! The program only reads: each of its system calls is traced, and only those
//! that can change nothing are let pass.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the test starts the program that it traces"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::libc;
use nix::sched::{CloneFlags, unshare};
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

mod recorded;

/// What a traced program was asked for beyond an answer.
#[derive(Clone, Copy, Debug, Default)]
struct Asked<'a> {
    /// To watch: events of the kernel.
    watches: bool,
    /// Files in this directory.
    record: Option<&'a str>,
}

/// What a traced program did.
#[derive(Debug, Default)]
struct Trace {
    /// The files that it opened for reading.
    opened: Vec<String>,
    /// The descriptors that it wrote to.
    written: Vec<u64>,
    /// The dumps that it asked of sock_diag.
    dumps: usize,
    /// The times that a thread of it went into another network namespace.
    visits: usize,
    /// The descriptors of other processes that it took a duplicate of.
    duplicates: usize,
    /// The seccomp filters that it took on.
    filters: usize,
    /// The tracepoints and buffers of events that it opened.
    events: usize,
    /// The files of the record that it wrote or changed.
    recorded: usize,
    /// The descriptors of the record's files that are open for writing.
    record: BTreeSet<u64>,
    /// The threads that are about to get one.
    opening: BTreeSet<Pid>,
    /// The calls that may change something, or that are not known not to.
    forbidden: Vec<String>,
}

/// Runs a program to its end under ptrace.
fn trace(program: &str, args: &[&str]) -> Trace {
    trace_asked(program, args, Asked::default())
}

/// The same of one that was asked for more than an answer.
#[expect(clippy::zombie_processes, reason = "waitpid reaps it")]
fn trace_asked(program: &str, args: &[&str], asked: Asked<'_>) -> Trace {
    let mut command = Command::new(program);
    command
        .args(args)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    // SAFETY: between fork and exec it makes one system call and allocates
    // nothing.
    unsafe {
        command.pre_exec(|| ptrace::traceme().map_err(io::Error::from));
    }
    // The thread that starts the child is its tracer.
    let child = command
        .spawn()
        .expect("the program can be started and traced");
    let pid = Pid::from_raw(child.id().cast_signed());
    assert_eq!(
        waitpid(pid, None).expect("the child can be waited for"),
        WaitStatus::Stopped(pid, Signal::SIGTRAP),
        "the child stops at its exec, so it is traced from its first call on"
    );
    ptrace::setoptions(
        pid,
        Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_EXITKILL
            | Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_TRACEFORK
            | Options::PTRACE_O_TRACEVFORK,
    )
    .expect("system calls can be traced");
    let memory = File::open(format!("/proc/{pid}/mem")).expect("the child's memory can be read");
    let mut trace = Trace::default();
    // Whether the next stop of a thread is at the entry of a system call.
    let mut entering = BTreeMap::from([(pid, true)]);
    ptrace::syscall(pid, None).unwrap();
    loop {
        // Only what this thread traces: other tests wait for theirs.
        let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        let status = waitpid(None, Some(flags)).unwrap();
        let mut signal = None;
        let stopped = match status {
            WaitStatus::PtraceSyscall(thread) => {
                let entering = entering.entry(thread).or_insert(true);
                if *entering {
                    let registers = ptrace::getregs(thread).unwrap();
                    if !trace.is_asked_for(registers, &memory, thread, asked) {
                        trace.record(registers, &memory, thread == pid);
                    }
                } else if trace.opening.remove(&thread) {
                    trace.record.insert(ptrace::getregs(thread).unwrap().rax);
                }
                *entering = !*entering;
                thread
            }
            // A new thread was made; it starts with a stop of its own.
            WaitStatus::PtraceEvent(thread, ..) => thread,
            WaitStatus::Stopped(thread, Signal::SIGSTOP) if !entering.contains_key(&thread) => {
                entering.insert(thread, true);
                thread
            }
            WaitStatus::Stopped(thread, stopped) => {
                signal = Some(stopped);
                thread
            }
            WaitStatus::Exited(thread, _) if thread == pid => return trace,
            WaitStatus::Exited(..) => continue,
            other => panic!("{other:?}"),
        };
        ptrace::syscall(stopped, signal).unwrap();
    }
}

/// The bytes of the child's memory at an address.
fn bytes_at(memory: &File, address: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    memory.read_exact_at(&mut bytes, address).unwrap();
    bytes
}

/// The text of the child's memory at an address, up to its NUL.
fn text_at(memory: &File, address: u64) -> String {
    let mut text = Vec::new();
    for at in address.. {
        match bytes_at(memory, at, 1)[0] {
            0 => break,
            byte => text.push(byte),
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// CLONE_NEWNET.
const NEW_NET: u64 = 0x4000_0000;
/// CLONE_THREAD.
const THREAD: u64 = 0x1_0000;

/// The flags of clone3(2): the first field of `struct clone_args`.
fn flags_of_clone3(memory: &File, address: u64) -> u64 {
    let mut flags = [0; 8];
    flags.copy_from_slice(&bytes_at(memory, address, 8));
    u64::from_ne_bytes(flags)
}

/// AF_NETLINK at an address.
fn is_netlink(memory: &File, address: u64) -> bool {
    bytes_at(memory, address, 2) == 16_u16.to_ne_bytes()
}

impl Trace {
    /// Whether a call is one that a watch or a record is made of. A call on another file
    /// than the record's is not.
    fn is_asked_for(
        &mut self,
        registers: libc::user_regs_struct,
        memory: &File,
        thread: Pid,
        asked: Asked<'_>,
    ) -> bool {
        let [first, second, third] = [registers.rdi, registers.rsi, registers.rdx];
        let is_of_record = |address: u64| {
            let path = text_at(memory, address);
            asked.record.is_some_and(|record| path.starts_with(record))
        };
        let is_asked = match registers.orig_rax.cast_signed() {
            libc::SYS_openat if third & 3 != 0 && is_of_record(second) => {
                self.opening.insert(thread);
                true
            }
            libc::SYS_write | libc::SYS_ftruncate | libc::SYS_fchmod
                if self.record.contains(&first) =>
            {
                true
            }
            libc::SYS_close => {
                self.record.remove(&first);
                return false;
            }
            libc::SYS_mkdir | libc::SYS_chmod | libc::SYS_unlink => is_of_record(first),
            libc::SYS_rename => is_of_record(first) && is_of_record(second),
            // Only to know that no other watch records there.
            libc::SYS_flock => asked.record.is_some(),
            libc::SYS_perf_event_open if asked.watches => {
                self.events += 1;
                return true;
            }
            // A mount of tracefs that no other process sees.
            libc::SYS_fsopen if asked.watches => return text_at(memory, first) == "tracefs",
            // That mount, and Ctrl-C as something to read.
            libc::SYS_fsconfig | libc::SYS_fsmount | libc::SYS_signalfd4 if asked.watches => {
                return true;
            }
            // PERF_EVENT_IOC_ENABLE, SET_OUTPUT, PERIOD and SET_FILTER of its own events.
            libc::SYS_ioctl if asked.watches => {
                return matches!(second, 0x2400 | 0x2405 | 0x4008_2404 | 0x4008_2406);
            }
            // To be told of sockets that end.
            libc::SYS_bind if asked.watches => return is_netlink(memory, second),
            libc::SYS_setsockopt if asked.watches => return second == 270,
            _ => false,
        };
        self.recorded += usize::from(is_asked);
        is_asked
    }

    /// Takes note of a call that is about to be made.
    fn record(&mut self, registers: libc::user_regs_struct, memory: &File, is_main: bool) {
        let arguments = [registers.rdi, registers.rsi, registers.rdx, registers.r10];
        let call = registers.orig_rax.cast_signed();
        match call {
            libc::SYS_open | libc::SYS_openat => {
                let (path, flags) = if call == libc::SYS_open {
                    (arguments[0], arguments[1])
                } else {
                    (arguments[1], arguments[2])
                };
                let path = text_at(memory, path);
                let changes = libc::O_WRONLY | libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC;
                if flags & u64::from(changes.cast_unsigned()) == 0 {
                    self.opened.push(path);
                } else if !matches!(path.as_str(), "/dev/null" | "/dev/tty") {
                    self.forbidden
                        .push(format!("open {path} with flags {flags:#x}"));
                }
            }
            libc::SYS_write | libc::SYS_writev => {
                self.written.push(arguments[0]);
                if !matches!(arguments[0], 1 | 2) {
                    self.forbidden
                        .push(format!("write to descriptor {}", arguments[0]));
                }
            }
            libc::SYS_socket => {
                if arguments[0] != 16 || arguments[2] != 4 {
                    self.forbidden.push(format!("socket {arguments:?}"));
                }
            }
            libc::SYS_sendto => {
                // The only request is TCPDIAG_GETSOCK (18) for a dump.
                let header = bytes_at(memory, arguments[1], 8);
                let kind = u16::from_ne_bytes([header[4], header[5]]);
                let flags = u16::from_ne_bytes([header[6], header[7]]);
                if (kind, flags) == (18, 0x301) {
                    self.dumps += 1;
                } else {
                    self.forbidden
                        .push(format!("netlink request {kind} with flags {flags:#x}"));
                }
            }
            // TCGETS and TIOCGWINSZ: is it a terminal, and how wide.
            libc::SYS_ioctl if matches!(arguments[1], 0x5401 | 0x5413) => {}
            // F_GETFD: std looks at a descriptor before it closes it. F_GETFL:
            // so does fdopendir(). F_DUPFD_CLOEXEC: a second descriptor of a
            // directory, to read links relative to it. F_SETFD of FD_CLOEXEC:
            // fdopendir() once more.
            libc::SYS_fcntl if matches!(arguments[1], 1 | 3 | 1030) => {}
            libc::SYS_fcntl if arguments[1] == 2 && arguments[2] == 1 => {}
            // A network namespace, and only a thread that is not the main one:
            // the process stays where it is.
            libc::SYS_setns if arguments[1] == NEW_NET && !is_main => self.visits += 1,
            // That thread. A process would lack CLONE_THREAD.
            libc::SYS_clone if arguments[0] & THREAD != 0 => {}
            libc::SYS_clone3 if flags_of_clone3(memory, arguments[0]) & THREAD != 0 => {}
            // SYSLOG_ACTION_READ_ALL and SIZE_BUFFER leave the kernel's log as it
            // is.
            libc::SYS_syslog if matches!(arguments[0], 3 | 10) => {}
            // PR_SET_NO_NEW_PRIVS and a filter: both only take rights away.
            libc::SYS_prctl if arguments[0] == 38 => {}
            libc::SYS_seccomp if arguments[0] == 1 => self.filters += 1,
            // Only --inspect-options comes here, which the test knows.
            libc::SYS_pidfd_getfd => self.duplicates += 1,
            // They tell, and change nothing; SYS_exit ends a thread.
            libc::SYS_pidfd_open
            | libc::SYS_getsockopt
            | libc::SYS_readlinkat
            | libc::SYS_exit
            | libc::SYS_read
            | libc::SYS_pread64
            | libc::SYS_readv
            | libc::SYS_close
            | libc::SYS_lseek
            | libc::SYS_stat
            | libc::SYS_lstat
            | libc::SYS_fstat
            | libc::SYS_newfstatat
            | libc::SYS_statx
            | libc::SYS_access
            | libc::SYS_faccessat
            | libc::SYS_readlink
            | libc::SYS_getdents64
            | libc::SYS_getcwd
            | libc::SYS_recvfrom
            | libc::SYS_poll
            | libc::SYS_mmap
            | libc::SYS_munmap
            | libc::SYS_mremap
            | libc::SYS_mprotect
            | libc::SYS_madvise
            | libc::SYS_brk
            | libc::SYS_rt_sigaction
            | libc::SYS_rt_sigprocmask
            | libc::SYS_sigaltstack
            | libc::SYS_arch_prctl
            | libc::SYS_set_tid_address
            | libc::SYS_set_robust_list
            | libc::SYS_rseq
            | libc::SYS_futex
            | libc::SYS_prlimit64
            | libc::SYS_sched_getaffinity
            | libc::SYS_getrandom
            | libc::SYS_clock_gettime
            | libc::SYS_clock_nanosleep
            | libc::SYS_gettid
            | libc::SYS_exit_group => {}
            other => self
                .forbidden
                .push(format!("system call {other} {arguments:?}")),
        }
    }
}

#[test]
fn recommend_changes_nothing() {
    let host = recorded::directory("orphan-limit-near");
    let host = host.path().to_str().unwrap();
    for args in [
        &["recommend"][..],
        &["recommend", "--over", "200ms", "--format", "json"],
        &["recommend", "--no-sock-diag"],
        &["recommend", "--inspect-options"],
        &["capture", "--redact"],
        &["sockets"],
        &["sockets", "--by", "process"],
        &["recommend", "--report", "reports", "--root", host],
        &["recommend", "--report", "nowhere"],
    ] {
        let trace = trace(env!("CARGO_BIN_EXE_advisor"), args);
        assert_eq!(trace.forbidden, Vec::<String>::new(), "{args:?}");
        // What has to be there, or the trace has missed it.
        assert!(!trace.written.is_empty(), "{args:?}: it writes its answer");
        assert!(trace.filters > 0, "{args:?}: the kernel holds it to that");
        let reads = |file: &str| trace.opened.iter().any(|opened| opened.ends_with(file));
        assert_eq!(
            reads("proc/net/sockstat"),
            !args.contains(&"nowhere") && args[0] != "sockets",
            "{args:?}"
        );
        let by_sock_diag = !args.contains(&"--report") && !args.contains(&"--no-sock-diag");
        assert_eq!(trace.dumps > 0, by_sock_diag, "{args:?}");
        assert!(
            trace.duplicates == 0 || args.contains(&"--inspect-options"),
            "{args:?}"
        );
    }
}

#[test]
fn a_watch_writes_its_record_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let record = directory.path().join("record");
    let record = record.to_str().unwrap();
    let watch = ["watch", "--lines", "--for", "2s"];
    for place in [None, Some(record)] {
        let asked = Asked {
            watches: true,
            record: place,
        };
        let mut args = watch.to_vec();
        args.extend(place.map(|_| "--record"));
        args.extend(place);
        let trace = trace_asked(env!("CARGO_BIN_EXE_advisor"), &args, asked);
        assert_eq!(trace.forbidden, Vec::<String>::new(), "{args:?}");
        assert!(trace.written.contains(&1), "{args:?}: it writes its lines");
        assert!(trace.filters > 0, "{args:?}: the kernel holds it to that");
        assert!(trace.dumps > 0, "{args:?}: it looks at sockets");
        assert_eq!(trace.recorded > 0, place.is_some(), "{args:?}");
        assert_eq!(
            trace.events > 0,
            nix::unistd::geteuid().is_root(),
            "{args:?}"
        );
    }
    // The same calls are not those of a watch that was not asked to record.
    let asked = Asked {
        watches: true,
        record: None,
    };
    let args = [&watch[..], &["--record", record]].concat();
    let trace = trace_asked(env!("CARGO_BIN_EXE_advisor"), &args, asked);
    assert!(!trace.forbidden.is_empty(), "{trace:?}");
}

#[test]
fn archives_and_captures_are_only_read() {
    let directory = tempfile::tempdir().unwrap();
    let captures = directory.path().to_str().unwrap();
    std::fs::write(directory.path().join("cut.json"), "{\"schema\": 2,").unwrap();
    for args in [
        &["recommend", "--sosreport", "sosreport/shop1.tar.xz"][..],
        &["recommend", "--sosreport", "hosts/quiet"],
        &["recommend", "--sysctl-dump", "settings/nowhere"],
        &["recommend", "--facts", captures],
    ] {
        let trace = trace(env!("CARGO_BIN_EXE_advisor"), args);
        assert_eq!(trace.forbidden, Vec::<String>::new(), "{args:?}");
        assert!(!trace.written.is_empty(), "{args:?}: it writes its answer");
        assert_eq!((trace.dumps, trace.visits), (0, 0), "{args:?}");
        // This host is not among what was asked for.
        let own = trace
            .opened
            .iter()
            .find(|opened| opened.contains("proc/net"));
        assert!(
            own.is_none() || args.contains(&"hosts/quiet"),
            "{args:?}: {own:?}"
        );
    }
}

#[test]
fn lint_and_explain_change_nothing() {
    for args in [
        &["lint"][..],
        &["lint", "settings", "hosts/quiet"],
        &["explain", "LB101"],
    ] {
        let trace = trace(env!("CARGO_BIN_EXE_advisor"), args);
        assert_eq!(trace.forbidden, Vec::<String>::new(), "{args:?}");
        assert!(!trace.written.is_empty(), "{args:?}: it writes its answer");
        assert_eq!(trace.dumps, 0, "{args:?}");
    }
}

#[test]
fn a_program_that_writes_is_caught() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    let file = file.to_str().unwrap();
    for (script, call) in [
        (format!("echo 1 > {file}"), format!("open {file}")),
        ("kill -0 $$".to_owned(), "system call 62".to_owned()),
    ] {
        let trace = trace("/bin/sh", &["-c", &script]);
        assert!(
            trace
                .forbidden
                .iter()
                .any(|forbidden| forbidden.starts_with(&call)),
            "{script}: {trace:?}"
        );
    }
}

/// A process in a network namespace of its own; it ends with this value.
struct Elsewhere(Child);

impl Elsewhere {
    /// Without the right to make a namespace in this user namespace, it is made
    /// in a new one, into which the program may not go but tries.
    fn make() -> Self {
        let make = |flags: CloneFlags| {
            let mut command = Command::new("sleep");
            command.arg("600");
            // SAFETY: between fork and exec it makes one system call and
            // allocates nothing.
            unsafe {
                command.pre_exec(move || unshare(flags).map_err(io::Error::from));
            }
            command.spawn()
        };
        let net = CloneFlags::CLONE_NEWNET;
        Self(
            make(net)
                .or_else(|_| make(net | CloneFlags::CLONE_NEWUSER))
                .expect("a process can be started in a network namespace of its own"),
        )
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn another_network_namespace_is_entered_by_a_thread_alone() {
    let _elsewhere = Elsewhere::make();
    let trace = trace(env!("CARGO_BIN_EXE_advisor"), &["recommend"]);
    // Were it the main thread, it would be among the forbidden.
    assert_eq!(trace.forbidden, Vec::<String>::new());
    assert!(trace.visits > 0, "{trace:?}");
}
