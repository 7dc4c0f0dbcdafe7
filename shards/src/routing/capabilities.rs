//! The capability index, of which every shard holds a complete copy.
//!
//! Registrations are announced to every shard, so addressing a capability needs no communication: picking any provider,
//! the next in rotation or the least loaded of a bounded sample takes constant time.

use foldhash::quality::FixedState;
use hashbrown::{HashMap, HashSet, HashTable};

use crate::base::index::{AgentIndex, ShardIndex};
use crate::domain::CapabilityName;
use crate::message::{AgentId, Choice, Term};

/// Up to this many providers, the least loaded one is found exactly. Among more, the least loaded of a sample of this
/// size is taken, which spreads load nearly as well at constant cost.
pub const LOAD_SAMPLE: usize = 16;
/// Maximum number of providers examined to find one whose circuit breaker lets messages through. If all of theirs are
/// open, the message goes where it would have gone anyway.
pub const PROVIDERS_TRIED_MAX: usize = 256;

/// An agent that provides a capability.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Provider {
    /// The agent.
    pub agent: AgentId,
    /// Its shard.
    pub shard: ShardIndex,
}

#[derive(Debug, Default)]
struct Providers {
    /// Those on this shard come first.
    list: Vec<Provider>,
    locals: usize,
    positions: HashTable<u32>,
    next: usize,
}

/// One shard's copy of the capability index.
#[derive(Debug)]
pub(crate) struct Capabilities {
    shard: ShardIndex,
    by_capability: HashMap<Term, Providers, FixedState>,
    /// Messages waiting at providers on other shards: their last report plus what was sent to them since.
    reported: HashMap<AgentId, u32, FixedState>,
    /// Providers on any shard whose circuit breaker is open.
    unavailable: HashSet<AgentId, FixedState>,
    /// Providers of this shard whose load has changed since the last announcement.
    load_changed: Vec<AgentIndex>,
}

impl Capabilities {
    pub fn new(shard: ShardIndex) -> Self {
        Self {
            shard,
            by_capability: HashMap::with_hasher(FixedState::default()),
            reported: HashMap::with_hasher(FixedState::default()),
            unavailable: HashSet::with_hasher(FixedState::default()),
            load_changed: Vec::new(),
        }
    }

    /// Adds a provider; adding it again changes nothing.
    pub fn advertise(&mut self, capability: Term, provider: Provider) {
        let shard = self.shard;
        let providers = self.by_capability.entry(capability).or_insert_with(|| Providers {
            // Shards start their rotations at different providers, so that they do not all begin with the same one.
            next: shard.as_usize(),
            ..Providers::default()
        });
        providers.insert(provider, provider.shard == shard);
    }

    /// Removes a provider.
    pub fn withdraw(&mut self, capability: Term, agent: AgentId) {
        if let Some(providers) = self.by_capability.get_mut(&capability) {
            providers.remove(agent);
            if providers.list.is_empty() {
                self.by_capability.remove(&capability);
            }
        }
        self.reported.remove(&agent);
    }

    /// Returns all providers of the capability; those on this shard first.
    pub fn providers(&self, capability: Term) -> &[Provider] {
        self.by_capability.get(&capability).map_or(&[], |providers| &providers.list)
    }

    /// Chooses a provider. `load_here` returns the number of messages waiting at an agent of this shard.
    pub fn choose(&mut self, capability: Term, choice: Choice, load_here: impl Fn(AgentId) -> u32) -> Option<AgentId> {
        let providers = self.by_capability.get_mut(&capability)?;
        if providers.list.is_empty() {
            return None;
        }
        let available =
            if self.unavailable.is_empty() { None } else { providers.first_available(choice, &self.unavailable) };
        // Skipping a provider must not give its neighbour two turns.
        let turn = available.map_or(providers.next, |available| available.turn);
        providers.next = turn.wrapping_add(1);
        let count = providers.list.len();
        let chosen = match choice {
            // None on this shard, but some elsewhere.
            Choice::Any if available.is_some_and(|available| !available.local) => providers.list[turn % count],
            Choice::Any if providers.locals > 0 => providers.list[turn % providers.locals],
            Choice::Any | Choice::RoundRobin | Choice::All => providers.list[turn % count],
            Choice::LeastLoaded => {
                let tried = if available.is_some() { PROVIDERS_TRIED_MAX } else { LOAD_SAMPLE };
                let sample = (0..count.min(tried))
                    .map(|step| providers.list[turn.wrapping_add(step) % count])
                    .filter(|provider| available.is_none() || !self.unavailable.contains(&provider.agent))
                    .take(LOAD_SAMPLE);
                let load = |provider: &Provider| {
                    if provider.shard == self.shard {
                        load_here(provider.agent)
                    } else {
                        self.reported.get(&provider.agent).copied().unwrap_or(0)
                    }
                };
                sample.min_by_key(load)?
            }
        };
        if choice == Choice::LeastLoaded && chosen.shard != self.shard {
            *self.reported.entry(chosen.agent).or_insert(0) += 1;
        }
        Some(chosen.agent)
    }

