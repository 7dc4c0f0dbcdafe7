//! The message: one immutable value with every parameter of FIPA SC00061.
//!
//! A [`Message`] is valid by construction. Its hot header (ids, performative, conversation, terms) and short content
//! lie inline, so that a message crosses cores by being copied; the rest hangs behind one shared pointer
//! ([`Details`]), which messages between native agents usually lack.

mod aid;
mod builder;
mod content;
mod details;
mod id;
mod options;
mod performative;
mod term;
pub mod text;

use std::sync::Arc;

pub use aid::{AID_DEPTH_MAX, AID_ENTRIES_MAX, Aid, AidFault};
pub use builder::{MessageBuilder, MessageError};
pub use content::{CONTENT_INLINE_BYTES, MessageContent};
pub use details::{
    Details, PARAMETER_BYTES_MAX, ParameterValue, RECEIVERS_MAX, TraceContext, USER_PARAMETERS_MAX, UserParameter,
    Words,
};
pub use id::{AgentId, ConversationId, Correlation, IdSource, IdSpace, MessageId};
pub use options::{DeliveryOptions, Receipt, Reliability, WallTime};
pub use performative::{PERFORMATIVE_BYTES_MAX, Performative};
pub use term::{TERM_BYTES_MAX, Term, VOCABULARY_TERMS_MAX};

use crate::domain::{CapabilityName, MessageTimeoutMs};

/// Whom a message is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Receiver {
    /// Nobody in particular: a routing rule decides by the message's parameters.
    Unaddressed,
    /// One agent.
    Agent(AgentId),
    /// Each of these agents.
    Agents(Arc<[AgentId]>),
    /// One of these agents, which this copy of the message is for.
    Member(Arc<[AgentId]>, u32),
    /// Agents that offer a capability.
    Capability(Term, Choice),
    /// The agent that was chosen among those that offer a capability.
    Provider(AgentId, Term),
}

/// Which of a capability's providers a message goes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Choice {
    /// Any one; a provider on the sender's own shard where there is one.
    #[default]
    Any,
    /// Every one.
    All,
    /// The next one in turn.
    RoundRobin,
    /// The one with the fewest messages waiting, as far as this shard knows.
    LeastLoaded,
}

/// How the sender stands to the conversation that the message belongs to. A conversation lives with its initiator.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ConversationRole {
    /// Not known yet: the message came as text, and the shard finds out when it admits it.
    #[default]
    Unresolved,
    /// The sender began the conversation.
    Initiator,
    /// The receiver began the conversation.
    Participant,
    /// Someone else began the conversation: see [`Details::initiator`].
    Member,
}

/// An immutable FIPA-ACL message.
#[derive(Clone, PartialEq, Debug)]
pub struct Message {
    id: Option<MessageId>,
    sender: Option<AgentId>,
    receiver: Receiver,
    conversation: Option<ConversationId>,
    reply_with: Option<Correlation>,
    in_reply_to: Option<Correlation>,
    reply_by: Option<std::num::NonZeroU64>,
    performative: Performative,
    protocol: Option<Term>,
    language: Option<Term>,
    encoding: Option<Term>,
    ontology: Option<Term>,
    role: ConversationRole,
    priority: crate::domain::Priority,
    reliability: Reliability,
    receipt: Receipt,
    attempts_max: Option<std::num::NonZeroU8>,
    time_to_live_ms: u32,
    details: Option<Arc<Details>>,
    content: MessageContent,
}

impl Message {
    /// Starts a message. Only the performative is mandatory (SC00061).
    #[inline]
    pub fn builder(performative: Performative) -> MessageBuilder {
        MessageBuilder::new(performative)
    }

    /// The message's identity: absent until the router admits it, unless the caller chose one.
    pub fn id(&self) -> Option<MessageId> {
        self.id
    }

    /// Who sends it.
    #[inline]
    pub fn sender(&self) -> Option<AgentId> {
        self.sender
    }

    /// Whom it is for.
    #[inline]
    pub fn receiver(&self) -> &Receiver {
        &self.receiver
    }

