//! Calling handlers with messages from mailboxes, and the outcome: processed, retried or abandoned.
//!
//! Invariants: a handler's effects are committed when it is done, and not at all if it fails. An agent whose outbox is
//! not empty is not called, so it cannot send faster than the rings carry. One agent handles at most its quota before
//! its neighbours get their turn. A panic in a handler is a failed attempt and nothing more.

use std::num::NonZeroU8;
use std::ops::ControlFlow;

use crate::base::index::AgentKey;
use crate::domain::CapabilityName;
use crate::mailbox::{DeliveryFlags, Envelope, EnvelopeKind, Reservation};
use crate::message::{AgentId, Message, Receipt};
use crate::outcome::DeadLetterReason;
use crate::planted;
use crate::planted::Bug;
use crate::shard::DISPATCHES_PER_TURN_MAX;
use crate::shard::agent::registry::{AgentIndex, Behaviour, Suspended};
use crate::shard::agent::{Agent, Context, Failure, Outcome, Polled, Supervision};
use crate::shard::control::lifecycle::StopReason;
use crate::shard::io::{Ending, Event, Now, Stage};
use crate::shard::{Shard, ShardPhase};
use crate::supervision::retry::{Decision, FailedAttempt, FailureCause, FailureHandler};
use crate::supervision::{BreakerGate, Call, RestartCause, catch_panic, drop_quietly};
use crate::trace::StageEvent;

/// What makes a message concern the recorder of traces.
const TRACED: DeliveryFlags = DeliveryFlags::WATCHED.or(DeliveryFlags::IN_TRACE);

/// The messages that an agent is given in one call.
///
/// [`Batch::next`] returns a message with the context for handling it; [`Batch::settle`] reports its outcome. A message
/// that is not settled counts as done when the next one is taken or the batch ends; one that is not taken stays in the
/// mailbox.
pub struct Batch<'a> {
    shard: &'a mut Shard,
    agent: AgentKey,
    id: AgentId,
    /// Maximum and actual number of messages taken.
    most: u32,
    taken: u32,
    current: Option<Envelope>,
    failure: Option<Failure>,
    /// Whether the message that failed had failed before.
    failed_again: bool,
    leaves: bool,
    /// Whether calls are timed, and when the current one began.
    timed: bool,
    began_ns: Option<u64>,
}

