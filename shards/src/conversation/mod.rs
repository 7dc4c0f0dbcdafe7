//! Conversations: who takes part, what is awaited, what was said, and when it ends.
//!
//! A conversation lives on its initiator's shard under the key (initiator, conversation id). What the initiator sends
//! is checked before it leaves, what it receives is checked on arrival, so that exchanges that centre on an initiator,
//! as all FIPA protocols do, cost no extra hop.
//!
//! Invariants: an open conversation has an initiator and at most `participants_max` agents, the initiator included;
//! its history and its awaited replies are bounded; without traffic it ends at its timeout. From its first durable message on
//! it outlives the process.

mod history;
pub(crate) mod initiators;
mod recovered;

pub use history::HistoryEntry;

use hashbrown::{HashMap, HashSet, HashTable};
use smallvec::SmallVec;

use crate::base::hashing::Seeded;
pub(crate) use crate::base::index::ConversationIndex;
use crate::base::slab::Slab;
use crate::base::timer_wheel::TimerKey;
use crate::message::{
    AgentId, ConversationId, ConversationRole, Correlation, Message, Performative, Reliability, Term, WallTime,
};
use crate::outcome::Reason;
use crate::planted::{self, Bug};
use crate::protocol::{Guard, ProtocolView, Rulebook, Verdict, Violation};
use history::{History, Remembered};
use recovered::Recovered;

/// The most replies that one conversation waits for. Beyond it the oldest is no longer matched with its answer.
pub const AWAITED_REPLIES_MAX: usize = 1_024;
/// The most agents of one `reply-to` that answers are expected from.
pub(crate) const REPLY_TO_NOTED_MAX: usize = 16;
/// The most names that a platform's report is searched for.
const NAMES_IN_REPORT_MAX: usize = 64;
/// From this many participants on they are looked up in a table instead of compared one by one.
const LISTED_PARTICIPANTS_MAX: usize = 16;

/// A copy of a conversation's state, for people and tests.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConversationView {
    /// Who began it.
    pub initiator: AgentId,
    /// Its id.
    pub id: ConversationId,
    /// Everyone who takes part, the initiator first.
    pub participants: Vec<AgentId>,
    /// `reply-with` values whose answers have not come.
    pub awaited: Vec<Correlation>,
    /// Messages so far.
    pub messages: u64,
    /// When the first message passed, in milliseconds of monotonic time.
    pub opened_ms: u64,
    /// When the last message passed.
    pub last_ms: u64,
    /// The newest messages, oldest first.
    pub history: Vec<HistoryEntry>,
    /// The protocol that it is held to, and how it stands.
    pub protocol: Option<ProtocolView>,
}

#[derive(Clone, Copy, Debug)]
struct Awaited {
    correlation: Correlation,
    asker: u16,
}

/// One conversation. What an ordinary message looks at comes first, within two cache lines.
#[derive(Debug)]
#[repr(C, align(64))]
struct Conversation {
    id: ConversationId,
    initiator: AgentId,
    participants: SmallVec<[AgentId; 2]>,
    history: History,
    opened_ms: u64,
    last_ms: u64,
    messages: u64,
    awaited: SmallVec<[Awaited; 1]>,
    /// The participants' positions, once there are many.
    table: Option<Box<HashMap<AgentId, u16, Seeded>>>,
    timer: Option<TimerKey>,
    /// Its place in the protocol that it is held to.
    guard: Option<Box<Guard>>,
    /// Durable messages passed it: the journal knows of it.
    durable: bool,
}

const _: () =
    assert!(std::mem::offset_of!(Conversation, awaited) <= 128, "what a message looks at lies in two cache lines");
const _: () = assert!(size_of::<Conversation>() == 192, "a conversation fills three cache lines");

