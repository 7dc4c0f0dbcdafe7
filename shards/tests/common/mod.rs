//! A router of several shards on one thread, in virtual time, with agents made of closures.
//!
//! A shard is stepped only when a driver would step it: its doorbell was rung, it has inputs, its last turn left work
//! or its deadline has come. So a wake-up that the engine forgets shows as a message that never arrives. After every
//! step the books are checked: of each shard, and of all of them together with the rings between them.

#![allow(dead_code)] // Each test file uses its own part.
#![allow(clippy::unwrap_used)] // A test fails by panicking.

use std::collections::{HashMap, VecDeque};
use std::num::{NonZeroU16, NonZeroUsize};
use std::sync::{Arc, Mutex, PoisonError};

use caxton_shards::account::Account;
use caxton_shards::agent::{Agent, Context, Failure, Outcome, Polled, Registration, Supervision};
use caxton_shards::breaker::BreakerPolicy;
use caxton_shards::conversation::{ConversationLimits, ConversationView};
use caxton_shards::dead_letter::{DeadLetter, Reason};
use caxton_shards::dispatch::Batch;
use caxton_shards::domain::{AgentName, BatchSize, CapabilityName, MessageTimeoutMs, NodeId, ShardCount};
use caxton_shards::interface::{
    Answer, AskFailure, Event, InboxNumber, Input, Now, Output, RegistrationError, Rejected, SendError, Snapshot, Token,
};
use caxton_shards::mesh::{LaneCapacity, mesh};
use caxton_shards::message::{
    AgentId, ConversationId, IdSpace, Message, MessageBuilder, MessageId, Performative, WallTime,
};
use caxton_shards::partition::{Partition, ShardIndex};
use caxton_shards::record::{Append, AppendSequence, Durability};
use caxton_shards::shard::{RetryPolicy, Shard, ShardConfig, Turn};

/// The wall time when monotonic time is zero, in milliseconds.
pub const WALL_START_MS: u64 = 1_700_000_000_000;
/// Turns without an end in sight: more of them than this, at one moment, and a shard spins.
const TURNS_MAX: u64 = 20_000;

/// What a router is made with.
pub struct Setup {
    pub shards: u16,
    pub credits: usize,
    pub uncredited: usize,
    pub config: ShardConfig,
}

impl Setup {
    pub fn new(shards: u16) -> Self {
        let partition = Partition::new(ShardCount::try_new(shards).unwrap());
        let id_space = IdSpace { node: NodeId::default(), boot_epoch: 1, shard: 0 };
        let config = ShardConfig {
            id_space,
            partition,
            mailbox_messages: 1_000.try_into().unwrap(),
            mailbox_bytes: (1 << 20).try_into().unwrap(),
            message_timeout: 30_000.try_into().unwrap(),
            content_max: 10_000.try_into().unwrap(),
            batch: 16.try_into().unwrap(),
            turn_quota: 64.try_into().unwrap(),
            outbox: 100.try_into().unwrap(),
            pending_max: 100_000,
            retry: RetryPolicy { retries: 3, delay_ms: 100, factor: 2.0, jitter: 0.0 },
            breaker: BreakerPolicy::default(),
            dead_letters_max: 10_000,
            dead_letter_bytes_max: 1 << 30,
            conversations: ConversationLimits { open_max: 1_000, participants_max: 10, history: 8, timeout_ms: 10_000 },
            rules: Vec::new(),
            durability: Durability::Unavailable,
            seed: 42,
        };
        Self { shards, credits: 64, uncredited: 16, config }
    }

    pub fn lanes(mut self, credits: usize, uncredited: usize) -> Self {
        (self.credits, self.uncredited) = (credits, uncredited);
        self
    }

    pub fn configured(mut self, change: impl FnOnce(&mut ShardConfig)) -> Self {
        change(&mut self.config);
        self
    }

