//! The `harness` program: see [`harness::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    if harness::guest::init::is_init() {
        harness::guest::init::run();
    }
    harness::cli::main()
}
