//! Background work that a shutdown waits for.
//!
//! **Invariant**: nothing is spawned but here, so that stopping loses nothing (`clippy.toml` bans
//! `tokio::spawn`).

use std::future::Future;

use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Spawns tasks and knows when they are done.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
    hurry: CancellationToken,
    abandon: CancellationToken,
}

impl Tasks {
    /// Runs `work` in the background.
    pub fn spawn<F>(&self, work: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.tracker.spawn(work);
    }

    /// Runs work that may block on a thread of its own. It is done to its end, whether or not anybody
    /// still waits for it.
    pub async fn blocking<R>(
        &self,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> Result<R, JoinError>
    where
        R: Send + 'static,
    {
        self.tracker.spawn_blocking(work).await
    }

    /// Completes when everything has been asked to stop.
    pub async fn stopping(&self) {
        self.stop.cancelled().await;
    }

    /// Whether everything has been asked to stop.
    pub fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Asks everything to stop.
    pub fn stop(&self) {
        self.stop.cancel();
        self.tracker.close();
    }

    /// Asks for an end without patience for answers that are still open.
    pub fn hurry(&self) {
        self.hurry.cancel();
    }

    /// Completes when there is no more patience.
    pub async fn hurried(&self) {
        self.hurry.cancelled().await;
    }

    /// Lets go of whatever waits for a client.
    pub fn abandon(&self) {
        self.abandon.cancel();
    }

    /// Completes when clients are waited for no longer.
    pub async fn abandoned(&self) {
        self.abandon.cancelled().await;
    }

    /// Waits until all background work is done.
    pub async fn finished(&self) {
        self.tracker.wait().await;
    }
}
