//! Agents that go: what waits for them is given up, what they have sent still leaves, and who asks is told why.

use crate::mailbox::{Envelope, EnvelopeKind, Reservation};
use crate::message::AgentId;
use crate::outcome::DeadLetterReason;
use crate::shard::Shard;
use crate::shard::agent::Agent;
use crate::shard::agent::registry::{AgentFlags, AgentIndex, Behaviour};
use crate::shard::control::lifecycle::Drained;
use crate::shard::control::lifecycle::StopReason;
use crate::shard::io::{Answer, Event, Output};
use crate::supervision::{BreakerGate, catch_panic, drop_quietly};

impl Shard {
    /// Removes an agent. What waits for it is given up; what it has sent still leaves.
    pub(in crate::shard) fn deregister(&mut self, index: AgentIndex) {
        self.remove_agent(index, StopReason::Deregistered);
    }

    /// Like [`Shard::deregister`], for another reason.
    pub(in crate::shard) fn remove_agent(&mut self, index: AgentIndex, why: StopReason) {
        let Some(slot) = self.agents.get_mut(index) else { return };
        if slot.is_leaving() || self.closes_inbox_first(index, why) {
            return;
        }
        let Some(slot) = self.agents.get_mut(index) else { return };
        slot.flags.add(AgentFlags::LEAVING);
        let (id, is_proxy) = (slot.id, slot.is_proxy());
        match std::mem::replace(&mut slot.behaviour, Behaviour::Running) {
            Behaviour::Native(agent) => self.stop_native(index, id, agent),
            // What is in the inbox has left the shard: its owner can still read it.
            Behaviour::InboxState(outside) => {
                self.ledger.process(u64::from(outside.handed_out));
                self.held.count_outside(-i64::from(outside.handed_out));
                self.outputs.end_inbox(outside.inbox);
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
        self.end_life(index, why, is_proxy);
        self.operations.wanted.remove(id);
        self.drop_breaker(index);
        self.agents.forget(index);
        self.end_room_waiters_of(id);
        self.empty(index, why.for_what_waited());
        if why.is_exceptional() {
            self.outputs.report_exception(|| Event::Deregistered { agent: id, why });
        } else {
            self.outputs.report(|| Event::Deregistered { agent: id, why });
        }
        if self.agents.get(index).is_some_and(|slot| slot.outbox.is_empty() && slot.blocked.is_none()) {
            self.remove_slot(index);
        }
    }

    /// Calls a native agent's `stopped`, and drops it.
    pub(in crate::shard) fn stop_native(&mut self, index: AgentIndex, id: AgentId, mut agent: Box<dyn Agent>) {
        self.agents.calling.begin(index);
        if let Err(what) = catch_panic(|| agent.stopped()) {
            self.outputs.report_exception(|| Event::AgentPanicked { agent: id, what });
        }
        drop_quietly(agent);
    }

    /// Cleans up after an agent that is being removed, while it still has its place and its mail.
    fn end_life(&mut self, index: AgentIndex, why: StopReason, is_proxy: bool) {
        let Some(slot) = self.agents.get_mut(index) else { return };
        let (id, name, held) = (slot.id, Box::from(&*slot.name), slot.mailbox.held());
        let cold = slot.cold.as_mut();
        let drain = cold.and_then(|cold| cold.drain.take());
        let restarts = slot.cold.as_mut().and_then(|cold| cold.restarts.as_mut());
        let total = restarts.as_ref().map_or(0, |restarts| restarts.total);
        if let Some(timer) = restarts.and_then(|restarts| restarts.timer.take()) {
            self.timers.cancel(timer);
        }
        if let Some(drain) = drain {
            self.timers.cancel(drain.deadline);
            self.outputs.answer(drain.token, Answer::Drained(Ok(Drained { left: held + drain.given_back })));
        }
        // A removed proxy is not remembered as a former agent: the agent itself still exists on its node.
        if why != StopReason::NotStarted && !is_proxy {
            self.agents.bury(id, name, why, total);
        }
    }

    /// Gives up everything that waits for an agent. When the router stops, its own notices continue to wait.
    pub(in crate::shard) fn empty(&mut self, index: AgentIndex, reason: DeadLetterReason) {
        self.empty_with(index, reason, "");
    }

    /// Like [`Shard::empty`], and each dead-lettered message keeps this detail.
    pub(in crate::shard) fn empty_with(&mut self, index: AgentIndex, reason: DeadLetterReason, detail: &str) {
        let Some(slot) = self.agents.get_mut(index) else { return };
        // An agent that is not called when the router stops is never called again.
        let keeps_notices = reason == DeadLetterReason::Stopped && !slot.is_halted() && slot.gate != BreakerGate::Open;
        let leaves = |envelope: &Envelope| !keeps_notices || envelope.kind() == EnvelopeKind::Message;
        let places = slot.mailbox.extract(&mut self.held, leaves);
        let key = slot.key(index);
        let in_hand = slot.cold.as_mut().and_then(|cold| cold.in_hand.take());
        if slot.flags.is(AgentFlags::CLOSED) {
            self.give_up_stalled(index, reason, detail);
        }
        for place in places {
            let Some(envelope) = self.held.remove(place) else { continue };
            let weight = envelope.weight();
            let reservation = match envelope.kind() {
                EnvelopeKind::Message => Reservation::Mailbox { agent: key, weight },
                EnvelopeKind::Notice => Reservation::Nothing,
            };
            self.dead_letter_with(envelope, reason, detail, reservation);
        }
        if let Some(in_hand) = in_hand {
            self.record_withdrawn(&in_hand.effects);
            let weight = in_hand.envelope.weight();
            if in_hand.envelope.kind() == EnvelopeKind::Message {
                self.held.count_outside(-1);
                self.dead_letter(in_hand.envelope, reason, Reservation::Mailbox { agent: key, weight });
            }
        }
    }

    /// Calls `stopped` of every native agent at the end of the router, and drops the agents. They stay registered, and
    /// persistent ones stay in the journal. Panics are reported through `outputs`.
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
}
