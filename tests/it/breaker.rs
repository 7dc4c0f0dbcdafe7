//! Agents that fail or hold up their shard, and an embedder's own decisions about their messages.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use caxton_router::agent::{BreakerState, Decision, FailedAttempt, FailureCause, FailureHandler};
use caxton_router::config::Preset;
use caxton_router::dead_letter::DeadLetterReason;
use caxton_router::error::AskError;
use caxton_router::event::Event;
use caxton_router::event::Events;
use caxton_router::message::WhenUnavailable;
use caxton_router::routing::ShardIndex;
use caxton_router::{AgentId, Config, Message, Outcome, Performative, Router};

use crate::common::{PATIENCE, bounded, message_to, name_on, on, request_to, shutdown, start_with, text_of};

/// Waits until an agent's breaker is in this state.
fn wait_for(events: &Events, whose: AgentId, wanted: impl Fn(BreakerState) -> bool) {
    loop {
        let event = events.blocking().next_within(PATIENCE).expect("there is an event");
        if matches!(event, Event::BreakerChanged { agent, state } if agent == whose && wanted(state)) {
            return;
        }
    }
}

fn impatient(to: AgentId) -> Message {
    let question = Message::builder(Performative::Request).receiver(to).content("now?");
    question.when_unavailable(WhenUnavailable::FailFast).build().expect("the message is valid")
}

#[test]
fn an_agent_that_keeps_failing_is_left_alone_as_long_as_its_breaker_is_open() {
    bounded(|| {
        let router = start_with(2, |config| sensitive(config, "1 h"));
        let events = router.blocking().events().expect("the router runs");
        let agent = router
            .blocking()
            .register(name_on(&router, 1, "agent"), || on(|_, _| Outcome::failed("unwell")))
            .expect("the agent is registered");
        for _ in 0..3 {
            router.blocking().tell(message_to(agent, "x")).expect("the router runs");
        }
        wait_for(&events, agent, |state| matches!(state, BreakerState::Open { for_ms: 3_600_000 }));
        let failure = router.blocking().ask(impatient(agent), PATIENCE);
        let Err(AskError::Undeliverable(error)) = failure else { panic!("{failure:?}") };
        let notice = error.notice();
        assert!(text_of(notice).contains("(breaker-open "), "{}", text_of(notice));
        let report = shutdown(&router);
        assert_eq!((report.stats.breakers_opened(), report.stats.breakers_open()), (1, 1));
        assert_eq!(report.stats.account().dead_by_reason[DeadLetterReason::BreakerOpen.index()], 1);
    });
}

/// Settings with which three failures open a breaker, for this long.
fn sensitive(config: &mut Config, open: &str) {
    for (key, value) in [
        ("retry.attempts", "0"),
        ("breaker.failures", "3"),
        ("breaker.window_ms", "1 min"),
        ("breaker.open_ms", open),
        ("breaker.open_ms_max", open),
        ("breaker.probes", "1"),
    ] {
        config.set(key, value, "the test").expect("the setting is allowed");
    }
}

#[test]
fn an_agent_that_is_well_again_is_called_again() {
    bounded(|| {
        let router = start_with(2, |config| sensitive(config, "50 ms"));
        let events = router.blocking().events().expect("the router runs");
        let unwell = Arc::new(AtomicBool::new(true));
        let switch = Arc::clone(&unwell);
        let agent = router
            .blocking()
            .register(name_on(&router, 1, "agent"), move || {
                let unwell = Arc::clone(&switch);
                on(move |message, context| {
                    if unwell.load(Ordering::SeqCst) {
                        return Outcome::failed("unwell");
                    }
                    let reply = message.reply(Performative::Inform).content("well").build();
                    context.send(reply.expect("the reply is valid")).expect("there is room for it");
                    Outcome::Done
                })
            })
            .expect("the agent is registered");
        for _ in 0..3 {
            router.blocking().tell(message_to(agent, "x")).expect("the router runs");
        }
        wait_for(&events, agent, |state| matches!(state, BreakerState::Open { for_ms: 50 }));
        unwell.store(false, Ordering::SeqCst);
        // This one waits until the breaker is half-open, and is the probe.
        let reply = router.blocking().ask(request_to(agent, "?"), PATIENCE).expect("the agent answers");
        assert_eq!(text_of(&reply), "well");
        wait_for(&events, agent, |state| state == BreakerState::HalfOpen);
        wait_for(&events, agent, |state| state == BreakerState::Closed);
        let report = shutdown(&router);
        assert_eq!((report.stats.breakers_opened(), report.stats.breakers_open()), (1, 0));
    });
}

