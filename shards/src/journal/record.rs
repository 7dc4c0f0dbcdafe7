//! Records: what a shard writes to its journal and reads back.
//!
//! A shard writes records without waiting. Each record has the next LSN of its shard, and whatever waits
//! for a record continues once everything up to its LSN is reported as committed. [`Records`] are the bytes
//! that a driver passes to the journal; [`Record`] is a decoded record, for recovery and for tools.
//!
//! A record is `length` (u32, little-endian, of what follows), `kind` (u8) and a body. The format is version
//! [`RECORD_VERSION`]: kinds and fields are added at the end, never changed.

pub use crate::base::index::Lsn;
pub use crate::message::bytes::RecordError;
use crate::message::bytes::{Reader, Write};

use crate::base::index::ShardIndex;
use crate::dead_letter::{DeadLetter, DeadLetterId, DeadLetterReason};
use crate::domain::AgentName;
use crate::message::stored::Extent;
use crate::message::{AgentId, ConversationId, Message, MessageId, WallTime};

/// The version of the record format.
pub const RECORD_VERSION: u16 = 1;
/// Size of a record's header, its length and its kind, in bytes.
pub const RECORD_HEADER_BYTES: usize = 5;
/// Maximum size of a record including its length, in bytes: the longest message and its metadata.
pub const RECORD_BYTES_MAX: usize = (1 << 30) + (64 << 20);
/// Maximum number of messages in one [`RecordKind::Handled`] or [`RecordKind::Seen`].
pub const HANDLED_PER_RECORD_MAX: usize = 1_024;
/// Offset in a message's record of whether the projection shows the message.
const MESSAGE_SHOWN_AT: usize = 16;
/// Offset of the receiver's name.
const RECEIVER_NAME_AT: usize = MESSAGE_SHOWN_AT + 1 + 8;
/// Offset of the same flag in the record that settles the message.
const SETTLED_SHOWN_AT: usize = 8;
/// Maximum number of an agent's capabilities kept in a record.
pub const CAPABILITIES_KEPT_MAX: usize = 4_096;

