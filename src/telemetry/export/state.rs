//! What became of exported telemetry, for other threads.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

/// A kind of telemetry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Signal {
    /// Counted in spans.
    Traces,
    /// Counted in data points.
    Metrics,
    /// Counted in log records.
    Logs,
}

impl Signal {
    /// The number of signals.
    pub const COUNT: usize = 3;
    /// All signals.
    pub const ALL: [Self; Self::COUNT] = [Self::Traces, Self::Metrics, Self::Logs];

    /// Returns the signal's name in URLs and names of files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Metrics => "metrics",
            Self::Logs => "logs",
        }
    }
}

/// What became of the telemetry for each destination. The telemetry thread writes, others read.
#[derive(Default, Debug)]
pub(crate) struct ExportState {
    /// What was sent to a collector.
    pub collector: Arc<DestinationState>,
    /// What was written to files.
    pub files: Arc<DestinationState>,
}

/// What became of the telemetry for one destination.
#[derive(Default, Debug)]
pub(crate) struct DestinationState {
    signals: [SignalCounts; Signal::COUNT],
    /// Attempts repeated after a failure.
    pub retries: AtomicU64,
    /// Requests that are waiting.
    pub queued_requests: AtomicU64,
    /// Bytes of the requests that are waiting.
    pub queued_bytes: AtomicU64,
    activity: Mutex<Activity>,
}

/// The fate of one signal's spans, data points or log records. Each is in one of them at most once it left the queue.
#[derive(Default, Debug)]
pub(crate) struct SignalCounts {
    /// Accepted by the destination.
    pub exported: AtomicU64,
    /// Dropped because the queue was full.
    pub dropped: AtomicU64,
    /// Given up after failures, or left over at the end.
    pub failed: AtomicU64,
    /// Rejected by the collector, which accepted the rest of the request.
    pub rejected: AtomicU64,
}

/// What a destination is doing.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) enum Activity {
    /// It is not used.
    #[default]
    Off,
    /// There is nothing to send.
    Idle,
    /// A request is being sent.
    Sending,
    /// The last attempt failed.
    Failing {
        /// The first failure since the last success.
        since: SystemTime,
        /// The last failure.
        why: String,
    },
}

impl DestinationState {
    /// Returns the counts of one signal.
    pub fn of(&self, signal: Signal) -> &SignalCounts {
        &self.signals[signal as usize]
    }

    /// Returns what the destination is doing.
    pub fn activity(&self) -> Activity {
        self.activity.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes what the destination is doing; but it goes on failing until [`DestinationState::succeeded`].
    pub(super) fn turn(&self, activity: Activity) {
        let mut current = self.activity.lock().unwrap_or_else(PoisonError::into_inner);
        if !matches!(*current, Activity::Failing { .. }) {
            *current = activity;
        }
    }

    /// Ends a failure. Returns whether there was one.
    pub(super) fn succeeded(&self) -> bool {
        let mut current = self.activity.lock().unwrap_or_else(PoisonError::into_inner);
        let was_failing = matches!(*current, Activity::Failing { .. });
        *current = Activity::Sending;
        was_failing
    }

    /// Reports a failure. Returns whether it is the first since the last success.
    pub(super) fn failed(&self, why: &str) -> bool {
        let mut current = self.activity.lock().unwrap_or_else(PoisonError::into_inner);
        let earlier = match &*current {
            Activity::Failing { since, .. } => Some(*since),
            _ => None,
        };
        let since = earlier.unwrap_or_else(SystemTime::now);
        *current = Activity::Failing { since, why: why.to_owned() };
        earlier.is_none()
    }
}

impl SignalCounts {
    pub(super) fn add(count: &AtomicU64, amount: u64) {
        count.fetch_add(amount, Ordering::Relaxed);
    }
}
