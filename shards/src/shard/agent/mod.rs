//! Agents as seen by a shard: handlers that are called with messages and act through their context.

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
use crate::routing::partition::{Partition, Placement};
use crate::shard::agent::factory::AgentFactory;
use crate::shard::io::{InboxNumber, Now, SendError, SendErrorKind};
use crate::shard::path::dispatch::Batch;
use crate::shard::{Shard, ShardPhase};
use crate::supervision::RestartPolicy;
use crate::supervision::breaker::BreakerPolicy;

/// The outcome of handling a message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The message was handled. What the handler sent leaves.
    Done,
    /// The message was not handled: what the handler sent is discarded, and the message is retried later or given up.
    Failed(Failure),
    /// The message was not finished within the agent's slice: [`Agent::resume`] is called on later turns until it
    /// returns another outcome. What the handler sent waits until then, and so does the agent's other mail.
    Suspended,
}

impl Outcome {
    /// Creates a failure with this explanation.
    pub fn failed(explanation: impl Into<Cow<'static, str>>) -> Self {
        Self::Failed(Failure { explanation: explanation.into(), panicked: false })
    }
}

/// Why an attempt failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// The explanation, for people.
    pub explanation: Cow<'static, str>,
    /// Whether the handler panicked.
    pub panicked: bool,
}

/// What to do with an agent whose handler failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Supervision {
    /// It continues as it is.
    #[default]
    Resume,
    /// It is restarted by its factory, within the limits of its [`RestartPolicy`], then stopped.
    Restart,
    /// It is deregistered.
    Stop,
}

/// The result of polling an agent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Polled {
    /// It did something; the shard does not sleep.
    Worked,
    /// There was nothing to do, but there may be at any moment: the shard does not sleep.
    Waiting,
    /// The agent need not be polled any more.
    Finished,
}

/// A native agent. It stays on one shard and is called only there, so it need be neither `Send` nor `Sync`.
///
/// A handler must not block: it shares its core with every other agent of the shard. Code that awaits belongs outside
/// the shards, in a task that takes its messages from an inbox.
///
/// ```
/// # use caxton_shards::agent::{Agent, Context, Outcome, Registration};
/// # use caxton_shards::message::{Message, Performative};
/// # use caxton_shards::sim::World;
/// /// Counts what it is told, and tells how much that was.
/// #[derive(Default)]
/// struct Counter {
///     told: u64,
/// }
///
/// impl Agent for Counter {
///     fn handle(&mut self, message: &Message, context: &mut Context<'_>) -> Outcome {
///         match message.performative() {
///             Performative::Inform => self.told += 1,
///             Performative::QueryRef => {
///                 let reply = context.reply(message, Performative::Inform).content(self.told.to_string()).build();
///                 // A handler that fails is retried, and what it sent is discarded.
///                 if reply.ok().and_then(|reply| context.send(reply).ok()).is_none() {
///                     return Outcome::failed("the reply could not be sent");
///                 }
///             }
///             _ => return Outcome::failed("expected are inform and query-ref"),
///         }
///         Outcome::Done
///     }
/// }
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let mut world = World::new(1);
/// # let counter = world.register(Registration::native("counter", Counter::default));
/// # world.tell(Message::builder(Performative::Inform).receiver(counter).build()?);
/// # let query = Message::builder(Performative::QueryRef).receiver(counter).build()?;
/// # assert_eq!(world.ask_and_wait(query, 1_000)?.content().as_text(), Some("1"));
/// # Ok(())
/// # }
/// ```
pub trait Agent {
    /// Called once, before the first message, and again after a restart.
    fn started(&mut self, context: &mut Context<'_>) {
        let _ = context;
    }

    /// Called instead of [`Agent::started`] if overridden, by an agent whose start can fail. After a failure it is
    /// restarted later, as after a panic. An agent that returns [`Outcome::Suspended`] has to continue by itself, in
    /// [`Agent::poll`].
    fn start(&mut self, context: &mut Context<'_>) -> Outcome {
        self.started(context);
        Outcome::Done
    }