    pub fn start(self) -> World {
        let capacity = LaneCapacity {
            credits: NonZeroUsize::new(self.credits).unwrap(),
            uncredited: NonZeroUsize::new(self.uncredited).unwrap(),
        };
        let ports = mesh(NonZeroU16::new(self.shards).unwrap(), capacity);
        let nodes = ports.into_iter().zip(0_u16..).map(|(port, shard)| {
            let mut config = self.config.clone();
            config.id_space.shard = shard;
            Node::new(Shard::new(config, port, now_at(0)))
        });
        World { nodes: nodes.collect(), now_ms: 0, partition: self.config.partition, tokens: 0, unchecked: false }
    }
}

fn now_at(now_ms: u64) -> Now {
    Now { monotonic_ns: now_ms * 1_000_000, wall: WallTime(WALL_START_MS + now_ms) }
}

/// One shard with what goes in and what came out.
pub struct Node {
    pub shard: Shard,
    pub inputs: VecDeque<Input>,
    pub answers: HashMap<u64, Answer>,
    pub delivered: Vec<(InboxNumber, Message)>,
    pub appends: Vec<Append>,
    pub events: Vec<Event>,
    /// A paused shard is not stepped, as if its core were busy with something else.
    pub paused: bool,
    outputs: Vec<Output>,
    awake: bool,
    deadline_ms: Option<u64>,
}

impl Node {
    fn new(shard: Shard) -> Self {
        Self {
            shard,
            inputs: VecDeque::new(),
            answers: HashMap::new(),
            delivered: Vec::new(),
            appends: Vec::new(),
            events: Vec::new(),
            paused: false,
            outputs: Vec::new(),
            awake: true,
            deadline_ms: None,
        }
    }

    fn is_due(&self, now_ms: u64) -> bool {
        !self.paused && (self.awake || self.deadline_ms.is_some_and(|deadline_ms| deadline_ms <= now_ms))
    }
}

/// The shards of a router, and the time.
pub struct World {
    pub nodes: Vec<Node>,
    pub now_ms: u64,
    pub partition: Partition,
    tokens: u64,
    /// Set by tests that look at the books themselves.
    pub unchecked: bool,
}

impl World {
    pub fn new(shards: u16) -> Self {
        Setup::new(shards).start()
    }

    // What goes in.

    pub fn give(&mut self, shard: usize, input: Input) {
        self.nodes[shard].inputs.push_back(input);
        self.nodes[shard].awake = true;
    }

    pub fn token(&mut self) -> Token {
        self.tokens += 1;
        Token(self.tokens)
    }

    pub fn shard_of(&self, agent: AgentId) -> usize {
        self.partition.shard_of(agent).as_usize()
    }

    /// A name whose agent lives on this shard.
    pub fn name_on(&self, shard: u16, prefix: &str) -> AgentName {
        AgentName::try_new(self.partition.name_on(ShardIndex(shard), prefix)).unwrap()
    }

    pub fn register_later(&mut self, registration: Registration) -> Token {
        let (token, shard) = (self.token(), self.shard_of(registration.id()));
        self.give(shard, Input::Register(vec![registration], token));
        token
    }

    pub fn try_register(&mut self, registration: Registration) -> Result<AgentId, RegistrationError> {
        let shard = self.shard_of(registration.id());
        let token = self.register_later(registration);
        self.run();
        let Some(Answer::Registered(mut results)) = self.take_answer(shard, token) else {
            panic!("the registration was not answered")
        };
        results.pop().unwrap()
    }

    pub fn register(&mut self, registration: Registration) -> AgentId {
        self.try_register(registration).unwrap()
    }

    /// Registers a scripted agent on a shard.
    pub fn add(&mut self, shard: u16, prefix: &str, script: Script) -> AgentId {
        let name = self.name_on(shard, prefix);
        self.register(script.registration(name))
    }

    /// Registers an agent that writes down what it is told.
    pub fn add_listener(&mut self, shard: u16, prefix: &str) -> (AgentId, Log<Message>) {
        let log = Log::new();
        (self.add(shard, prefix, Script::listener(&log)), log)
    }

    pub fn add_inbox(&mut self, shard: u16, prefix: &str, inbox: u32, window: u32) -> AgentId {
        let name = self.name_on(shard, prefix);
        self.register(Registration::outside(name, InboxNumber(inbox), window))
    }

