//! A time limit for a system call that waits.
//!
//! The call stays what it is, a blocking one: a signal ends it, as a program's own alarm
//! would.

use std::io;
use std::sync::Once;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use nix::sys::pthread::{Pthread, pthread_kill, pthread_self};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use crate::errno;

/// The signal that ends a call. Nobody sends it to an actor: it is about urgent data,
/// for those that asked for it (F_SETOWN).
const ALARM: Signal = Signal::SIGURG;

/// A signal that comes before the call waits is lost, so it comes again.
const AGAIN: Duration = Duration::from_millis(5);

extern "C" fn wake(_: i32) {}

/// The thread that calls. In musl its name is a pointer.
struct Caller(Pthread);

// SAFETY: nothing is read through the pointer; it only names a thread.
unsafe impl Send for Caller {}

impl Caller {
    fn wake(&self) {
        let _ = pthread_kill(self.0, ALARM);
    }
}

/// Makes a call that is `late` where it has not returned by `end`. The call has to give
/// EINTR back as it is.
pub fn limited<T>(end: Option<Instant>, call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    static HANDLER: Once = Once::new();
    let Some(end) = end else { return call() };
    HANDLER.call_once(|| {
        // Without SA_RESTART, so that the call ends.
        let action = SigAction::new(SigHandler::Handler(wake), SaFlags::empty(), SigSet::empty());
        // SAFETY: the handler does nothing.
        let _ = unsafe { sigaction(ALARM, &action) };
    });
    let caller = Caller(pthread_self());
    let (returned, until) = channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut wait = end.saturating_duration_since(Instant::now());
            while until.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                caller.wake();
                wait = AGAIN;
            }
        });
        let result = call();
        drop(returned);
        match result {
            Err(error) if error.kind() == io::ErrorKind::Interrupted && Instant::now() >= end => {
                Err(errno::late())
            }
            result => result,
        }
    })
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;
    use crate::step::call;

    #[test]
    fn a_call_that_waits_is_ended_and_one_that_does_not_is_left_alone() {
        let (reader, writer) = call::pipe().unwrap();
        let in_time = |milliseconds| Some(Instant::now() + Duration::from_millis(milliseconds));
        let mut buffer = [0; 1];
        let start = Instant::now();
        let error = limited(in_time(30), || call::read(reader.as_raw_fd(), &mut buffer));
        assert_eq!(errno::observed(&error.unwrap_err()).unwrap(), errno::LATE);
        assert!(start.elapsed() >= Duration::from_millis(30));
        call::write(writer.as_raw_fd(), b"x").unwrap();
        let read = limited(in_time(60_000), || {
            call::read(reader.as_raw_fd(), &mut buffer)
        });
        assert_eq!(read.unwrap(), 1);
        // A time that is over ends only what waits.
        call::write(writer.as_raw_fd(), b"x").unwrap();
        let read = limited(in_time(0), || call::read(reader.as_raw_fd(), &mut buffer));
        assert!(read.is_ok() || read.unwrap_err().to_string() == errno::LATE);
    }
}
