//! What the router says in its own name, and how it describes messages in that.

use super::{AgentId, Message};

/// The name under which the router itself speaks: the agent management system of FIPA SC00023.
pub const ROUTER_NAME: &str = "ams";

/// Whether the router itself said this.
pub fn is_notice(message: &Message) -> bool {
    message.sender() == Some(router_id())
}

/// The id of the router's own agent.
pub(crate) fn router_id() -> AgentId {
    static ID: std::sync::OnceLock<AgentId> = std::sync::OnceLock::new();
    *ID.get_or_init(|| AgentId::of_text(ROUTER_NAME))
}

/// What the notice is about, in the manner of SL0.
pub(crate) fn describe(message: &Message) -> String {
    let id = message.id().map_or_else(String::new, |id| id.to_string());
    let receiver = match (message.target_aid(), message.target()) {
        (Some(aid), _) => format!(" (agent-identifier :name {})", aid.name),
        (None, Some(target)) => format!(" (agent-identifier :name {target})"),
        (None, None) => String::new(),
    };
    format!("{} {id}{receiver}", message.performative())
}

/// As much of a text as fits into so many bytes.
pub(crate) fn beginning(text: &str, bytes_max: usize) -> &str {
    let mut end = bytes_max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Escapes a text for a string of SL.
pub(crate) fn quote(text: &str) -> String {
    text.replace('"', "\\\"")
}
