//! Open conversations: `/v1/conversations` and `/v1/agents/{name}/conversations/{id}`.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::Method;
use axum::http::request::Parts;
use caxton_shards::api::{ConversationFilter, ConversationSummary, ConversationView};
use caxton_shards::domain::AgentName;
use caxton_shards::message::{AgentId, ConversationId};
use serde_json::{Value, json};

use super::Api;
use super::caller::Caller;
use super::endpoint::{AGENT, Endpoint, Parameter, Place, query, responds};
use super::parameters::{AgentOfPath, Parameters, path_text};
use super::problem::Problem;
use super::reply::{JSON, Reply};
use crate::edge::doors::identity::Operation;
use crate::edge::doors::reason;
use crate::router::conversations::ConversationCursor;

/// Maximum and usual number of conversations of a page.
const PAGE_MAX: u64 = 1_000;
const PAGE: u64 = 100;

pub(super) fn endpoints() -> Vec<Endpoint> {
    let show_conversation = Endpoint::new(
        Method::GET,
        "/v1/agents/{name}/conversations/{id}",
        "getConversation",
        "Returns an open conversation of the agent that began it.",
        show,
    );
    let id = Parameter {
        name: "id",
        place: Place::Path,
        meaning: "The conversation's id, as in its messages.",
        schema: r#"{"type":"string","minLength":1}"#,
    };
    let list_conversations = Endpoint::new(
        Method::GET,
        "/v1/conversations",
        "listConversations",
        "Lists open conversations, page by page: all, or those of an agent.",
        list,
    );
    vec![
        list_conversations
            .requires(&[Operation::Observe, Operation::Receive])
            .parameters([
                query("limit", r#"{"type":"integer","minimum":1,"maximum":1000,"default":100}"#, "The size of a page."),
                query("cursor", r#"{"type":"string"}"#, "`next` of the previous page."),
                query("protocol", r#"{"type":"string"}"#, "The checked protocol that it follows."),
                query("state", r#"{"type":"string"}"#, "The state of its protocol, such as `agreed`."),
                query(
                    "agent",
                    r#"{"type":"string","minLength":1,"maxLength":512}"#,
                    "An agent that takes part. For one of its own a token needs only `receive`.",
                ),
            ])
            .responds([responds(
                200,
                "A page of conversations. It may have fewer than `limit` and yet a `next`.",
                &[(JSON, "ConversationPage")],
            )])
            .problems(&[400]),
        show_conversation
            .requires(&[Operation::Observe, Operation::Receive])
            .parameters([AGENT, id])
            .responds([responds(200, "The conversation.", &[(JSON, "Conversation")])])
            .problems(&[400, 404]),
    ]
}

async fn list(State(api): State<Arc<Api>>, caller: Caller, parts: Parts) -> Result<Reply, Problem> {
    let parameters = Parameters::read(&parts.uri, &["limit", "cursor", "protocol", "state", "agent"])?;
    let agent = parameters.value::<AgentName>("agent")?;
    match &agent {
        Some(agent) => caller.require_sight_of(agent)?,
        None => caller.require(Operation::Observe)?,
    }
    let limit = parameters.number("limit", 1..=PAGE_MAX, PAGE)?;
    let cursor = parameters.value::<ConversationCursor>("cursor")?;
    let filter = ConversationFilter {
        protocol: parameters.text("protocol").map(Into::into),
        state: parameters.text("state").map(Into::into),
        agent: agent.as_ref().map(AgentId::of),
    };
    let router = &api.context.router;
    let page = router.conversations(&filter, usize::try_from(limit).unwrap_or(usize::MAX), cursor).await?;
    let agents: Vec<_> = page.conversations.iter().flat_map(|summary| summary.participants.iter().copied()).collect();
    let mut names = api.names.shown(router, &agents).await.into_iter();
    let now_ms = u64::try_from(router.shared().running_for().as_millis()).unwrap_or(u64::MAX);
    let conversations = page.conversations.iter().map(|summary| {
        let names: Vec<String> = names.by_ref().take(summary.participants.len()).collect();
        summary_in_json(summary, &names, now_ms)
    });
    let conversations: Vec<_> = conversations.collect();
    Ok(Reply::ok(&json!({ "conversations": conversations, "next": page.next.map(|next| next.to_string()) })))
}

/// Returns what a list says of a conversation, with the names of its first participants.
fn summary_in_json(summary: &ConversationSummary, names: &[String], now_ms: u64) -> Value {
    let (protocol, state) = summary.protocol.as_ref().map(|(name, state)| (&**name, &**state)).unzip();
    json!({
        "id": summary.id.to_string(),
        "initiator": names.first(),
        "participants": names,
        "participant_count": summary.participant_count,
        "messages": summary.messages,
        "awaited_replies": summary.awaited,
        "open_for_ms": now_ms.saturating_sub(summary.opened_ms),
        "idle_for_ms": now_ms.saturating_sub(summary.last_ms),
        "protocol": protocol,
        "state": state,
    })
}

async fn show(
    State(api): State<Arc<Api>>,
    caller: Caller,
    AgentOfPath(name): AgentOfPath,
    mut parts: Parts,
) -> Result<Reply, Problem> {
    caller.require_sight_of(&name)?;
    let id = path_text(&mut parts, "id").await?;
    let router = &api.context.router;
    let view = router.conversation(AgentId::of(&name), ConversationId::of_text(&id)).await?;
    let missing = || {
        let detail = format!("no open conversation {id:?} was begun by {name}: it has ended, timed out or never began");
        Problem::new(reason::UNKNOWN_CONVERSATION, detail)
    };
    let view = view.ok_or_else(missing)?;
    let names = api.names.shown(router, &view.participants).await;
    Ok(Reply::ok(&in_json(&view, &names, router.shared().running_for())))
}

/// Returns a conversation in JSON, with the participants' names.
fn in_json(view: &ConversationView, names: &[String], now: Duration) -> Value {
    let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    let name = |place: u16| names.get(usize::from(place)).cloned();
    let history = view.history.iter().map(|entry| {
        json!({
            "message": entry.message.to_string(),
            "performative": entry.performative.as_str(),
            "from": name(entry.from),
            "to": name(entry.to),
            "is_reply": entry.answers,
            "ago_ms": now_ms.saturating_sub(entry.at_ms),
        })
    });
    let party = |agent: AgentId| {
        let place = view.participants.iter().position(|participant| *participant == agent);
        place.and_then(|place| names.get(place).cloned()).unwrap_or_else(|| agent.to_string())
    };
    let protocol = view.protocol.as_ref().map(|protocol| {
        let parties = protocol.parties.iter().map(|state| {
            json!({
                "participant": party(state.participant),
                "state": state.state,
                "may_end": state.may_end,
                "cancelling": state.cancelling,
                "next_by_ms": state.next_by.map(|moment| moment.0),
            })
        });
        json!({ "name": protocol.name, "parties": parties.collect::<Vec<_>>() })
    });
    json!({
        "id": view.id.to_string(),
        "initiator": names.first(),
        "participants": names,
        "messages": view.messages,
        "awaited_replies": view.awaited.len(),
        "open_for_ms": now_ms.saturating_sub(view.opened_ms),
        "idle_for_ms": now_ms.saturating_sub(view.last_ms),
        "history": history.collect::<Vec<_>>(),
        "protocol": protocol,
    })
}
