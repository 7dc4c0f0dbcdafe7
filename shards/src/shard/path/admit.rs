//! Admission: inputs become accepted messages or typed refusals.

use crate::mailbox::held::ordinary_memory;
use crate::mailbox::{Envelope, EnvelopeKind, Reservation};
use crate::message::{AgentId, Message, MessageId, Reliability};
use crate::outcome::DeadLetterReason;
use crate::outcome::Stage;
use crate::replies::asks::PendingAsk;
use crate::routing::plugins::{PluginRefusal, RoutePlugin};
use crate::shard::agent::Effect;
use crate::shard::agent::registry::AgentIndex;
use crate::shard::io::{Answer, AskError, Awaited, Input, JournalCondition, SendError, SendErrorKind, Token};
use crate::shard::{Alarm, Shard, ShardPhase};

impl Shard {
    /// Admits a message and replies: at once for a volatile message, after the commit for a durable one.
    pub(in crate::shard) fn admit_and_answer(&mut self, message: Message, token: Token) {
        let admitted = self.admit(message, Some(token));
        self.answer_for(admitted, token);
    }

    /// Replies to the caller of an admission, unless it gets its reply after the commit.
    pub(in crate::shard) fn answer_for(
        &mut self,
        admitted: Result<Option<MessageId>, (SendErrorKind, Message)>,
        token: Token,
    ) {
        match admitted {
            Ok(Some(id)) => self.outputs.answer(token, Answer::Sent(Ok(id))),
            Ok(None) => {}
            Err((error, message)) => {
                let rejected = self.reject(error, message);
                self.outputs.answer(token, Answer::Sent(Err(rejected)));
            }
        }
    }

    /// A tell has no reply, so one that finds its sender's outbox full waits in the channel.
    pub(in crate::shard) fn take_tell(&mut self, message: Message) -> Option<Input> {
        match self.admit(message, None) {
            Ok(_) => None,
            // One that would never fit does not wait.
            Err((SendErrorKind::MemoryFull { limit }, message))
                if message.weight() as u64 <= ordinary_memory(limit) =>
            {
                Some(Input::Tell(message))
            }
            Err((SendErrorKind::Full, message)) => Some(Input::Tell(message)),
            // Inputs behind it must not wait indefinitely because the disk is full.
            Err((SendErrorKind::JournalFull, message)) if !self.is_journal_given_up() => Some(Input::Tell(message)),
            Err((error, mut message)) => {
                // The caller was told that it is queued, so it is not refused silently: it is dead-lettered.
                self.assign_id(&mut message);
                self.ledger.accept(1);
                let envelope = Envelope::new(message, 0, EnvelopeKind::Message);
                if self.phase == ShardPhase::Stopped {
                    self.ledger.count_unfinished(Stage::Queued, 1);
                    self.dead_letter(envelope, DeadLetterReason::Stopped, Reservation::Nothing);
                } else {
                    self.dead_letter_with(
                        envelope,
                        DeadLetterReason::NotAdmitted,
                        &error.to_string(),
                        Reservation::Nothing,
                    );
                }
                None
            }
        }
    }

    /// Adds a routing plugin behind the others.
    ///
    /// # Errors
    ///
    /// Returns the plugin if there are already [`PLUGINS_MAX`](crate::api::PLUGINS_MAX).
    pub fn add_plugin(&mut self, plugin: Box<dyn RoutePlugin>) -> Result<(), Box<dyn RoutePlugin>> {
        self.plugins.add(plugin)
    }

    /// Asks every plugin about a message that is about to be accepted. One that cannot be checked against the protocol
    /// it names is counted.
    #[cold]
    pub(in crate::shard) fn ask_plugins(&mut self, message: &mut Message) -> Result<(), SendErrorKind> {
        self.conversations.count_unchecked(message);
        let judged = self.plugins.judge(message);
        judged.map_err(|PluginRefusal { plugin, reason }| SendErrorKind::RefusedByPlugin { plugin, reason })
    }

    /// Accepts a message from outside on behalf of its sender or, if it names none, of the shard's gateway. Sends no
    /// reply for a durable message: the caller with this token gets it after the commit.
    fn admit(&mut self, message: Message, token: Option<Token>) -> Result<Option<MessageId>, (SendErrorKind, Message)> {
        let judged = !self.plugins.have_to_judge(&message);
        self.admit_judged(message, token, judged)
    }

