//! Slow calls: an agent that holds up its shard is not called for a while, however often it succeeds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use caxton_shards::agent::Outcome;
use caxton_shards::api::Event;
use caxton_shards::shard::ShardConfig;
use caxton_shards::supervision::TIMED_TURNS;
use caxton_shards::supervision::breaker::BreakerState;

use super::{breakers, setup, states};
use crate::common::{Log, Script, World, inform, text};

/// A clock advanced by the test and by slow handlers, which the shard reads as its stopwatch.
fn with_stopwatch(world: &mut World) -> Arc<AtomicU64> {
    let now_ns = Arc::new(AtomicU64::new(0));
    let stopwatch = Arc::clone(&now_ns);
    world.nodes[0].shard.set_stopwatch(Box::new(move || stopwatch.load(Ordering::Relaxed)));
    now_ns
}

/// Takes as many milliseconds as the message says.
fn slow(clock: &Arc<AtomicU64>, called: &Log<String>) -> Script {
    let (clock, called) = (Arc::clone(clock), called.clone());
    Script::new(move |message, _| {
        called.push(text(message));
        clock.fetch_add(text(message).parse::<u64>().unwrap() * 1_000_000, Ordering::Relaxed);
        Outcome::Done
    })
}

/// Runs until nothing is left to do, adding the time taken by the handlers.
fn run_on(world: &mut World, clock: &AtomicU64) {
    loop {
        world.now_ms = clock.load(Ordering::Relaxed) / 1_000_000;
        if !world.round() {
            return;
        }
    }
}

#[test]
fn slow_calls_open_it_after_the_turn_that_had_the_shard_look_for_them() {
    let mut world = setup(1).start();
    world.watch_events();
    let clock = with_stopwatch(&mut world);
    let (patient, slept) = (Log::new(), Log::new());
    let sender = world.add(0, "sender", Script::idle());
    let quick = world.add(0, "quick", slow(&clock, &patient));
    let sleepy = world.add(0, "sleepy", slow(&clock, &slept));
    let give = |world: &mut World, milliseconds: &str| {
        world.send_later(inform(sender, sleepy, milliseconds).build().unwrap());
        world.send_later(inform(sender, quick, "1").build().unwrap());
        run_on(world, &clock);
    };
    give(&mut world, "150");
    assert_eq!(breakers(&mut world, 0), (0, 0), "noticed, but nobody's");
    give(&mut world, "99");
    give(&mut world, "100");
    assert_eq!(breakers(&mut world, 0), (0, 0), "one was quick enough, and one is not two");
    give(&mut world, "200");
    assert_eq!(breakers(&mut world, 0), (1, 1));
    give(&mut world, "1");
    assert_eq!((slept.take().len(), patient.len()), (4, 5), "the other agent is still called");
    assert_eq!(states(&mut world, 0, sleepy), [BreakerState::Open { for_ms: 500 }]);
    // It stays open from the end of the slow call.
    let opened_ms = 150 + 1 + 99 + 1 + 100 + 1 + 200;
    world.advance(opened_ms + 499 - world.now_ms);
    assert_eq!(slept.len(), 0);
    world.advance(1);
    assert_eq!(slept.take(), ["1"]);
}

#[test]
fn slow_calls_are_reported_with_the_agents_name_and_counted() {
    let mut world = setup(1).configured(|config| config.breaker.slow_calls = 1_000.try_into().unwrap()).start();
    world.watch_events();
    let clock = with_stopwatch(&mut world);
    let sender = world.add(0, "sender", Script::idle());
    let sleepy = world.add(0, "sleepy", slow(&clock, &Log::new()));
    let reported = |world: &mut World, calls: &[&str]| {
        for milliseconds in calls {
            world.send_later(inform(sender, sleepy, milliseconds).build().unwrap());
            run_on(world, &clock);
        }
        let reported = world.take_events(0).into_iter().filter_map(|event| match event {
            Event::SlowCall { agent, name, took_ms, unreported } => {
                assert!(agent == sleepy && name.starts_with("sleepy"), "{name}");
                Some((took_ms, unreported))
            }
            _ => None,
        });
        (reported.collect::<Vec<_>>(), world.nodes[0].shard.details().slow_calls)
    };
    assert_eq!(reported(&mut world, &["150"]), (vec![], 0), "noticed, but nobody's");
    assert_eq!(reported(&mut world, &["99", "120", "1", "300"]), (vec![(120, 0), (300, 0)], 2));
    let setup = |config: &mut ShardConfig| {
        config.breaker.slow_calls = 1_000.try_into().unwrap();
        config.breaker.slow_call_ms = 1.try_into().unwrap();
    };
    // More than are reported in a second.
    let mut world = self::setup(1).configured(setup).start();
    world.watch_events();
    let clock = with_stopwatch(&mut world);
    let sender = world.add(0, "sender", Script::idle());
    let sleepy = world.add(0, "sleepy", slow(&clock, &Log::new()));
    for milliseconds in ["2"].into_iter().chain(["1"; 25]).chain(["2000", "1"]) {
        world.send_later(inform(sender, sleepy, milliseconds).build().unwrap());
        run_on(&mut world, &clock);
    }
    let reported = world.take_events(0).into_iter().filter_map(|event| match event {
        Event::SlowCall { unreported, .. } => Some(unreported),
        _ => None,
    });
    let unreported: Vec<u64> = reported.collect();
    assert_eq!((unreported.len(), unreported.iter().sum::<u64>()), (12, 15));
    assert_eq!(world.nodes[0].shard.details().slow_calls, 27);
}

