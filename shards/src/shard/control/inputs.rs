//! What embedders ask of the shard: each input goes to the stage that it is for.

use std::collections::VecDeque;

use crate::shard::INPUTS_PER_TURN_MAX;
use crate::shard::io::{Answer, Input, Token};
use crate::shard::{Shard, ShardPhase};

impl Shard {
    pub(in crate::shard) fn take_inputs(&mut self, inputs: &mut VecDeque<Input>) -> usize {
        let mut taken = 0;
        while taken < INPUTS_PER_TURN_MAX {
            let Some(input) = inputs.pop_front() else { break };
            if let Some(too_early) = self.take_input(input) {
                inputs.push_front(too_early);
                return taken + self.take_inputs_behind(inputs);
            }
            taken += 1;
        }
        taken
    }

    /// Takes inputs that need no room, in order, from behind one that waits for some.
    pub(in crate::shard) fn take_inputs_behind(&mut self, inputs: &mut VecDeque<Input>) -> usize {
        if inputs.iter().all(Input::needs_room) {
            return 0;
        }
        let mut taken = 0;
        for _ in 0..inputs.len() {
            let Some(input) = inputs.pop_front() else { break };
            if input.needs_room() {
                inputs.push_back(input);
            } else {
                self.take_input(input);
                taken += 1;
            }
        }
        taken
    }

    /// Executes an input, or returns it if it has to wait for room.
    pub(in crate::shard) fn take_input(&mut self, input: Input) -> Option<Input> {
        match input {
            Input::Tell(message) => return self.take_tell(message),
            Input::TrySend(message, token) if self.closed_to(&message).is_some() => {
                if let Some(error) = self.closed_to(&message) {
                    let rejected = self.reject(error, message);
                    self.outputs.answer(token, Answer::Sent(Err(rejected)));
                }
            }
            Input::Send(mut message, token)
                if self.flow_control.queues.exist() && self.phase == ShardPhase::Running =>
            {
                // Its route is decided before it waits there.
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
            Input::Ask { message, awaited, timeout_ms, token } => self.ask(message, awaited, timeout_ms, token),
            Input::Agents { filter, after, limit, token } => {
                let portion = self.list_agents(after, limit, &filter);
                self.outputs.answer(token, Answer::Agents(portion));
            }
            Input::Register(registrations, token) => self.register_all(registrations, token),
            Input::Discover(capability, token) => {
                let providers = self.capabilities.providers(capability).to_vec();
                self.outputs.answer(token, Answer::Providers(providers));
            }
            Input::Conversation(initiator, id, token) => {
                let view = self.conversations.view(initiator, id).map(Box::new);
                self.outputs.answer(token, Answer::Conversation(view));
            }
            Input::Conversations { filter, after, limit, token } => {
                let portion = self.conversations.list(after, limit, &filter);
                self.outputs.answer(token, Answer::Conversations(portion));
            }
            Input::DeadLetters(search, limit, token) => self.list_dead_letters(&search, limit, token),
            Input::ReplayDeadLetters(search, to, token) => self.replay_dead_letters(&search, to, token),
            Input::PurgeDeadLetters(search, token) => self.purge_dead_letters(&search, token),
            Input::SlowConsumers(limit, token) => self.find_slow_consumers(limit, token),
            Input::Reconfigure(live, token) => {
                self.reconfigure(*live);
                if let Some(token) = token {
                    self.outputs.answer(token, Answer::Reconfigured);
                }
            }
            Input::Inspect(token) => {
                self.ledger.set_pending(self.held.pending());
                self.outputs.answer(token, Answer::Snapshot(Box::new(self.snapshot())));
            }
            Input::Cancel(tokens) => self.cancel(tokens),
            Input::WatchEvents(detail) => self.outputs.watch_events(detail),
            Input::Committed(sequence) => self.journal.commit(sequence),
            Input::Journal(condition) => self.on_journal_condition(condition),
            Input::CarryForward(upto) => self.compact(upto),
            Input::ShowWaiting(upto) => self.journal.show_waiting(upto),
            Input::Drain => {
                if self.phase == ShardPhase::Running {
                    self.phase = ShardPhase::Draining;
                    self.leave_mail_of_absent();
                    self.give_up_all_wanted();
                }
            }
            Input::WantAbsent => self.want_absent(),
            Input::Stop => self.stop(),
            Input::AwaitRoom { agent, at_most, token } => self.await_room(agent, at_most, token),
            input @ (Input::Deregister(..)
            | Input::Suspend(..)
            | Input::Resume(..)
            | Input::DrainAgent { .. }
            | Input::Agent(..)
            | Input::Taken { .. }
            | Input::Acknowledged { .. }
            | Input::Rejected { .. }
            | Input::Closed(..)
            | Input::Returned(..)
            | Input::Notice(_)
            | Input::Unwanted { .. }) => self.take_input_for_agent(input),
        }
        None
    }

    /// Does what an input asks of one agent.
    fn take_input_for_agent(&mut self, input: Input) {
        match input {
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
            Input::Rejected { agent, inbox, messages } => self.rejected(agent, inbox, messages),
            Input::Closed(agent, inbox, messages) => self.close_inbox(agent, inbox, messages),
            Input::Returned(agent, inbox, messages) => self.take_back(agent, inbox, messages),
            Input::Notice(notice) => self.pass_notice(notice),
            Input::Unwanted { agent, why } => self.give_up_wanted(agent, &why),
            _ => debug_assert!(false, "what is asked of no one agent was done before"),
        }
    }

    /// Cancels what callers waited for that have gone away.
    #[cold]
    pub(in crate::shard) fn cancel(&mut self, mut tokens: Vec<Token>) {
        tokens.retain(|token| match self.replies.asks.find(*token) {
            Some(correlation) => self.forget_ask(correlation).is_none(),
            None => true,
        });
        if self.flow_control.queues.has_asked() && !tokens.is_empty() {
            self.leave_lines(&tokens);
        }
        if self.flow_control.room.exist() {
            self.flow_control.room.cancel(&tokens);
        }
    }
}
