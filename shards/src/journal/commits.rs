//! The durable side of a shard: what stands in its journal, what waits for commits, and who is told of them.
//!
//! Invariants: records commit in their order; whoever waits is told once, of the first delivery that went wrong if one did;
//! a record is released once.

use std::collections::{BTreeMap, VecDeque};

use foldhash::quality::FixedState;
use hashbrown::HashMap;

use super::window::{DedupKey, DedupWindow, Gateways};
use crate::base::index::{AgentKey, ShardIndex, Token};
use crate::base::slab::Slab;
use crate::dead_letter::{DeadLetter, DeadLetterId, DeadLetters};
use crate::journal::record::{Durability, HandledMessage, Lsn, Records};
use crate::mailbox::Envelope;
use crate::message::journal_ref::JournalRef;
use crate::message::{AgentId, Message, MessageId, WallTime};
use crate::outcome::{DeadLetterReason, Ending};
use crate::planted::{self, Bug};
use crate::routing::partition::Partition;

/// Maximum number of commit waiters of one shard: durable sends, and handled durable messages, that wait for commits
/// elsewhere.
pub const COMMIT_WAITERS_MAX: usize = 524_288;

/// Whether the journal accepts records now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum JournalCondition {
    /// There is none.
    #[default]
    Unavailable,
    /// It does.
    Ready,
    /// It accepts records but has enough to write: whoever can wait does.
    Busy,
    /// It has reached its size limit, or the file system is full. Records handed to it wait; it continues by itself.
    Full,
    /// It failed and accepts nothing until the router is restarted.
    Failed,
}

/// An acknowledgement for a commit waiter of another shard.
pub(crate) type Acknowledgement = (JournalRef, Ending);

/// An attempt to handle a durable message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attempt {
    /// The message's record.
    pub record: Lsn,
    /// The number of the attempt, from one.
    pub number: u8,
}

/// Publishes which attempt a shard's handler is in, in a place that outlives the process, so that a message that kills
/// the process every time is identified and the other waiting ones are not suspected. Called twice per durable message;
/// must not block.
pub trait AttemptMark: std::fmt::Debug {
    /// Sets the attempt that a handler begins or resumes, or none if no handler has a durable message.
    fn set(&mut self, attempt: Option<Attempt>);
}

const _: () =
    assert!(COMMIT_WAITERS_MAX - 1 <= JournalRef::PLACE_MASK as usize, "a commit waiter's place fits into a mark");

/// A waiter for messages to become durable.
#[derive(Debug)]
struct CommitWaiter {
    /// Deliveries and steps that are not acknowledged yet.
    left: u64,
    /// The first failure.
    ending: Ending,
    then: OnCommit,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum OnCommit {
    /// A caller is answered.
    Answer(Token, MessageId),
    /// Settle a handled message.
    Settle(Lsn),
    /// End the replay of a dead letter for this request: the letter is removed or kept.
    EndReplay {
        letter: DeadLetterId,
        request: u64,
        /// Its message went to several agents: each failed delivery becomes its own dead letter.
        in_parts: bool,
    },
}

/// Actions that wait for the commit of a record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PendingCommit {
    pub sequence: Lsn,
    /// The message to dispatch then.
    pub message: Option<Undispatched>,
    /// The number of the dead letter that the record contains.
    pub letter: Option<u64>,
    pub waiter: JournalRef,
    pub ending: Ending,
    /// Whether the waiter has sent a message again that may still be waiting itself.
    pub is_repetition: bool,
}

/// A message that waits for its commit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Undispatched {
    /// Its place in the slab.
    pub place: u32,
    /// The receiving agent.
    pub agent: AgentKey,
}

/// The durable message that is being handled.
#[derive(Clone, Copy, Debug)]
struct Handling {
    id: MessageId,
    agent: AgentId,
    sender: Option<AgentId>,
    sequence: Lsn,
    /// Number of durable messages its handler has sent so far.
    sent: u32,
    waiter: Option<JournalRef>,
}

