//! What the router itself says: failures, receipts, and what shards tell each other.
//!
//! Invariants: a notice is no accepted message and never causes another notice; in a full control lane it is counted
//! instead of kept. A notice about a message holds that message's credit or place in the mailbox until there is room
//! for it in the ring to the sender, so that notices are bounded by what was admitted.

use crate::base::index::ShardIndex;
use crate::base::slab::{NONE, Slab};
use crate::dead_letter::{DeadLetter, LAST_ERROR_BYTES_MAX, Reason};
use crate::domain::Priority;
use crate::mailbox::{Envelope, EnvelopeKind};
use crate::message::journal_ref::Journalled;
use crate::message::{
    AgentId, ConversationId, Correlation, Message, MessageBuilder, Performative, Receipt, Reliability,
};
use crate::outcome::Ending as Settlement;
use crate::planted::{self, Bug};
use crate::shard::agent::registry::{AgentIndex, Standing};
use crate::shard::control::conformance::tells_of_failure;
use crate::shard::io::{AskFailure, Event, Phase as Waiting};
use crate::shard::shard_frame::{Crossing, Notice};
use crate::shard::{Phase, Shard};
use crate::supervision::Guard;

/// The name under which the router itself speaks: the agent management system of FIPA SC00023.
pub const ROUTER_NAME: &str = "ams";

/// While so much waits to be told to one shard, conversations do not end for want of traffic, because that would have
/// to be told too: so their ends add no more to it than the participants of one conversation.
pub const OUTGOING_WAITING_MAX: usize = 4_096;

/// Whether the router itself said this.
pub fn is_notice(message: &Message) -> bool {
    message.sender() == Some(router_id())
}

fn router_id() -> AgentId {
    static ID: std::sync::OnceLock<AgentId> = std::sync::OnceLock::new();
    *ID.get_or_init(|| AgentId::of_text(ROUTER_NAME))
}

/// What a notice keeps occupied until it has left.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Holds {
    Nothing,
    Credit(ShardIndex),
    Mailbox { agent: AgentIndex, generation: u32, weight: u32 },
}

/// Something to be told to another shard as soon as its ring has room.
pub(crate) enum Outgoing {
    Letter(Box<Envelope>, Holds),
    Notice(Notice),
}

impl Shard {
    /// Gives a message up: it becomes a dead letter and its sender hears of it.
    #[cold]
    pub(crate) fn give_up(&mut self, envelope: Envelope, reason: Reason, holds: Holds) {
        self.give_up_with(envelope, reason, "", holds);
    }

    /// As [`Shard::give_up`], with what a handler said to it.
    #[cold]
    pub(crate) fn give_up_with(&mut self, envelope: Envelope, reason: Reason, detail: &str, holds: Holds) {
        let (attempts, journal) = (envelope.attempts, envelope.journal());
        let Some(message) = self.count_out(envelope, reason, detail, holds) else { return };
        if journal.is_replay() {
            // The dead letter that it was made of stays as it was.
            return self.acknowledge(journal, Settlement::DeadLettered(reason));
        }
        self.keep_dead_letter(message, reason, attempts, detail, journal, Settlement::DeadLettered(reason));
    }

    /// Keeps a message that ended without being handled, whatever it was counted as.
    #[cold]
    fn keep_dead_letter(
        &mut self,
        message: Message,
        reason: Reason,
        attempts: u8,
        detail: &str,
        journal: Journalled,
        ending: Settlement,
    ) {
        let id = self.dead_letters.next_id();
        let dropped = self.dead_letters.push(DeadLetter {
            id,
            reason,
            attempts,
            last_error: (!detail.is_empty()).then(|| beginning(detail, LAST_ERROR_BYTES_MAX).into()),
            first: self.first_accepted(&message),
            last: self.now.wall,
            shard: self.index,
            replays: message.replay().map_or(0, |replay| replay.times),
            message,
        });
        if !journal.is_not() || self.durables.writes() {
            self.forget_dropped_letters(&dropped);
            self.keep_letter(id, journal, ending);
        }
    }

