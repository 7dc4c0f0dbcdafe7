//! `caxton route --trace`: the traces of a run, each as a tree of its messages with their times.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;

use caxton_router::AgentId;
use caxton_router::config::Config;
use caxton_router::message::MessageId;
use caxton_router::telemetry::{DeliveryEnd, DeliveryTrace, MessageTrace};
use serde_json::{Value, json};

/// Maximum number of messages whose traces are kept until they are printed.
pub const TRACES_MAX: usize = 100_000;
/// Maximum number of levels that are indented; deeper ones are shown at that level.
const DEPTH_MAX: usize = 32;

/// Where the router puts the messages that it traced.
pub type TraceSink = flume::Sender<MessageTrace>;

/// The messages traced in a run.
pub struct Traces(flume::Receiver<MessageTrace>);

impl Traces {
    /// Creates an empty list, and what fills it.
    pub fn begin() -> (TraceSink, Self) {
        let (sender, receiver) = flume::bounded(TRACES_MAX);
        (sender, Self(receiver))
    }

    /// Makes the settings trace every message.
    pub fn configure(config: &mut Config) {
        for (key, value) in [
            ("telemetry.sampling", "1"),
            ("telemetry.records_per_second", "100000000"),
            ("telemetry.kept_per_second", "1000000"),
        ] {
            config.set(key, value, "--trace").expect("a test sets every one of these values");
        }
    }

    /// Takes all messages that were traced.
    pub fn take(&self) -> Vec<MessageTrace> {
        self.0.drain().collect()
    }
}

/// Returns the traces as trees, in the order in which they began.
pub fn text(messages: &[MessageTrace]) -> String {
    let mut text = String::new();
    for trace in grouped(messages) {
        let began_ns = trace.iter().map(|message| message.admitted_ns).min().unwrap_or(0);
        let ended_ns = trace.iter().filter_map(|message| ended_ns(message)).max().unwrap_or(began_ns);
        let id = trace[0].trace_id_text();
        let conversation = trace[0].admitted.conversation.map_or(String::new(), |id| format!(", conversation {id}"));
        let count = crate::cli::counted(trace.len() as u64, "message");
        let _ = writeln!(text, "trace {id}{conversation}: {count}, {}", duration(ended_ns - began_ns));
        let known: HashSet<MessageId> = trace.iter().map(|message| message.message).collect();
        let mut children: HashMap<MessageId, Vec<&MessageTrace>> = HashMap::new();
        let mut roots = Vec::new();
        for message in trace {
            match message.admitted.cause.map(|cause| cause.message).filter(|cause| known.contains(cause)) {
                Some(cause) => children.entry(cause).or_default().push(message),
                None => roots.push(message),
            }
        }
        // A list and not a recursion: a chain of messages can be as long as the file.
        let mut waiting: Vec<(&MessageTrace, usize)> = roots.into_iter().rev().map(|root| (root, 1)).collect();
        while let Some((message, depth)) = waiting.pop() {
            describe(message, depth, began_ns, &mut text);
            let below = children.remove(&message.message).unwrap_or_default();
            waiting.extend(below.into_iter().rev().map(|child| (child, depth + 1)));
        }
    }
    text
}

/// Returns each trace as one JSON object. Times are in nanoseconds since the start of the router.
pub fn json(messages: &[MessageTrace]) -> Vec<Value> {
    let traces = grouped(messages).into_iter().map(|trace| {
        let messages: Vec<Value> = trace.iter().map(|message| message_json(message)).collect();
        json!({ "trace": trace[0].trace_id_text(), "messages": messages })
    });
    traces.collect()
}

fn message_json(message: &MessageTrace) -> Value {
    let admitted = &message.admitted;
    let deliveries: Vec<Value> = message.deliveries.iter().map(delivery_json).collect();
    json!({
        "message": message.message.to_string(),
        "cause": admitted.cause.map(|cause| cause.message.to_string()),
        "conversation": admitted.conversation.map(|id| id.to_string()),
        "performative": admitted.performative.as_str(),
        "sender": admitted.sender_name.as_deref(),
        "admitted_ns": message.admitted_ns,
        "deliveries": deliveries,
    })
}