/// The durable side of a shard.
#[derive(Debug)]
pub(crate) struct ShardJournal {
    records: Records,
    condition: JournalCondition,
    waiting: VecDeque<PendingCommit>,
    committed: Lsn,
    waiters: Slab<CommitWaiter>,
    /// Acknowledgements for other shards, by shard.
    acknowledgements: Vec<Vec<Acknowledgement>>,
    seen: DedupWindow,
    gateways: Gateways,
    /// Outlives the process, if there is one.
    attempt: Option<Box<dyn AttemptMark>>,
    handling: Option<Handling>,
    /// The records of dead letters, by the letters' numbers.
    letters: BTreeMap<u64, Lsn>,
    compaction: Option<Compaction>,
    /// For long-waiting messages, which the projection shows: the first record, by the current one.
    first: HashMap<Lsn, Lsn, FixedState>,
    /// Duplicates that were not dispatched again.
    duplicates: u64,
    /// When the journal became full, in milliseconds of monotonic time.
    full_since_ms: Option<u64>,
    /// Whether a timer sweeps what waits for the journal.
    commits_swept: bool,
    /// Whether the full state was reported.
    full_told: bool,
}

/// The records to rewrite, and the progress so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Compaction {
    pub upto: Lsn,
    pub place: u32,
    /// Everything, or only what the projection does not show yet.
    pub all: bool,
}

impl ShardJournal {
    pub fn new(durability: Durability, partition: Partition, window: usize, seed: u64) -> Self {
        let condition = match durability {
            Durability::Unavailable => JournalCondition::Unavailable,
            Durability::Journal => JournalCondition::Ready,
        };
        Self {
            records: Records::after(Lsn(0)),
            condition,
            waiting: VecDeque::new(),
            committed: Lsn(0),
            waiters: Slab::new(COMMIT_WAITERS_MAX),
            acknowledgements: vec![Vec::new(); usize::from(partition.shard_count())],
            seen: DedupWindow::new(window, seed),
            gateways: Gateways::new(partition),
            attempt: None,
            handling: None,
            letters: BTreeMap::new(),
            compaction: None,
            first: HashMap::with_hasher(FixedState::default()),
            duplicates: 0,
            full_since_ms: None,
            commits_swept: false,
            full_told: false,
        }
    }

    /// Returns the key of a message for a receiver in the deduplication window.
    #[inline]
    fn arrival(&mut self, message: &Message, receiver: AgentId) -> Option<DedupKey> {
        let id = message.id()?;
        let sender = if planted::is(Bug::ForeignIdsDeduplicated) { None } else { message.sender() };
        Some(DedupKey { id, receiver, sender: self.gateways.sender(sender) })
    }

    /// Records a message that was handled in an earlier run, so that it is not dispatched if it comes again.
    pub fn restore_handled(&mut self, handled: &HandledMessage) {
        self.seen.restore(handled);
    }

    /// Counts the delivery of a message to an inbox. One that waited since an earlier run may have been delivered then,
    /// so this counts as an attempt; a message that crashes its owner every time thus is dead-lettered.
    #[cold]
    pub fn count_hand_out(&mut self, record: Lsn, attempts: u8) {
        if self.writes() && self.first.contains_key(&record) {
            self.records.attempts(record, attempts.saturating_add(1));
        }
    }

    pub fn condition(&self) -> JournalCondition {
        self.condition
    }

    /// Records whether the journal takes records now. Returns whether that is new; one that has failed stays so.
    pub fn set_condition(&mut self, condition: JournalCondition, now_ms: u64) -> bool {
        if self.condition == JournalCondition::Failed || self.condition == condition {
            return false;
        }
        self.condition = condition;
        self.full_since_ms = (condition == JournalCondition::Full).then_some(now_ms);
        true
    }

