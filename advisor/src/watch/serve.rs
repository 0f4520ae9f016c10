//! Metrics over HTTP, for Prometheus. Nobody is waited for: what a client sends or takes
//! too slowly ends its connection.
#![expect(
    clippy::disallowed_types,
    reason = "the address that the user asked it to listen on, and no other"
)]

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags};

use super::WatchError;
use crate::metrics::{Format, Metrics};

/// So many clients at once.
const CLIENTS: usize = 8;
/// A client has so long.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest request, in bytes.
const REQUEST_BYTES: usize = 8 << 10;

/// Serves metrics.
pub(super) struct Server {
    listener: TcpListener,
    clients: Vec<Client>,
}

struct Client {
    stream: TcpStream,
    request: Vec<u8>,
    /// What is still to be sent; empty while the request is read.
    answer: Vec<u8>,
    until: Instant,
}

impl Server {
    pub(super) fn listen(address: SocketAddr) -> Result<Self, WatchError> {
        let wrong = |source| WatchError::Listen { address, source };
        let listener = TcpListener::bind(address).map_err(wrong)?;
        listener.set_nonblocking(true).map_err(wrong)?;
        Ok(Self {
            listener,
            clients: Vec::new(),
        })
    }

    /// What to poll.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = PollFd<'_>> {
        let room = self.clients.len() < CLIENTS;
        let listener = room.then(|| PollFd::new(self.listener.as_fd(), PollFlags::POLLIN));
        let clients = self.clients.iter().map(|client| {
            let flags = if client.answer.is_empty() {
                PollFlags::POLLIN
            } else {
                PollFlags::POLLOUT
            };
            PollFd::new(client.stream.as_fd(), flags)
        });
        listener.into_iter().chain(clients)
    }

    /// Goes on with every client.
    pub(super) fn serve(&mut self, now: Instant, metrics: &mut dyn FnMut() -> Metrics) {
        while self.clients.len() < CLIENTS
            && let Ok((stream, _)) = self.listener.accept()
        {
            if stream.set_nonblocking(true).is_ok() {
                self.clients.push(Client {
                    stream,
                    request: Vec::new(),
                    answer: Vec::new(),
                    until: now + PATIENCE,
                });
            }
        }
        self.clients
            .retain_mut(|client| now < client.until && client.go_on(metrics).unwrap_or(false));
    }
}

impl Client {
    /// Goes on; false where it is done.
    fn go_on(&mut self, metrics: &mut dyn FnMut() -> Metrics) -> io::Result<bool> {
        let waits = |error: &io::Error| error.kind() == io::ErrorKind::WouldBlock;
        while self.answer.is_empty() {
            let mut piece = [0; 1024];
            match self.stream.read(&mut piece) {
                Ok(0) => return Ok(false),
                Ok(length) => self.request.extend(&piece[..length]),
                Err(error) if waits(&error) => return Ok(true),
                Err(error) => return Err(error),
            }
            if self.request.windows(4).any(|end| end == b"\r\n\r\n") {
                self.answer = answer(&String::from_utf8_lossy(&self.request), metrics);
            } else if self.request.len() > REQUEST_BYTES {
                return Ok(false);
            }
        }
        while !self.answer.is_empty() {
            match self.stream.write(&self.answer) {
                Ok(0) => return Ok(false),
                Ok(length) => drop(self.answer.drain(..length)),
                Err(error) if waits(&error) => return Ok(true),
                Err(error) => return Err(error),
            }
        }
        // All is sent: the client closes, having read it.
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
        Ok(false)
    }
}

/// The answer to a request.
fn answer(request: &str, metrics: &mut dyn FnMut() -> Metrics) -> Vec<u8> {
    let mut lines = request.lines();
    let mut first = lines.next().unwrap_or_default().split(' ');
    let (method, path) = (first.next(), first.next().unwrap_or_default());
    let path = path.split('?').next().unwrap_or_default();
    let accept = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("accept"))
        .map_or("", |(_, value)| value);
    let (status, kind, body) = match (method, path) {
        (Some("GET" | "HEAD"), "/metrics") => {
            let format = Format::accepted(accept);
            ("200 OK", format.media_type(), metrics().text(format))
        }
        (Some("GET" | "HEAD"), _) => (
            "404 Not Found",
            "text/plain; charset=utf-8",
            "metrics are at /metrics\n".to_owned(),
        ),
        _ => (
            "405 Method Not Allowed",
            "text/plain; charset=utf-8",
            "only GET\n".to_owned(),
        ),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        body.len()
    );
    let body = if method == Some("HEAD") { "" } else { &body };
    format!("{head}{body}").into_bytes()
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// What a client gets that sends these pieces.
    fn ask(pieces: &[&str]) -> String {
        let mut server = Server::listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = server.listener.local_addr().unwrap();
        let pieces: Vec<_> = pieces.iter().map(ToString::to_string).collect();
        let client = thread::spawn(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            for piece in pieces {
                stream.write_all(piece.as_bytes()).unwrap();
                thread::sleep(Duration::from_millis(20));
            }
            let mut answer = String::new();
            let _ = stream.read_to_string(&mut answer);
            answer
        });
        while !client.is_finished() {
            server.serve(Instant::now(), &mut Metrics::default);
            thread::sleep(Duration::from_millis(2));
        }
        client.join().unwrap()
    }

    #[test]
    fn metrics_are_served_in_the_format_that_is_accepted() {
        let text = ask(&["GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n"]);
        assert!(text.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4"));
        let text = ask(&[
            "GET /metrics HT",
            "TP/1.1\r\nAccept: application/openmetrics-text\r\n\r\n",
        ]);
        assert!(
            text.contains("application/openmetrics-text; version=1.0.0"),
            "{text}"
        );
        assert!(text.ends_with("# EOF\n"), "{text}");
        assert!(ask(&["GET / HTTP/1.1\r\n\r\n"]).starts_with("HTTP/1.1 404"));
        assert!(ask(&["POST /metrics HTTP/1.1\r\n\r\n"]).starts_with("HTTP/1.1 405"));
        assert_eq!(ask(&[&"x".repeat(REQUEST_BYTES + 1)]), "");
    }

    #[test]
    fn a_client_that_says_nothing_is_given_up() {
        let mut server = Server::listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = server.listener.local_addr().unwrap();
        let _clients: Vec<_> = (0..2 * CLIENTS)
            .map(|_| TcpStream::connect(address))
            .collect();
        let now = Instant::now();
        server.serve(now, &mut Metrics::default);
        assert_eq!(server.clients.len(), CLIENTS);
        server.serve(now + PATIENCE, &mut Metrics::default);
        assert!(server.clients.len() < CLIENTS);
    }

    #[test]
    fn a_port_in_use_is_told() {
        let server = Server::listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = server.listener.local_addr().unwrap();
        let second = Server::listen(address).err().unwrap();
        assert!(
            second.to_string().contains("Address already in use"),
            "{second}"
        );
    }
}
