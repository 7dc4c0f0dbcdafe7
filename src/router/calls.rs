//! What embedders ask of a router, from any thread and any runtime.
//!
//! Each call exists as an `async fn`, which any executor can drive, and as `blocking_...` for plain threads. Blocking
//! calls on a shard's own thread answer `WouldDeadlock`, because that thread would have to do what it waits for.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use caxton_shards::agent::{Agent, Registration};
use caxton_shards::conversation::ConversationView;
use caxton_shards::domain::{AgentName, CapabilityName};
use caxton_shards::interface::{Answer, AskFailure, Ending, Event, Input, RegistrationError, Rejected, SendError};
use caxton_shards::lifecycle::LifecycleError;
use caxton_shards::message::{AgentId, ConversationId, Message, MessageId, Receiver, Term};
use caxton_shards::replay::ReplayError;
use caxton_shards::shard::gateway_name;
use futures_lite::future::block_on;

use super::Router;
use super::inbox::Inbox;
use super::report::Stats;
use crate::drive::is_shard_thread;
use crate::link::{BATCH_MESSAGES_MAX, Entry, Stage, Work};

/// How many messages an inbox holds before further ones wait in the mailbox, unless the owner says otherwise.
pub const INBOX_WINDOW: u32 = 256;

/// How many events wait for a subscriber before further ones are lost, and counted.
pub const EVENTS_WAITING_MAX: usize = 4_096;

/// A blocking call was made on a shard's own thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a blocking call on a shard's thread would wait for itself")]
pub struct WouldDeadlock;