    /// When the journal became full, in milliseconds of monotonic time.
    #[inline]
    pub fn full_since_ms(&self) -> Option<u64> {
        self.full_since_ms
    }

    /// Records whether it is known that the journal takes nothing. Returns what was known before.
    pub fn tell_full(&mut self, full: bool) -> bool {
        std::mem::replace(&mut self.full_told, full)
    }

    /// Whether a timer looks after what waits for the journal.
    pub fn is_swept(&self) -> bool {
        self.commits_swept
    }

    pub fn set_swept(&mut self, swept: bool) {
        self.commits_swept = swept;
    }

    pub fn records(&self) -> &Records {
        &self.records
    }

    pub fn records_mut(&mut self) -> &mut Records {
        &mut self.records
    }

    /// Whether records are written.
    pub fn writes(&self) -> bool {
        !matches!(self.condition, JournalCondition::Unavailable | JournalCondition::Failed)
    }

    /// Returns the places in the slab whose messages wait for their commit.
    pub fn uncommitted(&self) -> impl Iterator<Item = u32> {
        self.waiting.iter().filter_map(|waiting| waiting.message.map(|message| message.place))
    }

    /// Returns the number of commit waiters.
    pub fn waiters(&self) -> usize {
        self.waiters.len()
    }

    /// Whether another commit waiter can be created.
    pub fn has_room(&self) -> bool {
        self.waiters.len() < COMMIT_WAITERS_MAX
    }

    /// Returns a message's record.
    pub fn record_of(&self, journal: JournalRef) -> Option<Lsn> {
        journal.record(self.records.last())
    }

    // What has come before.

    /// Records a durable message for a receiver of this shard. Returns what it is known by, if it has an id, and whether it
    /// is new.
    pub fn note_arrival(&mut self, message: &Message, receiver: AgentId) -> (Option<DedupKey>, bool) {
        let arrival = self.arrival(message, receiver);
        (arrival, arrival.is_none_or(|arrival| self.seen.note(arrival)))
    }

    /// Forgets a message that was recorded just now and is not kept: its sender may try again.
    pub fn forget_arrival(&mut self, arrival: DedupKey) {
        self.seen.forget(arrival);
    }

    /// As [`Self::forget_arrival`], by the message.
    pub fn forget_message(&mut self, message: &Message, receiver: AgentId) {
        if let Some(arrival) = self.arrival(message, receiver) {
            self.seen.forget(arrival);
        }
    }

    /// Whether a durable message for a receiver of this shard has come before.
    pub fn has_come(&mut self, message: &Message, receiver: AgentId) -> bool {
        self.arrival(message, receiver).is_some_and(|arrival| self.seen.has(arrival))
    }

    pub fn count_duplicate(&mut self) {
        self.duplicates += 1;
    }

    /// Returns the number of duplicates that were not dispatched again.
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    // What waits for its commit.

    /// Writes a message down that is dispatched when it is committed. `shown` has the projection show it from now on.
    pub fn append(
        &mut self,
        message: &Message,
        (name, expires, shown): (&str, WallTime, bool),
        waiting: Undispatched,
        waiter: JournalRef,
    ) -> Lsn {
        let sequence = self.records.message(None, None, shown, expires, name, message);
        if shown {
            self.first.insert(sequence, sequence);
        }
        let message = Some(waiting);
        let (letter, ending) = (None, Ending::Kept);
        self.waiting.push_back(PendingCommit { sequence, message, letter, waiter, ending, is_repetition: false });
        sequence
    }

    /// Writes a message down that has waited since an earlier run.
    pub fn append_restored(&mut self, message: &Message, name: &str, expires: WallTime) -> Lsn {
        let sequence = self.records.message(None, None, true, expires, name, message);
        self.first.insert(sequence, sequence);
        sequence
    }

