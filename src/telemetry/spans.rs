//! Spans of a message's way, in the form of OTLP.

use caxton_shards::message::TraceContext;
use caxton_shards::trace::{SpanPart, TraceIds};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::span::{Link, SpanKind};
use opentelemetry_proto::tonic::trace::v1::{Span, Status, status};

use crate::telemetry::assemble::{DeliveryEnd, DeliveryTrace, MessageTrace};
use crate::telemetry::otlp::attribute;

/// Flags of a span (trace.proto): sampled; whether its parent is in another process is known; it is.
const SAMPLED: u32 = 0x1;
const PARENT_KNOWN: u32 = 0x100;
const PARENT_REMOTE: u32 = 0x200;

/// Makes the spans of messages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SpanMaker {
    pub ids: TraceIds,
    /// Wall-clock time at the start of the router, in nanoseconds since 1970.
    pub start_unix_ns: u64,
}

/// The span that sent a message: the parent of the others.
struct Sent {
    trace_id: [u8; 16],
    span_id: [u8; 8],
}

impl SpanMaker {
    /// Appends the spans of a message: its sending and, for each receiver, crossing, journal, waiting, each call of the
    /// handler, and the end.
    pub fn make(&self, trace: &MessageTrace, spans: &mut Vec<Span>) {
        let sent = self.send(trace, spans);
        for delivery in &trace.deliveries {
            self.deliver(trace, delivery, &sent, spans);
        }
    }

    fn send(&self, trace: &MessageTrace, spans: &mut Vec<Span>) -> Sent {
        let admitted = &trace.admitted;
        // Each delivery that is kept is a trace of its own, with its own sending.
        let kept_for = trace.deliveries.first().filter(|_| !trace.sampled).and_then(|delivery| delivery.receiver);
        let sent = Sent { trace_id: trace.trace_id, span_id: self.ids.span(trace.message, kept_for, SpanPart::Send) };
        let left_ns = trace.deliveries.iter().filter_map(|delivery| delivery.enqueued_ns.or(delivery.arrived_ns)).min();
        let mut span = self.span(&sent, sent.span_id, (trace.admitted_ns, left_ns.unwrap_or(trace.admitted_ns)));
        span.name = format!("send {}", admitted.performative.as_str());
        span.kind = SpanKind::Producer as i32;
        if let Some(cause) = admitted.cause {
            let handler = self.ids.span(cause.message, admitted.sender, SpanPart::HandleLast).to_vec();
            let its_trace = self.ids.trace_of_cause(cause);
            if its_trace == sent.trace_id {
                span.parent_span_id = handler;
            } else {
                // A handler that begins another conversation begins another trace, unless it chose one.
                span.links.push(Link { trace_id: its_trace.to_vec(), span_id: handler, ..Link::default() });
                span.parent_span_id = admitted.context.map(|context| context.span_id.to_vec()).unwrap_or_default();
            }
        } else if let Some(TraceContext { span_id, .. }) = admitted.context {
            span.parent_span_id = span_id.to_vec();
            span.flags |= PARENT_REMOTE;
        }
        span.attributes.extend([
            text("messaging.system", "caxton"),
            text("messaging.operation.type", "send"),
            text("messaging.operation.name", admitted.performative.as_str()),
            text("messaging.message.id", trace.message.to_string()),
            boolean("caxton.message.durable", admitted.durable),
            boolean("caxton.trace.kept", !trace.sampled),
        ]);
        let conversation = admitted.conversation.map(|id| text("messaging.message.conversation_id", id.to_string()));
        let protocol = admitted.protocol.map(|protocol| text("caxton.protocol", protocol.as_str()));
        let sender = admitted.sender_name.as_deref().map(|name| text("caxton.sender.name", name));
        span.attributes.extend([conversation, protocol, sender].into_iter().flatten());
        spans.push(span);
        sent
    }

