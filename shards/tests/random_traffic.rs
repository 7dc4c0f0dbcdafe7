//! Random agents do random things, on shards that take their turns in random order, and the books balance after every
//! one of them; at the end everything comes to rest, and nothing is left anywhere.
//!
//! Each run follows from its seed. `SEED=17 cargo test --test random_traffic` runs one of them, `SEEDS=1000..3000` many.

#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod common;

use std::collections::VecDeque;
use std::num::{NonZeroU8, NonZeroU64};
use std::sync::{Arc, Mutex, PoisonError};

use caxton_shards::account::Account;
use caxton_shards::agent::{Context, Outcome, Polled, Registration, Supervision};
use caxton_shards::breaker::BreakerPolicy;
use caxton_shards::dead_letter::Reason;
use caxton_shards::domain::{AgentName, Priority};
use caxton_shards::failure_handler::{Decision, FailedAttempt, FailureHandler};
use caxton_shards::interface::{InboxNumber, Input};
use caxton_shards::message::{
    AgentId, Choice, ConversationId, ConversationRole, Correlation, Message, MessageBuilder, Performative, Receipt,
    Reliability, WallTime, WhenUnavailable,
};
use caxton_shards::notice::is_notice;
use caxton_shards::record::Durability;
use common::{Dice, Script, Setup, WALL_START_MS, World, capability, lifetime};

const NAMES: usize = 12;
/// Names for inboxes. They are used again, so that an agent may have another inbox than the one a report is about.
const INBOXES: usize = 6;
const CAPABILITIES: [&str; 2] = ["random.sums", "random.words"];
const TALKS: [&str; 3] = ["talk one", "talk two", "c00000000000000000000000000000007"];
const SEEDS_IN_THE_TEST: u64 = 300;

/// What all agents of a run have in common.
#[derive(Clone)]
struct Common {
    names: Arc<[AgentName]>,
    ids: Arc<[AgentId]>,
    /// A digest of everything that agents were given, in order.
    history: Arc<Mutex<u64>>,
}

