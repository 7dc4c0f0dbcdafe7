//! Dead letters: `/v1/dead-letters`.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::State;
use axum::http::Method;
use axum::http::request::Parts;
use caxton_shards::codec::json::to_json;
use caxton_shards::dead_letter::{DeadLetter, DeadLetterFilter, DeadLetterId, DeadLetterReason};
use caxton_shards::domain::AgentName;
use caxton_shards::message::{AgentId, ConversationId, Performative, WallTime};
use serde_json::{Value, json};

use super::Api;
use super::audit::audited;
use super::caller::Caller;
use super::endpoint::{Endpoint, Parameter, Place, query, responds};
use super::parameters::{Parameters, path_text};
use super::problem::Problem;
use super::reply::{JSON, Reply};
use crate::edge::doors::identity::Operation;
use crate::edge::doors::reason;
use crate::router::dead_letters::DeadLetterCursor;

/// Maximum and usual number of dead letters of a page.
const PAGE_MAX: u64 = 1_000;
const PAGE: u64 = 100;
/// The parameters that select dead letters.
const FILTERS: [&str; 7] = ["reason", "receiver", "sender", "conversation", "performative", "since", "until"];

const REASON: Parameter = query("reason", r#"{"type":"string"}"#, "The reason, such as unknown-receiver.");
const RECEIVER: Parameter = query("receiver", r#"{"type":"string"}"#, "The agent that it was for.");
const SENDER: Parameter = query("sender", r#"{"type":"string"}"#, "The agent that sent it.");
const CONVERSATION: Parameter = query("conversation", r#"{"type":"string"}"#, "The id of its conversation.");
const PERFORMATIVE: Parameter = query("performative", r#"{"type":"string"}"#, "Its performative.");
const SINCE: Parameter =
    query("since", r#"{"type":"string"}"#, "Given up then or later: a time of RFC 3339, or milliseconds since 1970.");
const UNTIL: Parameter = query("until", r#"{"type":"string"}"#, "Given up before.");
const ALL: Parameter = query("all", r#"{"type":"boolean"}"#, "`true` if no filter is given on purpose.");
const TO: Parameter = query("to", r#"{"type":"string"}"#, "The agent to send to instead of the receiver.");
const ID: Parameter = Parameter {
    name: "id",
    place: Place::Path,
    meaning: "The id of the dead letter.",
    schema: r#"{"type":"string","pattern":"^d[0-9]+-[0-9]+$"}"#,
};

pub(super) fn endpoints() -> Vec<Endpoint> {
    const EVERY: &str = "/v1/dead-letters";
    const ONE: &str = "/v1/dead-letters/{id}";
    let list =
        Endpoint::new(Method::GET, EVERY, "listDeadLetters", "Lists dead letters, newest first, page by page.", list);
    let purge_all = Endpoint::new(Method::DELETE, EVERY, "purgeDeadLetters", "Deletes dead letters.", purge_all);
    let replay_all = Endpoint::new(
        Method::POST,
        "/v1/dead-letters/replay",
        "replayDeadLetters",
        "Sends the messages of dead letters again, oldest first. A letter whose message does not arrive is kept.",
        replay_all,
    );
    let show = Endpoint::new(Method::GET, ONE, "getDeadLetter", "Returns a dead letter with its message.", show);
    let purge = Endpoint::new(Method::DELETE, ONE, "purgeDeadLetter", "Deletes a dead letter.", purge);
    let replay = Endpoint::new(
        Method::POST,
        "/v1/dead-letters/{id}/replay",
        "replayDeadLetter",
        "Sends the message of a dead letter again. The letter is kept if the message does not arrive.",
        replay,
    );
    vec![
        list.requires(&[Operation::Observe])
            .parameters([
                REASON,
                RECEIVER,
                SENDER,
                CONVERSATION,
                PERFORMATIVE,
                SINCE,
                UNTIL,
                query("limit", r#"{"type":"integer","minimum":1,"maximum":1000,"default":100}"#, "The size of a page."),
                query("cursor", r#"{"type":"string"}"#, "`next` of the previous page."),
            ])
            .responds([responds(200, "A page of dead letters.", &[(JSON, "DeadLetterPage")])])
            .problems(&[400]),
        purge_all
            .requires(&[Operation::Operate])
            .parameters([REASON, RECEIVER, SENDER, CONVERSATION, PERFORMATIVE, SINCE, UNTIL, ALL])
            .responds([responds(200, "How many were deleted.", &[(JSON, "Purged")])])
            .problems(&[400]),
        replay_all
            .requires(&[Operation::Operate])
            .parameters([REASON, RECEIVER, SENDER, CONVERSATION, PERFORMATIVE, SINCE, UNTIL, ALL, TO])
            .responds([responds(200, "How many were replayed, and how many were not.", &[(JSON, "Replayed")])])
            .problems(&[400]),
        show.requires(&[Operation::Observe])
            .parameters([ID])
            .responds([responds(200, "The dead letter.", &[(JSON, "DeadLetter")])])
            .problems(&[400, 404]),
        purge
            .requires(&[Operation::Operate])
            .parameters([ID])
            .responds([responds(204, "It is deleted.", &[])])
            .problems(&[400, 404]),
        replay
            .requires(&[Operation::Operate])
            .parameters([ID, TO])
            .responds([responds(200, "The new message's id.", &[(JSON, "Accepted")])])
            .problems(&[400, 404, 409]),
    ]
}

/// Returns the filter of a request, and what it says, for the audit.
fn filter_of(parameters: &Parameters) -> Result<(DeadLetterFilter, String), Problem> {
    let bad = |name: &str, detail: String| Problem::new(reason::BAD_PARAMETER, format!("{name}: {detail}"));
    let reason = parameters.one_of("reason", DeadLetterReason::ALL.map(DeadLetterReason::as_str).into_iter())?;
    let time =
        |name: &str| parameters.text(name).map(|text| moment(text).map_err(|detail| bad(name, detail))).transpose();
    let agent = |name: &str| parameters.value::<AgentName>(name).map(|name| name.as_ref().map(AgentId::of));
    let filter = DeadLetterFilter {
        id: None,
        reason: DeadLetterReason::ALL.into_iter().find(|known| Some(known.as_str()) == reason),
        receiver: agent("receiver")?,
        sender: agent("sender")?,
        conversation: parameters.text("conversation").map(ConversationId::of_text),
        performative: parameters.value::<Performative>("performative")?,
        since: time("since")?,
        until: time("until")?,
    };
    let said = FILTERS.iter().filter_map(|name| Some(format!("{name}={}", parameters.text(name)?)));
    Ok((filter, said.collect::<Vec<_>>().join(" ")))
}

/// Like [`filter_of`], for a change: it has to say so if it means all of them.
fn filter_for_change(parameters: &Parameters) -> Result<(DeadLetterFilter, String), Problem> {
    let all = parameters.value::<bool>("all")?.unwrap_or(false);
    let (filter, said) = filter_of(parameters)?;
    match (said.is_empty(), all) {
        (true, true) => Ok((filter, "all".to_owned())),
        (false, false) => Ok((filter, said)),
        (true, false) => {
            Err(Problem::new(reason::FILTER_MISSING, "name the dead letters by a filter, or all of them by all=true"))
        }
        (false, true) => Err(Problem::new(reason::BAD_PARAMETER, "all=true does not go together with a filter")),
    }
}

fn moment(text: &str) -> Result<WallTime, String> {
    if let Ok(milliseconds) = text.parse::<u64>() {
        return Ok(WallTime(milliseconds));
    }
    let time: SystemTime = humantime::parse_rfc3339_weak(text).map_err(|_| {
        format!("expected a time such as 2027-06-30T12:00:00Z or milliseconds since 1970, not {text:?}")
    })?;
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(WallTime(u64::try_from(since.as_millis()).unwrap_or(u64::MAX)))
}

async fn id_of(parts: &mut Parts) -> Result<DeadLetterId, Problem> {
    path_text(parts, "id").await?.parse().map_err(|error| Problem::new(reason::BAD_PARAMETER, error))
}

fn unknown(id: DeadLetterId) -> Problem {
    let detail =
        format!("there is no dead letter {id}: it was replayed, purged or dropped for newer ones, or never existed");
    Problem::new(reason::UNKNOWN_DEAD_LETTER, detail)
}

/// Returns what a list says of a dead letter.
fn summary(api: &Api, letter: &DeadLetter) -> Value {
    let name = |agent: Option<AgentId>| {
        agent.map(|agent| api.names.get(agent).map_or_else(|| agent.to_string(), |name| name.to_string()))
    };
    let message = &letter.message;
    json!({
        "id": letter.id.to_string(),
        "reason": letter.reason.as_str(),
        "explanation": letter.reason.explanation(),
        "last_error": letter.last_error.as_deref(),
        "attempts": letter.attempts,
        "replays": letter.replays,
        "first_ms": letter.first.0,
        "last_ms": letter.last.0,
        "shard": letter.shard.0,
        "message_id": message.id().map(|id| id.to_string()),
        "sender": name(message.sender()),
        "receiver": name(message.target()),
        "performative": message.performative().as_str(),
        "conversation": message.conversation_text(),
        "content_bytes": message.content().len(),
    })
}

/// Learns the names of the agents of dead letters.
async fn learn(api: &Api, letters: &[DeadLetter]) {
    for letter in letters {
        for aid in letter.message.details().iter().flat_map(|details| details.sender.iter().chain(&details.receivers)) {
            api.names.note(&aid.name);
        }
    }
    api.names.learn(&api.context.router, letters.iter().map(|letter| &letter.message)).await;
}

async fn list(State(api): State<Arc<Api>>, caller: Caller, parts: Parts) -> Result<Reply, Problem> {
    caller.require(Operation::Observe)?;
    let known = [&FILTERS[..], &["limit", "cursor"]].concat();
    let parameters = Parameters::read(&parts.uri, &known)?;
    let (filter, _) = filter_of(&parameters)?;
    let limit = parameters.number("limit", 1..=PAGE_MAX, PAGE)?;
    let cursor = parameters.text("cursor").map(|text| {
        let ids: Result<Vec<DeadLetterId>, _> = text.split(',').map(str::parse).collect();
        let detail = "cursor: expected `next` of the previous page";
        ids.map(DeadLetterCursor).map_err(|_| Problem::new(reason::BAD_PARAMETER, detail))
    });
    let cursor = cursor.transpose()?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let page = api.context.router.find_dead_letters(&filter, limit, cursor.as_ref()).await?;
    learn(&api, &page.letters).await;
    let next = page.next.map(|next| next.0.iter().map(ToString::to_string).collect::<Vec<_>>().join(","));
    let letters: Vec<_> = page.letters.iter().map(|letter| summary(&api, letter)).collect();
    Ok(Reply::ok(&json!({ "dead_letters": letters, "next": next })))
}

async fn show(State(api): State<Arc<Api>>, caller: Caller, mut parts: Parts) -> Result<Reply, Problem> {
    caller.require(Operation::Observe)?;
    let id = id_of(&mut parts).await?;
    let letter = api.context.router.dead_letter(id).await?.ok_or_else(|| unknown(id))?;
    learn(&api, std::slice::from_ref(&letter)).await;
    let mut shown = summary(&api, &letter);
    let mut message = Vec::new();
    to_json(&letter.message, &|agent| api.names.get(agent), &mut message);
    shown["message"] = serde_json::from_slice(&message).unwrap_or_default();
    Ok(Reply::ok(&shown))
}

async fn purge_all(State(api): State<Arc<Api>>, caller: Caller, parts: Parts) -> Result<Reply, Problem> {
    caller.require(Operation::Operate)?;
    let parameters = Parameters::read(&parts.uri, &[&FILTERS[..], &["all"]].concat())?;
    let (filter, said) = filter_for_change(&parameters)?;
    let router = api.context.router.clone();
    audited(&api, &caller, "dead-letters.purge", said, async move {
        let result = json!({ "purged": router.purge_dead_letters(&filter).await? });
        Ok((Reply::ok(&result), result))
    })
    .await
}

async fn purge(State(api): State<Arc<Api>>, caller: Caller, mut parts: Parts) -> Result<Reply, Problem> {
    caller.require(Operation::Operate)?;
    let id = id_of(&mut parts).await?;
    let router = api.context.router.clone();
    audited(&api, &caller, "dead-letters.purge", id.to_string(), async move {
        match router.purge_dead_letters(&DeadLetterFilter::only(id)).await? {
            0 => Err(unknown(id)),
            purged => Ok((Reply::empty(), json!({ "purged": purged }))),
        }
    })
    .await
}

async fn replay_all(State(api): State<Arc<Api>>, caller: Caller, parts: Parts) -> Result<Reply, Problem> {
    caller.require(Operation::Operate)?;
    let parameters = Parameters::read(&parts.uri, &[&FILTERS[..], &["all", "to"]].concat())?;
    let (filter, said) = filter_for_change(&parameters)?;
    let to = parameters.value::<AgentName>("to")?;
    let said = to.as_ref().map_or_else(|| said.clone(), |to| format!("{said} to={to}"));
    let router = api.context.router.clone();
    audited(&api, &caller, "dead-letters.replay", said, async move {
        let summary = router.replay_dead_letters(&filter, to.as_ref().map(AgentId::of)).await?;
        let result = json!({
            "replayed": summary.replayed,
            "refused": summary.refused,
            "refusal": summary.refusal.map(|refusal| refusal.to_string()),
        });
        Ok((Reply::ok(&result), result))
    })
    .await
}

async fn replay(State(api): State<Arc<Api>>, caller: Caller, mut parts: Parts) -> Result<Reply, Problem> {
    caller.require(Operation::Operate)?;
    let id = id_of(&mut parts).await?;
    let to = Parameters::read(&parts.uri, &["to"])?.value::<AgentName>("to")?;
    let router = api.context.router.clone();
    let said = to.as_ref().map_or_else(|| id.to_string(), |to| format!("{id} to={to}"));
    audited(&api, &caller, "dead-letters.replay", said, async move {
        let replayed = router.replay_dead_letter(id, to.as_ref().map(AgentId::of)).await;
        let message = replayed.map_err(|error| Problem::of_call(&error, Problem::of_replay))?;
        let result = json!({ "message": message.to_string() });
        Ok((Reply::ok(&result), result))
    })
    .await
}
