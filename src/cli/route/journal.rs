//! What became of every delivery, written down by those who know: agents as they handle a message, and the router's
//! events as it gives one up.
//!
//! Invariants: a delivery is counted once, also when it is reported twice; a reply is known as one before it can reach
//! its receiver, so that no agent ever answers a reply; what is taken out is complete.

use std::collections::{HashMap, HashSet};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use caxton_router::message::MessageId;
use caxton_router::protocol::Violation;
use caxton_router::{AgentId, Event, Performative, SendError, SendErrorKind};
use caxton_shards::api::Stage;
use caxton_shards::dead_letter::{DeadLetter, DeadLetterReason};

use super::pipe::Bell;

/// The most violations that are told one by one. All are counted.
pub const VIOLATIONS_MAX: usize = 10_000;

/// What became of a delivery.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fate {
    /// Its receiver handled it.
    Processed,
    /// It was given up.
    DeadLettered(DeadLetterReason),
    /// It was not handled within its lifetime.
    Expired(Stage),
    /// It was not accepted.
    Refused(String),
    /// It was accepted, and nothing more happened in time.
    Pending,
    /// It was not sent, because what stood before it did not settle in time or a signal ended the run.
    Unsent,
}

impl Fate {
    /// What it means that the router did not accept a message. A router that stops was stopped by a signal.
    pub fn of_refusal(rejected: &SendError) -> Self {
        match rejected.kind() {
            SendErrorKind::Stopping => Self::Unsent,
            _ => Self::Refused(rejected.to_string()),
        }
    }
}

/// What became of a message's deliveries, by receiver. A message that found no receiver has one delivery without.
pub type Fates = HashMap<Option<AgentId>, Fate>;

/// A message of the file.
#[derive(Debug, Default)]
pub struct Record {
    /// The deliveries that have settled.
    pub fates: Fates,
    /// The replies, in the order in which they were sent.
    pub replies: Vec<Reply>,
}

/// A reply to a message of the file.
#[derive(Debug)]
pub struct Reply {
    /// What it does.
    pub performative: Performative,
    /// Who sent it.
    pub from: AgentId,
    /// What it says, where that is not what was asked.
    pub content: Option<String>,
    /// How many deliveries it stands for.
    pub deliveries: usize,
    /// How many of them were processed.
    pub processed: usize,
    /// The deliveries that were not processed.
    pub lost: Fates,
}

impl Reply {
    /// How many deliveries have not settled.
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
    /// The router had more to report than was taken from it: its dead letters say what.
    ReportsLost,
}

/// The journal of one run, shared by all agents.
#[derive(Default)]
pub struct Journal {
    book: Mutex<Book>,
    changed: Condvar,
    /// Rung with every entry, for whoever waits for something else as well.
    bell: Option<Bell>,
}

#[derive(Debug, Default)]
struct Book {
    messages: HashMap<MessageId, Entry>,
    /// Which message a reply belongs to, and its place among that message's replies.
    replies: HashMap<MessageId, (MessageId, usize)>,
    /// Messages that broke their protocol, the first [`VIOLATIONS_MAX`] of them.
    violations: Vec<Violation>,
    /// Rises with every entry.
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
    /// A journal that rings with every entry.
    pub fn ringing(bell: Bell) -> Self {
        Self { bell: Some(bell), ..Self::default() }
    }

    /// Tells whoever waits that there is something new.
    fn tell(&self) {
        self.changed.notify_all();
        if let Some(bell) = &self.bell {
            bell.ring();
        }
    }

    /// Notes that a reply was handled. Returns whether the message is one.
    pub fn reply_was_processed(&self, id: MessageId) -> bool {
        let mut book = self.lock();
        let is_reply = book.settle_reply(id, None);
        drop(book);
        if is_reply {
            self.tell();
        }
        is_reply
    }

    /// Notes that a message of the file was handled, and the reply that its receiver gives.
    pub fn was_processed(&self, id: MessageId, by: AgentId, reply: Option<(MessageId, Reply)>) {
        let mut book = self.lock();
        if let Some((reply_id, reply)) = reply {
            book.expect_reply(id, reply_id, reply);
        }
        book.settle(id, Some(by), Fate::Processed);
        drop(book);
        self.tell();
    }

    /// Notes a reply to a message of the file that its receiver has not finished.
    pub fn is_being_answered(&self, id: MessageId, reply_id: MessageId, reply: Reply) {
        self.lock().expect_reply(id, reply_id, reply);
    }

    /// Notes what the router reports. `lost` is how many reports nobody has seen so far.
    pub fn hear(&self, event: &Event, lost: u64) {
        let mut book = self.lock();
        match event {
            Event::DeadLettered { message, receiver, reason, .. } => {
                book.settle_any(*message, *receiver, Fate::DeadLettered(*reason));
            }
            Event::Expired { message, receiver, phase, .. } => {
                book.settle_any(*message, *receiver, Fate::Expired(*phase));
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

    /// Makes good for lost reports with the router's dead letters, as far as they belong to messages under way or to
    /// replies to them.
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

    /// Takes out what broke its protocol.
    pub fn take_violations(&self) -> Vec<Violation> {
        std::mem::take(&mut self.lock().violations)
    }

    /// Waits until a message of so many deliveries has settled, as long as anything settles within `patience`.
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

    /// Takes out what is known of a message.
    pub fn take(&self, id: MessageId) -> Record {
        let mut book = self.lock();
        let Some(entry) = book.messages.remove(&id) else { return Record::default() };
        // A reply that is still under way has to be known as one when it arrives.
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
        let event = Event::Expired { message: question, sender: None, receiver: Some(a), phase: Stage::Mailbox };
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
            Event::Deregistered { agent: AgentId::of_text("a"), why: caxton_router::StopReason::Deregistered };
        journal.hear(&deregistered, 3);
        assert_eq!(journal.wait(question, 1, MOMENT), Waited::ReportsLost);
        assert_eq!(journal.wait(other, 1, MOMENT), Waited::TimedOut);
    }
}
