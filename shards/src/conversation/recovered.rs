//! Conversations begun by an earlier run of the router.
//!
//! Their steps and their messages are in the journals of several shards, each of which may have lost what the others
//! have: a message may arrive whose conversation is missing or behind, and a message may arrive again whose step was
//! taken. Both are legal, so neither counts as a violation. Violations that the crash cannot explain are observed, and
//! no durable message is refused.
//!
//! Invariants: only conversations of earlier runs, and those reopened because they were lost, are kept here, as long as
//! they are open; all of them are durable.

use foldhash::quality::FixedState;
use hashbrown::{HashMap, HashSet};

use super::{ConversationIndex, Conversations, Passage, Passed, hash_of};
use crate::base::hashing::Seeded;
use crate::message::{AgentId, ConversationId, MessageId, Performative, Reliability, WallTime};
use crate::outcome::DeadLetterReason;
use crate::protocol::Verdict;

/// What is known of them, by their places.
#[derive(Debug)]
pub(super) struct Recovered {
    open: HashMap<u32, Box<Past>, FixedState>,
    seeded: Seeded,
    /// Until this monotonic time, a message may belong to a conversation that was lost.
    until_ms: u64,
}

/// What an earlier run recorded of a conversation.
#[derive(Debug)]
struct Past {
    /// The messages that passed, each with its receiver.
    messages: HashSet<(MessageId, AgentId), Seeded>,
    /// The acts sent, with sender and receiver.
    acts: HashSet<(AgentId, AgentId, Performative), Seeded>,
    /// Whether steps were lost, so that the state is a guess.
    behind: bool,
}

impl Recovered {
    pub fn new(seeded: Seeded) -> Self {
        Self { open: HashMap::with_hasher(FixedState::default()), seeded, until_ms: 0 }
    }

    fn past(&mut self, place: u32) -> &mut Past {
        let new = || Past {
            messages: HashSet::with_hasher(self.seeded),
            acts: HashSet::with_hasher(self.seeded),
            behind: false,
        };
        self.open.entry(place).or_insert_with(|| Box::new(new()))
    }

    pub fn has(&self, place: u32) -> bool {
        self.open.contains_key(&place)
    }

    /// Records that steps of a conversation were lost.
    pub fn is_behind(&mut self, place: u32) {
        self.past(place).behind = true;
    }

    pub fn forget(&mut self, place: u32) {
        if !self.open.is_empty() {
            self.open.remove(&place);
        }
    }
}

impl Conversations {
    /// Records that an earlier run ended just before this time: messages may arrive whose conversations were lost.
    pub fn expect_lost_ones(&mut self, now_ms: u64) {
        self.recovered.until_ms = now_ms.saturating_add(self.limits.timeout_ms).max(1);
    }

    /// Whether messages may arrive whose conversations were lost: for as long as a conversation lives without traffic.
    pub fn may_be_behind(&self, now_ms: u64) -> bool {
        now_ms < self.recovered.until_ms
    }

    /// Returns the open conversation of a message whose step an earlier run had taken: it was sent again.
    #[cold]
    pub fn repeats(&self, id: ConversationId, passage: &Passage<'_>) -> Option<ConversationIndex> {
        if self.recovered.open.is_empty() {
            return None;
        }
        let place = self.find(passage.initiator, id)?;
        let past = self.recovered.open.get(&place)?;
        let message = (passage.message.id()?, passage.receiver);
        past.messages.contains(&message).then_some(ConversationIndex(place))
    }

    /// Repeats a step that an earlier run had let pass, whatever is known of those before it.
    ///
    /// # Errors
    ///
    /// The shard may allow fewer conversations, or the conversation fewer participants, than before.
    #[cold]
    pub fn restore_step(
        &mut self,
        id: ConversationId,
        passage: &Passage<'_>,
        at: WallTime,
        violates: bool,
    ) -> Result<(ConversationIndex, Passed), DeadLetterReason> {
        let (place, passed) = match self.find(passage.initiator, id) {
            Some(place) => (place, Passed::Continued),
            None => (self.open(id, hash_of(self.seeded, passage.initiator, id), passage)?, Passed::Began),
        };
        let past = self.recovered.past(place);
        let is_repeated = passage.message.id().is_some_and(|id| !past.messages.insert((id, passage.receiver)));
        past.acts.insert((passage.sender, passage.receiver, passage.message.performative()));
        let Some(conversation) = self.slab.get_mut(place) else { return Err(DeadLetterReason::NotInConversation) };
        conversation.durable = true;
        let (most, seeded) = (self.limits.participants_max, self.seeded);
        let mut join = |agent| match conversation.position(agent) {
            Some(position) => Ok(position),
            None => conversation.join(agent, most, seeded),
        };
        let (from, to) = (join(passage.sender)?, join(passage.receiver)?);
        let is_checked = conversation.guard.is_some() || passage.message.protocol_term().is_some();
        if self.hold_to_protocols() && is_checked && !is_repeated {
            self.restore_protocol_step(place, (from, to), passage, at, violates);
        }
        if let Some(conversation) = self.slab.get_mut(place) {
            conversation.note::<true>(passage, from, to, self.limits.history);
        }
        Ok((ConversationIndex(place), passed))
    }

    fn restore_protocol_step(
        &mut self,
        place: u32,
        (from, to): (u16, u16),
        passage: &Passage<'_>,
        at: WallTime,
        violates: bool,
    ) {
        let Some(conversation) = self.slab.get_mut(place) else { return };
        // The run in which it passed has counted it.
        let verdict = self.protocols.step_uncounted(conversation, from, Some(to), passage, at);
        let Some(guard) = &mut conversation.guard else { return };
        if verdict == Verdict::Forbidden && !violates {
            // The records of earlier steps are gone.
            self.recovered.is_behind(place);
            self.protocols.catch_up(guard, from.into(), to.into(), passage.message);
        }
        if !guard.has_begun() {
            // A message that names a protocol without beginning it leaves the conversation unchecked.
            if let Some(guard) = conversation.guard.take() {
                self.protocols.keep(guard);
            }
        }
    }

    /// Whether a message that its protocol forbids here may result from a crash: earlier steps were lost, or it was
    /// sent before and is repeated.
    #[cold]
    pub(super) fn excuse(
        &mut self,
        place: u32,
        (from, to): (u16, Option<u16>),
        passage: &Passage<'_>,
        passed: Passed,
    ) -> bool {
        let was_lost = matches!(passed, Passed::Began | Passed::BeganInViolation) && self.may_be_behind(passage.now_ms);
        let past = self.recovered.open.get(&place);
        if passage.message.reliability() != Reliability::Durable || !was_lost && past.is_none() {
            return false;
        }
        let act = (passage.sender, passage.receiver, passage.message.performative());
        let is_expected = past.is_some_and(|past| past.behind || past.acts.contains(&act));
        let Some(conversation) = self.slab.get_mut(place) else { return false };
        let Some(guard) = &mut conversation.guard else { return false };
        let to = to.map_or(conversation.participants.len(), usize::from);
        if self.protocols.catch_up(guard, from.into(), to, passage.message) {
            conversation.durable = true;
            self.recovered.is_behind(place);
            return true;
        }
        if is_expected && !guard.has_begun() {
            // A message that names a protocol without beginning it leaves the conversation unchecked.
            if let Some(guard) = conversation.guard.take() {
                self.protocols.keep(guard);
            }
        }
        is_expected
    }
}
