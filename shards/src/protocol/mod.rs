//! Interaction protocols: who may send what next, as state tables.
//!
//! A table describes what an initiator and one participant may send to each other; in a protocol with many participants
//! each of them has its own state. The FIPA protocols are in files by family and read like the figures of their
//! standards; [`Definition`] is a user-defined protocol, validated before use. [`Rulebook`] determines which protocols
//! are checked and what happens to a message that violates one.
//!
//! Beyond its table, every protocol allows the following once its first message was sent: `not-understood` from either
//! side at any time, which changes nothing, because it may or may not end the exchange; and the initiator's cancel.
//! Late proposals are proposals. An agent named in `reply-to` continues in the place of the agent that named it; and a
//! platform's `failure` about an undeliverable message ends the exchange that the message belongs to.

mod auction;
mod cancel;
mod contract_net;
mod definition;
mod engine;
mod propose;
mod proxy;
mod request;
mod rulebook;
mod subscribe;
mod violation;

use crate::domain::DomainError;
use crate::message::Performative;

pub use definition::{
    Act, Definition, DefinitionError, DefinitionErrorKind, NAME_BYTES_MAX, STATES_MAX, STEPS_MAX, Site, StepDefinition,
    act_of_word,
};
pub(crate) use engine::{Guard, Rules, Verdict};
pub use rulebook::{PROTOCOLS_MAX, Rulebook, RulebookError};
pub use violation::{PartyView, ProtocolView, Violation};

/// Whether messages are checked against their protocols.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Mode {
    /// Nothing is checked.
    #[default]
    Off,
    /// Violations are counted and reported, and the messages delivered.
    Observe,
    /// Messages that violate their protocol are refused.
    Enforce,
}

impl Mode {
    /// The name of the value in errors.
    pub const FIELD: &'static str = "protocol mode";
    /// All modes.
    pub const ALL: [Self; 3] = [Self::Off, Self::Observe, Self::Enforce];

    /// Returns the mode as one word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Observe => "observe",
            Self::Enforce => "enforce",
        }
    }
}

impl std::fmt::Display for Mode {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl std::str::FromStr for Mode {
    type Err = DomainError;

    fn from_str(text: &str) -> Result<Self, DomainError> {
        let found = Self::ALL.into_iter().find(|mode| mode.as_str() == text.trim());
        found.ok_or_else(|| DomainError::not_allowed(Self::FIELD, text, "off, observe or enforce"))
    }
}

/// A side of an exchange.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Side {
    /// The agent that began the conversation.
    Initiator,
    /// An agent that the initiator addresses.
    Participant,
}

impl Side {
    /// Returns the side as one word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Initiator => "initiator",
            Self::Participant => "participant",
        }
    }

    /// Returns the opposite side.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Initiator => Self::Participant,
            Self::Participant => Self::Initiator,
        }
    }
}

impl std::fmt::Display for Side {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// A protocol of the library. Its first step starts from the initial state.
#[derive(Debug)]
struct Table {
    name: &'static str,
    /// Other names used by platforms.
    aliases: &'static [&'static str],
    /// Where it is defined.
    source: &'static str,
    /// The states in which the exchange may end. Some of them allow further steps.
    ends: &'static [&'static str],
    steps: &'static [Step],
    /// Whether agents may speak that the initiator did not address first.
    others_speak: bool,
}

/// One arrow of a figure: from state, side, act, to state.
#[derive(Debug)]
struct Step(&'static str, Side, Act, &'static str);

/// A step of the initiator.
const fn initiator(from: &'static str, act: Performative, to: &'static str) -> Step {
    Step(from, Side::Initiator, Act::Is(act), to)
}

/// A step of the participant.
const fn participant(from: &'static str, act: Performative, to: &'static str) -> Step {
    Step(from, Side::Participant, Act::Is(act), to)
}

/// A step of the initiator with any act that no other step from this state names.
const fn initiator_any(from: &'static str, to: &'static str) -> Step {
    Step(from, Side::Initiator, Act::Any, to)
}

/// A step of the participant with any act that no other step from this state names.
const fn participant_any(from: &'static str, to: &'static str) -> Step {
    Step(from, Side::Participant, Act::Any, to)
}

/// FIPA's protocols.
const LIBRARY: [&Table; 11] = [
    &request::REQUEST,
    &request::QUERY,
    &request::REQUEST_WHEN,
    &contract_net::CONTRACT_NET,
    &contract_net::ITERATED_CONTRACT_NET,
    &propose::PROPOSE,
    &subscribe::SUBSCRIBE,
    &proxy::BROKERING,
    &proxy::RECRUITING,
    &auction::ENGLISH_AUCTION,
    &auction::DUTCH_AUCTION,
];

/// Returns the names of the built-in protocols.
pub fn library_names() -> impl Iterator<Item = &'static str> {
    LIBRARY.iter().map(|table| table.name)
}

/// Returns the built-in protocols.
pub fn library() -> impl Iterator<Item = Definition> {
    LIBRARY.into_iter().map(Definition::from)
}

impl From<&Table> for Definition {
    fn from(table: &Table) -> Self {
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let steps = table.steps.iter().map(|Step(from, by, act, to)| StepDefinition {
            from: (*from).to_owned(),
            by: *by,
            act: *act,
            to: (*to).to_owned(),
        });
        Self {
            name: table.name.to_owned(),
            aliases: owned(table.aliases),
            source: table.source.to_owned(),
            start: table.steps.first().map_or("", |step| step.0).to_owned(),
            ends: owned(table.ends),
            steps: steps.collect(),
            others_speak: table.others_speak,
        }
    }
}
