//! Sending messages: `POST /v1/messages`.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use caxton_shards::codec::text::ParseError;
use caxton_shards::codec::{json, text};
use caxton_shards::message::{Message, MessageId, Receipt, TraceContext};

use super::Api;
use super::body::read_body;
use super::caller::Caller;
use super::endpoint::{Endpoint, Parameter, Place, query, responds};
use super::idempotency::{Begun, key_of};
use super::parameters::{Parameters, accepts_text, media_type, unsupported};
use super::problem::{Effect, Problem};
use super::receive::stream_permit;
use super::reply::{JSON, Reply};
use crate::clock::wall_time;
use crate::edge::doors::identity::{Identity, Operation};
use crate::edge::doors::reason;
use crate::edge::doors::room::RoomPlace;

/// The media type of messages in the string form of FIPA SC00070.
pub(super) const ACL: &str = "text/x-fipa-acl";
/// The media types of messages, for people.
const MESSAGE_MEDIA: &str = "application/json, text/x-fipa-acl, text/plain";
/// The header with the trace that a request belongs to.
const TRACEPARENT: &str = "traceparent";
/// The longest wait for a reply or a receipt, in milliseconds.
pub(crate) const WAIT_MS_MAX: u64 = 300_000;
/// The usual wait, in milliseconds.
const WAIT_MS: u64 = 30_000;
/// How long a message may take to be accepted, as a durable one is written to disk, before it takes a place among the
/// requests that wait.
const ACCEPTED_SOON: Duration = Duration::from_millis(500);

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::new(Method::POST, "/v1/messages", "sendMessage", "Sends a message.", send)
            .requires(&[Operation::Send])
            .parameters([
                query(
                    "wait",
                    r#"{"type":"string","enum":["accepted","receipt","reply"],"default":"accepted"}"#,
                    "What is waited for: that the message is accepted (a durable one is on disk then); the receipt that \
                     it asks for, or else that it was delivered; or the reply. A message with a sender gets its receipt \
                     and its replies through that agent, so only `accepted` is allowed for it.",
                ),
                query(
                    "timeout_ms",
                    r#"{"type":"integer","minimum":1,"maximum":300000,"default":30000}"#,
                    "How long is waited.",
                ),
                Parameter {
                    name: "Idempotency-Key",
                    place: Place::Header,
                    meaning: "The same request with the same key is carried out once, and gets the same response for 10 \
                              minutes, unless newer ones need the room: 10,000 keys and 64 MiB of responses are kept. \
                              What has failed without any effect is not kept.",
                    schema: r#"{"type":"string","minLength":1,"maxLength":255}"#,
                },
                Parameter {
                    name: TRACEPARENT,
                    place: Place::Header,
                    meaning: "The W3C trace context of a message that has no `X-caxton-traceparent`. One that is \
                              malformed is ignored.",
                    schema: r#"{"type":"string"}"#,
                },
            ])
            .body(&[(JSON, "Message"), (ACL, "MessageText"), ("text/plain", "MessageText")])
            .responds([
                responds(202, "The message was accepted.", &[(JSON, "Accepted")]),
                responds(
                    200,
                    "The receipt, or the reply: a message in the form that Accept asks for.",
                    &[(JSON, "ReplyOrReceipt"), (ACL, "MessageText")],
                ),
            ])
            .problems(&[400, 409, 413, 415, 422, 504]),
    ]
}

/// What a client waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Until {
    Accepted,
    Receipt,
    Reply,
}

/// How a message is to be sent.
#[derive(Clone, Copy)]
struct Sending {
    until: Until,
    within: Duration,
    /// The form of the message.
    form: Form,
    /// Whether the reply is to be in the string form.
    reply_as_text: bool,
}

/// The form of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    Json,
    Text,
}

impl Sending {
    fn of(parts: &Parts) -> Result<Self, Problem> {
        let parameters = Parameters::read(&parts.uri, &["wait", "timeout_ms"])?;
        let until = match parameters.text("wait") {
            None | Some("accepted") => Until::Accepted,
            Some("receipt") => Until::Receipt,
            Some("reply") => Until::Reply,
            Some(other) => {
                let detail = format!("wait: expected accepted, receipt or reply, not {other:?}");
                return Err(Problem::new(reason::BAD_PARAMETER, detail));
            }
        };
        let within = parameters.milliseconds("timeout_ms", 1..=WAIT_MS_MAX, WAIT_MS)?;
        Ok(Self { until, within, form: Form::of(&parts.headers)?, reply_as_text: accepts_text(&parts.headers) })
    }