impl Batch<'_> {
    /// Returns the next message, with the context for handling it.
    #[inline(always)] // What it answers would go through memory otherwise, which was measured to stall each message.
    #[allow(clippy::should_implement_trait)] // What it lends lives only until the next call.
    pub fn next(&mut self) -> Option<(&Message, Context<'_>)> {
        self.settle_current();
        if self.timed {
            self.end_call();
        }
        if self.taken >= self.most || self.leaves {
            return None;
        }
        let mut envelope = self.shard.pop_for_call(self.agent.index)?;
        self.taken += 1;
        envelope.attempts = envelope.attempts.saturating_add(1);
        if envelope.flags.is(TRACED.or(DeliveryFlags::JOURNALLED)) {
            envelope = self.shard.begin_uncommon(envelope, self.agent.index);
        }
        let context = Context { shard: &mut *self.shard, agent: self.agent.index, id: self.id };
        Some((&self.current.insert(envelope).message, context))
    }

    /// Shows up to `most` of the messages that [`Batch::next`] would return now, in order and without taking them, for
    /// an agent that works on several at once. Actions between calls can change which messages follow, so compare their
    /// ids. Returns the number shown.
    pub fn look_ahead(&self, most: usize, mut look: impl FnMut(&Message)) -> usize {
        let most = most.min(self.remaining());
        let now_ms = self.shard.clock.now_ms();
        let mut seen = 0;
        if let Some(slot) = self.shard.agents.get(self.agent.index).filter(|_| most > 0) {
            slot.mailbox.look_ahead(&self.shard.held, |envelope| {
                if envelope.deadline_ms > now_ms {
                    look(&envelope.message);
                    seen += 1;
                }
                if seen < most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            });
        }
        seen
    }

    /// Returns the time at the beginning of the shard's turn.
    pub fn now(&self) -> Now {
        self.shard.clock.now()
    }

    /// Returns the id of the agent that is being called.
    pub fn id(&self) -> AgentId {
        self.id
    }

    /// As [`Context::discover`].
    pub fn discover(&self, capability: &CapabilityName) -> Vec<AgentId> {
        self.shard.capabilities.discover(capability)
    }

    /// Returns how many messages [`Batch::next`] may still return, if that many wait.
    pub fn remaining(&self) -> usize {
        self.most.saturating_sub(self.taken) as usize
    }

    /// Sets the outcome of the message that was taken last.
    #[inline]
    pub fn settle(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Done => self.settle_current(),
            Outcome::Failed(failure) => self.fail(failure),
            Outcome::Suspended => self.suspend(),
        }
    }

    #[inline]
    fn settle_current(&mut self) {
        if let Some(envelope) = self.current.take() {
            self.settle_done(envelope);
        }
    }

    /// Settles a handled message. Every handled message takes this path; it is a separate function so that it is not
    /// entered needlessly.
    #[inline(never)]
    fn settle_done(&mut self, envelope: Envelope) {
        self.leaves |= self.shard.commit_effects(self.agent.index, self.id);
        self.shard.settle_done(self.agent, &envelope);
        envelope.message.recycle();
    }

    /// Ends the time of one call and begins the next. An agent whose breaker opens gets no more messages.
    #[cold]
    fn end_call(&mut self) {
        if self.failure.is_none() {
            self.began_ns = self.shard.time_call(self.agent.index, self.began_ns);
            if self.shard.is_shut(self.agent.index) {
                self.most = 0;
            }
        }
    }

    #[cold]
    fn fail(&mut self, failure: Failure) {
        self.shard.discard_effects();
        if let Some(envelope) = self.current.take() {
            self.failed_again = envelope.attempts > 1;
            self.shard.settle_failed(self.agent, envelope, &failure);
        }
        // The fate of the agent is decided before it is given anything else.
        self.failure = Some(failure);
        self.most = 0;
    }

    #[cold]
    fn suspend(&mut self) {
        if let Some(envelope) = self.current.take() {
            self.shard.put_in_hand(self.agent.index, envelope);
        }
        self.most = 0;
    }
}

impl Shard {
    /// Calls an agent with its waiting messages, up to its quota. Returns the number of messages.
    #[inline]
    pub(in crate::shard) fn dispatch(&mut self, index: AgentIndex) -> u32 {
        let Some(slot) = self.agents.get_mut(index) else { return 0 };
        // The place of a removed agent may belong to another one now, and mail can disappear while the agent is queued.
        if !std::mem::take(&mut slot.queued) || !(slot.mailbox.has_mail() || slot.has_in_hand()) {
            return 0;
        }
        let (id, key, in_hand) = (slot.id, slot.key(index), slot.has_in_hand());
        if !slot.outbox.is_empty() || slot.is_halted() || (slot.gate == BreakerGate::Open && !in_hand) {
            // It is scheduled again when its outbox is empty, when it is resumed, or when its breaker is half-open.
            self.arm_sweep(index);
            return 0;
        }
        let free = slot.gate == BreakerGate::Closed;
        match std::mem::replace(&mut slot.behaviour, Behaviour::Running) {
            Behaviour::Native(agent) if in_hand => {
                self.agents.calling.begin(index);
                self.resume(key, id, agent)
            }
            Behaviour::Native(agent) => {
                self.agents.calling.begin(index);
                let visit = self.begin_call(index, free);
                self.call(key, id, agent, visit)
            }
            Behaviour::Running => 0,
            Behaviour::InboxState(outside) => {
                slot.behaviour = Behaviour::InboxState(outside);
                self.hand_out(key)
            }
            Behaviour::Gateway => {
                slot.behaviour = Behaviour::Gateway;
                self.answer_asks()
            }
        }
    }