    /// Handles one message.
    fn handle(&mut self, message: &Message, context: &mut Context<'_>) -> Outcome;

    /// Handles waiting messages, up to the router's batch size. The default passes them to [`Agent::handle`] one by
    /// one; an agent that can share work among messages can take them all at once.
    fn handle_batch(&mut self, batch: &mut Batch<'_>) {
        while let Some((message, mut context)) = batch.next() {
            let outcome = self.handle(message, &mut context);
            batch.settle(outcome);
        }
    }

    /// Returns the maximum number of messages per [`Agent::handle_batch`], if lower than the router's setting.
    fn batch_size(&self) -> Option<BatchSize> {
        None
    }

    /// Continues with a message that was [`Outcome::Suspended`].
    fn resume(&mut self, message: &Message, context: &mut Context<'_>) -> Outcome {
        let _ = (message, context);
        Outcome::Done
    }

    /// Called on every turn of the shard after [`Context::poll_me`], for agents that feed messages from a source of
    /// their own. It continues while the router drains, so that what was begun can be finished:
    /// [`Context::is_draining`] tells when to begin nothing more.
    fn poll(&mut self, context: &mut Context<'_>) -> Polled {
        let _ = context;
        Polled::Finished
    }

    /// Decides what happens to the agent after a failed attempt. Not called after a panic, which counts as
    /// [`Supervision::Restart`].
    fn supervise(&mut self, failure: &Failure) -> Supervision {
        let _ = failure;
        Supervision::Resume
    }

    /// Called once before the agent is removed, and at the end of the router, even if not everything was handled by its
    /// deadline. Nothing can be sent any more. Not called for an agent whose code has panicked, which is only dropped.
    /// It must not block: the router's end does not wait for a blocked shard.
    fn stopped(&mut self) {}
}

/// Creates an agent, on its shard. Called again when the agent is restarted.
pub type Factory = Box<dyn FnMut() -> Box<dyn Agent> + Send>;

/// An agent to be added.
///
/// A name that is not allowed is refused when the registration is handed over, with what is allowed.
///
/// ```
/// # use caxton_shards::agent::{Agent, Context, Outcome, Registration};
/// # use caxton_shards::api::OverflowPolicy;
/// # use caxton_shards::message::{AgentId, Message};
/// # struct Translator;
/// # impl Agent for Translator {
/// #     fn handle(&mut self, _: &Message, _: &mut Context<'_>) -> Outcome {
/// #         Outcome::Done
/// #     }
/// # }
/// let registration = Registration::native("translator", || Translator)
///     .offering("translate.text")
///     .overflow(OverflowPolicy::BackPressure)
///     .persistent();
/// assert_eq!(registration.id(), AgentId::of_text("translator"));
/// ```
pub struct Registration {
    /// The agent's name, or the first name in the registration that is not allowed.
    pub(crate) name: Result<AgentName, Box<DomainError>>,
    pub(crate) id: AgentId,
    pub(crate) capabilities: Vec<CapabilityName>,
    pub(crate) role: Role,
    pub(crate) supervision: Option<RestartPolicy>,
    pub(crate) breaker: Option<BreakerPolicy>,
    pub(crate) overflow: Option<OverflowPolicy>,
    pub(crate) persistent: bool,
    pub(crate) placement: Option<Box<Placement>>,
}

// A million of them may wait to be registered at once.
const _: () = assert!(size_of::<Registration>() <= 144, "what few registrations have is boxed");

/// Who handles the agent's messages.
pub(crate) enum Role {
    Native(AgentFactory),
    Outside { inbox: InboxNumber, window: u32, by_number: bool, is_proxy: bool },
}

impl Registration {
    /// Registers a native agent. The factory runs on the agent's shard.
    pub fn native<A: Agent + 'static>(
        name: impl TryInto<AgentName, Error: Into<DomainError>>,
        mut factory: impl FnMut() -> A + Send + 'static,
    ) -> Self {
        Self::boxed(name, Box::new(move || Box::new(factory())))
    }

    /// Registers a native agent whose factory chooses its type.
    pub fn boxed(name: impl TryInto<AgentName, Error: Into<DomainError>>, factory: Factory) -> Self {
        Self::new(name.try_into().map_err(Into::into), Role::Native(AgentFactory::new(factory)))
    }

    /// Registers an agent outside the shards, which takes its messages from an inbox with room for `window` of them.
    pub fn outside(name: impl TryInto<AgentName, Error: Into<DomainError>>, inbox: InboxNumber, window: u32) -> Self {
        Self::new(
            name.try_into().map_err(Into::into),
            Role::Outside { inbox, window, by_number: false, is_proxy: false },
        )
    }

    /// Has the owner of the inbox acknowledge messages by their number, in any order: each durable one, each whose sender
    /// wants a receipt, and others as it likes. Ignored for an agent that is not outside the shards.
    #[must_use]
    pub fn acknowledged(mut self) -> Self {
        if let Role::Outside { by_number, .. } = &mut self.role {
            *by_number = true;
        }
        self
    }