    /// Reads the message.
    fn read(self, api: &Api, identity: &Identity, headers: &HeaderMap, body: &[u8]) -> Result<Message, Problem> {
        let mut message = parse(api, identity, self.form, body)?;
        // One that is malformed counts as none, as the W3C says.
        let context = headers.get(TRACEPARENT).and_then(|value| TraceContext::parse(value.to_str().ok()?));
        if let Some(context) = context {
            message.set_trace_if_absent(context);
        }
        if self.until != Until::Accepted && message.sender().is_some() {
            let detail = "the reply goes to the sender's inbox: leave the sender out to wait for it here";
            return Err(Problem::new(reason::SENDER_GIVEN, detail));
        }
        Ok(message)
    }

    /// Takes room for a response that always waits. One that is to be accepted [takes it](accept) only if that takes long.
    fn permit(self, api: &Api) -> Result<Option<RoomPlace>, Problem> {
        (self.until != Until::Accepted).then(|| stream_permit(api)).transpose()
    }
}

impl Form {
    pub fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        // The usual spelling needs no allocation.
        if headers.get(CONTENT_TYPE).is_some_and(|media| media.as_bytes() == JSON.as_bytes()) {
            return Ok(Self::Json);
        }
        match media_type(headers).as_deref() {
            Some(JSON) => Ok(Self::Json),
            Some(ACL | "text/plain") => Ok(Self::Text),
            _ => Err(unsupported(MESSAGE_MEDIA)),
        }
    }

    fn parse(self, body: &[u8], api: &Api) -> Result<Message, ParseError> {
        match self {
            Self::Json => json::from_json(body, wall_time(), &api.json_limits()),
            Self::Text => text::parse(body, wall_time(), &api.text_limits()),
        }
    }
}

