//! The message builder: sets parameters one by one and checks them once at the end.

mod parts;

use std::num::{NonZeroU8, NonZeroU64};
use std::sync::Arc;
use std::time::Duration;

use super::aid::AidError;
use super::content::IntoContent;
use super::details::{Details, PARAMETER_BYTES_MAX, ParameterValue, RECEIVERS_MAX, USER_PARAMETERS_MAX};
use super::id::{AgentId, ConversationId, Correlation, IntoAgentId, MessageId};
use super::options::{DeliveryOptions, Receipt, Reliability, WallTime, WhenUnavailable};
use super::performative::Performative;
use super::term::Term;
use super::{Aid, Choice, ConversationRole, Message, Receiver, TraceContext};
use crate::domain::{CapabilityName, ContentLimit, DomainError, LifetimeMs, Priority};

/// A message could not be built. Nothing was sent.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// The name of an agent is not allowed.
    #[error(transparent)]
    AgentName(DomainError),
    /// A value has no form in JSON.
    #[error("the content has no form in JSON: {reason}")]
    Json {
        /// What is wrong.
        reason: String,
    },
    /// The content exceeds the limit.
    #[error("the content has {bytes} bytes: the limit is {limit} bytes")]
    ContentTooLarge {
        /// The length of the content in bytes.
        bytes: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// A set of agents is too large.
    #[error("{parameter} names {count} agents: the limit is {RECEIVERS_MAX}")]
    TooManyAgents {
        /// `receiver` or `reply-to`.
        parameter: &'static str,
        /// The number of agents.
        count: usize,
    },
    /// A textual parameter is too long.
    #[error("parameter {parameter} has {bytes} bytes: the limit is {PARAMETER_BYTES_MAX} bytes")]
    ParameterTooLong {
        /// The name of the parameter.
        parameter: String,
        /// The length in bytes.
        bytes: usize,
    },
    /// A user-defined parameter's name is not a word that begins with `X-`.
    #[error("the user-defined parameter {name:?} is not allowed: a name begins with X- and has no spaces")]
    ParameterName {
        /// The refused name.
        name: String,
    },
    /// A user-defined parameter has a name that is reserved for the router.
    #[error("the parameter {name} belongs to the router: set it through the options of delivery")]
    ParameterReserved {
        /// The refused name.
        name: String,
    },
    /// A user-defined performative is not a valid word.
    #[error("the performative {name:?} is not allowed: parse it from text to have it checked")]
    PerformativeName {
        /// The refused word.
        name: String,
    },
    /// An agent identifier breaks a limit.
    #[error("an agent identifier of {parameter} {fault}")]
    Identifier {
        /// `sender`, `receiver` or `reply-to`.
        parameter: &'static str,
        /// The limit that was broken.
        fault: AidError,
    },
    /// There are too many user-defined parameters.
    #[error("{count} user-defined parameters: the limit is {USER_PARAMETERS_MAX}")]
    TooManyParameters {
        /// The number of parameters.
        count: usize,
    },
    /// The vocabulary has no room for a capability's name.
    #[error("the capability {name:?} cannot be addressed: the process-wide vocabulary is full")]
    VocabularyFull {
        /// The capability's name.
        name: String,
    },
}

/// Builds a [`Message`].
///
/// What is wrong is reported by [`MessageBuilder::build`].
///
/// ```
/// # use caxton_shards::message::{Message, Performative, Reliability};
/// use std::time::Duration;
///
/// let order = Message::builder(Performative::Request)
///     .receiver("seller")
///     .ontology("trade")
///     .json(&("bolts", 12))
///     .reliability(Reliability::Durable)
///     .within(Duration::from_secs(30))
///     .build()?;
/// assert_eq!(order.json(), Ok(("bolts", 12)));
/// assert!(Message::builder(Performative::Request).receiver("no\nname").build().is_err());
/// # Ok::<(), caxton_shards::message::MessageError>(())
/// ```
///
/// The builder is two pointers, so that it passes from call to call in registers.
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct MessageBuilder {
    message: Message,
    aside: Option<Box<Aside>>,
}

/// State that few builders need.
#[derive(Clone, Debug, Default)]
struct Aside {
    details: Option<Details>,
    /// The first error.
    error: Option<MessageError>,
}

