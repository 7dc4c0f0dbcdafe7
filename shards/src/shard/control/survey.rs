//! Surveys: what is found only by looking at every agent or every conversation.
//!
//! They are made on request and cost nothing otherwise: a shard keeps no list of slow agents and counts no states. They
//! look at a portion in each turn, so that no turn takes long because of them, however many agents there are; what they
//! find is of the turns that this takes. Between two portions a shard does everything else.
//!
//! Invariants: a turn looks at one portion, of agents and of conversations in turn if both are under way, so that requests
//! for one do not hold up the other; as long as a survey is under way, the shard has posted itself one reminder.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use crate::base::index::{AgentIndex, ShardIndex};
use crate::message::AgentId;
use crate::shard::Shard;
use crate::shard::agent::registry::{AgentFlags, AgentSlot, Behaviour};
use crate::shard::io::{Answer, Token};
use crate::shard::shard_frame::Control;
use crate::supervision::BreakerGate;

/// Maximum number of agents in the response of a shard to [`Input::SlowConsumers`](crate::shard::io::Input).
pub const SLOW_CONSUMERS_MAX: usize = 256;
/// Number of agents without messages that a survey looks at per turn.
pub const AGENTS_SURVEYED_PER_TURN: usize = 4_096;
/// Number of conversations that a survey looks at per turn.
pub const CONVERSATIONS_SURVEYED_PER_TURN: usize = 1_024;
/// An agent with messages costs as much as this many without.
const AGENT_WITH_MAIL: usize = 8;

/// What an agent with waiting messages waits for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum ConsumerState {
    /// Its turn: the other agents of its shard, or its own earlier messages, take long.
    Ready,
    /// The end of a handler that continues in later turns, such as a guest's.
    Handling,
    /// Room for what it sent, on the way to another shard or in a mailbox.
    Sending,
    /// The owner of its inbox, who has not taken what is in it.
    InboxFull,
    /// Its circuit breaker, which is open.
    BreakerOpen,
    /// Its restart after a failure.
    Restarting,
    /// Somebody who resumes it.
    Suspended,
    /// Its registration: its messages are from an earlier run.
    Absent,
}

impl ConsumerState {
    /// Returns the state as one word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Handling => "handling",
            Self::Sending => "sending",
            Self::InboxFull => "inbox-full",
            Self::BreakerOpen => "breaker-open",
            Self::Restarting => "restarting",
            Self::Suspended => "suspended",
            Self::Absent => "absent",
        }
    }

    fn of(slot: &AgentSlot) -> Self {
        let inbox_full = matches!(&slot.behaviour, Behaviour::InboxState(inbox) if inbox.room == 0);
        if slot.flags.is(AgentFlags::ABSENT) {
            Self::Absent
        } else if slot.flags.is(AgentFlags::SUSPENDED) {
            Self::Suspended
        } else if slot.flags.is(AgentFlags::RESTARTING) {
            Self::Restarting
        } else if !slot.outbox.is_empty() || slot.flags.is(AgentFlags::WAITING) {
            Self::Sending
        } else if slot.has_in_hand() {
            Self::Handling
        } else if slot.gate == BreakerGate::Open {
            Self::BreakerOpen
        } else if inbox_full {
            Self::InboxFull
        } else {
            Self::Ready
        }
    }
}

impl std::fmt::Display for ConsumerState {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.pad(self.as_str())
    }
}

/// An agent with waiting messages.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct SlowConsumer {
    /// The agent.
    pub agent: AgentId,
    /// Its name.
    pub name: Arc<str>,
    /// Its shard.
    pub shard: ShardIndex,
    /// What it waits for.
    pub state: ConsumerState,
    /// Messages that count against the limit of its mailbox: waiting, delayed, between two attempts, or being handled.
    pub messages: u32,
    /// Their bytes.
    pub bytes: u64,
    /// Messages in its inbox that its owner has not taken, if it has one.
    pub in_inbox: u32,
    /// The time since the oldest of the messages that it could be given next was sent, or since the one that it is
    /// handling was, in milliseconds.
    pub oldest_ms: u64,
}

/// How slow an agent is, the slowest last: when its oldest message was sent, how many it has, and its place.
type Slowness = (Reverse<u64>, u32, Reverse<u32>);

/// A survey of agents that is under way.
struct AgentSurvey {
    asked: Vec<(Token, usize)>,
    limit: usize,
    /// The place of the next agent.
    next: u32,
    /// The slowest so far, at most as many as the limit.
    slowest: BinaryHeap<Reverse<Slowness>>,
}

/// The surveys of a shard.
#[derive(Default)]
pub(in crate::shard) struct Surveys {
    /// Requests for the next survey of agents, each with its limit: no more than there are calls that wait for one.
    asked: Vec<(Token, usize)>,
    agents: Option<AgentSurvey>,
    /// Whether the last portion was one of agents.
    agents_were_last: bool,
    /// Whether the shard has posted itself a reminder.
    reminded: bool,
}

