//! Routing out of an outbox: the receiver, its shard, and whether the message can leave now.
//!
//! Invariants: a message leaves for another shard only with a credit. A waiting message makes everything behind it in
//! its sender's outbox wait, which preserves the order between two agents. Each refusal yields a dead letter and a
//! `failure` to the sender.

use std::sync::Arc;

use crate::base::index::ShardIndex;
use crate::mailbox::{Envelope, Reservation};
use crate::message::{AgentId, Choice, ConversationRole, Receiver};
use crate::outcome::DeadLetterReason;
use crate::routing::rules;
use crate::shard::{FAN_OUT_PER_TURN_MAX, Shard};
use crate::trace::StageEvent;

/// A message that waits for credit at a shard or, on its own shard, for the next turn.
pub(crate) struct Blocked {
    pub(crate) shard: ShardIndex,
    pub(crate) envelope: Envelope,
}

impl Shard {
    /// Determines the receiver of a message and sends it there.
    #[inline(always)]
    pub(in crate::shard) fn route(&mut self, envelope: Envelope) -> Result<(), Blocked> {
        match envelope.message.target() {
            Some(target) => self.route_to(envelope, target),
            None => self.route_without_target(envelope),
        }
    }

    /// Sends a message that does not name exactly one receiver: to each of a set, or to the agent that the routing
    /// rules choose, or to a provider of the capability.
    pub(in crate::shard) fn route_without_target(&mut self, mut envelope: Envelope) -> Result<(), Blocked> {
        if !matches!(envelope.message.receiver(), Receiver::Agents(_))
            && let Some(receiver) = rules::first_match(&self.live.rules, &envelope.message)
        {
            envelope.message.set_receiver(receiver);
            if matches!(envelope.message.receiver(), Receiver::Agents(_)) {
                self.spread_replay(&mut envelope);
            }
        }
        match envelope.message.receiver() {
            Receiver::Agents(agents) => {
                let agents = Arc::clone(agents);
                self.fan_out(envelope, &agents)
            }
            Receiver::Capability(capability, Choice::All) => {
                let agents: Arc<[AgentId]> =
                    self.capabilities.providers(*capability).iter().map(|provider| provider.agent).collect();
                if agents.is_empty() {
                    return self.refuse(envelope, DeadLetterReason::NoProvider);
                }
                self.ledger.accept(agents.len() as u64 - 1);
                if envelope.is_watched() {
                    let count = u32::try_from(agents.len()).unwrap_or(u32::MAX);
                    self.record_stage(&envelope, StageEvent::Spread(count));
                }
                self.spread_replay(&mut envelope);
                self.journal.await_more(envelope.journal(), agents.len() as u64 - 1);
                envelope.message.set_receiver(Receiver::Agents(Arc::clone(&agents)));
                self.fan_out(envelope, &agents)
            }
            Receiver::Capability(capability, choice) => {
                let (capability, choice) = (*capability, *choice);
                let (agents, capabilities) = (&self.agents, &mut self.capabilities);
                let waiting = |agent| {
                    agents.find(agent).and_then(|index| agents.get(index)).map_or(0, |slot| slot.mailbox.held())
                };
                let Some(agent) = capabilities.choose(capability, choice, waiting) else {
                    return self.refuse(envelope, DeadLetterReason::NoProvider);
                };
                envelope.message.set_receiver(Receiver::Provider(agent, capability));
                self.route_to(envelope, agent)
            }
            Receiver::Agent(agent) => {
                let agent = *agent;
                self.route_to(envelope, agent)
            }
            Receiver::Unaddressed | Receiver::Member(..) | Receiver::Provider(..) => {
                self.refuse(envelope, DeadLetterReason::NoRoute)
            }
        }
    }