const _: () = assert!(size_of::<MessageBuilder>() == 16, "a builder fits into two registers");

impl MessageBuilder {
    #[inline]
    pub(super) fn new(performative: Performative) -> Self {
        let mut body = super::pool::take();
        body.performative = performative;
        Self { message: Message(body), aside: None }
    }

    #[inline]
    pub(super) fn reply_to(original: &Message, performative: Performative) -> Self {
        let mut builder = Self::new(performative);
        let reply = &mut *builder.message.0;
        reply.sender = original.target();
        reply.receiver = original.0.sender.map_or(Receiver::Unaddressed, Receiver::Agent);
        reply.conversation = original.0.conversation;
        reply.in_reply_to = original.0.reply_with;
        reply.protocol = original.0.protocol;
        reply.language = original.0.language;
        reply.encoding = original.0.encoding;
        reply.ontology = original.0.ontology;
        reply.priority = original.0.priority;
        reply.reliability = original.0.reliability;
        reply.delivery_meta.conversation_place = original.0.delivery_meta.conversation_place;
        reply.delivery_meta.receiver_place = original.0.delivery_meta.sender_place;
        reply.role = match original.0.role {
            ConversationRole::Initiator => ConversationRole::Participant,
            ConversationRole::Participant => ConversationRole::Initiator,
            other => other,
        };
        if let Some(details) = original.details() {
            builder.copy_details_for_reply(original, details);
        }
        builder
    }

    #[cold]
    fn copy_details_for_reply(&mut self, original: &Message, details: &Details) {
        // A replayed dead letter may look up its conversation by its initiator, even if that is the sender.
        if original.0.role == ConversationRole::Member && details.initiator == original.0.sender {
            self.message.0.role = ConversationRole::Participant;
        }
        let us = original.target_aid().cloned();
        let reply = self.details();
        reply.sender = us;
        reply.initiator = details.initiator;
        reply.conversation.clone_from(&details.conversation);
        reply.in_reply_to.clone_from(&details.reply_with);
        reply.words = details.words.clone();
        reply.trace = details.trace;
        (reply.trace_is_given, reply.trace_hops) = (details.are_given(), details.trace_hops);
        if details.reply_to.is_empty() {
            reply.receivers = details.sender.iter().cloned().collect();
        } else {
            let receivers = details.reply_to.clone();
            self.message.0.receiver = receiver_of(&receivers);
            self.details().receivers = receivers;
            // Redirected replies go to an agent that need not be the initiator: the conversation stays where it was.
            if let (ConversationRole::Participant, Some(initiator)) = (self.message.0.role, original.0.sender)
                && self.message.0.receiver != Receiver::Agent(initiator)
            {
                self.message.0.role = ConversationRole::Member;
                self.details().initiator = Some(initiator);
            }
        }
    }

    pub(super) fn of(mut message: Message) -> Self {
        let details = message.0.details.take();
        let aside =
            details.map(|details| Box::new(Aside { details: Some(Arc::unwrap_or_clone(details)), error: None }));
        Self { message, aside }
    }

    fn details(&mut self) -> &mut Details {
        self.aside.get_or_insert_default().details.get_or_insert_default()
    }

    fn has_details(&self) -> bool {
        self.aside.as_ref().is_some_and(|aside| aside.details.is_some())
    }

    #[cold]
    pub(super) fn fail(&mut self, error: MessageError) {
        self.aside.get_or_insert_default().error.get_or_insert(error);
    }

    /// Sets the sender. The router sets it for messages that agents send, and refuses any other.
    #[inline]
    pub fn sender(mut self, sender: impl IntoAgentId) -> Self {
        match sender.into_agent_id() {
            Ok(sender) => self.message.0.sender = Some(sender),
            Err(error) => self.fail(MessageError::AgentName(error)),
        }
        self
    }

    /// Sets the sender with its addresses, resolvers and parameters.
    pub fn sender_aid(mut self, aid: Aid) -> Self {
        self.set_sender_aid(aid);
        self
    }

