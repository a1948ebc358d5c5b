//! Whole replays on generated traffic: what the cache lever costs and saves on each kind of cache.

mod binding;
mod bodies;
mod loops;
mod traffic;
