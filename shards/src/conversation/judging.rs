//! Protocol checks of conversations.

use super::{
    Conformance, ConversationIndex, Conversations, NOWHERE, Passage, Passed, ProtocolFigures, REPLY_TO_NOTED_MAX,
    hash_of,
};
use crate::message::{AgentId, ConversationId, ConversationRole, Message, Performative, Reliability, Term, WallTime};
use crate::outcome::DeadLetterReason;
use crate::planted::{self, Bug};
use crate::protocol::{Verdict, Violation};
use hashbrown::HashSet;

/// Maximum number of names searched for in a platform's report.
const NAMES_IN_REPORT_MAX: usize = 64;

impl Conversations {
    /// Whether messages have to pass through [`Conversations::pass_by_protocol`].
    #[inline]
    pub fn hold_to_protocols(&self) -> bool {
        self.protocols.check()
    }

    /// Like [`Conversations::pass`], with protocol checks. A separate function, so that routers without checks do not
    /// pay for them.
    pub fn pass_by_protocol(
        &mut self,
        id: ConversationId,
        passage: &Passage<'_>,
        wall: WallTime,
    ) -> Result<(ConversationIndex, Passed), DeadLetterReason> {
        let probably = passage.message.delivery_meta().conversation_place;
        let (place, mut passed) = if self.slab.get(probably).is_some_and(|found| found.is(passage.initiator, id)) {
            (probably, Passed::Continued)
        } else {
            let hash = hash_of(self.seeded, passage.initiator, id);
            match self.find_hashed(hash, passage.initiator, id) {
                Some(place) => (place, Passed::Continued),
                None if passage.begins() => (self.open(id, hash, passage)?, Passed::Began),
                None => return self.pass_beside(passage),
            }
        };
        let Some(mut conversation) = self.slab.get_mut(place) else { return Err(DeadLetterReason::NotInConversation) };
        let Some(from) = conversation.position(passage.sender) else { return self.pass_stranger(place, passage, wall) };
        let to = conversation.position(passage.receiver);
        if to.is_none() && conversation.participants.len() >= self.limits.participants_max {
            // A refused message must not change anything, so this comes before the step.
            return Err(DeadLetterReason::TooManyParticipants);
        }
        if (conversation.guard.is_some() || passage.message.protocol_term().is_some())
            && self.protocols.step(conversation, from, to, passage, wall) == Verdict::Forbidden
            // A replayed dead letter was checked when it first passed; it may repeat what has been said.
            && !passage.message.rejoins()
        {
            passed = self.object(place, from, to, passage, passed)?;
            conversation = self.slab.get_mut(place).ok_or(DeadLetterReason::NotInConversation)?;
        }
        let to = match to {
            Some(to) => to,
            None => conversation.join(passage.receiver, self.limits.participants_max, self.seeded)?,
        };
        conversation.note::<true>(passage, from, to, self.limits.history);
        Ok((ConversationIndex(place), passed))
    }

    /// Passes a message to the initiator of a conversation from an agent that does not take part in it: one recruited
    /// for it, one named in `reply-to` by a participant, or a platform that could not deliver.
    #[cold]
    fn pass_stranger(
        &mut self,
        place: u32,
        passage: &Passage<'_>,
        wall: WallTime,
    ) -> Result<(ConversationIndex, Passed), DeadLetterReason> {
        let most = self.limits.participants_max;
        let Some(conversation) = self.slab.get_mut(place) else { return Err(DeadLetterReason::NotInConversation) };
        let to = conversation.position(passage.receiver);
        let (Some(guard), Some(0)) = (&mut conversation.guard, to) else { return self.pass_beside(passage) };
        let protocols = &self.protocols;
        if tells_of_loss(passage.message) {
            let named = concerned(&conversation.participants, passage.message);
            protocols.lose(guard, named, conversation.participants.len());
            return Ok((NOWHERE, Passed::Beside));
        }
        let from = conversation.participants.len();
        let welcome = protocols.others_speak(guard.protocol) || guard.is_delegate(passage.sender);
        if !welcome || !protocols.allows(guard, from, 0, passage.message) {
            return self.pass_beside(passage);
        }
        let from = conversation.join(passage.sender, most, self.seeded)?;
        self.protocols.step(conversation, from, to, passage, wall);
        conversation.note::<true>(passage, from, 0, self.limits.history);
        Ok((ConversationIndex(place), Passed::Joined))
    }

