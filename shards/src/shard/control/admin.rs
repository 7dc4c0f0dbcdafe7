//! Agent management: what an agent may learn about others and change in them, through methods of [`Context`].
//!
//! Requests travel like everything else between shards: an effect of the handler becomes control data to the shard of
//! the agent in question, which sends a response. Responses wait until the requesting agent is polled, which happens
//! through [`Agent::poll`](crate::shard::agent::Agent::poll) without a further request.
//!
//! Invariants: a watcher has at most one waiting entry per agent, however often that changed; a confirmed change is
//! known to every shard. None of this is on the path of a message.

use crate::base::index::{AgentIndex, AgentKey};
use crate::domain::CapabilityName;
use crate::message::{AgentId, Term, capability_term};
use crate::shard::agent::{Context, Effect};
use crate::shard::control::lifecycle::{AgentState, StopReason};
use crate::shard::io::SendErrorKind;
use crate::shard::shard_frame::Control;
use crate::shard::{Alarm, Shard, ShardPhase};

/// Maximum number of agents in one shard's response to a survey.
pub const SURVEY_AGENTS_MAX: usize = 1_000;
/// Maximum number of agents that one shard examines for a survey.
pub const SURVEY_LOOKED_AT_MAX: usize = 100_000;
/// Maximum number of agents that watch providers.
pub const WATCHERS_MAX: usize = 16;
/// Maximum number of open inquiries of a shard's agents about others.
pub const INQUIRIES_MAX: usize = 4_096;

/// Correlates an inquiry with its reply.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]

pub struct AdminRequest(pub(in crate::shard) u64);

/// The current state of an agent that provides something, or is described.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProviderNews {
    /// The agent.
    pub agent: AgentId,
    /// Its name.
    pub name: Box<str>,
    /// Whether it was removed since the last news of it, whatever happened after that.
    pub was_removed: bool,
    /// The capabilities it provides; empty also if it is gone.
    pub capabilities: Vec<Term>,
}

/// The reply to an [`AdminRequest`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AdminReply {
    /// The agents found.
    Agents(Vec<FoundAgent>),
    /// Whether the change was made and is known to every shard; false if there is no such agent, or its state forbids
    /// it.
    Changed(bool),
}

/// An agent found by a survey.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FoundAgent {
    /// The agent.
    pub agent: AgentId,
    /// Its name.
    pub name: Box<str>,
    /// Its life-cycle state.
    pub state: AgentState,
}

/// A change of another agent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Change {
    /// Changes its capabilities, and reports its end to watchers.
    Offers {
        offered: Vec<Term>,
        withdrawn: Vec<Term>,
    },
    Suspend,
    Resume,
    Deregister,
}

/// An effect of a handler on other agents, applied when it is done.
pub(crate) enum AdminEffect {
    Watch,
    WakeAt(u64),
    Change(AdminRequest, AgentId, Change),
    /// Finds one agent, or those in a state.
    Survey(AdminRequest, Option<AgentId>, Option<AgentState>),
}

impl AdminEffect {
    /// The request that is to be answered, and by how many of these shards.
    fn request(&self, shards: usize) -> Option<(AdminRequest, usize)> {
        match self {
            Self::Watch | Self::WakeAt(_) => None,
            Self::Change(request, ..) | Self::Survey(request, Some(_), _) => Some((*request, 1)),
            Self::Survey(request, None, _) => Some((*request, shards)),
        }
    }
}

/// What shards tell each other of it, and themselves.
pub(crate) enum AdminControl {
    /// An agent of this shard wants this.
    Effect {
        agent: AgentKey,
        asker: AgentId,
        effect: AdminEffect,
    },
    Watch(AgentId),
    News(AgentId, ProviderNews),
    Change {
        asker: AgentId,
        inquiry: AdminRequest,
        agent: AgentId,
        change: Change,
    },
    Survey {
        asker: AgentId,
        inquiry: AdminRequest,
        agent: Option<AgentId>,
        state: Option<AgentState>,
    },
    Found {
        asker: AgentId,
        inquiry: AdminRequest,
        reply: AdminReply,
    },
}

