//! What one core of the router does.
//!
//! Everything here is pure: no clock, no I/O, no threads, no randomness of its own. Time and input are arguments, so
//! that production, simulation and fuzzing run the same code.
//!
//! Begin with [`shard::Shard::step`]: it tells the story of a message from top to bottom.

#![cfg_attr(test, allow(clippy::unwrap_used))] // A test fails by panicking.

pub(crate) mod base;
pub mod codec;
pub mod conversation;
pub mod dead_letter;
pub mod domain;
pub(crate) mod journal;
pub mod mailbox;
pub mod management;
pub mod mesh;
pub mod message;
pub(crate) mod outcome;
#[cfg(feature = "planted-bugs")]
pub mod planted;
#[cfg(not(feature = "planted-bugs"))]
mod planted;
pub mod protocol;
pub(crate) mod replies;
pub mod roles;
pub(crate) mod routing;
pub mod shard;
pub mod sim;
pub(crate) mod stats;
pub mod supervision;

// The names by which others know what has moved.
pub use base::timer_wheel as timer;
pub use codec::sl;
pub use journal::{frame, record};
pub use mesh::{doorbell, ring};
pub use replies::pending_replies as question;
pub use routing::{capabilities as capability, partition, rules};
pub use shard::agent::{self, registry, tombstones as former};
pub use shard::control::{
    admin as oversight, backpressure as stall, conformance, lifecycle, plugins as plugin, replay, restore as recovery,
    retry as failure_handler, stop as remains,
};
pub use shard::path::{dispatch, overflow, settle as notice};
pub use shard::{io as interface, shard_frame as crossing};
pub use stats::{account, calling};
pub use supervision::breaker;
