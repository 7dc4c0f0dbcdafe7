//! Export to a collector: OTLP over HTTP with protobuf, compressed by gzip.

use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use flate2::write::GzEncoder;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message as _;
use rustls::ClientConfig;

use super::connection::{Connection, Connector, Origin, SendError, within};
use super::queue::Entry;
use super::sender::{Destination, Outcome};
use super::state::{DestinationState, Signal, SignalCounts};

/// Maximum size of a response that is read; the rest is ignored, and the connection closed.
const RESPONSE_BYTES_MAX: usize = 64 << 10;
/// Maximum length of a collector's error message in ours, in bytes.
const ERROR_BYTES_MAX: usize = 200;
/// Minimum length of a part of a header's value that is hidden where a collector repeats it, in bytes. Shorter ones are
/// words such as `Bearer`.
const SECRET_BYTES_MIN: usize = 8;
/// What is shown in its place.
const HIDDEN: &str = "<hidden>";
/// Bytes compressed before other tasks of the executor get their turn.
const COMPRESSED_AT_A_TIME: usize = 64 << 10;

const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");
const USER_AGENT: HeaderValue = HeaderValue::from_static(concat!("caxton-router/", env!("CARGO_PKG_VERSION")));

/// Where one signal is sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Target {
    pub origin: Origin,
    /// Host and port as in the URL.
    pub authority: HeaderValue,
    pub path: String,
}

/// How to send.
pub(super) struct CollectorSettings {
    /// By signal; a signal without one is not sent.
    pub targets: [Option<Target>; Signal::COUNT],
    pub headers: HeaderMap,
    pub gzip: bool,
    /// Limit for each attempt.
    pub timeout: Duration,
    /// Required if a target is secure.
    pub tls: Option<Arc<ClientConfig>>,
}

/// A collector, with the connections that are open.
pub(super) struct Collector {
    settings: CollectorSettings,
    connector: Connector,
    /// At most one for each origin.
    open: Vec<(Origin, Connection)>,
    /// Counts what is sent twice.
    state: Arc<DestinationState>,
}

/// A response, as far as it matters.
struct Received {
    status: StatusCode,
    retry_after: Option<Duration>,
    body: Vec<u8>,
}

impl Collector {
    pub fn new(mut settings: CollectorSettings, state: Arc<DestinationState>) -> Self {
        let connector = Connector::new(settings.tls.take());
        Self { settings, connector, open: Vec::new(), state }
    }

    /// Sends a request over an open connection, or else a new one.
    async fn exchange(&mut self, target: &Target, body: &Bytes) -> Result<Received, String> {
        let place = self.open.iter().position(|(origin, _)| *origin == target.origin);
        let idle = place.map(|place| self.open.swap_remove(place).1).filter(Connection::is_open);
        if let Some(mut connection) = idle {
            match connection.send(self.request(target, body)).await {
                Ok(response) => return self.receive(target, connection, response).await,
                // The collector may have closed it meanwhile; that is no failure. If something was written, it may have
                // arrived, so that this is a retry like others, but without a delay.
                Err(SendError { is_written: true, .. }) => SignalCounts::add(&self.state.retries, 1),
                Err(SendError { is_written: false, .. }) => {}
            }
        }
        let mut connection = self.connector.connect(&target.origin).await.map_err(|error| error.to_string())?;
        let response =
            connection.send(self.request(target, body)).await.map_err(|failed| with_causes(&failed.error))?;
        self.receive(target, connection, response).await
    }

    fn request(&self, target: &Target, body: &Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body.clone()));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = target.path.parse().unwrap_or_default();
        let headers = request.headers_mut();
        headers.insert(header::USER_AGENT, USER_AGENT);
        self.settings.headers.iter().for_each(|(name, value)| {
            headers.append(name, value.clone());
        });
        headers.insert(header::HOST, target.authority.clone());
        headers.insert(header::CONTENT_TYPE, PROTOBUF);
        if self.settings.gzip {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        request
    }

    /// Reads a response, and keeps the connection if it can be used again.
    async fn receive(
        &mut self,
        target: &Target,
        connection: Connection,
        response: Response<Incoming>,
    ) -> Result<Received, String> {
        let status = response.status();
        let retry_after = response.headers().get(header::RETRY_AFTER).and_then(retry_after);
        let mut incoming = response.into_body();
        let mut body = Vec::new();
        while let Some(frame) = incoming.frame().await {
            let frame = frame.map_err(|error| with_causes(&error))?;
            let Some(data) = frame.data_ref() else { continue };
            body.extend_from_slice(&data[..data.len().min(RESPONSE_BYTES_MAX - body.len())]);
            if body.len() >= RESPONSE_BYTES_MAX {
                return Ok(Received { status, retry_after, body });
            }
        }
        self.open.push((target.origin.clone(), connection));
        Ok(Received { status, retry_after, body })
    }
}

impl Destination for Collector {
    const NAME: &str = "the collector";

    async fn prepare(&mut self, entry: &Entry) -> Bytes {
        if self.settings.gzip { compressed(&entry.body).await } else { entry.body.clone() }
    }

    async fn send(&mut self, entry: &Entry, prepared: &Bytes) -> Outcome {
        let Some(target) = self.settings.targets[entry.signal as usize].clone() else {
            return Outcome::Refused { why: format!("there is no endpoint for {}", entry.signal.name()) };
        };
        let timeout = self.settings.timeout;
        let url = format!("{}{}", target.origin, target.path);
        match within(timeout, Box::pin(self.exchange(&target, prepared))).await {
            Some(Ok(received)) => judge(&url, entry.signal, &received, &self.settings.headers),
            Some(Err(why)) => Outcome::Again { why: format!("{url}: {why}"), after: None },
            None => {
                Outcome::Again { why: format!("{url}: no response within {} ms", timeout.as_millis()), after: None }
            }
        }
    }

