//! Who wants to hear of changes in the directory (FIPA SC00035, the search under an iota).
//!
//! A subscription lives as long as its conversation: when that ends for want of traffic, both sides are told so, and
//! whoever wants to hear more subscribes again.

use super::description::{AgentDescription, SearchConstraints};
use super::exception::Exception;
use super::request::unknown_act;
use crate::codec::sl::Term;
use crate::message::{AgentId, ConversationId, Correlation, Message, WallTime};

/// What a subscription is to.
const SUBSCRIBED_ACTS: &str = "search";

/// One subscription.
#[derive(Debug)]
pub(super) struct Subscription {
    /// The message that began it: what it brings are replies to that.
    pub question: Message,
    /// The expression `(iota ?x (result (action ...) ?x))`.
    pub expression: Term,
    /// What is looked for.
    pub template: AgentDescription,
    /// How much of it is wanted at a time.
    pub constraints: SearchConstraints,
}

impl Subscription {
    /// Reads what a subscribe asks for.
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

    /// What is said to the subscriber: the expression stands for these.
    pub fn says(&self, found: &[AgentDescription]) -> Term {
        let found = Term::Set(found.iter().map(AgentDescription::term).collect());
        Term::compound("=", [self.expression.clone(), found])
    }

    /// What of the changes the subscriber is told. An agent that is no longer found is told with its name alone.
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

    /// Whether it is the subscription that a message of this conversation, or with this answer's mark, is about.
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

/// Whether there is such an agent in the directory: one that is not has nothing but its name.
fn is_there(description: &AgentDescription) -> bool {
    *description != AgentDescription { name: description.name.clone(), ..AgentDescription::default() }
}

/// Reads `(search template constraints)`; the constraints may be absent. Nothing, if the act is another one.
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