impl Context<'_> {
    /// Watches what every agent provides: this agent is polled when there is [news](Self::take_news). Ignored beyond
    /// [`WATCHERS_MAX`] watchers.
    pub fn watch_providers(&mut self) {
        self.apply_admin_effect(AdminEffect::Watch);
    }

    /// Takes the news about providers, ordered by agent id.
    pub fn take_news(&mut self) -> Vec<ProviderNews> {
        self.shard.inquiries.take_news(self.id)
    }

    /// Takes the replies to this agent's inquiries, in the order of the inquiries.
    pub fn take_admin_replies(&mut self) -> Vec<(AdminRequest, AdminReply)> {
        self.shard.inquiries.take_replies(self.id)
    }

    /// Requests [`Agent::poll`](crate::shard::agent::Agent::poll) at this monotonic time, in milliseconds.
    pub fn wake_at(&mut self, moment_ms: u64) {
        self.apply_admin_effect(AdminEffect::WakeAt(moment_ms));
    }

    /// Changes the capabilities of another agent, as if it had done so itself. This agent is polled with
    /// [`AdminReply::Changed`] once every shard knows; from then on watchers of providers are told of the other agent's
    /// end.
    ///
    /// # Errors
    ///
    /// The process-wide vocabulary is full, or too many inquiries are open.
    pub fn change_offers_of(
        &mut self,
        agent: AgentId,
        offered: &[CapabilityName],
        withdrawn: &[CapabilityName],
    ) -> Result<AdminRequest, SendErrorKind> {
        let offered = offered.iter().map(|name| capability_term(name).ok_or(SendErrorKind::Full));
        let offered = offered.collect::<Result<Vec<Term>, SendErrorKind>>()?;
        let withdrawn = withdrawn.iter().filter_map(|name| Term::find(name.as_ref())).collect();
        self.change(agent, Change::Offers { offered, withdrawn })
    }

    /// Suspends another agent. This agent is then polled with [`AdminReply::Changed`].
    ///
    /// # Errors
    ///
    /// Too many inquiries are open.
    pub fn suspend(&mut self, agent: AgentId) -> Result<AdminRequest, SendErrorKind> {
        self.change(agent, Change::Suspend)
    }

    /// Resumes a suspended agent. This agent is then polled with [`AdminReply::Changed`].
    ///
    /// # Errors
    ///
    /// Too many inquiries are open.
    pub fn resume(&mut self, agent: AgentId) -> Result<AdminRequest, SendErrorKind> {
        self.change(agent, Change::Resume)
    }

    /// Removes another agent. Messages waiting for it are dead-lettered. This agent is then polled with
    /// [`AdminReply::Changed`].
    ///
    /// # Errors
    ///
    /// Too many inquiries are open.
    pub fn deregister_agent(&mut self, agent: AgentId) -> Result<AdminRequest, SendErrorKind> {
        self.change(agent, Change::Deregister)
    }

    /// Finds one agent on its shard. This agent is then polled with [`AdminReply::Agents`].
    ///
    /// # Errors
    ///
    /// Too many inquiries are open.
    pub fn find_agent(&mut self, agent: AgentId) -> Result<AdminRequest, SendErrorKind> {
        self.ask_shards(|inquiry| AdminEffect::Survey(inquiry, Some(agent), None))
    }

    /// Finds agents on all shards, up to [`SURVEY_AGENTS_MAX`] on each among the first [`SURVEY_LOOKED_AT_MAX`]. This
    /// agent is then polled with [`AdminReply::Agents`].
    ///
    /// # Errors
    ///
    /// Too many inquiries are open.
    pub fn survey_agents(&mut self, state: Option<AgentState>) -> Result<AdminRequest, SendErrorKind> {
        self.ask_shards(|inquiry| AdminEffect::Survey(inquiry, None, state))
    }

    fn change(&mut self, agent: AgentId, change: Change) -> Result<AdminRequest, SendErrorKind> {
        self.ask_shards(|inquiry| AdminEffect::Change(inquiry, agent, change))
    }

    fn ask_shards(&mut self, effect: impl FnOnce(AdminRequest) -> AdminEffect) -> Result<AdminRequest, SendErrorKind> {
        let inquiry = self.shard.inquiries.begin().ok_or(SendErrorKind::Full)?;
        self.apply_admin_effect(effect(inquiry));
        Ok(inquiry)
    }

    fn apply_admin_effect(&mut self, oversight: AdminEffect) {
        self.shard.effects.push(Effect::Oversee(Box::new(oversight)));
    }
}

impl Shard {
    /// Opens the request that a handler made, if any, and tells this shard of the rest: an effect takes place in the next
    /// turn.
    #[cold]
    pub(in crate::shard) fn post_admin_effect(&mut self, index: AgentIndex, asker: AgentId, effect: AdminEffect) {
        let Some(agent) = self.agents.key(index) else { return };
        if let Some((request, shards)) = effect.request(self.links.shards()) {
            self.inquiries.open(request, shards);
        }
        self.links.post(self.index, Control::Oversee(Box::new(AdminControl::Effect { agent, asker, effect })));
    }

    /// Lets an effect take place.
    #[cold]
    fn apply_admin_effect(&mut self, agent: AgentKey, asker: AgentId, effect: AdminEffect) {
        match effect {
            AdminEffect::Watch => self.post_to_all(|| AdminControl::Watch(asker)),
            AdminEffect::WakeAt(moment_ms) => {
                let due_ms = moment_ms.max(self.clock.now_ms() + 1);
                if self.timers.insert(due_ms, Alarm::Wake(agent)).is_err() {
                    // Too early is better than never.
                    self.wake(agent);
                }
            }
            AdminEffect::Change(inquiry, agent, change) => {
                self.post_to_home(agent, AdminControl::Change { asker, inquiry, agent, change });
            }
            AdminEffect::Survey(inquiry, Some(agent), state) => {
                self.post_to_home(agent, AdminControl::Survey { asker, inquiry, agent: Some(agent), state });
            }
            AdminEffect::Survey(inquiry, None, state) => {
                self.post_to_all(|| AdminControl::Survey { asker, inquiry, agent: None, state });
            }
        }
    }

