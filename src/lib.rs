//! A message router for multi-agent systems: FIPA-ACL between native, sandboxed and outside agents, one shard per core.
//!
//! # The way of a message
//!
//! 1. **Admit.** An embedder's [`Router::send`](router::Router::send) puts a message into the channel of its sender's
//!    shard; an agent's handler sends through its [`Context`].
//! 2. **Turn.** The shard's thread (`drive.rs`) takes it into the next [`Shard::step`](caxton_shards::shard::Shard::step),
//!    which assigns an id and counts it as accepted.
//! 3. **Route.** The receiver's shard follows from a hash of its name; on another shard, the message is copied into the
//!    ring between the two, for one credit. Its conversation is checked on the initiator's shard.
//! 4. **Deliver.** It waits in the receiver's mailbox until the run queue comes to that agent.
//! 5. **Settle.** The handler answers done, failed or suspended; the message is counted once as processed,
//!    dead-lettered or expired, and where it was not processed its sender hears why.
//!
//! Everything from step 2 on is the pure crate [`caxton_shards`]; this crate is what touches the world.
//!
//! The [`manual`] has a tutorial and a chapter for each subject.
//!
//! # Cargo features
//!
//! All are on by default. Programs that embed the router need no `cli`; see [`manual::embedding`].
//!
//! - `store`: durable messages, conversations and agents.
//! - `wasm`: agents and routing plugins in WebAssembly.
//! - `cli`: the command `caxton`, with `store` and `wasm`.

mod call;
pub mod config;
mod deadline;
pub mod doctor;
mod drive;
#[cfg(feature = "store")]
mod journal_driver;
mod management;
pub mod manual;
pub mod router;
mod shard_handle;
pub mod signals;
#[cfg(feature = "store")]
pub mod store;
#[cfg(feature = "wasm")]
pub mod wasm;
mod watchdog;

pub use caxton_shards::agent::Batch;
pub use caxton_shards::agent::{Agent, Context, Outcome, Polled, Registration, Supervision};
pub use caxton_shards::api::{AgentState, AgentView, Drained, LifecycleError, StopReason};
pub use caxton_shards::api::{AskError, Event, RegistrationError, SendError, SendErrorKind, Stage, UnresponsiveError};
pub use caxton_shards::api::{ConversationView, HistoryEntry};
pub use caxton_shards::api::{Decision, FailedAttempt, FailureCause, FailureHandler};
pub use caxton_shards::api::{DeliveryError, FailureReason, OverflowPolicy, is_notice};
pub use caxton_shards::api::{Place, Unfinished};
pub use caxton_shards::api::{REPLAYS_MAX, ReplayError};
pub use caxton_shards::codec;
pub use caxton_shards::dead_letter::{DeadLetter, DeadLetterFilter, DeadLetterId, DeadLetterReason};
pub use caxton_shards::domain;
pub use caxton_shards::message::{self, AgentId, Choice, ConversationId, Message, Performative, Reliability};
pub use caxton_shards::protocol;
pub use caxton_shards::roles;
pub use caxton_shards::routing::partition::{Partition, ShardIndex};
pub use caxton_shards::routing::rules;
pub use caxton_shards::sim;
pub use caxton_shards::supervision::RestartPolicy;
pub use caxton_shards::supervision::breaker::{BreakerPolicy, BreakerState};
pub use config::{Config, Preset};
pub use router::{Inbox, Report, Router, RouterBuilder, Stats};

/// The README's program is compiled with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
