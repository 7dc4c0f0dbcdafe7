//! What agents observed and senders were promised, recorded beside the shards' own accounts.
//!
//! Invariants checked here: an agent receives messages from one sender, in one lane, of one reliability and in one
//! conversation in the order in which they were sent; every delivery is settled at most once; every accepted message is
//! settled; reports of failure or processing are true.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::base::rng::mixed;
use crate::conversation::Conformance;
use crate::domain::Priority;
use crate::message::notice::is_notice;
use crate::message::{AgentId, ConversationId, Message, MessageId, Performative, Receipt, Receiver, Reliability};
use crate::outcome::DeadLetterReason;
use crate::protocol::{Mode, Violation};
use crate::shard::io::{Answer, AskError, Event, Now, Output, RegistrationError, Token};
use crate::stats::account::Account;

use super::cast::{Label, SCRIPTED};

/// The ledger of a run, shared by its agents and the world.
#[derive(Clone)]
pub(super) struct SharedLedger(Arc<Mutex<Ledger>>);

impl SharedLedger {
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Ledger { history: seed, ..Ledger::default() })))
    }

    pub fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The number of deliveries promised to a sender.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Deliveries {
    Exactly(u64),
    /// One per provider at that time.
    Some,
    /// One, to the router itself, which does not report what it did with it.
    Hidden,
    /// Deliveries of a dead letter replayed to its original receivers.
    Unknown,
}

/// A message whose sender was told that it was accepted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Promise {
    pub id: MessageId,
    deliveries: Deliveries,
}

/// The outcome of a delivery.
#[derive(Clone, Copy, Default, Debug)]
struct Fate {
    done: u32,
    handed_out: u32,
    dead: u32,
    expired: u32,
}

impl Fate {
    /// A message returned from a dropped inbox is dead-lettered after it was delivered.
    fn settled(self) -> u32 {
        self.done + self.expired + self.handed_out.max(self.dead)
    }
}

/// Messages that must arrive in the order in which they were sent.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Stream {
    sender: Option<AgentId>,
    receiver: AgentId,
    /// Whether a handler sent it. A handler and the world send in the same name independently.
    from_handler: bool,
    lane: Lane,
    conversation: Option<(Option<AgentId>, ConversationId)>,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Lane {
    priority: u8,
    durable: bool,
}

/// A request of the world without a response yet.
#[derive(Debug)]
pub(super) struct Question {
    /// The message, if the request was to send one.
    pub message: Option<(Label, Receiver)>,
    /// Whether the request was to replay dead letters to an agent.
    pub redirected: bool,
}

#[derive(Default)]
pub(super) struct Ledger {
    history: u64,
    stamps: u64,
    complaint: Option<String>,
    attempts: BTreeMap<(MessageId, AgentId), u32>,
    streams: BTreeMap<Stream, u64>,
    /// The latest stamp when an agent was removed. What it left in its outbox is still sent, and an agent registered
    /// meanwhile under the same name does not wait for it: to its receivers it is another sender.
    left_at: BTreeMap<AgentId, u64>,
    promises: Vec<Promise>,
    fates: BTreeMap<(MessageId, Option<AgentId>), Fate>,
    dead: [u64; DeadLetterReason::COUNT],
    expired: u64,
    done: u64,
    replied: u64,
    questions: BTreeMap<u64, Question>,
    /// Failures that senders are to be notified of, and notifications received.
    failures_owed: u64,
    failures_told: u64,
    /// Replies that did not arrive in time, as reported and as notified to the asking agents.
    missing: u64,
    missing_told: u64,
    /// The message ids in notices: of failures and of receipts for processed messages.
    told_failed: BTreeSet<String>,
    told_processed: BTreeSet<String>,
    /// Messages that no state of their conversation's protocol allows; those reported as violations, and those refused
    /// for it.
    pub broken: BTreeMap<MessageId, ConversationId>,
    /// Conversations that had timed out and began again with a message that does not begin their protocol.
    freed: BTreeSet<ConversationId>,
    /// The number of reports for each.
    violations: BTreeMap<MessageId, u32>,
    /// The number of times a dead letter was sent again under a new id: more than once if its message did not reach its
    /// receiver.
    replayed: BTreeMap<MessageId, u32>,
    refused: BTreeSet<MessageId>,
    /// How protocol violations are treated.
    pub mode: Mode,
    pub gateways: Vec<AgentId>,
}

