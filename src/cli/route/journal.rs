//! The record of every delivery's outcome: agents record what they handle, and the router's events what it gives up.
//!
//! Invariants: a delivery is counted once, even if it is reported twice; a reply is known as one before it can reach
//! its receiver, so that no agent ever replies to a reply; what is taken out is complete.

use std::collections::{HashMap, HashSet};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use caxton_router::error::{SendError, SendErrorKind};
use caxton_router::event::Event;
use caxton_router::message::MessageId;
use caxton_router::protocol::Violation;
use caxton_router::{AgentId, Performative};
use caxton_shards::api::Stage;
use caxton_shards::dead_letter::{DeadLetter, DeadLetterReason};

use super::pipe::Bell;

/// Maximum number of violations reported one by one. All are counted.
pub const VIOLATIONS_MAX: usize = 10_000;

/// The outcome of a delivery.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fate {
    /// Its receiver handled it.
    Processed,
    /// It was dead-lettered.
    DeadLettered(DeadLetterReason),
    /// It was not handled within its lifetime.
    Expired(Stage),
    /// It was not accepted.
    Refused(String),
    /// It was accepted, and did not settle in time.
    Pending,
    /// It was not sent, because an earlier one did not settle in time or a signal ended the run.
    Unsent,
}

impl Fate {
    /// Returns the outcome of a refused message. A router that is stopping was stopped by a signal.
    pub fn of_refusal(rejected: &SendError) -> Self {
        match rejected.kind() {
            SendErrorKind::Stopping => Self::Unsent,
            _ => Self::Refused(rejected.to_string()),
        }
    }
}

/// The outcomes of a message's deliveries, by receiver. A message without a receiver has one delivery, with key `None`.
pub type Fates = HashMap<Option<AgentId>, Fate>;

/// A message of the file.
#[derive(Debug, Default)]
pub struct Record {
    /// The settled deliveries.
    pub fates: Fates,
    /// The replies, in the order in which they were sent.
    pub replies: Vec<Reply>,
}

/// A reply to a message of the file.
#[derive(Debug)]
pub struct Reply {
    /// Its performative.
    pub performative: Performative,
    /// Its sender.
    pub from: AgentId,
    /// Its content, if it differs from the question's.
    pub content: Option<String>,
    /// The number of its deliveries.
    pub deliveries: usize,
    /// The number of processed deliveries.
    pub processed: usize,
    /// The deliveries that were not processed.
    pub lost: Fates,
}

impl Reply {
    /// Returns the number of deliveries that have not settled.
    pub fn pending(&self) -> usize {
        self.deliveries.saturating_sub(self.processed + self.lost.len())
    }
}

/// How waiting for a message ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Waited {
    /// All its deliveries and all those of its replies have settled.
    Settled,
    /// Nothing at all has settled for too long.
    TimedOut,
    /// Reports were lost because they were not taken fast enough: the router's dead letters contain them.
    ReportsLost,
}

/// The record of one run, shared by all agents.
#[derive(Default)]
pub struct Journal {
    book: Mutex<Book>,
    changed: Condvar,
    /// Rung with every entry, for a thread that also waits for something else.
    bell: Option<Bell>,
}

#[derive(Debug, Default)]
struct Book {
    messages: HashMap<MessageId, Entry>,
    /// The message that a reply belongs to, and its index among that message's replies.
    replies: HashMap<MessageId, (MessageId, usize)>,
    /// The first [`VIOLATIONS_MAX`] violations.
    violations: Vec<Violation>,
    /// Incremented with every entry.
    entries: u64,
    reports_lost: u64,
    reports_lost_seen: u64,
}

#[derive(Debug, Default)]
struct Entry {
    record: Record,
    replies: Vec<MessageId>,
    replies_open: usize,
}

impl Journal {
    /// Creates a record that rings with every entry.
    pub fn ringing(bell: Bell) -> Self {
        Self { bell: Some(bell), ..Self::default() }
    }

