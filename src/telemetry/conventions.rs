//! The names of OpenTelemetry's semantic conventions that the router uses, and its own beside them.
//!
//! Those for messaging are still in development, so they may change with the crate; the router's own begin with
//! `caxton.` and stay.

pub(crate) use opentelemetry_semantic_conventions::attribute::CPU_MODE;
pub(crate) use opentelemetry_semantic_conventions::metric::{
    MESSAGING_CLIENT_CONSUMED_MESSAGES, MESSAGING_CLIENT_SENT_MESSAGES, MESSAGING_PROCESS_DURATION, PROCESS_CPU_TIME,
    PROCESS_MEMORY_USAGE, PROCESS_MEMORY_VIRTUAL, PROCESS_THREAD_COUNT, PROCESS_UNIX_FILE_DESCRIPTOR_COUNT,
    PROCESS_UPTIME,
};

/// The name of the instrumentation scope.
pub(crate) const SCOPE: &str = "caxton";
