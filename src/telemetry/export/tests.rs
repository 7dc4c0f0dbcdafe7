//! Export to a collector made for the tests, and to files.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use flate2::read::GzDecoder;
use glommio::{LocalExecutorBuilder, Placement};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{
    Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, number_data_point,
};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message as _;
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tempfile::TempDir;

use super::sender::ATTEMPTS_MAX;
use super::state::SignalCounts;
use super::*;
use crate::config::Config;

/// More than any test needs, on any machine.
const PATIENCE: Duration = Duration::from_mins(2);

fn spans(count: usize, name: &str) -> ExportTraceServiceRequest {
    let span = Span { name: name.to_owned(), trace_id: vec![7; 16], span_id: vec![8; 8], ..Span::default() };
    let scope_spans = vec![ScopeSpans { spans: vec![span; count], ..ScopeSpans::default() }];
    ExportTraceServiceRequest { resource_spans: vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }] }
}

fn data_points(count: usize) -> ExportMetricsServiceRequest {
    let point = NumberDataPoint { value: Some(number_data_point::Value::AsInt(5)), ..NumberDataPoint::default() };
    let data = Some(Data::Gauge(Gauge { data_points: vec![point; count] }));
    let metrics = vec![Metric { name: "depth".to_owned(), data, ..Metric::default() }];
    let scope_metrics = vec![ScopeMetrics { metrics, ..ScopeMetrics::default() }];
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics { scope_metrics, ..ResourceMetrics::default() }],
    }
}

fn log_records(count: usize) -> ExportLogsServiceRequest {
    let record = LogRecord { severity_text: "INFO".to_owned(), ..LogRecord::default() };
    let scope_logs = vec![ScopeLogs { log_records: vec![record; count], ..ScopeLogs::default() }];
    ExportLogsServiceRequest { resource_logs: vec![ResourceLogs { scope_logs, ..ResourceLogs::default() }] }
}

/// What the collector does with a request.
enum Step {
    /// Responds with a status, further lines of the head, and a body.
    Answer(u16, &'static str, Vec<u8>),
    /// Closes the connection when it has read the head.
    CloseMidRequest,
    /// Responds as if the connection stayed open, and closes it.
    AcceptThenClose,
    /// Never answers.
    Hold,
}

/// A request as it arrived.
struct Arrived {
    path: String,
    head: String,
    /// Uncompressed.
    body: Vec<u8>,
    /// The connection's number.
    connection: usize,
}

struct TestCollector {
    address: SocketAddr,
    arrived: flume::Receiver<Arrived>,
}

impl TestCollector {
    /// Starts a collector that takes these steps, and accepts all later requests.
    fn start(steps: Vec<Step>, tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let address = listener.local_addr().expect("it has one");
        let (arrive, arrived) = flume::unbounded();
        let mut steps = steps;
        steps.reverse();
        let steps = Arc::new(Mutex::new(steps));
        thread::spawn(move || {
            let connections = AtomicUsize::new(0);
            for stream in listener.incoming() {
                let stream = stream.expect("a connection");
                let (arrive, steps, tls) = (arrive.clone(), Arc::clone(&steps), tls.clone());
                let connection = connections.fetch_add(1, Ordering::Relaxed);
                thread::spawn(move || match tls {
                    Some(tls) => {
                        let session = ServerConnection::new(tls).expect("a session");
                        serve(StreamOwned::new(session, stream), connection, &steps, &arrive);
                    }
                    None => serve(stream, connection, &steps, &arrive),
                });
            }
        });
        Self { address, arrived }
    }

