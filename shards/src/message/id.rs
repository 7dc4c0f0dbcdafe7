//! Identifiers of agents, messages, conversations and replies.
//!
//! All of them are 8 or 16 bytes, cheap to compare, and created without the operating system's random source: an
//! agent's id is a hash of its name, the others are counters behind a prefix that never repeats.

use std::fmt;
use std::num::NonZeroU64;

use crate::domain::{AgentName, DomainError, NodeId};

macro_rules! two_word_id {
    ($name:ident, $letter:literal) => {
        impl $name {
            /// Returns the id as one number.
            pub const fn to_u128(self) -> u128 {
                ((self.high as u128) << 64) | self.low.get() as u128
            }

            /// Returns the id for a number returned by `to_u128`, or `None` if the low 64 bits are zero.
            #[allow(clippy::cast_possible_truncation)] // Both halves are used on purpose.
            pub const fn from_u128(value: u128) -> Option<Self> {
                match NonZeroU64::new(value as u64) {
                    Some(low) => Some(Self { high: (value >> 64) as u64, low }),
                    None => None,
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, concat!($letter, "{:016x}{:016x}"), self.high, self.low)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, concat!(stringify!($name), "({})"), self)
            }
        }
    };
}

/// An agent's identity: the first 128 bits of the BLAKE3 hash of its AID name (FIPA SC00023).
///
/// A name has the same id on every machine, so finding a receiver needs no directory.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AgentId {
    high: u64,
    low: NonZeroU64,
}

impl AgentId {
    /// Returns the id of the agent with this name.
    pub fn of(name: &AgentName) -> Self {
        Self::of_text(name.as_ref())
    }

    /// Returns the id of the agent with the AID name `name`, without checking that the name is valid.
    pub fn of_text(name: &str) -> Self {
        super::names::recall(name, || Self::hashed(name))
    }

    pub(super) fn hashed(name: &str) -> Self {
        let (high, low) = hash_128(name.as_bytes());
        Self { high, low: NonZeroU64::new(low).unwrap_or(NonZeroU64::MIN) }
    }

    /// Returns the bits that select the agent's partition.
    pub(crate) const fn partition_bits(self) -> u64 {
        self.high
    }

    /// Returns bits independent of the partition, for the hash tables inside a shard.
    pub(crate) const fn table_bits(self) -> u64 {
        self.low.get()
    }
}

two_word_id!(AgentId, "a");

/// What stands for an agent: its id, or its name.
pub trait IntoAgentId {
    /// Returns the agent's id.
    ///
    /// # Errors
    /// The text is not a legal name.
    fn into_agent_id(self) -> Result<AgentId, DomainError>;
}

impl IntoAgentId for AgentId {
    #[inline]
    fn into_agent_id(self) -> Result<AgentId, DomainError> {
        Ok(self)
    }
}

impl IntoAgentId for &AgentName {
    fn into_agent_id(self) -> Result<AgentId, DomainError> {
        Ok(AgentId::of(self))
    }
}

impl IntoAgentId for AgentName {
    fn into_agent_id(self) -> Result<AgentId, DomainError> {
        Ok(AgentId::of(&self))
    }
}

impl IntoAgentId for &str {
    fn into_agent_id(self) -> Result<AgentId, DomainError> {
        AgentName::try_new(self).map(|name| AgentId::of(&name))
    }
}

impl IntoAgentId for String {
    fn into_agent_id(self) -> Result<AgentId, DomainError> {
        AgentName::try_new(self).map(|name| AgentId::of(&name))
    }
}

/// Distinguishes the ids of one shard from those of every other shard, node and earlier run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdSpace {
    /// The node in the cluster.
    pub node: NodeId,
    /// Incremented at every start of the router. Without a data directory, the start time in milliseconds.
    pub boot_epoch: u64,
    /// The shard.
    pub shard: u16,
}

impl IdSpace {
    const EPOCH_BITS: u32 = 48;

    /// Packs node, shard and the low 32 bits of the epoch into one word; the remaining epoch bits start the counter.
    fn prefix(self) -> u64 {
        let epoch = self.boot_epoch & ((1 << Self::EPOCH_BITS) - 1);
        (u64::from(self.node.into_inner()) << 48) | (u64::from(self.shard) << 32) | (epoch & 0xffff_ffff)
    }