    #[inline(always)]
    fn call(&mut self, key: AgentKey, id: AgentId, mut agent: Box<dyn Agent>, visit: Call) -> u32 {
        let index = key.index;
        let quota = visit.quota;
        let batch_max = self.config.batch.into_inner();
        let mut handled = 0;
        let mut cause = RestartCause::Failure;
        loop {
            let most = batch_max.min(quota - handled);
            let mut batch = Batch {
                shard: self,
                agent: key,
                id,
                most,
                taken: 0,
                current: None,
                failure: None,
                failed_again: false,
                leaves: false,
                timed: visit.timed,
                began_ns: None,
            };
            let called = catch_panic(|| {
                if let Some(own) = agent.batch_size() {
                    batch.most = batch.most.min(own.into_inner());
                }
                agent.handle_batch(&mut batch);
            });
            match called {
                Ok(()) => batch.settle_current(),
                Err(what) => batch.fail(Failure { explanation: what.into(), panicked: true }),
            }
            if batch.failed_again {
                cause = RestartCause::SameMessage;
            }
            if batch.timed {
                batch.end_call();
            }
            let taken = batch.taken;
            let (leaves, failure) = (batch.leaves, batch.failure.take());
            handled += taken;
            if failure.is_some() || leaves {
                self.finish_call(index, visit);
                self.after_call(index, id, agent, leaves, failure.map(|failure| (failure, cause)));
                break;
            }
            let Some(slot) = self.agents.get_mut(index) else { break };
            let has_mail = slot.mailbox.has_mail();
            if taken == 0 || handled >= quota || !has_mail || !slot.may_be_called() {
                slot.behaviour = Behaviour::Native(agent);
                // Most agents have nothing left, neither mail nor a message in progress.
                let is_done = handled > 0 && !has_mail && slot.cold.is_none();
                self.finish_call(index, visit);
                if is_done {
                    return handled;
                }
                break;
            }
        }
        if handled > 0 {
            self.schedule(index);
        } else if self.agents.has_mail(index) {
            // It took nothing: it is called again when more arrives, or after a while, but not in a loop.
            self.arm_sweep(index);
        }
        handled
    }

    /// Puts the agent back, or handles its failure.
    fn after_call(
        &mut self,
        index: AgentIndex,
        id: AgentId,
        mut agent: Box<dyn Agent>,
        leaves: bool,
        failure: Option<(Failure, RestartCause)>,
    ) {
        let cause = failure.as_ref().map_or(RestartCause::Failure, |(_, cause)| *cause);
        let supervision = match failure.map(|(failure, _)| failure) {
            None => Supervision::Resume,
            Some(failure) if failure.panicked => {
                let what = failure.explanation.into_owned();
                self.outputs.report_exception(|| Event::AgentPanicked { agent: id, what });
                Supervision::Restart
            }
            Some(failure) => {
                // An agent that cannot decide about its failure is restarted.
                match catch_panic(|| agent.supervise(&failure)) {
                    Ok(supervision) => supervision,
                    Err(what) => {
                        self.outputs.report_exception(|| Event::AgentPanicked { agent: id, what });
                        Supervision::Restart
                    }
                }
            }
        };
        match supervision {
            Supervision::Resume => self.come_back(index, agent, leaves),
            Supervision::Restart => {
                drop_quietly(agent);
                if leaves {
                    self.deregister(index);
                } else {
                    self.restart(index, cause);
                }
            }
            Supervision::Stop => {
                self.come_back(index, agent, false);
                self.remove_agent(index, StopReason::Verdict);
            }
        }
    }