    /// Checks a message that belongs to no open conversation of its receiver and cannot begin one of its sender: see
    /// [`Shard::find_role`](crate::shard::Shard).
    #[cold]
    fn pass_beside(&mut self, passage: &Passage<'_>) -> Result<(ConversationIndex, Passed), DeadLetterReason> {
        let message = passage.message;
        if message.role() != ConversationRole::Unresolved {
            return Err(DeadLetterReason::NotInConversation);
        }
        let protocols = &self.protocols;
        let Some(protocol) = message.protocol_term().and_then(|name| protocols.find(name)) else {
            return Ok((NOWHERE, Passed::Beside));
        };
        if tells_of_loss(message) {
            return Ok((NOWHERE, Passed::Beside));
        }
        if protocols.others_speak(protocol) {
            // An agent that the initiator wants replies to go to has not seen the conversation before.
            self.unchecked += 1;
            return Ok((NOWHERE, Passed::Beside));
        }
        self.violation = protocols.explain_beginning(protocol, message).map(Box::new);
        match &self.violation {
            Some(violation) if violation.refused => Err(DeadLetterReason::ProtocolViolation),
            _ => Ok((NOWHERE, Passed::BesideInViolation)),
        }
    }

    /// Returns what the protocol of an initiator's open conversation says about a message from it, or `None` if there
    /// is no such conversation or it is not checked.
    #[cold]
    pub fn allows(&self, initiator: AgentId, id: ConversationId, peer: AgentId, message: &Message) -> Option<bool> {
        let conversation = self.slab.get(self.find(initiator, id)?)?;
        let guard = conversation.guard.as_ref()?;
        let to = conversation.position(peer).map_or(conversation.participants.len(), usize::from);
        Some(self.protocols.allows(guard, 0, to, message))
    }

    /// Counts a message that names a checked protocol but cannot be checked, because it has no conversation id.
    #[cold]
    pub fn count_unchecked(&mut self, message: &Message) {
        let named = || message.protocol_term().and_then(|name| self.protocols.find(name));
        if message.conversation().is_none() && named().is_some() {
            self.unchecked += 1;
        }
    }

    /// Checks whether the initiator may address all these agents. Otherwise returns the number of participants it would
    /// make, and the maximum.
    #[cold]
    pub fn room_for(
        &self,
        initiator: AgentId,
        id: ConversationId,
        agents: impl ExactSizeIterator<Item = AgentId>,
    ) -> Result<(), (usize, usize)> {
        let most = self.limits.participants_max;
        let open = self.find(initiator, id).and_then(|place| self.slab.get(place));
        let present = open.map_or(1, |open| open.participants.len());
        if present + agents.len() <= most {
            return Ok(());
        }
        let takes_part =
            |agent: &AgentId| *agent == initiator || open.is_some_and(|open| open.position(*agent).is_some());
        let mut new = HashSet::with_hasher(self.seeded);
        new.extend(agents.filter(|agent| !takes_part(agent)));
        let count = present + new.len();
        if count <= most { Ok(()) } else { Err((count, most)) }
    }

    /// Whether a message names a checked protocol that cannot begin with it.
    #[cold]
    pub fn begins_nothing(&self, message: &Message) -> bool {
        let protocols = &self.protocols;
        let named = message.protocol_term().and_then(|name| protocols.find(name));
        named.is_some_and(|protocol| !protocols.may_begin(protocol, message.performative()))
    }

    /// Whether two names denote the same checked protocol.
    pub fn is_same_protocol(&self, one: Option<Term>, other: Option<Term>) -> bool {
        let find = |name: Option<Term>| name.and_then(|name| self.protocols.find(name));
        one == other || (find(one).is_some() && find(one) == find(other))
    }

    /// Records that a participant redirects replies to its message (`reply-to`).
    #[cold]
    pub fn note_delegates(&mut self, initiator: AgentId, id: ConversationId, message: &Message) {
        let (Some(details), Some(sender)) = (message.details(), message.sender()) else { return };
        let Some(conversation) = self.find(initiator, id).and_then(|place| self.slab.get_mut(place)) else { return };
        let party = conversation.position(sender);
        if let (Some(guard), Some(party)) = (&mut conversation.guard, party) {
            for aid in details.reply_to.iter().take(REPLY_TO_NOTED_MAX) {
                guard.delegate(party, aid.id());
            }
        }
    }