    fn next(&self) -> Arrived {
        self.arrived.recv_timeout(PATIENCE).expect("a request arrives")
    }
}

fn serve(mut stream: impl Read + Write, connection: usize, steps: &Mutex<Vec<Step>>, arrive: &flume::Sender<Arrived>) {
    while let Some(head) = read_head(&mut stream) {
        let step = steps.lock().expect("nobody panics").pop().unwrap_or(Step::Answer(200, "", Vec::new()));
        if matches!(step, Step::CloseMidRequest) {
            return;
        }
        let length = value(&head, "content-length").and_then(|length| length.parse().ok()).expect("a length");
        let mut body = vec![0; length];
        stream.read_exact(&mut body).expect("the body");
        if value(&head, "content-encoding") == Some("gzip") {
            let mut plain = Vec::new();
            GzDecoder::new(&body[..]).read_to_end(&mut plain).expect("it is gzip");
            body = plain;
        }
        let path = head.split(' ').nth(1).expect("a path").to_owned();
        let _ = arrive.send(Arrived { path, head, body, connection });
        let (status, lines, body) = match &step {
            Step::Answer(status, lines, body) => (*status, *lines, &body[..]),
            Step::AcceptThenClose => (200, "", &b""[..]),
            Step::CloseMidRequest => return,
            Step::Hold => {
                // Until the client gives up.
                let _ = stream.read(&mut [0]);
                return;
            }
        };
        let answer = format!("HTTP/1.1 {status} Whatever\r\n{lines}content-length: {}\r\n\r\n", body.len());
        if stream.write_all(&[answer.as_bytes(), body].concat()).and_then(|()| stream.flush()).is_err() {
            return;
        }
        if matches!(step, Step::AcceptThenClose) {
            return;
        }
    }
}

/// Returns the head of a request, or `None` at the end of the connection.
fn read_head(stream: &mut impl Read) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return None,
        }
    }
    Some(String::from_utf8(head).expect("it is text"))
}

fn value<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

fn settings(keys: &[(&str, &str)]) -> ExportSettings {
    let mut config = Config::default();
    for (key, value) in keys {
        config.set(key, value, "test").expect("it is legal");
    }
    let mut settings = ExportSettings::new(&config).expect("they can be used");
    settings.retry_delay = Duration::from_millis(1);
    settings
}

fn settings_for(address: SocketAddr) -> ExportSettings {
    settings(&[("otlp.endpoint", &format!("http://{address}"))])
}

/// Runs a test with an exporter on an executor of its own.
fn with_exporter<T: Send + 'static>(
    settings: ExportSettings,
    test: impl AsyncFnOnce(&Exporter, &ExportState) -> T + Send + 'static,
) -> T {
    let executor = LocalExecutorBuilder::new(Placement::Unbound).io_memory(1 << 18).spawn(move || async move {
        let state = ExportState::default();
        let exporter = Exporter::start(settings, &state);
        let result = test(&exporter, &state).await;
        exporter.close(Instant::now() + PATIENCE).await;
        result
    });
    executor.expect("an executor").join().expect("the test passes")
}

async fn flush(exporter: &Exporter) {
    assert!(exporter.flush(Instant::now() + PATIENCE).await, "everything is sent");
}

fn get(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

/// Exported, dropped, failed and rejected items.
fn counts(state: &DestinationState, signal: Signal) -> [u64; 4] {
    let SignalCounts { exported, dropped, failed, rejected } = state.of(signal);
    [get(exported), get(dropped), get(failed), get(rejected)]
}

/// Why a destination fails.
fn failure(state: &DestinationState) -> String {
    match state.activity() {
        Activity::Failing { why, .. } => why,
        other => panic!("it fails, and is not {other:?}"),
    }
}

/// Returns an address that refuses connections.
fn absent() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr()).expect("a port is free")
}

