//! The agents named in a file: they record what they receive and reply if a reply is expected.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use caxton_router::agent::{Polled, Supervision};
use caxton_router::codec::text::Strictness;
use caxton_router::domain::{AgentName, CapabilityName};
use caxton_router::message::{Aid, MessageId, Receiver};
use caxton_router::wasm::Guest;
use caxton_router::{Agent, AgentId, Context, Message, Outcome, Performative, Registration, Router};
use caxton_shards::agent::Failure;
use caxton_shards::api::is_notice;

use super::journal::{Fates, Journal, Reply};
use super::management::Office;
use crate::cli::input::Source;

/// All agents named in a file's messages.
pub struct Cast {
    names: HashMap<AgentId, AgentName>,
    offers: HashMap<AgentId, Vec<CapabilityName>>,
    has_messages: bool,
    guests: HashMap<AgentId, Guest>,
}

impl Cast {
    /// Reads the names of senders, receivers and `reply-to` agents, and adds the providers.
    pub fn named_in(source: &Source, strictness: Strictness, offers: &[(AgentName, CapabilityName)]) -> Self {
        let mut cast = Self::offering(offers);
        for message in source.messages(strictness).filter_map(Result::ok) {
            cast.has_messages = true;
            aids_of(&message.value).for_each(|aid| cast.add(aid));
        }
        cast
    }

    /// Creates the cast of these providers. Others are added with the messages that name them.
    pub fn offering(offers: &[(AgentName, CapabilityName)]) -> Self {
        let mut cast =
            Self { names: HashMap::new(), offers: HashMap::new(), has_messages: false, guests: HashMap::new() };
        for (name, capability) in offers {
            let id = AgentId::of(name);
            cast.names.entry(id).or_insert_with(|| name.clone());
            let offered = cast.offers.entry(id).or_default();
            if !offered.contains(capability) {
                offered.push(capability.clone());
            }
        }
        cast
    }

    /// Whether a WebAssembly guest is the agent of this name.
    pub fn is_played(&self, name: &AgentName) -> bool {
        self.guests.contains_key(&AgentId::of(name))
    }

    /// Makes a WebAssembly guest the agent of this name.
    pub fn play(&mut self, name: &AgentName, guest: Guest, offers: Vec<CapabilityName>) {
        let id = AgentId::of(name);
        self.names.entry(id).or_insert_with(|| name.clone());
        self.offers.entry(id).or_default().extend(offers);
        self.guests.insert(id, guest);
    }

    fn add(&mut self, aid: &Aid) {
        self.names.entry(aid.id()).or_insert_with(|| aid.name.clone());
    }

    /// Whether the file contains a message at all.
    pub fn has_messages(&self) -> bool {
        self.has_messages
    }

    /// Whether there is an agent of this name.
    pub fn has(&self, name: &AgentName) -> bool {
        self.names.contains_key(&AgentId::of(name))
    }

    /// Returns the agent's name or, if unknown, its id.
    pub fn name_of(&self, agent: AgentId) -> String {
        self.names.get(&agent).map_or_else(|| agent.to_string(), ToString::to_string)
    }

    /// Returns the number of deliveries of a message in the file.
    pub fn deliveries(&self, message: &Message) -> usize {
        match message.receiver() {
            Receiver::Capability(capability, caxton_router::message::Choice::All) => {
                self.providers(capability.as_str()).max(1)
            }
            _ => deliveries(message),
        }
    }

    /// Returns the number of providers of a capability.
    fn providers(&self, capability: &str) -> usize {
        self.offers.values().filter(|offered| offered.iter().any(|name| name.as_ref() as &str == capability)).count()
    }

    /// Registers all agents. Returns those that could not be registered, with the reason.
    pub fn register(&self, router: &Router, script: &Arc<Script>) -> HashMap<AgentId, String> {
        self.register_these(self.names.iter(), router, script)
    }

    /// Adds and registers the agents named in a message that are new. Returns like [`Cast::register`].
    pub fn introduce(&mut self, message: &Message, router: &Router, script: &Arc<Script>) -> HashMap<AgentId, String> {
        let mut strangers = HashMap::new();
        for aid in aids_of(message).filter(|aid| !self.names.contains_key(&aid.id())) {
            strangers.entry(aid.id()).or_insert_with(|| aid.name.clone());
        }
        if strangers.is_empty() {
            return HashMap::new();
        }
        let refused = self.register_these(strangers.iter(), router, script);
        self.names.extend(strangers);
        refused
    }

    fn register_these<'a>(
        &self,
        names: impl Iterator<Item = (&'a AgentId, &'a AgentName)>,
        router: &Router,
        script: &Arc<Script>,
    ) -> HashMap<AgentId, String> {
        let (ids, registrations): (Vec<AgentId>, Vec<Registration>) = names
            .map(|(id, name)| {
                let script = Arc::clone(script);
                let own = script.habits.own.contains_key(id);
                let office = Office::of(name).filter(|_| !own);
                let registration = match (self.guests.get(id), office) {
                    (Some(guest), _) => {
                        let (mut factory, journal) = (guest.factory(name), Arc::clone(&script.journal));
                        Registration::native(name.clone(), move || Witness::new(factory(), Arc::clone(&journal)))
                    }
                    (None, Some(office)) => office.registration(name.clone(), &script.journal),
                    (None, None) => Registration::native(name.clone(), move || Player { script: Arc::clone(&script) }),
                };
                let offered = self.offers.get(id).into_iter().flatten().cloned();
                (*id, offered.fold(registration, Registration::offering))
            })
            .unzip();
        let results = router.blocking().register_all(registrations);
        ids.into_iter().zip(results).filter_map(|(id, result)| Some((id, result.err()?.to_string()))).collect()
    }
}

