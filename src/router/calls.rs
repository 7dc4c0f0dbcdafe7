//! The router's calls for embedders, usable from any thread and any runtime.
//!
//! Each call that waits is an `async fn`, which any executor can drive; [`Router::blocking`] has the same calls for
//! plain threads. A call made or first polled on a shard's own thread returns `WouldDeadlock`, because it would wait
//! for that thread.
//!
//! Each call ends by its deadline, whatever its shard does: see [`Router::within`]. Dropping the future withdraws the
//! call: if its shard has not begun it, it has no effect; otherwise its effects remain and the shard drops the call's
//! bookkeeping.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use caxton_shards::agent::{Agent, Registration};
use caxton_shards::api::{
    Answer, AskError, Awaited, InboxNumber, Input, RegistrationError, SendError, SendErrorKind, Token,
};
use caxton_shards::domain::{AgentName, CapabilityName, DomainError};
use caxton_shards::message::{AgentId, Message, MessageId, Receiver, Term};
use caxton_shards::shard::gateway_name;

use super::Router;
use super::error::{BatchError, CallError, WouldDeadlockError};
use super::events::{EVENTS_WAITING_MAX, Events};
use super::inbox::InboxLink;
use super::report::Stats;
use crate::call::{Caller, NoAnswer, Request, call};
use crate::deadline::{Deadline, whole_milliseconds, within};
use crate::drive::is_shard_thread;
use crate::shard_handle::{BATCH_MESSAGES_MAX, Held, Job, RouterPhase, Shared, Work};

impl Router {
    /// Returns a handle to the same router with this call timeout instead of `router.call_timeout_ms`. It suits single
    /// calls too: `router.within(time).deregister(agent)`.
    ///
    /// The time counts from when a call is made or first polled, and is measured by the caller, whatever the shard
    /// does. A call that is not done in time returns an error that names the unresponsive shard and says whether the
    /// operation may have taken effect. Any duration is allowed; [`Duration::MAX`] means no limit. [`Router::ask`],
    /// [`Router::drain`] and [`Router::shutdown`] take their own timeout.
    #[must_use]
    pub fn within(&self, timeout: Duration) -> Self {
        Self { timeout, ..self.clone() }
    }

    /// Returns the deadline of a call made now.
    pub(crate) fn deadline(&self) -> Deadline {
        Deadline::after(self.timeout)
    }

    /// Queues a message, waiting for room in the inbound channel. Its outcome is reported to its sender as to any
    /// agent.
    ///
    /// The sender is an agent of this router; a message without one is sent in the name of the router's gateway.
    /// Holders of a router handle are trusted to name any agent as sender. An [`Inbox`](super::Inbox), an agent's
    /// handler and a guest can only send as themselves.
    ///
    /// # Errors
    ///
    /// Returns the message, which was not queued, if the router is stopping or there was no room in time.
    pub async fn tell(&self, message: Message) -> Result<(), SendError> {
        if is_shard_thread() {
            return Err(would_deadlock(message));
        }
        let shard = self.shard_for(&message);
        let put = put(self.shared(), shard, Work::Tell(message), || self.deadline()).await;
        put.map_err(|(error, work)| reject_work(error, work))
    }

    /// Queues a message if there is room for it now.
    ///
    /// # Errors
    ///
    /// Returns the message if there is no room or the router is stopping.
    pub fn try_tell(&self, message: Message) -> Result<(), SendError> {
        let shard = self.shard_for(&message);
        self.try_put(shard, Work::Tell(message)).map_err(|(error, work)| reject_work(error, work))
    }

    /// Queues messages, waiting for room. Messages to one shard are handed over together, which costs a fraction of
    /// queuing them one by one.
    ///
    /// # Errors
    ///
    /// Returns the messages that were not queued if the router is stopping or there was no room in time; the others
    /// were queued.
    pub async fn tell_all(&self, messages: Vec<Message>) -> Result<(), BatchError> {
        if is_shard_thread() {
            return Err(BatchError { kind: SendErrorKind::WouldDeadlock, messages });
        }
        let mut by_shard: Vec<Vec<Message>> = (0..self.shared().links.len()).map(|_| Vec::new()).collect();
        for message in messages {
            by_shard[self.shard_for(&message)].push(message);
        }
        let deadline = self.deadline();
        let (mut refused, mut why) = (Vec::new(), None);
        for (shard, mut messages) in by_shard.into_iter().enumerate() {
            while !messages.is_empty() {
                let rest = messages.split_off(messages.len().min(BATCH_MESSAGES_MAX));
                if let Err((error, Work::TellAll(back))) =
                    put(self.shared(), shard, Work::TellAll(messages), || deadline).await
                {
                    refused.extend(back);
                    why.get_or_insert(error);
                }
                messages = rest;
            }
        }
        why.map_or(Ok(()), |kind| Err(BatchError { kind, messages: refused }))
    }

