//! The message: one immutable value with every parameter of FIPA SC00061.
//!
//! A [`Message`] is valid by construction. Its hot header (ids, performative, conversation, terms) and short content
//! are stored together, so that a message crosses cores by being copied. The rest is behind one shared pointer
//! ([`Details`]), which messages between native agents usually lack.

mod aid;
mod builder;
pub(crate) mod bytes;
mod content;
pub(crate) mod date;
pub(crate) mod delivery_meta;
pub(crate) mod details;
mod envelope;
mod id;
pub(crate) mod journal_ref;
mod json;
mod names;
pub(crate) mod notice;
mod options;
pub(crate) mod parameter;
mod performative;
mod pool;
pub(crate) mod stored;
mod term;
pub mod transfer;
pub(crate) mod word;

use std::sync::Arc;

pub use aid::{AID_DEPTH_MAX, AID_ENTRIES_MAX, Aid, AidError};
pub use builder::{MessageBuilder, MessageError};
pub use content::{CONTENT_INLINE_BYTES, IntoContent, MessageContent};
pub use details::{
    Details, Expression, PARAMETER_BYTES_MAX, ParameterValue, RECEIVERS_MAX, Replay, TraceContext, USER_PARAMETERS_MAX,
    UserParameter, Words,
};
pub use envelope::{AclRepresentation, RECEIVED_STAMPS_MAX, ReceivedStamp, TransportEnvelope, TransportEnvelopeError};
pub use id::{AgentId, ConversationId, Correlation, IdSource, IdSpace, IntoAgentId, MessageId};
pub use json::{JSON_LANGUAGE, JsonError};
pub use options::{DeliveryOptions, Receipt, Reliability, WallTime, WhenUnavailable};
pub use performative::{PERFORMATIVE_BYTES_MAX, Performative};
pub(crate) use pool::{BodyPool, PlainBody};
pub use term::{MESSAGE_TERMS_MAX, PERFORMATIVE_TERMS_MAX, TERM_BYTES_MAX, Term, VOCABULARY_TERMS_MAX};

use crate::base::slab::NONE;
use crate::domain::{CapabilityName, DomainError, LifetimeMs};
use crate::message::delivery_meta::DeliveryFlags;

/// The receiver of a message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Receiver {
    /// No particular receiver: a routing rule decides by the message's parameters.
    Unaddressed,
    /// One agent.
    Agent(AgentId),
    /// Each of these agents.
    Agents(Arc<[AgentId]>),
    /// One of these agents, for whom this copy of the message is.
    Member(Arc<[AgentId]>, u32),
    /// Providers of a capability.
    Capability(Term, Choice),
    /// The agent chosen among the providers of a capability.
    Provider(AgentId, Term),
}

/// How many places behind its own an identifier is searched for, in a set that names agents repeatedly.
const REPEATED_AIDS_SEARCHED_MAX: usize = 64;

/// Which of a capability's providers receive a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Choice {
    /// Any one, preferably on the sender's own shard.
    #[default]
    Any,
    /// Every one.
    All,
    /// The next one in rotation.
    RoundRobin,
    /// The one with the fewest waiting messages, as far as this shard knows.
    LeastLoaded,
}

impl Choice {
    /// Every choice with its word.
    pub(crate) const WORDS: [(&str, Self); 4] = [
        ("any", Self::Any),
        ("all", Self::All),
        ("round-robin", Self::RoundRobin),
        ("least-loaded", Self::LeastLoaded),
    ];

    /// Returns the choice as one word, such as `round-robin`.
    pub fn as_str(self) -> &'static str {
        Self::WORDS[self as usize].0
    }
}

impl std::str::FromStr for Choice {
    type Err = DomainError;

    fn from_str(word: &str) -> Result<Self, DomainError> {
        let found = Self::WORDS.iter().find(|(known, _)| *known == word.trim());
        let refuse = || DomainError::not_allowed("choice", word, "any, all, round-robin or least-loaded");
        found.map(|(_, choice)| *choice).ok_or_else(refuse)
    }
}

