//! One run: the actions of its plan, one after the other, and its end.

use crate::base::index::ShardIndex;
use crate::base::rng::mixed;
use crate::conversation::Conformance;
use crate::dead_letter::{DeadLetterFilter, DeadLetterId, DeadLetterSearch};
use crate::domain::AgentName;
use crate::flow_control::policy::OverflowPolicy;
use crate::journal::record::Durability;
use crate::message::{Message, Receiver};
use crate::protocol::{Mode, Rulebook};
use crate::shard::agent::Registration;
use crate::shard::io::{InboxNumber, Input, Token};
use crate::sim::dice::Dice;
use crate::sim::{Setup, World};
use crate::supervision::breaker::BreakerPolicy;
use crate::supervision::retry::{Decision, FailedAttempt, FailureHandler};

use super::cast::{Cast, Label, panic_as_planned};
use super::faults::Fault;
use super::ledger::{Question, SharedLedger};
use super::{Failed, Options, Outcome, actions};

/// The purposes of a seed's numbers: each has its own generator.
mod purpose {
    pub const SHARDS: u64 = 1;
    pub const ACTIONS: u64 = 2;
    pub const LIMITS: u64 = 3;
    pub const MEMBERS: u64 = 4;
    pub const END: u64 = 5;
    pub const HANDLERS: u64 = 6;
    pub const OVERFLOW: u64 = 7;
    pub const PROTOCOLS: u64 = 8;
    pub const OVERLAP: u64 = 9;
    /// The first action's; each has its own.
    pub const FIRST_ACTION: u64 = 1 << 32;
}

/// Number of registrations before the first action.
const MEMBERS_AT_START: u64 = 20;
/// Maximum number of actions of a run whose length the seed chooses.
const ACTIONS_BY_SEED_MAX: u32 = 1_500;
/// Time within which everything in flight at the end of the actions reaches its deadline, in milliseconds: lifetimes,
/// delivery times, delayed restarts, and the successive sweeps for expired messages.
const SETTLES_WITHIN_MS: u64 = 40_000;
/// Time after which agents suspended at the end of the actions are resumed, in milliseconds: some of the messages
/// waiting for them have expired by then.
const RESUMED_AFTER_MS: u64 = 1_000;
/// Time within which conversations, notes and questions end without traffic, in milliseconds.
const ENDS_WITHIN_MS: u64 = 20_000;
/// A dead letter replayed alone is among this many of its shard.
const REPLAYED_ALONE_MAX: u64 = 50;
/// Time between two reads of the inboxes, in milliseconds.
const LOOK_EVERY_MS: u64 = 500;

pub(super) struct Play {
    seed: u64,
    options: Options,
    pub world: World,
    pub cast: Cast,
    ledger: SharedLedger,
    actions: u32,
    /// Total time by which the wall clock was set back, in milliseconds.
    pub wall_set_back_ms: u64,
    /// Whether the shards were stopped.
    pub stopped: bool,
}

impl Play {
    pub fn new(seed: u64, options: Options) -> Self {
        let by_seed = u16::try_from(Dice::of(seed, purpose::SHARDS).between(1, 4)).unwrap_or(1);
        let mut world = setup(seed, options.shards.unwrap_or(by_seed), &options).start();
        let mut dice = Dice::of(seed, purpose::HANDLERS);
        for node in &mut world.nodes {
            if options.allows(Fault::Failing) && dice.once_in(3) {
                node.shard.set_failure_handler(Box::new(Whims { panics: options.allows(Fault::Panics) }));
            }
        }
        let ledger = SharedLedger::new(seed);
        ledger.lock().mode = protocol_mode(seed);
        ledger.lock().gateways = world.nodes.iter().filter_map(|node| node.shard.gateway_id()).collect();
        let cast = Cast::new(&options, &ledger, world.delay());
        let (observing, checking) = (ledger.clone(), ledger.clone());
        world.observe(move |shard, output| observing.lock().look_at(shard, output));
        world.check_always(move |_| checking.lock().complaint());
        for check in options.own.checks.clone() {
            world.check_always(move |world| check(world));
        }
        Self { seed, options, world, cast, ledger, actions: 0, wall_set_back_ms: 0, stopped: false }
    }

