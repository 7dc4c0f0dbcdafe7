//! What agents observed in all runs of the router, and the checks on it.
//!
//! Invariants: what an agent receives for the first time arrives in the order of sending, for each sender, lane and
//! conversation; what was handled is not handled again in the same run of the router nor, once its settlement is on
//! disk, in any other one, unless enough messages arrived since for it to have been forgotten; what is handled again,
//! or sent again because of that, has the same id, for any number of shards.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::domain::Priority;
use crate::message::{AgentId, ConversationId, Message, MessageId};

use super::label::Label;
use super::plan::Plan;

/// The ledger of a run, shared by its agents.
#[derive(Clone)]
pub(super) struct SharedLedger(Arc<Mutex<Ledger>>);

impl SharedLedger {
    pub fn new(plan: &Plan) -> Self {
        Self(Arc::new(Mutex::new(Ledger {
            window: plan.window as u64,
            attempts_max: plan.attempts_max(),
            ..Ledger::default()
        })))
    }

    pub fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A message to one receiver.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Delivery {
    id: MessageId,
    sender: Option<AgentId>,
    receiver: AgentId,
}

/// The outcome of a delivery.
#[derive(Clone, Copy, Debug, Default)]
struct Fate {
    came: bool,
    /// Attempts since the last start, plus earlier ones known to have failed.
    attempts: u32,
    /// The number of failed attempts, and how many of them are on disk.
    failures: u32,
    failures_on_disk: u32,
    /// The run of the router in which it was last handled.
    done_in: u64,
    /// Whether it is settled on disk.
    settled: bool,
    /// The number of deliveries that had arrived when it was first sent.
    came_before: u64,
}

/// Messages that must arrive in the order in which they were sent.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Stream {
    sender: Option<AgentId>,
    /// The shard that admitted messages from outside without a sender, in each run of the router.
    door: u64,
    receiver: AgentId,
    priority: u8,
    conversation: Option<(Option<AgentId>, ConversationId)>,
}

/// Identifies what has the same id whenever it is sent.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Meaning {
    number: u64,
    leg: u8,
    lineage: u64,
    performative: String,
    converses: bool,
    receiver: AgentId,
}

#[derive(Default)]
pub(super) struct Ledger {
    window: u64,
    attempts_max: u32,
    boot: u64,
    stamps: u64,
    /// Deliveries sent, and deliveries received for the first time.
    sent: u64,
    came: u64,
    complaint: Option<String>,
    fates: BTreeMap<Delivery, Fate>,
    streams: BTreeMap<Stream, u64>,
    ids: BTreeMap<Meaning, MessageId>,
    /// The shard that admitted messages without a sender, by their stamps.
    doors: BTreeMap<u64, u64>,
    /// Ids of messages that were dead letters: the messages that caused them may send them once more after a crash,
    /// after others.
    given_up: BTreeSet<MessageId>,
    /// The number of deliveries that had arrived when each id was first sent.
    sent_at: BTreeMap<MessageId, u64>,
    /// Handled in this run, and possibly not settled on disk.
    unsettled: Vec<Delivery>,
    /// Numbers of messages whose replays may have another id after a crash, because their dead letter was not on disk.
    pub unsteady: BTreeSet<u64>,
    /// The number of times each leg of each of the world's messages completed.
    pub ends: BTreeMap<(u64, u8), u32>,
    /// How many of these were legitimate repetitions.
    pub repeated: u64,
}

impl Ledger {
    /// Returns the number of a message, in the order of sending.
    pub fn stamp(&mut self) -> u64 {
        self.stamps += 1;
        self.stamps
    }

    /// Records what is wrong; the first complaint counts.
    pub fn complain(&mut self, complaint: impl FnOnce() -> String) {
        if self.complaint.is_none() {
            self.complaint = Some(complaint());
        }
    }

    pub fn complaint(&self) -> Result<(), String> {
        self.complaint.clone().map_or(Ok(()), Err)
    }

    /// Records a message sent to this many receivers, under an id if it is known.
    pub fn sends(&mut self, id: Option<MessageId>, receivers: u64) {
        self.sent += receivers;
        if let Some(id) = id {
            let came = self.came;
            self.sent_at.entry(id).or_insert(came);
        }
    }

    /// Records the shard that admits a message without a sender.
    pub fn comes_in(&mut self, stamp: u64, shard: usize) {
        self.doors.insert(stamp, self.boot << 16 | shard as u64);
    }