    /// Has somebody acknowledged when a record is committed. Returns false if it is committed already.
    pub fn await_commit(&mut self, sequence: Lsn, letter: Option<u64>, waiter: JournalRef, ending: Ending) -> bool {
        if sequence <= self.committed {
            return false;
        }
        let message = None;
        self.waiting.push_back(PendingCommit { sequence, message, letter, waiter, ending, is_repetition: false });
        true
    }

    /// Has the sender of a repeated message acknowledged when everything written so far is committed: the first one is
    /// part of it. Returns false if it is committed already.
    pub fn await_first(&mut self, waiter: JournalRef) -> bool {
        let is_waiting = self.await_commit(self.records.last(), None, waiter, Ending::Kept);
        if is_waiting && let Some(waiting) = self.waiting.back_mut() {
            waiting.is_repetition = true;
        }
        is_waiting
    }

    /// Has the waiters that sent a message again told that it was not kept, because the message in this record was given
    /// up. Which message each of them repeated is not known, so this is for all of them: those whose message is kept are
    /// told so when they try once more.
    pub fn give_up_repetitions(&mut self, sequence: Lsn) {
        for waiting in self.waiting.iter_mut().filter(|waiting| waiting.is_repetition && waiting.sequence >= sequence) {
            waiting.ending = Ending::DeadLettered(DeadLetterReason::NotJournalled);
        }
    }

    /// Records that everything up to this record is durable.
    pub fn commit(&mut self, sequence: Lsn) {
        self.committed = self.committed.max(sequence);
    }

    /// Returns the number of records whose commit something waits for.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Whether durable messages wait to be dispatched.
    #[inline]
    pub fn has_committed(&self) -> bool {
        let is_early = planted::is(Bug::DispatchedEarly);
        self.waiting.front().is_some_and(|waiting| waiting.sequence <= self.committed || is_early)
    }

    /// Takes what is durable and is to be dispatched or acknowledged next.
    pub fn next_committed(&mut self) -> Option<PendingCommit> {
        if self.has_committed() { self.waiting.pop_front() } else { None }
    }

    /// Takes everything that waits: the journal has failed.
    pub fn take_waiting(&mut self) -> VecDeque<PendingCommit> {
        std::mem::take(&mut self.waiting)
    }

    /// Ends what is not committed and `is_over`, and returns it. The records stay where they are in the journal's order, and
    /// nobody waits for them any more.
    pub fn end_waiting(&mut self, is_over: impl Fn(&PendingCommit) -> bool) -> Vec<PendingCommit> {
        let committed = self.committed;
        let over = |waiting: &&mut PendingCommit| waiting.sequence > committed && is_over(waiting);
        let end = |waiting: &mut PendingCommit| {
            let ended = *waiting;
            (waiting.message, waiting.letter, waiting.waiter) = (None, None, JournalRef::NOT);
            ended
        };
        self.waiting.iter_mut().filter(over).map(end).collect()
    }

    /// Forgets the messages that wait for their commits: they are given up. Whoever waits is still told.
    pub fn stop_messages(&mut self) {
        for waiting in &mut self.waiting {
            waiting.message = None;
        }
    }

    /// Writes down that a message is settled, so that its record can be used again.
    pub fn release(&mut self, sequence: Lsn) {
        let shown = !self.first.is_empty() && self.first.remove(&sequence).is_some();
        if self.writes() {
            self.records.settled(sequence, shown);
        }
    }

    // The message that is being handled.

    /// Has a mark set while a handler has a durable message.
    pub fn set_attempt_mark(&mut self, mark: Box<dyn AttemptMark>) {
        self.attempt = Some(mark);
    }

    /// A handler is given a message that stands in the journal, or goes on with it, and has sent so many durable ones.
    pub fn begin_handling(&mut self, envelope: &Envelope, sent: u32) {
        let record = self.record_of(envelope.journal());
        let (Some(sequence), Some(id), Some(agent)) = (record, envelope.message.id(), envelope.message.target()) else {
            return;
        };
        let sender = envelope.message.sender();
        self.handling = Some(Handling { id, agent, sender, sequence, sent, waiter: None });
        if let Some(attempt) = &mut self.attempt {
            attempt.set(Some(Attempt { record: sequence, number: envelope.attempts }));
        }
    }

