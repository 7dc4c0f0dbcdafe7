//! What an agent is to a shard: a handler that is called with messages and touches the world through its context.

mod effect;
pub(crate) mod factory;
pub mod registry;
pub mod tombstones;

use std::borrow::Cow;

pub(crate) use self::effect::{Effect, Effects};

use crate::base::index::AgentIndex;
use crate::domain::{AgentName, BatchSize, CapabilityName, DomainError};
use crate::flow_control::policy::OverflowPolicy;
use crate::message::{
    AgentId, ConversationId, ConversationRole, Correlation, Message, MessageBuilder, MessageId, Performative, Term,
};
use crate::shard::agent::factory::AgentFactory;
use crate::shard::io::{InboxNumber, Now, SendError, SendErrorKind};
use crate::shard::path::dispatch::Batch;
use crate::shard::{Shard, ShardPhase};
use crate::supervision::RestartPolicy;
use crate::supervision::breaker::BreakerPolicy;

/// What came of handling a message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Handled. What the handler sent goes out.
    Done,
    /// Not handled: what the handler sent is discarded, and the message is tried again later or given up.
    Failed(Failure),
    /// Not finished within its slice: [`Agent::resume`] is called on later turns until it answers otherwise. What the
    /// handler sent waits until then, and so does the agent's other mail.
    Suspended,
}

impl Outcome {
    /// A failure with this explanation.
    pub fn failed(explanation: impl Into<Cow<'static, str>>) -> Self {
        Self::Failed(Failure { explanation: explanation.into(), panicked: false })
    }
}

/// Why an attempt failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// In words, for people.
    pub explanation: Cow<'static, str>,
    /// Whether the handler panicked.
    pub panicked: bool,
}

/// What to do with an agent whose handler failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Supervision {
    /// It goes on as it is.
    #[default]
    Resume,
    /// It is restarted by its factory, as long as its [`RestartPolicy`] allows. Beyond that it is stopped.
    Restart,
    /// It is deregistered.
    Stop,
}

/// Whether an agent's poll found work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Polled {
    /// It did something; the shard does not go to sleep.
    Worked,
    /// There was nothing to do, but there may be at any moment: the shard does not go to sleep.
    Waiting,
    /// The agent need not be polled any more.
    Finished,
}

/// A native agent. It lives on one shard and is called by nobody else, so it need be neither `Send` nor `Sync`.
///
/// A handler must not block: it shares its core with every other agent of the shard.
pub trait Agent {
    /// Called once, before the first message, and again after a restart.
    fn started(&mut self, context: &mut Context<'_>) {
        let _ = context;
    }

    /// Called where [`Agent::started`] would be; an agent whose start can fail overrides this one. After a failure it is made
    /// anew later, as after a panic. An agent that answers [`Outcome::Suspended`] has to go on by itself, in
    /// [`Agent::poll`].
    fn start(&mut self, context: &mut Context<'_>) -> Outcome {
        self.started(context);
        Outcome::Done
    }

