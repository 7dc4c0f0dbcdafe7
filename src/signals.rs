//! Stopping a router when the process is asked to end: by SIGTERM, as service managers and container platforms ask, or
//! by SIGINT, as a terminal does.
//!
//! The first signal is the request, and there is time to drain; the second says that there is none. A third ends the
//! process as if nobody listened, so that it can be ended whatever it is doing.
//!
//! Whoever has nothing else to do at a signal calls [`Router::shutdown_on_signal`]; [`Signals`] is for the others.
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

use crate::router::{Report, Router, Stats};

/// A signal that asks the process to end.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Signal {
    /// SIGTERM.
    Terminate,
    /// SIGINT, such as Ctrl-C sends.
    Interrupt,
}

impl Signal {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Terminate, Self::Interrupt];

    /// The signal's number.
    pub const fn number(self) -> i32 {
        match self {
            Self::Terminate => SIGTERM,
            Self::Interrupt => SIGINT,
        }
    }

    /// The signal's name, such as `SIGTERM`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Terminate => "SIGTERM",
            Self::Interrupt => "SIGINT",
        }
    }

    /// The exit status of a process that a signal ended before it was done: 128 and the signal's number.
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

/// Has a write beyond the limit on the size of files (`RLIMIT_FSIZE`, `ulimit -f`) fail with EFBIG, as one to a full disk fails. By
/// itself the kernel ends the process with SIGXFSZ.
///
/// This holds for the whole process and for ever, and is done by every router with a store. No other signal is touched, and a
/// handler for this one that was there before is called as well. Where it can not be done, all stays as it is.
pub fn survive_file_size_limit() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // A handler is enough; nobody looks at the flag.
        let _ = flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)));
    });
}

/// Listens for [`Signal`]s on a thread of its own, until it is dropped.
///
/// Several may listen in one process; each hears every signal. Once nobody listens any more, the two signals have no
/// effect at all: what they did before is not restored. So a process that is to end by them keeps its listener.
pub struct Signals {
    handle: Handle,
    /// The next signal does what it does where nobody listens.
    last: Arc<AtomicBool>,
    defaults: [SigId; Signal::ALL.len()],
    thread: Option<JoinHandle<()>>,
}

impl Signals {
    /// Calls `first` at the first signal and `second` at the second, both on the listening thread, where they may take
    /// locks and print like any other code. The second signal is noticed only once `first` has come back. Signals of
    /// the same kind at the same instant may count as one.
    ///
    /// # Errors
    /// The operating system does not let the process listen, or has no thread for it.
    pub fn listen(
        first: impl FnOnce(Signal) + Send + 'static,
        second: impl FnOnce(Signal) + Send + 'static,
    ) -> io::Result<Self> {
        // First of all, so that no signal goes unheard between the two.
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
        // What was called at a signal may be what drops this.
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

/// A router that was stopped by a signal.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Which.
    pub signal: Signal,
    /// What the router did, and what it had not finished.
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
    /// Waits for the signal and for the router's end. Nothing if the router was dropped before the signal came.
    pub fn wait(&self) -> Option<Ended> {
        self.ended.recv().ok()
    }

    /// As [`ShutdownOnSignal::wait`], for any executor.
    pub async fn ended(&self) -> Option<Ended> {
        self.ended.recv_async().await.ok()
    }
}

impl Router {
    /// Has the first SIGTERM or SIGINT stop the router, as [`Router::shutdown`] does with this deadline. A second one
    /// ends the process at once, with the signal's [exit status](Signal::exit_status), after writing to standard error
    /// what is left behind.
    ///
    /// The router is stopped by a thread of its own, so nobody has to wait for it; who wants the report, or has to keep
    /// the process until the router has ended, calls [`ShutdownOnSignal::wait`]. This is no handle of the router: once
    /// all of those are dropped, the router ends.
    ///
    /// # Errors
    /// The operating system does not let the process listen, or has no thread for it. The router runs on.
    pub fn shutdown_on_signal(&self, deadline: Duration) -> io::Result<ShutdownOnSignal> {
        let (asked, asks) = flume::bounded(1);
        let (ended_sender, ended) = flume::bounded(1);
        let router = self.downgrade();
        std::thread::Builder::new().name("caxton-shutdown".to_owned()).spawn(move || {
            let Ok(signal) = asks.recv() else { return };
            let stopped = router.upgrade().map(|router| router.shutdown(deadline));
            // Nobody may want to know.
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

/// What a process leaves behind that ends before its router has stopped, in a sentence.
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

/// Ends the process with the signal's exit status, without waiting for anything; `left` is written to standard error
/// before.
pub fn end_at_once(signal: Signal, left: &str) -> ! {
    // Where nobody reads standard error, there is nobody to tell.
    let _ = writeln!(io::stderr(), "{signal} again: ended at once: {left}");
    exit(signal.exit_status())
}
