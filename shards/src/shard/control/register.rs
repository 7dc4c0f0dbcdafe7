//! Agents that come and go.
//!
//! Registration is a barrier: it is answered once every shard's copy of the capability index has it, so whoever looks
//! for a capability after the answer finds the agent.

use std::sync::Arc;

use crate::mailbox::{Envelope, EnvelopeKind, Reservation};
use crate::message::notice::{ROUTER_NAME, quote};
use crate::message::{AgentId, Message, Performative, Term, capability_term};
use crate::outcome::DeadLetterReason;
use crate::routing::capabilities::Provider;
use crate::shard::agent::registry::{AGENTS_MAX, AgentFlags, AgentIndex, AgentSlot, Behaviour, InboxState};
use crate::shard::agent::{Agent, Context, Outcome, Registration, Role};
use crate::shard::control::admin::AdminRequest;
use crate::shard::control::lifecycle::StopReason;
use crate::shard::control::restart::AgentFactory;
use crate::shard::io::{Answer, Event, Output, RegistrationError, Token};
use crate::shard::lifecycle::OnBarrier;
use crate::shard::shard_frame::Control;
use crate::shard::{REGISTRATIONS_PER_TURN_MAX, Shard, ShardPhase, stopping};
use crate::supervision::{BreakerGate, catch_panic, drop_quietly};

impl Shard {
    pub(in crate::shard) fn register_all(&mut self, registrations: Vec<Registration>, token: Token) {
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
        self.after_barrier(told, OnBarrier::Answer(token, results));
    }

