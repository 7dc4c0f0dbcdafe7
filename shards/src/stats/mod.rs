//! Counters and statistics.

pub(crate) mod account;
pub(crate) mod calling;
pub(crate) mod ledger;
pub(crate) mod unfinished;

pub use account::Account;
pub use calling::Calling;
