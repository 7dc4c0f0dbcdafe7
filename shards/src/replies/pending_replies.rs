//! Replies expected by a deadline: one entry per message with `reply-by`, kept on the shard of the asking agent.
//!
//! An entry is found by what the reply repeats: the `reply-with` or, without one, the conversation. It is also found
//! by the asking agent and by the conversation, because it ends with either. Messages without `reply-by` are never
//! recorded here.
//!
//! Invariants: every entry is in its agent's list, in the list of its conversation and, with a `reply-with`, in that
//! of its correlation; all three are bounded; every entry has a timer until it is removed.

use std::sync::Arc;

use hashbrown::HashMap;
use smallvec::SmallVec;

use crate::base::hashing::Seeded;
use crate::base::index::AgentIndex;
use crate::base::slab::{NONE, Slab};
use crate::base::timer_wheel::TimerKey;
use crate::message::{
    AgentId, Choice, ConversationId, ConversationRole, Correlation, Message, MessageId, Receiver, TraceContext,
    WallTime,
};

/// Maximum number of pending replies kept by a shard, including overdue ones. Beyond it messages with
/// `reply-by` are refused.
pub const PENDING_REPLIES_MAX: usize = 262_144;
/// Maximum number of pending replies of one agent in one conversation, or under one `reply-with`.
pub const PENDING_REPLIES_ALIKE_MAX: usize = 4_096;
/// Maximum number of overdue replies kept by a shard, to mark late replies. Beyond it late replies are not marked.
pub const OVERDUE_REPLIES_MAX: usize = 65_536;

/// What a reply has in common with the message that it answers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Thread {
    Correlation(Correlation),
    /// The conversation, or that there is none.
    Conversation(Option<ConversationId>),
}

/// Who may reply.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Addressees {
    Agent(AgentId),
    Agents(Arc<[AgentId]>),
    /// One agent, chosen later.
    Someone,
    /// Several agents, chosen later.
    Anyone,
}

impl Addressees {
    fn of(receiver: &Receiver) -> Self {
        match receiver {
            Receiver::Agent(agent) | Receiver::Provider(agent, _) => Self::Agent(*agent),
            Receiver::Agents(agents) | Receiver::Member(agents, _) => Self::Agents(Arc::clone(agents)),
            Receiver::Capability(_, Choice::All) | Receiver::Unaddressed => Self::Anyone,
            Receiver::Capability(..) => Self::Someone,
        }
    }

    fn includes(&self, agent: AgentId) -> bool {
        match self {
            Self::Agent(one) => *one == agent,
            Self::Agents(agents) => agents.contains(&agent),
            Self::Someone | Self::Anyone => true,
        }
    }

    /// Returns the only agent that may reply, if it was known from the beginning.
    pub fn agent(&self) -> Option<AgentId> {
        match self {
            Self::Agent(agent) => Some(*agent),
            Self::Agents(_) | Self::Someone | Self::Anyone => None,
        }
    }

    /// Whether there is one receiver, so that nobody is left if the message does not reach it.
    fn is_one(&self) -> bool {
        matches!(self, Self::Agent(_) | Self::Someone)
    }

    /// Returns the number of replies after which no further one is expected.
    fn answers(&self) -> u32 {
        match self {
            Self::Agent(_) | Self::Someone => 1,
            Self::Agents(agents) => u32::try_from(agents.len()).unwrap_or(u32::MAX),
            Self::Anyone => u32::MAX,
        }
    }
}

/// The agent's own text for what the message carries as ids.
#[derive(Debug)]
pub(crate) struct Words {
    pub conversation: Option<Box<str>>,
    pub reply_with: Option<Box<str>>,
}

/// One pending reply.
#[derive(Debug)]
pub(crate) struct PendingReply {
    pub asker: AgentId,
    pub agent: AgentIndex,
    pub message: MessageId,
    /// The description of the message in the notice to its agent.
    pub description: Box<str>,
    pub conversation: Option<ConversationId>,
    pub role: ConversationRole,
    pub correlation: Option<Correlation>,
    pub words: Option<Box<Words>>,
    /// The trace context that the message came with; few have one.
    pub trace: Option<Box<TraceContext>>,
    pub reply_by: WallTime,
    /// The deadline in milliseconds of monotonic time.
    pub due_ms: u64,
    pub put_to: Addressees,
    pub answers_left: u32,
    pub answered: bool,
    /// Whether the deadline has passed, and the agent was notified if no reply had arrived.
    pub overdue: bool,
    pub timer: Option<TimerKey>,
    /// Distinguishes this entry from an earlier one in the same place.
    pub number: u32,
    previous: u32,
    next: u32,
}

