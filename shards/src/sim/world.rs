//! The shards of a simulated router, and its time.
//!
//! A shard is stepped only when a driver would step it: its doorbell was rung, it has inputs, its last turn left work
//! or its deadline has come. So a wake-up that the engine forgets shows as a message that never arrives. After every
//! step the books are checked: see [`books`](super::books).

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
use crate::shard::io::{Answer, Event, InboxNumber, Input, Now, Output, Token};
use crate::shard::{Shard, Turn};

use super::inbox::OpenInbox;
use super::script::{Log, Script};

/// The wall time when monotonic time is zero, in milliseconds since 1970.
pub const WALL_START_MS: u64 = 1_700_000_000_000;
/// Rounds without an end in sight: more of them than this, at one moment, and a shard spins.
const ROUNDS_MAX: u64 = 20_000;

/// One shard with what goes in and what came out.
pub struct Node {
    /// The shard itself.
    pub shard: Shard,
    /// What it has not taken in yet.
    pub inputs: VecDeque<Input>,
    /// Answers that nobody has taken yet, by token. They stay until they are taken.
    pub answers: HashMap<u64, Answer>,
    /// What came out for inboxes that the [`World`] did not open itself.
    pub delivered: Vec<(InboxNumber, Message)>,
    /// What the shard wanted written to its journal: each record's kind and body, in order, from sequence one.
    pub records: Vec<(u8, Vec<u8>)>,
    /// What the shard reported: see [`World::watch_events`].
    pub events: Vec<Event>,
    /// A paused shard is not stepped, as if its core were busy with something else.
    pub paused: bool,
    outputs: Vec<Output>,
    awake: bool,
    /// It is in the middle of a turn, so it hears no doorbell.
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

/// Lets a handler take virtual time: what it spends passes on every shard once its shard's turn is over.
#[derive(Clone, Debug, Default)]
pub struct Delay(Arc<AtomicU64>);

impl Delay {
    /// Spends so many milliseconds.
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
/// Shards are named by their number, from zero. Calls whose name ends in `later` only put something in; the others step
/// shards until they have their answer.
pub struct World {
    /// The shards.
    pub nodes: Vec<Node>,
    /// Monotonic time, in milliseconds. It may be moved on at will, never back.
    pub now_ms: u64,
    /// How agents are spread over the shards.
    pub partition: Partition,
    /// Whether shards that are due together take their turns at the same time, as on cores of their own: each receives and
    /// sends before any of them rings a doorbell. Otherwise they take them one after the other.
    pub overlapping: bool,
    /// Set by tests that look at the books themselves: they are not checked after every step any more.
    pub unchecked: bool,
    pub(crate) inboxes: BTreeMap<u32, OpenInbox>,
    pub(crate) inbox_numbers: u32,
    /// By how much wall time is ahead of monotonic time, in milliseconds since 1970.
    wall_ahead_ms: u64,
    tokens: u64,
    steps: u64,
    /// What stopwatches show when a turn begins, in milliseconds.
    turn_began_ms: Arc<AtomicU64>,
    delay: Delay,
    pub(super) observers: Vec<Observer>,
    pub(super) checks: Vec<Check>,
}

impl World {
    pub(crate) const START: Now = Now { monotonic_ns: 0, wall: WallTime(WALL_START_MS) };

    /// A router of so many shards with the defaults of [`Setup`](super::Setup).
    ///
    /// # Panics
    /// When the number of shards is not from 1 to 1024.
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

    // What goes in.

    /// Puts an input in front of a shard and wakes it.
    pub fn give(&mut self, shard: usize, input: Input) {
        self.nodes[shard].inputs.push_back(input);
        self.nodes[shard].awake = true;
    }

    /// As [`World::give`], before everything else that the shard has not taken in.
    pub(crate) fn give_first(&mut self, shard: usize, input: Input) {
        self.nodes[shard].inputs.push_front(input);
        self.nodes[shard].awake = true;
    }

    /// A token that was not used yet.
    pub fn token(&mut self) -> Token {
        self.tokens += 1;
        Token(self.tokens)
    }

    /// The shard that an agent lives on.
    pub fn shard_of(&self, agent: AgentId) -> usize {
        self.partition.shard_of(agent).as_usize()
    }

    /// A name whose agent lives on this shard, the same one every time.
    pub fn name_on(&self, shard: u16, prefix: &str) -> AgentName {
        AgentName::try_new(self.partition.name_on(ShardIndex(shard), prefix)).expect("the prefix of a legal name")
    }

    /// Registers an agent. The answer is for [`World::take_answer`] of its shard.
    pub fn register_later(&mut self, registration: Registration) -> Token {
        let (token, shard) = (self.token(), self.shard_of(registration.id()));
        self.give(shard, Input::Register(vec![registration], token));
        token
    }

    /// Registers a scripted agent on a shard, under a name that begins with `prefix`.
    ///
    /// # Panics
    /// When it is refused.
    pub fn add(&mut self, shard: u16, prefix: &str, script: Script) -> AgentId {
        let name = self.name_on(shard, prefix);
        self.register(script.registration(name))
    }

    /// Registers an agent that writes down what it is told.
    ///
    /// # Panics
    /// When it is refused.
    pub fn add_listener(&mut self, shard: u16, prefix: &str) -> (AgentId, Log<Message>) {
        let log = Log::new();
        (self.add(shard, prefix, Script::listener(&log)), log)
    }

