//! Waiting: poll until something holds, or fail with its name at the deadline.

use std::thread;
use std::time::{Duration, Instant};

/// The deadline for what should happen soon, with room for a slow machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Returns how long to wait until the next look: longer and longer, for a look costs as much as a login, and others work
/// meanwhile.
fn pause(start: Instant) -> Duration {
    (start.elapsed() / 5).clamp(Duration::from_millis(2), Duration::from_millis(250))
}

/// Polls `holds` until it is true; panics with `what` at the deadline.
pub async fn eventually(what: &str, deadline: Duration, mut holds: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !holds().await {
        assert!(
            start.elapsed() < deadline,
            "not within {deadline:?}: {what}"
        );
        tokio::time::sleep(pause(start)).await;
    }
}

/// Does as [`eventually`] for what isn't async.
pub fn eventually_blocking(what: &str, deadline: Duration, holds: impl FnMut() -> bool) {
    assert!(
        holds_within(deadline, holds),
        "not within {deadline:?}: {what}"
    );
}

/// Polls `holds` until it is true, or returns false at the deadline.
pub fn holds_within(deadline: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    loop {
        if holds() {
            return true;
        }
        if start.elapsed() >= deadline {
            return false;
        }
        thread::sleep(pause(start));
    }
}
