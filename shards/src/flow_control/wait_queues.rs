//! Who waits for receivers whose mailboxes are full, on the senders' shard.
//!
//! Invariants: the queue is per receiver, so what waits for one holds up nothing that goes to another; an agent does
//! not wait for itself; a message that its receiver asked for waits only behind others of its own sender.

use std::collections::VecDeque;

use foldhash::quality::FixedState;
use hashbrown::{HashMap, HashSet};

use super::{Senders, extract};
use crate::base::index::{AgentKey, Token};
use crate::message::{AgentId, Message};

/// Maximum number of receivers that one shard knows to be closed. Beyond it, receivers of the shard refuse what they
/// have no room for, and messages for others leave without waiting.
pub const CLOSED_RECEIVERS_MAX: usize = 65_536;

/// What waits for a receiver that is closed, or was just now.
#[derive(Default)]
struct WaitQueue {
    closed: bool,
    /// It stands among the queues that move on.
    moves: bool,
    waiting: VecDeque<Waiter>,
    senders: Senders,
}

/// A message that waits for its receiver.
pub(crate) enum Waiter {
    /// A parked message, with the agent that it holds up, and whether it has passed its conversation.
    Message { place: u32, sender: Option<AgentKey>, here: bool },
    /// A message from outside that is accepted when its turn comes.
    Asked { message: Box<Message>, token: Token, deadline_ms: u64 },
}

/// The receivers known to a shard as closed, including its own, and what waits for them.
#[derive(Default)]
pub(crate) struct WaitQueues {
    by_receiver: HashMap<AgentId, WaitQueue, FixedState>,
    /// Receivers that are open again and for which something waits.
    moving: VecDeque<AgentId>,
    /// Receivers of this shard with room again.
    reopening: Vec<AgentKey>,
    /// Whether a timer looks after what expires.
    swept: bool,
    asked: usize,
    figures: WaitFigures,
}

/// How much waits, and has waited.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct WaitFigures {
    /// On the senders' shards.
    pub waiting: usize,
    pub waiting_so_far: u64,
    /// On the receivers' shard.
    pub stalled: usize,
    pub stalled_so_far: u64,
    /// Receivers of this shard.
    pub closed_here: usize,
    pub closed_so_far: u64,
}

impl WaitQueues {
    /// Whether there is any receiver to wait for.
    #[inline]
    pub fn exist(&self) -> bool {
        !self.by_receiver.is_empty()
    }

    /// Whether something is to be done in the next turn.
    pub fn has_more(&self) -> bool {
        !self.reopening.is_empty()
    }

    /// Whether messages from outside wait to be accepted.
    pub fn has_asked(&self) -> bool {
        self.asked > 0
    }

    pub fn figures(&self) -> WaitFigures {
        self.figures
    }

    // Receivers.

    /// Whether another receiver can be closed.
    pub fn may_close(&self) -> bool {
        self.by_receiver.len() < CLOSED_RECEIVERS_MAX
    }

    /// Closes a receiver of this shard.
    pub fn close_here(&mut self, receiver: AgentId) {
        self.figures.closed_here += 1;
        self.figures.closed_so_far += 1;
        self.by_receiver.entry(receiver).or_default().closed = true;
    }

    /// Opens a receiver of this shard.
    pub fn open_here(&mut self, receiver: AgentId) {
        self.figures.closed_here -= 1;
        self.open(receiver);
    }

    /// Records that a receiver of another shard is closed, if there is room for that.
    pub fn close(&mut self, receiver: AgentId) {
        if self.may_close() || self.by_receiver.contains_key(&receiver) {
            self.by_receiver.entry(receiver).or_default().closed = true;
        }
    }

    /// Records that a receiver is open again: what waits for it moves on.
    pub fn open(&mut self, receiver: AgentId) {
        let Some(queue) = self.by_receiver.get_mut(&receiver) else { return };
        queue.closed = false;
        if queue.waiting.is_empty() {
            self.by_receiver.remove(&receiver);
        } else if !std::mem::replace(&mut queue.moves, true) {
            self.moving.push_back(receiver);
        }
    }

    /// Whether a receiver is closed, or something waits for it.
    pub fn has(&self, receiver: AgentId) -> bool {
        self.by_receiver.contains_key(&receiver)
    }

    /// Whether something waits for a receiver that is open again.
    #[cold]
    pub fn moves(&self, receiver: AgentId) -> bool {
        self.by_receiver.get(&receiver).is_some_and(|queue| !queue.closed)
    }

    /// Returns all receivers, in order.
    pub fn receivers(&self) -> Vec<AgentId> {
        let mut receivers: Vec<AgentId> = self.by_receiver.keys().copied().collect();
        receivers.sort_unstable();
        receivers
    }

    /// Has a receiver of this shard looked at because there is room in its mailbox.
    pub fn reopen(&mut self, receiver: AgentKey) {
        self.reopening.push(receiver);
    }

    pub fn take_reopening(&mut self) -> Vec<AgentKey> {
        std::mem::take(&mut self.reopening)
    }

    // Messages.

    /// Whether a message has to wait for its receiver.
    #[cold]
    pub fn must_wait(&self, message: &Message, receiver: AgentId) -> bool {
        let (Some(queue), Some(sender)) = (self.by_receiver.get(&receiver), message.sender()) else { return false };
        sender != receiver && (queue.senders.has(sender) || !message.looks_like_reply())
    }