impl Ledger {
    /// Returns the number of a message, in the order of sending.
    pub fn stamp(&mut self) -> u64 {
        self.stamps += 1;
        self.stamps
    }

    /// Adds to the digest of the history.
    pub fn note(&mut self, words: &[u64]) {
        self.history = words.iter().fold(self.history, |digest, word| mixed(digest, *word));
    }

    pub fn note_text(&mut self, text: &str) {
        let digest = text
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |digest, byte| (digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        self.note(&[digest, text.len() as u64]);
    }

    pub fn history(&self) -> u64 {
        self.history
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

    /// Records that an agent handles a message. Returns how many times it did before.
    pub fn handled(&mut self, agent: AgentId, now: Now, message: &Message) -> u32 {
        self.note(&[now.monotonic_ns, now.wall.0]);
        self.saw(agent, message);
        if is_notice(message) {
            return 0;
        }
        let Some(id) = message.id() else {
            self.complain(|| format!("{agent} was given a message without an id: {message:?}"));
            return 0;
        };
        let attempts = self.attempts.entry((id, agent)).or_default();
        *attempts += 1;
        let before = *attempts - 1;
        if before == 0 {
            self.keeps_order(agent, message);
        }
        before
    }

    /// Records something that an agent observed.
    fn saw(&mut self, agent: AgentId, message: &Message) {
        let text = message.content().as_text().unwrap_or_default();
        self.note_text(&format!("{agent} {:?} {:?} {}", message.id(), message.sender(), message.performative()));
        self.note_text(text);
        if is_notice(message) {
            self.hear(message.performative(), text);
        } else if message.target() != Some(agent) {
            self.complain(|| format!("{agent} was given a message for another: {message:?}"));
        }
    }

    /// Processes a notice from the router about a message: `((inform m0.. (..)) (failed ..))` or `((processed (inform
    /// m0.. (..))))`.
    fn hear(&mut self, performative: Performative, text: &str) {
        let Some(id) = text.split([' ', ')']).find(|word| is_message_id(word)) else { return };
        if text.contains(" (no-reply ") {
            // The message itself was delivered, or its sender is notified of that too.
            self.missing_told += 1;
        } else if crate::message::notice::tells_of_failure(performative) {
            self.failures_told += 1;
            self.told_failed.insert(id.to_owned());
        } else if text.starts_with("((processed") {
            self.told_processed.insert(id.to_owned());
        }
    }

    /// Except for retries, replays and delayed messages, what is sent first arrives first.
    fn keeps_order(&mut self, receiver: AgentId, message: &Message) {
        let Some(label) = Label::of(message) else { return };
        if message.details().is_some_and(|details| details.deliver_at.is_some() || details.replay.is_some()) {
            return;
        }
        let priority = match message.priority() {
            Priority::Low => 0,
            Priority::Normal => 1,
            Priority::High => 2,
            Priority::Urgent => 3,
        };
        let stream = Stream {
            sender: message.sender(),
            receiver,
            from_handler: label.from_handler,
            lane: Lane { priority, durable: message.reliability() == Reliability::Durable },
            conversation: message.conversation().map(|id| (message.initiator(), id)),
        };
        let last = self.streams.entry(stream).or_default();
        let before = std::mem::replace(last, label.stamp.max(*last));
        let left_at = message.sender().and_then(|sender| self.left_at.get(&sender));
        if before >= label.stamp && left_at.is_none_or(|left_at| label.stamp > *left_at) {
            self.complain(|| format!("out of order: number {} came after {before}: {message:?}", label.stamp));
        }
    }

    /// Records the end of a handler: its message is processed, and what it sent is accepted.
    pub fn done(&mut self, agent: AgentId, message: &Message, sent: &mut Vec<Promise>) {
        self.promises.append(sent);
        if is_notice(message) {
            return;
        }
        self.done += 1;
        self.settle(message.id(), Some(agent), |fate| fate.done += 1);
    }

    /// Records that messages a handler sent outside of handling a message are accepted.
    pub fn promise(&mut self, sent: &mut Vec<Promise>) {
        self.promises.append(sent);
    }

    fn settle(&mut self, id: Option<MessageId>, receiver: Option<AgentId>, settle: impl FnOnce(&mut Fate)) {
        let Some(id) = id else { return };
        settle(self.fates.entry((id, receiver)).or_default());
    }

    /// Returns the promise for an id.
    pub fn promised(&self, id: MessageId, receiver: &Receiver) -> Promise {
        use crate::message::Choice;
        let deliveries = match receiver {
            Receiver::Agents(agents) => Deliveries::Exactly(agents.len() as u64),
            Receiver::Capability(_, Choice::All) => Deliveries::Some,
            Receiver::Agent(agent) if self.gateways.contains(agent) => Deliveries::Hidden,
            _ => Deliveries::Exactly(1),
        };
        Promise { id, deliveries }
    }

    pub fn ask(&mut self, token: Token, question: Question) {
        self.questions.insert(token.0, question);
    }

    /// Examines an output of a shard.
    pub fn look_at(&mut self, shard: usize, output: &Output) {
        match output {
            Output::Answer(token, answer) => self.answered(*token, answer),
            Output::Deliver(_, message) => {
                let Some(target) = message.target() else { return };
                self.note(&[shard as u64]);
                self.saw(target, message);
                if !is_notice(message) {
                    self.keeps_order(target, message);
                    self.settle(message.id(), Some(target), |fate| fate.handed_out += 1);
                }
            }
            Output::Event(event) => self.happened(event),
            Output::CloseInbox(_) | Output::InboxEnded(_) | Output::Wanted(_) => {}
        }
    }

    fn answered(&mut self, token: Token, answer: &Answer) {
        self.note(&[token.0]);
        let question = self.questions.remove(&token.0);
        match answer {
            Answer::Sent(Ok(id)) | Answer::NotKept(id, _) => {
                self.note_text(&format!("sent {id}"));
                if let Some(Question { message: Some((_, receiver)), .. }) = question {
                    self.promises.push(self.promised(*id, &receiver));
                }
            }
            Answer::Sent(Err(rejected)) | Answer::Replied(Err(AskError::Rejected(rejected))) => {
                self.note_text(&rejected.to_string());
                if let Some(Question { message: Some((label, _)), .. }) = question
                    && Label::of(rejected.message()) != Some(label)
                {
                    self.complain(|| format!("another message was given back than was refused: {rejected:?}"));
                }
            }
            Answer::Replied(Ok(message)) => {
                self.replied += 1;
                self.note_text(message.content().as_text().unwrap_or_default());
            }
            Answer::Replied(Err(failure)) => self.note_text(&failure.to_string()),
            Answer::Registered(results) => {
                for result in results {
                    self.note_text(&format!("{result:?}"));
                    if let Err(RegistrationError::Panicked { what, .. }) = result {
                        self.panicked(what);
                    }
                }
            }
            Answer::Deregistered(found) => self.note(&[u64::from(*found)]),
            Answer::Providers(providers) => {
                self.note_text(&providers.iter().map(|provider| provider.agent.to_string()).collect::<String>());
            }
            Answer::Conversation(view) => self.note(&[view.as_ref().map_or(0, |view| view.messages)]),
            Answer::DeadLetters(portion) => self.note(&[portion.letters.len() as u64]),
            Answer::DeadLettersReplayed(portion) => {
                self.note(&[portion.replayed.len() as u64, portion.refused.len() as u64]);
                // The receivers of other messages are not known here: possibly several agents, possibly a gateway.
                let redirected = question.is_some_and(|question| question.redirected);
                let deliveries = if redirected { Deliveries::Exactly(1) } else { Deliveries::Unknown };
                for (_, id) in portion.replayed.iter().chain(&portion.returned) {
                    *self.replayed.entry(*id).or_default() += 1;
                    self.promises.push(Promise { id: *id, deliveries });
                }
            }
            Answer::DeadLettersPurged { letters, .. } => self.note(&[*letters]),
            Answer::Changed(result) => self.note_text(&format!("{result:?}")),
            Answer::Drained(result) => self.note_text(&format!("{result:?}")),
            Answer::Agents(portion) => self.note(&[portion.agents.len() as u64]),
            Answer::Conversations(portion) => self.note(&[portion.conversations.len() as u64]),
            Answer::Agent(view) => self.note_text(&format!("{view:?}")),
            Answer::Room(on_way) => self.note_text(&format!("{on_way:?}")),
            Answer::Snapshot(_) | Answer::SlowConsumers(_) | Answer::Reconfigured => {}
        }
    }

    /// Handles an unplanned panic, which is a fault of the engine or of an agent of the caller.
    fn panicked(&mut self, what: &str) {
        if what != SCRIPTED {
            self.complain(|| format!("a panic inside a handler: {what}"));
        }
    }

    fn happened(&mut self, event: &Event) {
        if let Some(text) = in_history(event) {
            self.note_text(&text);
        }
        match event {
            Event::DeadLettered { message, sender, receiver, reason, .. } => {
                self.dead[reason.index()] += 1;
                if *reason == DeadLetterReason::ProtocolViolation {
                    self.refused.insert(*message);
                }
                self.owe(*sender, *receiver);
                self.settle(Some(*message), *receiver, |fate| fate.dead += 1);
            }
            Event::Expired { message, sender, receiver, .. } => {
                self.expired += 1;
                self.owe(*sender, *receiver);
                self.settle(Some(*message), *receiver, |fate| fate.expired += 1);
            }
            Event::Deregistered { agent, .. } => {
                self.left_at.insert(*agent, self.stamps);
            }
            Event::ProtocolViolation(violation) => self.broke_protocol(violation),
            Event::ReplyMissing { .. } => self.missing += 1,
            Event::AgentPanicked { what, .. } | Event::FailureHandlerPanicked { what } => self.panicked(what),
            // Other events are part of the history, but not checked.
            _ => {}
        }
    }

    fn broke_protocol(&mut self, violation: &Violation) {
        let Some(id) = violation.message else { return };
        if violation.state == "start" && !violation.refused {
            self.freed.insert(violation.conversation);
        }
        *self.violations.entry(id).or_default() += 1;
    }

    /// Checks that exactly the messages that violated their protocol and reached their conversation were found.
    fn close_violations(&self, found: &Conformance) -> Result<(), String> {
        let arrived = self.fates.iter().filter(|(_, fate)| fate.done + fate.handed_out > 0).map(|((id, _), _)| *id);
        let held = |id: &MessageId| self.broken.get(id).is_some_and(|conversation| !self.freed.contains(conversation));
        let arrived: BTreeSet<MessageId> = arrived.filter(held).collect();
        let reports = self.violations.values().map(|times| u64::from(*times)).sum();
        let reported: BTreeSet<MessageId> = self.violations.keys().copied().collect();
        let (expected, refused) = match self.mode {
            Mode::Off => (BTreeSet::new(), 0),
            Mode::Observe => (arrived, 0),
            Mode::Enforce => (arrived.union(&self.refused).copied().collect(), reports),
        };
        let again = self.violations.iter().find(|(id, times)| **times > self.sent(**id));
        if let Some((id, times)) = again {
            return Err(format!("what violates its protocol was reported {times} times: {id}"));
        }
        let whole = reports == found.violations() && refused == found.refused;
        let missing = expected.difference(&reported).next();
        let legal = |id: &&MessageId| !self.broken.contains_key(*id) && !self.replayed.contains_key(*id);
        if let Some(unjust) = reported.iter().find(legal) {
            return Err(format!("what keeps to its protocol was reported: {unjust}"));
        }
        let unexpected = self.mode == Mode::Off && !self.violations.is_empty();
        let delivered = self.mode == Mode::Enforce && reported != self.refused;
        if !whole || missing.is_some() || unexpected || delivered {
            return Err(format!(
                "protocols are on {}: reported are {} violations, refused {}, not found is {missing:?}: {found:?}",
                self.mode,
                self.violations.len(),
                self.refused.len()
            ));
        }
        Ok(())
    }

    /// Returns the number of times a message was sent under this id.
    fn sent(&self, id: MessageId) -> u32 {
        self.replayed.get(&id).copied().unwrap_or(1)
    }

    /// Checks that every delivery was settled once for each time it was sent.
    fn close_fates(&self) -> Result<(), String> {
        match self.fates.iter().find(|((id, _), fate)| fate.settled() > self.sent(*id)) {
            Some(((id, receiver), fate)) => Err(format!("{id} for {receiver:?} was settled more than once: {fate:?}")),
            None => Ok(()),
        }
    }

    /// Records that a sender is to be notified of a failure. Notices to the router's own gateways are not seen here,
    /// and messages to the router itself cause none.
    fn owe(&mut self, sender: Option<AgentId>, receiver: Option<AgentId>) {
        let router = AgentId::of_text(crate::message::notice::ROUTER_NAME);
        if receiver != Some(router) && sender.is_some_and(|sender| !self.gateways.contains(&sender)) {
            self.failures_owed += 1;
        }
    }

    /// Compares the ledger with the shards' accounts. For the end of a run, when nothing is pending.
    pub fn close(&self, total: &Account, conformance: &Conformance) -> Result<(), String> {
        self.close_violations(conformance)?;
        self.close_fates()?;
        if !self.questions.is_empty() {
            return Err(format!("questions were not answered: {:?}", self.questions));
        }
        if self.dead != total.dead_by_reason {
            return Err(format!("dead letters were reported as {:?} and counted as {total:?}", self.dead));
        }
        if self.expired != total.expired {
            return Err(format!("{} expired messages were reported, and counted are {total:?}", self.expired));
        }
        self.close_promises(total)?;
        if self.failures_owed > self.failures_told + total.notices_coalesced {
            let (owed, told) = (self.failures_owed, self.failures_told);
            return Err(format!("of {owed} failures only {told} were told or counted as coalesced: {total:?}"));
        }
        if self.missing_told > self.missing || self.missing > self.missing_told + total.notices_coalesced {
            let (missing, told) = (self.missing, self.missing_told);
            return Err(format!("{missing} answers did not come in time, and askers were told of {told}: {total:?}"));
        }
        self.close_notices()
    }

    fn close_promises(&self, total: &Account) -> Result<(), String> {
        let mut settled: BTreeMap<MessageId, u64> = BTreeMap::new();
        let mut hidden = 0;
        // What was in the journal when the router stopped was left to the next start.
        let mut left = total.kept;
        for ((id, _), fate) in &self.fates {
            *settled.entry(*id).or_default() += u64::from(fate.settled());
        }
        for Promise { id, deliveries } in &self.promises {
            let deliveries = &match deliveries {
                Deliveries::Exactly(count) => Deliveries::Exactly(*count * u64::from(self.sent(*id))),
                other => *other,
            };
            let found = settled.get(id).copied().unwrap_or(0);
            let mut is_left = |missing: u64| {
                left = left.wrapping_sub(missing);
                left <= total.kept
            };
            let kept = match deliveries {
                Deliveries::Exactly(count) if found < *count => is_left(*count - found),
                Deliveries::Exactly(count) => found == *count,
                Deliveries::Some => found > 0 || is_left(1),
                Deliveries::Hidden => {
                    hidden += 1;
                    found <= 1
                }
                Deliveries::Unknown => {
                    hidden += 1;
                    true
                }
            };
            if !kept {
                return Err(format!("{id} was accepted for {deliveries:?} deliveries, and {found} were settled"));
            }
        }
        let seen: u64 =
            self.fates.values().map(|fate| u64::from(fate.done + fate.handed_out.saturating_sub(fate.dead))).sum();
        // The gateways process replies to questions, and the agrees that announce them. What an inbox returned at the
        // stop was seen to be delivered, and may have been left to the next start.
        let (least, most) = (seen + self.replied, seen + hidden.max(self.replied));
        if total.processed + total.kept >= least && total.processed <= most {
            Ok(())
        } else {
            Err(format!("agents processed {seen} messages, gateways {} to {hidden}: {total:?}", self.replied))
        }
    }

    fn close_notices(&self) -> Result<(), String> {
        let fates_of = |holds: fn(&Fate) -> bool| -> BTreeSet<String> {
            self.fates.iter().filter(|(_, fate)| holds(fate)).map(|((id, _), _)| id.to_string()).collect()
        };
        let failed = fates_of(|fate| fate.dead + fate.expired > 0);
        if let Some(wrong) = self.told_failed.difference(&failed).next() {
            return Err(format!("a sender was told that {wrong} failed, and it did not"));
        }
        let processed = fates_of(|fate| fate.done + fate.handed_out > 0);
        if let Some(wrong) = self.told_processed.difference(&processed).next() {
            return Err(format!("a sender was told that {wrong} was processed, and it was not"));
        }
        Ok(())
    }
}

/// Returns an event as it belongs to the history. What is only there for observers is left out, so that the digest of a
/// seed does not depend on it.
fn in_history(event: &Event) -> Option<String> {
    match event {
        Event::SlowCall { .. } => None,
        Event::ReplyMissing { asker, message, reply_by, .. } => {
            Some(format!("ReplyMissing {{ asker: {asker:?}, message: {message:?}, reply_by: {reply_by:?} }}"))
        }
        event => {
            let mut event = event.clone();
            if let Event::DeadLettered { trace, .. } | Event::Expired { trace, .. } = &mut event {
                *trace = None;
            }
            Some(format!("{event:?}"))
        }
    }
}

fn is_message_id(word: &str) -> bool {
    word.len() == 33 && word.starts_with('m') && word[1..].bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The receipts that a sender may request.
pub(super) const RECEIPTS: [Receipt; 2] = [Receipt::Delivered, Receipt::Processed];