    /// Records whether a provider's circuit breaker lets messages through.
    pub fn set_available(&mut self, agent: AgentId, available: bool) {
        if available {
            self.unavailable.remove(&agent);
        } else {
            self.unavailable.insert(agent);
        }
    }

    /// Records the number of messages waiting at a provider on another shard.
    pub fn report_load(&mut self, agent: AgentId, waiting: u32) {
        self.reported.insert(agent, waiting);
    }

    /// Returns the providers of the capability known to this shard.
    pub fn discover(&self, capability: &CapabilityName) -> Vec<AgentId> {
        let Some(term) = Term::find(capability.as_ref()) else { return Vec::new() };
        self.providers(term).iter().map(|provider| provider.agent).collect()
    }

    /// Records that the load of a provider of this shard has changed.
    #[inline(always)]
    pub fn change_load(&mut self, agent: AgentIndex) {
        self.load_changed.push(agent);
    }

    /// Takes the providers whose load has changed. The caller has to [give the list back](Self::give_back).
    pub fn take_load_changed(&mut self) -> Vec<AgentIndex> {
        std::mem::take(&mut self.load_changed)
    }

    /// Whether the load of a provider of this shard has changed.
    pub fn has_load_changed(&self) -> bool {
        !self.load_changed.is_empty()
    }

    pub fn give_back(&mut self, mut changed: Vec<AgentIndex>) {
        changed.clear();
        self.load_changed = changed;
    }
}

/// A position that no provider has.
const ASIDE: u32 = u32::MAX;

/// A provider whose circuit breaker lets messages through.
#[derive(Clone, Copy)]
struct Available {
    /// Its turn, among those on this shard or among all.
    turn: usize,
    /// Whether only this shard's providers were searched.
    local: bool,
}

impl Providers {
    /// Returns the next turn, skipping providers whose circuit breaker is open. Returns `None` if all of them are open.
    #[cold]
    fn first_available(&self, choice: Choice, unavailable: &HashSet<AgentId, FixedState>) -> Option<Available> {
        let find = |count: usize, local| {
            (0..count.min(PROVIDERS_TRIED_MAX)).map(|step| self.next.wrapping_add(step)).find_map(|turn| {
                let free = !unavailable.contains(&self.list[turn % count].agent);
                free.then_some(Available { turn, local })
            })
        };
        let locals = if choice == Choice::Any { find(self.locals, true) } else { None };
        locals.or_else(|| find(self.list.len(), false))
    }

    fn position(&self, agent: AgentId) -> Option<usize> {
        let same = |position: &u32| self.list[*position as usize].agent == agent;
        self.positions.find(agent.table_bits(), same).map(|position| *position as usize)
    }

    fn insert(&mut self, provider: Provider, local: bool) {
        if self.position(provider.agent).is_some() {
            return;
        }
        let end = self.list.len();
        self.list.push(provider);
        let list = &self.list;
        let position = u32::try_from(end).unwrap_or(u32::MAX);
        let rehash = |position: &u32| list[*position as usize].agent.table_bits();
        self.positions.insert_unique(provider.agent.table_bits(), position, rehash);
        if local {
            self.swap(end, self.locals);
            self.locals += 1;
        }
    }

    fn remove(&mut self, agent: AgentId) {
        let Some(mut position) = self.position(agent) else { return };
        if position < self.locals {
            // The last local provider takes the place, so that local ones stay together.
            self.locals -= 1;
            self.swap(position, self.locals);
            position = self.locals;
        }
        let end = self.list.len() - 1;
        self.swap(position, end);
        let list = &self.list;
        if let Ok(entry) =
            self.positions.find_entry(agent.table_bits(), |position| list[*position as usize].agent == agent)
        {
            entry.remove();
        }
        self.list.pop();
    }

    fn move_entry(&mut self, bits: u64, from: u32, to: u32) {
        if let Some(position) = self.positions.find_mut(bits, |position| *position == from) {
            *position = to;
        }
    }

