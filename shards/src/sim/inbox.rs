//! Agents outside the shards, as their owners see them.

use std::collections::VecDeque;

use crate::domain::AgentName;
use crate::message::notice::is_notice;
use crate::message::{AgentId, Message};
use crate::shard::agent::Registration;
use crate::shard::io::{Answer, InboxNumber, Input, RegistrationError, Token};

use super::world::World;

/// An inbox, as its owner sees it.
pub(crate) struct OpenInbox {
    pub agent: AgentId,
    pub shard: usize,
    window: usize,
    waiting: VecDeque<Message>,
}

impl World {
    /// Registers an agent that lives outside the shards, with room for `window` messages in its inbox.
    ///
    /// # Errors
    /// Why it was refused.
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

    /// As [`World::open_inbox`]; the answer is for [`World::take_answer`] of the agent's shard.
    pub fn open_inbox_later(&mut self, name: AgentName, window: u32) -> (InboxNumber, Token) {
        self.inbox_numbers += 1;
        let inbox = InboxNumber(self.inbox_numbers);
        let agent = AgentId::of(&name);
        let open = OpenInbox { agent, shard: self.shard_of(agent), window: window as usize, waiting: VecDeque::new() };
        self.inboxes.insert(inbox.0, open);
        (inbox, self.register_later(Registration::outside(name, inbox, window)))
    }

    /// Takes up to `most` messages out of an inbox, oldest first, and tells its shard. An inbox that is not open has
    /// none. The shard hands more out on its next turn: see [`World::run`].
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

    /// Drops an inbox with what is in it: the agent goes, and what was not read becomes dead letters.
    pub fn close_inbox(&mut self, inbox: InboxNumber) {
        if let Some(open) = self.inboxes.remove(&inbox.0) {
            self.give(open.shard, Input::Closed(open.agent, inbox, open.waiting.into()));
        }
    }

    /// Tells all shards to give up whatever is pending, and has every inbox give back what agents sent to it, as a driver
    /// does. What the router said stays in it.
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

    /// The inboxes that were opened and not closed.
    pub fn open_inboxes(&self) -> Vec<InboxNumber> {
        self.inboxes.keys().copied().map(InboxNumber).collect()
    }

    /// Puts a message into its inbox. One that was dropped in this very moment keeps it until its leftovers are given
    /// back.
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
