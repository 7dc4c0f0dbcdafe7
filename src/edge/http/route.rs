//! Where a message would go, and why: `POST /v1/route`. Nothing is sent.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::Method;
use caxton_shards::api::AgentState;
use caxton_shards::message::{AgentId, Choice, Message, Receiver, Term};
use caxton_shards::routing::rules::Destination;
use serde_json::{Value, json};

use super::Api;
use super::body::read_body;
use super::caller::Caller;
use super::endpoint::{Endpoint, responds};
use super::messages::{ACL, read_message};
use super::parameters::Parameters;
use super::problem::Problem;
use super::reply::{JSON, Reply};
use crate::edge::doors::identity::Operation;

/// Maximum number of receivers that are explained.
const RECEIVERS_SHOWN_MAX: usize = 100;

pub(super) fn endpoints() -> Vec<Endpoint> {
    let explain = Endpoint::new(
        Method::POST,
        "/v1/route",
        "explainRoute",
        "Returns where a message would go now, and why, without sending it. Routing plugins are not asked.",
        explain,
    );
    vec![
        explain
            .requires(&[Operation::Send, Operation::Observe])
            .body(&[(JSON, "Message"), (ACL, "MessageText"), ("text/plain", "MessageText")])
            .responds([responds(200, "The route.", &[(JSON, "Route")])])
            .problems(&[400, 413, 415, 422]),
    ]
}

async fn explain(State(api): State<Arc<Api>>, caller: Caller, request: Request) -> Result<Reply, Problem> {
    if !caller.identity.may(Operation::Observe) {
        caller.require(Operation::Send)?;
    }
    let (parts, body) = request.into_parts();
    Parameters::read(&parts.uri, &[])?;
    let body = read_body(&api.bodies, &parts.headers, body, api.message_bytes_max()).await?;
    let message = read_message(&api, &caller.identity, &parts.headers, &body.bytes)?;
    api.explain(&caller, &message).await.map(|route| Reply::ok(&route))
}

impl Api {
    /// Returns where a message would go.
    async fn explain(&self, caller: &Caller, message: &Message) -> Result<Value, Problem> {
        let router = &self.context.router;
        let (rule, receiver) = self.destination(message);
        let (capability, agents) = match receiver {
            Receiver::Agent(agent) => (None, vec![agent]),
            Receiver::Agents(agents) => (None, agents.to_vec()),
            Receiver::Capability(term, choice) => {
                let providers = match term.as_str().parse() {
                    Ok(capability) => router.discover(&capability).await?,
                    Err(_) => Vec::new(),
                };
                (Some((term, choice)), providers)
            }
            _ => (None, Vec::new()),
        };
        for aid in message.details().map_or(&[][..], |details| &details.receivers) {
            self.names.note(&aid.name);
        }
        let mut receivers = Vec::new();
        for agent in agents.iter().take(RECEIVERS_SHOWN_MAX) {
            receivers.push(self.receiver(caller, *agent).await?);
        }
        let reason = match (&capability, agents.is_empty()) {
            (Some(_), true) => Some("no-provider"),
            (None, true) => Some("no-route"),
            _ => None,
        };
        Ok(json!({
            "rule": rule,
            "capability": capability.map(|(term, choice)| json!({
                "name": term.as_str(),
                "choice": choice.as_str(),
                "receives": if choice == Choice::All { "every provider" } else { "one of the providers" },
            })),
            "receivers": receivers,
            "receivers_in_all": agents.len(),
            "dead_letter": reason,
            "conversation": self.conversation(caller, message).await?,
        }))
    }

    /// Returns the rule that decides, if any, and the receiver.
    fn destination(&self, message: &Message) -> (Option<Value>, Receiver) {
        if !matches!(message.receiver(), Receiver::Unaddressed | Receiver::Capability(..)) {
            return (None, message.receiver().clone());
        }
        let rules = self.context.router.rule_set();
        let Some(place) = rules.iter().position(|rule| rule.conditions.match_message(message)) else {
            return (None, message.receiver().clone());
        };
        match rules[place].destination {
            Destination::Agent(agent) => {
                let to = self.names.get(agent).map_or_else(|| agent.to_string(), |name| name.to_string());
                (Some(json!({ "number": place + 1, "to_agent": to })), Receiver::Agent(agent))
            }
            Destination::Capability(term, choice) => (
                Some(json!({ "number": place + 1, "to_capability": term.as_str() })),
                Receiver::Capability(term, choice),
            ),
        }
    }

    /// Returns what would happen at a receiver.
    async fn receiver(&self, caller: &Caller, agent: AgentId) -> Result<Value, Problem> {
        let router = &self.context.router;
        let view = router.agent(agent).await?;
        let name = match &view {
            Some(view) => view.name.to_string(),
            None => self.names.get(agent).map_or_else(|| agent.to_string(), |name| name.to_string()),
        };
        let outcome = match view.as_ref().map(|view| view.state) {
            None => "unknown-receiver",
            Some(AgentState::Stopped) => "deregistered",
            Some(AgentState::Draining) => "draining",
            Some(AgentState::Suspended | AgentState::Initiated) => "waits",
            Some(_) if view.as_ref().is_some_and(|view| view.closed) => "waits",
            Some(_) => "delivered",
        };
        let figures = view.as_ref().filter(|_| may_see(caller, &name));
        Ok(json!({
            "name": name,
            "shard": router.partition().shard_of(agent).0,
            "state": view.as_ref().map(|view| view.state.as_str()),
            "mailbox_messages": figures.map(|view| view.mailbox_messages),
            "outcome": outcome,
        }))
    }

    /// Returns how the conversation of a message stands, as far as it is open, and its sender or receiver began it and the
    /// caller may see what concerns that agent.
    async fn conversation(&self, caller: &Caller, message: &Message) -> Result<Value, Problem> {
        let Some(id) = message.conversation() else { return Ok(Value::Null) };
        for initiator in [message.sender(), message.target()].into_iter().flatten() {
            let name = self.names.of(&self.context.router, initiator).await;
            if !may_see(caller, &name.map(|name| name.to_string()).unwrap_or_default()) {
                continue;
            }
            if let Some(view) = self.context.router.conversation(initiator, id).await? {
                let protocol = view.protocol.as_ref();
                return Ok(json!({
                    "open": true,
                    "messages": view.messages,
                    "protocol": protocol.map(|protocol| protocol.name.as_str()),
                    "states": protocol.map(|protocol| {
                        protocol.parties.iter().map(|party| party.state.as_str()).collect::<Vec<_>>()
                    }),
                }));
            }
        }
        Ok(json!({ "open": false, "protocol": message.protocol_term().map(Term::as_str) }))
    }
}

/// Whether the caller may see what concerns an agent of this name.
fn may_see(caller: &Caller, name: &str) -> bool {
    match name.parse() {
        Ok(name) => caller.require_sight_of(&name).is_ok(),
        Err(_) => caller.identity.may(Operation::Observe),
    }
}
