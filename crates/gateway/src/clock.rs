//! Where the time comes from: the only place of the data path that looks at a clock.
//!
//! **Invariant**: everything else takes a `Clock` (`clippy.toml` bans the alternatives).

use policy::moment::Moment;

/// Tells the time.
pub trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> Moment;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one clock that others take as a parameter"
    )]
    fn now(&self) -> Moment {
        let elapsed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        // A clock before 1970 reads as 1970: prices then have no window and cost is unknown.
        Moment(elapsed.map_or(0, |elapsed| {
            u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
        }))
    }
}