    /// Like [`Shard::admit`], but does not ask plugins that have judged the message before. They see only messages that
    /// would be accepted.
    pub(in crate::shard) fn admit_judged(
        &mut self,
        mut message: Message,
        token: Option<Token>,
        judged: bool,
    ) -> Result<Option<MessageId>, (SendErrorKind, Message)> {
        let agent = match message.sender() {
            None => {
                if let Some(gateway) = self.agents.gateway_id() {
                    message.set_sender(gateway);
                }
                Some(self.agents.gateway())
            }
            Some(sender) => self.agents.find(sender),
        };
        let refusal = (self.phase != ShardPhase::Running).then_some(SendErrorKind::Stopping);
        let Some(agent) = agent else { return Err((refusal.unwrap_or(SendErrorKind::UnknownSender), message)) };
        if let Some(error) = refusal.or_else(|| self.refusal(agent, &message)) {
            return Err((error, message));
        }
        if !judged && let Err(error) = self.ask_plugins(&mut message) {
            return Err((error, message));
        }
        if self.flow_control.queues.exist()
            && message.target().is_some_and(|target| self.waits_too_much(&message, target))
        {
            return Err((SendErrorKind::Full, message));
        }
        let mut message = message.at_home();
        let id = self.assign_id(&mut message);
        let mut envelope = self.enclose(agent, message);
        let mut answered_later = false;
        if let Some(token) = token
            && envelope.message.reliability() == Reliability::Durable
        {
            answered_later = self.promise_answer(&mut envelope, token);
        }
        self.submit(agent, envelope);
        Ok((!answered_later).then_some(id))
    }

    /// Accepts a message from a handler: it waits among the handler's effects until the handler is done.
    #[inline]
    pub(in crate::shard) fn take_from_handler(
        &mut self,
        agent: AgentIndex,
        id: AgentId,
        mut message: Message,
    ) -> Result<MessageId, SendError> {
        match message.sender() {
            None => message.set_sender(id),
            Some(sender) if sender == id => {}
            Some(_) => return Err(self.reject(SendErrorKind::ForeignSender, message)),
        }
        if let Some(error) = self.refusal(agent, &message) {
            return Err(self.reject(error, message));
        }
        if let Some(error) = self.refusal_for_effects(&message) {
            return Err(self.reject(error, message));
        }
        if self.plugins.have_to_judge(&message)
            && let Err(error) = self.ask_plugins(&mut message)
        {
            return Err(self.reject(error, message));
        }
        // Messages with their own ids count as well, so that the other ids do not depend on where the handler was
        // suspended.
        if message.reliability() == Reliability::Durable
            && let Some(id) = self.journal.derive_id()
            && message.id().is_none()
        {
            message.set_id(id);
        }
        let message_id = self.assign_id(&mut message);
        let envelope = self.enclose(agent, message);
        self.effects.push(Effect::Send(envelope));
        Ok(message_id)
    }

    /// Returns the reason why this agent cannot send this message now.
    #[inline]
    pub(in crate::shard) fn refusal(&self, agent: AgentIndex, message: &Message) -> Option<SendErrorKind> {
        let limit = self.config.content_max.into_inner() as usize;
        let bytes = message.content().len();
        let waiting = self.agents.get(agent).map_or(0, |slot| slot.outbox_length as usize) + self.effects.len();
        if bytes > limit {
            Some(SendErrorKind::ContentTooLarge { bytes, limit })
        } else if waiting >= self.config.outbox.into_inner() as usize
            || self.held.len() + self.effects.len() >= self.config.pending_max
        {
            Some(SendErrorKind::Full)
        } else if !self.held.fits(bytes as u64)
            && let Some(error) = self.memory_refusal(message, 0)
        {
            Some(error)
        } else if message.reliability() == Reliability::Durable
            && let Some(error) = self.durability_refusal()
        {
            Some(error)
        } else if self.phase == ShardPhase::Stopped {
            Some(SendErrorKind::Stopping)
        } else if message.reply_by().is_some() {
            self.reply_refusal(agent, message)
        } else {
            None
        }
    }

    /// Returns the reason why durable messages are refused now.
    #[cold]
    fn durability_refusal(&self) -> Option<SendErrorKind> {
        match self.journal.condition() {
            JournalCondition::Unavailable => Some(SendErrorKind::DurabilityUnavailable),
            JournalCondition::Failed => Some(SendErrorKind::JournalFailed),
            JournalCondition::Full => Some(SendErrorKind::JournalFull),
            JournalCondition::Busy => Some(SendErrorKind::Full),
            JournalCondition::Ready => (!self.journal.has_room()).then_some(SendErrorKind::Full),
        }
    }

