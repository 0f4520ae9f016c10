//! A recorded host whose dump of sockets is as long as is asked for: it is
//! written while it is read.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::Path;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

/// What 6.12 answered of a connection.
const DUMP: &str = include_str!("../../kernels/6.12/sock_diag-x86-64.hex");

/// Where the port of the peer is in a message: behind the netlink header, four
/// bytes and the own port; then the addresses of 16 bytes each.
const PEER_PORT: usize = 16 + 4 + 2;
const PEER_ADDRESS: usize = PEER_PORT + 2 + 16;

/// A directory with a pipe in place of the dump.
pub struct Host(tempfile::TempDir);

impl Host {
    pub fn make() -> Self {
        let directory = tempfile::tempdir().unwrap();
        mkfifo(&directory.path().join("sock_diag.hex"), Mode::S_IRWXU).unwrap();
        Self(directory)
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes a dump of so many sockets, each of a peer of its own, to whoever
    /// reads it.
    pub fn send(&self, sockets: u32) {
        let line = DUMP.lines().next_back().unwrap();
        let (head, rest) = line.split_at(2 * PEER_PORT);
        let (own_address, rest) = rest[4..].split_at(2 * (PEER_ADDRESS - PEER_PORT - 2));
        let tail = &rest[8..];
        let path = self.0.path().join("sock_diag.hex");
        let file = fs::OpenOptions::new().write(true).open(path).unwrap();
        let mut out = BufWriter::<File>::new(file);
        for number in 0..sockets {
            let port = 1024 + number % 60_000;
            let address = 0x0a00_0000 + number;
            writeln!(out, "{head}{port:04x}{own_address}{address:08x}{tail}").unwrap();
        }
    }
}
