//! The shards of a simulated router, and its time.
//!
//! A shard is stepped only when a driver would step it: its doorbell was rung, it has inputs, its last turn left work
//! or its deadline has come. A wake-up that the engine forgets therefore shows as a message that never arrives. After
//! every step the accounts are checked: see [`books`](super::books).

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::index::ShardIndex;
use crate::domain::AgentName;
use crate::journal::record::{Lsn, split};
use crate::message::{AgentId, Message, WallTime};
use crate::routing::partition::Partition;
use crate::shard::agent::Registration;
use crate::shard::control::restore::Recovery;
use crate::shard::io::{Answer, Awaited, Event, EventDetail, InboxNumber, Input, Now, Output, Token};
use crate::shard::{Shard, Turn};

use super::inbox::OpenInbox;
use super::script::{Log, Script};

/// The wall-clock time at monotonic time zero, in milliseconds since 1970.
pub const WALL_START_MS: u64 = 1_700_000_000_000;
/// Limit of rounds at one point in time, beyond which a shard is spinning.
const ROUNDS_MAX: u64 = 20_000;

/// One shard with its inputs and outputs.
pub struct Node {
    /// The shard.
    pub shard: Shard,
    /// Inputs not processed yet.
    pub inputs: VecDeque<Input>,
    /// Responses that have not been taken, by token.
    pub answers: HashMap<u64, Answer>,
    /// Messages delivered to inboxes that the [`World`] did not open itself.
    pub delivered: Vec<(InboxNumber, Message)>,
    /// Records for the shard's journal: each record's kind and body, in order, from sequence number one.
    pub records: Vec<(u8, Vec<u8>)>,
    /// The shard's events: see [`World::watch_events`].
    pub events: Vec<Event>,
    /// The agents that the shard has had looked for on other nodes.
    pub wanted: Vec<AgentId>,
    /// Whether the shard is paused: not stepped, as if its core were busy with something else.
    pub paused: bool,
    outputs: Vec<Output>,
    awake: bool,
    /// Whether it is in the middle of a turn, so that it hears no doorbell.
    in_turn: bool,
    deadline_ms: Option<u64>,
    committed: u64,
}

impl Node {
    pub(crate) fn new(shard: Shard) -> Self {
        Self {
            shard,
            inputs: VecDeque::new(),
            answers: HashMap::new(),
            delivered: Vec::new(),
            records: Vec::new(),
            events: Vec::new(),
            wanted: Vec::new(),
            paused: false,
            outputs: Vec::new(),
            awake: true,
            in_turn: false,
            deadline_ms: None,
            committed: 0,
        }
    }

    fn is_due(&self, now_ms: u64) -> bool {
        !self.paused && (self.awake || self.deadline_ms.is_some_and(|deadline_ms| deadline_ms <= now_ms))
    }
}

/// Lets a handler take virtual time, which passes on every shard once the turn is over.
#[derive(Clone, Debug, Default)]
pub struct Delay(Arc<AtomicU64>);

impl Delay {
    /// Spends this many milliseconds.
    pub fn spend(&self, milliseconds: u64) {
        self.0.fetch_add(milliseconds, Ordering::Relaxed);
    }

    fn spent(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn take(&self) -> u64 {
        self.0.swap(0, Ordering::Relaxed)
    }
}

pub(super) type Observer = Box<dyn FnMut(usize, &Output)>;
pub(super) type Check = Box<dyn FnMut(&mut World) -> Result<(), String>>;

/// A router of several shards on one thread, in virtual time. See the [module](super).
///
/// Shards are identified by their number, from zero. Methods whose name ends in `later` only add an input; the others
/// step shards until they have the response.
pub struct World {
    /// The shards.
    pub nodes: Vec<Node>,
    /// Monotonic time, in milliseconds. It may be advanced at will, but not turned back.
    pub now_ms: u64,
    /// The mapping from agents to shards.
    pub partition: Partition,
    /// Whether shards that are due together take their turns at the same time, as on separate cores: each receives and
    /// sends before any of them rings a doorbell. Otherwise they take turns one after the other.
    pub overlapping: bool,
    /// Disables the consistency checks after every step, for tests that do their own.
    pub unchecked: bool,
    pub(crate) inboxes: BTreeMap<u32, OpenInbox>,
    pub(crate) inbox_numbers: u32,
    /// The difference between wall-clock and monotonic time, in milliseconds since 1970.
    wall_ahead_ms: u64,
    tokens: u64,
    steps: u64,
    /// The time on stopwatches at the beginning of a turn, in milliseconds.
    turn_began_ms: Arc<AtomicU64>,
    delay: Delay,
    pub(super) observers: Vec<Observer>,
    pub(super) checks: Vec<Check>,
}

impl World {
    pub(crate) const START: Now = Now { monotonic_ns: 0, wall: WallTime(WALL_START_MS) };

