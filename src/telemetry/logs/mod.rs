//! Logs: a router's life, the events of its shards and the lines of its guests, as events of the crate `tracing`.
//!
//! Shards log nothing themselves. A shard puts an event that is logged into a bounded channel; one thread per router
//! takes it out and passes it to the subscriber of the thread that started the router. What finds the channel full is
//! lost, counted, and the count is logged. A shard creates only the events whose level is enabled, and of messages none
//! at the level `info`: the log then has their number, from the shards' figures, every [`SUMMARY_EVERY`].
//!
//! Without a subscriber when the router is started there is no thread, and no shard reports anything.

#[cfg(feature = "cluster")]
mod cluster;
mod events;
mod export;
#[cfg(feature = "wasm")]
pub(crate) mod guests;
mod life;
pub(crate) mod limit;
mod summary;
pub(crate) mod writer;

pub(crate) use export::EXPORTED_WAITING_MAX;

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use caxton_shards::api::{Event, EventDetail};
use caxton_shards::message::AgentId;
use caxton_shards::trace::TraceIds;
use tracing::dispatcher::{Dispatch, get_default, with_default};
use tracing::subscriber::NoSubscriber;
use tracing::{Level, enabled, error};

use self::export::{Tee, exports_logs};
use self::summary::Summary;
use crate::shard_handle::{RouterPhase, Shared};
#[cfg(feature = "wasm")]
use crate::wasm::{LogLevel, LogLine};

/// The target of a router's life: its start and its end.
pub const ROUTER: &str = "caxton::router";
/// The target of what happens on the shards.
pub const EVENT: &str = "caxton::event";
/// The target of what changes in the cluster.
pub const CLUSTER: &str = "caxton::cluster";
/// The target of the lines that guests write.
pub const GUEST: &str = "caxton::guest";
/// The target of the log itself: what was lost or suppressed. A [`RateLimit`](limit::RateLimit) lets it pass.
pub const LOG: &str = "caxton::log";

/// Maximum number of records on their way from a router's shards to its log. Further ones are lost and counted.
pub const RECORDS_WAITING_MAX: usize = 4_096;

/// How often the numbers of dead letters, expired messages and the like are logged, if they have grown.
const SUMMARY_EVERY: Duration = Duration::from_secs(10);
/// How long a stopping router waits until its last records are logged. A subscriber that writes to a pipe that nobody
/// reads may block for ever.
const END_PATIENCE: Duration = Duration::from_secs(5);

/// Something to be logged, from a shard's thread.
enum Record {
    Event {
        event: Event,
        /// Of [`Event::agents`], if known.
        names: [Option<Arc<str>>; 2],
    },
    #[cfg(feature = "wasm")]
    Guest { line: LogLine, name: Option<Arc<str>> },
    /// Lines of the thread that stops the router.
    Lines(Lines),
}

/// Logs something when it is called.
type Lines = Box<dyn FnOnce() + Send>;

/// A shard's way to the log.
#[derive(Clone)]
pub(crate) struct LogSender {
    records: flume::Sender<Record>,
    /// Records that found no room.
    lost: Arc<AtomicU64>,
    detail: EventDetail,
    /// The lowest level of guests' lines that is logged.
    #[cfg(feature = "wasm")]
    guests: Option<LogLevel>,
}

impl LogSender {
    /// Returns which events are logged.
    pub fn detail(&self) -> EventDetail {
        self.detail
    }

    /// Passes on an event, if it is logged.
    pub fn event(&self, event: &Event, name_of: impl Fn(AgentId) -> Option<Arc<str>>) {
        if event.detail() <= self.detail {
            let names = event.agents().map(|agent| agent.and_then(&name_of));
            self.send(Record::Event { event: event.clone(), names });
        }
    }

