//! The router's own notices, and how they describe messages.

use super::{AgentId, Message, Performative};

/// The name of the router's own agent: the agent management system of FIPA SC00023.
pub const ROUTER_NAME: &str = "ams";

/// Whether the router itself sent this message.
pub fn is_notice(message: &Message) -> bool {
    message.sender() == Some(router_id())
}

/// Returns the id of the router's own agent.
pub(crate) fn router_id() -> AgentId {
    static ID: std::sync::OnceLock<AgentId> = std::sync::OnceLock::new();
    *ID.get_or_init(|| AgentId::of_text(ROUTER_NAME))
}

/// Describes a message as an SL0 expression, for a notice.
pub(crate) fn describe(message: &Message) -> String {
    let id = message.id().map_or_else(String::new, |id| id.to_string());
    let receiver = match (message.target_aid(), message.target()) {
        (Some(aid), _) => format!(" (agent-identifier :name {})", aid.name),
        (None, Some(target)) => format!(" (agent-identifier :name {target})"),
        (None, None) => String::new(),
    };
    format!("{} {id}{receiver}", message.performative())
}

/// Returns the longest prefix of a text within `bytes_max`.
pub(crate) fn beginning(text: &str, bytes_max: usize) -> &str {
    let mut end = bytes_max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Escapes a text for an SL string.
pub(crate) fn quote(text: &str) -> String {
    text.replace('"', "\\\"")
}

/// Whether a notice of the router reports that a message was given up.
pub(crate) fn tells_of_failure(performative: Performative) -> bool {
    matches!(performative, Performative::Failure | Performative::NotUnderstood)
}
