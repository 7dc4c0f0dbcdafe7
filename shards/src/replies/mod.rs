//! Answers that agents wait for.

pub mod pending_replies;
