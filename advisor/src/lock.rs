//! Has the kernel hold the advisor to what it promises: after start-up it may read, write
//! its answer, and do what the user asked for. Everything else fails with EPERM.
//!
//! A process that reads others can't use landlock for that: the kernel would refuse it
//! their `/proc/PID/fd` and `ns`.

use std::collections::BTreeMap;

use nix::libc;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen as Length, SeccompCmpOp as Is,
    SeccompCondition, SeccompFilter, SeccompRule, TargetArch, apply_filter,
};

/// What the user asked for beyond an answer.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is asked for or not, whatever the others are"
)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Asked {
    /// Files in a directory.
    pub record: bool,
    /// Clients that ask for metrics.
    pub listen: bool,
    /// A duplicate of other processes' descriptors, for a moment.
    pub inspect_options: bool,
    /// A screen, and keys.
    pub screen: bool,
}

/// Why the kernel doesn't hold it.
#[derive(Debug, thiserror::Error)]
#[error("seccomp: {0}")]
pub struct NotLocked(String);

/// Calls that change nothing, or nothing but this process.
const READING: &[libc::c_long] = &[
    libc::SYS_brk,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_clone3,
    libc::SYS_close,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_faccessat,
    libc::SYS_fstat,
    libc::SYS_futex,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_lseek,
    libc::SYS_madvise,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_nanosleep,
    libc::SYS_newfstatat,
    libc::SYS_ppoll,
    libc::SYS_pread64,
    libc::SYS_read,
    libc::SYS_readlinkat,
    libc::SYS_readv,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_sigaltstack,
    libc::SYS_statx,
    libc::SYS_sysinfo,
    libc::SYS_uname,
    // The dumps of sock_diag, and answers to clients that were accepted.
    libc::SYS_sendto,
    // A second filter, which can only take more away.
    libc::SYS_prctl,
    libc::SYS_seccomp,
];

/// The same that only x86-64 has.
#[cfg(target_arch = "x86_64")]
const READING_HERE: &[libc::c_long] = &[
    libc::SYS_access,
    libc::SYS_arch_prctl,
    libc::SYS_lstat,
    libc::SYS_poll,
    libc::SYS_readlink,
    libc::SYS_stat,
];
#[cfg(not(target_arch = "x86_64"))]
const READING_HERE: &[libc::c_long] = &[];

const RECORDING: &[libc::c_long] = &[
    libc::SYS_fchmod,
    libc::SYS_flock,
    libc::SYS_ftruncate,
    libc::SYS_openat,
    libc::SYS_renameat2,
    libc::SYS_unlinkat,
    libc::SYS_write,
    libc::SYS_writev,
];
#[cfg(target_arch = "x86_64")]
const RECORDING_HERE: &[libc::c_long] = &[libc::SYS_rename, libc::SYS_unlink];
#[cfg(not(target_arch = "x86_64"))]
const RECORDING_HERE: &[libc::c_long] = &[libc::SYS_renameat];

const LISTENING: &[libc::c_long] = &[libc::SYS_accept4, libc::SYS_shutdown];

const INSPECTING: &[libc::c_long] = &[
    libc::SYS_getsockopt,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_open,
];

const SHOWING: &[libc::c_long] = &[
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    libc::SYS_pipe2,
    libc::SYS_socketpair,
];
#[cfg(target_arch = "x86_64")]
const SHOWING_HERE: &[libc::c_long] = &[libc::SYS_epoll_wait];
#[cfg(not(target_arch = "x86_64"))]
const SHOWING_HERE: &[libc::c_long] = &[];

/// Is it a terminal, and how wide (TCGETS, TIOCGWINSZ); FIOCLEX of std.
const IOCTLS: &[u64] = &[0x5401, 0x5413, 0x5451];
/// PERF_EVENT_IOC_PERIOD, ENABLE and DISABLE of an event of one's own.
const IOCTLS_OF_EVENTS: &[u64] = &[0x4008_2404, 0x2400, 0x2401];
/// TCSETS, TCSETSW and TCSETSF: a terminal that shows no keys, and back.
const IOCTLS_OF_SCREENS: &[u64] = &[0x5402, 0x5403, 0x5404];
/// FIONBIO.
const IOCTLS_OF_CLIENTS: &[u64] = &[0x5421];
/// F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC.
const FCNTLS: &[u64] = &[0, 1, 2, 3, 4, 1030];
/// SYSLOG_ACTION_READ_ALL and SIZE_BUFFER leave the kernel's log as it is.
const SYSLOGS: &[u64] = &[3, 10];

/// Holds this thread, and those that it will make, to it.
pub fn lock(asked: Asked) -> Result<(), NotLocked> {
    let told = |error: BackendError| NotLocked(error.to_string());
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(told)?;
    let refused = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    let allowed = SeccompFilter::new(
        rules(asked).map_err(told)?,
        refused,
        SeccompAction::Allow,
        arch,
    )
    .map_err(told)?;
    // The arguments of clone3(2) can't be looked at: the C library takes clone(2) where
    // the kernel seems not to have it.
    let absent = SeccompAction::Errno(libc::ENOSYS.cast_unsigned());
    let clone3 = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let no_clone3 = SeccompFilter::new(clone3, SeccompAction::Allow, absent, arch).map_err(told)?;
    for filter in [allowed, no_clone3] {
        let program = BpfProgram::try_from(filter).map_err(told)?;
        apply_filter(&program).map_err(|error| NotLocked(error.to_string()))?;
    }
    Ok(())
}

