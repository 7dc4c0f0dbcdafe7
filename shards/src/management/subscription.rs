//! Subscriptions to changes in the directory (FIPA SC00035, the search under an iota).
//!
//! A subscription lives as long as its conversation: when that times out, both sides are notified, and the subscriber
//! may subscribe again.

use super::description::{AgentDescription, SearchConstraints};
use super::exception::Exception;
use super::request::unknown_act;
use crate::codec::sl::Term;
use crate::message::{AgentId, ConversationId, Correlation, Message, WallTime};

/// The actions that can be subscribed to.
const SUBSCRIBED_ACTS: &str = "search";

/// One subscription.
#[derive(Debug)]
pub(super) struct Subscription {
    /// The message that began it; notifications are replies to it.
    pub question: Message,
    /// The expression `(iota ?x (result (action ...) ?x))`.
    pub expression: Term,
    /// The template of the search.
    pub template: AgentDescription,
    /// The limits of the search.
    pub constraints: SearchConstraints,
}

impl Subscription {
    /// Reads a subscribe request.
    pub fn read(question: &Message, content: &[Term], now: WallTime) -> Result<Self, Exception> {
        let [expression] = content else { return Err(Exception::UnexpectedArgumentCount) };
        let unrecognised = || Exception::UnrecognisedValue {
            parameter: "content",
            explanation: "expected (iota ?x (result (action agent-identifier (search ...)) ?x))".into(),
        };
        let [variable, proposition] = expression.parts_of("iota").ok_or_else(unrecognised)?;
        let [action, result] = proposition.parts_of("result").ok_or_else(unrecognised)?;
        let [_, act] = action.parts_of("action").ok_or_else(unrecognised)?;
        if variable != result || !matches!(variable, Term::Variable(_)) {
            return Err(unrecognised());
        }
        let (template, constraints) = read_search(act, now)?.ok_or_else(|| unknown_act(act, SUBSCRIBED_ACTS))?;
        Ok(Self { question: question.clone(), expression: expression.clone(), template, constraints })
    }

    /// Returns the content of a notification: the expression equals these descriptions.
    pub fn says(&self, found: &[AgentDescription]) -> Term {
        let found = Term::Set(found.iter().map(AgentDescription::term).collect());
        Term::compound("=", [self.expression.clone(), found])
    }

    /// Returns the changes that concern the subscriber. An agent that no longer matches is reported with only its name.
    pub fn brings(&self, changes: &[(AgentDescription, AgentDescription)]) -> Vec<AgentDescription> {
        let told = changes.iter().filter_map(|(before, after)| {
            if after.is_found_by(&self.template) && is_there(after) {
                Some(after.clone())
            } else if before.is_found_by(&self.template) && is_there(before) {
                Some(AgentDescription { name: after.name.clone(), ..AgentDescription::default() })
            } else {
                None
            }
        });
        told.collect()
    }

    /// Whether a message of this conversation, or with this reply mark, concerns the subscription.
    pub fn is_meant_by(
        &self,
        subscriber: Option<AgentId>,
        conversation: Option<ConversationId>,
        mark: Option<Correlation>,
    ) -> bool {
        let by_conversation = conversation.is_some() && self.question.conversation() == conversation;
        let by_mark = self.question.conversation().is_none() && mark.is_some() && self.question.reply_with() == mark;
        self.question.sender() == subscriber && (by_conversation || by_mark)
    }
}

/// Whether the agent is in the directory: one that is not has nothing but its name.
fn is_there(description: &AgentDescription) -> bool {
    *description != AgentDescription { name: description.name.clone(), ..AgentDescription::default() }
}

/// Reads `(search template constraints)`; the constraints may be absent. Returns `None` for another act.
pub(super) fn read_search(
    act: &Term,
    now: WallTime,
) -> Result<Option<(AgentDescription, SearchConstraints)>, Exception> {
    let read = |template| AgentDescription::read(template, now);
    if let Some([template, constraints]) = act.parts_of("search") {
        return Ok(Some((read(template)?, SearchConstraints::read(constraints)?)));
    }
    if let Some([template]) = act.parts_of("search") {
        return Ok(Some((read(template)?, SearchConstraints::default())));
    }
    match act.arguments_of("search") {
        Some(_) => Err(Exception::UnexpectedArgumentCount),
        None => Ok(None),
    }
}