/// The sender's role in the message's conversation. A conversation is kept on its initiator's shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ConversationRole {
    /// Not known yet: the message arrived as text, and the shard resolves the role when it admits it.
    #[default]
    Unresolved,
    /// The sender began the conversation.
    Initiator,
    /// The receiver began the conversation.
    Participant,
    /// Another agent began the conversation; see [`Details::initiator`].
    Member,
}

/// An immutable FIPA-ACL message.
///
/// It is one pointer, so that moving it within a shard is free. Between shards its body is copied, so that every core
/// frees what it allocated. Moving the whole body at each step was measured to take about twice as long on the path
/// within a shard.
#[derive(Clone, PartialEq, Debug)]
pub struct Message(Box<Body>);

/// The fields of a message.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Body {
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
    late: bool,
    priority: crate::domain::Priority,
    reliability: Reliability,
    receipt: Receipt,
    when_unavailable: WhenUnavailable,
    attempts_max: Option<std::num::NonZeroU8>,
    time_to_live_ms: u32,
    details: Option<Arc<Details>>,
    delivery_meta: crate::message::delivery_meta::DeliveryMeta,
    journal: crate::message::journal_ref::JournalMark,
    content: MessageContent,
}

/// The changes to a message whose options were found among its user-defined parameters. `None` changes nothing.
pub(crate) struct Amendment {
    /// The rarely used part of the message, replaced as a whole.
    pub details: Details,
    pub priority: Option<crate::domain::Priority>,
    pub reliability: Option<Reliability>,
    pub receipt: Option<Receipt>,
    pub when_unavailable: Option<WhenUnavailable>,
    pub attempts_max: Option<std::num::NonZeroU8>,
    pub time_to_live: Option<LifetimeMs>,
    pub id: Option<MessageId>,
    pub receiver: Option<Receiver>,
}

impl Message {
    /// Applies an amendment.
    pub(crate) fn amend(&mut self, amendment: Amendment) {
        let body = &mut *self.0;
        body.details = Some(Arc::new(amendment.details));
        body.priority = amendment.priority.unwrap_or(body.priority);
        body.reliability = amendment.reliability.unwrap_or(body.reliability);
        body.receipt = amendment.receipt.unwrap_or(body.receipt);
        body.when_unavailable = amendment.when_unavailable.unwrap_or(body.when_unavailable);
        body.attempts_max = amendment.attempts_max.or(body.attempts_max);
        body.time_to_live_ms = amendment.time_to_live.map_or(body.time_to_live_ms, LifetimeMs::into_inner);
        body.id = amendment.id.or(body.id);
        if let Some(receiver) = amendment.receiver {
            body.receiver = receiver;
        }
    }

    /// Starts building a message. Only the performative is mandatory (SC00061).
    #[inline]
    pub fn builder(performative: Performative) -> MessageBuilder {
        MessageBuilder::new(performative)
    }

    /// Returns the message's id: `None` until the router admits it, unless the caller chose one.
    pub fn id(&self) -> Option<MessageId> {
        self.0.id
    }

    /// Returns the sender.
    #[inline]
    pub fn sender(&self) -> Option<AgentId> {
        self.0.sender
    }

    /// Returns the receiver.
    #[inline]
    pub fn receiver(&self) -> &Receiver {
        &self.0.receiver
    }

    /// Returns the one agent that this copy is for, once that is decided.
    #[inline]
    pub fn target(&self) -> Option<AgentId> {
        match &self.0.receiver {
            Receiver::Agent(agent) | Receiver::Provider(agent, _) => Some(*agent),
            Receiver::Member(agents, index) => agents.get(*index as usize).copied(),
            Receiver::Unaddressed | Receiver::Agents(_) | Receiver::Capability(..) => None,
        }
    }

