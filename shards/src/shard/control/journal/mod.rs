//! Durable messages: written to the journal before they are acknowledged or dispatched, and released from it when they
//! are settled.
//!
//! A durable message is journalled on its receiver's shard. Until then whoever waits for that holds a *commit waiter* on the shard
//! where it was accepted; the receiver's shard acknowledges it after the commit. Two parties wait: the caller of `send`, and
//! a durable message whose handler sent this one. So a chain of durable messages has no hole, whichever instant the machine
//! stops at: a message is settled only after what its handler sent is durable where it went.
//!
//! Invariants: every delivery of a message with a commit waiter is acknowledged once, as kept, as a dead letter or as expired; a
//! message that stands in the journal is released there once, when it is settled, or stays for the next start; a message
//! that comes again under the same id from the same sender for the same receiver inside the window is not dispatched again.

mod patience;
mod upkeep;
mod waiters;
mod window;

use std::collections::{BTreeMap, VecDeque};

use foldhash::quality::FixedState;
use hashbrown::HashMap;

pub use self::patience::FULL_PATIENCE_MS;
pub(crate) use self::window::Gateways;
use self::window::{DedupKey, DedupWindow};
use crate::base::index::{AgentKey, ShardIndex};
use crate::base::slab::Slab;
use crate::dead_letter::{DeadLetter, DeadLetterId, DeadLetterReason};
use crate::journal::record::{Durability, HandledMessage, Lsn, Records};
use crate::mailbox::{Envelope, Reservation};
use crate::message::journal_ref::JournalRef;
use crate::message::{AgentId, Message, MessageId};
pub use crate::outcome::Ending;
use crate::planted::{self, Bug};
use crate::routing::partition::Partition;
use crate::shard::agent::registry::{AgentFlags, AgentIndex, Behaviour};
use crate::shard::io::Token;
use crate::shard::shard_frame::Control;
use crate::shard::{Shard, ShardPhase};
use crate::stats::unfinished::Place;

/// The most commit waiters of one shard: durable sends, and handled durable messages, that wait for commits elsewhere.
pub const COMMIT_WAITERS_MAX: usize = 524_288;
/// So many committed messages are dispatched in one turn, or this part of all that wait if that is more.
const DISPATCHED_PER_TURN: usize = 2;
const DISPATCHED_PART: usize = 8;
/// The most places of the slab that one turn looks at to rewrite old records.
const COMPACTED_PER_TURN_MAX: u32 = 1_024;
/// While so many bytes of records wait to be taken by the driver, dead letters of volatile messages are not journalled.
const LETTERS_WAIT_BYTES_MAX: usize = 8 << 20;

/// Whether the journal takes records now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum JournalCondition {
    /// There is none.
    #[default]
    Unavailable,
    /// It does.
    Ready,
    /// It does, and has as much to write as it should: whoever can wait does.
    Busy,
    /// It is as large as it may be, or the file system is full. What was handed to it waits; it goes on by itself.
    Full,
    /// It failed, and takes nothing more until the router is started again.
    Failed,
}

/// What a shard tells another about the commit waiters of that one.
pub(crate) type Acknowledgement = (JournalRef, Ending);

/// An attempt to handle a durable message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attempt {
    /// The record that the message stands in.
    pub record: Lsn,
    /// Which attempt it is, from one.
    pub number: u8,
}

/// Says which attempt a shard's handler is in, in a place that outlives the process: so a message that ends the process each
/// time is known, and the others that wait are not suspected. It is set twice for each durable message, and must not block.
pub trait AttemptMark: std::fmt::Debug {
    /// A handler begins, or goes on with, this attempt; or no handler has a durable message.
    fn set(&mut self, attempt: Option<Attempt>);
}

const _: () =
    assert!(COMMIT_WAITERS_MAX - 1 <= JournalRef::PLACE_MASK as usize, "a commit waiter's place fits into a mark");

/// Somebody who waits until messages are durable.
#[derive(Debug)]
struct CommitWaiter {
    /// Deliveries and steps that were not acknowledged yet.
    left: u64,
    /// The first one that went wrong.
    ending: Ending,
    then: OnCommit,
}