#[test]
fn every_signal_arrives_in_order_over_one_connection() {
    for compression in ["gzip", "none"] {
        let collector = TestCollector::start(Vec::new(), None);
        let settings = settings(&[
            ("otlp.endpoint", &format!("http://{}/otlp", collector.address)),
            ("otlp.headers", "api-key=a%20secret"),
            ("otlp.compression", compression),
        ]);
        with_exporter(settings, async |exporter, state| {
            assert_eq!((state.collector.activity(), state.files.activity()), (Activity::Idle, Activity::Off));
            exporter.traces(&spans(3, "send"));
            exporter.metrics(&data_points(2));
            exporter.logs(&log_records(1));
            assert_eq!(get(&state.collector.queued_requests), 3);
            flush(exporter).await;
            let counts = Signal::ALL.map(|signal| counts(&state.collector, signal));
            assert_eq!(counts, [[3, 0, 0, 0], [2, 0, 0, 0], [1, 0, 0, 0]]);
            assert_eq!((get(&state.collector.queued_requests), get(&state.collector.queued_bytes)), (0, 0));
            assert_eq!(state.collector.activity(), Activity::Idle);
        });
        let [traces, metrics, logs] = [(); 3].map(|()| collector.next());
        assert_eq!(ExportTraceServiceRequest::decode(&traces.body[..]), Ok(spans(3, "send")));
        assert_eq!(ExportMetricsServiceRequest::decode(&metrics.body[..]), Ok(data_points(2)));
        assert_eq!(ExportLogsServiceRequest::decode(&logs.body[..]), Ok(log_records(1)));
        let paths = [&traces, &metrics, &logs].map(|arrived| arrived.path.as_str());
        assert_eq!(paths, ["/otlp/v1/traces", "/otlp/v1/metrics", "/otlp/v1/logs"]);
        for arrived in [&traces, &metrics, &logs] {
            assert_eq!(arrived.connection, 0, "the connection is used again");
            assert_eq!(value(&arrived.head, "api-key"), Some("a secret"));
            assert_eq!(value(&arrived.head, "content-type"), Some("application/x-protobuf"));
            assert_eq!(value(&arrived.head, "content-encoding").is_some(), compression == "gzip");
            assert_eq!(value(&arrived.head, "host"), Some(collector.address.to_string().as_str()));
        }
    }
}

#[test]
fn a_collector_that_is_absent_costs_the_request_after_all_attempts() {
    with_exporter(settings_for(absent()), async |exporter, state| {
        exporter.traces(&spans(3, "send"));
        flush(exporter).await;
        assert_eq!(counts(&state.collector, Signal::Traces), [0, 0, 3, 0]);
        assert_eq!(get(&state.collector.retries), u64::from(ATTEMPTS_MAX) - 1);
        let why = failure(&state.collector);
        assert!(why.contains("/v1/traces") && why.to_lowercase().contains("refused"), "{why}");
    });
}

#[test]
fn a_collector_that_is_busy_gets_the_request_again() {
    for status in [429, 502, 503, 504] {
        let collector = TestCollector::start(vec![Step::Answer(status, "", b"busy".to_vec())], None);
        with_exporter(settings_for(collector.address), async |exporter, state| {
            exporter.logs(&log_records(4));
            flush(exporter).await;
            assert_eq!(counts(&state.collector, Signal::Logs), [4, 0, 0, 0]);
            assert_eq!(get(&state.collector.retries), 1);
            assert_eq!(state.collector.activity(), Activity::Idle, "it has recovered");
        });
        assert_eq!(collector.next().body, collector.next().body);
    }
}

#[test]
fn a_collector_can_say_when_to_try_again() {
    let date = httpdate::fmt_http_date(std::time::SystemTime::now() - Duration::from_mins(1));
    let past: &'static str = format!("retry-after: {date}\r\n").leak();
    let collector = TestCollector::start(
        vec![Step::Answer(503, "retry-after: 1\r\n", Vec::new()), Step::Answer(429, past, Vec::new())],
        None,
    );
    with_exporter(settings_for(collector.address), async |exporter, state| {
        let start = Instant::now();
        exporter.logs(&log_records(1));
        flush(exporter).await;
        assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
        assert_eq!(counts(&state.collector, Signal::Logs), [1, 0, 0, 0]);
    });
}

