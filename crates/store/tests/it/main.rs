//! All stores pass the shared suite; the file also survives kills, strangers and old age.
//!
//! **Invariant**: a test here either runs on every store or is about what only a file can do.

mod export;
mod kill;
mod migration;
mod shelves;
mod sqlite;

testkit::store_conformance!(memory, crate::shelves::MemoryShelf::default());
testkit::store_conformance!(file, crate::shelves::FileShelf::new());
testkit::store_conformance!(
    file_that_survives_power,
    crate::shelves::FileShelf::lasting(store::sqlite::Durability::Power)
);
