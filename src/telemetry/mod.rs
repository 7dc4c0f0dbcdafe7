//! What an operator sees of a router: metrics, traces, logs and health.
//!
//! The shards count, and pass on a compact record for each stage of the messages that are sampled; one telemetry thread
//! turns the records into latencies and spans, and exports them. Nothing here runs on a shard's thread but the copying
//! of records into a ring. Telemetry that finds no room is dropped and counted; a shard never waits for it.

mod assemble;
mod conventions;
mod executor;
mod exemplars;
pub(crate) mod export;
mod exporting;
pub(crate) mod exposition;
mod feed;
pub(crate) mod figures;
pub(crate) mod health;
pub(crate) mod latency;
pub(crate) mod logs;
mod metric;
mod metrics;
pub mod operators;
mod otlp;
mod otlp_metrics;
mod sampling;
mod spans;
pub(crate) mod state;

pub use assemble::{AttemptTrace, DeliveryEnd, DeliveryTrace, MessageTrace};
pub use caxton_shards::trace::{Admitted, Cause};
pub(crate) use executor::{TelemetryLaunch, TraceSink, start};
pub(crate) use exposition::{TextForm, expose};
pub(crate) use feed::{RecordFeed, feed};
pub(crate) use metric::Audience;
pub(crate) use sampling::{threshold, watching};