/// What the conversations of a shard may cost.
#[derive(Clone, Copy, Debug)]
pub struct ConversationLimits {
    /// Open conversations.
    pub open_max: usize,
    /// Participants of one conversation, the initiator included.
    pub participants_max: usize,
    /// Remembered messages of one conversation.
    pub history: usize,
    /// Without traffic for this long a conversation ends, in milliseconds.
    pub timeout_ms: u64,
}

/// The open conversations whose initiators live on this shard.
#[derive(Debug)]
pub(crate) struct Conversations {
    limits: ConversationLimits,
    slab: Slab<Conversation>,
    index: HashTable<u32>,
    seeded: Seeded,
    /// Histories of closed conversations: kept empty for the next ones, so that short conversations do not allocate.
    spare_histories: Vec<History>,
    protocols: Protocols,
    /// What was wrong with the message that was let pass or refused last, until the shard takes it.
    violation: Option<Box<Violation>>,
    pub opened: u64,
    pub closed: u64,
    /// Messages that name a protocol that is checked, and could not be held to it.
    pub unchecked: u64,
    /// What is known of conversations that an earlier run had begun.
    recovered: Recovered,
}

/// What conversations are held to.
#[derive(Debug)]
struct Protocols {
    rulebook: Rulebook,
    /// Guards of closed conversations, for the next ones.
    #[allow(clippy::vec_box)] // They are kept to be used again where they lie.
    spare_guards: Vec<Box<Guard>>,
    /// Messages that followed their protocol, and how many of them came later than the message before them wanted.
    steps: u64,
    steps_late: u64,
}

/// How many empty histories are kept for reuse.
const SPARE_HISTORIES_MAX: usize = 1_024;
/// Longer histories are not kept for reuse.
const SPARE_HISTORY_ENTRIES_MAX: usize = 64;
/// How many guards are kept for reuse.
const SPARE_GUARDS_MAX: usize = 1_024;

/// A message that is about to pass, and who it passes between.
pub(crate) struct Passage<'a> {
    pub initiator: AgentId,
    pub sender: AgentId,
    pub receiver: AgentId,
    pub message: &'a Message,
    pub now_ms: u64,
}

impl Passage<'_> {
    /// Whether the message can begin a conversation. An answer that an agent gives to itself is none of its initiator's.
    fn begins(&self) -> bool {
        self.sender == self.initiator && self.message.role() != ConversationRole::Participant && !self.message.rejoins()
    }
}

/// What is left of a conversation when it ends.
struct Ended {
    initiator: AgentId,
    id: ConversationId,
    participants: SmallVec<[AgentId; 2]>,
    timer: Option<TimerKey>,
    durable: bool,
}

/// What became of a conversation with the message that passed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Passed {
    /// It was open already.
    Continued,
    /// It began: its timeout has to be armed.
    Began,
    /// It was open already, and the message breaks its protocol.
    ContinuedInViolation,
    /// It began, and the message breaks the protocol that it names.
    BeganInViolation,
    /// It was open already, and its sender is new to it.
    Joined,
    /// The message passed beside the conversations that are open here, and none was opened.
    Beside,
    /// It passed likewise, and breaks the protocol that it names.
    BesideInViolation,
}

/// How an agent stands to a conversation of its own with some id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum OwnConversation {
    /// It began none that is open.
    None,
    /// It began one in which this peer does not take part.
    WithoutPeer,
    /// It began one in which this peer takes part.
    WithPeer,
}

/// The place of a message that belongs to no conversation.
const NOWHERE: ConversationIndex = ConversationIndex(u32::MAX);

/// What a conversation's timer found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Timeout {
    /// The conversation ended. The initiator is the first participant.
    Ended { initiator: AgentId, id: ConversationId, participants: SmallVec<[AgentId; 2]>, durable: bool },
    /// There was traffic since: look again at this moment.
    NotBefore(u64),
    /// There is no such conversation any more.
    Gone,
}