    /// Whether a message has to wait for its receiver and its sender has `most` messages waiting there already.
    #[cold]
    pub fn waits_too_much(&self, message: &Message, receiver: AgentId, most: u32) -> bool {
        let waiting = |sender| self.by_receiver.get(&receiver).map_or(0, |queue| queue.senders.count(sender));
        self.must_wait(message, receiver) && message.sender().is_some_and(|sender| waiting(sender) >= most)
    }

    /// Has a message wait behind the others.
    pub fn push(&mut self, receiver: AgentId, sender: Option<AgentId>, waiter: Waiter) {
        self.asked += usize::from(matches!(waiter, Waiter::Asked { .. }));
        let queue = self.by_receiver.entry(receiver).or_default();
        queue.senders.enter(sender);
        queue.waiting.push_back(waiter);
        self.figures.waiting += 1;
        self.figures.waiting_so_far += 1;
    }

    /// Puts a message back to the front, which its sender still counts as waiting.
    pub fn put_back(&mut self, receiver: AgentId, waiter: Waiter) {
        if let Some(queue) = self.by_receiver.get_mut(&receiver) {
            queue.waiting.push_front(waiter);
            self.figures.waiting += 1;
        }
    }

    /// Returns the number of receivers for which something moves on.
    pub fn moving(&self) -> usize {
        self.moving.len()
    }

    /// Takes the next receiver for which something moves on.
    pub fn next_moving(&mut self) -> Option<AgentId> {
        self.moving.pop_front()
    }

    /// Lets a receiver stay among those for which something moves on.
    pub fn go_on_moving(&mut self, receiver: AgentId) {
        self.moving.push_back(receiver);
    }

    /// Whether something waits for a receiver that is open. If not, nothing moves on there any more.
    pub fn has_next(&mut self, receiver: AgentId) -> bool {
        let Some(queue) = self.by_receiver.get_mut(&receiver) else { return false };
        if queue.closed {
            queue.moves = false;
            return false;
        }
        if queue.waiting.is_empty() {
            self.by_receiver.remove(&receiver);
            return false;
        }
        true
    }

    /// Takes the first message that waits for a receiver. Its sender still counts it as waiting until it
    /// [leaves](Self::leave).
    pub fn pop(&mut self, receiver: AgentId) -> Option<Waiter> {
        let waiter = self.by_receiver.get_mut(&receiver)?.waiting.pop_front()?;
        self.count_out(&waiter);
        Some(waiter)
    }

    /// Counts out a message of this sender that waits no longer.
    pub fn leave(&mut self, receiver: AgentId, sender: Option<AgentId>) {
        if let Some(queue) = self.by_receiver.get_mut(&receiver) {
            queue.senders.leave(sender);
        }
    }

    /// Takes those messages that wait for a receiver and `leave`, in order. Their senders [leave](Self::leave) one by
    /// one.
    pub fn extract(&mut self, receiver: AgentId, leave: impl FnMut(&Waiter) -> bool) -> VecDeque<Waiter> {
        let Some(queue) = self.by_receiver.get_mut(&receiver) else { return VecDeque::new() };
        let left = extract(&mut queue.waiting, leave);
        for waiter in &left {
            self.count_out(waiter);
        }
        left
    }

    fn count_out(&mut self, waiter: &Waiter) {
        self.figures.waiting -= 1;
        self.asked -= usize::from(matches!(waiter, Waiter::Asked { .. }));
    }

    /// Drops messages from outside whose callers wait no longer, and returns how many. It looks at all queues once,
    /// however many callers have gone.
    #[cold]
    pub fn cancel(&mut self, tokens: &[Token]) -> usize {
        let tokens: HashSet<Token, FixedState> = tokens.iter().copied().collect();
        let mut left = 0;
        for queue in self.by_receiver.values_mut() {
            let senders = &mut queue.senders;
            queue.waiting.retain(|waiter| match waiter {
                Waiter::Asked { message, token, .. } if tokens.contains(token) => {
                    senders.leave(message.sender());
                    left += 1;
                    false
                }
                Waiter::Asked { .. } | Waiter::Message { .. } => true,
            });
        }
        self.asked -= left;
        self.figures.waiting -= left;
        left
    }

    /// Counts a message that waits behind its receiver's full mailbox.
    pub fn stall(&mut self) {
        self.figures.stalled += 1;
        self.figures.stalled_so_far += 1;
    }

    /// Counts out messages that waited behind their receiver's full mailbox.
    pub fn unstall(&mut self, messages: usize) {
        self.figures.stalled -= messages;
    }

    // Time, and the end.

    /// Whether a timer looks after what expires.
    pub fn is_swept(&self) -> bool {
        self.swept
    }

    pub fn set_swept(&mut self, swept: bool) {
        self.swept = swept;
    }

    /// Whether anything waits that could expire.
    pub fn has_waiting(&self) -> bool {
        self.figures.waiting + self.figures.stalled > 0
    }

    /// Takes everything that waits, in the order of the receivers, and forgets them.
    pub fn stop(&mut self) -> Vec<Waiter> {
        let mut queues: Vec<(AgentId, WaitQueue)> = self.by_receiver.drain().collect();
        queues.sort_unstable_by_key(|(receiver, _)| *receiver);
        self.moving.clear();
        self.figures.waiting = 0;
        self.asked = 0;
        queues.into_iter().flat_map(|(_, queue)| queue.waiting).collect()
    }
}
