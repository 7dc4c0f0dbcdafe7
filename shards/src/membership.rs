//! Agents that come and go.
//!
//! Registration is a barrier: it is answered once every shard's copy of the capability index has it, so whoever looks
//! for a capability after the answer finds the agent.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::agent::{Agent, Context, Factory, Registration, Role};
use crate::capability::Provider;
use crate::dead_letter::Reason;
use crate::dispatch::{discard_agent, panic_text};
use crate::interface::{Answer, Event, RegistrationError, Token};
use crate::mailbox::{Envelope, EnvelopeKind};
use crate::message::{AgentId, Message, Performative, Term, capability_term};
use crate::notice::{Holds, Outgoing, ROUTER_NAME, quote};
use crate::registry::{AGENTS_MAX, AgentIndex, Behaviour, Outside};
use crate::shard::{Notice, Phase, REGISTRATIONS_PER_TURN_MAX, Shard, stopping};

/// A registration that waits until every shard knows of it.
pub(crate) struct Barrier {
    waiting_for: usize,
    then: Then,
}

enum Then {
    Answer(Token, Vec<Result<AgentId, RegistrationError>>),
    Tell(AgentId, Message),
}

impl Shard {
    pub(crate) fn register_all(&mut self, registrations: Vec<Registration>, token: Token) {
        let mut told = false;
        let results = registrations
            .into_iter()
            .map(|registration| {
                let id = registration.id;
                self.register(registration).map(|index| {
                    told |= self.is_provider(index);
                    id
                })
            })
            .collect();
        self.after_barrier(told, Then::Answer(token, results));
    }

    /// Registers an agent for another agent, which hears of it by a message from the router.
    pub(crate) fn register_for(&mut self, registration: Registration, requester: AgentId) {
        let shard = self.config.partition.shard_of(registration.id);
        if !self.is_here(shard) {
            let notice = Notice::Register(Box::new(registration), requester);
            return self.outgoing[shard.as_usize()].push_back(Outgoing::Notice(notice));
        }
        let name = registration.name.to_string();
        let result = self.register(registration);
        let told = result.as_ref().is_ok_and(|index| self.is_provider(*index));
        let (performative, content) = match result {
            Ok(_) => (Performative::Inform, format!("((registered (agent-identifier :name {name})))")),
            Err(error) => {
                let explanation = quote(&error.to_string());
                (Performative::Failure, format!("((register {name}) (internal-error \"{explanation}\"))"))
            }
        };
        if let Ok(letter) = Message::builder(performative).receiver(requester).content(content).build() {
            self.after_barrier(told, Then::Tell(requester, letter));
        }
    }

    /// Registers what agents asked for while they were started.
    pub(crate) fn register_waiting(&mut self) -> usize {
        let count = self.registrations.len().min(REGISTRATIONS_PER_TURN_MAX);
        for _ in 0..count {
            let Some((registration, requester)) = self.registrations.pop_front() else { break };
            self.register_for(registration, requester);
        }
        count
    }

    /// Whether the other shards are being told of something that the agent offers.
    fn is_provider(&self, index: AgentIndex) -> bool {
        self.agents.get(index).is_some_and(|slot| slot.provider)
    }

    fn after_barrier(&mut self, told: bool, then: Then) {
        let others = self.port.shards() - 1;
        if !told || others == 0 {
            return self.pass_barrier(then);
        }
        self.barrier_count += 1;
        let number = self.barrier_count;
        self.barriers.insert(number, Barrier { waiting_for: others, then });
        self.tell_others(|| Notice::Barrier(number));
    }

    pub(crate) fn barrier_passed(&mut self, number: u64) {
        let Some(barrier) = self.barriers.get_mut(&number) else { return };
        barrier.waiting_for -= 1;
        if barrier.waiting_for == 0
            && let Some(barrier) = self.barriers.remove(&number)
        {
            self.pass_barrier(barrier.then);
        }
    }

    fn pass_barrier(&mut self, then: Then) {
        match then {
            Then::Answer(token, results) => self.answer(token, Answer::Registered(results)),
            Then::Tell(agent, letter) => {
                let builder = Message::builder(letter.performative()).receiver(agent).content(letter.content().clone());
                self.send_letter(builder, agent, Holds::Nothing);
            }
        }
    }

