//! What an earlier run left in its journals: read once at the start, divided among the shards of this run, and taken in.
//!
//! Every start writes what is left into new journals, whatever the number of shards was: so there is one way to recover, and
//! an old journal is only ever read. Settled messages leave nothing but their ids, for the window in which a message that
//! comes again is told.
//!
//! Invariants: a message that was acknowledged and not settled is there after a start, once; messages between two agents keep
//! their order; a conversation that the journal knows goes on, one that it does not know is begun anew where a durable message
//! belongs to it, and counted.

use std::collections::{BTreeMap, VecDeque};

use hashbrown::HashMap;

use crate::conversation::{Passage, Passed};
use crate::dead_letter::{DeadLetter, DeadLetterId};
use crate::domain::CapabilityName;
use crate::mailbox::{Envelope, EnvelopeKind};
use crate::message::{AgentId, ConversationId, Message, MessageId, capability_term};
use crate::partition::{Partition, ShardIndex};
use crate::record::{
    AppendSequence, ConversationStep, KeptAgent, KeptMessage, Record, RecordFault, RecordKind, Records,
};
use crate::shard::{Alarm, Shard};

/// When so many bytes of records are written down, they are to be taken.
const WRITTEN_BYTES: usize = 1 << 20;

/// Where a record of an earlier run stood.
type Origin = (ShardIndex, AppendSequence);

/// What is gathered from the journals of an earlier run.
#[derive(Debug, Default)]
pub struct Recovery {
    window: usize,
    /// By the record in which each stood first.
    messages: BTreeMap<Origin, KeptMessage>,
    /// Of those that were written anew: the record in which each stood first, by the record in which it stands now.
    moved: HashMap<Origin, AppendSequence>,
    /// By the letter's own id; the record is needed to order them.
    letters: BTreeMap<DeadLetterId, DeadLetter>,
    agents: HashMap<AgentId, KeptAgent>,
    conversations: HashMap<(AgentId, ConversationId), Vec<ConversationStep>>,
    /// Ids of messages that came, with their receivers, by shard: the newest of them.
    seen: BTreeMap<ShardIndex, VecDeque<(MessageId, AgentId)>>,
}

/// What one shard of this run takes over.
#[derive(Debug, Default)]
pub struct Inheritance {
    messages: Vec<KeptMessage>,
    letters: Vec<DeadLetter>,
    agents: Vec<KeptAgent>,
    conversations: Vec<(AgentId, Vec<ConversationStep>)>,
    handled: Vec<(MessageId, AgentId)>,
}

impl Inheritance {
    /// How many messages are not settled.
    pub fn messages(&self) -> usize {
        self.messages.len()
    }

    /// How many dead letters there are.
    pub fn letters(&self) -> usize {
        self.letters.len()
    }

    /// How many agents were registered to outlive the process.
    pub fn agents(&self) -> usize {
        self.agents.len()
    }

    /// How many conversations are open.
    pub fn conversations(&self) -> usize {
        self.conversations.len()
    }

    /// Writes everything down behind other records, as a journal that begins with it. `full` is called where many bytes have
    /// gathered, to take them.
    pub fn write_down(&self, records: &mut Records, mut full: impl FnMut(&mut Records)) {
        let mut write = |record: Record| {
            record.write(records);
            if records.bytes().len() >= WRITTEN_BYTES {
                full(records);
            }
        };
        for handled in self.handled.chunks(crate::record::HANDLED_PER_RECORD_MAX) {
            write(Record::Handled(handled.to_vec()));
        }
        for agent in &self.agents {
            write(Record::Agent(agent.clone(), None));
        }
        for step in self.conversations.iter().flat_map(|(_, steps)| steps) {
            write(Record::ConversationStep(Box::new(step.clone())));
        }
        for letter in &self.letters {
            write(Record::DeadLetter(Box::new(letter.clone()), None));
        }
        for message in &self.messages {
            write(Record::Message(KeptMessage { replaces: None, first: None, ..message.clone() }));
        }
    }

    /// Whether nothing is taken over.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
            && self.letters.is_empty()
            && self.agents.is_empty()
            && self.conversations.is_empty()
            && self.handled.is_empty()
    }
}

impl Recovery {
    /// Nothing yet. Of so many messages per shard the ids are remembered, whether they were settled or not.
    pub fn new(window: usize) -> Self {
        Self { window, ..Self::default() }
    }