/// Whether a shard has a journal.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Durability {
    /// No journal: durable messages are refused.
    #[default]
    Unavailable,
    /// Records are written and reported as committed.
    Journal,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident = $number:literal,)+) => {
        /// The kind of a record.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u8)]
        pub enum RecordKind {
            $($(#[$doc])* $variant = $number,)+
        }

        impl RecordKind {
            /// All kinds.
            pub const ALL: [Self; [$($number),+].len()] = [$(Self::$variant),+];

            /// Returns the kind with this number.
            pub const fn of(number: u8) -> Option<Self> {
                match number {
                    $($number => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }
    };
}

kinds! {
    /// A durable message was accepted for its receiver.
    Message = 1,
    /// A message was processed, or its lifetime ended.
    Settled = 2,
    /// A message was dead-lettered.
    DeadLetter = 3,
    /// A dead letter was replayed, purged, or dropped to make room.
    DeadLetterGone = 4,
    /// A persistent agent was registered.
    Agent = 5,
    /// A persistent agent was deregistered.
    AgentGone = 6,
    /// A durable message passed its conversation.
    ConversationStep = 7,
    /// A conversation with durable messages ended.
    ConversationClosed = 8,
    /// Messages accepted by an earlier run, settled or not, without their senders. Written only for messages read from
    /// such a record.
    Handled = 9,
    /// Messages accepted by an earlier run, settled or not, with their senders.
    Seen = 10,
    /// The number of attempts to handle a durable message that had begun.
    Attempts = 11,
    /// An accepted message was withdrawn. The record that releases it comes next; if the message arrives again, it is
    /// new.
    Withdrawn = 12,
}

/// What a record means for its segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RecordClass {
    /// Whether the record is needed until another record releases it.
    pub holds: bool,
    /// Whether the record is the arrival of a message, and not a rewritten one: the deduplication window counts these.
    pub arrives: bool,
    /// The LSN of the record that this one releases.
    pub releases: Option<Lsn>,
    /// The part of the projection that the record belongs to.
    pub projects: Projects,
}

/// The part of the projection that a record belongs to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Projects {
    /// None.
    #[default]
    Nothing,
    /// The history of conversations, of which the newest part is kept: older records may be left out.
    History,
    /// The current state: agents, messages that wait for long, and dead letters.
    State,
}

impl RecordClass {
    /// Classifies a record by its first bytes. Invalid records have the default class.
    #[inline]
    pub fn of(kind: u8, body: &[u8]) -> Self {
        let sequence = || {
            let bytes = body.first_chunk::<8>()?;
            Some(Lsn(u64::from_le_bytes(*bytes))).filter(|sequence| sequence.0 > 0)
        };
        let state_if = |mark: Option<&u8>| if mark == Some(&1) { Projects::State } else { Projects::Nothing };
        match RecordKind::of(kind) {
            Some(RecordKind::Message) => {
                let (releases, projects) = (sequence(), state_if(body.get(MESSAGE_SHOWN_AT)));
                Self { holds: true, arrives: releases.is_none(), releases, projects }
            }
            Some(RecordKind::Settled) => {
                Self { releases: sequence(), projects: state_if(body.get(SETTLED_SHOWN_AT)), ..Self::default() }
            }
            Some(RecordKind::DeadLetter | RecordKind::Agent) => {
                Self { holds: true, releases: sequence(), projects: Projects::State, ..Self::default() }
            }
            Some(RecordKind::DeadLetterGone | RecordKind::AgentGone) => {
                Self { releases: sequence(), projects: Projects::State, ..Self::default() }
            }
            Some(RecordKind::ConversationStep | RecordKind::ConversationClosed) => {
                Self { projects: Projects::History, ..Self::default() }
            }
            Some(RecordKind::Handled | RecordKind::Seen | RecordKind::Attempts | RecordKind::Withdrawn) | None => {
                Self::default()
            }
        }
    }
}

/// A durable message as it was accepted.
#[derive(Clone, PartialEq, Debug)]
pub struct DurableMessage {
    /// The record that this rewritten one replaces.
    pub replaces: Option<Lsn>,
    /// Whether the projection shows the message, because it waits for long.
    pub shown: bool,
    /// The message's first record, if this is a rewritten one: it determines the order of messages.
    pub first: Option<Lsn>,
    /// The end of its lifetime.
    pub expires: WallTime,
    /// The name of its receiver.
    pub receiver_name: Box<str>,
    /// The number of attempts known to have begun. Not part of this record: none has begun when it is written, and
    /// later [`RecordKind::Attempts`] records count them.
    pub attempts: u8,
    /// The message.
    pub message: Message,
}

/// A message accepted by an earlier run, settled or not.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct HandledMessage {
    /// Its id.
    pub id: MessageId,
    /// Its receiver.
    pub receiver: AgentId,
    /// Its sender.
    pub sender: Origin,
}

/// The sender of a message, as known to the deduplication window.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Origin {
    /// Not recorded by an earlier version of the router.
    Unknown,
    /// The embedding program, without naming a sender.
    Outside,
    /// This agent.
    Agent(AgentId),
}

/// A persistent agent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PersistentAgent {
    /// Its name.
    pub name: AgentName,
    /// The capabilities it provides.
    pub capabilities: Vec<Box<str>>,
}

/// A durable message that passed its conversation.
#[derive(Clone, PartialEq, Debug)]
pub struct ConversationStep {
    /// The agent that began the conversation.
    pub initiator: AgentId,
    /// The name of the agent that began it.
    pub initiator_name: Box<str>,
    /// When the message passed.
    pub at: WallTime,
    /// Whether the message violated the conversation's protocol.
    pub violates: bool,
    /// The message without its content.
    pub message: Message,
}

/// One record.
#[derive(Clone, Debug)]
pub enum Record {
    /// See [`RecordKind::Message`].
    Message(DurableMessage),
    /// See [`RecordKind::Settled`]: the message's record, and whether the projection shows the message.
    Settled(Lsn, bool),
    /// See [`RecordKind::DeadLetter`], with the record that it replaces: the message's own, or the letter's before it
    /// was rewritten.
    DeadLetter(Box<DeadLetter>, Option<Lsn>),
    /// See [`RecordKind::DeadLetterGone`], with the letter's record.
    DeadLetterGone(DeadLetterId, Option<Lsn>),
    /// See [`RecordKind::Agent`], with the record that it replaces.
    Agent(PersistentAgent, Option<Lsn>),
    /// See [`RecordKind::AgentGone`], with the agent's record.
    AgentGone(AgentId, Option<Lsn>),
    /// See [`RecordKind::ConversationStep`].
    ConversationStep(Box<ConversationStep>),
    /// See [`RecordKind::ConversationClosed`], with its initiator and id.
    ConversationClosed(AgentId, ConversationId),
    /// See [`RecordKind::Handled`]: ids with receivers.
    Handled(Vec<(MessageId, AgentId)>),
    /// See [`RecordKind::Seen`]: none of them has an unknown origin.
    Seen(Vec<HandledMessage>),
    /// See [`RecordKind::Attempts`]: the message's record, and the number of attempts.
    Attempts(Lsn, u8),
    /// See [`RecordKind::Withdrawn`]: the message's record.
    Withdrawn(Lsn),
}