impl Conversations {
    pub fn new(limits: ConversationLimits, rulebook: Rulebook, seed: u64) -> Self {
        Self {
            limits,
            slab: Slab::new(limits.open_max),
            index: HashTable::new(),
            seeded: Seeded::new(seed),
            spare_histories: Vec::new(),
            protocols: Protocols { rulebook, spare_guards: Vec::new(), steps: 0, steps_late: 0 },
            violation: None,
            opened: 0,
            closed: 0,
            unchecked: 0,
            recovered: Recovered::new(Seeded::new(seed)),
        }
    }

    pub fn len(&self) -> usize {
        self.slab.len()
    }

    pub fn timeout_ms(&self) -> u64 {
        self.limits.timeout_ms
    }

    #[inline(always)]
    fn find(&self, initiator: AgentId, id: ConversationId) -> Option<u32> {
        self.find_hashed(hash_of(self.seeded, initiator, id), initiator, id)
    }

    /// As [`Conversations::find`], where the hash of both is known.
    #[inline(always)]
    fn find_hashed(&self, hash: u64, initiator: AgentId, id: ConversationId) -> Option<u32> {
        let same = |place: &u32| self.slab.get(*place).is_some_and(|found| found.is(initiator, id));
        self.index.find(hash, same).copied()
    }

    /// How this agent stands to a conversation of its own with this id.
    pub fn own(&self, initiator: AgentId, id: ConversationId, peer: AgentId) -> OwnConversation {
        match self.find(initiator, id).and_then(|place| self.slab.get(place)) {
            None => OwnConversation::None,
            Some(found) if found.position(peer).is_some() => OwnConversation::WithPeer,
            Some(_) => OwnConversation::WithoutPeer,
        }
    }

    /// Whether the initiator's message to a peer answers a question that this peer asked in the conversation.
    pub fn answers(&self, initiator: AgentId, id: ConversationId, peer: AgentId, question: Correlation) -> bool {
        let found = self.find(initiator, id).and_then(|place| self.slab.get(place));
        found.is_some_and(|found| {
            let peer = found.position(peer);
            found.awaited.iter().any(|awaited| awaited.correlation == question && Some(awaited.asker) == peer)
        })
    }

    /// Lets a message pass, or says why not. Only a message of the initiator can begin a conversation. Nothing has
    /// changed when a message is refused.
    #[inline(always)]
    pub fn pass(&mut self, id: ConversationId, passage: &Passage<'_>) -> Result<(ConversationIndex, Passed), Reason> {
        let place = passage.message.delivery_meta().conversation_place;
        match self.slab.get_mut(place) {
            Some(conversation) if conversation.is(passage.initiator, id) => {
                conversation.pass(passage, &self.limits, self.seeded)?;
                Ok((ConversationIndex(place), Passed::Continued))
            }
            _ => self.pass_by_id(id, passage),
        }
    }

    /// As [`Conversations::pass`], for a message that does not know where its conversation lies.
    #[inline(never)]
    fn pass_by_id(&mut self, id: ConversationId, passage: &Passage<'_>) -> Result<(ConversationIndex, Passed), Reason> {
        let hash = hash_of(self.seeded, passage.initiator, id);
        let (place, passed) = match self.find_hashed(hash, passage.initiator, id) {
            Some(place) => (place, Passed::Continued),
            None if passage.begins() => (self.open(id, hash, passage)?, Passed::Began),
            None => return Err(Reason::NotInConversation),
        };
        let Some(conversation) = self.slab.get_mut(place) else { return Err(Reason::NotInConversation) };
        conversation.pass(passage, &self.limits, self.seeded)?;
        Ok((ConversationIndex(place), passed))
    }

