//! The directory's data, independent of messages.
//!
//! Invariants: there is an entry for an agent exactly if it was registered or provides a capability; the number of
//! registered descriptions is bounded; a refused request changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::description::{AgentDescription, SearchConstraints, ServiceDescription};
use super::exception::Exception;
use super::{Platform, RESULTS_MAX};
use crate::domain::{AgentName, CapabilityName};
use crate::message::{AgentId, Aid, WallTime};
use crate::shard::control::admin::ProviderNews;

/// An action on a description.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Act {
    Register(AgentDescription),
    Modify(AgentDescription),
    Deregister(AgentDescription),
}

/// The capabilities an agent gains and loses.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Offers {
    pub offered: Vec<CapabilityName>,
    pub withdrawn: Vec<CapabilityName>,
}

#[derive(Debug, Default)]
struct Entry {
    registered: Option<Registered>,
    /// Capabilities of the agent according to the registry.
    offers: BTreeSet<Box<str>>,
}

#[derive(Debug)]
struct Registered {
    description: AgentDescription,
    registrar: AgentId,
    /// Capabilities that the agent provides because of its description.
    published: BTreeSet<Box<str>>,
}

/// All descriptions of a directory facilitator.
#[derive(Debug)]
pub(super) struct Directory {
    platform: Platform,
    entries: BTreeMap<AgentName, Entry>,
    registered: usize,
    leases: BTreeSet<(WallTime, AgentName)>,
    /// Entries as they were before they changed, while there are subscribers.
    touched: Option<BTreeMap<AgentName, AgentDescription>>,
}

impl Directory {
    pub fn new(platform: Platform) -> Self {
        Self { platform, entries: BTreeMap::new(), registered: 0, leases: BTreeSet::new(), touched: None }
    }

    /// Turns recording of changes on or off.
    pub fn remember_changes(&mut self, remember: bool) {
        self.touched = remember.then(|| self.touched.take().unwrap_or_default());
    }

    /// Takes the changes since the last call: each entry before and after, with only its name if there is nothing.
    pub fn take_changes(&mut self) -> Vec<(AgentDescription, AgentDescription)> {
        let Some(touched) = &mut self.touched else { return Vec::new() };
        let touched = std::mem::take(touched);
        let changes = touched.into_iter().map(|(name, before)| (before, self.describe(&name)));
        changes.filter(|(before, after)| before != after).collect()
    }

    /// Checks whether the action may be performed now for this agent.
    pub fn judge(&self, act: &Act, requester: AgentId, now: WallTime) -> Result<(), Exception> {
        let description = act.description();
        let aid = description.check_complete()?;
        if aid.name == self.platform.df() || aid.name == self.platform.ams() {
            return Err(Exception::Unauthorised("ams and df belong to the platform"));
        }
        let entry = self.entries.get(&aid.name);
        if let Act::Register(_) = act {
            let limit = self.platform.descriptions.as_usize();
            if entry.is_some_and(|entry| entry.registered.is_some()) {
                return Err(Exception::AlreadyRegistered);
            }
            if entry.is_some() && requester != aid.id() {
                return Err(Exception::Unauthorised("an agent that provides a capability registers itself"));
            }
            if self.registered >= limit {
                let explanation = format!("the directory is full: it keeps up to {limit} descriptions");
                return Err(Exception::InternalError(explanation.into()));
            }
        } else {
            let entry = entry.ok_or(Exception::NotRegistered)?;
            let registrar = entry.registered.as_ref().map(|registered| registered.registrar);
            if requester != aid.id() && registrar != Some(requester) {
                return Err(Exception::Unauthorised(
                    "a description can only be changed by its agent or by the agent that registered it",
                ));
            }
        }
        if !matches!(act, Act::Deregister(_)) && description.lease_until.is_some_and(|until| until <= now) {
            return Err(Exception::UnrecognisedParameterValue {
                object: "df-agent-description",
                parameter: "lease-time",
            });
        }
        Ok(())
    }

    /// Performs an action that was [checked](Self::judge). Returns how the agent's capabilities change.
    pub fn apply(&mut self, act: Act, requester: AgentId) -> Offers {
        let Some(aid) = act.description().name.clone() else { return Offers::default() };
        let name = aid.name.clone();
        // An agent cannot make another agent provide something.
        let is_own = requester == aid.id();
        self.touch(&name);
        let earlier = self.end_registration(&name);
        let (registrar, earlier) = match earlier {
            Some(earlier) => (earlier.registrar, earlier.published),
            None => (requester, BTreeSet::new()),
        };
        let entry = self.entries.entry(name.clone()).or_default();
        let mut offers = Offers::default();
        match act {
            Act::Register(description) | Act::Modify(description) if !is_own => {
                self.begin_registration(name, Registered { description, registrar, published: earlier });
            }
            Act::Register(description) => {
                let wanted = capabilities(&description);
                let published = &wanted - &entry.offers;
                offers.offered = names(&published);
                entry.offers.extend(wanted);
                self.begin_registration(name, Registered { description, registrar, published });
            }
            // A registration adds to the agent's capabilities, a modification replaces them.
            Act::Modify(description) => {
                let wanted = capabilities(&description);
                offers.offered = names(&(&wanted - &entry.offers));
                offers.withdrawn = names(&(&entry.offers - &wanted));
                let published = &wanted - &(&entry.offers - &earlier);
                entry.offers = wanted;
                self.begin_registration(name, Registered { description, registrar, published });
            }
            Act::Deregister(_) => {
                if is_own {
                    offers.withdrawn = names(&entry.offers);
                    entry.offers.clear();
                }
                self.drop_if_empty(&name);
            }
        }
        offers
    }