    fn first_counter(self) -> u64 {
        let epoch = self.boot_epoch & ((1 << Self::EPOCH_BITS) - 1);
        ((epoch >> 32) << 48) + 1
    }
}

/// Generates the ids of one shard. It only counts: well under a nanosecond per id.
#[derive(Debug)]
pub struct IdSource {
    prefix: u64,
    counter: u64,
}

impl IdSource {
    /// Creates the source of one shard in one run.
    pub fn new(space: IdSpace) -> Self {
        Self { prefix: space.prefix(), counter: space.first_counter() }
    }

    fn count(&mut self) -> NonZeroU64 {
        let value = self.counter;
        self.counter += 1;
        NonZeroU64::new(value).unwrap_or(NonZeroU64::MIN)
    }

    /// Returns the next message id.
    pub fn message(&mut self) -> MessageId {
        MessageId { high: self.prefix, low: self.count() }
    }

    /// Returns the next conversation id.
    pub fn conversation(&mut self) -> ConversationId {
        ConversationId { high: self.prefix, low: self.count() }
    }

    /// Returns the next `reply-with` value. It only has to be unique for one asking agent, so shard and counter
    /// suffice.
    pub fn correlation(&mut self) -> Correlation {
        let shard = (self.prefix >> 32) & 0xffff;
        let value = (shard << 48) | (self.count().get() & 0x0000_ffff_ffff_ffff);
        Correlation(NonZeroU64::new(value).unwrap_or(NonZeroU64::MIN))
    }
}

/// A message's identity: node, boot epoch, shard and counter. It never repeats, not even after a restart.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId {
    high: u64,
    low: NonZeroU64,
}

two_word_id!(MessageId, "m");

impl MessageId {
    /// Returns the lower and the upper half.
    pub(crate) const fn words(self) -> (u64, u64) {
        (self.low.get(), self.high)
    }

    /// Returns the id of a message that an agent sends while it handles the message with this id. The result is the
    /// same if the agent handles the message again. `ordinal` counts the messages it sends meanwhile. A message to
    /// several agents has one id, so the agent is part of the hash.
    #[must_use]
    #[allow(clippy::cast_possible_truncation)] // Both halves of the agent's id are used.
    pub fn derived(self, by: AgentId, ordinal: u32) -> Self {
        let agent = by.to_u128();
        let agent = mixed(agent as u64) ^ (agent >> 64) as u64;
        // Two different odd numbers, so that the halves of the result are independent.
        let salt = (agent ^ u64::from(ordinal)).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let high = mixed(self.high ^ salt.rotate_left(32)).wrapping_add(mixed(self.low.get() ^ salt));
        let low = mixed(self.low.get().rotate_left(17) ^ salt.wrapping_mul(0xd605_bbb5_8c8a_bbfd)) ^ mixed(self.high);
        Self { high, low: NonZeroU64::new(low).unwrap_or(NonZeroU64::MIN) }
    }
}

/// The finalizer of `SplitMix64`. Journals contain its results, so it must never change.
const fn mixed(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// A conversation's identity (`conversation-id`, FIPA SC00061), unique together with its initiator.
///
/// Ids assigned by the router are numbers with the text form `c` and 32 hexadecimal digits. Any other text is
/// represented by its hash, and the message that brought it carries the text itself.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConversationId {
    high: u64,
    low: NonZeroU64,
}

two_word_id!(ConversationId, "c");

impl ConversationId {
    /// Returns the id for this text.
    pub fn of_text(text: &str) -> Self {
        if let Some(id) = text.strip_prefix('c').and_then(parse_hexadecimal::<32>).and_then(Self::from_u128) {
            return id;
        }
        let (high, low) = hash_128(text.as_bytes());
        Self { high, low: NonZeroU64::new(low).unwrap_or(NonZeroU64::MIN) }
    }

    /// Whether `text` is the [`std::fmt::Display`] form of this id, so that the text need not be kept.
    pub fn is_canonical(self, text: &str) -> bool {
        text.strip_prefix('c').and_then(parse_hexadecimal::<32>) == Some(self.to_u128())
    }

    /// Returns the lower and the upper half.
    pub(crate) const fn words(self) -> (u64, u64) {
        (self.low.get(), self.high)
    }
}

