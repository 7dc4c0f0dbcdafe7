//! From the world into the shard: inputs become accepted messages or typed refusals.

use std::collections::VecDeque;

use crate::mailbox::held::ordinary_memory;
use crate::mailbox::{Envelope, EnvelopeKind, Reservation};
use crate::message::notice::is_notice;
use crate::message::{AgentId, Correlation, Message, MessageId, Receipt, Reliability};
use crate::outcome::DeadLetterReason;
use crate::replies::asks::PendingAsk;
use crate::routing::plugins::{PluginRefusal, RoutePlugin};
use crate::shard::agent::Effect;
use crate::shard::agent::registry::{AgentIndex, Behaviour};
use crate::shard::control::lifecycle::StopReason;
use crate::shard::io::{Answer, AskError, InboxNumber, Input, JournalCondition, SendError, SendErrorKind, Token};
use crate::shard::{Alarm, Shard, ShardPhase};
use crate::stats::unfinished::Place;

impl Shard {
    /// Does what an input asks, or gives it back when it has to wait for room.
    pub(in crate::shard) fn take_input(&mut self, input: Input) -> Option<Input> {
        match input {
            Input::Tell(message) => return self.take_tell(message),
            Input::TrySend(message, token) if self.closed_to(&message).is_some() => {
                if let Some(error) = self.closed_to(&message) {
                    let rejected = self.reject(error, message);
                    self.outputs.answer(token, Answer::Sent(Err(rejected)));
                }
            }
            Input::Send(mut message, token) if self.wait_queues.exist() && self.phase == ShardPhase::Running => {
                // Where it goes is decided before it waits there.
                match self.ask_plugins(&mut message) {
                    Ok(()) => {
                        if let Some(message) = self.ask_in_line(message, token) {
                            let admitted = self.admit_judged(message, Some(token), true);
                            self.answer_for(admitted, token);
                        }
                    }
                    Err(error) => self.answer_for(Err((error, message)), token),
                }
            }
            Input::Send(message, token) | Input::TrySend(message, token) => self.admit_and_answer(message, token),
            Input::Ask { message, timeout_ms, token } => self.ask(message, timeout_ms, token),
            Input::Register(registrations, token) => self.register_all(registrations, token),
            Input::Deregister(agent, token) => {
                let found = self.agents.find_own(agent);
                if let Some(index) = found {
                    self.deregister(index);
                }
                self.outputs.answer(token, Answer::Deregistered(found.is_some()));
            }
            Input::Suspend(agent, token) => {
                let changed = self.suspend_agent(agent);
                self.outputs.answer(token, Answer::Changed(changed));
            }
            Input::Resume(agent, token) => {
                let changed = self.resume_agent(agent);
                self.outputs.answer(token, Answer::Changed(changed));
            }
            Input::DrainAgent { agent, within_ms, token } => self.drain_agent(agent, within_ms, token),
            Input::Agent(agent, token) => {
                let view = self.view_agent(agent).map(Box::new);
                self.outputs.answer(token, Answer::Agent(view));
            }
            Input::Taken { agent, inbox, messages, notices } => self.taken(agent, inbox, messages, notices),
            Input::Acknowledged { agent, inbox, numbers } => self.acknowledged(agent, inbox, &numbers),
            Input::Closed(agent, inbox, messages) => self.close_inbox(agent, inbox, messages),
            Input::Returned(agent, inbox, messages) => self.take_back(agent, inbox, messages),
            Input::Discover(capability, token) => {
                let providers = self.capabilities.providers(capability).to_vec();
                self.outputs.answer(token, Answer::Providers(providers));
            }
            Input::Conversation(initiator, id, token) => {
                let view = self.conversations.view(initiator, id).map(Box::new);
                self.outputs.answer(token, Answer::Conversation(view));
            }
            Input::DeadLetters(search, limit, token) => self.list_dead_letters(&search, limit, token),
            Input::ReplayDeadLetters(search, to, token) => self.replay_dead_letters(&search, to, token),
            Input::PurgeDeadLetters(search, token) => self.purge_dead_letters(&search, token),
            Input::Inspect(token) => {
                self.ledger.set_pending(self.held.pending());
                self.outputs.answer(token, Answer::Snapshot(Box::new(self.snapshot())));
            }
            Input::Cancel(tokens) => self.cancel(tokens),
            Input::WatchEvents(watch) => self.outputs.watch_events(watch),
            Input::Committed(sequence) => self.journal.commit(sequence),
            Input::Journal(condition) => self.on_journal_condition(condition),
            Input::CarryForward(upto) => self.compact(upto),
            Input::ShowWaiting(upto) => self.journal.show_waiting(upto),
            Input::Drain => {
                if self.phase == ShardPhase::Running {
                    self.phase = ShardPhase::Draining;
                    self.leave_mail_of_absent();
                }
            }
            Input::Stop => self.stop(),
        }
        None
    }

