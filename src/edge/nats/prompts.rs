//! The Synadia Agent Protocol, version 0.3: agents that offer the capability `prompt` are found and prompted by its SDKs.
//!
//! To its callers, each such agent is an instance of the micro service `agents` with an endpoint of its own. A prompt
//! becomes a `request` to the agent, whose replies come back in chunks, up to an empty message.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use caxton_shards::api::AgentView;
use caxton_shards::domain::{AgentName, CapabilityName};
use caxton_shards::message::{AgentId, Message, ParameterValue, Term};
use serde_json::{Value, json};

use super::refusal::{Refusal, beginning};
use super::{heartbeats, subjects};
use crate::router::Router;

/// The capability by which an agent is one that can be prompted.
const CAPABILITY: &str = "prompt";
/// The version of the protocol.
const PROTOCOL_VERSION: &str = "0.3";
/// What runs the agents.
const AGENT: &str = "caxton";
/// Who has them.
const OWNER: &str = "router";
/// What the subjects of prompts begin with; the agent's name is the last word.
const PROMPT: &str = "agents.prompt.caxton.router.";
/// The same of questions for the status.
const STATUS: &str = "agents.status.caxton.router.";
/// The same of heartbeats.
const HEARTBEATS: &str = "agents.hb.caxton.router.";
/// What the subjects begin with by which clients subscribe to heartbeats.
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
    Stats,
    /// Not of the service, but of the endpoint of one agent.
    Status,
}

/// Returns what a subject asks of the service, and of which instance.
pub(super) fn service_call(subject: &[u8]) -> Option<(Verb, Option<&[u8]>)> {
    let mut words = subject.strip_prefix(b"$SRV.")?.split(|byte| *byte == b'.');
    let verb = match words.next()? {
        b"PING" => Verb::Ping,
        b"INFO" => Verb::Info,
        b"STATS" => Verb::Stats,
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
    named_behind(PROMPT, subject)
}

/// Returns the agent whose status a subject asks for.
pub(super) fn asked_for_status(subject: &[u8]) -> Option<Result<AgentId, Refusal>> {
    named_behind(STATUS, subject)
}

fn named_behind(prefix: &str, subject: &[u8]) -> Option<Result<AgentId, Refusal>> {
    let word = subject.strip_prefix(prefix.as_bytes())?;
    let name = subjects::decode(word).and_then(|name| AgentName::try_new(name.into_owned()).ok());
    Some(name.map(|name| AgentId::of(&name)).ok_or_else(|| Refusal::of_name("it is not legal")))
}

/// Returns the subject of an agent that begins with this.
fn subject_of(prefix: &str, name: &str) -> String {
    let mut encoded = Vec::new();
    subjects::encode(name, &mut encoded);
    format!("{prefix}{}", String::from_utf8_lossy(&encoded).replace('.', "%2E"))
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

/// An agent that can be prompted.
#[derive(Clone, Debug)]
pub(super) struct Instance {
    pub id: AgentId,
    name: Box<str>,
}

/// Returns the agents that can be prompted.
pub(super) async fn agents(router: Router) -> Vec<Instance> {
    let Ok(capability) = CapabilityName::try_new(CAPABILITY) else { return Vec::new() };
    let mut found = Vec::new();
    for id in router.discover(&capability).await.unwrap_or_default().into_iter().take(AGENTS_MAX) {
        if let Ok(Some(view)) = router.agent(id).await {
            found.push(Instance { id, name: view.name });
        }
    }
    found
}

/// Returns the agent, if it can be prompted.
pub(super) async fn agent(router: Router, id: AgentId) -> Vec<Instance> {
    let found = router.agent(id).await.ok().flatten();
    let capability = Term::find(CAPABILITY);
    let can_be_prompted =
        |view: &AgentView| capability.is_some_and(|capability| view.capabilities.contains(&capability));
    found.filter(can_be_prompted).into_iter().map(|view| Instance { id, name: view.name }).collect()
}

/// What has become of an agent's prompts.
#[derive(Clone, Default)]
struct Prompted {
    prompts: u64,
    errors: u64,
    last_error: String,
    /// From the prompt to its last reply, of all of them.
    time: Duration,
}

/// What has become of all prompts, by agent.
#[derive(Default)]
pub(super) struct PromptFigures(Mutex<HashMap<AgentId, Prompted>>);

impl PromptFigures {
    /// Counts a prompt to which the last reply has come, with the error if it is one.
    pub fn count(&self, agent: AgentId, time: Duration, error: Option<&str>) {
        let mut agents = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if agents.len() >= AGENTS_MAX && !agents.contains_key(&agent) {
            // There are more than are described, or most of them are gone.
            agents.clear();
        }
        let prompted = agents.entry(agent).or_default();
        prompted.prompts += 1;
        prompted.time += time;
        if let Some(error) = error {
            prompted.errors += 1;
            beginning(error).clone_into(&mut prompted.last_error);
        }
    }

    fn of(&self, agent: AgentId) -> Prompted {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&agent).cloned().unwrap_or_default()
    }
}

/// What descriptions of all agents have in common.
pub(super) struct Service<'a> {
    pub payload_max: usize,
    /// When the door was opened.
    pub started: SystemTime,
    pub figures: &'a PromptFigures,
}