impl Record {
    /// Decodes a record.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with it. Nothing is read beyond `body`, and no body causes a panic.
    pub fn read(kind: u8, body: &[u8]) -> Result<Self, RecordError> {
        let unknown = RecordError::Unknown { what: "kind", value: kind.into() };
        let mut reader = Reader::new(body);
        let from = &mut reader;
        let record = match RecordKind::of(kind).ok_or(unknown)? {
            RecordKind::Message => Self::Message(DurableMessage {
                replaces: read_sequence(from)?,
                first: read_sequence(from)?,
                shown: from.u8("mark")? != 0,
                expires: WallTime(from.u64("lifetime")?),
                receiver_name: from.text("receiver's name")?.into(),
                attempts: 0,
                message: Message::restore(from)?,
            }),
            RecordKind::Settled => {
                let sequence = read_sequence(from)?.ok_or(RecordError::Illegal("sequence"))?;
                Self::Settled(sequence, from.u8("mark")? != 0)
            }
            RecordKind::DeadLetter => {
                let replaces = read_sequence(from)?;
                Self::DeadLetter(Box::new(read_letter(from)?), replaces)
            }
            RecordKind::DeadLetterGone => {
                let replaces = read_sequence(from)?;
                Self::DeadLetterGone(read_letter_id(from)?, replaces)
            }
            RecordKind::Agent => {
                let replaces = read_sequence(from)?;
                let name = from.name("name")?;
                let count = from.count(CAPABILITIES_KEPT_MAX, "capabilities")?;
                let capabilities = (0..count).map(|_| from.text("capability").map(Box::from));
                let capabilities = capabilities.collect::<Result<_, _>>()?;
                Self::Agent(PersistentAgent { name, capabilities }, replaces)
            }
            RecordKind::AgentGone => {
                let replaces = read_sequence(from)?;
                Self::AgentGone(from.agent("agent")?, replaces)
            }
            RecordKind::ConversationStep => Self::ConversationStep(Box::new(ConversationStep {
                initiator: from.agent("initiator")?,
                initiator_name: from.text("initiator's name")?.into(),
                at: WallTime(from.u64("moment")?),
                violates: from.u8("violation")? != 0,
                message: Message::restore(from)?,
            })),
            RecordKind::ConversationClosed => {
                Self::ConversationClosed(from.agent("initiator")?, from.conversation("conversation")?)
            }
            RecordKind::Handled => {
                let count = from.count(HANDLED_PER_RECORD_MAX, "messages")?;
                let handled = (0..count).map(|_| Ok((from.message_id("id")?, from.agent("receiver")?)));
                Self::Handled(handled.collect::<Result<_, RecordError>>()?)
            }
            RecordKind::Seen => {
                let count = from.count(HANDLED_PER_RECORD_MAX, "messages")?;
                Self::Seen((0..count).map(|_| read_handled(from)).collect::<Result<_, RecordError>>()?)
            }
            RecordKind::Attempts => {
                let sequence = read_sequence(from)?.ok_or(RecordError::Illegal("sequence"))?;
                Self::Attempts(sequence, from.u8("attempts")?)
            }
            RecordKind::Withdrawn => Self::Withdrawn(read_sequence(from)?.ok_or(RecordError::Illegal("sequence"))?),
        };
        reader.end()?;
        Ok(record)
    }
}

impl Record {
    /// Appends the record to `records`.
    pub fn write(&self, records: &mut Records) -> Lsn {
        match self {
            Self::Message(DurableMessage { replaces, first, shown, expires, receiver_name, message, .. }) => {
                records.message(*replaces, *first, *shown, *expires, receiver_name, message)
            }
            Self::Settled(sequence, shown) => records.settled(*sequence, *shown),
            Self::DeadLetter(letter, replaces) => records.dead_letter(letter, *replaces),
            Self::DeadLetterGone(id, record) => records.dead_letter_gone(*id, *record),
            Self::Agent(PersistentAgent { name, capabilities }, replaces) => {
                records.agent(name.as_ref(), capabilities.iter().map(|name| &**name), *replaces)
            }
            Self::AgentGone(agent, record) => records.agent_gone(*agent, *record),
            Self::ConversationStep(step) => {
                records.conversation_step(step.initiator, &step.initiator_name, step.at, step.violates, &step.message)
            }
            Self::ConversationClosed(initiator, id) => records.conversation_closed(*initiator, *id),
            Self::Handled(handled) => records.handled(handled),
            Self::Seen(seen) => records.seen(seen),
            Self::Attempts(sequence, attempts) => records.attempts(*sequence, *attempts),
            Self::Withdrawn(sequence) => records.withdrawn(*sequence),
        }
    }
}

