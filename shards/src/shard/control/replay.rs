//! Searching, replaying and deleting dead letters.
//!
//! Invariants: a replayed letter is set aside while its message, under a new id, is in transit, and is removed when the
//! message has reached its receiver: a durable one is on disk there, a volatile one is in the mailbox. If the message
//! does not get there, the letter is unchanged, including its reason, attempts and replays; so is one that cannot be
//! replayed now. A message is replayed at most [`REPLAYS_MAX`] times, whatever happens to it in between, so that
//! replays cannot loop. A replayed message passes its conversation again and does not begin it again once it had
//! reached it.

use std::collections::BTreeMap;

use crate::base::slab::NONE;
use crate::dead_letter::{
    DeadLetter, DeadLetterId, DeadLetterReason, DeadLetterSearch, LETTERS_PER_ANSWER_MAX, LETTERS_SEARCHED_MAX,
};
use crate::message::delivery_meta::DeliveryFlags;
use crate::message::{AgentId, Choice, ConversationRole, Details, Message, MessageId, Receiver, Reliability, Replay};
use crate::outcome::Ending;
use crate::planted;
use crate::planted::Bug;
use crate::shard::agent::registry::{AgentFlags, AgentIndex};
use crate::shard::io::{Answer, SendErrorKind, Token};
use crate::shard::{Alarm, Shard, ShardPhase};
use crate::trace::StageEvent;

/// Maximum number of replays of one message.
pub const REPLAYS_MAX: u8 = 5;
/// Maximum number of replay requests that a shard works on at the same time.
pub const REPLAY_REQUESTS_MAX: usize = 1_024;
/// How long a request waits for its messages to reach their receivers, in milliseconds. Those that have not by then
/// count as replayed: their letters stay until they have.
pub const REPLAY_ANSWER_MS: u64 = 5_000;

/// A dead letter was not replayed. It stays where it is, unless there is none.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// There is no such letter.
    #[error("there is no dead letter {id}: it was replayed, purged or dropped for newer ones, or never existed")]
    Unknown {
        /// The requested id.
        id: DeadLetterId,
    },
    /// It was replayed the maximum number of times.
    #[error("the dead letter {id} was replayed {REPLAYS_MAX} times already, which is the limit")]
    TooOften {
        /// The letter.
        id: DeadLetterId,
    },
    /// The receiver's mailbox is full. Try again later, or replay it to another agent.
    #[error("the dead letter {id} was not replayed: its receiver's mailbox is full")]
    ReceiverFull {
        /// The letter.
        id: DeadLetterId,
    },
    /// The receiver does not exist: register it, or replay to another agent. A durable message also waits for a
    /// persistent agent that is not registered again yet.
    #[error(
        "the dead letter {id} was not replayed: its receiver is not registered, and the letter is unchanged: replay it where the receiver \
         is registered, or to another agent; only a durable message can wait, for an agent that is persistent"
    )]
    NoReceiver {
        /// The letter.
        id: DeadLetterId,
    },
    /// The message did not reach its receiver.
    #[error("the dead letter {id} was not replayed: {}; the letter is unchanged", .reason.explanation())]
    Refused {
        /// The letter.
        id: DeadLetterId,
        /// The reason.
        reason: DeadLetterReason,
    },
    /// The shard did not accept the message.
    #[error("the dead letter {id} was not replayed: {error}")]
    NotAccepted {
        /// The letter.
        id: DeadLetterId,
        /// The reason. After [`SendErrorKind::Full`] it is worth trying again later.
        error: SendErrorKind,
    },
}

impl ReplayError {
    /// Whether no other letter of the shard could be replayed now either.
    fn concerns_all(&self) -> bool {
        matches!(self, Self::NotAccepted { error: SendErrorKind::Full | SendErrorKind::Stopping, .. })
    }

    /// Returns why a letter's message did not reach its receiver.
    fn of(id: DeadLetterId, ending: Ending) -> Option<Self> {
        match ending {
            Ending::Kept => None,
            Ending::DeadLettered(
                DeadLetterReason::UnknownReceiver
                | DeadLetterReason::Deregistered
                | DeadLetterReason::RestartsExhausted,
            ) => Some(Self::NoReceiver { id }),
            Ending::DeadLettered(DeadLetterReason::MailboxFull | DeadLetterReason::RepliesFull) => {
                Some(Self::ReceiverFull { id })
            }
            Ending::DeadLettered(reason) => Some(Self::Refused { id, reason }),
            Ending::Expired => Some(Self::Refused { id, reason: DeadLetterReason::Expired }),
        }
    }
}