    async fn close(self) {}
}

/// Decides by the status, as the specification of OTLP says.
fn judge(url: &str, signal: Signal, received: &Received, secrets: &HeaderMap) -> Outcome {
    let status = received.status;
    if status.is_success() {
        return Outcome::Delivered { rejected: rejected(signal, &received.body) };
    }
    let why = match words(&received.body, secrets) {
        Some(words) => format!("{url}: {status}: {words}"),
        None if status.is_redirection() => format!("{url}: {status}: redirections are not followed"),
        None => format!("{url}: {status}"),
    };
    match status.as_u16() {
        429 | 502..=504 => Outcome::Again { why, after: received.retry_after },
        _ => Outcome::Refused { why },
    }
}

/// Returns the number of items that the collector rejected. What is not a response in protobuf rejects none.
fn rejected(signal: Signal, body: &[u8]) -> u64 {
    let rejected = match signal {
        Signal::Traces => ExportTraceServiceResponse::decode(body)
            .ok()
            .and_then(|response| response.partial_success)
            .map(|partial| partial.rejected_spans),
        Signal::Metrics => ExportMetricsServiceResponse::decode(body)
            .ok()
            .and_then(|response| response.partial_success)
            .map(|partial| partial.rejected_data_points),
        Signal::Logs => ExportLogsServiceResponse::decode(body)
            .ok()
            .and_then(|response| response.partial_success)
            .map(|partial| partial.rejected_log_records),
    };
    rejected.and_then(|rejected| u64::try_from(rejected).ok()).unwrap_or(0)
}

/// The error of a collector: `google.rpc.Status`.
#[derive(Clone, PartialEq, prost::Message)]
struct Status {
    #[prost(string, tag = "2")]
    message: String,
}

/// Returns the beginning of a collector's error message, in protobuf or as text, without the values of our headers: a
/// collector may repeat a key that it refuses.
fn words(body: &[u8], secrets: &HeaderMap) -> Option<String> {
    let message = Status::decode(body).ok().map(|status| status.message).filter(|message| !message.is_empty());
    let text = message.unwrap_or_else(|| String::from_utf8_lossy(body).into_owned());
    let text = secrets.values().filter_map(|value| value.to_str().ok()).fold(text, |text, value| {
        let parts = value.split_whitespace().filter(|part| part.len() >= SECRET_BYTES_MIN);
        parts.fold(text, |text, part| text.replace(part, HIDDEN))
    });
    let text = text.trim();
    let end = text.floor_char_boundary(ERROR_BYTES_MAX);
    (!text.is_empty()).then(|| text[..end].to_owned())
}

/// Reads `Retry-After`: seconds, or a date.
fn retry_after(value: &HeaderValue) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}

/// Returns an error with its causes: hyper's own texts leave them out.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

async fn compressed(body: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), flate2::Compression::fast());
    for chunk in body.chunks(COMPRESSED_AT_A_TIME) {
        // Writing to memory does not fail.
        let _ = encoder.write_all(chunk);
        glommio::yield_if_needed().await;
    }
    encoder.finish().unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_is_in_seconds_or_until_a_date() {
        let read = |text| retry_after(&HeaderValue::from_static(text));
        assert_eq!(read("7"), Some(Duration::from_secs(7)));
        assert_eq!(read("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        assert_eq!((read("soon"), read("-1"), read("1.5")), (None, None, None));
        let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_hours(1));
        let delay = retry_after(&HeaderValue::from_str(&date).expect("it is ASCII")).expect("it is a date");
        assert!((Duration::from_mins(50)..=Duration::from_hours(1)).contains(&delay), "{delay:?}");
    }

    #[test]
    fn the_status_decides() {
        for (status, again) in
            [(429, true), (502, true), (503, true), (504, true), (400, false), (404, false), (500, false)]
        {
            let status = StatusCode::from_u16(status).expect("it is a status");
            let answer = Received { status, retry_after: None, body: b"no\n".to_vec() };
            let (is_again, why) = match judge("http://c:4318/v1/logs", Signal::Logs, &answer, &HeaderMap::new()) {
                Outcome::Again { why, .. } => (true, why),
                Outcome::Refused { why } => (false, why),
                Outcome::Delivered { .. } => panic!("{status} is a failure"),
            };
            assert_eq!((is_again, why), (again, format!("http://c:4318/v1/logs: {status}: no")));
        }
    }

    #[test]
    fn a_key_that_the_collector_repeats_is_not_shown() {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", HeaderValue::from_static("Bearer abcdefgh12345"));
        let said = words(b"Bearer token abcdefgh12345 is not known", &headers);
        assert_eq!(said.as_deref(), Some("Bearer token <hidden> is not known"));
    }

    #[test]
    fn the_words_of_a_collector_are_found_and_cut() {
        let status = Status { message: "too many spans".to_owned() };
        let words = |body: &[u8]| words(body, &HeaderMap::new());
        assert_eq!(words(&status.encode_to_vec()), Some("too many spans".to_owned()));
        assert_eq!((words(b" gone "), words(b"\n")), (Some("gone".to_owned()), None));
        assert_eq!(words(&b"w".repeat(1_000)).map(|words| words.len()), Some(ERROR_BYTES_MAX));
    }
}