    /// A volatile message is answered for at once, a durable one when it is on disk.
    fn admit_and_answer(&mut self, message: Message, token: Token) {
        let admitted = self.admit(message, Some(token));
        self.answer_for(admitted, token);
    }

    fn answer_for(&mut self, admitted: Result<Option<MessageId>, (SendErrorKind, Message)>, token: Token) {
        match admitted {
            Ok(Some(id)) => self.outputs.answer(token, Answer::Sent(Ok(id))),
            Ok(None) => {}
            Err((error, message)) => {
                let rejected = self.reject(error, message);
                self.outputs.answer(token, Answer::Sent(Err(rejected)));
            }
        }
    }

    /// Nobody waits for the answer to a tell, so one that finds its sender's outbox full waits in the channel.
    fn take_tell(&mut self, message: Message) -> Option<Input> {
        match self.admit(message, None) {
            Ok(_) => None,
            // One that would never fit is not waited for.
            Err((SendErrorKind::MemoryFull { limit }, message))
                if message.weight() as u64 <= ordinary_memory(limit) =>
            {
                Some(Input::Tell(message))
            }
            Err((SendErrorKind::Full, message)) => Some(Input::Tell(message)),
            // What comes behind it does not wait for ever because the disk is full.
            Err((SendErrorKind::JournalFull, message)) if !self.is_journal_given_up() => Some(Input::Tell(message)),
            Err((error, mut message)) => {
                // The caller was told that it is queued, so it is not refused silently: it becomes a dead letter.
                self.assign_id(&mut message);
                self.ledger.accept(1);
                let envelope = Envelope::new(message, 0, EnvelopeKind::Message);
                if self.phase == ShardPhase::Stopped {
                    self.ledger.count_unfinished(Place::Queued, 1);
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
    /// There are [`PLUGINS_MAX`](crate::api::PLUGINS_MAX) already; the plugin comes back.
    pub fn add_plugin(&mut self, plugin: Box<dyn RoutePlugin>) -> Result<(), Box<dyn RoutePlugin>> {
        self.plugins.add(plugin)
    }

    /// Has every plugin judge a message that is about to be accepted. One that cannot be held to the protocol that it names
    /// is counted.
    #[cold]
    pub(in crate::shard) fn ask_plugins(&mut self, message: &mut Message) -> Result<(), SendErrorKind> {
        self.conversations.count_unchecked(message);
        let judged = self.plugins.judge(message);
        judged.map_err(|PluginRefusal { plugin, reason }| SendErrorKind::RefusedByPlugin { plugin, reason })
    }

    /// Takes over a message from outside, in the name of its sender or, if it names none, of the shard's gateway. Nothing is
    /// answered for a durable message: whoever asked with this token hears of it when it is on disk.
    fn admit(&mut self, message: Message, token: Option<Token>) -> Result<Option<MessageId>, (SendErrorKind, Message)> {
        let judged = !self.plugins.have_to_judge(&message);
        self.admit_judged(message, token, judged)
    }

    /// As [`Shard::admit`]; plugins are asked unless they have judged the message before. They see only what would be accepted.
    fn admit_judged(
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
        if self.wait_queues.exist() && message.target().is_some_and(|target| self.waits_too_much(&message, target)) {
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

    /// Takes over a message from a handler: it waits among the handler's effects until the handler is done.
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
        // Those that have ids of their own count as well: it does not matter for the others where the handler was suspended.
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

    /// What forbids this agent to send this message now.
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

    /// What forbids durable messages now.
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

    /// What forbids this agent to ask for another answer by a moment. What its handler has sent before may ask as well.
    #[cold]
    fn reply_refusal(&self, agent: AgentIndex, message: &Message) -> Option<SendErrorKind> {
        let asker = self.agents.get(agent).filter(|_| agent != self.agents.gateway())?.id;
        let limit = self.pending_replies.bound(asker, message, self.effects.len())?;
        Some(SendErrorKind::TooManyQuestions { limit })
    }

    #[cold]
    pub(in crate::shard) fn reject(&mut self, error: SendErrorKind, message: Message) -> SendError {
        self.ledger.refuse(1);
        match error {
            SendErrorKind::MemoryFull { .. } => self.ledger.refuse_for_memory(),
            SendErrorKind::ReceiverFull { .. } => self.ledger.refuse_for_receiver(),
            _ => {}
        }
        SendError::new(error, message)
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
    pub(in crate::shard) fn enclose(&self, sender: AgentIndex, message: Message) -> Envelope {
        let deadline_ms = self.deadline_of(&message);
        let mut envelope = Envelope::new(message, deadline_ms, EnvelopeKind::Message);
        envelope.sender_place = sender.0;
        envelope
    }

    /// A lifetime counts from now or, for a message that is to be delivered later, from then.
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

    /// The moment from which the message's lifetime counts, in milliseconds of monotonic time: what [`Self::deadline_of`]
    /// began with. Nothing if it was not admitted.
    pub(in crate::shard) fn lifetime_began(&self, message: &Message) -> Option<u64> {
        match message.delivery_meta().deadline_ms {
            0 => None,
            deadline_ms => Some(deadline_ms.saturating_sub(self.lifetime_of(message))),
        }
    }

    /// How long the message must not be delivered yet, in milliseconds.
    #[inline]
    pub(in crate::shard) fn delay_of(&self, message: &Message) -> u64 {
        match message.details().and_then(|details| details.deliver_at) {
            Some(moment) => self.clock.until(moment),
            None => 0,
        }
    }

    fn ask(&mut self, mut message: Message, timeout_ms: u64, token: Token) {
        if self.asks.is_full() {
            let rejected = self.reject(SendErrorKind::Full, message);
            return self.outputs.answer(token, Answer::Replied(Err(AskError::Rejected(rejected))));
        }
        let correlation = match message.reply_with() {
            // A value of the caller's own is kept, unless somebody is waiting for the same one.
            Some(correlation) if !self.asks.contains(correlation) => correlation,
            _ => {
                // Nor is one given out that a caller of now chose; the next counts are free.
                let mut correlation = self.ids.correlation();
                while self.asks.contains(correlation) {
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
        self.asks.insert(correlation, PendingAsk { token, timer });
        if let Err((error, message)) = self.admit(message, None) {
            let rejected = self.reject(error, message);
            self.end_ask(correlation, Err(AskError::Rejected(rejected)));
        }
    }

    /// Answers a question from outside. Says whether somebody was waiting.
    pub(in crate::shard) fn end_ask(&mut self, correlation: Correlation, reply: Result<Message, AskError>) -> bool {
        let Some(token) = self.forget_ask(correlation) else { return false };
        self.outputs.answer(token, Answer::Replied(reply));
        true
    }

    fn forget_ask(&mut self, correlation: Correlation) -> Option<Token> {
        let PendingAsk { token, timer } = self.asks.remove(correlation)?;
        if let Some(timer) = timer {
            self.timers.cancel(timer);
        }
        Some(token)
    }

    /// Gives up what callers waited for that have gone.
    #[cold]
    fn cancel(&mut self, mut tokens: Vec<Token>) {
        tokens.retain(|token| match self.asks.find(*token) {
            Some(correlation) => self.forget_ask(correlation).is_none(),
            None => true,
        });
        if self.wait_queues.has_asked() && !tokens.is_empty() {
            self.leave_lines(&tokens);
        }
    }

    pub(in crate::shard) fn give_up_asking(&mut self, correlation: Correlation) {
        self.end_ask(correlation, Err(AskError::TimedOut));
    }

    fn taken(&mut self, agent: AgentId, inbox: InboxNumber, messages: u32, notices: u32) {
        let Some(index) = self.agents.find(agent) else { return };
        let Some(slot) = self.agents.get_mut(index) else { return };
        let Behaviour::InboxState(outside) = &mut slot.behaviour else { return };
        if outside.inbox != inbox {
            return;
        }
        let messages = messages.min(outside.handed_out);
        outside.handed_out -= messages;
        outside.taken += u64::from(messages);
        outside.room = outside.room.saturating_add(messages).saturating_add(notices).min(outside.window);
        self.ledger.process(u64::from(messages));
        self.held.count_outside(-i64::from(messages));
        self.settle_taken(index);
        self.send_receipts_of_inbox(index);
        self.schedule(index);
    }

    /// The owner of an inbox is done with messages, whichever they are of those that it has.
    fn acknowledged(&mut self, agent: AgentId, inbox: InboxNumber, numbers: &[u64]) {
        let Some(index) = self.agents.find(agent) else { return };
        for number in numbers {
            let Some(slot) = self.agents.get_mut(index) else { return };
            let Behaviour::InboxState(outside) = &mut slot.behaviour else { return };
            if outside.inbox != inbox || outside.handed_out == 0 {
                return;
            }
            outside.by_number = true;
            outside.handed_out -= 1;
            outside.taken += 1;
            outside.room = outside.room.saturating_add(1).min(outside.window);
            let record = take_numbered(&mut outside.journalled, *number);
            let receipt = take_numbered(&mut outside.receipts, *number);
            self.ledger.process(1);
            self.held.count_outside(-1);
            if let Some(sequence) = record {
                self.journal.release(sequence);
            }
            if let Some(message) = receipt {
                self.send_receipt(&message, Receipt::Processed, Reservation::Nothing);
            }
        }
        self.schedule(index);
    }

    /// Tells the senders of what was taken out of an inbox that it was processed, where they wanted to hear that.
    fn send_receipts_of_inbox(&mut self, index: AgentIndex) {
        loop {
            let Some(slot) = self.agents.get_mut(index) else { return };
            let Behaviour::InboxState(outside) = &mut slot.behaviour else { return };
            let taken = outside.taken;
            if outside.by_number || outside.receipts.front().is_none_or(|(number, _)| *number > taken) {
                return;
            }
            let Some((_, message)) = outside.receipts.pop_front() else { return };
            self.send_receipt(&message, Receipt::Processed, Reservation::Nothing);
        }
    }

    /// The owner of an inbox dropped it: what it had not taken is given up, and the agent goes.
    fn close_inbox(&mut self, agent: AgentId, inbox: InboxNumber, messages: Vec<Message>) {
        if let Some(index) = self.empty_inbox(agent, inbox, messages) {
            self.remove_agent(index, StopReason::InboxClosed);
        }
    }

    /// An inbox gave back what its owner had not taken. There is room in it again, for what the router has to say.
    fn take_back(&mut self, agent: AgentId, inbox: InboxNumber, messages: Vec<Message>) {
        if let Some(index) = self.empty_inbox(agent, inbox, messages) {
            self.schedule(index);
        }
    }

    /// Gives up what comes back out of an inbox. Returns whose inbox it is, if it still is.
    fn empty_inbox(&mut self, agent: AgentId, inbox: InboxNumber, mut messages: Vec<Message>) -> Option<AgentIndex> {
        messages.retain(|message| !is_notice(message));
        let index = self.agents.find(agent)?;
        let slot = self.agents.get_mut(index)?;
        let Behaviour::InboxState(outside) = &mut slot.behaviour else { return None };
        if outside.inbox != inbox {
            return None;
        }
        // Whatever is neither given back nor reported was taken.
        let given_back = u32::try_from(messages.len()).unwrap_or(u32::MAX).min(outside.handed_out);
        let taken = outside.handed_out - given_back;
        outside.room = outside.room.saturating_add(outside.handed_out).min(outside.window);
        outside.handed_out = 0;
        outside.taken += u64::from(taken);
        self.ledger.process(u64::from(taken));
        self.held.count_outside(-i64::from(taken) - i64::from(given_back));
        let reason = if self.phase == ShardPhase::Stopped {
            self.ledger.count_unfinished(Place::Inbox, u64::from(given_back));
            DeadLetterReason::Stopped
        } else {
            DeadLetterReason::Deregistered
        };
        self.settle_taken(index);
        for message in messages.into_iter().take(given_back as usize) {
            self.dead_letter(Envelope::again(message), reason, Reservation::Nothing);
        }
        self.send_receipts_of_inbox(index);
        Some(index)
    }

    /// Gives up everything that is pending.
    fn stop(&mut self) {
        if self.phase == ShardPhase::Stopped {
            return;
        }
        self.phase = ShardPhase::Stopped;
        self.stop_drains();
        self.begin_unfinished();
        let before = self.ledger.stopped();
        // Draining has left the mail of absent agents to the next start.
        let left_before = self.unfinished().total();
        let in_hand = self.messages_in_hand();
        let agents: Vec<AgentIndex> = self.agents.iter().map(|(index, _)| index).collect();
        for agent in agents {
            self.empty(agent, DeadLetterReason::Stopped);
        }
        self.ledger.count_unfinished(Place::Suspended, in_hand);
        self.ledger.count_unfinished(Place::Mailbox, self.ledger.stopped() - before - in_hand);
        let in_line = self.stop_lines();
        self.drop_pending_replies();
        self.stop_what_travels(&in_line);
        for correlation in self.asks.all() {
            self.end_ask(correlation, Err(AskError::Stopped));
        }
        self.stop_barriers();
        self.stop_replays();
        self.stop_inquiries();
        debug_assert_eq!(
            self.unfinished().total() - left_before,
            self.ledger.stopped() - before,
            "what is given up is counted where it stood"
        );
    }
}

/// Takes out what has this number, where numbers grow from front to back.
fn take_numbered<T>(queue: &mut VecDeque<(u64, T)>, number: u64) -> Option<T> {
    let place = queue.binary_search_by_key(&number, |(number, _)| *number).ok()?;
    queue.remove(place).map(|(_, item)| item)
}
