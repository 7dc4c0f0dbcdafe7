//! Stopping a router by signals: SIGTERM, as sent by service managers and container platforms, or SIGINT, as sent by a
//! terminal.
//!
//! The first signal requests a stop with time to drain; the second one without. A third ends the process as if there
//! were no handler, so that it can be ended in any state.
//!
//! Programs with nothing else to do at a signal call [`Router::shutdown_on_signal`]; [`Signals`] is for the others.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use caxton_router::Router;
//!
//! let router = Router::builder().start()?;
//! let ending = router.shutdown_on_signal(Duration::from_secs(20))?;
//! // Agents are registered, work goes on.
//! if let Some(ended) = ending.wait() {
//!     println!("{}: {}", ended.signal, ended.report);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fmt;
use std::io::{self, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Once};
use std::thread::JoinHandle;
use std::time::Duration;

use signal_hook::consts::signal::{SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::{Handle, Signals as Incoming};
use signal_hook::low_level::{exit, unregister};
use signal_hook::{SigId, flag};

use crate::router::Router;
use crate::router::report::{Report, Stats};

/// A signal that asks the process to end.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Signal {
    /// SIGTERM.
    Terminate,
    /// SIGINT, as sent by Ctrl-C.
    Interrupt,
}

impl Signal {
    /// Both signals.
    pub const ALL: [Self; 2] = [Self::Terminate, Self::Interrupt];

    /// Returns the signal's number.
    pub const fn number(self) -> i32 {
        match self {
            Self::Terminate => SIGTERM,
            Self::Interrupt => SIGINT,
        }
    }

    /// Returns the signal's name, such as `SIGTERM`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Terminate => "SIGTERM",
            Self::Interrupt => "SIGINT",
        }
    }

    /// Returns the exit status of a process ended by the signal before it was done: 128 plus the signal's number.
    pub const fn exit_status(self) -> i32 {
        128 + self.number()
    }

    fn of_number(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|signal| signal.number() == number)
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Makes a write beyond the limit on the size of files (`RLIMIT_FSIZE`, `ulimit -f`) fail with EFBIG, like a write to a
/// full disk. By default the kernel ends the process with SIGXFSZ.
///
/// This applies to the whole process permanently, and is done by every router with a store. No other signal is
/// affected, and an existing handler for this one is still called. If it is impossible, nothing changes.
pub fn survive_file_size_limit() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Having a handler is enough; the flag is not read.
        let _ = flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)));
    });
}

/// Listens for [`Signal`]s on its own thread, until it is dropped.
///
/// Several may listen in one process; each receives every signal. Once no listener is left, the two signals have no
/// effect at all: their former action is not restored. A process that is to end by them therefore keeps its listener.
pub struct Signals {
    handle: Handle,
    /// Set when the next signal has its default action.
    last: Arc<AtomicBool>,
    defaults: [SigId; Signal::ALL.len()],
    thread: Option<JoinHandle<()>>,
}

