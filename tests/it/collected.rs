//! What a collector of OpenTelemetry receives from a router: decoded from protobuf, and held against what the router did.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use caxton_router::message::ConversationId;
use caxton_router::prelude::*;
use flate2::read::GzDecoder;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::metrics::v1::{Metric, exemplar, metric, number_data_point};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;

use crate::common::{bounded, name_on, shutdown, start_with};

/// A collector that keeps what it receives.
struct Collector {
    address: SocketAddr,
    received: Arc<Mutex<Received>>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Received {
    spans: Vec<Span>,
    /// The last request: metrics are cumulative.
    metrics: Vec<Metric>,
    logs: Vec<LogRecord>,
}

impl Collector {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let (received, stopping) = (Arc::<Mutex<Received>>::default(), Arc::<AtomicBool>::default());
        let (into, stops) = (Arc::clone(&received), Arc::clone(&stopping));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stops.load(Ordering::Acquire) {
                    return;
                }
                let into = Arc::clone(&into);
                std::thread::spawn(move || serve(&stream.expect("it is accepted"), &into));
            }
        });
        Self { address, received, stopping, thread: Some(thread) }
    }

    fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        let _ = TcpStream::connect(self.address);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Responds to the requests of one connection until it is closed.
fn serve(stream: &TcpStream, received: &Mutex<Received>) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if line == "\r\n" {
                break;
            }
            head.push(line.trim_end().to_ascii_lowercase());
        }
        let header = |name: &str| head.iter().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let length = header("content-length:").and_then(|length| length.parse().ok()).expect("the body has a length");
        let mut body = vec![0; length];
        reader.read_exact(&mut body).expect("the body arrives");
        assert_eq!(header("content-type:"), Some("application/x-protobuf"));
        if header("content-encoding:") == Some("gzip") {
            let mut plain = Vec::new();
            GzDecoder::new(&*body).read_to_end(&mut plain).expect("it is gzip");
            body = plain;
        }
        let mut received = received.lock().expect("nobody panicked");
        match head[0].split(' ').nth(1) {
            Some("/v1/traces") => {
                let request = ExportTraceServiceRequest::decode(&*body).expect("it is a request");
                let scopes = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
                received.spans.extend(scopes.flat_map(|scope| scope.spans));
            }
            Some("/v1/metrics") => {
                let request = ExportMetricsServiceRequest::decode(&*body).expect("it is a request");
                let scopes = request.resource_metrics.into_iter().flat_map(|resource| resource.scope_metrics);
                received.metrics = scopes.flat_map(|scope| scope.metrics).collect();
            }
            Some("/v1/logs") => {
                let request = ExportLogsServiceRequest::decode(&*body).expect("it is a request");
                let scopes = request.resource_logs.into_iter().flat_map(|resource| resource.scope_logs);
                received.logs.extend(scopes.flat_map(|scope| scope.log_records));
            }
            path => panic!("{path:?} was not expected"),
        }
        drop(received);
        let mut stream = stream;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").expect("the response is taken");
    }
}

fn text<'a>(span: &'a Span, key: &str) -> Option<&'a str> {
    let attribute = span.attributes.iter().find(|attribute| attribute.key == key)?;
    match attribute.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text),
        _ => None,
    }
}

/// Calls for proposals of everyone, accepts the first and rejects the others.
struct Initiator {
    participants: Vec<AgentId>,
    accepted: bool,
}

impl Agent for Initiator {
    fn handle(&mut self, message: &Message, context: &mut Context<'_>) -> Outcome {
        let next = match message.performative() {
            Performative::Request => Message::builder(Performative::Cfp)
                .receivers(self.participants.clone())
                .conversation(ConversationId::of_text("auction"))
                .protocol("fipa-contract-net"),
            Performative::Propose if !std::mem::replace(&mut self.accepted, true) => {
                context.reply(message, Performative::AcceptProposal)
            }
            Performative::Propose => context.reply(message, Performative::RejectProposal),
            _ => return Outcome::Done,
        };
        send(next.build(), context)
    }
}

struct Participant;