/// The value of `reply-with` and `in-reply-to` (FIPA SC00061).
///
/// As for [`ConversationId`], text from outside is represented by its hash, and the message carries the text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Correlation(NonZeroU64);

impl Correlation {
    /// Returns the value for this text.
    pub fn of_text(text: &str) -> Self {
        if let Some(value) = Self::parse_canonical(text) {
            return value;
        }
        let (high, _) = hash_128(text.as_bytes());
        Self(NonZeroU64::new(high).unwrap_or(NonZeroU64::MIN))
    }

    /// Creates a value chosen by the caller.
    pub const fn new(value: NonZeroU64) -> Self {
        Self(value)
    }

    /// Returns the value as a number.
    pub const fn get(self) -> u64 {
        self.0.get()
    }

    /// Returns the value for a number returned by [`Correlation::get`].
    pub(crate) const fn from_number(number: NonZeroU64) -> Self {
        Self(number)
    }

    /// Whether `text` is the [`std::fmt::Display`] form of this value.
    pub fn is_canonical(self, text: &str) -> bool {
        Self::parse_canonical(text) == Some(self)
    }

    #[allow(clippy::cast_possible_truncation)] // Sixteen digits fit into 64 bits.
    fn parse_canonical(text: &str) -> Option<Self> {
        let value = text.strip_prefix('r').and_then(parse_hexadecimal::<16>)?;
        NonZeroU64::new(value as u64).map(Self)
    }
}

impl fmt::Display for Correlation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "r{:016x}", self.0)
    }
}

impl fmt::Debug for Correlation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Correlation({self})")
    }
}

fn hash_128(bytes: &[u8]) -> (u64, u64) {
    let hash = blake3::hash(bytes);
    let (high, rest) = hash.as_bytes().split_at(8);
    let word = |bytes: &[u8]| bytes.iter().take(8).fold(0_u64, |word, byte| (word << 8) | u64::from(*byte));
    (word(high), word(rest))
}

/// Parses exactly `DIGITS` lower-case hexadecimal digits, as the router writes them; any other spelling is a different
/// text.
fn parse_hexadecimal<const DIGITS: usize>(text: &str) -> Option<u128> {
    let digits: &[u8; DIGITS] = text.as_bytes().try_into().ok()?;
    digits.iter().try_fold(0_u128, |value, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u128::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(shard: u16, boot_epoch: u64) -> IdSpace {
        IdSpace { node: NodeId::try_new(7).unwrap(), boot_epoch, shard }
    }

    #[test]
    fn equal_names_have_equal_ids_and_other_names_have_others() {
        assert_eq!(AgentId::of_text("a@host"), AgentId::of_text("a@host"));
        assert_ne!(AgentId::of_text("a@host"), AgentId::of_text("A@host"));
    }

    #[test]
    fn ids_of_different_shards_and_epochs_differ() {
        let mut seen = std::collections::HashSet::new();
        for (shard, epoch) in [(0, 1), (1, 1), (0, 2), (0, 1 << 33)] {
            let mut source = IdSource::new(space(shard, epoch));
            for _ in 0..100 {
                assert!(seen.insert(source.message()));
            }
        }
    }

    #[test]
    fn the_text_of_a_generated_id_stands_for_the_same_id() {
        let mut source = IdSource::new(space(3, 99));
        let conversation = source.conversation();
        assert_eq!(ConversationId::of_text(&conversation.to_string()), conversation);
        assert!(conversation.is_canonical(&conversation.to_string()));
        let correlation = source.correlation();
        assert_eq!(Correlation::of_text(&correlation.to_string()), correlation);
        assert!(correlation.is_canonical(&correlation.to_string()));
    }

    #[test]
    fn near_misses_of_the_canonical_form_are_hashed() {
        let mut source = IdSource::new(space(3, 99));
        let conversation = source.conversation();
        for text in [conversation.to_string().to_uppercase(), format!("{conversation}0"), format!(" {conversation}")] {
            assert_ne!(ConversationId::of_text(&text), conversation);
            assert!(!conversation.is_canonical(&text));
        }
        assert!(!Correlation::of_text("r+23456789abcdef0").is_canonical("r+23456789abcdef0"));
    }
}
