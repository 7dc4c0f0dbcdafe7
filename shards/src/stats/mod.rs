//! What is counted and shown.

pub mod account;
pub mod calling;
