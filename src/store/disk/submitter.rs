//! A thread that passes operations to the kernel in place of the thread that owns them.
//!
//! Submitting a write takes a shard several microseconds, on a virtual machine some tens of them, because the
//! hypervisor is involved. If a core is available for that, messages on the shard do not wait for it. The shard puts
//! operations into a queue and finds their results in another one; both are in memory, so neither needs a system call
//! unless the other side sleeps.

#![allow(unsafe_code)] // The kernel receives addresses.

use super::kernel::{Kernel, OPERATIONS_MAX, WatchdogHandle};
use caxton_shards::mesh::doorbell::Doorbell;
use core_affinity::CoreId;
use crossbeam::queue::ArrayQueue;
use io_uring::squeue;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long the thread polls for the next operation before it sleeps, once one is complete or when none is in flight: a
/// shard that writes continuously has the next write ready a few microseconds after the last one, and waking a thread
/// takes some tens of them.
const LINGER: Duration = Duration::from_micros(50);
/// The clock is read once in this many polls of the queue.
const LOOKS_PER_CLOCK_READ: u32 = 64;

/// State shared by the two threads. The queues have room for every operation in flight, so neither is ever full.
struct Exchange {
    orders: ArrayQueue<squeue::Entry>,
    outcomes: ArrayQueue<(u64, io::Result<usize>)>,
    /// Wakes the submitting thread.
    thread: Doorbell,
    /// Wakes the client thread.
    client: Doorbell,
    /// Whether no more operations follow.
    closed: AtomicBool,
}

/// The client's side. It must be [closed](Submitter::close) before what the operations point to is dropped.
pub(super) struct Submitter {
    exchange: Arc<Exchange>,
    handle: Option<JoinHandle<()>>,
    bell: Arc<WatchdogHandle>,
    waker: Waker,
}

impl Submitter {
    /// Starts the thread, on a core. Its client waits with this bell.
    ///
    /// # Errors
    ///
    /// The kernel refuses an `io_uring`, a descriptor or a thread.
    pub fn spawn(name: String, core: usize, bell: Arc<WatchdogHandle>) -> io::Result<Self> {
        let exchange = Arc::new(Exchange {
            orders: ArrayQueue::new(OPERATIONS_MAX as usize),
            outcomes: ArrayQueue::new(OPERATIONS_MAX as usize),
            thread: Doorbell::new(),
            client: Doorbell::new(),
            closed: AtomicBool::new(false),
        });
        let own_bell = WatchdogHandle::new()?;
        let shared = Arc::clone(&exchange);
        let (made, ring) = flume::bounded(1);
        let handle = thread::Builder::new().name(name).spawn(move || {
            core_affinity::set_for_current(CoreId { id: core });
            // The ring belongs to the thread that creates it.
            match Kernel::new(Arc::clone(&own_bell)) {
                Ok(kernel) => {
                    let _ = made.send(Ok(()));
                    serve(&shared, kernel, &Waker::from(own_bell));
                }
                Err(error) => _ = made.send(Err(error)),
            }
        })?;
        ring.recv().unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()))?;
        Ok(Self { exchange, handle: Some(handle), waker: Waker::from(Arc::clone(&bell)), bell })
    }

    /// Queues an operation. At most [`OPERATIONS_MAX`] are in flight; beyond that it returns false.
    ///
    /// # Safety
    ///
    /// As for [`Kernel::push`], with [`Submitter::collect`].
    #[must_use]
    pub unsafe fn push(&mut self, entry: &squeue::Entry) -> bool {
        self.exchange.orders.push(entry.clone()).is_ok()
    }

    /// Makes sure that the operations are submitted.
    pub fn submit(&mut self) {
        self.exchange.thread.ring();
    }

    /// Like [`Kernel::collect`].
    pub fn collect(&mut self, mut take: impl FnMut(u64, io::Result<usize>)) -> bool {
        let mut any = false;
        while let Some((token, result)) = self.exchange.outcomes.pop() {
            any = true;
            take(token, result);
        }
        any
    }

    /// Sleeps until there are results, the client's bell is rung, or for this long.
    pub fn wait(&mut self, timeout: Duration) {
        self.exchange.client.arm(&self.waker);
        if self.exchange.outcomes.is_empty() {
            self.bell.wait(timeout);
        }
        self.exchange.client.disarm();
    }

    /// Waits until all operations are done and can be collected. No operation may be queued afterwards.
    pub fn close(&mut self) {
        self.exchange.closed.store(true, Ordering::Release);
        self.exchange.thread.ring();
        if let Some(handle) = self.handle.take() {
            // If it panicked, some results never arrive.
            let _ = handle.join();
        }
    }
}

/// Runs the thread, until no more operations follow and all are done.
fn serve(exchange: &Exchange, mut kernel: Kernel, waker: &Waker) {
    let mut in_flight = 0;
    // An operation that the ring had no room for.
    let mut postponed = None;
    // Whether the next operation is likely to arrive soon.
    let mut expects = true;
    loop {
        // What was queued before the close is visible after it.
        let closed = exchange.closed.load(Ordering::Acquire);
        while in_flight < OPERATIONS_MAX
            && let Some(entry) = postponed.take().or_else(|| exchange.orders.pop())
        {
            // SAFETY: the client keeps what the entry points to unchanged until it has collected the result.
            if !unsafe { kernel.push(&entry) } {
                postponed = Some(entry);
                break;
            }
            in_flight += 1;
            expects = false;
        }
        kernel.submit();
        let before = in_flight;
        kernel.collect(|token, result| {
            in_flight -= 1;
            // There is room for every operation.
            let _ = exchange.outcomes.push((token, result));
        });
        if in_flight < before {
            expects = true;
            exchange.client.ring();
        } else if closed && in_flight == 0 && exchange.orders.is_empty() {
            return;
        } else if !(expects && !closed && comes_soon(exchange, &mut kernel)) {
            expects = false;
            exchange.thread.arm(waker);
            if exchange.orders.is_empty() && (in_flight > 0 || !exchange.closed.load(Ordering::Acquire)) {
                // If the kernel refuses, this continues polling.
                let _ = kernel.wait(None);
            }
            exchange.thread.disarm();
        }
    }
}

/// Polls for a while for an operation, or for a completion.
fn comes_soon(exchange: &Exchange, kernel: &mut Kernel) -> bool {
    let began = Instant::now();
    while began.elapsed() < LINGER {
        for _ in 0..LOOKS_PER_CLOCK_READ {
            if !exchange.orders.is_empty() || exchange.closed.load(Ordering::Relaxed) || kernel.has_completions() {
                return true;
            }
            std::hint::spin_loop();
        }
    }
    false
}
