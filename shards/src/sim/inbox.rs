//! Agents outside the shards, as seen by their owners.

use std::collections::VecDeque;

use crate::domain::AgentName;
use crate::message::notice::is_notice;
use crate::message::{AgentId, Message};
use crate::shard::agent::Registration;
use crate::shard::io::{Answer, InboxNumber, Input, RegistrationError, Token};

use super::world::World;

/// An inbox, as seen by its owner.
pub(crate) struct OpenInbox {
    pub agent: AgentId,
    pub shard: usize,
    window: usize,
    waiting: VecDeque<Message>,
}

impl World {
    /// Registers an agent outside the shards, with an inbox for `window` messages.
    ///
    /// # Errors
    ///
    /// The registration was refused.
    pub fn open_inbox(&mut self, name: AgentName, window: u32) -> Result<InboxNumber, RegistrationError> {
        let shard = self.shard_of(AgentId::of(&name));
        let (inbox, token) = self.open_inbox_later(name, window);
        self.run();
        let Some(Answer::Registered(mut results)) = self.take_answer(shard, token) else {
            panic!("the registration was not answered: is a shard paused?")
        };
        let result = results.pop().expect("there is a result for every registration");
        if result.is_err() {
            self.inboxes.remove(&inbox.0);
        }
        result.map(|_| inbox)
    }

    /// Like [`World::open_inbox`]; the response is for [`World::take_answer`] of the agent's shard.
    pub fn open_inbox_later(&mut self, name: AgentName, window: u32) -> (InboxNumber, Token) {
        self.inbox_numbers += 1;
        let inbox = InboxNumber(self.inbox_numbers);
        let agent = AgentId::of(&name);
        let open = OpenInbox { agent, shard: self.shard_of(agent), window: window as usize, waiting: VecDeque::new() };
        self.inboxes.insert(inbox.0, open);
        (inbox, self.register_later(Registration::outside(name, inbox, window)))
    }

    /// Takes up to `most` messages out of an inbox, oldest first, and informs its shard. Returns none if the inbox is
    /// not open. The shard delivers more on its next turn: see [`World::run`].
    pub fn read_inbox(&mut self, inbox: InboxNumber, most: usize) -> Vec<Message> {
        let Some(open) = self.inboxes.get_mut(&inbox.0) else { return Vec::new() };
        let taken: Vec<Message> = (0..most).map_while(|_| open.waiting.pop_front()).collect();
        if !taken.is_empty() {
            let (agent, shard) = (open.agent, open.shard);
            let notices = count(taken.iter().filter(|message| is_notice(message)));
            let messages = count(taken.iter()) - notices;
            self.give(shard, Input::Taken { agent, inbox, messages, notices });
        }
        taken
    }

    /// Drops an inbox with its contents: the agent is removed, and unread messages are dead-lettered.
    pub fn close_inbox(&mut self, inbox: InboxNumber) {
        if let Some(open) = self.inboxes.remove(&inbox.0) {
            self.give(open.shard, Input::Closed(open.agent, inbox, open.waiting.into()));
        }
    }

    /// Stops all shards, and returns unread messages from agents in every inbox, as a driver does. The router's notices
    /// stay in it.
    pub(crate) fn stop_and_return_inboxes(&mut self) {
        for shard in 0..self.nodes.len() {
            self.give_first(shard, Input::Stop);
        }
        let mut returned = Vec::new();
        for (number, open) in &mut self.inboxes {
            let (notices, messages): (VecDeque<_>, VecDeque<_>) =
                std::mem::take(&mut open.waiting).into_iter().partition(is_notice);
            open.waiting = notices;
            returned.push((open.shard, Input::Returned(open.agent, InboxNumber(*number), messages.into())));
        }
        for (shard, input) in returned {
            self.give(shard, input);
        }
    }

    /// Returns the inboxes that are open.
    pub fn open_inboxes(&self) -> Vec<InboxNumber> {
        self.inboxes.keys().copied().map(InboxNumber).collect()
    }

    /// Puts a message into its inbox. One that was dropped at this moment keeps it until its leftovers are returned.
    pub(crate) fn put_into_inbox(&mut self, shard: usize, inbox: InboxNumber, message: Message) {
        if let Some(open) = self.inboxes.get_mut(&inbox.0) {
            open.waiting.push_back(message);
            assert!(open.waiting.len() <= open.window, "an inbox was given more than it has room for");
            return;
        }
        let node = &mut self.nodes[shard];
        let leftovers = node.inputs.iter_mut().find_map(|input| match input {
            Input::Closed(_, closed, leftovers) if *closed == inbox => Some(leftovers),
            _ => None,
        });
        match leftovers {
            Some(leftovers) => leftovers.push(message),
            None => node.delivered.push((inbox, message)),
        }
    }
}

fn count<'a>(messages: impl Iterator<Item = &'a Message>) -> u32 {
    u32::try_from(messages.count()).expect("an inbox holds fewer messages than 2^32")
}
