//! Circuit breakers: an agent that keeps failing is not called for a while, and its messages wait, fail fast or go
//! elsewhere.

mod slow_calls;

use std::num::NonZeroU8;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use caxton_shards::agent::Outcome;
use caxton_shards::api::{Event, Input, Stage, is_notice};
use caxton_shards::dead_letter::DeadLetterReason;
use caxton_shards::journal::record::{Durability, RecordKind};
use caxton_shards::message::{
    AgentId, Choice, Message, MessageBuilder, Performative, Receipt, Reliability, WhenUnavailable,
};
use caxton_shards::supervision::breaker::{BreakerPolicy, BreakerState};

use crate::common::{Log, Script, Setup, World, at, capability, inform, lifetime, text};

/// Opens after two failures or slow calls, initially for 500 ms, and closes after two messages.
fn policy() -> BreakerPolicy {
    BreakerPolicy {
        failures: 2.try_into().unwrap(),
        window_ms: 1_000.try_into().unwrap(),
        slow_call_ms: 100.try_into().unwrap(),
        slow_calls: 2.try_into().unwrap(),
        open_ms: 500.try_into().unwrap(),
        open_ms_max: 1_500.try_into().unwrap(),
        probes: 2.try_into().unwrap(),
    }
}

/// A router whose messages are tried once, so that each failure belongs to another message.
fn setup(shards: u16) -> Setup {
    Setup::new(shards).configured(|config| {
        config.breaker = policy();
        config.retry.retries = 0;
    })
}

/// An agent that fails while the switch is on, and a log of what it received.
struct Sickly {
    id: AgentId,
    sick: Arc<AtomicBool>,
    called: Log<String>,
}

impl Sickly {
    fn script() -> (Script, Arc<AtomicBool>, Log<String>) {
        let (sick, called) = (Arc::new(AtomicBool::new(true)), Log::new());
        let (switch, log) = (Arc::clone(&sick), called.clone());
        let script = Script::new(move |message, _| {
            if !is_notice(message) {
                log.push(text(message));
            }
            if switch.load(Ordering::Relaxed) { Outcome::failed("unwell") } else { Outcome::Done }
        });
        (script, sick, called)
    }

    fn add(world: &mut World, shard: u16, prefix: &str) -> Self {
        let (script, sick, called) = Self::script();
        Self { id: world.add(shard, prefix, script), sick, called }
    }

    fn offering(world: &mut World, shard: u16, prefix: &str, offered: &str) -> Self {
        let (script, sick, called) = Self::script();
        Self { id: world.add(shard, prefix, script.offering(offered)), sick, called }
    }

    fn cure(&self) {
        self.sick.store(false, Ordering::Relaxed);
    }

    /// Makes it fail until its breaker opens.
    fn break_down(&self, world: &mut World, sender: AgentId) {
        for _ in 0..2 {
            world.send(inform(sender, self.id, "break").build().unwrap()).unwrap();
        }
        world.run();
        assert_eq!(self.called.take(), ["break", "break"]);
        assert!(world.snapshot(world.shard_of(self.id)).breakers_open > 0);
    }
}

fn fail_fast(builder: MessageBuilder) -> Message {
    builder.when_unavailable(WhenUnavailable::FailFast).build().unwrap()
}

fn states(world: &mut World, shard: usize, whose: AgentId) -> Vec<BreakerState> {
    let state = |event| match event {
        Event::BreakerChanged { agent, state } if agent == whose => Some(state),
        _ => None,
    };
    world.take_events(shard).into_iter().filter_map(state).collect()
}

fn breakers(world: &mut World, shard: usize) -> (usize, u64) {
    let snapshot = world.snapshot(shard);
    (snapshot.breakers_open, snapshot.breakers_opened)
}

#[test]
fn messages_wait_while_it_is_open_are_tried_by_the_probes_and_flow_again_once_it_closes() {
    for shard in 0..2 {
        let mut world = setup(2).start();
        world.watch_events();
        let sender = world.add(0, "sender", Script::idle());
        let agent = Sickly::add(&mut world, shard, "agent");
        agent.break_down(&mut world, sender);
        for number in 0..5 {
            world.send(inform(sender, agent.id, &number.to_string()).build().unwrap()).unwrap();
        }
        agent.cure();
        world.advance(499);
        assert_eq!((agent.called.len(), world.total().pending), (0, 5));
        assert_eq!(breakers(&mut world, usize::from(shard)), (1, 1));
        world.advance(1);
        assert_eq!(agent.called.take(), ["0", "1", "2", "3", "4"], "in their order");
        assert_eq!(breakers(&mut world, usize::from(shard)), (0, 1));
        let expected = [BreakerState::Open { for_ms: 500 }, BreakerState::HalfOpen, BreakerState::Closed];
        assert_eq!(states(&mut world, usize::from(shard), agent.id), expected);
        world.assert_settled();
    }
}