impl PendingReply {
    /// Creates the entry of a message with an id and `reply-by`.
    pub fn new(message: &Message, asker: AgentId, agent: AgentIndex, due_ms: u64, description: String) -> Option<Self> {
        let put_to = Addressees::of(message.receiver());
        let words = message.details().map(|details| Words {
            conversation: details.conversation.clone(),
            reply_with: details.reply_with.clone(),
        });
        Some(Self {
            asker,
            agent,
            message: message.id()?,
            description: description.into(),
            conversation: message.conversation(),
            role: message.role(),
            correlation: message.reply_with(),
            trace: message.trace().map(Box::new),
            words: words.filter(|words| words.conversation.is_some() || words.reply_with.is_some()).map(Box::new),
            reply_by: message.reply_by()?,
            due_ms,
            answers_left: put_to.answers(),
            put_to,
            answered: false,
            overdue: false,
            timer: None,
            number: 0,
            previous: NONE,
            next: NONE,
        })
    }
}

/// The pending and the overdue replies of a shard.
#[derive(Debug)]
pub(crate) struct PendingReplies {
    slab: Slab<PendingReply>,
    index: HashMap<(AgentId, Thread), SmallVec<[u32; 2]>, Seeded>,
    capacity_max: usize,
    numbered: u32,
    overdue: usize,
    /// The number of replies that did not arrive before their deadline.
    unanswered: u64,
    /// The number of replies marked as late.
    late: u64,
}

impl PendingReplies {
    pub fn new(capacity_max: usize, seed: u64) -> Self {
        Self {
            slab: Slab::new(capacity_max),
            index: HashMap::with_hasher(Seeded::new(seed)),
            capacity_max,
            numbered: 0,
            overdue: 0,
            unanswered: 0,
            late: 0,
        }
    }

    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// Returns the number of pending replies whose deadline has not passed. Scans all of them.
    pub fn awaited(&self) -> usize {
        self.slab.iter().filter(|(_, question)| !question.overdue && !question.answered).count()
    }

    /// Returns the limit that keeps this agent from asking this question too, if it already holds `in_hand` unsent
    /// ones.
    pub fn bound(&self, asker: AgentId, message: &Message, in_hand: usize) -> Option<usize> {
        if self.slab.len() + in_hand >= self.capacity_max {
            return Some(self.capacity_max);
        }
        let conversation = Thread::Conversation(message.conversation());
        let correlation = message.reply_with().map(Thread::Correlation);
        let most = std::iter::once(conversation).chain(correlation).map(|thread| self.alike(asker, thread).len()).max();
        most.filter(|alike| alike + in_hand >= PENDING_REPLIES_ALIKE_MAX).map(|_| PENDING_REPLIES_ALIKE_MAX)
    }

    /// Returns similar entries, oldest first.
    fn alike(&self, asker: AgentId, thread: Thread) -> &[u32] {
        self.index.get(&(asker, thread)).map_or(&[], SmallVec::as_slice)
    }

    /// Inserts an entry at the head of its agent's list. Returns its place and number.
    pub fn insert(&mut self, mut question: PendingReply, head: &mut u32) -> Option<(u32, u32)> {
        let (asker, conversation, correlation) = (question.asker, question.conversation, question.correlation);
        self.numbered = self.numbered.wrapping_add(1);
        question.number = self.numbered;
        question.next = *head;
        let place = self.slab.insert(question).ok()?;
        if let Some(second) = self.slab.get_mut(*head) {
            second.previous = place;
        }
        *head = place;
        self.index.entry((asker, Thread::Conversation(conversation))).or_default().push(place);
        if let Some(correlation) = correlation {
            self.index.entry((asker, Thread::Correlation(correlation))).or_default().push(place);
        }
        Some((place, self.numbered))
    }

    pub fn get(&self, place: u32) -> Option<&PendingReply> {
        self.slab.get(place)
    }

    pub fn get_mut(&mut self, place: u32) -> Option<&mut PendingReply> {
        self.slab.get_mut(place)
    }

    /// Records a reply. Returns whether it was late, and whether no further one is expected; `None` if there is no such
    /// entry any more.
    pub fn answer(&mut self, place: u32, now_ms: u64) -> Option<(bool, bool)> {
        let question = self.slab.get_mut(place)?;
        question.answered = true;
        question.answers_left = question.answers_left.saturating_sub(1);
        let late = question.overdue || question.due_ms < now_ms;
        self.late += u64::from(late);
        Some((late, question.answers_left == 0))
    }

    /// Records that a deadline passed without a reply.
    pub fn count_unanswered(&mut self) {
        self.unanswered += 1;
    }

    /// Returns the number of deadlines that passed without a reply.
    pub fn unanswered(&self) -> u64 {
        self.unanswered
    }

    /// Returns the number of late replies that were marked.
    pub fn late(&self) -> u64 {
        self.late
    }

    /// Marks an entry as overdue. Returns whether it may be kept.
    pub fn set_overdue(&mut self, place: u32) -> bool {
        let Some(question) = self.slab.get_mut(place) else { return false };
        if !std::mem::replace(&mut question.overdue, true) {
            self.overdue += 1;
        }
        self.overdue <= OVERDUE_REPLIES_MAX
    }

