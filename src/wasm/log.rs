//! The guests' log: bounded per guest and second, and in total.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use caxton_shards::message::{AgentId, WallTime};

/// Maximum number of unread lines. Further ones are only counted.
pub const LINES_WAITING_MAX: usize = 10_000;
/// Maximum length of a line with its fields, in bytes. The rest is cut off.
pub(super) const LINE_BYTES_MAX: usize = 4_096;

/// The severity of a line.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[allow(missing_docs)] // The names are the usual ones.
pub enum LogLevel {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

impl LogLevel {
    pub(super) const ALL: [Self; 5] = [Self::Trace, Self::Debug, Self::Info, Self::Warn, Self::Error];
}

impl fmt::Display for LogLevel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        })
    }
}

/// A line written by a guest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogLine {
    /// The beginning of the call in which it was written; for printed output, of the turn.
    pub at: WallTime,
    /// The guest.
    pub agent: AgentId,
    /// The severity.
    pub level: LogLevel,
    /// The text.
    pub text: String,
    /// Further fields, by name.
    pub fields: Vec<(String, String)>,
}

/// Lines on their way to their reader.
pub(super) struct Log {
    sender: flume::Sender<LogLine>,
    pub receiver: flume::Receiver<LogLine>,
    /// Lines that were not read in time, or that exceeded their guest's rate.
    pub lost: AtomicU64,
}

impl Log {
    pub fn new() -> Arc<Self> {
        let (sender, receiver) = flume::bounded(LINES_WAITING_MAX);
        Arc::new(Self { sender, receiver, lost: AtomicU64::new(0) })
    }
}

/// One guest's access to the log. Clones share one rate.
#[derive(Clone)]
pub(super) struct LogGate(Arc<Mutex<Gate>>);

struct Gate {
    log: Arc<Log>,
    lines_max: u32,
    second: u64,
    lines: u32,
}

impl LogGate {
    pub fn new(log: &Arc<Log>, lines_max: u32) -> Self {
        Self(Arc::new(Mutex::new(Gate { log: Arc::clone(log), lines_max, second: 0, lines: 0 })))
    }

    pub fn write(&self, line: LogLine) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(line);
    }
}

impl Gate {
    fn write(&mut self, mut line: LogLine) {
        let second = line.at.0 / 1_000;
        if second != self.second {
            self.second = second;
            self.lines = 0;
        }
        self.lines = self.lines.saturating_add(1);
        let mut left = LINE_BYTES_MAX;
        for text in
            std::iter::once(&mut line.text).chain(line.fields.iter_mut().flat_map(|(name, value)| [name, value]))
        {
            text.truncate(text.floor_char_boundary(left));
            left -= text.len();
        }
        line.fields.retain(|(name, _)| !name.is_empty());
        #[cfg(feature = "telemetry")]
        if self.lines <= self.lines_max {
            crate::telemetry::logs::guests::hear(&line);
        }
        if self.lines > self.lines_max || self.log.sender.try_send(line).is_err() {
            self.log.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}
