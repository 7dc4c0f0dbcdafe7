//! Agents in WebAssembly: sandboxed, with limits on everything, and called on their shard like any other agent.
//!
//! A [`Sandbox`] holds what all guests share: the engine, the pool of instances, and the thread that ends their slices.
//! [`Sandbox::load`] checks and compiles a module into a [`Guest`], from which agents are created:
//!
//! - **Components** (`wit/agent.wit`, world `caxton:agent/agent@1.0.0`) are the convenient interface: one call per
//!   message, with typed parameters.
//! - **Raw modules** (see [`raw`]) are the fast interface: many messages per call, in linear memory.
//!
//! The first bytes of a module show which of the two it is.
//!
//! # Invariants
//!
//! - A guest reaches nothing but the router's functions, within its [`GuestLimits`] and [`Permissions`]. Of WASI it has
//!   what it was granted by name: never more than clocks, random numbers and lines in its log.
//! - What it sends and stores takes effect when its message was handled, and not at all if that failed.
//! - A guest that runs for longer than its slice is suspended, and continues once others had their turn; beyond its
//!   time limit for one message it traps. A trap is a failed attempt: the message is retried or is dead-lettered,
//!   and the agent is restarted within its restart policy.

mod bounds;
mod cache;
mod clock;
mod component;
mod deployment;
mod encode;
mod execution;
#[cfg(feature = "telemetry")]
pub(crate) mod figures;
mod guest;
mod host;
mod log;
mod manifest;
mod plugin;
pub mod raw;
mod sandbox;
#[cfg(feature = "store")]
mod states;
mod ticker;
mod turns;
mod wasi;

pub use crate::config::{Grant, Grants, OnFailure};
#[cfg(feature = "store")]
pub use crate::store::directory::STATES_FILE;
pub use bounds::ExcessError;
pub use deployment::{DeployError, Deployment, State, Strategy};
pub use encode::{ROUTING_WIT, WIT, component_of};
pub use guest::{Guest, GuestError, GuestKind, Problem};
pub use host::{GuestLimits, Permissions, TIMER_ONTOLOGY};
pub use log::{LINES_WAITING_MAX, LogLevel, LogLine};
pub use manifest::{Manifest, ManifestError};
pub use plugin::{Plugin, PluginFigures, PluginsError};
pub use sandbox::{Sandbox, SandboxError};
#[cfg(feature = "store")]
pub(crate) use states::copy as copy_states;
#[cfg(feature = "store")]
pub use states::{GuestStates, StatesError};