impl Service<'_> {
    /// Describes an agent to a caller.
    pub fn describe(&self, verb: Verb, instance: &Instance) -> String {
        let (id, name) = (instance.id, &*instance.name);
        let kind = match verb {
            Verb::Status => return heartbeat(instance, SystemTime::now()),
            Verb::Ping => "ping",
            Verb::Info => "info",
            Verb::Stats => "stats",
        };
        let mut described = json!({
            "type": format!("io.nats.micro.v1.{kind}_response"),
            "name": "agents",
            "id": id.to_string(),
            "version": env!("CARGO_PKG_VERSION"),
            "metadata": {"agent": AGENT, "owner": OWNER, "session": name, "protocol_version": PROTOCOL_VERSION},
        });
        let (prompt, status) = (subject_of(PROMPT, name), subject_of(STATUS, name));
        if verb == Verb::Info {
            described["description"] = format!("the agent {name} of this router").into();
            described["endpoints"] = json!([
                {
                    "name": "prompt", "subject": prompt, "queue_group": "agents",
                    "metadata": {"max_payload": format!("{}B", self.payload_max), "attachments_ok": "false"},
                },
                {"name": "status", "subject": status, "queue_group": "agents", "metadata": {}},
            ]);
        } else if verb == Verb::Stats {
            let Prompted { prompts, errors, last_error, time } = self.figures.of(id);
            let time_ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
            described["started"] = humantime::format_rfc3339_seconds(self.started).to_string().into();
            described["endpoints"] = json!([{
                "name": "prompt", "subject": prompt, "queue_group": "agents",
                "num_requests": prompts, "num_errors": errors, "last_error": last_error,
                "processing_time": time_ns, "average_processing_time": time_ns.checked_div(prompts).unwrap_or(0),
            }]);
        }
        described.to_string()
    }
}

/// Returns the subject of an agent's heartbeats.
pub(super) fn heartbeat_subject(instance: &Instance) -> String {
    subject_of(HEARTBEATS, &instance.name)
}

/// Returns a heartbeat of an agent, which is what its status is as well.
pub(super) fn heartbeat(instance: &Instance, now: SystemTime) -> String {
    json!({
        "agent": AGENT,
        "owner": OWNER,
        "session": instance.name,
        "instance_id": instance.id.to_string(),
        "ts": humantime::format_rfc3339_seconds(now).to_string(),
        "interval_s": heartbeats::INTERVAL.as_secs(),
    })
    .to_string()
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
            ("$SRV.STATS.agents", Some((Verb::Stats, None))),
            ("$SRV.SCHEMA", None),
            ("$SRV.INFO.agents.a.b", None),
            ("SRV.INFO", None),
        ] {
            assert_eq!(service_call(subject.as_bytes()), expected, "{subject}");
        }
    }

    #[test]
    fn an_agent_is_prompted_at_the_subject_that_describes_it() {
        for name in ["oracle", "buyer@example.org", "Night Porter", "50%"] {
            let subject = subject_of(PROMPT, name);
            assert_eq!(subject.split('.').count(), 5, "{subject}");
            assert_eq!(prompted(subject.as_bytes()), Some(Ok(AgentId::of_text(name))));
            let instance = Instance { id: AgentId::of_text(name), name: name.into() };
            let figures = PromptFigures::default();
            let service = Service { payload_max: 1_024, started: SystemTime::UNIX_EPOCH, figures: &figures };
            let info = service.describe(Verb::Info, &instance);
            let info: Value = serde_json::from_str(&info).expect("it is JSON");
            assert_eq!(info["endpoints"][0]["subject"], subject.as_str());
            let status = info["endpoints"][1]["subject"].as_str().expect("it has a status");
            assert_eq!(asked_for_status(status.as_bytes()), Some(Ok(instance.id)));
            assert_eq!(heartbeat_subject(&instance), status.replace("agents.status.", "agents.hb."));
        }
        assert_eq!(prompted(b"agents.prompt.other.router.x"), None);
    }

    #[test]
    fn figures_of_prompts_are_those_of_their_agent() {
        let (figures, agent) = (PromptFigures::default(), AgentId::of_text("oracle"));
        figures.count(agent, Duration::from_millis(3), None);
        figures.count(agent, Duration::from_millis(1), Some("no"));
        figures.count(AgentId::of_text("other"), Duration::from_millis(9), None);
        let service = Service { payload_max: 1_024, started: SystemTime::UNIX_EPOCH, figures: &figures };
        let stats = service.describe(Verb::Stats, &Instance { id: agent, name: "oracle".into() });
        let stats: Value = serde_json::from_str(&stats).expect("it is JSON");
        let endpoint = &stats["endpoints"][0];
        assert_eq!((&stats["started"], &endpoint["last_error"]), (&json!("1970-01-01T00:00:00Z"), &json!("no")));
        assert_eq!((&endpoint["num_requests"], &endpoint["num_errors"]), (&json!(2), &json!(1)));
        let times = (&endpoint["processing_time"], &endpoint["average_processing_time"]);
        assert_eq!(times, (&json!(4_000_000), &json!(2_000_000)));
        for number in 0..AGENTS_MAX {
            figures.count(AgentId::of_text(&number.to_string()), Duration::ZERO, None);
        }
        assert!(figures.0.lock().expect("nothing panicked").len() <= AGENTS_MAX);
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