/// Returns the id of a dead letter's message replayed to an agent: the same one for the same letter, even if its number
/// changes with the number of shards, and another one for another letter of the same message, which may have had
/// several receivers.
fn replayed_id(message: MessageId, was_for: AgentId, to: AgentId) -> MessageId {
    message.derived(was_for, !0).derived(to, !1)
}

/// Replay requests whose messages are in transit.
#[derive(Debug, Default)]
pub(crate) struct Replays {
    open: BTreeMap<u64, Request>,
    counted: u64,
}

/// A replay request.
#[derive(Debug)]
struct Request {
    token: Token,
    portion: ReplayPortion,
    /// Number of messages that have neither reached their receivers nor ended.
    on_their_way: usize,
    /// Whether this turn may add more.
    is_growing: bool,
}

/// Some of a shard's dead letters, newest first.
#[derive(Clone, Debug, Default)]
pub struct DeadLetterPortion {
    /// What was found.
    pub letters: Vec<DeadLetter>,
    /// Where to continue if there are older letters: before this one.
    pub next: Option<DeadLetterId>,
}

/// The result of replaying some of a shard's dead letters, oldest first.
#[derive(Clone, Debug, Default)]
pub struct ReplayPortion {
    /// The replayed letters, each with the new id of its message.
    pub replayed: Vec<(DeadLetterId, MessageId)>,
    /// Why other letters were not replayed. These are kept.
    pub refused: Vec<ReplayError>,
    /// The refused letters whose messages were sent but did not reach their receivers, each with the message id used in
    /// events and notices.
    pub returned: Vec<(DeadLetterId, MessageId)>,
    /// Why the shard stopped early: it can replay nothing more now.
    pub stopped: Option<ReplayError>,
    /// If newer letters were not examined, the one after which to continue.
    pub next: Option<DeadLetterId>,
}

impl Shard {
    /// Replies with dead letters, newest first.
    #[cold]
    pub(in crate::shard) fn list_dead_letters(&mut self, search: &DeadLetterSearch, limit: usize, token: Token) {
        let (letters, next) = self.dead_letters.list(search, limit);
        self.outputs.answer(token, Answer::DeadLetters(DeadLetterPortion { letters, next }));
    }

    /// Deletes dead letters and replies with their number.
    #[cold]
    pub(in crate::shard) fn purge_dead_letters(&mut self, search: &DeadLetterSearch, token: Token) {
        let (ids, next) = self.dead_letters.select(search, LETTERS_SEARCHED_MAX);
        let purged: Vec<_> = ids.into_iter().filter(|id| self.dead_letters.take(*id).is_some()).collect();
        for id in &purged {
            self.journal.forget_letter(*id);
        }
        let purged = purged.len();
        self.outputs.answer(token, Answer::DeadLettersPurged { letters: purged as u64, next });
    }

    /// Sends dead letters again, oldest first, so that messages between two agents keep their order. Continues until
    /// the shard has no room. The reply is sent once the messages have reached their receivers or failed.
    #[cold]
    pub(in crate::shard) fn replay_dead_letters(
        &mut self,
        search: &DeadLetterSearch,
        to: Option<AgentId>,
        token: Token,
    ) {
        let (ids, next) = self.dead_letters.select(search, LETTERS_PER_ANSWER_MAX);
        let portion = ReplayPortion { next, ..ReplayPortion::default() };
        self.operations.replays.counted += 1;
        let request = self.operations.replays.counted;
        let has_room = self.operations.replays.open.len() < REPLAY_REQUESTS_MAX;
        self.operations.replays.open.insert(request, Request { token, portion, on_their_way: 0, is_growing: true });
        for id in ids {
            let replayed = if has_room {
                self.replay(id, to, request)
            } else {
                Err(ReplayError::NotAccepted { id, error: SendErrorKind::Full })
            };
            let Some(Request { portion, .. }) = self.operations.replays.open.get_mut(&request) else { return };
            match replayed {
                // A letter that was replayed before this one failed immediately and took its slot.
                Ok(()) | Err(ReplayError::Unknown { .. }) => {}
                Err(error) if error.concerns_all() => {
                    portion.stopped = Some(error);
                    portion.next = Some(DeadLetterId { number: id.number - 1, ..id });
                    break;
                }
                Err(error) => portion.refused.push(error),
            }
        }
        if let Some(open) = self.operations.replays.open.get_mut(&request) {
            open.is_growing = false;
            if open.on_their_way == 0 {
                return self.answer_replays(request);
            }
        }
        if self.timers.insert(self.clock.now_ms() + REPLAY_ANSWER_MS, Alarm::Replays(request)).is_err() {
            self.answer_replays(request);
        }
    }