/// Returns the receiver's name from the body of a [`RecordKind::Message`], without decoding the message.
pub fn receiver_name(body: &[u8]) -> Option<&str> {
    let mut reader = Reader::new(body.get(RECEIVER_NAME_AT..)?);
    reader.text("receiver's name").ok()
}

/// Zero means none: LSNs count from one.
fn read_sequence(from: &mut Reader<'_>) -> Result<Option<Lsn>, RecordError> {
    Ok(Some(Lsn(from.u64("sequence")?)).filter(|sequence| sequence.0 > 0))
}

/// Zero means a sender outside the router, which no agent's id is.
fn read_handled(from: &mut Reader<'_>) -> Result<HandledMessage, RecordError> {
    let (id, receiver, sender) = (from.message_id("id")?, from.agent("receiver")?, from.u128("sender")?);
    let sender = match sender {
        0 => Origin::Outside,
        agent => Origin::Agent(AgentId::from_u128(agent).ok_or(RecordError::Illegal("sender"))?),
    };
    Ok(HandledMessage { id, receiver, sender })
}

fn read_letter_id(from: &mut Reader<'_>) -> Result<DeadLetterId, RecordError> {
    let shard = u16::try_from(from.u32("shard")?).map_err(|_| RecordError::Illegal("shard"))?;
    Ok(DeadLetterId { shard: ShardIndex(shard), number: from.u64("number")? })
}

fn read_letter(from: &mut Reader<'_>) -> Result<DeadLetter, RecordError> {
    let id = read_letter_id(from)?;
    let word = from.text("reason")?;
    let reason = DeadLetterReason::ALL.into_iter().find(|reason| reason.as_str() == word);
    Ok(DeadLetter {
        id,
        reason: reason.ok_or(RecordError::Illegal("reason"))?,
        attempts: from.u8("attempts")?,
        last_error: from.optional_text("error")?,
        first: WallTime(from.u64("moment")?),
        last: WallTime(from.u64("moment")?),
        shard: id.shard,
        replays: from.u8("replays")?,
        message: Message::restore(from)?,
    })
}

/// Encoded records on their way to the journal.
#[derive(Debug, Default)]
pub struct Records {
    bytes: Vec<u8>,
    count: u32,
    /// The LSN of the last one.
    last: Lsn,
}

impl Records {
    /// Creates an empty batch whose first record follows `last`.
    pub fn after(last: Lsn) -> Self {
        Self { bytes: Vec::new(), count: 0, last }
    }

    /// Returns the encoded bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the number of records.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Returns the LSN of the last record written.
    pub fn last(&self) -> Lsn {
        self.last
    }