    /// As [`Shard::give_up_with`], but keeps no dead letter. Answers the message, unless it was a notice.
    #[cold]
    pub(crate) fn count_out(
        &mut self,
        envelope: Envelope,
        reason: Reason,
        detail: &str,
        holds: Holds,
    ) -> Option<Message> {
        if envelope.kind == EnvelopeKind::Notice {
            self.pending_beside_slab += 1;
            self.account.notices_coalesced += 1;
            self.let_go(holds);
            return None;
        }
        if reason == Reason::Stopped && envelope.journal().is_in_record() {
            self.leave_to_next_start(holds);
            return None;
        }
        self.account.dead_lettered += 1;
        self.account.dead_by_reason[reason.index()] += 1;
        let message = envelope.message;
        let shard = self.index;
        if let Some(id) = message.id() {
            let (sender, receiver) = (message.sender(), message.target());
            self.report(|| Event::DeadLettered { message: id, sender, receiver, reason, shard });
        }
        let explanation = if detail.is_empty() {
            reason.explanation().to_owned()
        } else {
            format!("{}: {detail}", reason.explanation())
        };
        if reason == Reason::ProtocolViolation {
            self.send_not_understood(&message, holds);
        } else {
            self.forgive_repetition(&message);
            self.send_failure(&message, reason.as_str(), &explanation, holds);
        }
        Some(message)
    }

    /// Ends a message whose lifetime is over; its sender hears of it. A durable one is kept as a dead letter, although it counts as
    /// expired: whoever sent it was told that it is not lost.
    #[cold]
    pub(crate) fn expire(&mut self, envelope: Envelope, phase: Waiting, holds: Holds) {
        self.account.expired += 1;
        self.account.expired_by_phase[phase.index()] += 1;
        let (attempts, journal) = (envelope.attempts, envelope.journal());
        let message = envelope.message;
        if let Some(id) = message.id() {
            let (sender, receiver) = (message.sender(), message.target());
            self.report(|| Event::Expired { message: id, sender, receiver, phase });
        }
        self.forgive_repetition(&message);
        let explanation = format!("the message's lifetime ended {}", phase.explanation());
        self.send_failure(&message, Reason::Expired.as_str(), &explanation, holds);
        if journal.is_replay() {
            self.acknowledge(journal, Settlement::Expired);
        } else if message.reliability() == Reliability::Durable {
            self.keep_dead_letter(message, Reason::Expired, attempts, &explanation, journal, Settlement::Expired);
        } else if !journal.is_not() {
            self.end_without_letter(journal, Settlement::Expired);
        }
    }

    /// Tells the sender what became of its message (FIPA SC00023: the AMS reports undeliverable messages).
    fn send_failure(&mut self, message: &Message, word: &str, explanation: &str, holds: Holds) {
        let content = format!("(({}) ({word} \"{}\"))", describe(message), quote(explanation));
        if planted::strikes(Bug::FailureNotTold, 10, self.now_ms) {
            return self.let_go(holds);
        }
        self.send_to_sender(message, Performative::Failure, content, holds);
    }

    /// Tells the sender that its message was delivered or processed, if it wanted to hear that.
    pub(crate) fn send_receipt(&mut self, message: &Message, stage: Receipt, holds: Holds) {
        let word = match stage {
            Receipt::None => return self.let_go(holds),
            Receipt::Delivered => "delivered",
            Receipt::Processed => "processed",
        };
        self.send_to_sender(message, Performative::Inform, format!("(({word} ({})))", describe(message)), holds);
    }

    pub(crate) fn send_to_sender(
        &mut self,
        message: &Message,
        performative: Performative,
        content: String,
        holds: Holds,
    ) {
        let Some(sender) = message.sender() else { return self.let_go(holds) };
        if message.target() == Some(router_id()) && tells_of_failure(performative) {
            // Whoever answers the router's own messages would be told that it can't, and answer that, without end.
            return self.let_go(holds);
        }
        let mut builder = Message::builder(performative).receiver(sender).content(content);
        if let Some(conversation) = message.conversation() {
            builder = builder.conversation_as(conversation, message.role());
        }
        if let Some(correlation) = message.reply_with() {
            builder = builder.in_reply_to(correlation);
        }
        self.send_letter(builder, sender, holds);
    }

    /// Tells everyone who took part in a conversation that it has ended for want of traffic.
    pub(crate) fn tell_of_timeout(&mut self, initiator: AgentId, id: ConversationId, participants: &[AgentId]) {
        for participant in participants {
            let builder = Message::builder(Performative::Failure)
                .receiver(*participant)
                .content(format!("((conversation {id}) (timed-out \"the conversation had no traffic for too long\"))"));
            let builder = if *participant == initiator {
                builder.conversation(id)
            } else {
                builder.conversation_of(id, initiator)
            };
            self.send_letter(builder, *participant, Holds::Nothing);
        }
    }

    /// Whether so much waits to be told to another shard that what can wait should.
    pub(crate) fn has_much_to_tell(&self) -> bool {
        self.outgoing.iter().any(|waiting| waiting.len() >= OUTGOING_WAITING_MAX)
    }

