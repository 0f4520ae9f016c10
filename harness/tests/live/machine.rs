//! Who has the machine. Most tests run side by side; those that act on the
//! whole kernel, or look at it, run alone.

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

static MACHINE: RwLock<()> = RwLock::new(());

/// For a test that others may run beside.
pub fn shared() -> RwLockReadGuard<'static, ()> {
    demand_root();
    MACHINE.read().unwrap_or_else(PoisonError::into_inner)
}

/// For a test that needs the whole kernel to itself.
pub fn alone() -> RwLockWriteGuard<'static, ()> {
    demand_root();
    MACHINE.write().unwrap_or_else(PoisonError::into_inner)
}

/// A test that can't run has not passed.
fn demand_root() {
    assert!(
        nix::unistd::geteuid().is_root(),
        "this test needs root, to make network namespaces; run it as root, or as \
         cargo test -p harness --test live --config \"$(ci/as-root --runner)\""
    );
}
