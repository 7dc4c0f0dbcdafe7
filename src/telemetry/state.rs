//! The telemetry thread's results, for other threads.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::telemetry::latency::Latencies;

/// Figures about telemetry itself, and the latencies measured so far. The telemetry thread writes, others read.
pub(crate) struct TelemetryState {
    latencies: Mutex<Arc<Latencies>>,
    /// Records that found their ring full.
    pub records_dropped: AtomicU64,
    /// Records that the telemetry thread has taken.
    pub records_taken: AtomicU64,
    /// Spans passed to an exporter.
    pub spans_exported: AtomicU64,
    /// Spans, metrics or log records that an exporter gave up.
    pub export_failures: AtomicU64,
    /// The current sampling ratio, in millionths.
    pub sampling_millionths: AtomicU64,
}

impl TelemetryState {
    pub fn new() -> Self {
        Self {
            latencies: Mutex::new(Arc::new(Latencies::new())),
            records_dropped: AtomicU64::new(0),
            records_taken: AtomicU64::new(0),
            spans_exported: AtomicU64::new(0),
            export_failures: AtomicU64::new(0),
            sampling_millionths: AtomicU64::new(0),
        }
    }

    /// Returns the latencies as of the last publication.
    pub fn latencies(&self) -> Arc<Latencies> {
        Arc::clone(&self.latencies.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Publishes the latencies measured so far.
    pub fn publish(&self, latencies: Arc<Latencies>) {
        *self.latencies.lock().unwrap_or_else(PoisonError::into_inner) = latencies;
    }

    /// Adds to one of the figures.
    pub fn add(figure: &AtomicU64, amount: u64) {
        figure.fetch_add(amount, Ordering::Relaxed);
    }
}