impl Agent for Participant {
    fn handle(&mut self, message: &Message, context: &mut Context<'_>) -> Outcome {
        let next = match message.performative() {
            Performative::Cfp => Performative::Propose,
            Performative::AcceptProposal => Performative::Inform,
            _ => return Outcome::Done,
        };
        send(context.reply(message, next).build(), context)
    }
}

fn send<E: std::fmt::Display>(message: Result<Message, E>, context: &mut Context<'_>) -> Outcome {
    match message.map(|message| context.send(message)) {
        Ok(Ok(_)) => Outcome::Done,
        Ok(Err(error)) => Outcome::failed(error.to_string()),
        Err(error) => Outcome::failed(error.to_string()),
    }
}

/// Starts a router of two shards that traces every message and exports to the collector.
fn watched(collector: &Collector, more: (&str, &str)) -> Router {
    start_with(2, |config| {
        let settings = [
            ("otlp.endpoint", &*collector.endpoint()),
            ("telemetry.sampling", "1"),
            ("telemetry.records_per_second", "100000000"),
            more,
        ];
        for (key, value) in settings {
            config.set(key, value, "this test").expect("it is legal");
        }
    })
}

#[test]
fn a_contract_net_over_two_shards_arrives_as_one_connected_trace() {
    bounded(|| {
        let collector = Collector::start();
        let router = watched(&collector, ("conversation.participants_max", "10"));
        let blocking = router.blocking();
        let register = |shard, name: &str| {
            blocking.register(name_on(&router, shard, name), || Participant).expect("it is registered")
        };
        let participants = vec![register(0, "near"), register(1, "far"), register(1, "further")];
        let everyone = participants.clone();
        let initiator = name_on(&router, 0, "initiator");
        let make = move || Initiator { participants: everyone.clone(), accepted: false };
        let initiator = blocking.register(initiator, make).expect("it is registered");
        let start = Message::builder(Performative::Request).receiver(initiator).build().expect("it is legal");
        blocking.send(start).expect("it is accepted");
        let report = shutdown(&router);
        // The start, three cfps, three proposals, the acceptance and the inform, two rejections.
        assert_eq!(report.stats.account().processed, 11, "{report:?}");
        let received = collector.received.lock().expect("nobody panicked");
        let mut traces: BTreeMap<&[u8], Vec<&Span>> = BTreeMap::new();
        for span in &received.spans {
            traces.entry(&span.trace_id).or_default().push(span);
        }
        let conversation = ConversationId::of_text("auction").to_string();
        let is_auction = |trace: &&Vec<&Span>| {
            trace.iter().any(|span| text(span, "messaging.message.conversation_id") == Some(&conversation))
        };
        let auctions: Vec<_> = traces.values().filter(is_auction).collect();
        let [auction] = auctions.as_slice() else { panic!("{} traces have the conversation", auctions.len()) };
        let ids: BTreeSet<&[u8]> = auction.iter().map(|span| &*span.span_id).collect();
        assert_eq!(ids.len(), auction.len(), "span ids do not repeat");
        let roots: Vec<_> = auction.iter().filter(|span| !ids.contains(&*span.parent_span_id)).collect();
        let [root] = roots.as_slice() else { panic!("the trace is not connected: {roots:#?}") };
        assert_eq!((root.name.as_str(), root.parent_span_id.len()), ("send cfp", 0));
        assert_eq!(root.links.len(), 1, "the message that started the auction is linked");
        let count = |name: &str| auction.iter().filter(|span| span.name == name).count();
        for (name, expected) in [
            ("send cfp", 1),
            ("process cfp", 3),
            ("send propose", 3),
            ("process propose", 3),
            ("send accept-proposal", 1),
            ("send reject-proposal", 2),
            ("process inform", 1),
            ("settle", 10),
        ] {
            assert_eq!(count(name), expected, "{name}");
        }
        assert!(count("cross") >= 4, "messages crossed between the shards");
        for span in *auction {
            assert!(span.start_time_unix_nano <= span.end_time_unix_nano, "{span:?}");
            if span.name == "process cfp" {
                assert_eq!(span.links.len(), 1, "each of several receivers is linked to the sending");
            }
            if let Some(parent) = auction.iter().find(|parent| parent.span_id == span.parent_span_id) {
                assert!(
                    parent.start_time_unix_nano <= span.start_time_unix_nano,
                    "{parent:?} is the parent of {span:?}"
                );
            }
        }
    });
}

