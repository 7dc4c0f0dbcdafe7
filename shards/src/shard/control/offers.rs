//! What agents offer: every shard knows it, and those who watch hear of it.
//!
//! Invariant: what an agent offers is in the index of its own shard at once, and everywhere before a barrier that was posted
//! after it is passed.

use crate::message::{AgentId, Term};
use crate::routing::capabilities::Provider;
use crate::shard::Shard;
use crate::shard::agent::registry::{AgentFlags, AgentIndex, AgentSlot};
use crate::shard::control::admin::{AdminControl, ProviderNews};
use crate::shard::shard_frame::Control;
use crate::supervision::BreakerGate;

impl Shard {
    /// Adds a capability of an agent, on every shard.
    pub(in crate::shard) fn advertise(&mut self, index: AgentIndex, capability: Term) {
        let shard = self.index;
        // An agent that accepts nothing new must not be found.
        let Some(slot) = self.agents.get_mut(index).filter(|slot| !slot.flags.is(AgentFlags::DRAINING)) else {
            return;
        };
        let provider = Provider { agent: slot.id, shard };
        let capabilities = &mut slot.cold().capabilities;
        if capabilities.contains(&capability) {
            return;
        }
        capabilities.push(capability);
        slot.provider = true;
        slot.flags.add(AgentFlags::PROVIDER);
        self.capabilities.advertise(capability, provider);
        self.links.broadcast(|| Control::Advertise(capability, provider));
        self.publish_breaker(index);
        self.notify_watchers(index, false);
    }

    pub(in crate::shard) fn withdraw(&mut self, index: AgentIndex, capability: Term) {
        let Some(slot) = self.agents.get_mut(index) else { return };
        let agent = slot.id;
        let capabilities = &mut slot.cold().capabilities;
        let before = capabilities.len();
        capabilities.retain(|offered| *offered != capability);
        if capabilities.len() == before {
            return;
        }
        slot.provider = before > 1;
        if !slot.provider {
            slot.flags.remove(AgentFlags::PROVIDER);
        }
        self.capabilities.withdraw(capability, agent);
        self.links.broadcast(|| Control::Withdraw(capability, agent));
        self.publish_breaker(index);
        if !self.agents.get(index).is_some_and(AgentSlot::is_leaving) {
            self.notify_watchers(index, false);
        }
    }

    /// Tells every shard whether a provider's breaker is open, if that has changed.
    pub(in crate::shard) fn publish_breaker(&mut self, index: AgentIndex) {
        let Some(slot) = self.agents.get_mut(index) else { return };
        let (agent, shut) = (slot.id, slot.gate == BreakerGate::Open && slot.provider);
        let Some(guarded) = slot.breaker() else { return };
        if guarded.told_shut == shut {
            return;
        }
        guarded.told_shut = shut;
        self.capabilities.set_available(agent, !shut);
        let is_older = |control: &Control| matches!(control, Control::Available(provider, _) if *provider == agent);
        self.links.broadcast_newest(is_older, || Control::Available(agent, !shut));
    }

    /// Notifies watchers of an agent's current state.
    #[cold]
    pub(in crate::shard) fn notify_watchers(&mut self, index: AgentIndex, removed: bool) {
        let watchers = self.inquiries.watchers();
        if watchers.is_empty() {
            return;
        }
        let Some(news) = self.news_of(index, removed) else { return };
        for watcher in watchers {
            self.post_to_home(watcher, AdminControl::News(watcher, news.clone()));
        }
    }

    pub(in crate::shard) fn news_of(&self, index: AgentIndex, was_removed: bool) -> Option<ProviderNews> {
        let slot = self.agents.get(index)?;
        let capabilities = if was_removed { Vec::new() } else { slot.cold.as_ref()?.capabilities.clone() };
        Some(ProviderNews { agent: slot.id, name: Box::from(&*slot.name), was_removed, capabilities })
    }

    pub(in crate::shard) fn post_to_home(&mut self, agent: AgentId, notice: AdminControl) {
        self.links.post(self.config.partition.shard_of(agent), Control::Oversee(Box::new(notice)));
    }

    pub(in crate::shard) fn post_to_all(&mut self, notice: impl Fn() -> AdminControl) {
        for to in self.links.all() {
            self.links.post(to, Control::Oversee(Box::new(notice())));
        }
    }
}
