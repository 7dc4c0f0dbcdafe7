//! Sending and receiving over a WebSocket: `GET /v1/agents/{name}/ws`.
//!
//! Every message of the WebSocket is a JSON object with a `type`. The client sends
//!
//! - `{"type":"send","ref":...,"message":{...}}`: a message, by default with the agent as its sender;
//! - `{"type":"ack","ref":...,"ids":[...],"rejected":[...],"reason":...}`: what it has finished, and what it gives up.
//!
//! It gets `message` for each of the agent's messages, `sent` and `acknowledged` in response to its own, with the `ref`
//! that they had, and `problem` with the members of a problem. As with a stream of events, the next messages are taken
//! only once the client's connection has taken those before.

mod frame;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{
    CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::Response;
use caxton_shards::codec::json::to_json;
use caxton_shards::message::MessageId;
use futures_lite::future::or;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use self::frame::{Frame, Reader, Violation, accept_of};
use super::Api;
use super::caller::Caller;
use super::endpoint::{AGENT, Endpoint, responds};
use super::messages::parse_json;
use super::parameters::{AgentOfPath, Parameters};
use super::problem::Problem;
use super::receive::{Acknowledgement, BATCH_MAX, VISIBILITY, attach, visibility};
use super::stream::{OpenStream, heartbeat};
use crate::edge::OpenConnection;
use crate::edge::doors::deliveries::Delivery;
use crate::edge::doors::identity::{Identity, Operation};
use crate::edge::doors::outside::Attachment;
use crate::edge::doors::reason;

/// Maximum length of a message of the WebSocket, in bytes: memory for it belongs to the connection.
const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// Bytes read at a time.
const READ_BYTES: usize = 16 << 10;
/// Status of a closing frame: this side ends the connection.
const GOING_AWAY: u16 = 1001;
/// Status of a closing frame: nothing is wrong.
const NORMAL: u16 = 1000;

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(
        Method::GET,
        "/v1/agents/{name}/ws",
        "openSocket",
        "Opens a WebSocket to send and receive messages as an outside agent.",
        open,
    )
    .requires(&[Operation::Receive])
    .parameters([AGENT, VISIBILITY])
    .responds([responds(101, "The WebSocket is open. Its messages are JSON objects with a type.", &[])])
    .problems(&[400, 404, 409])
}

/// An open WebSocket.
struct Socket {
    api: Arc<Api>,
    identity: Arc<Identity>,
    attachment: Attachment,
    visibility: Duration,
    _open: OpenStream,
}

async fn open(
    State(api): State<Arc<Api>>,
    caller: Caller,
    AgentOfPath(name): AgentOfPath,
    Extension(connection): Extension<Arc<OpenConnection>>,
    request: Request,
) -> Result<Response, Problem> {
    let parameters = Parameters::read(request.uri(), &["visibility_ms"])?;
    let visibility = visibility(&parameters)?;
    let attachment = attach(&api, &caller, &name)?;
    let accept = handshake(request.headers())?;
    let open = OpenStream::begin(&api, connection)?;
    let socket = Socket { api, identity: caller.identity, attachment, visibility, _open: open };
    let upgraded = hyper::upgrade::on(request);
    tokio::spawn(async move {
        // The client may be gone before it has read the response.
        if let Ok(stream) = upgraded.await {
            socket.serve(TokioIo::new(stream)).await;
        }
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    Ok(response)
}

/// Checks what a client asks for, and returns the value that it expects.
fn handshake(headers: &HeaderMap) -> Result<HeaderValue, Problem> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).unwrap_or_default();
    let upgrades = text(CONNECTION).split(',').any(|word| word.trim().eq_ignore_ascii_case("upgrade"));
    let is_socket = text(UPGRADE).eq_ignore_ascii_case("websocket") && text(SEC_WEBSOCKET_VERSION) == "13";
    let key = text(SEC_WEBSOCKET_KEY);
    if !upgrades || !is_socket || key.is_empty() {
        return Err(Problem::new(
            reason::NO_WEBSOCKET,
            "this path is for WebSockets of version 13: the request asks for none",
        ));
    }
    HeaderValue::from_str(&accept_of(key)).map_err(|error| Problem::new(reason::NO_WEBSOCKET, error))
}

/// What a client sends.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
enum Order {
    Send {
        #[serde(default, rename = "ref")]
        reference: Value,
        message: Value,
    },
    Ack {
        #[serde(default, rename = "ref")]
        reference: Value,
        #[serde(default)]
        ids: Vec<String>,
        #[serde(default)]
        rejected: Vec<String>,
        reason: Option<String>,
    },
}

/// What happens next on a WebSocket.
enum Next {
    /// So many bytes were read.
    Read(usize),
    Deliveries(Vec<Delivery>),
    Heartbeat,
    End,
}

