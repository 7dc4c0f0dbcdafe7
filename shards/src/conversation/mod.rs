//! Conversations: participants, awaited replies, history and timeouts.
//!
//! A conversation is kept on its initiator's shard under the key (initiator, conversation id). The initiator's messages
//! are checked before they leave, and messages to it are checked on arrival, so that exchanges centred on an initiator,
//! as in all FIPA protocols, need no extra hop.
//!
//! Invariants: an open conversation has an initiator and at most `participants_max` agents including the initiator; its
//! history and its awaited replies are bounded; without traffic it ends at its timeout. From its first durable message
//! on it survives the process.

mod conformance;
mod history;
pub(crate) mod initiators;
mod judging;
mod listing;
mod protocols;
mod recovered;
mod roles;
mod standing;

pub use conformance::{Conformance, OTHER_STATES, ProtocolFigures, STATES_NAMED_MAX, StateFigures};
pub use history::HistoryEntry;
pub use listing::{
    CONVERSATIONS_PER_ANSWER_MAX, ConversationFilter, ConversationPortion, ConversationSummary, PARTICIPANTS_NAMED_MAX,
};

use hashbrown::{HashMap, HashTable};
use smallvec::SmallVec;

use crate::base::hashing::Seeded;
pub(crate) use crate::base::index::ConversationIndex;
use crate::base::slab::Slab;
use crate::base::timer_wheel::TimerKey;
use crate::message::{AgentId, ConversationId, ConversationRole, Correlation, Message};
use crate::outcome::DeadLetterReason;
use crate::protocol::{Guard, ProtocolView, Rulebook, Violation};
use history::{History, Remembered};
use initiators::InitiatorCache;
use protocols::Protocols;
pub use protocols::REPLACED_PROTOCOLS_MAX;
use recovered::Recovered;
use standing::StateCount;

/// Maximum number of replies that a conversation waits for. Beyond it the oldest is no longer matched with its reply.
pub const AWAITED_REPLIES_MAX: usize = 1_024;
/// Maximum number of agents in one `reply-to` that replies are expected from.
pub(crate) const REPLY_TO_NOTED_MAX: usize = 16;
/// Number of participants beyond which they are looked up in a table instead of compared one by one.
const LISTED_PARTICIPANTS_MAX: usize = 16;

/// A snapshot of a conversation's state, for inspection and tests.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ConversationView {
    /// The initiator.
    pub initiator: AgentId,
    /// Its id.
    pub id: ConversationId,
    /// All participants, the initiator first.
    pub participants: Vec<AgentId>,
    /// `reply-with` values whose replies have not arrived.
    pub awaited: Vec<Correlation>,
    /// The number of messages so far.
    pub messages: u64,
    /// When the first message passed, in milliseconds of monotonic time.
    pub opened_ms: u64,
    /// When the last message passed.
    pub last_ms: u64,
    /// The newest messages, oldest first.
    pub history: Vec<HistoryEntry>,
    /// The conversation's protocol and its state.
    pub protocol: Option<ProtocolView>,
}

#[derive(Clone, Copy, Debug)]
struct Awaited {
    correlation: Correlation,
    asker: u16,
}

/// One conversation. Fields used by every message come first, within two cache lines.
#[derive(Debug)]
#[repr(C, align(64))]
struct Conversation {
    id: ConversationId,
    initiator: AgentId,
    participants: SmallVec<[AgentId; 2]>,
    history: History,
    opened_ms: u64,
    last_ms: u64,
    messages: u64,
    awaited: SmallVec<[Awaited; 1]>,
    /// The participants' positions, once there are many.
    table: Option<Box<HashMap<AgentId, u16, Seeded>>>,
    timer: Option<TimerKey>,
    /// Its progress in the protocol it is checked against.
    guard: Option<Box<Guard>>,
    /// Whether durable messages passed it, so that the journal knows it.
    durable: bool,
    /// How often protocols had been replaced when it was opened.
    protocols_version: u32,
}

const _: () =
    assert!(std::mem::offset_of!(Conversation, awaited) <= 128, "what a message looks at lies in two cache lines");
const _: () = assert!(size_of::<Conversation>() == 192, "a conversation fills three cache lines");

/// Limits of a shard's conversations.
#[derive(Clone, Copy, Debug)]
pub struct ConversationLimits {
    /// Maximum number of open conversations.
    pub open_max: usize,
    /// Maximum number of participants of a conversation, including the initiator.
    pub participants_max: usize,
    /// Number of messages kept in a conversation's history.
    pub history: usize,
    /// Time without traffic after which a conversation ends, in milliseconds.
    pub timeout_ms: u64,
}