    /// A handler is done, not finished, or failed.
    pub fn end_handling(&mut self) {
        if self.handling.take().is_some()
            && let Some(attempt) = &mut self.attempt
        {
            attempt.set(None);
        }
    }

    /// Returns the id of the next durable message of the handler that is being called, if it handles a durable one.
    pub fn derive_id(&mut self) -> Option<MessageId> {
        let Self { handling, gateways, .. } = self;
        let handling = handling.as_mut()?;
        // Another sender may have chosen the same id for a message to this agent.
        let sender = gateways.sender(handling.sender).filter(|_| !planted::is(Bug::ForeignIdsInherited));
        let cause = sender.map_or(handling.id, |sender| handling.id.derived(sender, u32::MAX));
        let id = cause.derived(handling.agent, handling.sent);
        handling.sent += 1;
        Some(id)
    }

    /// Has the message that is being handled wait until so many deliveries are durable. Returns what marks them, if a
    /// durable message is being handled.
    pub fn hold_handled(&mut self, shard: ShardIndex, deliveries: u64) -> Option<JournalRef> {
        let Handling { waiter, sequence, .. } = self.handling.as_ref()?;
        let (mut waiter, sequence) = (*waiter, *sequence);
        if let Some(waiter) = waiter {
            self.await_more(waiter, deliveries);
        } else {
            // One more for the handler itself, which is acknowledged when it finishes.
            waiter = self.open(shard, deliveries + 1, OnCommit::Settle(sequence));
            if let Some(handling) = &mut self.handling {
                handling.waiter = waiter;
            }
        }
        Some(waiter.unwrap_or(JournalRef::NOT))
    }

    /// Returns who waits for what the handler of this message has sent.
    pub fn waiter_of_handled(&self, sequence: Lsn) -> Option<JournalRef> {
        self.handling.as_ref().filter(|handling| handling.sequence == sequence).and_then(|handling| handling.waiter)
    }

    // Dead letters.

    /// Writes a dead letter down, instead of the record of its message.
    pub fn keep_letter(&mut self, letter: &DeadLetter, record: Option<Lsn>) -> Lsn {
        if let Some(record) = record {
            self.first.remove(&record);
        }
        let sequence = self.records.dead_letter(letter, record);
        self.letters.insert(letter.id.number, sequence);
        sequence
    }

    /// Writes down that a dead letter is there no longer.
    pub fn forget_letter(&mut self, id: DeadLetterId) {
        let record = self.letters.remove(&id.number);
        if self.writes() && record.is_some() {
            self.records.dead_letter_gone(id, record);
        }
    }

    /// Returns the numbers of the dead letters that stand in the journal.
    pub fn letters(&self) -> Vec<u64> {
        self.letters.keys().copied().collect()
    }

    // Those who wait until messages are durable.

    /// Waits for so many acknowledgements. Returns what marks them, unless too many wait.
    pub fn open(&mut self, shard: ShardIndex, left: u64, then: OnCommit) -> Option<JournalRef> {
        let by_caller = matches!(then, OnCommit::Answer(..));
        let place = self.waiters.insert(CommitWaiter { left, ending: Ending::Kept, then }).ok()?;
        Some(JournalRef::awaited(shard, place, by_caller))
    }

    /// Waits for further deliveries of a message that somebody waits for.
    pub fn await_more(&mut self, waiter: JournalRef, more: u64) {
        if let Some(waiter) = waiter.waiter().and_then(|waiter| self.waiters.get_mut(waiter.place())) {
            waiter.left += more;
        }
    }

