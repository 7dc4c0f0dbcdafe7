//! Blocking calls: a view of each type with `async` calls, for threads that may block.
//!
//! A call of a view does the same as the `async` call of that name, with the same deadline and errors, but blocks the
//! calling thread. It needs no executor.

use std::time::Duration;

use caxton_shards::agent::{Agent, Registration};
use caxton_shards::api::{
    AgentFilter, AgentView, AskError, ConversationFilter, ConversationView, Drained, Event, LifecycleError,
    RegistrationError, ReplayError, SendError, SlowConsumer,
};
use caxton_shards::dead_letter::{DeadLetter, DeadLetterFilter, DeadLetterId};
use caxton_shards::domain::{AgentName, CapabilityName, DomainError};
use caxton_shards::message::{AgentId, ConversationId, Message, MessageId};
use caxton_shards::protocol::Rulebook;
use caxton_shards::routing::rules::Rule;
use futures_lite::future::block_on;

use super::conversations::{ConversationCursor, ConversationPage};
use super::dead_letters::{DeadLetterCursor, DeadLetterPage, ReplaySummary};
use super::error::{BatchError, CallError};
use super::events::Events;
use super::inbox::{Inbox, ReceiveError};
use super::inbox_builder::InboxBuilder;
use super::lifecycle::{AgentCursor, AgentPage};
use super::reconfigure::TooManyRulesError;
use super::{Router, Sent};

/// The calls of a [`Router`], an [`Inbox`], [`Events`], a [`Sent`] message or an [`InboxBuilder`] for a thread that may
/// block.
///
/// It is for plain threads. In an `async` function, await the calls of the type itself; on a shard's own thread, each
/// call fails with `WouldDeadlock`.
///
/// ```
/// use std::time::Duration;
///
/// use caxton_router::router::Router;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let router = Router::builder().start()?;
/// let inbox = router.inbox("clerk").blocking().open()?;
/// let blocking = router.blocking();
/// assert!(blocking.deregister(inbox.id())?);
/// # router.shutdown(Duration::from_secs(5))?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Blocking<T>(T);

impl Router {
    /// Returns a view with blocking calls.
    pub fn blocking(&self) -> Blocking<&Self> {
        Blocking(self)
    }
}

impl Inbox {
    /// Returns a view with blocking calls.
    pub fn blocking(&self) -> Blocking<&Self> {
        Blocking(self)
    }
}

impl Events {
    /// Returns a view with blocking calls.
    pub fn blocking(&self) -> Blocking<&Self> {
        Blocking(self)
    }
}

impl Sent {
    /// Returns a view with blocking calls.
    pub fn blocking(self) -> Blocking<Self> {
        Blocking(self)
    }
}

impl InboxBuilder {
    /// Returns a view with blocking calls.
    pub fn blocking(self) -> Blocking<Self> {
        Blocking(self)
    }
}

impl Blocking<&Router> {
    /// Does what [`Router::tell`] does.
    ///
    /// # Errors
    /// As [`Router::tell`].
    pub fn tell(&self, message: Message) -> Result<(), SendError> {
        block_on(self.0.tell(message))
    }

    /// Does what [`Router::replace_rules`] does.
    ///
    /// # Errors
    /// As [`Router::replace_rules`].
    pub fn replace_rules(&self, rules: Vec<Rule>) -> Result<(), CallError<TooManyRulesError>> {
        block_on(self.0.replace_rules(rules))
    }

    /// Does what [`Router::replace_protocols`] does.
    ///
    /// # Errors
    /// As [`Router::replace_protocols`].
    pub fn replace_protocols(&self, protocols: Rulebook) -> Result<(), CallError> {
        block_on(self.0.replace_protocols(protocols))
    }

    /// Does what [`Router::tell_all`] does.
    ///
    /// # Errors
    /// As [`Router::tell_all`].
    pub fn tell_all(&self, messages: Vec<Message>) -> Result<(), BatchError> {
        block_on(self.0.tell_all(messages))
    }

    /// Does what [`Router::send`] does.
    ///
    /// # Errors
    /// As [`Router::send`].
    pub fn send(&self, message: Message) -> Result<MessageId, SendError> {
        block_on(self.0.send(message))
    }

