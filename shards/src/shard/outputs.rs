//! What a turn gives out: answers, events, and messages for inboxes.

use crate::base::index::{InboxNumber, Token};
use crate::message::Message;
use crate::shard::io::{Answer, Event, Output};

/// What goes out at the end of the turn.
#[derive(Default)]
pub(in crate::shard) struct Outputs {
    /// Whether somebody wants to know of events.
    is_watched: bool,
    list: Vec<Output>,
}

impl Outputs {
    pub fn answer(&mut self, token: Token, answer: Answer) {
        self.list.push(Output::Answer(token, answer));
    }

    /// Reports an event, which is made only if somebody wants to know of it.
    pub fn report(&mut self, event: impl FnOnce() -> Event) {
        if self.is_watched {
            self.list.push(Output::Event(event()));
        }
    }

    /// Hands a message to an inbox.
    pub fn deliver(&mut self, inbox: InboxNumber, message: Message) {
        self.list.push(Output::Deliver(inbox, message));
    }

    pub fn watch_events(&mut self, watch: bool) {
        self.is_watched = watch;
    }

    pub fn is_watched(&self) -> bool {
        self.is_watched
    }

    /// Puts out into the caller's list from now on, or no longer.
    pub fn swap(&mut self, list: &mut Vec<Output>) {
        std::mem::swap(&mut self.list, list);
    }
}
