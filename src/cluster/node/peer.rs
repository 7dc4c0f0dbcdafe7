//! Another node: the link to it, and the durable messages that it has not settled.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use caxton_shards::domain::AgentName;
use caxton_shards::message::{AgentId, Message};

use crate::cluster::link::{Link, Outgoing, SendError, Tag};
use crate::cluster::proxies::Proxy;

/// Another node.
pub(super) struct Peer {
    pub link: Link,
    /// Messages that were sent and not settled. Each has a place in an inbox, which bounds them.
    unsettled: BTreeMap<Tag, Durable>,
    /// Messages to send again before anything else, because the node was restarted or their receivers moved to it.
    again: BTreeMap<Tag, Durable>,
}

/// A durable message of an agent of this node to one of another.
pub(super) struct Durable {
    pub proxy: Rc<Proxy>,
    sender: Rc<AgentName>,
    pub message: Message,
}

impl Peer {
    /// Creates the state of a node to which nothing was sent.
    pub fn new(link: Link) -> Self {
        Self { link, unsettled: BTreeMap::new(), again: BTreeMap::new() }
    }

    /// Whether another message for an agent can be sent.
    pub fn has_room_for(&self, agent: AgentId) -> bool {
        self.again.is_empty() && self.link.room_for(agent)
    }

    /// Sends a volatile message. `time` is what has passed since the router's start, here and below.
    ///
    /// # Errors
    ///
    /// The link cannot take it, now or at all.
    pub fn send(
        &mut self,
        time: Duration,
        proxy: &Proxy,
        sender: &AgentName,
        message: &Message,
    ) -> Result<(), SendError> {
        if !self.again.is_empty() {
            return Err(SendError::Full);
        }
        self.put(time, None, proxy, sender, message)
    }

    /// Sends a durable message, which is kept under this tag until the node settles it.
    ///
    /// # Errors
    ///
    /// The link cannot take it, now or at all.
    pub fn send_durable(
        &mut self,
        time: Duration,
        tag: Tag,
        proxy: &Rc<Proxy>,
        sender: &Rc<AgentName>,
        message: &Message,
    ) -> Result<(), SendError> {
        if !self.again.is_empty() {
            return Err(SendError::Full);
        }
        self.put(time, Some(tag), proxy, sender, message)?;
        let kept = Durable { proxy: Rc::clone(proxy), sender: Rc::clone(sender), message: message.clone() };
        self.unsettled.insert(tag, kept);
        Ok(())
    }

    fn put(
        &mut self,
        time: Duration,
        tag: Option<Tag>,
        proxy: &Proxy,
        sender: &AgentName,
        message: &Message,
    ) -> Result<(), SendError> {
        let remaining = message.ends_at_ms().map(|end_ms| Duration::from_millis(end_ms).saturating_sub(time));
        self.link.send(&Outgoing { tag, sender: Some(sender), target: proxy.id(), message, remaining })
    }

    /// Returns the message that the node has settled or refused.
    pub fn take_settled(&mut self, tag: Tag) -> Option<Durable> {
        self.unsettled.remove(&tag)
    }

    /// Has these messages sent again, to the node's new run.
    pub fn begin_again(&mut self, tags: &[Tag]) {
        let Self { unsettled, again, .. } = self;
        again.extend(tags.iter().filter_map(|tag| unsettled.remove_entry(tag)));
    }

    /// Takes away what the node has not settled of an agent's messages.
    pub fn take_all_of(&mut self, agent: AgentId) -> BTreeMap<Tag, Durable> {
        let is_its = |_: &Tag, durable: &mut Durable| durable.proxy.id() == agent;
        let mut taken: BTreeMap<Tag, Durable> = self.unsettled.extract_if(.., is_its).collect();
        taken.extend(self.again.extract_if(.., is_its));
        taken
    }

    /// Has messages sent before anything else.
    pub fn send_first(&mut self, messages: BTreeMap<Tag, Durable>) {
        self.again.extend(messages);
    }

    /// Sends what is to be sent again, as far as there is room. Returns whether this was the last of it.
    pub fn send_again(&mut self, time: Duration) -> bool {
        let had_any = !self.again.is_empty();
        while let Some((tag, durable)) = self.again.pop_first() {
            if self.put(time, Some(tag), &durable.proxy, &durable.sender, &durable.message).is_err() {
                self.again.insert(tag, durable);
                return false;
            }
            self.unsettled.insert(tag, durable);
        }
        had_any
    }
}