    /// Makes the agent the proxy of an agent of another node: the owner of its inbox passes its messages on. The other
    /// node sends the receipts that their senders want. When the proxy is removed, nothing of it is remembered, because
    /// the agent itself still exists on its node. Ignored for an agent that is not outside the shards.
    #[must_use]
    pub fn proxy(mut self) -> Self {
        if let Role::Outside { is_proxy, .. } = &mut self.role {
            *is_proxy = true;
        }
        self
    }

    fn new(name: Result<AgentName, DomainError>, role: Role) -> Self {
        Self {
            // No agent has the empty name.
            id: name.as_ref().map_or_else(|_| AgentId::of_text(""), AgentId::of),
            name: name.map_err(Box::new),
            capabilities: Vec::new(),
            role,
            supervision: None,
            breaker: None,
            overflow: None,
            persistent: false,
            placement: None,
        }
    }

    /// Sets the agent's own restart policy. Ignored for an agent outside the shards, which is never restarted.
    #[must_use]
    pub fn supervised(mut self, policy: RestartPolicy) -> Self {
        self.supervision = Some(policy);
        self
    }

    /// Adds a capability.
    #[must_use]
    pub fn offering(mut self, capability: impl TryInto<CapabilityName, Error: Into<DomainError>>) -> Self {
        match capability.try_into() {
            Ok(capability) => self.capabilities.push(capability),
            Err(error) => self.name = self.name.and_then(|_| Err(Box::new(error.into()))),
        }
        self
    }

    /// Sets the agent's own circuit breaker policy. Ignored for an agent outside the shards, which has no breaker.
    #[must_use]
    pub fn breaker(mut self, policy: BreakerPolicy) -> Self {
        self.breaker = Some(policy);
        self
    }

    /// Sets the agent's own overflow policy.
    #[must_use]
    pub fn overflow(mut self, policy: OverflowPolicy) -> Self {
        self.overflow = Some(policy);
        self
    }

    /// Makes the agent persistent, if the router has a store: after a start it exists again, initiated, with its
    /// capabilities and waiting messages, and is called as soon as it is registered again. Ignored without a store.
    #[must_use]
    pub fn persistent(mut self) -> Self {
        self.persistent = true;
        self
    }

    /// Has the agent live on a certain shard. Its name is completed when it is registered, so that its hash leads there:
    /// see [`Partition::complete`]. Senders need the completed name, or the id that registering returns.
    ///
    /// Without this, the hash of the name as it is decides. A [persistent](Registration::persistent) agent can't be
    /// placed: it has to be found under its name after a start with any number of shards.
    #[must_use]
    pub fn placed(mut self, placement: Placement) -> Self {
        self.placement = Some(Box::new(placement));
        self
    }

    /// Completes the name as the placement asks for. An agent that is not placed, or was placed before, keeps its name.
    #[must_use]
    pub fn complete(mut self, partition: Partition) -> Self {
        if let Some(placement) = self.placement.take_if(|_| !self.persistent) {
            self.name = self.name.and_then(|name| partition.complete(&name, *placement).map_err(Box::new));
            self.id = self.name.as_ref().map_or_else(|_| AgentId::of_text(""), AgentId::of);
        }
        self
    }

    /// Returns the id that the agent will have. One that is [placed](Registration::placed) has it once its name is
    /// [completed](Registration::complete).
    pub fn id(&self) -> AgentId {
        self.id
    }

    /// Returns the agent's name.
    pub fn name(&self) -> Option<&AgentName> {
        self.name.as_ref().ok()
    }
}