    /// Creates a router with this many shards and the defaults of [`Setup`](super::Setup).
    ///
    /// # Panics
    ///
    /// If the number of shards is not from 1 to 1024.
    pub fn new(shards: u16) -> Self {
        super::Setup::new(shards).start()
    }

    pub(crate) fn new_with(mut nodes: Vec<Node>, partition: Partition, wall: WallTime) -> Self {
        let (turn_began_ms, delay) = (Arc::new(AtomicU64::new(0)), Delay::default());
        for node in &mut nodes {
            let (began_ms, delay) = (Arc::clone(&turn_began_ms), delay.clone());
            node.shard.set_stopwatch(Box::new(move || (began_ms.load(Ordering::Relaxed) + delay.spent()) * 1_000_000));
        }
        Self {
            nodes,
            now_ms: 0,
            partition,
            overlapping: false,
            unchecked: false,
            inboxes: BTreeMap::new(),
            // Numbers that a test gives its own inboxes are small.
            inbox_numbers: 1 << 31,
            wall_ahead_ms: wall.0,
            tokens: 0,
            steps: 0,
            turn_began_ms,
            delay,
            observers: Vec::new(),
            checks: Vec::new(),
        }
    }

    // Inputs.

    /// Adds an input to a shard and wakes it.
    pub fn give(&mut self, shard: usize, input: Input) {
        self.nodes[shard].inputs.push_back(input);
        self.nodes[shard].awake = true;
    }

    /// Like [`World::give`], but before all other inputs not processed yet.
    pub(crate) fn give_first(&mut self, shard: usize, input: Input) {
        self.nodes[shard].inputs.push_front(input);
        self.nodes[shard].awake = true;
    }

    /// Returns an unused token.
    pub fn token(&mut self) -> Token {
        self.tokens += 1;
        Token(self.tokens)
    }

    /// Returns the shard of an agent.
    pub fn shard_of(&self, agent: AgentId) -> usize {
        self.partition.shard_of(agent).as_usize()
    }

    /// Returns a name whose agent is on this shard, the same one every time.
    pub fn name_on(&self, shard: u16, prefix: &str) -> AgentName {
        AgentName::try_new(self.partition.name_on(ShardIndex(shard), prefix)).expect("the prefix of a legal name")
    }

    /// Registers an agent. The response is for [`World::take_answer`] of its shard.
    pub fn register_later(&mut self, registration: Registration) -> Token {
        let (token, shard) = (self.token(), self.shard_of(registration.id()));
        self.give(shard, Input::Register(vec![registration], token));
        token
    }

    /// Registers a scripted agent on a shard, under a name that begins with `prefix`.
    ///
    /// # Panics
    ///
    /// If the registration is refused.
    pub fn add(&mut self, shard: u16, prefix: &str, script: Script) -> AgentId {
        let name = self.name_on(shard, prefix);
        self.register(script.registration(name))
    }

    /// Registers an agent that logs its messages.
    ///
    /// # Panics
    ///
    /// If the registration is refused.
    pub fn add_listener(&mut self, shard: u16, prefix: &str) -> (AgentId, Log<Message>) {
        let log = Log::new();
        (self.add(shard, prefix, Script::listener(&log)), log)
    }

    /// Registers an agent with an inbox managed by the test: its messages are in [`Node::delivered`].
    /// [`World::open_inbox`] is simpler.
    ///
    /// # Panics
    ///
    /// If the registration is refused.
    pub fn add_inbox(&mut self, shard: u16, prefix: &str, inbox: u32, window: u32) -> AgentId {
        let name = self.name_on(shard, prefix);
        self.register(Registration::outside(name, InboxNumber(inbox), window))
    }