    /// The one agent that this copy is for, once that is decided.
    #[inline]
    pub fn target(&self) -> Option<AgentId> {
        match &self.receiver {
            Receiver::Agent(agent) | Receiver::Provider(agent, _) => Some(*agent),
            Receiver::Member(agents, index) => agents.get(*index as usize).copied(),
            Receiver::Unaddressed | Receiver::Agents(_) | Receiver::Capability(..) => None,
        }
    }

    /// What it does.
    #[inline]
    pub fn performative(&self) -> Performative {
        self.performative
    }

    /// What it says.
    #[inline]
    pub fn content(&self) -> &MessageContent {
        &self.content
    }

    /// Which conversation it belongs to.
    #[inline]
    pub fn conversation(&self) -> Option<ConversationId> {
        self.conversation
    }

    /// How the sender stands to the conversation.
    #[inline]
    pub fn role(&self) -> ConversationRole {
        self.role
    }

    /// Who began the conversation, as far as the message says it.
    pub fn initiator(&self) -> Option<AgentId> {
        match self.role {
            ConversationRole::Initiator => self.sender,
            ConversationRole::Participant => self.target(),
            ConversationRole::Member => self.details().and_then(|details| details.initiator),
            ConversationRole::Unresolved => None,
        }
    }

    /// The value that an answer repeats in `in-reply-to`.
    #[inline]
    pub fn reply_with(&self) -> Option<Correlation> {
        self.reply_with
    }

    /// Which message this one answers.
    #[inline]
    pub fn in_reply_to(&self) -> Option<Correlation> {
        self.in_reply_to
    }

    /// Until when the next message of the exchange is expected.
    pub fn reply_by(&self) -> Option<WallTime> {
        self.reply_by.map(|milliseconds| WallTime(milliseconds.get()))
    }

    /// The protocol as a term, for comparing.
    pub fn protocol_term(&self) -> Option<Term> {
        self.protocol
    }

    /// The language as a term, for comparing.
    pub fn language_term(&self) -> Option<Term> {
        self.language
    }

    /// The ontology as a term, for comparing.
    pub fn ontology_term(&self) -> Option<Term> {
        self.ontology
    }

    /// The interaction protocol.
    pub fn protocol(&self) -> Option<&str> {
        word(self.protocol, || self.details()?.words.protocol.as_deref())
    }

    /// The language of the content.
    pub fn language(&self) -> Option<&str> {
        word(self.language, || self.details()?.words.language.as_deref())
    }

    /// The encoding of the content.
    pub fn encoding(&self) -> Option<&str> {
        word(self.encoding, || self.details()?.words.encoding.as_deref())
    }

    /// The ontology of the content.
    pub fn ontology(&self) -> Option<&str> {
        word(self.ontology, || self.details()?.words.ontology.as_deref())
    }

    /// The text of the conversation id as FIPA sees it.
    pub fn conversation_text(&self) -> Option<String> {
        text_or(self.details().and_then(|details| details.conversation.as_deref()), self.conversation)
    }

    /// The text of `reply-with`.
    pub fn reply_with_text(&self) -> Option<String> {
        text_or(self.details().and_then(|details| details.reply_with.as_deref()), self.reply_with)
    }

    /// The text of `in-reply-to`.
    pub fn in_reply_to_text(&self) -> Option<String> {
        text_or(self.details().and_then(|details| details.in_reply_to.as_deref()), self.in_reply_to)
    }

    /// Everything else that the message carries.
    #[inline]
    pub fn details(&self) -> Option<&Details> {
        self.details.as_deref()
    }

    /// The trace that the message belongs to.
    pub fn trace(&self) -> Option<TraceContext> {
        self.details().and_then(|details| details.trace)
    }

    /// Which lane of the mailbox it waits in.
    #[inline]
    pub fn priority(&self) -> crate::domain::Priority {
        self.priority
    }

    /// What it survives.
    #[inline]
    pub fn reliability(&self) -> Reliability {
        self.reliability
    }