    /// Plays the whole run. Panics with the first fault.
    pub fn play(&mut self) {
        self.world.watch_events();
        for number in 0..MEMBERS_AT_START {
            let character = Dice::of(self.seed, purpose::MEMBERS + (number << 8)).next();
            self.register(character);
        }
        for (name, make) in self.options.own.agents.clone() {
            let registration = self.cast.own(name, make);
            self.register_agent(registration);
        }
        let by_seed = Dice::of(self.seed, purpose::ACTIONS).between(100, ACTIONS_BY_SEED_MAX);
        for number in 0..self.options.actions.unwrap_or(by_seed) {
            self.actions = number + 1;
            let overlapping = Dice::of(self.seed, purpose::OVERLAP + (u64::from(number) << 8)).once_in(2);
            self.world.overlapping = overlapping && self.options.allows(Fault::Overlap);
            actions::act(self, &mut Dice::of(self.seed, purpose::FIRST_ACTION + u64::from(number)));
            // Events and responses are examined as they are output; they need not be kept.
            self.world.nodes.iter_mut().for_each(|node| node.events.clear());
        }
        self.end();
    }

    pub fn outcome(&self) -> Outcome {
        let account = self.world.total();
        let mut ledger = self.ledger.lock();
        ledger.note_text(&format!("{account:?}"));
        let history = ledger.history();
        let (steps, actions) = (self.world.steps(), self.actions);
        Outcome { seed: self.seed, shards: self.world.partition.shard_count(), actions, steps, account, history }
    }

    pub fn failed(&self, text: String) -> Failed {
        let (step, action) = (self.world.steps(), self.actions);
        Failed { seed: self.seed, shards: self.world.partition.shard_count(), action, step, text }
    }

    // Building blocks of actions.

    /// Sends a request to a shard; the response has to arrive exactly once.
    pub fn question(&mut self, shard: usize, input: impl FnOnce(Token) -> Input) {
        let token = self.world.token();
        self.asked(token, None);
        self.world.give(shard, input(token));
    }

    pub fn asked(&mut self, token: Token, message: Option<(Label, Receiver)>) {
        self.ledger.lock().ask(token, Question { message, redirected: false });
    }

    /// Replays a shard's dead letters, all of them or one, to their receivers or to another agent.
    pub fn replay(&mut self, dice: &mut Dice) {
        let (shard, token) = (self.any_shard(dice), self.world.token());
        let to = dice.once_in(2).then(|| self.cast.any_agent(dice));
        let mut search = Box::<DeadLetterSearch>::default();
        if dice.once_in(2) {
            let number = 1 + dice.below(REPLAYED_ALONE_MAX);
            search.filter =
                DeadLetterFilter::only(DeadLetterId { shard: ShardIndex(u16::try_from(shard).unwrap_or(0)), number });
        }
        self.ledger.lock().ask(token, Question { message: None, redirected: to.is_some() });
        self.world.give(shard, Input::ReplayDeadLetters(search, to, token));
    }

    pub fn register(&mut self, character: u64) {
        let name = Dice::new(character).pick(&(0..self.cast.names().len()).collect::<Vec<_>>());
        let name: AgentName = self.cast.names()[name].clone();
        let mut registration = self.cast.member(name, character);
        let mut dice = Dice::new(mixed(character, purpose::LIMITS));
        if self.cast.allows(Fault::Limits) && dice.once_in(4) {
            registration = registration.breaker(touchy_breaker(&mut dice));
        }
        let mut dice = Dice::new(mixed(character, purpose::OVERFLOW));
        if self.cast.allows(Fault::Overflow) && dice.once_in(2) {
            registration = registration.overflow(dice.pick(&OverflowPolicy::ALL));
        }
        self.register_agent(registration);
    }

