//! Inboxes: agents that live outside the shards.
//!
//! The shard hands an inbox as many messages as it has room for; the rest wait in the agent's mailbox. A message is
//! processed when its owner takes it or, where the owner acknowledges, when it says that it is done with it; either rings
//! the shard, which then hands out more.
//!
//! An acknowledged inbox numbers what it hands out. Its shard keeps every message until the owner is done with all up to
//! it, so that what was not acknowledged can be given up, or left to the next start, as what nobody took. Neither side
//! waits for the other: the owner's threads share the numbers among themselves, and the shard reads a counter.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use caxton_shards::interface::{InboxNumber, Input, Rejected};
use caxton_shards::message::{AgentId, Message, MessageId};
use caxton_shards::notice::is_notice;

use super::Router;
use super::calls::WouldDeadlock;
use crate::drive::is_shard_thread;

/// What an inbox and its shard share.
struct State {
    agent: AgentId,
    /// Processed since the shard last looked: messages of agents, and notices of the router.
    messages: AtomicU32,
    notices: AtomicU32,
    closed: AtomicBool,
}

/// A message on its way to the owner.
struct Handed {
    message: Message,
    /// Which one it is among those that are to be acknowledged.
    number: Option<u64>,
}

/// The shard's side of an inbox.
pub(crate) struct InboxLink {
    state: Arc<State>,
    sender: flume::Sender<Handed>,
    /// For what is left when the inbox is dropped.
    leftovers: flume::Receiver<Handed>,
    kept: Option<Kept>,
}

/// What was handed out and not acknowledged, in its order.
#[derive(Default)]
struct Kept {
    messages: VecDeque<Message>,
    /// The number of the next one that is handed out.
    next: u64,
}

impl InboxLink {
    pub fn agent(&self) -> AgentId {
        self.state.agent
    }

    pub fn is_closed(&self) -> bool {
        self.state.closed.load(Ordering::Acquire)
    }

    /// What was processed since the last time.
    pub fn taken(&mut self, inbox: InboxNumber) -> Option<Input> {
        let messages = self.state.messages.swap(0, Ordering::AcqRel);
        if let Some(kept) = &mut self.kept {
            kept.messages.drain(..kept.messages.len().min(messages as usize));
        }
        let notices = self.state.notices.swap(0, Ordering::AcqRel);
        (messages + notices > 0).then_some(Input::Taken { agent: self.state.agent, inbox, messages, notices })
    }

    pub fn put(&mut self, message: Message) {
        let handed = match &mut self.kept {
            Some(kept) if !is_notice(&message) => {
                let handed = Handed { message: message.clone(), number: Some(kept.next) };
                kept.next += 1;
                kept.messages.push_back(message);
                handed
            }
            _ => Handed { message, number: None },
        };
        let put = self.sender.try_send(handed);
        debug_assert!(put.is_ok(), "the shard hands out no more than there is room for");
    }

    /// Takes back the messages of agents that were not processed. What the router said stays.
    pub fn take_back(&mut self) -> Vec<Message> {
        let handed: Vec<_> = self.leftovers.drain().map(|handed| handed.message).collect();
        let (notices, messages): (Vec<_>, Vec<_>) = handed.into_iter().partition(is_notice);
        for notice in notices {
            self.put(notice);
        }
        self.unprocessed(messages)
    }

    /// Takes what the owner will not take or acknowledge any more.
    pub fn leftovers(&mut self) -> Vec<Message> {
        let untaken = self.leftovers.drain().map(|handed| handed.message).collect();
        self.unprocessed(untaken)
    }

    /// Where messages are to be acknowledged, those that are still kept are more than those that nobody took.
    fn unprocessed(&mut self, untaken: Vec<Message>) -> Vec<Message> {
        match &mut self.kept {
            Some(kept) => kept.messages.drain(..).collect(),
            None => untaken,
        }
    }
}

/// What an owner is to acknowledge.
#[derive(Default)]
struct Ledger {
    /// The number of the first one that is not done.
    first: u64,
    /// From that one on, what became of each.
    entries: VecDeque<Entry>,
}

#[derive(PartialEq, Eq)]
enum Entry {
    /// Not seen yet.
    Unseen,
    /// Taken by the owner.
    Taken(Option<MessageId>),
    /// Acknowledged, but not everything before it is.
    Done,
}

impl Ledger {
    fn take(&mut self, number: u64, id: Option<MessageId>) {
        // The shard hands out no more than a window beyond the first that is not done.
        let place = usize::try_from(number - self.first).unwrap_or(usize::MAX);
        while self.entries.len() <= place {
            self.entries.push_back(Entry::Unseen);
        }
        self.entries[place] = Entry::Taken(id);
    }

    /// Answers how many more are done from the first one on, or nothing if the message is not to be acknowledged.
    fn acknowledge(&mut self, id: Option<MessageId>) -> Option<u32> {
        let entry = self.entries.iter_mut().find(|entry| **entry == Entry::Taken(id))?;
        *entry = Entry::Done;
        let mut done = 0;
        while self.entries.front() == Some(&Entry::Done) {
            self.entries.pop_front();
            self.first += 1;
            done += 1;
        }
        Some(done)
    }
}

/// Why there is no message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ReceiveError {
    /// None came in time.
    #[error("no message came in time")]
    TimedOut,
    /// The router has stopped.
    #[error("the router has stopped")]
    Stopped,
    /// A blocking call was made on a shard's own thread.
    #[error("a blocking call on a shard's thread would wait for itself")]
    WouldDeadlock,
}