#[derive(Clone, Copy, Debug)]
enum OnCommit {
    /// A caller is answered.
    Answer(Token, MessageId),
    /// A handled message is settled.
    Settle(Lsn),
    /// A dead letter whose message was sent again is gone, or stays, for this request.
    EndReplay {
        letter: DeadLetterId,
        request: u64,
        /// Its message went to several agents: what does not come to one of them is a dead letter of its own.
        in_parts: bool,
    },
}

/// What waits for the commit of a record.
#[derive(Clone, Copy, Debug)]
struct PendingCommit {
    sequence: Lsn,
    /// The message that is dispatched then.
    message: Option<Undispatched>,
    /// The dead letter that it is the record of, by its number.
    letter: Option<u64>,
    waiter: JournalRef,
    ending: Ending,
}

/// A message that waits for its commit.
#[derive(Clone, Copy, Debug)]
struct Undispatched {
    /// Its place in the slab.
    place: u32,
    /// The agent that it was taken in for.
    agent: AgentKey,
}

/// The durable message that is being handled.
#[derive(Clone, Copy, Debug)]
struct Handling {
    id: MessageId,
    agent: AgentId,
    sender: Option<AgentId>,
    sequence: Lsn,
    /// How many durable messages its handler sent so far.
    sent: u32,
    waiter: Option<JournalRef>,
}

/// The durable side of a shard.
#[derive(Debug)]
pub(crate) struct ShardJournal {
    pub records: Records,
    pub condition: JournalCondition,
    waiting: VecDeque<PendingCommit>,
    committed: Lsn,
    waiters: Slab<CommitWaiter>,
    /// For other shards, by shard.
    acknowledgements: Vec<Vec<Acknowledgement>>,
    seen: DedupWindow,
    gateways: Gateways,
    /// Outlives the process, where there is one.
    attempt: Option<Box<dyn AttemptMark>>,
    handling: Option<Handling>,
    /// The records of dead letters, by the letters' numbers.
    letters: BTreeMap<u64, Lsn>,
    compaction: Option<Compaction>,
    /// Of messages that wait for long, which the projection shows: the record in which each stood first, by the record in which
    /// it stands now.
    first: HashMap<Lsn, Lsn, FixedState>,
    /// Duplicates that were not dispatched again.
    pub duplicates: u64,
    /// Since when the journal has been full, in milliseconds of monotonic time.
    full_since_ms: Option<u64>,
    /// Whether a timer looks after what waits for it.
    commits_swept: bool,
    /// Whether it was told that it takes nothing.
    full_told: bool,
}

/// Which records are to be rewritten, and how far that has come.
#[derive(Clone, Copy, Debug)]
struct Compaction {
    upto: Lsn,
    place: u32,
    /// Everything, or only what the projection does not show yet.
    all: bool,
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

    /// What a message for a receiver is known by in the deduplication window.
    #[inline]
    fn arrival(&mut self, message: &Message, receiver: AgentId) -> Option<DedupKey> {
        let id = message.id()?;
        let sender = if planted::is(Bug::ForeignIdsDeduplicated) { None } else { message.sender() };
        Some(DedupKey { id, receiver, sender: self.gateways.sender(sender) })
    }

    /// Takes note of a message that came in an earlier run: should it come again, it is not dispatched again.
    pub fn restore_handled(&mut self, handled: &HandledMessage) {
        self.seen.restore(handled);
    }

    /// An inbox is given a message. One that has waited since an earlier run may have been given to it then, so this counts as an
    /// attempt, so that a message that crashes its owner every time becomes a dead letter.
    #[cold]
    pub fn count_hand_out(&mut self, record: Lsn, attempts: u8) {
        if self.writes() && self.first.contains_key(&record) {
            self.records.attempts(record, attempts.saturating_add(1));
        }
    }

    /// Whether records are written down.
    pub fn writes(&self) -> bool {
        !matches!(self.condition, JournalCondition::Unavailable | JournalCondition::Failed)
    }

    /// Places in the slab whose messages wait for their commit.
    pub fn uncommitted(&self) -> impl Iterator<Item = u32> {
        self.waiting.iter().filter_map(|waiting| waiting.message.map(|message| message.place))
    }

    /// How many commit waiters wait.
    pub fn waiters(&self) -> usize {
        self.waiters.len()
    }

    /// Whether another commit waiter can be given out.
    pub fn has_room(&self) -> bool {
        self.waiters.len() < COMMIT_WAITERS_MAX
    }