    /// Queues messages of one sender, which they all name, if there is room for them now. There are at most
    /// [`BATCH_MESSAGES_MAX`] of them.
    ///
    /// # Errors
    ///
    /// Returns the messages if there is no room or the router is stopping.
    #[cfg(feature = "serve")]
    pub(crate) fn try_tell_batch(
        &self,
        sender: AgentId,
        messages: Vec<Message>,
    ) -> Result<(), (SendErrorKind, Vec<Message>)> {
        let shard = self.shared().partition.shard_of(sender).as_usize();
        self.try_put(shard, Work::TellAll(messages)).map_err(|(error, work)| match work {
            Work::TellAll(messages) => (error, messages),
            _ => (error, Vec::new()),
        })
    }

    /// Sends a message and waits until its sender's shard has accepted it, or until it is on disk if it is durable.
    /// While its receiver is closed (full mailbox with the overflow policy back-pressure), this takes until the
    /// message's turn has come or its lifetime is over; other messages and senders do not wait for it.
    ///
    /// Dropping the future before acceptance withdraws the message.
    ///
    /// # Errors
    ///
    /// Returns the message and the reason why it was not accepted. With [`SendErrorKind::Unresponsive`] it may have
    /// been accepted, if the error says so.
    pub async fn send(&self, message: Message) -> Result<MessageId, SendError> {
        if is_shard_thread() {
            return Err(would_deadlock(message));
        }
        let shard = self.shard_for(&message);
        let kept = message.clone();
        sent(self.question(shard, self.deadline(), |token| Input::Send(message, token)).await, kept)
    }

    /// Sends a message if there is room for it now, and returns a handle that waits for its acceptance. Does not wait
    /// for a closed receiver: the handle then returns the message with [`SendErrorKind::ReceiverFull`].
    ///
    /// # Errors
    ///
    /// Returns the message if there is no room or the router is stopping.
    pub fn try_send(&self, message: Message) -> Result<Sent, SendError> {
        let shard = self.shard_for(&message);
        let kept = message.clone();
        let (mut caller, work) = new_call(self.shared(), shard, |token| Input::TrySend(message, token));
        // A caller that ignores the outcome has sent the message all the same.
        caller.leave_be();
        match self.try_put(shard, work) {
            Ok(()) => Ok(Sent { caller, message: kept, timeout: self.timeout }),
            Err((error, _)) => Err(SendError::new(error, kept)),
        }
    }

    /// Sends a request and waits up to `timeout` for the reply. The sender is the router's gateway.
    ///
    /// An `agree` announces a reply and is not one itself; any other message that repeats the request's `reply-with`
    /// is. Dropping the future ends the call: a later reply is dead-lettered, as one that arrives too late.
    ///
    /// # Errors
    ///
    /// Returns an error if the request was not accepted, could not be delivered, or was not answered in time.
    pub async fn ask(&self, message: Message, timeout: Duration) -> Result<Message, AskError> {
        self.send_and_await(message, Awaited::Reply, timeout).await
    }

    /// Sends a message that asks for a receipt as the router's gateway, and waits up to `timeout` for the receipt:
    /// the router's notice. Replies are taken and ignored.
    #[cfg(feature = "serve")]
    pub(crate) async fn send_for_receipt(&self, message: Message, timeout: Duration) -> Result<Message, AskError> {
        self.send_and_await(message, Awaited::Receipt, timeout).await
    }

    async fn send_and_await(&self, message: Message, awaited: Awaited, timeout: Duration) -> Result<Message, AskError> {
        if is_shard_thread() {
            return Err(AskError::Rejected(would_deadlock(message)));
        }
        let shard = match message.target() {
            Some(target) => self.shared().partition.shard_of(target).as_usize(),
            None => self.shared().next_shard(),
        };
        let timeout_ms = whole_milliseconds(timeout);
        let deadline = Deadline::after(timeout);
        match self.question(shard, deadline, |token| Input::Ask { message, awaited, timeout_ms, token }).await {
            Ok(Answer::Replied(reply)) => reply,
            // The request was sent and no shard is stuck: the receiver has not replied.
            Err(NoAnswer::Late(late)) if late.may_have_changed && !self.shared().stands_still(late.shard) => {
                Err(AskError::TimedOut)
            }
            Err(NoAnswer::Late(unresponsive)) => Err(AskError::Unresponsive(unresponsive)),
            _ => Err(AskError::Stopped),
        }
    }

