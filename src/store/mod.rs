//! What outlives the process: the journal of each shard, the disk that it is written to, and the database that shows it.
//!
//! A data directory looks like this:
//!
//! ```text
//! data/
//!   lock                 held while a router uses the directory
//!   manifest.toml        which generation holds, of how many shards, and the latest boot epoch
//!   gen-7/shard-0/0000000000000001.journal ...
//!   gen-7/shard-0/state.db      what operators can query: see [`projector`]
//! ```
//!
//! Every start reads the generation that the manifest names and writes what is left of it into a new one; when that is on
//! disk the manifest is replaced, and the old generation removed. So a start that is interrupted changes nothing.

pub mod backup;
pub mod directory;
pub mod disk;
pub mod inspect;
pub mod journal;
pub mod projector;
pub mod vfs;

pub use directory::{DataDirectory, Recovered, StoreError};