#[test]
fn a_request_that_is_refused_is_not_sent_again() {
    for status in [400, 401, 404, 500, 302] {
        let collector = TestCollector::start(vec![Step::Answer(status, "", b"never".to_vec())], None);
        with_exporter(settings_for(collector.address), async move |exporter, state| {
            exporter.metrics(&data_points(5));
            flush(exporter).await;
            assert_eq!(counts(&state.collector, Signal::Metrics), [0, 0, 5, 0]);
            assert_eq!(get(&state.collector.retries), 0);
            let why = failure(&state.collector);
            assert!(why.contains(&format!("{status} ")) && why.ends_with(": never"), "{why}");

            exporter.metrics(&data_points(2));
            flush(exporter).await;
            assert_eq!(counts(&state.collector, Signal::Metrics), [2, 0, 5, 0]);
            assert_eq!(state.collector.activity(), Activity::Idle);
        });
    }
}

#[test]
fn a_connection_that_is_closed_is_opened_again() {
    let collector = TestCollector::start(vec![Step::CloseMidRequest, Step::AcceptThenClose], None);
    with_exporter(settings_for(collector.address), async |exporter, state| {
        for _ in 0..3 {
            exporter.traces(&spans(1, "send"));
            flush(exporter).await;
        }
        assert_eq!(counts(&state.collector, Signal::Traces), [3, 0, 0, 0]);
        // The close in the middle of a request, and the other one if the next request was written before it was seen.
        let retries = get(&state.collector.retries);
        assert!((1..=2).contains(&retries), "{retries}");
    });
    let connections = [(); 3].map(|()| collector.next().connection);
    assert_eq!(connections, [1, 2, 2]);
}

#[test]
fn a_request_that_is_sent_again_after_it_was_written_is_a_retry() {
    let collector = TestCollector::start(vec![Step::Answer(200, "", Vec::new()), Step::CloseMidRequest], None);
    with_exporter(settings_for(collector.address), async |exporter, state| {
        for _ in 0..2 {
            exporter.traces(&spans(1, "send"));
            flush(exporter).await;
        }
        assert_eq!(counts(&state.collector, Signal::Traces), [2, 0, 0, 0]);
        assert_eq!(get(&state.collector.retries), 1);
    });
    let connections = [(); 2].map(|()| collector.next().connection);
    assert_eq!(connections, [0, 1]);
}

#[test]
fn a_collector_that_does_not_answer_is_given_up_in_time() {
    let collector = TestCollector::start(vec![Step::Hold], None);
    let settings =
        settings(&[("otlp.endpoint", &format!("http://{}", collector.address)), ("otlp.timeout_ms", "1000")]);
    with_exporter(settings, async |exporter, state| {
        exporter.traces(&spans(1, "send"));
        flush(exporter).await;
        assert_eq!(counts(&state.collector, Signal::Traces), [1, 0, 0, 0]);
        assert!(get(&state.collector.retries) >= 1);
    });
    let connections = [(); 2].map(|()| collector.next().connection);
    assert_eq!(connections, [0, 1]);
}

#[test]
fn what_a_collector_rejects_is_counted() {
    let partial = ExportTracePartialSuccess { rejected_spans: 2, error_message: "too old".to_owned() };
    let answer = ExportTraceServiceResponse { partial_success: Some(partial) }.encode_to_vec();
    let collector = TestCollector::start(vec![Step::Answer(200, "", answer)], None);
    with_exporter(settings_for(collector.address), async |exporter, state| {
        exporter.traces(&spans(5, "send"));
        flush(exporter).await;
        assert_eq!(counts(&state.collector, Signal::Traces), [3, 0, 0, 2]);
    });
}

