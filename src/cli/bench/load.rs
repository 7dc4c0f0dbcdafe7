//! The agents that create the load. All of them use the router as any agent would.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use caxton_router::agent::Polled;
use caxton_router::domain::CapabilityName;
use caxton_router::message::Choice;
use caxton_router::message::{ConversationId, MessageBuilder, Reliability, Term};
use caxton_router::{Agent, AgentId, Context, Message, Outcome, Performative};
use hdrhistogram::Histogram;
use quanta::Instant;

use super::patients::{Errand, PoisonTally};
use super::protocols::Tally;

/// Latencies are recorded in nanoseconds up to a minute, with three significant digits.
const LATENCY_NS_MAX: u64 = 60_000_000_000;
/// Without a rate, one in this many messages carries its send time: reading the clock for each one would cost as much
/// as half the work.
const SAMPLE_EVERY: u32 = 64;
/// Approximate number of a pacer's messages timed per second. At higher rates the timed ones are picked at random:
/// timing each would cost a quarter of what a message does.
const TIMED_PER_SECOND: f64 = 250_000.0;
/// Maximum number of messages sent by a pacer per turn; what is due beyond that is late and counts as such.
pub const PACED_PER_TURN_MAX: u64 = 256;

/// State shared by the agents of one run.
pub struct Control {
    /// Whether no more rounds are begun.
    pub stop: AtomicBool,
    /// Whether latencies are recorded.
    record: AtomicBool,
    /// Whether any latency was recorded since recording began.
    recorded: AtomicBool,
    /// Messages that agents could not send. Any at all fails a run that is not an overload.
    pub refused: AtomicU64,
    /// Failure notices to agents. Any at all fails an undisturbed run.
    pub failures: AtomicU64,
    /// Rounds (conversations, negotiations, broadcasts) finished.
    pub rounds: AtomicU64,
    /// Messages sent by pacers to agents subjected to the disturbance, except poison.
    pub to_patients: AtomicU64,
    /// Results of the poison.
    pub poison: PoisonTally,
    /// Results of conversations with protocols.
    pub plays: Tally,
    latencies: Vec<Mutex<Histogram<u64>>>,
    origin: Instant,
}

impl Control {
    /// Creates the state for this many shards and poison messages.
    pub fn new(shards: u16, poison: u64) -> Arc<Self> {
        Arc::new(Self {
            stop: AtomicBool::new(false),
            record: AtomicBool::new(true),
            recorded: AtomicBool::new(false),
            refused: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            rounds: AtomicU64::new(0),
            to_patients: AtomicU64::new(0),
            poison: PoisonTally::new(poison),
            plays: Tally::default(),
            latencies: (0..shards).map(|_| Mutex::new(new_histogram())).collect(),
            origin: Instant::now(),
        })
    }

    /// Returns all shards' latencies, in nanoseconds.
    pub fn latencies(&self) -> Histogram<u64> {
        let mut all = new_histogram();
        for shard in &self.latencies {
            // Histograms with the same bounds can always be added.
            let _ = all.add(&*shard.lock().unwrap_or_else(PoisonError::into_inner));
        }
        all
    }

    /// Discards the latencies of the warm-up.
    pub fn begin_recording(&self) {
        for shard in &self.latencies {
            shard.lock().unwrap_or_else(PoisonError::into_inner).reset();
        }
        self.recorded.store(false, Ordering::Relaxed);
    }

    /// Stops recording latencies.
    pub fn end_recording(&self) {
        self.record.store(false, Ordering::Relaxed);
    }

    /// Whether any latency was recorded since recording began.
    pub fn has_recorded(&self) -> bool {
        self.recorded.load(Ordering::Relaxed)
    }

    fn record(&self, shard: usize, sent_ns: u64) {
        let took = self.nanoseconds().saturating_sub(sent_ns);
        self.latencies[shard].lock().unwrap_or_else(PoisonError::into_inner).saturating_record(took);
        self.recorded.store(true, Ordering::Relaxed);
    }

    pub(super) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    #[allow(clippy::cast_possible_truncation)] // 584 years fit.
    pub(super) fn nanoseconds(&self) -> u64 {
        self.origin.elapsed().as_nanos() as u64
    }
}

fn new_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).unwrap_or_else(|_| unreachable!("the bounds are legal"))
}

/// Minimum size of content in bytes: the send time, and the number of returns left.
pub const SIZE_MIN: usize = 16;

