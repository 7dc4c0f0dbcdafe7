//! Messages from other nodes. They enter this router as if their senders had sent them here.
//!
//! Each sender has a queue and a window, so that one whose messages wait for a full mailbox holds up no other. A message
//! returns its credit to the node it came from when it is handed over, which waits for room in the window.
//!
//! Invariant: at most [`WAITING_MAX`] messages wait. Credits are per receiver: a sender may have as many messages here as
//! its receivers have credits together.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use caxton_shards::api::{SendError, SendErrorKind};
use caxton_shards::domain::{AgentName, NodeId};
use caxton_shards::message::{AgentId, Message, Reliability};
use hashbrown::HashMap;

use super::link::Received;
use super::node::Shared;
use super::proxies;
use crate::router::Router;
use crate::router::flow::{Flow, Flows};

/// Maximum number of messages that wait to be handed over. Credits keep their number far below.
const WAITING_MAX: usize = 262_144;
/// Maximum number of messages that are handed over together.
const BATCH_MAX: usize = 256;
/// The link thread's number among those that send as an agent: it has its proxies to itself.
const LINK_THREAD: u32 = 0;
/// Delay before a durable message that found no room is sent again. It doubles each time, up to the second value.
const OFFERED_AGAIN_AFTER: Duration = Duration::from_millis(20);
const OFFERED_AGAIN_WITHIN: Duration = Duration::from_secs(2);

/// A message from another node.
pub(super) struct Arrived {
    pub message: Message,
    /// What the link needs to tell the sender's node what became of the message.
    pub received: Received,
}

/// The queues of senders on other nodes.
pub(super) struct Inbound {
    flows: Arc<Flows>,
    queues: HashMap<AgentId, VecDeque<Arrived>>,
    waiting: usize,
}

impl Inbound {
    pub fn new(router: &Router) -> Self {
        Self { flows: Flows::new(router), queues: HashMap::new(), waiting: 0 }
    }

    /// Returns the window of a sender.
    pub fn flow_of(&self, sender: AgentId) -> Arc<Flow> {
        self.flows.of(sender)
    }

    /// Adds a message to its sender's queue. Returns whether the queue is new; the caller then has to [empty](empty)
    /// it.
    pub fn add(&mut self, sender: AgentId, arrived: Arrived) -> bool {
        let mut is_new = false;
        let queue = self.queues.entry(sender).or_insert_with(|| {
            is_new = true;
            VecDeque::new()
        });
        queue.push_back(arrived);
        self.waiting += 1;
        is_new
    }

    /// Whether there is no room for another message.
    pub fn is_full(&self) -> bool {
        self.waiting >= WAITING_MAX
    }

    /// Takes the next messages of a sender. Its queue is gone once it is empty.
    fn next_batch(&mut self, sender: AgentId) -> Vec<Arrived> {
        let Some(queue) = self.queues.get_mut(&sender) else { return Vec::new() };
        let batch: Vec<Arrived> = queue.drain(..queue.len().min(BATCH_MAX)).collect();
        self.waiting -= batch.len();
        if batch.is_empty() {
            self.queues.remove(&sender);
        }
        batch
    }

    /// Takes everything of a sender.
    pub fn give_up(&mut self, sender: AgentId) -> VecDeque<Arrived> {
        let queue = self.queues.remove(&sender).unwrap_or_default();
        self.waiting -= queue.len();
        queue
    }
}

/// Hands a sender's messages to the router until its queue is empty. `from` is the node where it lives.
pub(super) async fn empty(node: Shared, sender: AgentId, name: AgentName, from: NodeId) {
    let mut delay = OFFERED_AGAIN_AFTER;
    let proxy = loop {
        match proxies::ensure(&node, &name, from).await {
            Ok(proxy) => break proxy,
            Err(error) if error.is_temporary() => wait(&mut delay).await,
            Err(error) => return node.borrow_mut().give_up_sender(sender, from, &error),
        }
    };
    let router = node.borrow().router.clone();
    loop {
        poll_fn(|context| proxy.flow.poll_room(LINK_THREAD, context)).await;
        let batch = node.borrow_mut().inbound.next_batch(sender);
        if batch.is_empty() {
            return;
        }
        hand_over(&node, &router, &proxy.flow, from, batch).await;
    }
}

async fn hand_over(node: &Shared, router: &Router, flow: &Arc<Flow>, from: NodeId, batch: Vec<Arrived>) {
    let bytes = batch.iter().map(|arrived| arrived.message.content().len()).sum();
    let count = batch.len();
    let credits: Vec<Received> = batch.iter().map(|arrived| arrived.received).collect();
    let (durable, volatile): (Vec<_>, Vec<_>) =
        batch.into_iter().partition(|arrived| arrived.message.reliability() == Reliability::Durable);
    for arrived in durable {
        tokio::task::spawn_local(keep(Rc::clone(node), router.clone(), from, arrived));
    }
    let (volatile, to_settle): (Vec<Message>, Vec<Received>) =
        volatile.into_iter().map(|arrived| (arrived.message, arrived.received)).unzip();
    if !volatile.is_empty()
        && let Err(refused) = router.within(Duration::MAX).tell_all(volatile).await
    {
        // This happens only when the router stops.
        node.borrow_mut().count_lost(refused.messages().len() as u64);
    }
    flow.hand_over(count, bytes);
    let mut node = node.borrow_mut();
    for received in credits {
        node.return_credit(from, received);
    }
    // A volatile message to settle is one whose sender wants a receipt. This router sends the receipt.
    for received in to_settle {
        node.settle(from, received);
    }
}

/// Sends a durable message, waits until it is in this router's journal, and tells the node it came from how that ended.
async fn keep(node: Shared, router: Router, from: NodeId, arrived: Arrived) {
    let Arrived { mut message, received } = arrived;
    let mut delay = OFFERED_AGAIN_AFTER;
    loop {
        match router.within(Duration::MAX).send(message).await {
            Ok(_) => return node.borrow_mut().settle(from, received),
            // The other node keeps the message, and sends it again to the next run of this one.
            Err(error) if matches!(error.kind(), SendErrorKind::Stopping | SendErrorKind::JournalFailed) => return,
            Err(error) if may_be_accepted_later(&error) => {
                message = error.into_message();
                wait(&mut delay).await;
            }
            Err(error) => return node.borrow_mut().refuse(from, received, &error.to_string()),
        }
    }
}

/// Waits this time, and doubles it for the next time.
async fn wait(delay: &mut Duration) {
    tokio::time::sleep(*delay).await;
    *delay = (*delay * 2).min(OFFERED_AGAIN_WITHIN);
}

/// Whether the message may be accepted later. If it was accepted already, it is recognised then.
fn may_be_accepted_later(error: &SendError) -> bool {
    use SendErrorKind::{Full, JournalFull, MemoryFull, ReceiverFull, TooManyQuestions, Unresponsive};
    let kind = error.kind();
    matches!(kind, Full | JournalFull | Unresponsive(_))
        || matches!(kind, MemoryFull { .. } | ReceiverFull { .. } | TooManyQuestions { .. })
}