    /// Returns the reason why this agent cannot wait for another reply by a time. Messages its handler has sent before
    /// may need a slot as well.
    #[cold]
    fn reply_refusal(&self, agent: AgentIndex, message: &Message) -> Option<SendErrorKind> {
        let asker = self.agents.get(agent).filter(|_| agent != self.agents.gateway())?.id;
        let limit = self.replies.pending.bound(asker, message, self.effects.len())?;
        Some(SendErrorKind::TooManyQuestions { limit })
    }

    #[inline]
    pub(in crate::shard) fn assign_id(&mut self, message: &mut Message) -> MessageId {
        message.id().unwrap_or_else(|| {
            let id = self.ids.message();
            message.set_id(id);
            id
        })
    }

    #[inline]
    pub(in crate::shard) fn enclose(&mut self, sender: AgentIndex, message: Message) -> Envelope {
        let deadline_ms = self.deadline_of(&message);
        let mut envelope = Envelope::new(message, deadline_ms, EnvelopeKind::Message);
        envelope.sender_place = sender.0;
        if self.outputs.recorder.concerns(&envelope.message) { self.trace_admitted(envelope, sender) } else { envelope }
    }

    /// A lifetime counts from now, or from the delivery time of a delayed message.
    #[inline]
    pub(in crate::shard) fn deadline_of(&self, message: &Message) -> u64 {
        self.clock.now_ms().saturating_add(self.delay_of(message)).saturating_add(self.lifetime_of(message))
    }

    #[inline]
    fn lifetime_of(&self, message: &Message) -> u64 {
        match message.time_to_live_ms() {
            0 if message.reliability() == Reliability::Durable => u64::from(self.config.durable_lifetime_ms),
            0 => u64::from(self.config.message_timeout.into_inner()),
            own => u64::from(own),
        }
    }

    /// Returns when the message's lifetime began, in milliseconds of monotonic time: the start used by
    /// [`Self::deadline_of`]. None if it was not admitted.
    pub(in crate::shard) fn lifetime_began(&self, message: &Message) -> Option<u64> {
        match message.delivery_meta().deadline_ms {
            0 => None,
            deadline_ms => Some(deadline_ms.saturating_sub(self.lifetime_of(message))),
        }
    }

    /// Returns the delay until the message may be delivered, in milliseconds.
    #[inline]
    pub(in crate::shard) fn delay_of(&self, message: &Message) -> u64 {
        match message.details().and_then(|details| details.deliver_at) {
            Some(moment) => self.clock.until(moment),
            None => 0,
        }
    }

    /// Admits a message in the gateway's name and remembers the caller until the reply, the receipt or the timeout,
    /// whichever is first.
    pub(in crate::shard) fn ask(&mut self, mut message: Message, awaited: Awaited, timeout_ms: u64, token: Token) {
        if self.replies.asks.is_full() {
            let rejected = self.reject(SendErrorKind::Full, message);
            return self.outputs.answer(token, Answer::Replied(Err(AskError::Rejected(rejected))));
        }
        let correlation = match message.reply_with() {
            // The caller's own value is kept, unless another call waits for the same one.
            Some(correlation) if !self.replies.asks.contains(correlation) => correlation,
            _ => {
                // A value chosen by a current caller is not assigned either; the next counts are free.
                let mut correlation = self.ids.correlation();
                while self.replies.asks.contains(correlation) {
                    correlation = self.ids.correlation();
                }
                message.set_reply_with(correlation);
                correlation
            }
        };
        if let Some(gateway) = self.agents.gateway_id() {
            message.set_sender(gateway);
        }
        let wanted_ms = message.reply_by().map_or(u64::MAX, |moment| self.clock.until(moment));
        let wait_ms = timeout_ms.min(wanted_ms);
        let timer = self.timers.insert(self.clock.now_ms().saturating_add(wait_ms), Alarm::Ask(correlation)).ok();
        self.replies.asks.insert(correlation, PendingAsk { token, awaited, timer });
        if let Err((error, message)) = self.admit(message, None) {
            let rejected = self.reject(error, message);
            self.end_ask(correlation, Err(AskError::Rejected(rejected)));
        }
    }
}
