//! Receiving messages as server-sent events: `GET /v1/agents/{name}/stream`.
//!
//! What is there goes out in one piece of up to [`BATCH_MAX`] messages. The next one is taken only once the client's
//! connection has taken the one before: what a slow client does not read stays in the agent's mailbox, whose overflow
//! policy then decides what its senders learn of it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::Method;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use axum::http::request::Parts;
use axum::response::Response;
use bytes::{BufMut as _, Bytes};
use caxton_shards::codec::json::to_json;
use futures_lite::future::or;
use futures_lite::stream::unfold;
use tokio::time::error::Elapsed;

use super::Api;
use super::caller::Caller;
use super::endpoint::{AGENT, Endpoint, responds};
use super::parameters::{AgentOfPath, Parameters};
use super::problem::Problem;
use super::receive::{BATCH_MAX, VISIBILITY, attach, stream_permit, visibility};
use crate::edge::OpenConnection;
use crate::edge::doors::deliveries::Delivery;
use crate::edge::doors::identity::{Identity, Operation};
use crate::edge::doors::outside::Attachment;
use crate::edge::doors::room::RoomPlace;

/// The media type of server-sent events.
pub(super) const EVENTS: &str = "text/event-stream";
/// The last event of a stream whose token has expired, or was removed or changed.
pub(super) const TOKEN_ENDED: &[u8] = b"event: end\ndata: token-expired\n\n";
/// How often something is sent when there is nothing to say, so that both sides notice when the other is gone. It is
/// below the least time for idle connections.
const HEARTBEAT: Duration = Duration::from_millis(400);
/// How often it is sent where connections may be idle for long.
const HEARTBEAT_MAX: Duration = Duration::from_secs(15);

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(
        Method::GET,
        "/v1/agents/{name}/stream",
        "streamMessages",
        "Sends messages of an outside agent as server-sent events, each with its id and the message in JSON.",
        stream,
    )
    .requires(&[Operation::Receive])
    .parameters([AGENT, VISIBILITY])
    .responds([responds(200, "The events. The stream ends when the agent is deregistered.", &[(EVENTS, "Events")])])
    .problems(&[400, 404, 409])
}

/// A response without end. Dropping it frees its room.
pub(super) struct OpenStream {
    connection: Arc<OpenConnection>,
    _permit: RoomPlace,
}

impl OpenStream {
    pub fn begin(api: &Api, connection: Arc<OpenConnection>) -> Result<Self, Problem> {
        let permit = stream_permit(api)?;
        connection.begin_stream();
        Ok(Self { connection, _permit: permit })
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.connection.end_stream();
    }
}

/// Waits so long, but no longer than a token permits anything: then it returns `None`.
pub(super) async fn while_permitted<T>(
    identity: &Identity,
    within: Duration,
    work: impl Future<Output = T>,
) -> Option<Result<T, Elapsed>> {
    let ended = async {
        identity.ended().await;
        None
    };
    // A busy stream ends too.
    or(ended, async { Some(tokio::time::timeout(within, work).await) }).await
}

/// Returns how often something is sent at least.
pub(super) fn heartbeat(api: &Api) -> Duration {
    (api.context.idle() / 3).clamp(HEARTBEAT, HEARTBEAT_MAX)
}

/// Returns a response of events.
pub(super) fn events(events: impl futures_lite::Stream<Item = Result<Bytes, Infallible>> + Send + 'static) -> Response {
    let mut response = Response::new(Body::from_stream(events));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(EVENTS));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Proxies that collect responses would hold events up.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// The messages of one client.
struct Messages {
    api: Arc<Api>,
    attachment: Attachment,
    identity: Arc<Identity>,
    visibility: Duration,
    begun: bool,
    _open: OpenStream,
}

async fn stream(
    State(api): State<Arc<Api>>,
    caller: Caller,
    AgentOfPath(name): AgentOfPath,
    Extension(connection): Extension<Arc<OpenConnection>>,
    parts: Parts,
) -> Result<Response, Problem> {
    let parameters = Parameters::read(&parts.uri, &["visibility_ms"])?;
    let visibility = visibility(&parameters)?;
    let attachment = attach(&api, &caller, &name)?;
    let open = OpenStream::begin(&api, connection)?;
    let identity = caller.identity;
    let messages = Messages { api, attachment, identity, visibility, begun: false, _open: open };
    Ok(events(unfold(Some(messages), |messages| async {
        let mut messages = messages?;
        let (piece, goes_on) = messages.next().await;
        Some((Ok(piece), goes_on.then_some(messages)))
    })))
}

impl Messages {
    /// Returns the next piece, and whether another one follows.
    async fn next(&mut self) -> (Bytes, bool) {
        let agent = self.attachment.agent();
        if !std::mem::replace(&mut self.begun, true) {
            // The client learns that it is attached.
            return (Bytes::from_static(b": attached\n\n"), true);
        }
        let within = heartbeat(&self.api);
        let Some(received) = while_permitted(&self.identity, within, agent.receive(BATCH_MAX, self.visibility)).await
        else {
            return (Bytes::from_static(TOKEN_ENDED), false);
        };
        match received {
            Err(_) => (Bytes::from_static(b":\n\n"), true),
            Ok(Err(_)) => (Bytes::from_static(b"event: end\ndata: deregistered\n\n"), false),
            Ok(Ok(deliveries)) => {
                let messages = deliveries.iter().map(|delivery| &delivery.message);
                self.api.names.learn(&self.api.context.router, messages).await;
                (in_events(&self.api, &deliveries), true)
            }
        }
    }
}

fn in_events(api: &Api, deliveries: &[Delivery]) -> Bytes {
    let names = |agent| api.names.get(agent);
    let mut text = Vec::with_capacity(deliveries.len() * 512);
    for Delivery { message, .. } in deliveries {
        if let Some(id) = message.id() {
            text.put_slice(format!("id: {id}\n").as_bytes());
        }
        text.put_slice(b"data: ");
        to_json(message, &names, &mut text);
        text.put_slice(b"\n\n");
    }
    Bytes::from(text)
}