    /// The record that a message stands in.
    pub fn record_of(&self, journal: JournalRef) -> Option<Lsn> {
        journal.record(self.records.last())
    }

    fn open(&mut self, shard: ShardIndex, left: u64, then: OnCommit) -> Option<JournalRef> {
        let by_caller = matches!(then, OnCommit::Answer(..));
        let place = self.waiters.insert(CommitWaiter { left, ending: Ending::Kept, then }).ok()?;
        Some(JournalRef::awaited(shard, place, by_caller))
    }

    fn find(&mut self, waiter: JournalRef) -> Option<&mut CommitWaiter> {
        self.waiters.get_mut(waiter.place())
    }
}

/// The way of a durable message into the journal.
impl Shard {
    /// Hands the message to the journal; it goes into its mailbox once it is durable.
    #[cold]
    pub(in crate::shard) fn keep(&mut self, mut envelope: Envelope, index: AgentIndex) {
        let Some(slot) = self.agents.get(index) else { return };
        let (id, key) = (slot.id, slot.key(index));
        let reservation = Reservation::in_mailbox(key, &envelope);
        if !self.journal.writes() || self.is_journal_given_up() {
            return self.dead_letter(envelope, DeadLetterReason::NotJournalled, reservation);
        }
        let waiter = envelope.journal();
        envelope.mark(JournalRef::NOT);
        let arrival = self.journal.arrival(&envelope.message, id);
        let is_new = arrival.is_none_or(|arrival| self.journal.seen.note(arrival));
        if !is_new && !planted::is(Bug::DuplicateDispatched) {
            self.ledger.process(1);
            self.journal.duplicates += 1;
            self.release(reservation);
            // The first one may not be durable yet, but what is durable up to here includes it.
            return self.acknowledge_when(self.journal.records.last(), None, waiter, Ending::Kept);
        }
        let expires = self.clock.wall_at(envelope.deadline_ms);
        if planted::is(Bug::AcknowledgedEarly) {
            self.acknowledge(waiter, Ending::Kept);
        }
        let waiter = if planted::is(Bug::AcknowledgedEarly) { JournalRef::NOT } else { waiter };
        match self.held.insert(envelope) {
            Ok(place) => {
                let Some(envelope) = self.held.get_mut(place) else { return };
                let Some(slot) = self.agents.get(index) else { return };
                let scheduled = envelope.message.details().and_then(|details| details.deliver_at);
                let shown = scheduled.is_some_and(|moment| moment > self.clock.wall());
                let journal = &mut self.journal;
                let sequence = journal.records.message(None, None, shown, expires, &slot.name, &envelope.message);
                if shown {
                    journal.first.insert(sequence, sequence);
                }
                envelope.mark(JournalRef::in_record(sequence));
                let message = Some(Undispatched { place, agent: key });
                self.journal.waiting.push_back(PendingCommit {
                    sequence,
                    message,
                    letter: None,
                    waiter,
                    ending: Ending::Kept,
                });
            }
            Err(mut envelope) => {
                // Should its sender try again, it is not to be taken for one that has come.
                if let Some(arrival) = arrival {
                    self.journal.seen.forget(arrival);
                }
                envelope.mark(waiter);
                self.dead_letter(envelope, DeadLetterReason::ShardFull, reservation);
            }
        }
    }

    /// Whether a durable message for an agent of this shard has come before, and comes again.
    #[cold]
    pub(in crate::shard) fn has_come(&mut self, message: &Message, receiver: AgentId) -> bool {
        self.is_here(self.config.partition.shard_of(receiver))
            && self.journal.arrival(message, receiver).is_some_and(|arrival| self.journal.seen.has(arrival))
    }

    /// Acknowledges a commit waiter as soon as this record is durable.
    fn acknowledge_when(&mut self, sequence: Lsn, letter: Option<u64>, waiter: JournalRef, ending: Ending) {
        if waiter.waiter().is_none() {
            return;
        }
        if sequence <= self.journal.committed {
            return self.acknowledge(waiter, ending);
        }
        self.journal.waiting.push_back(PendingCommit { sequence, message: None, letter, waiter, ending });
    }

    /// Everything up to this record is durable now.
    pub(in crate::shard) fn committed(&mut self, sequence: Lsn) {
        self.journal.committed = self.journal.committed.max(sequence);
    }

