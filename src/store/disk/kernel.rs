//! An `io_uring` and the bell that ends a wait in it; both belong to one thread.

#![allow(unsafe_code)] // The kernel receives addresses.

use io_uring::{IoUring, cqueue, opcode, squeue, types};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::task::Wake;
use std::time::Duration;

/// Maximum number of operations in flight, besides the one that waits for the bell.
pub(super) const OPERATIONS_MAX: u32 = 64;
/// The completion that reports that the bell was rung.
const RUNG: u64 = u64::MAX;
/// The event for which the bell is polled: readability.
const POLLIN: u32 = PollFlags::IN.bits() as u32;

/// The ring of one thread.
pub(super) struct Kernel {
    uring: IoUring,
    bell: Arc<WatchdogHandle>,
    /// Whether the kernel reports that the bell is rung.
    listens: bool,
    /// Whether the bell was rung since the last wait.
    rung: bool,
}

impl Kernel {
    /// Sets up the ring. Other threads end its waits with the bell.
    pub fn new(bell: Arc<WatchdogHandle>) -> io::Result<Self> {
        // One thread submits. Completions must appear in memory without a system call, so their work must not be
        // deferred to the thread's next one (no COOP_TASKRUN, no DEFER_TASKRUN).
        let uring = IoUring::builder()
            .setup_single_issuer()
            .build(OPERATIONS_MAX)
            .or_else(|_| IoUring::builder().build(OPERATIONS_MAX))?;
        Ok(Self { uring, bell, listens: false, rung: false })
    }

    /// Puts an operation into the queue. Returns whether there was room.
    ///
    /// # Safety
    ///
    /// The descriptor and the bytes that the entry points to must stay open, unmoved and untouched until its completion
    /// was collected, or forever if it never is.
    #[must_use]
    pub unsafe fn push(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: what the entry points to stays valid for long enough, as the caller promises.
        unsafe { self.uring.submission().push(entry) }.is_ok()
    }

    /// Submits the queue. An operation that the kernel does not accept now is submitted by a later call.
    pub fn submit(&mut self) {
        if !self.uring.submission().is_empty() {
            let _ = self.uring.submit();
        }
    }

    /// Passes completions to `take`: the operation, and its result. Returns whether there were any, including the bell.
    pub fn collect(&mut self, mut take: impl FnMut(u64, io::Result<usize>)) -> bool {
        let mut any = false;
        for completion in self.uring.completion() {
            any = true;
            if completion.user_data() == RUNG {
                self.rung = true;
                self.listens = cqueue::more(completion.flags());
                continue;
            }
            let result = completion.result();
            take(
                completion.user_data(),
                usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(result.wrapping_neg())),
            );
        }
        any
    }

    /// Whether there are completions to collect.
    pub fn has_completions(&mut self) -> bool {
        !self.uring.completion().is_empty()
    }

    /// Sleeps until there are completions, the bell is rung, or, if there is a timeout, for this long. Returns at once
    /// if the bell was rung since the last wait.
    ///
    /// # Errors
    ///
    /// The kernel does not let the thread wait.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let mut waited = Ok(0);
        if !self.rung {
            if !self.listens {
                let entry = opcode::PollAdd::new(types::Fd(self.bell.0.as_raw_fd()), POLLIN).multi(true).build();
                // SAFETY: the entry points to nothing, and its descriptor is the ring's own.
                self.listens = unsafe { self.push(&entry.user_data(RUNG)) };
            }
            waited = match timeout.map(types::Timespec::from) {
                Some(timespec) => {
                    self.uring.submitter().submit_with_args(1, &types::SubmitArgs::new().timespec(&timespec))
                }
                None => self.uring.submit_and_wait(1),
            };
        }
        self.rung = false;
        match waited {
            // A timeout or a signal counts as a completion: the caller checks again either way.
            Err(error) if !matches!(Errno::from_io_error(&error), Some(Errno::TIME | Errno::INTR)) => Err(error),
            _ => Ok(()),
        }
    }
}

/// Ends a wait before anything is complete.
pub(super) struct WatchdogHandle(OwnedFd);

impl WatchdogHandle {
    pub fn new() -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)))
    }

    /// Sleeps until it is rung, or for this long: for a thread without a ring. Returns at once if it was rung since the
    /// last such wait.
    pub fn wait(&self, timeout: Duration) {
        let timeout = Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        // A signal counts as a timeout.
        let _ = poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&timeout));
        // If it was not rung since the last time there is nothing to read.
        let _ = rustix::io::read(&self.0, &mut [0_u8; size_of::<u64>()]);
    }
}

impl Wake for WatchdogHandle {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // This can fail only after 2^64 rings.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }
}
