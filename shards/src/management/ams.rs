//! The agent management system: an agent that manages and reports the agents of a platform and their states.

use std::collections::BTreeMap;

use super::description::{ManagedAgent, ManagedState, SearchConstraints, platform_term};
use super::exception::Exception;
use super::request::{Action, Observer, Replies, read_action, read_content, unknown_act};
use super::{Platform, RESULTS_MAX};
use crate::codec::sl::Term;
use crate::domain::AgentName;
use crate::message::notice::is_notice;
use crate::message::{AgentId, Aid, Correlation, Message, Performative};
use crate::shard::agent::{Agent, Context, Outcome, Polled};
use crate::shard::control::admin::{AdminReply, AdminRequest, FoundAgent, INQUIRIES_MAX};
use crate::shard::control::lifecycle::AgentState;
use crate::shard::io::SendErrorKind;

const ACTS: &str = "register, deregister, modify, search and get-description";

/// The agent management system of a platform.
pub struct Ams {
    platform: Platform,
    /// Agents registered here that this router does not host, each with the agent that registered it.
    described: BTreeMap<AgentName, (ManagedAgent, AgentId)>,
    /// Requests to be answered once the shards have responded.
    open: BTreeMap<AdminRequest, Open>,
    /// Agents that deregister once they have read the confirmation.
    farewells: BTreeMap<Correlation, AgentId>,
    replies: Replies,
}

struct Open {
    question: Message,
    action: Term,
    /// The act to perform then; `None` if it was performed and only has to be confirmed.
    act: Option<Act>,
}

enum Act {
    Register(ManagedAgent),
    Modify(ManagedAgent),
    Deregister(ManagedAgent),
    Search(ManagedAgent, SearchConstraints),
}

impl Ams {
    /// Creates an agent management system without registered descriptions.
    pub fn new(platform: Platform) -> Self {
        Self {
            platform,
            described: BTreeMap::new(),
            open: BTreeMap::new(),
            farewells: BTreeMap::new(),
            replies: Replies::default(),
        }
    }

    /// Adds an observer of its replies.
    #[must_use]
    pub fn observed(mut self, observer: impl Observer + 'static) -> Self {
        self.replies.observe(Box::new(observer));
        self
    }

    fn request(&mut self, message: &Message, context: &mut Context<'_>) {
        let action = match read_content(message).and_then(|content| read_action(&content)) {
            Ok(action) => action,
            Err(why) => return self.replies.except(message, None, &why, context),
        };
        let begun = self.begin(message, &action, context);
        if let Err(why) = begun {
            self.replies.except(message, Some(&action.action), &why, context);
        }
    }

    /// Reads a request, and queries the shards for what it needs.
    fn begin(&mut self, message: &Message, action: &Action, context: &mut Context<'_>) -> Result<(), Exception> {
        let Action { action, act } = action;
        if act.head().or(act.as_text()).is_some_and(|act| act.eq_ignore_ascii_case("get-description")) {
            let (ams, df) = (Aid::new(self.platform.ams()), Aid::new(self.platform.df()));
            let platform = platform_term(self.platform.name.as_ref(), &ams, &df);
            self.replies.agree(message, action, context);
            self.replies.result(message, action, Term::Set(vec![platform]), context);
            return Ok(());
        }
        let act = read_act(act)?;
        let template = match &act {
            Act::Search(template, _) => template,
            Act::Register(agent) | Act::Modify(agent) | Act::Deregister(agent) => {
                let aid = agent.check_complete()?;
                if aid.name == self.platform.df() || aid.name == self.platform.ams() {
                    return Err(Exception::Unauthorised("ams and df belong to the platform"));
                }
                agent
            }
        };
        let inquiry = match &template.name {
            Some(aid) => context.find_agent(aid.id()),
            None => context.survey_agents(wanted_state(template)),
        };
        let inquiry = inquiry.map_err(busy)?;
        self.open.insert(inquiry, Open { question: message.clone(), action: action.clone(), act: Some(act) });
        Ok(())
    }