    /// Returns the shard that admits the message: its sender's, or the first.
    pub(crate) fn admits(&self, message: &Message) -> usize {
        message.sender().map_or(0, |sender| self.shard_of(sender))
    }

    /// Queues a message at its sender's shard. Failures are reported to its sender by notices, as to any agent.
    pub fn tell(&mut self, message: Message) {
        let shard = self.admits(&message);
        self.give(shard, Input::Tell(message));
    }

    /// Queues a message at its sender's shard. The response is for [`World::take_sent`] of that shard.
    pub fn send_later(&mut self, message: Message) -> Token {
        let (shard, token) = (self.admits(&message), self.token());
        self.give(shard, Input::Send(message, token));
        token
    }

    /// Sends a message from outside in its sender's name, and steps the sender's shard once.
    ///
    /// # Errors
    ///
    /// Returns the message and why it was refused.
    pub fn send(&mut self, message: Message) -> Result<crate::message::MessageId, crate::shard::io::SendError> {
        let shard = self.admits(&message);
        let token = self.send_later(message);
        self.step(shard);
        self.take_sent(shard, token).expect("a message is admitted or refused at once")
    }

    /// Sends a question from outside, through a shard, with a timeout in milliseconds. The response is for
    /// [`World::take_reply`] of that shard.
    pub fn ask(&mut self, shard: usize, message: Message, timeout_ms: u32) -> Token {
        let token = self.token();
        self.give(shard, Input::Ask { message, awaited: Awaited::Reply, timeout_ms: u64::from(timeout_ms), token });
        token
    }

    /// Reports to a shard that everything up to this record is durable.
    pub fn commit(&mut self, shard: usize, sequence: u64) {
        self.nodes[shard].committed = self.nodes[shard].committed.max(sequence);
        self.give(shard, Input::Committed(Lsn(sequence)));
    }

    /// Returns the number of a shard's durable records.
    pub fn committed(&self, shard: usize) -> u64 {
        self.nodes[shard].committed
    }

    /// Returns what recovery finds after a crash of the machine now, given the number of records kept of each shard's
    /// journal. The last of them may not have been reported as durable.
    ///
    /// # Panics
    ///
    /// If a record cannot be decoded.
    pub fn journals(&self, kept: &[u64], window: usize) -> Recovery {
        let shards = u16::try_from(self.nodes.len()).unwrap_or(1);
        let mut recovery = Recovery::new(window).of_shards(shards);
        for ((node, kept), shard) in self.nodes.iter().zip(kept).zip(0_u16..) {
            let most = usize::try_from(*kept).unwrap_or(usize::MAX);
            for ((kind, body), sequence) in node.records.iter().take(most).zip(1_u64..) {
                let taken = recovery.take(ShardIndex(shard), Lsn(sequence), *kind, body);
                taken.expect("a shard reads what a shard wrote");
            }
        }
        recovery
    }

    /// Reports to a shard that its next `most` records, or as many as there are, are durable.
    pub fn commit_next(&mut self, shard: usize, most: u64) {
        let node = &self.nodes[shard];
        let appended = node.records.len() as u64;
        let upto = appended.min(node.committed.saturating_add(most));
        if upto > node.committed {
            self.commit(shard, upto);
        }
    }

    /// Enables events on all shards.
    pub fn watch_events(&mut self) {
        for shard in 0..self.nodes.len() {
            self.give(shard, Input::WatchEvents(EventDetail::Everything));
        }
        self.run();
    }

    /// Makes all shards refuse further messages from outside.
    pub fn drain_all(&mut self) {
        for shard in 0..self.nodes.len() {
            self.give(shard, Input::Drain);
        }
        self.run();
    }

    /// Stops all shards, which give up everything pending.
    pub fn stop_all(&mut self) {
        for shard in 0..self.nodes.len() {
            self.give(shard, Input::Stop);
        }
        self.run();
    }

    // Time and turns.

    /// Returns the time on every shard.
    pub fn now(&self) -> Now {
        Now { monotonic_ns: self.now_ms * 1_000_000, wall: WallTime(self.wall_ahead_ms + self.now_ms) }
    }

    /// Sets the wall clock forwards or backwards by this many milliseconds, as an administrator or NTP would. Monotonic
    /// time is unaffected. A clock before 1970 counts as 1970.
    pub fn jump_wall_clock(&mut self, milliseconds: i64) {
        self.wall_ahead_ms = self.wall_ahead_ms.saturating_add_signed(milliseconds);
    }