    /// Dispatches what is durable now: a few messages per turn, so that others do not wait for all of them, and a part of many, so
    /// that they do not take many turns. Says how many there were.
    #[inline]
    pub(in crate::shard) fn dispatch_committed(&mut self) -> usize {
        if !self.has_committed() {
            return 0;
        }
        self.dispatch_at_most(DISPATCHED_PER_TURN.max(self.journal.waiting.len() / DISPATCHED_PART))
    }

    /// Whether something is durable and not dispatched yet.
    pub(in crate::shard) fn has_committed(&self) -> bool {
        let is_early = planted::is(Bug::DispatchedEarly);
        self.journal.waiting.front().is_some_and(|waiting| waiting.sequence <= self.journal.committed || is_early)
    }

    /// Dispatches at most so much of what is durable now, and acknowledges it.
    fn dispatch_at_most(&mut self, most: usize) -> usize {
        let mut dispatched = 0;
        while dispatched < most
            && self.has_committed()
            && let Some(waiting) = self.journal.waiting.pop_front()
        {
            dispatched += 1;
            self.acknowledge(waiting.waiter, waiting.ending);
            let Some(Undispatched { place, agent }) = waiting.message else { continue };
            let Some(envelope) = self.held.remove(place) else { continue };
            if !self.agents.is_still_there(agent) {
                let reason = self.agents.reason_of_absence(envelope.message.target());
                self.dead_letter(envelope, reason, Reservation::Nothing);
                continue;
            }
            self.say_delivered(&envelope.message, Reservation::Nothing);
            self.put_into_mailbox_in_time(envelope, agent.index);
        }
        if dispatched > 0 && self.phase == ShardPhase::Draining {
            self.leave_mail_of_absent();
        }
        dispatched
    }

    /// The journal says whether it takes records.
    pub(in crate::shard) fn on_journal_condition(&mut self, condition: JournalCondition) {
        if self.journal.condition == JournalCondition::Failed || self.journal.condition == condition {
            return;
        }
        self.journal.condition = condition;
        self.report_journal();
        self.journal.full_since_ms = (condition == JournalCondition::Full).then_some(self.clock.now_ms());
        self.watch_commits();
        if condition == JournalCondition::Failed {
            // What is committed is dispatched all the same. What is not will not be: those messages are given up, and whoever waits
            // hears of it.
            self.dispatch_at_most(usize::MAX);
            for waiting in std::mem::take(&mut self.journal.waiting) {
                let envelope = waiting.message.and_then(|message| self.held.remove(message.place));
                let (Some(Undispatched { agent, .. }), Some(mut envelope)) = (waiting.message, envelope) else {
                    self.end_uncommitted(waiting);
                    continue;
                };
                envelope.mark(waiting.waiter);
                let reservation = if self.agents.is_still_there(agent) {
                    Reservation::in_mailbox(agent, &envelope)
                } else {
                    Reservation::Nothing
                };
                self.dead_letter(envelope, DeadLetterReason::NotJournalled, reservation);
            }
        }
    }
}

/// What comes of a durable message.
impl Shard {
    /// A handler is given a message that stands in the journal, or goes on with it.
    #[cold]
    pub(in crate::shard) fn begin_durable(&mut self, envelope: &Envelope) {
        let record = self.journal.record_of(envelope.journal());
        let (Some(sequence), Some(id), Some(agent)) = (record, envelope.message.id(), envelope.message.target()) else {
            return;
        };
        let sent = self.effects.iter().filter(|effect| effect.is_durable()).count();
        let sent = u32::try_from(sent).unwrap_or(u32::MAX);
        let sender = envelope.message.sender();
        self.journal.handling = Some(Handling { id, agent, sender, sequence, sent, waiter: None });
        if let Some(attempt) = &mut self.journal.attempt {
            attempt.set(Some(Attempt { record: sequence, number: envelope.attempts }));
        }
    }

    /// Has a mark set while a handler has a durable message, which whoever starts next can read however the process ended: what
    /// is found there is for [`Recovery::note_attempts`](crate::shard::control::restore::Recovery::note_attempts).
    pub fn set_attempt_mark(&mut self, mark: Box<dyn AttemptMark>) {
        self.journal.attempt = Some(mark);
    }

