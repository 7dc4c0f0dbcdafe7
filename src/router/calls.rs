//! What embedders ask of a router, from any thread and any runtime.
//!
//! Each call that waits is an `async fn`, which any executor can drive; for plain threads, [`Router::blocking`] has the
//! same calls. Calls that are made on a shard's own thread, or first polled there, answer `WouldDeadlock`, because that thread would have to do what they
//! wait for.
//!
//! Each call ends by its deadline, whatever its shard does: see [`Router::within`]. A call whose future is dropped is withdrawn:
//! if its shard has not begun it, it has no effect; if it has, what was done stays, and the shard forgets what it keeps for it.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use caxton_shards::agent::{Agent, Registration};
use caxton_shards::api::{
    Answer, AskError, ConversationView, InboxNumber, Input, RegistrationError, SendError, SendErrorKind, Token,
};
use caxton_shards::domain::{AgentName, CapabilityName, DomainError};
use caxton_shards::message::{AgentId, ConversationId, Message, MessageId, Receiver, Term};
use caxton_shards::shard::gateway_name;

use super::Router;
use super::error::{BatchError, CallError, WouldDeadlockError};
use super::events::{EVENTS_WAITING_MAX, Events};
use super::inbox::InboxLink;
use super::report::Stats;
use crate::call::{Caller, NoAnswer, Request, call};
use crate::deadline::{Deadline, whole_milliseconds, within};
use crate::drive::is_shard_thread;
use crate::shard_handle::{BATCH_MESSAGES_MAX, Held, Job, RouterPhase, Work};

impl Router {
    /// A handle of the same router whose calls end within this time, instead of `router.call_timeout_ms` of the settings. It
    /// is meant for one call as for many: `router.within(time).deregister(agent)`.
    ///
    /// The time counts from when a call is made, or first polled. It is kept on the caller's side, whatever the shard does: a
    /// call that is not done by then ends with an error that names the shard that stands still, and says whether what was
    /// asked may have been done. Any time is allowed; [`Duration::MAX`] is none. [`Router::ask`], [`Router::drain`] and
    /// [`Router::shutdown`] are told theirs.
    #[must_use]
    pub fn within(&self, timeout: Duration) -> Self {
        Self { timeout, ..self.clone() }
    }

    /// By when a call ends that is made now.
    pub(crate) fn deadline(&self) -> Deadline {
        Deadline::after(self.timeout)
    }

    /// Queues a message, waiting for room in the inbound channel. What becomes of it afterwards is reported to its
    /// sender, as any agent hears of it.
    ///
    /// The sender is an agent of this router; a message without one is sent in the name of the router's gateway. Whoever has
    /// a handle of the router is trusted with that: it may name any agent. An [`Inbox`](super::Inbox), an agent's handler and a guest
    /// may name nobody but themselves.
    ///
    /// # Errors
    /// The message, when the router is stopping or there was no room in time. It was not queued.
    pub async fn tell(&self, message: Message) -> Result<(), SendError> {
        if is_shard_thread() {
            return Err(would_deadlock(message));
        }
        let shard = self.shard_for(&message);
        let put = self.put(shard, Work::Tell(message), || self.deadline()).await;
        put.map_err(|(error, work)| reject_work(error, work))
    }

    /// Queues a message if there is room for it now.
    ///
    /// # Errors
    /// The message, when there is no room or the router is stopping.
    pub fn try_tell(&self, message: Message) -> Result<(), SendError> {
        let shard = self.shard_for(&message);
        self.try_put(shard, Work::Tell(message)).map_err(|(error, work)| reject_work(error, work))
    }

