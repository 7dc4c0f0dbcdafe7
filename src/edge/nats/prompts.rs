//! The Synadia Agent Protocol, version 0.3: agents that offer the capability `prompt` are found and prompted by its SDKs.
//!
//! To its callers, each such agent is an instance of the micro service `agents` with an endpoint of its own. A prompt
//! becomes a `request` to the agent, whose replies come back in chunks, up to an empty message.

use std::borrow::Cow;

use caxton_shards::domain::{AgentName, CapabilityName};
use caxton_shards::message::{AgentId, Message, ParameterValue};
use serde_json::{Value, json};

use super::refusal::Refusal;
use super::subjects;
use crate::router::Router;

/// The capability by which an agent is one that can be prompted.
const CAPABILITY: &str = "prompt";
/// The version of the protocol.
const PROTOCOL_VERSION: &str = "0.3";
/// What the subjects of prompts begin with; the agent's name is the last word.
const PROMPT: &str = "agents.prompt.caxton.router.";
/// What the subjects of heartbeats begin with. The router sends none, but SDKs subscribe to them.
pub(super) const HEARTBEAT: &[u8] = b"agents.hb.";
/// Maximum number of agents that are described to a caller.
const AGENTS_MAX: usize = 1_000;
/// The user-defined parameter of an `inform` that more of them follow.
const MORE: &str = "X-more";

/// The chunk that says that a prompt has arrived.
pub(super) const ACKNOWLEDGED: &[u8] = br#"{"type":"status","data":"ack"}"#;

/// What is asked of the service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verb {
    Ping,
    Info,
}

/// Returns what a subject asks of the service, and of which instance.
pub(super) fn service_call(subject: &[u8]) -> Option<(Verb, Option<&[u8]>)> {
    let mut words = subject.strip_prefix(b"$SRV.")?.split(|byte| *byte == b'.');
    let verb = match words.next()? {
        b"PING" => Verb::Ping,
        b"INFO" => Verb::Info,
        _ => return None,
    };
    if words.next().is_some_and(|service| service != b"agents") {
        return None;
    }
    let instance = words.next();
    words.next().is_none().then_some((verb, instance))
}

/// Returns the agent that a subject prompts.
pub(super) fn prompted(subject: &[u8]) -> Option<Result<AgentId, Refusal>> {
    let word = subject.strip_prefix(PROMPT.as_bytes())?;
    let name = subjects::decode(word).and_then(|name| AgentName::try_new(name.into_owned()).ok());
    Some(name.map(|name| AgentId::of(&name)).ok_or_else(|| Refusal::of_name("it is not legal")))
}

/// Returns the subject that prompts an agent.
fn subject_of(name: &str) -> String {
    let mut encoded = Vec::new();
    subjects::encode(name, &mut encoded);
    format!("{PROMPT}{}", String::from_utf8_lossy(&encoded).replace('.', "%2E"))
}

/// Returns the text of a prompt, or of the reply to an agent's question: an envelope in JSON, or the text itself.
pub(super) fn text_of(payload: &[u8]) -> Result<Cow<'_, str>, Refusal> {
    if !payload.trim_ascii_start().starts_with(b"{") {
        let text = std::str::from_utf8(payload).map_err(Refusal::of_prompt)?;
        return if text.is_empty() { Err(Refusal::of_prompt("it is empty")) } else { Ok(Cow::Borrowed(text)) };
    }
    let envelope: Value = serde_json::from_slice(payload).map_err(Refusal::of_prompt)?;
    if envelope.get("attachments").and_then(Value::as_array).is_some_and(|attachments| !attachments.is_empty()) {
        return Err(Refusal::of_prompt("attachments are not supported"));
    }
    match envelope.get("prompt").and_then(Value::as_str) {
        Some(text) if !text.is_empty() => Ok(Cow::Owned(text.to_owned())),
        _ => Err(Refusal::of_prompt("expected a JSON object with a text \"prompt\" that is not empty")),
    }
}

