//! The state an earlier run left in its journals: read once at the start, divided among the shards of this run, and
//! restored.
//!
//! Every start writes the remaining state into new journals, even if the number of shards is unchanged. So there is one
//! recovery path, and an old journal is only ever read. Settled messages leave only their ids, for the deduplication
//! window.
//!
//! Invariants: a message that was acknowledged and not settled exists exactly once after a start. Messages between two
//! agents keep their order. A conversation in the journal continues; one that is not there is reopened if a durable
//! message belongs to it, and counted.

use std::collections::{BTreeMap, VecDeque};

use hashbrown::{HashMap, HashSet};

use crate::base::index::ShardIndex;
use crate::conversation::initiators::{CachedInitiator, InitiatorKey};
use crate::conversation::{Passage, Passed, REPLY_TO_NOTED_MAX};
use crate::dead_letter::{DeadLetter, DeadLetterId};
use crate::domain::{CapabilityName, NodeId};
use crate::journal::record::{
    self, ConversationStep, DurableMessage, HANDLED_PER_RECORD_MAX, HandledMessage, Lsn, PersistentAgent, Record,
    RecordError, RecordKind, Records,
};
use crate::journal::window::Gateways;
use crate::mailbox::{Envelope, EnvelopeKind};
use crate::message::{AgentId, Aid, ConversationId, Message, WallTime, capability_term};
use crate::planted::{self, Bug};
use crate::routing::partition::Partition;
use crate::shard::{Alarm, Shard, ShardConfig};

/// Bytes of written records after which they are to be taken.
const WRITTEN_BYTES: usize = 1 << 20;

/// The position of a record of an earlier run.
type Origin = (ShardIndex, Lsn);

/// The state gathered from the journals of an earlier run.
#[derive(Debug, Default)]
pub struct Recovery {
    window: usize,
    /// The gateways of the earlier run, if its number of shards is known.
    gateways: Option<Gateways>,
    /// By each message's first record.
    messages: BTreeMap<Origin, DurableMessage>,
    /// For rewritten messages: the first record, by the current one.
    moved: HashMap<Origin, Lsn>,
    /// By the letter's own id; the record is needed for their order.
    letters: BTreeMap<DeadLetterId, DeadLetter>,
    agents: HashMap<AgentId, PersistentAgent>,
    conversations: HashMap<(AgentId, ConversationId), Vec<ConversationStep>>,
    /// The newest handled messages per shard.
    seen: BTreeMap<ShardIndex, VecDeque<HandledMessage>>,
    /// Records of messages that are withdrawn with the record that releases them.
    withdrawn: HashSet<Origin>,
    /// The withdrawn ones among the handled messages: one that comes again is new.
    refused: HashSet<HandledMessage>,
}

/// The state that one shard of this run restores.
#[derive(Debug, Default)]
pub struct RecoveredState {
    messages: Vec<DurableMessage>,
    letters: Vec<DeadLetter>,
    agents: Vec<PersistentAgent>,
    conversations: Vec<(AgentId, Vec<ConversationStep>)>,
    handled: Vec<HandledMessage>,
    /// The initiators of the conversations that agents of this shard took part in, with the time of the last message.
    initiators: Vec<(InitiatorKey, CachedInitiator, WallTime)>,
    /// Whether an earlier run left state to any shard.
    follows: bool,
}

impl RecoveredState {
    /// Returns the number of unsettled messages.
    pub fn messages(&self) -> usize {
        self.messages.len()
    }

    /// Returns the number of dead letters.
    pub fn letters(&self) -> usize {
        self.letters.len()
    }

    /// Returns the number of persistent agents.
    pub fn agents(&self) -> usize {
        self.agents.len()
    }

    /// Returns the number of open conversations.
    pub fn conversations(&self) -> usize {
        self.conversations.len()
    }

    /// Returns the number of messages of which only the ids are known, for deduplication.
    pub fn handled(&self) -> usize {
        self.handled.len()
    }

