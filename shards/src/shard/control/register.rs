//! Registration and removal of agents.
//!
//! Registration is a barrier: it is answered once every shard's copy of the capability index contains it, so a look-up
//! of a capability after the answer finds the agent.

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::mailbox::{EnvelopeKind, Reservation};
use crate::message::notice::{ROUTER_NAME, quote};
use crate::message::{AgentId, Message, Performative, Receipt, capability_term};
use crate::shard::agent::factory::AgentFactory;
use crate::shard::agent::registry::{AGENTS_MAX, AgentFlags, AgentIndex, AgentSlot, Behaviour, InboxState};
use crate::shard::agent::{Registration, Role};
use crate::shard::control::admin::AdminRequest;
use crate::shard::control::lifecycle::StopReason;
use crate::shard::io::{Answer, Event, RegistrationError, Token};
use crate::shard::lifecycle::OnBarrier;
use crate::shard::shard_frame::Control;
use crate::shard::wanted::Waiting;
use crate::shard::{REGISTRATIONS_PER_TURN_MAX, Shard, ShardPhase, stopping};

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

    /// Registers an agent for another agent, which receives a message from the router about it.
    pub(in crate::shard) fn register_for(&mut self, registration: Registration, requester: AgentId) {
        let registration = registration.complete(self.config.partition);
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

    /// Registers agents that others registered while they were started.
    pub(in crate::shard) fn register_waiting(&mut self) -> usize {
        let count = self.lifecycle.registrations().min(REGISTRATIONS_PER_TURN_MAX);
        for _ in 0..count {
            let Some((registration, requester)) = self.lifecycle.next_registration() else { break };
            self.register_for(registration, requester);
        }
        count
    }

    /// Whether the other shards are being told of a capability of the agent.
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

    /// Confirms a request of another agent, once every shard knows.
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
        let Registration { name, id, capabilities, role, supervision, breaker, overflow, persistent, placement } =
            registration;
        let name = name.map_err(|error| *error)?;
        if placement.is_some() {
            return Err(RegistrationError::Placed { name: name.to_string() });
        }
        let absent = self.agents.find(id).filter(|index| self.is_absent(*index, name.as_ref()));
        if absent.is_none()
            && let Some(error) = self.name_refusal(id, name.as_ref())
        {
            return Err(error);
        }
        let term = |capability| {
            capability_term(capability)
                .ok_or_else(|| RegistrationError::VocabularyFull { name: capability.to_string() })
        };
        let terms = capabilities.iter().map(term).collect::<Result<Vec<_>, _>>()?;
        let (behaviour, maker) = match role {
            Role::Native(mut maker) => match maker.make() {
                Ok(agent) => (Behaviour::Native(agent), maker),
                Err(what) => return Err(RegistrationError::Panicked { name: name.to_string(), what }),
            },
            Role::Outside { inbox, window, by_number, is_proxy } => {
                let outside = InboxState { is_proxy, ..InboxState::new(inbox, window, by_number) };
                (Behaviour::InboxState(Box::new(outside)), AgentFactory::NONE)
            }
        };
        let index = match absent {
            Some(index) => self.adopt(index, name.as_ref(), behaviour, maker),
            None => self
                .agents
                .insert(id, name.as_ref(), behaviour, maker)
                .ok_or(RegistrationError::TooManyAgents { limit: AGENTS_MAX })?,
        };
        if let Some(slot) = self.agents.get_mut(index) {
            slot.overflow = overflow.unwrap_or(self.config.overflow);
            if persistent {
                slot.cold().outlives = true;
            }
            if supervision.is_some() {
                slot.cold().restarts().own_policy = supervision;
            }
        }
        self.agents.revive(id);
        if self.operations.wanted.remove(id) == Some(Waiting::New) {
            self.say_what_waits_delivered(index);
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

    /// Why no agent can have this name.
    fn name_refusal(&self, id: AgentId, name: &str) -> Option<RegistrationError> {
        if let Some(found) = self.agents.find(id).and_then(|index| self.agents.get(index)) {
            let (name, other) = (name.to_owned(), found.name.to_string());
            return Some(if name == other && found.is_proxy() {
                RegistrationError::OnOtherNode { name }
            } else if name == other {
                RegistrationError::Duplicate { name }
            } else {
                RegistrationError::Collision { name, other }
            });
        }
        (name == ROUTER_NAME).then(|| RegistrationError::Reserved { name: name.to_owned() })
    }

    /// Whether an agent of this name is absent: it existed in an earlier run and waits to be registered again, or it is
    /// looked for. The name is unknown if there are only messages for it.
    fn is_absent(&self, index: AgentIndex, name: &str) -> bool {
        let is_named = |slot: &AgentSlot| slot.name.is_empty() || &*slot.name == name;
        self.agents.get(index).is_some_and(|slot| slot.flags.is(AgentFlags::ABSENT) && is_named(slot))
    }

    /// Gives an agent that was absent its handler.
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

    /// Sends the "delivered" receipts of the messages that waited while the agent was looked for. If it is the proxy of
    /// an agent of another node, that node sends them.
    #[cold]
    fn say_what_waits_delivered(&mut self, index: AgentIndex) {
        let Some(slot) = self.agents.get(index).filter(|slot| !slot.is_proxy()) else { return };
        let mut delivered = Vec::new();
        slot.mailbox.look_ahead(&self.held, |envelope| {
            if envelope.kind() == EnvelopeKind::Message && envelope.message.receipt() == Receipt::Delivered {
                delivered.push(envelope.message.clone());
            }
            ControlFlow::Continue(())
        });
        for message in delivered {
            self.send_receipt(&message, Receipt::Delivered, Reservation::Nothing);
        }
    }

    /// Adds an agent that existed in an earlier run, or for which something waits. It is called once it is registered.
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
}
