//! Inboxes: agents that live outside the shards.
//!
//! The shard hands an inbox as many messages as it has room for; the rest wait in the agent's mailbox. A message is
//! processed when its owner takes it, and taking rings the shard, which then hands out more.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
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
    /// Taken since the shard last looked: messages of agents, and notices of the router.
    messages: AtomicU32,
    notices: AtomicU32,
    closed: AtomicBool,
}

/// The shard's side of an inbox.
pub(crate) struct InboxLink {
    state: Arc<State>,
    sender: flume::Sender<Message>,
    /// For what is left when the inbox is dropped.
    leftovers: flume::Receiver<Message>,
}

impl InboxLink {
    pub fn agent(&self) -> AgentId {
        self.state.agent
    }

    pub fn is_closed(&self) -> bool {
        self.state.closed.load(Ordering::Acquire)
    }

    /// What the owner took since the last time.
    pub fn taken(&self, inbox: InboxNumber) -> Option<Input> {
        let messages = self.state.messages.swap(0, Ordering::AcqRel);
        let notices = self.state.notices.swap(0, Ordering::AcqRel);
        (messages + notices > 0).then_some(Input::Taken { agent: self.state.agent, inbox, messages, notices })
    }

    pub fn put(&self, message: Message) {
        let put = self.sender.try_send(message);
        debug_assert!(put.is_ok(), "the shard hands out no more than there is room for");
    }

    /// Takes back the messages of agents. What the router said stays.
    pub fn take_back(&self) -> Vec<Message> {
        let (notices, messages): (Vec<_>, Vec<_>) = self.leftovers.drain().partition(is_notice);
        for notice in notices {
            self.put(notice);
        }
        messages
    }

    /// Takes what the owner will not take any more.
    pub fn leftovers(&self) -> Vec<Message> {
        self.leftovers.drain().collect()
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
/// Dropping the inbox deregisters the agent; what it had not taken becomes dead letters.
pub struct Inbox {
    state: Arc<State>,
    receiver: flume::Receiver<Message>,
    router: Router,
    shard: usize,
    /// The shard is told of taken messages at the latest after this many.
    tell_after: u32,
}

impl Inbox {
    /// The two ends of an inbox with room for `window` messages.
    pub(super) fn new(router: Router, agent: AgentId, window: u32) -> (Self, InboxLink) {
        let (sender, receiver) = flume::bounded(window as usize);
        let state = Arc::new(State {
            agent,
            messages: AtomicU32::new(0),
            notices: AtomicU32::new(0),
            closed: AtomicBool::new(false),
        });
        let link = InboxLink { state: Arc::clone(&state), sender, leftovers: receiver.clone() };
        let shard = router.shared().partition.shard_of(agent).as_usize();
        (Self { state, receiver, router, shard, tell_after: window.div_ceil(2) }, link)
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
        let message = self.receiver.recv_async().await.map_err(|_| ReceiveError::Stopped)?;
        self.took(&message);
        Ok(message)
    }

    /// The next message, if one is there.
    pub fn try_recv(&self) -> Option<Message> {
        let message = self.receiver.try_recv().ok()?;
        self.took(&message);
        Some(message)
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
        let message = self.receiver.recv_deadline(deadline).map_err(|error| match error {
            flume::RecvTimeoutError::Timeout => ReceiveError::TimedOut,
            flume::RecvTimeoutError::Disconnected => ReceiveError::Stopped,
        })?;
        self.took(&message);
        Ok(message)
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

    /// Counts a message as taken, and tells the shard when there is nothing left or half of the room is free again.
    fn took(&self, message: &Message) {
        let counter = if is_notice(message) { &self.state.notices } else { &self.state.messages };
        let taken = counter.fetch_add(1, Ordering::AcqRel) + 1;
        if taken >= self.tell_after || self.receiver.is_empty() {
            self.tell_shard();
        }
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