    /// Returns the identifier of the one agent that this copy is for, as written, if the message holds more than its
    /// id.
    pub fn target_aid(&self) -> Option<&Aid> {
        let target = self.target()?;
        let aids = &self.details()?.receivers;
        // An agent named twice receives one copy, so identifiers are at or a little behind their place among the
        // receivers. Hashing every name for every receiver of a large set would stall the shard.
        let (first, most) = match &self.0.receiver {
            Receiver::Member(agents, index) => (*index as usize, aids.len().saturating_sub(agents.len())),
            _ => (0, aids.len()),
        };
        aids.iter().skip(first).take(1 + most.min(REPEATED_AIDS_SEARCHED_MAX)).find(|aid| aid.id() == target)
    }

    /// Returns the performative.
    #[inline]
    pub fn performative(&self) -> Performative {
        self.0.performative
    }

    /// Returns the content.
    #[inline]
    pub fn content(&self) -> &MessageContent {
        &self.0.content
    }

    /// Returns the id of the conversation.
    #[inline]
    pub fn conversation(&self) -> Option<ConversationId> {
        self.0.conversation
    }

    /// Returns the sender's role in the conversation.
    #[inline]
    pub fn role(&self) -> ConversationRole {
        self.0.role
    }

    /// Whether it has `in-reply-to`, and was created as a reply to a message of its receiver or belongs to a
    /// conversation begun by its receiver.
    pub(crate) fn looks_like_reply(&self) -> bool {
        self.in_reply_to().is_some()
            && (self.delivery_meta().receiver_place != NONE
                || (self.conversation().is_some() && self.role() == ConversationRole::Participant))
    }

    /// Returns the conversation's initiator, as far as the message states it.
    pub fn initiator(&self) -> Option<AgentId> {
        match self.0.role {
            ConversationRole::Initiator => self.0.sender,
            ConversationRole::Participant => self.target(),
            ConversationRole::Member => self.details().and_then(|details| details.initiator),
            ConversationRole::Unresolved => None,
        }
    }

    /// Returns the value that a reply repeats in `in-reply-to`.
    #[inline]
    pub fn reply_with(&self) -> Option<Correlation> {
        self.0.reply_with
    }

    /// Returns the `reply-with` value of the message that this one replies to.
    #[inline]
    pub fn in_reply_to(&self) -> Option<Correlation> {
        self.0.in_reply_to
    }

    /// Whether its stages are recorded: see [`trace`](crate::trace).
    pub fn is_watched(&self) -> bool {
        self.0.delivery_meta.is_watched()
    }

    /// Returns the time until which the next message of the exchange is expected.
    pub fn reply_by(&self) -> Option<WallTime> {
        self.0.reply_by.map(|milliseconds| WallTime(milliseconds.get()))
    }

    /// Whether this is a reply that arrived after the question's `reply-by`.
    pub fn is_late(&self) -> bool {
        self.0.late
    }

    pub(crate) fn set_late(&mut self) {
        self.0.late = true;
    }

    /// Returns the protocol as a term, for comparisons.
    pub fn protocol_term(&self) -> Option<Term> {
        self.0.protocol
    }

    /// Returns the language as a term, for comparisons.
    pub fn language_term(&self) -> Option<Term> {
        self.0.language
    }

    /// Returns the ontology as a term, for comparisons.
    pub fn ontology_term(&self) -> Option<Term> {
        self.0.ontology
    }

    /// Returns the interaction protocol.
    pub fn protocol(&self) -> Option<&str> {
        word(self.0.protocol, || self.details()?.words.protocol.as_deref())
    }

    /// Returns the language of the content.
    pub fn language(&self) -> Option<&str> {
        word(self.0.language, || self.details()?.words.language.as_deref())
    }

    /// Returns the encoding of the content.
    pub fn encoding(&self) -> Option<&str> {
        word(self.0.encoding, || self.details()?.words.encoding.as_deref())
    }

    /// Returns the ontology of the content.
    pub fn ontology(&self) -> Option<&str> {
        word(self.0.ontology, || self.details()?.words.ontology.as_deref())
    }