    /// Registers an agent for another agent, which hears of it by a message from the router.
    pub(in crate::shard) fn register_for(&mut self, registration: Registration, requester: AgentId) {
        let shard = self.config.partition.shard_of(registration.id);
        if !self.is_here(shard) {
            return self.links.post(shard, Control::Register(Box::new(registration), requester));
        }
        let name = match &registration.name {
            Ok(name) => name.to_string(),
            // The value is quoted and escaped.
            Err(error) => error.value.clone(),
        };
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
            self.after_barrier(told, OnBarrier::Tell(requester, letter));
        }
    }

    /// Registers what agents have asked for.
    pub(in crate::shard) fn register_waiting(&mut self) -> usize {
        let count = self.lifecycle.registrations().min(REGISTRATIONS_PER_TURN_MAX);
        for _ in 0..count {
            let Some((registration, requester)) = self.lifecycle.next_registration() else { break };
            self.register_for(registration, requester);
        }
        count
    }

    /// Whether the other shards are being told of something that the agent offers.
    fn is_provider(&self, index: AgentIndex) -> bool {
        self.agents.get(index).is_some_and(|slot| slot.provider)
    }

    fn after_barrier(&mut self, told: bool, then: OnBarrier) {
        let others = self.links.shards() - 1;
        if !told || others == 0 {
            return self.pass_barrier(then);
        }
        let number = self.lifecycle.begin_barrier(others, then);
        self.links.broadcast(|| Control::Barrier(number));
    }

    pub(in crate::shard) fn barrier_passed(&mut self, number: u64) {
        if let Some(then) = self.lifecycle.pass_barrier(number) {
            self.pass_barrier(then);
        }
    }

    fn pass_barrier(&mut self, then: OnBarrier) {
        match then {
            OnBarrier::Answer(token, results) => self.outputs.answer(token, Answer::Registered(results)),
            OnBarrier::Tell(agent, letter) => {
                let builder = Message::builder(letter.performative()).receiver(agent).content(letter.content().clone());
                self.send_notice(builder, agent, Reservation::Nothing);
            }
            OnBarrier::Confirm(asker, inquiry) => self.confirm(asker, inquiry, true),
        }
    }

    /// Confirms what another agent asked for, once every shard knows of it.
    pub(in crate::shard) fn confirm_when_known(&mut self, asker: AgentId, inquiry: AdminRequest) {
        self.after_barrier(true, OnBarrier::Confirm(asker, inquiry));
    }

    /// Answers registrations that will not pass their barrier any more: the agents are registered, and stopped.
    pub(in crate::shard) fn stop_barriers(&mut self) {
        for then in self.lifecycle.take_barriers() {
            self.pass_barrier(then);
        }
    }

    fn register(&mut self, registration: Registration) -> Result<AgentIndex, RegistrationError> {
        if self.phase != ShardPhase::Running {
            return Err(stopping());
        }
        let Registration { name, id, capabilities, role, supervision, breaker, overflow, persistent } = registration;
        let name = name?;
        let absent = self.agents.find(id).filter(|index| self.is_absent(*index, name.as_ref()));
        if absent.is_none()
            && let Some(found) = self.agents.find(id).and_then(|index| self.agents.get(index))
        {
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
        let (behaviour, maker) = match role {
            Role::Native(mut maker) => match maker.make() {
                Ok(agent) => (Behaviour::Native(agent), maker),
                Err(what) => return Err(RegistrationError::Panicked { name: name.to_string(), what }),
            },
            Role::InboxState { inbox, window } => {
                (Behaviour::InboxState(Box::new(InboxState::new(inbox, window))), AgentFactory::NONE)
            }
        };
        let index = match absent {
            Some(index) => self.adopt(index, name.as_ref(), behaviour, maker),
            None => self
                .agents
                .insert(id, name.as_ref(), behaviour, maker)
                .ok_or(RegistrationError::TooManyAgents { limit: AGENTS_MAX })?,
        };
        if persistent && let Some(slot) = self.agents.get_mut(index) {
            slot.cold().outlives = true;
        }
        self.agents.revive(id);
        let overflow = overflow.unwrap_or(self.config.overflow);
        if let Some(slot) = self.agents.get_mut(index) {
            slot.overflow = overflow;
        }
        if let (Some(policy), Some(slot)) = (supervision, self.agents.get_mut(index)) {
            slot.cold().restarts().own_policy = Some(policy);
        }
        if let Some(policy) = breaker {
            self.set_breaker_policy(index, policy);
        }
        for term in terms {
            self.advertise(index, term);
        }
        if persistent {
            self.keep_agent(index);
        }
        self.outputs.report(|| Event::Registered { agent: id, name: Arc::from(name.as_ref() as &str) });
        match self.start_agent(index) {
            Ok(()) => {
                // It may have left while it was started.
                if self.agents.get(index).is_some_and(|slot| slot.id == id && !slot.is_leaving()) {
                    self.report_state(index);
                    if absent.is_some() {
                        self.schedule(index);
                    }
                }
                Ok(index)
            }
            Err(what) => {
                self.remove_agent(index, StopReason::NotStarted);
                Err(RegistrationError::Panicked { name: name.to_string(), what })
            }
        }
    }

    /// Whether an agent of this name was there in an earlier run and waits to be registered again. The name is not known if
    /// only a message is left that was rewritten when the agent was gone.
    fn is_absent(&self, index: AgentIndex, name: &str) -> bool {
        let is_named = |slot: &AgentSlot| slot.name.is_empty() || &*slot.name == name;
        self.agents.get(index).is_some_and(|slot| slot.flags.is(AgentFlags::ABSENT) && is_named(slot))
    }

    /// Gives an agent that was there in an earlier run its handler.
    fn adopt(&mut self, index: AgentIndex, name: &str, behaviour: Behaviour, maker: AgentFactory) -> AgentIndex {
        if let Some(slot) = self.agents.get_mut(index) {
            if slot.name.is_empty() {
                slot.name = Arc::from(name);
            }
            slot.behaviour = behaviour;
            slot.maker = maker;
            slot.flags.remove(AgentFlags::ABSENT);
        }
        index
    }

    /// An agent that was there in an earlier run, or for which something waits from then. It is called once it is
    /// registered.
    pub(in crate::shard) fn add_absent(&mut self, id: AgentId, name: &str) -> Option<AgentIndex> {
        if let Some(index) = self.agents.find(id) {
            if let Some(slot) = self.agents.get_mut(index).filter(|slot| slot.name.is_empty()) {
                slot.name = Arc::from(name);
            }
            return Some(index);
        }
        let index = self.agents.insert(id, name, Behaviour::Running, AgentFactory::NONE)?;
        let overflow = self.config.overflow;
        let slot = self.agents.get_mut(index)?;
        slot.overflow = overflow;
        slot.flags.add(AgentFlags::ABSENT);
        Some(index)
    }

    /// Calls a native agent's `started`. An agent that panics there is gone, and its place is still to be cleared.
    pub(in crate::shard) fn start_agent(&mut self, index: AgentIndex) -> Result<(), String> {
        let Some(slot) = self.agents.get_mut(index) else { return Ok(()) };
        if !matches!(slot.behaviour, Behaviour::Native(_)) {
            return Ok(());
        }
        let id = slot.id;
        let Behaviour::Native(mut agent) = std::mem::replace(&mut slot.behaviour, Behaviour::Running) else {
            return Ok(());
        };
        self.agents.calling.begin(index);
        let mut context = Context { shard: self, agent: index, id };
        let called = catch_panic(|| agent.start(&mut context)).and_then(|outcome| match outcome {
            Outcome::Failed(failure) => Err(failure.explanation.into_owned()),
            Outcome::Done | Outcome::Suspended => Ok(()),
        });
        match called {
            Ok(()) => {
                let leaves = self.commit_effects(index, id);
                self.come_back(index, agent, leaves);
                Ok(())
            }
            Err(what) => {
                self.effects.discard();
                drop_quietly(agent);
                Err(what)
            }
        }
    }

    /// Puts an agent back that was being called.
    pub(in crate::shard) fn come_back(&mut self, index: AgentIndex, agent: Box<dyn Agent>, leaves: bool) {
        if let Some(slot) = self.agents.get_mut(index) {
            slot.behaviour = Behaviour::Native(agent);
        }
        if leaves {
            self.deregister(index);
        }
    }

    /// Offers a capability in an agent's name, on every shard.
    pub(in crate::shard) fn advertise(&mut self, index: AgentIndex, capability: Term) {
        let shard = self.index;
        // Whoever takes nothing new is not to be found.
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

    /// Removes an agent. What waits for it is given up; what it has sent still goes out.
    pub(in crate::shard) fn deregister(&mut self, index: AgentIndex) {
        self.remove_agent(index, StopReason::Deregistered);
    }

    /// As [`Shard::deregister`], for another reason.
    pub(in crate::shard) fn remove_agent(&mut self, index: AgentIndex, why: StopReason) {
        let Some(slot) = self.agents.get_mut(index) else { return };
        if slot.is_leaving() {
            return;
        }
        slot.flags.add(AgentFlags::LEAVING);
        let id = slot.id;
        match std::mem::replace(&mut slot.behaviour, Behaviour::Running) {
            Behaviour::Native(agent) => self.stop_native(index, id, agent),
            // What is in the inbox is out of the shard's hands: whoever has the inbox can still read it.
            Behaviour::InboxState(outside) => {
                self.ledger.process(u64::from(outside.handed_out));
                self.held.count_outside(-i64::from(outside.handed_out));
            }
            Behaviour::Running | Behaviour::Gateway => {}
        }
        self.forget_agent(index);
        let Some(slot) = self.agents.get(index) else { return };
        if slot.provider || slot.cold.as_ref().is_some_and(|cold| cold.described) {
            self.notify_watchers(index, true);
        }
        self.inquiries.forget(id);
        let Some(slot) = self.agents.get(index) else { return };
        for capability in slot.cold.as_ref().map_or_else(Vec::new, |cold| cold.capabilities.clone()) {
            self.withdraw(index, capability);
        }
        self.forget_replies_of(index);
        self.end_life(index, why);
        self.drop_breaker(index);
        self.agents.forget(index);
        self.empty(index, why.for_what_waited());
        self.outputs.report(|| Event::Deregistered { agent: id, why });
        if self.agents.get(index).is_some_and(|slot| slot.outbox.is_empty() && slot.blocked.is_none()) {
            self.remove_slot(index);
        }
    }

    /// Tells a native agent that it is stopped, and drops it.
    fn stop_native(&mut self, index: AgentIndex, id: AgentId, mut agent: Box<dyn Agent>) {
        self.agents.calling.begin(index);
        if let Err(what) = catch_panic(|| agent.stopped()) {
            self.outputs.report(|| Event::AgentPanicked { agent: id, what });
        }
        drop_quietly(agent);
    }

    /// Tells every native agent that it is stopped, once the router has come to its end, and drops it. The agents stay
    /// registered, and those that are to outlive the process stay in the journal. What panics is reported through `outputs`.
    pub fn stop_agents(&mut self, outputs: &mut Vec<Output>) {
        self.outputs.swap(outputs);
        let agents: Vec<AgentIndex> = self.agents.iter().map(|(index, _)| index).collect();
        for index in agents {
            let Some(slot) = self.agents.get_mut(index) else { continue };
            let id = slot.id;
            match std::mem::replace(&mut slot.behaviour, Behaviour::Running) {
                Behaviour::Native(agent) => self.stop_native(index, id, agent),
                other => slot.behaviour = other,
            }
        }
        self.agents.calling.end();
        self.outputs.swap(outputs);
    }

    /// Frees the place of an agent that has gone. What is delayed for it no longer counts against the memory budget.
    pub(in crate::shard) fn remove_slot(&mut self, index: AgentIndex) {
        if let Some(slot) = self.agents.remove(index) {
            self.held.discharge_mailbox(slot.mailbox.held_bytes());
        }
    }

    /// Gives up everything that waits for an agent. When the router stops, what the router itself has to say goes on
    /// waiting.
    pub(in crate::shard) fn empty(&mut self, index: AgentIndex, reason: DeadLetterReason) {
        let Some(slot) = self.agents.get_mut(index) else { return };
        // An agent that is not called when the router stops is never called again.
        let keeps_notices = reason == DeadLetterReason::Stopped && !slot.is_halted() && slot.gate != BreakerGate::Open;
        let leaves = |envelope: &Envelope| !keeps_notices || envelope.kind == EnvelopeKind::Message;
        let places = slot.mailbox.extract(&mut self.held, leaves);
        let key = slot.key(index);
        let in_hand = slot.cold.as_mut().and_then(|cold| cold.in_hand.take());
        if slot.flags.is(AgentFlags::CLOSED) {
            self.give_up_stalled(index, reason);
        }
        for place in places {
            let Some(envelope) = self.held.remove(place) else { continue };
            let weight = envelope.weight();
            let reservation = match envelope.kind {
                EnvelopeKind::Message => Reservation::Mailbox { agent: key, weight },
                EnvelopeKind::Notice => Reservation::Nothing,
            };
            self.dead_letter(envelope, reason, reservation);
        }
        if let Some(in_hand) = in_hand {
            let weight = in_hand.envelope.weight();
            if in_hand.envelope.kind == EnvelopeKind::Message {
                self.held.count_outside(-1);
                self.dead_letter(in_hand.envelope, reason, Reservation::Mailbox { agent: key, weight });
            }
        }
    }
}