    /// Resumes the message whose handler was suspended.
    fn resume(&mut self, key: AgentKey, id: AgentId, mut agent: Box<dyn Agent>) -> u32 {
        let index = key.index;
        let Some(in_hand) = self.agents.get_mut(index).and_then(|slot| slot.cold().in_hand.take()) else {
            self.come_back(index, agent, false);
            return 0;
        };
        debug_assert!(self.effects.is_empty(), "nobody else is being called");
        let Suspended { envelope, effects } = in_hand;
        self.effects.put_back(effects);
        self.begin_durable(&envelope);
        if envelope.flags.is(TRACED) {
            self.outputs.recorder.begin_handling(&envelope.message);
        }
        if envelope.kind() == EnvelopeKind::Message {
            self.held.count_outside(-1);
        }
        let free = self.agents.get(index).is_some_and(|slot| slot.gate == BreakerGate::Closed);
        let visit = self.begin_call(index, free);
        let began_ns = if visit.timed { self.time_call(index, None) } else { None };
        let mut context = Context { shard: self, agent: index, id };
        let called = catch_panic(|| agent.resume(&envelope.message, &mut context));
        let outcome =
            called.unwrap_or_else(|what| Outcome::Failed(Failure { explanation: what.into(), panicked: true }));
        let mut leaves = false;
        let mut failure = None;
        match outcome {
            Outcome::Done => {
                leaves = self.commit_effects(index, id);
                self.settle_done(key, &envelope);
            }
            Outcome::Failed(failed) => {
                self.discard_effects();
                let cause = if envelope.attempts > 1 { RestartCause::SameMessage } else { RestartCause::Failure };
                self.settle_failed(key, envelope, &failed);
                failure = Some((failed, cause));
            }
            Outcome::Suspended => self.put_in_hand(index, envelope),
        }
        if visit.timed && failure.is_none() {
            self.time_call(index, began_ns);
        }
        self.finish_call(index, visit);
        self.after_call(index, id, agent, leaves, failure);
        self.schedule(index);
        1
    }

    fn put_in_hand(&mut self, index: AgentIndex, envelope: Envelope) {
        self.journal.end_handling();
        self.outputs.recorder.end_handling();
        if self.phase == ShardPhase::Stopped && envelope.kind() == EnvelopeKind::Notice {
            // Its effects are discarded: there is no later turn in which to resume.
            return self.discard_effects();
        }
        if envelope.kind() == EnvelopeKind::Message {
            self.held.count_outside(1);
        }
        let effects = self.effects.take();
        if let Some(slot) = self.agents.get_mut(index) {
            slot.cold().in_hand = Some(Suspended { envelope, effects });
            // It resumes in the next turn, with or without mail; messages behind it may expire meanwhile.
            slot.queued = true;
            self.scheduler.push_next_turn(index);
            self.arm_sweep(index);
        }
    }

    /// Calls an agent's poll. Returns whether it wants to be polled again, and whether it did something.
    pub(in crate::shard) fn poll_agent(&mut self, key: AgentKey) -> (bool, bool) {
        let index = key.index;
        let Some(slot) = self.agents.resolve_mut(key) else { return (false, false) };
        if slot.is_halted() {
            // It is put back among the polled agents when it is resumed: until then the shard may sleep.
            return (false, false);
        }
        if !slot.outbox.is_empty() || slot.has_in_hand() {
            return (true, false);
        }
        let id = slot.id;
        let behaviour = std::mem::replace(&mut slot.behaviour, Behaviour::Running);
        let Behaviour::Native(mut agent) = behaviour else {
            slot.behaviour = behaviour;
            return (false, false);
        };
        self.agents.calling.begin(index);
        let mut context = Context { shard: self, agent: index, id };
        let called = catch_panic(|| agent.poll(&mut context));
        let (polled, leaves, failure) = match called {
            Ok(polled) => (polled, self.commit_effects(index, id), None),
            Err(what) => {
                self.discard_effects();
                let failure = Failure { explanation: what.into(), panicked: true };
                (Polled::Finished, false, Some((failure, RestartCause::Failure)))
            }
        };
        // Something that arrived for it meanwhile, such as the reply to its request, justifies another poll.
        let has_more = polled == Polled::Finished && self.inquiries.has_something_for(id);
        let goes_on = !leaves && (polled != Polled::Finished || has_more);
        if let Some(slot) = self.agents.get_mut(index) {
            slot.polled = goes_on;
        }
        self.after_call(index, id, agent, leaves, failure);
        self.schedule(index);
        (goes_on, polled == Polled::Worked || has_more)
    }

