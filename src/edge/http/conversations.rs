//! Conversations: `/v1/agents/{name}/conversations/{id}`.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::Method;
use axum::http::request::Parts;
use caxton_shards::api::ConversationView;
use caxton_shards::message::{AgentId, ConversationId};
use serde_json::{Value, json};

use super::Api;
use super::caller::Caller;
use super::endpoint::{AGENT, Endpoint, Parameter, Place, responds};
use super::parameters::{AgentOfPath, path_text};
use super::problem::Problem;
use super::reply::{JSON, Reply};
use crate::edge::doors::identity::Operation;
use crate::edge::doors::reason;

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
    vec![
        show_conversation
            .requires(&[Operation::Observe, Operation::Receive])
            .parameters([AGENT, id])
            .responds([responds(200, "The conversation.", &[(JSON, "Conversation")])])
            .problems(&[400, 404]),
    ]
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