#[test]
fn a_secure_collector_has_to_prove_its_name() {
    let directory = TempDir::new().expect("a directory");
    let certificate = |name: &str| {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).expect("a certificate");
        let file = directory.path().join(format!("{name}.pem"));
        fs::write(&file, made.cert.pem()).expect("the file can be written");
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .expect("they fit");
        (file.display().to_string(), Arc::new(config))
    };
    let (localhost, config) = certificate("localhost");
    let (other, _) = certificate("elsewhere");
    let collector = TestCollector::start(Vec::new(), Some(config));
    let endpoint = format!("https://localhost:{}", collector.address.port());
    let settings = |file: &str| settings(&[("otlp.endpoint", &endpoint), ("otlp.certificate", file)]);

    with_exporter(settings(&localhost), async |exporter, state| {
        // More than a record of TLS and more than a buffer of a socket.
        let name = "n".repeat(100);
        for _ in 0..3 {
            exporter.traces(&spans(10_000, &name));
        }
        flush(exporter).await;
        assert_eq!(counts(&state.collector, Signal::Traces), [30_000, 0, 0, 0], "{:?}", state.collector.activity());
    });
    for _ in 0..3 {
        let arrived = collector.next();
        assert_eq!(arrived.connection, 0);
        let request = ExportTraceServiceRequest::decode(&arrived.body[..]).expect("it is whole");
        assert_eq!(request.resource_spans[0].scope_spans[0].spans.len(), 10_000);
    }

    with_exporter(settings(&other), async |exporter, state| {
        exporter.traces(&spans(1, "send"));
        flush(exporter).await;
        assert_eq!(counts(&state.collector, Signal::Traces), [0, 0, 1, 0]);
        assert!(failure(&state.collector).contains("certificate"), "{}", failure(&state.collector));
    });
}

#[test]
fn a_full_queue_drops_and_counts() {
    let collector = TestCollector::start(Vec::new(), None);
    let endpoint = format!("http://{}", collector.address);
    let with = |key, value| settings(&[("otlp.endpoint", &endpoint), (key, value)]);
    with_exporter(with("otlp.queue_requests", "2"), async |exporter, state| {
        // Nothing else runs on the executor meanwhile.
        for count in [1, 2, 4, 8, 16] {
            exporter.traces(&spans(count, "send"));
        }
        assert_eq!(counts(&state.collector, Signal::Traces), [0, 28, 0, 0]);
        flush(exporter).await;
        exporter.traces(&spans(32, "send"));
        flush(exporter).await;
        assert_eq!(counts(&state.collector, Signal::Traces), [35, 28, 0, 0]);
    });
    with_exporter(with("otlp.queue_bytes", "64 KiB"), async |exporter, state| {
        let large = "n".repeat(40_000);
        exporter.traces(&spans(1, &large));
        exporter.traces(&spans(2, &large));
        exporter.logs(&log_records(1));
        assert_eq!(counts(&state.collector, Signal::Traces), [0, 2, 0, 0]);
        assert!(get(&state.collector.queued_bytes) < 64 << 10);
        flush(exporter).await;
        assert_eq!(counts(&state.collector, Signal::Traces), [1, 2, 0, 0]);
        assert_eq!(counts(&state.collector, Signal::Logs), [1, 0, 0, 0]);
    });
}

#[test]
fn the_end_does_not_wait_for_attempts_after_it() {
    let mut settings = settings_for(absent());
    settings.retry_delay = Duration::from_hours(1);
    let executor = LocalExecutorBuilder::new(Placement::Unbound).io_memory(1 << 18).spawn(move || async move {
        let state = ExportState::default();
        let exporter = Exporter::start(settings, &state);
        exporter.traces(&spans(2, "send"));
        exporter.logs(&log_records(3));
        // The next attempt is due 24 seconds after the first, or later.
        let start = Instant::now();
        assert!(!exporter.close(Instant::now() + Duration::from_secs(20)).await);
        let waited = start.elapsed();
        assert_eq!(counts(&state.collector, Signal::Traces), [0, 0, 2, 0]);
        assert_eq!(counts(&state.collector, Signal::Logs), [0, 0, 3, 0]);
        assert_eq!(get(&state.collector.queued_requests), 0);
        waited
    });
    let waited = executor.expect("an executor").join().expect("the test passes");
    assert!(waited < Duration::from_secs(20), "{waited:?}");
}