    /// Does what [`Router::ask`] does.
    ///
    /// # Errors
    /// As [`Router::ask`].
    pub fn ask(&self, message: Message, timeout: Duration) -> Result<Message, AskError> {
        block_on(self.0.ask(message, timeout))
    }

    /// Does what [`Router::register`] does.
    ///
    /// # Errors
    /// As [`Router::register`].
    pub fn register<A: Agent + 'static>(
        &self,
        name: impl TryInto<AgentName, Error: Into<DomainError>>,
        factory: impl FnMut() -> A + Send + 'static,
    ) -> Result<AgentId, CallError<RegistrationError>> {
        block_on(self.0.register(name, factory))
    }

    /// Does what [`Router::register_one`] does.
    ///
    /// # Errors
    /// As [`Router::register_one`].
    pub fn register_one(&self, registration: Registration) -> Result<AgentId, CallError<RegistrationError>> {
        block_on(self.0.register_one(registration))
    }

    /// Does what [`Router::register_all`] does.
    pub fn register_all(&self, registrations: Vec<Registration>) -> Vec<Result<AgentId, CallError<RegistrationError>>> {
        block_on(self.0.register_all(registrations))
    }

    /// Does what [`Router::deregister`] does.
    ///
    /// # Errors
    /// As [`Router::deregister`].
    pub fn deregister(&self, agent: AgentId) -> Result<bool, CallError> {
        block_on(self.0.deregister(agent))
    }

    /// Does what [`Router::discover`] does.
    ///
    /// # Errors
    /// As [`Router::discover`].
    pub fn discover(&self, capability: &CapabilityName) -> Result<Vec<AgentId>, CallError> {
        block_on(self.0.discover(capability))
    }

    /// Does what [`Router::conversation`] does.
    ///
    /// # Errors
    /// As [`Router::conversation`].
    pub fn conversation(&self, initiator: AgentId, id: ConversationId) -> Result<Option<ConversationView>, CallError> {
        block_on(self.0.conversation(initiator, id))
    }

    /// Does what [`Router::conversations`] does.
    ///
    /// # Errors
    /// As [`Router::conversations`].
    pub fn conversations(
        &self,
        filter: &ConversationFilter,
        limit: usize,
        cursor: Option<ConversationCursor>,
    ) -> Result<ConversationPage, CallError> {
        block_on(self.0.conversations(filter, limit, cursor))
    }

    /// Does what [`Router::events`] does.
    ///
    /// # Errors
    /// As [`Router::events`].
    pub fn events(&self) -> Result<Events, CallError> {
        block_on(self.0.events())
    }

    /// Does what [`Router::agent`] does.
    ///
    /// # Errors
    /// As [`Router::agent`].
    pub fn agent(&self, agent: AgentId) -> Result<Option<AgentView>, CallError> {
        block_on(self.0.agent(agent))
    }

    /// Does what [`Router::suspend`] does.
    ///
    /// # Errors
    /// As [`Router::suspend`].
    pub fn suspend(&self, agent: AgentId) -> Result<(), CallError<LifecycleError>> {
        block_on(self.0.suspend(agent))
    }

    /// Does what [`Router::resume`] does.
    ///
    /// # Errors
    /// As [`Router::resume`].
    pub fn resume(&self, agent: AgentId) -> Result<(), CallError<LifecycleError>> {
        block_on(self.0.resume(agent))
    }

    /// Does what [`Router::drain`] does.
    ///
    /// # Errors
    /// As [`Router::drain`].
    pub fn drain(&self, agent: AgentId, deadline: Duration) -> Result<Drained, CallError<LifecycleError>> {
        block_on(self.0.drain(agent, deadline))
    }

    /// Does what [`Router::slow_consumers`] does.
    ///
    /// # Errors
    /// As [`Router::slow_consumers`].
    pub fn slow_consumers(&self, limit: usize) -> Result<Vec<SlowConsumer>, CallError> {
        block_on(self.0.slow_consumers(limit))
    }

    /// Does what [`Router::dead_letters`] does.
    ///
    /// # Errors
    /// As [`Router::dead_letters`].
    pub fn dead_letters(&self, count: usize) -> Result<Vec<DeadLetter>, CallError> {
        block_on(self.0.dead_letters(count))
    }

    /// Does what [`Router::agents`] does.
    ///
    /// # Errors
    /// As [`Router::agents`].
    pub fn agents(&self, limit: usize, cursor: Option<AgentCursor>) -> Result<AgentPage, CallError> {
        block_on(self.0.agents(limit, cursor))
    }

    /// Does what [`Router::find_agents`] does.
    ///
    /// # Errors
    /// As [`Router::find_agents`].
    pub fn find_agents(
        &self,
        filter: &AgentFilter,
        limit: usize,
        cursor: Option<AgentCursor>,
    ) -> Result<AgentPage, CallError> {
        block_on(self.0.find_agents(filter, limit, cursor))
    }

    /// Does what [`Router::find_dead_letters`] does.
    ///
    /// # Errors
    /// As [`Router::find_dead_letters`].
    pub fn find_dead_letters(
        &self,
        filter: &DeadLetterFilter,
        limit: usize,
        cursor: Option<&DeadLetterCursor>,
    ) -> Result<DeadLetterPage, CallError> {
        block_on(self.0.find_dead_letters(filter, limit, cursor))
    }

    /// Does what [`Router::dead_letter`] does.
    ///
    /// # Errors
    /// As [`Router::dead_letter`].
    pub fn dead_letter(&self, id: DeadLetterId) -> Result<Option<DeadLetter>, CallError> {
        block_on(self.0.dead_letter(id))
    }

    /// Does what [`Router::replay_dead_letter`] does.
    ///
    /// # Errors
    /// As [`Router::replay_dead_letter`].
    pub fn replay_dead_letter(
        &self,
        id: DeadLetterId,
        to: Option<AgentId>,
    ) -> Result<MessageId, CallError<ReplayError>> {
        block_on(self.0.replay_dead_letter(id, to))
    }

    /// Does what [`Router::replay_dead_letters`] does.
    ///
    /// # Errors
    /// As [`Router::replay_dead_letters`].
    pub fn replay_dead_letters(
        &self,
        filter: &DeadLetterFilter,
        to: Option<AgentId>,
    ) -> Result<ReplaySummary, CallError> {
        block_on(self.0.replay_dead_letters(filter, to))
    }

    /// Does what [`Router::purge_dead_letters`] does.
    ///
    /// # Errors
    /// As [`Router::purge_dead_letters`].
    pub fn purge_dead_letters(&self, filter: &DeadLetterFilter) -> Result<u64, CallError> {
        block_on(self.0.purge_dead_letters(filter))
    }
}

