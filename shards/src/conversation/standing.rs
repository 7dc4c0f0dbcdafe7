//! Open conversations by protocol and state.
//!
//! Nothing is counted when a message passes. On request all conversations are looked at, a portion at a time, so that
//! this holds up nobody: a count of many conversations is of a period and not of a moment.

use std::sync::Arc;

use super::{Conversations, OTHER_STATES, STATES_NAMED_MAX, StateFigures};

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
        if self.state_count.is_some() || self.protocols.figures.is_empty() {
            return;
        }
        let mut named_left = STATES_NAMED_MAX;
        let protocols = 0..self.protocols.figures.len();
        let open = protocols.map(|protocol| {
            let named = self.protocols.rulebook.state_names(protocol).count().min(named_left);
            named_left -= named;
            vec![0; named + 1]
        });
        self.state_count = Some(StateCount { next: 0, open: open.collect() });
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
            let state = usize::from(self.protocols.rulebook.standing(guard));
            if let Some(open) = count.open.get_mut(usize::from(guard.protocol)) {
                let unnamed = open.len() - 1;
                open[state.min(unnamed)] += 1;
            }
        }
        let goes_on = count.next < places;
        if goes_on {
            self.state_count = Some(count);
        } else {
            self.set_states(&count.open);
        }
        goes_on
    }

    /// Whether a count is under way.
    pub fn is_counting_states(&self) -> bool {
        self.state_count.is_some()
    }

    fn set_states(&mut self, counted: &[Vec<u64>]) {
        let rulebook = &self.protocols.rulebook;
        for (protocol, (figures, open)) in self.protocols.figures.iter_mut().zip(counted).enumerate() {
            let names = rulebook.state_names(protocol).take(open.len() - 1).chain([OTHER_STATES]);
            let mut before = std::mem::take(&mut figures.states).into_iter().peekable();
            for (number, (name, open)) in names.zip(open.iter().copied()).enumerate() {
                match before.next_if(|state| state.number == number) {
                    Some(state) => figures.states.push(StateFigures { open, ..state }),
                    None if open > 0 => figures.states.push(StateFigures { name: Arc::from(name), open, number }),
                    None => {}
                }
            }
        }
    }
}
