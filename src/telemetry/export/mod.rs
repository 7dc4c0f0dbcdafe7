//! Export of traces, metrics and logs in the OpenTelemetry protocol (OTLP): to a collector, to files, or to both.
//!
//! An [`Exporter`] belongs to the telemetry thread's executor. It takes requests without ever waiting: each destination
//! has a queue that is bounded in requests and bytes, and one task that sends what is in it, in order. What finds no
//! room is dropped; what fails for good is given up; both are counted by signal, so that the counts of [`ExportState`]
//! and what still waits add up to what was passed in. Sockets, files and timers are those of the executor, and calls
//! that can only block (resolving names, listing a directory) are made on a thread of their own.

mod connection;
mod files;
mod helper;
mod http;
mod queue;
mod resource;
mod sender;
mod settings;
mod state;
#[cfg(test)]
mod tests;
mod tls;

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use glommio::Task;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use serde::Serialize;

use self::connection::within;
use self::files::Files;
use self::http::Collector;
use self::queue::{Entry, Queue, QueueLimits};
use self::sender::Destination;

pub(crate) use settings::{ExportSettings, destinations_of};
pub(crate) use state::{Activity, DestinationState, ExportState, Signal, SignalCounts};

/// Time limit for closing files when everything is written.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Sends telemetry to its destinations.
///
/// When it is dropped, what is still waiting counts as failed: end it by [`Exporter::close`].
pub(crate) struct Exporter {
    collector: Option<Lane>,
    files: Option<Lane>,
    /// Whether the collector gets a signal.
    collected: [bool; Signal::COUNT],
}

impl Exporter {
    /// Starts the tasks of the destinations. This must be called on a glommio executor.
    pub fn start(settings: ExportSettings, state: &ExportState) -> Self {
        let ExportSettings { collector, files, queue, retry_delay, .. } = settings;
        let collected = collector
            .as_ref()
            .map_or([false; Signal::COUNT], |collector| collector.targets.each_ref().map(Option::is_some));
        let start = |state: &Arc<DestinationState>| (queue, retry_delay, Arc::clone(state));
        Self {
            collector: collector.map(|collector| {
                Lane::start(Collector::new(collector, Arc::clone(&state.collector)), start(&state.collector))
            }),
            files: files.map(|files| Lane::start(Files::new(files), start(&state.files))),
            collected,
        }
    }

    /// Whether a signal has a destination.
    pub fn exports(&self, signal: Signal) -> bool {
        self.collected[signal as usize] || self.files.is_some()
    }

    /// Exports spans.
    pub fn traces(&self, request: &ExportTraceServiceRequest) {
        let scopes = request.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
        self.export(Signal::Traces, scopes.map(|scope| scope.spans.len()).sum(), request);
    }

    /// Exports data points.
    pub fn metrics(&self, request: &ExportMetricsServiceRequest) {
        let scopes = request.resource_metrics.iter().flat_map(|resource| &resource.scope_metrics);
        let data = scopes.flat_map(|scope| &scope.metrics).filter_map(|metric| metric.data.as_ref());
        self.export(Signal::Metrics, data.map(points).sum(), request);
    }

    /// Exports log records.
    pub fn logs(&self, request: &ExportLogsServiceRequest) {
        let scopes = request.resource_logs.iter().flat_map(|resource| &resource.scope_logs);
        self.export(Signal::Logs, scopes.map(|scope| scope.log_records.len()).sum(), request);
    }

    /// Waits until everything is sent, but at most until `deadline`, and not beyond it if the next attempt is due later. Returns whether
    /// nothing is left.
    pub async fn flush(&self, deadline: Instant) -> bool {
        let mut flushed = true;
        for lane in [&self.collector, &self.files].into_iter().flatten() {
            let rest = deadline.saturating_duration_since(Instant::now());
            flushed &= within(rest, lane.queue.flushed(deadline)).await.unwrap_or_else(|| lane.queue.is_empty());
        }
        flushed
    }

    /// Waits as [`Exporter::flush`] does, and then closes files and connections. What is left counts as failed. Returns
    /// whether nothing is left.
    pub async fn close(self, deadline: Instant) -> bool {
        let flushed = self.flush(deadline).await;
        for lane in [self.collector, self.files].into_iter().flatten() {
            lane.close().await;
        }
        flushed
    }

    fn export<R: prost::Message + Serialize>(&self, signal: Signal, items: usize, request: &R) {
        let items = items as u64;
        if let Some(lane) = self.collector.as_ref().filter(|_| self.collected[signal as usize]) {
            let size = request.encoded_len();
            lane.enqueue(signal, items, size, || Some(request.encode_to_vec()));
        }
        if let Some(lane) = &self.files {
            // How large the text is shows when it is there.
            lane.enqueue(signal, items, 1, || {
                let mut line = serde_json::to_vec(request).ok()?;
                line.push(b'\n');
                Some(line)
            });
        }
    }
}

fn points(data: &Data) -> usize {
    match data {
        Data::Gauge(gauge) => gauge.data_points.len(),
        Data::Sum(sum) => sum.data_points.len(),
        Data::Histogram(histogram) => histogram.data_points.len(),
        Data::ExponentialHistogram(histogram) => histogram.data_points.len(),
        Data::Summary(summary) => summary.data_points.len(),
    }
}

/// A destination's queue, and the task that sends what is in it.
struct Lane {
    queue: Rc<Queue>,
    /// Cancelled when dropped.
    task: Option<Task<()>>,
}

impl Lane {
    fn start<D: Destination + 'static>(
        destination: D,
        (limits, delay, state): (QueueLimits, Duration, Arc<DestinationState>),
    ) -> Self {
        state.turn(Activity::Idle);
        let queue = Rc::new(Queue::new(limits, state));
        let task = glommio::spawn_local(sender::run(Rc::clone(&queue), destination, delay));
        Self { queue, task: Some(task) }
    }

    /// Lets the task end if it has nothing to send.
    async fn close(mut self) {
        self.queue.close();
        if let Some(task) = self.task.take().filter(|_| self.queue.is_empty()) {
            within(CLOSE_TIMEOUT, task).await;
        }
    }

    /// Enqueues a request of at least this size, and encodes it only if there is room.
    fn enqueue(&self, signal: Signal, items: u64, size: usize, encode: impl FnOnce() -> Option<Vec<u8>>) {
        let body = self.queue.has_room_for(size).then(encode).flatten();
        match body {
            Some(body) => self.queue.push(Entry { signal, items, body: Bytes::from(body) }),
            None => SignalCounts::add(&self.queue.state.of(signal).dropped, items),
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        while let Some(entry) = self.queue.pop() {
            SignalCounts::add(&self.queue.state.of(entry.signal).failed, entry.items);
        }
    }
}