    /// Begins a conversation that is not open. The hash is that of its initiator and its id.
    fn open(&mut self, id: ConversationId, hash: u64, passage: &Passage<'_>) -> Result<u32, Reason> {
        // The initiator and, unless it talks to itself, the receiver.
        let participants = 1 + usize::from(passage.receiver != passage.initiator);
        if participants > self.limits.participants_max {
            return Err(Reason::TooManyParticipants);
        }
        let conversation = Conversation {
            id,
            initiator: passage.initiator,
            participants: SmallVec::from_slice(&[passage.initiator]),
            history: self.spare_histories.pop().unwrap_or_default(),
            opened_ms: passage.now_ms,
            last_ms: passage.now_ms,
            messages: 0,
            awaited: SmallVec::new(),
            table: None,
            timer: None,
            guard: None,
            durable: false,
        };
        let place = self.slab.insert(conversation).map_err(|_| Reason::TooManyConversations)?;
        let (slab, seeded) = (&self.slab, self.seeded);
        let rehash = |place: &u32| slab.get(*place).map_or(0, |found| hash_of(seeded, found.initiator, found.id));
        self.index.insert_unique(hash, place, rehash);
        self.opened += 1;
        Ok(place)
    }

    pub fn set_timer(&mut self, index: ConversationIndex, timer: Option<TimerKey>) {
        if let Some(conversation) = self.slab.get_mut(index.0) {
            conversation.timer = timer;
        }
    }

    /// Ends a conversation. Returns its timer, which has to be cancelled, if it was open and had one.
    pub fn close(&mut self, initiator: AgentId, id: ConversationId) -> Option<(Option<TimerKey>, bool)> {
        let slab = &self.slab;
        let same = |place: &u32| slab.get(*place).is_some_and(|found| found.is(initiator, id));
        let (place, _) = self.index.find_entry(hash_of(self.seeded, initiator, id), same).ok()?.remove();
        self.release(place).map(|ended| (ended.timer, ended.durable))
    }

    /// Lets a message pass whose conversation was lost, or knows less than the message does: it is begun again, or its sender
    /// joins it.
    #[cold]
    pub fn rejoin(&mut self, id: ConversationId, passage: &Passage<'_>) -> Result<(ConversationIndex, Passed), Reason> {
        let (place, passed) = match self.find(passage.initiator, id) {
            Some(place) => (place, Passed::Continued),
            None => (self.open(id, hash_of(self.seeded, passage.initiator, id), passage)?, Passed::Began),
        };
        let (most, seeded) = (self.limits.participants_max, self.seeded);
        let Some(conversation) = self.slab.get_mut(place) else { return Err(Reason::NotInConversation) };
        let mut join = |agent| match conversation.position(agent) {
            Some(position) => Ok(position),
            None => conversation.join(agent, most, seeded),
        };
        let (from, to) = (join(passage.sender)?, join(passage.receiver)?);
        conversation.note::<true>(passage, from, to, self.limits.history);
        conversation.durable = true;
        self.recovered.is_behind(place);
        Ok((ConversationIndex(place), passed))
    }

    /// Takes note that the journal knows of the conversation.
    pub fn set_durable(&mut self, index: ConversationIndex) {
        if let Some(conversation) = self.slab.get_mut(index.0) {
            conversation.durable = true;
        }
    }

    fn remove(&mut self, place: u32) -> Option<Ended> {
        let conversation = self.slab.get(place)?;
        let hash = hash_of(self.seeded, conversation.initiator, conversation.id);
        if let Ok(entry) = self.index.find_entry(hash, |found| *found == place) {
            entry.remove();
        }
        self.release(place)
    }

    /// Gives back the place of a conversation that is found no longer, and keeps what the next ones can use.
    fn release(&mut self, place: u32) -> Option<Ended> {
        let (spare_histories, protocols) = (&mut self.spare_histories, &mut self.protocols);
        let ended = self.slab.release(place, |conversation| {
            let capacity = conversation.history.capacity();
            if spare_histories.len() < SPARE_HISTORIES_MAX && (1..=SPARE_HISTORY_ENTRIES_MAX).contains(&capacity) {
                let mut history = std::mem::take(&mut conversation.history);
                history.clear();
                spare_histories.push(history);
            }
            if let Some(guard) = conversation.guard.take() {
                protocols.keep(guard);
            }
            Ended {
                initiator: conversation.initiator,
                id: conversation.id,
                participants: std::mem::take(&mut conversation.participants),
                timer: conversation.timer,
                durable: conversation.durable,
            }
        })?;
        if ended.durable {
            self.recovered.forget(place);
        }
        self.closed += 1;
        Some(ended)
    }

