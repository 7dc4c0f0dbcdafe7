//! Interaction protocols: who may say what next, as tables of states.
//!
//! A table describes what an initiator and one participant may say to each other; in a protocol with many participants
//! each of them has a state of its own. The FIPA protocols stand in files by family and read like the figures of their
//! standards; [`Definition`] is a protocol of the user's own, checked before it is used. [`Rulebook`] says which of them
//! are checked and what becomes of a message that breaks one.
//!
//! What every protocol allows beside its table, once its first message was sent:
//! `not-understood` from either side at any time, which changes nothing, because it may or may not end the exchange; and
//! the initiator's cancel. Proposals that come late are proposals. Who wants answers to go to somebody else (`reply-to`)
//! has that agent go on in its place; and a platform's `failure` about a message that it could not deliver ends the
//! exchange that the message belongs to.

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
    Act, Definition, Fault, Flaw, NAME_BYTES_MAX, STATES_MAX, STEPS_MAX, Site, StepDefinition, act_of_word,
};
pub(crate) use engine::{Guard, Verdict};
pub use rulebook::{PROTOCOLS_MAX, Rulebook, RulebookError};
pub use violation::{PartyView, ProtocolView, Violation};

/// Whether messages are held to their protocols.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Mode {
    /// Nothing is looked at.
    #[default]
    Off,
    /// Violations are counted and reported, and the messages delivered.
    Observe,
    /// Messages that break their protocol are refused.
    Enforce,
}

impl Mode {
    /// The name under which it is read.
    pub const FIELD: &'static str = "protocol mode";
    /// All modes.
    pub const ALL: [Self; 3] = [Self::Off, Self::Observe, Self::Enforce];

    /// The mode as one word.
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

/// Which end of an exchange speaks.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Side {
    /// Who began the conversation.
    Initiator,
    /// Whom the initiator speaks to.
    Participant,
}

impl Side {
    /// The side as one word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Initiator => "initiator",
            Self::Participant => "participant",
        }
    }

    /// The one that listens.
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

/// A protocol of the library. Its first step leaves the state in which every exchange begins.
#[derive(Debug)]
struct Table {
    name: &'static str,
    /// Other names under which platforms know it.
    aliases: &'static [&'static str],
    /// Where it is defined.
    source: &'static str,
    /// Where the exchange may end. Some of these states allow further steps.
    ends: &'static [&'static str],
    steps: &'static [Step],
    /// Whether agents speak that the initiator did not speak to first.
    others_speak: bool,
}

/// One arrow of a figure: in this state, this side, with this act, to that state.
#[derive(Debug)]
struct Step(&'static str, Side, Act, &'static str);

/// The initiator says this.
const fn initiator(from: &'static str, act: Performative, to: &'static str) -> Step {
    Step(from, Side::Initiator, Act::Is(act), to)
}

/// The participant says this.
const fn participant(from: &'static str, act: Performative, to: &'static str) -> Step {
    Step(from, Side::Participant, Act::Is(act), to)
}

/// The initiator says anything that no other step from this state names.
const fn initiator_any(from: &'static str, to: &'static str) -> Step {
    Step(from, Side::Initiator, Act::Any, to)
}

/// The participant says anything that no other step from this state names.
const fn participant_any(from: &'static str, to: &'static str) -> Step {
    Step(from, Side::Participant, Act::Any, to)
}

/// The protocols of FIPA.
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

/// The names of the protocols that the router knows by itself.
pub fn library_names() -> impl Iterator<Item = &'static str> {
    LIBRARY.iter().map(|table| table.name)
}

/// The protocols that the router knows by itself.
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
