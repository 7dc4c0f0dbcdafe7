//! The log as records of OpenTelemetry, besides what the program's own subscriber does with it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use opentelemetry_proto::tonic::common::v1::{AnyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, SeverityNumber};
use tracing::dispatcher::Dispatch;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::filter::Targets;

use crate::clock::wall_time;
use crate::config::Config;
use crate::shard_handle::Shared;
use crate::telemetry::export::{DestinationState, Signal, destinations_of};
use crate::telemetry::otlp::attribute;

/// Maximum number of log records on their way to the telemetry thread. Further ones are lost and counted.
pub(crate) const EXPORTED_WAITING_MAX: usize = 4_096;

/// Whether the settings export logs.
pub(crate) fn exports_logs(config: &Config) -> bool {
    destinations_of(config, Signal::Logs).contains(&true)
}

/// A subscriber that passes each event to the program's and, as a record, to the telemetry thread.
pub(super) struct Tee {
    program: Dispatch,
    levels: Targets,
    records: flume::Sender<LogRecord>,
    /// Count what is lost.
    destinations: Vec<Arc<DestinationState>>,
}

impl Tee {
    /// Creates the subscriber for the log of a router whose settings export logs.
    pub fn new(program: Dispatch, shared: &Shared) -> Self {
        let all = [&shared.telemetry.export.collector, &shared.telemetry.export.files];
        let used = destinations_of(&shared.config, Signal::Logs);
        let destinations = all.into_iter().zip(used).filter(|(_, used)| *used);
        Self {
            program,
            levels: shared.config.log.level.to_filter(),
            records: shared.telemetry.log_records.0.clone(),
            destinations: destinations.map(|(destination, _)| Arc::clone(destination)).collect(),
        }
    }

    fn exports(&self, metadata: &Metadata<'_>) -> bool {
        self.levels.would_enable(metadata.target(), metadata.level())
    }

    fn export(&self, event: &Event<'_>) {
        let metadata = event.metadata();
        let now_ns = wall_time().0 * 1_000_000;
        let mut fields = Fields(LogRecord {
            time_unix_nano: now_ns,
            observed_time_unix_nano: now_ns,
            severity_number: severity(*metadata.level()).into(),
            severity_text: metadata.level().to_string(),
            attributes: vec![attribute("log.target", any_value::Value::StringValue(metadata.target().to_owned()))],
            ..LogRecord::default()
        });
        event.record(&mut fields);
        if self.records.try_send(fields.0).is_err() {
            for destination in &self.destinations {
                destination.of(Signal::Logs).dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// No spans are entered while the router logs, so that those of the program need not be told apart.
impl Subscriber for Tee {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.exports(metadata) || self.program.enabled(metadata)
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        self.program.new_span(span)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        self.program.record(span, values);
    }

    fn record_follows_from(&self, span: &Id, follows: &Id) {
        self.program.record_follows_from(span, follows);
    }

    fn event(&self, event: &Event<'_>) {
        if self.exports(event.metadata()) {
            self.export(event);
        }
        if self.program.enabled(event.metadata()) {
            self.program.event(event);
        }
    }

    fn enter(&self, span: &Id) {
        self.program.enter(span);
    }

    fn exit(&self, span: &Id) {
        self.program.exit(span);
    }
}

fn severity(level: Level) -> SeverityNumber {
    match level {
        Level::ERROR => SeverityNumber::Error,
        Level::WARN => SeverityNumber::Warn,
        Level::INFO => SeverityNumber::Info,
        Level::DEBUG => SeverityNumber::Debug,
        Level::TRACE => SeverityNumber::Trace,
    }
}

/// The fields of an event, on their way into a record.
struct Fields(LogRecord);

impl Fields {
    fn add(&mut self, field: &Field, value: any_value::Value) {
        match (field.name(), &value) {
            ("message", _) => self.0.body = Some(AnyValue { value: Some(value) }),
            ("trace_id", any_value::Value::StringValue(digits)) => self.0.trace_id = bytes(digits),
            (name, _) => self.0.attributes.push(attribute(name, value)),
        }
    }
}

/// Returns the bytes of pairs of hexadecimal digits.
fn bytes(digits: &str) -> Vec<u8> {
    let pairs = (0..digits.len() / 2).map(|place| digits.get(2 * place..2 * place + 2));
    pairs.map_while(|pair| u8::from_str_radix(pair?, 16).ok()).collect()
}

impl Visit for Fields {
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, any_value::Value::BoolValue(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, any_value::Value::IntValue(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, any_value::Value::IntValue(i64::try_from(value).unwrap_or(i64::MAX)));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, any_value::Value::DoubleValue(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, any_value::Value::StringValue(value.to_owned()));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.add(field, any_value::Value::StringValue(format!("{value:?}")));
    }
}