    /// Raises a shard's limits to the restored state: it was accepted, so there is room for it whatever the limits are
    /// now. The limit of dead letters becomes their number, and further ones replace the oldest.
    pub fn make_room(&self, config: &mut ShardConfig) {
        config.pending_max += self.messages.len();
        config.dead_letters_max = config.dead_letters_max.max(self.letters.len());
        let bytes = self.letters.iter().map(DeadLetter::weight).sum();
        config.dead_letter_bytes_max = config.dead_letter_bytes_max.max(bytes);
        let conversations = &mut config.conversations;
        conversations.open_max = conversations.open_max.saturating_add(self.conversations.len());
        let participants = self.conversations.iter().map(|(_, steps)| participants(steps)).max().unwrap_or_default();
        conversations.participants_max = conversations.participants_max.max(participants);
        config.duplicates_window = config.duplicates_window.max(self.handled.len());
    }

    /// Writes everything behind other records, as the beginning of a journal. `full` is called whenever many bytes have
    /// gathered, to take them.
    pub fn write_down(&self, records: &mut Records, mut full: impl FnMut(&mut Records)) {
        let mut write = |record: Record| {
            let sequence = record.write(records);
            if records.bytes().len() >= WRITTEN_BYTES {
                full(records);
            }
            sequence
        };
        for record in handled_records(&self.handled) {
            write(record);
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
            let sequence = write(Record::Message(DurableMessage { replaces: None, first: None, ..message.clone() }));
            if message.attempts > 0 {
                write(Record::Attempts(sequence, message.attempts));
            }
        }
    }

    /// Whether there is nothing to restore.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
            && self.letters.is_empty()
            && self.agents.is_empty()
            && self.conversations.is_empty()
            && self.handled.is_empty()
            && self.initiators.is_empty()
    }
}

/// Returns the initiators recorded by the participants' shards of a conversation, with the last time of each.
fn cached_initiators_of(
    initiator: AgentId,
    id: ConversationId,
    steps: &[ConversationStep],
) -> HashMap<InitiatorKey, (CachedInitiator, WallTime)> {
    let mut initiators = HashMap::new();
    for step in steps {
        let message = &step.message;
        let (Some(sender), Some(participant)) = (message.sender(), message.target()) else { continue };
        let note = CachedInitiator { initiator, asked: message.reply_with(), protocol: message.protocol_term() };
        let reply_to = message.details().map_or(&[][..], |details| &details.reply_to);
        let peers = reply_to.iter().take(REPLY_TO_NOTED_MAX).map(Aid::id).filter(|peer| *peer != participant);
        for peer in [sender].into_iter().chain(peers).filter(|_| participant != initiator) {
            initiators.insert(InitiatorKey { participant, conversation: id, peer }, (note, step.at));
        }
    }
    initiators
}

/// Returns handled messages as records. Entries read without senders are written without senders.
fn handled_records(handled: &[HandledMessage]) -> impl Iterator<Item = Record> {
    let (unsigned, signed): (Vec<_>, Vec<_>) =
        handled.iter().partition(|message| message.sender == record::Origin::Unknown);
    let unsigned: Vec<_> = unsigned
        .chunks(HANDLED_PER_RECORD_MAX)
        .map(|messages: &[HandledMessage]| {
            Record::Handled(messages.iter().map(|message| (message.id, message.receiver)).collect())
        })
        .collect();
    let signed: Vec<_> =
        signed.chunks(HANDLED_PER_RECORD_MAX).map(|messages| Record::Seen(messages.to_vec())).collect();
    unsigned.into_iter().chain(signed)
}

/// Returns the number of agents that took part in a conversation, including its initiator.
fn participants(steps: &[ConversationStep]) -> usize {
    let agents = steps.iter().flat_map(|step| [step.message.sender(), step.message.target()]);
    agents.flatten().collect::<HashSet<_>>().len()
}

impl Recovery {
    /// Returns an empty state that remembers the ids of the last `window` messages per shard, settled or not.
    pub fn new(window: usize) -> Self {
        Self { window, ..Self::default() }
    }

