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
//! Begin with [`Router`], and with [`prelude`] for what most programs use. The [`manual`] has a tutorial and a chapter for each subject.
//!
//! # Cargo features
//!
//! All are on by default. Programs that embed the router need no `cli`; see [`manual::embedding`].
//!
//! - `store`: durable messages, conversations and agents.
//! - `wasm`: agents and routing plugins in WebAssembly.
//! - `telemetry`: metrics, traces, logs and health.
//! - `serve`: the doors for agents and clients outside the process, with the three above.
//! - `cli`: the command `caxton`, with all of these.

mod call;
mod clock;
#[cfg(feature = "cluster")]
pub mod cluster;
pub mod config;
mod deadline;
pub mod doctor;
mod drive;
#[cfg(feature = "telemetry")]
mod edge;
#[cfg(feature = "store")]
mod journal_driver;
mod management;
pub mod manual;
pub mod router;
mod shard_handle;
pub mod signals;
#[cfg(feature = "store")]
pub mod store;
#[cfg(feature = "telemetry")]
pub mod telemetry;
#[cfg(feature = "wasm")]
pub mod wasm;
mod watchdog;

pub use caxton_shards::agent::{Agent, Context, Outcome, Registration};
pub use caxton_shards::message::{AgentId, Message, Performative};
pub use config::Config;
pub use router::{Inbox, Router};

pub use caxton_shards::{codec, domain, protocol, roles};

/// What most programs use: `use caxton_router::prelude::*;`.
pub mod prelude {
    pub use caxton_shards::domain::{AgentName, CapabilityName};

    pub use crate::{Agent, AgentId, Config, Context, Inbox, Message, Outcome, Performative, Registration, Router};
}

/// Agents: their handlers, their registration, their life cycle and their supervision.
pub mod agent {
    pub use crate::router::lifecycle::{AgentCursor, AgentCursorError, AgentPage};
    pub use caxton_shards::agent::{
        AGENTS_MAX, Agent, Batch, Context, FORMER_AGENTS_MAX, Factory, Failure, Outcome, Polled, Registration,
        Supervision,
    };
    pub use caxton_shards::api::{
        AgentFilter, AgentKind, AgentState, AgentView, Decision, Drained, FailedAttempt, FailureCause, FailureHandler,
        OverflowPolicy, RETRY_DELAY_MS_MAX, RETRY_DELAY_MS_MIN, StopReason,
    };
    pub use caxton_shards::supervision::RestartPolicy;
    pub use caxton_shards::supervision::breaker::{BreakerPolicy, BreakerState};
}

/// Open conversations and their history. Their protocols are in [`protocol`].
pub mod conversation {
    pub use caxton_shards::api::{
        ConversationFilter, ConversationSummary, ConversationView, HistoryEntry, PARTICIPANTS_NAMED_MAX,
    };

    pub use crate::router::conversations::{ConversationCursor, ConversationCursorError, ConversationPage};
}

/// Messages: how they are built and what they consist of. Their forms as text and bytes are in [`codec`].
pub mod message {
    pub use caxton_shards::api::{ROUTER_NAME, is_notice};
    pub use caxton_shards::message::*;
}

/// Dead letters: messages that were given up, and how they are found and sent again.
pub mod dead_letter {
    pub use caxton_shards::api::REPLAYS_MAX;
    pub use caxton_shards::dead_letter::{
        DeadLetter, DeadLetterFilter, DeadLetterId, DeadLetterReason, LETTERS_SEARCHED_MAX,
    };

    pub use crate::router::dead_letters::{DeadLetterCursor, DeadLetterPage, ReplaySummary};
}

/// Why calls of the router fail, and why messages do.
pub mod error {
    pub use caxton_shards::api::{
        AskError, DeliveryError, FailureReason, LifecycleError, RegistrationError, ReplayError, SendError,
        SendErrorKind, UnresponsiveError,
    };
    pub use caxton_shards::codec::text::{ParseError, ParseErrorKind};
    pub use caxton_shards::domain::{DomainError, DomainErrorKind};
    pub use caxton_shards::message::{JsonError, MessageError};

    #[cfg(feature = "telemetry")]
    pub use crate::edge::ListenError;
    pub use crate::router::StartError;
    pub use crate::router::error::{BatchError, CallError, WouldDeadlockError};
    pub use crate::router::inbox::ReceiveError;
    pub use crate::router::reconfigure::TooManyRulesError;
    pub use crate::router::reload::ReloadError;
}

/// What a router reports while it runs.
pub mod event {
    pub use caxton_shards::api::{Event, EventDetail, JournalCondition};

    pub use crate::router::events::{EVENTS_WAITING_MAX, Events};
}

/// The health of a running router: see [`Router::health`].
#[cfg(feature = "telemetry")]
pub mod health {
    pub use crate::telemetry::health::{ComponentHealth, Health, Phase, Status};
}

/// The doors through which agents and clients outside the process reach a router.
#[cfg(feature = "serve")]
pub mod serve {
    pub use crate::edge::doors::{
        CertificateError, Doors, DoorsError, DoorsReload, NewToken, Operation, TOKENS_MAX, TokensError,
    };
}

/// Figures of a running router, and the report of one that has stopped.
pub mod stats {
    pub use caxton_shards::api::{
        Conformance, ConsumerState, Ending, SLOW_CONSUMERS_MAX, SlowConsumer, Snapshot, Stage, Unfinished,
    };
    pub use caxton_shards::stats::Account;

    pub use crate::router::report::{Report, Stats};
    #[cfg(feature = "store")]
    pub use crate::router::store::ProjectionLag;
}

/// Logs, as events of the crate `tracing`: see [`manual::telemetry`].
#[cfg(feature = "telemetry")]
pub mod logs {
    pub use crate::telemetry::logs::limit::{RateLimit, SITES_MAX};
    pub use crate::telemetry::logs::writer::{LogWriter, escape, is_obeyed};
    pub use crate::telemetry::logs::{CLUSTER, EVENT, GUEST, LOG, RECORDS_WAITING_MAX, ROUTER};
}

/// How a message finds its receiver: the partition of agents among shards, and rules for messages that name no agent.
pub mod routing {
    pub use caxton_shards::routing::partition::{Partition, Placement, ShardIndex};
    pub use caxton_shards::routing::rules;
}

/// Virtual time: tests of agents, and the simulations of the engine.
pub mod sim {
    pub use caxton_shards::api::Input;
    pub use caxton_shards::sim::*;
}

/// The README's program is compiled with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