    /// Sets the only receiver.
    #[inline]
    pub fn receiver(mut self, receiver: impl IntoAgentId) -> Self {
        match receiver.into_agent_id() {
            Ok(receiver) => self.message.0.receiver = Receiver::Agent(receiver),
            Err(error) => self.fail(MessageError::AgentName(error)),
        }
        self
    }

    /// Sets up to [`RECEIVERS_MAX`] receivers. The message is delivered to each of them once, even if it is named
    /// twice.
    pub fn receivers(mut self, receivers: impl IntoIterator<Item = AgentId>) -> Self {
        let mut agents: Vec<AgentId> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        for receiver in receivers {
            if seen.insert(receiver) {
                agents.push(receiver);
            }
        }
        if agents.len() > RECEIVERS_MAX {
            self.fail(MessageError::TooManyAgents { parameter: "receiver", count: agents.len() });
        }
        self.message.0.receiver = match agents.as_slice() {
            [] => Receiver::Unaddressed,
            [receiver] => Receiver::Agent(*receiver),
            _ => Receiver::Agents(agents.into()),
        };
        self
    }

    /// Sets the receivers with their addresses, resolvers and parameters.
    pub fn receiver_aids(mut self, aids: Vec<Aid>) -> Self {
        self.set_receiver_aids(aids);
        self
    }

    /// Addresses agents by the capability they provide instead of by name.
    pub fn capability(mut self, capability: &CapabilityName, choice: Choice) -> Self {
        match Term::of_message(capability.as_ref()) {
            Some(term) => self.message.0.receiver = Receiver::Capability(term, choice),
            None => self.fail(MessageError::VocabularyFull { name: capability.to_string() }),
        }
        self
    }

    /// Like [`MessageBuilder::capability`], for a capability that is already a term.
    #[inline]
    pub fn capability_term(mut self, capability: Term, choice: Choice) -> Self {
        self.message.0.receiver = Receiver::Capability(capability, choice);
        self
    }

    /// Sets the agents that replies go to instead of the sender.
    pub fn reply_to_aids(mut self, aids: Vec<Aid>) -> Self {
        self.set_reply_to_aids(aids);
        self
    }

    /// Sets the content: up to 10 MiB, or the limit given to [`MessageBuilder::build_within`].
    #[inline]
    pub fn content(mut self, content: impl IntoContent) -> Self {
        content.put_into(&mut self.message.0.content);
        self
    }

    /// Sets the conversation, which the sender began or begins with this message.
    #[inline]
    pub fn conversation(mut self, conversation: ConversationId) -> Self {
        self.message.0.conversation = Some(conversation);
        self.message.0.role = ConversationRole::Initiator;
        self
    }

    /// Sets the conversation and the sender's role in it.
    #[inline]
    pub fn conversation_as(mut self, conversation: ConversationId, role: ConversationRole) -> Self {
        self.message.0.conversation = Some(conversation);
        self.message.0.role = role;
        self
    }

    /// Sets a conversation begun by `initiator`, for a message between two other participants.
    pub fn conversation_of(mut self, conversation: ConversationId, initiator: AgentId) -> Self {
        self.message.0.conversation = Some(conversation);
        self.message.0.role = ConversationRole::Member;
        self.details().initiator = Some(initiator);
        self
    }

    /// Sets the conversation by its FIPA text. Its initiator is looked up when the message is admitted.
    pub fn conversation_text(mut self, text: &str) -> Self {
        self.set_conversation_text(text);
        self
    }

    /// Sets the value that a reply must repeat in `in-reply-to`.
    #[inline]
    pub fn reply_with(mut self, correlation: Correlation) -> Self {
        self.message.0.reply_with = Some(correlation);
        self
    }

    /// Sets the value that a reply must repeat in `in-reply-to`, as text.
    pub fn reply_with_text(mut self, text: &str) -> Self {
        self.set_reply_with_text(text);
        self
    }

    /// Sets the `reply-with` value of the message that this one replies to.
    #[inline]
    pub fn in_reply_to(mut self, correlation: Correlation) -> Self {
        self.message.0.in_reply_to = Some(correlation);
        self
    }

    /// Sets the `reply-with` value of the message that this one replies to, as text.
    pub fn in_reply_to_text(mut self, text: &str) -> Self {
        self.set_in_reply_to_text(text);
        self
    }