#[test]
fn a_signal_without_an_endpoint_is_not_sent() {
    let collector = TestCollector::start(Vec::new(), None);
    let settings = settings(&[("otlp.logs_endpoint", &format!("http://{}/in", collector.address))]);
    with_exporter(settings, async |exporter, state| {
        exporter.traces(&spans(1, "send"));
        exporter.logs(&log_records(1));
        flush(exporter).await;
        assert_eq!(counts(&state.collector, Signal::Traces), [0; 4]);
        assert_eq!(counts(&state.collector, Signal::Logs), [1, 0, 0, 0]);
    });
    assert_eq!(collector.next().path, "/in");
}

/// The names of the files of traces, in order.
fn files_of_traces(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("it is there");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("it is text")).collect();
    names.retain(|name| name.starts_with("traces-"));
    names.sort();
    names
}

/// The names of the spans in all files, in order. Every line has to be a request.
fn written_spans(directory: &Path) -> Vec<String> {
    let mut spans = Vec::new();
    for name in files_of_traces(directory) {
        let text = fs::read_to_string(directory.join(name)).expect("it is text");
        assert!(text.is_empty() || text.ends_with('\n'), "{text}");
        for line in text.lines() {
            let request: ExportTraceServiceRequest = serde_json::from_str(line).expect(line);
            spans.extend(request.resource_spans[0].scope_spans[0].spans.iter().map(|span| span.name.clone()));
        }
    }
    spans
}

fn file_settings(directory: &Path, keys: &[(&str, &str)]) -> ExportSettings {
    let directory = directory.display().to_string();
    settings(&[&[("otlp.directory", directory.as_str())], keys].concat())
}

#[test]
fn each_signal_has_its_files() {
    let directory = TempDir::new().expect("a directory");
    let inner = directory.path().join("a/b");
    with_exporter(file_settings(&inner, &[]), async |exporter, state| {
        exporter.traces(&spans(2, "send"));
        exporter.metrics(&data_points(3));
        exporter.logs(&log_records(4));
        flush(exporter).await;
        let counts = Signal::ALL.map(|signal| counts(&state.files, signal));
        assert_eq!(counts, [[2, 0, 0, 0], [3, 0, 0, 0], [4, 0, 0, 0]], "{:?}", state.files.activity());
        assert_eq!((state.files.activity(), state.collector.activity()), (Activity::Idle, Activity::Off));
    });
    let read = |name| fs::read_to_string(inner.join(name)).expect("it is there");
    let traces = read("traces-00000001.jsonl");
    assert!(traces.contains("\"traceId\":\"07070707070707070707070707070707\""), "{traces}");
    assert_eq!(serde_json::from_str::<ExportTraceServiceRequest>(&traces).expect("a request"), spans(2, "send"));
    let metrics = serde_json::from_str::<ExportMetricsServiceRequest>(&read("metrics-00000001.jsonl"));
    assert_eq!(metrics.expect("a request"), data_points(3));
    let logs = serde_json::from_str::<ExportLogsServiceRequest>(&read("logs-00000001.jsonl"));
    assert_eq!(logs.expect("a request"), log_records(4));
}

#[test]
fn files_follow_one_another_and_the_oldest_are_removed() {
    let directory = TempDir::new().expect("a directory");
    let line = serde_json::to_string(&spans(1, &"0".repeat(600))).expect("JSON").len() + 1;
    let file_bytes = (2 * line).to_string();
    let keys = [("otlp.file_bytes", file_bytes.as_str()), ("otlp.files_max", "3")];
    // Two lines fit into a file. The second exporter goes on where the first stopped.
    for numbers in [0..7, 7..12] {
        let settings = file_settings(directory.path(), &keys);
        with_exporter(settings, async move |exporter, _| {
            for number in numbers {
                exporter.traces(&spans(1, &format!("{number:0600}")));
                flush(exporter).await;
            }
        });
    }
    let expected: Vec<_> = (6..12).map(|number| format!("{number:0600}")).collect();
    assert_eq!(written_spans(directory.path()), expected);
    let names = ["traces-00000004.jsonl", "traces-00000005.jsonl", "traces-00000006.jsonl"];
    assert_eq!(files_of_traces(directory.path()), names);
}

