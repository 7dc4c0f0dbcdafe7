//! The telemetry thread of a router: when there is one, its beginning and its end.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use caxton_shards::message::{Message, TraceContext};
use glommio::ExecutorJoinHandle;

use super::{Inner, Router, StartError};
use crate::shard_handle::Shared;
use crate::telemetry::export::ExportSettings;
use crate::telemetry::{RecordFeed, TelemetryLaunch, TraceSink, feed, start, watching};

/// Starts the telemetry thread if something takes what it finds out. Returns the shards' ways to it, of which there are
/// none without it.
///
/// # Errors
///
/// The thread cannot be started. There is nothing to stop.
fn begin(
    shared: &Arc<Shared>,
    sinks: Vec<TraceSink>,
    origin: Instant,
) -> Result<(std::vec::IntoIter<RecordFeed>, Option<ExecutorJoinHandle<()>>), StartError> {
    let export = ExportSettings::new(&shared.config).map_err(|error| StartError::Telemetry(error.to_string()))?;
    if sinks.is_empty() && !export.exports() && !shared.config.serves_metrics() {
        return Ok((Vec::new().into_iter(), None));
    }
    shared.telemetry.has_thread.store(true, Ordering::Release);
    let mut launch = TelemetryLaunch::new(shared, sinks, export, origin);
    let mut feeds = Vec::new();
    for _ in &shared.links {
        let (feed, source) = feed(Arc::clone(&shared.telemetry), watching(&shared.config, &shared.telemetry));
        feeds.push(feed);
        launch.sources.push(source);
    }
    let thread = start(launch).map_err(|error| StartError::Telemetry(error.to_string()))?;
    Ok((feeds.into_iter(), Some(thread)))
}

impl Router {
    /// Returns the W3C trace context of a message that this router has admitted, to be passed on with it: the trace that
    /// it was sent in or that of its conversation, and the span in which it was sent. None if it has no id yet.
    ///
    /// The same message has the same context wherever it is asked for; after another start of the router it has another
    /// one, unless it came with a context.
    pub fn trace_context(&self, message: &Message) -> Option<TraceContext> {
        self.shared().telemetry.ids.of_message(message)
    }

    /// Starts the telemetry thread if it is wanted. Returns the shards' ways to it.
    ///
    /// # Errors
    ///
    /// It cannot be started. The router has to be abandoned.
    pub(super) fn begin_telemetry(
        &self,
        sinks: Vec<TraceSink>,
        origin: Instant,
    ) -> Result<std::vec::IntoIter<RecordFeed>, StartError> {
        let (feeds, thread) = begin(self.shared(), sinks, origin)?;
        self.inner.threads.lock().unwrap_or_else(PoisonError::into_inner).telemetry = thread;
        Ok(feeds)
    }
}

impl Inner {
    /// Lets the telemetry thread take what the shards have left, and waits until it has passed that on. Call it once the
    /// shards have left.
    pub(super) fn end_telemetry(&self, thread: Option<ExecutorJoinHandle<()>>) {
        self.shared.telemetry.stopping.store(true, Ordering::Release);
        self.shared.telemetry.bell.ring();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}
