//! The initiator of requests, queries and subscriptions.

use std::collections::HashMap;
use std::time::Duration;

use crate::message::notice::{NO_REPLY, is_notice};
use crate::message::{AgentId, ConversationId, Message, MessageBuilder, Performative};
use crate::shard::agent::Context;

use super::{RoleError, SESSIONS_MAX};

/// Requests (SC00026, SC00028), queries (SC00027) and subscriptions (SC00035) begun by an agent.
#[derive(Debug, Default)]
pub struct Inquiries {
    open: HashMap<ConversationId, Inquiry>,
}

#[derive(Debug)]
struct Inquiry {
    receiver: AgentId,
    act: Performative,
    agreed: bool,
    cancelled: bool,
}

/// What a message meant for an inquiry.
#[derive(Clone, Debug)]
pub enum Inquired {
    /// The message belongs to no inquiry.
    NotMine,
    /// The message was out of sequence and was answered with `not-understood`.
    OutOfSequence,
    /// The participant agreed.
    Agreed(ConversationId),
    /// The action was performed, or this is the requested information. For a subscription there may be more.
    Informed(Message),
    /// The participant refused. The inquiry is over.
    Refused(Message),
    /// The participant failed or, according to the router, cannot be reached. The inquiry is over.
    Failed(Message),
    /// The participant did not understand. The inquiry is over.
    NotUnderstood(Message),
    /// No reply arrived in time. The inquiry is over.
    NoAnswer(ConversationId),
    /// The participant has stopped, as requested. The inquiry is over.
    Cancelled(ConversationId),
}

impl Inquiries {
    /// Returns the number of open inquiries.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether no inquiry is open.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Begins an inquiry with a message of this act: `request`, `request-when`, `query-if`, `query-ref` or `subscribe`.
    /// `say` sets the rest of the message, such as the content. The first reply is expected `within` this time.
    ///
    /// # Errors
    ///
    /// The act begins none of these protocols, there are too many inquiries, or the message could not be sent.
    pub fn begin(
        &mut self,
        act: Performative,
        receiver: AgentId,
        within: Duration,
        say: impl FnOnce(MessageBuilder) -> MessageBuilder,
        context: &mut Context<'_>,
    ) -> Result<ConversationId, RoleError> {
        let protocol = match act {
            Performative::Request => "fipa-request",
            Performative::RequestWhen => "fipa-request-when",
            Performative::QueryIf | Performative::QueryRef => "fipa-query",
            Performative::Subscribe => "fipa-subscribe",
            _ => return Err(RoleError::OutOfSequence),
        };
        if self.open.len() >= SESSIONS_MAX {
            return Err(RoleError::TooMany);
        }
        let conversation = context.new_conversation();
        let builder = Message::builder(act)
            .receiver(receiver)
            .conversation(conversation)
            .reply_with(context.new_correlation())
            .reply_by(context.moment_in(within))
            .protocol(protocol);
        context.send(say(builder).build()?)?;
        self.open.insert(conversation, Inquiry { receiver, act, agreed: false, cancelled: false });
        Ok(conversation)
    }

    /// Cancels an inquiry. It is over when the participant confirms.
    ///
    /// # Errors
    ///
    /// There is no such inquiry, or the message could not be sent.
    pub fn cancel(&mut self, conversation: ConversationId, context: &mut Context<'_>) -> Result<(), RoleError> {
        let inquiry = self.open.get_mut(&conversation).filter(|inquiry| !inquiry.cancelled);
        let inquiry = inquiry.ok_or(RoleError::OutOfSequence)?;
        let builder = Message::builder(Performative::Cancel).receiver(inquiry.receiver).conversation(conversation);
        let builder = builder.reply_with(context.new_correlation()).content(format!("({})", inquiry.act));
        context.send(builder.build()?)?;
        inquiry.cancelled = true;
        Ok(())
    }

    /// Processes a message.
    ///
    /// # Errors
    ///
    /// A reply to an out-of-sequence message could not be sent; nothing has changed.
    pub fn hear(&mut self, message: &Message, context: &mut Context<'_>) -> Result<Inquired, RoleError> {
        let Some(conversation) = message.conversation() else { return Ok(Inquired::NotMine) };
        let Some(inquiry) = self.open.get_mut(&conversation) else { return Ok(Inquired::NotMine) };
        let lasts = inquiry.act == Performative::Subscribe;
        if is_notice(message) {
            let overdue = message.performative() == Performative::Failure && says_no_reply(message);
            self.end(conversation, context);
            return Ok(if overdue { Inquired::NoAnswer(conversation) } else { Inquired::Failed(message.clone()) });
        }
        if message.sender() != Some(inquiry.receiver) {
            context.object(message, "nothing from this agent")?;
            return Ok(Inquired::OutOfSequence);
        }
        // Until it has read the cancel, the participant continues: only an inform that does not refer to the cancel is
        // a result.
        let confirms = inquiry.cancelled && (!lasts || message.content().is_empty());
        let heard = match message.performative() {
            Performative::Agree if !inquiry.agreed => {
                inquiry.agreed = true;
                return Ok(Inquired::Agreed(conversation));
            }
            Performative::Inform if confirms => Inquired::Cancelled(conversation),
            Performative::Inform if lasts => {
                inquiry.agreed = true;
                return Ok(Inquired::Informed(message.clone()));
            }
            Performative::Inform => Inquired::Informed(message.clone()),
            Performative::Refuse if !inquiry.agreed => Inquired::Refused(message.clone()),
            Performative::Failure => Inquired::Failed(message.clone()),
            Performative::NotUnderstood => Inquired::NotUnderstood(message.clone()),
            _ => {
                context.object(message, "agree, refuse, inform or failure")?;
                return Ok(Inquired::OutOfSequence);
            }
        };
        self.end(conversation, context);
        Ok(heard)
    }

    fn end(&mut self, conversation: ConversationId, context: &mut Context<'_>) {
        self.open.remove(&conversation);
        context.close_conversation(conversation);
    }
}

/// Whether the router reports that no reply arrived in time, rather than that the question was not delivered.
fn says_no_reply(notice: &Message) -> bool {
    notice.content().as_text().is_some_and(|text| text.contains(NO_REPLY))
}
