//! Anthropic `POST /v1/messages` and `/v1/messages/count_tokens`.
//!
//! **Invariant**: thinking blocks are never read beyond their `type`, never marked, never altered
//! (rows in `request.rs`).

pub mod error;
pub mod request;
pub mod response;
pub(super) mod stream;
