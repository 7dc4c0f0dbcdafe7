//! The telemetry thread's results, for other threads.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use caxton_shards::mesh::doorbell::Doorbell;
use caxton_shards::trace::TraceIds;
use opentelemetry_proto::tonic::logs::v1::LogRecord;

use crate::telemetry::export::ExportState;
use crate::telemetry::latency::Latencies;
use crate::telemetry::logs::EXPORTED_WAITING_MAX;
use crate::telemetry::sampling::ALL;

/// Figures about telemetry itself, and the latencies measured so far. The telemetry thread writes, others read.
pub(crate) struct TelemetryState {
    latencies: Mutex<Arc<Latencies>>,
    /// Rung by shards when they have records.
    pub bell: Doorbell,
    /// Derives the ids of traces and spans.
    pub ids: TraceIds,
    /// Set when the telemetry thread is to take what there is, and end.
    pub stopping: AtomicBool,
    /// The part of messages that the shards watch, in 2^32nds.
    pub sampling_threshold: AtomicU64,
    /// The part of the traces sampled by peers that the shards watch, in 2^32nds.
    pub followed_threshold: AtomicU64,
    /// Whether there is a telemetry thread, so that messages are watched.
    pub has_thread: AtomicBool,
    /// Records that found no room on their shard or in its ring.
    pub records_dropped: AtomicU64,
    /// Records that the telemetry thread has taken.
    pub records_taken: AtomicU64,
    /// Messages that failed, expired or were slow and were not traced because there were too many.
    pub messages_unkept: AtomicU64,
    /// Messages of traces sampled by peers that were not traced because there were too many.
    pub messages_unfollowed: AtomicU64,
    /// Traces that their receiver had no room for.
    pub traces_dropped: AtomicU64,
    /// Messages whose end was not recorded in time.
    pub messages_given_up: AtomicU64,
    /// The channel for log records to the telemetry thread; empty unless logs are exported.
    pub log_records: (flume::Sender<LogRecord>, flume::Receiver<LogRecord>),
    /// What became of the exported telemetry.
    pub export: ExportState,
}

impl TelemetryState {
    /// Creates the figures of a router whose shards watch this part of their messages at first.
    pub fn new(sampling_threshold: u64) -> Self {
        Self {
            bell: Doorbell::new(),
            ids: TraceIds::new(salt()),
            stopping: AtomicBool::new(false),
            sampling_threshold: AtomicU64::new(sampling_threshold),
            followed_threshold: AtomicU64::new(ALL),
            has_thread: AtomicBool::new(false),
            latencies: Mutex::new(Arc::new(Latencies::new())),
            records_dropped: AtomicU64::new(0),
            records_taken: AtomicU64::new(0),
            messages_unkept: AtomicU64::new(0),
            messages_unfollowed: AtomicU64::new(0),
            traces_dropped: AtomicU64::new(0),
            messages_given_up: AtomicU64::new(0),
            log_records: flume::bounded(EXPORTED_WAITING_MAX),
            export: ExportState::default(),
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

/// Returns a number that differs from start to start.
fn salt() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(std::process::id())
}
