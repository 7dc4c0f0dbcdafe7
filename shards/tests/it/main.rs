//! Tests of the shard, linked as one program with a module for each behaviour. To run one module: `cargo test -p
//! caxton-shards --test it delivery::`.
//!
//! Each test program costs a link after every change of the library, so a new test belongs here unless it needs its own
//! process: the random messages of `codec` fill the vocabulary of their process, and `ring_loom` and `planted` are
//! compiled with other flags.

#![allow(clippy::unwrap_used)] // Tests fail by panicking.

mod common;

mod breaker;
mod conversations;
mod dead_letters;
mod deadlines;
mod delivery;
mod durable;
mod expiry;
mod failure_handler;
mod failures;
mod handle_batch;
mod layers;
mod lifecycle;
mod management;
mod membership;
mod outside;
mod overflow;
mod protocols;
mod receipts;
mod reconfigure;
mod remote;
#[cfg(not(feature = "loom"))]
mod ring_stress;
mod roles;
mod room;
mod stop;
mod supervision;
mod surveys;
mod trace;
