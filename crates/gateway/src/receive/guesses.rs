//! Slows down whoever tries secrets: a wrong one is answered late, and few wait at once.
//!
//! **Invariant**: only wrong secrets wait here, and however many are tried, no more than the places
//! wait at once (test `guesses_wait_and_few_at_once`).

use std::time::Duration;

use policy::refusal::{Reason, Refusal};
use tokio::sync::Semaphore;

/// 1 s: by then, every guess that waited is answered.
const RETRY_AFTER_S: u64 = 1;

/// Where wrong secrets wait for their answer.
#[derive(Debug)]
pub struct Guesses {
    places: Semaphore,
    delay: Duration,
}

impl Guesses {
    /// So many may wait at once, each for `delay`.
    pub const fn new(places: usize, delay: Duration) -> Self {
        Self {
            places: Semaphore::const_new(places),
            delay,
        }
    }

    /// Waits, and gives back what the guess is told: `refusal`, or at once that there are too many.
    pub async fn answer(&self, refusal: Refusal) -> Refusal {
        let Ok(place) = self.places.try_acquire() else {
            let message = "too many wrong secrets at once; check yours, then try again";
            let mut refusal = Refusal::new(Reason::RateLimited, message);
            refusal.retry_after_s = Some(RETRY_AFTER_S);
            return refusal;
        };
        tokio::time::sleep(self.delay).await;
        drop(place);
        refusal
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::future::join_all;
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn guesses_wait_and_few_at_once() {
        let delay = Duration::from_millis(500);
        let guesses = Guesses::new(2, delay);
        let wrong = Refusal::new(Reason::Unauthenticated, "wrong");
        for _ in 0..2 {
            let begun = Instant::now();
            let answers = join_all((0..4).map(|_| async {
                let refusal = guesses.answer(wrong.clone()).await;
                (refusal.reason, begun.elapsed())
            }));
            let late = (Reason::Unauthenticated, delay);
            let at_once = (Reason::RateLimited, Duration::ZERO);
            assert_eq!(answers.await, [late, late, at_once, at_once]);
        }
    }
}