impl Blocking<&Inbox> {
    /// Does what [`Inbox::recv`] does.
    ///
    /// # Errors
    /// As [`Inbox::recv`].
    pub fn recv(&self) -> Result<Message, ReceiveError> {
        block_on(self.0.recv())
    }

    /// Does what [`Inbox::recv_within`] does.
    ///
    /// # Errors
    /// As [`Inbox::recv_within`].
    pub fn recv_within(&self, timeout: Duration) -> Result<Message, ReceiveError> {
        block_on(self.0.recv_within(timeout))
    }

    /// Does what [`Inbox::send`] does.
    ///
    /// # Errors
    /// As [`Inbox::send`].
    pub fn send(&self, message: Message) -> Result<MessageId, SendError> {
        block_on(self.0.send(message))
    }
}

impl Blocking<&Events> {
    /// Does what [`Events::next`] does.
    ///
    /// # Errors
    /// As [`Events::next`].
    pub fn next(&self) -> Result<Event, ReceiveError> {
        block_on(self.0.next())
    }

    /// Does what [`Events::next_within`] does.
    ///
    /// # Errors
    /// As [`Events::next_within`].
    pub fn next_within(&self, timeout: Duration) -> Result<Event, ReceiveError> {
        block_on(self.0.next_within(timeout))
    }
}

impl Blocking<Sent> {
    /// Does what [`Sent::accepted`] does.
    ///
    /// # Errors
    /// As [`Sent::accepted`].
    pub fn accepted(self) -> Result<MessageId, SendError> {
        block_on(self.0.accepted())
    }
}

impl Blocking<InboxBuilder> {
    /// Does what [`InboxBuilder::open`] does.
    ///
    /// # Errors
    /// As [`InboxBuilder::open`].
    pub fn open(self) -> Result<Inbox, CallError<RegistrationError>> {
        block_on(self.0.open())
    }
}