/// What a handler can see and do. Its effects are applied when the handler is done, and discarded if it fails.
///
/// ```
/// # use caxton_shards::agent::{Agent, Context, Outcome, Registration};
/// # use caxton_shards::message::{AgentId, Message, Performative};
/// # use caxton_shards::sim::World;
/// /// Asks a bank about each order, in a conversation of its own.
/// struct Shop {
///     bank: AgentId,
/// }
///
/// impl Agent for Shop {
///     fn handle(&mut self, order: &Message, context: &mut Context<'_>) -> Outcome {
///         if order.performative() != Performative::Request {
///             return Outcome::Done;
///         }
///         let question = Message::builder(Performative::QueryIf)
///             .receiver(self.bank)
///             .conversation(context.new_conversation())
///             .content(order.content().clone())
///             .build();
///         match question.map(|question| context.send(question)) {
///             Ok(Ok(_)) => Outcome::Done,
///             // The message comes back with the reason, and the order is tried again later.
///             Ok(Err(error)) => Outcome::failed(error.to_string()),
///             Err(error) => Outcome::failed(error.to_string()),
///         }
///     }
/// }
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let mut world = World::new(1);
/// # let (bank, heard) = world.add_listener(0, "bank");
/// # let shop = world.register(Registration::native("shop", move || Shop { bank }));
/// # world.tell(Message::builder(Performative::Request).receiver(shop).content("bolts").build()?);
/// # world.run();
/// # assert_eq!(heard.take()[0].content().as_text(), Some("bolts"));
/// # Ok(())
/// # }
/// ```
pub struct Context<'a> {
    pub(crate) shard: &'a mut Shard,
    pub(crate) agent: AgentIndex,
    pub(crate) id: AgentId,
}

impl Context<'_> {
    /// Returns the time at the beginning of the shard's turn.
    #[inline]
    pub fn now(&self) -> Now {
        self.shard.clock.now()
    }

    /// Returns the agent's own id.
    #[inline]
    pub fn id(&self) -> AgentId {
        self.id
    }

    /// Sends a message in the agent's name.
    ///
    /// # Errors
    ///
    /// Returns the message and why it was not accepted; nothing changed. Later failures are reported by a `failure`
    /// message from the router.
    #[inline]
    pub fn send(&mut self, message: Message) -> Result<MessageId, SendError> {
        self.shard.take_from_handler(self.agent, self.id, message)
    }

    /// Starts a reply to `message`: to its sender, in its conversation, with its correlation.
    #[inline]
    pub fn reply(&self, message: &Message, performative: Performative) -> MessageBuilder {
        let _ = self;
        message.reply(performative)
    }

    /// Returns an id for a conversation begun by this agent.
    #[inline]
    pub fn new_conversation(&mut self) -> ConversationId {
        self.shard.ids.conversation()
    }

    /// Returns a value for `reply-with`.
    #[inline]
    pub fn new_correlation(&mut self) -> Correlation {
        self.shard.ids.correlation()
    }

    /// Ends a conversation begun by this agent. Further messages from its participants are refused.
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

    /// Returns the providers of a capability known to this shard: those on this shard first.
    pub fn discover(&self, capability: &CapabilityName) -> Vec<AgentId> {
        self.shard.capabilities.discover(capability)
    }

    /// Begins to provide a capability.
    ///
    /// # Errors
    ///
    /// The process-wide vocabulary is full.
    pub fn advertise(&mut self, capability: &CapabilityName) -> Result<(), SendErrorKind> {
        let term = crate::message::capability_term(capability).ok_or(SendErrorKind::Full)?;
        self.shard.effects.push(Effect::Advertise(term));
        Ok(())
    }

    /// Stops providing a capability.
    pub fn withdraw(&mut self, capability: &CapabilityName) {
        if let Some(term) = Term::find(capability.as_ref()) {
            self.shard.effects.push(Effect::Withdraw(term));
        }
    }

    /// Registers another agent. The router replies with an `inform` once every shard knows it, or with a `failure`.
    pub fn register(&mut self, registration: Registration) {
        self.shard.effects.push(Effect::Register(Box::new(registration)));
    }

    /// Removes this agent once the handler is done.
    pub fn deregister(&mut self) {
        self.shard.effects.push(Effect::Deregister);
    }

    /// Requests [`Agent::poll`] on every turn of the shard, until it returns [`Polled::Finished`].
    pub fn poll_me(&mut self) {
        self.shard.start_polling(self.agent);
    }

    /// Whether the router is being stopped. Pending messages are still handled, but an agent with a source of its own
    /// should take nothing more from it: see [`Agent::poll`].
    pub fn is_draining(&self) -> bool {
        self.shard.phase != ShardPhase::Running
    }

    /// Returns what the handler has sent so far. It leaves when the handler is done.
    pub fn sent(&self) -> impl Iterator<Item = &Message> {
        self.shard.effects.iter().filter_map(|effect| match effect {
            Effect::Send(envelope) => Some(&envelope.message),
            _ => None,
        })
    }

    /// Returns a pseudo-random number from the shard's own generator: the same seed gives the same numbers.
    #[inline]
    pub fn random(&mut self) -> u64 {
        self.shard.rng.next()
    }
}