    /// Registers a native agent. The factory runs on the agent's shard, so the agent itself need not be `Send`.
    ///
    /// Once this returns, every shard knows the agent.
    ///
    /// # Errors
    ///
    /// Returns an error if an agent with this name exists, if the router is stopping, or if a shard did not respond in
    /// time; in that case the agent may be registered, if the error says so.
    pub async fn register<A: Agent + 'static>(
        &self,
        name: impl TryInto<AgentName, Error: Into<DomainError>>,
        factory: impl FnMut() -> A + Send + 'static,
    ) -> Result<AgentId, CallError<RegistrationError>> {
        self.register_one(Registration::native(name, factory)).await
    }

    /// Registers an agent with all the options of a [`Registration`], such as capabilities.
    ///
    /// # Errors
    ///
    /// As for [`Router::register`].
    pub async fn register_one(&self, registration: Registration) -> Result<AgentId, CallError<RegistrationError>> {
        self.register_all(vec![registration]).await.pop().unwrap_or(Err(CallError::Stopped))
    }

    /// Registers many agents, on all shards in parallel. The results are in the order of the registrations.
    pub async fn register_all(
        &self,
        registrations: Vec<Registration>,
    ) -> Vec<Result<AgentId, CallError<RegistrationError>>> {
        if is_shard_thread() {
            return registrations.iter().map(|_| Err(CallError::WouldDeadlock)).collect();
        }
        let (count, deadline) = (registrations.len(), self.deadline());
        let mut by_shard: Vec<Vec<(usize, Registration)>> =
            (0..self.shared().links.len()).map(|_| Vec::new()).collect();
        for (place, registration) in registrations.into_iter().enumerate() {
            let registration = registration.complete(self.shared().partition);
            by_shard[self.shared().partition.shard_of(registration.id()).as_usize()].push((place, registration));
        }
        let mut questions = Vec::new();
        for (shard, entries) in by_shard.into_iter().enumerate() {
            let mut entries = entries.into_iter().peekable();
            while entries.peek().is_some() {
                let (places, registrations): (Vec<_>, Vec<_>) = entries.by_ref().take(BATCH_MESSAGES_MAX).unzip();
                let question =
                    put_question(self.shared(), shard, deadline, |token| Input::Register(registrations, token)).await;
                questions.push((places, question));
            }
        }
        let mut results: Vec<Result<AgentId, CallError<RegistrationError>>> =
            (0..count).map(|_| Err(CallError::Stopped)).collect();
        for (places, question) in questions {
            let answer = match question {
                Ok(caller) => caller.answer(deadline).await,
                Err(no_answer) => Err(no_answer),
            };
            match answer.map_err(CallError::from) {
                Ok(Answer::Registered(answers)) => {
                    for (place, answer) in places.into_iter().zip(answers) {
                        results[place] = answer.map_err(CallError::Refused);
                    }
                }
                Ok(_) => {}
                Err(error) => places.into_iter().for_each(|place| results[place] = Err(error.clone())),
            }
        }
        results
    }

    /// Removes an agent at once; its waiting messages are dead-lettered. [`Router::drain`] lets it finish first.
    /// Returns whether the agent existed.
    ///
    /// # Errors
    ///
    /// Returns an error if the router has stopped.
    pub async fn deregister(&self, agent: AgentId) -> Result<bool, CallError> {
        let shard = self.shared().partition.shard_of(agent).as_usize();
        match self.query(shard, self.deadline(), |token| Input::Deregister(agent, token)).await? {
            Answer::Deregistered(found) => Ok(found),
            _ => Err(CallError::Stopped),
        }
    }

    /// Returns the providers of a capability.
    ///
    /// # Errors
    ///
    /// Returns an error if the router has stopped.
    pub async fn discover(&self, capability: &CapabilityName) -> Result<Vec<AgentId>, CallError> {
        not_on_a_shard()?;
        // A name that was never interned has no provider.
        let Some(term) = Term::find(capability.as_ref()) else { return Ok(Vec::new()) };
        match self.query(self.shared().next_shard(), self.deadline(), |token| Input::Discover(term, token)).await? {
            Answer::Providers(providers) => Ok(providers.iter().map(|provider| provider.agent).collect()),
            _ => Err(CallError::Stopped),
        }
    }

    /// Subscribes to events from now on. Up to [`EVENTS_WAITING_MAX`] events are queued; further ones are lost and
    /// counted.
    ///
    /// # Errors
    ///
    /// Returns an error if the router has stopped.
    pub async fn events(&self) -> Result<Events, CallError> {
        not_on_a_shard()?;
        let deadline = self.deadline();
        let (sender, receiver) = flume::bounded(EVENTS_WAITING_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        // From here on the subscription is cleaned up on drop, even if this function does not complete.
        let events = Events { receiver, lost, shared: Arc::clone(self.shared()) };
        self.shared().subscribers.add(sender.clone(), Arc::clone(&events.lost));
        for shard in 0..self.shared().links.len() {
            let work = Work::Subscribe(sender.clone(), Arc::clone(&events.lost));
            put(self.shared(), shard, work, || deadline).await.map_err(|(error, _)| no_room(error))?;
        }
        // A reply from each shard proves that it has the subscription, so everything sent after this returns is
        // reported.
        self.newest_letters(0, deadline).await?;
        Ok(events)
    }

    /// Returns the router's figures: one read per shard, without a call to the shards.
    pub fn stats(&self) -> Stats {
        self.inner.stats()
    }

    /// Returns the name of a shard's gateway, the sender of embedders' messages that name none.
    pub fn gateway(&self, shard: u16) -> String {
        gateway_name(self.shared().partition, caxton_shards::routing::partition::ShardIndex(shard))
    }

    /// A message is admitted on its sender's shard; one without a sender, on its receiver's.
    fn shard_for(&self, message: &Message) -> usize {
        let partition = self.shared().partition;
        let agent = message.sender().or_else(|| message.target()).or_else(|| match message.receiver() {
            Receiver::Agents(agents) => agents.first().copied(),
            _ => None,
        });
        agent.map_or_else(|| self.shared().next_shard(), |agent| partition.shard_of(agent).as_usize())
    }

    /// Like [`Router::question`], for calls that return [`CallError`]s.
    pub(super) async fn query<E>(
        &self,
        shard: usize,
        deadline: Deadline,
        input: impl FnOnce(Token) -> Input,
    ) -> Result<Answer, CallError<E>> {
        not_on_a_shard()?;
        Ok(self.question(shard, deadline, input).await?)
    }

    async fn question(
        &self,
        shard: usize,
        deadline: Deadline,
        input: impl FnOnce(Token) -> Input,
    ) -> Result<Answer, NoAnswer> {
        put_question(self.shared(), shard, deadline, input).await?.answer(deadline).await
    }

    fn try_put(&self, shard: usize, work: Work) -> Result<(), (SendErrorKind, Work)> {
        let router = self.shared();
        let link = &router.links[shard];
        let holder = (!matches!(work, Work::Call(_))).then(|| link.gate.enter());
        if router.phase() != RouterPhase::Running {
            return Err((SendErrorKind::Stopping, work));
        }
        let sent = link.work.try_send(Job { work, holder }).map_err(|error| match error {
            flume::TrySendError::Full(entry) => (SendErrorKind::Full, entry.work),
            flume::TrySendError::Disconnected(entry) => (SendErrorKind::Stopping, entry.work),
        });
        router.ring(shard);
        sent
    }
}