    /// The id of the next durable message of the handler that is being called, if it handles a durable one.
    pub(in crate::shard) fn derive_id(&mut self) -> Option<MessageId> {
        let ShardJournal { handling, gateways, .. } = &mut self.journal;
        let handling = handling.as_mut()?;
        // Another sender may have chosen the same id for what it sent to this agent.
        let sender = gateways.sender(handling.sender).filter(|_| !planted::is(Bug::ForeignIdsInherited));
        let cause = sender.map_or(handling.id, |sender| handling.id.derived(sender, u32::MAX));
        let id = cause.derived(handling.agent, handling.sent);
        handling.sent += 1;
        Some(id)
    }

    /// Has the message that is being handled wait until this one, which its handler sent, is durable.
    #[cold]
    pub(in crate::shard) fn hold_for(&mut self, envelope: &mut Envelope) {
        if planted::is(Bug::SettledEarly) {
            return;
        }
        let Some(Handling { waiter, sequence, .. }) = &self.journal.handling else { return };
        let (mut waiter, sequence) = (*waiter, *sequence);
        let deliveries = envelope.deliveries_left();
        if let Some(waiter) = waiter {
            self.await_more(waiter, deliveries);
        } else {
            // One more, for the handler itself: it is acknowledged when the handler is done.
            waiter = self.journal.open(self.index, deliveries + 1, OnCommit::Settle(sequence));
            if let Some(handling) = &mut self.journal.handling {
                handling.waiter = waiter;
            }
        }
        envelope.mark(waiter.unwrap_or(JournalRef::NOT));
    }

    /// A message that stands in the journal was handled.
    #[cold]
    pub(in crate::shard) fn settle_durable(&mut self, journal: JournalRef) {
        let Some(sequence) = self.journal.record_of(journal) else { return };
        // It is not taken as a whole, because parts of it were written just now.
        let handling = self.journal.handling.as_ref().filter(|handling| handling.sequence == sequence);
        let waiter = handling.and_then(|handling| handling.waiter);
        self.end_durable();
        match waiter {
            Some(waiter) => self.acknowledge(waiter, Ending::Kept),
            None => self.release_record(sequence),
        }
    }

    /// A handler is not finished, or failed.
    #[cold]
    pub(in crate::shard) fn end_durable(&mut self) {
        if self.journal.handling.take().is_some()
            && let Some(attempt) = &mut self.journal.attempt
        {
            attempt.set(None);
        }
    }

    pub(in crate::shard) fn release_record(&mut self, sequence: Lsn) {
        let journal = &mut self.journal;
        let shown = !journal.first.is_empty() && journal.first.remove(&sequence).is_some();
        if journal.writes() {
            journal.records.settled(sequence, shown);
        }
    }

    /// A message ended without being handled, and no dead letter is kept of it.
    #[cold]
    pub(in crate::shard) fn end_without_letter(&mut self, journal: JournalRef, ending: Ending) {
        match self.journal.record_of(journal) {
            Some(sequence) => self.release_record(sequence),
            None => self.acknowledge(journal, ending),
        }
    }

    /// A message became a dead letter: that stands in the journal from now on instead of the message.
    #[cold]
    pub(in crate::shard) fn keep_letter(&mut self, id: DeadLetterId, journal: JournalRef, ending: Ending) {
        let Some(letter) = self.dead_letters.get(id) else { return self.end_without_letter(journal, ending) };
        if !self.journal.writes() || self.is_journal_given_up() && !self.needs_letter_here(journal) {
            let letter = Box::new(letter.clone());
            return self.have_letter_kept(letter, journal, ending);
        }
        if journal.is_not() && self.journal.records.bytes().len() > LETTERS_WAIT_BYTES_MAX {
            return;
        }
        let record = self.journal.record_of(journal);
        if planted::is(Bug::DeadLetterNotKept) {
            return self.end_without_letter(journal, ending);
        }
        if let Some(record) = record {
            self.journal.first.remove(&record);
        }
        let sequence = self.journal.records.dead_letter(letter, record);
        self.journal.letters.insert(id.number, sequence);
        self.acknowledge_when(sequence, Some(id.number), journal, ending);
        if planted::is(Bug::ReplayedLettersForgotten) {
            let all = self.journal.letters.keys().copied().collect::<Vec<_>>();
            let is_replayed = |number: &u64| self.dead_letters.get(DeadLetterId { number: *number, ..id }).is_none();
            let replayed: Vec<u64> = all.into_iter().filter(is_replayed).collect();
            self.forget_dropped_letters(&replayed);
        }
    }

