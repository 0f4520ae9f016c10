//! A guest whose kernel panics is an error with the end of its console. Init is
//! the program that boots the guest: this one ends at once, and no kernel lives
//! on without init.

use harness::guest::Guest;
use harness::guest::qemu::Accelerator;
use harness::kernels::cache::Cache;

const KERNEL: &str = "debian-6.12";

fn main() {
    if std::process::id() == 1 {
        return;
    }
    let kernel = Cache::of_user().unwrap().find(KERNEL).unwrap();
    let kernel = kernel.unwrap_or_else(|| panic!("harness kernels fetch {KERNEL}"));
    let error = Guest::boot(&kernel, Accelerator::Tcg).unwrap_err();
    assert_eq!(error.action, "boot it");
    for words in [
        "it died",
        "Kernel panic - not syncing",
        "Attempted to kill init",
    ] {
        assert!(error.words.contains(words), "no {words:?} in: {error}");
    }
    println!("a panic is told with the end of the console: ok");
}