    /// Registers an agent with an inbox that the test looks after itself: what it is given is in [`Node::delivered`].
    /// [`World::open_inbox`] is the easier way.
    ///
    /// # Panics
    /// When it is refused.
    pub fn add_inbox(&mut self, shard: u16, prefix: &str, inbox: u32, window: u32) -> AgentId {
        let name = self.name_on(shard, prefix);
        self.register(Registration::outside(name, InboxNumber(inbox), window))
    }

    /// The shard that admits the message: its sender's, or the first.
    pub(crate) fn admits(&self, message: &Message) -> usize {
        message.sender().map_or(0, |sender| self.shard_of(sender))
    }

    /// Queues a message at its sender's shard. What becomes of it is reported to its sender, as any agent hears of it.
    pub fn tell(&mut self, message: Message) {
        let shard = self.admits(&message);
        self.give(shard, Input::Tell(message));
    }

    /// Queues a message at its sender's shard. The answer is for [`World::take_sent`] of that shard.
    pub fn send_later(&mut self, message: Message) -> Token {
        let (shard, token) = (self.admits(&message), self.token());
        self.give(shard, Input::Send(message, token));
        token
    }

    /// Sends a message from outside in its sender's name, and steps the sender's shard once.
    ///
    /// # Errors
    /// The message and why it was refused.
    pub fn send(&mut self, message: Message) -> Result<crate::message::MessageId, crate::shard::io::Rejected> {
        let shard = self.admits(&message);
        let token = self.send_later(message);
        self.step(shard);
        self.take_sent(shard, token).expect("a message is admitted or refused at once")
    }

    /// Asks from outside, at a shard, with a timeout in milliseconds. The answer is for [`World::take_reply`] of that
    /// shard.
    pub fn ask(&mut self, shard: usize, message: Message, timeout_ms: u32) -> Token {
        let token = self.token();
        self.give(shard, Input::Ask { message, timeout_ms: u64::from(timeout_ms), token });
        token
    }

    /// Tells a shard that everything up to this append is durable.
    pub fn commit(&mut self, shard: usize, sequence: u64) {
        self.nodes[shard].committed = self.nodes[shard].committed.max(sequence);
        self.give(shard, Input::Committed(Lsn(sequence)));
    }

    /// How many of a shard's records are durable.
    pub fn committed(&self, shard: usize) -> u64 {
        self.nodes[shard].committed
    }

    /// What a machine finds in the journals of these shards that stops now: of each shard so many records. The last of them
    /// may not have been reported as durable.
    ///
    /// # Panics
    /// When a record cannot be read.
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

    /// Tells a shard that the next `most` of its appends are durable, or as many as there are.
    pub fn commit_next(&mut self, shard: usize, most: u64) {
        let node = &self.nodes[shard];
        let appended = node.records.len() as u64;
        let upto = appended.min(node.committed.saturating_add(most));
        if upto > node.committed {
            self.commit(shard, upto);
        }
    }

    /// Has all shards report what happens.
    pub fn watch_events(&mut self) {
        for shard in 0..self.nodes.len() {
            self.give(shard, Input::WatchEvents(true));
        }
        self.run();
    }

    /// Tells all shards to admit nothing more from outside.
    pub fn drain_all(&mut self) {
        for shard in 0..self.nodes.len() {
            self.give(shard, Input::Drain);
        }
        self.run();
    }

    /// Tells all shards to give up whatever is pending.
    pub fn stop_all(&mut self) {
        for shard in 0..self.nodes.len() {
            self.give(shard, Input::Stop);
        }
        self.run();
    }

    // Time and turns.

    /// The time on every shard.
    pub fn now(&self) -> Now {
        Now { monotonic_ns: self.now_ms * 1_000_000, wall: WallTime(self.wall_ahead_ms + self.now_ms) }
    }

    /// Sets the wall clock forwards or backwards by so many milliseconds, as an administrator or NTP would. Monotonic
    /// time goes on as before. A clock before 1970 counts as 1970.
    pub fn jump_wall_clock(&mut self, milliseconds: i64) {
        self.wall_ahead_ms = self.wall_ahead_ms.saturating_add_signed(milliseconds);
    }

    /// For handlers that take their time.
    pub fn delay(&self) -> Delay {
        self.delay.clone()
    }

    /// How many turns were taken so far, on all shards together.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// One turn of one shard, whether it has something to do or not.
    ///
    /// # Panics
    /// When an invariant of the router does not hold afterwards.
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

    /// What a driver does after a turn.
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
            Output::Event(event) => node.events.push(event),
        }
    }

    /// Lets every shard that has something to do take one turn. Says whether there was one.
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

    /// Runs at the present moment until no shard has anything to do. An agent that polls is polled on the turns that its
    /// shard takes anyway; [`World::step`] gives it another one.
    ///
    /// # Panics
    /// When the shards do not come to rest.
    pub fn run(&mut self) {
        let mut rounds = 0;
        while self.round() {
            rounds += 1;
            assert!(rounds < ROUNDS_MAX, "the shards do not come to rest");
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
        self.now_ms = self.now_ms.max(end_ms);
        self.run();
    }

    /// Keeps a shard from being stepped by [`World::run`] and [`World::advance`], or lets it go on.
    pub fn pause(&mut self, shard: usize, paused: bool) {
        self.nodes[shard].paused = paused;
    }
}
