//! Dead letters once more: they are looked through, sent again, or thrown away.
//!
//! Invariants: a replayed letter leaves the store in the same turn in which its message is accepted anew, under a new
//! id, so that it is neither lost nor there twice; a letter that cannot be replayed now stays as it is; a message is
//! replayed [`REPLAYS_MAX`] times at most, whatever happens to it in between, so that replays cannot loop. A replayed
//! message passes its conversation again and does not begin it anew once it had reached it.

use crate::dead_letter::{
    DeadLetter, DeadLetterId, DeadLetterSearch, LETTERS_PER_ANSWER_MAX, LETTERS_SEARCHED_MAX, Reason,
};
use crate::interface::{Answer, SendError, Token};
use crate::message::{
    AgentId, Choice, ConversationRole, Details, Message, MessageId, Receiver, Reliability, Replay, WallTime,
};
use crate::registry::AgentIndex;
use crate::shard::{Phase, Shard};
use crate::slab::NONE;

/// How often one message can be replayed.
pub const REPLAYS_MAX: u8 = 5;

/// Why a dead letter was not replayed. It stays where it is, unless there is none.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ReplayError {
    /// There is no such letter.
    #[error("there is no dead letter {id}: it was replayed, purged or made room for newer ones, or never was")]
    Unknown {
        /// The number that was asked for.
        id: DeadLetterId,
    },
    /// It was replayed as often as it can be.
    #[error("the dead letter {id} was replayed {REPLAYS_MAX} times already, and no message is replayed more often")]
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
    /// The shard did not accept the message anew.
    #[error("the dead letter {id} was not replayed: {error}")]
    NotAccepted {
        /// The letter.
        id: DeadLetterId,
        /// Why. After [`SendError::Full`] it is worth trying again later.
        error: SendError,
    },
}

impl ReplayError {
    /// Whether no other letter of the shard could be replayed now either.
    fn concerns_all(&self) -> bool {
        matches!(self, Self::NotAccepted { error: SendError::Full | SendError::Stopping, .. })
    }
}

/// The id of a dead letter's message that is sent again to an agent: the same one for the same letter, and another one for
/// another letter of the same message, which may have had several receivers.
fn replayed_id(message: MessageId, letter: DeadLetterId, to: AgentId) -> MessageId {
    let number = message.derived(to, !u32::try_from(letter.number & 0xffff_ffff).unwrap_or(0));
    number.derived(to, !u32::from(letter.shard.0))
}

/// Some of a shard's dead letters, the newest first.
#[derive(Clone, Debug, Default)]
pub struct DeadLetterPortion {
    /// What was found.
    pub letters: Vec<DeadLetter>,
    /// If there are older letters which were not looked at: before which one to go on.
    pub next: Option<DeadLetterId>,
}

/// What came of replaying some of a shard's dead letters, the oldest first.
#[derive(Clone, Debug, Default)]
pub struct ReplayPortion {
    /// The letters that were replayed, each with its message's new id.
    pub replayed: Vec<(DeadLetterId, MessageId)>,
    /// Why others were not. They stay.
    pub refused: Vec<ReplayError>,
    /// Why the shard stopped before the end: it can replay nothing more now.
    pub stopped: Option<ReplayError>,
    /// If there are newer letters which were not looked at: after which one to go on.
    pub next: Option<DeadLetterId>,
}

impl Shard {
    /// Answers with dead letters, the newest first.
    #[cold]
    pub(crate) fn list_dead_letters(&mut self, search: &DeadLetterSearch, limit: usize, token: Token) {
        let (letters, next) = self.dead_letters.list(search, limit);
        self.answer(token, Answer::DeadLetters(DeadLetterPortion { letters, next }));
    }

    /// Throws dead letters away, and answers how many.
    #[cold]
    pub(crate) fn purge_dead_letters(&mut self, search: &DeadLetterSearch, token: Token) {
        let (ids, next) = self.dead_letters.select(search, LETTERS_SEARCHED_MAX);
        let purged: Vec<_> = ids.into_iter().filter(|id| self.dead_letters.take(*id).is_some()).collect();
        for id in &purged {
            self.forget_letter(*id);
        }
        let purged = purged.len();
        self.answer(token, Answer::DeadLettersPurged { letters: purged as u64, next });
    }

    /// Sends dead letters again, the oldest first, so that messages between two agents keep their order. Goes on until
    /// the shard can take no more.
    #[cold]
    pub(crate) fn replay_dead_letters(&mut self, search: &DeadLetterSearch, to: Option<AgentId>, token: Token) {
        let (ids, next) = self.dead_letters.select(search, LETTERS_PER_ANSWER_MAX);
        let mut portion = ReplayPortion { next, ..ReplayPortion::default() };
        for id in ids {
            match self.replay(id, to) {
                Ok(message) => portion.replayed.push((id, message)),
                // A letter that was replayed before this one died at once and took its room.
                Err(ReplayError::Unknown { .. }) => {}
                Err(error) if error.concerns_all() => {
                    portion.stopped = Some(error);
                    portion.next = Some(DeadLetterId { number: id.number - 1, ..id });
                    break;
                }
                Err(error) => portion.refused.push(error),
            }
        }
        self.answer(token, Answer::DeadLettersReplayed(Box::new(portion)));
    }

