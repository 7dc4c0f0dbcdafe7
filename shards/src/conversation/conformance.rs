//! Protocol figures of a shard.

use std::iter::Sum;
use std::ops::AddAssign;
use std::sync::Arc;

/// Maximum number of states that are counted by name, over all protocols: the first ones in the order of the rulebook,
/// where the library's protocols come first.
pub const STATES_NAMED_MAX: usize = 512;

/// The name under which conversations in all further states of a protocol are counted.
pub const OTHER_STATES: &str = "other";

/// Figures of one protocol on a shard.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ProtocolFigures {
    /// Its name.
    pub name: Arc<str>,
    /// Open conversations that are checked against it.
    pub open: u64,
    /// Conversations that began to be checked against it, so far.
    pub begun: u64,
    /// Violations that were delivered all the same: acts that it does not allow in their state, and messages that name
    /// another protocol.
    pub observed: [u64; 2],
    /// The same, of violations that were refused.
    pub refused: [u64; 2],
    /// The open ones by state, in the order of the protocol's states, as counted last: see
    /// [`Shard::count_states`](crate::shard::Shard::count_states). A state is listed from the first count on that finds
    /// a conversation in it.
    pub states: Vec<StateFigures>,
}

/// The number of conversations in one state of a protocol.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct StateFigures {
    /// The state's name, or [`OTHER_STATES`].
    pub name: Arc<str>,
    /// Open conversations in it.
    pub open: u64,
    pub(super) number: usize,
}

impl ProtocolFigures {
    pub(super) fn of(name: &str) -> Self {
        Self { name: name.into(), open: 0, begun: 0, observed: [0; 2], refused: [0; 2], states: Vec::new() }
    }

    /// Takes over the counters of an earlier definition of the same name.
    pub(super) fn take_counters(&mut self, former: &mut Self) {
        self.begun += std::mem::take(&mut former.begun);
        for (counters, former) in [(&mut self.observed, &mut former.observed), (&mut self.refused, &mut former.refused)]
        {
            for (counter, former) in counters.iter_mut().zip(former) {
                *counter += std::mem::take(former);
            }
        }
    }

    /// Adds the figures of an earlier definition of the same name.
    pub(super) fn add(&mut self, former: &Self) {
        self.open += former.open;
        self.take_counters(&mut former.clone());
        for state in &former.states {
            match self.states.iter_mut().find(|own| own.name == state.name) {
                Some(own) => own.open += state.open,
                None => self.states.push(state.clone()),
            }
        }
    }
}

/// Protocol figures of a shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Conformance {
    /// Messages that followed the protocol of their conversation.
    pub steps: u64,
    /// How many of them arrived after the `reply-by` of the previous message.
    pub late: u64,
    /// Violations that were delivered all the same.
    pub observed: u64,
    /// Violations that were refused.
    pub refused: u64,
    /// Messages that named a checked protocol but could not be checked: without a conversation id, or to an agent that
    /// the conversation's initiator wants replies to go to.
    pub unchecked: u64,
}

impl Conformance {
    /// Returns the number of violations.
    pub fn violations(&self) -> u64 {
        self.observed + self.refused
    }
}

impl AddAssign<&Self> for Conformance {
    fn add_assign(&mut self, other: &Self) {
        self.steps += other.steps;
        self.late += other.late;
        self.observed += other.observed;
        self.refused += other.refused;
        self.unchecked += other.unchecked;
    }
}

impl<'a> Sum<&'a Self> for Conformance {
    fn sum<I: Iterator<Item = &'a Self>>(shards: I) -> Self {
        shards.fold(Self::default(), |mut sum, shard| {
            sum += shard;
            sum
        })
    }
}
