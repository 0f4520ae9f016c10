//! QEMU's monitor: orders to the emulator itself, in QMP (a JSON object a line,
//! docs/interop/qmp-spec of QEMU).

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};

/// An emulator that doesn't answer within this hangs.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// Reading the state of a guest takes moments; a disk can be slow.
const MIGRATION_LIMIT: Duration = Duration::from_secs(60);
const MIGRATION_PAUSE: Duration = Duration::from_millis(2);

/// A connection to a monitor.
#[derive(Debug)]
pub struct Monitor {
    said: BufReader<UnixStream>,
    orders: UnixStream,
    /// How often the guest has stopped and nobody has taken note of it.
    stops: u32,
}

/// What a monitor says: its greeting, an event, or the answer to an order.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Message {
    #[serde(rename = "return")]
    answer: Option<Value>,
    error: Option<Refusal>,
    event: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Refusal {
    desc: String,
}

impl Monitor {
    /// Takes up the conversation.
    pub fn connect(stream: UnixStream) -> io::Result<Self> {
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        let mut monitor = Self {
            said: BufReader::new(stream.try_clone()?),
            orders: stream,
            stops: 0,
        };
        monitor.execute("qmp_capabilities", &json!({}))?;
        Ok(monitor)
    }

    fn execute(&mut self, command: &str, arguments: &Value) -> io::Result<Value> {
        let mut order = json!({ "execute": command, "arguments": arguments }).to_string();
        order.push('\n');
        self.orders.write_all(order.as_bytes())?;
        self.answer(command)
    }

    fn next(&mut self, command: &str) -> io::Result<Message> {
        let mut line = String::new();
        if self.said.read_line(&mut line)? == 0 {
            return Err(io::Error::other(format!("{command}: QEMU ended")));
        }
        let message: Message = serde_json::from_str(&line)?;
        if message.event.as_deref() == Some("STOP") {
            self.stops += 1;
        }
        Ok(message)
    }

    fn answer(&mut self, command: &str) -> io::Result<Value> {
        loop {
            let message = self.next(command)?;
            if let Some(refusal) = message.error {
                return Err(io::Error::other(format!("{command}: {}", refusal.desc)));
            }
            if let Some(answer) = message.answer {
                return Ok(answer);
            }
        }
    }

    /// Waits until the guest has stopped itself.
    pub fn await_stop(&mut self, limit: Option<Duration>) -> io::Result<()> {
        self.orders.set_read_timeout(limit)?;
        while self.stops == 0 {
            self.next("STOP")?;
        }
        self.stops -= 1;
        self.orders.set_read_timeout(Some(ANSWER_LIMIT))
    }

    /// Lets a guest that has stopped go on.
    pub fn go_on(&mut self) -> io::Result<()> {
        self.execute("cont", &json!({})).map(drop)
    }

    /// Writes the state of the guest's devices to a file, and stops the guest for good.
    /// QEMU has inherited the file's descriptor.
    ///
    /// This is one of Xen's orders, but works everywhere: the memory is in its file
    /// already, and a migration, which could leave it out as well, can't be had while
    /// QEMU records.
    pub fn save(&mut self, devices: i32) -> io::Result<()> {
        // Else it goes on when the state is written.
        self.execute("stop", &json!({}))?;
        let arguments = json!({ "filename": format!("/proc/self/fd/{devices}") });
        self.execute("xen-save-devices-state", &arguments)?;
        Ok(())
    }

    /// Reads the state of the devices of a guest that waits for it from such a file. The
    /// guest stands then.
    pub fn restore(&mut self, devices: i32) -> io::Result<()> {
        let arguments = json!({ "uri": format!("fd:{devices}") });
        self.execute("migrate-incoming", &arguments)?;
        let end = Instant::now() + MIGRATION_LIMIT;
        while self.execute("query-status", &json!({}))?["status"] == "inmigrate" {
            if Instant::now() > end {
                return Err(io::Error::other(format!(
                    "migrate-incoming: not done within {MIGRATION_LIMIT:?}"
                )));
            }
            std::thread::sleep(MIGRATION_PAUSE);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A monitor that says these lines whatever it is told.
    fn saying(lines: &str) -> io::Result<Monitor> {
        let (ours, mut theirs) = UnixStream::pair()?;
        theirs.write_all(lines.as_bytes())?;
        let monitor = Monitor::connect(ours);
        // What wasn't read is lost with it, so that nothing waits.
        drop(theirs);
        monitor
    }

    #[test]
    fn events_between_order_and_answer_are_passed_over() {
        let monitor =
            saying("{\"QMP\": {\"version\": {}}}\n{\"event\": \"STOP\"}\n{\"return\": {}}\n");
        assert!(monitor.is_ok());
    }

    #[test]
    fn a_refusal_is_an_error_in_qemus_words() {
        let error = saying("{\"QMP\": {}}\n{\"error\": {\"class\": \"x\", \"desc\": \"no\"}}\n")
            .unwrap_err();
        assert_eq!(error.to_string(), "qmp_capabilities: no");
    }

    #[test]
    fn an_emulator_that_is_gone_is_an_error() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        assert!(Monitor::connect(ours).is_err());
    }
}
