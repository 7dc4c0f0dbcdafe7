//! Replies that agents expect by a deadline.

pub(crate) mod asks;
pub mod pending_replies;