thread_local! {
    /// The content after the stamps, shared by a shard's agents, so that the load does not fill the caches in which the
    /// router is measured.
    static PAYLOAD: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Common parts of the load's agents: the shard's recorder and the length of messages.
pub struct Kit {
    pub(super) control: Arc<Control>,
    shard: usize,
    size: usize,
    until_sample: u32,
    /// Whether messages are durable.
    durable: bool,
}

impl Kit {
    pub fn new(control: &Arc<Control>, shard: usize, size: usize, salt: u32) -> Self {
        Self {
            control: Arc::clone(control),
            shard,
            size: size.max(SIZE_MIN),
            until_sample: salt % SAMPLE_EVERY,
            durable: false,
        }
    }

    /// Sets whether messages are durable.
    pub fn durable(mut self, durable: bool) -> Self {
        self.durable = durable;
        self
    }

    /// Sets the content, for some messages with the time.
    #[inline]
    fn fill(&mut self, builder: MessageBuilder) -> MessageBuilder {
        self.fill_returning(builder, 0)
    }

    /// Like [`Kit::fill`], for a message to be returned `returns` times.
    #[inline]
    pub(super) fn fill_returning(&mut self, builder: MessageBuilder, returns: u64) -> MessageBuilder {
        let stamp = if self.until_sample == 0 {
            self.until_sample = SAMPLE_EVERY;
            self.control.nanoseconds().max(1)
        } else {
            self.until_sample -= 1;
            0
        };
        self.fill_stamped(builder, stamp, returns)
    }

    #[inline]
    pub(super) fn fill_stamped(&mut self, builder: MessageBuilder, stamp: u64, returns: u64) -> MessageBuilder {
        PAYLOAD.with_borrow_mut(|payload| {
            payload.resize(self.size - SIZE_MIN, b'x');
            let (stamp, returns) = (stamp.to_le_bytes(), returns.to_le_bytes());
            let builder = builder.content([stamp.as_slice(), returns.as_slice(), payload.as_slice()]);
            if self.durable { builder.reliability(Reliability::Durable) } else { builder }
        })
    }

    /// Returns how many times the message is still to be returned.
    #[inline]
    pub(super) fn returns(message: &Message) -> u64 {
        let bytes = message.content().as_bytes();
        bytes.get(8..SIZE_MIN).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
    }

    /// Records the latency of a message that carries its send time.
    #[inline]
    pub(super) fn receive(&self, message: &Message) {
        let Some(stamp) = message.content().as_bytes().first_chunk::<8>() else { return };
        let sent = u64::from_le_bytes(*stamp);
        if sent != 0 && message.performative() != Performative::Failure && self.control.record.load(Ordering::Relaxed) {
            self.control.record(self.shard, sent);
        }
    }

    /// Whether another round is to begin: while the budget lasts or, without one, until the run is stopped.
    fn goes_on(&self, budget: &mut Option<u64>) -> bool {
        match budget {
            None => !self.control.stopped(),
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
        }
    }

    #[inline]
    pub(super) fn send(&self, builder: MessageBuilder, context: &mut Context<'_>) -> bool {
        let sent = builder.build().is_ok_and(|message| context.send(message).is_ok());
        if !sent {
            self.control.refused.fetch_add(1, Ordering::Relaxed);
        }
        sent
    }

    /// Counts a failure notice. Returns whether the message is one.
    #[inline]
    pub(super) fn is_failure(&self, message: &Message) -> bool {
        let failed = message.performative() == Performative::Failure;
        if failed {
            self.control.failures.fetch_add(1, Ordering::Relaxed);
        }
        failed
    }
}

/// Sends messages back and forth within conversations between pairs of agents.
pub struct Rally {
    kit: Kit,
    /// The agents it begins conversations with, and how many times the message in each returns.
    partners: Vec<(AgentId, u64)>,
}

impl Rally {
    pub fn new(kit: Kit, partners: Vec<(AgentId, u64)>) -> Self {
        Self { kit, partners }
    }
}

impl Agent for Rally {
    #[inline]
    fn handle(&mut self, message: &Message, context: &mut Context<'_>) -> Outcome {
        if self.kit.is_failure(message) {
            return Outcome::Done;
        }
        if message.conversation().is_some() {
            self.kit.receive(message);
            let returns = Kit::returns(message);
            if returns > 0 && !self.kit.control.stopped() {
                let reply = self.kit.fill_returning(message.reply(Performative::Inform), returns - 1);
                self.kit.send(reply, context);
            }
            return Outcome::Done;
        }
        for (partner, returns) in std::mem::take(&mut self.partners) {
            let conversation = context.new_conversation();
            let builder = Message::builder(Performative::Inform).receiver(partner).conversation(conversation);
            let builder = self.kit.fill_returning(builder, returns);
            self.kit.send(builder, context);
        }
        Outcome::Done
    }
}

/// Takes both sides in FIPA request conversations: request, agree, inform.
pub struct Requester {
    kit: Kit,
    partners: Vec<AgentId>,
    next: usize,
    /// Rounds that this agent still has to begin; `None` until the run is stopped.
    budget: Option<u64>,
    protocol: Option<Term>,
}

impl Requester {
    pub fn new(kit: Kit, partners: Vec<AgentId>, budget: Option<u64>) -> Self {
        Self { kit, partners, next: 0, budget, protocol: Term::of("fipa-request") }
    }

    fn begin(&mut self, context: &mut Context<'_>) {
        let goes_on = self.kit.goes_on(&mut self.budget);
        if !goes_on || self.partners.is_empty() {
            return;
        }
        let partner = self.partners[self.next % self.partners.len()];
        self.next += 1;
        let conversation = context.new_conversation();
        let correlation = context.new_correlation();
        let builder = Message::builder(Performative::Request)
            .receiver(partner)
            .conversation(conversation)
            .reply_with(correlation);
        let builder = match self.protocol {
            Some(protocol) => builder.protocol_term(protocol),
            None => builder,
        };
        let builder = self.kit.fill(builder);
        self.kit.send(builder, context);
    }
}

impl Agent for Requester {
    fn handle(&mut self, message: &Message, context: &mut Context<'_>) -> Outcome {
        if message.conversation().is_none() {
            if !self.kit.is_failure(message) {
                for _ in 0..self.partners.len() {
                    self.begin(context);
                }
            }
            return Outcome::Done;
        }
        match message.performative() {
            Performative::Request => {
                self.kit.receive(message);
                let agree = self.kit.fill(message.reply(Performative::Agree));
                self.kit.send(agree, context);
                let inform = self.kit.fill(message.reply(Performative::Inform));
                self.kit.send(inform, context);
            }
            Performative::Agree => self.kit.receive(message),
            Performative::Inform => {
                self.kit.receive(message);
                self.kit.control.rounds.fetch_add(1, Ordering::Relaxed);
                context.close_conversation_of(message);
                self.begin(context);
            }
            _ => {
                self.kit.is_failure(message);
            }
        }
        Outcome::Done
    }
}

/// The initiator of contract net negotiations: calls for proposals, accepts the first one, waits for its result.
pub struct Manager {
    kit: Kit,
    contractors: Arc<[AgentId]>,
    protocol: Option<Term>,
    budget: Option<u64>,
    proposals: Vec<Message>,
}

impl Manager {
    pub fn new(kit: Kit, contractors: Vec<AgentId>, budget: Option<u64>) -> Self {
        let protocol = Term::of("fipa-contract-net");
        Self { kit, contractors: contractors.into(), protocol, budget, proposals: Vec::new() }
    }

    fn call(&mut self, context: &mut Context<'_>) {
        let goes_on = self.kit.goes_on(&mut self.budget);
        if !goes_on {
            return;
        }
        let conversation = context.new_conversation();
        let correlation = context.new_correlation();
        let builder = Message::builder(Performative::Cfp)
            .receivers(self.contractors.iter().copied())
            .conversation(conversation)
            .reply_with(correlation);
        let builder = match self.protocol {
            Some(protocol) => builder.protocol_term(protocol),
            None => builder,
        };
        let builder = self.kit.fill(builder);
        self.kit.send(builder, context);
    }

    fn award(&mut self, context: &mut Context<'_>) {
        for (place, proposal) in std::mem::take(&mut self.proposals).iter().enumerate() {
            let act = if place == 0 { Performative::AcceptProposal } else { Performative::RejectProposal };
            let answer = self.kit.fill(proposal.reply(act));
            self.kit.send(answer, context);
        }
    }
}

impl Agent for Manager {
    fn handle(&mut self, message: &Message, context: &mut Context<'_>) -> Outcome {
        match message.performative() {
            Performative::Propose => {
                self.kit.receive(message);
                self.proposals.push(message.clone());
                if self.proposals.len() == self.contractors.len() {
                    self.award(context);
                }
            }
            Performative::Inform => {
                self.kit.receive(message);
                self.kit.control.rounds.fetch_add(1, Ordering::Relaxed);
                context.close_conversation_of(message);
                self.call(context);
            }
            Performative::Failure => {
                self.kit.is_failure(message);
            }
            _ => self.call(context),
        }
        Outcome::Done
    }
}

/// A participant in contract net negotiations: proposes, and performs what it is awarded.
pub struct Contractor {
    kit: Kit,
}

impl Contractor {
    pub fn new(kit: Kit) -> Self {
        Self { kit }
    }
}

impl Agent for Contractor {
    fn handle(&mut self, message: &Message, context: &mut Context<'_>) -> Outcome {
        let answer = match message.performative() {
            Performative::Cfp => message.reply(Performative::Propose),
            Performative::AcceptProposal => message.reply(Performative::Inform),
            Performative::RejectProposal => {
                self.kit.receive(message);
                return Outcome::Done;
            }
            _ => {
                self.kit.is_failure(message);
                return Outcome::Done;
            }
        };
        self.kit.receive(message);
        let answer = self.kit.fill(answer);
        self.kit.send(answer, context);
        Outcome::Done
    }
}

/// Sends to all providers of a capability, and again once all have replied.
pub struct Broadcaster {
    kit: Kit,
    capability: CapabilityName,
    listeners: usize,
    answers: usize,
    budget: Option<u64>,
}

impl Broadcaster {
    pub fn new(kit: Kit, capability: &CapabilityName, listeners: usize, budget: Option<u64>) -> Self {
        Self { kit, capability: capability.clone(), listeners, answers: 0, budget }
    }

    fn broadcast(&mut self, context: &mut Context<'_>) {
        let goes_on = self.kit.goes_on(&mut self.budget);
        if goes_on {
            self.answers = 0;
            let builder = Message::builder(Performative::QueryRef).capability(&self.capability, Choice::All);
            let builder = self.kit.fill(builder);
            self.kit.send(builder, context);
        }
    }
}

impl Agent for Broadcaster {
    fn handle(&mut self, message: &Message, context: &mut Context<'_>) -> Outcome {
        match message.performative() {
            Performative::InformRef => {
                self.kit.receive(message);
                self.answers += 1;
                if self.answers == self.listeners {
                    self.kit.control.rounds.fetch_add(1, Ordering::Relaxed);
                    self.broadcast(context);
                }
            }
            Performative::Failure => {
                self.kit.is_failure(message);
            }
            _ => self.broadcast(context),
        }
        Outcome::Done
    }
}

/// Replies to broadcasts.
pub struct Listener {
    kit: Kit,
}

impl Listener {
    pub fn new(kit: Kit) -> Self {
        Self { kit }
    }
}

impl Agent for Listener {
    fn handle(&mut self, message: &Message, context: &mut Context<'_>) -> Outcome {
        if !self.kit.is_failure(message) {
            self.kit.receive(message);
            let answer = self.kit.fill(message.reply(Performative::InformRef));
            self.kit.send(answer, context);
        }
        Outcome::Done
    }
}

/// Keeps a guest busy: a window of messages, the last of which it replies to, and then the next.
pub struct Feeder {
    kit: Kit,
    guest: AgentId,
    /// Messages of a round without the reply.
    window: u64,
    budget: Option<u64>,
}

impl Feeder {
    pub fn new(kit: Kit, guest: AgentId, window: u64, budget: Option<u64>) -> Self {
        Self { kit, guest, window, budget }
    }

    fn feed(&mut self, context: &mut Context<'_>) {
        if !self.kit.goes_on(&mut self.budget) {
            return;
        }
        for number in 1..=self.window {
            let last = number == self.window;
            let act = if last { Performative::Request } else { Performative::Inform };
            let builder = Message::builder(act).receiver(self.guest);
            // The latency of the last one includes the guest's work on all.
            let stamp = if last { self.kit.control.nanoseconds().max(1) } else { 0 };
            let builder = self.kit.fill_stamped(builder, stamp, 0);
            self.kit.send(builder, context);
        }
    }
}

impl Agent for Feeder {
    fn handle(&mut self, message: &Message, context: &mut Context<'_>) -> Outcome {
        if self.kit.is_failure(message) {
            return Outcome::Done;
        }
        if message.performative() == Performative::Inform {
            self.kit.receive(message);
            self.kit.control.rounds.fetch_add(1, Ordering::Relaxed);
        }
        self.feed(context);
        Outcome::Done
    }
}

/// Sends at a fixed rate to agents picked at random, regardless of the results: an open loop.
///
/// A message carries the time at which it was due, not the one at which it was sent, so a router that falls behind
/// shows it in the latencies instead of slowing the load down.
pub struct Pacer {
    kit: Kit,
    receivers: Vec<Target>,
    per_second: f64,
    /// One in this many messages is timed.
    timed_in: u64,
    started_ns: Option<u64>,
    sent: u64,
    sent_max: u64,
    errand: Option<Errand>,
}

/// A receiver of a pacer.
struct Target {
    agent: AgentId,
    /// Whether it is subjected to the disturbance; its latencies are not recorded.
    patient: bool,
    conversation: Option<ConversationId>,
}

impl Pacer {
    pub fn new(kit: Kit, receivers: Vec<AgentId>, per_second: f64, sent_max: u64) -> Self {
        let receivers =
            receivers.into_iter().map(|agent| Target { agent, patient: false, conversation: None }).collect();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Rates are positive and at most 1e9.
        let timed_in = (per_second / TIMED_PER_SECOND).ceil().max(1.0) as u64;
        Self { kit, receivers, per_second, timed_in, started_ns: None, sent: 0, sent_max, errand: None }
    }

    /// Excludes the latencies of messages to these agents, whether or not the run is disturbed.
    #[must_use]
    pub fn sparing(mut self, patients: &[AgentId]) -> Self {
        for target in &mut self.receivers {
            target.patient = patients.contains(&target.agent);
        }
        self
    }

    /// Excludes all latencies.
    #[must_use]
    pub fn unrecorded(mut self) -> Self {
        self.receivers.iter_mut().for_each(|target| target.patient = true);
        self
    }

    /// Adds a task.
    #[must_use]
    pub fn on(mut self, errand: Option<Errand>) -> Self {
        self.errand = errand;
        self
    }
}

impl Agent for Pacer {
    fn handle(&mut self, message: &Message, context: &mut Context<'_>) -> Outcome {
        if !self.kit.is_failure(message) {
            context.poll_me();
        }
        Outcome::Done
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Times and rates are positive.
    fn poll(&mut self, context: &mut Context<'_>) -> Polled {
        if self.kit.control.stopped() || self.sent >= self.sent_max {
            return Polled::Finished;
        }
        let now_ns = self.kit.control.nanoseconds();
        let started_ns = *self.started_ns.get_or_insert(now_ns);
        let on_errand = match &mut self.errand {
            Some(errand) => errand.go_on(&mut self.kit, now_ns - started_ns, context),
            None => false,
        };
        // The first one is due at once.
        let due = ((now_ns - started_ns) as f64 * self.per_second / 1e9) as u64 + 1;
        let due = due.min(self.sent_max).min(self.sent + PACED_PER_TURN_MAX);
        if due <= self.sent {
            return if on_errand { Polled::Worked } else { Polled::Waiting };
        }
        while self.sent < due {
            let due_ns = started_ns + (self.sent as f64 * 1e9 / self.per_second) as u64;
            let dice = context.random();
            let place = (dice % self.receivers.len() as u64) as usize;
            let timed = (dice >> 32).is_multiple_of(self.timed_in);
            let target = &mut self.receivers[place];
            let conversation = *target.conversation.get_or_insert_with(|| context.new_conversation());
            let builder = Message::builder(Performative::Inform).receiver(target.agent).conversation(conversation);
            let stamp = if target.patient || !timed { 0 } else { due_ns.max(1) };
            let patient = target.patient;
            let builder = self.kit.fill_stamped(builder, stamp, 0);
            if !self.kit.send(builder, context) {
                break;
            }
            if patient {
                self.kit.control.to_patients.fetch_add(1, Ordering::Relaxed);
            }
            self.sent += 1;
        }
        Polled::Worked
    }
}

/// Receives the messages of pacers.
pub struct Sink {
    kit: Kit,
}

impl Sink {
    pub fn new(kit: Kit) -> Self {
        Self { kit }
    }
}

impl Agent for Sink {
    fn handle(&mut self, message: &Message, _context: &mut Context<'_>) -> Outcome {
        if !self.kit.is_failure(message) {
            self.kit.receive(message);
        }
        Outcome::Done
    }
}