    /// Tells an agent something in the router's name.
    pub(crate) fn send_letter(&mut self, builder: MessageBuilder, to: AgentId, holds: Holds) {
        let message = builder.sender(router_id()).priority(Priority::Urgent).build();
        let Ok(mut message) = message else { return self.let_go(holds) };
        self.assign_id(&mut message);
        self.account.notices += 1;
        let envelope = Envelope::new(message, u64::MAX, EnvelopeKind::Notice);
        let shard = self.config.partition.shard_of(to);
        if self.is_here(shard) {
            self.deliver_letter(envelope, to);
            self.let_go(holds);
        } else {
            self.outgoing[shard.as_usize()].push_back(Outgoing::Letter(Box::new(envelope), holds));
        }
    }

    fn deliver_letter(&mut self, envelope: Envelope, to: AgentId) {
        self.hear_of_failure(&envelope.message, to);
        let Some(index) = self.agents.find(to) else {
            self.account.notices_coalesced += 1;
            return;
        };
        // Nobody lets an agent go on that is not called when the router stops, and its breaker stays as it is.
        let never_told = self.phase == Phase::Stopped
            && self.agents.get(index).is_some_and(|slot| slot.is_halted() || slot.guard == Guard::Shut);
        let place = if never_told { None } else { self.slab.insert(envelope).ok() };
        let Some(place) = place else {
            self.account.notices_coalesced += 1;
            return;
        };
        self.pending_beside_slab -= 1;
        let failed = self
            .agents
            .get(index)
            .is_some_and(|slot| slot.first_question != NONE)
            .then(|| failed_question(&self.slab, place))
            .flatten();
        let kept = self.agents.get_mut(index).is_some_and(|slot| slot.mailbox.push_notice(&mut self.slab, place));
        if kept {
            if let Some(correlation) = failed {
                self.match_failure(index, correlation);
            }
            self.schedule(index);
        } else {
            self.slab.remove(place);
            self.pending_beside_slab += 1;
            self.account.notices_coalesced += 1;
        }
    }

    #[inline(always)]
    pub(crate) fn let_go(&mut self, holds: Holds) {
        match holds {
            Holds::Nothing => {}
            Holds::Credit(_) if planted::is(Bug::RefusedCreditLost) => {}
            Holds::Credit(from) => self.credits_owed[from.as_usize()] += 1,
            Holds::Mailbox { agent, generation, weight } => {
                if let Some(slot) = self.agents.get_mut(agent)
                    && slot.generation == generation
                {
                    slot.mailbox.let_go(weight);
                    self.memory_left += i64::from(weight);
                    if slot.standing.is(Standing::ROOM_MATTERS) {
                        self.holds_less(agent);
                    }
                }
            }
        }
    }

    /// Takes note that the mailbox of a provider or of a closed receiver holds less.
    #[inline(never)]
    fn holds_less(&mut self, agent: AgentIndex) {
        let Some(slot) = self.agents.get_mut(agent) else { return };
        if slot.provider && !slot.load_changed {
            slot.load_changed = true;
            self.load_changed.push(agent);
        }
        if slot.standing.is(Standing::CLOSED) {
            self.note_room(agent);
        }
    }

    /// Takes note of what another shard says.
    pub(crate) fn hear(&mut self, from: ShardIndex, notice: Notice) {
        match notice {
            Notice::Letter(envelope) => {
                if let Some(to) = envelope.message.target() {
                    self.deliver_letter(*envelope, to);
                }
            }
            Notice::Advertise(capability, provider) => self.capabilities.advertise(capability, provider),
            Notice::Withdraw(capability, agent) => self.capabilities.withdraw(capability, agent),
            Notice::Barrier(number) => {
                self.outgoing[from.as_usize()].push_back(Outgoing::Notice(Notice::BarrierPassed(number)));
            }
            Notice::BarrierPassed(number) => self.barrier_passed(number),
            Notice::Available(agent, available) => self.capabilities.set_available(agent, available),
            Notice::Closed(agent, closed) => self.hear_closed(agent, closed),
            Notice::Load(agent, waiting) => self.capabilities.report_load(agent, waiting),
            Notice::Register(registration, requester) => self.register_for(*registration, requester),
            Notice::Committed(_) if planted::strikes(Bug::AcknowledgementLost, 20, self.now_ms) => {}
            Notice::Committed(acknowledgements) => self.hear_acknowledgements(acknowledgements),
            Notice::KeepLetter(letter, ticket) => self.keep_letter_of_other(&letter, ticket),
            Notice::Oversee(notice) => self.hear_oversight(*notice),
        }
    }