/// Asks a shard something, and returns the end of the call where its response arrives.
pub(super) async fn put_question(
    router: &Arc<Shared>,
    shard: usize,
    deadline: Deadline,
    input: impl FnOnce(Token) -> Input,
) -> Result<Caller, NoAnswer> {
    let (caller, work) = new_call(router, shard, input);
    match put(router, shard, work, || deadline).await {
        Ok(()) => Ok(caller),
        Err((SendErrorKind::Unresponsive(unresponsive), _)) => Err(NoAnswer::Late(unresponsive)),
        Err(_) => Err(NoAnswer::Stopped),
    }
}

fn new_call(router: &Arc<Shared>, shard: usize, input: impl FnOnce(Token) -> Input) -> (Caller, Work) {
    new_call_with(router, shard, input, None)
}

pub(super) fn new_call_with(
    router: &Arc<Shared>,
    shard: usize,
    input: impl FnOnce(Token) -> Input,
    inbox: Option<(InboxNumber, InboxLink)>,
) -> (Caller, Work) {
    let token = router.next_token();
    let request = Request { input: input(token), token, inbox, holder: router.links[shard].gate.enter() };
    let (caller, to_shard) = call(router, shard, request);
    (caller, Work::Call(to_shard))
}

/// Puts work into a shard's channel, waiting for room, and rings the shard. Returned work is not executed. Dropping
/// the future takes the work back.
pub(super) async fn put(
    router: &Arc<Shared>,
    shard: usize,
    work: Work,
    deadline: impl FnOnce() -> Deadline,
) -> Result<(), (SendErrorKind, Work)> {
    let link = &router.links[shard];
    let holder = (!matches!(work, Work::Call(_))).then(|| link.gate.enter());
    if router.phase() != RouterPhase::Running {
        return Err((SendErrorKind::Stopping, work));
    }
    let put = match link.work.try_send(Job { work, holder }) {
        Ok(()) => Ok(()),
        Err(flume::TrySendError::Full(entry)) => put_when_there_is_room(router, shard, entry, deadline()).await,
        Err(flume::TrySendError::Disconnected(entry)) => Err((SendErrorKind::Stopping, entry.work)),
    };
    router.ring(shard);
    put
}