    /// Takes a record of the earlier run. The records of one shard come in the order of their sequences.
    ///
    /// # Errors
    /// The record is not of this version's form. Nothing has changed.
    pub fn take(
        &mut self,
        shard: ShardIndex,
        sequence: AppendSequence,
        kind: u8,
        body: &[u8],
    ) -> Result<(), RecordFault> {
        match Record::read(kind, body)? {
            Record::Message(message) => {
                let first = message.first.unwrap_or(sequence);
                if let Some(replaced) = message.replaces {
                    self.moved.remove(&(shard, replaced));
                    self.moved.insert((shard, sequence), first);
                } else if let (Some(id), Some(receiver)) = (message.message.id(), message.message.target()) {
                    self.see(shard, id, receiver);
                }
                self.messages.insert((shard, first), message);
            }
            Record::Settled(message, _) => self.settle(shard, message),
            Record::DeadLetter(letter, replaces) => {
                if let Some(replaced) = replaces {
                    self.settle(shard, replaced);
                }
                self.letters.insert(letter.id, *letter);
            }
            Record::DeadLetterGone(id, _) => {
                self.letters.remove(&id);
            }
            Record::Agent(agent, _) => {
                self.agents.insert(AgentId::of(&agent.name), agent);
            }
            Record::AgentGone(agent, _) => {
                self.agents.remove(&agent);
            }
            Record::ConversationStep(step) => {
                if let Some(id) = step.message.conversation() {
                    self.conversations.entry((step.initiator, id)).or_default().push(*step);
                }
            }
            Record::ConversationClosed(initiator, id) => {
                self.conversations.remove(&(initiator, id));
            }
            Record::Handled(handled) => {
                for (id, receiver) in handled {
                    self.see(shard, id, receiver);
                }
            }
        }
        Ok(())
    }

    /// As [`Recovery::take`], for a record that was written while others were read: what it releases is kept, because what
    /// came of that may not have been read.
    ///
    /// # Errors
    /// As for [`Recovery::take`].
    pub fn take_without_release(
        &mut self,
        shard: ShardIndex,
        sequence: AppendSequence,
        kind: u8,
        body: &[u8],
    ) -> Result<(), RecordFault> {
        match RecordKind::of(kind) {
            Some(RecordKind::Settled | RecordKind::DeadLetterGone | RecordKind::ConversationClosed) => {
                Record::read(kind, body).map(drop)
            }
            _ => self.take(shard, sequence, kind, body),
        }
    }

    fn see(&mut self, shard: ShardIndex, id: MessageId, receiver: AgentId) {
        let seen = self.seen.entry(shard).or_default();
        if self.window > 0 && seen.len() >= self.window {
            seen.pop_front();
        }
        if self.window > 0 {
            seen.push_back((id, receiver));
        }
    }

    /// The record of a message is released.
    fn settle(&mut self, shard: ShardIndex, record: AppendSequence) {
        let first = self.moved.remove(&(shard, record)).unwrap_or(record);
        self.messages.remove(&(shard, first));
    }

    /// How many messages are not settled.
    pub fn messages(&self) -> usize {
        self.messages.len()
    }

    /// The messages that are not settled, in the order of their shards and records.
    pub fn unsettled(&self) -> impl Iterator<Item = &KeptMessage> {
        self.messages.values()
    }

    /// The agents that outlive the process, in no order.
    pub fn agents(&self) -> impl Iterator<Item = &KeptAgent> {
        self.agents.values()
    }

    /// The dead letters.
    pub fn dead_letters(&self) -> impl Iterator<Item = &DeadLetter> {
        self.letters.values()
    }

    /// Divides everything among the shards of this run.
    pub fn divide(self, partition: Partition) -> Vec<Inheritance> {
        let count = usize::from(partition.shard_count());
        let mut shares: Vec<Inheritance> = (0..count).map(|_| Inheritance::default()).collect();
        for (_, message) in self.messages {
            if let Some(target) = message.message.target() {
                shares[partition.shard_of(target).as_usize()].messages.push(message);
            }
        }
        for (_, letter) in self.letters {
            shares[letter.id.shard.as_usize() % count].letters.push(letter);
        }
        for (id, agent) in self.agents {
            shares[partition.shard_of(id).as_usize()].agents.push(agent);
        }
        for ((initiator, _), steps) in self.conversations {
            shares[partition.shard_of(initiator).as_usize()].conversations.push((initiator, steps));
        }
        for (id, receiver) in self.seen.into_values().flatten() {
            shares[partition.shard_of(receiver).as_usize()].handled.push((id, receiver));
        }
        for share in &mut shares {
            // The tables have no order, and what a shard does follows from its inputs alone.
            share.agents.sort_by(|one, other| one.name.cmp(&other.name));
            share.conversations.sort_by_key(|(initiator, steps)| (steps.first().map(|step| step.at), *initiator));
        }
        shares
    }
}