impl Shard {
    /// Begins to look for the agents whose messages wait longest.
    pub(in crate::shard) fn find_slow_consumers(&mut self, limit: usize, token: Token) {
        self.operations.surveys.asked.push((token, limit.min(SLOW_CONSUMERS_MAX)));
        self.remind_of_surveys();
    }

    /// Counts the open conversations by protocol and state, for [`Shard::details`]: at once if there are few, otherwise
    /// in the turns that follow.
    pub fn count_states(&mut self) {
        self.conversations.begin_state_count();
        if self.conversations.continue_state_count(CONVERSATIONS_SURVEYED_PER_TURN) {
            self.remind_of_surveys();
        }
    }

    fn remind_of_surveys(&mut self) {
        if !std::mem::replace(&mut self.operations.surveys.reminded, true) {
            self.links.post(self.index, Control::Survey);
        }
    }

    /// Looks at the next portion.
    #[cold]
    pub(in crate::shard) fn continue_surveys(&mut self) {
        self.operations.surveys.reminded = false;
        if self.operations.surveys.agents.is_none() && !self.operations.surveys.asked.is_empty() {
            let asked = std::mem::take(&mut self.operations.surveys.asked);
            let limit = asked.iter().map(|(_, limit)| *limit).max().unwrap_or(0);
            self.operations.surveys.agents = Some(AgentSurvey { asked, limit, next: 0, slowest: BinaryHeap::new() });
        }
        let conversations_are_next =
            self.operations.surveys.agents_were_last && self.conversations.is_counting_states();
        let survey = if conversations_are_next { None } else { self.operations.surveys.agents.take() };
        self.operations.surveys.agents_were_last = survey.is_some();
        let counts = if let Some(survey) = survey {
            self.survey_agents(survey);
            self.conversations.is_counting_states()
        } else {
            self.conversations.continue_state_count(CONVERSATIONS_SURVEYED_PER_TURN)
        };
        if counts || self.operations.surveys.agents.is_some() || !self.operations.surveys.asked.is_empty() {
            self.remind_of_surveys();
        }
    }

    fn survey_agents(&mut self, mut survey: AgentSurvey) {
        let (places, mut looked_at) = (self.agents.places(), 0);
        while survey.next < places && looked_at < AGENTS_SURVEYED_PER_TURN {
            let place = survey.next;
            (survey.next, looked_at) = (survey.next + 1, looked_at + 1);
            let Some(slot) = self.agents.get(AgentIndex(place)) else { continue };
            if !slot.mailbox.has_mail() && slot.cold.is_none() {
                continue;
            }
            looked_at += AGENT_WITH_MAIL;
            let Some(sent_ms) = self.oldest_of(slot) else { continue };
            survey.slowest.push(Reverse((Reverse(sent_ms), slot.mailbox.held(), Reverse(place))));
            if survey.slowest.len() > survey.limit {
                survey.slowest.pop();
            }
        }
        if survey.next < places {
            self.operations.surveys.agents = Some(survey);
            return;
        }
        // The slowest first, because the order of the heap is reversed.
        let slowest = survey.slowest.into_sorted_vec();
        let places = slowest.into_iter().map(|Reverse((_, _, Reverse(place)))| AgentIndex(place));
        // An agent may be gone or have caught up since it was looked at.
        let found: Vec<SlowConsumer> = places.filter_map(|place| self.slow_consumer(place)).collect();
        for (token, limit) in survey.asked {
            let found = found.iter().take(limit).cloned().collect();
            self.outputs.answer(token, Answer::SlowConsumers(found));
        }
    }

    /// Returns when the oldest of an agent's messages was sent: of those that it could be given next, and the one that
    /// it is handling. None if it has none, as an agent with delayed messages only.
    fn oldest_of(&self, slot: &AgentSlot) -> Option<u64> {
        if slot.is_leaving() {
            return None;
        }
        let waiting = slot.mailbox.heads().filter_map(|place| self.held.get(place));
        let in_hand = slot.cold.as_ref().and_then(|cold| cold.in_hand.as_ref()).map(|in_hand| &in_hand.envelope);
        waiting.chain(in_hand).filter_map(|envelope| self.lifetime_began(&envelope.message)).min()
    }

    fn slow_consumer(&self, place: AgentIndex) -> Option<SlowConsumer> {
        let slot = self.agents.get(place)?;
        let sent_ms = self.oldest_of(slot)?;
        let in_inbox = match &slot.behaviour {
            Behaviour::InboxState(inbox) => inbox.handed_out,
            _ => 0,
        };
        Some(SlowConsumer {
            agent: slot.id,
            name: Arc::clone(&slot.name),
            shard: self.index,
            state: ConsumerState::of(slot),
            messages: slot.mailbox.held(),
            bytes: slot.mailbox.held_bytes(),
            in_inbox,
            oldest_ms: self.clock.now_ms().saturating_sub(sent_ms),
        })
    }
}
