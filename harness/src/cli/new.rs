//! `harness new`.

use std::io;
use std::path::PathBuf;

use clap::Subcommand;

use super::{ENVIRONMENT, USAGE, complain, print};
use crate::new::{self, Program};

#[derive(Debug, Subcommand)]
pub(super) enum New {
    /// Seven questions to a server of your own: does a slow client get the whole
    /// response, also when the server stops, does it come back after kill -9, what
    /// does a vanished client cost, does it leak CLOSE_WAIT, does a client whose upload
    /// is refused read why
    Server {
        /// The file to write; one that is there stays as it is
        #[arg(default_value = "my-suites/server.yaml")]
        path: PathBuf,
        /// The TCP port that the server listens on
        #[arg(long, value_name = "PORT", default_value_t = 8080,
              value_parser = clap::value_parser!(u16).range(1..))]
        port: u16,
        /// The server and its arguments, after --
        #[arg(last = true, value_name = "COMMAND")]
        command: Vec<String>,
    },
    /// What does a client of your own do when its server refuses, resets, closes, stalls,
    /// vanishes or sends half an answer
    Client {
        /// The file to write; one that is there stays as it is
        #[arg(default_value = "my-suites/client.yaml")]
        path: PathBuf,
        /// The TCP port that the client connects to
        #[arg(long, value_name = "PORT", default_value_t = 8080,
              value_parser = clap::value_parser!(u16).range(1..))]
        port: u16,
        /// The client and its arguments, after --; {server} is the server's address
        #[arg(last = true, value_name = "COMMAND")]
        command: Vec<String>,
    },
}

impl New {
    /// Writes the suite; the exit status.
    pub(super) fn run(&self) -> u8 {
        let (program, path, port, command) = match self {
            Self::Server {
                path,
                port,
                command,
            } => (Program::Server, path, port, command),
            Self::Client {
                path,
                port,
                command,
            } => (Program::Client, path, port, command),
        };
        let shown = path.display();
        match new::write(program, path, command, *port) {
            Ok(()) => print(&format!(
                "{shown} is written. Edit it, and as root: harness run {shown}\n"
            )),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                complain(format!("{shown}: it is there already"), "name another file");
                USAGE
            }
            Err(error) => {
                complain(
                    format!("{shown}: cannot write it: {error}"),
                    "name a file that can be written",
                );
                ENVIRONMENT
            }
        }
    }
}