    pub fn deregister(&mut self, agent: AgentId) -> bool {
        let (token, shard) = (self.token(), self.shard_of(agent));
        self.give(shard, Input::Deregister(agent, token));
        self.run();
        let Some(Answer::Deregistered(found)) = self.take_answer(shard, token) else { panic!("not answered") };
        found
    }

    /// The shard that admits the message: its sender's.
    fn admits(&self, message: &Message) -> usize {
        message.sender().map_or(0, |sender| self.shard_of(sender))
    }

    pub fn tell(&mut self, message: Message) {
        let shard = self.admits(&message);
        self.give(shard, Input::Tell(message));
    }

    pub fn send_later(&mut self, message: Message) -> Token {
        let (shard, token) = (self.admits(&message), self.token());
        self.give(shard, Input::Send(message, token));
        token
    }

    /// Sends a message from outside in its sender's name, and steps the sender's shard once.
    pub fn send(&mut self, message: Message) -> Result<MessageId, Rejected> {
        let shard = self.admits(&message);
        let token = self.send_later(message);
        self.step(shard);
        let Some(Answer::Sent(result)) = self.take_answer(shard, token) else { panic!("not answered") };
        result
    }

    /// Asks from outside, at a shard. The answer is for [`World::take_reply`].
    pub fn ask(&mut self, shard: usize, message: Message, timeout_ms: u32) -> Token {
        let token = self.token();
        self.give(shard, Input::Ask { message, timeout_ms, token });
        token
    }

    pub fn commit(&mut self, shard: usize, sequence: u64) {
        self.give(shard, Input::Committed(AppendSequence(sequence)));
    }

    pub fn watch_events(&mut self) {
        for shard in 0..self.nodes.len() {
            self.give(shard, Input::WatchEvents(true));
        }
        self.run();
    }

    pub fn stop_all(&mut self) {
        for shard in 0..self.nodes.len() {
            self.give(shard, Input::Stop);
        }
        self.run();
    }

    // Time and turns.

    /// One turn of one shard.
    pub fn step(&mut self, shard: usize) -> Turn {
        let now = now_at(self.now_ms);
        let node = &mut self.nodes[shard];
        node.awake = false;
        let turn = node.shard.step(now, &mut node.inputs, &mut node.outputs);
        let rung: Vec<usize> = node.shard.flush().to_vec();
        // As a driver does between arming its doorbell and parking.
        node.awake |= turn.worked || turn.more || node.shard.has_incoming();
        node.deadline_ms = turn.next_deadline_ms;
        for output in std::mem::take(&mut node.outputs) {
            match output {
                Output::Answer(token, answer) => {
                    assert!(node.answers.insert(token.0, answer).is_none(), "{token:?} was answered twice");
                }
                Output::Deliver(inbox, message) => node.delivered.push((inbox, message)),
                Output::Append(append) => node.appends.push(append),
                Output::Event(event) => node.events.push(event),
            }
        }
        for rung in rung {
            self.nodes[rung].awake = true;
        }
        self.check();
        turn
    }

    /// Lets every shard that has something to do take one turn. Says whether there was one.
    pub fn round(&mut self) -> bool {
        let due: Vec<usize> = (0..self.nodes.len()).filter(|shard| self.nodes[*shard].is_due(self.now_ms)).collect();
        for shard in &due {
            self.step(*shard);
        }
        !due.is_empty()
    }

    pub fn is_due(&self, shard: usize) -> bool {
        self.nodes[shard].is_due(self.now_ms)
    }

    /// Runs at the present moment until no shard has anything to do.
    pub fn run(&mut self) {
        let mut turns = 0;
        while self.round() {
            turns += 1;
            assert!(turns < TURNS_MAX, "the shards do not come to rest");
        }
    }

    /// Moves time on, stopping wherever a shard has a deadline.
    pub fn advance(&mut self, milliseconds: u64) {
        let end_ms = self.now_ms + milliseconds;
        self.run();
        loop {
            let awake = self.nodes.iter().filter(|node| !node.paused);
            match awake.filter_map(|node| node.deadline_ms).min() {
                Some(deadline_ms) if deadline_ms <= end_ms => self.now_ms = self.now_ms.max(deadline_ms),
                _ => break,
            }
            self.run();
        }
        self.now_ms = end_ms;
        self.run();
    }