    /// Returns the conversation id in its FIPA text form.
    pub fn conversation_text(&self) -> Option<String> {
        text_or(self.details().and_then(|details| details.conversation.as_deref()), self.0.conversation)
    }

    /// Returns the text of `reply-with`.
    pub fn reply_with_text(&self) -> Option<String> {
        text_or(self.details().and_then(|details| details.reply_with.as_deref()), self.0.reply_with)
    }

    /// Returns the text of `in-reply-to`.
    pub fn in_reply_to_text(&self) -> Option<String> {
        text_or(self.details().and_then(|details| details.in_reply_to.as_deref()), self.0.in_reply_to)
    }

    /// Returns the rarely used parts of the message.
    #[inline]
    pub fn details(&self) -> Option<&Details> {
        self.0.details.as_deref()
    }

    /// Returns the trace that the message belongs to.
    pub fn trace(&self) -> Option<TraceContext> {
        self.details().and_then(|details| details.trace)
    }

    /// Returns the replay history if the message is a replayed dead letter. Its receiver may have handled it before.
    pub fn replay(&self) -> Option<Replay> {
        self.details().and_then(|details| details.replay)
    }

    /// Whether the message may enter its conversation only if that is open, although the initiator sent it.
    #[inline]
    pub(crate) fn rejoins(&self) -> bool {
        self.details().is_some_and(|details| details.replay.is_some_and(|replay| replay.rejoins))
    }

    /// Returns the mailbox lane in which the message waits.
    #[inline]
    pub fn priority(&self) -> crate::domain::Priority {
        self.0.priority
    }

    /// Returns whether the message is durable or volatile.
    #[inline]
    pub fn reliability(&self) -> Reliability {
        self.0.reliability
    }

    /// Returns which delivery receipt the sender wants.
    #[inline]
    pub fn receipt(&self) -> Receipt {
        self.0.receipt
    }

    /// Returns what happens to the message while its receiver is unavailable.
    #[inline]
    pub fn when_unavailable(&self) -> WhenUnavailable {
        self.0.when_unavailable
    }

    /// Returns all delivery options.
    pub fn options(&self) -> DeliveryOptions {
        DeliveryOptions {
            priority: self.0.priority,
            reliability: self.0.reliability,
            receipt: self.0.receipt,
            attempts_max: self.0.attempts_max,
            time_to_live: LifetimeMs::try_new(self.0.time_to_live_ms).ok(),
            deliver_at: self.details().and_then(|details| details.deliver_at),
            when_unavailable: self.0.when_unavailable,
        }
    }

    #[inline]
    pub(crate) fn attempts_max(&self) -> Option<std::num::NonZeroU8> {
        self.0.attempts_max
    }

    /// Zero means the router's default.
    #[inline]
    pub(crate) fn time_to_live_ms(&self) -> u32 {
        self.0.time_to_live_ms
    }

    /// Returns the message's size for byte limits: content, details and the fixed part.
    #[inline]
    pub fn weight(&self) -> usize {
        let shared = if self.0.content.len() > CONTENT_INLINE_BYTES { self.0.content.len() } else { 0 };
        size_of::<Body>() + shared + self.details().map_or(0, Details::weight)
    }

    /// Starts a reply from the agent that received this message: in the same conversation, with the same protocol,
    /// language and ontology, to the sender or to the agents in `reply-to`.
    #[inline]
    pub fn reply(&self, performative: Performative) -> MessageBuilder {
        MessageBuilder::reply_to(self, performative)
    }

    /// Returns a builder that begins with all of this message.
    ///
    /// ```
    /// # use caxton_shards::message::{Message, Performative};
    /// let draft = Message::builder(Performative::Inform).ontology("trade").content("sold").build()?;
    /// let message = draft.into_builder().receiver("buyer").build()?;
    /// assert_eq!((message.ontology(), message.content().as_text()), (Some("trade"), Some("sold")));
    /// # Ok::<(), caxton_shards::message::MessageError>(())
    /// ```
    pub fn into_builder(self) -> MessageBuilder {
        MessageBuilder::of(self)
    }