#[test]
fn an_agent_that_keeps_its_shard_waiting_is_left_alone_for_a_while() {
    bounded(|| {
        let router = start_with(1, |config| {
            for (key, value) in [
                ("breaker.slow_call_ms", "20 ms"),
                ("breaker.slow_calls", "2"),
                ("breaker.open_ms", "10 ms"),
                ("breaker.window_ms", "1 min"),
            ] {
                config.set(key, value, "the test").expect("the setting is allowed");
            }
        });
        let events = router.blocking().events().expect("the router runs");
        let sluggish = router
            .blocking()
            .register(name_on(&router, 0, "sluggish"), || {
                on(|message, context| {
                    let began = Instant::now();
                    while began.elapsed() < Duration::from_millis(25) {
                        std::hint::spin_loop();
                    }
                    let reply = message.reply(Performative::Inform).build();
                    context.send(reply.expect("the reply is valid")).expect("there is room for it");
                    Outcome::Done
                })
            })
            .expect("the agent is registered");
        // The first slow call makes the shard start timing, and the second and third count against the agent.
        for _ in 0..3 {
            router.blocking().ask(request_to(sluggish, "?"), PATIENCE).expect("the agent answers");
        }
        wait_for(&events, sluggish, |state| matches!(state, BreakerState::Open { for_ms: 10 }));
        shutdown(&router);
    });
}

/// Gives up at once on one shard, and leaves the decision to the router on the others.
struct Choosy {
    gives_up: bool,
}

impl FailureHandler for Choosy {
    fn decide(&mut self, failure: &FailedAttempt<'_>) -> Decision {
        assert_eq!(failure.cause, FailureCause::Failed);
        if self.gives_up { Decision::ReplyWithFailure } else { failure.by_default() }
    }
}

#[test]
fn an_embedders_own_handler_decides_on_each_shard_what_becomes_of_failures() {
    bounded(|| {
        let mut config = Config::preset(Preset::Testing);
        config.set("retry.delay_ms", "1 ms", "the test").expect("the setting is allowed");
        let router = Router::builder()
            .config(config)
            .shards(2.try_into().expect("two shards are allowed"))
            .failure_handler(|shard| Choosy { gives_up: shard == ShardIndex(1) })
            .start()
            .expect("the router starts");
        let words = [(0, "(attempts-exhausted "), (1, "(not-retried ")];
        for (shard, word) in words {
            let agent = router
                .blocking()
                .register(name_on(&router, shard, "agent"), || on(|_, _| Outcome::failed("the tea is cold")))
                .expect("the agent is registered");
            let failure = router.blocking().ask(request_to(agent, "?"), PATIENCE);
            let Err(AskError::Undeliverable(error)) = failure else { panic!("{failure:?}") };
            let notice = error.notice();
            assert!(text_of(notice).contains(word), "{}", text_of(notice));
        }
        let reasons: Vec<DeadLetterReason> =
            router.blocking().dead_letters(10).expect("the router runs").iter().map(|letter| letter.reason).collect();
        assert_eq!(reasons, [DeadLetterReason::AttemptsExhausted], "what is only reported is not kept");
        shutdown(&router);
    });
}
