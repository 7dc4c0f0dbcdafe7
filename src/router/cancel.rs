//! Cancellation of a start in progress.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Cancels a [`start`](super::RouterBuilder::start) from another thread, for a process that is asked to exit while it
/// starts. Clones cancel the same start.
///
/// A start reads and rewrites everything that an earlier run left, which can take long. A cancelled start removes what
/// it has written, leaves the earlier state unchanged, and returns
/// [`StartError::Cancelled`](super::StartError::Cancelled).
#[derive(Clone, Debug, Default)]
pub struct CancelStart(Arc<AtomicBool>);

impl CancelStart {
    /// Creates a switch for one or more starts.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancels the start. A completed start is not affected.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether the start was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}
