//! The requests that wait for one destination.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Poll, Waker};
use std::time::Instant;

use bytes::Bytes;

use super::state::{DestinationState, Signal, SignalCounts};

/// A request as it is sent or written.
#[derive(Debug)]
pub(super) struct Entry {
    pub signal: Signal,
    /// The number of spans, data points or log records in it.
    pub items: u64,
    pub body: Bytes,
}

/// The bounds of a queue. The request being sent counts until its fate is known.
#[derive(Clone, Copy, Debug)]
pub(super) struct QueueLimits {
    pub requests: usize,
    pub bytes: usize,
}

/// A queue with one task that takes from its front.
pub(super) struct Queue {
    pub state: Arc<DestinationState>,
    limits: QueueLimits,
    entries: RefCell<VecDeque<Rc<Entry>>>,
    bytes: Cell<usize>,
    /// When the front is tried again, while it waits for that.
    retry_at: Cell<Option<Instant>>,
    /// Set when nothing more is added.
    closed: Cell<bool>,
    /// The task that sends, while it waits for an entry.
    sender: RefCell<Option<Waker>>,
    /// The task that waits for the end.
    flusher: RefCell<Option<Waker>>,
}

impl Queue {
    pub fn new(limits: QueueLimits, state: Arc<DestinationState>) -> Self {
        Self {
            state,
            limits,
            entries: RefCell::default(),
            bytes: Cell::new(0),
            retry_at: Cell::new(None),
            closed: Cell::new(false),
            sender: RefCell::default(),
            flusher: RefCell::default(),
        }
    }

    /// Whether a request of this size would be accepted.
    pub fn has_room_for(&self, bytes: usize) -> bool {
        self.entries.borrow().len() < self.limits.requests
            && self.bytes.get().checked_add(bytes).is_some_and(|sum| sum <= self.limits.bytes)
    }

    /// Adds a request, or drops it, and counts it then.
    pub fn push(&self, entry: Entry) {
        if !self.has_room_for(entry.body.len()) {
            SignalCounts::add(&self.state.of(entry.signal).dropped, entry.items);
            return;
        }
        self.bytes.set(self.bytes.get() + entry.body.len());
        self.entries.borrow_mut().push_back(Rc::new(entry));
        self.show();
        if let Some(waker) = self.sender.take() {
            waker.wake();
        }
    }

    /// Waits until there is a request, and returns the first without removing it; `None` at the end of a closed queue.
    pub async fn front(&self) -> Option<Rc<Entry>> {
        poll_fn(|context| {
            let front = self.entries.borrow().front().map(Rc::clone);
            if front.is_some() || self.closed.get() {
                return Poll::Ready(front);
            }
            *self.sender.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Ends the task that sends when it has sent what there is.
    pub fn close(&self) {
        self.closed.set(true);
        if let Some(waker) = self.sender.take() {
            waker.wake();
        }
    }

    /// Removes the first request.
    pub fn pop(&self) -> Option<Rc<Entry>> {
        let entry = self.entries.borrow_mut().pop_front();
        if let Some(entry) = &entry {
            self.bytes.set(self.bytes.get() - entry.body.len());
        }
        self.retry_at.set(None);
        self.show();
        self.wake_flusher();
        entry
    }

    pub fn is_empty(&self) -> bool {
        self.entries.borrow().is_empty()
    }

    /// Notes when the first request is tried again.
    pub fn retry_at(&self, retry_at: Instant) {
        self.retry_at.set(Some(retry_at));
        self.wake_flusher();
    }

    /// Waits until all is sent, or until it is clear that nothing more will be before the deadline. Returns whether all
    /// is sent. The caller stops waiting at the deadline.
    pub async fn flushed(&self, deadline: Instant) -> bool {
        poll_fn(|context| {
            if self.is_empty() {
                return Poll::Ready(true);
            }
            if self.retry_at.get().is_some_and(|at| at > deadline) {
                return Poll::Ready(false);
            }
            *self.flusher.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    fn wake_flusher(&self) {
        if let Some(waker) = self.flusher.take() {
            waker.wake();
        }
    }

    fn show(&self) {
        self.state.queued_requests.store(self.entries.borrow().len() as u64, Ordering::Relaxed);
        self.state.queued_bytes.store(self.bytes.get() as u64, Ordering::Relaxed);
    }
}
