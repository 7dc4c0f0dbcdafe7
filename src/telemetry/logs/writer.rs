//! A subscriber that writes lines as the settings of the section `log` say.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tracing::dispatcher::{Dispatch, with_default};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;

use super::LOG;
use super::limit::RateLimit;
use crate::config::{LogConfig, LogFormat};

/// The interval of `log.lines_per_second`.
const INTERVAL: Duration = Duration::from_secs(1);

/// Writes a program's log, one line per event, as the settings of the section `log` say. Whatever a terminal would obey
/// is [escaped](escape).
///
/// The library installs no subscriber: the program does, before it starts the router.
///
/// ```
/// use std::io;
///
/// use caxton_router::Config;
/// use caxton_router::logs::LogWriter;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let config = Config::default();
/// let log = LogWriter::new(&config.log, io::stderr())?;
/// tracing::dispatcher::set_global_default(log.dispatch().clone())?;
/// // The router is started and stopped here.
/// drop(log);
/// # Ok(())
/// # }
/// ```
///
/// Dropping it logs what was suppressed lately. A thread that logs waits while the output accepts nothing; no shard
/// logs, and so none waits.
#[derive(Debug)]
pub struct LogWriter {
    dispatch: Dispatch,
    limit: RateLimit,
    reporter: Option<JoinHandle<()>>,
}

impl LogWriter {
    /// Creates a subscriber that writes to `output`, and a thread that logs what was suppressed.
    ///
    /// # Errors
    ///
    /// Returns an error if the thread cannot be started.
    pub fn new(settings: &LogConfig, output: impl Write + Send + 'static) -> io::Result<Self> {
        let limit = RateLimit::new(settings.lines_per_second.into_inner(), INTERVAL);
        let lines = Lines { output: Mutex::new(output), format: settings.format };
        // What was lost or suppressed is never left out.
        let levels = settings.level.to_filter().with_target(LOG, LevelFilter::TRACE);
        let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(lines);
        let dispatch = match settings.format {
            LogFormat::Text => {
                Dispatch::new(tracing_subscriber::registry().with(layer).with(levels).with(limit.clone()))
            }
            LogFormat::Json => {
                let layer = layer.json().flatten_event(true).with_current_span(false).with_span_list(false);
                Dispatch::new(tracing_subscriber::registry().with(layer).with(levels).with(limit.clone()))
            }
        };
        let (reporting, reports) = (dispatch.clone(), limit.clone());
        let reporter = std::thread::Builder::new()
            .name("caxton-log-limit".to_owned())
            .spawn(move || with_default(&reporting, || reports.report_until_end()))?;
        Ok(Self { dispatch, limit, reporter: Some(reporter) })
    }

    /// Returns the subscriber, to be installed for a thread or the whole program.
    pub fn dispatch(&self) -> &Dispatch {
        &self.dispatch
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        self.limit.end();
        if let Some(reporter) = self.reporter.take() {
            let _ = reporter.join();
        }
    }
}

/// The output, a line at a time.
struct Lines<W> {
    output: Mutex<W>,
    format: LogFormat,
}

impl<'a, W: Write + 'a> MakeWriter<'a> for Lines<W> {
    type Writer = Line<'a, W>;

    fn make_writer(&'a self) -> Line<'a, W> {
        Line(self)
    }
}

/// Writes one line, which comes in one piece.
struct Line<'a, W>(&'a Lines<W>);

impl<W: Write> Write for Line<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let mut line = escape(text.strip_suffix('\n').unwrap_or(&text), self.0.format).into_owned();
        line.push('\n');
        self.0.output.lock().unwrap_or_else(PoisonError::into_inner).write_all(line.as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.output.lock().unwrap_or_else(PoisonError::into_inner).flush()
    }
}

/// Whether a terminal interprets a character instead of showing it: control characters, and those that change the
/// direction of text.
pub fn is_obeyed(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Escapes what a terminal would interpret, as `\u{1b}` or, in JSON, as `\u001b`.
pub fn escape(line: &str, format: LogFormat) -> Cow<'_, str> {
    if !line.chars().any(is_obeyed) {
        return Cow::Borrowed(line);
    }
    let mut escaped = String::with_capacity(line.len() + 8);
    for character in line.chars() {
        match format {
            _ if !is_obeyed(character) => escaped.push(character),
            LogFormat::Text => escaped.extend(character.escape_default()),
            // All of them are in the basic plane.
            LogFormat::Json => {
                let _ = write!(escaped, "\\u{:04x}", u32::from(character));
            }
        }
    }
    Cow::Owned(escaped)
}