#[test]
fn a_torn_line_is_cut_off() {
    let line = format!("{}\n", serde_json::to_string(&spans(1, "whole")).expect("JSON"));
    for torn in [String::new(), line[..line.len() - 1].to_owned(), "{".to_owned(), "x".repeat(600_000)] {
        let directory = TempDir::new().expect("a directory");
        let file = directory.path().join("traces-00000007.jsonl");
        fs::write(&file, format!("{line}{torn}")).expect("the file can be written");
        with_exporter(file_settings(directory.path(), &[]), async |exporter, _| {
            exporter.traces(&spans(1, "next"));
            flush(exporter).await;
        });
        assert_eq!(written_spans(directory.path()), ["whole", "next"]);
        assert_eq!(files_of_traces(directory.path()).len(), 1);
    }
}

#[test]
fn a_directory_belongs_to_one_process() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().to_owned();
    with_exporter(file_settings(&path.clone(), &[]), async move |first, state| {
        first.traces(&spans(1, "first"));
        flush(first).await;
        let other_state = ExportState::default();
        let second = Exporter::start(file_settings(&path, &[]), &other_state);
        second.traces(&spans(1, "second"));
        flush(&second).await;
        assert!(second.close(Instant::now() + PATIENCE).await);
        assert_eq!(counts(&other_state.files, Signal::Traces), [0, 0, 1, 0]);
        assert!(failure(&other_state.files).contains("another process"), "{}", failure(&other_state.files));
        assert_eq!(counts(&state.files, Signal::Traces), [1, 0, 0, 0]);
        assert_eq!(written_spans(&path), ["first"]);
    });
}

#[test]
fn a_full_disk_fails_and_recovers() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().to_owned();
    symlink("/dev/full", path.join("traces-00000001.jsonl")).expect("a link can be made");
    with_exporter(file_settings(&path.clone(), &[]), async move |exporter, state| {
        exporter.traces(&spans(3, "lost"));
        flush(exporter).await;
        assert_eq!(counts(&state.files, Signal::Traces), [0, 0, 3, 0]);
        assert!(failure(&state.files).contains("No space left"), "{}", failure(&state.files));
        fs::remove_file(path.join("traces-00000001.jsonl")).expect("the link can be removed");
        exporter.traces(&spans(1, "kept"));
        flush(exporter).await;
        assert_eq!(counts(&state.files, Signal::Traces), [1, 0, 3, 0]);
        assert_eq!(state.files.activity(), Activity::Idle);
        assert_eq!(written_spans(&path), ["kept"]);
    });
}

/// A small file system, unmounted at the end of the test.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let directory = TempDir::new().expect("a directory");
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"]).arg(directory.path()).output();
        mount.is_ok_and(|output| output.status.success()).then_some(Self(directory))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn a_line_that_a_full_disk_tore_is_cut_off() {
    let Some(disk) = SmallDisk::mount() else {
        eprintln!("skipped: no file system can be mounted here");
        return;
    };
    let path = disk.0.path().to_owned();
    fs::write(path.join("other"), vec![1; 64 << 10]).expect("there is room");
    with_exporter(file_settings(&path.clone(), &[]), async move |exporter, state| {
        exporter.traces(&spans(1, "first"));
        // It begins to fit: some of it is written.
        exporter.traces(&spans(1, &"n".repeat(200 << 10)));
        flush(exporter).await;
        assert_eq!(counts(&state.files, Signal::Traces), [1, 0, 1, 0]);
        assert!(failure(&state.files).contains("No space left"), "{}", failure(&state.files));
        assert_eq!(written_spans(&path), ["first"]);
        fs::remove_file(path.join("other")).expect("it can be removed");
        let large = "m".repeat(200 << 10);
        exporter.traces(&spans(1, &large));
        exporter.traces(&spans(1, "last"));
        flush(exporter).await;
        assert_eq!(counts(&state.files, Signal::Traces), [3, 0, 1, 0]);
        assert_eq!(state.files.activity(), Activity::Idle);
        assert_eq!(written_spans(&path), ["first".to_owned(), large, "last".to_owned()]);
    });
}
