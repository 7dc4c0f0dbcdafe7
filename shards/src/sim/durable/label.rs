//! The labels that every message of a run carries.

use crate::base::rng::mixed;
use crate::message::{AgentId, Message};

use super::plan::Kind;

/// The label of a message, stored as its content.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Label {
    pub kind: Kind,
    /// The number of the world's message that caused it.
    pub number: u64,
    /// Which of several parts it is.
    pub leg: u8,
    /// The replays it descends from: what is sent because of a replayed message is different.
    pub lineage: u64,
    /// Its number in the order of sending.
    pub stamp: u64,
}

impl Label {
    /// Returns the label of a message of the run.
    pub fn of(message: &Message) -> Option<Self> {
        let text = message.content().as_text()?;
        let mut letters = text.chars();
        let kind = Kind::of_letter(letters.next()?)?;
        let mut numbers = letters.as_str().split(' ').map(str::parse);
        let mut next = || numbers.next()?.ok();
        let (number, leg, lineage, stamp) = (next()?, next()?, next()?, next()?);
        Some(Self { kind, number, leg: u8::try_from(leg).ok()?, lineage, stamp })
    }

    pub fn text(self) -> String {
        let Self { kind, number, leg, lineage, stamp } = self;
        format!("{}{number} {leg} {lineage} {stamp}", kind.letter())
    }

    /// Returns the lineage of a received message, including its own replay.
    pub fn lineage_of(self, message: &Message) -> u64 {
        let receiver = message.target().map_or(0, AgentId::table_bits);
        message.replay().map_or(self.lineage, |replay| mixed(self.lineage ^ receiver, replay.times.into()) >> 1)
    }
}