/// Reads a message that the caller may send.
pub(super) fn read_message(
    api: &Api,
    identity: &Identity,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Message, Problem> {
    parse(api, identity, Form::of(headers)?, body)
}

/// Reads a message in JSON that the caller may send.
pub(super) fn parse_json(api: &Api, identity: &Identity, body: &[u8]) -> Result<Message, Problem> {
    parse(api, identity, Form::Json, body)
}

fn parse(api: &Api, identity: &Identity, form: Form, body: &[u8]) -> Result<Message, Problem> {
    let message = form.parse(body, api).map_err(|error| Problem::new(reason::MALFORMED_MESSAGE, error))?;
    if message.id().is_some() {
        let detail = "the router gives messages their ids: leave X-caxton-message-id out, and use an Idempotency-Key";
        return Err(Problem::new(reason::MESSAGE_ID_GIVEN, detail));
    }
    let Some(sender) = message.sender() else { return Ok(message) };
    let name = message.details().and_then(|details| details.sender.as_ref()).map(|aid| &aid.name);
    if !api.is_reserved(sender) && name.is_some_and(|name| identity.may_act_as(name)) {
        return Ok(message);
    }
    let name = name.map(ToString::to_string).unwrap_or_default();
    let detail =
        format!("\"{}\" may not send as {name}: leave the sender out, or name one of its agents", identity.name());
    Err(Problem::new(reason::FOREIGN_SENDER, detail))
}

async fn send(State(api): State<Arc<Api>>, caller: Caller, request: Request) -> Result<Response, Problem> {
    caller.require(Operation::Send)?;
    let (parts, body) = request.into_parts();
    let sending = Sending::of(&parts)?;
    let key = key_of(&parts.headers)?;
    let body = read_body(&api.bodies, &parts.headers, body, api.message_bytes_max()).await?;
    let Some(key) = key else {
        let message = sending.read(&api, &caller.identity, &parts.headers, &body.bytes)?;
        // The memory for bodies is not held while the reply is waited for.
        drop(body);
        let _permit = sending.permit(&api)?;
        return carry_out(&api, sending, message).await.map(IntoResponse::into_response);
    };
    let hash = hash_of(&parts, sending, &body.bytes);
    let ticket = match api.idempotency.begin(caller.identity.name(), key, hash)? {
        Begun::Known(reply) => return Ok(reply.into_response()),
        Begun::New(ticket) => ticket,
    };
    let message = sending.read(&api, &caller.identity, &parts.headers, &body.bytes)?;
    drop(body);
    let permit = sending.permit(&api)?;
    // Its response is kept even if the client does not wait for it.
    let api = Arc::clone(&api);
    let sent = tokio::spawn(async move {
        let _permit = permit;
        let sent = carry_out(&api, sending, message).await;
        match &sent {
            Ok(reply) => ticket.keep(reply),
            Err(problem) if problem.may_be_repeated() => drop(ticket),
            Err(problem) => ticket.keep(&problem.to_reply()),
        }
        sent
    });
    match sent.await {
        Ok(sent) => sent.map(IntoResponse::into_response),
        Err(_) => Err(Problem::new(reason::STOPPING, "the doors are being closed")),
    }
}

/// Returns the hash of what distinguishes requests.
fn hash_of(parts: &Parts, sending: Sending, body: &[u8]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    let is_text = sending.until == Until::Reply && sending.reply_as_text;
    for part in [
        &[u8::from(is_text)][..],
        parts.uri.query().unwrap_or_default().as_bytes(),
        parts.headers.get(CONTENT_TYPE).map_or(&[][..], |media| media.as_bytes()),
        body,
    ] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize()
}

async fn carry_out(api: &Api, sending: Sending, mut message: Message) -> Result<Reply, Problem> {
    let router = &api.context.router;
    match sending.until {
        Until::Accepted => {
            let id = accept(api, message, sending.within).await?;
            let body = Bytes::from(format!("{{\"message\":\"{id}\"}}\n"));
            Ok(Reply { status: StatusCode::ACCEPTED, media: JSON, body })
        }
        Until::Receipt => {
            message.ask_for_receipt(Receipt::Delivered);
            let asked_for = message.receipt();
            let notice = router.send_for_receipt(message, sending.within).await;
            let notice = notice.map_err(|error| Problem::of_ask(&error))?;
            Ok(receipt(asked_for, &notice))
        }
        Until::Reply => {
            let reply = router.ask(message, sending.within).await.map_err(|error| Problem::of_ask(&error))?;
            api.names.learn(router, std::iter::once(&reply)).await;
            Ok(written(api, &reply, sending.reply_as_text))
        }
    }
}

/// Sends a message and waits until it is accepted. Without room to wait for long, it is withdrawn; it may have been
/// accepted at this moment.
async fn accept(api: &Api, message: Message, within: Duration) -> Result<MessageId, Problem> {
    let router = api.context.router.within(within);
    let mut sending = std::pin::pin!(router.send(message));
    let accepted = if let Ok(soon) = tokio::time::timeout(ACCEPTED_SOON, &mut sending).await {
        soon
    } else {
        let _permit = stream_permit(api).map_err(|problem| problem.with_effect(Effect::Possible))?;
        sending.await
    };
    accepted.map_err(|error| Problem::of_send(error.kind()))
}

/// Returns a receipt. The router's notice names the message: `((delivered (inform m... ...)))`.
fn receipt(asked_for: Receipt, notice: &Message) -> Reply {
    let word = if asked_for == Receipt::Processed { "processed" } else { "delivered" };
    let text = notice.content().as_text().unwrap_or_default();
    let id = text.split(['(', ')', ' ']).find(|word| word.len() == 33 && word.starts_with('m')).unwrap_or_default();
    Reply::ok(&serde_json::json!({ "message": id, "receipt": word }))
}

/// Returns a message in the form that is asked for.
fn written(api: &Api, message: &Message, as_text: bool) -> Reply {
    let mut bytes = Vec::new();
    let names = |agent| api.names.get(agent);
    let media = if as_text {
        text::print(message, &names, &mut bytes);
        ACL
    } else {
        json::to_json(message, &names, &mut bytes);
        JSON
    };
    bytes.push(b'\n');
    Reply { status: StatusCode::OK, media, body: Bytes::from(bytes) }
}
