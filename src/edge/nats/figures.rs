//! The figures of the door for clients of NATS. Every refusal and every reply that is dropped is counted by its reason.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// What clients did, and what became of it.
#[derive(Debug, Default)]
pub(crate) struct NatsFigures {
    /// Open connections.
    pub connections: AtomicU64,
    /// Connections that have ended, or were turned away.
    pub closed: ByReason,
    /// What clients published.
    pub published: Traffic,
    /// What was written for clients.
    pub delivered: Traffic,
    /// Publications and subscriptions that were refused.
    pub refused: ByReason,
    /// Replies that nobody gets: nothing is repeated.
    pub dropped: ByReason,
}

/// Messages, and the bytes of their headers and payloads.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    pub messages: AtomicU64,
    pub bytes: AtomicU64,
}

impl Traffic {
    fn add(&self, tally: &mut Tally) {
        if tally.messages > 0 {
            let Tally { messages, bytes } = std::mem::take(tally);
            self.messages.fetch_add(messages, Ordering::Relaxed);
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
    }
}

/// Messages and bytes that a connection has counted and not yet added.
#[derive(Debug, Default)]
pub(super) struct Tally {
    messages: u64,
    bytes: u64,
}

impl Tally {
    #[inline]
    pub fn count(&mut self, bytes: usize) {
        self.messages += 1;
        self.bytes += bytes as u64;
    }
}

impl NatsFigures {
    /// Adds what a connection has counted, and empties that.
    pub(super) fn add(&self, published: &mut Tally, delivered: &mut Tally) {
        self.published.add(published);
        self.delivered.add(delivered);
    }
}

/// Counts by reasons, of which there are as many as the code has words for.
#[derive(Debug, Default)]
pub(crate) struct ByReason(Mutex<BTreeMap<&'static str, u64>>);

impl ByReason {
    /// Counts one with this reason.
    pub fn count(&self, reason: &'static str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(reason).or_default() += 1;
    }

    /// Returns the counts of all reasons that there were.
    pub fn all(&self) -> Vec<(&'static str, u64)> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().map(|(reason, count)| (*reason, *count)).collect()
    }
}
