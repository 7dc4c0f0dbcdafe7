//! The objects of the ontology fipa-agent-management (FIPA SC00023, section 6.1), to and from SL0.

use super::exception::Exception;
use super::fields::{ELEMENTS_MAX, Fields};
use crate::codec::sl::Term;
use crate::codec::text::moment;
use crate::domain::AgentName;
use crate::message::date::date_text;
use crate::message::{AID_DEPTH_MAX, AID_ENTRIES_MAX, Aid, WallTime};
use crate::shard::control::lifecycle::AgentState;

/// The name that JADE uses for a property with several values.
const MULTI_VALUE_PROPERTY: &str = "multi-value-property";

/// A service of an agent (`service-description`).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ServiceDescription {
    /// The service's name.
    pub name: Option<Box<str>>,
    /// Its type, which searches usually name.
    pub kind: Option<Box<str>>,
    /// Interaction protocols that it supports.
    pub protocols: Vec<Box<str>>,
    /// Ontologies that it supports.
    pub ontologies: Vec<Box<str>>,
    /// Content languages that it supports.
    pub languages: Vec<Box<str>>,
    /// Its owner.
    pub ownership: Option<Box<str>>,
    /// Further properties.
    pub properties: Vec<Property>,
}

/// A property of a service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Property {
    /// Its name.
    pub name: Box<str>,
    /// Its value; for a property with several values, a set or a sequence.
    pub value: Term,
    /// Whether it came as a `multi-value-property`, which JADE has beside `property`.
    pub has_values: bool,
}

/// An agent in the directory facilitator (`df-agent-description`), or a template of one.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AgentDescription {
    /// The agent. May be absent in a template.
    pub name: Option<Aid>,
    /// Its services.
    pub services: Vec<ServiceDescription>,
    /// Interaction protocols that it supports.
    pub protocols: Vec<Box<str>>,
    /// Ontologies that it supports.
    pub ontologies: Vec<Box<str>>,
    /// Content languages that it supports.
    pub languages: Vec<Box<str>>,
    /// When the description expires; never, if absent.
    pub lease_until: Option<WallTime>,
    /// Its visibility: `local` or `global`.
    pub scope: Vec<Box<str>>,
}

/// An agent in the agent management system (`ams-agent-description`), or a template of one.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ManagedAgent {
    /// The agent. May be absent in a template.
    pub name: Option<Aid>,
    /// Its owner.
    pub ownership: Option<Box<str>>,
    /// Its life-cycle state.
    pub state: Option<ManagedState>,
}

/// An agent's life-cycle state (SC00023, section 5.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ManagedState {
    /// It was created and has handled nothing yet.
    Initiated,
    /// It handles messages.
    Active,
    /// It handles no messages until it is resumed.
    Suspended,
    /// It waits for something other than a message.
    Waiting,
    /// It is moving between platforms. The router's own agents never do.
    Transit,
}

impl ManagedState {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Initiated, "initiated"),
        (Self::Active, "active"),
        (Self::Suspended, "suspended"),
        (Self::Waiting, "waiting"),
        (Self::Transit, "transit"),
    ];

    fn of_word(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| known.eq_ignore_ascii_case(word)).map(|(state, _)| *state)
    }

    /// Returns the state as SC00023 writes it.
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(state, _)| *state == self).map_or("active", |(_, word)| word)
    }
}

impl From<AgentState> for ManagedState {
    fn from(state: AgentState) -> Self {
        match state {
            AgentState::Initiated => Self::Initiated,
            AgentState::Suspended => Self::Suspended,
            // SC00023 has no state for an agent that finishes its pending messages.
            AgentState::Active | AgentState::Draining | AgentState::Stopped => Self::Active,
        }
    }
}

/// The limits of a search (`search-constraints`).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SearchConstraints {
    /// How many directories deep to search; this one has no federation, so the depth makes no difference.
    pub max_depth: Option<i64>,
    /// Maximum number of results; negative or absent means all.
    pub max_results: Option<i64>,
    /// Identifies the search when directories forward it.
    pub search_id: Option<Box<str>>,
}

impl SearchConstraints {
    /// Returns the maximum number of results, never more than `limit`.
    pub fn results(&self, limit: usize) -> usize {
        let wanted = self.max_results.and_then(|wanted| usize::try_from(wanted).ok());
        wanted.unwrap_or(limit).min(limit)
    }

    /// Reads `(search-constraints ...)`.
    ///
    /// # Errors
    ///
    /// Returns what is missing, unexpected or malformed.
    pub fn read(term: &Term) -> Result<Self, Exception> {
        let mut fields = Fields::of(term, "search-constraints")?;
        let constraints = Self {
            max_depth: fields.integer("max-depth")?,
            max_results: fields.integer("max-results")?,
            search_id: fields.text("search-id")?,
        };
        fields.end()?;
        Ok(constraints)
    }
}