    /// Writes down that these letters were dropped to make room for newer ones. Only the store knows which they are: a letter
    /// that is being replayed is not in it, and stays in the journal until its message is durable anew.
    #[cold]
    pub(in crate::shard) fn forget_dropped_letters(&mut self, dropped: &[u64]) {
        for number in dropped {
            self.forget_letter(DeadLetterId { shard: self.index, number: *number });
        }
    }

    /// Nothing can be written here, so whoever waits writes the letter down, before what it came of is settled.
    fn have_letter_kept(&mut self, letter: Box<DeadLetter>, journal: JournalRef, ending: Ending) {
        match journal.waiter().filter(|waiter| !self.is_here(waiter.shard())) {
            Some(waiter) => {
                self.links.post(waiter.shard(), Control::KeepLetter(letter, waiter));
            }
            None => self.end_without_letter(journal, ending),
        }
    }

    /// A record that is no message's will not be committed.
    fn end_uncommitted(&mut self, waiting: PendingCommit) {
        let id = waiting.letter.map(|number| DeadLetterId { shard: self.index, number });
        match id.and_then(|id| self.dead_letters.find(id)).cloned() {
            Some(letter) => self.have_letter_kept(Box::new(letter), waiting.waiter, waiting.ending),
            None => self.acknowledge(waiting.waiter, Ending::DeadLettered(DeadLetterReason::NotJournalled)),
        }
    }

    /// Another shard, whose journal has failed, gave up a message for which somebody waits here.
    #[cold]
    pub(in crate::shard) fn keep_letter_of_other(&mut self, letter: &DeadLetter, waiter: JournalRef) {
        let ending = match letter.reason {
            DeadLetterReason::Expired => Ending::Expired,
            reason => Ending::DeadLettered(reason),
        };
        if self.journal.writes() {
            let sequence = self.journal.records.dead_letter(letter, None);
            self.acknowledge_when(sequence, None, waiter, ending);
        } else {
            self.acknowledge(waiter, ending);
        }
    }

    /// A dead letter is there no longer.
    #[cold]
    pub(in crate::shard) fn forget_letter(&mut self, id: DeadLetterId) {
        let record = self.journal.letters.remove(&id.number);
        if self.journal.writes() && record.is_some() {
            self.journal.records.dead_letter_gone(id, record);
        }
    }

    /// Gives the messages to the next start that stand in the journal: they are neither handled nor given up here.
    #[cold]
    pub(in crate::shard) fn leave_to_next_start(&mut self, reservation: Reservation) {
        self.ledger.keep();
        self.release(reservation);
    }

    /// Nobody will register the agents any more that were there in an earlier run: their durable mail is left to the next start,
    /// so that draining does not wait for it.
    #[cold]
    pub(in crate::shard) fn leave_mail_of_absent(&mut self) {
        let absent = self.agents.iter().filter(|(_, slot)| slot.flags.is(AgentFlags::ABSENT));
        for index in absent.map(|(index, _)| index).collect::<Vec<_>>() {
            let Some(slot) = self.agents.get_mut(index) else { continue };
            let key = slot.key(index);
            let journalled = |envelope: &Envelope| envelope.journal().is_in_record();
            for place in slot.mailbox.extract(&mut self.held, journalled) {
                let Some(envelope) = self.held.remove(place) else { continue };
                self.ledger.count_unfinished(Place::Mailbox, 1);
                self.leave_to_next_start(Reservation::in_mailbox(key, &envelope));
            }
        }
    }

    /// Messages that wait for their commit are no longer there to be dispatched. Whoever waits is still told.
    pub(in crate::shard) fn stop_waiting_messages(&mut self) {
        for waiting in &mut self.journal.waiting {
            waiting.message = None;
        }
    }

    /// An inbox took durable messages.
    #[cold]
    pub(in crate::shard) fn settle_taken(&mut self, index: AgentIndex) {
        loop {
            let Some(slot) = self.agents.get_mut(index) else { return };
            let Behaviour::InboxState(outside) = &mut slot.behaviour else { return };
            let taken = outside.taken;
            if outside.by_number || outside.journalled.front().is_none_or(|(number, _)| *number > taken) {
                return;
            }
            let Some((_, sequence)) = outside.journalled.pop_front() else { return };
            self.release_record(sequence);
        }
    }
}