/// Why an agent could not be added, a dead letter not be replayed, or a question about the router has no answer.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CallError {
    /// The shard refused the registration.
    #[error(transparent)]
    Registration(#[from] RegistrationError),
    /// The agent's state could not be changed.
    #[error(transparent)]
    Lifecycle(#[from] LifecycleError),
    /// A dead letter was not replayed.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// A blocking call was made on a shard's own thread.
    #[error(transparent)]
    WouldDeadlock(#[from] WouldDeadlock),
    /// The router has stopped.
    #[error("the router has stopped")]
    Stopped,
}

/// Messages that were not taken from a batch because there was no room, or the router is stopping.
#[derive(Debug, thiserror::Error)]
#[error("{} of the batch's messages were not queued: {error}", .messages.len())]
pub struct BatchRejected {
    /// Why.
    #[source]
    pub error: SendError,
    /// The messages that were not queued, in their order.
    pub messages: Vec<Message>,
}

/// A subscription to what happens in a router.
pub struct Events {
    receiver: flume::Receiver<Event>,
    lost: Arc<AtomicU64>,
}

impl Events {
    /// The next event; nothing once the router has stopped.
    pub async fn next(&self) -> Option<Event> {
        self.receiver.recv_async().await.ok()
    }

    /// The next event, if one is there.
    pub fn try_next(&self) -> Option<Event> {
        self.receiver.try_recv().ok()
    }

    /// The next event, waiting for it up to `timeout` on a thread that may block.
    pub fn blocking_next(&self, timeout: Duration) -> Option<Event> {
        self.receiver.recv_timeout(timeout).ok()
    }

    /// Events that were lost because this subscriber was too slow.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

impl Router {
    /// Queues a message, waiting for room in the inbound channel. What becomes of it afterwards is reported to its
    /// sender, as any agent hears of it.
    ///
    /// The sender is an agent of this router; a message without one is sent in the name of the router's gateway.
    ///
    /// # Errors
    /// The message, when the router is stopping.
    pub async fn tell(&self, message: Message) -> Result<(), Rejected> {
        let shard = self.shard_for(&message);
        self.put(shard, Work::Input(Input::Tell(message))).await.map_err(rejected)
    }

    /// As [`Router::tell`], from a thread that may block.
    ///
    /// # Errors
    /// As [`Router::tell`], and `WouldDeadlock` on a shard's own thread.
    pub fn blocking_tell(&self, message: Message) -> Result<(), Rejected> {
        if is_shard_thread() {
            return Err(Rejected { error: SendError::WouldDeadlock, message: Box::new(message) });
        }
        block_on(self.tell(message))
    }

    /// Queues a message if there is room for it now.
    ///
    /// # Errors
    /// The message, when there is no room or the router is stopping.
    pub fn try_tell(&self, message: Message) -> Result<(), Rejected> {
        let shard = self.shard_for(&message);
        self.try_put(shard, Work::Input(Input::Tell(message))).map_err(|(error, work)| reject_work(error, work))
    }

    /// Queues messages, waiting for room. Messages to one shard are handed over together, which costs a fraction of
    /// telling them one by one.
    ///
    /// # Errors
    /// What was not queued, when the router is stopping.
    pub async fn tell_all(&self, messages: Vec<Message>) -> Result<(), BatchRejected> {
        let mut by_shard: Vec<Vec<Message>> = (0..self.shared().links.len()).map(|_| Vec::new()).collect();
        for message in messages {
            by_shard[self.shard_for(&message)].push(message);
        }
        let mut refused = Vec::new();
        for (shard, mut messages) in by_shard.into_iter().enumerate() {
            while !messages.is_empty() {
                let rest = messages.split_off(messages.len().min(BATCH_MESSAGES_MAX));
                if let Err(Work::Tell(back)) = self.put(shard, Work::Tell(messages)).await {
                    refused.extend(back);
                }
                messages = rest;
            }
        }
        if refused.is_empty() { Ok(()) } else { Err(BatchRejected { error: SendError::Stopping, messages: refused }) }
    }

    /// As [`Router::tell_all`], from a thread that may block.
    ///
    /// # Errors
    /// As [`Router::tell_all`], and `WouldDeadlock` on a shard's own thread.
    pub fn blocking_tell_all(&self, messages: Vec<Message>) -> Result<(), BatchRejected> {
        if is_shard_thread() {
            return Err(BatchRejected { error: SendError::WouldDeadlock, messages });
        }
        block_on(self.tell_all(messages))
    }

    /// Sends a message and waits until its sender's shard has accepted it; a durable message, until it is on disk. While its receiver is closed, because its
    /// mailbox is full and its overflow policy is back-pressure, that takes until the message's turn has come or its
    /// lifetime is over; other messages, and other senders, do not wait for it.
    ///
    /// # Errors
    /// The message and why it was not accepted.
    pub async fn send(&self, message: Message) -> Result<MessageId, Rejected> {
        let shard = self.shard_for(&message);
        let kept = message.clone();
        let stopping = |message| Rejected { error: SendError::Stopping, message: Box::new(message) };
        match self.question(shard, |token| Input::Send(message, token)).await {
            Some(Answer::Sent(sent)) => sent,
            Some(Answer::NotKept(id, ending)) => Err(not_kept(id, ending, kept)),
            _ => Err(stopping(kept)),
        }
    }

    /// As [`Router::send`], from a thread that may block.
    ///
    /// # Errors
    /// As [`Router::send`], and `WouldDeadlock` on a shard's own thread.
    pub fn blocking_send(&self, message: Message) -> Result<MessageId, Rejected> {
        if is_shard_thread() {
            return Err(Rejected { error: SendError::WouldDeadlock, message: Box::new(message) });
        }
        block_on(self.send(message))
    }

    /// Sends a message if there is room for it now, and answers with a handle to wait for its acceptance. It does not wait
    /// for a closed receiver: the handle then gives the message back with [`SendError::ReceiverFull`].
    ///
    /// # Errors
    /// The message, when there is no room or the router is stopping.
    pub fn try_send(&self, message: Message) -> Result<Sent, Rejected> {
        let shard = self.shard_for(&message);
        let (sender, receiver) = flume::bounded(1);
        let token = self.shared().next_token();
        let kept = message.clone();
        match self.try_put(shard, Work::Question(Input::TrySend(message, token), token, sender)) {
            Ok(()) => Ok(Sent { receiver, message: kept }),
            Err((error, work)) => Err(reject_work(error, work)),
        }
    }

    /// Asks a question and waits for the answer, up to `timeout`. The sender is the router's gateway.
    ///
    /// An `agree` announces an answer and is none; anything else that repeats the question's `reply-with` is one.
    ///
    /// # Errors
    /// The question was not accepted, could not be delivered, or was not answered in time.
    pub async fn ask(&self, message: Message, timeout: Duration) -> Result<Message, AskFailure> {
        let shard = match message.target() {
            Some(target) => self.shared().partition.shard_of(target).as_usize(),
            None => self.some_shard(),
        };
        // Rounded up, so that a short time is not none.
        let timeout_ms = u32::try_from(timeout.as_micros().div_ceil(1_000)).unwrap_or(u32::MAX);
        match self.question(shard, |token| Input::Ask { message, timeout_ms, token }).await {
            Some(Answer::Replied(reply)) => reply,
            _ => Err(AskFailure::Stopped),
        }
    }

    /// As [`Router::ask`], from a thread that may block.
    ///
    /// # Errors
    /// As [`Router::ask`], and `WouldDeadlock` on a shard's own thread.
    pub fn blocking_ask(&self, message: Message, timeout: Duration) -> Result<Message, AskFailure> {
        if is_shard_thread() {
            let rejected = Rejected { error: SendError::WouldDeadlock, message: Box::new(message) };
            return Err(AskFailure::Rejected(rejected));
        }
        block_on(self.ask(message, timeout))
    }

    /// Adds a native agent. The factory runs on the agent's shard, so the agent itself need not be `Send`.
    ///
    /// When this returns, every shard knows the agent.
    ///
    /// # Errors
    /// There is such an agent already, or the router is stopping.
    pub async fn register<A: Agent + 'static>(
        &self,
        name: AgentName,
        factory: impl FnMut() -> A + Send + 'static,
    ) -> Result<AgentId, CallError> {
        self.register_one(Registration::native(name, factory)).await
    }

    /// As [`Router::register`], from a thread that may block.
    ///
    /// # Errors
    /// As [`Router::register`], and `WouldDeadlock` on a shard's own thread.
    pub fn blocking_register<A: Agent + 'static>(
        &self,
        name: AgentName,
        factory: impl FnMut() -> A + Send + 'static,
    ) -> Result<AgentId, CallError> {
        self.blocking_register_one(Registration::native(name, factory))
    }

    /// Adds an agent with everything that a [`Registration`] can say, such as its capabilities.
    ///
    /// # Errors
    /// As [`Router::register`].
    pub async fn register_one(&self, registration: Registration) -> Result<AgentId, CallError> {
        self.register_all(vec![registration]).await.pop().unwrap_or(Err(CallError::Stopped))
    }

    /// As [`Router::register_one`], from a thread that may block.
    ///
    /// # Errors
    /// As [`Router::register`], and `WouldDeadlock` on a shard's own thread.
    pub fn blocking_register_one(&self, registration: Registration) -> Result<AgentId, CallError> {
        self.blocking_register_all(vec![registration]).pop().unwrap_or(Err(CallError::Stopped))
    }

    /// Adds many agents; all shards work at it at the same time. The results stand in the order of the registrations.
    pub async fn register_all(&self, registrations: Vec<Registration>) -> Vec<Result<AgentId, CallError>> {
        let count = registrations.len();
        let mut by_shard: Vec<Vec<(usize, Registration)>> =
            (0..self.shared().links.len()).map(|_| Vec::new()).collect();
        for (place, registration) in registrations.into_iter().enumerate() {
            by_shard[self.shared().partition.shard_of(registration.id()).as_usize()].push((place, registration));
        }
        let mut questions = Vec::new();
        for (shard, entries) in by_shard.into_iter().enumerate() {
            let mut entries = entries.into_iter().peekable();
            while entries.peek().is_some() {
                let (places, registrations): (Vec<_>, Vec<_>) = entries.by_ref().take(BATCH_MESSAGES_MAX).unzip();
                questions.push((places, self.put_question(shard, |token| Input::Register(registrations, token)).await));
            }
        }
        let mut results: Vec<Result<AgentId, CallError>> = (0..count).map(|_| Err(CallError::Stopped)).collect();
        for (places, answer) in questions {
            let Some(answer) = answer else { continue };
            if let Ok(Answer::Registered(answers)) = answer.recv_async().await {
                for (place, answer) in places.into_iter().zip(answers) {
                    results[place] = answer.map_err(CallError::from);
                }
            }
        }
        results
    }

    /// As [`Router::register_all`], from a thread that may block.
    pub fn blocking_register_all(&self, registrations: Vec<Registration>) -> Vec<Result<AgentId, CallError>> {
        if is_shard_thread() {
            return registrations.iter().map(|_| Err(CallError::WouldDeadlock(WouldDeadlock))).collect();
        }
        block_on(self.register_all(registrations))
    }

    /// Removes an agent at once: what waits for it becomes dead letters. [`Router::drain`] lets it finish first. Answers
    /// whether there was such an agent.
    ///
    /// # Errors
    /// The router has stopped.
    pub async fn deregister(&self, agent: AgentId) -> Result<bool, CallError> {
        let shard = self.shared().partition.shard_of(agent).as_usize();
        match self.question(shard, |token| Input::Deregister(agent, token)).await {
            Some(Answer::Deregistered(found)) => Ok(found),
            _ => Err(CallError::Stopped),
        }
    }

    /// As [`Router::deregister`], from a thread that may block.
    ///
    /// # Errors
    /// As [`Router::deregister`], and `WouldDeadlock` on a shard's own thread.
    pub fn blocking_deregister(&self, agent: AgentId) -> Result<bool, CallError> {
        not_on_a_shard()?;
        block_on(self.deregister(agent))
    }

    /// Adds an agent that lives outside the shards and takes its messages from the inbox.
    ///
    /// # Errors
    /// As [`Router::register`].
    pub async fn open_inbox(&self, name: AgentName) -> Result<Inbox, CallError> {
        self.open_inbox_offering(name, Vec::new()).await
    }

    /// As [`Router::open_inbox`], from a thread that may block.
    ///
    /// # Errors
    /// As [`Router::register`], and `WouldDeadlock` on a shard's own thread.
    pub fn blocking_open_inbox(&self, name: AgentName) -> Result<Inbox, CallError> {
        not_on_a_shard()?;
        block_on(self.open_inbox(name))
    }

    /// As [`Router::open_inbox`], for an agent that offers capabilities.
    ///
    /// # Errors
    /// As [`Router::register`].
    pub async fn open_inbox_offering(
        &self,
        name: AgentName,
        capabilities: Vec<CapabilityName>,
    ) -> Result<Inbox, CallError> {
        self.open_inbox_with(name, |registration| capabilities.into_iter().fold(registration, Registration::offering))
            .await
    }

    /// As [`Router::open_inbox`], with everything else that a [`Registration`] can say, such as its overflow policy.
    ///
    /// # Errors
    /// As [`Router::register`].
    pub async fn open_inbox_with(
        &self,
        name: AgentName,
        describe: impl FnOnce(Registration) -> Registration,
    ) -> Result<Inbox, CallError> {
        self.open(name, describe, false).await
    }

    /// As [`Router::open_inbox_with`], for an owner that says of each message when it is done with it:
    /// [`Inbox::acknowledge`]. A message is processed then, and not already when it is taken. At most 256 are handed out
    /// and not acknowledged at a time; the rest wait in the agent's mailbox.
    ///
    /// What was not acknowledged counts as not taken. When the inbox is dropped, it becomes dead letters. At a stop, and
    /// after a crash, durable messages among it are left to the next start, and are handed out again there.
    ///
    /// # Errors
    /// As [`Router::register`].
    pub async fn open_acknowledged_inbox(
        &self,
        name: AgentName,
        describe: impl FnOnce(Registration) -> Registration,
    ) -> Result<Inbox, CallError> {
        self.open(name, describe, true).await
    }

    async fn open(
        &self,
        name: AgentName,
        describe: impl FnOnce(Registration) -> Registration,
        acknowledged: bool,
    ) -> Result<Inbox, CallError> {
        let number = self.shared().next_inbox();
        let registration = describe(Registration::outside(name, number, INBOX_WINDOW));
        let id = registration.id();
        let shard = self.shared().partition.shard_of(id).as_usize();
        let (inbox, link) = Inbox::new(self.clone(), id, INBOX_WINDOW, acknowledged);
        let (sender, receiver) = flume::bounded(1);
        let token = self.shared().next_token();
        let work = Work::OpenInbox(Input::Register(vec![registration], token), token, sender, number, link);
        if self.put(shard, work).await.is_err() {
            return Err(CallError::Stopped);
        }
        match receiver.recv_async().await {
            Ok(Answer::Registered(mut results)) => match results.pop() {
                Some(Ok(_)) => Ok(inbox),
                Some(Err(error)) => Err(error.into()),
                None => Err(CallError::Stopped),
            },
            _ => Err(CallError::Stopped),
        }
    }

    /// Who offers a capability.
    ///
    /// # Errors
    /// The router has stopped.
    pub async fn discover(&self, capability: &CapabilityName) -> Result<Vec<AgentId>, CallError> {
        // A word that is no term has never been offered by anybody.
        let Some(term) = Term::find(capability.as_ref()) else { return Ok(Vec::new()) };
        match self.question(self.some_shard(), |token| Input::Discover(term, token)).await {
            Some(Answer::Providers(providers)) => Ok(providers.iter().map(|provider| provider.agent).collect()),
            _ => Err(CallError::Stopped),
        }
    }

    /// As [`Router::discover`], from a thread that may block.
    ///
    /// # Errors
    /// As [`Router::discover`], and `WouldDeadlock` on a shard's own thread.
    pub fn blocking_discover(&self, capability: &CapabilityName) -> Result<Vec<AgentId>, CallError> {
        not_on_a_shard()?;
        block_on(self.discover(capability))
    }

    /// An open conversation, by its initiator and id.
    ///
    /// # Errors
    /// The router has stopped.
    pub async fn conversation(
        &self,
        initiator: AgentId,
        id: ConversationId,
    ) -> Result<Option<ConversationView>, CallError> {
        let shard = self.shared().partition.shard_of(initiator).as_usize();
        match self.question(shard, |token| Input::Conversation(initiator, id, token)).await {
            Some(Answer::Conversation(view)) => Ok(view.map(|view| *view)),
            _ => Err(CallError::Stopped),
        }
    }

    /// What happens from now on, as far as the subscriber keeps up: up to [`EVENTS_WAITING_MAX`] events wait for it,
    /// further ones are lost and counted.
    ///
    /// # Errors
    /// The router has stopped.
    pub async fn events(&self) -> Result<Events, CallError> {
        let (sender, receiver) = flume::bounded(EVENTS_WAITING_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        for shard in 0..self.shared().links.len() {
            let work = Work::Subscribe(sender.clone(), Arc::clone(&lost));
            self.put(shard, work).await.map_err(|_| CallError::Stopped)?;
        }
        // Whatever is sent after this has returned is reported: each shard has answered a question behind it.
        self.dead_letters(0).await?;
        Ok(Events { receiver, lost })
    }

    /// As [`Router::conversation`], from a thread that may block.
    ///
    /// # Errors
    /// As [`Router::conversation`], and `WouldDeadlock` on a shard's own thread.
    pub fn blocking_conversation(
        &self,
        initiator: AgentId,
        id: ConversationId,
    ) -> Result<Option<ConversationView>, CallError> {
        not_on_a_shard()?;
        block_on(self.conversation(initiator, id))
    }

    /// As [`Router::events`], from a thread that may block.
    ///
    /// # Errors
    /// As [`Router::events`], and `WouldDeadlock` on a shard's own thread.
    pub fn blocking_events(&self) -> Result<Events, CallError> {
        not_on_a_shard()?;
        block_on(self.events())
    }

    /// The router's figures: one read per shard, without asking the shards.
    pub fn stats(&self) -> Stats {
        self.inner.stats()
    }

    /// The name of the agent in whose name a shard sends what embedders send without a sender.
    pub fn gateway(&self, shard: u16) -> String {
        gateway_name(self.shared().partition, caxton_shards::partition::ShardIndex(shard))
    }

    /// A message is admitted on its sender's shard; one without a sender where its receiver is.
    fn shard_for(&self, message: &Message) -> usize {
        let partition = self.shared().partition;
        let agent = message.sender().or_else(|| message.target()).or_else(|| match message.receiver() {
            Receiver::Agents(agents) => agents.first().copied(),
            _ => None,
        });
        agent.map_or_else(|| self.some_shard(), |agent| partition.shard_of(agent).as_usize())
    }

    /// A shard for what could be done on any: each in turn.
    #[allow(clippy::cast_possible_truncation)] // Only the remainder matters.
    fn some_shard(&self) -> usize {
        self.shared().next_token().0 as usize % self.shared().links.len()
    }

    pub(super) async fn question(
        &self,
        shard: usize,
        input: impl FnOnce(caxton_shards::interface::Token) -> Input,
    ) -> Option<Answer> {
        self.put_question(shard, input).await?.recv_async().await.ok()
    }

    async fn put_question(
        &self,
        shard: usize,
        input: impl FnOnce(caxton_shards::interface::Token) -> Input,
    ) -> Option<flume::Receiver<Answer>> {
        let (sender, receiver) = flume::bounded(1);
        let token = self.shared().next_token();
        self.put(shard, Work::Question(input(token), token, sender)).await.ok()?;
        Some(receiver)
    }

    /// Puts work into a shard's channel, waiting for room, and rings.
    async fn put(&self, shard: usize, work: Work) -> Result<(), Work> {
        let router = self.shared();
        let link = &router.links[shard];
        let ticket = link.gate.enter();
        if router.stage() != Stage::Running {
            return Err(work);
        }
        let sent = match link.work.try_send(Entry { work, ticket }) {
            Ok(()) => Ok(()),
            Err(flume::TrySendError::Full(entry)) => {
                link.work.send_async(entry).await.map_err(|error| error.into_inner().work)
            }
            Err(flume::TrySendError::Disconnected(entry)) => Err(entry.work),
        };
        router.ring(shard);
        sent
    }

    #[allow(clippy::result_large_err)] // The message goes back to its owner by value, as it came.
    fn try_put(&self, shard: usize, work: Work) -> Result<(), (SendError, Work)> {
        let router = self.shared();
        let link = &router.links[shard];
        let ticket = link.gate.enter();
        if router.stage() != Stage::Running {
            return Err((SendError::Stopping, work));
        }
        let sent = link.work.try_send(Entry { work, ticket }).map_err(|error| match error {
            flume::TrySendError::Full(entry) => (SendError::Full, entry.work),
            flume::TrySendError::Disconnected(entry) => (SendError::Stopping, entry.work),
        });
        router.ring(shard);
        sent
    }
}

/// A message that was queued by [`Router::try_send`].
pub struct Sent {
    receiver: flume::Receiver<Answer>,
    message: Message,
}

impl Sent {
    /// Waits until the message was accepted.
    ///
    /// # Errors
    /// The message and why it was not accepted.
    pub async fn accepted(self) -> Result<MessageId, Rejected> {
        match self.receiver.recv_async().await {
            Ok(Answer::Sent(sent)) => sent,
            Ok(Answer::NotKept(id, ending)) => Err(not_kept(id, ending, self.message)),
            _ => Err(Rejected { error: SendError::Stopping, message: Box::new(self.message) }),
        }
    }

    /// As [`Sent::accepted`], from a thread that may block.
    ///
    /// # Errors
    /// As [`Sent::accepted`], and `WouldDeadlock` on a shard's own thread.
    pub fn blocking_accepted(self) -> Result<MessageId, Rejected> {
        if is_shard_thread() {
            return Err(Rejected { error: SendError::WouldDeadlock, message: Box::new(self.message) });
        }
        block_on(self.accepted())
    }
}

pub(super) fn not_on_a_shard() -> Result<(), WouldDeadlock> {
    if is_shard_thread() { Err(WouldDeadlock) } else { Ok(()) }
}

fn not_kept(message: MessageId, ending: Ending, kept: Message) -> Rejected {
    Rejected { error: SendError::NotKept { message, ending }, message: Box::new(kept) }
}

fn rejected(work: Work) -> Rejected {
    reject_work(SendError::Stopping, work)
}

/// Gives the message back that was part of the work.
fn reject_work(error: SendError, work: Work) -> Rejected {
    let (Work::Input(Input::Tell(message)) | Work::Question(Input::Send(message, _) | Input::TrySend(message, _), ..)) =
        work
    else {
        unreachable!("only messages are rejected")
    };
    Rejected { error, message: Box::new(message) }
}