impl ServiceDescription {
    /// Creates the description of a service known only as a capability.
    pub fn of_capability(capability: &str) -> Self {
        Self { name: Some(capability.into()), kind: Some(capability.into()), ..Self::default() }
    }

    /// Reads `(service-description ...)`.
    ///
    /// # Errors
    ///
    /// Returns what is unexpected or malformed.
    pub fn read(term: &Term) -> Result<Self, Exception> {
        let mut fields = Fields::of(term, "service-description")?;
        let service = Self {
            name: fields.text("name")?,
            kind: fields.text("type")?,
            protocols: fields.words("protocols", "protocol")?,
            ontologies: fields.words("ontologies", "ontology")?,
            languages: fields.words("languages", "language")?,
            ownership: fields.text("ownership")?,
            properties: fields.set("properties", |term| Property::read(term).map(Some))?,
        };
        fields.end()?;
        Ok(service)
    }

    fn check_complete(&self) -> Result<(), Exception> {
        let missing = |parameter| Exception::MissingParameter { object: "service-description", parameter };
        self.name.as_ref().ok_or_else(|| missing("name"))?;
        self.kind.as_ref().ok_or_else(|| missing("type"))?;
        Ok(())
    }

    /// Returns the SL0 form.
    pub fn term(&self) -> Term {
        let mut fields = Vec::new();
        optional(&mut fields, "name", self.name.as_deref());
        optional(&mut fields, "type", self.kind.as_deref());
        words(&mut fields, "protocols", &self.protocols);
        words(&mut fields, "ontologies", &self.ontologies);
        words(&mut fields, "languages", &self.languages);
        optional(&mut fields, "ownership", self.ownership.as_deref());
        if !self.properties.is_empty() {
            fields.push(("properties", Term::Set(self.properties.iter().map(Property::term).collect())));
        }
        Term::record("service-description", fields)
    }
}

impl Property {
    fn read(term: &Term) -> Result<Self, Exception> {
        let has_values = term.arguments_of(MULTI_VALUE_PROPERTY).is_some();
        let object = if has_values { MULTI_VALUE_PROPERTY } else { "property" };
        let missing = |parameter| Exception::MissingParameter { object, parameter };
        let mut fields = Fields::of(term, object)?;
        let name = fields.text("name")?.ok_or_else(|| missing("name"))?;
        let value = fields.take("value").cloned().ok_or_else(|| missing("value"))?;
        fields.end()?;
        Ok(Self { name, value, has_values })
    }

    fn term(&self) -> Term {
        let object = if self.has_values { MULTI_VALUE_PROPERTY } else { "property" };
        Term::record(object, [("name", Term::of(&self.name)), ("value", self.value.clone())])
    }

    /// Whether the property matches the template: it has the template's value or, of several, each of them.
    pub(super) fn matches(&self, template: &Self) -> bool {
        let values = |property: &Self| match property.value.elements() {
            Some(elements) if property.has_values => elements.to_vec(),
            _ => vec![property.value.clone()],
        };
        if self.name != template.name {
            return false;
        }
        if self.value == template.value {
            return true;
        }
        let own = values(self);
        (self.has_values || template.has_values) && values(template).iter().all(|wanted| own.contains(wanted))
    }
}

impl AgentDescription {
    /// Reads `(df-agent-description ...)` as a template, in which everything is optional. Relative leases count from
    /// `now`.
    ///
    /// # Errors
    ///
    /// Returns what is unexpected or malformed.
    pub fn read(term: &Term, now: WallTime) -> Result<Self, Exception> {
        let mut fields = Fields::of(term, "df-agent-description")?;
        let name = fields.take("name").map(read_aid).transpose()?;
        let lease = fields.text("lease-time")?;
        let lease_until = match lease {
            Some(text) => Some(moment(&text, now).ok_or_else(|| fields.unrecognised("lease-time"))?),
            None => None,
        };
        let description = Self {
            name,
            services: fields.set("services", |term| ServiceDescription::read(term).map(Some))?,
            protocols: fields.words("protocols", "protocol")?,
            ontologies: fields.words("ontologies", "ontology")?,
            languages: fields.words("languages", "language")?,
            lease_until,
            scope: fields.words("scope", "scope")?,
        };
        fields.end()?;
        Ok(description)
    }

    /// Checks that the description is complete enough for the directory, and returns its agent.
    ///
    /// # Errors
    ///
    /// Returns the first mandatory parameter that is missing.
    pub fn check_complete(&self) -> Result<&Aid, Exception> {
        let missing = Exception::MissingParameter { object: "df-agent-description", parameter: "name" };
        let name = self.name.as_ref().ok_or(missing)?;
        self.services.iter().try_for_each(ServiceDescription::check_complete)?;
        Ok(name)
    }

