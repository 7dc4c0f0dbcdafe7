//! The stream of the router's events.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use caxton_shards::api::Event;

use super::calls::not_on_a_shard;
use super::inbox::ReceiveError;
use crate::deadline::{Deadline, within};
use crate::shard_handle::Shared;

/// Maximum number of events queued for a subscriber. Further ones are lost and counted.
pub const EVENTS_WAITING_MAX: usize = 4_096;

/// A subscription to a router's events. Dropping it ends it.
pub struct Events {
    pub(super) receiver: flume::Receiver<Event>,
    pub(super) lost: Arc<AtomicU64>,
    pub(super) shared: Arc<Shared>,
}

impl Events {
    /// Waits for the next event without a time limit.
    ///
    /// # Errors
    ///
    /// Returns an error if the router has stopped or the call was made on a shard's own thread.
    pub async fn next(&self) -> Result<Event, ReceiveError> {
        self.next_within(Duration::MAX).await
    }

    /// Waits up to `timeout` for the next event.
    ///
    /// # Errors
    ///
    /// Returns an error if none arrived in time, the router has stopped, or the call was made on a shard's own thread.
    pub async fn next_within(&self, timeout: Duration) -> Result<Event, ReceiveError> {
        not_on_a_shard()?;
        let event = within(&self.shared, 0, Deadline::after(timeout), self.receiver.recv_async()).await;
        event.ok_or(ReceiveError::TimedOut)?.map_err(|_| ReceiveError::Stopped)
    }

    /// Returns the next event if one is queued.
    pub fn try_next(&self) -> Option<Event> {
        self.receiver.try_recv().ok()
    }

    /// Returns the number of events lost because this subscriber was too slow.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        // The shards see that the receiver is gone.
        drop(std::mem::replace(&mut self.receiver, flume::bounded(0).1));
        self.shared.subscribers.forget_gone();
        for (shard, link) in self.shared.links.iter().enumerate() {
            link.attention.store(true, Ordering::Release);
            self.shared.ring(shard);
        }
    }
}