/// Returns the sum of a counter's points, by the value of a label or without one.
fn sums(metrics: &[Metric], name: &str) -> BTreeMap<String, i64> {
    let metric = metrics.iter().find(|metric| metric.name == name).unwrap_or_else(|| panic!("{name} is exported"));
    let Some(metric::Data::Sum(sum)) = &metric.data else { panic!("{name} is a counter") };
    assert!(sum.is_monotonic);
    let mut sums = BTreeMap::new();
    for point in &sum.data_points {
        let Some(number_data_point::Value::AsInt(value)) = point.value else { panic!("{name} counts") };
        let label = point.attributes.first().and_then(|attribute| attribute.value.as_ref()?.value.clone());
        let label = if let Some(Value::StringValue(label)) = label { label } else { String::new() };
        *sums.entry(label).or_default() += value;
    }
    sums
}

#[test]
fn exported_counters_equal_the_account_and_bad_ends_are_logged_with_their_trace() {
    bounded(|| {
        const MESSAGES: u64 = 500;
        let collector = Collector::start();
        let router = watched(&collector, ("log.level", "debug"));
        let blocking = router.blocking();
        let agent = blocking.register(name_on(&router, 1, "agent"), || Participant).expect("it is registered");
        for number in 0..MESSAGES {
            let receiver = if number % 10 == 0 { AgentId::of_text("nobody") } else { agent };
            let message = Message::builder(Performative::Inform).receiver(receiver).build().expect("it is legal");
            blocking.send(message).expect("it is accepted");
        }
        let account = shutdown(&router).stats.account();
        assert_eq!((account.processed, account.dead_lettered), (MESSAGES - MESSAGES / 10, MESSAGES / 10));
        let received = collector.received.lock().expect("nobody panicked");
        let count = |number: u64| i64::try_from(number).expect("it is small");
        let dead: BTreeMap<_, _> = sums(&received.metrics, "caxton.messages.dead_lettered")
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .collect();
        assert_eq!(dead, [("unknown-receiver".to_owned(), count(account.dead_lettered))].into());
        for (name, expected) in [
            ("messaging.client.sent.messages", account.accepted),
            ("messaging.client.consumed.messages", account.processed),
        ] {
            assert_eq!(sums(&received.metrics, name).values().sum::<i64>(), count(expected), "{name}");
        }
        let duration = received.metrics.iter().find(|metric| metric.name == "caxton.message.duration");
        let Some(metric::Data::ExponentialHistogram(duration)) = duration.and_then(|metric| metric.data.as_ref())
        else {
            panic!("the duration of messages is a histogram")
        };
        assert_eq!(duration.data_points[0].count, account.processed, "every message was sampled, and no count is lost");
        let buckets = &duration.data_points[0].positive.as_ref().expect("there are counts").bucket_counts;
        assert_eq!(buckets.iter().sum::<u64>() + duration.data_points[0].zero_count, account.processed);
        let exemplars = &duration.data_points[0].exemplars;
        assert!((1..=21).contains(&exemplars.len()), "{exemplars:#?}");
        for exemplar in exemplars {
            let its_span = |span: &&Span| (&span.trace_id, &span.span_id) == (&exemplar.trace_id, &exemplar.span_id);
            let span = received.spans.iter().find(its_span).expect("it points to a span that was exported");
            assert_eq!(span.name, "send inform");
            assert!(exemplar.time_unix_nano >= span.end_time_unix_nano);
            assert!(matches!(exemplar.value, Some(exemplar::Value::AsDouble(seconds)) if seconds > 0.0));
        }
        let dead: Vec<_> = received.logs.iter().filter(|record| !record.trace_id.is_empty()).collect();
        assert_eq!(dead.len() as u64, account.dead_lettered);
        let traces: BTreeSet<&[u8]> = received.spans.iter().map(|span| &*span.trace_id).collect();
        assert!(dead.iter().all(|record| traces.contains(&*record.trace_id)), "each names a trace that was exported");
    });
}