    /// Sets the time until which a reply is expected. The Unix epoch itself counts as no limit.
    #[inline]
    pub fn reply_by(mut self, moment: WallTime) -> Self {
        self.message.0.reply_by = NonZeroU64::new(moment.0);
        self
    }

    /// Sets the interaction protocol.
    pub fn protocol(mut self, protocol: &str) -> Self {
        self.set_protocol(protocol);
        self
    }

    /// Sets the interaction protocol as a term.
    #[inline]
    pub fn protocol_term(mut self, protocol: Term) -> Self {
        self.message.0.protocol = Some(protocol);
        self
    }

    /// Sets the language of the content.
    pub fn language(mut self, language: &str) -> Self {
        self.set_language(language);
        self
    }

    /// Sets the language of the content as a term.
    #[inline]
    pub fn language_term(mut self, language: Term) -> Self {
        self.message.0.language = Some(language);
        self
    }

    /// Sets the encoding of the content.
    pub fn encoding(mut self, encoding: &str) -> Self {
        self.set_encoding(encoding);
        self
    }

    /// Sets the ontology of the content.
    pub fn ontology(mut self, ontology: &str) -> Self {
        self.set_ontology(ontology);
        self
    }

    /// Sets the ontology of the content as a term.
    #[inline]
    pub fn ontology_term(mut self, ontology: Term) -> Self {
        self.message.0.ontology = Some(ontology);
        self
    }

    /// Adds a user-defined parameter. Its name must begin with `X-` or `x-` and must not be one of those in which the
    /// string form carries delivery options (see [`text`](crate::codec::text)).
    pub fn user_parameter(mut self, name: &str, value: ParameterValue) -> Self {
        self.set_user_parameter(name, value);
        self
    }

    /// Sets the trace that the message belongs to.
    pub fn trace(mut self, trace: TraceContext) -> Self {
        let details = self.details();
        (details.trace, details.trace_is_given, details.trace_hops) = (Some(trace), false, 0);
        self
    }

    /// Sets all delivery options.
    pub fn options(mut self, options: DeliveryOptions) -> Self {
        self.message.0.priority = options.priority;
        self.message.0.reliability = options.reliability;
        self.message.0.receipt = options.receipt;
        self.message.0.when_unavailable = options.when_unavailable;
        self.message.0.attempts_max = options.attempts_max;
        self.message.0.time_to_live_ms = options.time_to_live.map_or(0, LifetimeMs::into_inner);
        if let Some(moment) = options.deliver_at {
            self = self.deliver_at(moment);
        }
        self
    }

    /// Sets the mailbox lane in which the message waits.
    #[inline]
    pub fn priority(mut self, priority: Priority) -> Self {
        self.message.0.priority = priority;
        self
    }

    /// Sets whether the message survives a crash.
    #[inline]
    pub fn reliability(mut self, reliability: Reliability) -> Self {
        self.message.0.reliability = reliability;
        self
    }

    /// Sets which delivery receipt the sender wants.
    #[inline]
    pub fn receipt(mut self, receipt: Receipt) -> Self {
        self.message.0.receipt = receipt;
        self
    }

    /// Sets what happens to the message while its receiver is unavailable.
    #[inline]
    pub fn when_unavailable(mut self, choice: WhenUnavailable) -> Self {
        self.message.0.when_unavailable = choice;
        self
    }

    /// Sets the maximum number of delivery attempts.
    #[inline]
    pub fn attempts_max(mut self, attempts: NonZeroU8) -> Self {
        self.message.0.attempts_max = Some(attempts);
        self
    }

    /// Sets how long the message may wait. The time counts from the delivery time, if one is set.
    #[inline]
    pub fn time_to_live(mut self, time: LifetimeMs) -> Self {
        self.message.0.time_to_live_ms = time.into_inner();
        self
    }

    /// Limits the lifetime to `time`, in whole milliseconds: at least one, at most [`LifetimeMs::MAXIMUM`]. A shorter
    /// lifetime that is already set is kept. See also
    /// [`Context::pass_deadline`](crate::shard::agent::Context::pass_deadline).
    pub fn within(mut self, time: Duration) -> Self {
        let most = match self.message.0.time_to_live_ms {
            0 => LifetimeMs::MAXIMUM,
            own => own,
        };
        let milliseconds = u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
        self.message.0.time_to_live_ms = milliseconds.clamp(LifetimeMs::MINIMUM, most);
        self
    }