    /// Answers registrations that will not pass their barrier any more: the agents are registered, and stopped.
    pub(crate) fn stop_barriers(&mut self) {
        for (_, barrier) in std::mem::take(&mut self.barriers) {
            self.pass_barrier(barrier.then);
        }
    }

    fn register(&mut self, registration: Registration) -> Result<AgentIndex, RegistrationError> {
        if self.phase != Phase::Running {
            return Err(stopping());
        }
        let Registration { name, id, capabilities, role } = registration;
        if let Some(found) = self.agents.find(id).and_then(|index| self.agents.get(index)) {
            let (name, other) = (name.to_string(), found.name.to_string());
            return Err(if name == other {
                RegistrationError::Duplicate { name }
            } else {
                RegistrationError::Collision { name, other }
            });
        }
        if name.as_ref() as &str == ROUTER_NAME {
            return Err(RegistrationError::Reserved { name: name.to_string() });
        }
        let mut terms = Vec::with_capacity(capabilities.len());
        for capability in &capabilities {
            let term = capability_term(capability)
                .ok_or_else(|| RegistrationError::VocabularyFull { name: capability.to_string() })?;
            terms.push(term);
        }
        let (behaviour, factory) = match role {
            Role::Native(mut factory) => match make(&mut factory) {
                Ok(agent) => (Behaviour::Native(agent), Some(factory)),
                Err(what) => return Err(RegistrationError::Panicked { name: name.to_string(), what }),
            },
            Role::Outside { inbox, window } => (Behaviour::Outside(Box::new(Outside::new(inbox, window))), None),
        };
        let index = self
            .agents
            .insert(id, name.as_ref(), behaviour, factory)
            .ok_or(RegistrationError::TooManyAgents { limit: AGENTS_MAX })?;
        for term in terms {
            self.advertise(index, term);
        }
        self.report(|| Event::Registered { agent: id, name: Arc::from(name.as_ref() as &str) });
        match self.start_agent(index) {
            Ok(()) => Ok(index),
            Err(what) => {
                self.deregister(index);
                Err(RegistrationError::Panicked { name: name.to_string(), what })
            }
        }
    }

    /// Calls a native agent's `started`. An agent that panics there is gone, and its place is still to be cleared.
    fn start_agent(&mut self, index: AgentIndex) -> Result<(), String> {
        let Some(slot) = self.agents.get_mut(index) else { return Ok(()) };
        if !matches!(slot.behaviour, Behaviour::Native(_)) {
            return Ok(());
        }
        let id = slot.id;
        let Behaviour::Native(mut agent) = std::mem::replace(&mut slot.behaviour, Behaviour::Away) else {
            return Ok(());
        };
        let nested = std::mem::replace(&mut self.starting, true);
        let mut context = Context { shard: self, agent: index, id };
        let called = catch_unwind(AssertUnwindSafe(|| agent.started(&mut context)));
        let result = match called {
            Ok(()) => {
                let leaves = self.commit_effects(index, id);
                self.come_back(index, agent, leaves);
                Ok(())
            }
            Err(panic) => {
                self.discard_effects();
                discard_agent(agent);
                Err(panic_text(&*panic))
            }
        };
        self.starting = nested;
        result
    }

    /// Puts an agent back that was being called.
    pub(crate) fn come_back(&mut self, index: AgentIndex, agent: Box<dyn Agent>, leaves: bool) {
        if let Some(slot) = self.agents.get_mut(index) {
            slot.behaviour = Behaviour::Native(agent);
        }
        if leaves {
            self.deregister(index);
        }
    }

    /// Makes an agent anew. One that can't be made or started any more is removed.
    pub(crate) fn restart(&mut self, index: AgentIndex) {
        let Some(slot) = self.agents.get_mut(index) else { return };
        let id = slot.id;
        let Some(factory) = slot.factory.as_mut() else { return };
        let made = make(factory).map(|agent| slot.behaviour = Behaviour::Native(agent));
        if let Err(what) = made.and_then(|()| self.start_agent(index)) {
            self.report(|| Event::AgentPanicked { agent: id, what });
            self.deregister(index);
        }
    }