    fn send(&self, record: Record) {
        if self.records.try_send(record).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The log of a router: the subscriber of the thread that started it.
pub(crate) struct RouterLog {
    dispatch: Dispatch,
    /// There is one from the beginning of the log to its end.
    thread: Mutex<Option<LogThread>>,
}

/// What is held of the thread that logs.
struct LogThread {
    records: flume::Sender<Record>,
    /// Logged when everything else is.
    epilogue: flume::Sender<Lines>,
    /// Disconnected once everything is logged.
    ended: flume::Receiver<()>,
}

impl RouterLog {
    /// Returns the log of a router that the calling thread starts: its subscriber, and the exporter if logs are exported.
    pub fn of_caller(shared: &Shared) -> Option<Self> {
        let mut dispatch = get_default(Dispatch::clone);
        if exports_logs(&shared.config) {
            dispatch = Dispatch::new(Tee::new(dispatch, shared));
        }
        (!dispatch.is::<NoSubscriber>()).then(|| Self { dispatch, thread: Mutex::default() })
    }

    fn write(&self, write: impl FnOnce()) {
        with_default(&self.dispatch, write);
    }

    /// Begins to log the shards' events, unless all of them are disabled.
    pub fn begin(&self, shared: &Arc<Shared>) -> io::Result<Option<LogSender>> {
        let (detail, counts) = with_default(&self.dispatch, || {
            let detail = if enabled!(target: EVENT, Level::DEBUG) {
                EventDetail::Everything
            } else if enabled!(target: EVENT, Level::ERROR) {
                EventDetail::Exceptions
            } else {
                EventDetail::Nothing
            };
            (detail, enabled!(target: EVENT, Level::WARN))
        });
        #[cfg(feature = "wasm")]
        let guests = with_default(&self.dispatch, guests::lowest_enabled);
        #[cfg(feature = "wasm")]
        let hears_guests = guests.is_some();
        #[cfg(not(feature = "wasm"))]
        let hears_guests = false;
        let (sender, records) = flume::bounded(RECORDS_WAITING_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        let (ends, ended) = flume::bounded(0);
        let (epilogue, final_lines) = flume::bounded(1);
        let (dispatch, shared_by_log, lost_records) = (self.dispatch.clone(), Arc::clone(shared), Arc::clone(&lost));
        std::thread::Builder::new().name("caxton-log".to_owned()).spawn(move || {
            // Disconnected also if the subscriber panics.
            let _ends: flume::Sender<()> = ends;
            with_default(&dispatch, || {
                log_all(&records, &lost_records, &shared_by_log, counts);
                final_lines.iter().for_each(|lines: Lines| lines());
            });
        })?;
        let thread = LogThread { records: sender.clone(), epilogue, ended };
        *self.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        if detail == EventDetail::Nothing && !hears_guests {
            return Ok(None);
        }
        let sender = LogSender {
            records: sender,
            lost,
            detail,
            #[cfg(feature = "wasm")]
            guests,
        };
        shared.subscribers.log_to(sender.clone());
        Ok(Some(sender))
    }

    /// Logs these lines after what was reported before, without waiting: a subscriber may block.
    fn write_later(&self, lines: Lines) {
        if let Some(thread) = &*self.thread.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = thread.records.try_send(Record::Lines(lines));
        }
    }

    /// Logs these lines when everything else is logged, and waits for that for a bounded time. Shards that have not left
    /// may report something later; that is not waited for.
    fn end(&self, lines: Lines, all_left: bool) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(LogThread { records, epilogue, ended }) = thread else { return };
        if all_left {
            let _ = epilogue.try_send(lines);
        } else {
            let _ = records.try_send(Record::Lines(lines));
        }
        drop((records, epilogue));
        if all_left {
            let _ = ended.recv_timeout(END_PATIENCE);
        }
    }
}

/// Logs all records until no shard is left, what was lost on the way and, if `counts`, what the shards only count.
fn log_all(records: &flume::Receiver<Record>, lost: &AtomicU64, shared: &Shared, counts: bool) {
    let mut summary = Summary::default();
    let mut due = Instant::now() + SUMMARY_EVERY;
    loop {
        match records.recv_deadline(due) {
            Ok(record) => record.log(shared.telemetry.ids),
            Err(flume::RecvTimeoutError::Timeout) => {}
            Err(flume::RecvTimeoutError::Disconnected) => break,
        }
        if Instant::now() >= due {
            summary.log(shared, lost, counts);
            due = Instant::now() + SUMMARY_EVERY;
        }
    }
    summary.log(shared, lost, counts);
    if shared.phase() == RouterPhase::Failed {
        error!(target: ROUTER, "a shard's thread panicked: the router has stopped, and its figures cannot be relied on");
    }
}

impl Record {
    fn log(self, ids: TraceIds) {
        match self {
            Self::Event { event, names } => events::log(&event, &names, ids),
            #[cfg(feature = "wasm")]
            Self::Guest { line, name } => guests::log(&line, name.as_deref()),
            Self::Lines(lines) => lines(),
        }
    }
}