impl Shard {
    /// Takes over what an earlier run left: before the first turn, and before any agent is registered. All of it is written
    /// to this run's journal; serve nobody before that is committed.
    pub fn inherit(&mut self, inheritance: Inheritance) {
        if inheritance.is_empty() {
            return;
        }
        self.durables.recovered = true;
        for handled in inheritance.handled.chunks(crate::record::HANDLED_PER_RECORD_MAX) {
            self.durables.records.handled(handled);
            for (id, receiver) in handled {
                self.remember_handled(*id, *receiver);
            }
        }
        for agent in inheritance.agents {
            self.inherit_agent(&agent);
        }
        for (initiator, steps) in inheritance.conversations {
            self.inherit_conversation(initiator, &steps);
        }
        for letter in inheritance.letters {
            let (id, dropped) = self.dead_letters.take_back(letter);
            self.forget_dropped_letters(&dropped);
            self.take_back_letter(id);
        }
        for message in inheritance.messages {
            self.inherit_message(message);
        }
        self.account.pending = self.count_pending();
    }

    fn inherit_agent(&mut self, agent: &KeptAgent) {
        let Some(index) = self.add_absent(AgentId::of(&agent.name), agent.name.as_ref()) else { return };
        if let Some(slot) = self.agents.get_mut(index) {
            slot.extras().outlives = true;
        }
        for capability in &agent.capabilities {
            let name = CapabilityName::try_new(&**capability).ok();
            if let Some(term) = name.as_ref().and_then(capability_term) {
                self.advertise(index, term);
            }
        }
        self.keep_agent(index);
    }

    fn inherit_message(&mut self, kept: KeptMessage) {
        let KeptMessage { expires, receiver_name, message, .. } = kept;
        let Some(target) = message.target() else { return };
        let lives_ms = expires.0.saturating_sub(self.now.wall.0);
        let envelope = Envelope::new(message, self.now_ms.saturating_add(lives_ms), EnvelopeKind::Message);
        if let Some(index) = self.add_absent(target, &receiver_name) {
            self.take_back_message(envelope, index, expires);
        }
    }

    /// Lets the steps of a conversation pass once more, without their messages. They were let pass before, so none is refused.
    fn inherit_conversation(&mut self, initiator: AgentId, steps: &[ConversationStep]) {
        let Some(last) = steps.last() else { return };
        let silent_ms = self.now.wall.0.saturating_sub(last.at.0);
        if silent_ms >= self.conversations.timeout_ms() {
            return;
        }
        for step in steps {
            let message = &step.message;
            let (Some(id), Some(sender), Some(receiver)) = (message.conversation(), message.sender(), message.target())
            else {
                continue;
            };
            let passage = Passage { initiator, sender, receiver, message, now_ms: self.now_ms };
            let passed = if self.conversations.hold_to_protocols() {
                self.conversations.pass_by_protocol(id, &passage, step.at)
            } else {
                self.conversations.pass(id, &passage)
            };
            let Ok((index, passed)) = passed.or_else(|_| self.conversations.rejoin(id, &passage)) else { continue };
            self.conversations.forget_violation();
            if matches!(passed, Passed::Beside | Passed::BesideInViolation) {
                continue;
            }
            self.conversations.set_durable(index);
            self.durables.records.conversation_step(initiator, &step.initiator_name, step.at, step.violates, message);
            if matches!(passed, Passed::Began | Passed::BeganInViolation) {
                let ends_ms = self.now_ms + self.conversations.timeout_ms() - silent_ms;
                let timer = self.timers.insert(ends_ms, Alarm::Conversation(index)).ok();
                self.conversations.set_timer(index, timer);
            }
        }
    }

    /// Whether a message may belong to a conversation that was lost when an earlier run ended.
    pub(crate) fn may_be_behind(&self, message: &Message) -> bool {
        self.durables.recovered && message.reliability() == crate::message::Reliability::Durable
    }
}
