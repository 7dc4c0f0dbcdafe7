//! The deterministic engine of one shard.
//!
//! The engine is pure: it has no clock, I/O, threads or random source. Time and input are arguments, so production,
//! simulation and fuzzing run the same code.
//!
//! Start reading at [`shard::Shard::step`], which follows a message from admission to settlement.

#![cfg_attr(test, allow(clippy::unwrap_used))] // Tests fail by panicking.

mod base;
pub mod codec;
mod conversation;
pub mod dead_letter;
pub mod domain;
mod flow_control;
pub mod journal;
mod mailbox;
pub mod management;
pub mod mesh;
pub mod message;
mod outcome;
#[cfg(feature = "planted-bugs")]
pub mod planted;
#[cfg(not(feature = "planted-bugs"))]
mod planted;
pub mod protocol;
mod replies;
pub mod roles;
pub mod routing;
pub mod shard;
pub mod sim;
pub mod stats;
pub mod supervision;
pub mod trace;

/// The agent trait, the context passed to handlers, and agent registration.
pub mod agent {
    pub use crate::shard::agent::registry::{AGENTS_MAX, AgentIndex};
    pub use crate::shard::agent::tombstones::FORMER_AGENTS_MAX;
    pub use crate::shard::agent::*;
    pub use crate::shard::path::dispatch::Batch;
}

/// Requests to a shard, its responses and reports, and its errors.
pub mod api {
    pub use crate::conversation::*;
    pub use crate::flow_control::policy::OverflowPolicy;
    pub use crate::flow_control::room::ROOM_WAITERS_MAX;
    pub use crate::flow_control::stalled::STALLED_MAX;
    pub use crate::flow_control::wait_queues::CLOSED_RECEIVERS_MAX;
    pub use crate::mailbox::CONTROL_LANE_MAX;
    pub use crate::message::notice::{ROUTER_NAME, is_notice, processed_message, tells_that_time_is_up};
    pub use crate::outcome::*;
    pub use crate::replies::pending_replies::{OVERDUE_REPLIES_MAX, PENDING_REPLIES_ALIKE_MAX, PENDING_REPLIES_MAX};
    pub use crate::routing::plugins::{PLUGINS_MAX, RoutePlugin, Verdict};
    pub use crate::shard::control::admin::*;
    pub use crate::shard::control::lifecycle::*;
    pub use crate::shard::control::replay::*;
    pub use crate::shard::delivery_error::*;
    pub use crate::shard::details::*;
    pub use crate::shard::io::*;
    pub use crate::shard::links::OUTGOING_WAITING_MAX;
    pub use crate::shard::live_config::*;
    pub use crate::shard::path::overflow::*;
    pub use crate::shard::wanted::WANTED_MAX;
    pub use crate::stats::unfinished::*;
    pub use crate::supervision::retry::*;
}

/// Internals that the benchmarks measure.
#[doc(hidden)]
pub mod bench {
    pub use crate::base::timer_wheel::{TimerKey, TimerWheel};
}