#[test]
fn each_failed_probe_keeps_it_open_for_longer_and_nothing_else_is_tried() {
    let mut world = setup(1).start();
    world.watch_events();
    let sender = world.add(0, "sender", Script::idle());
    let agent = Sickly::add(&mut world, 0, "agent");
    agent.break_down(&mut world, sender);
    for number in 0..6 {
        world.send(inform(sender, agent.id, &number.to_string()).build().unwrap()).unwrap();
    }
    for (delay_ms, probe) in [(500, "0"), (1_000, "1"), (1_500, "2"), (1_500, "3")] {
        world.advance(delay_ms - 1);
        assert_eq!(agent.called.len(), 0, "after less than {delay_ms} ms");
        world.advance(1);
        assert_eq!(agent.called.take(), [probe]);
    }
    assert_eq!(breakers(&mut world, 0), (1, 5));
    let opened: Vec<u64> = states(&mut world, 0, agent.id)
        .iter()
        .filter_map(|state| if let BreakerState::Open { for_ms } = state { Some(*for_ms) } else { None })
        .collect();
    assert_eq!(opened, [500, 500 * 2, 1_500, 1_500, 1_500]);
    agent.cure();
    world.advance(1_500);
    assert_eq!(agent.called.take(), ["4", "5"]);
    world.assert_settled();
}

#[test]
fn a_half_open_breaker_lets_no_more_through_per_visit_than_its_probes() {
    let mut world = setup(1).start();
    let sender = world.add(0, "sender", Script::idle());
    let sizes = Log::new();
    let (log, mut calls) = (sizes.clone(), 0);
    let agent = world.add(
        0,
        "agent",
        Script::idle().batched(move |batch| {
            log.push(batch.remaining());
            while batch.next().is_some() {
                calls += 1;
                batch.settle(if calls <= 2 { Outcome::failed("unwell") } else { Outcome::Done });
            }
        }),
    );
    for _ in 0..10 {
        world.send_later(inform(sender, agent, "x").build().unwrap());
    }
    world.run();
    sizes.take();
    world.advance(500);
    assert_eq!(sizes.take(), [2, 16], "two probes, and then as many as ever");
    world.assert_settled();
}

#[test]
fn failures_that_lie_too_far_apart_do_not_open_it() {
    let mut world = setup(1).start();
    let sender = world.add(0, "sender", Script::idle());
    let agent = Sickly::add(&mut world, 0, "agent");
    for _ in 0..5 {
        world.send(inform(sender, agent.id, "x").build().unwrap()).unwrap();
        world.advance(1_000);
    }
    assert_eq!((agent.called.len(), breakers(&mut world, 0)), (5, (0, 0)));
    world.assert_settled();
}

#[test]
fn a_panic_counts_as_a_failure_and_the_agent_that_is_made_anew_has_the_same_breaker() {
    let mut world = setup(1).start();
    let sender = world.add(0, "sender", Script::idle());
    let made = Log::new();
    let agent = world.add(0, "agent", Script::new(|_, _| panic!("unwell")).counted(&made));
    for _ in 0..4 {
        world.send(inform(sender, agent, "x").build().unwrap()).unwrap();
    }
    world.run();
    assert_eq!((made.len(), world.total().pending, breakers(&mut world, 0)), (3, 2, (1, 1)));
}