    /// Tells the other shards how much waits at the providers of this one, where that has changed.
    pub(crate) fn tell_loads(&mut self) {
        if self.load_changed.is_empty() {
            return;
        }
        let changed = std::mem::take(&mut self.load_changed);
        for agent in &changed {
            let Some(slot) = self.agents.get_mut(*agent) else { continue };
            slot.load_changed = false;
            if !slot.provider {
                continue;
            }
            let (id, waiting) = (slot.id, slot.mailbox.held());
            for to in 0..self.port.shards() {
                // A figure that finds no room is not worth waiting for: the next change brings a newer one.
                if to != self.index.as_usize() && self.outgoing[to].is_empty() {
                    let _ = self.port.send_uncredited(to, Crossing::Notice(Notice::Load(id, waiting)));
                }
            }
        }
        self.load_changed = changed;
        self.load_changed.clear();
    }

    /// Hands what is to be told to the rings, as far as they have room.
    pub(crate) fn flush_outgoing(&mut self) {
        self.tell_acknowledgements();
        for to in 0..self.outgoing.len() {
            while let Some(outgoing) = self.outgoing[to].pop_front() {
                let (crossing, holds) = match outgoing {
                    Outgoing::Letter(envelope, holds) => (Crossing::Notice(Notice::Letter(envelope)), holds),
                    Outgoing::Notice(notice) => (Crossing::Notice(notice), Holds::Nothing),
                };
                match self.port.send_uncredited(to, crossing) {
                    Ok(()) => self.let_go(holds),
                    Err(Crossing::Notice(Notice::Letter(envelope))) => {
                        self.outgoing[to].push_front(Outgoing::Letter(envelope, holds));
                        break;
                    }
                    Err(Crossing::Notice(notice)) => {
                        self.outgoing[to].push_front(Outgoing::Notice(notice));
                        break;
                    }
                    Err(Crossing::Message(_)) => break,
                }
            }
        }
    }

    /// Hands the gateway's mail to those who asked.
    pub(crate) fn answer_asks(&mut self) -> u32 {
        let mut handled = 0;
        while let Some(envelope) = self.pop_mail(self.gateway) {
            handled += 1;
            let generation = self.agents.get(self.gateway).map_or(0, |slot| slot.generation);
            let weight = envelope.weight();
            let holds = Holds::Mailbox { agent: self.gateway, generation, weight };
            let asked = envelope.message.in_reply_to().filter(|correlation| self.asks.contains_key(correlation));
            match (envelope.kind, asked) {
                (EnvelopeKind::Notice, Some(correlation)) => {
                    // A receipt is no answer: the question goes on waiting for one.
                    if tells_of_failure(envelope.message.performative()) {
                        let failure = AskFailure::Undeliverable(Box::new(envelope.message));
                        self.end_ask(correlation, Err(failure));
                    }
                }
                (EnvelopeKind::Notice, None) => {}
                (EnvelopeKind::Message, Some(correlation)) => {
                    self.account.processed += 1;
                    self.settle_durable(envelope.journal());
                    let wanted = if envelope.message.receipt() == Receipt::Processed {
                        Receipt::Processed
                    } else {
                        Receipt::None
                    };
                    self.send_receipt(&envelope.message, wanted, holds);
                    // An agree announces the answer that was asked for; it is not the answer.
                    if envelope.message.performative() != Performative::Agree {
                        self.end_ask(correlation, Ok(envelope.message));
                    }
                }
                (EnvelopeKind::Message, None) => self.give_up(envelope, Reason::NobodyAsked, holds),
            }
        }
        handled
    }
}

/// The `reply-with` of the message that a failure report in the slab is about.
#[cold]
fn failed_question(slab: &Slab<Envelope>, place: u32) -> Option<Correlation> {
    let message = &slab.get(place)?.message;
    message.in_reply_to().filter(|_| tells_of_failure(message.performative()))
}

/// What the notice is about, in the manner of SL0.
pub(crate) fn describe(message: &Message) -> String {
    let id = message.id().map_or_else(String::new, |id| id.to_string());
    let receiver = match (message.target_aid(), message.target()) {
        (Some(aid), _) => format!(" (agent-identifier :name {})", aid.name),
        (None, Some(target)) => format!(" (agent-identifier :name {target})"),
        (None, None) => String::new(),
    };
    format!("{} {id}{receiver}", message.performative())
}

/// As much of a text as fits into so many bytes.
fn beginning(text: &str, bytes_max: usize) -> &str {
    let mut end = bytes_max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

pub(crate) fn quote(text: &str) -> String {
    text.replace('"', "\\\"")
}