    /// Processes a change in the registry.
    pub fn hear(&mut self, news: &ProviderNews) {
        let Ok(name) = AgentName::try_new(news.name.as_ref()) else { return };
        self.touch(&name);
        if news.was_removed {
            self.end_registration(&name);
        }
        let entry = self.entries.entry(name.clone()).or_default();
        entry.offers = news.capabilities.iter().map(|capability| capability.as_str().into()).collect();
        self.drop_if_empty(&name);
    }

    /// Removes expired descriptions. Returns how the capabilities of their agents change.
    pub fn expire(&mut self, now: WallTime) -> Vec<(AgentId, Offers)> {
        let mut ended = Vec::new();
        while let Some((until, name)) = self.leases.first().cloned().filter(|(until, _)| *until <= now) {
            self.leases.remove(&(until, name.clone()));
            self.touch(&name);
            let Some(registered) = self.end_registration(&name) else { continue };
            if let Some(entry) = self.entries.get_mut(&name) {
                entry.offers.retain(|capability| !registered.published.contains(capability));
            }
            self.drop_if_empty(&name);
            let offers = Offers { offered: Vec::new(), withdrawn: names(&registered.published) };
            ended.push((AgentId::of(&name), offers));
        }
        ended
    }

    /// Returns when the next lease expires.
    pub fn next_lease(&self) -> Option<WallTime> {
        self.leases.first().map(|(until, _)| *until)
    }

    /// Returns the descriptions that match a template, ordered by agent name.
    pub fn search(&self, template: &AgentDescription, constraints: &SearchConstraints) -> Vec<AgentDescription> {
        let results = constraints.results(RESULTS_MAX);
        let found = |name: &AgentName| Some(self.describe(name)).filter(|found| found.is_found_by(template));
        match &template.name {
            Some(aid) if !self.entries.contains_key(&aid.name) => Vec::new(),
            Some(aid) => found(&aid.name).into_iter().take(results).collect(),
            None => self.entries.keys().filter_map(found).take(results).collect(),
        }
    }

    /// Returns everything known about an agent: what it registered, and its other capabilities.
    fn describe(&self, name: &AgentName) -> AgentDescription {
        let nothing = || AgentDescription { name: Some(Aid::new(name.clone())), ..AgentDescription::default() };
        let Some(entry) = self.entries.get(name) else { return nothing() };
        let mut description =
            entry.registered.as_ref().map_or_else(nothing, |registered| registered.description.clone());
        let known = capabilities(&description);
        let others = entry.offers.difference(&known);
        description.services.extend(others.map(|capability| ServiceDescription::of_capability(capability)));
        description
    }

    fn begin_registration(&mut self, name: AgentName, registered: Registered) {
        if let Some(until) = registered.description.lease_until {
            self.leases.insert((until, name.clone()));
        }
        self.entries.entry(name).or_default().registered = Some(registered);
        self.registered += 1;
    }

    fn end_registration(&mut self, name: &AgentName) -> Option<Registered> {
        let registered = self.entries.get_mut(name)?.registered.take()?;
        self.registered -= 1;
        if let Some(until) = registered.description.lease_until {
            self.leases.remove(&(until, name.clone()));
        }
        Some(registered)
    }

    fn drop_if_empty(&mut self, name: &AgentName) {
        if self.entries.get(name).is_some_and(|entry| entry.registered.is_none() && entry.offers.is_empty()) {
            self.entries.remove(name);
        }
    }

    /// Records an entry before it changes.
    fn touch(&mut self, name: &AgentName) {
        if self.touched.as_ref().is_some_and(|touched| !touched.contains_key(name)) {
            let before = self.describe(name);
            if let Some(touched) = &mut self.touched {
                touched.insert(name.clone(), before);
            }
        }
    }
}

impl Act {
    fn description(&self) -> &AgentDescription {
        let (Self::Register(description) | Self::Modify(description) | Self::Deregister(description)) = self;
        description
    }

    /// Returns the agent that the description is about.
    pub fn agent(&self) -> Option<AgentId> {
        self.description().name.as_ref().map(Aid::id)
    }
}

/// Returns the names and types of services. Those that are not valid capability names are only described.
fn capabilities(description: &AgentDescription) -> BTreeSet<Box<str>> {
    let words = description.services.iter().flat_map(|service| [&service.name, &service.kind]).flatten();
    words
        .filter(|word| CapabilityName::try_new(word.as_ref()).is_ok_and(|name| name.as_ref() as &str == &***word))
        .cloned()
        .collect()
}

fn names(capabilities: &BTreeSet<Box<str>>) -> Vec<CapabilityName> {
    capabilities.iter().filter_map(|capability| CapabilityName::try_new(capability.as_ref()).ok()).collect()
}
