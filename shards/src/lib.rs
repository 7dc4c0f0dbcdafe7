//! What one core of the router does.
//!
//! Everything here is pure: no clock, no I/O, no threads, no randomness of its own. Time and input are arguments, so
//! that production, simulation and fuzzing run the same code.
//!
//! Begin with [`shard::Shard::step`]: it tells the story of a message from top to bottom.

#![cfg_attr(test, allow(clippy::unwrap_used))] // A test fails by panicking.

pub mod account;
mod admission;
pub mod agent;
pub mod breaker;
pub mod calling;
pub mod capability;
pub mod conformance;
pub mod conversation;
pub mod crossing;
pub mod dead_letter;
mod deadlines;
mod delivery;
pub mod dispatch;
pub mod domain;
pub mod doorbell;
mod durable;
pub mod failure_handler;
pub mod former;
pub mod frame;
mod hashing;
pub mod interface;
pub mod lifecycle;
pub mod mailbox;
pub mod management;
mod membership;
pub mod mesh;
pub mod message;
mod notes;
pub mod notice;
pub mod overflow;
pub mod oversight;
pub mod partition;
#[cfg(feature = "planted-bugs")]
pub mod planted;
#[cfg(not(feature = "planted-bugs"))]
mod planted;
pub mod plugin;
pub mod protocol;
pub mod question;
pub mod record;
pub mod recovery;
pub mod registry;
pub mod remains;
pub mod replay;
pub mod ring;
pub mod roles;
mod routing;
pub mod rules;
pub mod shard;
pub mod sim;
pub mod sl;
mod slab;
pub mod stall;
pub mod supervision;
pub mod timer;