    /// Returns when the lifetime of an admitted message ends, in milliseconds of monotonic time, or `None` if it has no
    /// end.
    pub fn ends_at_ms(&self) -> Option<u64> {
        Some(self.delivery_meta().deadline_ms).filter(|deadline_ms| (1..u64::MAX).contains(deadline_ms))
    }

    #[inline]
    pub(crate) fn delivery_meta(&self) -> &crate::message::delivery_meta::DeliveryMeta {
        &self.0.delivery_meta
    }

    #[inline]
    pub(crate) fn delivery_meta_mut(&mut self) -> &mut crate::message::delivery_meta::DeliveryMeta {
        &mut self.0.delivery_meta
    }

    #[inline]
    pub(crate) fn journal(&self) -> crate::message::journal_ref::JournalRef {
        self.0.journal.0
    }

    #[inline]
    pub(crate) fn set_journal(&mut self, journal: crate::message::journal_ref::JournalRef) {
        self.0.journal.0 = journal;
        self.0.delivery_meta.flags.set(DeliveryFlags::JOURNALLED, !journal.is_not());
    }

    /// Returns the body by value, for the transfer to another shard.
    #[inline]
    pub(crate) fn into_body(self) -> Body {
        *self.0
    }

    /// Returns the body if it shares nothing with other messages. Such a body can be copied straight to its
    /// destination, whereas a body moved out of its box takes a detour over the stack.
    #[inline]
    pub(crate) fn plain(&self) -> Option<PlainBody<'_>> {
        self.0.plain()
    }

    /// Creates a message from a copy of a plain body that arrived from another shard.
    #[inline]
    pub(crate) fn copy_of_plain(body: &Body, spares: &mut BodyPool) -> Option<Self> {
        body.plain().map(|plain| Self(spares.copy_of(plain)))
    }

    /// Leaves the allocation of a plain message that was copied to messages that arrive.
    #[inline]
    pub(crate) fn spare(self, spares: &mut BodyPool) {
        spares.give(self.0);
    }

    /// Keeps the message's allocation for a later message of this thread. A message may also simply be dropped.
    #[inline(always)]
    pub(crate) fn recycle(self) {
        pool::give(self.0);
    }

    /// Moves the message into an allocation of this thread. Allocations are reused for later messages, and those of
    /// other threads lie between ones that other shards keep: what one core prefetches, another one has to give up.
    /// Without this move, messages between two shards were measured to cost half as much again.
    pub(crate) fn at_home(self) -> Self {
        Self::from_body(self.into_body())
    }

    /// Creates a message from a body that arrived from another shard.
    #[inline]
    pub(crate) fn from_body(body: Body) -> Self {
        // Allocate first, so that the body is written in place.
        Self(Box::write(Box::new_uninit(), body))
    }

    #[inline]
    pub(crate) fn set_id(&mut self, id: MessageId) {
        self.0.id = Some(id);
    }

    #[inline]
    pub(crate) fn set_sender(&mut self, sender: AgentId) {
        self.0.sender = Some(sender);
    }

    /// Sets the sender if there is none. A sender that is already set is kept, and is checked at admission.
    #[inline]
    pub fn set_sender_if_absent(&mut self, sender: AgentId) {
        self.0.sender.get_or_insert(sender);
    }

    /// Sets the trace that the message belongs to, unless it names one.
    pub fn set_trace_if_absent(&mut self, trace: TraceContext) {
        if self.trace().is_none() {
            self.change_trace(|details| details.trace = Some(trace));
        }
    }

    /// Takes the content out of the message, which has none then.
    pub fn take_content(&mut self) -> MessageContent {
        std::mem::replace(&mut self.0.content, MessageContent::EMPTY)
    }

    /// Asks for a receipt, unless the message asks for one already.
    pub fn ask_for_receipt(&mut self, receipt: Receipt) {
        if self.0.receipt == Receipt::None {
            self.0.receipt = receipt;
        }
    }

    #[inline]
    pub(crate) fn set_role(&mut self, role: ConversationRole) {
        self.0.role = role;
    }

    /// Sets `reply-with`, the value that replies repeat.
    pub(crate) fn set_reply_with(&mut self, correlation: Correlation) {
        self.0.reply_with = Some(correlation);
        if self.details().is_some_and(|details| details.reply_with.is_some()) {
            let mut details = self.details().cloned().unwrap_or_default();
            details.reply_with = None;
            self.0.details = Some(Arc::new(details));
        }
    }

    /// Sets a user-defined parameter, replacing one of the same name. Returns the reason if that is impossible.
    pub(crate) fn annotate(&mut self, name: &str, value: ParameterValue) -> Result<(), String> {
        if !details::is_user_parameter_name(name) {
            return Err(format!("it adds the parameter {name:?}: a name begins with X- and has no spaces"));
        }
        let mut details = self.details().cloned().unwrap_or_default();
        let place = details.user_parameters.iter().position(|parameter| parameter.name.eq_ignore_ascii_case(name));
        match place {
            Some(place) => details.user_parameters[place].value = value,
            None if details.user_parameters.len() >= USER_PARAMETERS_MAX => {
                return Err(format!("it adds a parameter to a message that has {USER_PARAMETERS_MAX} already"));
            }
            None => details.user_parameters.push(UserParameter { name: name.into(), value }),
        }
        self.0.details = Some(Arc::new(details));
        Ok(())
    }

    /// Whether it has a trace context, as far as that was noted when it was admitted.
    #[inline(always)]
    pub(crate) fn is_in_trace(&self) -> bool {
        self.0.delivery_meta.flags.is(DeliveryFlags::IN_TRACE)
    }

    /// Returns how often its trace was handed on without a conversation.
    pub(crate) fn trace_hops(&self) -> u8 {
        self.details().map_or(0, |details| details.trace_hops)
    }

    /// Gives it the trace that it belongs to, which was handed on so often.
    pub(crate) fn give_trace(&mut self, trace: TraceContext, hops: u8) {
        let has_none = self.details().is_none();
        self.change_trace(|details| {
            details.trace_is_given |= has_none;
            (details.trace, details.trace_hops) = (Some(trace), hops);
        });
    }

    fn change_trace(&mut self, change: impl FnOnce(&mut Details)) {
        change(Arc::make_mut(self.0.details.get_or_insert_default()));
        self.0.delivery_meta.flags.set(DeliveryFlags::IN_TRACE, true);
    }

    pub(crate) fn set_receiver(&mut self, receiver: Receiver) {
        self.0.receiver = receiver;
    }

    pub(crate) fn set_replay(&mut self, replay: Replay) {
        let mut details = self.details().cloned().unwrap_or_default();
        details.replay = Some(replay);
        self.0.details = Some(Arc::new(details));
    }

    pub(crate) fn set_member_of(&mut self, initiator: AgentId) {
        let mut details = self.details().cloned().unwrap_or_default();
        details.initiator = Some(initiator);
        self.0.details = Some(Arc::new(details));
        self.0.role = ConversationRole::Member;
    }
}

fn word<'a>(term: Option<Term>, text: impl FnOnce() -> Option<&'a str>) -> Option<&'a str> {
    term.map(Term::as_str).or_else(text)
}

fn text_or(text: Option<&str>, id: Option<impl std::fmt::Display>) -> Option<String> {
    text.map(str::to_owned).or_else(|| id.map(|id| id.to_string()))
}

/// Returns the capability's name as a term. A capability name has at most 400 bytes, so only a full vocabulary can
/// refuse it.
pub fn capability_term(name: &CapabilityName) -> Option<Term> {
    Term::of(name.as_ref())
}

const _: () = assert!(size_of::<Body>() <= 384, "a message that crosses shards fills six cache lines");