    /// Makes a copy for each receiver. Stops where a copy has to wait, and resumes there.
    pub(in crate::shard) fn fan_out(&mut self, mut envelope: Envelope, agents: &Arc<[AgentId]>) -> Result<(), Blocked> {
        if envelope.fan_out == 0
            && let Some(id) = envelope.message.conversation()
            && let Err((count, most)) = self.conversations.has_room_for_all(&envelope.message, id, agents)
        {
            // Otherwise only some of them would get it, and the sender would not know whose replies to wait for.
            let detail =
                format!("the conversation would have {count} participants: the limit is {most}; nobody got it");
            for envelope in envelope.into_deliveries() {
                self.dead_letter_with(envelope, DeadLetterReason::TooManyParticipants, &detail, Reservation::Nothing);
            }
            return Ok(());
        }
        for _ in 0..FAN_OUT_PER_TURN_MAX {
            let Some(target) = agents.get(envelope.fan_out as usize).copied() else { return Ok(()) };
            let copy = envelope.copy_for(agents, envelope.fan_out);
            if let Err(Blocked { shard, .. }) = self.route_to(copy, target) {
                return Err(Blocked { shard, envelope });
            }
            envelope.fan_out += 1;
        }
        if (envelope.fan_out as usize) < agents.len() {
            return Err(Blocked { shard: self.index, envelope });
        }
        Ok(())
    }

    /// Sends a message to its one receiver: directly, or through the shard where its conversation lives.
    #[inline(always)]
    pub(in crate::shard) fn route_to(&mut self, envelope: Envelope, target: AgentId) -> Result<(), Blocked> {
        self.route_as(envelope, target, false)
    }

    /// Like [`Shard::route_to`], for a message whose turn in its receiver's wait queue has come.
    pub(in crate::shard) fn route_on(&mut self, envelope: Envelope, target: AgentId) -> Result<(), Blocked> {
        self.route_as(envelope, target, true)
    }

    #[inline(always)]
    pub(in crate::shard) fn route_as(
        &mut self,
        mut envelope: Envelope,
        target: AgentId,
        waited: bool,
    ) -> Result<(), Blocked> {
        let target_shard = self.config.partition.shard_of(target);
        let mut hop = target_shard;
        // The initiator of the conversation, if that lives here.
        let mut initiator = None;
        if let Some(id) = envelope.message.conversation() {
            if envelope.message.role() == ConversationRole::Unresolved
                && let Err(reason) =
                    self.conversations.resolve_role(&mut envelope.message, id, target, self.clock.now_ms())
            {
                return self.refuse(envelope, reason);
            }
            match envelope.message.role() {
                ConversationRole::Initiator => initiator = envelope.message.sender(),
                ConversationRole::Participant | ConversationRole::Unresolved => {
                    initiator = Some(target).filter(|_| self.is_here(target_shard));
                }
                ConversationRole::Member => {
                    let Some(began) = envelope.message.initiator() else {
                        return self.refuse(envelope, DeadLetterReason::NotInConversation);
                    };
                    let home = self.config.partition.shard_of(began);
                    if self.is_here(home) {
                        initiator = Some(began);
                    } else {
                        hop = home;
                    }
                }
            }
        }
        let here = self.is_here(hop);
        // On this shard, delivery finds out whether the receiver is closed.
        if !waited
            && self.flow_control.queues.exist()
            && (!here || self.flow_control.queues.moves(target))
            && self.flow_control.queues.must_wait(&envelope.message, target)
        {
            self.wait_for_receiver(envelope, target, false);
            return Ok(());
        }
        if !here && !self.links.has_credit(hop) {
            // The port has noted that this shard wants to be notified of new credits.
            return Err(Blocked { shard: hop, envelope });
        }
        if let Some(initiator) = initiator
            && let Err(reason) = self.converse(&mut envelope, initiator, target)
        {
            return self.refuse(envelope, reason);
        }
        if here {
            self.deliver(envelope, target);
        } else {
            self.depart(envelope, hop);
        }
        Ok(())
    }
}