impl Common {
    fn note(&self, what: &str) {
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        *history =
            what.bytes().fold(*history, |digest, byte| (digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    }

    fn any_agent(&self, dice: &mut Dice) -> AgentId {
        if dice.once_in(20) { AgentId::of_text("nobody") } else { self.ids[dice.index(self.ids.len())] }
    }

    fn any_message(&self, dice: &mut Dice, hops: u64, now_ms: u64) -> MessageBuilder {
        let acts = [Performative::Inform, Performative::Request, Performative::Agree, Performative::Failure];
        let mut builder = Message::builder(acts[dice.index(acts.len())]).content(hops.to_string());
        builder = match dice.below(12) {
            0 => {
                let count = 2 + dice.index(8);
                builder.receivers((0..count).map(|_| self.any_agent(dice)))
            }
            1 | 2 => {
                let choices = [Choice::Any, Choice::All, Choice::RoundRobin, Choice::LeastLoaded];
                let choice = choices[dice.index(choices.len())];
                builder.capability(&capability(CAPABILITIES[dice.index(CAPABILITIES.len())]), choice)
            }
            3 if dice.once_in(4) => builder,
            _ => builder.receiver(self.any_agent(dice)),
        };
        if dice.once_in(3) {
            let talk = TALKS[dice.index(TALKS.len())];
            let id = ConversationId::of_text(talk);
            builder = match dice.below(12) {
                0..=5 => builder.conversation(id),
                6 => builder.conversation_as(id, ConversationRole::Participant),
                7 => builder.conversation_as(id, ConversationRole::Member),
                8 => builder.conversation_of(id, self.any_agent(dice)),
                _ => builder.conversation_text(talk),
            };
        }
        let priorities = [Priority::Low, Priority::Normal, Priority::High, Priority::Urgent];
        builder = builder.priority(priorities[dice.index(priorities.len())]);
        if dice.once_in(4) {
            builder = builder.receipt([Receipt::Delivered, Receipt::Processed][dice.index(2)]);
        }
        if dice.once_in(3) {
            builder = builder.when_unavailable(WhenUnavailable::FailFast);
        }
        if dice.once_in(3) {
            builder = builder.time_to_live(lifetime(1_000 + u32::try_from(dice.below(2_000)).unwrap()));
        }
        if dice.once_in(8) {
            builder = builder.deliver_at(WallTime(WALL_START_MS + now_ms + dice.below(2_000)));
        }
        if dice.once_in(8) {
            builder = builder.reliability(Reliability::Durable);
        }
        if dice.once_in(6) {
            builder = builder.attempts_max(NonZeroU8::new(1 + u8::try_from(dice.below(3)).unwrap()).unwrap());
        }
        if dice.once_in(4) {
            builder = builder.reply_with(Correlation::new(NonZeroU64::new(1 + dice.below(5)).unwrap()));
        }
        if dice.once_in(10) {
            builder = builder.content("long ".repeat(dice.index(2_100)) + &hops.to_string());
        }
        builder
    }

    /// What an agent does with a message, or in its `started`, `resume` and `poll`.
    fn act(&self, context: &mut Context<'_>, message: Option<&Message>) {
        let mut dice = Dice::new(context.random());
        let hops = message.map_or(1, hops_of);
        let now_ms = context.now().monotonic_ms();
        for _ in 0..dice.below(4).min(hops * 4) {
            let message = self.any_message(&mut dice, hops.saturating_sub(1), now_ms).build().unwrap();
            self.note(&format!("{:?}", context.send(message).map_err(|rejected| rejected.error)));
        }
        if let Some(message) = message
            && hops > 0
            && dice.once_in(2)
        {
            let hops_left = (hops - 1).to_string();
            let reply = context.reply(message, Performative::Inform).content(hops_left).build().unwrap();
            self.note(&format!("{:?}", context.send(reply).map_err(|rejected| rejected.error)));
        }
        let offered = capability(CAPABILITIES[dice.index(CAPABILITIES.len())]);
        match dice.below(40) {
            0 | 1 => context.close_conversation(ConversationId::of_text(TALKS[dice.index(TALKS.len())])),
            2 | 3 => {
                let name = self.names[dice.index(self.names.len())].clone();
                context.register(self.script(dice.next()).registration(name));
            }
            4 => context.deregister(),
            5..=7 => context.advertise(&offered).unwrap(),
            8 => context.withdraw(&offered),
            9 => context.poll_me(),
            10 => self.note(&format!("{:?}", context.discover(&offered))),
            _ => {}
        }
    }

    fn outcome(context: &mut Context<'_>, gentle: bool) -> Outcome {
        match Dice::new(context.random()).below(if gentle { 100 } else { 24 }) {
            0 | 1 => Outcome::failed("the dice said so"),
            2 => panic!("the dice said so"),
            3 | 4 => Outcome::Suspended,
            _ => Outcome::Done,
        }
    }

    fn script(&self, character: u64) -> Script {
        let mut dice = Dice::new(character);
        let gentle = dice.once_in(2);
        let [handling, resumed, starting, polled, batching] = [(); 5].map(|()| self.clone());
        let mut script = Script::new(move |message, context| {
            handling.note(&format!("{} {} {message:?}", context.now().monotonic_ms(), context.id()));
            if !is_notice(message) {
                handling.act(context, Some(message));
            }
            Self::outcome(context, gentle)
        })
        .resuming(move |message, context| {
            resumed.note(&format!("again {}", context.id()));
            if !is_notice(message) {
                resumed.act(context, Some(message));
            }
            Self::outcome(context, gentle)
        })
        .polling(move |context| {
            polled.act(context, None);
            assert!(!Dice::new(context.random()).once_in(10), "the dice said so");
            [Polled::Worked, Polled::Waiting, Polled::Finished, Polled::Finished][Dice::new(context.random()).index(4)]
        });
        let mut verdicts = Dice::new(character);
        script = script.supervised(move |_| match verdicts.below(10) {
            0 => Supervision::Stop,
            1..=3 => Supervision::Restart,
            4 => panic!("the dice said so"),
            _ => Supervision::Resume,
        });
        if dice.once_in(3) {
            script = script.starting(move |context| {
                starting.act(context, None);
                assert!(!Dice::new(context.random()).once_in(10), "the dice said so");
            });
        }
        if dice.once_in(4) {
            // Takes what it likes and settles what it likes.
            script = script.batched(move |batch| {
                for _ in 0..batch.remaining() {
                    let Some((message, mut context)) = batch.next() else { break };
                    if !is_notice(message) {
                        batching.act(&mut context, Some(message));
                    }
                    let mut dice = Dice::new(context.random());
                    match dice.below(8) {
                        0 => batch.settle(Outcome::failed("the dice said so")),
                        1 => batch.settle(Outcome::Suspended),
                        2 => return,
                        3 => {}
                        4 if dice.once_in(4) => panic!("the dice said so"),
                        _ => batch.settle(Outcome::Done),
                    }
                }
            });
        }
        if dice.once_in(3) {
            script = script.in_batches_of(1 + u32::try_from(dice.below(4)).unwrap());
        }
        if dice.once_in(3) {
            script = script.offering(CAPABILITIES[dice.index(CAPABILITIES.len())]);
        }
        if dice.once_in(10) {
            script = script.stopping(|| panic!("the dice said so"));
        }
        script
    }
}

fn hops_of(message: &Message) -> u64 {
    let text = message.content().as_text().unwrap_or_default();
    text.rsplit(' ').next().and_then(|hops| hops.parse().ok()).unwrap_or(0)
}

/// An inbox as its owner sees it.
struct Inbox {
    number: InboxNumber,
    agent: AgentId,
    shard: usize,
    window: usize,
    waiting: VecDeque<Message>,
}

/// Decides by the random number that it is given, or panics.
struct Whims;

impl FailureHandler for Whims {
    fn decide(&mut self, failure: &FailedAttempt<'_>) -> Decision {
        match failure.random % 10 {
            0 | 1 => Decision::DeadLetter,
            2 | 3 => Decision::ReplyWithFailure,
            4 => Decision::RetryAfter(failure.random),
            5 => Decision::RetryAfter(failure.random % 500),
            6 => panic!("the dice said so"),
            _ => failure.by_default(),
        }
    }
}

struct Run {
    world: World,
    dice: Dice,
    common: Common,
    inboxes: Vec<Inbox>,
    inbox_numbers: u32,
    committed: Vec<u64>,
}

/// Breakers that open often and not for long.
fn any_breaker(some: &mut impl FnMut(u64, u64) -> u32) -> BreakerPolicy {
    let mut few = |least, most| u16::try_from(some(least, most)).unwrap();
    let (failures, slow_calls, probes) = (few(0, 4), few(0, 2), few(1, 3));
    BreakerPolicy {
        failures: failures.try_into().unwrap(),
        window_ms: some(100, 3_000).try_into().unwrap(),
        slow_call_ms: some(1, 100).try_into().unwrap(),
        slow_calls: slow_calls.try_into().unwrap(),
        open_ms: some(10, 400).try_into().unwrap(),
        open_ms_max: some(10, 800).try_into().unwrap(),
        probes: probes.try_into().unwrap(),
    }
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let shards = 1 + u16::try_from(dice.below(4)).unwrap();
        let mut some = |least: u64, most: u64| u32::try_from(least + dice.below(most - least + 1)).unwrap();
        let (credits, uncredited) = (some(1, 12) as usize, some(1, 4) as usize);
        let setup = Setup::new(shards).lanes(credits, uncredited).configured(|config| {
            config.mailbox_messages = some(2, 30).try_into().unwrap();
            config.mailbox_bytes = u64::from(some(2_000, 30_000)).try_into().unwrap();
            config.message_timeout = some(1_000, 4_000).try_into().unwrap();
            config.batch = some(1, 8).try_into().unwrap();
            config.turn_quota = some(1, 12).try_into().unwrap();
            config.outbox = some(2, 20).try_into().unwrap();
            config.pending_max = if some(0, 3) == 0 { some(4, 40) } else { some(40, 900) } as usize;
            config.conversations.open_max = some(1, 6) as usize;
            config.conversations.participants_max = some(1, 5) as usize;
            config.conversations.history = some(0, 3) as usize;
            config.conversations.timeout_ms = u64::from(some(1_000, 3_000));
            config.retry.retries = u8::try_from(some(0, 4)).unwrap();
            config.retry.jitter = f64::from(some(0, 4)) / 4.0;
            config.breaker = any_breaker(&mut some);
            config.durability = if some(0, 1) == 0 { Durability::Unavailable } else { Durability::Journal };
            config.seed = seed;
        });
        let names: Arc<[AgentName]> =
            (0..NAMES).map(|number| AgentName::try_new(format!("agent-{number}")).unwrap()).collect();
        let inboxes = (0..INBOXES).map(|number| AgentId::of_text(&format!("inbox-{number}")));
        let ids = names.iter().map(AgentId::of).chain(inboxes).collect();
        let common = Common { names, ids, history: Arc::new(Mutex::new(seed)) };
        let committed = vec![0; usize::from(shards)];
        let mut world = setup.start();
        for node in &mut world.nodes {
            if dice.once_in(2) {
                node.shard.set_failure_handler(Box::new(Whims));
            }
            if dice.once_in(2) {
                // Calls take either no time at all or longer than any call may.
                let mut calls = Dice::new(dice.next());
                node.shard.set_stopwatch(Box::new(move || calls.below(2) * 200_000_000));
            }
        }
        Self { world, dice, common, inboxes: Vec::new(), inbox_numbers: 0, committed }
    }

    fn register(&mut self) {
        let name = self.common.names[self.dice.index(NAMES)].clone();
        if self.dice.once_in(5) {
            let name = AgentName::try_new(format!("inbox-{}", self.dice.index(INBOXES))).unwrap();
            let window = 1 + u32::try_from(self.dice.below(6)).unwrap();
            self.inbox_numbers += 1;
            let number = InboxNumber(self.inbox_numbers);
            let (agent, shard) = (AgentId::of(&name), self.world.shard_of(AgentId::of(&name)));
            self.world.register_later(Registration::outside(name, number, window));
            let window = window as usize;
            self.inboxes.push(Inbox { number, agent, shard, window, waiting: VecDeque::new() });
        } else {
            let script = self.common.script(self.dice.next());
            let mut registration = script.registration(name);
            if self.dice.once_in(4) {
                let dice = &mut self.dice;
                let mut some = |least: u64, most: u64| u32::try_from(least + dice.below(most - least + 1)).unwrap();
                registration = registration.breaker(any_breaker(&mut some));
            }
            self.world.register_later(registration);
        }
    }

    fn outside_message(&mut self, hops: u64) -> Message {
        let now_ms = self.world.now_ms;
        let mut builder = self.common.any_message(&mut self.dice, hops, now_ms);
        if !self.dice.once_in(4) {
            builder = builder.sender(self.common.any_agent(&mut self.dice));
        }
        builder.build().unwrap()
    }

    /// Reads what came into the inboxes, takes up to `most` messages out of each, and tells the shards.
    fn read_inboxes(&mut self, most: usize) {
        for inbox in &mut self.inboxes {
            let node = &mut self.world.nodes[inbox.shard];
            let (mine, others) = node.delivered.drain(..).partition(|(number, _)| *number == inbox.number);
            node.delivered = others;
            inbox.waiting.extend(Vec::into_iter(mine).map(|(_, message): (InboxNumber, Message)| message));
            assert!(inbox.waiting.len() <= inbox.window, "an inbox was given more than it has room for");
            let taken: Vec<Message> = (0..most).map_while(|_| inbox.waiting.pop_front()).collect();
            if taken.is_empty() {
                continue;
            }
            let notices = taken.iter().filter(|message| is_notice(message)).count();
            let (messages, notices) = (taken.len() - notices, notices);
            let counts = [messages, notices].map(|count| u32::try_from(count).unwrap());
            let taken =
                Input::Taken { agent: inbox.agent, inbox: inbox.number, messages: counts[0], notices: counts[1] };
            self.world.give(inbox.shard, taken);
        }
    }

    fn close_inbox(&mut self, inbox: usize) {
        self.read_inboxes(0);
        let inbox = self.inboxes.swap_remove(inbox);
        self.world.give(inbox.shard, Input::Closed(inbox.agent, inbox.number, inbox.waiting.into()));
    }

    fn commit(&mut self, shard: usize, most: u64) {
        let appended = self.world.nodes[shard].appends.last().map_or(0, |append| append.sequence.0);
        let committed = appended.min(self.committed[shard] + most);
        if committed > self.committed[shard] {
            self.committed[shard] = committed;
            self.world.commit(shard, committed);
        }
    }

    fn act(&mut self) {
        let shards = self.world.nodes.len();
        let shard = self.dice.index(shards);
        match self.dice.below(40) {
            0..=3 => {
                for _ in 0..=self.dice.below(12) {
                    let message = self.outside_message(5);
                    self.world.tell(message);
                }
            }
            4 | 5 => {
                let message = self.outside_message(2);
                self.world.send_later(message);
            }
            6 => {
                let message = self.outside_message(2);
                let timeout_ms = u32::try_from(self.dice.below(3_000)).unwrap();
                self.world.ask(shard, message, timeout_ms);
            }
            7 | 8 => self.register(),
            9 if self.dice.once_in(4) => {
                let agent = self.common.any_agent(&mut self.dice);
                let (token, shard) = (self.world.token(), self.world.shard_of(agent));
                self.world.give(shard, Input::Deregister(agent, token));
            }
            10 | 11 => {
                let most = self.dice.index(4);
                self.read_inboxes(most);
            }
            12 if self.dice.once_in(6) && !self.inboxes.is_empty() => {
                let inbox = self.dice.index(self.inboxes.len());
                self.close_inbox(inbox);
            }
            13 | 14 => {
                let most = self.dice.below(6);
                self.commit(shard, most);
            }
            15 => {
                let paused = self.dice.once_in(2);
                self.world.pause(shard, paused);
            }
            16 | 17 => self.world.now_ms += self.dice.below(300),
            _ if !self.world.nodes[shard].paused => {
                self.world.step(shard);
            }
            _ => {}
        }
    }

    fn serve_everyone(&mut self) {
        self.read_inboxes(usize::MAX);
        for shard in 0..self.world.nodes.len() {
            self.commit(shard, u64::MAX / 2);
        }
    }

    fn settle(&mut self) {
        for shard in 0..self.world.nodes.len() {
            self.world.pause(shard, false);
        }
        for _ in 0..60 {
            // An inbox with a small window takes many turns to empty.
            loop {
                self.serve_everyone();
                // What is left was on its way to inboxes that are gone.
                self.world.nodes.iter_mut().for_each(|node| node.delivered.clear());
                self.world.run();
                if self.world.nodes.iter().all(|node| node.delivered.is_empty()) {
                    break;
                }
            }
            self.world.advance(500);
        }
        self.world.assert_settled();
    }

    /// Everything ends: conversations and notes time out, questions are answered, no timer is left.
    fn end(&mut self) {
        self.world.advance(20_000);
        for shard in 0..self.world.nodes.len() {
            let snapshot = self.world.snapshot(shard);
            assert_eq!(snapshot.conversations, 0, "conversations are left on shard {shard}");
            assert_eq!(snapshot.timers, 0, "timers are left on shard {shard}");
        }
    }

    fn stop(&mut self) {
        while !self.inboxes.is_empty() {
            self.close_inbox(0);
        }
        for shard in 0..self.world.nodes.len() {
            self.world.pause(shard, false);
        }
        self.world.stop_all();
        let total = self.world.total();
        assert_eq!((total.pending, total.departed), (0, total.arrived), "after the stop: {total:?}");
        self.world.advance(20_000);
        assert_eq!(self.world.total().pending, 0);
    }

    fn digest(&self) -> u64 {
        self.common.note(&format!("{:?}", self.world.total()));
        *self.common.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn run(seed: u64) -> (u64, Account) {
    let mut run = Run::new(seed);
    for _ in 0..20 {
        run.register();
    }
    let actions = 100 + run.dice.below(1_500);
    for _ in 0..actions {
        run.act();
    }
    if run.dice.once_in(3) {
        run.stop();
    } else {
        run.settle();
        run.end();
        if run.dice.once_in(3) {
            run.stop();
        }
    }
    (run.digest(), run.world.total())
}

/// Names the seed of a run that panics.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("replay with: SEED={} cargo test -p caxton-shards --test random_traffic", self.0);
        }
    }
}

