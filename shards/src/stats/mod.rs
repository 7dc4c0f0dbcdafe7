//! Counters and statistics.

pub(crate) mod account;
pub(crate) mod calling;

pub use account::Account;
pub use calling::Calling;
