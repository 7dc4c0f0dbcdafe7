//! Requests from a test to a simulated router, and their results.

use crate::conversation::ConversationView;
use crate::dead_letter::{DeadLetter, DeadLetterSearch};
use crate::message::{AgentId, ConversationId, Message, MessageId, Term};
use crate::shard::agent::Registration;
use crate::shard::control::lifecycle::{AgentState, AgentView, Drained, LifecycleError};
use crate::shard::io::{Answer, AskError, Event, Input, RegistrationError, SendError, Snapshot, Token};

use super::world::World;

impl World {
    /// Registers an agent and runs until every shard knows it.
    ///
    /// # Errors
    ///
    /// The registration was refused.
    ///
    /// # Panics
    ///
    /// If there is no response, because a shard is paused.
    pub fn try_register(&mut self, registration: Registration) -> Result<AgentId, RegistrationError> {
        let shard = self.shard_of(registration.id());
        let token = self.register_later(registration);
        self.run();
        let Some(Answer::Registered(mut results)) = self.take_answer(shard, token) else {
            panic!("the registration was not answered: is a shard paused?")
        };
        results.pop().expect("there is a result for every registration")
    }

    /// Registers an agent and runs until every shard knows it.
    ///
    /// # Panics
    ///
    /// If the registration is refused.
    #[track_caller]
    pub fn register(&mut self, registration: Registration) -> AgentId {
        match self.try_register(registration) {
            Ok(agent) => agent,
            Err(error) => panic!("the agent was not registered: {error}"),
        }
    }

    /// Removes an agent. Returns whether it existed.
    ///
    /// # Panics
    ///
    /// If there is no response, because its shard is paused.
    pub fn deregister(&mut self, agent: AgentId) -> bool {
        let (token, shard) = (self.token(), self.shard_of(agent));
        self.give(shard, Input::Deregister(agent, token));
        self.run();
        let Some(Answer::Deregistered(found)) = self.take_answer(shard, token) else {
            panic!("the deregistration was not answered: is the shard paused?")
        };
        found
    }

    /// Sends a question from outside and advances time until the reply arrives, at most by the timeout in milliseconds.
    ///
    /// # Errors
    ///
    /// There is no reply.
    ///
    /// # Panics
    ///
    /// If not even the timeout occurs, because the first shard is paused.
    pub fn ask_and_wait(&mut self, message: Message, timeout_ms: u32) -> Result<Message, AskError> {
        const SHARD: usize = 0;
        let token = self.ask(SHARD, message, timeout_ms);
        self.run();
        for _ in 0..timeout_ms {
            if let Some(reply) = self.take_reply(SHARD, token) {
                return reply;
            }
            self.advance(1);
        }
        self.advance(1);
        self.take_reply(SHARD, token).expect("a question is answered by its timeout: is the shard paused?")
    }

    /// Takes the response to a request, if it has arrived.
    pub fn take_answer(&mut self, shard: usize, token: Token) -> Option<Answer> {
        self.nodes[shard].answers.remove(&token.0)
    }

    /// Takes the response to a [`World::send_later`], if it has arrived.
    ///
    /// # Panics
    ///
    /// If the token belongs to another request.
    pub fn take_sent(&mut self, shard: usize, token: Token) -> Option<Result<MessageId, SendError>> {
        self.take_answer(shard, token).map(|answer| match answer {
            Answer::Sent(result) => result,
            _ => panic!("another kind of answer"),
        })
    }

    /// Takes the response to a [`World::ask`], if it has arrived.
    ///
    /// # Panics
    ///
    /// If the token belongs to another request.
    pub fn take_reply(&mut self, shard: usize, token: Token) -> Option<Result<Message, AskError>> {
        self.take_answer(shard, token).map(|answer| match answer {
            Answer::Replied(result) => result,
            _ => panic!("another kind of answer"),
        })
    }

    /// Returns the response to a request that a shard answers in the same turn.
    ///
    /// # Panics
    ///
    /// If the request is of another kind.
    pub fn answer_now(&mut self, shard: usize, input: impl FnOnce(Token) -> Input) -> Answer {
        let token = self.token();
        self.give(shard, input(token));
        self.step(shard);
        self.take_answer(shard, token).expect("the question is answered at once")
    }