    /// Handles control data from another shard, or this one.
    #[cold]
    pub(in crate::shard) fn on_admin_control(&mut self, notice: AdminControl) {
        match notice {
            AdminControl::Effect { agent, asker, effect } => self.apply_admin_effect(agent, asker, effect),
            AdminControl::Watch(watcher) => self.add_watcher(watcher),
            AdminControl::News(watcher, news) => self.store_news(watcher, news),
            AdminControl::Change { asker, inquiry, agent, change } => {
                self.change_agent(asker, inquiry, agent, change);
            }
            AdminControl::Survey { asker, inquiry, agent, state } => {
                let reply = AdminReply::Agents(self.survey(agent, state));
                self.post_to_home(asker, AdminControl::Found { asker, inquiry, reply });
            }
            AdminControl::Found { asker, inquiry, reply } => self.store_admin_reply(asker, inquiry, reply),
        }
    }

    fn add_watcher(&mut self, watcher: AgentId) {
        if !self.inquiries.add_watcher(watcher) {
            return;
        }
        let providers: Vec<AgentIndex> =
            self.agents.iter().filter(|(_, slot)| slot.provider).map(|(index, _)| index).collect();
        for index in providers {
            if let Some(news) = self.news_of(index, false) {
                self.post_to_home(watcher, AdminControl::News(watcher, news));
            }
        }
    }

    fn store_news(&mut self, watcher: AgentId, news: ProviderNews) {
        let Some(index) = self.agents.find(watcher) else { return };
        self.inquiries.store_news(watcher, news);
        self.start_polling(index);
    }

    fn change_agent(&mut self, asker: AgentId, inquiry: AdminRequest, agent: AgentId, change: Change) {
        let found = self.agents.find_own(agent);
        let changed = match (found, change) {
            (None, _) => false,
            (Some(index), Change::Offers { offered, withdrawn }) => {
                if let Some(slot) = self.agents.get_mut(index) {
                    slot.cold().described = true;
                }
                for term in withdrawn {
                    self.withdraw(index, term);
                }
                for term in offered {
                    self.advertise(index, term);
                }
                return self.confirm_when_known(asker, inquiry);
            }
            (Some(_), Change::Suspend) => self.suspend_agent(agent).is_ok(),
            (Some(_), Change::Resume) => self.resume_agent(agent).is_ok(),
            (Some(index), Change::Deregister) => {
                self.remove_agent(index, StopReason::Deregistered);
                true
            }
        };
        self.confirm(asker, inquiry, changed);
    }

    /// Reports to an agent whether its request was performed.
    pub(in crate::shard) fn confirm(&mut self, asker: AgentId, inquiry: AdminRequest, changed: bool) {
        let reply = AdminReply::Changed(changed);
        self.post_to_home(asker, AdminControl::Found { asker, inquiry, reply });
    }

    fn survey(&self, agent: Option<AgentId>, state: Option<AgentState>) -> Vec<FoundAgent> {
        let found = |index: AgentIndex| {
            let slot = self.agents.get(index)?;
            let stands = AgentState::of(slot.flags);
            let wanted = index != self.agents.gateway() && state.is_none_or(|state| state == stands);
            wanted.then(|| FoundAgent { agent: slot.id, name: Box::from(&*slot.name), state: stands })
        };
        match agent {
            Some(agent) => self.agents.find(agent).and_then(found).into_iter().collect(),
            None => self
                .agents
                .iter()
                .take(SURVEY_LOOKED_AT_MAX)
                .filter_map(|(index, _)| found(index))
                .take(SURVEY_AGENTS_MAX)
                .collect(),
        }
    }

    fn store_admin_reply(&mut self, asker: AgentId, inquiry: AdminRequest, reply: AdminReply) {
        let Some(reply) = self.inquiries.close(inquiry, reply) else { return };
        let Some(index) = self.agents.find(asker) else { return };
        self.inquiries.store_reply(asker, inquiry, reply);
        self.start_polling(index);
    }

    /// Drops what nobody takes any more once the router has stopped.
    pub(in crate::shard) fn stop_inquiries(&mut self) {
        debug_assert!(self.phase == ShardPhase::Stopped, "agents are polled as long as the router goes on");
        self.inquiries.stop();
    }

    /// Polls an agent that requested it for now.
    pub(in crate::shard) fn wake(&mut self, key: AgentKey) {
        if self.agents.resolve(key).is_some() {
            self.start_polling(key.index);
        }
    }
}