    /// What its sender wants to hear of the delivery.
    #[inline]
    pub fn receipt(&self) -> Receipt {
        self.receipt
    }

    /// All options of delivery together.
    pub fn options(&self) -> DeliveryOptions {
        DeliveryOptions {
            priority: self.priority,
            reliability: self.reliability,
            receipt: self.receipt,
            attempts_max: self.attempts_max,
            time_to_live: MessageTimeoutMs::try_new(self.time_to_live_ms).ok(),
            deliver_at: self.details().and_then(|details| details.deliver_at),
        }
    }

    #[inline]
    pub(crate) fn attempts_max(&self) -> Option<std::num::NonZeroU8> {
        self.attempts_max
    }

    /// Zero stands for the router's own setting.
    #[inline]
    pub(crate) fn time_to_live_ms(&self) -> u32 {
        self.time_to_live_ms
    }

    /// What the message counts as against byte limits: content, details and the fixed part.
    #[inline]
    pub fn weight(&self) -> usize {
        let shared = if self.content.len() > CONTENT_INLINE_BYTES { self.content.len() } else { 0 };
        size_of::<Self>() + shared + self.details().map_or(0, Details::weight)
    }

    /// A reply to this message from the agent that it was for, in the same conversation, under the same protocol,
    /// language and ontology, to the sender or where the sender wants replies (`reply-to`).
    pub fn reply(&self, performative: Performative) -> MessageBuilder {
        MessageBuilder::reply_to(self, performative)
    }

    #[inline]
    pub(crate) fn set_id(&mut self, id: MessageId) {
        self.id = Some(id);
    }

    #[inline]
    pub(crate) fn set_sender(&mut self, sender: AgentId) {
        self.sender = Some(sender);
    }

    /// Sets the sender of a message that has none. A sender that was named stays, and is checked when it is admitted.
    #[inline]
    pub fn set_sender_if_absent(&mut self, sender: AgentId) {
        self.sender.get_or_insert(sender);
    }

    #[inline]
    pub(crate) fn set_role(&mut self, role: ConversationRole) {
        self.role = role;
    }

    /// Makes the message a question: answers to it repeat this value.
    pub(crate) fn set_reply_with(&mut self, correlation: Correlation) {
        self.reply_with = Some(correlation);
        if self.details().is_some_and(|details| details.reply_with.is_some()) {
            let mut details = self.details().cloned().unwrap_or_default();
            details.reply_with = None;
            self.details = Some(Arc::new(details));
        }
    }

    pub(crate) fn set_receiver(&mut self, receiver: Receiver) {
        self.receiver = receiver;
    }

    pub(crate) fn set_member_of(&mut self, initiator: AgentId) {
        let mut details = self.details().cloned().unwrap_or_default();
        details.initiator = Some(initiator);
        self.details = Some(Arc::new(details));
        self.role = ConversationRole::Member;
    }
}

impl Details {
    fn weight(&self) -> usize {
        let text = |text: &Option<Box<str>>| text.as_ref().map_or(0, |text| text.len());
        let parameters: usize = self.user_parameters.iter().map(|parameter| parameter.name.len() + 64).sum();
        size_of::<Self>()
            + (self.receivers.len() + self.reply_to.len() + usize::from(self.sender.is_some())) * size_of::<Aid>()
            + text(&self.conversation)
            + text(&self.reply_with)
            + text(&self.in_reply_to)
            + parameters
    }
}

fn word<'a>(term: Option<Term>, text: impl FnOnce() -> Option<&'a str>) -> Option<&'a str> {
    term.map(Term::as_str).or_else(text)
}

fn text_or(text: Option<&str>, id: Option<impl std::fmt::Display>) -> Option<String> {
    text.map(str::to_owned).or_else(|| id.map(|id| id.to_string()))
}

/// The capability's name as a term. A capability name is at most 400 bytes long, so only the vocabulary's bound can
/// refuse it.
pub fn capability_term(name: &CapabilityName) -> Option<Term> {
    Term::of(name.as_ref())
}

const _: () = assert!(size_of::<Message>() <= 352, "a message and its envelope fill six cache lines");