    pub fn pause(&mut self, shard: usize, paused: bool) {
        self.nodes[shard].paused = paused;
    }

    // What came out.

    pub fn take_answer(&mut self, shard: usize, token: Token) -> Option<Answer> {
        self.nodes[shard].answers.remove(&token.0)
    }

    pub fn take_sent(&mut self, shard: usize, token: Token) -> Option<Result<MessageId, Rejected>> {
        self.take_answer(shard, token).map(|answer| match answer {
            Answer::Sent(result) => result,
            _ => panic!("another kind of answer"),
        })
    }

    pub fn take_reply(&mut self, shard: usize, token: Token) -> Option<Result<Message, AskFailure>> {
        self.take_answer(shard, token).map(|answer| match answer {
            Answer::Replied(result) => result,
            _ => panic!("another kind of answer"),
        })
    }

    fn answer_now(&mut self, shard: usize, input: impl FnOnce(Token) -> Input) -> Answer {
        let token = self.token();
        self.give(shard, input(token));
        self.step(shard);
        self.take_answer(shard, token).expect("the question is answered at once")
    }

    pub fn snapshot(&mut self, shard: usize) -> Snapshot {
        let Answer::Snapshot(snapshot) = self.answer_now(shard, Input::Inspect) else { panic!("no snapshot") };
        *snapshot
    }

    pub fn dead_letters(&mut self, shard: usize) -> Vec<DeadLetter> {
        let input = |token| Input::DeadLetters(usize::MAX, token);
        let Answer::DeadLetters(letters) = self.answer_now(shard, input) else { panic!("no dead letters") };
        letters
    }

    pub fn conversation(&mut self, initiator: AgentId, id: ConversationId) -> Option<ConversationView> {
        let shard = self.shard_of(initiator);
        let input = |token| Input::Conversation(initiator, id, token);
        let Answer::Conversation(view) = self.answer_now(shard, input) else { panic!("no conversation") };
        view.map(|view| *view)
    }

    /// Who offers a capability, as far as a shard knows.
    pub fn discover(&mut self, shard: usize, capability: &str) -> Vec<AgentId> {
        let Some(term) = caxton_shards::message::Term::find(capability) else { return Vec::new() };
        let input = |token| Input::Discover(term, token);
        let Answer::Providers(providers) = self.answer_now(shard, input) else { panic!("no providers") };
        providers.into_iter().map(|provider| provider.agent).collect()
    }

    /// What an inbox was given, without the router's notices.
    pub fn take_delivered(&mut self, shard: usize) -> Vec<Message> {
        std::mem::take(&mut self.nodes[shard].delivered).into_iter().map(|(_, message)| message).collect()
    }

    pub fn take_events(&mut self, shard: usize) -> Vec<Event> {
        std::mem::take(&mut self.nodes[shard].events)
    }

    /// The totals of all shards.
    pub fn total(&self) -> Account {
        self.nodes.iter().fold(Account::default(), |total, node| total.plus(node.shard.account()))
    }

    pub fn dead(&self, reason: Reason) -> u64 {
        self.total().dead_by_reason[reason.index()]
    }

    // The books.

    fn check(&mut self) {
        if self.unchecked {
            return;
        }
        for node in &self.nodes {
            let account = node.shard.account();
            assert!(account.balances(), "a shard's books do not balance: {account:?}");
        }
        let total = self.total();
        let in_rings: usize = self.nodes.iter_mut().map(|node| node.shard.messages_in_flight()).sum();
        assert_eq!(total.departed, total.arrived + in_rings as u64, "between shards: {total:?}");
        let settled = total.processed + total.dead_lettered + total.expired;
        assert_eq!(total.accepted, settled + total.pending + in_rings as u64, "something was lost: {total:?}");
    }

    /// Asserts that nothing is left anywhere: every message was settled and every shard has nothing to do.
    #[track_caller]
    pub fn assert_settled(&mut self) {
        let total = self.total();
        assert_eq!(total.pending, 0, "messages are pending: {total:?}");
        assert_eq!(total.departed, total.arrived, "messages are in the rings: {total:?}");
        for node in &mut self.nodes {
            node.shard.assert_at_rest();
        }
    }
}