#[test]
fn a_slow_probe_opens_it_again_also_when_the_shard_looks_for_nothing() {
    let mut world = setup(1).start();
    let clock = with_stopwatch(&mut world);
    let sender = world.add(0, "sender", Script::idle());
    let probing = Arc::clone(&clock);
    let agent = world.add(
        0,
        "agent",
        Script::new(move |message, _| {
            if text(message) == "fail" {
                return Outcome::failed("unwell");
            }
            probing.fetch_add(100_000_000, Ordering::Relaxed);
            Outcome::Done
        }),
    );
    for content in ["fail", "fail", "slow", "waits"] {
        world.send(inform(sender, agent, content).build().unwrap()).unwrap();
    }
    world.run();
    assert_eq!(breakers(&mut world, 0), (1, 1));
    clock.store(500_000_000, Ordering::Relaxed);
    world.advance(500);
    assert_eq!((breakers(&mut world, 0), world.total().pending), ((1, 2), 1));
}

#[test]
fn a_slow_message_ends_the_batch_that_it_stands_in_when_it_opens_the_breaker() {
    let mut world = setup(1).configured(|config| config.breaker.slow_calls = 1.try_into().unwrap()).start();
    let clock = with_stopwatch(&mut world);
    let called = Log::new();
    let sender = world.add(0, "sender", Script::idle());
    let sleepy = world.add(0, "sleepy", slow(&clock, &called));
    for batch in [&["100"][..], &["5", "300", "6", "7"]] {
        for milliseconds in batch {
            world.send_later(inform(sender, sleepy, milliseconds).build().unwrap());
        }
        run_on(&mut world, &clock);
    }
    assert_eq!(called.take(), ["100", "5", "300"]);
    assert_eq!(world.total().pending, 2);
}

#[test]
fn a_suspended_handler_that_is_slow_when_it_goes_on_counts_too() {
    let mut world = setup(1).start();
    let clock = with_stopwatch(&mut world);
    let sender = world.add(0, "sender", Script::idle());
    let resuming = Arc::clone(&clock);
    let mut resumed = 0;
    let agent = world.add(
        0,
        "agent",
        Script::new(|_, _| Outcome::Suspended).resuming(move |_, _| {
            resumed += 1;
            resuming.fetch_add(100_000_000, Ordering::Relaxed);
            if resumed < 5 { Outcome::Suspended } else { Outcome::Done }
        }),
    );
    for content in ["long", "waits"] {
        world.send_later(inform(sender, agent, content).build().unwrap());
    }
    run_on(&mut world, &clock);
    assert_eq!((world.total().processed, world.total().pending), (1, 1), "what was begun is finished all the same");
    assert_eq!(breakers(&mut world, 0), (1, 1));
}

#[test]
fn the_stopwatch_is_read_only_for_a_while_after_a_turn_that_took_too_long() {
    let mut world = setup(1).start();
    let reads = Arc::new(AtomicU64::new(0));
    let counting = Arc::clone(&reads);
    world.nodes[0].shard.set_stopwatch(Box::new(move || counting.fetch_add(1, Ordering::Relaxed)));
    let agent = world.add(0, "agent", Script::idle());
    let give = |world: &mut World, count: u32| {
        for _ in 0..count {
            world.send(inform(agent, agent, "x").build().unwrap()).unwrap();
            world.run();
        }
    };
    give(&mut world, 100);
    assert_eq!(reads.load(Ordering::Relaxed), 0);
    world.send(inform(agent, agent, "x").build().unwrap()).unwrap();
    world.now_ms += 100;
    give(&mut world, TIMED_TURNS);
    let timed = reads.swap(0, Ordering::Relaxed);
    assert!(timed >= u64::from(TIMED_TURNS), "{timed}");
    give(&mut world, 100);
    assert_eq!(reads.load(Ordering::Relaxed), 0);
    // Idle time counts for nobody.
    world.advance(60_000);
    give(&mut world, 100);
    assert_eq!(reads.load(Ordering::Relaxed), 0);
}

#[test]
fn without_a_stopwatch_no_call_is_slow() {
    let mut world = setup(1).start();
    let clock = Arc::new(AtomicU64::new(0));
    let called = Log::new();
    let agent = world.add(0, "agent", slow(&clock, &called));
    let sender = world.add(0, "sender", Script::idle());
    for _ in 0..5 {
        world.send_later(inform(sender, agent, "5000").build().unwrap());
        run_on(&mut world, &clock);
    }
    assert_eq!((called.len(), breakers(&mut world, 0)), (5, (0, 0)));
}
