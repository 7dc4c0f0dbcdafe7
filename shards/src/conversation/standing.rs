//! Open conversations by protocol and state.
//!
//! Nothing is counted when a message passes. On request all conversations are looked at, a portion at a time, so that
//! this holds up nobody: a count of many conversations is of a period and not of a moment.

use super::{Conversations, OTHER_STATES, STATES_NAMED_MAX};

/// Maximum number of exchanges that count as little as one conversation that is looked at.
const EXCHANGES_AT_ONCE: usize = 32;

/// A count that is under way.
#[derive(Debug)]
pub(super) struct StateCount {
    /// The place of the next conversation.
    next: u32,
    /// The number of conversations by protocol and state. The last state of a protocol stands for those without a name.
    open: Vec<Vec<u64>>,
}

impl Conversations {
    /// Begins to count, unless a count is under way or nothing is checked.
    pub fn begin_state_count(&mut self) {
        if self.state_count.is_some() || !self.protocols.check() {
            return;
        }
        let mut named_left = STATES_NAMED_MAX;
        let open = self.protocols.state_names().map(|names| {
            let named = names.count().min(named_left);
            named_left -= named;
            vec![0; named + 1]
        });
        self.state_count = Some(StateCount { next: 0, open: open.collect() });
    }

    /// Begins again if a count is under way: the numbers of protocols mean something else.
    pub(super) fn restart_state_count(&mut self) {
        if self.state_count.take().is_some() {
            self.begin_state_count();
        }
    }

    /// Looks at up to this many places of conversations. Returns whether a count remains under way.
    pub fn continue_state_count(&mut self, portion: usize) -> bool {
        let Some(mut count) = self.state_count.take() else { return false };
        let (places, mut looked_at) = (self.slab.places(), 0);
        while count.next < places && looked_at < portion {
            let conversation = self.slab.get(count.next);
            (count.next, looked_at) = (count.next + 1, looked_at + 1);
            let Some(guard) = conversation.and_then(|conversation| conversation.guard.as_deref()) else { continue };
            looked_at += guard.exchanges() / EXCHANGES_AT_ONCE;
            let state = usize::from(self.protocols.standing(guard));
            if let Some(open) = count.open.get_mut(usize::from(guard.protocol)) {
                let unnamed = open.len() - 1;
                open[state.min(unnamed)] += 1;
            }
        }
        let goes_on = count.next < places;
        if goes_on {
            self.state_count = Some(count);
        } else {
            self.protocols.set_states(&count.open, OTHER_STATES);
        }
        goes_on
    }

    /// Whether a count is under way.
    pub fn is_counting_states(&self) -> bool {
        self.state_count.is_some()
    }
}