    /// Handles one message.
    fn handle(&mut self, message: &Message, context: &mut Context<'_>) -> Outcome;

    /// Handles what is waiting, up to the router's batch size. The default hands the messages to [`Agent::handle`] one
    /// by one; an agent with work to share among messages can take them all at once.
    fn handle_batch(&mut self, batch: &mut Batch<'_>) {
        while let Some((message, mut context)) = batch.next() {
            let outcome = self.handle(message, &mut context);
            batch.settle(outcome);
        }
    }

    /// The most messages per [`Agent::handle_batch`], if fewer than the router's setting.
    fn batch_size(&self) -> Option<BatchSize> {
        None
    }

    /// Goes on with a message that was [`Outcome::Suspended`].
    fn resume(&mut self, message: &Message, context: &mut Context<'_>) -> Outcome {
        let _ = (message, context);
        Outcome::Done
    }

    /// Called on every turn of the shard after [`Context::poll_me`], for agents that feed messages from a source of
    /// their own. It goes on while the router drains, so that what was begun can be finished:
    /// [`Context::is_draining`] says when to begin nothing more.
    fn poll(&mut self, context: &mut Context<'_>) -> Polled {
        let _ = context;
        Polled::Finished
    }

    /// Decides what happens to the agent after a failed attempt. After a panic it is not asked: it is restarted, as after
    /// [`Supervision::Restart`].
    fn supervise(&mut self, failure: &Failure) -> Supervision {
        let _ = failure;
        Supervision::Resume
    }

    /// Called once, before the agent is removed, and at the end of the router, also when not everything was handled by its
    /// deadline. Nothing can be sent any more. It is not called of an agent whose code has panicked: that is only dropped. Like
    /// a handler it must not block: the router's end does not wait for a shard that is blocked.
    fn stopped(&mut self) {}
}

/// Makes an agent, on its shard. It is called again when the agent has to be restarted.
pub type Factory = Box<dyn FnMut() -> Box<dyn Agent> + Send>;

/// An agent to be added.
pub struct Registration {
    /// The agent's name, or the first name in the registration that is not allowed.
    pub(crate) name: Result<AgentName, DomainError>,
    pub(crate) id: AgentId,
    pub(crate) capabilities: Vec<CapabilityName>,
    pub(crate) role: Role,
    pub(crate) supervision: Option<RestartPolicy>,
    pub(crate) breaker: Option<BreakerPolicy>,
    pub(crate) overflow: Option<OverflowPolicy>,
    pub(crate) persistent: bool,
}

/// Who handles the agent's messages.
pub(crate) enum Role {
    Native(AgentFactory),
    InboxState { inbox: InboxNumber, window: u32 },
}

impl Registration {
    /// A native agent. The factory runs on the agent's shard.
    pub fn native<A: Agent + 'static>(
        name: impl TryInto<AgentName, Error: Into<DomainError>>,
        mut factory: impl FnMut() -> A + Send + 'static,
    ) -> Self {
        Self::boxed(name, Box::new(move || Box::new(factory())))
    }

    /// A native agent whose factory chooses its type.
    pub fn boxed(name: impl TryInto<AgentName, Error: Into<DomainError>>, factory: Factory) -> Self {
        Self::new(name.try_into().map_err(Into::into), Role::Native(AgentFactory::new(factory)))
    }

    /// An agent outside the shards, which takes its messages from an inbox with room for `window` of them.
    pub fn outside(name: impl TryInto<AgentName, Error: Into<DomainError>>, inbox: InboxNumber, window: u32) -> Self {
        Self::new(name.try_into().map_err(Into::into), Role::InboxState { inbox, window })
    }

    fn new(name: Result<AgentName, DomainError>, role: Role) -> Self {
        Self {
            // No agent has the empty name.
            id: name.as_ref().map_or_else(|_| AgentId::of_text(""), AgentId::of),
            name,
            capabilities: Vec::new(),
            role,
            supervision: None,
            breaker: None,
            overflow: None,
            persistent: false,
        }
    }

    /// Sets how often this agent may be restarted, instead of the router's own policy. An agent outside the shards is
    /// never restarted, so there it changes nothing.
    #[must_use]
    pub fn supervised(mut self, policy: RestartPolicy) -> Self {
        self.supervision = Some(policy);
        self
    }

    /// Adds a capability that the agent offers.
    #[must_use]
    pub fn offering(mut self, capability: impl TryInto<CapabilityName, Error: Into<DomainError>>) -> Self {
        match capability.try_into() {
            Ok(capability) => self.capabilities.push(capability),
            Err(error) => self.name = self.name.and_then(|_| Err(error.into())),
        }
        self
    }

    /// Gives the agent a circuit breaker of its own settings instead of the router's. An agent outside the shards has
    /// none: its owner takes what it wants when it wants.
    #[must_use]
    pub fn breaker(mut self, policy: BreakerPolicy) -> Self {
        self.breaker = Some(policy);
        self
    }

    /// Sets what happens to messages that find this agent's mailbox full, instead of the router's own policy.
    #[must_use]
    pub fn overflow(mut self, policy: OverflowPolicy) -> Self {
        self.overflow = Some(policy);
        self
    }

    /// Has the agent outlive the process, where the router has a store: after a start it is there again, initiated, with its
    /// capabilities and what waits for it, and is called as soon as it is registered again. Without a store it changes
    /// nothing.
    #[must_use]
    pub fn persistent(mut self) -> Self {
        self.persistent = true;
        self
    }

    /// The id that the agent will have.
    pub fn id(&self) -> AgentId {
        self.id
    }