    /// Discards the bytes after they were taken over. LSNs continue.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.count = 0;
    }

    fn write(&mut self, kind: RecordKind, body: impl FnOnce(&mut Vec<u8>)) -> Lsn {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0, 0, 0, 0, kind as u8]);
        body(&mut self.bytes);
        // Limits on contents and parameters keep a record far below four gigabytes.
        let length = u32::try_from(self.bytes.len() - start - 4).unwrap_or(u32::MAX);
        self.bytes[start..start + 4].copy_from_slice(&length.to_le_bytes());
        self.count += 1;
        self.last = Lsn(self.last.0 + 1);
        self.last
    }

    pub(crate) fn message(
        &mut self,
        replaces: Option<Lsn>,
        first: Option<Lsn>,
        shown: bool,
        expires: WallTime,
        receiver_name: &str,
        message: &Message,
    ) -> Lsn {
        self.write(RecordKind::Message, |out| {
            out.put_u64(replaces.map_or(0, |sequence| sequence.0));
            out.put_u64(first.map_or(0, |sequence| sequence.0));
            out.put_u8(u8::from(shown));
            out.put_u64(expires.0);
            out.put_text(receiver_name);
            message.store(out, Extent::Whole);
        })
    }

    pub(crate) fn settled(&mut self, sequence: Lsn, shown: bool) -> Lsn {
        self.write(RecordKind::Settled, |out| {
            out.put_u64(sequence.0);
            out.put_u8(u8::from(shown));
        })
    }

    pub(crate) fn withdrawn(&mut self, sequence: Lsn) -> Lsn {
        self.write(RecordKind::Withdrawn, |out| out.put_u64(sequence.0))
    }

    pub(crate) fn dead_letter(&mut self, letter: &DeadLetter, replaces: Option<Lsn>) -> Lsn {
        self.write(RecordKind::DeadLetter, |out| {
            out.put_u64(replaces.map_or(0, |sequence| sequence.0));
            put_letter_id(out, letter.id);
            out.put_text(letter.reason.as_str());
            out.put_u8(letter.attempts);
            out.put_optional_text(letter.last_error.as_deref());
            out.put_u64(letter.first.0);
            out.put_u64(letter.last.0);
            out.put_u8(letter.replays);
            letter.message.store(out, Extent::Whole);
        })
    }

    pub(crate) fn dead_letter_gone(&mut self, id: DeadLetterId, record: Option<Lsn>) -> Lsn {
        self.write(RecordKind::DeadLetterGone, |out| {
            out.put_u64(record.map_or(0, |sequence| sequence.0));
            put_letter_id(out, id);
        })
    }

    pub(crate) fn agent<'a>(
        &mut self,
        name: &str,
        capabilities: impl ExactSizeIterator<Item = &'a str>,
        replaces: Option<Lsn>,
    ) -> Lsn {
        self.write(RecordKind::Agent, |out| {
            out.put_u64(replaces.map_or(0, |sequence| sequence.0));
            out.put_text(name);
            out.put_count(capabilities.len().min(CAPABILITIES_KEPT_MAX));
            for capability in capabilities.take(CAPABILITIES_KEPT_MAX) {
                out.put_text(capability);
            }
        })
    }

    pub(crate) fn agent_gone(&mut self, agent: AgentId, record: Option<Lsn>) -> Lsn {
        self.write(RecordKind::AgentGone, |out| {
            out.put_u64(record.map_or(0, |sequence| sequence.0));
            out.put_u128(agent.to_u128());
        })
    }

    pub(crate) fn conversation_step(
        &mut self,
        initiator: AgentId,
        initiator_name: &str,
        at: WallTime,
        violates: bool,
        message: &Message,
    ) -> Lsn {
        self.write(RecordKind::ConversationStep, |out| {
            out.put_u128(initiator.to_u128());
            out.put_text(initiator_name);
            out.put_u64(at.0);
            out.put_u8(u8::from(violates));
            message.store(out, Extent::WithoutContent);
        })
    }

    pub(crate) fn conversation_closed(&mut self, initiator: AgentId, id: ConversationId) -> Lsn {
        self.write(RecordKind::ConversationClosed, |out| {
            out.put_u128(initiator.to_u128());
            out.put_u128(id.to_u128());
        })
    }
}

impl Records {
    pub(crate) fn handled(&mut self, handled: &[(MessageId, AgentId)]) -> Lsn {
        self.write(RecordKind::Handled, |out| {
            out.put_count(handled.len());
            for (id, receiver) in handled {
                out.put_u128(id.to_u128());
                out.put_u128(receiver.to_u128());
            }
        })
    }

    pub(crate) fn seen(&mut self, seen: &[HandledMessage]) -> Lsn {
        self.write(RecordKind::Seen, |out| {
            out.put_count(seen.len());
            for HandledMessage { id, receiver, sender } in seen {
                out.put_u128(id.to_u128());
                out.put_u128(receiver.to_u128());
                out.put_u128(match sender {
                    Origin::Agent(agent) => agent.to_u128(),
                    Origin::Outside | Origin::Unknown => 0,
                });
            }
        })
    }

    pub(crate) fn attempts(&mut self, sequence: Lsn, attempts: u8) -> Lsn {
        self.write(RecordKind::Attempts, |out| {
            out.put_u64(sequence.0);
            out.put_u8(attempts);
        })
    }
}

fn put_letter_id(out: &mut Vec<u8>, id: DeadLetterId) {
    out.put_u32(id.shard.0.into());
    out.put_u64(id.number);
}

/// Iterates over concatenated records. Ends at a record that is cut short.
pub fn split(bytes: &[u8]) -> impl Iterator<Item = Result<(u8, &[u8]), RecordError>> {
    let mut reader = Reader::new(bytes);
    std::iter::from_fn(move || {
        if reader.is_empty() {
            return None;
        }
        let record = reader.bytes("length").and_then(|record| {
            let (kind, body) = record.split_first().ok_or(RecordError::Truncated("kind"))?;
            Ok((*kind, body))
        });
        if record.is_err() {
            reader = Reader::new(&[]);
        }
        Some(record)
    })
}
