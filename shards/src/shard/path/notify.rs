//! Messages from the router to agents, in the name of its agent management system (FIPA SC00023).

use crate::base::slab::NONE;
use crate::domain::Priority;
use crate::mailbox::{Envelope, EnvelopeKind, Held, Reservation};
use crate::message::notice::tells_of_failure;
use crate::message::notice::{describe, describe_timeout, quote, router_id};
use crate::message::{AgentId, ConversationId, Correlation, Message, MessageBuilder, Performative, Receipt};
use crate::outcome::DeadLetterReason;
use crate::planted;
use crate::planted::Bug;
use crate::shard::agent::registry::AgentIndex;
use crate::shard::control::lifecycle::AgentState;
use crate::shard::io::Event;
use crate::shard::{Shard, ShardPhase};
use crate::supervision::BreakerGate;

impl Shard {
    /// Reports the outcome of a message to its sender (FIPA SC00023: the AMS reports undeliverable messages).
    pub(in crate::shard) fn send_failure(
        &mut self,
        message: &Message,
        word: &str,
        explanation: &str,
        reservation: Reservation,
    ) {
        let content = format!("(({}) ({word} \"{}\"))", describe(message), quote(explanation));
        if planted::strikes(Bug::FailureNotTold, 10, self.clock.now_ms()) {
            return self.release(reservation);
        }
        self.send_to_sender(message, Performative::Failure, content, reservation);
    }

    /// Sends a receipt that a message was delivered or processed, if its sender requested one.
    pub(in crate::shard) fn send_receipt(&mut self, message: &Message, stage: Receipt, reservation: Reservation) {
        let word = match stage {
            Receipt::None => return self.release(reservation),
            Receipt::Delivered => "delivered",
            Receipt::Processed => "processed",
        };
        self.send_to_sender(message, Performative::Inform, format!("(({word} ({})))", describe(message)), reservation);
    }

    pub(in crate::shard) fn send_to_sender(
        &mut self,
        message: &Message,
        performative: Performative,
        content: String,
        reservation: Reservation,
    ) {
        let Some(sender) = message.sender() else { return self.release(reservation) };
        if message.target() == Some(router_id()) && tells_of_failure(performative) {
            // A reply to an agent's reply to the router would cause another failure report, and so on without end.
            return self.release(reservation);
        }
        let mut builder = Message::builder(performative).receiver(sender).content(content);
        if let Some(conversation) = message.conversation() {
            builder = builder.conversation_as(conversation, message.role());
        }
        if let Some(correlation) = message.reply_with() {
            builder = builder.in_reply_to(correlation);
        }
        self.send_notice(builder, sender, reservation);
    }

    /// Notifies all participants that a conversation timed out.
    pub(in crate::shard) fn notify_timeout(
        &mut self,
        initiator: AgentId,
        id: ConversationId,
        participants: &[AgentId],
    ) {
        for participant in participants {
            let builder = Message::builder(Performative::Failure).receiver(*participant).content(describe_timeout(id));
            let builder = if *participant == initiator {
                builder.conversation(id)
            } else {
                builder.conversation_of(id, initiator)
            };
            self.send_notice(builder, *participant, Reservation::Nothing);
        }
    }

    /// Sends a message to an agent in the router's name.
    pub(in crate::shard) fn send_notice(&mut self, builder: MessageBuilder, to: AgentId, reservation: Reservation) {
        let message = builder.sender(router_id()).priority(Priority::Urgent).build();
        let Ok(mut message) = message else { return self.release(reservation) };
        self.assign_id(&mut message);
        self.ledger.send_notice();
        let envelope = Envelope::new(message, u64::MAX, EnvelopeKind::Notice);
        let shard = self.config.partition.shard_of(to);
        if self.is_here(shard) {
            self.deliver_notice(envelope, to);
            self.release(reservation);
        } else {
            self.links.post_notice(shard, envelope, reservation);
        }
    }

    pub(in crate::shard) fn deliver_notice(&mut self, envelope: Envelope, to: AgentId) {
        self.conversations.on_failure_notice(&envelope.message, to);
        let Some(index) = self.agents.find(to) else {
            self.ledger.coalesce_notice();
            return;
        };
        // After the stop, nothing resumes a suspended agent or closes its breaker.
        let never_told = self.phase == ShardPhase::Stopped
            && self.agents.get(index).is_some_and(|slot| slot.is_halted() || slot.gate == BreakerGate::Open);
        let place = if never_told { None } else { self.held.insert(envelope).ok() };
        let Some(place) = place else {
            self.ledger.coalesce_notice();
            return;
        };
        self.held.count_outside(-1);
        let failed = self
            .agents
            .get(index)
            .is_some_and(|slot| slot.first_reply != NONE)
            .then(|| failed_question(&self.held, place))
            .flatten();
        let kept = self.agents.get_mut(index).is_some_and(|slot| slot.mailbox.push_notice(&mut self.held, place));
        if kept {
            if let Some(correlation) = failed {
                self.match_failure(index, correlation);
            }
            self.schedule(index);
        } else {
            self.held.remove(place);
            self.held.count_outside(1);
            self.ledger.coalesce_notice();
        }
    }

    /// Tells the sender of a message that violates its protocol what it could have sent.
    #[cold]
    pub(in crate::shard) fn send_not_understood(&mut self, message: &Message, reservation: Reservation) {
        let expected = match self.conversations.refuse_violation() {
            Some(violation) => {
                let expected = violation.to_string();
                self.outputs.report(|| Event::ProtocolViolation(violation));
                expected
            }
            None => DeadLetterReason::ProtocolViolation.explanation().to_owned(),
        };
        let word = DeadLetterReason::ProtocolViolation;
        let content = format!("(({}) ({word} \"{}\"))", describe(message), quote(&expected));
        self.send_to_sender(message, Performative::NotUnderstood, content, reservation);
    }

    /// Reports a message that passed and violates its protocol.
    #[cold]
    pub(in crate::shard) fn observe_violation(&mut self) {
        if let Some(violation) = self.conversations.observe_violation() {
            self.outputs.report(|| Event::ProtocolViolation(violation));
        }
    }

    /// Reports an agent's new state to observers.
    pub(in crate::shard) fn report_state(&mut self, index: AgentIndex) {
        if !self.outputs.reports_everything() {
            return;
        }
        let Some((agent, state)) = self.agents.get(index).map(|slot| (slot.id, AgentState::of(slot.flags))) else {
            return;
        };
        self.outputs.report(|| Event::StateChanged { agent, state });
    }
}

/// Returns the `reply-with` of the message that a failure report in the slab is about.
#[cold]
fn failed_question(held: &Held, place: u32) -> Option<Correlation> {
    let message = &held.get(place)?.message;
    message.in_reply_to().filter(|_| tells_of_failure(message.performative()))
}
