//! The monotonic clock that this process shares with `mock-upstream`.
//!
//! **Invariant**: a moment here and one in a streamed `@<nanos>@` stamp are on one scale.

use std::time::Duration;

/// A second, in this clock's unit.
const SECOND_NS: f64 = 1e9;

/// Nanoseconds on `CLOCK_MONOTONIC`.
pub fn now_ns() -> u64 {
    let mut t = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut t) };
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

/// Seconds as nanoseconds.
pub fn nanos(seconds: f64) -> u64 {
    (seconds * SECOND_NS) as u64
}

/// How long it is until then; nothing if it is past.
pub fn until(at_ns: u64) -> Option<Duration> {
    let left = at_ns.saturating_sub(now_ns());
    (left > 0).then(|| Duration::from_nanos(left))
}

/// Waits in a task.
pub async fn sleep_until(at_ns: u64) {
    if let Some(left) = until(at_ns) {
        tokio::time::sleep(left).await;
    }
}