    /// Sets the number of shards of the earlier run, so that messages sent from outside without a sender are recognised
    /// whatever the number of shards is now.
    #[must_use]
    pub fn of_shards(self, shards: u16) -> Self {
        self.of_shards_and_node(shards, NodeId::default())
    }

    /// Like [`Recovery::of_shards`], for an earlier run of this node.
    #[must_use]
    pub fn of_shards_and_node(mut self, shards: u16, node: NodeId) -> Self {
        let shards = crate::domain::ShardCount::try_new(shards).ok();
        self.gateways = shards.map(|shards| Gateways::new(Partition::new(shards).of_node(node)));
        self
    }

    /// Reads a record of the earlier run. The records of one shard must come in the order of their sequence numbers.
    ///
    /// # Errors
    ///
    /// Returns an error if the record does not have the form of this version. Nothing has changed then.
    pub fn take(&mut self, shard: ShardIndex, sequence: Lsn, kind: u8, body: &[u8]) -> Result<(), RecordError> {
        match Record::read(kind, body)? {
            Record::Message(mut message) => {
                let first = message.first.unwrap_or(sequence);
                if let Some(replaced) = message.replaces {
                    self.moved.remove(&(shard, replaced));
                    self.moved.insert((shard, sequence), first);
                    message.attempts = self.messages.get(&(shard, first)).map_or(0, |before| before.attempts);
                } else {
                    self.see_message(shard, &message.message);
                }
                self.messages.insert((shard, first), message);
            }
            Record::Attempts(message, attempts) => self.note_attempts(shard, message, attempts),
            Record::Settled(message, _) => self.settle(shard, message),
            Record::Withdrawn(message) => {
                self.withdrawn.insert((shard, message));
            }
            Record::DeadLetter(letter, replaces) => {
                // It may also replace its own record, in a segment that is used again.
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
                    self.see(shard, HandledMessage { id, receiver, sender: record::Origin::Unknown });
                }
            }
            Record::Seen(seen) => {
                for message in seen {
                    self.see(shard, message);
                }
            }
        }
        Ok(())
    }

    /// Records the number of started attempts to handle the message in this record, if it is not settled.
    pub fn note_attempts(&mut self, shard: ShardIndex, record: Lsn, attempts: u8) {
        let first = self.moved.get(&(shard, record)).copied().unwrap_or(record);
        if let Some(message) = self.messages.get_mut(&(shard, first)) {
            message.attempts = message.attempts.max(attempts);
        }
    }

    /// Like [`Recovery::take`], for a record that was written while others were being read: what it releases is kept,
    /// because its consequences may not have been read.
    ///
    /// # Errors
    ///
    /// As for [`Recovery::take`].
    pub fn take_without_release(
        &mut self,
        shard: ShardIndex,
        sequence: Lsn,
        kind: u8,
        body: &[u8],
    ) -> Result<(), RecordError> {
        match RecordKind::of(kind) {
            Some(RecordKind::Settled | RecordKind::DeadLetterGone | RecordKind::ConversationClosed) => {
                Record::read(kind, body).map(drop)
            }
            _ => self.take(shard, sequence, kind, body),
        }
    }

    fn see_message(&mut self, shard: ShardIndex, message: &Message) {
        if let Some(handled) = self.handled(message) {
            self.see(shard, handled);
        }
    }

    /// Returns the deduplication key of a message.
    fn handled(&mut self, message: &Message) -> Option<HandledMessage> {
        let (id, receiver) = (message.id()?, message.target()?);
        let sender = match &mut self.gateways {
            Some(gateways) => gateways.sender(message.sender()),
            None => message.sender(),
        };
        let sender = sender.map_or(record::Origin::Outside, record::Origin::Agent);
        Some(HandledMessage { id, receiver, sender })
    }

    fn see(&mut self, shard: ShardIndex, message: HandledMessage) {
        if !self.refused.is_empty() {
            self.refused.remove(&message);
        }
        let seen = self.seen.entry(shard).or_default();
        if self.window > 0 && seen.len() >= self.window {
            seen.pop_front();
        }
        if self.window > 0 {
            seen.push_back(message);
        }
    }

    /// Releases the record of a message.
    fn settle(&mut self, shard: ShardIndex, record: Lsn) {
        let first = self.moved.remove(&(shard, record)).unwrap_or(record);
        let Some(settled) = self.messages.remove(&(shard, first)) else { return };
        let is_withdrawn = !self.withdrawn.is_empty() && self.withdrawn.remove(&(shard, record));
        if is_withdrawn && !planted::is(Bug::WithdrawnTakenForHandled) {
            let refused = self.handled(&settled.message);
            self.refused.extend(refused);
        }
    }

    /// Returns the number of unsettled messages.
    pub fn messages(&self) -> usize {
        self.messages.len()
    }

    /// Returns the unsettled messages, ordered by shard and record.
    pub fn unsettled(&self) -> impl Iterator<Item = &DurableMessage> {
        self.messages.values()
    }

    /// Returns the persistent agents in unspecified order.
    pub fn agents(&self) -> impl Iterator<Item = &PersistentAgent> {
        self.agents.values()
    }

    /// The dead letters.
    pub fn dead_letters(&self) -> impl Iterator<Item = &DeadLetter> {
        self.letters.values()
    }

    /// Divides everything among the shards of this run.
    pub fn divide(mut self, partition: Partition) -> Vec<RecoveredState> {
        let count = usize::from(partition.shard_count());
        let mut shares: Vec<RecoveredState> = (0..count).map(|_| RecoveredState::default()).collect();
        let (mut earlier, mut gateways) = (self.gateways.take(), Gateways::new(partition));
        // What came from outside without a sender stays recognisable as such in later runs.
        let mut move_in = |message: &mut Message, share: usize| {
            let is_outside = |earlier: &mut Gateways| earlier.sender(message.sender()).is_none();
            if message.sender().is_some()
                && earlier.as_mut().is_some_and(is_outside)
                && !planted::is(Bug::GatewayOfEarlierRun)
                && let Ok(shard) = u16::try_from(share)
            {
                message.set_sender(gateways.of(ShardIndex(shard)));
            }
        };
        for (_, mut message) in self.messages {
            if let Some(target) = message.message.target() {
                let share = partition.shard_of(target).as_usize();
                move_in(&mut message.message, share);
                shares[share].messages.push(message);
            }
        }
        for (_, mut letter) in self.letters {
            let share = letter.id.shard.as_usize() % count;
            move_in(&mut letter.message, share);
            shares[share].letters.push(letter);
        }
        for (id, agent) in self.agents {
            shares[partition.shard_of(id).as_usize()].agents.push(agent);
        }
        for ((initiator, id), steps) in self.conversations {
            for (key, (note, at)) in cached_initiators_of(initiator, id, &steps) {
                shares[partition.shard_of(key.participant).as_usize()].initiators.push((key, note, at));
            }
            shares[partition.shard_of(initiator).as_usize()].conversations.push((initiator, steps));
        }
        let refused = self.refused;
        let is_kept = |message: &HandledMessage| !refused.contains(message);
        for message in self.seen.into_values().flatten().filter(is_kept) {
            shares[partition.shard_of(message.receiver).as_usize()].handled.push(message);
        }
        let follows = shares.iter().any(|share| !share.is_empty());
        for share in &mut shares {
            share.follows = follows;
            // The tables are unordered, but a shard's behaviour must follow from its inputs alone.
            share.initiators.sort_by_key(|(key, ..)| (key.participant, key.conversation, key.peer));
            share.agents.sort_by(|one, other| one.name.cmp(&other.name));
            share.conversations.sort_by_key(|(initiator, steps)| (steps.first().map(|step| step.at), *initiator));
            if planted::is(Bug::OrderReversedAtStart) {
                share.messages.reverse();
            }
            if planted::is(Bug::HandledIdsForgotten) {
                share.handled.clear();
            }
        }
        shares
    }
}

