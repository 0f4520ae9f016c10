//! The `harness` program: see [`harness::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    if harness::kernel::init::is_init() {
        harness::kernel::init::run();
    }
    harness::cli::main()
}
