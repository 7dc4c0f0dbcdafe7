//! Replies that agents expect by a deadline.

pub mod pending_replies;
