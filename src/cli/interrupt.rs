//! SIGTERM and SIGINT during a command: the first stops it in order, the second ends it at once.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use caxton_router::Router;
use caxton_router::router::CancelStart;
use caxton_router::signals::{Signal, Signals, end_at_once, left_behind};

/// Limits of `--shutdown-timeout`, in seconds.
const TIMEOUT_SECONDS: std::ops::RangeInclusive<f64> = 0.0..=3_600.0;

/// Listens for signals while the command runs.
pub struct Interrupt {
    state: Arc<State>,
    cancel: CancelStart,
    _signals: Signals,
}

#[derive(Default)]
struct State {
    known: Mutex<Known>,
    changed: Condvar,
}

#[derive(Default)]
struct Known {
    signal: Option<Signal>,
    router: Option<Watched>,
    call: Option<Box<dyn Fn() + Send>>,
}

/// The running router, and the action when it has to stop.
struct Watched {
    router: Router,
    deadline: Duration,
    begin: Option<Box<dyn FnOnce() + Send>>,
}

impl Interrupt {
    /// Begins to listen.
    ///
    /// # Errors
    ///
    /// The operating system does not let the process listen.
    pub fn listen() -> Result<Self, String> {
        let state = Arc::new(State::default());
        let (first, second) = (Arc::clone(&state), Arc::clone(&state));
        let cancel = CancelStart::new();
        let cancelled = cancel.clone();
        let signals = Signals::listen(
            move |signal| {
                let mut known = first.lock();
                known.signal = Some(signal);
                cancelled.cancel();
                if let Some(watched) = &mut known.router {
                    watched.stop();
                }
                if let Some(call) = &known.call {
                    call();
                }
                drop(known);
                first.changed.notify_all();
            },
            move |signal| {
                let known = second.lock();
                let left = known.router.as_ref().map(|watched| left_behind(&watched.router.stats()));
                end_at_once(signal, &left.unwrap_or_else(|| "no router is running".to_owned()))
            },
        );
        let signals = signals.map_err(|error| format!("cannot listen for signals: {error}"))?;
        Ok(Self { state, cancel, _signals: signals })
    }

    /// Returns what cancels, at the first signal, a start that takes long because of a large data directory.
    pub fn cancel_start(&self) -> &CancelStart {
        &self.cancel
    }

    /// Calls this at the first signal, or at once if it has already arrived. It must not block.
    pub fn call(&self, call: impl Fn() + Send + 'static) {
        let mut known = self.state.lock();
        if known.signal.is_some() {
            call();
        }
        known.call = Some(Box::new(call));
    }

    /// Returns the signal that arrived, if any.
    pub fn signal(&self) -> Option<Signal> {
        self.state.lock().signal
    }

    /// Waits for this long, or until a signal arrives. Returns whether one has.
    pub fn wait(&self, longest: Duration) -> bool {
        let deadline = Instant::now() + longest;
        let mut known = self.state.lock();
        while known.signal.is_none() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            known = self.state.changed.wait_timeout(known, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Makes the first signal drain the router until the deadline, after calling `begin`; also if the signal has
    /// already arrived. Effective until the result is dropped.
    pub fn watch(&self, router: &Router, deadline: Duration, begin: impl FnOnce() + Send + 'static) -> Watch<'_> {
        let mut watched = Watched { router: router.clone(), deadline, begin: Some(Box::new(begin)) };
        let mut known = self.state.lock();
        if known.signal.is_some() {
            watched.stop();
        }
        known.router = Some(watched);
        Watch(self)
    }
}

/// As long as it lives, a signal stops a router.
pub struct Watch<'a>(&'a Interrupt);

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        let watched = self.0.state.lock().router.take();
        // The last handle may wait for the router's end, which must not delay the handling of a signal.
        drop(watched);
    }
}

impl Watched {
    /// Begins to stop the router, on a thread that waits for it.
    fn stop(&mut self) {
        if let Some(begin) = self.begin.take() {
            begin();
        }
        let (router, deadline) = (self.router.clone(), self.deadline);
        // Without a thread the command itself stops its router at its end.
        let _ = std::thread::Builder::new().name("caxton-shutdown".to_owned()).spawn(move || router.shutdown(deadline));
    }
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Parses `--shutdown-timeout`.
pub fn parse_timeout(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds) if TIMEOUT_SECONDS.contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err(format!("expected {} to {} seconds", TIMEOUT_SECONDS.start(), TIMEOUT_SECONDS.end())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_seconds_within_an_hour() {
        assert_eq!(parse_timeout("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_timeout("0"), Ok(Duration::ZERO));
        for text in ["-1", "NaN", "inf", "soon", "3601"] {
            assert!(parse_timeout(text).is_err_and(|error| error.contains("0 to 3600 seconds")), "{text}");
        }
    }
}