    /// Returns a [`Delay`] for handlers that take time.
    pub fn delay(&self) -> Delay {
        self.delay.clone()
    }

    /// Returns the number of turns so far, over all shards.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Steps one shard once, whether or not it has anything to do.
    ///
    /// # Panics
    ///
    /// If an invariant of the router does not hold afterwards.
    pub fn step(&mut self, shard: usize) -> Turn {
        let turn = self.take_turn(shard);
        self.end_turn(shard, turn);
        turn
    }

    fn take_turn(&mut self, shard: usize) -> Turn {
        let now = self.now();
        let node = &mut self.nodes[shard];
        (node.awake, node.in_turn) = (false, true);
        self.steps += 1;
        self.turn_began_ms.store(self.now_ms, Ordering::Relaxed);
        node.shard.step(now, &mut node.inputs, &mut node.outputs)
    }

    /// Does what a driver does after a turn.
    fn end_turn(&mut self, shard: usize, turn: Turn) {
        let node = &mut self.nodes[shard];
        let rung: Vec<usize> = node.shard.flush().to_vec();
        node.in_turn = false;
        // As a driver does between arming its doorbell and parking.
        node.awake |= turn.worked || turn.more || node.shard.has_incoming();
        node.deadline_ms = turn.next_deadline_ms;
        let written = node.shard.records();
        for record in split(written.bytes()) {
            let (kind, body) = record.expect("a shard writes whole records");
            node.records.push((kind, body.to_vec()));
        }
        written.clear();
        assert_eq!(written.last().0, node.records.len() as u64, "records are numbered from one");
        for output in std::mem::take(&mut self.nodes[shard].outputs) {
            for observer in &mut self.observers {
                observer(shard, &output);
            }
            self.put_away(shard, output);
        }
        for rung in rung {
            self.nodes[rung].awake |= !self.nodes[rung].in_turn;
        }
        self.now_ms += self.delay.take();
        self.check(shard);
    }

    fn put_away(&mut self, shard: usize, output: Output) {
        let node = &mut self.nodes[shard];
        match output {
            Output::Answer(token, answer) => {
                assert!(node.answers.insert(token.0, answer).is_none(), "{token:?} was answered twice");
            }
            Output::Deliver(inbox, message) => self.put_into_inbox(shard, inbox, message),
            Output::CloseInbox(inbox) => self.close_inbox(inbox),
            // Its owner can still read what it was given.
            Output::InboxEnded(_) => {}
            Output::Wanted(agent) => node.wanted.push(agent),
            Output::Event(event) => node.events.push(event),
        }
    }

    /// Steps every shard that has something to do once. Returns whether there was one.
    pub fn round(&mut self) -> bool {
        let due: Vec<usize> = (0..self.nodes.len()).filter(|shard| self.is_due(*shard)).collect();
        if self.overlapping {
            let mut turns = Vec::with_capacity(due.len());
            for shard in &due {
                turns.push(self.take_turn(*shard));
                self.now_ms += self.delay.take();
            }
            for (shard, turn) in due.iter().zip(turns) {
                self.end_turn(*shard, turn);
            }
        } else {
            for shard in &due {
                self.step(*shard);
            }
        }
        !due.is_empty()
    }

    /// Whether a driver would step this shard now.
    pub fn is_due(&self, shard: usize) -> bool {
        self.nodes[shard].is_due(self.now_ms)
    }

    /// Runs at the current time until no shard has anything to do. An agent that polls is polled on the turns that its
    /// shard takes anyway; [`World::step`] gives it another one.
    ///
    /// # Panics
    ///
    /// If the shards do not come to rest.
    pub fn run(&mut self) {
        let mut rounds = 0;
        while self.round() {
            rounds += 1;
            assert!(rounds < ROUNDS_MAX, "the shards do not come to rest");
        }
    }

    /// Advances time, stopping at every deadline of a shard.
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
        self.now_ms = self.now_ms.max(end_ms);
        self.run();
    }

    /// Excludes a shard from [`World::run`] and [`World::advance`], or includes it again.
    pub fn pause(&mut self, shard: usize, paused: bool) {
        self.nodes[shard].paused = paused;
    }
}