#[test]
fn a_message_that_does_not_wait_fails_fast_whether_it_comes_later_or_waited_when_it_opened() {
    for shard in 0..2 {
        let mut world = setup(2).start();
        let (sender, told) = world.add_listener(0, "sender");
        let agent = Sickly::add(&mut world, shard, "agent");
        for content in ["1", "2"] {
            world.send_later(inform(sender, agent.id, content).build().unwrap());
        }
        for content in ["3", "4"] {
            world.send_later(fail_fast(inform(sender, agent.id, content)));
        }
        world.send_later(inform(sender, agent.id, "5").build().unwrap());
        world.run();
        assert_eq!(
            (agent.called.take().len(), world.dead(DeadLetterReason::BreakerOpen), world.total().pending),
            (2, 2, 1)
        );
        // A receipt would reveal that it waits.
        let receipt = inform(sender, agent.id, "6").receipt(Receipt::Delivered);
        world.send(fail_fast(receipt)).unwrap();
        world.run();
        assert_eq!((world.dead(DeadLetterReason::BreakerOpen), world.total().pending), (3, 1));
        let notices = told.notices();
        assert_eq!(notices.iter().filter(|notice| notice.contains("(breaker-open ")).count(), 3, "{notices:?}");
        assert!(!notices.iter().any(|notice| notice.contains("delivered")), "{notices:?}");
        agent.cure();
        world.advance(500);
        assert_eq!(agent.called.take(), ["5"]);
        world.assert_settled();
    }
}

#[test]
fn a_message_that_does_not_wait_is_tried_like_any_other_while_it_is_half_open_or_closed() {
    let mut world = setup(1).start();
    let sender = world.add(0, "sender", Script::idle());
    let agent = Sickly::add(&mut world, 0, "agent");
    agent.break_down(&mut world, sender);
    agent.cure();
    world.advance(500);
    for content in ["half-open", "half-open", "closed"] {
        world.send(fail_fast(inform(sender, agent.id, content))).unwrap();
        world.run();
    }
    assert_eq!(agent.called.take(), ["half-open", "half-open", "closed"]);
    world.assert_settled();
}

#[test]
fn what_is_delayed_or_to_be_tried_again_fails_fast_when_its_moment_comes_while_it_is_open() {
    let mut world = setup(1).start();
    let sender = world.add(0, "sender", Script::idle());
    let agent = Sickly::add(&mut world, 0, "agent");
    let again = inform(sender, agent.id, "again").attempts_max(NonZeroU8::new(2).unwrap());
    world.send(fail_fast(again)).unwrap();
    let later = inform(sender, agent.id, "later").deliver_at(at(200));
    world.send(fail_fast(later)).unwrap();
    world.send(inform(sender, agent.id, "x").build().unwrap()).unwrap();
    world.run();
    assert_eq!((agent.called.take(), breakers(&mut world, 0)), (vec!["again".to_owned(), "x".to_owned()], (1, 1)));
    world.advance(99);
    assert_eq!(world.dead(DeadLetterReason::BreakerOpen), 0);
    world.advance(1);
    assert_eq!(world.dead(DeadLetterReason::BreakerOpen), 1);
    world.advance(100);
    assert_eq!(world.dead(DeadLetterReason::BreakerOpen), 2);
    world.assert_settled();
}

#[test]
fn a_durable_message_that_does_not_wait_is_not_journalled_while_it_is_open() {
    let mut world = setup(1).configured(|config| config.durability = Durability::Journal).start();
    let sender = world.add(0, "sender", Script::idle());
    let agent = Sickly::add(&mut world, 0, "agent");
    agent.break_down(&mut world, sender);
    world.tell(fail_fast(inform(sender, agent.id, "x").reliability(Reliability::Durable)));
    world.run();
    let messages = world.nodes[0].records.iter().filter(|(kind, _)| *kind == RecordKind::Message as u8).count();
    assert_eq!((messages, world.dead(DeadLetterReason::BreakerOpen)), (0, 1));
    world.assert_settled();
}

#[test]
fn what_waits_for_an_open_breaker_is_bounded_by_the_mailbox_and_by_its_lifetime() {
    let mut world = setup(1).configured(|config| config.mailbox_messages = 3.try_into().unwrap()).start();
    world.watch_events();
    // It stays open for longer than the messages live.
    let policy = BreakerPolicy { open_ms: 60_000.try_into().unwrap(), ..policy() };
    let sender = world.add(0, "sender", Script::idle());
    let (script, _, called) = Sickly::script();
    let name = world.name_on(0, "agent");
    let agent = world.register(script.registration(name).breaker(policy));
    for _ in 0..6 {
        world.send(inform(sender, agent, "x").time_to_live(lifetime(2_000)).build().unwrap()).unwrap();
        world.run();
    }
    assert_eq!((called.take().len(), world.dead(DeadLetterReason::MailboxFull), world.total().pending), (2, 1, 3));
    world.advance(3_000);
    assert_eq!((world.total().expired, called.len()), (3, 0));
    let phases = world.take_events(0);
    let in_mailbox = |event: &&Event| matches!(event, Event::Expired { stage: Stage::Mailbox, .. });
    assert_eq!(phases.iter().filter(in_mailbox).count(), 3);
    world.assert_settled();
}