    /// Offers a capability in an agent's name, on every shard.
    pub(crate) fn advertise(&mut self, index: AgentIndex, capability: Term) {
        let shard = self.index;
        let Some(slot) = self.agents.get_mut(index) else { return };
        let provider = Provider { agent: slot.id, shard };
        let capabilities = &mut slot.extras().capabilities;
        if capabilities.contains(&capability) {
            return;
        }
        capabilities.push(capability);
        slot.provider = true;
        self.capabilities.advertise(capability, provider);
        self.tell_others(|| Notice::Advertise(capability, provider));
    }

    pub(crate) fn withdraw(&mut self, index: AgentIndex, capability: Term) {
        let Some(slot) = self.agents.get_mut(index) else { return };
        let agent = slot.id;
        let capabilities = &mut slot.extras().capabilities;
        let before = capabilities.len();
        capabilities.retain(|offered| *offered != capability);
        if capabilities.len() == before {
            return;
        }
        slot.provider = before > 1;
        self.capabilities.withdraw(capability, agent);
        self.tell_others(|| Notice::Withdraw(capability, agent));
    }

    fn tell_others(&mut self, notice: impl Fn() -> Notice) {
        for to in 0..self.outgoing.len() {
            if to != self.index.as_usize() {
                self.outgoing[to].push_back(Outgoing::Notice(notice()));
            }
        }
    }

    /// Removes an agent. What waits for it is given up; what it has sent still goes out.
    pub(crate) fn deregister(&mut self, index: AgentIndex) {
        let Some(slot) = self.agents.get_mut(index) else { return };
        if slot.leaving {
            return;
        }
        slot.leaving = true;
        let id = slot.id;
        match std::mem::replace(&mut slot.behaviour, Behaviour::Away) {
            Behaviour::Native(mut agent) => {
                if let Err(panic) = catch_unwind(AssertUnwindSafe(|| agent.stopped())) {
                    let what = panic_text(&*panic);
                    self.report(|| Event::AgentPanicked { agent: id, what });
                }
                discard_agent(agent);
            }
            // What is in the inbox is out of the shard's hands: whoever has the inbox can still read it.
            Behaviour::Outside(outside) => {
                self.account.processed += u64::from(outside.handed_out);
                self.pending_beside_slab -= i64::from(outside.handed_out);
            }
            Behaviour::Away | Behaviour::Gateway => {}
        }
        let Some(slot) = self.agents.get(index) else { return };
        for capability in slot.extras.as_ref().map_or_else(Vec::new, |extras| extras.capabilities.clone()) {
            self.withdraw(index, capability);
        }
        self.forget_questions_of(index);
        self.agents.forget(index);
        self.empty(index, Reason::Deregistered);
        self.report(|| Event::Deregistered { agent: id });
        if self.agents.get(index).is_some_and(|slot| slot.outbox.is_empty() && slot.blocked.is_none()) {
            self.agents.remove(index);
        }
    }

    /// Gives up everything that waits for an agent. When the router stops, what the router itself has to say goes on
    /// waiting.
    pub(crate) fn empty(&mut self, index: AgentIndex, reason: Reason) {
        let Some(slot) = self.agents.get_mut(index) else { return };
        let leaves = |envelope: &Envelope| reason != Reason::Stopped || envelope.kind == EnvelopeKind::Message;
        let places = slot.mailbox.extract(&mut self.slab, leaves);
        let generation = slot.generation;
        let in_hand = slot.extras.as_mut().and_then(|extras| extras.in_hand.take());
        for place in places {
            let Some(envelope) = self.slab.remove(place) else { continue };
            let weight = envelope.weight;
            let holds = match envelope.kind {
                EnvelopeKind::Message => Holds::Mailbox { agent: index, generation, weight },
                EnvelopeKind::Notice => Holds::Nothing,
            };
            self.give_up(envelope, reason, holds);
        }
        if let Some(in_hand) = in_hand {
            let weight = in_hand.envelope.weight;
            if in_hand.envelope.kind == EnvelopeKind::Message {
                self.pending_beside_slab -= 1;
                self.give_up(in_hand.envelope, reason, Holds::Mailbox { agent: index, generation, weight });
            }
        }
    }
}

/// A new agent, or the text of its factory's panic.
fn make(factory: &mut Factory) -> Result<Box<dyn Agent>, String> {
    catch_unwind(AssertUnwindSafe(factory)).map_err(|panic| panic_text(&*panic))
}
