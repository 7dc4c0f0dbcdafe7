//! Tests whether the router's threads can be started, by starting them: the limits are spread over the user's
//! processes, the control groups and the kernel, and only the kernel knows what is left.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// The stack of a waiting thread, in bytes.
const STACK_BYTES: usize = 64 << 10;

/// The number of threads that could be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ThreadProbe {
    /// The number requested; zero if it was not tried.
    pub wanted: u64,
    /// The number started.
    pub started: u64,
    /// The operating system's error number for the first failure.
    pub raw_os_error: Option<i32>,
}

/// Holds threads until it is opened.
#[derive(Default)]
struct Gate {
    open: Mutex<bool>,
    changed: Condvar,
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, bool> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pass(&self) {
        let mut open = self.lock();
        while !*open {
            open = self.changed.wait(open).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn open(&self) {
        *self.lock() = true;
        self.changed.notify_all();
    }
}

/// Starts this many threads at once, as far as possible, and ends them again.
pub fn probe_threads(wanted: u64) -> ThreadProbe {
    let gate = Arc::new(Gate::default());
    let mut threads = Vec::new();
    let mut raw_os_error = None;
    for _ in 0..wanted {
        let waits = Arc::clone(&gate);
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(move || waits.pass());
        match thread {
            Ok(thread) => threads.push(thread),
            Err(error) => {
                raw_os_error = error.raw_os_error();
                break;
            }
        }
    }
    gate.open();
    let started = threads.len() as u64;
    for thread in threads {
        let _ = thread.join();
    }
    ThreadProbe { wanted, started, raw_os_error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_that_can_be_started_are_counted() {
        assert_eq!(probe_threads(3), ThreadProbe { wanted: 3, started: 3, raw_os_error: None });
        assert_eq!(probe_threads(0), ThreadProbe::default());
    }
}
