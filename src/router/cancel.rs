//! Ending a start that is not complete yet.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Cancels a [`start`](super::RouterBuilder::start) from another thread: for a process that is asked to end while it starts. Clones
/// cancel the same start.
///
/// A start reads and writes anew everything that an earlier run left, which can take long. When it is cancelled it removes what
/// it has written, leaves what the earlier run left as it was, and returns [`StartError::Cancelled`](super::StartError::Cancelled).
#[derive(Clone, Debug, Default)]
pub struct CancelStart(Arc<AtomicBool>);

impl CancelStart {
    /// A switch for one start, or several.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancels the start. One that is complete is not affected.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether it was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}