    fn catch_up(&mut self, context: &mut Context<'_>) {
        self.replies.flush(context);
        for (inquiry, reply) in context.take_admin_replies() {
            let Some(Open { question, action, act }) = self.open.remove(&inquiry) else { continue };
            if let Err(why) = self.finish(&question, &action, act, reply, context) {
                self.replies.except(&question, Some(&action), &why, context);
            }
        }
    }

    fn finish(
        &mut self,
        question: &Message,
        action: &Term,
        act: Option<Act>,
        reply: AdminReply,
        context: &mut Context<'_>,
    ) -> Result<(), Exception> {
        let requester = question.sender();
        let found = match reply {
            AdminReply::Agents(found) => found,
            AdminReply::Changed(changed) => {
                if !changed {
                    return Err(Exception::InternalError("the agent's state does not allow this change".into()));
                }
                self.replies.agree(question, action, context);
                self.replies.done(question, action, context);
                return Ok(());
            }
        };
        let Some(act) = act else { return Ok(()) };
        match act {
            Act::Search(template, constraints) => {
                let found = self.search(&template, &constraints, found);
                self.replies.agree(question, action, context);
                self.replies.result(question, action, found, context);
                return Ok(());
            }
            Act::Register(agent) => self.register(agent, requester, &found)?,
            Act::Modify(agent) => {
                if let Some(own) = found.first() {
                    let inquiry = modify_own(&agent, own, requester, context)?;
                    let (question, action) = (question.clone(), action.clone());
                    self.open.insert(inquiry, Open { question, action, act: None });
                    return Ok(());
                }
                let registrar = self.check_described(&agent, requester)?;
                let name = agent.check_complete()?.name.clone();
                self.described.insert(name, (agent, registrar));
            }
            Act::Deregister(agent) => {
                if let Some(own) = found.first() {
                    return self.say_farewell(question, action, own, context);
                }
                self.check_described(&agent, requester)?;
                self.described.remove(&agent.check_complete()?.name);
            }
        }
        self.replies.agree(question, action, context);
        self.replies.done(question, action, context);
        Ok(())
    }

    fn search(&self, template: &ManagedAgent, constraints: &SearchConstraints, found: Vec<FoundAgent>) -> Term {
        let own = found.into_iter().filter_map(|found| {
            let name = Aid::new(AgentName::try_new(found.name.as_ref()).ok()?);
            Some(ManagedAgent { name: Some(name), ownership: None, state: Some(found.state.into()) })
        });
        let described = self.described.values().map(|(agent, _)| agent.clone());
        let mut all: Vec<ManagedAgent> = own.chain(described).filter(|agent| agent.is_found_by(template)).collect();
        all.sort_by(|one, other| one.name.as_ref().map(|aid| &aid.name).cmp(&other.name.as_ref().map(|aid| &aid.name)));
        all.dedup_by(|later, earlier| later.name == earlier.name);
        all.truncate(constraints.results(RESULTS_MAX));
        Term::Set(all.iter().map(ManagedAgent::term).collect())
    }

    fn register(
        &mut self,
        agent: ManagedAgent,
        requester: Option<AgentId>,
        found: &[FoundAgent],
    ) -> Result<(), Exception> {
        let name = agent.check_complete()?.name.clone();
        let limit = self.platform.descriptions.as_usize();
        if !found.is_empty() || self.described.contains_key(&name) {
            return Err(Exception::AlreadyRegistered);
        }
        if self.described.len() >= limit {
            let explanation = format!("there are as many registered agents as allowed: {limit}");
            return Err(Exception::InternalError(explanation.into()));
        }
        let requester = requester.unwrap_or(AgentId::of(&name));
        self.described.insert(name, (agent, requester));
        Ok(())
    }

    /// Whether the requester may change a description; returns who registered it.
    fn check_described(&self, agent: &ManagedAgent, requester: Option<AgentId>) -> Result<AgentId, Exception> {
        let aid = agent.check_complete()?;
        let (_, registrar) = self.described.get(&aid.name).ok_or(Exception::NotRegistered)?;
        if requester != Some(aid.id()) && requester != Some(*registrar) {
            return Err(Exception::Unauthorised(
                "a description can only be changed by its agent or by the agent that registered it",
            ));
        }
        Ok(*registrar)
    }