    /// Queues messages, waiting for room. Messages to one shard are handed over together, which costs a fraction of
    /// telling them one by one.
    ///
    /// # Errors
    /// What was not queued, when the router is stopping or there was no room in time; the rest was.
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
                if let Err((error, Work::TellAll(back))) = self.put(shard, Work::TellAll(messages), || deadline).await {
                    refused.extend(back);
                    why.get_or_insert(error);
                }
                messages = rest;
            }
        }
        why.map_or(Ok(()), |kind| Err(BatchError { kind, messages: refused }))
    }

    /// Sends a message and waits until its sender's shard has accepted it; a durable message, until it is on disk. While its receiver is closed, because its
    /// mailbox is full and its overflow policy is back-pressure, that takes until the message's turn has come or its
    /// lifetime is over; other messages, and other senders, do not wait for it.
    ///
    /// Dropping the future before it is accepted withdraws it.
    ///
    /// # Errors
    /// The message and why it was not accepted. With [`SendErrorKind::Unresponsive`] it may have been, if that says so.
    pub async fn send(&self, message: Message) -> Result<MessageId, SendError> {
        if is_shard_thread() {
            return Err(would_deadlock(message));
        }
        let shard = self.shard_for(&message);
        let kept = message.clone();
        sent(self.question(shard, self.deadline(), |token| Input::Send(message, token)).await, kept)
    }

    /// Sends a message if there is room for it now, and answers with a handle to wait for its acceptance. It does not wait
    /// for a closed receiver: the handle then gives the message back with [`SendErrorKind::ReceiverFull`].
    ///
    /// # Errors
    /// The message, when there is no room or the router is stopping.
    pub fn try_send(&self, message: Message) -> Result<Sent, SendError> {
        let shard = self.shard_for(&message);
        let kept = message.clone();
        let (mut caller, work) = self.new_call(shard, |token| Input::TrySend(message, token));
        // Whoever does not care what became of it has sent it all the same.
        caller.leave_be();
        match self.try_put(shard, work) {
            Ok(()) => Ok(Sent { caller, message: kept, timeout: self.timeout }),
            Err((error, _)) => Err(SendError::new(error, kept)),
        }
    }

    /// Asks a question and waits for the answer, up to `timeout`. The sender is the router's gateway.
    ///
    /// An `agree` announces an answer and is none; anything else that repeats the question's `reply-with` is one. Dropping the
    /// future ends the question: an answer that comes later is a dead letter, as one that comes too late.
    ///
    /// # Errors
    /// The question was not accepted, could not be delivered, or was not answered in time.
    pub async fn ask(&self, message: Message, timeout: Duration) -> Result<Message, AskError> {
        if is_shard_thread() {
            return Err(AskError::Rejected(would_deadlock(message)));
        }
        let shard = match message.target() {
            Some(target) => self.shared().partition.shard_of(target).as_usize(),
            None => self.some_shard(),
        };
        let timeout_ms = whole_milliseconds(timeout);
        let deadline = Deadline::after(timeout);
        match self.question(shard, deadline, |token| Input::Ask { message, timeout_ms, token }).await {
            Ok(Answer::Replied(reply)) => reply,
            // The question was put, and no shard stands still: whoever was asked has not answered.
            Err(NoAnswer::Late(late)) if late.may_have_changed && !self.shared().stands_still(late.shard) => {
                Err(AskError::TimedOut)
            }
            Err(NoAnswer::Late(unresponsive)) => Err(AskError::Unresponsive(unresponsive)),
            _ => Err(AskError::Stopped),
        }
    }

    /// Adds a native agent. The factory runs on the agent's shard, so the agent itself need not be `Send`.
    ///
    /// When this returns, every shard knows the agent.
    ///
    /// # Errors
    /// There is such an agent already, or the router is stopping; or a shard did not do its part in time: then it may be
    /// registered all the same, if the error says so.
    pub async fn register<A: Agent + 'static>(
        &self,
        name: impl TryInto<AgentName, Error: Into<DomainError>>,
        factory: impl FnMut() -> A + Send + 'static,
    ) -> Result<AgentId, CallError<RegistrationError>> {
        self.register_one(Registration::native(name, factory)).await
    }

    /// Adds an agent with everything that a [`Registration`] can say, such as its capabilities.
    ///
    /// # Errors
    /// As [`Router::register`].
    pub async fn register_one(&self, registration: Registration) -> Result<AgentId, CallError<RegistrationError>> {
        self.register_all(vec![registration]).await.pop().unwrap_or(Err(CallError::Stopped))
    }

    /// Adds many agents; all shards work at it at the same time. The results stand in the order of the registrations.
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
                let question = self.put_question(shard, deadline, |token| Input::Register(registrations, token)).await;
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

    /// Removes an agent at once: what waits for it becomes dead letters. [`Router::drain`] lets it finish first. Answers
    /// whether there was such an agent.
    ///
    /// # Errors
    /// The router has stopped.
    pub async fn deregister(&self, agent: AgentId) -> Result<bool, CallError> {
        let shard = self.shared().partition.shard_of(agent).as_usize();
        match self.query(shard, self.deadline(), |token| Input::Deregister(agent, token)).await? {
            Answer::Deregistered(found) => Ok(found),
            _ => Err(CallError::Stopped),
        }
    }

    /// Who offers a capability.
    ///
    /// # Errors
    /// The router has stopped.
    pub async fn discover(&self, capability: &CapabilityName) -> Result<Vec<AgentId>, CallError> {
        not_on_a_shard()?;
        // A word that is no term has never been offered by anybody.
        let Some(term) = Term::find(capability.as_ref()) else { return Ok(Vec::new()) };
        match self.query(self.some_shard(), self.deadline(), |token| Input::Discover(term, token)).await? {
            Answer::Providers(providers) => Ok(providers.iter().map(|provider| provider.agent).collect()),
            _ => Err(CallError::Stopped),
        }
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
        match self.query(shard, self.deadline(), |token| Input::Conversation(initiator, id, token)).await? {
            Answer::Conversation(view) => Ok(view.map(|view| *view)),
            _ => Err(CallError::Stopped),
        }
    }

    /// What happens from now on, as far as the subscriber keeps up: up to [`EVENTS_WAITING_MAX`] events wait for it,
    /// further ones are lost and counted.
    ///
    /// # Errors
    /// The router has stopped.
    pub async fn events(&self) -> Result<Events, CallError> {
        not_on_a_shard()?;
        let deadline = self.deadline();
        let (sender, receiver) = flume::bounded(EVENTS_WAITING_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        // From here on it is dropped as a subscription is, also if this goes no further.
        let events = Events { receiver, lost, shared: Arc::clone(self.shared()) };
        self.shared().subscribers.add(sender.clone(), Arc::clone(&events.lost));
        for shard in 0..self.shared().links.len() {
            let work = Work::Subscribe(sender.clone(), Arc::clone(&events.lost));
            self.put(shard, work, || deadline).await.map_err(|(error, _)| no_room(error))?;
        }
        // Whatever is sent after this has returned is reported: each shard has answered a question behind it.
        self.newest_letters(0, deadline).await?;
        Ok(events)
    }

    /// The router's figures: one read per shard, without asking the shards.
    pub fn stats(&self) -> Stats {
        self.inner.stats()
    }

    /// The name of the agent in whose name a shard sends what embedders send without a sender.
    pub fn gateway(&self, shard: u16) -> String {
        gateway_name(self.shared().partition, caxton_shards::routing::partition::ShardIndex(shard))
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

    /// As [`Router::question`], for calls whose errors are [`CallError`]s.
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
        self.put_question(shard, deadline, input).await?.answer(deadline).await
    }

    async fn put_question(
        &self,
        shard: usize,
        deadline: Deadline,
        input: impl FnOnce(Token) -> Input,
    ) -> Result<Caller, NoAnswer> {
        let (caller, work) = self.new_call(shard, input);
        match self.put(shard, work, || deadline).await {
            Ok(()) => Ok(caller),
            Err((SendErrorKind::Unresponsive(unresponsive), _)) => Err(NoAnswer::Late(unresponsive)),
            Err(_) => Err(NoAnswer::Stopped),
        }
    }

    fn new_call(&self, shard: usize, input: impl FnOnce(Token) -> Input) -> (Caller, Work) {
        self.new_call_with(shard, input, None)
    }

    pub(super) fn new_call_with(
        &self,
        shard: usize,
        input: impl FnOnce(Token) -> Input,
        inbox: Option<(InboxNumber, InboxLink)>,
    ) -> (Caller, Work) {
        let router = self.shared();
        let token = router.next_token();
        let request = Request { input: input(token), token, inbox, holder: router.links[shard].gate.enter() };
        let (caller, to_shard) = call(router, shard, request);
        (caller, Work::Call(to_shard))
    }

    /// Puts work into a shard's channel, waiting for room, and rings. Work that comes back will not be done. Dropped before it
    /// is done, it takes the work back.
    pub(super) async fn put(
        &self,
        shard: usize,
        work: Work,
        deadline: impl FnOnce() -> Deadline,
    ) -> Result<(), (SendErrorKind, Work)> {
        let router = self.shared();
        let link = &router.links[shard];
        let holder = (!matches!(work, Work::Call(_))).then(|| link.gate.enter());
        if router.phase() != RouterPhase::Running {
            return Err((SendErrorKind::Stopping, work));
        }
        let put = match link.work.try_send(Job { work, holder }) {
            Ok(()) => Ok(()),
            Err(flume::TrySendError::Full(entry)) => self.put_when_there_is_room(shard, entry, deadline()).await,
            Err(flume::TrySendError::Disconnected(entry)) => Err((SendErrorKind::Stopping, entry.work)),
        };
        router.ring(shard);
        put
    }

    #[cold]
    async fn put_when_there_is_room(
        &self,
        shard: usize,
        entry: Job,
        deadline: Deadline,
    ) -> Result<(), (SendErrorKind, Work)> {
        let router = self.shared();
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
        // In this moment the shard may have taken it.
        held.and_then(|held| held.take()).map_or(Ok(()), |entry| Err((error, entry.work)))
    }

    #[allow(clippy::result_large_err)] // The message goes back to its owner by value, as it came.
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

/// Takes back what nobody waits for any more.
struct TakenBack(Option<Held>);

impl Drop for TakenBack {
    fn drop(&mut self) {
        drop(self.0.take().and_then(|held| held.take()));
    }
}

/// A message that was queued by [`Router::try_send`]. Dropping it does not take the message back.
pub struct Sent {
    caller: Caller,
    message: Message,
    timeout: Duration,
}

impl Sent {
    /// Waits until the message was accepted, as long as calls of the handle that queued it wait.
    ///
    /// # Errors
    /// The message and why it was not accepted. With [`SendErrorKind::Unresponsive`] it may have been, if that says so, and with
    /// [`SendErrorKind::WouldDeadlock`] it may be later.
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

/// What became of a message, of which a copy was kept.
fn sent(answer: Result<Answer, NoAnswer>, kept: Message) -> Result<MessageId, SendError> {
    let error = match answer {
        Ok(Answer::Sent(sent)) => return sent,
        Ok(Answer::NotKept(message, ending)) => SendErrorKind::NotKept { message, ending },
        Ok(_) => SendErrorKind::Stopping,
        Err(no_answer) => no_answer.into(),
    };
    Err(SendError::new(error, kept))
}

/// Why a call could not be put.
pub(super) fn no_room<E>(error: SendErrorKind) -> CallError<E> {
    match error {
        SendErrorKind::Unresponsive(unresponsive) => CallError::Unresponsive(unresponsive),
        _ => CallError::Stopped,
    }
}

/// Gives the message back that was part of the work.
fn reject_work(error: SendErrorKind, work: Work) -> SendError {
    let Work::Tell(message) = work else { unreachable!("only messages are rejected") };
    SendError::new(error, message)
}