    /// Notifies waiters of a new entry.
    fn tell(&self) {
        self.changed.notify_all();
        if let Some(bell) = &self.bell {
            bell.ring();
        }
    }

    /// Records that a reply was handled. Returns whether the message is one.
    pub fn reply_was_processed(&self, id: MessageId) -> bool {
        let mut book = self.lock();
        let is_reply = book.settle_reply(id, None);
        drop(book);
        if is_reply {
            self.tell();
        }
        is_reply
    }

    /// Records that a message of the file was handled, and its receiver's reply.
    pub fn was_processed(&self, id: MessageId, by: AgentId, reply: Option<(MessageId, Reply)>) {
        let mut book = self.lock();
        if let Some((reply_id, reply)) = reply {
            book.expect_reply(id, reply_id, reply);
        }
        book.settle(id, Some(by), Fate::Processed);
        drop(book);
        self.tell();
    }

    /// Records a reply to a message of the file that its receiver has not finished.
    pub fn is_being_answered(&self, id: MessageId, reply_id: MessageId, reply: Reply) {
        self.lock().expect_reply(id, reply_id, reply);
    }

    /// Records an event of the router. `lost` is the number of lost events so far.
    pub fn hear(&self, event: &Event, lost: u64) {
        let mut book = self.lock();
        match event {
            Event::DeadLettered { message, receiver, reason, .. } => {
                book.settle_any(*message, *receiver, Fate::DeadLettered(*reason));
            }
            Event::Expired { message, receiver, stage, .. } => {
                book.settle_any(*message, *receiver, Fate::Expired(*stage));
            }
            Event::ProtocolViolation(violation) if book.violations.len() < VIOLATIONS_MAX => {
                book.violations.push((**violation).clone());
            }
            _ => {}
        }
        book.reports_lost = lost;
        drop(book);
        self.tell();
    }

    /// Replaces lost reports with the router's dead letters, as far as they belong to messages in flight or to replies
    /// to them.
    pub fn read_letters(&self, letters: &[DeadLetter], under_way: &HashSet<MessageId>) {
        let mut book = self.lock();
        for letter in letters {
            if let Some(id) = letter.message.id()
                && (under_way.contains(&id) || book.replies.contains_key(&id))
            {
                book.settle_any(id, letter.message.target(), Fate::DeadLettered(letter.reason));
            }
        }
    }

    /// Takes the violations.
    pub fn take_violations(&self) -> Vec<Violation> {
        std::mem::take(&mut self.lock().violations)
    }

