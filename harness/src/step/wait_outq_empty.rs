//! `wait-outq-empty`

use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use super::option;
use super::prelude::*;
use crate::errno;

/// ioctl(2) SIOCOUTQ until it reads 0, or SO_ERROR is set; `value` is what it read last.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct WaitOutqEmpty {
    on: Option<SocketName>,
    /// The error is `late` after that. Default: no limit.
    timeout: Option<Time>,
    /// The pause between two looks.
    #[serde(default = "millisecond")]
    every: Time,
}

impl Definition for WaitOutqEmpty {
    const SHORTHAND: Option<&'static str> = Some("timeout");
    const OBSERVES: &'static [Field] = READING;

    fn is_limited(&self) -> bool {
        self.timeout.is_some()
    }
}

impl RunByActor for WaitOutqEmpty {
    fn run(&self, actor: &mut ActorContext<'_>) -> Calls {
        let mut left = None;
        let calls = actor.on_each(self.on.as_ref(), |socket| self.wait(socket, &mut left));
        calls.with_value(left.map(|left| left.to_string()))
    }
}

fn millisecond() -> Time {
    Time(Duration::from_millis(1))
}

impl WaitOutqEmpty {
    /// Looks at SIOCOUTQ until it is 0. After a reset it never is, so SO_ERROR, which the
    /// look clears, and the state are looked at as well.
    fn wait(&self, socket: RawFd, left: &mut Option<i32>) -> io::Result<()> {
        let start = Instant::now();
        loop {
            let outq = call::ioctl(socket, libc::TIOCOUTQ)?;
            *left = Some(outq);
            if outq == 0 {
                return Ok(());
            }
            let error = option::pending_error(socket)?;
            if error != 0 {
                return Err(io::Error::from_raw_os_error(error));
            }
            if call::is_closed(socket)? {
                // The reset may have come since SO_ERROR was read; where there is still
                // none, another call has taken it before.
                let error = match option::pending_error(socket)? {
                    0 => libc::ENOTCONN,
                    error => error,
                };
                return Err(io::Error::from_raw_os_error(error));
            }
            if self
                .timeout
                .is_some_and(|Time(limit)| start.elapsed() >= limit)
            {
                return Err(errno::late());
            }
            std::thread::sleep(self.every.0);
        }
    }
}
