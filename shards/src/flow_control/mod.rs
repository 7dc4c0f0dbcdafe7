//! Back-pressure: what happens to messages for a full mailbox, and what waits for room.

pub(crate) mod policy;
pub(crate) mod room;
pub(crate) mod stalled;
pub(crate) mod wait_queues;

use std::collections::VecDeque;

use foldhash::quality::FixedState;
use hashbrown::HashMap;

use crate::message::AgentId;

use room::RoomWaiters;
use wait_queues::WaitQueues;

/// The messages and callers that wait for room.
#[derive(Default)]
pub(crate) struct FlowControl {
    /// Messages whose receivers' mailboxes are full.
    pub queues: WaitQueues,
    /// Callers outside that wait until their agents have less on the way.
    pub room: RoomWaiters,
}

/// The number of waiting messages per sender.
#[derive(Debug, Default)]
struct Senders(HashMap<AgentId, u32, FixedState>);

impl Senders {
    fn enter(&mut self, sender: Option<AgentId>) {
        if let Some(sender) = sender {
            *self.0.entry(sender).or_default() += 1;
        }
    }

    fn leave(&mut self, sender: Option<AgentId>) {
        let Some(sender) = sender else { return };
        if let Some(waiting) = self.0.get_mut(&sender) {
            *waiting -= 1;
            if *waiting == 0 {
                self.0.remove(&sender);
            }
        }
    }

    fn has(&self, sender: AgentId) -> bool {
        self.0.contains_key(&sender)
    }

    fn count(&self, sender: AgentId) -> u32 {
        self.0.get(&sender).copied().unwrap_or(0)
    }
}

/// Takes what `leaves` out of a queue, in order.
fn extract<T>(queue: &mut VecDeque<T>, leaves: impl FnMut(&T) -> bool) -> VecDeque<T> {
    let (left, stay) = std::mem::take(queue).into_iter().partition(leaves);
    *queue = stay;
    left
}
