//! What agents want to know of others: who watches, and what waits until it is taken.
//!
//! Invariants: what waits for a watcher is one entry per agent, however often that changed; everything is bounded by
//! [`WATCHERS_MAX`], [`INQUIRIES_MAX`] and the number of agents.

use std::collections::BTreeMap;

use foldhash::quality::FixedState;
use hashbrown::HashMap;

use crate::message::AgentId;
use crate::shard::control::admin::{AdminReply, AdminRequest, FoundAgent, INQUIRIES_MAX, ProviderNews, WATCHERS_MAX};

/// What agents want to know of others.
#[derive(Default)]
pub(in crate::shard) struct Inquiries {
    /// Agents on any shard that watch the providers of this one.
    watchers: Vec<AgentId>,
    /// News not yet taken by agents of this shard, by watcher and agent.
    news: HashMap<AgentId, BTreeMap<AgentId, ProviderNews>, FixedState>,
    replies: HashMap<AgentId, BTreeMap<AdminRequest, AdminReply>, FixedState>,
    /// What agents of this shard asked, each with the number of shards that have not replied and what the others said.
    open: HashMap<AdminRequest, (usize, Vec<FoundAgent>), FixedState>,
    asked: u64,
}

impl Inquiries {
    /// Whether something waits for the agent.
    #[cold]
    pub fn has_something_for(&self, agent: AgentId) -> bool {
        self.news.contains_key(&agent) || self.replies.contains_key(&agent)
    }

    /// Whether no reply is outstanding, and none waits to be taken.
    pub fn is_quiet(&self) -> bool {
        self.open.is_empty() && self.replies.is_empty()
    }

    /// Returns the number of a further request, unless too many are open.
    pub fn begin(&mut self) -> Option<AdminRequest> {
        if self.open.len() >= INQUIRIES_MAX {
            return None;
        }
        self.asked += 1;
        Some(AdminRequest(self.asked))
    }

    /// Waits for the replies of so many shards.
    pub fn open(&mut self, request: AdminRequest, shards: usize) {
        self.open.insert(request, (shards, Vec::new()));
    }

    /// Records the reply of one shard. Returns what the asker gets if it was the last one.
    pub fn close(&mut self, request: AdminRequest, reply: AdminReply) -> Option<AdminReply> {
        let (outstanding, found) = self.open.get_mut(&request)?;
        *outstanding -= 1;
        let reply = match reply {
            AdminReply::Agents(agents) => {
                found.extend(agents);
                if *outstanding > 0 {
                    return None;
                }
                AdminReply::Agents(std::mem::take(found))
            }
            changed @ AdminReply::Changed(_) => changed,
        };
        self.open.remove(&request);
        Some(reply)
    }

    /// Keeps a reply until the asker takes it.
    pub fn store_reply(&mut self, asker: AgentId, request: AdminRequest, reply: AdminReply) {
        self.replies.entry(asker).or_default().insert(request, reply);
    }

    /// Takes the replies that wait for an agent, in the order of the requests.
    pub fn take_replies(&mut self, agent: AgentId) -> Vec<(AdminRequest, AdminReply)> {
        self.replies.remove(&agent).map_or_else(Vec::new, |replies| replies.into_iter().collect())
    }

    /// Adds a watcher. Returns false if there are too many.
    pub fn add_watcher(&mut self, watcher: AgentId) -> bool {
        if self.watchers.contains(&watcher) {
            return true;
        }
        let has_room = self.watchers.len() < WATCHERS_MAX;
        if has_room {
            self.watchers.push(watcher);
        }
        has_room
    }

    pub fn watchers(&self) -> Vec<AgentId> {
        self.watchers.clone()
    }

    /// Keeps how an agent stands now until the watcher takes it.
    pub fn store_news(&mut self, watcher: AgentId, mut news: ProviderNews) {
        let waiting = self.news.entry(watcher).or_default();
        if let Some(before) = waiting.get(&news.agent) {
            news.was_removed |= before.was_removed;
        }
        waiting.insert(news.agent, news);
    }

    /// Takes the news that wait for an agent, in the order of the agents' ids.
    pub fn take_news(&mut self, watcher: AgentId) -> Vec<ProviderNews> {
        self.news.remove(&watcher).map_or_else(Vec::new, |news| news.into_values().collect())
    }

    /// Drops what a removed agent has not taken.
    pub fn forget(&mut self, agent: AgentId) {
        self.news.remove(&agent);
        self.replies.remove(&agent);
    }

    /// Drops everything: the router has stopped.
    pub fn stop(&mut self) {
        *self = Self::default();
    }
}