/// A list that agents write and tests read.
pub struct Log<T>(Arc<Mutex<Vec<T>>>);

impl<T> Clone for Log<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Log<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Log<T> {
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(Vec::new())))
    }

    pub fn push(&self, item: T) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(item);
    }

    pub fn take(&self) -> Vec<T> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl Log<Message> {
    /// The contents of what was logged, in order.
    pub fn texts(&self) -> Vec<String> {
        let messages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        messages.iter().map(text).collect()
    }

    /// The contents of the router's notices among them.
    pub fn notices(&self) -> Vec<String> {
        let messages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        messages.iter().filter(|message| caxton_shards::notice::is_notice(message)).map(text).collect()
    }

    /// The contents of what agents sent.
    pub fn letters(&self) -> Vec<String> {
        let messages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        messages.iter().filter(|message| !caxton_shards::notice::is_notice(message)).map(text).collect()
    }
}

pub fn text(message: &Message) -> String {
    message.content().as_text().unwrap().to_owned()
}

type Shared<F> = Arc<Mutex<F>>;
type Handle = dyn FnMut(&Message, &mut Context<'_>) -> Outcome + Send;
type Poll = dyn FnMut(&mut Context<'_>) -> Polled + Send;
type Start = dyn FnMut(&mut Context<'_>) + Send;
type Supervise = dyn FnMut(&Failure) -> Supervision + Send;
type Handled = dyn FnMut(&mut Batch<'_>) + Send;
type Stopped = dyn FnMut() + Send;

/// An agent made of closures. What is not set behaves as the trait's default.
#[derive(Clone)]
pub struct Script {
    handle: Shared<Handle>,
    resume: Option<Shared<Handle>>,
    poll: Option<Shared<Poll>>,
    started: Option<Shared<Start>>,
    supervise: Option<Shared<Supervise>>,
    batch: Option<Shared<Handled>>,
    stopped: Option<Shared<Stopped>>,
    batch_size: Option<u32>,
    capabilities: Vec<CapabilityName>,
    made: Log<()>,
}

impl Script {
    pub fn new(handle: impl FnMut(&Message, &mut Context<'_>) -> Outcome + Send + 'static) -> Self {
        Self {
            handle: Arc::new(Mutex::new(handle)),
            resume: None,
            poll: None,
            started: None,
            supervise: None,
            batch: None,
            stopped: None,
            batch_size: None,
            capabilities: Vec::new(),
            made: Log::new(),
        }
    }

    /// Does nothing with its messages.
    pub fn idle() -> Self {
        Self::new(|_, _| Outcome::Done)
    }

    pub fn listener(log: &Log<Message>) -> Self {
        let log = log.clone();
        Self::new(move |message, _| {
            log.push(message.clone());
            Outcome::Done
        })
    }

    /// Answers every message that is not from the router with an inform of the same content.
    pub fn echo() -> Self {
        Self::new(|message, context| {
            if !caxton_shards::notice::is_notice(message) {
                let reply = context.reply(message, Performative::Inform).content(message.content().clone());
                context.send(reply.build().unwrap()).unwrap();
            }
            Outcome::Done
        })
    }

    pub fn resuming(mut self, resume: impl FnMut(&Message, &mut Context<'_>) -> Outcome + Send + 'static) -> Self {
        self.resume = Some(Arc::new(Mutex::new(resume)));
        self
    }

    pub fn polling(mut self, poll: impl FnMut(&mut Context<'_>) -> Polled + Send + 'static) -> Self {
        self.poll = Some(Arc::new(Mutex::new(poll)));
        self
    }

    pub fn starting(mut self, started: impl FnMut(&mut Context<'_>) + Send + 'static) -> Self {
        self.started = Some(Arc::new(Mutex::new(started)));
        self
    }

    pub fn supervised(mut self, supervise: impl FnMut(&Failure) -> Supervision + Send + 'static) -> Self {
        self.supervise = Some(Arc::new(Mutex::new(supervise)));
        self
    }

    pub fn batched(mut self, batch: impl FnMut(&mut Batch<'_>) + Send + 'static) -> Self {
        self.batch = Some(Arc::new(Mutex::new(batch)));
        self
    }

    pub fn stopping(mut self, stopped: impl FnMut() + Send + 'static) -> Self {
        self.stopped = Some(Arc::new(Mutex::new(stopped)));
        self
    }

    pub fn in_batches_of(mut self, messages: u32) -> Self {
        self.batch_size = Some(messages);
        self
    }

    pub fn offering(mut self, capability: &str) -> Self {
        self.capabilities.push(CapabilityName::try_new(capability).unwrap());
        self
    }

    /// Counts how often the agent was made.
    pub fn counted(mut self, made: &Log<()>) -> Self {
        self.made = made.clone();
        self
    }

    pub fn registration(self, name: AgentName) -> Registration {
        let capabilities = self.capabilities.clone();
        let registration = Registration::native(name, move || {
            self.made.push(());
            Scripted(self.clone())
        });
        capabilities.into_iter().fold(registration, Registration::offering)
    }
}

struct Scripted(Script);

/// A closure that panicked is called again all the same.
fn call<F: ?Sized, R>(shared: &Shared<F>, call: impl FnOnce(&mut F) -> R) -> R {
    call(&mut shared.lock().unwrap_or_else(PoisonError::into_inner))
}

impl Agent for Scripted {
    fn started(&mut self, context: &mut Context<'_>) {
        if let Some(started) = &self.0.started {
            call(started, |started| started(context));
        }
    }

    fn handle(&mut self, message: &Message, context: &mut Context<'_>) -> Outcome {
        call(&self.0.handle, |handle| handle(message, context))
    }

    fn handle_batch(&mut self, batch: &mut Batch<'_>) {
        if let Some(handled) = &self.0.batch {
            return call(handled, |handled| handled(batch));
        }
        while let Some((message, mut context)) = batch.next() {
            let outcome = self.handle(message, &mut context);
            batch.settle(outcome);
        }
    }

    fn batch_size(&self) -> Option<BatchSize> {
        self.0.batch_size.map(|messages| BatchSize::try_new(messages).unwrap())
    }

    fn resume(&mut self, message: &Message, context: &mut Context<'_>) -> Outcome {
        self.0.resume.as_ref().map_or(Outcome::Done, |resume| call(resume, |resume| resume(message, context)))
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Polled {
        self.0.poll.as_ref().map_or(Polled::Finished, |poll| call(poll, |poll| poll(context)))
    }

    fn supervise(&mut self, failure: &Failure) -> Supervision {
        let supervise = self.0.supervise.as_ref();
        supervise.map_or(Supervision::Resume, |supervise| call(supervise, |supervise| supervise(failure)))
    }

    fn stopped(&mut self) {
        if let Some(stopped) = &self.0.stopped {
            call(stopped, |stopped| stopped());
        }
    }
}

// Messages.

pub fn inform(from: AgentId, to: AgentId, content: &str) -> MessageBuilder {
    Message::builder(Performative::Inform).sender(from).receiver(to).content(content)
}

pub fn request(from: AgentId, to: AgentId, content: &str) -> MessageBuilder {
    Message::builder(Performative::Request).sender(from).receiver(to).content(content)
}

pub fn lifetime(milliseconds: u32) -> MessageTimeoutMs {
    MessageTimeoutMs::try_new(milliseconds).unwrap()
}

pub fn capability(name: &str) -> CapabilityName {
    CapabilityName::try_new(name).unwrap()
}

#[track_caller]
pub fn assert_refused(result: Result<MessageId, Rejected>, error: SendError) -> Message {
    let rejected = result.expect_err("the message should be refused");
    assert_eq!(rejected.error, error);
    *rejected.message
}

/// A small generator of pseudo-random numbers (xorshift64*), for tests that print their seed.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self((seed ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    #[allow(clippy::cast_possible_truncation)] // The number is below a length.
    pub fn index(&mut self, length: usize) -> usize {
        self.below(length as u64) as usize
    }

    /// Whether something happens that happens once in so many times.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}