/// The open conversations whose initiators are on this shard.
#[derive(Debug)]
pub(crate) struct Conversations {
    limits: ConversationLimits,
    slab: Slab<Conversation>,
    index: HashTable<u32>,
    seeded: Seeded,
    /// Empty histories of closed conversations, reused so that short conversations do not allocate.
    spare_histories: Vec<History>,
    protocols: Protocols,
    state_count: Option<StateCount>,
    /// The violation of the last message that was let pass or refused, until the shard takes it.
    violation: Option<Box<Violation>>,
    opened: u64,
    closed: u64,
    timed_out: u64,
    /// Messages that name a checked protocol but could not be checked.
    unchecked: u64,
    /// Violations that were delivered all the same, and those that were refused.
    observed: u64,
    refused: u64,
    /// What is known of conversations begun by an earlier run.
    recovered: Recovered,
    /// The initiators of conversations that text-borne messages of this shard's agents belong to.
    initiators: InitiatorCache,
}

/// Maximum number of empty histories kept for reuse.
const SPARE_HISTORIES_MAX: usize = 1_024;
/// Maximum length of a history kept for reuse, in entries.
const SPARE_HISTORY_ENTRIES_MAX: usize = 64;

/// A message about to pass, with its sender and receiver.
pub(crate) struct Passage<'a> {
    pub initiator: AgentId,
    pub sender: AgentId,
    pub receiver: AgentId,
    pub message: &'a Message,
    pub now_ms: u64,
}

impl Passage<'_> {
    /// Whether the message can begin a conversation. A reply that an agent sends to itself cannot.
    fn begins(&self) -> bool {
        self.sender == self.initiator && self.message.role() != ConversationRole::Participant && !self.message.rejoins()
    }
}

/// What remains of a conversation that ended.
struct Ended {
    initiator: AgentId,
    id: ConversationId,
    participants: SmallVec<[AgentId; 2]>,
    timer: Option<TimerKey>,
    durable: bool,
}

/// What a message did to its conversation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Passed {
    /// It was already open.
    Continued,
    /// It began: its timeout has to be armed.
    Began,
    /// It was already open, and the message violates its protocol.
    ContinuedInViolation,
    /// It began, and the message violates the protocol it names.
    BeganInViolation,
    /// It was already open, and its sender is new to it.
    Joined,
    /// The message belongs to no conversation kept here, and none was opened.
    Beside,
    /// The message belongs to no conversation kept here, and violates the protocol it names.
    BesideInViolation,
}

/// An agent's relation to a conversation of its own with some id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum OwnConversation {
    /// It has none that is open.
    None,
    /// It has one in which this peer does not take part.
    WithoutPeer,
    /// It has one in which this peer takes part.
    WithPeer,
}

/// The index for a message that belongs to no conversation.
const NOWHERE: ConversationIndex = ConversationIndex(u32::MAX);

/// The result of a conversation's timer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Timeout {
    /// The conversation ended. The initiator is the first participant.
    Ended { initiator: AgentId, id: ConversationId, participants: SmallVec<[AgentId; 2]>, durable: bool },
    /// There was traffic since: check again at this time.
    NotBefore(u64),
    /// The conversation no longer exists.
    Gone,
}

impl Conversations {
    pub fn new(limits: ConversationLimits, rulebook: Rulebook, seed: u64) -> Self {
        Self {
            limits,
            slab: Slab::new(limits.open_max),
            index: HashTable::new(),
            seeded: Seeded::new(seed),
            spare_histories: Vec::new(),
            protocols: Protocols::new(rulebook),
            state_count: None,
            violation: None,
            opened: 0,
            closed: 0,
            timed_out: 0,
            unchecked: 0,
            observed: 0,
            refused: 0,
            recovered: Recovered::new(Seeded::new(seed)),
            initiators: InitiatorCache::new(seed),
        }
    }

    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// Returns the number of conversations begun.
    pub fn opened(&self) -> u64 {
        self.opened
    }

    /// Returns the number of conversations closed, and how many of them timed out.
    pub fn closed(&self) -> (u64, u64) {
        (self.closed, self.timed_out)
    }

    pub fn timeout_ms(&self) -> u64 {
        self.limits.timeout_ms
    }