    fn register_agent(&mut self, registration: Registration) {
        let token = self.world.register_later(registration);
        self.asked(token, None);
    }

    pub fn outside_message(&mut self, dice: &mut Dice, hops: u64) -> Message {
        let (mut builder, _) = self.cast.any_message(dice, false, hops, self.world.now());
        let sender = self.cast.any_agent(dice);
        if dice.once_in(2) {
            builder = builder.sender(sender);
        }
        builder.build().expect("the plan makes valid messages")
    }

    pub fn send(&mut self, dice: &mut Dice) {
        let message = self.outside_message(dice, 2);
        let labelled = Label::of(&message).map(|label| (label, message.receiver().clone()));
        let token = self.world.send_later(message);
        self.asked(token, labelled);
    }

    /// Sends a message that does not wait for its receiver.
    pub fn try_send(&mut self, dice: &mut Dice) {
        let message = self.outside_message(dice, 2);
        let labelled = Label::of(&message).map(|label| (label, message.receiver().clone()));
        let (shard, token) = (self.world.admits(&message), self.world.token());
        self.asked(token, labelled);
        self.world.give(shard, Input::TrySend(message, token));
    }

    pub fn ask(&mut self, dice: &mut Dice) {
        let shard = self.any_shard(dice);
        let timeout_ms = dice.between(0, 3_000);
        let message = self.outside_message(dice, 2);
        let token = self.world.ask(shard, message, timeout_ms);
        self.asked(token, None);
    }

    /// Takes up to `most` messages out of each inbox.
    pub fn read_inboxes(&mut self, most: usize) {
        for inbox in self.world.open_inboxes() {
            self.world.read_inbox(inbox, most);
        }
    }

    // The end.

    fn end(&mut self) {
        for shard in 0..self.world.nodes.len() {
            self.world.pause(shard, false);
        }
        let mut dice = Dice::of(self.seed, purpose::END);
        let (drains, stops_early, stops) = (dice.once_in(4), dice.once_in(3), dice.once_in(3));
        let may_shut_down = self.cast.allows(Fault::Shutdown);
        if may_shut_down && stops_early {
            self.stop();
        } else {
            if may_shut_down && drains {
                self.world.drain_all();
            }
            self.settle();
            self.fade();
            if may_shut_down && stops {
                self.stop();
            }
        }
        let figures = self.world.nodes.iter().map(|node| node.shard.conformance());
        let conformance = figures.fold(Conformance::default(), |mut sum, figures| {
            sum += &figures;
            sum
        });
        if let Err(complaint) = self.ledger.lock().close(&self.world.total(), &conformance) {
            panic!("{complaint}");
        }
    }

    /// Reads every inbox, commits every record and runs, until nothing more happens.
    fn serve_everyone(&mut self) {
        loop {
            self.world.run();
            let read: usize =
                self.world.open_inboxes().into_iter().map(|inbox| self.world.read_inbox(inbox, usize::MAX).len()).sum();
            for shard in 0..self.world.nodes.len() {
                self.world.commit_next(shard, u64::MAX);
            }
            if read == 0 && (0..self.world.nodes.len()).all(|shard| !self.world.is_due(shard)) {
                return;
            }
        }
    }

    /// Whether nothing is in flight, including notices for agents about to be restarted.
    fn is_at_rest(&self) -> bool {
        self.world.is_settled() && self.world.nodes.iter().all(|node| node.shard.keeps_nothing())
    }

    fn resume_everyone(&mut self) {
        for agent in self.cast.agents().to_vec() {
            self.question(self.world.shard_of(agent), |token| Input::Resume(agent, token));
        }
        self.serve_everyone();
    }

