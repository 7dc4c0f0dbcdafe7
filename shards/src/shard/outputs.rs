//! The outputs of a turn: responses, events, and messages for inboxes.

use crate::base::index::{InboxNumber, Token};
use crate::message::Message;
use crate::shard::io::{Answer, Event, Output};
use crate::trace::{Recorder, Watching};

/// The outputs of a turn.
#[derive(Default)]
pub(in crate::shard) struct Outputs {
    /// Whether anybody subscribes to events.
    is_watched: bool,
    list: Vec<Output>,
    /// The records of watched messages.
    pub(in crate::shard) recorder: Recorder,
}

impl Outputs {
    /// Creates empty outputs, for a shard that watches these messages.
    pub fn new(watching: Watching) -> Self {
        let mut outputs = Self::default();
        outputs.recorder.watch(watching);
        outputs
    }

    pub fn answer(&mut self, token: Token, answer: Answer) {
        self.list.push(Output::Answer(token, answer));
    }

    /// Reports an event, which is only created if anybody subscribes.
    pub fn report(&mut self, event: impl FnOnce() -> Event) {
        if self.is_watched {
            self.list.push(Output::Event(event()));
        }
    }

    /// Delivers a message to an inbox.
    pub fn deliver(&mut self, inbox: InboxNumber, message: Message) {
        self.list.push(Output::Deliver(inbox, message));
    }

    pub fn watch_events(&mut self, watch: bool) {
        self.is_watched = watch;
    }

    pub fn is_watched(&self) -> bool {
        self.is_watched
    }

    /// Switches output to the caller's list, or back.
    pub fn swap(&mut self, list: &mut Vec<Output>) {
        std::mem::swap(&mut self.list, list);
    }
}
