//! Properties of whole requests, over generated conversations of both dialects.

mod conversation;
mod prefix;
mod untouched;
