//! What a connection has taken out of its agents' inboxes and not yet written.
//!
//! A durable message, or one whose sender wants a receipt, is processed once its bytes were written to the client's
//! socket. Until then something holds it, and dropping that puts it back into its inbox, for the agent's next client. An
//! agent that the client gives up stays registered until then, so that nothing is both written and dead-lettered.

use std::sync::Arc;

use caxton_shards::message::{AgentId, Message};
use serde_json::Value;

use crate::edge::doors::{Attachment, OutsideAgent};
use crate::edge::nats::Door;
use crate::router::Inbox;

/// A message for one of the client's agents.
pub(in crate::edge::nats) struct Arrived {
    pub agent: AgentId,
    pub message: Message,
    /// Present if it is to be acknowledged.
    pub held: Option<Held>,
}

/// A message that is processed once it is acknowledged. Dropping this puts it back into its inbox.
pub(in crate::edge::nats) struct Held {
    inbox: Holder,
    message: Option<Message>,
}

/// The inbox that a message came out of.
#[derive(Clone)]
pub(super) enum Holder {
    Agent(Arc<OutsideAgent>),
    Anonymous(Arc<Inbox>),
}

impl Held {
    pub(super) fn new(inbox: &Holder, message: Message) -> Self {
        Self { inbox: inbox.clone(), message: Some(message) }
    }

    pub(super) fn agent(&self) -> AgentId {
        self.inbox().id()
    }

    fn inbox(&self) -> &Inbox {
        match &self.inbox {
            Holder::Agent(agent) => agent.inbox(),
            Holder::Anonymous(inbox) => inbox,
        }
    }

    /// Acknowledges the message: it was written.
    pub fn acknowledge(mut self) {
        if let Some(message) = self.message.take() {
            self.inbox().acknowledge(&message);
        }
    }

    /// Dead-letters the message, because the client has no subscription for it.
    pub fn reject(mut self) {
        if let Some(message) = self.message.take() {
            self.inbox().reject(&message, "the client has no subscription for it");
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(message) = self.message.take() {
            self.inbox().put_back(message);
        }
    }
}

/// An agent that the client has given up. Dropping this deregisters it, unless it has another client.
pub(super) struct Leaving {
    attachment: Option<Attachment>,
    door: Arc<Door>,
}

impl Leaving {
    pub fn new(attachment: Attachment, door: &Arc<Door>) -> Self {
        Self { attachment: Some(attachment), door: Arc::clone(door) }
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        let Some(attachment) = self.attachment.take() else { return };
        let agent = Arc::clone(attachment.agent());
        drop(attachment);
        if agent.clients() == 0 {
            self.door.context.outside.deregister(&agent);
            let door = Arc::clone(&self.door);
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                runtime.spawn(async move {
                    let (owner, name) = (agent.owner(), agent.name().as_str());
                    door.context.audit.note(owner, "agents.deregister", name, "done", Value::Null).await;
                });
            }
        }
    }
}

/// What is due once everything before it was written.
pub(super) enum Due {
    Acknowledge(Held),
    Leave(AgentId, Leaving),
}

impl Due {
    /// Returns the agent that it concerns.
    pub fn agent(&self) -> AgentId {
        match self {
            Self::Acknowledge(held) => held.agent(),
            Self::Leave(agent, _) => *agent,
        }
    }

    pub fn carry_out(self) {
        match self {
            Self::Acknowledge(held) => held.acknowledge(),
            Self::Leave(_, leaving) => drop(leaving),
        }
    }
}