    /// What the timer of this conversation should do now. Traffic does not touch timers, it only leaves its time.
    pub fn time_out(&mut self, index: ConversationIndex, now_ms: u64) -> Timeout {
        let Some(conversation) = self.slab.get(index.0) else { return Timeout::Gone };
        let ends_ms = conversation.last_ms + self.limits.timeout_ms;
        if now_ms < ends_ms {
            return Timeout::NotBefore(ends_ms);
        }
        match self.remove(index.0) {
            Some(conversation) => Timeout::Ended {
                initiator: conversation.initiator,
                id: conversation.id,
                participants: conversation.participants,
                durable: conversation.durable,
            },
            None => Timeout::Gone,
        }
    }

    /// A copy of a conversation's state.
    pub fn view(&self, initiator: AgentId, id: ConversationId) -> Option<ConversationView> {
        let conversation = self.slab.get(self.find(initiator, id)?)?;
        Some(ConversationView {
            initiator,
            id,
            participants: conversation.participants.to_vec(),
            awaited: conversation.awaited.iter().map(|awaited| awaited.correlation).collect(),
            messages: conversation.messages,
            opened_ms: conversation.opened_ms,
            last_ms: conversation.last_ms,
            history: conversation.history.oldest_first(conversation.opened_ms),
            protocol: conversation
                .guard
                .as_ref()
                .and_then(|guard| self.protocols.rulebook.view(guard, &conversation.participants)),
        })
    }
}

/// Protocols: what a conversation is held to, where it names one that is checked.
impl Conversations {
    /// Whether messages have to pass by [`Conversations::pass_by_protocol`].
    #[inline]
    pub fn hold_to_protocols(&self) -> bool {
        !self.protocols.rulebook.is_empty()
    }

    /// As [`Conversations::pass`], where protocols are checked. It is a function of its own, so that nobody else pays for
    /// it.
    pub fn pass_by_protocol(
        &mut self,
        id: ConversationId,
        passage: &Passage<'_>,
        wall: WallTime,
    ) -> Result<(ConversationIndex, Passed), Reason> {
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
        let Some(mut conversation) = self.slab.get_mut(place) else { return Err(Reason::NotInConversation) };
        let Some(from) = conversation.position(passage.sender) else { return self.pass_stranger(place, passage, wall) };
        let to = conversation.position(passage.receiver);
        if to.is_none() && conversation.participants.len() >= self.limits.participants_max {
            // Nothing may have changed when a message is refused, so this comes before the step.
            return Err(Reason::TooManyParticipants);
        }
        if (conversation.guard.is_some() || passage.message.protocol_term().is_some())
            && self.protocols.step(conversation, from, to, passage, wall) == Verdict::Forbidden
            // A dead letter that had passed was judged then; sent again, it may repeat what has been said.
            && !passage.message.rejoins()
        {
            passed = self.object(place, from, to, passage, passed)?;
            conversation = self.slab.get_mut(place).ok_or(Reason::NotInConversation)?;
        }
        let to = match to {
            Some(to) => to,
            None => conversation.join(passage.receiver, self.limits.participants_max, self.seeded)?,
        };
        conversation.note::<true>(passage, from, to, self.limits.history);
        Ok((ConversationIndex(place), passed))
    }

