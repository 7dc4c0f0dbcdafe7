//! The decision after a failed handler: the router's settings, or an embedder's own handler.

use std::num::NonZeroU8;

use caxton_shards::agent::Outcome;
use caxton_shards::api::{Decision, Event, FailedAttempt, FailureCause, FailureHandler};
use caxton_shards::dead_letter::DeadLetterReason;
use caxton_shards::message::AgentId;

use crate::common::{Log, Script, Setup, World, inform, lifetime};

/// A handler made of a closure.
struct Deciding<F>(F);

impl<F: FnMut(&FailedAttempt<'_>) -> Decision> FailureHandler for Deciding<F> {
    fn decide(&mut self, failure: &FailedAttempt<'_>) -> Decision {
        (self.0)(failure)
    }
}

fn decide(world: &mut World, shard: usize, decide: impl FnMut(&FailedAttempt<'_>) -> Decision + 'static) {
    world.nodes[shard].shard.set_failure_handler(Box::new(Deciding(decide)));
}

/// An agent that fails every message, and the times at which it did.
fn failing(world: &mut World, shard: u16) -> (AgentId, Log<u64>) {
    let times = Log::new();
    let log = times.clone();
    let script = Script::new(move |_, context| {
        log.push(context.now().monotonic_ms());
        Outcome::failed("the tea is cold")
    });
    (world.add(shard, "failing", script), times)
}

/// Returns the times of the attempts of three messages, on a shard with this seed.
fn attempts_with_jitter(seed: u64) -> Vec<u64> {
    let mut world = Setup::new(1)
        .configured(|config| {
            config.retry.jitter = 0.5;
            config.seed = seed;
        })
        .start();
    let sender = world.add(0, "sender", Script::idle());
    let (agent, times) = failing(&mut world, 0);
    for _ in 0..3 {
        world.send(inform(sender, agent, "x").build().unwrap()).unwrap();
    }
    world.advance(10_000);
    times.take()
}

#[test]
fn jitter_spreads_attempts_apart_and_follows_from_the_seed() {
    let times = attempts_with_jitter(1);
    assert_eq!(times, attempts_with_jitter(1));
    assert_ne!(times, attempts_with_jitter(2));
    let second: Vec<u64> = times.iter().copied().filter(|time| (50..=150).contains(time)).collect();
    assert!(second.len() >= 3 && second.iter().any(|time| *time != second[0]), "{times:?}");
}

#[test]
fn an_own_handler_is_told_everything_about_the_failure() {
    let mut world = World::new(2);
    let seen = Log::new();
    let log = seen.clone();
    decide(&mut world, 1, move |failure| {
        let content = failure.message.content().as_text().unwrap().to_owned();
        let explanation = failure.explanation.to_owned();
        log.push((failure.cause, failure.attempt, failure.attempts_max, failure.age_ms, failure.remaining_ms));
        log.push((failure.cause, 0, 0, u64::from(content == "x"), u64::from(explanation.contains("tea"))));
        Decision::RetryAfter(250)
    });
    let sender = world.add(0, "sender", Script::idle());
    let mut calls = 0;
    let agent = world.add(
        1,
        "agent",
        Script::new(move |_, _| {
            calls += 1;
            assert!(calls < 2, "no tea at all");
            Outcome::failed("the tea is cold")
        }),
    );
    let message = inform(sender, agent, "x").attempts_max(NonZeroU8::new(2).unwrap()).time_to_live(lifetime(5_000));
    world.send(message.build().unwrap()).unwrap();
    world.advance(1_000);
    let (failed, panicked) = (FailureCause::Failed, FailureCause::Panicked);
    let expected =
        [(failed, 1, 2, 0, 5_000), (failed, 0, 0, 1, 1), (panicked, 2, 2, 250, 4_750), (panicked, 0, 0, 1, 1)];
    assert_eq!(seen.take(), expected);
    assert_eq!((world.total().retried, world.dead(DeadLetterReason::AttemptsExhausted)), (1, 1));
    world.assert_settled();
}

#[test]
fn what_is_decided_against_another_attempt_is_reported_and_kept_only_as_a_dead_letter() {
    for (decision, kept) in [(Decision::DeadLetter, 1), (Decision::ReplyWithFailure, 0)] {
        let mut world = World::new(2);
        world.watch_events();
        decide(&mut world, 0, move |_| decision);
        let (sender, told) = world.add_listener(1, "sender");
        let (agent, times) = failing(&mut world, 0);
        world.send(inform(sender, agent, "x").build().unwrap()).unwrap();
        world.advance(10_000);
        assert_eq!(times.take(), [0], "{decision:?}");
        let notices = told.notices();
        assert!(notices.len() == 1 && notices[0].contains("(not-retried "), "{notices:?}");
        assert!(notices[0].contains("the tea is cold"), "{notices:?}");
        assert_eq!((world.dead(DeadLetterReason::NotRetried), world.dead_letters(0).len()), (1, kept), "{decision:?}");
        let given_up =
            |event: &Event| matches!(event, Event::DeadLettered { reason: DeadLetterReason::NotRetried, .. });
        assert_eq!(world.take_events(0).iter().filter(|event| given_up(event)).count(), 1);
        world.assert_settled();
    }
}

#[test]
fn no_handler_retries_beyond_the_attempts_or_the_lifetime_of_a_message() {
    let mut world = World::new(1);
    decide(&mut world, 0, |_| Decision::RetryAfter(0));
    let (agent, times) = failing(&mut world, 0);
    let sender = world.add(0, "sender", Script::idle());
    world.send(inform(sender, agent, "x").build().unwrap()).unwrap();
    world.advance(10_000);
    assert_eq!(times.take(), [0, 1, 2, 3]);
    assert_eq!(world.dead(DeadLetterReason::AttemptsExhausted), 1);
    decide(&mut world, 0, |_| Decision::RetryAfter(u64::MAX));
    world.send(inform(sender, agent, "x").time_to_live(lifetime(2_000)).build().unwrap()).unwrap();
    world.advance(2_000);
    assert_eq!((times.len(), world.total().expired), (1, 1));
    world.assert_settled();
}

#[test]
fn a_handler_that_panics_leaves_the_decision_to_the_router() {
    let mut world = World::new(1);
    world.watch_events();
    decide(&mut world, 0, |failure| if failure.attempt == 1 { panic!("lost for words") } else { Decision::DeadLetter });
    let (agent, times) = failing(&mut world, 0);
    let sender = world.add(0, "sender", Script::idle());
    world.send(inform(sender, agent, "x").build().unwrap()).unwrap();
    world.advance(10_000);
    assert_eq!(times.take(), [0, 100], "the router's first delay, and then the handler's own decision");
    let what = "lost for words".to_owned();
    assert!(world.take_events(0).contains(&Event::FailureHandlerPanicked { what }));
    world.assert_settled();
}