fn delivery_json(delivery: &DeliveryTrace) -> Value {
    let attempts = delivery.attempts.iter().map(|attempt| {
        json!({ "number": attempt.number, "began_ns": attempt.began_ns, "ended_ns": attempt.ended_ns, "failed": attempt.failed })
    });
    json!({
        "receiver": receiver(delivery),
        "arrived_ns": delivery.arrived_ns,
        "enqueued_ns": delivery.enqueued_ns,
        "committed_ns": delivery.committed_ns,
        "attempts": attempts.collect::<Vec<_>>(),
        "ended_ns": delivery.end.map(|(at_ns, _)| at_ns),
        "outcome": delivery.end.map(|(_, end)| end.as_str()),
        "reason": delivery.end.and_then(|(_, end)| end.reason()),
    })
}

/// Returns the messages by trace, traces and messages in the order of their admission.
fn grouped(messages: &[MessageTrace]) -> Vec<Vec<&MessageTrace>> {
    let mut traces: BTreeMap<[u8; 16], Vec<&MessageTrace>> = BTreeMap::new();
    for message in messages {
        traces.entry(message.trace_id).or_default().push(message);
    }
    let mut traces: Vec<_> = traces.into_values().collect();
    for trace in &mut traces {
        trace.sort_by_key(|message| (message.admitted_ns, message.message));
    }
    traces.sort_by_key(|trace| (trace[0].admitted_ns, trace[0].message));
    traces
}

fn ended_ns(message: &MessageTrace) -> Option<u64> {
    message.deliveries.iter().filter_map(|delivery| delivery.end).map(|(at_ns, _)| at_ns).max()
}

fn describe(message: &MessageTrace, depth: usize, began_ns: u64, text: &mut String) {
    let indent = "  ".repeat(depth.min(DEPTH_MAX));
    let admitted = &message.admitted;
    let sender = admitted.sender_name.as_deref().unwrap_or("(outside)");
    let after = duration(message.admitted_ns.saturating_sub(began_ns));
    let mut line = |delivery: Option<&DeliveryTrace>| {
        let to = delivery.map_or_else(|| "?".to_owned(), receiver);
        let _ = writeln!(
            text,
            "{indent}{} {sender} -> {to}, at {after}{}",
            admitted.performative,
            delivery.map_or(String::new(), |delivery| stages(message, delivery))
        );
    };
    match message.deliveries.as_slice() {
        [] => line(None),
        deliveries => deliveries.iter().for_each(|delivery| line(Some(delivery))),
    }
}

fn receiver(delivery: &DeliveryTrace) -> String {
    match (&delivery.receiver_name, delivery.receiver) {
        (Some(name), _) => name.to_string(),
        (None, Some(agent)) => unnamed(agent),
        (None, None) => "?".to_owned(),
    }
}

fn unnamed(agent: AgentId) -> String {
    format!("agent {agent}")
}

/// Returns where a delivery spent its time, and how it ended.
fn stages(message: &MessageTrace, delivery: &DeliveryTrace) -> String {
    let mut parts = Vec::new();
    let mut part = |name: &str, from: Option<u64>, to: Option<u64>| {
        if let (Some(from), Some(to)) = (from, to) {
            parts.push(format!("{name} {}", duration(to.saturating_sub(from))));
        }
    };
    let came_ns = delivery.arrived_ns.or(delivery.enqueued_ns);
    let ended = delivery.end.map(|(at_ns, _)| at_ns);
    part("cross", Some(message.admitted_ns), delivery.arrived_ns);
    part("journal", came_ns, delivery.committed_ns);
    part("wait", delivery.waits_from_ns(), delivery.attempts.first().map(|attempt| attempt.began_ns).or(ended));
    for attempt in &delivery.attempts {
        part(if attempt.failed { "failed attempt" } else { "process" }, Some(attempt.began_ns), attempt.ended_ns);
    }
    let outcome = match delivery.end {
        None => "not ended".to_owned(),
        Some((_, DeliveryEnd::Processed)) => "processed".to_owned(),
        Some((_, end)) => {
            end.reason().map_or_else(|| end.as_str().to_owned(), |why| format!("{}: {why}", end.as_str()))
        }
    };
    parts.push(outcome);
    format!(": {}", parts.join(", "))
}

/// Returns a time in a readable unit.
fn duration(ns: u64) -> String {
    match ns {
        0..1_000_000 => format!("{:.1} us", ns as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.2} ms", ns as f64 / 1e6),
        _ => format!("{:.3} s", ns as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_of_a_traced_run_are_legal() {
        let mut config = Config::default();
        Traces::configure(&mut config);
        assert!((config.telemetry.sampling.into_inner() - 1.0).abs() < f64::EPSILON);
    }

    #[test]
    fn times_have_units() {
        assert_eq!([999, 1_500_000, 2_000_000_000].map(duration), ["1.0 us", "1.50 ms", "2.000 s"]);
    }
}