    /// The agent's name.
    pub fn name(&self) -> Option<&AgentName> {
        self.name.as_ref().ok()
    }
}

/// What a handler can see and do. What it does takes effect when the handler is done, and not at all if it fails.
pub struct Context<'a> {
    pub(crate) shard: &'a mut Shard,
    pub(crate) agent: AgentIndex,
    pub(crate) id: AgentId,
}

impl Context<'_> {
    /// The time at the beginning of the shard's turn.
    #[inline]
    pub fn now(&self) -> Now {
        self.shard.clock.now()
    }

    /// The agent's own id.
    #[inline]
    pub fn id(&self) -> AgentId {
        self.id
    }

    /// Sends a message in the agent's name.
    ///
    /// # Errors
    /// The message and why it was not accepted; nothing changed. What goes wrong later is reported by a `failure`
    /// message from the router.
    #[inline]
    pub fn send(&mut self, message: Message) -> Result<MessageId, SendError> {
        self.shard.take_from_handler(self.agent, self.id, message)
    }

    /// A reply to `message`: to its sender, in its conversation, with its correlation.
    #[inline]
    pub fn reply(&self, message: &Message, performative: Performative) -> MessageBuilder {
        let _ = self;
        message.reply(performative)
    }

    /// An id for a conversation that this agent begins.
    #[inline]
    pub fn new_conversation(&mut self) -> ConversationId {
        self.shard.ids.conversation()
    }

    /// A value for `reply-with`.
    #[inline]
    pub fn new_correlation(&mut self) -> Correlation {
        self.shard.ids.correlation()
    }

    /// Ends a conversation that this agent began. Further messages of its participants are refused.
    #[inline]
    pub fn close_conversation(&mut self, conversation: ConversationId) {
        self.shard.effects.push(Effect::CloseConversation(conversation));
    }

    /// Ends the message's conversation if this agent began it.
    #[inline]
    pub fn close_conversation_of(&mut self, message: &Message) {
        if let (Some(conversation), ConversationRole::Participant) = (message.conversation(), message.role()) {
            self.close_conversation(conversation);
        }
    }

    /// Who offers a capability, as far as this shard knows: those on this shard first.
    pub fn discover(&self, capability: &CapabilityName) -> Vec<AgentId> {
        self.shard.capabilities.discover(capability)
    }

    /// Offers a capability from now on.
    ///
    /// # Errors
    /// When the process-wide vocabulary is full.
    pub fn advertise(&mut self, capability: &CapabilityName) -> Result<(), SendErrorKind> {
        let term = crate::message::capability_term(capability).ok_or(SendErrorKind::Full)?;
        self.shard.effects.push(Effect::Advertise(term));
        Ok(())
    }

    /// Offers a capability no longer.
    pub fn withdraw(&mut self, capability: &CapabilityName) {
        if let Some(term) = Term::find(capability.as_ref()) {
            self.shard.effects.push(Effect::Withdraw(term));
        }
    }

    /// Registers another agent. The router answers with an `inform` once every shard knows it, or with a `failure`.
    pub fn register(&mut self, registration: Registration) {
        self.shard.effects.push(Effect::Register(Box::new(registration)));
    }

    /// Removes this agent once the handler is done.
    pub fn deregister(&mut self) {
        self.shard.effects.push(Effect::Deregister);
    }

    /// Has [`Agent::poll`] called on every turn of the shard, until it answers [`Polled::Finished`].
    pub fn poll_me(&mut self) {
        self.shard.start_polling(self.agent);
    }

    /// Whether the router is being stopped. What is there is still handled, but an agent with a source of its own should
    /// take nothing more from it: see [`Agent::poll`].
    pub fn is_draining(&self) -> bool {
        self.shard.phase != ShardPhase::Running
    }

    /// What the handler has sent so far. It goes out when the handler is done.
    pub fn sent(&self) -> impl Iterator<Item = &Message> {
        self.shard.effects.iter().filter_map(|effect| match effect {
            Effect::Send(envelope) => Some(&envelope.message),
            _ => None,
        })
    }

    /// A pseudo-random number from the shard's own generator: the same seed gives the same numbers.
    #[inline]
    pub fn random(&mut self) -> u64 {
        self.shard.rng.next()
    }
}
