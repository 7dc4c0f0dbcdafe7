//! Supervision of failing agents: restarts, circuit breakers, and calls that may panic.

pub mod breaker;
mod breaker_gate;
mod panic;
mod restarts;
mod slow_calls;

pub(crate) use breaker_gate::{AgentBreaker, BreakerFigures, BreakerGate};
pub(crate) use panic::{catch_panic, drop_quietly};
pub use restarts::{RESTART_BACKOFF_MS_MAX, RestartPolicy};
pub(crate) use restarts::{RestartCause, Restarts};
pub(crate) use slow_calls::{Call, CallTimes};
pub use slow_calls::{Stopwatch, TIMED_TURNS};