    /// Sends a dead letter's message again: as a newly accepted one, with a new id, to whom it was for or to another
    /// agent. It waits in the gateway's outbox where it has to, and its sender stays who it was.
    fn replay(&mut self, id: DeadLetterId, to: Option<AgentId>) -> Result<MessageId, ReplayError> {
        self.check_replay(id, to)?;
        let Some(letter) = self.dead_letters.take(id) else { return Err(ReplayError::Unknown { id }) };
        let rejoins = self.has_reached_conversation(&letter);
        let DeadLetter { mut message, first, replays, .. } = letter;
        let text_borne = message.postage().text_borne;
        self.readdress(&mut message, to);
        message.set_replay(Replay { times: replays.saturating_add(1), first, rejoins });
        // A durable message gets the same id should it be replayed again, because the machine stopped in between.
        let durable = message.reliability() == Reliability::Durable;
        let message_id = match (message.id(), message.target()) {
            (Some(own), Some(target)) if durable => replayed_id(own, id, target),
            _ => self.ids.message(),
        };
        message.set_id(message_id);
        let sender = message.sender().and_then(|sender| self.agents.find(sender));
        let mut envelope = self.enclose(sender.unwrap_or(AgentIndex(NONE)), message);
        envelope.text_borne = text_borne;
        self.dead_letters.replayed += 1;
        if durable {
            self.forget_letter_when_kept(&mut envelope, id);
        } else {
            self.forget_letter(id);
        }
        self.submit(self.gateway, envelope);
        Ok(message_id)
    }

    /// What forbids to replay a letter now.
    fn check_replay(&self, id: DeadLetterId, to: Option<AgentId>) -> Result<(), ReplayError> {
        let Some(letter) = self.dead_letters.get(id) else { return Err(ReplayError::Unknown { id }) };
        if letter.replays >= REPLAYS_MAX {
            return Err(ReplayError::TooOften { id });
        }
        let refusal = (self.phase != Phase::Running).then_some(SendError::Stopping);
        if let Some(error) = refusal.or_else(|| self.refusal(self.gateway, &letter.message)) {
            return Err(ReplayError::NotAccepted { id, error });
        }
        // What is known to fail does not use a replay up. Of a mailbox on another shard nothing is known here.
        let receiver = to.or_else(|| letter.message.target()).and_then(|agent| self.agents.find(agent));
        let weight = u32::try_from(letter.message.weight() + size_of::<Details>()).unwrap_or(u32::MAX);
        let messages_max = self.config.mailbox_messages.into_inner();
        let bytes_max = self.config.mailbox_bytes.into_inner();
        let has_room = receiver
            .and_then(|index| self.agents.get(index))
            .is_none_or(|slot| slot.mailbox.has_room(messages_max, bytes_max, weight));
        if has_room { Ok(()) } else { Err(ReplayError::ReceiverFull { id }) }
    }

    /// Whether the message had passed its conversation before it was given up, or was let in once and replayed: then it
    /// does not begin it anew, should it be closed meanwhile.
    fn has_reached_conversation(&self, letter: &DeadLetter) -> bool {
        let message = &letter.message;
        if message.conversation().is_none() || message.role() == ConversationRole::Unresolved {
            return false;
        }
        let died_before = match letter.reason {
            Reason::NoProvider
            | Reason::NoRoute
            | Reason::NotAdmitted
            | Reason::TooManyConversations
            | Reason::AmbiguousConversation
            | Reason::ProtocolViolation => true,
            // On the sender's own shard it may have been for want of a place in the outbox.
            Reason::ShardFull => message.sender().is_some_and(|sender| self.is_here(self.home_of(sender))),
            _ => false,
        };
        message.rejoins() || !died_before
    }

    /// Says anew whom a message is for, and keeps it in its conversation, which it must be able to find from here.
    fn readdress(&self, message: &mut Message, to: Option<AgentId>) {
        let redirected = to.filter(|to| message.target() != Some(*to));
        if message.conversation().is_some() {
            match (message.role(), message.sender(), message.target()) {
                // Its conversation lives on its sender's shard, and it passes by there.
                (ConversationRole::Initiator, Some(sender), _) if !self.is_here(self.home_of(sender)) => {
                    message.set_member_of(sender);
                }
                // It was for who began the conversation, and goes to someone else.
                (ConversationRole::Participant, _, Some(initiator)) if redirected.is_some() => {
                    message.set_member_of(initiator);
                }
                _ => {}
            }
        }
        match (redirected, message.receiver()) {
            (Some(agent), _) => message.set_receiver(Receiver::Agent(agent)),
            // Whoever offers the capability now will do as well as the one who failed.
            (None, Receiver::Provider(_, capability))
                if to.is_none() && message.role() != ConversationRole::Participant =>
            {
                message.set_receiver(Receiver::Capability(*capability, Choice::Any));
            }
            _ => {}
        }
    }

    fn home_of(&self, agent: AgentId) -> crate::partition::ShardIndex {
        self.config.partition.shard_of(agent)
    }

    /// When the message was first accepted, for its dead letter. Nothing is written down for that while all goes well:
    /// it follows from the end of its lifetime.
    pub(crate) fn first_accepted(&self, message: &Message) -> WallTime {
        if let Some(replay) = message.replay() {
            return replay.first;
        }
        match self.lifetime_began(message) {
            Some(began_ms) => WallTime(self.now.wall.0.saturating_sub(self.now_ms.saturating_sub(began_ms))),
            None => self.now.wall,
        }
    }
}
