//! OpenAI `POST /v1/chat/completions`, and the many servers that speak the same.
//!
//! **Invariant**: what a server adds to the dialect travels as it came; only usage that the client
//! had not asked for is taken out of a stream (properties in `dialect/stream.rs`).

pub mod error;
pub mod request;
pub mod response;
pub(super) mod stream;
