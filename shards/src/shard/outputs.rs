//! The outputs of a turn: responses, events, and messages for inboxes.

use crate::base::index::{InboxNumber, Token};
use crate::message::{AgentId, Message};
use crate::shard::io::{Answer, Event, EventDetail, Output};
use crate::trace::{Recorder, Watching};

/// The outputs of a turn.
#[derive(Default)]
pub(in crate::shard) struct Outputs {
    /// Which events somebody subscribes to.
    detail: EventDetail,
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

    /// Reports an event of this detail, which is only created if anybody subscribes to it.
    fn report_from(&mut self, detail: EventDetail, event: impl FnOnce() -> Event) {
        if self.detail >= detail {
            let event = event();
            debug_assert_eq!(event.detail(), detail, "{event:?}");
            self.list.push(Output::Event(event));
        }
    }

    /// Reports an event that happens for each message, conversation or agent.
    pub fn report(&mut self, event: impl FnOnce() -> Event) {
        self.report_from(EventDetail::Everything, event);
    }

    /// Reports an event that is rare while all is well: see [`Event::is_exceptional`].
    pub fn report_exception(&mut self, event: impl FnOnce() -> Event) {
        self.report_from(EventDetail::Exceptions, event);
    }

    /// Delivers a message to an inbox.
    pub fn deliver(&mut self, inbox: InboxNumber, message: Message) {
        self.list.push(Output::Deliver(inbox, message));
    }

    /// Has an inbox closed.
    pub fn close_inbox(&mut self, inbox: InboxNumber) {
        self.list.push(Output::CloseInbox(inbox));
    }

    /// Reports that an inbox has no agent any more.
    pub fn end_inbox(&mut self, inbox: InboxNumber) {
        self.list.push(Output::InboxEnded(inbox));
    }

    /// Has an agent looked for on other nodes.
    pub fn want(&mut self, agent: AgentId) {
        self.list.push(Output::Wanted(agent));
    }

    pub fn watch_events(&mut self, detail: EventDetail) {
        self.detail = detail;
    }

    /// Whether all events are reported.
    pub fn reports_everything(&self) -> bool {
        self.detail >= EventDetail::Everything
    }

    /// Switches output to the caller's list, or back.
    pub fn swap(&mut self, list: &mut Vec<Output>) {
        std::mem::swap(&mut self.list, list);
    }
}