/// What is allowed; a call with no rule of its own is, whatever its arguments.
fn rules(asked: Asked) -> Result<BTreeMap<i64, Vec<SeccompRule>>, BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    let is = |argument, values: &[u64]| -> Result<Vec<SeccompRule>, BackendError> {
        values
            .iter()
            .map(|value| {
                let condition = SeccompCondition::new(argument, Length::Dword, Is::Eq, *value)?;
                SeccompRule::new(vec![condition])
            })
            .collect()
    };
    let masked = |argument, mask, value| {
        let condition = SeccompCondition::new(argument, Length::Dword, Is::MaskedEq(mask), value)?;
        Ok::<_, BackendError>(vec![SeccompRule::new(vec![condition])?])
    };
    let changes = libc::O_WRONLY | libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC | libc::O_APPEND;
    let changes = u64::from(changes.cast_unsigned());
    rules.insert(libc::SYS_openat, masked(2, changes, 0)?);
    #[cfg(target_arch = "x86_64")]
    rules.insert(libc::SYS_open, masked(1, changes, 0)?);
    for call in [libc::SYS_write, libc::SYS_writev] {
        rules.insert(call, is(0, &[1, 2])?);
    }
    let thread = u64::from(libc::CLONE_THREAD.cast_unsigned());
    rules.insert(libc::SYS_clone, masked(0, thread, thread)?);
    let network = u64::from(libc::CLONE_NEWNET.cast_unsigned());
    rules.insert(libc::SYS_setns, is(1, &[network])?);
    // Netlink, which the dumps of sock_diag come by.
    rules.insert(libc::SYS_socket, is(0, &[16])?);
    rules.insert(libc::SYS_syslog, is(0, SYSLOGS)?);
    rules.insert(libc::SYS_fcntl, is(1, FCNTLS)?);
    // A limit is asked for and none is given.
    let condition = SeccompCondition::new(2, Length::Qword, Is::Eq, 0)?;
    rules.insert(
        libc::SYS_prlimit64,
        vec![SeccompRule::new(vec![condition])?],
    );
    // To listen to sockets that end, and to stop to: SOL_NETLINK.
    rules.insert(libc::SYS_setsockopt, is(1, &[270])?);
    let mut ioctls = [IOCTLS, IOCTLS_OF_EVENTS].concat();
    let mut whole = [READING, READING_HERE].concat();
    if asked.record {
        whole.extend([RECORDING, RECORDING_HERE].concat());
    }
    if asked.listen {
        whole.extend(LISTENING);
        ioctls.extend(IOCTLS_OF_CLIENTS);
    }
    if asked.inspect_options {
        whole.extend(INSPECTING);
    }
    if asked.screen {
        whole.extend([SHOWING, SHOWING_HERE].concat());
        ioctls.extend(IOCTLS_OF_SCREENS);
    }
    rules.insert(libc::SYS_ioctl, is(1, &ioctls)?);
    for call in whole {
        rules.insert(call, Vec::new());
    }
    Ok(rules)
}

#[cfg(test)]
mod tests {
    #![expect(
        clippy::disallowed_types,
        clippy::disallowed_methods,
        reason = "what the kernel is to refuse"
    )]

    use std::fs::{self, File};
    use std::io;
    use std::net::{TcpStream, UdpSocket};
    use std::os::unix::net::UnixStream;
    use std::process::Command;
    use std::thread;

    use super::*;

    /// What a thread does that is held to it.
    fn locked<T: Send>(asked: Asked, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            scope
                .spawn(|| {
                    lock(asked).expect("this kernel has seccomp");
                    work()
                })
                .join()
                .unwrap()
        })
    }

    fn is_refused<T>(result: io::Result<T>) -> bool {
        result.is_err_and(|error| error.raw_os_error() == Some(libc::EPERM))
    }

    #[test]
    fn reading_works_and_everything_else_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "kept").unwrap();
        locked(Asked::default(), || {
            assert!(fs::read_to_string("/proc/net/sockstat").is_ok());
            assert!(advisor_facts::Facts::read(&advisor_facts::Root::Live).is_ok());
            assert_eq!(thread::spawn(|| 7).join().unwrap(), 7);
            assert!(is_refused(File::create(&file)));
            assert!(is_refused(File::options().append(true).open(&file)));
            assert!(is_refused(fs::remove_file(&file)));
            assert!(is_refused(fs::rename(&file, directory.path().join("b"))));
            assert!(is_refused(fs::create_dir(directory.path().join("c"))));
            assert!(is_refused(TcpStream::connect("127.0.0.1:9")));
            assert!(is_refused(UdpSocket::bind("127.0.0.1:0")));
            assert!(is_refused(UnixStream::pair()));
            assert!(Command::new("true").status().is_err());
            let own = std::process::id().cast_signed();
            // SAFETY: signal 0 to this process does nothing, and is refused.
            assert_eq!(unsafe { libc::kill(own, 0) }, -1);
        });
        assert_eq!(fs::read_to_string(&file).unwrap(), "kept");
    }

    #[test]
    fn what_the_user_asked_for_works() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        let asked = Asked {
            record: true,
            ..Asked::default()
        };
        locked(asked, || {
            fs::write(&file, "a").unwrap();
            fs::rename(&file, directory.path().join("b")).unwrap();
            fs::remove_file(directory.path().join("b")).unwrap();
            assert!(is_refused(fs::create_dir(directory.path().join("c"))));
            assert!(is_refused(TcpStream::connect("127.0.0.1:9")));
        });
    }
}