    /// Confirms the deregistration to an agent before it leaves.
    fn say_farewell(
        &mut self,
        question: &Message,
        action: &Term,
        agent: &FoundAgent,
        context: &mut Context<'_>,
    ) -> Result<(), Exception> {
        check_own(agent, question.sender())?;
        if self.farewells.len() >= INQUIRIES_MAX {
            return Err(busy(SendErrorKind::Full));
        }
        let mark = context.new_correlation();
        self.farewells.insert(mark, agent.agent);
        self.replies.agree(question, action, context);
        self.replies.done_for_good(question, action, mark, context);
        Ok(())
    }

    /// Handles the notice that the confirmation to a leaving agent was read, or cannot be.
    fn hear_notice(&mut self, message: &Message, context: &mut Context<'_>) {
        let mark = message.in_reply_to();
        if let Some(agent) = mark.and_then(|mark| self.farewells.remove(&mark)) {
            // The result was already reported.
            let _ = context.deregister_agent(agent);
        }
    }
}

impl Agent for Ams {
    fn handle(&mut self, message: &Message, context: &mut Context<'_>) -> Outcome {
        self.catch_up(context);
        match message.performative() {
            _ if is_notice(message) => self.hear_notice(message, context),
            Performative::Request => self.request(message, context),
            other => self.replies.do_not_understand(message, other, context),
        }
        Outcome::Done
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Polled {
        self.catch_up(context);
        Polled::Finished
    }
}

/// Checks that agents of this router act only for themselves.
fn check_own(agent: &FoundAgent, requester: Option<AgentId>) -> Result<(), Exception> {
    if requester == Some(agent.agent) {
        return Ok(());
    }
    Err(Exception::Unauthorised("an agent of this router can only be changed by itself"))
}

/// Changes the state of an agent of this router.
fn modify_own(
    wanted: &ManagedAgent,
    agent: &FoundAgent,
    requester: Option<AgentId>,
    context: &mut Context<'_>,
) -> Result<AdminRequest, Exception> {
    check_own(agent, requester)?;
    let not_allowed = |parameter| Exception::UnrecognisedParameterValue { object: "ams-agent-description", parameter };
    if wanted.ownership.is_some() {
        return Err(not_allowed("ownership"));
    }
    let inquiry = match wanted.state {
        Some(ManagedState::Suspended) => context.suspend(agent.agent),
        Some(ManagedState::Active) => context.resume(agent.agent),
        _ => return Err(not_allowed("state")),
    };
    inquiry.map_err(busy)
}

fn busy(_: SendErrorKind) -> Exception {
    Exception::InternalError("too many requests are in progress: try again later".into())
}

/// Returns the state that the shards should search for, if it corresponds to one of theirs.
fn wanted_state(template: &ManagedAgent) -> Option<AgentState> {
    match template.state? {
        ManagedState::Initiated => Some(AgentState::Initiated),
        ManagedState::Suspended => Some(AgentState::Suspended),
        ManagedState::Active | ManagedState::Waiting | ManagedState::Transit => None,
    }
}

type Make = fn(ManagedAgent) -> Act;

fn read_act(act: &Term) -> Result<Act, Exception> {
    let makers: [(&str, Make); 3] =
        [("register", Act::Register), ("modify", Act::Modify), ("deregister", Act::Deregister)];
    for (head, make) in makers {
        if act.arguments_of(head).is_some() {
            let [agent] = act.parts_of(head).ok_or(Exception::UnexpectedArgumentCount)?;
            return Ok(make(ManagedAgent::read(agent)?));
        }
    }
    if let Some([template, constraints]) = act.parts_of("search") {
        return Ok(Act::Search(ManagedAgent::read(template)?, SearchConstraints::read(constraints)?));
    }
    if let Some([template]) = act.parts_of("search") {
        return Ok(Act::Search(ManagedAgent::read(template)?, SearchConstraints::default()));
    }
    match act.arguments_of("search") {
        Some(_) => Err(Exception::UnexpectedArgumentCount),
        None => Err(unknown_act(act, ACTS)),
    }
}
