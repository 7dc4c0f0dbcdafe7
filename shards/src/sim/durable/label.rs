//! What every message of a run says of itself.

use crate::base::rng::mixed;
use crate::message::{AgentId, Message};

use super::plan::Kind;

/// What a message says of itself, as its content.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Label {
    pub kind: Kind,
    /// The number of the world's message that it comes from.
    pub number: u64,
    /// Which of several it is.
    pub leg: u8,
    /// Through which replays it came: what is sent because of a replayed message is another one.
    pub lineage: u64,
    /// Its number in the order of sending.
    pub stamp: u64,
}

impl Label {
    /// The label of a message, unless it is not one of the run's.
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

    /// The lineage of a message that has arrived, its own replay included.
    pub fn lineage_of(self, message: &Message) -> u64 {
        let receiver = message.target().map_or(0, AgentId::table_bits);
        message.replay().map_or(self.lineage, |replay| mixed(self.lineage ^ receiver, replay.times.into()) >> 1)
    }
}