/// Returns the agents that can be prompted, with their names.
pub(super) async fn agents(router: Router) -> Vec<(AgentId, Box<str>)> {
    let Ok(capability) = CapabilityName::try_new(CAPABILITY) else { return Vec::new() };
    let mut found = Vec::new();
    for id in router.discover(&capability).await.unwrap_or_default().into_iter().take(AGENTS_MAX) {
        if let Ok(Some(view)) = router.agent(id).await {
            found.push((id, view.name));
        }
    }
    found
}

/// Describes an agent to a caller.
pub(super) fn describe(verb: Verb, id: AgentId, name: &str, payload_max: usize) -> String {
    let metadata = json!({"agent": "caxton", "owner": "router", "protocol_version": PROTOCOL_VERSION});
    let (id, version) = (id.to_string(), env!("CARGO_PKG_VERSION"));
    let described = match verb {
        Verb::Ping => json!({
            "type": "io.nats.micro.v1.ping_response", "name": "agents", "id": id, "version": version,
            "metadata": metadata,
        }),
        Verb::Info => json!({
            "type": "io.nats.micro.v1.info_response", "name": "agents", "id": id, "version": version,
            "metadata": metadata, "description": format!("the agent {name} of this router"),
            "endpoints": [{
                "name": "prompt", "subject": subject_of(name), "queue_group": "agents",
                "metadata": {"max_payload": format!("{payload_max}B"), "attachments_ok": "false"},
            }],
        }),
    };
    described.to_string()
}

/// Returns the chunk for an agent's reply.
pub(super) fn response(reply: &Message) -> String {
    json!({"type": "response", "data": String::from_utf8_lossy(reply.content().as_bytes())}).to_string()
}

/// Returns the chunk for an agent's question, which is replied to at `subject`.
pub(super) fn query(question: &Message, subject: &[u8]) -> String {
    let subject = String::from_utf8_lossy(subject);
    let text = String::from_utf8_lossy(question.content().as_bytes());
    json!({"type": "query", "data": {"id": subject, "reply_subject": subject, "prompt": text}}).to_string()
}

/// Whether the agent says that further replies follow.
pub(super) fn has_more(reply: &Message) -> bool {
    let parameters = reply.details().map_or(&[][..], |details| &details.user_parameters);
    parameters.iter().any(|parameter| {
        parameter.name.eq_ignore_ascii_case(MORE)
            && matches!(&parameter.value, ParameterValue::Atom(word) | ParameterValue::Text(word) if &**word == "true")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_of_the_service_are_told_from_others() {
        for (subject, expected) in [
            ("$SRV.PING", Some((Verb::Ping, None))),
            ("$SRV.INFO.agents", Some((Verb::Info, None))),
            ("$SRV.PING.agents.a1", Some((Verb::Ping, Some(b"a1".as_slice())))),
            ("$SRV.INFO.other", None),
            ("$SRV.STATS", None),
            ("$SRV.INFO.agents.a.b", None),
            ("SRV.INFO", None),
        ] {
            assert_eq!(service_call(subject.as_bytes()), expected, "{subject}");
        }
    }

    #[test]
    fn an_agent_is_prompted_at_the_subject_that_describes_it() {
        for name in ["oracle", "buyer@example.org", "Night Porter", "50%"] {
            let subject = subject_of(name);
            assert_eq!(subject.split('.').count(), 5, "{subject}");
            assert_eq!(prompted(subject.as_bytes()), Some(Ok(AgentId::of_text(name))));
            let info = describe(Verb::Info, AgentId::of_text(name), name, 1_024);
            let info: Value = serde_json::from_str(&info).expect("it is JSON");
            assert_eq!(info["endpoints"][0]["subject"], subject.as_str());
        }
        assert_eq!(prompted(b"agents.prompt.other.router.x"), None);
    }

    #[test]
    fn prompts_are_text_or_envelopes() {
        assert_eq!(text_of(b"why?").as_deref(), Ok("why?"));
        assert_eq!(text_of(b" {\"prompt\":\"why?\",\"extra\":1}").as_deref(), Ok("why?"));
        for payload in ["", "{}", "{\"prompt\":\"\"}", "{", "{\"prompt\":\"x\",\"attachments\":[{}]}"] {
            assert_eq!(text_of(payload.as_bytes()).map_err(|refusal| refusal.code()), Err(400), "{payload}");
        }
    }
}
