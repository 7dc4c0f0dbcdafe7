//! Receiving messages: long polls and acknowledgements. The other ways are [`stream`] and [`socket`].

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use bytes::Bytes;
use caxton_shards::codec::json::to_json;
use caxton_shards::dead_letter::DeadLetterReason;
use caxton_shards::domain::AgentName;
use caxton_shards::message::MessageId;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Api;
use super::body::read_json;
use super::caller::Caller;
use super::endpoint::{AGENT, Endpoint, Parameter, query, responds};
use super::parameters::{AgentOfPath, Parameters};
use super::problem::Problem;
use super::reply::{JSON, Reply};
use super::{socket, stream};
use crate::edge::doors::deliveries::Delivery;
use crate::edge::doors::identity::{Operation, TokenError};
use crate::edge::doors::outside::{Attachment, OutsideAgent};
use crate::edge::doors::reason;
use crate::edge::doors::room::RoomPlace;
use crate::router::inbox::ReceiveError;

/// Maximum number of messages handed out at a time.
pub(super) const BATCH_MAX: usize = 256;
/// The longest wait of a long poll, in milliseconds.
const POLL_MS_MAX: u64 = 60_000;
/// The visibility timeout, in milliseconds: its limits and its usual value.
const VISIBILITY_MS: RangeInclusive<u64> = 100..=3_600_000;
const VISIBILITY_MS_USUAL: u64 = 30_000;
/// Maximum number of ids of one acknowledgement.
const IDS_MAX: usize = 1_024;

/// The parameter for the visibility timeout.
pub(super) const VISIBILITY: Parameter = query(
    "visibility_ms",
    r#"{"type":"integer","minimum":100,"maximum":3600000,"default":30000}"#,
    "For an agent with acknowledgements: a message that is not acknowledged within this time is handed out again, 5 times \
     in all; the next request for messages after that makes it a dead letter.",
);

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::new(
            Method::GET,
            "/v1/agents/{name}/messages",
            "receiveMessages",
            "Takes messages of an outside agent, and waits for some.",
            poll,
        )
        .requires(&[Operation::Receive])
        .parameters([
            AGENT,
            query(
                "max",
                r#"{"type":"integer","minimum":1,"maximum":256,"default":32}"#,
                "The number of messages at most.",
            ),
            query(
                "wait_ms",
                r#"{"type":"integer","minimum":0,"maximum":60000,"default":0}"#,
                "How long to wait for the first one.",
            ),
            VISIBILITY,
        ])
        .responds([responds(200, "The messages; none if there were none in time.", &[(JSON, "Deliveries")])])
        .problems(&[400, 404, 409, 410]),
        Endpoint::new(
            Method::POST,
            "/v1/agents/{name}/ack",
            "acknowledgeMessages",
            "Acknowledges messages of an agent with acknowledgements, or gives them up.",
            acknowledge,
        )
        .requires(&[Operation::Receive])
        .parameters([AGENT])
        .body(&[(JSON, "Acknowledgement")])
        .responds([responds(
            200,
            "How many of them were handed out and not acknowledged before.",
            &[(JSON, "Acknowledged")],
        )])
        .problems(&[400, 404, 409, 413, 415, 422]),
        stream::endpoint(),
        socket::endpoint(),
    ]
}

/// Attaches a caller to an outside agent.
pub(super) fn attach(api: &Api, caller: &Caller, name: &AgentName) -> Result<Attachment, Problem> {
    caller.require(Operation::Receive)?;
    let attachment = api.context.outside.attach(&caller.identity, name)?;
    let missing = || {
        let detail = format!("no outside agent is named {name}: register it with PUT /v1/agents/{name}");
        Problem::new(reason::UNKNOWN_AGENT, detail)
    };
    let attachment = attachment.ok_or_else(missing)?;
    api.names.note(name);
    Ok(attachment)
}

/// Takes room for a response that waits.
pub(super) fn stream_permit(api: &Api) -> Result<RoomPlace, Problem> {
    let full = || {
        let detail =
            "too many streams are open and requests wait: doors.connections_max limits them to three quarters of it";
        Problem::new(reason::TOO_MANY_STREAMS, detail)
    };
    api.streams.enter((api.context.connections_max() * 3 / 4).max(1)).ok_or_else(full)
}

/// Returns the visibility timeout of a request.
pub(super) fn visibility(parameters: &Parameters) -> Result<Duration, Problem> {
    parameters.milliseconds("visibility_ms", VISIBILITY_MS, VISIBILITY_MS_USUAL)
}

/// Returns the problem of an agent that gets nothing any more.
pub(super) fn ended(error: ReceiveError) -> Problem {
    match error {
        ReceiveError::Stopped => {
            let detail = "the agent was deregistered, or the router has stopped";
            Problem::new(reason::of_dead_letter(DeadLetterReason::Deregistered), detail).with_status(StatusCode::GONE)
        }
        other => Problem::new(reason::STOPPING, other),
    }
}