    /// Lets a message pass to the initiator of a conversation from someone who does not take part in it: an agent that
    /// was recruited for it, one that a participant named in `reply-to`, or a platform that could not deliver.
    #[cold]
    fn pass_stranger(
        &mut self,
        place: u32,
        passage: &Passage<'_>,
        wall: WallTime,
    ) -> Result<(ConversationIndex, Passed), Reason> {
        let most = self.limits.participants_max;
        let Some(conversation) = self.slab.get_mut(place) else { return Err(Reason::NotInConversation) };
        let to = conversation.position(passage.receiver);
        let (Some(guard), Some(0)) = (&mut conversation.guard, to) else { return self.pass_beside(passage) };
        let rulebook = &self.protocols.rulebook;
        if tells_of_loss(passage.message) {
            let named = concerned(&conversation.participants, passage.message);
            rulebook.lose(guard, named, conversation.participants.len());
            return Ok((NOWHERE, Passed::Beside));
        }
        let from = conversation.participants.len();
        let welcome = rulebook.others_speak(guard.protocol) || guard.is_delegate(passage.sender);
        if !welcome || !rulebook.allows(guard, from, 0, passage.message) {
            return self.pass_beside(passage);
        }
        let from = conversation.join(passage.sender, most, self.seeded)?;
        self.protocols.step(conversation, from, to, passage, wall);
        conversation.note::<true>(passage, from, 0, self.limits.history);
        Ok((ConversationIndex(place), Passed::Joined))
    }

    /// Judges a message that belongs to no open conversation of its receiver and can't begin one of its sender: see
    /// [`Shard::find_role`](crate::shard::Shard).
    #[cold]
    fn pass_beside(&mut self, passage: &Passage<'_>) -> Result<(ConversationIndex, Passed), Reason> {
        let message = passage.message;
        if message.role() != ConversationRole::Unresolved {
            return Err(Reason::NotInConversation);
        }
        let rulebook = &self.protocols.rulebook;
        let Some(protocol) = message.protocol_term().and_then(|name| rulebook.find(name)) else {
            return Ok((NOWHERE, Passed::Beside));
        };
        if tells_of_loss(message) {
            return Ok((NOWHERE, Passed::Beside));
        }
        if rulebook.others_speak(protocol) {
            // Whom the initiator wants answers to go to has heard nothing of the conversation before.
            self.unchecked += 1;
            return Ok((NOWHERE, Passed::Beside));
        }
        self.violation = rulebook.explain_beginning(protocol, message).map(Box::new);
        match &self.violation {
            Some(violation) if violation.refused => Err(Reason::ProtocolViolation),
            _ => Ok((NOWHERE, Passed::BesideInViolation)),
        }
    }

    /// What the protocol of an initiator's open conversation says to a message from it: nothing if there is no such
    /// conversation, or it is held to none.
    #[cold]
    pub fn allows(&self, initiator: AgentId, id: ConversationId, peer: AgentId, message: &Message) -> Option<bool> {
        let conversation = self.slab.get(self.find(initiator, id)?)?;
        let guard = conversation.guard.as_ref()?;
        let to = conversation.position(peer).map_or(conversation.participants.len(), usize::from);
        Some(self.protocols.rulebook.allows(guard, 0, to, message))
    }

    /// Counts a message that names a protocol that is checked and, without a conversation-id, can't be held to it.
    #[cold]
    pub fn count_unchecked(&mut self, message: &Message) {
        let named = || message.protocol_term().and_then(|name| self.protocols.rulebook.find(name));
        if message.conversation().is_none() && named().is_some() {
            self.unchecked += 1;
        }
    }

    /// Whether the initiator may speak to all these agents, or how many it would be with those that take part already and
    /// how many there may be.
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

    /// Whether a message names a protocol that is checked and that can't begin with it.
    #[cold]
    pub fn begins_nothing(&self, message: &Message) -> bool {
        let rulebook = &self.protocols.rulebook;
        let named = message.protocol_term().and_then(|name| rulebook.find(name));
        named.is_some_and(|protocol| !rulebook.may_begin(protocol, message.performative()))
    }