impl Shard {
    /// Restores the state of an earlier run. Must run before the first turn and before any agent is registered. All of
    /// it is written to this run's journal; serve no requests before that is committed.
    pub fn restore(&mut self, inheritance: RecoveredState) {
        if inheritance.follows {
            // This shard's journal may have lost what another shard's journal has of a conversation.
            self.conversations.expect_lost_ones(self.clock.now_ms());
        }
        if inheritance.is_empty() {
            return;
        }
        for record in handled_records(&inheritance.handled) {
            record.write(self.journal.records_mut());
        }
        for handled in &inheritance.handled {
            self.journal.restore_handled(handled);
        }
        for agent in inheritance.agents {
            self.restore_agent(&agent);
        }
        for (initiator, steps) in inheritance.conversations {
            self.restore_conversation(initiator, &steps);
        }
        for (key, note, at) in inheritance.initiators {
            if self.clock.since(at) < self.conversations.timeout_ms() {
                self.write_note(key, note);
            }
        }
        for letter in inheritance.letters {
            let (id, dropped) = self.dead_letters.take_back(letter);
            self.forget_dropped_letters(&dropped);
            self.restore_dead_letter(id);
        }
        for message in inheritance.messages {
            self.restore_undelivered(message);
        }
        self.ledger.set_pending(self.held.pending());
    }

