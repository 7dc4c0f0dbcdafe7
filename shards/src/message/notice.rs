//! The router's own notices, and how they describe messages.

use super::{AgentId, ConversationId, Message, MessageId, Performative};

/// The name of the router's own agent: the agent management system of FIPA SC00023.
pub const ROUTER_NAME: &str = "ams";

/// Whether the router itself sent this message.
pub fn is_notice(message: &Message) -> bool {
    message.sender() == Some(router_id())
}

/// Returns the message that a notice of the router reports as processed; nothing for other messages.
pub fn processed_message(notice: &Message) -> Option<MessageId> {
    if !is_notice(notice) {
        return None;
    }
    // As written by `describe`: the act, the id, the receiver.
    let about = notice.content().as_text()?.strip_prefix("((processed (")?;
    let digits = about.split(&[' ', ')']).nth(1)?.strip_prefix('m').filter(|digits| digits.len() == 32)?;
    MessageId::from_u128(u128::from_str_radix(digits, 16).ok()?)
}

/// Whether a notice of the router reports that time is up: no reply came by the moment that the sender set, or a
/// conversation timed out.
pub fn tells_that_time_is_up(notice: &Message) -> bool {
    let tells = |text: &str| text.starts_with(TIMEOUT) || text.contains(NO_REPLY);
    is_notice(notice) && notice.content().as_text().is_some_and(tells)
}

/// What the content of a notice about a missing reply contains.
pub(crate) const NO_REPLY: &str = " (no-reply ";

/// What the content of a notice about a timeout begins with.
const TIMEOUT: &str = "((conversation ";

/// Returns the content of the notice that a conversation timed out.
pub(crate) fn describe_timeout(conversation: ConversationId) -> String {
    format!("{TIMEOUT}{conversation}) (timed-out \"the conversation had no traffic for too long\"))")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_names_the_message_that_was_processed() {
        let id = MessageId::from_u128(0x17);
        let message = Message::builder(Performative::Request).id(id.unwrap()).receiver(AgentId::of_text("a) (b"));
        let about = describe(&message.build().unwrap());
        let of = |sender, word| {
            let notice = Message::builder(Performative::Inform).sender(sender).content(format!("(({word} ({about})))"));
            processed_message(&notice.build().unwrap())
        };
        assert_eq!(of(router_id(), "processed"), id);
        assert_eq!(of(router_id(), "delivered"), None);
        assert_eq!(of(AgentId::of_text("mallory"), "processed"), None);
    }

    #[test]
    fn only_a_notice_of_the_router_tells_that_time_is_up() {
        let timeout = describe_timeout(ConversationId::of_text("deal"));
        let told = |sender, content: &str| {
            let notice = Message::builder(Performative::Failure).sender(sender).receiver("buyer").content(content);
            tells_that_time_is_up(&notice.build().unwrap())
        };
        assert!(told(router_id(), &timeout) && told(router_id(), "((request m1) (no-reply \"x\"))"));
        assert!(!told(AgentId::of_text("mallory"), &timeout) && !told(router_id(), "((request m1) (expired \"x\"))"));
    }
}