    /// Records dead letters.
    pub fn gives_up<'a>(&mut self, messages: impl Iterator<Item = &'a Message>) {
        self.given_up.extend(messages.filter_map(Message::id));
    }

    /// Begins a run of the router. What was handled and is not settled on disk is handled again.
    pub fn begin(&mut self, boot: u64) {
        self.boot = boot;
        self.unsettled.clear();
        for fate in self.fates.values_mut() {
            fate.failures = fate.failures_on_disk;
            fate.attempts = fate.failures;
        }
    }

    /// Records that an agent handles or takes a message.
    pub fn handled(&mut self, message: &Message) {
        let (Some(id), Some(receiver), Some(label)) = (message.id(), message.target(), Label::of(message)) else {
            return self.complain(|| format!("a message without id, receiver or label came: {message:?}"));
        };
        let delivery = Delivery { id, sender: self.sender_of(message, label), receiver };
        let (boot, sent, window) = (self.boot, self.sent, self.window);
        let came_before = self.sent_at.get(&id).copied().unwrap_or(0);
        let fate = self.fates.entry(delivery).or_insert(Fate { came_before, ..Fate::default() });
        fate.attempts += 1;
        let is_first = !std::mem::replace(&mut fate.came, true);
        let may_be_forgotten = sent - fate.came_before >= window;
        let found = *fate;
        if (found.settled || found.done_in == boot) && !may_be_forgotten {
            let when = if found.settled { "settled on disk" } else { "handled in this run" };
            self.complain(|| format!("{id} came again, which was {when}: {message:?}"));
        }
        if found.attempts > self.attempts_max && !may_be_forgotten {
            self.complain(|| format!("{id} was tried {} times: {message:?}", found.attempts));
        }
        if is_first {
            self.came += 1;
            self.keeps_order(message, label, receiver);
            self.keeps_id(message, label, id, receiver);
        }
    }

    /// Returns the sender of a message. Messages from outside without a sender belong to another gateway after each
    /// start.
    fn sender_of(&self, message: &Message, label: Label) -> Option<AgentId> {
        message.sender().filter(|_| !self.doors.contains_key(&label.stamp))
    }

    fn delivery_of(&self, message: &Message) -> Option<Delivery> {
        let sender = self.sender_of(message, Label::of(message)?);
        Some(Delivery { id: message.id()?, sender, receiver: message.target()? })
    }

    /// Except for retries, replays and delayed messages, what is sent first arrives first.
    fn keeps_order(&mut self, message: &Message, label: Label, receiver: AgentId) {
        let was_given_up = message.id().is_some_and(|id| self.given_up.contains(&id));
        let is_apart =
            message.details().is_some_and(|details| details.deliver_at.is_some() || details.replay.is_some());
        if was_given_up || is_apart {
            return;
        }
        let priority = match message.priority() {
            Priority::Low => 0,
            Priority::Normal => 1,
            Priority::High => 2,
            Priority::Urgent => 3,
        };
        let conversation = message.conversation().map(|id| (message.initiator(), id));
        let (sender, door) = (self.sender_of(message, label), self.doors.get(&label.stamp).copied().unwrap_or(0));
        let stream = Stream { sender, door, receiver, priority, conversation };
        let last = self.streams.entry(stream).or_default();
        let before = std::mem::replace(last, label.stamp.max(*last));
        if before >= label.stamp {
            self.complain(|| format!("out of order: number {} came after {before}: {message:?}", label.stamp));
        }
    }

    fn keeps_id(&mut self, message: &Message, label: Label, id: MessageId, receiver: AgentId) {
        if self.unsteady.contains(&label.number) {
            return;
        }
        let lineage = label.lineage_of(message);
        let performative = message.performative().to_string();
        let converses = message.conversation().is_some();
        let meaning = Meaning { number: label.number, leg: label.leg, lineage, performative, converses, receiver };
        let before = *self.ids.entry(meaning).or_insert(id);
        if before != id {
            self.complain(|| format!("what came as {before} came again as {id}: {message:?}"));
        }
    }

    /// Records a failed attempt to handle a message.
    pub fn failed(&mut self, message: &Message) {
        if let Some(fate) = self.delivery_of(message).and_then(|delivery| self.fates.get_mut(&delivery)) {
            fate.failures += 1;
        }
    }

    /// Records that a message was handled.
    pub fn done(&mut self, message: &Message) {
        let Some(delivery) = self.delivery_of(message) else { return };
        let boot = self.boot;
        if let Some(fate) = self.fates.get_mut(&delivery) {
            self.repeated += u64::from(fate.done_in > 0);
            fate.done_in = boot;
        }
        self.unsettled.push(delivery);
    }

    /// Records that a leg of a message has completed.
    pub fn end(&mut self, number: u64, leg: u8) {
        *self.ends.entry((number, leg)).or_default() += 1;
    }

    /// Records that the outcomes of messages to agents that satisfy `is_there` are on disk.
    pub fn settle(&mut self, is_there: impl Fn(AgentId) -> bool) {
        let fates = &mut self.fates;
        for (delivery, fate) in fates.iter_mut().filter(|(_, fate)| fate.failures > fate.failures_on_disk) {
            if is_there(delivery.receiver) {
                fate.failures_on_disk = fate.failures;
            }
        }
        self.unsettled.retain(|delivery| {
            let settled = is_there(delivery.receiver);
            if let Some(fate) = fates.get_mut(delivery).filter(|_| settled) {
                fate.settled = true;
            }
            !settled
        });
    }
}