/// Returns the agents named in a message.
fn aids_of(message: &Message) -> impl Iterator<Item = &Aid> {
    let details = message.details();
    let sender = details.and_then(|details| details.sender.as_ref());
    let others = details.map(|details| details.receivers.iter().chain(&details.reply_to));
    sender.into_iter().chain(others.into_iter().flatten())
}

/// The replies of agents to messages that expect one.
pub struct Habits {
    /// The usual reply, if any.
    pub usual: Option<Performative>,
    /// The replies of particular agents.
    pub own: HashMap<AgentId, Performative>,
}

/// State shared by all agents of a run.
pub struct Script {
    /// Their replies.
    pub habits: Habits,
    /// The senders of messages that name none: nobody there waits for a reply.
    pub gateways: HashSet<AgentId>,
    /// Where they record what they receive.
    pub journal: Arc<Journal>,
}

impl Script {
    /// Returns this agent's reply to this message.
    fn answer_to(&self, message: &Message, agent: AgentId) -> Option<Performative> {
        let performative = self.habits.own.get(&agent).copied().or(self.habits.usual)?;
        let anonymous = message.sender().is_none_or(|sender| self.gateways.contains(&sender));
        let redirected = message.details().is_some_and(|details| !details.reply_to.is_empty());
        (message.performative().asks_for_reply() && (redirected || !anonymous)).then_some(performative)
    }
}

struct Player {
    script: Arc<Script>,
}

impl Agent for Player {
    fn handle(&mut self, message: &Message, context: &mut Context<'_>) -> Outcome {
        let journal = &self.script.journal;
        let Some(id) = message.id().filter(|_| !is_notice(message)) else { return Outcome::Done };
        if journal.reply_was_processed(id) {
            return Outcome::Done;
        }
        let reply = match self.script.answer_to(message, context.id()) {
            None => None,
            Some(performative) => match reply(message, performative, context) {
                Ok(reply) => Some(reply),
                // Retried, according to the router's settings.
                Err(failure) => return failure,
            },
        };
        journal.was_processed(id, context.id(), reply);
        Outcome::Done
    }
}

/// Lets a guest handle messages, and records what it did.
struct Witness {
    guest: Box<dyn Agent>,
    journal: Arc<Journal>,
}

impl Witness {
    fn new(guest: Box<dyn Agent>, journal: Arc<Journal>) -> Self {
        Self { guest, journal }
    }

    fn write_down(&self, outcome: Outcome, message: &Message, context: &Context<'_>) -> Outcome {
        let Some(id) = message.id().filter(|_| outcome == Outcome::Done && !is_notice(message)) else { return outcome };
        if self.journal.reply_was_processed(id) {
            return outcome;
        }
        for sent in context.sent() {
            let Some(reply) = sent.id() else { continue };
            let text = (sent.content() != message.content())
                .then(|| String::from_utf8_lossy(sent.content().as_bytes()).into_owned());
            let (from, deliveries) = (context.id(), deliveries(sent));
            let told = Reply {
                performative: sent.performative(),
                from,
                content: text,
                deliveries,
                processed: 0,
                lost: Fates::new(),
            };
            self.journal.is_being_answered(id, reply, told);
        }
        self.journal.was_processed(id, context.id(), None);
        outcome
    }
}

impl Agent for Witness {
    fn start(&mut self, context: &mut Context<'_>) -> Outcome {
        self.guest.start(context)
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Polled {
        self.guest.poll(context)
    }

    fn handle(&mut self, message: &Message, context: &mut Context<'_>) -> Outcome {
        let outcome = self.guest.handle(message, context);
        self.write_down(outcome, message, context)
    }

    fn resume(&mut self, message: &Message, context: &mut Context<'_>) -> Outcome {
        let outcome = self.guest.resume(message, context);
        self.write_down(outcome, message, context)
    }

    fn supervise(&mut self, failure: &Failure) -> Supervision {
        self.guest.supervise(failure)
    }

    fn stopped(&mut self) {
        self.guest.stopped();
    }
}

/// Sends a reply that repeats the message's content.
fn reply(
    message: &Message,
    performative: Performative,
    context: &mut Context<'_>,
) -> Result<(MessageId, Reply), Outcome> {
    let reply = context.reply(message, performative).content(message.content().clone()).build();
    let reply = reply.map_err(|error| Outcome::failed(error.to_string()))?;
    let deliveries = deliveries(&reply);
    let id = context.send(reply).map_err(|rejected| Outcome::failed(rejected.to_string()))?;
    Ok((id, Reply { performative, from: context.id(), content: None, deliveries, processed: 0, lost: Fates::new() }))
}

/// Returns the number of deliveries of a message to named agents.
fn deliveries(message: &Message) -> usize {
    match message.receiver() {
        Receiver::Agents(agents) => agents.len(),
        _ => 1,
    }
}