    /// Hands waiting messages to an inbox, as many as it has room for.
    fn hand_out(&mut self, key: AgentKey) -> u32 {
        let index = key.index;
        let mut handed_out = 0;
        while let Some(slot) = self.agents.get_mut(index) {
            let Behaviour::InboxState(outside) = &mut slot.behaviour else { break };
            if outside.room == 0 {
                break;
            }
            let inbox = outside.inbox;
            let Some(mut envelope) = self.pop_live_mail(index) else { break };
            let Some(slot) = self.agents.get_mut(index) else { break };
            let Behaviour::InboxState(outside) = &mut slot.behaviour else { break };
            outside.room -= 1;
            if envelope.kind() == EnvelopeKind::Message {
                outside.handed_out += 1;
                if envelope.message.receipt() == Receipt::Processed && !outside.is_proxy {
                    let number = outside.taken + u64::from(outside.handed_out);
                    outside.receipts.push_back((number, envelope.message.clone()));
                }
                if let Some(record) = self.journal.record_of(envelope.journal()) {
                    let number = outside.taken + u64::from(outside.handed_out);
                    outside.journalled.push_back((number, record));
                    self.journal.count_hand_out(record, envelope.attempts);
                }
                self.held.count_outside(1);
                self.release(Reservation::in_mailbox(key, &envelope));
                if envelope.is_watched() {
                    self.hand_out_watched(&mut envelope);
                }
            }
            self.outputs.deliver(inbox, envelope.message);
            handed_out += 1;
        }
        self.schedule(index);
        handed_out
    }

    /// Takes the next message for an agent that is being called, unless a message it sent has to wait.
    #[inline(always)]
    fn pop_for_call(&mut self, index: AgentIndex) -> Option<Envelope> {
        loop {
            let slot = self.agents.get_mut(index)?;
            if !slot.outbox.is_empty() || slot.is_halted() {
                return None;
            }
            let envelope = slot.mailbox.pop(&mut self.held)?;
            if envelope.deadline_ms > self.outputs.recorder.due_ms() {
                return Some(envelope);
            }
            let reservation = Reservation::in_mailbox(slot.key(index), &envelope);
            if envelope.deadline_ms > self.clock.now_ms() {
                return Some(self.keep_if_slow(envelope));
            }
            self.expire(envelope, Stage::Mailbox, reservation);
        }
    }

    /// Takes the next message that has not expired.
    fn pop_live_mail(&mut self, index: AgentIndex) -> Option<Envelope> {
        loop {
            let envelope = self.pop_mail(index)?;
            if envelope.deadline_ms > self.clock.now_ms() {
                return Some(envelope);
            }
            let reservation = self.agents.reservation(index, &envelope);
            self.expire(envelope, Stage::Mailbox, reservation);
        }
    }

    /// Prepares a call with a message that is traced or journalled.
    #[cold]
    fn begin_uncommon(&mut self, envelope: Envelope, index: AgentIndex) -> Envelope {
        let envelope = self.keep_if_slow(envelope);
        if !envelope.journal().is_not() {
            self.begin_durable(&envelope);
        }
        if envelope.flags.is(TRACED) {
            self.begin_traced(&envelope, index);
        }
        envelope
    }

    /// Settles what is uncommon about a handled message. Returns whether the message counts as processed.
    #[cold]
    fn end_uncommon(&mut self, envelope: &Envelope) -> bool {
        if envelope.flags.is(TRACED) {
            self.end_traced(envelope);
        }
        if envelope.kind() == EnvelopeKind::Notice {
            return false;
        }
        if envelope.journal().is_in_record() {
            self.settle_durable(envelope.journal());
        }
        true
    }

    #[inline(always)]
    fn settle_done(&mut self, agent: AgentKey, envelope: &Envelope) {
        const UNCOMMON: DeliveryFlags = DeliveryFlags::NOTICE.or(TRACED).or(DeliveryFlags::JOURNALLED);
        if envelope.flags.is(UNCOMMON) && !self.end_uncommon(envelope) {
            return;
        }
        if !planted::strikes(Bug::ProcessedNotCounted, 100, self.ledger.account().processed) {
            self.ledger.process(1);
        }
        let reservation = Reservation::in_mailbox(agent, envelope);
        if envelope.message.receipt() == Receipt::Processed {
            self.send_receipt(&envelope.message, Receipt::Processed, reservation);
        } else {
            self.release(reservation);
        }
    }

    /// Installs an embedder's handler for failed attempts.
    pub fn set_failure_handler(&mut self, handler: Box<dyn FailureHandler>) {
        self.supervision.set_failure_handler(handler);
    }