    /// Records that the message of a dead letter goes to several agents.
    pub fn spread(&mut self, replay: JournalRef) {
        if let Some(CommitWaiter { then: OnCommit::EndReplay { in_parts, .. }, .. }) =
            self.waiters.get_mut(replay.place())
        {
            *in_parts = true;
        }
    }

    /// Acknowledges one delivery to somebody who waits on this shard. Returns what follows if it was the last one, and what
    /// went wrong first.
    pub fn acknowledge(&mut self, waiter: JournalRef, ending: Ending) -> Option<(OnCommit, Ending)> {
        let found = self.waiters.get_mut(waiter.place())?;
        found.left = found.left.saturating_sub(if planted::is(Bug::AcknowledgedTwice) { 2 } else { 1 });
        if found.ending == Ending::Kept {
            found.ending = ending;
        }
        if found.left > 0 {
            return None;
        }
        self.waiters.remove(waiter.place()).map(|waiter| (waiter.then, waiter.ending))
    }

    /// Has another shard told at the end of the turn that one delivery is acknowledged.
    pub fn acknowledge_to(&mut self, shard: ShardIndex, waiter: JournalRef, ending: Ending) {
        if let Some(acknowledgements) = self.acknowledgements.get_mut(shard.as_usize()) {
            acknowledgements.push((waiter, ending));
        }
    }

    /// Takes what another shard is to be told.
    pub fn take_acknowledgements(&mut self, shard: ShardIndex) -> Vec<Acknowledgement> {
        std::mem::take(&mut self.acknowledgements[shard.as_usize()])
    }

    // Old records.

    /// Has everything rewritten that is still needed and stands in a record up to this one.
    pub fn begin_compaction(&mut self, upto: Lsn) {
        let place = self.compaction.filter(|compaction| compaction.all).map_or(0, |compaction| compaction.place);
        self.compaction = Some(Compaction { upto, place, all: true });
    }

    /// Rewrites messages that have waited since a record up to this one, unless other records are being rewritten.
    pub fn show_waiting(&mut self, upto: Lsn) {
        if self.writes() && self.compaction.is_none() {
            self.compaction = Some(Compaction { upto, place: 0, all: false });
        }
    }

    pub fn compaction(&self) -> Option<Compaction> {
        self.compaction
    }

    pub fn set_compaction(&mut self, compaction: Option<Compaction>) {
        self.compaction = compaction;
    }

    /// Rewrites the dead letters that stand in records up to this one.
    pub fn rewrite_letters(&mut self, shard: ShardIndex, upto: Lsn, letters: &DeadLetters) {
        for (number, sequence) in std::mem::take(&mut self.letters) {
            let sequence = match letters.kept(DeadLetterId { shard, number }) {
                Some(letter) if sequence <= upto => self.records.dead_letter(letter, Some(sequence)),
                _ => sequence,
            };
            self.letters.insert(number, sequence);
        }
    }

    /// Returns the record of a message, if it is to be rewritten.
    pub fn old_record(&self, envelope: &Envelope, compaction: Compaction) -> Option<Lsn> {
        let record = self.record_of(envelope.journal()).filter(|record| *record <= compaction.upto)?;
        // What is not committed yet is about to be released in its commit's order, and stays.
        let stays = record > self.committed || !compaction.all && self.first.contains_key(&record);
        (!stays).then_some(record)
    }

    /// Rewrites the record of a message. Returns the new one.
    pub fn rewrite(&mut self, record: Lsn, envelope: &Envelope, name: &str, expires: WallTime) -> Lsn {
        let first = self.first.remove(&record).unwrap_or(record);
        let replaces = (!planted::is(Bug::CarriedTwice)).then_some(record);
        let place = (!planted::is(Bug::CarriedOutOfOrder)).then_some(first);
        let sequence = self.records.message(replaces, place, true, expires, name, &envelope.message);
        self.first.insert(sequence, first);
        if envelope.attempts > 0 {
            self.records.attempts(sequence, envelope.attempts);
        }
        sequence
    }
}