impl Socket {
    /// Serves the connection until one side ends it.
    async fn serve(self, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        let mut reader = Reader::new(MESSAGE_BYTES_MAX);
        let mut buffer = vec![0; READ_BYTES];
        let mut heard = Instant::now();
        let mut ping_at = heard + heartbeat(&self.api);
        let mut reads_first = true;
        let status = loop {
            // What was taken is written: it is lost otherwise.
            if self.identity.has_ended() || self.attachment.agent().is_gone() {
                break GOING_AWAY;
            }
            let next = self.next(&mut stream, &mut buffer, ping_at, reads_first).await;
            let was_read = matches!(next, Next::Read(_));
            let mut output = Vec::new();
            match next {
                Next::Read(0) => return,
                Next::Read(length) => {
                    reader.add(&buffer[..length]);
                    match self.obey(&mut reader, &mut output).await {
                        Ok(true) => {}
                        Ok(false) => break NORMAL,
                        Err(Violation(status)) => break status,
                    }
                }
                Next::Heartbeat if heard.elapsed() > self.api.context.idle() => break GOING_AWAY,
                Next::Heartbeat => {
                    frame::write_ping(&mut output);
                    ping_at = Instant::now() + heartbeat(&self.api);
                }
                Next::Deliveries(deliveries) => self.deliver(&deliveries, &mut output).await,
                Next::End => break GOING_AWAY,
            }
            if !self.write(&mut stream, &output).await {
                return;
            }
            if was_read {
                // Sending may have waited for room, and writing for the client, which could not be heard meanwhile.
                heard = Instant::now();
            }
            reads_first = !was_read;
        };
        let mut output = Vec::new();
        frame::write_close(status, &mut output);
        let _ = self.write(&mut stream, &output).await;
    }

    /// Waits for what happens next. What the client sends and what it gets take turns, as a busy client always sends and a
    /// busy agent always has messages; the heartbeat comes before messages.
    async fn next(
        &self,
        stream: &mut (impl AsyncRead + Unpin),
        buffer: &mut [u8],
        ping_at: Instant,
        reads_first: bool,
    ) -> Next {
        let read = async { stream.read(buffer).await.map_or(Next::Read(0), Next::Read) };
        let deliveries = async {
            let received = self.attachment.agent().receive(BATCH_MAX, self.visibility).await;
            received.map_or(Next::End, Next::Deliveries)
        };
        let silence = async {
            tokio::time::sleep_until(ping_at.into()).await;
            Next::Heartbeat
        };
        let ended = async {
            self.identity.ended().await;
            Next::End
        };
        let others = or(ended, or(silence, deliveries));
        if reads_first { or(read, others).await } else { or(others, read).await }
    }

    /// Writes bytes. Returns false if the client is gone, or has not taken them in time.
    async fn write(&self, stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> bool {
        let write = async {
            stream.write_all(bytes).await?;
            stream.flush().await
        };
        matches!(tokio::time::timeout(self.api.context.idle(), write).await, Ok(Ok(())))
    }

    async fn deliver(&self, deliveries: &[Delivery], output: &mut Vec<u8>) {
        let api = &self.api;
        api.names.learn(&api.context.router, deliveries.iter().map(|delivery| &delivery.message)).await;
        let names = |agent| api.names.get(agent);
        for Delivery { message, times } in deliveries {
            let id = message.id().map(|id| id.to_string()).unwrap_or_default();
            let mut text =
                format!("{{\"type\":\"message\",\"id\":\"{id}\",\"deliveries\":{times},\"message\":").into_bytes();
            to_json(message, &names, &mut text);
            text.push(b'}');
            frame::write_text(&text, output);
        }
    }

    /// Does what the client asks in the frames that have arrived. Returns false if it ends the connection.
    async fn obey(&self, reader: &mut Reader, output: &mut Vec<u8>) -> Result<bool, Violation> {
        while let Some(frame) = reader.next()? {
            match frame {
                Frame::Text(text) => {
                    frame::write_text(self.carry_out(text.as_bytes()).await.to_string().as_bytes(), output);
                }
                Frame::Ping(payload) => frame::write_pong(&payload, output),
                Frame::Pong => {}
                Frame::Close => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Does what the client asks, and returns the response.
    async fn carry_out(&self, text: &[u8]) -> Value {
        let (reference, done) = match serde_json::from_slice(text) {
            Ok(Order::Send { reference, message }) => {
                let sent = self.send(&message).await;
                (reference, sent.map(|id| json!({ "type": "sent", "message": id.to_string() })))
            }
            Ok(Order::Ack { reference, ids, rejected, reason }) => {
                (reference, self.finish(&Acknowledgement { ids, rejected, reason }))
            }
            Err(error) => (Value::Null, Err(Problem::new(reason::BAD_DOCUMENT, error))),
        };
        let mut response = done.unwrap_or_else(|problem| {
            let mut document = problem.to_json();
            document["type"] = "problem".into();
            document
        });
        response["ref"] = reference;
        response
    }

    async fn send(&self, message: &Value) -> Result<MessageId, Problem> {
        if !self.identity.may(Operation::Send) {
            return Err(Problem::new(reason::OPERATION_NOT_PERMITTED, "the token does not permit send"));
        }
        self.api.context.requests.take(self.identity.name(), Instant::now())?;
        let mut message = parse_json(&self.api, &self.identity, message.to_string().as_bytes())?;
        message.set_sender_if_absent(self.attachment.agent().inbox().id());
        let sent = self.api.context.router.within(self.api.context.idle()).send(message).await;
        sent.map_err(|error| Problem::of_send(error.kind()))
    }

    fn finish(&self, acknowledgement: &Acknowledgement) -> Result<Value, Problem> {
        let mut done = acknowledgement.carry_out(self.attachment.agent())?;
        done["type"] = "acknowledged".into();
        Ok(done)
    }
}