    /// Refuses a message, or lets it pass and records the violation, depending on the protocol's mode.
    #[cold]
    fn object(
        &mut self,
        place: u32,
        from: u16,
        to: Option<u16>,
        passage: &Passage<'_>,
        passed: Passed,
    ) -> Result<Passed, DeadLetterReason> {
        let Some(conversation) = self.slab.get_mut(place) else { return Ok(passed) };
        if to == Some(0) && tells_of_loss(passage.message) {
            if let Some(guard) = &mut conversation.guard {
                let named = concerned(&conversation.participants, passage.message);
                self.protocols.lose(guard, named, conversation.participants.len());
            }
            return Ok(passed);
        }
        let by_the_rules = planted::is(Bug::RecoveredConversationsEnforced);
        if !by_the_rules && self.excuse(place, (from, to), passage, passed) {
            return Ok(passed);
        }
        let durable = passage.message.reliability() == Reliability::Durable;
        let lenient = self.recovered.has(place) && durable && !by_the_rules;
        let Some(conversation) = self.slab.get_mut(place) else { return Ok(passed) };
        let Some(guard) = conversation.guard.take() else { return Ok(passed) };
        let between = (usize::from(from), to.map_or(conversation.participants.len(), usize::from));
        let violation = self.protocols.explain(&guard, between, passage.message, passage.initiator);
        // In a conversation begun by an earlier run it is observed and not refused.
        let violation = violation.map(|violation| Violation { refused: violation.refused && !lenient, ..violation });
        if guard.has_begun() {
            conversation.guard = Some(guard);
        } else {
            // A message that names a protocol without beginning it leaves the conversation unchecked.
            self.protocols.keep(guard);
        }
        let refused = violation.as_ref().is_some_and(|violation| violation.refused);
        self.violation = violation.map(Box::new);
        if refused && passed == Passed::Began {
            // As if it had never been opened: its timeout was not armed yet.
            self.remove(place);
            self.opened -= 1;
            self.closed -= 1;
        }
        match passed {
            _ if refused => Err(DeadLetterReason::ProtocolViolation),
            Passed::Began | Passed::BeganInViolation => Ok(Passed::BeganInViolation),
            _ => Ok(Passed::ContinuedInViolation),
        }
    }

    /// Returns the protocol figures.
    pub fn conformance(&self) -> Conformance {
        Conformance {
            steps: self.protocols.steps().0,
            late: self.protocols.steps().1,
            observed: self.observed,
            refused: self.refused,
            unchecked: self.unchecked,
        }
    }

    /// Returns the figures of each checked protocol.
    pub fn by_protocol(&self) -> Vec<ProtocolFigures> {
        self.protocols.by_name()
    }

    /// Takes the violation of the last message that was let pass, and counts it.
    pub fn observe_violation(&mut self) -> Option<Box<Violation>> {
        let violation = self.violation.take()?;
        self.observed += 1;
        if let Some(figures) = self.protocols.figures_of(&violation) {
            figures.observed[usize::from(violation.named.is_some())] += 1;
        }
        Some(violation)
    }

    /// Takes the violation of the last message that was refused, and counts it.
    pub fn refuse_violation(&mut self) -> Option<Box<Violation>> {
        let violation = self.violation.take()?;
        self.refused += 1;
        if let Some(figures) = self.protocols.figures_of(&violation) {
            figures.refused[usize::from(violation.named.is_some())] += 1;
        }
        Some(violation)
    }

    /// Records that a message was given up. If its conversation is kept here, the last step may be repeated.
    #[cold]
    pub fn forgive_repetition(&mut self, message: &Message) {
        if let (Some(id), Some(initiator)) = (message.conversation(), message.initiator()) {
            self.delivery_failed(initiator, id);
        }
    }

    /// Records a notice to an agent that its message was not delivered, which may be the first information that the
    /// conversation's shard has of it.
    #[cold]
    pub fn on_failure_notice(&mut self, notice: &Message, to: AgentId) {
        if let (Some(id), ConversationRole::Initiator, Performative::Failure) =
            (notice.conversation(), notice.role(), notice.performative())
        {
            self.delivery_failed(to, id);
        }
    }

    /// Records that a message of this conversation was not delivered, so that the last step may be repeated.
    fn delivery_failed(&mut self, initiator: AgentId, id: ConversationId) {
        if !self.hold_to_protocols() {
            return;
        }
        let guard = self.find(initiator, id).and_then(|place| self.slab.get_mut(place)?.guard.as_mut());
        if let Some(guard) = guard {
            guard.delivery_failed = true;
        }
    }
}

/// Whether a message is a platform's report that it could not deliver another one: it comes from the agent management
/// system (SC00023), whose name is `ams` on every platform.
fn tells_of_loss(message: &Message) -> bool {
    let sender = message.details().and_then(|details| details.sender.as_ref());
    let is_ams = |name: &str| name.split('@').next().is_some_and(|local| local.eq_ignore_ascii_case("ams"));
    message.performative() == Performative::Failure && sender.is_some_and(|aid| is_ams(aid.name.as_ref()))
}

/// Returns the index of the participant named last in a platform's report: the receiver follows the message.
fn concerned(participants: &[AgentId], message: &Message) -> Option<usize> {
    let content = std::str::from_utf8(message.content().as_bytes()).ok()?;
    let names = content.rsplit(":name").take(NAMES_IN_REPORT_MAX).filter_map(|behind| {
        let end = |character: char| character.is_whitespace() || matches!(character, '(' | ')' | '"');
        behind.trim_start_matches(|character: char| character.is_whitespace() || character == '"').split(end).next()
    });
    let mut places = names.filter_map(|name| {
        let id = AgentId::of_text(name);
        participants.iter().position(|participant| *participant == id)
    });
    places.find(|place| *place > 0)
}
