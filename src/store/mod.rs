//! Durable state: the journal of each shard, the disk that it is written to, and the database that shows it.
//!
//! A data directory looks like this:
//!
//! ```text
//! data/
//!   lock                 held while a router uses the directory; identifies the directory
//!   manifest.toml        the current generation, its shards, and which others may exist: see [`manifest`]
//!   gen-7/shard-0/catalogue     which segments the journal has, and how far it has come
//!   gen-7/shard-0/0000000000000001.journal ...
//!   gen-7/shard-0/attempt       which durable message a handler is processing: see [`attempt`]
//!   gen-7/shard-0/state.db      what operators can query: see [`projector`]
//! ```
//!
//! Every start compares the contents with the manifest, reads the current generation, and writes what is left of it
//! into a new one; once that is on disk the manifest is replaced. The old generation is kept until the router stops
//! cleanly. An interrupted start changes nothing, and a start that finds something missing or unknown removes nothing.

pub(crate) mod attempt;
pub mod backup;
pub mod clock;
pub mod directory;
pub mod disk;
pub(crate) mod files;
pub mod inspect;
pub mod journal;
pub mod manifest;
pub(crate) mod presence;
pub mod projector;
pub mod recover;
pub(crate) mod sizing;
pub mod survey;
pub mod vfs;

pub use directory::{DataDirectory, Recovered, StoreError};