    fn deliver(&self, trace: &MessageTrace, delivery: &DeliveryTrace, sent: &Sent, spans: &mut Vec<Span>) {
        let child = |name: &str, part, times| {
            let mut span = self.span(sent, self.ids.span(trace.message, delivery.receiver, part), times);
            name.clone_into(&mut span.name);
            span.kind = SpanKind::Internal as i32;
            span.parent_span_id = sent.span_id.to_vec();
            span.attributes.push(text("messaging.message.id", trace.message.to_string()));
            span.attributes.extend(delivery.receiver_name.as_deref().map(|name| text("caxton.receiver.name", name)));
            span
        };
        let came_ns = delivery.arrived_ns.or(delivery.enqueued_ns);
        let ended_ns = delivery.end.map(|(ended_ns, _)| ended_ns);
        if let Some(arrived_ns) = delivery.arrived_ns {
            spans.push(child("cross", SpanPart::Cross, (trace.admitted_ns, arrived_ns)));
        }
        if let (Some(came_ns), Some(committed_ns)) = (came_ns, delivery.committed_ns) {
            spans.push(child("journal", SpanPart::Journal, (came_ns, committed_ns)));
        }
        let began_ns = delivery.attempts.first().map(|attempt| attempt.began_ns).or(ended_ns);
        if let (Some(from_ns), Some(until_ns)) = (delivery.waits_from_ns(), began_ns) {
            spans.push(child("wait", SpanPart::Wait, (from_ns, until_ns)));
        }
        for (place, attempt) in delivery.attempts.iter().enumerate() {
            let part = delivery.part_of_attempt(place);
            let times = (attempt.began_ns, attempt.ended_ns.unwrap_or(attempt.began_ns));
            let mut span = child("", part, times);
            span.name = format!("process {}", trace.admitted.performative.as_str());
            span.kind = SpanKind::Consumer as i32;
            span.attributes.push(text("messaging.operation.type", "process"));
            span.attributes.push(number("caxton.attempt", attempt.number.into()));
            if attempt.failed {
                span.status = Some(error("the attempt failed"));
            }
            if trace.deliveries.len() > 1 {
                let (trace_id, span_id) = (sent.trace_id.to_vec(), sent.span_id.to_vec());
                span.links.push(Link { trace_id, span_id, ..Link::default() });
            }
            spans.push(span);
        }
        if let Some((ended_ns, end)) = delivery.end {
            let mut span = child("settle", SpanPart::Settle, (ended_ns, ended_ns));
            span.kind = SpanKind::Client as i32;
            span.attributes.push(text("messaging.operation.type", "settle"));
            span.attributes.push(text("caxton.outcome", end.as_str()));
            if let Some(reason) = end.reason() {
                span.attributes.push(text("error.type", reason));
                span.status = Some(error(end.as_str()));
            }
            spans.push(span);
        }
    }

    fn span(&self, sent: &Sent, span_id: [u8; 8], (from_ns, until_ns): (u64, u64)) -> Span {
        Span {
            trace_id: sent.trace_id.to_vec(),
            span_id: span_id.to_vec(),
            flags: SAMPLED | PARENT_KNOWN,
            start_time_unix_nano: self.start_unix_ns + from_ns,
            end_time_unix_nano: self.start_unix_ns + until_ns.max(from_ns),
            ..Span::default()
        }
    }
}

impl DeliveryEnd {
    /// Returns the outcome as one word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Processed => "processed",
            Self::DeadLettered(_) => "dead-lettered",
            Self::Expired(_) => "expired",
            Self::Withdrawn => "withdrawn",
            Self::Duplicate => "duplicate",
            Self::Left => "left-to-the-next-start",
        }
    }

    /// Returns the reason of a bad end.
    pub fn reason(self) -> Option<&'static str> {
        match self {
            Self::DeadLettered(reason) => Some(reason.as_str()),
            Self::Expired(stage) => Some(stage.as_str()),
            Self::Processed | Self::Withdrawn | Self::Duplicate | Self::Left => None,
        }
    }
}

fn text(key: &str, value: impl Into<String>) -> KeyValue {
    attribute(key, any_value::Value::StringValue(value.into()))
}

fn number(key: &str, value: i64) -> KeyValue {
    attribute(key, any_value::Value::IntValue(value))
}

fn boolean(key: &str, value: bool) -> KeyValue {
    attribute(key, any_value::Value::BoolValue(value))
}

fn error(message: &str) -> Status {
    Status { message: message.to_owned(), code: status::StatusCode::Error as i32 }
}