    /// Advances time until everything is settled or past its deadline.
    fn settle(&mut self) {
        // Delivery times are wall-clock time, so setting the clock back moves them further away.
        // An agent may send something after one of the last notices, which may be retried until its own lifetime is over.
        let until_ms = self.world.now_ms + 2 * SETTLES_WITHIN_MS + self.wall_set_back_ms;
        self.serve_everyone();
        self.world.advance(RESUMED_AFTER_MS);
        self.resume_everyone();
        while !self.is_at_rest() && self.world.now_ms < until_ms {
            self.world.advance(LOOK_EVERY_MS);
            self.serve_everyone();
        }
        self.assert_at_rest();
        let left = self.world.nodes.iter().map(|node| node.inputs.len()).sum::<usize>();
        assert_eq!(left, 0, "inputs were not taken in");
    }

    /// Whether the router is at rest and nothing is left that ends by itself.
    fn has_faded(&self) -> bool {
        self.is_at_rest() && self.world.nodes.iter().all(|node| node.shard.snapshot().timers == 0)
    }

    /// Advances time until conversations and notes have timed out, questions are answered, and no timer is left.
    fn fade(&mut self) {
        // Reply deadlines are wall-clock time, too.
        let until_ms = self.world.now_ms + ENDS_WITHIN_MS + self.wall_set_back_ms;
        // An agent notified of a conversation's end may send something, which may be retried until its own lifetime is
        // over.
        let latest_ms = until_ms + SETTLES_WITHIN_MS + ENDS_WITHIN_MS;
        while self.world.now_ms < until_ms || (!self.has_faded() && self.world.now_ms < latest_ms) {
            self.world.advance(LOOK_EVERY_MS);
            self.serve_everyone();
        }
        self.assert_at_rest();
        for shard in 0..self.world.nodes.len() {
            let snapshot = self.world.snapshot(shard);
            assert_eq!(snapshot.conversations, 0, "conversations are left on shard {shard}");
            assert_eq!(snapshot.timers, 0, "timers are left on shard {shard}");
        }
    }

    fn stop(&mut self) {
        let inboxes: Vec<InboxNumber> = self.world.open_inboxes();
        // Owners of inboxes may drop them first, or read the router's notices at its end.
        if Dice::of(self.seed, purpose::END + (1 << 8)).once_in(2) {
            self.world.stop_and_return_inboxes();
            self.serve_everyone();
        }
        for inbox in inboxes {
            self.world.close_inbox(inbox);
        }
        self.stopped = true;
        self.world.stop_all();
        let total = self.world.total();
        assert_eq!((total.pending, total.departed), (0, total.arrived), "after the stop: {total:?}");
        self.world.advance(ENDS_WITHIN_MS);
        self.serve_everyone();
        self.assert_at_rest();
    }

    /// Asserts that nothing is left anywhere. A stopped shard gave up what was in flight without clearing the mailboxes
    /// that it was for, because nothing enters them any more.
    fn assert_at_rest(&mut self) {
        if !self.stopped {
            return self.world.assert_settled();
        }
        assert!(self.world.is_settled(), "messages are left: {:?}", self.world.total());
        for node in &self.world.nodes {
            assert!(node.shard.is_quiet(), "a stopped shard is not quiet: {:?}", node.shard.account());
        }
    }
}

/// An embedder's failure handler that decides by the random number passed to it.
struct Whims {
    panics: bool,
}

impl FailureHandler for Whims {
    fn decide(&mut self, failure: &FailedAttempt<'_>) -> Decision {
        match failure.random % 10 {
            0 | 1 => Decision::DeadLetter,
            2 | 3 => Decision::ReplyWithFailure,
            4 => Decision::RetryAfter(failure.random),
            5 => Decision::RetryAfter(failure.random % 500),
            6 if self.panics => panic_as_planned(),
            _ => failure.by_default(),
        }
    }
}