    /// Sets limits. Open conversations keep their participants, and are looked at again when their former timeout is over.
    pub fn set_limits(&mut self, timeout_ms: u64, participants_max: usize) {
        (self.limits.timeout_ms, self.limits.participants_max) = (timeout_ms, participants_max);
    }

    #[inline(always)]
    fn find(&self, initiator: AgentId, id: ConversationId) -> Option<u32> {
        self.find_hashed(hash_of(self.seeded, initiator, id), initiator, id)
    }

    /// Like [`Conversations::find`], with the hash already computed.
    #[inline(always)]
    fn find_hashed(&self, hash: u64, initiator: AgentId, id: ConversationId) -> Option<u32> {
        let same = |place: &u32| self.slab.get(*place).is_some_and(|found| found.is(initiator, id));
        self.index.find(hash, same).copied()
    }

    /// Returns this agent's relation to a conversation of its own with this id.
    fn own(&self, initiator: AgentId, id: ConversationId, peer: AgentId) -> OwnConversation {
        match self.find(initiator, id).and_then(|place| self.slab.get(place)) {
            None => OwnConversation::None,
            Some(found) if found.position(peer).is_some() => OwnConversation::WithPeer,
            Some(_) => OwnConversation::WithoutPeer,
        }
    }

    /// Whether the initiator's message to a peer replies to a question that this peer asked in the conversation.
    fn answers(&self, initiator: AgentId, id: ConversationId, peer: AgentId, question: Correlation) -> bool {
        let found = self.find(initiator, id).and_then(|place| self.slab.get(place));
        found.is_some_and(|found| {
            let peer = found.position(peer);
            found.awaited.iter().any(|awaited| awaited.correlation == question && Some(awaited.asker) == peer)
        })
    }

    /// Passes a message, or returns why it is refused. Only a message of the initiator can begin a conversation.
    /// Nothing changes if the message is refused.
    #[inline(always)]
    pub fn pass(
        &mut self,
        id: ConversationId,
        passage: &Passage<'_>,
    ) -> Result<(ConversationIndex, Passed), DeadLetterReason> {
        let place = passage.message.delivery_meta().conversation_place;
        match self.slab.get_mut(place) {
            Some(conversation) if conversation.is(passage.initiator, id) => {
                conversation.pass(passage, &self.limits, self.seeded)?;
                Ok((ConversationIndex(place), Passed::Continued))
            }
            _ => self.pass_by_id(id, passage),
        }
    }

    /// Like [`Conversations::pass`], for a message without a hint to its conversation's place.
    #[inline(never)]
    fn pass_by_id(
        &mut self,
        id: ConversationId,
        passage: &Passage<'_>,
    ) -> Result<(ConversationIndex, Passed), DeadLetterReason> {
        let hash = hash_of(self.seeded, passage.initiator, id);
        let (place, passed) = match self.find_hashed(hash, passage.initiator, id) {
            Some(place) => (place, Passed::Continued),
            None if passage.begins() => (self.open(id, hash, passage)?, Passed::Began),
            None => return Err(DeadLetterReason::NotInConversation),
        };
        let Some(conversation) = self.slab.get_mut(place) else { return Err(DeadLetterReason::NotInConversation) };
        conversation.pass(passage, &self.limits, self.seeded)?;
        Ok((ConversationIndex(place), passed))
    }

    /// Begins a conversation that is not open. The hash is that of its initiator and its id.
    fn open(&mut self, id: ConversationId, hash: u64, passage: &Passage<'_>) -> Result<u32, DeadLetterReason> {
        // The initiator and, unless it talks to itself, the receiver.
        let participants = 1 + usize::from(passage.receiver != passage.initiator);
        if participants > self.limits.participants_max {
            return Err(DeadLetterReason::TooManyParticipants);
        }
        let conversation = Conversation {
            id,
            initiator: passage.initiator,
            participants: SmallVec::from_slice(&[passage.initiator]),
            history: self.spare_histories.pop().unwrap_or_default(),
            opened_ms: passage.now_ms,
            last_ms: passage.now_ms,
            messages: 0,
            awaited: SmallVec::new(),
            table: None,
            timer: None,
            guard: None,
            durable: false,
            protocols_version: self.protocols.version(),
        };
        let place = self.slab.insert(conversation).map_err(|_| DeadLetterReason::TooManyConversations)?;
        let (slab, seeded) = (&self.slab, self.seeded);
        let rehash = |place: &u32| slab.get(*place).map_or(0, |found| hash_of(seeded, found.initiator, found.id));
        self.index.insert_unique(hash, place, rehash);
        self.opened += 1;
        Ok(place)
    }