    /// Ends the replay of a dead letter: its message was delivered, or it was not and the letter is kept.
    #[cold]
    pub(in crate::shard) fn end_replay(&mut self, letter: DeadLetterId, request: u64, ending: Ending) {
        if ending == Ending::Kept {
            self.dead_letters.end_replay(letter);
            self.journal.forget_letter(letter);
        } else {
            let dropped = self.dead_letters.restore(letter);
            self.forget_dropped_letters(&dropped);
        }
        let Some(open) = self.operations.replays.open.get_mut(&request) else { return };
        open.on_their_way = open.on_their_way.saturating_sub(1);
        if let Some(error) = ReplayError::of(letter, ending) {
            let portion = &mut open.portion;
            portion.returned.extend(portion.replayed.extract_if(.., |(replayed, _)| *replayed == letter));
            portion.refused.push(error);
        }
        if open.on_their_way == 0 && !open.is_growing {
            self.answer_replays(request);
        }
    }

    /// Replies to a request unless that was done before.
    #[cold]
    pub(in crate::shard) fn answer_replays(&mut self, request: u64) {
        if let Some(Request { token, portion, .. }) = self.operations.replays.open.remove(&request) {
            self.outputs.answer(token, Answer::DeadLettersReplayed(Box::new(portion)));
        }
    }

    /// Replies to the open requests when the router has stopped.
    pub(in crate::shard) fn stop_replays(&mut self) {
        for request in self.operations.replays.open.keys().copied().collect::<Vec<_>>() {
            self.answer_replays(request);
        }
    }

    /// Sends a dead letter's message again as a newly accepted one, with a new id, to its receiver or to another agent.
    /// It waits in the gateway's outbox if it has to, and keeps its sender.
    fn replay(&mut self, id: DeadLetterId, to: Option<AgentId>, request: u64) -> Result<(), ReplayError> {
        self.check_replay(id, to)?;
        let Some(letter) = self.dead_letters.begin_replay(id) else { return Err(ReplayError::Unknown { id }) };
        let rejoins = self.has_reached_conversation(&letter);
        let DeadLetter { mut message, first, replays, .. } = letter;
        let (text_borne, was_for) = (message.delivery_meta().is_text_borne(), message.target());
        self.readdress(&mut message, to);
        message.set_replay(Replay { times: replays.saturating_add(1), first, rejoins });
        // A durable message gets the same id if it is replayed twice because the machine stopped in between.
        let durable = message.reliability() == Reliability::Durable;
        let message_id = match (message.id(), message.target()) {
            (Some(own), Some(target)) if durable && planted::is(Bug::ReplayedIdByNumber) => {
                own.derived(target, id.number.try_into().unwrap_or(u32::MAX))
            }
            (Some(own), Some(target)) if durable => replayed_id(own, was_for.unwrap_or(target), target),
            _ => self.ids.message(),
        };
        message.set_id(message_id);
        let sender = message.sender().and_then(|sender| self.agents.find(sender));
        let mut envelope = self.enclose(sender.unwrap_or(AgentIndex(NONE)), message);
        envelope.flags.set(DeliveryFlags::TEXT_BORNE, text_borne);
        if !self.promise_replay(&mut envelope, id, request) {
            if envelope.is_watched() {
                self.record_stage(&envelope, StageEvent::Withdrawn);
            }
            let dropped = self.dead_letters.restore(id);
            self.forget_dropped_letters(&dropped);
            return Err(ReplayError::NotAccepted { id, error: SendErrorKind::Full });
        }
        if let Some(open) = self.operations.replays.open.get_mut(&request) {
            open.on_their_way += 1;
            open.portion.replayed.push((id, message_id));
        }
        self.submit(self.agents.gateway(), envelope);
        Ok(())
    }