    /// Returns a shard's figures.
    pub fn snapshot(&mut self, shard: usize) -> Snapshot {
        let Answer::Snapshot(snapshot) = self.answer_now(shard, Input::Inspect) else { panic!("no snapshot") };
        *snapshot
    }

    /// Returns a shard's dead letters, newest first.
    pub fn dead_letters(&mut self, shard: usize) -> Vec<DeadLetter> {
        let (mut letters, mut search) = (Vec::new(), DeadLetterSearch::default());
        loop {
            let input = |token| Input::DeadLetters(Box::new(search), usize::MAX, token);
            let Answer::DeadLetters(portion) = self.answer_now(shard, input) else { panic!("no dead letters") };
            letters.extend(portion.letters);
            search.before = portion.next;
            if portion.next.is_none() {
                return letters;
            }
        }
    }

    /// Returns an open conversation.
    pub fn conversation(&mut self, initiator: AgentId, id: ConversationId) -> Option<ConversationView> {
        let shard = self.shard_of(initiator);
        let input = |token| Input::Conversation(initiator, id, token);
        let Answer::Conversation(view) = self.answer_now(shard, input) else { panic!("no conversation") };
        view.map(|view| *view)
    }

    /// Returns the providers of a capability known to a shard.
    pub fn discover(&mut self, shard: usize, capability: &str) -> Vec<AgentId> {
        let Some(term) = Term::find(capability) else { return Vec::new() };
        let input = |token| Input::Discover(term, token);
        let Answer::Providers(providers) = self.answer_now(shard, input) else { panic!("no providers") };
        providers.into_iter().map(|provider| provider.agent).collect()
    }

    /// Suspends an agent.
    ///
    /// # Errors
    ///
    /// The agent was not suspended.
    pub fn suspend(&mut self, agent: AgentId) -> Result<(), LifecycleError> {
        self.change(agent, |token| Input::Suspend(agent, token))
    }

    /// Resumes a suspended agent.
    ///
    /// # Errors
    ///
    /// The agent was not resumed.
    pub fn resume(&mut self, agent: AgentId) -> Result<(), LifecycleError> {
        self.change(agent, |token| Input::Resume(agent, token))
    }

    fn change(&mut self, agent: AgentId, input: impl FnOnce(Token) -> Input) -> Result<(), LifecycleError> {
        let shard = self.shard_of(agent);
        let Answer::Changed(result) = self.answer_now(shard, input) else { panic!("another kind of answer") };
        result
    }

    /// Begins to drain an agent, for at most `within_ms` milliseconds. The response is for [`World::take_drained`].
    pub fn drain_later(&mut self, agent: AgentId, within_ms: u32) -> Token {
        let (token, shard) = (self.token(), self.shard_of(agent));
        self.give(shard, Input::DrainAgent { agent, within_ms: u64::from(within_ms), token });
        token
    }

    /// Takes the response to a [`World::drain_later`], if it has arrived.
    ///
    /// # Panics
    ///
    /// If the token belongs to another request.
    pub fn take_drained(&mut self, agent: AgentId, token: Token) -> Option<Result<Drained, LifecycleError>> {
        let shard = self.shard_of(agent);
        self.take_answer(shard, token).map(|answer| match answer {
            Answer::Drained(result) => result,
            _ => panic!("another kind of answer"),
        })
    }

    /// Returns an agent that exists or existed recently.
    pub fn view(&mut self, agent: AgentId) -> Option<AgentView> {
        let shard = self.shard_of(agent);
        let Answer::Agent(view) = self.answer_now(shard, |token| Input::Agent(agent, token)) else { panic!("no view") };
        view.map(|view| *view)
    }

    /// Returns an agent's life-cycle state.
    ///
    /// # Panics
    ///
    /// If its shard does not know the agent.
    pub fn state(&mut self, agent: AgentId) -> AgentState {
        self.view(agent).expect("its shard knows the agent").state
    }

    /// Takes what a shard delivered to the test's own inboxes since the last call.
    pub fn take_delivered(&mut self, shard: usize) -> Vec<Message> {
        std::mem::take(&mut self.nodes[shard].delivered).into_iter().map(|(_, message)| message).collect()
    }

    /// Takes the events of a shard since the last call: see [`World::watch_events`].
    pub fn take_events(&mut self, shard: usize) -> Vec<Event> {
        std::mem::take(&mut self.nodes[shard].events)
    }
}
