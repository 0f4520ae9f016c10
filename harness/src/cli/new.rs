//! `harness new`.

use std::io;
use std::path::PathBuf;

use clap::Subcommand;

use super::{ENVIRONMENT, USAGE, complain, print};
use crate::new;

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
}

impl New {
    /// Writes the suite; the exit status.
    pub(super) fn run(&self) -> u8 {
        let New::Server {
            path,
            port,
            command,
        } = self;
        let shown = path.display();
        match new::write_server(path, command, *port) {
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