    /// Removes an entry, also from its agent's list.
    pub fn remove(&mut self, place: u32, head: &mut u32) -> Option<PendingReply> {
        let question = self.slab.remove(place)?;
        if let Some(previous) = self.slab.get_mut(question.previous) {
            previous.next = question.next;
        } else if *head == place {
            *head = question.next;
        }
        if let Some(next) = self.slab.get_mut(question.next) {
            next.previous = question.previous;
        }
        self.unlist(place, question.asker, Thread::Conversation(question.conversation));
        if let Some(correlation) = question.correlation {
            self.unlist(place, question.asker, Thread::Correlation(correlation));
        }
        self.overdue -= usize::from(question.overdue);
        Some(question)
    }

    fn unlist(&mut self, place: u32, asker: AgentId, thread: Thread) {
        let Some(places) = self.index.get_mut(&(asker, thread)) else { return };
        places.retain(|listed| *listed != place);
        if places.is_empty() {
            self.index.remove(&(asker, thread));
        }
    }

    /// Returns the entry that a message to its agent replies to: one whose `reply-with` it repeats, preferably one
    /// put to its sender; else the oldest without `reply-with` that was put to its sender in the same conversation.
    pub fn answered_by(&self, asker: AgentId, message: &Message) -> Option<u32> {
        // A question that an agent puts to itself does not reply to itself.
        let is_other = |place: &&u32| self.get(**place).is_some_and(|question| Some(question.message) != message.id());
        let was_asked = |place: &&u32| {
            let put_to = self.get(**place).map(|question| &question.put_to);
            put_to.zip(message.sender()).is_some_and(|(put_to, sender)| put_to.includes(sender))
        };
        if let Some(correlation) = message.in_reply_to() {
            let alike = self.alike(asker, Thread::Correlation(correlation));
            let others = || alike.iter().filter(is_other);
            if let Some(place) = others().find(was_asked).or_else(|| others().next()) {
                return Some(*place);
            }
        }
        let alike = self.alike(asker, Thread::Conversation(message.conversation()));
        let by_conversation = |place: &&u32| self.get(**place).is_some_and(|question| question.correlation.is_none());
        alike.iter().filter(by_conversation).filter(is_other).find(was_asked).copied()
    }

    /// Returns the entry that nobody can reply to any more after the router's failure report: the only one with its
    /// `reply-with`, if it was put to one agent.
    pub fn undeliverable(&self, asker: AgentId, correlation: Correlation) -> Option<u32> {
        let [place] = self.alike(asker, Thread::Correlation(correlation)) else { return None };
        let question = self.get(*place)?;
        (question.put_to.is_one() && !question.overdue).then_some(*place)
    }

    /// Returns an agent's entries in a conversation.
    pub fn of_conversation(&self, asker: AgentId, conversation: ConversationId) -> Vec<u32> {
        self.alike(asker, Thread::Conversation(Some(conversation))).to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{IdSource, IdSpace, Performative};

    struct Asking {
        questions: PendingReplies,
        ids: IdSource,
        head: u32,
    }

    impl Asking {
        fn new(capacity_max: usize) -> Self {
            let ids = IdSource::new(IdSpace { node: crate::domain::NodeId::default(), boot_epoch: 1, shard: 0 });
            Self { questions: PendingReplies::new(capacity_max, 1), ids, head: NONE }
        }

        fn message(&mut self, correlation: Option<Correlation>) -> Message {
            let builder = Message::builder(Performative::Request).sender(asker()).receiver(AgentId::of_text("asked"));
            let builder = builder.reply_by(WallTime(1)).id(self.ids.message());
            correlation.into_iter().fold(builder, crate::message::MessageBuilder::reply_with).build().unwrap()
        }

        fn ask(&mut self, correlation: Option<Correlation>) -> u32 {
            let message = self.message(correlation);
            let question = PendingReply::new(&message, asker(), AgentIndex(0), 1, String::new()).unwrap();
            self.questions.insert(question, &mut self.head).unwrap().0
        }
    }

    fn asker() -> AgentId {
        AgentId::of_text("asker")
    }

    #[test]
    fn a_full_table_and_what_is_in_hand_keep_further_questions_out() {
        let mut asking = Asking::new(3);
        asking.ask(None);
        asking.ask(None);
        let message = asking.message(None);
        assert_eq!(asking.questions.bound(asker(), &message, 0), None);
        assert_eq!(asking.questions.bound(asker(), &message, 1), Some(3));
        asking.ask(None);
        assert_eq!(asking.questions.bound(asker(), &message, 0), Some(3));
        let question = PendingReply::new(&message, asker(), AgentIndex(0), 1, String::new()).unwrap();
        assert!(asking.questions.insert(question, &mut asking.head).is_none());
    }

    #[test]
    fn a_question_that_is_forgotten_leaves_all_its_lists() {
        let mut asking = Asking::new(10);
        let correlation = Correlation::of_text("x");
        let places = [Some(correlation), None, Some(correlation)].map(|correlation| asking.ask(correlation));
        for place in [places[1], places[2], places[0]] {
            assert!(asking.questions.remove(place, &mut asking.head).is_some());
        }
        assert_eq!((asking.head, asking.questions.len(), asking.questions.index.len()), (NONE, 0, 0));
    }
}