    /// Whether two names are of one protocol that is checked.
    pub fn is_same_protocol(&self, one: Option<Term>, other: Option<Term>) -> bool {
        let find = |name: Option<Term>| name.and_then(|name| self.protocols.rulebook.find(name));
        one == other || (find(one).is_some() && find(one) == find(other))
    }

    /// Takes note that a participant wants answers to its message to go to others (`reply-to`).
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

    /// Refuses a message, or lets it pass and remembers what was wrong with it, as the protocol's mode says.
    #[cold]
    fn object(
        &mut self,
        place: u32,
        from: u16,
        to: Option<u16>,
        passage: &Passage<'_>,
        passed: Passed,
    ) -> Result<Passed, Reason> {
        let Some(conversation) = self.slab.get_mut(place) else { return Ok(passed) };
        if to == Some(0) && tells_of_loss(passage.message) {
            if let Some(guard) = &mut conversation.guard {
                let named = concerned(&conversation.participants, passage.message);
                self.protocols.rulebook.lose(guard, named, conversation.participants.len());
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
        let violation = self.protocols.rulebook.explain(&guard, between, passage.message, passage.initiator);
        // In a conversation that an earlier run had begun it is observed, and not refused.
        let violation = violation.map(|violation| Violation { refused: violation.refused && !lenient, ..violation });
        if guard.has_begun() {
            conversation.guard = Some(guard);
        } else {
            // What names a protocol and does not begin it leaves the conversation free.
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
            _ if refused => Err(Reason::ProtocolViolation),
            Passed::Began | Passed::BeganInViolation => Ok(Passed::BeganInViolation),
            _ => Ok(Passed::ContinuedInViolation),
        }
    }

    /// Messages that followed their protocol, and how many of them came later than the message before them wanted.
    pub fn steps(&self) -> (u64, u64) {
        (self.protocols.steps, self.protocols.steps_late)
    }

    /// What was wrong with the message that was let pass or refused last.
    pub fn take_violation(&mut self) -> Option<Box<Violation>> {
        self.violation.take()
    }

    /// Something of this conversation was not delivered: what was said last may be said again.
    pub fn delivery_failed(&mut self, initiator: AgentId, id: ConversationId) {
        if self.protocols.rulebook.is_empty() {
            return;
        }
        let guard = self.find(initiator, id).and_then(|place| self.slab.get_mut(place)?.guard.as_mut());
        if let Some(guard) = guard {
            guard.delivery_failed = true;
        }
    }
}

impl Protocols {
    /// Takes the step of the conversation's protocol that a message is, or says that it is none. A conversation is held
    /// to the first protocol that is checked and that its initiator names.
    #[inline(always)]
    fn step(
        &mut self,
        conversation: &mut Conversation,
        from: u16,
        to: Option<u16>,
        passage: &Passage<'_>,
        wall: WallTime,
    ) -> Verdict {
        if conversation.guard.is_none() {
            let named = passage.message.protocol_term().filter(|_| from == 0);
            let Some(protocol) = named.and_then(|name| self.rulebook.find(name)) else { return Verdict::Allowed };
            let mut guard = self.spare_guards.pop().unwrap_or_default();
            guard.begin(protocol);
            conversation.guard = Some(guard);
        }
        let Some(guard) = &mut conversation.guard else { return Verdict::Allowed };
        let to = to.map_or(conversation.participants.len(), usize::from);
        let verdict = self.rulebook.step(guard, usize::from(from), to, passage.message, wall);
        self.steps += u64::from(verdict != Verdict::Forbidden);
        self.steps_late += u64::from(verdict == Verdict::Late);
        verdict
    }

    fn keep(&mut self, guard: Box<Guard>) {
        if self.spare_guards.len() < SPARE_GUARDS_MAX && guard.is_small() {
            self.spare_guards.push(guard);
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

/// The participant that a platform's report names last, as its place: whom the message was for stands behind the message.
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

/// Conversation ids may be chosen by peers.
#[inline]
fn hash_of(seeded: Seeded, initiator: AgentId, id: ConversationId) -> u64 {
    let (low, high) = id.words();
    seeded.hash_words(low, high, initiator.table_bits())
}

impl Conversation {
    #[inline]
    fn is(&self, initiator: AgentId, id: ConversationId) -> bool {
        self.id == id && self.initiator == initiator
    }

    /// Lets a message pass between its participants, of whom the receiver may be new. Nothing has changed when it is refused.
    #[inline(always)]
    fn pass(&mut self, passage: &Passage<'_>, limits: &ConversationLimits, seeded: Seeded) -> Result<(), Reason> {
        let from = self.position(passage.sender).ok_or(Reason::NotInConversation)?;
        let to = match self.position(passage.receiver) {
            Some(to) => to,
            None => self.join(passage.receiver, limits.participants_max, seeded)?,
        };
        self.note::<false>(passage, from, to, limits.history);
        Ok(())
    }

    #[inline(always)]
    #[allow(clippy::cast_possible_truncation)] // There are at most 10,000 participants.
    fn position(&self, agent: AgentId) -> Option<u16> {
        if self.participants.len() > LISTED_PARTICIPANTS_MAX
            && let Some(table) = &self.table
        {
            return table.get(&agent).copied();
        }
        self.participants.iter().position(|participant| *participant == agent).map(|position| position as u16)
    }

    #[allow(clippy::cast_possible_truncation)] // There are at most 10,000 participants.
    fn join(&mut self, agent: AgentId, participants_max: usize, seeded: Seeded) -> Result<u16, Reason> {
        if self.participants.len() >= participants_max {
            return Err(Reason::TooManyParticipants);
        }
        let position = self.participants.len() as u16;
        self.participants.push(agent);
        if let Some(table) = &mut self.table {
            table.insert(agent, position);
        } else if self.participants.len() > LISTED_PARTICIPANTS_MAX {
            let mut table = HashMap::with_capacity_and_hasher(self.participants.len(), seeded);
            table.extend(self.participants.iter().copied().zip(0_u16..));
            self.table = Some(Box::new(table));
        }
        Ok(position)
    }

    #[inline(always)]
    fn note<const CHECKED: bool>(&mut self, passage: &Passage<'_>, from: u16, to: u16, history_max: usize) {
        let message = passage.message;
        let answers = match message.in_reply_to() {
            Some(correlation) => self.answer(correlation, to),
            None => false,
        };
        if let Some(correlation) = message.reply_with() {
            // A message to several agents is noted for each, but asks once.
            if !self.awaited.iter().any(|awaited| awaited.correlation == correlation && awaited.asker == from) {
                if self.awaited.len() >= AWAITED_REPLIES_MAX {
                    self.awaited.remove(0);
                }
                self.awaited.push(Awaited { correlation, asker: from });
                if CHECKED
                    && from == 0
                    && let Some(guard) = &mut self.guard
                {
                    guard.note_question(correlation);
                }
            }
        }
        self.messages += 1;
        self.last_ms = passage.now_ms;
        if let Some(id) = message.id()
            && history_max > 0
        {
            let after_ms = u32::try_from(passage.now_ms - self.opened_ms).unwrap_or(u32::MAX);
            let performative = message.performative();
            self.history.push(Remembered::new(id, after_ms, performative, (from, to), answers), history_max);
        }
    }

    fn answer(&mut self, correlation: Correlation, asker: u16) -> bool {
        let position =
            self.awaited.iter().position(|awaited| awaited.correlation == correlation && awaited.asker == asker);
        match position {
            // In one-to-many exchanges, and after an agree, further answers to the same message follow.
            Some(_) if self.participants.len() > 2 => true,
            Some(position) => {
                self.awaited.remove(position);
                true
            }
            None => false,
        }
    }
}