    pub fn set_timer(&mut self, index: ConversationIndex, timer: Option<TimerKey>) {
        if let Some(conversation) = self.slab.get_mut(index.0) {
            conversation.timer = timer;
        }
    }

    /// Ends a conversation. If it was open, returns its timer, which has to be cancelled if there is one.
    pub fn close(&mut self, initiator: AgentId, id: ConversationId) -> Option<(Option<TimerKey>, bool)> {
        let slab = &self.slab;
        let same = |place: &u32| slab.get(*place).is_some_and(|found| found.is(initiator, id));
        let (place, _) = self.index.find_entry(hash_of(self.seeded, initiator, id), same).ok()?.remove();
        self.release(place).map(|ended| (ended.timer, ended.durable))
    }

    /// Passes a message whose conversation was lost, or lacks the message's sender: it is opened again, or the sender
    /// joins it.
    #[cold]
    pub fn rejoin(
        &mut self,
        id: ConversationId,
        passage: &Passage<'_>,
    ) -> Result<(ConversationIndex, Passed), DeadLetterReason> {
        let (place, passed) = match self.find(passage.initiator, id) {
            Some(place) => (place, Passed::Continued),
            None => (self.open(id, hash_of(self.seeded, passage.initiator, id), passage)?, Passed::Began),
        };
        let (most, seeded) = (self.limits.participants_max, self.seeded);
        let Some(conversation) = self.slab.get_mut(place) else { return Err(DeadLetterReason::NotInConversation) };
        let mut join = |agent| match conversation.position(agent) {
            Some(position) => Ok(position),
            None => conversation.join(agent, most, seeded),
        };
        let (from, to) = (join(passage.sender)?, join(passage.receiver)?);
        conversation.note::<true>(passage, from, to, self.limits.history);
        conversation.durable = true;
        self.recovered.is_behind(place);
        Ok((ConversationIndex(place), passed))
    }

    /// Records that the journal knows the conversation.
    pub fn set_durable(&mut self, index: ConversationIndex) {
        if let Some(conversation) = self.slab.get_mut(index.0) {
            conversation.durable = true;
        }
    }

    fn remove(&mut self, place: u32) -> Option<Ended> {
        let conversation = self.slab.get(place)?;
        let hash = hash_of(self.seeded, conversation.initiator, conversation.id);
        if let Ok(entry) = self.index.find_entry(hash, |found| *found == place) {
            entry.remove();
        }
        self.release(place)
    }

    /// Frees the place of a conversation that can no longer be found, and keeps what can be reused.
    fn release(&mut self, place: u32) -> Option<Ended> {
        let (spare_histories, protocols) = (&mut self.spare_histories, &mut self.protocols);
        let ended = self.slab.release(place, |conversation| {
            let capacity = conversation.history.capacity();
            if spare_histories.len() < SPARE_HISTORIES_MAX && (1..=SPARE_HISTORY_ENTRIES_MAX).contains(&capacity) {
                let mut history = std::mem::take(&mut conversation.history);
                history.clear();
                spare_histories.push(history);
            }
            if let Some(guard) = conversation.guard.take() {
                protocols.keep(guard);
            }
            Ended {
                initiator: conversation.initiator,
                id: conversation.id,
                participants: std::mem::take(&mut conversation.participants),
                timer: conversation.timer,
                durable: conversation.durable,
            }
        })?;
        if ended.durable {
            self.recovered.forget(place);
        }
        self.closed += 1;
        Some(ended)
    }

    /// Returns what the conversation's timer should do now. Traffic does not touch timers; it only updates the time of
    /// the last message.
    pub fn time_out(&mut self, index: ConversationIndex, now_ms: u64) -> Timeout {
        let Some(conversation) = self.slab.get(index.0) else { return Timeout::Gone };
        let ends_ms = conversation.last_ms + self.limits.timeout_ms;
        if now_ms < ends_ms {
            return Timeout::NotBefore(ends_ms);
        }
        let ended = self.remove(index.0);
        self.timed_out += u64::from(ended.is_some());
        match ended {
            Some(conversation) => Timeout::Ended {
                initiator: conversation.initiator,
                id: conversation.id,
                participants: conversation.participants,
                durable: conversation.durable,
            },
            None => Timeout::Gone,
        }
    }

