//! Matching of descriptions against templates (FIPA SC00023, section 6.2.4): each parameter of the template must match;
//! a set matches a set that contains all its elements.

use super::description::{AgentDescription, ManagedAgent, Property, ServiceDescription};
use crate::message::Aid;

impl AgentDescription {
    /// Whether the template matches the agent.
    pub fn is_found_by(&self, template: &Self) -> bool {
        aid_matches(self.name.as_ref(), template.name.as_ref())
            && has_all(&self.services, &template.services, service_matches)
            && has_words(&self.protocols, &template.protocols)
            && has_words(&self.ontologies, &template.ontologies)
            && has_words(&self.languages, &template.languages)
            && has_words(&self.scope, &template.scope)
            && template.lease_until.is_none_or(|until| self.lease_until.is_none_or(|lease| lease >= until))
    }
}

impl ManagedAgent {
    /// Whether the template matches the agent.
    pub fn is_found_by(&self, template: &Self) -> bool {
        aid_matches(self.name.as_ref(), template.name.as_ref())
            && (template.ownership.is_none() || self.ownership == template.ownership)
            && (template.state.is_none() || self.state == template.state)
    }
}

/// The name identifies an agent; the addresses of a template must be among the agent's.
fn aid_matches(aid: Option<&Aid>, template: Option<&Aid>) -> bool {
    let Some(template) = template else { return true };
    aid.is_some_and(|aid| aid.name == template.name && has_words(&aid.addresses, &template.addresses))
}

fn service_matches(service: &ServiceDescription, template: &ServiceDescription) -> bool {
    (template.name.is_none() || service.name == template.name)
        && (template.kind.is_none() || service.kind == template.kind)
        && (template.ownership.is_none() || service.ownership == template.ownership)
        && has_words(&service.protocols, &template.protocols)
        && has_words(&service.ontologies, &template.ontologies)
        && has_words(&service.languages, &template.languages)
        && has_all(&service.properties, &template.properties, Property::matches)
}

fn has_words(words: &[Box<str>], wanted: &[Box<str>]) -> bool {
    has_all(words, wanted, Box::<str>::eq)
}

fn has_all<T>(elements: &[T], wanted: &[T], matches: impl Fn(&T, &T) -> bool) -> bool {
    wanted.iter().all(|wanted| elements.iter().any(|element| matches(element, wanted)))
}
