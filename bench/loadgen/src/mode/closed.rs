//! `closed` and `stream`: one call after another, each as soon as the one before is over.
//!
//! **Invariant**: the time that a connection takes to open is no part of a call's.

use super::call::Client;
use super::{Live, Window};
use crate::clock::now_ns;
use crate::options::Options;
use crate::record::Record;

/// Calls until the window is over.
pub(super) async fn run(options: &Options, window: Window, live: &Live) -> Record {
    let mut client = Client::new(options, window, live);
    while now_ns() < window.to_ns {
        if client.is_apart() && client.connect().await.is_err() {
            continue;
        }
        client.call(now_ns()).await;
    }
    client.record
}