#[cold]
async fn put_when_there_is_room(
    router: &Arc<Shared>,
    shard: usize,
    entry: Job,
    deadline: Deadline,
) -> Result<(), (SendErrorKind, Work)> {
    let mut held = TakenBack(Some(Held::new(entry)));
    let Some(shown) = held.0.clone() else { return Ok(()) };
    let waiting = router.links[shard].work.send_async(Job { work: Work::Held(shown), holder: None });
    let put = within(router, shard, deadline, waiting).await;
    let held = held.0.take();
    let error = match put {
        Some(Ok(())) => return Ok(()),
        Some(Err(_)) => SendErrorKind::Stopping,
        None => SendErrorKind::Unresponsive(router.unresponsive(shard, false)),
    };
    // The shard may just have taken it.
    held.and_then(|held| held.take()).map_or(Ok(()), |entry| Err((error, entry.work)))
}

/// Takes back work that no caller waits for any more.
struct TakenBack(Option<Held>);

impl Drop for TakenBack {
    fn drop(&mut self) {
        drop(self.0.take().and_then(|held| held.take()));
    }
}

/// A message queued by [`Router::try_send`]. Dropping it does not withdraw the message.
pub struct Sent {
    caller: Caller,
    message: Message,
    timeout: Duration,
}

impl Sent {
    /// Waits until the message is accepted, with the call timeout of the handle that queued it.
    ///
    /// # Errors
    ///
    /// Returns the message and the reason why it was not accepted. With [`SendErrorKind::Unresponsive`] it may have
    /// been accepted, if the error says so; with [`SendErrorKind::WouldDeadlock`] it may be accepted later.
    pub async fn accepted(self) -> Result<MessageId, SendError> {
        if is_shard_thread() {
            return Err(would_deadlock(self.message));
        }
        sent(self.caller.answer(Deadline::after(self.timeout)).await, self.message)
    }
}

pub(crate) fn not_on_a_shard() -> Result<(), WouldDeadlockError> {
    if is_shard_thread() { Err(WouldDeadlockError) } else { Ok(()) }
}

fn would_deadlock(message: Message) -> SendError {
    SendError::new(SendErrorKind::WouldDeadlock, message)
}

/// Returns the result of sending a message, of which a copy was kept.
fn sent(answer: Result<Answer, NoAnswer>, kept: Message) -> Result<MessageId, SendError> {
    let error = match answer {
        Ok(Answer::Sent(sent)) => return sent,
        Ok(Answer::NotKept(message, ending)) => SendErrorKind::NotKept { message, ending },
        Ok(_) => SendErrorKind::Stopping,
        Err(no_answer) => no_answer.into(),
    };
    Err(SendError::new(error, kept))
}

/// Returns the error of a call that could not be queued.
pub(super) fn no_room<E>(error: SendErrorKind) -> CallError<E> {
    match error {
        SendErrorKind::Unresponsive(unresponsive) => CallError::Unresponsive(unresponsive),
        _ => CallError::Stopped,
    }
}

/// Returns the message contained in the work.
fn reject_work(error: SendErrorKind, work: Work) -> SendError {
    let Work::Tell(message) = work else { unreachable!("only messages are rejected") };
    SendError::new(error, message)
}