    /// Returns the SL0 form.
    pub fn term(&self) -> Term {
        let mut fields = Vec::new();
        if let Some(name) = &self.name {
            fields.push(("name", aid_term(name)));
        }
        if !self.services.is_empty() {
            fields.push(("services", Term::Set(self.services.iter().map(ServiceDescription::term).collect())));
        }
        words(&mut fields, "protocols", &self.protocols);
        words(&mut fields, "ontologies", &self.ontologies);
        words(&mut fields, "languages", &self.languages);
        if let Some(moment) = self.lease_until {
            fields.push(("lease-time", Term::of(&date_text(moment))));
        }
        words(&mut fields, "scope", &self.scope);
        Term::record("df-agent-description", fields)
    }
}

impl ManagedAgent {
    /// Reads `(ams-agent-description ...)` as a template, in which everything is optional.
    ///
    /// # Errors
    ///
    /// Returns what is unexpected or malformed.
    pub fn read(term: &Term) -> Result<Self, Exception> {
        let mut fields = Fields::of(term, "ams-agent-description")?;
        let name = fields.take("name").map(read_aid).transpose()?;
        let state = match fields.text("state")? {
            Some(word) => Some(ManagedState::of_word(&word).ok_or_else(|| fields.unrecognised("state"))?),
            None => None,
        };
        let agent = Self { name, ownership: fields.text("ownership")?, state };
        fields.end()?;
        Ok(agent)
    }

    /// Returns the agent that the description is about.
    ///
    /// # Errors
    ///
    /// The name is missing.
    pub fn check_complete(&self) -> Result<&Aid, Exception> {
        let missing = Exception::MissingParameter { object: "ams-agent-description", parameter: "name" };
        self.name.as_ref().ok_or(missing)
    }

    /// Returns the SL0 form.
    pub fn term(&self) -> Term {
        let mut fields = Vec::new();
        if let Some(name) = &self.name {
            fields.push(("name", aid_term(name)));
        }
        optional(&mut fields, "ownership", self.ownership.as_deref());
        optional(&mut fields, "state", self.state.map(ManagedState::as_str));
        Term::record("ams-agent-description", fields)
    }
}

/// Returns the description of a platform (`ap-description`), the response to `get-description`.
pub fn platform_term(platform: &str, ams: &Aid, df: &Aid) -> Term {
    let service = |name: &Aid, kind: &str| {
        let addresses = Term::Sequence(vec![Term::of(name.name.as_ref())]);
        Term::record(
            "ap-service",
            [("name", Term::of(name.name.as_ref())), ("type", Term::of(kind)), ("addresses", addresses)],
        )
    };
    let services = Term::Set(vec![service(ams, "fipa.agent-management.ams"), service(df, "fipa.agent-management.df")]);
    Term::record("ap-description", [("name", Term::of(platform)), ("ap-services", services)])
}

/// Reads `(agent-identifier ...)`.
///
/// # Errors
///
/// The name is missing, a value is malformed, or a limit is exceeded.
pub fn read_aid(term: &Term) -> Result<Aid, Exception> {
    read_aid_at(term, 1)
}

fn read_aid_at(term: &Term, depth: usize) -> Result<Aid, Exception> {
    const OBJECT: &str = "agent-identifier";
    let mut fields = Fields::of(term, OBJECT)?;
    let name = fields.text("name")?.ok_or(Exception::MissingParameter { object: OBJECT, parameter: "name" })?;
    let name = AgentName::try_new(name).map_err(|_| fields.unrecognised("name"))?;
    let addresses = fields.set("addresses", |term| Ok(term.as_text().map(Box::from)))?;
    if depth > AID_DEPTH_MAX || addresses.len() > AID_ENTRIES_MAX {
        return Err(fields.unrecognised(if depth > AID_DEPTH_MAX { "resolvers" } else { "addresses" }));
    }
    let resolvers = fields.set("resolvers", |term| read_aid_at(term, depth + 1).map(Some))?;
    fields.end()?;
    Ok(Aid { name, addresses, resolvers, user_parameters: Vec::new() })
}

/// Returns an agent identifier in SL0.
pub fn aid_term(aid: &Aid) -> Term {
    let mut fields = vec![("name", Term::of(aid.name.as_ref()))];
    if !aid.addresses.is_empty() {
        fields.push(("addresses", Term::Sequence(aid.addresses.iter().map(|address| Term::of(address)).collect())));
    }
    if !aid.resolvers.is_empty() {
        fields.push(("resolvers", Term::Sequence(aid.resolvers.iter().map(aid_term).collect())));
    }
    Term::record("agent-identifier", fields)
}

fn optional(fields: &mut Vec<(&'static str, Term)>, name: &'static str, value: Option<&str>) {
    fields.extend(value.map(|value| (name, Term::of(value))));
}

fn words(fields: &mut Vec<(&'static str, Term)>, name: &'static str, words: &[Box<str>]) {
    debug_assert!(words.len() <= 2 * ELEMENTS_MAX, "descriptions are bounded where they are read");
    if !words.is_empty() {
        fields.push((name, Term::Set(words.iter().map(|word| Term::of(word)).collect())));
    }
}