    /// Returns the maximum number of attempts for a message, from its own settings or the router's.
    pub(in crate::shard) fn attempts_max(&self, message: &Message) -> u8 {
        message.attempts_max().map_or(self.config.retry.retries.saturating_add(1), NonZeroU8::get)
    }

    /// Decides about a message after a failed attempt, with the reason if it is abandoned.
    fn decide(&mut self, envelope: &Envelope, receiver: AgentId, failure: &Failure) -> (Decision, DeadLetterReason) {
        let lifetime_ms = match envelope.message.time_to_live_ms() {
            0 => self.config.message_timeout.into_inner(),
            own => own,
        };
        let remaining_ms = envelope.deadline_ms.saturating_sub(self.clock.now_ms());
        let attempt = FailedAttempt {
            cause: if failure.panicked { FailureCause::Panicked } else { FailureCause::Failed },
            attempt: envelope.attempts,
            attempts_max: self.attempts_max(&envelope.message),
            age_ms: u64::from(lifetime_ms).saturating_sub(remaining_ms),
            remaining_ms,
            receiver,
            explanation: &failure.explanation,
            message: &envelope.message,
            policy: self.config.retry,
            random: self.rng.next(),
        };
        let reason =
            if attempt.may_retry() { DeadLetterReason::NotRetried } else { DeadLetterReason::AttemptsExhausted };
        let (decision, panicked) = self.supervision.decide(&attempt);
        if let Some(what) = panicked {
            self.outputs.report_exception(|| Event::FailureHandlerPanicked { what });
        }
        (decision, reason)
    }

    /// Retries the message later or abandons it, as the failure handler decides.
    #[cold]
    fn settle_failed(&mut self, key: AgentKey, mut envelope: Envelope, failure: &Failure) {
        let index = key.index;
        self.journal.end_handling();
        self.outputs.recorder.end_handling();
        self.keep_watching(&mut envelope);
        if envelope.kind() == EnvelopeKind::Notice {
            return;
        }
        let Some(id) = self.agents.get(index).map(|slot| slot.id) else { return };
        let reservation = Reservation::in_mailbox(key, &envelope);
        match self.decide(&envelope, id, failure) {
            (Decision::RetryAfter(delay_ms), _) => {
                // A message whose lifetime ends first is examined then, and expires.
                let delay_ms = delay_ms.min(envelope.deadline_ms.saturating_sub(self.clock.now_ms())).max(1);
                self.ledger.retry();
                if envelope.is_watched() {
                    self.record_stage(&envelope, StageEvent::Retried);
                }
                self.keep_attempts(&envelope);
                self.put_into_mailbox_later(envelope, index, delay_ms);
            }
            (Decision::DeadLetter, reason) => {
                self.dead_letter_with(envelope, reason, &failure.explanation, reservation);
            }
            (Decision::ReplyWithFailure, reason) => {
                let journal = envelope.journal();
                if self.count_out(envelope, reason, &failure.explanation, reservation).is_some() && !journal.is_not() {
                    self.end_without_letter(journal, Ending::DeadLettered(reason));
                }
            }
        }
        self.count_failure(index);
    }

    /// Calls the agents that have mail, each for at most its quota before others get their turn, until there are none
    /// or the turn's limit is reached.
    pub(in crate::shard) fn run_agents(&mut self) -> u32 {
        let mut handled = 0;
        while handled < DISPATCHES_PER_TURN_MAX {
            let Some(agent) = self.scheduler.pop() else { break };
            handled += self.dispatch(agent).max(1);
        }
        self.scheduler.end_turn();
        handled
    }

    pub(in crate::shard) fn poll_agents(&mut self) -> bool {
        if !self.scheduler.polls() {
            return false;
        }
        let mut polled = self.scheduler.take_polled();
        if self.phase == ShardPhase::Stopped {
            return false;
        }
        let mut worked = false;
        polled.retain(|agent| {
            let (goes_on, did_something) = self.poll_agent(*agent);
            worked |= did_something;
            goes_on
        });
        self.scheduler.give_back(polled);
        worked
    }
}