    fn restore_agent(&mut self, agent: &PersistentAgent) {
        let Some(index) = self.add_absent(AgentId::of(&agent.name), agent.name.as_ref()) else { return };
        if let Some(slot) = self.agents.get_mut(index) {
            slot.cold().outlives = true;
        }
        for capability in &agent.capabilities {
            let name = CapabilityName::try_new(&**capability).ok();
            if let Some(term) = name.as_ref().and_then(capability_term) {
                self.advertise(index, term);
            }
        }
        if !planted::is(Bug::PersistentAgentForgotten) {
            self.keep_agent(index);
        }
    }

    fn restore_undelivered(&mut self, kept: DurableMessage) {
        let DurableMessage { expires, receiver_name, attempts, message, .. } = kept;
        let attempts = if planted::is(Bug::AttemptsForgotten) { 0 } else { attempts };
        let Some(target) = message.target() else { return };
        let lives_ms = self.clock.until(expires);
        let mut envelope = Envelope::new(message, self.clock.now_ms().saturating_add(lives_ms), EnvelopeKind::Message);
        envelope.attempts = attempts;
        self.restore_message(envelope, target, &receiver_name, expires);
    }

    /// Replays the steps of a conversation without their messages. They were admitted before, so none is refused.
    fn restore_conversation(&mut self, initiator: AgentId, steps: &[ConversationStep]) {
        let Some(last) = steps.last() else { return };
        let silent_ms = self.clock.since(last.at);
        if silent_ms >= self.conversations.timeout_ms() {
            return;
        }
        for step in steps {
            let message = &step.message;
            let (Some(id), Some(sender), Some(receiver)) = (message.conversation(), message.sender(), message.target())
            else {
                continue;
            };
            let passage = Passage { initiator, sender, receiver, message, now_ms: self.clock.now_ms() };
            let inherited = self.conversations.restore_step(id, &passage, step.at, step.violates);
            let Ok((index, passed)) = inherited else { continue };
            if receiver == initiator {
                self.conversations.note_delegates(initiator, id, message);
            }
            self.conversations.set_durable(index);
            self.journal.records_mut().conversation_step(
                initiator,
                &step.initiator_name,
                step.at,
                step.violates,
                message,
            );
            if passed == Passed::Began {
                let ends_ms = self.clock.now_ms() + self.conversations.timeout_ms() - silent_ms;
                let timer = self.timers.insert(ends_ms, Alarm::Conversation(index)).ok();
                self.conversations.set_timer(index, timer);
            }
        }
    }

    /// Whether a message may belong to a conversation that was lost when an earlier run ended, or that this run knows
    /// less about than its sender. Such a conversation ends after the idle timeout like any other, so this holds no
    /// longer than that.
    #[cold]
    pub(in crate::shard) fn may_be_behind(&self, message: &Message) -> bool {
        message.reliability() == crate::message::Reliability::Durable
            && self.conversations.may_be_behind(self.clock.now_ms())
    }
}