    /// Checks whether a letter can be replayed now.
    fn check_replay(&self, id: DeadLetterId, to: Option<AgentId>) -> Result<(), ReplayError> {
        let Some(letter) = self.dead_letters.get(id) else { return Err(ReplayError::Unknown { id }) };
        if letter.replays >= REPLAYS_MAX {
            return Err(ReplayError::TooOften { id });
        }
        let refusal = (self.phase != ShardPhase::Running).then_some(SendErrorKind::Stopping);
        if let Some(error) = refusal.or_else(|| self.refusal(self.agents.gateway(), &letter.message)) {
            return Err(ReplayError::NotAccepted { id, error });
        }
        // Replays that are known to fail are not attempted. For a mailbox on another shard, that shard decides.
        let is_provider = matches!(letter.message.receiver(), Receiver::Provider(..)) && to.is_none();
        let Some(receiver) = to.or_else(|| letter.message.target()).filter(|_| !is_provider) else { return Ok(()) };
        if self.flow_control.queues.exist() && self.flow_control.queues.must_wait(&letter.message, receiver) {
            return Err(ReplayError::ReceiverFull { id });
        }
        if !self.is_here(self.home_of(receiver)) {
            return Ok(());
        }
        let slot = self.agents.find(receiver).and_then(|index| self.agents.get(index));
        let Some(slot) = slot.filter(|slot| !slot.is_leaving()) else {
            return if self.config.looks_for_absent { Ok(()) } else { Err(ReplayError::NoReceiver { id }) };
        };
        // Only a durable message can wait for an agent that is not registered yet, unless the agent is looked for.
        if slot.flags.is(AgentFlags::ABSENT)
            && letter.message.reliability() != Reliability::Durable
            && !self.operations.wanted.has(receiver)
        {
            return Err(ReplayError::NoReceiver { id });
        }
        let weight = u32::try_from(letter.message.weight() + size_of::<Details>()).unwrap_or(u32::MAX);
        let has_room = slot.mailbox.has_room(self.config.mailbox_limits(), weight);
        if has_room { Ok(()) } else { Err(ReplayError::ReceiverFull { id }) }
    }

    /// Whether the message had passed its conversation before it failed, or was admitted once and replayed. It then
    /// does not reopen a conversation that was closed meanwhile.
    fn has_reached_conversation(&self, letter: &DeadLetter) -> bool {
        let message = &letter.message;
        if message.conversation().is_none() || message.role() == ConversationRole::Unresolved {
            return false;
        }
        let died_before = match letter.reason {
            DeadLetterReason::NoProvider
            | DeadLetterReason::NoRoute
            | DeadLetterReason::NotAdmitted
            | DeadLetterReason::TooManyConversations
            | DeadLetterReason::AmbiguousConversation
            | DeadLetterReason::ProtocolViolation => true,
            // On the sender's own shard, the outbox may have been full.
            DeadLetterReason::ShardFull => message.sender().is_some_and(|sender| self.is_here(self.home_of(sender))),
            // It expired on its sender's shard, on the way to another one.
            DeadLetterReason::Expired => {
                let is_here = |agent: Option<AgentId>| agent.is_some_and(|agent| self.is_here(self.home_of(agent)));
                is_here(message.sender()) && !is_here(message.target())
            }
            _ => false,
        };
        message.rejoins() || !died_before
    }

    /// Sets a message's receiver, and keeps it in its conversation, which it must be able to find from here.
    fn readdress(&self, message: &mut Message, to: Option<AgentId>) {
        let redirected = to.filter(|to| message.target() != Some(*to));
        if message.conversation().is_some() {
            match (message.role(), message.sender(), message.target()) {
                // Its conversation lives on its sender's shard, which it passes through.
                (ConversationRole::Initiator, Some(sender), _) if !self.is_here(self.home_of(sender)) => {
                    message.set_member_of(sender);
                }
                // It was for the initiator of the conversation and now goes to another agent.
                (ConversationRole::Participant, _, Some(initiator)) if redirected.is_some() => {
                    message.set_member_of(initiator);
                }
                _ => {}
            }
        }
        match (redirected, message.receiver()) {
            (Some(agent), _) => message.set_receiver(Receiver::Agent(agent)),
            // Any current provider of the capability will do.
            (None, Receiver::Provider(_, capability))
                if to.is_none() && message.role() != ConversationRole::Participant =>
            {
                message.set_receiver(Receiver::Capability(*capability, Choice::Any));
            }
            _ => {}
        }
    }

    fn home_of(&self, agent: AgentId) -> crate::base::index::ShardIndex {
        self.config.partition.shard_of(agent)
    }
}
