//! What the telemetry thread exports, and when: spans in batches, metrics at an interval.

use std::time::{Duration, Instant};

use caxton_shards::trace::TraceIds;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};

use crate::telemetry::assemble::MessageTrace;
use crate::telemetry::exemplars::Exemplars;
use crate::telemetry::export::{ExportSettings, ExportState, Exporter, Signal};
use crate::telemetry::figures::Figures;
use crate::telemetry::otlp::scope;
use crate::telemetry::otlp_metrics::{Times, otlp};
use crate::telemetry::spans::SpanMaker;

/// Number of spans that are sent at once without waiting for more.
const SPANS_PER_REQUEST: usize = 512;
/// Maximum time for which spans wait for more.
const SPANS_WAIT: Duration = Duration::from_secs(1);
/// Maximum time for which the end of the router waits until everything is exported.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// Exports on behalf of the telemetry thread.
pub(crate) struct Exporting {
    exporter: Exporter,
    resource: Resource,
    maker: SpanMaker,
    spans: Vec<Span>,
    spans_since: Instant,
    /// Messages that the next metrics point to, if spans are exported.
    exemplars: Option<Box<Exemplars>>,
    metric_interval: Duration,
    metrics_due: Instant,
}

impl Exporting {
    /// Begins to export. This must be called on the telemetry thread. `start_unix_ns` is the wall-clock time at the
    /// start of the router, in nanoseconds since 1970.
    pub fn begin(settings: ExportSettings, state: &ExportState, ids: TraceIds, start_unix_ns: u64) -> Self {
        let (resource, metric_interval) = (settings.resource.clone(), settings.metric_interval);
        let now = Instant::now();
        let exporter = Exporter::start(settings, state);
        Self {
            exemplars: exporter.exports(Signal::Traces).then(|| Box::new(Exemplars::new())),
            exporter,
            resource,
            maker: SpanMaker { ids, start_unix_ns },
            spans: Vec::with_capacity(SPANS_PER_REQUEST),
            spans_since: now,
            metric_interval,
            metrics_due: now + metric_interval,
        }
    }

    /// Exports the spans of a message, together with others.
    pub fn take(&mut self, trace: &MessageTrace) {
        if self.spans.is_empty() {
            self.spans_since = Instant::now();
        }
        self.maker.make(trace, &mut self.spans);
        if let Some(exemplars) = &mut self.exemplars {
            exemplars.take(trace, &self.maker);
        }
        if self.spans.len() >= SPANS_PER_REQUEST {
            self.send_spans();
        }
    }

    /// Sends spans that have waited long enough. Returns when the next ones are due.
    pub fn look(&mut self, now: Instant) -> Option<Instant> {
        if self.spans.is_empty() {
            return None;
        }
        let due = self.spans_since + SPANS_WAIT;
        if now < due {
            return Some(due);
        }
        self.send_spans();
        None
    }

    /// Whether metrics are to be exported now. The next ones are due an interval later.
    pub fn is_metrics_turn(&mut self, now: Instant) -> bool {
        let is_due = now >= self.metrics_due;
        if is_due {
            self.metrics_due = now + self.metric_interval;
        }
        is_due
    }

    /// When metrics are to be exported next.
    pub fn metrics_due(&self) -> Instant {
        self.metrics_due
    }

    /// Exports records of the log.
    pub fn send_logs(&self, log_records: Vec<LogRecord>) {
        let scope_logs = vec![ScopeLogs { scope: Some(scope()), log_records, schema_url: String::new() }];
        let resource = Some(self.resource.clone());
        let resource_logs = vec![ResourceLogs { resource, scope_logs, schema_url: String::new() }];
        self.exporter.logs(&ExportLogsServiceRequest { resource_logs });
    }

    /// Exports the metrics.
    pub fn send_metrics(&mut self, figures: &Figures) {
        let times = Times { start_ns: self.maker.start_unix_ns, now_ns: figures.now.0 * 1_000_000 };
        self.exporter.metrics(&otlp(figures, times, self.resource.clone(), self.exemplars.as_deref_mut()));
    }

    /// Sends what is left, and waits until it is exported or the time is over. What is left is counted.
    pub async fn close(mut self) {
        self.send_spans();
        self.exporter.close(Instant::now() + CLOSE_WITHIN).await;
    }

    fn send_spans(&mut self) {
        if self.spans.is_empty() {
            return;
        }
        let spans = std::mem::replace(&mut self.spans, Vec::with_capacity(SPANS_PER_REQUEST));
        let scope_spans = vec![ScopeSpans { scope: Some(scope()), spans, schema_url: String::new() }];
        let resource = Some(self.resource.clone());
        let resource_spans = vec![ResourceSpans { resource, scope_spans, schema_url: String::new() }];
        self.exporter.traces(&ExportTraceServiceRequest { resource_spans });
    }
}
