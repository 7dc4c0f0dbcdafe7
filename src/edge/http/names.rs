//! The names of agents, for messages that carry only their ids.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use caxton_shards::domain::AgentName;
use caxton_shards::message::{AgentId, Message};

use crate::router::Router;

/// Maximum number of names kept.
const NAMES_MAX: usize = 65_536;

/// The names of agents that messages have mentioned.
#[derive(Default)]
pub(super) struct Names(Mutex<HashMap<AgentId, AgentName>>);

impl Names {
    fn lock(&self) -> MutexGuard<'_, HashMap<AgentId, AgentName>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a name.
    pub fn note(&self, name: &AgentName) {
        let mut names = self.lock();
        if names.len() >= NAMES_MAX {
            names.clear();
        }
        names.insert(AgentId::of(name), name.clone());
    }

    /// Asks the router for the names that these messages lack.
    pub async fn learn(&self, router: &Router, messages: impl Iterator<Item = &Message>) {
        let unknown: HashSet<AgentId> = {
            let names = self.lock();
            let agents = messages.flat_map(unnamed).filter(|agent| !names.contains_key(agent));
            agents.collect()
        };
        for agent in unknown {
            self.learn_one(router, agent).await;
        }
    }

    /// Returns an agent's name, if the router knows it.
    pub async fn of(&self, router: &Router, agent: AgentId) -> Option<AgentName> {
        if let Some(name) = self.get(agent) {
            return Some(name);
        }
        self.learn_one(router, agent).await;
        self.get(agent)
    }

    async fn learn_one(&self, router: &Router, agent: AgentId) {
        // A router that is stopping says nothing: the id stands for the name then.
        if let Ok(Some(view)) = router.agent(agent).await
            && let Ok(name) = view.name.parse()
        {
            self.note(&name);
        }
    }

    /// Returns a name that is known already.
    pub fn get(&self, agent: AgentId) -> Option<AgentName> {
        self.lock().get(&agent).cloned()
    }
}

/// Returns the agents of a message that it carries no names of.
fn unnamed(message: &Message) -> impl Iterator<Item = AgentId> {
    let (has_sender, has_receivers) =
        message.details().map_or((false, false), |details| (details.sender.is_some(), !details.receivers.is_empty()));
    let sender = message.sender().filter(|_| !has_sender);
    let receiver = message.target().filter(|_| !has_receivers);
    sender.into_iter().chain(receiver)
}
