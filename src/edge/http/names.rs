//! The names of agents, for messages that carry only their ids.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use caxton_shards::domain::AgentName;
use caxton_shards::message::{AgentId, Message};
use tokio::task::JoinSet;

use crate::router::Router;

/// Maximum number of names kept.
const NAMES_MAX: usize = 65_536;

/// How long the names that messages lack are looked up: what carries them waits for it.
const LOOK_UP_WITHIN: Duration = Duration::from_millis(200);
/// Time after which an agent whose name was not learnt is looked up again.
const UNKNOWN_FOR: Duration = Duration::from_secs(1);

/// What is known of an agent's name.
enum Known {
    Name(AgentName),
    /// Nobody knew the agent at this time, or its shard did not respond.
    Unknown(Instant),
}

/// The names of agents that messages have mentioned.
#[derive(Default)]
pub(super) struct Names(Mutex<HashMap<AgentId, Known>>);

impl Names {
    fn lock(&self) -> MutexGuard<'_, HashMap<AgentId, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a name.
    pub fn note(&self, name: &AgentName) {
        self.set(AgentId::of(name), Known::Name(name.clone()));
    }

    fn set(&self, agent: AgentId, known: Known) {
        let mut names = self.lock();
        if names.len() >= NAMES_MAX {
            names.clear();
        }
        names.insert(agent, known);
    }

    /// Asks the router for the names that these messages lack.
    pub async fn learn(&self, router: &Router, messages: impl Iterator<Item = &Message>) {
        self.look_up(router, messages.flat_map(unnamed).collect()).await;
    }

    /// Returns an agent's name, if the router knows it.
    pub async fn of(&self, router: &Router, agent: AgentId) -> Option<AgentName> {
        self.look_up(router, HashSet::from([agent])).await;
        self.get(agent)
    }

    /// Returns the names of agents; the ids of those whose names are not learnt in time stand for them.
    pub async fn shown(&self, router: &Router, agents: &[AgentId]) -> Vec<String> {
        self.look_up(router, agents.iter().copied().collect()).await;
        let shown = |agent: &AgentId| self.get(*agent).map_or_else(|| agent.to_string(), |name| name.to_string());
        agents.iter().map(shown).collect()
    }

    /// Looks up the agents that are not known, on all shards at the same time: one that does not respond delays no other.
    async fn look_up(&self, router: &Router, mut agents: HashSet<AgentId>) {
        {
            let names = self.lock();
            agents.retain(|agent| match names.get(agent) {
                None => true,
                Some(Known::Name(_)) => false,
                Some(Known::Unknown(since)) => since.elapsed() >= UNKNOWN_FOR,
            });
        }
        let mut by_shard: HashMap<_, Vec<AgentId>> = HashMap::new();
        for agent in agents {
            by_shard.entry(router.partition().shard_of(agent)).or_default().push(agent);
        }
        let mut asked: JoinSet<_> = by_shard.into_values().map(|agents| ask(router.clone(), agents)).collect();
        while let Some(found) = asked.join_next().await {
            for (agent, name) in found.unwrap_or_default() {
                self.set(agent, name.map_or_else(|| Known::Unknown(Instant::now()), Known::Name));
            }
        }
    }

    /// Returns a name that is known already.
    pub fn get(&self, agent: AgentId) -> Option<AgentName> {
        match self.lock().get(&agent) {
            Some(Known::Name(name)) => Some(name.clone()),
            _ => None,
        }
    }
}

/// Asks a shard for the names of its agents, one after the other. What there was no time for is left out, so that it is
/// asked next time; a shard that does not respond at all knows none of them.
async fn ask(router: Router, agents: Vec<AgentId>) -> Vec<(AgentId, Option<AgentName>)> {
    let ends = Instant::now() + LOOK_UP_WITHIN;
    let mut found = Vec::with_capacity(agents.len());
    for agent in &agents {
        let within = ends.saturating_duration_since(Instant::now());
        // There is no time left, or the router is stopping.
        let Ok(view) = router.within(within).agent(*agent).await else { break };
        found.push((*agent, view.and_then(|view| view.name.parse().ok())));
    }
    if found.is_empty() { agents.into_iter().map(|agent| (agent, None)).collect() } else { found }
}

/// Returns the agents of a message that it carries no names of.
fn unnamed(message: &Message) -> impl Iterator<Item = AgentId> {
    let (has_sender, has_receivers) =
        message.details().map_or((false, false), |details| (details.sender.is_some(), !details.receivers.is_empty()));
    let sender = message.sender().filter(|_| !has_sender);
    let receiver = message.target().filter(|_| !has_receivers);
    sender.into_iter().chain(receiver)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Preset};

    #[test]
    fn an_agent_whose_shard_does_not_respond_is_not_looked_up_at_once_again() {
        let router = Router::builder().config(Config::preset(Preset::Testing)).start().expect("it starts");
        let names = Names::default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("it can be built");
        router.shutdown(Duration::from_mins(1)).expect("this is no shard's thread");
        let agent = AgentId::of_text("clerk");
        assert_eq!(runtime.block_on(names.of(&router, agent)), None);
        assert!(matches!(names.lock().get(&agent), Some(Known::Unknown(_))));
    }
}
