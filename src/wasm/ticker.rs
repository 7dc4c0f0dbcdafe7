//! Ends the slices of guests: a thread that counts the epochs of their engine.
//!
//! It sleeps while no guest is called, so that an idle router stays idle.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::sync::{Parker, Unparker};
use crossbeam::utils::CachePadded;
use wasmtime::Engine;

/// The length of an epoch.
pub(super) const EPOCH: Duration = Duration::from_millis(1);
/// Number of epochs without a call after which the thread sleeps, unless a call may last longer.
const EPOCHS_IDLE: u32 = 100;

#[derive(Default)]
struct State {
    /// Whether a guest was called since the last check.
    used: CachePadded<AtomicBool>,
    asleep: AtomicBool,
    stopped: AtomicBool,
    /// The maximum number of epochs that a call may last.
    longest_call: AtomicU32,
}

/// Counts epochs as long as it lives.
pub(super) struct Ticker {
    state: Arc<State>,
    bell: Unparker,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    pub fn start(engine: Engine) -> io::Result<Self> {
        let state = Arc::new(State::default());
        let parker = Parker::new();
        let bell = parker.unparker().clone();
        let seen = Arc::clone(&state);
        let thread = std::thread::Builder::new()
            .name("caxton-epochs".to_owned())
            .spawn(move || count(&engine, &seen, &parker))?;
        Ok(Self { state, bell, thread: Some(thread) })
    }

    /// Ensures that this many epochs are counted after a call.
    pub fn outlast(&self, epochs: u32) {
        self.state.longest_call.fetch_max(epochs, Ordering::SeqCst);
    }

    /// Ensures that epochs are counted for a guest about to be called.
    #[inline]
    pub fn touch(&self) {
        if !self.state.used.load(Ordering::Relaxed) {
            self.state.used.store(true, Ordering::SeqCst);
            if self.state.asleep.load(Ordering::SeqCst) {
                self.bell.unpark();
            }
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.state.stopped.store(true, Ordering::SeqCst);
        self.bell.unpark();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn count(engine: &Engine, state: &State, parker: &Parker) {
    let mut idle = 0;
    while !state.stopped.load(Ordering::SeqCst) {
        if state.used.swap(false, Ordering::SeqCst) {
            idle = 0;
        } else if idle < EPOCHS_IDLE.saturating_add(state.longest_call.load(Ordering::SeqCst)) {
            idle += 1;
        } else {
            state.asleep.store(true, Ordering::SeqCst);
            // A call after this check sees that the thread is asleep.
            if !state.used.load(Ordering::SeqCst) && !state.stopped.load(Ordering::SeqCst) {
                parker.park();
            }
            state.asleep.store(false, Ordering::SeqCst);
            continue;
        }
        parker.park_timeout(EPOCH);
        engine.increment_epoch();
    }
}
