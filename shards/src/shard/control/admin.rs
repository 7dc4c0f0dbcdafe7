//! What one agent may learn and change of the others: the calls of [`Context`] that agent management is made of.
//!
//! All of it takes the way of everything else between shards: an effect of the handler becomes a notice to the shard of
//! the agent in question, which answers with another. What comes back waits until the asker is polled: a handler that
//! asked is called back through [`Agent::poll`](crate::shard::agent::Agent::poll) without having asked for it.
//!
//! Invariants: what waits for a watcher is one entry per agent, however often that changed; a change that was confirmed
//! is known to every shard. None of this is on the path of a message.

use crate::base::index::{AgentIndex, AgentKey};
use crate::domain::CapabilityName;
use crate::message::{AgentId, Term, capability_term};
use crate::shard::agent::{Context, Effect};
use crate::shard::control::lifecycle::{AgentState, StopReason};
use crate::shard::io::SendErrorKind;
use crate::shard::shard_frame::Control;
use crate::shard::{Alarm, Shard, ShardPhase};

/// How many agents one shard answers a survey with.
pub const SURVEY_AGENTS_MAX: usize = 1_000;
/// How many agents one shard looks at for a survey.
pub const SURVEY_LOOKED_AT_MAX: usize = 100_000;
/// How many agents may watch what others offer.
pub const WATCHERS_MAX: usize = 16;
/// How many questions that agents asked about others wait for their answers, per shard of the askers.
pub const INQUIRIES_MAX: usize = 4_096;

/// Joins what an agent asked about others to its answer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]

pub struct AdminRequest(pub(in crate::shard) u64);

/// How an agent that offers something, or is described, stands now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProviderNews {
    /// The agent.
    pub agent: AgentId,
    /// Its name.
    pub name: Box<str>,
    /// It was removed since the last news of it, whatever came after that.
    pub was_removed: bool,
    /// What it offers now; nothing also if it is gone.
    pub capabilities: Vec<Term>,
}

/// What came of an [`AdminRequest`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AdminReply {
    /// The agents that were looked for.
    Agents(Vec<FoundAgent>),
    /// Every shard knows of the change; or there is no such agent, or its state forbids it.
    Changed(bool),
}

/// An agent that a survey found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FoundAgent {
    /// The agent.
    pub agent: AgentId,
    /// Its name.
    pub name: Box<str>,
    /// Where it is in its life.
    pub state: AgentState,
}

/// A change of another agent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Change {
    /// It offers these, and these no longer; and watchers hear of its end.
    Offers {
        offered: Vec<Term>,
        withdrawn: Vec<Term>,
    },
    Suspend,
    Resume,
    Deregister,
}

/// What a handler did, to take effect when it is done.
pub(crate) enum AdminEffect {
    Watch,
    WakeAt(u64),
    Change(AdminRequest, AgentId, Change),
    /// One agent, or those in a state.
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
    /// Has this agent told what every agent offers, now and whenever that changes: it is polled when there is
    /// [news](Self::take_news). Beyond [`WATCHERS_MAX`] watchers nothing happens.
    pub fn watch_providers(&mut self) {
        self.apply_admin_effect(AdminEffect::Watch);
    }

    /// What this agent has not yet heard of those who offer something, in the order of their ids.
    pub fn take_news(&mut self) -> Vec<ProviderNews> {
        self.shard.inquiries.take_news(self.id)
    }

    /// The answers to what this agent asked, in the order of the questions.
    pub fn take_admin_replies(&mut self) -> Vec<(AdminRequest, AdminReply)> {
        self.shard.inquiries.take_replies(self.id)
    }

    /// Has [`Agent::poll`](crate::shard::agent::Agent::poll) called at this moment of monotonic time, in milliseconds.
    pub fn wake_at(&mut self, moment_ms: u64) {
        self.apply_admin_effect(AdminEffect::WakeAt(moment_ms));
    }

    /// Has another agent offer these capabilities and no longer those, as if it had done so itself. The agent is polled
    /// with [`AdminReply::Changed`] once every shard knows; watchers of providers hear of the other agent's end from then on.
    ///
    /// # Errors
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

    /// Has another agent suspended. The agent is polled with [`AdminReply::Changed`] then.
    ///
    /// # Errors
    /// Too many inquiries are open.
    pub fn suspend(&mut self, agent: AgentId) -> Result<AdminRequest, SendErrorKind> {
        self.change(agent, Change::Suspend)
    }

    /// Has a suspended agent go on. The agent is polled with [`AdminReply::Changed`] then.
    ///
    /// # Errors
    /// Too many inquiries are open.
    pub fn resume(&mut self, agent: AgentId) -> Result<AdminRequest, SendErrorKind> {
        self.change(agent, Change::Resume)
    }

    /// Has another agent removed. What waits for it becomes dead letters. The agent is polled with [`AdminReply::Changed`]
    /// then.
    ///
    /// # Errors
    /// Too many inquiries are open.
    pub fn deregister_agent(&mut self, agent: AgentId) -> Result<AdminRequest, SendErrorKind> {
        self.change(agent, Change::Deregister)
    }

    /// Looks for one agent on its shard. The agent is polled with [`AdminReply::Agents`] then.
    ///
    /// # Errors
    /// Too many inquiries are open.
    pub fn find_agent(&mut self, agent: AgentId) -> Result<AdminRequest, SendErrorKind> {
        self.ask_shards(|inquiry| AdminEffect::Survey(inquiry, Some(agent), None))
    }

    /// Looks for agents on all shards, up to [`SURVEY_AGENTS_MAX`] on each among the first [`SURVEY_LOOKED_AT_MAX`]. The
    /// agent is polled with [`AdminReply::Agents`] then.
    ///
    /// # Errors
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

    /// Takes note of what another shard, or this one, says.
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

    /// Tells an agent that what it asked for was done, or not.
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

    /// An agent asked to be polled now.
    pub(in crate::shard) fn wake(&mut self, key: AgentKey) {
        if self.agents.resolve(key).is_some() {
            self.start_polling(key.index);
        }
    }
}
