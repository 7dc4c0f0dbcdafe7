//! Open conversations, a portion at a time.
//!
//! A portion looks at a bounded number of places, so that the turn that it takes is short however many conversations are
//! open; between two portions the shard does everything else.

use std::sync::Arc;

use super::{Conversation, Conversations};
use crate::message::{AgentId, ConversationId};

/// Maximum number of conversations in one portion.
pub const CONVERSATIONS_PER_ANSWER_MAX: usize = 256;
/// Maximum number of participants that a summary names.
pub const PARTICIPANTS_NAMED_MAX: usize = 16;
/// Maximum number of places that a shard examines for one portion: those of ended conversations are empty.
const CONVERSATION_PLACES_EXAMINED_MAX: u32 = 1_024;
/// Number of exchanges that cost as much as one place.
const EXCHANGES_AT_ONCE: usize = 32;

/// Which open conversations are listed: those to which every field that is given applies.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ConversationFilter {
    /// The checked protocol that it follows, in any case.
    pub protocol: Option<Arc<str>>,
    /// The state of its protocol, such as `agreed`.
    pub state: Option<Arc<str>>,
    /// An agent that takes part.
    pub agent: Option<AgentId>,
}

/// An open conversation without its history.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ConversationSummary {
    /// The initiator.
    pub initiator: AgentId,
    /// Its id.
    pub id: ConversationId,
    /// The first participants, the initiator before the others, at most [`PARTICIPANTS_NAMED_MAX`].
    pub participants: Vec<AgentId>,
    /// The number of all participants.
    pub participant_count: usize,
    /// The number of messages so far.
    pub messages: u64,
    /// The number of replies that have not arrived.
    pub awaited: usize,
    /// When the first message passed, in milliseconds of monotonic time.
    pub opened_ms: u64,
    /// When the last message passed.
    pub last_ms: u64,
    /// The checked protocol that it follows, and the state it has reached.
    pub protocol: Option<(Box<str>, Box<str>)>,
}

/// A portion of a shard's open conversations, in the order of their places. A conversation keeps its place as long as it
/// is open.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ConversationPortion {
    /// The conversations.
    pub conversations: Vec<ConversationSummary>,
    /// If places were not examined, the one after which to continue.
    pub next: Option<u32>,
}

impl Conversations {
    /// Returns conversations behind a place, at most `limit` and [`CONVERSATIONS_PER_ANSWER_MAX`].
    pub fn list(&self, after: Option<u32>, limit: usize, filter: &ConversationFilter) -> ConversationPortion {
        let limit = limit.min(CONVERSATIONS_PER_ANSWER_MAX);
        let end = self.slab.places();
        let mut place = after.map_or(0, |after| after.saturating_add(1));
        let (mut portion, mut examined) = (ConversationPortion::default(), 0);
        while place < end && portion.conversations.len() < limit && examined < CONVERSATION_PLACES_EXAMINED_MAX {
            examined += 1;
            if let Some(conversation) = self.slab.get(place) {
                let exchanges = conversation.guard.as_ref().map_or(0, |guard| guard.exchanges());
                examined = examined.saturating_add(u32::try_from(exchanges / EXCHANGES_AT_ONCE).unwrap_or(u32::MAX));
                portion.conversations.extend(self.summary(conversation, filter));
            }
            place += 1;
        }
        portion.next = (place < end).then(|| place.saturating_sub(1));
        portion
    }

    /// Returns the summary of a conversation that passes the filter.
    fn summary(&self, conversation: &Conversation, filter: &ConversationFilter) -> Option<ConversationSummary> {
        if filter.agent.is_some_and(|agent| conversation.position(agent).is_none()) {
            return None;
        }
        let guard = conversation.guard.as_deref();
        let protocol = guard.and_then(|guard| self.protocols.protocol_and_state(guard));
        let fits = |wanted: &Option<Arc<str>>, word: Option<&str>| {
            wanted.as_ref().is_none_or(|wanted| word.is_some_and(|word| word.eq_ignore_ascii_case(wanted)))
        };
        let (name, state) = protocol.unzip();
        if !fits(&filter.protocol, name) || !fits(&filter.state, state) {
            return None;
        }
        Some(ConversationSummary {
            initiator: conversation.initiator,
            id: conversation.id,
            participants: conversation.participants.iter().copied().take(PARTICIPANTS_NAMED_MAX).collect(),
            participant_count: conversation.participants.len(),
            messages: conversation.messages,
            awaited: conversation.awaited.len(),
            opened_ms: conversation.opened_ms,
            last_ms: conversation.last_ms,
            protocol: protocol.map(|(name, state)| (name.into(), state.into())),
        })
    }
}