impl Signals {
    /// Calls `first` at the first signal and `second` at the second, both on the listening thread, where they may take
    /// locks and print like any other code. The second signal is noticed only once `first` has returned. Signals of the
    /// same kind at the same instant may count as one.
    ///
    /// # Errors
    ///
    /// The operating system does not let the process listen, or has no thread for it.
    pub fn listen(
        first: impl FnOnce(Signal) + Send + 'static,
        second: impl FnOnce(Signal) + Send + 'static,
    ) -> io::Result<Self> {
        // First of all, so that no signal is missed in between.
        let mut incoming = Incoming::new(Signal::ALL.map(Signal::number))?;
        let last = Arc::new(AtomicBool::new(false));
        let [terminate, interrupt] =
            Signal::ALL.map(|signal| flag::register_conditional_default(signal.number(), Arc::clone(&last)));
        let defaults = [terminate?, interrupt?];
        let handle = incoming.handle();
        let is_last = Arc::clone(&last);
        let thread = std::thread::Builder::new().name("caxton-signals".to_owned()).spawn(move || {
            let mut signals = incoming.forever().filter_map(Signal::of_number);
            let Some(signal) = signals.next() else { return };
            first(signal);
            let Some(signal) = signals.next() else { return };
            is_last.store(true, Ordering::SeqCst);
            second(signal);
        })?;
        Ok(Self { handle, last, defaults, thread: Some(thread) })
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.handle.close();
        for id in self.defaults {
            unregister(id);
        }
        // The callback of a signal may drop this.
        if let Some(thread) = self.thread.take().filter(|thread| thread.thread().id() != std::thread::current().id()) {
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Signals {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Signals").field("last", &self.last).finish_non_exhaustive()
    }
}

/// A router stopped by a signal.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The signal.
    pub signal: Signal,
    /// What the router did, and what was left unfinished.
    pub report: Report,
}

/// Stops a router at a signal: see [`Router::shutdown_on_signal`]. Dropping it ends the listening.
#[derive(Debug)]
#[must_use = "dropping it ends the listening"]
pub struct ShutdownOnSignal {
    ended: flume::Receiver<Ended>,
    _signals: Signals,
}

impl ShutdownOnSignal {
    /// Waits for the signal and for the router's end. Returns `None` if the router was dropped before the signal
    /// arrived.
    pub fn wait(&self) -> Option<Ended> {
        self.ended.recv().ok()
    }

    /// Like [`ShutdownOnSignal::wait`], for any executor.
    pub async fn ended(&self) -> Option<Ended> {
        self.ended.recv_async().await.ok()
    }
}

impl Router {
    /// Stops the router at the first SIGTERM or SIGINT, as [`Router::shutdown`] does with this deadline. A second one
    /// ends the process at once, with the signal's [exit status](Signal::exit_status), after writing to standard error
    /// what is left behind.
    ///
    /// The router is stopped by a separate thread, so nobody has to wait for it; to get the report, or to keep the
    /// process until the router has ended, call [`ShutdownOnSignal::wait`]. This is not a handle of the router: once
    /// all handles are dropped, the router ends.
    ///
    /// # Errors
    ///
    /// The operating system does not let the process listen, or has no thread for it. The router continues to run.
    pub fn shutdown_on_signal(&self, deadline: Duration) -> io::Result<ShutdownOnSignal> {
        let (asked, asks) = flume::bounded(1);
        let (ended_sender, ended) = flume::bounded(1);
        let router = self.downgrade();
        std::thread::Builder::new().name("caxton-shutdown".to_owned()).spawn(move || {
            let Ok(signal) = asks.recv() else { return };
            let stopped = router.upgrade().map(|router| router.shutdown(deadline));
            // Nobody may wait for it.
            if let Some(Ok(report)) = stopped {
                let _ = ended_sender.send(Ended { signal, report });
            }
        })?;
        let router = self.downgrade();
        let first = move |signal| {
            let _ = asked.send(signal);
        };
        let second = move |signal: Signal| {
            let left = router.upgrade().map_or_else(String::new, |router| left_behind(&router.stats()));
            end_at_once(signal, &left);
        };
        Ok(ShutdownOnSignal { ended, _signals: Signals::listen(first, second)? })
    }
}

/// Describes what a process leaves behind that ends before its router has stopped.
pub fn left_behind(stats: &Stats) -> String {
    let account = stats.account();
    format!(
        "{} queued calls and {} of {} accepted messages are left behind ({} processed, {} dead-lettered, {} expired)",
        stats.queued,
        stats.in_progress(),
        account.accepted,
        account.processed,
        account.dead_lettered,
        account.expired
    )
}

/// Ends the process with the signal's exit status, without waiting for anything, after writing `left` to standard
/// error.
pub fn end_at_once(signal: Signal, left: &str) -> ! {
    // Standard error may be closed.
    let _ = writeln!(io::stderr(), "{signal} again: ended at once: {left}");
    exit(signal.exit_status())
}