/// Returns a breaker policy that opens often and briefly, or never.
fn touchy_breaker(dice: &mut Dice) -> BreakerPolicy {
    let mut few = |least, most| u16::try_from(dice.between(least, most)).unwrap_or(0);
    let (failures, slow_calls, probes) = (few(0, 4), few(0, 2), few(1, 3));
    BreakerPolicy {
        failures: failures.try_into().expect("a legal threshold"),
        window_ms: dice.between(100, 3_000).try_into().expect("a legal window"),
        slow_call_ms: dice.between(1, 200).try_into().expect("a legal time"),
        slow_calls: slow_calls.try_into().expect("a legal threshold"),
        open_ms: dice.between(10, 400).try_into().expect("a legal delay"),
        open_ms_max: dice.between(10, 800).try_into().expect("a legal delay"),
        probes: probes.try_into().expect("a legal number of probes"),
    }
}

/// How protocol violations are treated.
fn protocol_mode(seed: u64) -> Mode {
    Dice::of(seed, purpose::PROTOCOLS).pick(&Mode::ALL)
}

/// Returns the settings of a router with limits chosen by the seed, tiny ones only if enabled.
fn setup(seed: u64, shards: u16, options: &Options) -> Setup {
    let journal = Dice::of(seed, purpose::LIMITS).once_in(2);
    let setup = Setup::new(shards).configured(|config| {
        config.seed = seed;
        config.message_timeout = 4_000.try_into().expect("a legal lifetime");
        config.conversations.timeout_ms = 3_000;
        config.protocols = Rulebook::new(protocol_mode(seed), &[], &[]).expect("the library has no flaws");
        if journal && options.allows(Fault::Durable) {
            config.durability = Durability::Journal;
        }
    });
    let mut dice = Dice::of(seed, purpose::OVERFLOW);
    let (policy, budget) = (dice.pick(&OverflowPolicy::ALL), u64::from(dice.between(20_000, 200_000)));
    let setup = setup.configured(|config| {
        if options.allows(Fault::Overflow) {
            config.overflow = policy;
            if dice.once_in(4) {
                config.memory_max = budget;
            }
        }
    });
    if !options.allows(Fault::Limits) {
        return setup;
    }
    let mut dice = Dice::of(seed, purpose::LIMITS + (1 << 8));
    let mut some = |least: u32, most: u32| dice.between(least, most);
    let (credits, uncredited) = (some(1, 12) as usize, some(1, 4) as usize);
    let breaker = touchy_breaker(&mut Dice::of(seed, purpose::LIMITS + (2 << 8)));
    setup.lanes(credits, uncredited).configured(|config| {
        config.breaker = breaker;
        config.retry.jitter = f64::from(some(0, 4)) / 4.0;
        config.mailbox_messages = some(2, 30).try_into().expect("a legal capacity");
        config.mailbox_bytes = u64::from(some(2_000, 30_000)).try_into().expect("a legal number of bytes");
        config.message_timeout = some(1_000, 4_000).try_into().expect("a legal lifetime");
        config.batch = some(1, 8).try_into().expect("a legal batch");
        config.turn_quota = some(1, 12).try_into().expect("a legal quota");
        config.outbox = some(2, 20).try_into().expect("a legal outbox");
        config.pending_max = if some(0, 3) == 0 { some(4, 40) } else { some(40, 900) } as usize;
        config.conversations.open_max = some(1, 6) as usize;
        config.conversations.participants_max = some(1, 5) as usize;
        config.conversations.history = some(0, 3) as usize;
        config.conversations.timeout_ms = u64::from(some(1_000, 3_000));
        config.retry.retries = u8::try_from(some(0, 4)).unwrap_or(0);
        config.dead_letters_max = some(0, 50) as usize;
        config.supervision.restarts = u16::try_from(some(0, 20)).unwrap_or(0).try_into().expect("a legal number");
        config.supervision.window_ms = some(100, 5_000).try_into().expect("a legal window");
        config.supervision.delay_ms = if some(0, 1) == 0 { 0 } else { some(1, 500) }.try_into().expect("a legal delay");
    })
}