/// The scripted panics are part of the plan, so only others are shown.
fn hush() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let shown = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if panic.payload().downcast_ref::<&str>() != Some(&"the dice said so") {
                shown(panic);
            }
        }));
    });
}

fn seeds() -> std::ops::Range<u64> {
    let number = |text: &str| text.trim().parse::<u64>().expect("a seed is a number");
    if let Ok(seed) = std::env::var("SEED") {
        return number(&seed)..number(&seed) + 1;
    }
    match std::env::var("SEEDS") {
        Ok(seeds) => {
            let (first, last) = seeds.split_once("..").expect("seeds are given as first..last");
            number(first)..number(last)
        }
        Err(_) => 0..SEEDS_IN_THE_TEST,
    }
}

#[test]
fn random_traffic_is_accounted_for_and_comes_to_rest() {
    hush();
    let mut total = Account::default();
    for seed in seeds() {
        let named = Named(seed);
        total = total.plus(&run(seed).1);
        drop(named);
    }
    if std::env::var_os("SEED").is_none() {
        // Traffic that never comes near a limit would prove little.
        for reason in Reason::ALL {
            assert!(total.dead_by_reason[reason.index()] > 0, "nothing was given up as {reason}: {total:?}");
        }
        let rest = [total.processed, total.expired, total.departed, total.retried, total.refused];
        assert!(rest.iter().all(|count| *count > 0), "something never happened: {total:?}");
        assert!(total.notices_coalesced > 0);
    }
}

#[test]
fn the_same_seed_gives_the_same_history() {
    hush();
    for seed in 0..20 {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
    assert_ne!(run(1), run(2));
}
