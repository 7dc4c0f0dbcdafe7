//! How much of what a client sends is on its way: a window of the size of its agent's outbox.
//!
//! A message for which there is no room in its sender's outbox waits in the shard's channel, and everything behind it: what
//! others send to that shard too. So that this happens to nobody, a client is not read while the messages handed over
//! and not known to be admitted, and those in the outbox, would fill it. Every quarter of the window the shard is asked
//! for the agent's figures, behind the messages handed over before.

use std::task::{Context, Poll};
use std::time::Duration;

use caxton_shards::message::AgentId;

use super::{AGAIN_AFTER, Boxed};
use crate::router::Router;

/// Maximum number of bytes on their way. One message may be larger.
const BYTES_MAX: usize = 1 << 20;

/// What a client has on its way into the router.
pub(super) struct Flow {
    /// Maximum number of messages.
    window: usize,
    sender: Option<AgentId>,
    /// Handed over, and not known to be admitted.
    messages: usize,
    bytes: usize,
    /// Messages in the outbox, or waiting for their receivers, as of the last reply.
    backlog: usize,
    question: Option<Question>,
}

/// A question to the shard, and what was handed over before it.
struct Question {
    reply: Boxed<usize>,
    messages: usize,
    bytes: usize,
}

impl Flow {
    pub fn new(outbox: usize) -> Self {
        Self { window: outbox, sender: None, messages: 0, bytes: 0, backlog: 0, question: None }
    }

    /// Whether there is room for another message behind `more` of them.
    pub fn has_room(&self, more: usize) -> bool {
        self.messages + self.backlog + more < self.window && self.bytes < BYTES_MAX
    }

    /// Counts messages that are handed over.
    pub fn hand_over(&mut self, sender: AgentId, messages: usize, bytes: usize) {
        self.sender = Some(sender);
        self.messages += messages;
        self.bytes += bytes;
    }

    fn must_ask(&self) -> bool {
        self.messages + self.backlog >= (self.window / 4).max(1) || self.bytes >= BYTES_MAX / 4
    }

    /// Asks the shard where that is due. Returns whether there is more room.
    pub fn poll(&mut self, router: &Router, context: &mut Context<'_>) -> bool {
        let mut more = false;
        loop {
            if let Some(question) = &mut self.question {
                let Poll::Ready(backlog) = question.reply.as_mut().poll(context) else { return more };
                self.messages -= question.messages;
                self.bytes -= question.bytes;
                self.backlog = backlog;
                self.question = None;
                more = true;
            }
            let Some(sender) = self.sender.filter(|_| self.must_ask()) else { return more };
            let router = router.within(Duration::MAX);
            // What is backed up moves at the pace of its receivers.
            let pause = self.backlog >= (self.window / 4).max(1);
            let reply = Box::pin(async move {
                if pause {
                    tokio::time::sleep(AGAIN_AFTER).await;
                }
                let view = router.agent(sender).await.ok().flatten();
                view.map_or(0, |view| view.outbox.max(view.waiting) as usize)
            });
            self.question = Some(Question { reply, messages: self.messages, bytes: self.bytes });
        }
    }
}
