//! The way of a message, in the order in which it passes.

mod admit;
mod deliver;
pub mod dispatch;
pub mod overflow;
pub(crate) mod route;
pub mod settle;
