//! The way of a message, in the order in which it passes.

mod admit;
mod converse;
mod deliver;
pub mod dispatch;
mod enqueue;
mod notify;
mod outbox;
pub mod overflow;
pub(crate) mod route;
mod schedule;
pub mod settle;
mod transfer;