async fn poll(
    State(api): State<Arc<Api>>,
    caller: Caller,
    AgentOfPath(name): AgentOfPath,
    parts: Parts,
) -> Result<Reply, Problem> {
    let parameters = Parameters::read(&parts.uri, &["max", "wait_ms", "visibility_ms"])?;
    let max = parameters.number("max", 1..=BATCH_MAX as u64, 32)?;
    let max = usize::try_from(max).unwrap_or(BATCH_MAX);
    let wait = parameters.milliseconds("wait_ms", 0..=POLL_MS_MAX, 0)?;
    let visibility = visibility(&parameters)?;
    let attachment = attach(&api, &caller, &name)?;
    let agent = attachment.agent();
    let mut deliveries = agent.take(max, visibility).map_err(ended)?;
    if deliveries.is_empty() && !wait.is_zero() {
        let _permit = stream_permit(&api)?;
        deliveries = match stream::while_permitted(&caller.identity, wait, agent.receive(max, visibility)).await {
            Some(Ok(received)) => received.map_err(ended)?,
            Some(Err(_)) => Vec::new(),
            None => return Err(TokenError::Expired.into()),
        };
    }
    api.names.learn(&api.context.router, deliveries.iter().map(|delivery| &delivery.message)).await;
    Ok(Reply { status: StatusCode::OK, media: JSON, body: in_json(&api, &deliveries) })
}

fn in_json(api: &Api, deliveries: &[Delivery]) -> Bytes {
    let names = |agent| api.names.get(agent);
    let mut text = b"{\"messages\":[".to_vec();
    for (place, Delivery { message, times }) in deliveries.iter().enumerate() {
        let separator = if place > 0 { "," } else { "" };
        let id = message.id().map(|id| id.to_string()).unwrap_or_default();
        text.extend_from_slice(format!("{separator}{{\"id\":\"{id}\",\"deliveries\":{times},\"message\":").as_bytes());
        to_json(message, &names, &mut text);
        text.push(b'}');
    }
    text.extend_from_slice(b"]}\n");
    Bytes::from(text)
}

/// Which messages are finished.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Acknowledgement {
    #[serde(default)]
    pub ids: Vec<String>,
    #[serde(default)]
    pub rejected: Vec<String>,
    pub reason: Option<String>,
}

async fn acknowledge(
    State(api): State<Arc<Api>>,
    caller: Caller,
    AgentOfPath(name): AgentOfPath,
    request: Request,
) -> Result<Reply, Problem> {
    let (parts, body) = request.into_parts();
    let attachment = attach(&api, &caller, &name)?;
    let agent = attachment.agent();
    requires_acknowledgements(agent)?;
    let read: Option<Acknowledgement> = read_json(&api.bodies, &parts.headers, body).await?;
    let Some(acknowledgement) = read else {
        return Err(Problem::new(reason::BAD_DOCUMENT, "expected {\"ids\": [...]}"));
    };
    acknowledgement.carry_out(agent).map(|done| Reply::ok(&done))
}

impl Acknowledgement {
    /// Acknowledges and gives up what it says, and returns how many messages of each.
    pub fn carry_out(&self, agent: &OutsideAgent) -> Result<Value, Problem> {
        requires_acknowledgements(agent)?;
        if self.ids.len() + self.rejected.len() > IDS_MAX {
            return Err(Problem::new(reason::TOO_MANY_IDS, format!("the limit is {IDS_MAX} ids")));
        }
        let (ids, rejected) = (parse_ids(&self.ids)?, parse_ids(&self.rejected)?);
        let acknowledged = agent.acknowledge(&ids);
        let why = self.reason.as_deref().unwrap_or("its receiver gave it up");
        let rejected = agent.reject(&rejected, why);
        Ok(json!({ "acknowledged": acknowledged, "rejected": rejected }))
    }
}

fn requires_acknowledgements(agent: &OutsideAgent) -> Result<(), Problem> {
    if agent.is_acknowledged() {
        return Ok(());
    }
    let name = agent.name();
    let detail =
        format!("{name} is registered without acknowledgements: its messages are processed when they are taken");
    Err(Problem::new(reason::OTHER_MODE, detail))
}

/// Parses the ids of messages.
fn parse_ids(texts: &[String]) -> Result<Vec<MessageId>, Problem> {
    let parse = |text: &String| {
        let detail = || format!("{text:?} is not the id of a message: expected m and 32 hexadecimal digits");
        parse_id(text).ok_or_else(|| Problem::new(reason::BAD_MESSAGE_ID, detail()))
    };
    texts.iter().map(parse).collect()
}

/// Parses the id of a message.
fn parse_id(text: &str) -> Option<MessageId> {
    let digits = text.strip_prefix('m').filter(|digits| digits.len() == 32 && digits.is_ascii())?;
    MessageId::from_u128(u128::from_str_radix(digits, 16).ok()?)
}