    #[allow(clippy::cast_possible_truncation)] // A shard has fewer than 2^32 agents.
    fn swap(&mut self, first: usize, second: usize) {
        if first == second {
            return;
        }
        let [first_bits, second_bits] = [first, second].map(|position| self.list[position].agent.table_bits());
        // Positions are unique, so each entry is found by its position; the first one is moved aside temporarily.
        self.move_entry(first_bits, first as u32, ASIDE);
        self.move_entry(second_bits, second as u32, first as u32);
        self.move_entry(first_bits, ASIDE, second as u32);
        self.list.swap(first, second);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider(number: u32, shard: u16) -> Provider {
        Provider { agent: AgentId::of_text(&format!("provider-{number}")), shard: ShardIndex(shard) }
    }

    fn index_of(providers: &[Provider]) -> (Capabilities, Term) {
        let capability = Term::of("translate").unwrap();
        let mut index = Capabilities::new(ShardIndex(0));
        for provider in providers {
            index.advertise(capability, *provider);
        }
        (index, capability)
    }

    #[test]
    fn adding_and_removing_in_any_order_keeps_the_list_right() {
        let all: Vec<Provider> = (0..50).map(|number| provider(number, u16::from(number % 3 != 0))).collect();
        let (mut index, capability) = index_of(&all);
        index.advertise(capability, all[7]);
        assert_eq!(index.providers(capability).len(), 50);
        for (gone, removed) in all.iter().enumerate() {
            index.withdraw(capability, removed.agent);
            index.withdraw(capability, removed.agent);
            let left = index.providers(capability);
            assert_eq!(left.len(), 49 - gone);
            assert!(all[gone + 1..].iter().all(|provider| left.contains(provider)));
            assert!(left.is_sorted_by_key(|provider| provider.shard.0 != 0), "those of this shard come first");
        }
        assert_eq!(index.choose(capability, Choice::Any, |_| 0), None);
    }

    #[test]
    fn round_robin_takes_each_in_turn_and_any_stays_on_the_shard() {
        let (mut index, capability) = index_of(&[provider(0, 1), provider(1, 0), provider(2, 1)]);
        let mut taken = std::collections::HashMap::new();
        for _ in 0..30 {
            *taken.entry(index.choose(capability, Choice::RoundRobin, |_| 0).unwrap()).or_insert(0) += 1;
            assert_eq!(index.choose(capability, Choice::Any, |_| 0), Some(provider(1, 0).agent));
        }
        assert_eq!(taken.len(), 3);
    }

    #[test]
    fn least_loaded_counts_what_waits_here_and_what_was_reported() {
        let (mut index, capability) = index_of(&[provider(0, 0), provider(1, 1)]);
        index.report_load(provider(1, 1).agent, 2);
        let here = |waiting| move |_| waiting;
        assert_eq!(index.choose(capability, Choice::LeastLoaded, here(1)), Some(provider(0, 0).agent));
        assert_eq!(index.choose(capability, Choice::LeastLoaded, here(9)), Some(provider(1, 1).agent));
        for _ in 0..7 {
            index.choose(capability, Choice::LeastLoaded, here(9));
        }
        assert_eq!(index.choose(capability, Choice::LeastLoaded, here(8)), Some(provider(0, 0).agent));
    }

    #[test]
    fn a_provider_whose_breaker_is_open_is_passed_over_and_nobody_takes_two_turns_for_it() {
        let all: Vec<Provider> = (0..4).map(|number| provider(number, 1)).collect();
        let (mut index, capability) = index_of(&all);
        index.set_available(all[1].agent, false);
        let mut taken = std::collections::HashMap::new();
        for _ in 0..30 {
            *taken.entry(index.choose(capability, Choice::RoundRobin, |_| 0).unwrap()).or_insert(0) += 1;
        }
        assert_eq!(taken.len(), 3);
        assert!(taken.values().all(|count| *count == 10), "{taken:?}");
        for agent in [0, 2, 3].map(|number: usize| all[number].agent) {
            index.report_load(agent, 5);
        }
        assert_ne!(index.choose(capability, Choice::LeastLoaded, |_| 0), Some(all[1].agent), "idle, but not available");
        index.set_available(all[1].agent, true);
        assert_eq!(index.choose(capability, Choice::LeastLoaded, |_| 0), Some(all[1].agent));
    }

    #[test]
    fn any_provider_leaves_the_shard_when_nobody_there_is_available_and_all_open_is_as_none_open() {
        let (mut index, capability) = index_of(&[provider(0, 0), provider(1, 0), provider(2, 1)]);
        let choose = |index: &mut Capabilities, choice| index.choose(capability, choice, |_| 0).unwrap();
        index.set_available(provider(0, 0).agent, false);
        assert!((0..6).all(|_| choose(&mut index, Choice::Any) == provider(1, 0).agent));
        index.set_available(provider(1, 0).agent, false);
        for choice in [Choice::Any, Choice::RoundRobin, Choice::LeastLoaded] {
            assert!((0..6).all(|_| choose(&mut index, choice) == provider(2, 1).agent), "{choice:?}");
        }
        index.set_available(provider(2, 1).agent, false);
        let anyway: Vec<AgentId> = (0..6).map(|_| choose(&mut index, Choice::Any)).collect();
        assert!(anyway.iter().all(|agent| *agent != provider(2, 1).agent), "it stays on the shard again");
    }
}