    pub(crate) fn has_lifetime(&self) -> bool {
        self.message.0.time_to_live_ms != 0
    }

    pub(crate) fn deliver_at_of(&self) -> Option<WallTime> {
        self.aside.as_ref()?.details.as_ref()?.deliver_at
    }

    pub(crate) fn reply_by_at_most(mut self, moment: WallTime) -> Self {
        let own = self.message.0.reply_by;
        self.message.0.reply_by = own.map(|own| NonZeroU64::new(moment.0).map_or(own, |moment| moment.min(own)));
        self
    }

    /// Sets the earliest delivery time.
    pub fn deliver_at(mut self, moment: WallTime) -> Self {
        self.details().deliver_at = Some(moment);
        self
    }

    /// Sets an id chosen by the caller, by which a message sent twice is recognised.
    #[inline]
    pub fn id(mut self, id: MessageId) -> Self {
        self.message.0.id = Some(id);
        self
    }

    /// Builds the message, with content of up to 10 MiB.
    ///
    /// # Errors
    ///
    /// Returns the first limit that was broken.
    #[inline]
    pub fn build(self) -> Result<Message, MessageError> {
        let plain = self.aside.is_none()
            && self.message.0.content.inline().is_some()
            && !matches!(self.message.0.performative, Performative::UserDefined(_));
        if plain { Ok(self.message) } else { self.build_within(ContentLimit::default()) }
    }

    /// Builds the message, with content of up to `limit`.
    ///
    /// # Errors
    ///
    /// Returns the first limit that was broken.
    pub fn build_within(mut self, limit: ContentLimit) -> Result<Message, MessageError> {
        let Aside { details, error } = self.aside.map(|aside| *aside).unwrap_or_default();
        if let Some(error) = error {
            return Err(error);
        }
        if let Performative::UserDefined(word) = self.message.0.performative
            && word.as_str().parse() != Ok(self.message.0.performative)
        {
            return Err(MessageError::PerformativeName { name: word.as_str().to_owned() });
        }
        let bytes = self.message.0.content.len();
        if bytes as u64 > u64::from(limit.into_inner()) {
            return Err(MessageError::ContentTooLarge { bytes, limit: limit.into_inner() as usize });
        }
        if let Some(details) = details {
            self.message.0.details = Some(Arc::new(details));
        }
        Ok(self.message)
    }

    /// Returns the text to be kept because it did not become a term.
    fn beside(&mut self, parameter: &str, term: Option<Term>, text: &str) -> Option<Box<str>> {
        self.check_length(parameter, text.len());
        if term.is_some() { None } else { Some(text.into()) }
    }

    fn keep_word(&mut self, text: Option<Box<str>>, set: impl FnOnce(&mut Details, Option<Box<str>>)) {
        // Without details there is nothing to clear.
        if text.is_some() || self.has_details() {
            set(self.details(), text);
        }
    }

    fn check_aids(&mut self, parameter: &'static str, aids: &[Aid]) {
        if let Some(fault) = aids.iter().find_map(|aid| aid.check().err()) {
            self.fail(MessageError::Identifier { parameter, fault });
        }
    }

    fn check_length(&mut self, parameter: &str, bytes: usize) {
        if bytes > PARAMETER_BYTES_MAX {
            self.fail(MessageError::ParameterTooLong { parameter: parameter.chars().take(64).collect(), bytes });
        }
    }
}

fn receiver_of(aids: &[Aid]) -> Receiver {
    if let [aid] = aids {
        return Receiver::Agent(aid.id());
    }
    let mut agents: Vec<AgentId> = Vec::with_capacity(aids.len());
    let mut seen = std::collections::HashSet::new();
    for aid in aids {
        let id = aid.id();
        if seen.insert(id) {
            agents.push(id);
        }
    }
    match agents.as_slice() {
        [] => Receiver::Unaddressed,
        [agent] => Receiver::Agent(*agent),
        _ => Receiver::Agents(agents.into()),
    }
}