#[test]
fn the_routers_notices_wait_too_and_are_no_probes() {
    let mut world = setup(1).start();
    let sender = world.add(0, "sender", Script::idle());
    let (noticed, mut calls) = (Log::new(), 0);
    let log = noticed.clone();
    let agent = world.add(
        0,
        "agent",
        Script::new(move |message, _| {
            if is_notice(message) {
                log.push(());
                return Outcome::Done;
            }
            calls += 1;
            if calls <= 2 { Outcome::failed("unwell") } else { Outcome::Done }
        }),
    );
    for _ in 0..2 {
        world.send(inform(sender, agent, "x").build().unwrap()).unwrap();
    }
    world.run();
    for _ in 0..3 {
        world.send(inform(agent, AgentId::of_text("nobody"), "x").build().unwrap()).unwrap();
    }
    world.advance(499);
    assert_eq!(noticed.len(), 0);
    world.advance(1);
    assert_eq!((noticed.len(), breakers(&mut world, 0)), (3, (1, 1)));
    for _ in 0..2 {
        world.send(inform(sender, agent, "x").build().unwrap()).unwrap();
    }
    world.run();
    assert_eq!(breakers(&mut world, 0), (0, 1));
    world.assert_settled();
}

#[test]
fn messages_to_a_capability_go_to_another_provider_on_every_shard_until_it_is_half_open() {
    for (number, choice) in [Choice::Any, Choice::RoundRobin, Choice::LeastLoaded].into_iter().enumerate() {
        let offered = format!("breaker.tea.{number}");
        let mut world = setup(3).start();
        let senders = [0, 1, 2].map(|shard| world.add(shard, "sender", Script::idle()));
        let agent = Sickly::offering(&mut world, 0, "agent", &offered);
        let other = Sickly::offering(&mut world, 2, "other", &offered);
        other.cure();
        agent.break_down(&mut world, senders[0]);
        let ask_everyone = |world: &mut World| {
            for sender in senders {
                for _ in 0..4 {
                    let question = Message::builder(Performative::Request).sender(sender).content("tea");
                    world.send(question.capability(&capability(&offered), choice).build().unwrap()).unwrap();
                    world.run();
                }
            }
        };
        ask_everyone(&mut world);
        assert_eq!((agent.called.len(), other.called.take().len()), (0, 12), "{choice:?}");
        agent.cure();
        world.advance(500);
        ask_everyone(&mut world);
        let (here, there) = (agent.called.len(), other.called.len());
        assert!(here > 0 && here + there == 12, "{choice:?}: {here} and {there}");
        world.assert_settled();
    }
}

#[test]
fn all_providers_are_told_whatever_their_breakers_and_one_is_asked_anyway_when_all_are_open() {
    let mut world = setup(2).start();
    let sender = world.add(1, "sender", Script::idle());
    let agents = [0, 1].map(|shard| Sickly::offering(&mut world, shard, "agent", "breaker.coffee"));
    for agent in &agents {
        agent.break_down(&mut world, sender);
    }
    let to = |choice| {
        let question = Message::builder(Performative::Request).sender(sender).content("coffee");
        question.capability(&capability("breaker.coffee"), choice)
    };
    world.send(to(Choice::All).build().unwrap()).unwrap();
    world.send(to(Choice::Any).build().unwrap()).unwrap();
    world.run();
    assert_eq!(world.total().pending, 3, "they wait");
    world.send(fail_fast(to(Choice::RoundRobin))).unwrap();
    world.run();
    assert_eq!((world.dead(DeadLetterReason::BreakerOpen), world.dead(DeadLetterReason::NoProvider)), (1, 0));
    agents.iter().for_each(Sickly::cure);
    world.advance(500);
    assert_eq!(agents.iter().map(|agent| agent.called.len()).sum::<usize>(), 3);
    world.assert_settled();
}