    /// Returns a snapshot of a conversation's state.
    pub fn view(&self, initiator: AgentId, id: ConversationId) -> Option<ConversationView> {
        let conversation = self.slab.get(self.find(initiator, id)?)?;
        Some(ConversationView {
            initiator,
            id,
            participants: conversation.participants.to_vec(),
            awaited: conversation.awaited.iter().map(|awaited| awaited.correlation).collect(),
            messages: conversation.messages,
            opened_ms: conversation.opened_ms,
            last_ms: conversation.last_ms,
            history: conversation.history.oldest_first(conversation.opened_ms),
            protocol: conversation
                .guard
                .as_ref()
                .and_then(|guard| self.protocols.view(guard, &conversation.participants)),
        })
    }
}

/// Peers may choose conversation ids.
#[inline]
fn hash_of(seeded: Seeded, initiator: AgentId, id: ConversationId) -> u64 {
    let (low, high) = id.words();
    seeded.hash_words(low, high, initiator.table_bits())
}

impl Conversation {
    #[inline]
    fn is(&self, initiator: AgentId, id: ConversationId) -> bool {
        self.id == id && self.initiator == initiator
    }

    /// Passes a message between its participants; the receiver may be new. Nothing changes if it is refused.
    #[inline(always)]
    fn pass(
        &mut self,
        passage: &Passage<'_>,
        limits: &ConversationLimits,
        seeded: Seeded,
    ) -> Result<(), DeadLetterReason> {
        let from = self.position(passage.sender).ok_or(DeadLetterReason::NotInConversation)?;
        let to = match self.position(passage.receiver) {
            Some(to) => to,
            None => self.join(passage.receiver, limits.participants_max, seeded)?,
        };
        self.note::<false>(passage, from, to, limits.history);
        Ok(())
    }

    #[inline(always)]
    #[allow(clippy::cast_possible_truncation)] // There are at most 10,000 participants.
    fn position(&self, agent: AgentId) -> Option<u16> {
        if self.participants.len() > LISTED_PARTICIPANTS_MAX
            && let Some(table) = &self.table
        {
            return table.get(&agent).copied();
        }
        self.participants.iter().position(|participant| *participant == agent).map(|position| position as u16)
    }

    #[allow(clippy::cast_possible_truncation)] // There are at most 10,000 participants.
    fn join(&mut self, agent: AgentId, participants_max: usize, seeded: Seeded) -> Result<u16, DeadLetterReason> {
        if self.participants.len() >= participants_max {
            return Err(DeadLetterReason::TooManyParticipants);
        }
        let position = self.participants.len() as u16;
        self.participants.push(agent);
        if let Some(table) = &mut self.table {
            table.insert(agent, position);
        } else if self.participants.len() > LISTED_PARTICIPANTS_MAX {
            let mut table = HashMap::with_capacity_and_hasher(self.participants.len(), seeded);
            table.extend(self.participants.iter().copied().zip(0_u16..));
            self.table = Some(Box::new(table));
        }
        Ok(position)
    }

    #[inline(always)]
    fn note<const CHECKED: bool>(&mut self, passage: &Passage<'_>, from: u16, to: u16, history_max: usize) {
        let message = passage.message;
        let answers = match message.in_reply_to() {
            Some(correlation) => self.answer(correlation, to),
            None => false,
        };
        if let Some(correlation) = message.reply_with() {
            // A message to several agents is recorded for each, but awaits one reply.
            if !self.awaited.iter().any(|awaited| awaited.correlation == correlation && awaited.asker == from) {
                if self.awaited.len() >= AWAITED_REPLIES_MAX {
                    self.awaited.remove(0);
                }
                self.awaited.push(Awaited { correlation, asker: from });
                if CHECKED
                    && from == 0
                    && let Some(guard) = &mut self.guard
                {
                    guard.note_question(correlation);
                }
            }
        }
        self.messages += 1;
        self.last_ms = passage.now_ms;
        if let Some(id) = message.id()
            && history_max > 0
        {
            let after_ms = u32::try_from(passage.now_ms - self.opened_ms).unwrap_or(u32::MAX);
            let performative = message.performative();
            self.history.push(Remembered::new(id, after_ms, performative, (from, to), answers), history_max);
        }
    }

    fn answer(&mut self, correlation: Correlation, asker: u16) -> bool {
        let position =
            self.awaited.iter().position(|awaited| awaited.correlation == correlation && awaited.asker == asker);
        match position {
            // In one-to-many exchanges, and after an agree, further replies to the same message follow.
            Some(_) if self.participants.len() > 2 => true,
            Some(position) => {
                self.awaited.remove(position);
                true
            }
            None => false,
        }
    }
}