    /// Waits until a message with this many deliveries has settled, as long as anything settles within `patience`.
    pub fn wait(&self, id: MessageId, deliveries: usize, patience: Duration) -> Waited {
        let mut book = self.lock();
        let mut entries = book.entries;
        let mut deadline = Instant::now() + patience;
        loop {
            if book.is_settled(id, deliveries) {
                return Waited::Settled;
            }
            if book.reports_lost != book.reports_lost_seen {
                book.reports_lost_seen = book.reports_lost;
                return Waited::ReportsLost;
            }
            let now = Instant::now();
            if book.entries != entries {
                (entries, deadline) = (book.entries, now + patience);
            }
            let Some(left) = deadline.checked_duration_since(now).filter(|left| !left.is_zero()) else {
                return Waited::TimedOut;
            };
            book = self.changed.wait_timeout(book, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Takes the record of a message.
    pub fn take(&self, id: MessageId) -> Record {
        let mut book = self.lock();
        let Some(entry) = book.messages.remove(&id) else { return Record::default() };
        // A reply still in flight has to be known as one when it arrives.
        for (id, reply) in entry.replies.iter().zip(&entry.record.replies) {
            if reply.pending() == 0 {
                book.replies.remove(id);
            }
        }
        entry.record
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn is_settled(&self, id: MessageId, deliveries: usize) -> bool {
        self.messages.get(&id).is_some_and(|entry| entry.record.fates.len() >= deliveries && entry.replies_open == 0)
    }

    fn expect_reply(&mut self, id: MessageId, reply_id: MessageId, reply: Reply) {
        let entry = self.messages.entry(id).or_default();
        let place = entry.record.replies.len();
        entry.record.replies.push(reply);
        entry.replies.push(reply_id);
        entry.replies_open += 1;
        self.replies.insert(reply_id, (id, place));
    }

    fn settle_any(&mut self, id: MessageId, receiver: Option<AgentId>, fate: Fate) {
        if !self.settle_reply(id, Some((receiver, &fate))) {
            self.settle(id, receiver, fate);
        }
    }

    fn settle(&mut self, id: MessageId, receiver: Option<AgentId>, fate: Fate) {
        self.entries += 1;
        self.messages.entry(id).or_default().record.fates.entry(receiver).or_insert(fate);
    }

    /// Settles one delivery of a reply. Returns whether the message is one.
    fn settle_reply(&mut self, id: MessageId, lost: Option<(Option<AgentId>, &Fate)>) -> bool {
        let Some((question, place)) = self.replies.get(&id).copied() else { return false };
        let Some(entry) = self.messages.get_mut(&question) else { return true };
        let Some(reply) = entry.record.replies.get_mut(place) else { return true };
        let before = reply.pending();
        match lost {
            None => reply.processed += 1,
            Some((receiver, fate)) => {
                reply.lost.entry(receiver).or_insert_with(|| fate.clone());
            }
        }
        if before > 0 && reply.pending() == 0 {
            entry.replies_open -= 1;
        }
        self.entries += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOMENT: Duration = Duration::from_millis(1);

    fn ids() -> [MessageId; 2] {
        [1, 2].map(|number| MessageId::from_u128(number).expect("it is not zero"))
    }

    fn reply_from(from: AgentId, deliveries: usize) -> Reply {
        Reply { performative: Performative::Inform, from, content: None, deliveries, processed: 0, lost: Fates::new() }
    }

    #[test]
    fn a_message_settles_with_its_last_delivery_and_its_last_reply() {
        let journal = Journal::default();
        let [question, reply] = ids();
        let [a, b] = ["a", "b"].map(AgentId::of_text);
        journal.was_processed(question, a, Some((reply, reply_from(a, 2))));
        assert_eq!(journal.wait(question, 1, MOMENT), Waited::TimedOut);
        assert!(journal.reply_was_processed(reply));
        assert_eq!(journal.wait(question, 1, MOMENT), Waited::TimedOut, "the reply goes to two agents");
        assert!(journal.reply_was_processed(reply));
        assert_eq!(journal.wait(question, 2, MOMENT), Waited::TimedOut, "the message goes to two agents");
        journal.was_processed(question, b, None);
        assert_eq!(journal.wait(question, 2, MOMENT), Waited::Settled);
        assert_eq!(journal.take(question).replies[0].processed, 2);
        assert!(!journal.reply_was_processed(reply), "a finished reply is forgotten");
    }

    #[test]
    fn what_is_reported_twice_counts_once() {
        let journal = Journal::default();
        let [question, _] = ids();
        let [a, b] = ["a", "b"].map(AgentId::of_text);
        let event = Event::Expired {
            message: question,
            sender: None,
            receiver: Some(a),
            conversation: None,
            trace: None,
            stage: Stage::Mailbox,
        };
        journal.hear(&event, 0);
        journal.hear(&event, 0);
        assert_eq!(journal.wait(question, 2, MOMENT), Waited::TimedOut);
        journal.was_processed(question, b, None);
        assert_eq!(journal.wait(question, 2, MOMENT), Waited::Settled);
    }

    #[test]
    fn lost_reports_are_told_once() {
        let journal = Journal::default();
        let [question, other] = ids();
        let deregistered =
            Event::Deregistered { agent: AgentId::of_text("a"), why: caxton_router::agent::StopReason::Deregistered };
        journal.hear(&deregistered, 3);
        assert_eq!(journal.wait(question, 1, MOMENT), Waited::ReportsLost);
        assert_eq!(journal.wait(other, 1, MOMENT), Waited::TimedOut);
    }
}