#[test]
fn other_shards_hear_how_a_breaker_stands_however_often_it_changes_while_their_rings_are_full() {
    let mut world = setup(2).lanes(4, 1).start();
    let sender = world.add(0, "sender", Script::idle());
    let asker = world.add(1, "asker", Script::idle());
    let agent = Sickly::offering(&mut world, 0, "agent", "breaker.milk");
    let other = Sickly::offering(&mut world, 0, "other", "breaker.milk");
    other.cure();
    world.pause(1, true);
    for _ in 0..5 {
        agent.sick.store(true, Ordering::Relaxed);
        agent.break_down(&mut world, sender);
        agent.cure();
        for _ in 0..2 {
            world.send(inform(sender, agent.id, "probe").build().unwrap()).unwrap();
        }
        world.advance(500);
        assert_eq!((agent.called.take().len(), breakers(&mut world, 0).0), (2, 0));
    }
    agent.sick.store(true, Ordering::Relaxed);
    agent.break_down(&mut world, sender);
    world.pause(1, false);
    world.run();
    for _ in 0..6 {
        let question = Message::builder(Performative::Request).sender(asker).content("milk");
        world.send(question.capability(&capability("breaker.milk"), Choice::RoundRobin).build().unwrap()).unwrap();
        world.run();
    }
    assert_eq!((agent.called.len(), other.called.len()), (0, 6));
    agent.cure();
    world.advance(500);
    world.assert_settled();
}

#[test]
fn an_agent_that_leaves_while_its_breaker_is_open_leaves_nothing_behind_and_comes_back_closed() {
    let mut world = setup(2).start();
    let (sender, told) = world.add_listener(1, "sender");
    let name = world.name_on(0, "agent");
    let register = |world: &mut World| {
        let (script, sick, called) = Sickly::script();
        let id = world.register(script.offering("breaker.cake").registration(name.clone()));
        Sickly { id, sick, called }
    };
    let agent = register(&mut world);
    agent.break_down(&mut world, sender);
    for _ in 0..3 {
        world.send(inform(sender, agent.id, "x").build().unwrap()).unwrap();
    }
    world.run();
    let timers = world.snapshot(0).timers;
    assert!(world.deregister(agent.id));
    world.run();
    assert_eq!((world.dead(DeadLetterReason::Deregistered), breakers(&mut world, 0)), (3, (0, 1)));
    assert_eq!(world.snapshot(0).timers, timers - 1, "nothing half-opens it any more");
    assert_eq!(told.notices().iter().filter(|notice| notice.contains("(deregistered ")).count(), 3);
    let again = register(&mut world);
    again.cure();
    let question = Message::builder(Performative::Request).sender(sender).content("cake");
    world.send(question.capability(&capability("breaker.cake"), Choice::Any).build().unwrap()).unwrap();
    world.run();
    assert_eq!(again.called.take(), ["cake"]);
    world.assert_settled();
}

#[test]
fn a_shard_that_stops_gives_up_what_waits_for_an_open_breaker() {
    let mut world = setup(1).start();
    let sender = world.add(0, "sender", Script::idle());
    let agent = Sickly::add(&mut world, 0, "agent");
    agent.break_down(&mut world, sender);
    for _ in 0..3 {
        world.send(inform(sender, agent.id, "x").build().unwrap()).unwrap();
    }
    world.stop_all();
    assert_eq!((world.dead(DeadLetterReason::Stopped), agent.called.len()), (3, 0));
    world.advance(10_000);
    assert_eq!(agent.called.len(), 0, "what would half-open it comes too late");
    world.assert_settled();
}

#[test]
fn a_shard_that_drains_waits_for_what_waits_for_an_open_breaker() {
    let mut world = setup(1).start();
    let sender = world.add(0, "sender", Script::idle());
    let agent = Sickly::add(&mut world, 0, "agent");
    agent.break_down(&mut world, sender);
    world.send(inform(sender, agent.id, "last").build().unwrap()).unwrap();
    agent.cure();
    world.give(0, Input::Drain);
    world.run();
    assert!(!world.nodes[0].shard.is_quiet());
    world.advance(500);
    assert_eq!(agent.called.take(), ["last"]);
    assert!(world.nodes[0].shard.is_quiet());
}

#[test]
fn an_agent_can_have_a_policy_of_its_own() {
    let mut world = setup(1).start();
    let sender = world.add(0, "sender", Script::idle());
    let (script, _, called) = Sickly::script();
    let name = world.name_on(0, "never");
    let never = world.register(script.registration(name).breaker(BreakerPolicy::default()));
    for _ in 0..10 {
        world.send(inform(sender, never, "x").build().unwrap()).unwrap();
    }
    world.run();
    assert_eq!((called.len(), breakers(&mut world, 0)), (10, (0, 0)));
    world.assert_settled();
}