/// An agent outside the shards: messages to it are taken from here, and it sends from any thread.
///
/// Dropping the inbox deregisters the agent; what it had not taken, or not acknowledged if it is to, becomes dead letters.
pub struct Inbox {
    state: Arc<State>,
    receiver: flume::Receiver<Handed>,
    /// If messages are to be acknowledged.
    ledger: Option<Mutex<Ledger>>,
    router: Router,
    shard: usize,
    /// The shard is told of taken messages at the latest after this many.
    tell_after: u32,
}

impl Inbox {
    /// The two ends of an inbox with room for `window` messages, which are to be acknowledged or not.
    pub(super) fn new(router: Router, agent: AgentId, window: u32, acknowledged: bool) -> (Self, InboxLink) {
        let (sender, receiver) = flume::bounded(window as usize);
        let state = Arc::new(State {
            agent,
            messages: AtomicU32::new(0),
            notices: AtomicU32::new(0),
            closed: AtomicBool::new(false),
        });
        let kept = acknowledged.then(Kept::default);
        let link = InboxLink { state: Arc::clone(&state), sender, leftovers: receiver.clone(), kept };
        let shard = router.shared().partition.shard_of(agent).as_usize();
        let ledger = acknowledged.then(Mutex::default);
        (Self { state, receiver, ledger, router, shard, tell_after: window.div_ceil(2) }, link)
    }

    /// The agent's id.
    pub fn id(&self) -> AgentId {
        self.state.agent
    }

    /// The next message.
    ///
    /// # Errors
    /// [`ReceiveError::Stopped`] when the router has stopped and everything was taken.
    pub async fn recv(&self) -> Result<Message, ReceiveError> {
        let handed = self.receiver.recv_async().await.map_err(|_| ReceiveError::Stopped)?;
        Ok(self.took(handed))
    }

    /// The next message, if one is there.
    pub fn try_recv(&self) -> Option<Message> {
        let handed = self.receiver.try_recv().ok()?;
        Some(self.took(handed))
    }

    /// Waits for the next message, from a thread that may block.
    ///
    /// # Errors
    /// None came in time, the router has stopped, or the call was made on a shard's own thread.
    pub fn blocking_recv(&self, timeout: Duration) -> Result<Message, ReceiveError> {
        if is_shard_thread() {
            return Err(ReceiveError::WouldDeadlock);
        }
        let deadline = Instant::now() + timeout;
        let handed = self.receiver.recv_deadline(deadline).map_err(|error| match error {
            flume::RecvTimeoutError::Timeout => ReceiveError::TimedOut,
            flume::RecvTimeoutError::Disconnected => ReceiveError::Stopped,
        })?;
        Ok(self.took(handed))
    }

    /// Says that the owner is done with a message that it took, in any order and from any thread. Answers whether it was to
    /// be acknowledged: false if that was done before, or if the inbox was not
    /// [opened](Router::open_acknowledged_inbox) for that.
    ///
    /// It is processed when those that came before it are, too. Until then its receipt waits and, if it is durable, the
    /// router hands it out again after a crash: a message that is acknowledged in the moment of one may come twice.
    pub fn acknowledge(&self, message: &Message) -> bool {
        let Some(ledger) = &self.ledger else { return false };
        let done = ledger.lock().unwrap_or_else(PoisonError::into_inner).acknowledge(message.id());
        if let Some(done @ 1..) = done {
            self.state.messages.fetch_add(done, Ordering::AcqRel);
            self.tell_shard();
        }
        done.is_some()
    }

    /// Sends a message in this agent's name and waits until it is accepted.
    ///
    /// # Errors
    /// As [`Router::send`].
    pub async fn send(&self, mut message: Message) -> Result<MessageId, Rejected> {
        message.set_sender_if_absent(self.state.agent);
        self.router.send(message).await
    }

    /// As [`Inbox::send`], from a thread that may block.
    ///
    /// # Errors
    /// As [`Router::send`].
    pub fn blocking_send(&self, mut message: Message) -> Result<MessageId, Rejected> {
        message.set_sender_if_absent(self.state.agent);
        self.router.blocking_send(message)
    }

    /// Counts a message as taken, and tells the shard when there is nothing left or half of the room is free again. One that is
    /// to be acknowledged takes its room until then.
    fn took(&self, Handed { message, number }: Handed) -> Message {
        if let (Some(number), Some(ledger)) = (number, &self.ledger) {
            ledger.lock().unwrap_or_else(PoisonError::into_inner).take(number, message.id());
            return message;
        }
        let counter = if is_notice(&message) { &self.state.notices } else { &self.state.messages };
        let taken = counter.fetch_add(1, Ordering::AcqRel) + 1;
        if taken >= self.tell_after || self.receiver.is_empty() {
            self.tell_shard();
        }
        message
    }

    fn tell_shard(&self) {
        let shared = self.router.shared();
        shared.links[self.shard].inbox_attention.store(true, Ordering::Release);
        shared.ring(self.shard);
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.state.closed.store(true, Ordering::Release);
        self.tell_shard();
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Inbox").field("agent", &self.state.agent).finish_non_exhaustive()
    }
}

impl From<WouldDeadlock> for ReceiveError {
    fn from(_: WouldDeadlock) -> Self {
        Self::WouldDeadlock
    }
}
